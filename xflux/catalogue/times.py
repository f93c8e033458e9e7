"""Time as published: decode the stamps of a file, and say which stretch of time each value belongs to.

Every step comes out as ``time`` (its start) and ``time_bnds`` (start, end), whatever the file's stamps are: a month's
first day, its middle, a short count, or a file name. Products then align with each other by time.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.catalogue.table import Product, ProductError
from xflux.temporal import dates
from xflux.temporal.calendar import DAY, Calendar


def decoded_stamps(values: np.ndarray, units: str, calendar: str, where: str) -> xr.DataArray:
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
    days = float(np.median(np.diff(np.sort(Calendar.of(time.values).ticks(time.values))))) / DAY
    for step, low, high in (("month", 27, 32), ("year", 359, 367), ("8day", 7.5, 8.5), ("day", 0.99, 1.01)):
        if low <= days <= high:
            return step
    hours = round(days * 24)
    return f"{hours}h" if days < 1 and hours and 24 % hours == 0 else ""


def step_bounds(time: xr.DataArray, step: str, stamp: str = "inside") -> np.ndarray:
    """(time, 2) array of the start and end of each step; ``stamp='end'`` means stamps at the end of their step.

    Stamps are moved by half a second into their step: decoded counts may be a rounding error early.
    """
    if not time.size:
        return np.empty((0, 2), time.dtype)
    calendar = Calendar.of(time.values)
    at = calendar.ticks(time.values) + (-500_000 if stamp == "end" else 500_000)
    year = calendar.month(at) // 12 * 12
    if step in ("month", "year"):
        first, count = (calendar.month(at), 1) if step == "month" else (year, 12)
        start, end = calendar.start(first), calendar.start(first + count)
    else:
        origin = calendar.start(year) if step == "8day" else at // DAY * DAY
        length = round(_typical_days(step) * DAY)
        start = origin + (at - origin) // length * length
        end = np.minimum(start + length, calendar.start(year + 12)) if step == "8day" else start + length
    return dates.as_dates(calendar.dates(np.stack([start, end], axis=1)))


def from_filename_year(path: str | Path, product: Product) -> int:
    """The year in a file's name."""
    found = re.search(r"(?<!\d)((?:19|20)\d{2})(?!\d)", Path(path).name)
    if not found:
        raise ProductError(f"{product.name}: no year in the file name {Path(path).name!r}; expected {product.files}")
    return int(found[1])
