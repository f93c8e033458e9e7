"""Stamps as files have them, as dates: "days since", "months since 1661-01-01", "day as %Y%m%d.%f", 200101, text."""

import re
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr

from xflux.temporal.calendar import in_gregorian_years, mean_year

_MONTHS_SINCE = re.compile(r"^\s*(month|year)s?\s+since\s+(\d{1,4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", re.I)
_ABSOLUTE = re.compile(r"^\s*(day|month|year)s?\s+as\s+%Y", re.I)
_DIGITS = {"year": 1, "month": 100, "day": 10_000}


def decode(values: Any, units: str, calendar: str | None = None) -> np.ndarray:
    """Dates of numbers in a unit of CF, of "months" or "years since" a date, or of CDO's absolute time.

    Months and years since a date are those of the calendar (udunits would take 30.44 and 365.24 days), a fraction of
    one lies within it. Dates are datetime64 in the real calendar (in microseconds outside 1678 to 2262), else cftime.

    Raises ValueError: units that are none of these; numbers too coarse for their units; several steps in a month of
    "years since".

    >>> decode([0, 1.5], "months since 1661-01-01").astype("M8[D]")
    array(['1661-01-01', '1661-02-15'], dtype='datetime64[D]')
    """
    values, calendar = np.asarray(values), calendar or "standard"
    if months := _MONTHS_SINCE.match(units):
        return _months_since(values, months, calendar)
    if absolute := _ABSOLUTE.match(units):
        return _absolute(values, absolute[1].lower(), calendar)
    raw = xr.Dataset({"t": (tuple("abc"[: values.ndim]), values, {"units": units, "calendar": calendar})})
    try:
        dates = xr.decode_cf(raw, decode_times=True)["t"].values
    except Exception as error:
        raise ValueError(f"time in {units!r} (calendar {calendar!r}) cannot be decoded: {error}; {remedy()}") from error
    if dates.dtype.kind not in "MO":
        raise ValueError(f"time in {units!r} cannot be decoded: expected '<unit> since <date>'; {remedy()}")
    return dates


def remedy() -> str:
    """What to do with an axis that cannot be read, ready to be pasted."""
    return "assign dates, e.g. ds.assign_coords(time=xr.date_range('2001-01-01', periods=ds.sizes['time'], freq='MS'))."


def date(year: int, month: int, day: int, calendar: str):
    """One date: datetime64[us] in the real calendar, else cftime."""
    if in_gregorian_years(calendar):
        return np.datetime64(f"{year:04d}-{month:02d}-{day:02d}", "us")
    import cftime

    return cftime.datetime(year, month, day, calendar=calendar)


def is_date(coord: xr.DataArray) -> bool:
    """Whether a coordinate holds dates, of NumPy or cftime."""
    return coord.dtype.kind == "M" or (
        coord.dtype == object and coord.size > 0 and hasattr(coord.values.flat[0], "timetuple")
    )


def written(time: Any) -> str:
    """A date as people write it, with the hour where it is not midnight.

    >>> written(np.datetime64("2001-01-01T00:00:00.000000000")), written(np.datetime64("2001-01-01T12:30:00", "ns"))
    ('2001-01-01', '2001-01-01 12:30')
    """
    return str(time)[:19].replace("T", " ").removesuffix(":00").removesuffix(" 00:00")


def as_dates(values: Any) -> np.ndarray:
    """datetime64 in nanoseconds where they can hold it, as xarray has it; cftime as it is."""
    dates = np.asarray(values)
    if dates.dtype.kind != "M" or dates.dtype == "M8[ns]" or dates.size == 0:
        return dates
    years = dates.astype("M8[Y]").astype(int) + 1970
    return dates.astype("M8[ns]" if years.min() > 1677 and years.max() < 2262 else "M8[us]")


def _months_since(values: np.ndarray, since: re.Match, calendar: str) -> np.ndarray:
    """Calendar months after the reference; numbers in single precision are a rounding error off."""
    scale = 12 if since[1].lower() == "year" else 1
    months = values.astype(float) * scale
    off = scale * np.spacing(np.abs(values).max()) if values.dtype.kind == "f" and values.size else 0.0
    if off > 0.2:
        raise ValueError(f"time in {since[0]!r} is too coarse in {values.dtype} to tell months; {remedy()}")
    off = max(1e-6, 2 * float(off))
    count = np.floor(months + off).astype(int)
    part = np.clip(months - count, 0, None)
    first = 12 * int(since[2]) + max(int(since[3] or 1), 1) - 1 + count.ravel()  # 0000-00-00 is a year 0
    if first.size > 1 and values.ndim == 1 and (np.diff(first) == 0).any():
        raise ValueError(f"time in {since[0]!r} has several steps in a month, whose dates it cannot tell; {remedy()}")
    day = min(max(int(since[4] or 1), 1), 28)
    within = np.where(part < off, 0, part).ravel()
    dates = [_in_month(n, day, f, calendar) for n, f in zip(first, within, strict=True)]
    return as_dates(dates).reshape(months.shape)


def _in_month(number: int, day: int, fraction: float, calendar: str):
    """A day of the numbered month, or where there is a fraction the date that far into it."""
    if not fraction:
        return date(number // 12, number % 12 + 1, day, calendar)
    start, stop = (date(n // 12, n % 12 + 1, 1, calendar) for n in (number, number + 1))
    return start + (stop - start) * fraction


def _absolute(values: np.ndarray, unit: str, calendar: str) -> np.ndarray:
    """20010131.5 is noon of 31 January 2001; of months and years, the fraction is one of their length."""
    if values.dtype.kind == "f" and np.spacing(np.abs(values).max()) > 0.1:
        raise ValueError(f"absolute time ('{unit} as %Y…') is too coarse in {values.dtype}; {remedy()}")
    whole = np.floor(values.astype(float) + 1e-6).astype(int)
    part, dates = np.clip(values - whole, 0, None), []
    for number, fraction in zip(whole.ravel(), part.ravel(), strict=True):
        year, rest = divmod(int(number), _DIGITS[unit])
        month, day = (rest or 1, 1) if unit == "month" else divmod(rest or 101, 100)
        length = {"day": 1.0, "month": mean_year(calendar) / 12, "year": mean_year(calendar)}[unit] * float(fraction)
        seconds = round(length * 86400)
        start = date(year, month, day, calendar)
        later = np.timedelta64(seconds, "s") if isinstance(start, np.datetime64) else timedelta(seconds=seconds)
        dates.append(start + later)
    return as_dates(dates).reshape(values.shape)


def from_plain(values: np.ndarray) -> np.ndarray | None:
    """Dates of text, of years (2001), months (200101) or days (20010131) without units; None where they are none."""
    if values.dtype.kind in "UTO" and values.size and all(isinstance(v, str) for v in values.flat):
        try:
            return as_dates(np.array([np.datetime64(v.strip().removesuffix("Z")) for v in values], "M8[us]"))
        except ValueError:
            return None
    if values.dtype.kind not in "iuf" or not values.size or (values != np.round(values)).any():
        return None
    if values.size > 1 and np.diff(values).min() <= 0:
        return None
    for unit, low, high in (("year", 1500, 2500), ("month", 150001, 250012), ("day", 15000101, 25001231)):
        if low <= values.min() and values.max() <= high:
            try:
                return _absolute(values.astype(int), unit, "standard")
            except ValueError:  # no month 13, no 31 February
                return None
    return None
