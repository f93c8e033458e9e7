"""Time as published: decode the stamps of a file, and say which stretch of time each value belongs to.

Every step comes out as ``time`` (its start) and ``time_bnds`` (start, end), whatever the file's stamps are: a month's
first day, its middle, a short count, or a file name. Products then align with each other by time.
"""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.temporal import dates

from .table import Product, ProductError

_DAY = np.timedelta64(1, "D")


def decode(values: np.ndarray, units: str, calendar: str, where: str) -> xr.DataArray:
    """Dates of numeric stamps, see :func:`xflux.temporal.dates.decode`."""
    try:
        return as_index(dates.decode(values, units, calendar))
    except ValueError as err:
        raise ProductError(f"{where}: {err}") from err


def as_index(stamps: Sequence) -> xr.DataArray:
    return xr.DataArray(dates.as_dates(np.asarray(stamps)), dims="time", name="time")


def from_months(first: str, count: int) -> xr.DataArray:
    """``count`` month starts from ``first`` ('YYYY-MM')."""
    return as_index(pd.date_range(first, periods=count, freq="MS").values)


def from_rows(rows: np.ndarray) -> xr.DataArray:
    """Dates from rows of (year, month, day)."""
    return as_index([dates.date(int(y), int(m), int(d), "standard") for y, m, d in np.asarray(rows)])


def from_filename(path: str | Path, product: Product) -> xr.DataArray:
    """The one month that a file holds, read from its name."""
    name = Path(path).name
    for pattern in (*product.time_pattern, r"(?<!\d)(?P<year>(?:19|20)\d{2})[-_]?(?P<month>0[1-9]|1[0-2])(?!\d)"):
        found = re.search(pattern, name)
        if found:
            return as_index([dates.date(int(found["year"]), int(found["month"]), 1, "standard")])
    raise ProductError(
        f"{product.name}: {name!r} has no time axis and no year and month in its name; "
        f"expected a name like {', '.join(product.files) or 'x_YYYYMM.nc'}"
    )


def find_step(time: xr.DataArray, product: Product, hints: str) -> str:
    """Length of the steps: 'month', 'year', 'day', '8day', '<n>h' or '' (unknown).

    A word in the file's name decides (two Januaries are months in a file called monthly), unless stamps are closer.
    """
    inferred = _infer_step(time)
    named = next((s for pattern, s in product.steps.items() if re.search(pattern, hints, re.I)), "")
    if named and (not inferred or _typical_days(named) <= _typical_days(inferred)):
        return named
    if inferred or time.size > 1 or product.step == "none":
        return inferred
    return product.step


def _typical_days(step: str) -> float:
    return {"month": 30.0, "year": 365.0, "8day": 8.0, "day": 1.0}.get(step) or float(step[:-1]) / 24


def _infer_step(time: xr.DataArray) -> str:
    if time.size < 2:
        return ""
    gaps = np.diff(np.sort(time.values))
    days = float(np.median([_days(g) for g in gaps]))
    for step, low, high in (("month", 27, 32), ("year", 359, 367), ("8day", 7.5, 8.5), ("day", 0.99, 1.01)):
        if low <= days <= high:
            return step
    hours = round(days * 24)
    return f"{hours}h" if days < 1 and hours and 24 % hours == 0 else ""


def _days(gap) -> float:
    return gap / _DAY if isinstance(gap, np.timedelta64) else gap.total_seconds() / 86400


def step_bounds(time: xr.DataArray, step: str, stamp: str = "inside") -> np.ndarray:
    """(time, 2) array of the start and end of each step; ``stamp='end'`` means stamps at the end of their step.

    Stamps are moved by half a second into their step: decoded counts may be a rounding error early.
    """
    values = time.values
    shift = datetime.timedelta(seconds=-0.5 if stamp == "end" else 0.5)
    if np.issubdtype(values.dtype, np.datetime64):
        starts, ends = _datetime_steps(values + np.timedelta64(shift), step)
        return dates.as_dates(np.stack([starts, ends], axis=1).astype("datetime64[us]"))
    return np.array([_cftime_step(t + shift, step) for t in values], dtype=object).reshape(-1, 2)


def _datetime_steps(values: np.ndarray, step: str) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the steps that hold the stamps, in the real calendar."""
    day, year = values.astype("datetime64[D]"), values.astype("datetime64[Y]")
    if step in ("month", "year"):
        start = values.astype("datetime64[M]") if step == "month" else year
        return start.astype("datetime64[D]"), (start + 1).astype("datetime64[D]")
    if step == "8day":
        first = year.astype("datetime64[D]")
        start = first + (day - first) // 8 * 8
        return start, np.minimum(start + 8, (year + 1).astype("datetime64[D]"))
    seconds = 3600 * (24 if step == "day" else int(step[:-1]))
    start = day.astype("datetime64[s]") + (values - day).astype("timedelta64[s]").astype(int) // seconds * seconds
    return start, start + np.timedelta64(seconds, "s")


def _cftime_step(stamp, step: str) -> tuple:
    """Start and end of the step that holds one stamp, in the stamp's own calendar."""
    midnight = stamp.replace(hour=0, minute=0, second=0, microsecond=0)
    if step == "month":
        start = midnight.replace(day=1)
        carry, month = divmod(start.month, 12)
        return start, start.replace(year=start.year + carry, month=month + 1)
    first = midnight.replace(month=1, day=1)
    if step == "year":
        return first, first.replace(year=first.year + 1)
    if step == "8day":
        start = first + datetime.timedelta(days=8 * ((midnight - first).days // 8))
        return start, min(start + datetime.timedelta(days=8), first.replace(year=first.year + 1))
    length = datetime.timedelta(hours=24 if step == "day" else int(step[:-1]))
    start = midnight + length * ((stamp - midnight) // length)
    return start, start + length


def from_filename_year(path: str | Path, product: Product) -> int:
    """The year in a file's name."""
    found = re.search(r"(?<!\d)((?:19|20)\d{2})(?!\d)", Path(path).name)
    if not found:
        raise ProductError(f"{product.name}: no year in the file name {Path(path).name!r}; expected {product.files}")
    return int(found[1])
