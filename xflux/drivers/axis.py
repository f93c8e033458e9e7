"""The time axis of a driver: its name, and the length of its steps in days."""

import numpy as np
import xarray as xr

from xflux.align import axis_of
from xflux.temporal import step_days, time_bounds
from xflux.temporal.calendar import COMMON_YEAR, DAY, Calendar
from xflux.temporal.dates import as_dates

# a coordinate over time: how many days a step lasts, where bounds say it
STEP_LENGTH = "step_length"


def whole_days(da: xr.DataArray) -> np.ndarray:
    """Days of every step, as integers ≥ 1 (sub-daily steps are refused).

    A Dataset's bounds ride as the coordinate ``step_length`` (``with_steps``); else the stamps tell, as
    ``temporal.time_bounds`` reads them. Stamps on the same days of every month (dekads, half months) last to the next.
    """
    axis = axis_of(da)
    if axis == "month":
        return COMMON_YEAR[month_numbers(da["month"].values) - 1]
    if axis == "dayofyear":
        return np.ones(da.sizes["dayofyear"], int)
    try:
        days = np.asarray(da[STEP_LENGTH].values if STEP_LENGTH in da.coords else step_days(da).values, float)
    except ValueError:
        if axis is None or (parts := _parts_of_months(da["time"])) is None:
            raise
        days = parts
    if days.min() < 0.99:
        raise ValueError(f"{da.name!r} has steps of {days.min() * 24:.1f} h: average it to days first")
    return np.rint(days).astype(int)


def month_numbers(values) -> np.ndarray:
    """Months as integers 1–12; months counted from 0 are refused."""
    number = np.asarray(values, int)
    if number.size and not (1 <= number.min() and number.max() <= 12):
        raise ValueError(f"months are 1 to 12, got {number.min()} to {number.max()}: renumber the coordinate 'month'")
    return number


def with_step_days(ds: xr.Dataset) -> xr.Dataset:
    """A Dataset whose time bounds ride along with its variables; stamps on another day than the start move there."""
    if "time" not in ds.dims or (
        ds["time"].attrs.get("bounds") not in ds.variables and "time_bnds" not in ds.variables
    ):
        return ds
    bounds = time_bounds(ds)
    length = np.diff(Calendar.of(bounds.values).ticks(bounds.values))[:, 0] / DAY
    ds = ds.drop_vars([n for n in (ds["time"].attrs.get("bounds"), "time_bnds") if n in ds.variables])
    if (day_numbers(ds["time"]) != day_numbers(bounds[:, 0])).any():
        ds = ds.assign_coords(time=bounds.values[:, 0])
    return ds.assign_coords({STEP_LENGTH: ("time", length)})


def are_months(da: xr.DataArray) -> bool:
    """Whether the steps of ``time`` are calendar months; composites of 30 days are not."""
    return "time" in da.dims and bool((whole_days(da) == da["time"].dt.days_in_month.values).all())


def day_numbers(time: xr.DataArray) -> np.ndarray:
    """Whole days since 1970-01-01 in the calendar of the stamps, which may sit at any hour."""
    return (Calendar.of(time.values).ticks(time.values) + DAY // 10**6) // DAY


def first_days(da: xr.DataArray) -> np.ndarray:
    """Day number on which each step of ``time`` begins; a month may be stamped in its middle or at its end."""
    if STEP_LENGTH in da.coords:
        return day_numbers(da["time"])
    try:
        return day_numbers(time_bounds(da["time"])[:, 0])
    except ValueError:  # parts of months, stamped at their start
        return day_numbers(da["time"])


def days_like(numbers: np.ndarray, time: xr.DataArray) -> np.ndarray:
    """Dates of day numbers, in the calendar of ``time``."""
    return as_dates(Calendar.of(time.values).dates(numbers * DAY))


def _parts_of_months(time: xr.DataArray) -> np.ndarray | None:
    """Lengths of steps that start on the same days of every month (1, 11, 21; 1, 16); None where they do not."""
    day = time.dt.day.values
    starts = np.unique(day)
    if not 2 <= len(starts) <= 6 or starts[0] != 1 or np.diff(starts).max() > 16 or np.diff(starts).min() < 2:
        return None
    ends = np.append(starts[1:], 0)[np.searchsorted(starts, day)]
    return np.where(ends > 0, ends, time.dt.days_in_month.values + 1) - day
