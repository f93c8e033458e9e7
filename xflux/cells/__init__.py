"""Cells of a latitude–longitude grid: axes, edges, areas; which are the same, nearest, carried, filled."""

from .area import RADIUS, Cells, cell_area, grid_bounds, points_of
from .axes import standardise, with_lat_lon
from .bounds import cell_bounds, coordinate_bounds, edges
from .fill import fill_nearest
from .match import TOLERANCE, locate, nearest, positions, same_grid
from .regridding import axis_overlap, carry, regrid

__all__ = [
    "RADIUS",
    "TOLERANCE",
    "Cells",
    "axis_overlap",
    "carry",
    "cell_area",
    "cell_bounds",
    "coordinate_bounds",
    "edges",
    "fill_nearest",
    "grid_bounds",
    "locate",
    "nearest",
    "points_of",
    "positions",
    "regrid",
    "same_grid",
    "standardise",
    "with_lat_lon",
]
