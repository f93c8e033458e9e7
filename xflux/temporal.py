"""Rates, amounts and averages over true calendar time.

A value belongs to its time bounds. Everything here works on *steps*: their bounds in the data's own calendar, cut at the
edges of months or years where a step straddles one, so that lengths are exact in every CF calendar. ``month`` and
``dayofyear`` climatologies stand in the mean Gregorian year of 365.2425 days.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from .units import CARBON_SUBSTANCES, Units, UnitsError, factor, flux_variables, parse
from .units import is_flux as is_flux

MEAN_YEAR = 365.2425
"""Days of the mean Gregorian year."""

_DAY = 86_400_000_000  # microseconds
_MEAN_YEARS = {"noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0, "360_day": 360.0,
               "julian": 365.25}  # fmt: skip
_NOLEAP_MONTHS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_LEAP_MONTHS = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_CLIMATOLOGICAL_MONTHS = np.array([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_PERIODS = {"MS": "month", "ME": "month", "M": "month", "YS": "year", "YE": "year", "Y": "year", "A": "year"}
_STALE_ATTRS = ("valid_min", "valid_max", "valid_range", "actual_range", "scale_factor", "add_offset")


# --- calendars ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Calendar:
    """A calendar's times as integer microseconds, and the starts of its months."""

    name: str
    dtype: np.dtype
    first_month: int  # months since year 0 of starts[0]
    starts: np.ndarray

    @classmethod
    def of(cls, *times: np.ndarray) -> "_Calendar":
        flat = np.concatenate([np.ravel(t) for t in times])
        if flat.dtype.kind == "M":
            low, high = (int(m) for m in flat[[flat.argmin(), flat.argmax()]].astype("M8[M]").astype(int) + 1970 * 12)
            months = np.arange((low // 12 - 1) * 12, (high // 12 + 3) * 12)
            starts = (months - 1970 * 12).astype("M8[M]").astype("M8[us]").astype("int64")
            return cls("proleptic_gregorian", flat.dtype, int(months[0]), starts)
        import cftime

        if flat.dtype != object or not isinstance(flat[0], cftime.datetime):
            raise ValueError(
                f"the time axis holds {flat.dtype} values, not dates; decode it with xr.decode_cf, or assign dates."
            )
        calendars = {t.calendar for t in flat}
        if len(calendars) > 1:
            raise ValueError(f"the time axis mixes the calendars {sorted(calendars)}; convert_calendar to one of them.")
        zero = flat[0].has_year_zero
        years = [y for y in range(min(flat).year - 1, max(flat).year + 3) if y != 0 or zero]
        dates = [cftime.datetime(y, m, 1, calendar=flat[0].calendar, has_year_zero=zero) for y in years for m in range(1, 13)]
        return cls(flat[0].calendar, flat.dtype, years[0] * 12, _microseconds(np.array(dates), flat[0].calendar))

    def ticks(self, times: np.ndarray) -> np.ndarray:
        return _microseconds(times, self.name)

    def dates(self, ticks: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "M":
            return ticks.astype("M8[us]").astype(self.dtype)
        import cftime

        return np.asarray(cftime.num2date(ticks, "microseconds since 1970-01-01", self.name))

    def month(self, ticks: np.ndarray) -> np.ndarray:
        """Months since year 0 of the month that holds each time."""
        return np.searchsorted(self.starts, ticks, side="right") - 1 + self.first_month

    def start(self, month: np.ndarray) -> np.ndarray:
        return self.starts[np.asarray(month) - self.first_month]

    @property
    def mean_year(self) -> float:
        return _MEAN_YEARS.get(self.name, MEAN_YEAR)


def _microseconds(times: np.ndarray, calendar: str) -> np.ndarray:
    if times.dtype.kind == "M":
        return times.astype("M8[us]").astype("int64")
    import cftime

    numbers = cftime.date2num(times, "microseconds since 1970-01-01", calendar)
    return np.asarray(numbers).astype("int64").reshape(times.shape)


# --- bounds ---------------------------------------------------------------------------------------------------------
def _dataset_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """The CF bounds variable (time, 2) that a Dataset carries."""
    if not isinstance(obj, xr.Dataset) or "time" not in obj.coords:
        return None
    time = obj["time"]
    named = time.attrs.get("bounds") or time.encoding.get("bounds")
    for name in (named, "time_bnds", "time_bounds", "time_bnd", "bounds_time"):
        if name in obj.variables and obj[name].dims[:1] == ("time",) and obj[name].shape[1:] == (2,):
            return _decoded(obj[name], time)
    if named is not None and named not in obj.variables:
        return None
    return None


def _decoded(bounds: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    """Bounds as dates; numbers take the units of the time axis, as CF says."""
    if bounds.dtype.kind in "if":
        encoding = {**time.encoding, **bounds.attrs}
        if "units" not in encoding:
            raise ValueError(f"{bounds.name!r} holds numbers without units; decode the file with xr.decode_cf first.")
        attrs = {k: encoding[k] for k in ("units", "calendar") if k in encoding}
        decoded = xr.decode_cf(xr.Dataset({"b": bounds.variable.copy(deep=False)}).assign(b=lambda d: d.b.assign_attrs(attrs)))
        return bounds.copy(data=decoded["b"].values)
    return bounds


def _regular_stop(ticks: np.ndarray, calendar: _Calendar) -> tuple[np.ndarray, np.ndarray] | None:
    """Start and stop where stamps are regular, with gaps, or restart each 1 January; None where they are not."""
    gaps = np.diff(ticks)
    step = gaps.min()
    if not (gaps % step).any():
        if step == _DAY:  # daily steps are calendar days, whatever the hour of the stamp
            midnight = calendar.start(calendar.month(ticks))
            ticks = midnight + (ticks - midnight) // _DAY * _DAY
        return ticks, ticks + step
    # 8-daily composites: the last one of the year is cut short by 1 January.
    step = gaps.max()
    new_year = calendar.start(calendar.month(ticks) // 12 * 12 + 12)
    stop = np.minimum(ticks + step, new_year)
    return (ticks, stop) if (stop[:-1] == ticks[1:]).all() else None


def _whole_months(ticks: np.ndarray, calendar: _Calendar) -> int | None:
    """1 where stamps name whole months, 12 whole years, None otherwise. Gaps are allowed if stamps sit alike."""
    month = calendar.month(ticks)
    apart, gaps = np.diff(month), np.diff(ticks)
    if (apart == 1).all() and gaps.min() >= 20 * _DAY:
        return 1
    years = np.diff(month // 12)
    if (years == 1).all() and gaps.min() >= 300 * _DAY:
        return 12
    if apart.min() < 1 or not (gaps % gaps.min()).any():
        return None
    since, until = ticks - calendar.start(month), calendar.start(month + 1) - ticks
    alike = np.ptp(since) < _DAY or np.ptp(until) < _DAY or np.ptp(since - until) <= 4 * _DAY
    if alike and apart.min() == 1 and gaps.min() >= 20 * _DAY:
        return 1
    return 12 if alike and not (apart % 12).any() and apart.min() == 12 else None


def _infer(time: xr.DataArray) -> tuple[np.ndarray, np.ndarray, _Calendar]:
    values = np.asarray(time.values)
    if values.size == 0:
        raise ValueError("the time axis is empty.")
    calendar = _Calendar.of(values)
    ticks = calendar.ticks(values)
    hint = {"month": 1, "year": 12}.get(time.attrs.get("period"))
    if ticks.size == 1 and hint is None:
        raise ValueError(
            f"a single time step ({values[0]}) has no length: put it in a Dataset with time_bnds (time, 2), or give bounds=."
        )
    if ticks.size > 1 and np.diff(ticks).min() <= 0:
        raise ValueError("time must increase without repeats; use sortby('time') and drop_duplicates('time').")
    whole = _whole_months(ticks, calendar) if ticks.size > 1 else hint
    if whole:
        first = calendar.month(ticks) // whole * whole
        return calendar.start(first), calendar.start(first + whole), calendar
    regular = _regular_stop(ticks, calendar)
    if regular is None:
        raise ValueError(
            "the time steps are neither months, years nor regular, so their lengths are unknown: put the data in a "
            "Dataset with time_bnds (time, 2), or give bounds=."
        )
    return *regular, calendar


def time_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Start and end of every time step, dims (time, bnds), in the calendar and dtype of the time axis.

    A Dataset's CF bounds variable wins. Else stamps in consecutive months (or years) are whole months (years), wherever in
    them they sit; daily stamps are calendar days; other regular steps run from the stamp.

    Raises
    ------
    ValueError
        A single step, or irregular ones, without bounds.

    Examples
    --------
    >>> da = xr.DataArray([1.0, 1.0], {"time": np.array(["2004-01-16", "2004-02-29"], "M8[ns]")}, "time")
    >>> time_bounds(da).values.astype("M8[D]")
    array([['2004-01-01', '2004-02-01'],
           ['2004-02-01', '2004-03-01']], dtype='datetime64[D]')
    """
    given = _dataset_bounds(obj)
    if given is not None:
        return given.rename({given.dims[1]: "bnds"}).rename("time_bnds")
    if "time" not in obj.dims:
        raise ValueError(f"there is no dimension 'time' among {tuple(obj.dims)}.")
    start, stop, calendar = _infer(obj["time"])
    values = np.stack([calendar.dates(start), calendar.dates(stop)], axis=1)
    return xr.DataArray(values, {"time": obj["time"]}, ("time", "bnds"), name="time_bnds")


# --- steps ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Steps:
    """The steps of a time axis or a climatology: how long they are, and how they fall into months and years."""

    dim: str
    days: np.ndarray
    kind: str  # "month" | "year" | "other": whether every step is exactly one
    month_days: np.ndarray  # length of the month in which each step starts
    mean_year: float
    start: np.ndarray | None = None
    stop: np.ndarray | None = None
    calendar: _Calendar | None = None
    labels: np.ndarray | None = None

    def split(self, period: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(step, period, days) of every piece of a step in a period ("month" or "year"), sorted by period."""
        if self.calendar is None:
            return self._split_climatology(period)
        unit = {"month": 1, "year": 12}[period]
        first = self.calendar.month(self.start) // unit
        last = self.calendar.month(self.stop - 1) // unit
        step = np.repeat(np.arange(first.size), last - first + 1)
        label = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])
        low = np.maximum(self.start[step], self.calendar.start(label * unit))
        high = np.minimum(self.stop[step], self.calendar.start((label + 1) * unit))
        order = np.argsort(label, kind="stable")
        return step[order], label[order], ((high - low) / _DAY)[order]

    def _split_climatology(self, period: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        index = np.arange(self.days.size)
        if period == "year":
            return index, np.zeros_like(index), self.days
        if self.dim == "month":
            return index, self.labels, self.days
        # A day of the year lies in one month in common years and, from 29 February on, a day earlier in leap years.
        common = np.repeat(np.arange(1, 13), _NOLEAP_MONTHS)
        leap = np.repeat(np.arange(1, 13), _LEAP_MONTHS)
        shares = []
        has_366 = 366 in self.labels
        for i, day in enumerate(self.labels):
            if day <= 365:
                shares += [(i, common[day - 1], 0.7575), (i, leap[day - 1], 0.2425)]
            if day == 366 or (day == 365 and not has_366):
                shares.append((i, 12, 0.2425))
        step, label, days = (np.array(column) for column in zip(*shares, strict=True))
        order = np.argsort(label, kind="stable")
        return step[order], label[order], days[order]

    def coordinate(self, labels: np.ndarray, period: str) -> tuple[str | None, xr.DataArray | None]:
        """Name and coordinate of the periods' dimension; a climatology's year has none."""
        if self.calendar is None:
            return ("month", xr.DataArray(labels, dims="month")) if period == "month" else (None, None)
        unit = {"month": 1, "year": 12}[period]
        dates = self.calendar.dates(self.calendar.start(labels * unit))
        return "time", xr.DataArray(dates, dims="time", attrs={"period": period})

    def period_days(self, labels: np.ndarray, period: str) -> np.ndarray:
        """Full length of each period."""
        if self.calendar is None:
            return _CLIMATOLOGICAL_MONTHS[labels - 1] if period == "month" else np.array([MEAN_YEAR])
        unit = {"month": 1, "year": 12}[period]
        return (self.calendar.start((labels + 1) * unit) - self.calendar.start(labels * unit)) / _DAY


def _climatology_steps(obj: xr.DataArray | xr.Dataset, dim: str) -> _Steps:
    size, allowed = obj.sizes[dim], {"month": (12,), "dayofyear": (365, 366)}[dim]
    if dim in obj.coords:
        labels = np.asarray(obj[dim].values)
    elif size in allowed:
        labels = np.arange(1, size + 1)
    else:
        raise ValueError(f"dimension {dim!r} of size {size} has no coordinate; assign 1..{allowed[-1]}.")
    valid = labels.dtype.kind in "iuf" and np.isin(labels, np.arange(1, max(allowed) + 1)).all()
    if not valid or np.unique(labels).size != size:
        raise ValueError(f"coordinate {dim!r} must hold distinct numbers in 1..{max(allowed)}, not {labels[:14]}.")
    labels = labels.astype(int)
    if dim == "month":
        days = _CLIMATOLOGICAL_MONTHS[labels - 1]
        return _Steps(dim, days, "month", days, MEAN_YEAR, labels=labels)
    days = np.where(labels == 366, 0.2425, np.where((labels == 365) & (366 not in labels), 1.2425, 1.0))
    months = np.repeat(np.arange(1, 13), _LEAP_MONTHS)[labels - 1]
    return _Steps(dim, days, "other", _CLIMATOLOGICAL_MONTHS[months - 1], MEAN_YEAR, labels=labels)


def _steps(obj: xr.DataArray | xr.Dataset, bounds: xr.DataArray | None = None) -> _Steps | None:
    """The steps of an object; None where it has no dimension time, month or dayofyear."""
    if "time" not in obj.dims:
        climatology = [dim for dim in ("month", "dayofyear") if dim in obj.dims]
        return _climatology_steps(obj, climatology[0]) if climatology else None
    bounds = _dataset_bounds(obj) if bounds is None else bounds
    if bounds is None:
        start, stop, calendar = _infer(obj["time"])
    else:
        start, stop, calendar = _from_bounds(obj["time"], bounds)
    first, last = calendar.month(start), calendar.month(stop)
    whole = (calendar.start(first) == start).all() and (calendar.start(last) == stop).all()
    spans = {(1,): "month", (12,): "year"}.get(tuple(np.unique(last - first)), "other") if whole else "other"
    month_days = (calendar.start(first + 1) - calendar.start(first)) / _DAY
    return _Steps("time", (stop - start) / _DAY, spans, month_days, calendar.mean_year, start, stop, calendar)


def _from_bounds(time: xr.DataArray, bounds: xr.DataArray) -> tuple[np.ndarray, np.ndarray, _Calendar]:
    values = np.asarray(bounds.values if isinstance(bounds, xr.DataArray) else bounds)
    if values.shape != (time.size, 2):
        raise ValueError(f"time bounds have the shape {values.shape}; expected (time, 2) = {(time.size, 2)}.")
    calendar = _Calendar.of(values)
    own = _Calendar.of(np.asarray(time.values))
    if own.name != calendar.name and {own.name, calendar.name} - {"standard", "gregorian", "proleptic_gregorian"}:
        raise ValueError(f"time is in the calendar {own.name!r}, its bounds in {calendar.name!r}; convert one of them.")
    start, stop = calendar.ticks(values[:, 0]), calendar.ticks(values[:, 1])
    if (stop <= start).any():
        i = int((stop <= start).argmax())
        raise ValueError(f"time bounds must increase: step {i} runs from {values[i, 0]} to {values[i, 1]}.")
    return start, stop, calendar


def step_days(obj: xr.DataArray | xr.Dataset, bounds: xr.DataArray | None = None) -> xr.DataArray:
    """Length of every step in days, along ``time``, ``month`` or ``dayofyear``.

    Climatologies stand in the mean Gregorian year: February has 28.2425 days; day 366, or day 365 where there is no 366,
    carries the 0.2425 of the leap days.

    Examples
    --------
    >>> da = xr.DataArray([0.0, 0.0], {"time": xr.date_range("2004-01-01", periods=2, freq="MS")}, "time")
    >>> step_days(da).values
    array([31., 29.])
    """
    steps = _steps(obj, bounds)
    if steps is None:
        raise ValueError(f"no dimension 'time', 'month' or 'dayofyear' among {tuple(obj.dims)}: nothing to measure.")
    coords = {steps.dim: obj[steps.dim]} if steps.dim in obj.coords else {}
    return xr.DataArray(steps.days, coords, (steps.dim,), name="days", attrs={"units": "d"})


def same_calendar(*objs: xr.DataArray | xr.Dataset) -> None:
    """Raise where time axes are in different calendars: xarray would align them to nothing, without an error."""
    names = {o["time"].dt.calendar for o in objs if "time" in o.dims and o["time"].dtype.kind in "MO"}
    names = {"standard" if n in ("gregorian", "proleptic_gregorian") else n for n in names}
    if len(names) > 1:
        raise ValueError(f"the time axes are in different calendars, {sorted(names)}: convert_calendar one of them first.")
    kinds = {o["time"].dtype.kind for o in objs if "time" in o.dims}
    if len(kinds) > 1:
        raise ValueError("one time axis holds cftime dates, the other datetime64: use convert_calendar('standard').")


# --- reductions over periods ----------------------------------------------------------------------------------------
def _along(values: np.ndarray, dim: str) -> xr.DataArray:
    return xr.DataArray(values, dims=dim)


def _plain(da: xr.DataArray, dim: str) -> xr.DataArray:
    """Without the coordinates that lie along ``dim``."""
    return da.drop_vars([name for name, coord in da.coords.items() if dim in coord.dims])


def _integrals(da: xr.DataArray, steps: _Steps, period: str) -> tuple[xr.DataArray, xr.DataArray, np.ndarray]:
    """Σ value × days over valid time, Σ days of valid time, and the periods' full days, by period, in float64."""
    index, label, days = steps.split(period)
    labels, group = np.unique(label, return_inverse=True)
    pieces = _plain(da, steps.dim)
    if not np.array_equal(index, np.arange(da.sizes[steps.dim])):
        pieces = pieces.isel({steps.dim: index})
    by = xr.DataArray(group, dims=steps.dim, name="_period")
    weights, valid = _along(days, steps.dim), pieces.notnull()
    total = (pieces.astype("float64").where(valid, 0.0) * weights).groupby(by).sum()
    covered = (valid * weights).groupby(by).sum()
    dim, coordinate = steps.coordinate(labels, period)
    full = steps.period_days(labels, period)

    def finish(x: xr.DataArray) -> xr.DataArray:
        if dim is None:
            return x.isel(_period=0, drop=True)
        x = x.rename(_period=dim).assign_coords({dim: coordinate.values})
        x[dim].attrs.update(coordinate.attrs)
        return x.transpose(*[dim if d == steps.dim else d for d in da.dims])

    return finish(total), finish(covered), full


def _period_of(freq: str | None) -> str | None:
    if freq is None:
        return None
    if freq not in _PERIODS:
        raise ValueError(f"freq must be 'MS' (months) or 'YS' (years), not {freq!r}.")
    return _PERIODS[freq]


def _amounts_per(units: Units, time: str) -> Units:
    return replace(units, time=None, expression=f"({units.expression}) * {time}", text=units.text)


def _daily_rate(da: xr.DataArray, source: Units, amount: Units, steps: _Steps) -> xr.DataArray:
    """Amounts per day, in the amount's units, from whatever ``source`` is per; months and years by their lengths."""
    if source.time == "fixed":
        return da * factor(_amounts_per(source, "day"), amount)
    if source.time is None:
        return da * (factor(source, amount) / _along(steps.days, steps.dim))
    if source.time == "month":
        if steps.kind == "year":
            raise UnitsError(f"{source.text!r} on annual steps has no month to belong to; use 'yr-1'.")
        return da * (factor(_amounts_per(source, "month"), amount) / _along(steps.month_days, steps.dim))
    days = steps.days if steps.kind == "year" else np.full(steps.days.shape, steps.mean_year)
    return da * (factor(_amounts_per(source, "year"), amount) / _along(days, steps.dim))


def _amount_of(units: Units) -> Units:
    """The amount in a unit: 'PgC month-1' → 'PgC'."""
    seconds = {"fixed": "day", "month": "month", "year": "year", None: None}[units.time]
    return units if seconds is None else _amounts_per(units, seconds)


def _check_kinds(source: Units, target: Units) -> None:
    """One clear error for different substances or areas, before any time enters."""
    carbon = {source.substance, target.substance} <= set(CARBON_SUBSTANCES)
    if (source.substance != target.substance and not carbon) or source.per_area != target.per_area:
        factor(source, target)


def _timeless(da: xr.DataArray, source: Units, target: Units) -> xr.DataArray:
    """Without a time axis a rate stays a rate; a year is then the mean Gregorian one, a month has no length."""
    if source.time == target.time:
        return da * factor(source, target)
    if {source.time, target.time} == {"fixed", "year"}:
        per_year = factor(_amounts_per(source, "year" if source.time == "year" else "day"), _amount_of(target))
        return da * (per_year * MEAN_YEAR if source.time == "fixed" else per_year / MEAN_YEAR)
    raise UnitsError(
        f"cannot convert {source.text!r} to {target.text!r} without a time axis: the month or step has no length."
    )


def to_amounts(
    da: xr.DataArray, units: str, freq: str | None = None, bounds: xr.DataArray | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Convert a flux to ``units`` by the true lengths of its steps, and say how much of the time was valid.

    Parameters
    ----------
    da
        Any dims, with ``attrs["units"]``: per time, or an amount per step.
    units
        "X month-1" is the amount of each month (shorter steps are summed to months), "X yr-1" on annual steps that of
        each year and on shorter steps a rate, "X" the amount of each step (or period), "X d-1", "X s-1" a rate.
    freq
        "MS" or "YS" to sum or average to months or years first.
    bounds
        (time, 2) where the data's own axis does not tell.

    Returns
    -------
    DataArray in ``units``, and the share (0–1) of each step or period that is covered by valid values.

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
    source, target = parse(_units_of(da), da.attrs), parse(units)
    _check_kinds(source, target)
    steps, period = _steps(da, bounds), _period_of(freq)
    if steps is None:
        if period is not None:
            raise ValueError(f"freq={freq!r} needs a dimension time, month or dayofyear; there is {tuple(da.dims)}.")
        result, share = _timeless(da, source, target), da.notnull().astype("float64")
        return _finish(result, da, units), share
    period = _target_period(target, steps, period)
    amount = _amount_of(target)
    if period is None and source.time == target.time and source.time != "month":
        return _finish(da * factor(source, target), da, units), da.notnull().astype("float64")
    rate = _daily_rate(da, source, amount, steps)
    if period is None or (period == steps.kind and freq is None):
        result = rate * _scale(target, steps, steps.days, steps.kind)
        return _finish(result, da, units), da.notnull().astype("float64")
    total, covered, full = _integrals(rate, steps, period)
    dim = "time" if steps.calendar is not None else "month" if period == "month" else None
    length = _along(full, dim) if dim else float(full[0])
    share = covered / length
    if target.time is None or target.time == period:
        return _finish(total.where(covered > 0), da, units), share
    mean = total / covered.where(covered > 0)
    return _finish(mean * _scale(target, steps, full, "other"), da, units), share


def _target_period(target: Units, steps: _Steps, period: str | None) -> str | None:
    if target.time != "month":
        return period
    if steps.kind == "year" or period == "year":
        raise UnitsError(f"{target.text!r} on annual steps has no month to belong to; use 'yr-1'.")
    return "month"


def _scale(target: Units, steps: _Steps, days: np.ndarray, kind: str) -> xr.DataArray | float:
    """What turns amounts per day into the target, on steps of this kind."""
    if target.time == "fixed":
        return factor(_per_day(target), target)
    if target.time == "year" and kind != "year":
        return steps.mean_year
    return _along(days, steps.dim)


def _per_day(target: Units) -> Units:
    return replace(target, expression=f"({_amount_of(target).expression}) / day")


def _units_of(da: xr.DataArray) -> str:
    if "units" not in da.attrs:
        raise UnitsError(f"{da.name or 'the data'} has no attribute 'units'; set e.g. da.attrs['units'] = 'gC m-2 d-1'.")
    return da.attrs["units"]


def _finish(result: xr.DataArray, da: xr.DataArray, units: str | None) -> xr.DataArray:
    """Name and attributes of the input, units of the output, no stale encoding or value ranges."""
    result = result.rename(da.name)
    result.attrs = {k: v for k, v in da.attrs.items() if k not in _STALE_ATTRS}
    if units is not None:
        result.attrs["units"] = units
    result.encoding = {}
    return result


# --- Datasets, and the coordinates that ride along ------------------------------------------------------------------
def _fluxes(ds: xr.Dataset) -> list:
    names = flux_variables(ds) or flux_variables(ds, ("energy", "water"))
    if not names:
        described = {name: da.attrs.get("units") for name, da in ds.data_vars.items()}
        raise ValueError(f"no variable of this Dataset has units of a flux (e.g. 'gC m-2 d-1'): {described}.")
    return names


def _unassigned(da: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """Coordinates that hold the flux outside all regions: they take part in every conversion."""
    for name, coord in da.coords.items():
        if name == "unassigned" or str(name).endswith("_unassigned"):
            yield name, coord.reset_coords(drop=True).assign_attrs(units=coord.attrs.get("units", da.attrs.get("units")))


def _each(obj: xr.DataArray | xr.Dataset, function: Callable[[xr.DataArray, xr.DataArray | None], xr.DataArray]):
    """Apply to a DataArray and its ``unassigned``, or to every flux of a Dataset with its time bounds."""
    if isinstance(obj, xr.DataArray):
        return _with_unassigned(obj, function, None)
    bounds = _dataset_bounds(obj)
    results = {}
    for name in _fluxes(obj):
        result = _with_unassigned(obj[name], function, bounds if "time" in obj[name].dims else None)
        own = {c: f"{name}_{c}" for c in ("unassigned", "valid_fraction") if c in result.coords}
        results[name] = result.rename(own)
    ds = xr.Dataset(results, attrs=obj.attrs)
    return _with_bounds(ds) if bounds is not None and "time" in ds.dims else ds


def _with_unassigned(da: xr.DataArray, function: Callable, bounds: xr.DataArray | None) -> xr.DataArray:
    result = function(da, bounds)
    for name, coord in _unassigned(da):
        extra = function(coord, bounds)
        result = result.assign_coords({name: extra.drop_vars("valid_fraction", errors="ignore")})
    return result


def _with_bounds(ds: xr.Dataset) -> xr.Dataset:
    ds = ds.assign(time_bnds=time_bounds(ds).drop_attrs())
    ds["time"].attrs["bounds"] = "time_bnds"
    return ds


def _share(da: xr.DataArray, share: xr.DataArray, steps: _Steps, period: str) -> xr.DataArray:
    """Valid share of a period: of its time, and of its area too where the data carry a ``valid_fraction``."""
    if "valid_fraction" in da.coords and steps.dim in da["valid_fraction"].dims:
        area = da["valid_fraction"].reset_coords(drop=True).where(da.notnull(), 0.0)
        total, covered, full = _integrals(area, steps, period)
        dim = [d for d in total.dims if d in ("time", "month")]
        share = total / (_along(full, dim[0]) if dim else float(full[0]))
    return share.drop_attrs().assign_attrs(units="1", long_name="share of the period with valid values")


# --- public ---------------------------------------------------------------------------------------------------------
def convert_units(obj: xr.DataArray | xr.Dataset, units: str) -> xr.DataArray | xr.Dataset:
    """Convert a flux, or all fluxes of a Dataset, to other units.

    Months and years have their true lengths (see :func:`to_amounts`). Steps shorter than a month are summed for
    "X month-1", with the share of valid time as the coordinate ``valid_fraction``; nothing else changes the axis. The dtype
    of floats is kept, other attributes too; encoding and value ranges, which would be wrong, are dropped. Lazy.

    Raises
    ------
    UnitsError
        Ambiguous or unknown units; C and water; per area and per region.

    Examples
    --------
    >>> da = xr.DataArray(1.0, attrs={"units": "gC m-2 d-1"})
    >>> float(convert_units(da, "gC m-2 yr-1"))
    365.2425
    """
    if isinstance(obj, xr.DataArray):
        return _with_unassigned(obj, lambda da, bounds: _convert(da, units, bounds), None)
    target = parse(units).substance
    substances = CARBON_SUBSTANCES if target in CARBON_SUBSTANCES else (target,)
    names = flux_variables(obj, substances)
    if not names:
        described = {name: da.attrs.get("units") for name, da in obj.data_vars.items()}
        raise UnitsError(f"no variable of this Dataset is a flux that converts to {units!r}: {described}.")
    bounds = _dataset_bounds(obj)
    converted = {}
    for name in names:
        own = bounds if "time" in obj[name].dims else None
        try:
            result = _with_unassigned(obj[name], lambda da, own: _convert(da, units, own), own)
        except UnitsError as error:
            raise UnitsError(f"{name!r}: {error}") from None
        converted[name] = result.rename({c: f"{name}_{c}" for c in ("valid_fraction",) if c in result.coords and c not in obj[name].coords})
    if all(converted[name].sizes == obj[name].sizes for name in names):
        return obj.assign(converted)
    others = [v for v in obj.data_vars if v not in names and not {"time", "dayofyear"} & set(obj[v].dims)]
    ds = xr.Dataset({**converted, **{v: obj[v] for v in others}}, attrs=obj.attrs)
    return _with_bounds(ds) if bounds is not None and "time" in ds.dims else ds


def _convert(da: xr.DataArray, units: str, bounds: xr.DataArray | None) -> xr.DataArray:
    result, share = to_amounts(da, units, bounds=bounds)
    if result.sizes != da.sizes:
        steps = _steps(da, bounds)
        return result.assign_coords(valid_fraction=_share(da, share, steps, "month"))
    return result.astype(da.dtype, copy=False) if da.dtype.kind == "f" else result


def _is_amount(da: xr.DataArray, steps: _Steps) -> str | None:
    """Units of the sum over a year where values are amounts of their step, None where they are rates or states."""
    try:
        units = parse(da.attrs.get("units"), da.attrs)
    except UnitsError:
        return None
    if units.substance in ("1", "area"):
        return None
    if units.time is None:
        return da.attrs["units"]
    return f"{units.amount} yr-1" if units.time == "month" and steps.kind != "year" else None


def _averaged(da: xr.DataArray, bounds: xr.DataArray | None, period: str) -> xr.DataArray:
    """Mean of rates, sum of amounts, by period, with ``valid_fraction``."""
    steps = _steps(da, bounds)
    if steps is None:
        raise ValueError(f"no dimension 'time', 'month' or 'dayofyear' among {tuple(da.dims)}: nothing to average over.")
    units = _is_amount(da, steps)
    if units is not None:
        keep = units if period == "year" else da.attrs["units"]
        result, share = to_amounts(da, keep, {"month": "MS", "year": "YS"}[period], bounds)
    else:
        total, covered, full = _integrals(da, steps, period)
        result = _finish(total / covered.where(covered > 0), da, None)
        dim = [d for d in total.dims if d in ("time", "month") and d not in set(da.dims) - {steps.dim}]
        share = covered / (_along(full, dim[0]) if dim else float(full[0]))
    return result.assign_coords(valid_fraction=_share(da, share, steps, period))


def to_monthly(obj: xr.DataArray | xr.Dataset, bounds: xr.DataArray | None = None) -> xr.DataArray | xr.Dataset:
    """Calendar months: time-weighted means of rates, sums of amounts; ``dayofyear`` becomes ``month``.

    A step that straddles two months is shared between them by its days. Stamps are the starts of months. The share of the
    month with valid values comes back as ``valid_fraction``; annual steps raise.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=59, freq="D")
    >>> da = xr.DataArray(np.r_[np.zeros(31), np.ones(28)], {"time": time}, "time", attrs={"units": "gC m-2 d-1"})
    >>> to_monthly(da).values
    array([0., 1.])
    """

    def monthly(da: xr.DataArray, own: xr.DataArray | None) -> xr.DataArray:
        own = own if bounds is None else bounds
        steps = _steps(da, own)
        if steps is not None and steps.days.max() > 31.5:
            raise ValueError("the steps are longer than a month; they cannot be brought to months.")
        return _averaged(da, own, "month")

    return _each(obj, monthly)


def annual(obj: xr.DataArray | xr.Dataset, *, complete: bool = False) -> xr.DataArray | xr.Dataset:
    """Calendar years: means of rates weighted by the length of the steps, sums of amounts ("X month-1" → "X yr-1").

    ``time`` stays, stamped 1 January, with a coordinate ``year`` (int). Missing time adds nothing to a sum and does not
    count in a mean; the share of the year with valid values is the coordinate ``valid_fraction``. The year of a
    climatology (``month`` or ``dayofyear``) is the mean Gregorian one, and the dimension goes.

    Parameters
    ----------
    complete
        Drop years that the time axis does not cover wholly.

    Examples
    --------
    >>> time = xr.date_range("2003-01-01", periods=12, freq="MS")
    >>> da = xr.DataArray(np.ones(12), {"time": time}, "time", attrs={"units": "PgC month-1"})
    >>> annual(da).item(), annual(da).attrs["units"]
    (12.0, 'PgC yr-1')
    """
    return _each(obj, lambda da, bounds: _annual(da, bounds, complete))


def _annual(da: xr.DataArray, bounds: xr.DataArray | None, complete: bool) -> xr.DataArray:
    result = _averaged(da, bounds, "year")
    if "time" not in result.dims:
        return result
    result = result.assign_coords(year=("time", [t.year for t in result.indexes["time"]]))
    return result.isel(time=_covered(da, bounds, "year")) if complete else result


def _covered(da: xr.DataArray, bounds: xr.DataArray | None, period: str) -> np.ndarray:
    """Which periods the time axis covers wholly."""
    steps = _steps(da, bounds)
    _, label, days = steps.split(period)
    labels, group = np.unique(label, return_inverse=True)
    return np.bincount(group, days) >= steps.period_days(labels, period) - 1e-6


def mean_seasonal_cycle(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Mean of every calendar month over the years, dim ``month`` (1–12) in place of ``time``.

    Shorter steps are brought to months first, so every year counts alike. Months of a sum ("X month-1") that the time axis
    covers only in part are left out; a month without data is NaN. Climatologies stay as they are, ``dayofyear`` as months.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
    >>> da = xr.DataArray(np.arange(24.0), {"time": time}, "time", attrs={"units": "gC m-2 d-1"})
    >>> mean_seasonal_cycle(da).sel(month=1).item()
    6.0
    """
    return _each(obj, _seasonal)


def _seasonal(da: xr.DataArray, bounds: xr.DataArray | None) -> xr.DataArray:
    monthly = to_monthly(da, bounds)
    if "time" not in da.dims:
        return monthly
    month = xr.DataArray([t.month for t in monthly.indexes["time"]], dims="time", name="month")
    values = monthly
    if _is_amount(da, _steps(da, bounds)) is not None:
        values = monthly.where(_along(_covered(da, bounds, "month"), "time"))

    def mean(x: xr.DataArray) -> xr.DataArray:
        by_month = _plain(x, "time").groupby(month).mean()
        return by_month.transpose(*["month" if d == "time" else d for d in x.dims]).reindex(month=np.arange(1, 13))

    result = _finish(mean(values), da, None)
    share = mean(monthly["valid_fraction"].reset_coords(drop=True)).fillna(0.0)
    return result.assign_coords(valid_fraction=share.assign_attrs(monthly["valid_fraction"].attrs))


def annual_anomalies(obj: xr.DataArray | xr.Dataset, detrend: bool = True) -> xr.DataArray | xr.Dataset:
    """Annual values of the complete years less their mean or, with ``detrend``, less their linear trend (paper, Fig. 2c).

    Years that the time axis does not cover wholly are left out. Dims as in :func:`annual`.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=3, freq="YS")
    >>> da = xr.DataArray([1.0, 2.0, 3.0], {"time": time}, "time", attrs={"units": "PgC yr-1"})
    >>> abs(annual_anomalies(da)).max().item() < 1e-12
    True
    """
    return _each(obj, lambda da, bounds: _anomalies(da, bounds, detrend))


def _anomalies(da: xr.DataArray, bounds: xr.DataArray | None, detrend: bool) -> xr.DataArray:
    if "time" not in da.dims:
        raise ValueError(f"anomalies need the dimension 'time'; there is {tuple(da.dims)} (a climatology has no years).")
    values = _annual(da, bounds, complete=True)
    if values.sizes["time"] == 0:
        raise ValueError("no year is covered wholly by the time axis: no annual anomalies.")
    anomaly = values - values.mean("time")
    if detrend:
        year = values["year"].where(values.notnull()).drop_vars("valid_fraction", errors="ignore")
        year = year - year.mean("time")
        slope = (year * anomaly).sum("time") / (year**2).sum("time").where(lambda s: s > 0)
        anomaly = anomaly - slope.fillna(0.0) * year
    return _finish(anomaly.transpose(*values.dims), values, None)


def interannual_variability(
    obj: xr.DataArray | xr.Dataset, detrend: bool = True, ddof: int = 0
) -> xr.DataArray | xr.Dataset:
    """Standard deviation of the detrended annual anomalies over the years (paper, Fig. 2d); without ``time``.

    NaN where fewer than three years (two without ``detrend``) are valid: a line through two points leaves nothing.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=4, freq="YS")
    >>> da = xr.DataArray([1.0, -1.0, -1.0, 1.0], {"time": time}, "time", attrs={"units": "PgC yr-1"})
    >>> interannual_variability(da).item()
    1.0
    """

    def variability(da: xr.DataArray, bounds: xr.DataArray | None) -> xr.DataArray:
        anomaly = _anomalies(da, bounds, detrend)
        years = anomaly.notnull().sum("time")
        spread = np.sqrt((anomaly**2).sum("time") / (years - ddof).where(years > max(1 + detrend, ddof)))
        return _finish(spread, anomaly, None)

    return _each(obj, variability)
