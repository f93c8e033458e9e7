"""Polygons of users: a GeoDataFrame or ``regionmask.Regions`` as valid shapes in degrees between −180 and 180.

Edges are straight in the coordinates in which they are given. In a projection they are cut into short pieces first;
rings that cross the antimeridian are unwrapped, and those that go around a pole are closed over it.
"""

import numpy as np

from xflux.regions.shapes import made_valid
from xflux.values import warn

_PIECE_METRES = 10_000.0
_PIECE_DEGREES = 0.1
_AREAL = ("Polygon", "MultiPolygon", "GeometryCollection")
_NAME_COLUMNS = ("region", "name", "names", "abbrev", "iso_a3")


def is_polygons(regions: object) -> bool:
    """Whether ``regions`` is a GeoDataFrame, a GeoSeries or a ``regionmask.Regions``."""
    return hasattr(regions, "polygons") or hasattr(regions, "geometry")


def identity(regions) -> bytes:
    """What tells these regions from others: shapes, labels and coordinate system as they are."""
    import shapely

    shapes, labels, name = _described(regions)
    crs = getattr(regions, "crs", None)
    parts = [b"" if shape is None else shapely.to_wkb(shape) for shape in shapes]
    return b"|".join(parts) + repr((labels.tolist(), name, None if crs is None else crs.to_wkt())).encode()


def polygons_of(regions) -> tuple[list, np.ndarray, str]:
    """Shapes in degrees, labels and a name.

    Raises ValueError: coordinates that are not degrees and have no CRS, that their projection does not know, or that
    are no numbers; no region with an area.
    """
    shapes, labels, name = _described(regions)
    _check_numbers(shapes, labels)
    crs = getattr(regions, "crs", None)
    if crs is not None and not _is_plain(crs):
        shapes = [_unprojected(shape, crs) for shape in shapes]
    _check_degrees(shapes)
    _check_areas(shapes, labels)
    return [folded(shape) for shape in shapes], labels, name


def _described(regions) -> tuple[list, np.ndarray, str]:
    """Shapes as they are, labels and a name."""
    if hasattr(regions, "polygons"):
        return list(regions.polygons), np.array(list(regions.names)), str(regions.name or "regions")
    columns = {str(column).lower(): column for column in getattr(regions, "columns", ())}
    named = next((columns[c] for c in _NAME_COLUMNS if c in columns), None)
    if named is not None and regions[named].is_unique and regions[named].notna().all():
        labels = regions[named]
    else:
        labels = regions.index if regions.index.is_unique else range(len(regions))
    labels = np.array([" ".join(map(str, one)) if isinstance(one, tuple) else one for one in labels])
    labels = labels.astype(str) if labels.dtype.kind not in "iufU" else labels
    return list(regions.geometry), labels, "polygons"


def _is_plain(crs) -> bool:
    """Longitude and latitude in degrees, counted from Greenwich and the real pole."""
    degrees = all(axis.unit_name.startswith("degree") for axis in crs.axis_info[:2])
    meridian = crs.prime_meridian
    return crs.is_geographic and not crs.is_derived and degrees and (meridian is None or meridian.longitude == 0)


def _check_numbers(shapes: list, labels: np.ndarray) -> None:
    import shapely

    for shape, label in zip(shapes, labels, strict=True):
        if shape is not None and not np.isfinite(shapely.get_coordinates(shape)).all():
            raise ValueError(f"region {str(label)!r} has vertices that are no numbers: drop them, or mend the region.")


def _check_areas(shapes: list, labels: np.ndarray) -> None:
    """A region without area is no wrong number, its integrals are NaN: it is named."""
    none = [str(k) for shape, k in zip(shapes, labels, strict=True) if shape is None or shape.is_empty]
    if len(none) == len(labels):
        raise ValueError(f"none of the {len(labels)} regions has an area: all are empty.")
    if none:
        warn(f"regions that are empty have no area: {', '.join(none)}.")


def _check_degrees(shapes: list) -> None:
    for i, shape in enumerate(shapes):
        if shape is None or shape.is_empty:
            continue
        west, south, east, north = shape.bounds
        if south < -90.001 or north > 90.001 or west < -1080 or east > 1080:
            raise ValueError(
                f"region {i} reaches from ({west:g}, {south:g}) to ({east:g}, {north:g}), which are no degrees of "
                f"longitude and latitude: tell its coordinate system with set_crs, and it is brought to degrees, or "
                f"cut off what lies beyond the poles (shapely.clip_by_rect)."
            )


def folded(shape):
    """The shape between −180 and 180, cut at the antimeridian where it runs over it."""
    import shapely

    if shape is None or shape.is_empty or shape.geom_type not in _AREAL:
        return shape
    west, _, east, _ = shape.bounds
    if west >= -180 and east <= 180:
        return shape
    valid, window = made_valid(shape), shapely.box(-180, -90.01, 180, 90.01)
    turns = range(int(np.floor((west + 180) / 360)), int(np.ceil((east - 180) / 360)) + 1)
    turned = [shapely.transform(valid, lambda points, k=k: points - [360.0 * k, 0.0]) for k in turns]
    return shapely.union_all([_areas(shapely.intersection(one, window)) for one in turned])


def _areas(shape):
    """The polygons of a shape; cuts leave lines and points beside them, which have no area."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(shape))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])


def _unprojected(shape, crs):
    """A shape of another coordinate system in degrees."""
    import shapely
    from pyproj import Transformer

    if shape is None or shape.is_empty or shape.geom_type not in _AREAL:
        return shape
    longest = _PIECE_DEGREES if crs.is_geographic else _PIECE_METRES / crs.axis_info[0].unit_conversion_factor
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    parts = []
    for polygon in _areas(made_valid(shape)).geoms:
        rings = polygon.exterior, *polygon.interiors
        outside, *holes = (_ring(shapely.segmentize(ring, longest), to_degrees) for ring in rings)
        parts.append(outside.difference(shapely.union_all(holes)) if holes else outside)
    return _areas(shapely.union_all(parts))


def _ring(ring, to_degrees):
    """A ring of a plane as what it encloses on the sphere, between −180 and 180."""
    import shapely

    points = shapely.get_coordinates(ring)
    lon, lat = to_degrees(*(points if ring.is_ccw else points[::-1]).T)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError("a region reaches beyond what its coordinate system can show: bring it to degrees by to_crs.")
    lon = np.unwrap(lon, period=360)
    turn = lon[-1] - lon[0]
    if abs(turn) > 180:
        # Counterclockwise, what is enclosed lies to the left: eastward around the North Pole, westward the South Pole.
        pole = np.copysign(90.0, turn)
        lon, lat = np.r_[lon, lon[-1], lon[0], lon[0]], np.r_[lat, pole, pole, lat[0]]
    return _areas(made_valid(folded(shapely.Polygon(np.c_[lon, lat]))))


def overlapping(shapes: list) -> bool:
    """Whether two regions share more than a millionth of the smaller one."""
    import shapely

    valid = np.array([None, *map(made_valid, shapes)], dtype=object)[1:]
    left, right = shapely.STRtree(valid).query(valid, predicate="intersects")
    pairs = left < right
    left, right = valid[left[pairs]], valid[right[pairs]]
    smaller = np.minimum(shapely.area(left), shapely.area(right))
    return bool((shapely.area(shapely.intersection(left, right)) > 1e-6 * smaller).any())
