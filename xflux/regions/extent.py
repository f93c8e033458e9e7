"""How much of a region lies on a grid that does not reach around the globe."""

import numpy as np

from xflux.cells import Cells

# What rounded coordinates and slivers leave of a region that the grid covers.
_ROUNDING = 1e-4
WHOLE = 0.99
"""Share of a region from which on it counts as covered."""
GLOBE = np.array([[-90.0, 90.0]]), np.array([[-180.0, 180.0]])
"""Bounds of the one cell that is the whole Earth."""


def sphere_shares(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the sphere that rows and columns of cells (bounds in degrees) take: a cell has the product."""
    phi = np.radians(lat)
    return np.cos(phi.mean(axis=1)) * np.sin(np.diff(phi, axis=1)[:, 0] / 2), np.diff(lon, axis=1)[:, 0] / 360


def globe_share(cells: Cells) -> float:
    """Share of the Earth that lies on the grid; 1 where only rounding is missing."""
    rows, columns = sphere_shares(cells.lat, cells.lon)
    return rounded(rows.sum() * columns.sum())


def extent(share, cells: Cells, whole: np.ndarray) -> np.ndarray:
    """(region) share of each region that lies on the grid.

    Parameters
    ----------
    share
        ``csr_array`` (region, cell), 0–1.
    whole
        (region) share of the sphere that the region covers; what covers nothing lacks nothing.
    """
    rows, columns = sphere_shares(cells.lat, cells.lon)
    on_grid = share @ np.outer(rows, columns).ravel()
    return rounded(np.divide(on_grid, whole, out=np.ones(len(whole)), where=np.asarray(whole) > 0))


def rounded(share):
    """Whole where only rounding is missing."""
    return np.where(share > 1 - _ROUNDING, 1.0, share)[()]
