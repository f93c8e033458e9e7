"""Drivers of Table A2 from base variables: seasonal cycles, amplitudes, water availability, potential radiation."""

from xflux.cells import fill_nearest
from xflux.drivers.landcover import cover
from xflux.drivers.memory import running_mean, running_sum
from xflux.drivers.recipe import make, recipes, table_a2
from xflux.drivers.seasonal import amplitude, fill_gaps, mix_pfts, seasonal_cycle, to_daily
from xflux.drivers.sun import potential_radiation
from xflux.drivers.water import potential_evapotranspiration, water_availability
from xflux.drivers.weather import at_towers

__all__ = [
    "amplitude",
    "at_towers",
    "cover",
    "fill_gaps",
    "fill_nearest",
    "make",
    "mix_pfts",
    "potential_evapotranspiration",
    "potential_radiation",
    "recipes",
    "running_mean",
    "running_sum",
    "seasonal_cycle",
    "table_a2",
    "to_daily",
    "water_availability",
]
