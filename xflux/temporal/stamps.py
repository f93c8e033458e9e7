"""Where every time step begins and ends where only its stamps tell."""

import numpy as np
import xarray as xr

from xflux.temporal.calendar import DAY, Calendar
from xflux.temporal.dates import written

_HOUR = DAY // 24


def inferred_steps(time: xr.DataArray, name: str | None = None) -> tuple[np.ndarray, np.ndarray, Calendar]:
    """Start and stop in microseconds of the steps that stamps stand for; see :func:`~xflux.temporal.time_bounds`.

    ``name``: the calendar in which dates of the real one count. Those that it does not have are steps without length.
    """
    values = np.asarray(time.values)
    calendar = Calendar.of(values, name)
    ticks = calendar.ticks(values)
    if (lacking := calendar.lacks(values)).any():
        start, stop = ticks.copy(), ticks.copy()
        start[~lacking], stop[~lacking], _ = inferred_steps(time[~lacking], name)
        return start, stop, calendar
    if ticks.size == 1:
        raise ValueError(
            f"a single time step ({written(values[0])}) has no length: put it in a Dataset with time_bnds (time, 2)."
        )
    if np.diff(ticks).min() <= 0:
        raise ValueError("time must increase without repeats: use sortby('time') and drop_duplicates('time') first.")
    whole = _whole_months(ticks, calendar)
    if whole:
        first = calendar.month(ticks) // whole * whole
        return calendar.start(first), calendar.start(first + whole), calendar
    regular = _regular(ticks, calendar)
    if regular is None:
        raise ValueError(
            "the time steps are neither months, years nor regular, so their lengths are unknown: put the data in a "
            "Dataset with time_bnds (time, 2)."
        )
    return *regular, calendar


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
        start, stop, calendar = inferred_steps(time)
    except ValueError:
        return False
    if (stop - start).min() < 300 * DAY:
        return False
    ticks, months = (
        calendar.ticks(np.asarray(time.values)),
        calendar.start(calendar.month(start)[:, None] + np.arange(13)),
    )
    places = (months[:, 0], DAY), (months[:, -1] - DAY, DAY), ((months[:, 0] + months[:, -1]) // 2, DAY)
    places += (months[:, :-1].mean(axis=1), _HOUR), (months[:, 1:].mean(axis=1) - DAY, _HOUR)
    return not any((np.abs(ticks - place) <= slack).all() for place, slack in places)


def may_be_middles(time: xr.DataArray) -> bool:
    """Whether stamps of an odd number of days are midnights that fit the middle of steps counted from 1 January.

    Weeks begin on any day.
    """
    try:
        start, stop, calendar = inferred_steps(time)
    except ValueError:
        return False
    step = int((stop - start).max())
    since = start[0] - calendar.start(calendar.month(start[:1]) // 12 * 12)[0]
    odd = step % (2 * DAY) == DAY and DAY < step < 28 * DAY and step != 7 * DAY and (stop - start).min() == step
    return bool(odd and since > step and since % step == step // 2 - DAY // 2)


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
