"""Which variables of a Dataset are fluxes, by their units and what else they say."""

import re
from collections.abc import Hashable, Mapping

import xarray as xr

from xflux.units.quantity import CARBON_SUBSTANCES, known_units, parse
from xflux.units.registry import UnitsError


def is_flux(text: str, attrs: Mapping | None = None, substances: tuple[str, ...] = CARBON_SUBSTANCES) -> bool:
    """Whether a unit is an amount per time, with or without per area.

    Parameters
    ----------
    text
        The unit; one that cannot be read is none of a flux.
    attrs
        Of its variable: they may say what a bare mass is of.
    substances
        What counts: "C", "CO2", "mol" (carbon all three), "water", "energy".

    Examples
    --------
    >>> is_flux("gC m-2 d-1"), is_flux("PgC"), is_flux("W m-2"), is_flux("W m-2", substances=("energy",))
    (True, False, False, True)
    """
    units = known_units({**(attrs or {}), "units": text})
    return units is not None and units.substance in substances and units.time is not None


def flux_variables(ds: xr.Dataset, substances: tuple[str, ...] | None = None) -> list[Hashable]:
    """Names of a Dataset's fluxes by their units: of carbon, or, where it has none, of water and energy.

    An amount without a time ("gC m-2") is a flux, the amount of each step, where CF says "time: sum", or says nothing
    of time and the variable is named as a flux (nee, gpp, "… exchange"); otherwise it is a stock. Cell areas and
    fractions are none, nor are uncertainties: by name (``*_sd``, ``*_unc``, ``sigma_*``, …), by long name, by CF's
    ``standard_error``, ``cell_methods`` or ``ancillary_variables``.

    Parameters
    ----------
    ds
        Any Dataset.
    substances
        Others, as in :func:`is_flux`.

    Examples
    --------
    >>> ds = xr.Dataset({"nee": ((), 1.0, {"units": "gC m-2 d-1"}), "nee_sd": ((), 1.0, {"units": "gC m-2 d-1"})})
    >>> flux_variables(ds)
    ['nee']
    """
    if substances is None:
        return flux_variables(ds, CARBON_SUBSTANCES) or flux_variables(ds, ("water", "energy"))
    beside = {name for da in ds.data_vars.values() for name in str(da.attrs.get("ancillary_variables", "")).split()}
    return [
        name
        for name, da in ds.data_vars.items()
        if "units" in da.attrs and name not in beside and not is_uncertainty(str(name), da.attrs)
        if is_flux(da.attrs["units"], da.attrs, substances) or _is_amount_of_step(da, substances)
    ]


_UNCERTAIN_NAME = re.compile(
    r"(^|_)([rf]?sd|sdev|sem|(ens)?std|stdv|stdev|std_?dev|stderr|(rand|joint)?unc|uncert|uncertainty|err|error|mad|mae"
    r"|rmse?|variance|\d?sigma|spread|iqr|cov|[pq]\d{1,3})(_|$)|_(se|ci\d*|min|max|lower|upper|05|16|25|75|84|95)$|^se$",
    re.IGNORECASE,
)
_UNCERTAIN_TEXT = re.compile(
    r"^(posterior |prior )?uncertaint|uncertainty (of|in)|standard[ _](deviation|error)|\bsigma\b|confidence interval"
    r"|\b(flux|posterior|prior|random) errors?$|\bspread of\b|\binter-?quartile",
    re.IGNORECASE,
)
_FLUX_NAME = re.compile(r"^(nee|nbe|nep|nbp|gpp|npp|ter|reco|ra|rh|fire|fc|fco2|et|le)(_|$)", re.IGNORECASE)
_FLUX_WORD = re.compile(r"flux|exchange|production|productivity|respiration|emission|uptake", re.IGNORECASE)
_CARBON_UNIT = re.compile(r"[gt] ?\(?C(O2)?\b|mol")
_STOCK_WORD = re.compile(r"cumul|accumulated|pool|stock|storage", re.IGNORECASE)


def is_uncertainty(name: str, attrs: Mapping) -> bool:
    """Whether a variable says how uncertain another is, which does not add up as fluxes do."""
    spread = re.search(r":\s*(standard_deviation|variance)\b", str(attrs.get("cell_methods", "")))
    said = f"{attrs.get('standard_name', '')}\n{attrs.get('long_name', '')}"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return bool(spread or _UNCERTAIN_NAME.search(name) or any(map(_UNCERTAIN_TEXT.search, said.split("\n"))))


def _is_amount_of_step(da: xr.DataArray, substances: tuple[str, ...]) -> bool:
    """Whether an amount without a time is that of each step: a carbon pool has the same units."""
    times = [d for d in map(str, da.dims) if d in ("month", "dayofyear") or "time" in d.lower()]
    methods = str(da.attrs.get("cell_methods", ""))
    if not times or not _is_amount(da, substances):
        return False
    if any(re.search(rf"\b{d}: ", methods) for d in times):
        return any(re.search(rf"\b{d}: (\w+: )*sum\b", methods) for d in times)
    words = f"{da.name} {da.attrs.get('standard_name', '')} {da.attrs.get('long_name', '')}"
    return bool((_FLUX_NAME.search(str(da.name)) or _FLUX_WORD.search(words)) and not _STOCK_WORD.search(words))


def _is_amount(da: xr.DataArray, substances: tuple[str, ...]) -> bool:
    units = known_units(da.attrs)
    return units is not None and units.substance in substances and units.time is None


def _unread(ds: xr.Dataset) -> str:
    """What is wrong with the units of a field that could be the flux; one that is called so goes first."""
    fields = [n for n, da in ds.data_vars.items() if {"lat", "lon"} <= set(da.dims)]
    fields = [n for n in fields if not is_uncertainty(str(n), ds[n].attrs)]
    called_so = [n for n in fields if _FLUX_NAME.search(str(n)) or _FLUX_WORD.search(str(n))]
    for name in [*called_so, *(n for n in fields if n not in called_so)]:
        attrs = ds[name].attrs
        if "units" not in attrs:
            return f" {name!r} has no units: if it is the flux, say them, ds[{name!r}].attrs['units'] = 'gC m-2 d-1'."
        try:
            parse(attrs["units"], attrs)
        except UnitsError as error:
            if name in called_so or _CARBON_UNIT.search(str(attrs["units"])) or "ambiguous" in str(error):
                return f" {name!r}: {error}"
    return ""


def left_out(ds: xr.Dataset, substances: tuple[str, ...] = CARBON_SUBSTANCES) -> str:
    """What to say where a Dataset has no flux but fields without units that can be read, or amounts without a time.

    Parameters
    ----------
    ds, substances
        As in :func:`flux_variables`.

    Examples
    --------
    >>> left_out(xr.Dataset({"csoil": ((), 1.0, {"units": "gC m-2"})}))[:41]
    " 'csoil' is an amount without a time, a s"
    """
    if not flux_variables(ds) and (said := _unread(ds)):
        return said
    names = [n for n, da in ds.data_vars.items() if "units" in da.attrs and _is_amount(da, substances)]
    if not names:
        return ""
    return (
        f" {names[0]!r} is an amount without a time, a stock by its looks. If it is the amount of each step, set "
        f"attrs['cell_methods'] = 'time: sum', or pass the array, ds[{names[0]!r}]."
    )
