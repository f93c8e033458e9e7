"""Regions: what they are, what they weigh, and the integrals of a flux over them."""

from xflux.regions.aggregate import aggregate_regions, to_dataframe
from xflux.regions.budget import budget_table, regional_budget
from xflux.regions.cover import latitude_band_limits
from xflux.regions.files import load_weights, save_weights
from xflux.regions.globe import GLOBAL, with_global
from xflux.regions.sets import as_regionmask, region_labels
from xflux.regions.shapes import CHAPTERS, RECCAP2
from xflux.regions.weights import clear_cache, region_weights

__all__ = [
    "CHAPTERS",
    "GLOBAL",
    "RECCAP2",
    "aggregate_regions",
    "as_regionmask",
    "budget_table",
    "clear_cache",
    "latitude_band_limits",
    "load_weights",
    "region_labels",
    "region_weights",
    "regional_budget",
    "save_weights",
    "to_dataframe",
    "with_global",
]
