"""Cells of a latitude–longitude grid: axes, edges and areas."""

from .axes import RADIUS, cell_area, cell_bounds, coordinate_bounds, edges, grid_bounds, standardise

__all__ = ["RADIUS", "cell_area", "cell_bounds", "coordinate_bounds", "edges", "grid_bounds", "standardise"]
