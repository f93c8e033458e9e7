"""From degrees to the plane: Equal Earth (Šavrič, Patterson & Jenny 2018, IJGIS 33, 454) and plate carrée."""

import numpy as np

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
