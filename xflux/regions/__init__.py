"""Regions: what they are, what they weigh, and the integrals of a flux over them."""

from xflux.regions.aggregate import GLOBAL, aggregate_regions
from xflux.regions.shapes import CHAPTERS, RECCAP2
from xflux.regions.weights import region_weights

__all__ = ["CHAPTERS", "GLOBAL", "RECCAP2", "aggregate_regions", "region_weights"]
