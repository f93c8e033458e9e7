"""Which step of a gridded driver a tower's sample falls in."""

import numpy as np
import pandas as pd
import xarray as xr

from xflux import align
from xflux.temporal import time_bounds
from xflux.temporal.calendar import COMMON_YEAR, DAY, Calendar
from xflux.temporal.dates import date


def match_times(series: xr.DataArray, axis: str, grid: xr.Dataset, towers: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Values by (step, site), and for every sample the index of its step (−1: outside).

    ``axis`` is time, month or dayofyear. Towers with monthly steps take the mean of the grid's month.
    """
    when, monthly = pd.DatetimeIndex(towers["time"].values), by_months(towers)
    if axis == "dayofyear" and monthly:
        series, axis = align.by_month(series).transpose("month", "site"), "month"
    if axis != "time":
        own = pd.Index(align.labels(series.to_dataset(name="driver"), axis).values)
        wanted = when.month if axis == "month" else when.day_of_year
        wanted = np.minimum(wanted, own.max()) if own.max() in (360, 365) else wanted
        return series.values, own.get_indexer(wanted)
    if monthly:
        series = series.astype("float64").assign_coords(time=_middles(series["time"], grid)).resample(time="MS").mean()
        keys = pd.Index(series["time"].dt.year.values * 12 + series["time"].dt.month.values)
        return series.transpose("time", "site").values, keys.get_indexer(when.year * 12 + when.month)
    step = _step_of_day(series["time"], grid, when)
    if not (step >= 0).any():
        first, last = (str(series["time"].values[i])[:10] for i in (0, -1))
        raise ValueError(
            f"the towers ({when.min():%Y-%m-%d} to {when.max():%Y-%m-%d}) and the grid's driver {series.name!r} "
            f"({first} to {last}) have no day in common: use a climatology or another period"
        )
    return series.values, step


def by_months(towers: xr.Dataset) -> bool:
    """Whether samples are months: as ``time_step`` says, else where there are several stamps, all on the 1st."""
    if "time_step" in towers.attrs:
        return towers.attrs["time_step"] == "month"
    when = pd.DatetimeIndex(towers["time"].values)
    return len(when.unique()) > 1 and bool(when.is_month_start.all())


def in_real_days(grid: xr.Dataset) -> xr.Dataset:
    """A grid in another calendar on the days of the real one, as `match_times` meets them; its months stay months."""
    if "time" not in grid.dims or Calendar.of(grid["time"].values).dtype.kind == "M":
        return grid
    time, bounds = grid["time"], time_bounds(grid)
    start, end = ([f"{t.year:04d}-{t.month:02d}-{t.day:02d}" for t in bounds.values[:, i]] for i in (0, 1))
    plain = grid.drop_vars([n for n in (time.attrs.get("bounds"), "time_bnds") if n in grid.variables])
    if (time.dt.days_in_month == (bounds[:, 1] - bounds[:, 0]).dt.days).all():
        return plain.assign_coords(time=pd.DatetimeIndex(start))
    days = pd.date_range(start[0], end[-1], inclusive="left")
    return plain.isel(time=_step_of_day(time, grid, days)).assign_coords(time=days)


def _step_of_day(time: xr.DataArray, grid: xr.Dataset, when: pd.DatetimeIndex) -> np.ndarray:
    """Index of the step [start, end) that holds noon of each day."""
    start, end = _bounds_in_days(time, grid)
    noon = _days(when, time) + 0.5
    order = np.argsort(start)
    at = np.searchsorted(start[order], noon, side="right") - 1
    index = order[at.clip(min=0)]
    return np.where((at >= 0) & (noon < end[index]), index, -1)


def _middles(time: xr.DataArray, grid: xr.Dataset) -> np.ndarray:
    """The middle of every step, by its bounds: a month may be stamped at its end."""
    try:
        bounds = time_bounds(grid if "time" in grid.dims else time).values
    except ValueError:  # steps of unknown length go by their stamps
        return time.values
    return bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) / 2


def _bounds_in_days(time: xr.DataArray, grid: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every step in days, in the grid's own calendar."""
    bounds = time_bounds(grid if "time" in grid.dims else time).values
    edges = Calendar.of(bounds).ticks(bounds).T / DAY
    # stamps within the day (12 h) of daily steps stand for the whole day
    daily = np.isclose(edges[1] - edges[0], 1.0)
    edges = np.where(daily, np.floor(edges[0]) + np.array([[0.0], [1.0]]), edges)
    return edges[0], edges[1]


def _days(when: pd.DatetimeIndex, time: xr.DataArray) -> np.ndarray:
    """The towers' days on the grid's axis of days.

    In a calendar without leap days 29 February takes 28 February; in one of 360 days, the 31st takes the 30th.
    """
    calendar = Calendar.of(time.values)
    if calendar.dtype.kind == "M":
        return calendar.ticks(when.normalize().values) // DAY
    longest = {365.0: COMMON_YEAR, 360.0: np.full(12, 30)}.get(calendar.mean_year, np.full(12, 31))
    day = np.minimum(when.day, longest[when.month - 1])
    days = [date(y, m, d, calendar.name) for y, m, d in zip(when.year, when.month, day, strict=True)]
    return calendar.ticks(np.array(days)) // DAY
