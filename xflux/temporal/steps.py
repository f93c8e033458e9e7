"""How long steps are, how they fall into months and years, and which of one axis make up those of another."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.intervals import pieces
from xflux.temporal.bounds import given_steps, inferred_steps, known_steps
from xflux.temporal.calendar import DAY, Calendar, Steps, climatology, days_in_months
from xflux.temporal.riding import EDGES, RIDING, STEP_DAYS, STEP_MONTHS, counted, counting_calendar, counting_in

Given = Steps | xr.DataArray | None
"""What a caller knows of the steps along time: themselves, or bounds (time, 2)."""


def steps_of(obj: xr.DataArray | xr.Dataset, given: Given = None) -> Steps | None:
    """The steps of an object; None where it has no dimension time, month or dayofyear."""
    if "time" not in obj.dims:
        found = [dim for dim in ("month", "dayofyear") if dim in obj.dims]
        return climatology(obj, found[0]) if found else None
    if isinstance(given, Steps):
        return given
    if "time" not in obj.coords:
        raise ValueError("dimension 'time' has no coordinate: assign its dates.")
    if given is not None:
        return given_steps(obj["time"], given, counting_calendar(obj))
    return known_steps(obj) or inferred_steps(obj["time"], counting_calendar(obj))


def steps_between(start: np.ndarray, stop: np.ndarray, calendar: str | None = None) -> Steps:
    """The steps from dates to dates, whose months count as in the calendar of this name."""
    calendar = Calendar.of(np.stack([start, stop]), calendar)
    return Steps.between(calendar.ticks(start), calendar.ticks(stop), calendar)


def carried(da: xr.DataArray, steps: Steps | None, restamp: bool = False) -> xr.DataArray:
    """A DataArray that needs no bounds: its steps ride as coordinates of ``time``.

    Whole months that begin at their stamps ride as their number, others only where their stamps do not tell them.
    With ``restamp`` every step gets the stamp of its start, and whole days ride as their number too. What is not on a
    time axis is returned as it is.
    """
    if steps is None or steps.calendar is None or "time" not in da.dims:
        return da
    da = da.drop_vars(RIDING, errors="ignore")
    if restamp:
        da, steps = _without_empty(da, steps)
    if steps.calendar.counts_otherwise:
        da = counting_in(da, steps.calendar)
    dates = [steps.calendar.dates(x) for x in (steps.start, steps.stop)]
    if restamp:
        beside = {c: da[c].variable for c in da.coords if "time" in da[c].dims and c != "time"}
        da = da.drop_vars([*beside, "time"]).assign_coords(time=("time", dates[0])).assign_coords(beside)
    at_start = np.array_equal(dates[0], da["time"].values)
    if at_start and (months := steps.whole_months()) is not None:
        return da.assign_coords({STEP_MONTHS: ("time", counted(months))})
    told = _told_by_stamps(da["time"], steps)
    if at_start and (restamp or not told) and (days := steps.whole_days()) is not None:
        return da.assign_coords({STEP_DAYS: ("time", counted(days))})
    if told:
        return da
    return da.assign_coords({name: ("time", x) for name, x in zip(EDGES, dates, strict=True)})


def _without_empty(da: xr.DataArray, steps: Steps) -> tuple[xr.DataArray, Steps]:
    """Without the steps of others, for which a series that was joined with them has no room."""
    held = steps.stop > steps.start
    if held.all():
        return da, steps
    return da.isel(time=held), Steps.between(steps.start[held], steps.stop[held], steps.calendar)


def _told_by_stamps(time: xr.DataArray, steps: Steps) -> bool:
    try:
        told = inferred_steps(time, steps.calendar.name)
    except ValueError:
        return False
    return np.array_equal(told.start, steps.start) and np.array_equal(told.stop, steps.stop)


def stamped_at_starts(da: xr.DataArray, given: Given = None) -> xr.DataArray:
    """Steps stamped at their start, so that differently stamped arrays meet; as they are where they are unknown."""
    try:
        return carried(da, steps_of(da, given), restamp=True)
    except ValueError:
        return da


def needed_steps(obj: xr.DataArray | xr.Dataset, given: Given = None) -> Steps:
    """As :func:`steps_of`, but an error where there are none."""
    steps = steps_of(obj, given)
    if steps is None:
        raise ValueError(
            f"no dimension 'time', 'month' or 'dayofyear' among {tuple(obj.dims)}: there are no steps{of_years(obj)}."
        )
    return steps


def of_years(obj: xr.DataArray | xr.Dataset) -> str:
    """What an error says to data by ``year``, as groupby("time.year") gives them."""
    return "; years are read as a time, obj.rename(year='time')" if "year" in obj.dims else ""


def step_days(obj: xr.DataArray | xr.Dataset, bounds: xr.DataArray | None = None) -> xr.DataArray:
    """Length of every step in days, along ``time``, ``month`` or ``dayofyear``.

    Climatologies stand in the mean Gregorian year: February has 28.2425 days; day 366, or day 365 where there is no
    366, carries the 0.2425 of the leap days.

    Parameters
    ----------
    bounds
        (time, 2), where neither the stamps nor a Dataset's own bounds tell.
    obj
        With the dim ``time`` (dates), ``month`` or ``dayofyear``.

    Raises
    ------
    ValueError
        A single step, or irregular ones, without bounds.

    Examples
    --------
    >>> da = xr.DataArray([0.0, 0.0], {"time": xr.date_range("2004-01-01", periods=2, freq="MS")}, "time")
    >>> step_days(da).values
    array([31., 29.])
    """
    steps = needed_steps(obj, bounds)
    coords = {steps.dim: obj[steps.dim]} if steps.dim in obj.coords else {}
    return xr.DataArray(steps.days, coords, (steps.dim,), name="days", attrs={"units": "d"})


def same_calendar(*objs: xr.DataArray | xr.Dataset) -> None:
    """Raise where time axes are in different calendars: xarray would align them to nothing, without an error.

    Parameters
    ----------
    objs
        With or without the dim ``time``.

    Raises
    ------
    ValueError
        Different calendars, or dates of cftime beside those of NumPy.

    Examples
    --------
    >>> a = xr.DataArray([0.0], {"time": xr.date_range("2001", periods=1)}, "time")
    >>> b = a.assign_coords(time=xr.date_range("2001", periods=1, calendar="noleap"))
    >>> same_calendar(a, b)
    Traceback (most recent call last):
        ...
    ValueError: the time axes are in different calendars, ['noleap', 'proleptic_gregorian']: use ...
    """
    calendars = [Calendar.of(np.asarray(o["time"].values)) for o in objs if "time" in o.dims and "time" in o.coords]
    names = sorted({c.name for c in calendars})
    if len({c.family for c in calendars}) > 1:
        raise ValueError(f"the time axes are in different calendars, {names}: use convert_calendar on one of them.")
    if len({c.dtype.kind for c in calendars}) > 1:
        raise ValueError("one time axis holds cftime dates, another datetime64: use convert_calendar('standard').")


@dataclass(frozen=True)
class Overlap:
    """Pieces that steps of a source and of a target have in common, sorted by target."""

    target: np.ndarray  # positions of the steps
    source: np.ndarray
    share: np.ndarray  # share of the target step that the piece is
    # share of the source step that the piece is; 1 for climatologies, whose steps come again every year
    within: np.ndarray

    def covered(self, count: int) -> np.ndarray:
        """Share of each of the ``count`` target steps that the source covers."""
        return np.bincount(self.target, self.share, minlength=count)

    @property
    def one_to_one(self) -> bool:
        """Whether every target step lies in one source step."""
        return np.unique(self.target).size == self.target.size


def overlap(target: Steps, source: Steps) -> Overlap:
    """The pieces of ``target``'s steps by ``source``'s.

    Months and days of a climatology stand for themselves in every year (the 366th day takes the 365th where the
    climatology has 365). Raises ValueError for a series of dates on a climatology.
    """
    if source.calendar is not None and target.calendar is not None:
        return _dates(target, source)
    if source.calendar is not None:
        raise ValueError(f"dates cannot be had on the climatology {target.dim!r}: take mean_seasonal_cycle() first.")
    if source.dim == "month":
        step, label, days = target.split("month")
        label = label % 12 + 1 if target.calendar is not None else label
    elif target.dim == "month":
        position, label, days = days_in_months(source.labels)
        lookup = dict(zip(target.labels, range(target.labels.size), strict=True))
        known = np.isin(label, target.labels)
        at = np.array([lookup[m] for m in label[known]], int)
        total = np.bincount(at, days[known], minlength=target.labels.size)
        return _sorted(at, position[known], days[known] / total[at])
    else:
        step, label, days = _days_of_year(target)
        label = np.where((label == 366) & (366 not in source.labels), 365, label)
    order = np.argsort(source.labels)
    at = np.searchsorted(source.labels[order], label).clip(max=source.labels.size - 1)
    known = source.labels[order][at] == label
    total = np.bincount(step, days, minlength=target.days.size)
    return _sorted(step[known], order[at[known]], days[known] / total[step[known]])


def _sorted(target: np.ndarray, source: np.ndarray, share: np.ndarray) -> Overlap:
    order = np.lexsort((source, target))
    return Overlap(target[order], source[order], share[order], np.ones(order.size))


def _dates(target: Steps, source: Steps) -> Overlap:
    """Pieces of two axes of dates; neither needs to be in order."""
    order = np.argsort(source.start, kind="stable")
    step, at, first, last = pieces(target.start, target.stop, source.start[order], source.stop[order])
    length, at = last - first, order[at]
    whole = (target.stop - target.start)[step], (source.stop - source.start)[at]
    return Overlap(step, at, length / whole[0], length / whole[1])


def _days_of_year(steps: Steps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(step, day of the year, days) of every piece of a step in a day."""
    if steps.calendar is None:
        return np.arange(steps.days.size), steps.labels, steps.days
    midnights = np.arange(steps.start.min() // DAY, steps.stop.max() // DAY + 2) * DAY
    step, day, start, stop = pieces(steps.start, steps.stop, midnights[:-1], midnights[1:])
    midnight = midnights[day]
    year = steps.calendar.month(midnight) // 12
    return step, (midnight - steps.calendar.start(year * 12)) // DAY + 1, (stop - start) / DAY
