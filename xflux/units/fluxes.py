"""Which variables of a Dataset are fluxes, by their units and what else they say."""

import re
from collections.abc import Hashable, Mapping

import xarray as xr

from .quantity import CARBON_SUBSTANCES, parse
from .registry import UnitsError


def is_flux(text: str, attrs: Mapping | None = None, substances: tuple[str, ...] = CARBON_SUBSTANCES) -> bool:
    """Whether the unit is an amount per time, with or without per area; carbon only unless ``substances`` says more.

    >>> is_flux("gC m-2 d-1"), is_flux("PgC"), is_flux("W m-2"), is_flux("W m-2", substances=("energy",))
    (True, False, False, True)
    """
    try:
        units = parse(text, attrs)
    except UnitsError:
        return False
    return units.substance in substances and units.time is not None


def flux_variables(ds: xr.Dataset, substances: tuple[str, ...] = CARBON_SUBSTANCES) -> list[Hashable]:
    """Names of a Dataset's fluxes by their units.

    An amount without a time ("gC m-2") is a flux, the amount of each step, where CF says "time: sum" or the variable
    has the name of one (nee, gpp, …) and is not a mean or a point in time; otherwise it is a stock. Cell areas and
    fractions are none, nor are uncertainties: by name (``*_sd``, ``*_unc``, ``sigma_*``, …), by long name, by CF's
    ``standard_error``, ``cell_methods`` or ``ancillary_variables``.

    >>> ds = xr.Dataset({"nee": ((), 1.0, {"units": "gC m-2 d-1"}), "nee_sd": ((), 1.0, {"units": "gC m-2 d-1"})})
    >>> flux_variables(ds)
    ['nee']
    """
    beside = {name for da in ds.data_vars.values() for name in str(da.attrs.get("ancillary_variables", "")).split()}
    return [
        name
        for name, da in ds.data_vars.items()
        if "units" in da.attrs and name not in beside and not _is_uncertainty(str(name), da.attrs)
        if is_flux(da.attrs["units"], da.attrs, substances) or _is_amount_of_step(da, substances)
    ]


_UNCERTAIN_NAME = re.compile(
    r"(^|_)([rf]?sd|se|sem|std|stdev|std_?dev|stderr|(rand|joint)?unc|uncert|uncertainty|err|error|mad|rmse|sigma|spread"
    r"|q\d{1,3})(_|$)",
    re.IGNORECASE,
)
_UNCERTAIN_TEXT = re.compile(
    r"^(posterior |prior )?uncertaint|uncertainty (of|in)|standard[ _](deviation|error)|\bsigma\b|confidence interval",
    re.IGNORECASE,
)
_FLUX_NAME = re.compile(r"(nee|nbe|nep|nbp|gpp|npp|ter|reco|ra|rh|fire|et|le)(_|$)", re.IGNORECASE)


def _is_uncertainty(name: str, attrs: Mapping) -> bool:
    """Whether a variable says how uncertain another is, which does not add up as fluxes do."""
    spread = re.search(r":\s*(standard_deviation|variance)\b", str(attrs.get("cell_methods", "")))
    said = f"{attrs.get('standard_name', '')}\n{attrs.get('long_name', '')}"
    return bool(spread or _UNCERTAIN_NAME.search(name) or any(map(_UNCERTAIN_TEXT.search, said.split("\n"))))


def _is_amount_of_step(da: xr.DataArray, substances: tuple[str, ...]) -> bool:
    """Whether an amount without a time is that of each step: a carbon pool has the same units."""
    times = [d for d in map(str, da.dims) if d in ("month", "dayofyear") or "time" in d.lower()]
    methods = str(da.attrs.get("cell_methods", ""))
    summed = any(re.search(rf"\b{d}: (\w+: )*sum\b", methods) for d in times)
    named = _FLUX_NAME.match(str(da.name)) and not any(re.search(rf"\b{d}: ", methods) for d in times)
    if not times or not (summed or named):
        return False
    try:
        return parse(da.attrs["units"], da.attrs).substance in substances
    except UnitsError:
        return False
