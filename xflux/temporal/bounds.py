"""Where every time step begins and ends: as bounds say, and where only its stamps tell."""

import re

import numpy as np
import xarray as xr

from xflux.temporal.calendar import DAY, Calendar, Steps
from xflux.temporal.dates import decode, written
from xflux.temporal.riding import counting_calendar, is_own, ridden_edges, ridden_steps
from xflux.values import warn

_MINUTE = 60_000_000
_NAME = re.compile(r"(time|valid|clim|date).*(bnd|bound)|(bnd|bound)s?_time", re.I)
_DROP = "drop them where they are wrong: ds = ds.drop_vars({name!r}); ds['time'].attrs.pop('bounds', None)"


def bounds_name(ds: xr.Dataset) -> str | None:
    """Name of the variable that holds the bounds (or the climatology bounds) of ``time``."""
    time = ds["time"]
    named = [source.get(key) for key in ("bounds", "climatology") for source in (time.attrs, time.encoding)]
    found = [name for name in named if name in ds.variables]
    found += [name for name in map(str, ds.variables) if _NAME.search(name)]
    return next((name for name in found if "time" in ds[name].dims and ds[name].ndim > 1), None)


def dataset_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """The bounds (time, 2) that an object carries, as dates, checked and completed; None where it has none."""
    steps = known_steps(obj)
    return None if steps is None else as_bounds(obj["time"], steps)


def known_steps(obj: xr.DataArray | xr.Dataset) -> Steps | None:
    """The steps along time that an object carries, in bounds or as coordinates, to be handed on; None without any."""
    if "time" not in obj.dims or "time" not in obj.coords or not obj.sizes["time"]:
        return None
    if (counted := ridden_steps(obj)) is not None:
        return counted
    raw = raw_bounds(obj)
    return None if raw is None else given_steps(obj["time"], raw, counting_calendar(obj))


def as_bounds(time: xr.DataArray, steps: Steps) -> xr.DataArray:
    """Steps as bounds (time, bnds) in dates."""
    values = np.stack([steps.calendar.dates(edge) for edge in (steps.start, steps.stop)], axis=1)
    return xr.DataArray(values, {"time": time}, ("time", "bnds"), name="time_bnds")


def raw_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """Bounds (time, 2) as they stand, decoded; None where there are none, or none that have a length."""
    if (own := ridden_edges(obj)) is not None:
        return own
    name = bounds_name(obj) if isinstance(obj, xr.Dataset) and not is_own(obj) else None
    if name is None:
        return None
    bounds = obj[name].reset_coords(drop=True)
    pairs = [dim for dim in bounds.dims if dim != "time" and bounds.sizes[dim] == 2]
    if not pairs:
        raise ValueError(
            f"time bounds {name!r} have the dims {bounds.dims}; expected (time, 2). Or {_DROP}".format(name=name)
        )
    for dim in set(bounds.dims) - {"time", pairs[-1]}:  # joined over members, or spread over a map by ds.where(mask)
        one = bounds.max(dim, skipna=True, keep_attrs=True)
        if not ((bounds == one) | bounds.isnull()).all():
            raise ValueError(f"time bounds {name!r} differ along {dim!r}: treat its parts one by one.")
        bounds = one
    bounds = _as_dates(bounds.transpose("time", ...), obj["time"])
    return None if (bounds[:, 0].values == bounds[:, 1].values).all() else bounds


def _as_dates(bounds: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    """Bounds as dates; numbers take the units and calendar of the time axis, as CF says."""
    if bounds.dtype.kind not in "iuf":
        return bounds
    own = {**time.encoding, **time.attrs, **bounds.attrs}
    if "units" not in own:
        raise ValueError(f"{bounds.name!r} holds numbers without units: open the file with decode_times=True.")
    dates = decode(bounds.values, own["units"], own.get("calendar"))
    if time.dtype == object and dates.dtype != object:
        raw = xr.Dataset({"b": (bounds.dims, bounds.values, {k: own[k] for k in ("units", "calendar") if k in own})})
        dates = xr.decode_cf(raw, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))["b"].values
    return bounds.copy(data=dates)


def given_steps(time: xr.DataArray, bounds: xr.DataArray | np.ndarray, counting: str | None = None) -> Steps:
    """The steps that bounds (time, 2) name, checked and completed.

    Ends such as 31 January 23:59:59 are taken for the start of the month that they precede; steps that all stop short
    of the next one are completed to it, with a warning.
    """
    values = np.asarray(bounds.values if isinstance(bounds, xr.DataArray) else bounds)
    name = getattr(bounds, "name", None) or "time_bnds"
    if values.shape != (time.size, 2):
        raise ValueError(f"time bounds have the shape {values.shape}; expected (time, 2) = {(time.size, 2)}.")
    values = _filled(time, values, name)
    calendar, own = Calendar.of(values, counting), Calendar.of(np.asarray(time.values), counting)
    if own.family != calendar.family:
        raise ValueError(f"time is in the calendar {own.name!r}, its bounds in {calendar.name!r}: convert one of them.")
    ticks, stamps = calendar.ticks(values), own.ticks(np.asarray(time.values))
    edge = calendar.start(calendar.month(ticks + _MINUTE))
    ticks = np.where(np.abs(ticks - edge) < _MINUTE, edge, ticks)
    low, high = ticks.T
    if (high < low).any():
        raise _empty(int((high < low).argmax()), values)
    order = np.argsort(low, kind="stable")
    start, stop = (x.copy() for x in (low, high))
    start[order], stop[order] = _completed(low[order], high[order], stamps[order], calendar, name)
    if (stop == start).any():
        raise _empty(int((stop == start).argmax()), values)
    _check_overlap(start[order], stop[order], calendar, name)
    _check_stamps(stamps, start, stop, values, time, name)
    return Steps.between(start, stop, calendar)


def _empty(i: int, values: np.ndarray) -> ValueError:
    return ValueError(
        f"time bounds must increase: step {i} runs from {written(values[i, 0])} to {written(values[i, 1])}."
    )


def _filled(time: xr.DataArray, values: np.ndarray, name: str) -> np.ndarray:
    """Bounds that reindexing left empty, from the stamps; an error where these contradict the bounds that are there."""
    if values.dtype.kind == "M":
        lacking = np.isnat(values).any(axis=1)
    else:
        lacking = np.array([any(not hasattr(v, "timetuple") for v in row) for row in values])
    if not lacking.any():
        return values
    guess = as_bounds(time, inferred_steps(time)).values
    if lacking.all() or (guess[~lacking] != values[~lacking]).any():
        raise ValueError(
            f"time bounds {name!r} are missing (NaT) for {int(lacking.sum())} steps, and the stamps do not tell them: "
            f"give them, or {_DROP.format(name=name)}."
        )
    return guess


def _completed(low, high, stamps, calendar: Calendar, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps that all stop short of the next one by a step of their input, up to the next one; others as they are."""
    gaps = low[1:] - high[:-1]
    if low.size > 1 and gaps.min() <= 0:
        return low, high
    width = high - low
    short = int(gaps.min()) if low.size > 1 else 0
    if low.size == 1 or short > 1.15 * width.max():
        slack = 31 * DAY if _run_from_month_to_month(low, high, calendar) else DAY
        start, stop = _to_whole_months(low, high, slack, calendar)
        if slack > DAY and width.max() <= 31 * DAY and (start[1:] > stop[:-1]).any():  # means of the bounds of months
            _check_not_coarser(low, high, stamps, calendar, name)
        if (width >= 27 * DAY).all() and ((stop > high) | (start < low)).all():
            return _told(low, high, start, stop, calendar, name)
        if low.size > 1:
            _check_not_coarser(low, high, stamps, calendar, name)
        return low, high
    months = 27.5 * DAY < short < 31.5 * DAY
    if _are_units(low, high, calendar) or (gaps <= 1.15 * short).mean() < 0.5:
        if not _are_whole_months(low, high, calendar):
            _check_not_coarser(low, high, stamps, calendar, name)
        return low, high
    years = 359 * DAY < short < 366.5 * DAY
    start, stop = _to_whole_months(low, high, 31 * DAY if months else short, calendar, 12 if years else 1)
    if short <= DAY:
        start, stop = _to_whole_days(start, stop, low, high, short, calendar)
    ends = calendar.start(calendar.month(high) + 1) if months else high + short
    stop = np.where(stop > high, stop, ends)
    return _told(low, high, start, stop, calendar, name)


def _to_whole_months(low, high, slack: int, calendar: Calendar, unit: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Edges moved out to the starts of months (or years, of 12) within ``slack``: the input had no step in between."""
    first = calendar.start(calendar.month(low) // unit * unit)
    last = calendar.start((calendar.month(high) // unit + 1) * unit)
    # Sub-daily input may be stamped at its ends: then a month begins one step late.
    late = (low - first < slack) | ((low - first == slack) & (slack < DAY))
    return np.where(late, first, low), np.where(last - high <= slack, last, high)


def _to_whole_days(start, stop, low, high, slack: int, calendar: Calendar) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_to_whole_months` for days, of the edges that are still where they were."""
    month = calendar.start(calendar.month(low))
    first = low - (low - month) % DAY
    last = high + DAY - (high - calendar.start(calendar.month(high))) % DAY
    start = np.where((start == low) & (low - first < slack), first, start)
    return start, np.where((stop == high) & (last - high <= slack), last, stop)


def _run_from_month_to_month(low, high, calendar: Calendar) -> bool:
    """Whether steps run from months to the same place in later ones, as means of months do that were stamped alike.

    That place is their middle or end; steps from start to start are whole months, unless they lack but a December.
    Stamps are of whole or half days; edges at another hour are means of stamps, as coarsen and resample leave them.
    """
    edges = np.stack([low, high])
    if (edges % (DAY // 2)).any():
        return False
    month = calendar.month(edges)
    inside = (calendar.start(month) != edges).all() or (month % 12 == [[0], [11]]).all()
    return bool(inside and (month[0] < month[1]).all() and sit_alike(edges.ravel(), calendar))


def _are_whole_months(low, high, calendar: Calendar) -> bool:
    first, last = calendar.month(low), calendar.month(high)
    return bool((calendar.start(first) == low).all() and (calendar.start(last) == high).all())


def _are_units(low, high, calendar: Calendar) -> bool:
    """Whether every step is one whole day, month or year: what is between them was left out."""
    if _are_whole_months(low, high, calendar):
        first, last = calendar.month(low), calendar.month(high)
        return bool((last - first == 1).all() or ((last - first == 12) & (first % 12 == 0)).all())
    return bool((high - low == DAY).all() and ((low - calendar.start(calendar.month(low))) % DAY == 0).all())


def _check_not_coarser(low, high, stamps, calendar: Calendar, name: str) -> None:
    """Refuse bounds much shorter than the regular steps of their axis: they are those of a finer axis."""
    if _are_whole_months(low, high, calendar):
        return
    spacing, apart = np.diff(stamps), np.diff(calendar.month(stamps))
    usual = np.median(spacing)  # there may be gaps, and steps that the year cut short
    regular = (abs(spacing - usual) <= 0.1 * usual).mean() > 0.5 or np.median(apart) == apart.min() > 0
    if regular and (spacing > 1.15 * (high - low)[:-1]).all():
        raise ValueError(
            f"the time bounds {name!r} cover {(high - low).max() / DAY:g} d of steps that are "
            f"{spacing.min() / DAY:g} d apart, as they do after coarsen or resample: {_DROP.format(name=name)} (each "
            f"value then stands for the whole step), or put back what was left out with asfreq."
        )


def _told(low, high, start, stop, calendar: Calendar, name: str) -> tuple[np.ndarray, np.ndarray]:
    i = int((stop - high).argmax())
    was, now = (_span(pair, calendar) for pair in ((low[i], high[i]), (start[i], stop[i])))
    warn(
        f"the time bounds {name!r} stop short of the next step, as CDO's do, which are the first and last stamp of its "
        f"input: the step {was} is taken for {now}, and so on. Write the bounds that are "
        f"meant into the Dataset to say otherwise."
    )
    return start, stop


def _span(ticks: tuple[int, int], calendar: Calendar) -> str:
    return " to ".join(map(written, calendar.dates(np.array(ticks))))


def _check_overlap(start, stop, calendar: Calendar, name: str) -> None:
    if (start[1:] >= stop[:-1]).all():
        return
    i = int((start[1:] < stop[:-1]).argmax())
    pair = [_span((start[k], stop[k]), calendar) for k in (i, i + 1)]
    raise ValueError(
        f"the time bounds {name!r} overlap: {pair[0]}, and {pair[1]}. A step that is there twice goes with "
        f"drop_duplicates('time'); of running means take every n-th; a climatology of other steps than months or days "
        f"needs the dimension month or dayofyear in place of time; and {_DROP.format(name=name)}."
    )


def _check_stamps(stamps, start, stop, values, time: xr.DataArray, name: str) -> None:
    out = (stamps < start - _MINUTE) | (stamps > stop + _MINUTE)
    if out.any():
        i = int(out.argmax())
        raise ValueError(
            f"the time bounds {name!r} do not hold their stamps: {written(time.values[i])} is not in "
            f"{written(values[i, 0])} to {written(values[i, 1])}, as after resample, interp or a change of "
            f"the axis: {_DROP.format(name=name)}."
        )


def dates_within(ds: xr.Dataset) -> xr.DataArray:
    """A date within every step (time): its stamp, or with CF bounds their middle, since a stamp may be a step's end."""
    bounds = dataset_bounds(ds)
    if bounds is None:
        return ds["time"]
    start, stop = bounds.values.T
    return xr.DataArray(start + (stop - start) / 2, {"time": ds["time"]}, ("time",), name="time")


def time_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Start and end of every time step, dims (time, bnds), in the calendar and dtype of the time axis.

    A Dataset's CF bounds variable wins. Else stamps in consecutive months (or years) are whole months (years), wherever
    in them they sit, with gaps allowed where all stamps sit alike; daily stamps are calendar days, at whatever hour;
    other regular steps run from the stamp; 8-daily composites that restart each 1 January end there.

    Parameters
    ----------
    obj
        With the dim ``time`` (dates).

    Raises
    ------
    ValueError
        A single step, or irregular ones, without bounds; times that do not increase or are not dates.

    Examples
    --------
    >>> da = xr.DataArray([1.0, 1.0], {"time": np.array(["2004-01-16", "2004-02-29"], "M8[ns]")}, "time")
    >>> time_bounds(da).values.astype("M8[D]")
    array([['2004-01-01', '2004-02-01'],
           ['2004-02-01', '2004-03-01']], dtype='datetime64[D]')
    """
    if "time" not in obj.dims or "time" not in obj.coords:
        raise ValueError(f"there is no dimension 'time' with a coordinate; the dimensions are {tuple(obj.dims)}.")
    return as_bounds(obj["time"], known_steps(obj) or inferred_steps(obj["time"], counting_calendar(obj)))


_HOUR = DAY // 24


def inferred_steps(time: xr.DataArray, name: str | None = None) -> Steps:
    """The steps that stamps stand for; see :func:`~xflux.temporal.time_bounds`.

    ``name``: the calendar in which dates of the real one count. Those that it does not have are steps without length.
    """
    values = np.asarray(time.values)
    calendar = Calendar.of(values, name)
    ticks = calendar.ticks(values)
    if (lacking := calendar.lacks(values)).any():
        start, stop, others = ticks.copy(), ticks.copy(), inferred_steps(time[~lacking], name)
        start[~lacking], stop[~lacking] = others.start, others.stop
        return Steps.between(start, stop, calendar)
    if ticks.size == 1:
        raise ValueError(
            f"a single time step ({written(values[0])}) has no length: put it in a Dataset with time_bnds (time, 2)."
        )
    if np.diff(ticks).min() <= 0:
        raise ValueError("time must increase without repeats: use sortby('time') and drop_duplicates('time') first.")
    whole = _whole_months(ticks, calendar)
    if whole:
        first = calendar.month(ticks) // whole * whole
        return Steps.between(calendar.start(first), calendar.start(first + whole), calendar)
    regular = _regular(ticks, calendar)
    if regular is None:
        raise ValueError(
            "the time steps are neither months, years nor regular, so their lengths are unknown: put the data in a "
            "Dataset with time_bnds (time, 2)."
        )
    return Steps.between(*regular, calendar)


def _whole_months(ticks: np.ndarray, calendar: Calendar) -> int | None:
    """1 where stamps name whole months, 12 whole years, None otherwise. Gaps are allowed where stamps sit alike."""
    month, gap = calendar.month(ticks), np.diff(ticks).min()
    apart = np.diff(month)
    if (apart == 1).all() and gap >= 20 * DAY:
        return 1
    if (np.diff(month // 12) == 1).all() and gap >= 300 * DAY:
        return 12
    alike = sit_alike(ticks, calendar)
    if alike and apart.min() == 1 and gap >= 20 * DAY:
        return 1
    return 12 if alike and apart.min() == 12 and not (apart % 12).any() else None


def sit_alike(ticks: np.ndarray, calendar: Calendar) -> bool:
    """Whether times are all at the start, the end or the middle of their months, whose lengths differ by three days."""
    month = calendar.month(ticks)
    since, until = ticks - calendar.start(month), calendar.start(month + 1) - ticks
    return bool(np.ptp(since) < DAY or np.ptp(until) < DAY or np.ptp(since - until) <= 4 * DAY)


def may_be_months(time: xr.DataArray) -> bool:
    """Whether there is one stamp a year, and none where years are stamped.

    These are its first and last day, its middle, and the means of the stamps of its months.
    """
    try:
        steps = inferred_steps(time)
    except ValueError:
        return False
    if steps.days.min() < 300:
        return False
    calendar, ticks = steps.calendar, steps.calendar.ticks(np.asarray(time.values))
    months = calendar.start(calendar.month(steps.start)[:, None] + np.arange(13))
    places = (months[:, 0], DAY), (months[:, -1] - DAY, DAY), ((months[:, 0] + months[:, -1]) // 2, DAY)
    places += (months[:, :-1].mean(axis=1), _HOUR), (months[:, 1:].mean(axis=1) - DAY, _HOUR)
    return not any((np.abs(ticks - place) <= slack).all() for place, slack in places)


def may_be_middles(time: xr.DataArray) -> bool:
    """Whether stamps of an odd number of days are midnights that fit the middle of steps counted from 1 January.

    Weeks begin on any day.
    """
    try:
        steps = inferred_steps(time)
    except ValueError:
        return False
    step, calendar = steps.days[0], steps.calendar
    since = (steps.start[0] - calendar.start(calendar.month(steps.start[:1]) // 12 * 12)[0]) / DAY
    odd = step % 2 == 1 and 1 < step < 28 and step != 7 and np.ptp(steps.days) == 0
    return bool(odd and since > step and since % step == (step - 1) / 2)


def _regular(ticks: np.ndarray, calendar: Calendar) -> tuple[np.ndarray, np.ndarray] | None:
    """Start and stop where stamps are regular, with gaps, or restart each 1 January; None where they are not."""
    if np.diff(ticks).min() >= _HOUR:
        ticks = np.round(ticks / 1e6).astype("int64") * 1_000_000  # decoded fractions of days are a rounding error off
    gaps = np.diff(ticks)
    # 8-daily composites: 1 January cuts the last one of the year short. Its length is no measure of the others: a week
    # that is cut to a day does not make the series a daily one with gaps.
    new_year = calendar.start(calendar.month(ticks) // 12 * 12 + 12)
    hour = (ticks[0] - calendar.start(calendar.month(ticks[:1])))[0] % DAY if not (gaps % DAY).any() else 0
    stop = np.minimum(ticks - hour + gaps.max(), new_year)
    if (stop[:-1] == ticks[1:] - hour).all() and np.ptp(gaps):
        return ticks - hour, stop
    if (composites := _composites(ticks, gaps.max(), calendar)) is not None:
        return composites
    step = gaps.min()
    months_apart = sit_alike(ticks, calendar) and np.diff(calendar.month(ticks)).min() > 1
    if (gaps % step).any() or months_apart or step > 366 * DAY:  # long steps, or months or years with some left out
        return None
    if step == DAY:
        month = calendar.start(calendar.month(ticks))
        ticks = month + (ticks - month) // DAY * DAY
    else:
        ticks = ticks - _past_whole_steps(ticks, step, calendar)
    return ticks, ticks + step


def _past_whole_steps(ticks: np.ndarray, step: int, calendar: Calendar) -> int:
    """How far stamps sit past the starts of their steps, which are whole ones of the day, or begin at midnight.

    Steps of several days are counted from 1 January: stamps in the middle sit half a step past that; the middle of an
    odd number of days is a midnight too, where the first step begins on 1 January (but of weeks, which begin on any
    day). Stamps at another hour than midnight sit where means of finer stamps do: in the middle, or before it.
    """
    since = int(ticks[0] - calendar.start(calendar.month(ticks[:1]) // 12 * 12)[0])
    if step < DAY:
        return since % step if DAY % step == 0 else 0
    hour, past, half = since % DAY, since % step, step // 2
    if step % DAY:  # such steps come of coarsening: the first begins on 1 January if it can
        return since if since <= half else 0
    if past == half:
        return half
    if since == half - DAY // 2 and step != 7 * DAY:
        return since
    if hour and (past < DAY or step // 4 <= past <= half):
        return past
    return hour + (half - hour) // DAY * DAY if hour else 0


def _composites(ticks: np.ndarray, step: int, calendar: Calendar) -> tuple[np.ndarray, np.ndarray] | None:
    """Start and stop of steps of some days that fill whole years from 1 January and are stamped in their middle.

    The day in the middle of eight is taken for the fourth or the fifth; the last of the year may have its own middle.
    """
    if step % DAY or step < 2 * DAY:
        return None
    first = calendar.month(ticks) // 12 * 12
    year, new_year = calendar.start(first), calendar.start(first + 12)
    start = year + (ticks - year) // step * step
    stop = np.minimum(start + step, new_year)
    fill = start[0] == year[0] and stop[-1] == new_year[-1] and (start[1:] == stop[:-1]).all()
    whole = stop - start == step
    past = (ticks - start)[whole]
    slack = DAY if step >= 5 * DAY else 0
    if not fill or not past.size or np.ptp(past) or abs(past[0] - step // 2) > slack:
        return None
    return start, stop
