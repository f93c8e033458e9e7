"""Cells of a latitude–longitude grid: axes, edges, areas; which are the same, nearest, carried, filled."""

from xflux.cells.axes import standardise, with_lat_lon
from xflux.cells.bounds import RADIUS, Cells, cell_area, cell_bounds, coordinate_bounds, edges, grid_bounds, points_of
from xflux.cells.fill import coasts, fill_nearest, near_land
from xflux.cells.match import TOLERANCE, locate, nearest, positions, same_grid
from xflux.cells.regridding import axis_overlap, carry, regrid

__all__ = [
    "RADIUS",
    "TOLERANCE",
    "Cells",
    "axis_overlap",
    "carry",
    "cell_area",
    "cell_bounds",
    "coasts",
    "coordinate_bounds",
    "edges",
    "fill_nearest",
    "grid_bounds",
    "locate",
    "near_land",
    "nearest",
    "points_of",
    "positions",
    "regrid",
    "same_grid",
    "standardise",
    "with_lat_lon",
]
