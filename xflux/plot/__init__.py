"""Figures as functions of labelled data: maps, seasonal cycles, annual series, bars, towers, bridges.

Every function draws into ``ax`` (or ``figure`` where it has panels) or makes its own at the width of a journal
column, and returns what it drew into. matplotlib is imported when a figure is drawn, and no global setting of it
is changed. ``PAPER`` says which function draws which figure of Upton et al. (2024).
"""

from xflux.plot.bars import composition, efficiency, plant_types, regions
from xflux.plot.mapping import map, maps, region_map
from xflux.plot.panels import correlation_maps, global_flux, mean_and_variability, selected_months
from xflux.plot.pixels import bridge, inclusion
from xflux.plot.series import annual, history, one_against_many, seasonal_cycle
from xflux.plot.styling import COLUMN, PAGE, colour, save, style
from xflux.plot.towers import scatter, site_scatter, tower_scatter

PAPER = {
    "2": global_flux,
    "3": efficiency,
    "4": seasonal_cycle,
    "5": mean_and_variability,
    "6": selected_months,
    "7": correlation_maps,
    "8": tower_scatter,
    "9": site_scatter,
    "A1": region_map,
    "B2": inclusion,
    "B3": plant_types,
    "B4": composition,
    "C1": seasonal_cycle,
    "C2": tower_scatter,
    "C3": one_against_many,
    "C4": one_against_many,
    "C5": one_against_many,
}
"""Figure of the paper → the function that draws it from labelled data."""

__all__ = [
    "COLUMN",
    "PAGE",
    "PAPER",
    "annual",
    "bridge",
    "colour",
    "composition",
    "correlation_maps",
    "efficiency",
    "global_flux",
    "history",
    "inclusion",
    "map",
    "maps",
    "mean_and_variability",
    "one_against_many",
    "plant_types",
    "region_map",
    "regions",
    "save",
    "scatter",
    "seasonal_cycle",
    "selected_months",
    "site_scatter",
    "style",
    "tower_scatter",
]
