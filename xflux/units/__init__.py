"""One registry of units for carbon, water, energy and drivers: strings in, factors out.

Carbon is a dimension of its own: gC and gCO2 and mol of CO2 are amounts of carbon (12.011 g/mol, CO2 of 44.009 g/mol),
while a bare gram is not. ``month`` and ``year`` have no fixed length and are dimensions too, so that no conversion goes
through a mean month or year here: :mod:`xflux.temporal` knows the calendar.

What people write is brought to one spelling, which pint parses; the dimensions that it finds say what kind of quantity
it is. The registry is private and made when first needed; the application registry is left alone, and units never wrap
arrays. Prefixes are written out, because pint would take "mtC" (metric tonnes) for milli.
"""

from xflux.units.fluxes import flux_variables, is_flux, is_uncertainty, left_out
from xflux.units.quantity import (
    CARBON_SUBSTANCES,
    Units,
    conversion,
    factor,
    parse,
    same,
    spelled_out,
    usual_amount,
    usual_rate,
)
from xflux.units.registry import CARBON_MOLAR_MASS, CO2_MOLAR_MASS, UnitsError

__all__ = [
    "CARBON_MOLAR_MASS",
    "CARBON_SUBSTANCES",
    "CO2_MOLAR_MASS",
    "Units",
    "UnitsError",
    "conversion",
    "factor",
    "flux_variables",
    "is_flux",
    "is_uncertainty",
    "left_out",
    "parse",
    "same",
    "spelled_out",
    "usual_amount",
    "usual_rate",
]
