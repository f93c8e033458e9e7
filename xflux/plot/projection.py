"""From degrees to the plane, and the outlines to draw there.

Equal Earth (Šavrič, Patterson & Jenny 2018, IJGIS 33, 454) and plate carrée; coastlines and borders of regions without
a network, from the polygons that xflux ships (Natural Earth 1:50m).
"""

from functools import lru_cache

import numpy as np

from xflux.regions.shapes import shipped

PROJECTIONS = ("equal-earth", "plate-carree")
_A = (1.340264, -0.081106, 0.000893, 0.003796)


def project(lon: np.ndarray, lat: np.ndarray, projection: str, central: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """x, y of points in degrees; ``lon`` must lie within 180° of ``central``. Equal Earth keeps areas (unit sphere).

    >>> x, y = project(np.array([180.0]), np.array([0.0]), "equal-earth")
    >>> round(float(x[0]), 4)
    2.7066
    """
    if projection not in PROJECTIONS:
        raise ValueError(f"projection is one of {PROJECTIONS}, got {projection!r}")
    lon, lat = np.asarray(lon, dtype="float64") - central, np.asarray(lat, dtype="float64")
    if projection == "plate-carree":
        return lon, lat
    a1, a2, a3, a4 = _A
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(np.radians(lat)))
    square = theta**2
    derivative = a1 + 3 * a2 * square + square**3 * (7 * a3 + 9 * a4 * square)
    x = 2 * np.sqrt(3) * np.radians(lon) * np.cos(theta) / (3 * derivative)
    y = theta * (a1 + a2 * square + square**3 * (a3 + a4 * square))
    return x, y


def rim(projection: str, west: float, east: float, south: float, north: float, central: float) -> np.ndarray:
    """The frame of a box in degrees as projected points (n, 2)."""
    forward, still = np.linspace(0, 1, 91), np.zeros(91)
    across = np.concatenate([still, forward, still + 1, 1 - forward])
    up = np.concatenate([forward, still + 1, 1 - forward, still])
    lon, lat = west + (east - west) * across, south + (north - south) * up
    return np.stack(project(lon, lat, projection, central), axis=-1)


def split_cells(edges: np.ndarray, central: float) -> tuple[np.ndarray, np.ndarray]:
    """Order cells from west to east around ``central`` and cut the one that lies astride the seam.

    ``edges``: (n + 1) monotonic longitudes in degrees of n neighbouring cells.
    Returned: (k + 1) rising longitudes within 180° of ``central``; (k) the cell of each column, −1 for a gap.
    """
    low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
    seam = central - 180.0
    west = (low - seam) % 360.0 + seam
    west = np.where(np.isclose(west, seam + 360.0, atol=1e-9), seam, west)
    east = west + (high - low)
    pieces = []
    for i, (a, b) in enumerate(zip(west, east, strict=True)):
        if b <= seam + 360.0 + 1e-9:
            pieces.append((a, min(b, seam + 360.0), i))
        else:
            pieces += [(a, seam + 360.0, i), (seam, b - 360.0, i)]
    pieces.sort()
    borders, index = [pieces[0][0]], []
    for a, b, i in pieces:
        if a > borders[-1] + 1e-6:
            borders.append(a)
            index.append(-1)
        borders.append(b)
        index.append(i)
    return np.array(borders), np.array(index)


def split_line(points: np.ndarray, central: float) -> list[np.ndarray]:
    """A polyline (n, 2) in degrees, brought around ``central`` and cut where it crosses the seam."""
    lon = (points[:, 0] - central + 180.0) % 360.0 - 180.0 + central
    # a point on the seam belongs to the side of its neighbours
    on_seam = np.isclose(np.abs(lon - central), 180.0, atol=1e-6)
    if on_seam.any() and not on_seam.all():
        near = np.interp(np.arange(lon.size), np.flatnonzero(~on_seam), lon[~on_seam])
        lon = np.where(on_seam, central + 180.0 * np.sign(near - central + 1e-12), lon)
    cut = np.flatnonzero(np.abs(np.diff(lon)) > 180.0) + 1
    return [part for part in np.split(np.column_stack([lon, points[:, 1]]), cut) if len(part) > 1]


_SEAM, _POLE = 179.999, -89.9


@lru_cache(maxsize=8)
def outlines(which: str = "coast", tolerance: float = 0.08, smallest: float = 0.25) -> tuple[np.ndarray, ...]:
    """Lines (n, 2) of lon, lat in degrees between land and sea, or between the regions of a shipped set too.

    ``which``: "coast", or a set that xflux ships ("reccap2", "reccap2-chapters", "countries"). ``tolerance``: how far a
    line may be moved to have fewer points, degrees. ``smallest``: rings that are smaller than this in both directions
    are left out, degrees.
    """
    _, rings = shipped("countries" if which == "coast" else which)
    group = np.zeros_like(rings.group) if which == "coast" else rings.group
    keep = _between_groups(rings, group)
    lines = []
    for i in range(len(rings.start) - 1):
        part = slice(rings.start[i], rings.start[i + 1])
        lon, lat = rings.lon[part], rings.lat[part]
        if max(np.ptp(lon), np.ptp(lat)) < smallest:
            continue
        lines += _runs(np.column_stack([lon, lat]), keep[part])
    return tuple(_simplify(line, tolerance) for line in lines)


def _between_groups(rings, group: np.ndarray) -> np.ndarray:
    """For the edge after every point: is it drawn? Not inside a group, not twice, not along the seam or the pole."""
    start, count = rings.start, rings.lon.size
    ring = np.repeat(np.arange(len(start) - 1), np.diff(start))
    after = np.arange(1, count + 1)
    after[start[1:] - 1] = start[:-1]  # a ring that does not repeat its first point is closed here
    points = np.column_stack([np.round(rings.lon % 360.0, 4) % 360.0, np.round(rings.lat, 4)])
    point = np.unique(points, axis=0, return_inverse=True)[1].reshape(-1)
    low, high = np.minimum(point, point[after]), np.maximum(point, point[after])
    _, edge, times = np.unique(low * np.int64(count) + high, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    first = np.full(times.size, count)
    np.minimum.at(first, edge, np.arange(count))
    own = group[ring]
    least, most = np.full(times.size, own.max() + 1), np.full(times.size, -1)
    np.minimum.at(least, edge, own)
    np.maximum.at(most, edge, own)
    drawn = (times[edge] == 1) | ((least != most)[edge] & (first[edge] == np.arange(count)))
    seam = (np.abs(rings.lon) > _SEAM) & (np.abs(rings.lon[after]) > _SEAM)
    pole = (rings.lat < _POLE) & (rings.lat[after] < _POLE)
    return drawn & (low != high) & ~seam & ~pole


def _runs(points: np.ndarray, keep: np.ndarray) -> list[np.ndarray]:
    """The ring's lines of neighbouring edges that are drawn."""
    if keep.all():
        return [np.concatenate([points, points[:1]])]
    if not keep.any():
        return []
    shift = int(np.flatnonzero(~keep)[0]) + 1  # begin after a gap, so that no run is cut at the ring's first point
    points, keep = np.roll(points, -shift, axis=0), np.roll(keep, -shift)
    points = np.concatenate([points, points[:1]])
    change = np.diff(np.concatenate([[0], keep.astype(int), [0]]))
    return [points[a : b + 1] for a, b in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True)]


def _simplify(line: np.ndarray, tolerance: float) -> np.ndarray:
    import shapely

    if tolerance <= 0 or len(line) < 3:
        return line
    return shapely.get_coordinates(shapely.simplify(shapely.linestrings(line), tolerance))
