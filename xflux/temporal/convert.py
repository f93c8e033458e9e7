"""Rates into amounts and back, by the true length of every step."""

import re
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np
import xarray as xr

from xflux.contents import without_units
from xflux.temporal.axis import standardise, with_steps
from xflux.temporal.bounds import known_steps, time_bounds
from xflux.temporal.calendar import MEAN_YEAR
from xflux.temporal.groups import sums_by
from xflux.temporal.riding import CALENDAR, STAMP, STEP_MONTHS, check_dates, joined_dim, of_each_series
from xflux.temporal.steps import Given, Steps, carried, needed_steps, of_years, steps_of
from xflux.units import CARBON_SUBSTANCES, Units, UnitsError, factor, flux_variables, left_out, parse
from xflux.units.quantity import known_units
from xflux.values import RANGES, checked, warn

_PERIODS = {"MS": "month", "ME": "month", "M": "month", "YS": "year", "YE": "year", "Y": "year"}
RIDING_ALONG = ("unassigned", "assigned", "valid_fraction")
"""Coordinates of a flux; "<variable>_unassigned" in a Dataset."""
_SUMMED = re.compile(r"\btime: ?(?:\w+: ?)*sum\b")
_STALE = (*RANGES, "scale_factor", "add_offset")


# --- integrals over periods ---
def along(values: np.ndarray, dim: str | None) -> xr.DataArray | float:
    """Numbers along a dimension, or the only one where there is none."""
    return float(values[0]) if dim is None else xr.DataArray(values, dims=dim)


def integrals(da: xr.DataArray, steps: Steps, period: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray | float]:
    """Σ value × days over valid time, Σ days of valid time, and full days, by month or year, in float64.

    The period takes the place of the step's dimension; a climatology's year has none. Lazy.
    """
    index, label, days = steps.split(period)
    labels, group = np.unique(label, return_inverse=True)
    pieces = da.drop_vars([name for name, coord in da.coords.items() if steps.dim in coord.dims])
    if not np.array_equal(index, np.arange(da.sizes[steps.dim])):
        pieces = pieces.isel({steps.dim: index})
    total, covered = sums_by(pieces, steps.dim, group, days)
    stamps, full = steps.periods(labels, period)
    if stamps is None:
        return total.isel(_period=0, drop=True), covered.isel(_period=0, drop=True), float(full[0])
    order = [stamps.name if dim == steps.dim else dim for dim in da.dims]

    def finish(x: xr.DataArray) -> xr.DataArray:
        x = x.rename(_period=stamps.name).assign_coords({stamps.name: stamps}).transpose(*order)
        return carried(x, steps.of_periods(labels, period))

    return finish(total), finish(covered), along(full, stamps.name)


def restamped(da: xr.DataArray, steps: Steps, period: str) -> xr.DataArray:
    """Steps that are months or years already, stamped as such."""
    if steps.calendar is None:
        return da
    _, label, _ = steps.split(period)
    kept = da.drop_vars([name for name, coord in da.coords.items() if "time" in coord.dims])
    return carried(kept.assign_coords(time=steps.periods(label, period)[0]), steps)


def finish(result: xr.DataArray, da: xr.DataArray, units: str | None = None) -> xr.DataArray:
    """The result with the input's name and attributes and its own units, no stale value ranges and no encoding."""
    attrs = {key: value for key, value in da.attrs.items() if key not in _STALE}
    if units is not None:
        attrs["units"] = units
        if units != da.attrs.get("units") and isinstance(attrs.get("long_name"), str):
            attrs["long_name"] = without_units(attrs["long_name"])
    is_amount = (known := known_units(attrs)) is not None and known.time is None
    if not is_amount and _SUMMED.search(str(attrs.get("cell_methods", ""))):
        attrs["cell_methods"] = _SUMMED.sub("", attrs["cell_methods"]).strip()
        attrs = {key: value for key, value in attrs.items() if value or key != "cell_methods"}
    if "time" not in result.dims:
        result = result.drop_vars(CALENDAR, errors="ignore")
    result = result.rename(da.name).drop_attrs(deep=False).assign_attrs(attrs)
    return result.drop_encoding()


def check_not_summed(da: xr.DataArray, given: Given) -> None:
    """Refuse a rate that was added up, as by ``monsum`` of CDO: its units and ``cell_methods`` cannot both be true.

    A sum over one unit of time is that rate: of the hours of a day in "gC m-2 d-1", of a month in "gC m-2 month-1". A
    sum over years ("ymonsum") is nothing of one year.
    """
    methods = str(da.attrs.get("cell_methods", ""))
    if not _SUMMED.search(methods):
        return
    over_years = "sum over years" in methods
    if not over_years and "time" not in da.dims:
        return
    try:
        units, steps = parse(da.attrs.get("units", ""), da.attrs), needed_steps(da, given)
    except ValueError:  # without units, or without known lengths, there is nothing to compare
        return
    if units.time is None and not over_years:
        return
    unit = {"month": 31, "year": 366}.get(units.time) or 1 / factor(_amount(units), units.amount)
    if over_years or steps.days.max() > 1.5 * unit:
        raise UnitsError(
            f"{da.name or 'the flux'} is in {units.text!r} but was summed over "
            f"{'several years' if over_years else f'steps of {steps.days.max():g} days'} (cell_methods {methods!r}, or "
            f"the history), as by {'ymonsum' if over_years else 'monsum or yearsum'} of CDO. Take means (monmean), or "
            f"divide by the number of values in each sum; drop cell_methods and history if they are means already."
        )


# --- units with time ---
def _amount(units: Units) -> Units:
    """The amount in a unit per time: 'PgC month-1' → PgC, in the registry's terms."""
    if units.time is None:
        return units
    clock = "day" if units.time == "fixed" else units.time
    return replace(units, time=None, expression=f"({units.expression}) * {clock}")


def _check_kinds(source: Units, target: Units) -> None:
    """Refuse other substances and areas before time enters, with the error of :func:`xflux.units.factor`."""
    if source.per_area != target.per_area or source.kind != target.kind:
        factor(source, target)


def _no_month(units: Units, kind: str = "annual steps") -> UnitsError:
    return UnitsError(f"{units.text!r} cannot be had of {kind}, which have no months; use 'yr-1' instead.")


def _span(units: Units, steps: Steps) -> xr.DataArray | float:
    """Days that one value in these units stands for, at each step."""
    if units.time == "fixed":
        return 1.0
    if units.time == "year":
        return along(steps.days, steps.dim) if steps.kind == "year" else steps.mean_year
    if units.time == "month" and steps.kind == "year":
        raise _no_month(units)
    return along(steps.month_days if units.time == "month" else steps.days, steps.dim)


def _ratio(source: Units, target: Units, steps: Steps) -> xr.DataArray | float:
    """The factor from one unit to the other at each step; exact where they are per the same time."""
    number = factor(_amount(source), _amount(target))
    if source.time == target.time and not (source.time == "month" and steps.kind == "year"):
        return number
    return number * (_span(target, steps) / _span(source, steps))


def _timeless(source: Units, target: Units, hint: str) -> float:
    """Without steps a rate stays a rate; the year is then the mean Gregorian one, and a month has no length."""
    number = factor(_amount(source), _amount(target))
    if source.time == target.time:  # both "month"
        return number
    if {source.time, target.time} == {"fixed", "year"}:
        return number * MEAN_YEAR if target.time == "year" else number / MEAN_YEAR
    raise UnitsError(
        f"cannot convert {source.text!r} to {target.text!r} without a dimension time, month or dayofyear: the month or "
        f"step has no length{hint}."
    )


def _period(freq: str | None, target: Units, steps: Steps) -> str | None:
    """The period to sum to: as asked, months for 'X month-1' on other steps than months, None for the steps as is."""
    if freq is not None and freq not in _PERIODS:
        raise ValueError(f"freq must be 'MS' (months) or 'YS' (years), not {freq!r}.")
    period = _PERIODS[freq] if freq is not None else None
    if period == "month" and steps.days.max() > 31.5:
        raise ValueError(f"steps of {steps.days.max():g} days are longer than a month: freq={freq!r} is not possible.")
    if target.time != "month":
        return period
    if period == "year" or steps.kind == "year":
        raise _no_month(target)
    if steps.days.max() > 31.5:
        raise _no_month(target, f"steps of {steps.days.max():g} days")
    return period if steps.kind == "month" else "month"


def to_amounts(
    da: xr.DataArray, units: str, freq: str | None = None, bounds: Given = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Convert a flux to ``units`` by the true lengths of its steps, and say how much of the time was valid.

    Parameters
    ----------
    da
        Any dims, with ``attrs["units"]``: per time, or an amount per step.
    units
        "X month-1" is the amount of each month (shorter steps are summed to months), "X yr-1" on annual steps that of
        each year and on shorter steps a rate, "X" the amount of each step (or period), "X d-1" or "X s-1" a rate.
    freq
        "MS" or "YS": sum amounts, or average rates over valid time, to calendar months or years first.
    bounds
        (time, 2), or the steps, where the stamps do not tell.

    Returns
    -------
    DataArray in ``units``, and the share (0–1) of each step or period that valid values cover.

    Raises
    ------
    UnitsError
        "X month-1" on annual steps or without a time axis; different kinds of units.

    Examples
    --------
    >>> time = xr.date_range("2003-01-01", "2003-02-28", freq="D")
    >>> da = xr.DataArray(np.ones(59), {"time": time}, "time", attrs={"units": "PgC d-1"})
    >>> to_amounts(da, "PgC month-1")[0].values
    array([31., 28.])
    """
    da, bounds = with_steps(da) if bounds is None and (freq or _needs_lengths(da, units)) else (da, bounds)
    result, share = _amounts(da, units, freq, bounds)
    return result, result.notnull().astype("float64") if share is None else share


def _amounts(da: xr.DataArray, units: str, freq: str | None, given: Given) -> tuple[xr.DataArray, xr.DataArray | None]:
    """As :func:`to_amounts`; no share where every step stays one, valid or not."""
    if "units" not in da.attrs:
        raise UnitsError(f"{da.name or 'the data'} has no units: set e.g. da.attrs['units'] = 'gC m-2 d-1'.")
    source, target = parse(da.attrs["units"], da.attrs), parse(units, da.attrs)
    _check_kinds(source, target)
    lone = given is None and da.sizes.get("time") == 1
    if freq is None and source.time == target.time and (source.time != "month" or lone):
        # No length is needed: nor are bounds, regular steps or even dates.
        return finish(da * factor(source, target), da, units), None
    steps = steps_of(da, given)
    if steps is None:
        if freq is not None:
            raise ValueError(f"freq={freq!r} needs a dimension time, month or dayofyear among {tuple(da.dims)}.")
        return finish(da * _timeless(source, target, of_years(da)), da, units), None
    period = _period(freq, target, steps)
    if source.time != target.time and da.name not in RIDING_ALONG:  # once for a flux and what rides along
        _say_whose_months_count(da)
    if period is None:
        return finish(da * _ratio(source, target, steps), da, units), None
    if steps.are(period):
        return finish(restamped(da * _ratio(source, target, steps), steps, period), da, units), None
    daily = replace(target, text=units, time="fixed", expression=f"({_amount(target).expression}) / day")
    total, covered, full = integrals(da * _ratio(source, daily, steps), steps, period)
    if target.time in (None, period):
        return finish(total.where(covered > 0), da, units), covered / full
    rate = factor(daily, target) if target.time == "fixed" else steps.mean_year
    return finish(total / covered.where(covered > 0) * rate, da, units), covered / full


def _say_whose_months_count(da: xr.DataArray) -> None:
    if joined_dim(da) is not None:
        warn(
            "series of different calendars were joined: their months are taken as long as in the real one. Convert the "
            "units before joining to keep each one's own."
        )


# --- Datasets, and the coordinates that ride along ---
def with_unassigned(da: xr.DataArray, function: Callable, given: Given) -> xr.DataArray:
    """Apply to a flux and to its coordinates ``unassigned`` and ``assigned``: what falls in no region, and in all."""
    return of_each_series(da, given, lambda one, steps: _with_unassigned(one, function, steps))


def _with_unassigned(da: xr.DataArray, function: Callable, given: Given) -> xr.DataArray:
    check_dates(da)
    check_not_summed(da, given)
    result = function(checked(da), given)
    for name in ("unassigned", "assigned"):
        if name in da.coords:
            rest = da[name].drop_vars(RIDING_ALONG, errors="ignore")  # what tells its steps stays
            rest = function(rest.assign_attrs(units=rest.attrs.get("units", da.attrs.get("units"))), given)
            result = result.assign_coords({name: rest.reset_coords(drop=True)})
    return result


def own_riding(da: xr.DataArray) -> dict[str, str]:
    """The riding coordinates that a variable of a Dataset has under its own name → their common names."""
    return {f"{da.name}_{c}": c for c in RIDING_ALONG if f"{da.name}_{c}" in da.coords}


def variable_of(ds: xr.Dataset, name: Hashable) -> xr.DataArray:
    """One variable with its own riding coordinates under their common names, and without those of the others."""
    da = ds[name]
    own = own_riding(da)
    others = [c for c in da.coords if c not in own and str(c).endswith(tuple(f"_{c}" for c in RIDING_ALONG))]
    return da.drop_vars([*others, *own.values()], errors="ignore").rename(own)


def sole_flux(obj: xr.DataArray | xr.Dataset, what: str, remedy: str, var: Hashable | None = None) -> xr.DataArray:
    """A flux, the only one of a Dataset or that of this name, with its riding coordinates under their common names."""
    if isinstance(obj, xr.DataArray):
        return obj.rename({name: c for name, c in own_riding(obj).items() if c not in obj.coords})
    names = flux_variables(obj) if var is None else [var]
    if len(names) != 1:
        raise ValueError(f"{what} is of one flux, but the Dataset has {names or 'none'}{remedy}." + left_out(obj))
    return variable_of(obj, names[0])


def _of_array(da: xr.DataArray, given: Given, function: Callable) -> xr.DataArray:
    """``function(da, given)``; what rides under the name of a variable that was taken from a Dataset rides on."""
    own = {name: c for name, c in own_riding(da).items() if c not in da.coords}
    result = with_unassigned(da.rename(own), function, given)
    return result.rename({c: name for name, c in own.items() if c in result.coords})


def _described(ds: xr.Dataset) -> str:
    return ", ".join(f"{name} ({da.attrs.get('units', 'no units')})" for name, da in ds.data_vars.items())


def each_flux(obj: xr.DataArray | xr.Dataset, function: Callable) -> xr.DataArray | xr.Dataset:
    """``function(da, steps)`` of a DataArray, or of every flux of a Dataset with a time axis, whose bounds are kept."""
    obj, given = with_steps(obj)
    if isinstance(obj, xr.DataArray):
        return _of_array(obj, given, function)
    names = flux_variables(obj)
    names = [n for n in names if {"time", "month", "dayofyear"} & set(obj[n].dims)]
    if not names:
        raise ValueError(
            f"no variable of this Dataset is a flux (e.g. 'gC m-2 d-1') with a time: {_described(obj)}{of_years(obj)}."
            + left_out(obj)
        )
    results = {}
    for name in names:
        da = variable_of(obj, name)
        result = with_unassigned(da, function, given if "time" in da.dims else None)
        results[name] = result.rename({c: f"{name}_{c}" for c in RIDING_ALONG if c in result.coords})
    return with_bounds(xr.Dataset(results, attrs=obj.attrs), obj)


def with_bounds(ds: xr.Dataset, source: xr.Dataset) -> xr.Dataset:
    """Bounds for the new time axis, of months or where the source had some: a coordinate, as they are no flux.

    Integrals by region have none: they need none, and tables made of them would have every row twice.
    """
    if "region" in ds.dims or "time" not in ds.dims or ds.sizes["time"] == 0:
        return ds
    if STEP_MONTHS not in ds.coords and known_steps(source) is None:
        return ds
    ds = ds.assign_coords(time_bnds=time_bounds(ds).drop_attrs())
    ds["time"].attrs |= {"bounds": "time_bnds", "stamp": STAMP}
    ds["time"].encoding["units"] = "minutes since 1970-01-01"  # xarray warns where time and bounds have none in common
    return ds


def valid_share(da: xr.DataArray, share: xr.DataArray, given: Given, period: str) -> xr.DataArray:
    """Valid share of a period: of its time, and of its area too where the data carry a ``valid_fraction``."""
    steps = needed_steps(da, given)
    if "valid_fraction" in da.coords and steps.dim in da["valid_fraction"].dims:
        area = da["valid_fraction"].reset_coords(drop=True).where(da.notnull(), 0.0)
        total, _, full = integrals(area, steps, period)
        share = total / full
    return (
        share.reset_coords(drop=True)
        .drop_attrs(deep=False)
        .assign_attrs(units="1", long_name="share of the period with valid values")
    )


# --- convert_units ---
def convert_units(obj: xr.DataArray | xr.Dataset, units: str) -> xr.DataArray | xr.Dataset:
    """Convert a flux, or all fluxes of a Dataset, to other units.

    Months and years have their true lengths (see :func:`to_amounts`). Steps shorter than a month are summed for
    "X month-1", with the share of valid time as the coordinate ``valid_fraction``; nothing else changes the axis.
    Floats keep their dtype and attributes stay; encoding and value ranges, which would be wrong, go. Lazy.

    Parameters
    ----------
    obj
        Flux on any dims, with ``attrs["units"]``.
    units
        As in :func:`to_amounts`.

    Raises
    ------
    ValueError
        Ambiguous or unknown units (UnitsError); carbon and water; per area and per region; steps whose lengths nobody
        knows, where a month or year is meant; values that are packed or text.

    Examples
    --------
    >>> da = xr.DataArray(1.0, attrs={"units": "gC m-2 d-1"})
    >>> float(convert_units(da, "gC m-2 yr-1"))
    365.2425
    """
    if isinstance(obj, xr.DataArray):
        obj, given = with_steps(obj) if _needs_lengths(obj, units) else (standardise(obj, lengths=False), None)
        return _of_array(obj, given, lambda da, given: _converted(da, units, given))
    fluxes = flux_variables(obj)  # which say what a bare mass is of
    substance = parse(units, obj[fluxes[0]].attrs if fluxes else None).substance
    names = flux_variables(obj, CARBON_SUBSTANCES if substance in CARBON_SUBSTANCES else (substance,))
    if not names:
        raise UnitsError(
            f"no variable of this Dataset is a flux that converts to {units!r}: {_described(obj)}." + left_out(obj)
        )
    needed = any(_needs_lengths(obj[name], units) for name in names)
    obj, given = with_steps(obj) if needed else (standardise(obj, lengths=False), None)
    converted = {}
    for name in names:
        da = variable_of(obj, name)
        own = given if "time" in da.dims else None
        try:
            result = with_unassigned(da, lambda da, own: _converted(da, units, own), own)
        except UnitsError as error:
            raise UnitsError(f"{name!r}: {error}") from None
        named = {c: f"{name}_{c}" for c in RIDING_ALONG if c in result.coords and c not in obj[name].coords}
        converted[name] = result.rename(named)
    if all(_on_the_same_axes(result, obj[name]) for name, result in converted.items()):
        # A Dataset keeps its own coordinates over those of what is assigned to it, so these are set apart.
        riding = {c: x for r in converted.values() for c, x in r.coords.items() if str(c).endswith(RIDING_ALONG)}
        return obj.assign(converted).assign_coords(riding)
    # The axis became months: what lies along the old one cannot stay.
    kept = [v for v in obj.data_vars if v not in names and not {"time", "dayofyear"} & set(obj[v].dims)]
    return with_bounds(xr.Dataset({**converted, **{v: obj[v] for v in kept}}, attrs=obj.attrs), obj)


def _needs_lengths(da: xr.DataArray, units: str) -> bool:
    """Whether a conversion needs the lengths of steps: not from d-1 to s-1."""
    if "units" not in da.attrs:
        return True
    times = {parse(da.attrs["units"], da.attrs).time, parse(units, da.attrs).time}
    return len(times) > 1 or "month" in times


def _on_the_same_axes(a: xr.DataArray, b: xr.DataArray) -> bool:
    return a.dims == b.dims and a.sizes == b.sizes and all(a.indexes[d].equals(b.indexes[d]) for d in a.indexes)


def _converted(da: xr.DataArray, units: str, given: Given) -> xr.DataArray:
    result, share = _amounts(da, units, None, given)
    if share is not None:
        return result.assign_coords(valid_fraction=valid_share(da, share, given, "month"))
    return result.astype(da.dtype, copy=False) if da.dtype.kind == "f" else result
