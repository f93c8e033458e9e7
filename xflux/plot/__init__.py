"""Figures as functions of labelled data: maps, seasonal cycles, annual series, bars, towers, bridges.

Every function draws into ``ax`` (or ``figure`` where it has panels) or makes its own at the width of a journal
column, and returns what it drew into. matplotlib is imported when a figure is drawn, and no global setting of it
is changed.
"""

from xflux.plot.bars import regions
from xflux.plot.maps import map, maps
from xflux.plot.pixels import bridge
from xflux.plot.series import annual, history, seasonal_cycle
from xflux.plot.style import COLUMN, PAGE, colour, save, style
from xflux.plot.towers import scatter

__all__ = [
    "COLUMN",
    "PAGE",
    "annual",
    "bridge",
    "colour",
    "history",
    "map",
    "maps",
    "regions",
    "save",
    "scatter",
    "seasonal_cycle",
    "style",
]
