"""Coastlines and region outlines without a network, from the polygons that xflux ships (Natural Earth 1:50m)."""

from functools import lru_cache

import numpy as np

from xflux.regions.shapes import shipped

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
