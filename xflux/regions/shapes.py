"""Polygons of regions: those that xflux ships, and those of a GeoDataFrame or ``regionmask.Regions``."""

import csv
import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources

import numpy as np

from xflux.regions.shares import Rings

_SCALE = 1e5

_NAMES = tomllib.loads((resources.files("xflux.data") / "regions.toml").read_text(encoding="utf-8"))
RECCAP2: dict[str, str] = _NAMES["reccap2"]
"""Table A1: abbreviation → name, in its order."""
CHAPTER_NAMES: dict[str, str] = _NAMES["chapters"]
CHAPTERS_11 = tuple(label for label in CHAPTER_NAMES if label != "Afr")
"""The RECCAP2 chapters, Africa split into north and south, in the order of their mask."""
CHAPTERS = tuple(label for label in CHAPTER_NAMES if label not in ("AfrN", "AfrS"))


@cache
def countries() -> dict[str, dict[str, str]]:
    """The country table: ISO_A3 → name, reccap2, chapter ("" is none: Greenland), confidence, other names (";")."""
    with resources.files("xflux.data").joinpath("countries.csv").open(encoding="utf-8") as table:
        return {row["iso_a3"]: row for row in csv.DictReader(table)}


@cache
def _shipped() -> tuple[Rings, np.ndarray]:
    """All rings of Natural Earth's countries, and the code of each ring; groups count from 0 in the order of codes."""
    with resources.files("xflux.data").joinpath("country_polygons.npz").open("rb") as file, np.load(file) as data:
        lon, lat = (np.cumsum(data[axis], dtype="int64") / _SCALE for axis in ("lon", "lat"))
        start, code = np.cumsum([0, *data["size"]]), data["code"]
    return Rings(lon, lat, start, np.zeros(code.size, "int64")), code


SETS = ("reccap2", "reccap2-chapters", "reccap2-chapters-11", "countries")
"""Sets of regions that are made of whole countries."""


def members(name: str) -> dict[str, set[str]]:
    """Label → ISO_A3 codes of the countries that make up each region of a set that xflux ships."""
    table = countries()
    if name == "countries":
        return {code: {code} for code in np.unique(_shipped()[1]).tolist()}
    labels = {"reccap2": tuple(RECCAP2), "reccap2-chapters": CHAPTERS, "reccap2-chapters-11": CHAPTERS_11}[name]
    column = "reccap2" if name == "reccap2" else "chapter"
    found: dict[str, set[str]] = {label: set() for label in labels}
    for code, row in table.items():
        label = "Afr" if name == "reccap2-chapters" and row[column] in ("AfrN", "AfrS") else row[column]
        if label:
            found[label].add(code)
    return found


def shipped(name: str) -> tuple[np.ndarray, Rings]:
    """Labels and rings of a shipped set; the group after the last label is the land that belongs to none."""
    return united(members(name))


def united(regions: dict[str, set[str]]) -> tuple[np.ndarray, Rings]:
    """Labels and rings of regions made of countries, which must not overlap."""
    rings, code = _shipped()
    place = {iso: i for i, codes in enumerate(regions.values()) for iso in codes}
    group = np.array([place.get(iso, len(regions)) for iso in code.tolist()])
    return np.array(list(regions)), replace(rings, group=group)


def outline(codes: set[str]):
    """The countries as one shapely geometry, inner borders dissolved."""
    import shapely

    rings, code = _shipped()
    parts = []
    for iso in sorted(codes):
        pieces = [slice(rings.start[i], rings.start[i + 1]) for i in np.flatnonzero(code == iso)]
        lines = [shapely.LineString(np.c_[rings.lon[p], rings.lat[p]]) for p in pieces]
        parts.append(shapely.build_area(shapely.MultiLineString(lines)))
    return shapely.union_all(parts)


def made_valid(shape):
    """The shape with rings that do not cross: outlines less their holes, also where these meet.

    GEOS's other method, "linework", fills holes that touch the outline.
    """
    import shapely

    if shape is None or shape.is_valid:
        return shape
    return shapely.make_valid(shape, method="structure", keep_collapsed=False)


def rings_of(geometries) -> Rings:
    """Rings of shapely polygons, one group a geometry; invalid ones are made valid first.

    Raises TypeError: A geometry without area.
    """
    import shapely

    lon, lat, group = [], [], []
    for i, geometry in enumerate(geometries):
        if geometry is None or geometry.is_empty:
            continue
        if geometry.geom_type not in ("Polygon", "MultiPolygon", "GeometryCollection"):
            kind = geometry.geom_type
            raise TypeError(f"region {i} is a {kind}; expected a Polygon or MultiPolygon (see buffer()).")
        for polygon in shapely.get_parts(shapely.get_parts(made_valid(geometry))):
            if polygon.geom_type != "Polygon":
                continue
            for k, ring in enumerate((polygon.exterior, *polygon.interiors)):
                points = np.asarray(ring.coords)
                points = points if ring.is_ccw == (k == 0) else points[::-1]
                lon.append(points[:, 0])
                lat.append(points[:, 1])
                group.append(i)
    start = np.cumsum([0, *(len(points) for points in lon)])
    empty = [np.zeros(0)]
    return Rings(np.concatenate(lon or empty), np.concatenate(lat or empty), start, np.array(group, dtype="int64"))
