"""Steps that ride along a time axis as coordinates, so that results need no bounds."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from xflux.temporal.calendar import DAY, MOST_DAYS, MOST_MONTHS, Calendar, Steps, real_start
from xflux.temporal.dates import as_dates

EDGES = ("step_start", "step_stop")
"""Coordinates over time that carry the steps of a DataArray, which cannot have bounds, where its stamps do not tell."""

STEP_MONTHS, STEP_DAYS = COUNTED = "step_months", "step_days"
"""Coordinates over time: how many whole months or days each step lasts that begins at its stamp, the start of a month
or a midnight.

They are believed where they fit the stamps, which they do not after averages or interpolation; resampling drops them.
Where joining along another dim left a series without a step, its number is missing: the step has the room that the
others leave it, which for 29 February is none in ``noleap``.
"""

RIDING = (*EDGES, *COUNTED)

CALENDAR = "calendar"
"""Scalar coordinate of integrals of regions, which have dates of the real calendar whatever the data's, so that they
join: the place in ``CALENDARS`` of the one that says how long their months and years are."""

CALENDARS = ("standard", "noleap", "360_day", "all_leap", "julian")
APART = (*COUNTED, CALENDAR)
"""What series that are joined each have of their own."""

_DATED = ("standard", "noleap", "julian")
"""Calendars whose days have a date in the real one (of the Julian, in most years)."""

STAMP = "start of the step"
"""``time.attrs["stamp"]`` of what xflux returns, whose steps begin at their stamps."""


def ridden_edges(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """Bounds (time, 2) that ride along as coordinates; None where there are none."""
    if not all(name in obj.coords and obj[name].dims == ("time",) for name in EDGES):
        return None
    pair = [obj[name].values for name in EDGES]
    return xr.DataArray(np.stack(pair, axis=1), {"time": obj["time"]}, ("time", "bnds"), name="time_bnds")


def ridden_steps(obj: xr.DataArray | xr.Dataset) -> Steps | None:
    """The steps of counted months or days that ride along; None where there are none, or stale."""
    found = (_ridden(obj, name) for name in COUNTED)
    return next((steps for steps in found if steps is not None), None)


def ridden_months(obj: xr.DataArray | xr.Dataset) -> Steps | None:
    """As :func:`ridden_steps`, of whole months."""
    return _ridden(obj, STEP_MONTHS)


def counting_calendar(obj: xr.DataArray | xr.Dataset) -> str | None:
    """The calendar that an object says its months count in; None where it does not, or was joined of several."""
    said = np.unique(obj.coords[CALENDAR].values) if CALENDAR in obj.coords else np.array([])
    known = said.size == 1 and said.dtype.kind in "iu" and 0 <= said[0] < len(CALENDARS)
    return CALENDARS[int(said[0])] if known else None


def _ridden(obj: xr.DataArray | xr.Dataset, name: str) -> Steps | None:
    numbers = _of_one_series(obj, name)
    own = None if numbers is None else np.isfinite(numbers)
    if own is None or not own.any() or _of_several_calendars(obj):
        return None
    count = np.where(own, numbers, np.nanmax(numbers))
    if count.min() < 1 or (count % 1).any() or count.max() > {STEP_MONTHS: MOST_MONTHS, STEP_DAYS: MOST_DAYS}[name]:
        return None
    stamps, count = np.asarray(obj["time"].values), count.astype("int64")
    try:
        calendar = Calendar.of(stamps, counting_calendar(obj))
    except ValueError:
        return None
    start, count = calendar.ticks(stamps), np.where(calendar.lacks(stamps), 0, count)
    first = calendar.month(start)
    since = start - calendar.start(first)
    if name == STEP_MONTHS:
        stop = calendar.start(first + count)
    else:
        since, stop = since % DAY, start + count * DAY
    if since.any() or not _fit(start[own], stop[own], whole=obj[name].dtype.kind in "iu"):
        return None
    if name == STEP_DAYS:
        _check_not_finer(start[own], stop[own])
    return Steps.between(*_with_the_others(start, stop, own), calendar)


def _of_several_calendars(obj: xr.DataArray | xr.Dataset) -> bool:
    return CALENDAR in obj.coords and np.unique(obj[CALENDAR].values).size > 1


def _of_one_series(obj: xr.DataArray | xr.Dataset, name: str) -> np.ndarray | None:
    """The numbers of a coordinate along time, of joined series if they agree where they have one; None else."""
    coord = obj.coords.get(name)
    if coord is None or "time" not in coord.dims or coord.dtype.kind not in "iuf":
        return None
    numbers = coord.transpose("time", ...).values.astype(float).reshape(coord.sizes["time"], -1)
    low, high = np.fmin.reduce(numbers, axis=1), np.fmax.reduce(numbers, axis=1)
    return None if (low < high).any() else low


def _fit(start: np.ndarray, stop: np.ndarray, whole: bool) -> bool:
    """Whether steps leave each other room; numbers that are integers no more belong to steps some of which meet."""
    order = np.argsort(start, kind="stable")
    gaps = start[order][1:] - stop[order][:-1]
    return bool((gaps >= 0).all()) and (whole or bool((gaps == 0).any()))


def _check_not_finer(start: np.ndarray, stop: np.ndarray) -> None:
    """Refuse days that are as far apart as if each stood for more: the axis is another, or it is open what was left."""
    apart = np.diff(start)
    if apart.size > 1 and apart.max() <= 1.15 * apart.min() and (apart > 1.15 * (stop - start)[:-1]).all():
        raise ValueError(
            f"the coordinate {STEP_DAYS!r} says that steps last {(stop - start).max() / DAY:g} d, but all are "
            f"{apart.min() / DAY:g} d apart: drop it, .drop_vars({STEP_DAYS!r}), where each value stands for the whole "
            f"step, and give days that were picked out time_bnds in a Dataset."
        )


def _with_the_others(start: np.ndarray, stop: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps that are not of the series itself in the room between its own, of which there may be none."""
    until = np.maximum.accumulate(np.where(own, stop, start))
    begin = np.where(own, start, np.maximum(start, np.append(start[:1], until[:-1])))
    room = np.maximum(begin, np.minimum(stop, np.append(start[1:], stop[-1:])))
    return begin, np.where(own, stop, room)


def counted(numbers: np.ndarray) -> np.ndarray:
    """Numbers of months or days; missing where a step has no length."""
    return numbers if numbers.all() else np.where(numbers, numbers, np.nan)


def counting_in(da: xr.DataArray, calendar: Calendar) -> xr.DataArray:
    """With the coordinate that says in which calendar its months count."""
    meanings = {"long_name": "calendar in which months count", "flag_meanings": " ".join(CALENDARS)}
    code = xr.Variable(
        (), np.int8(CALENDARS.index(calendar.family)), {**meanings, "flag_values": np.arange(5, dtype="i1")}
    )
    return da.assign_coords({CALENDAR: code})


def in_real_dates(da: xr.DataArray) -> xr.DataArray:
    """Steps stamped at their start, as :func:`ridden_steps` has them, dated in the real calendar if it has them."""
    found = ridden_steps(da)
    if found is None or found.calendar.dtype.kind == "M":
        return da if found is None else counting_in(da, found.calendar)
    start, calendar = found.start, found.calendar
    first, name = calendar.month(start), STEP_MONTHS if STEP_MONTHS in da.coords else STEP_DAYS
    ticks = real_start(first) + start - calendar.start(first)
    same = (ticks < real_start(first + 1)) & (calendar.start(first + 1) - calendar.start(first) >= 28 * DAY)  # not 1582
    if name == STEP_DAYS and not (calendar.family in _DATED and same.all()):
        return da
    beside = {name: da[name].variable}
    da = da.drop_vars(name).assign_coords(time=("time", as_dates(ticks.astype("M8[us]")), da["time"].attrs))
    return counting_in(da.assign_coords(beside), calendar)


def joined_dim(da: xr.DataArray) -> str | None:
    """A dim along which series with steps of different lengths, or in different calendars, were joined."""
    several = [name for name in COUNTED if name in da.coords and "time" in da[name].dims]
    several = [name for name in several if da[name].ndim > 1 and _of_one_series(da, name) is None]
    if _of_several_calendars(da):
        several.append(CALENDAR)
    return next((dim for name in several for dim in da[name].dims if dim != "time"), None)


def check_dates(da: xr.DataArray) -> None:
    """Refuse values on dates that the calendar in which a series says it counts does not have: it is another's."""
    name = counting_calendar(da) if "time" in da.dims and da["time"].dtype.kind == "M" else None
    if name in (None, "standard"):
        return
    lacking = Calendar.of(da["time"].values, name).lacks(da["time"].values)
    if lacking.any() and bool(da.isel(time=lacking).notnull().any()):
        raise ValueError(
            f"the coordinate {CALENDAR!r} says that days count as in {name}, which has no "
            f"{da['time'].values[lacking][0].astype('M8[D]')}, but there are values: leave that day out, or drop the "
            f"coordinate, .drop_vars({CALENDAR!r})."
        )


def of_each_series(da: xr.DataArray, given, function: Callable):
    """``function(da, given)``; of joined series whose steps differ, of each one, joined again."""
    if "time" not in da.dims or (dim := joined_dim(da)) is None:
        return function(da, given)
    results = []
    for i in range(da.sizes[dim]):
        part = da.isel({dim: [i]})
        own = {c: part[c].variable.isel({dim: 0}, missing_dims="ignore") for c in APART if c in part.coords}
        results.append(of_each_series(part.assign_coords(own), None, function))
    apart = [name for name in APART if name in results[0].coords]
    joined = xr.concat(results, dim, join="outer", coords=apart, compat="override")
    return joined.assign_coords(year=joined["time"].dt.year) if {"year", "time"} <= set(joined.coords) else joined


def on_real_dates(a: xr.DataArray, b: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Two series in one calendar, one of which has dates of the real one, on those."""
    found = [steps.calendar for x in (a, b) if (steps := ridden_steps(x)) is not None]
    if len(found) < 2 or len({c.family for c in found}) > 1 or len({c.dtype.kind for c in found}) == 1:
        return a, b
    return in_real_dates(a), in_real_dates(b)


def is_own(obj: xr.DataArray | xr.Dataset) -> bool:
    """Whether an axis is one that xflux made, whose whole months ride along: its bounds repeat these."""
    return STEP_MONTHS in obj.coords and obj["time"].attrs.get("stamp") == STAMP
