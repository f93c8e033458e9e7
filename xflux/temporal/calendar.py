"""A calendar as integers, its times in microseconds, its months numbered from year 0; and steps of time in it."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.intervals import pieces

DAY = 86_400_000_000
"""Microseconds of a day."""

MOST_MONTHS, MOST_DAYS = 24, 99
"""The longest steps that are counted: :class:`Calendar` has the months of two more years."""

AXES = ("time", "dayofyear", "month")  # the finest first
"""Dims of steps: a time axis, and the climatologies."""

COMMON_YEAR = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
LEAP_YEAR = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
LEAP_SHARE = 0.2425
MONTH_DAYS = COMMON_YEAR + LEAP_SHARE * (LEAP_YEAR - COMMON_YEAR)
"""Days of the months of the mean Gregorian year, in which climatologies stand: February has 28.2425."""

MEAN_YEAR = 365.2425
"""Days of the mean Gregorian year."""

MEAN_MONTH = MEAN_YEAR / 12
"""Days of its mean month, to which the weights of a bridge refer: 30.436875."""

_MEAN_YEARS = {"noleap": 365.0, "all_leap": 366.0, "360_day": 360.0, "julian": 365.25}
_SAME = {"gregorian": "standard", "proleptic_gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}


def month_lengths(year_length: int = 365) -> np.ndarray:
    """Days of the twelve months of a year of 360, 365 or 366 days."""
    return np.full(12, 30) if year_length == 360 else LEAP_YEAR if year_length == 366 else COMMON_YEAR


def month_of_day(day: np.ndarray, year_length: int = 365) -> np.ndarray:
    """Month (1–12) of days of the year; days after the last are of the last month.

    >>> month_of_day(np.array([1, 60, 366])), month_of_day(60, 366)
    (array([ 1,  3, 12]), array(2))
    """
    ends = np.cumsum(month_lengths(year_length))
    return np.asarray(np.searchsorted(ends, np.minimum(day, year_length), side="left") + 1)


def in_gregorian_years(calendar: str) -> bool:
    """Whether a calendar is the real one, which datetime64 holds."""
    return _SAME.get(calendar, calendar) == "standard"


def mean_year(calendar: str) -> float:
    """Days of the mean year of a calendar, by its CF name."""
    return _MEAN_YEARS.get(_SAME.get(calendar, calendar), MEAN_YEAR)


@dataclass(frozen=True)
class Calendar:
    """Times of one calendar as integer microseconds, and the starts of its months around them."""

    # CF name; datetime64 is "proleptic_gregorian", unless its months are said to count as in another calendar
    name: str
    dtype: np.dtype  # of the times it was made from: datetime64 or object (cftime)
    first_month: int  # number (12 × year + month − 1) of the month that begins at ``starts[0]``
    starts: np.ndarray  # starts of consecutive months in microseconds

    @classmethod
    def of(cls, times: np.ndarray, name: str | None = None) -> "Calendar":
        """The calendar of an array of dates, with a year to spare on either side.

        ``name``: that in which the months of datetime64 count, where it is not the real one.
        """
        flat = np.ravel(times)
        if flat.size == 0:
            raise ValueError("the time axis is empty: there are no steps to measure.")
        if flat.dtype.kind == "M":
            return cls._of_datetime64(flat, name)
        import cftime

        if flat.dtype != object or not all(isinstance(t, cftime.datetime) for t in flat):
            raise ValueError(
                f"the time axis holds {flat.dtype} values, not dates: open the file with decode_times=True, or assign "
                f"dates, e.g. ds.assign_coords(time=xr.date_range('2001-01-01', periods={flat.size}, freq='MS'))."
            )
        names = {t.calendar for t in flat}
        if len(names) > 1 or "" in names:
            raise ValueError(f"the time axis mixes the calendars {sorted(names)}: use convert_calendar on the parts.")
        name, zero = flat[0].calendar, flat[0].has_year_zero
        first, starts = _month_starts(name, min(flat).year - 1, max(flat).year + 2, zero)
        return cls(name, flat.dtype, first, starts)

    @classmethod
    def _of_datetime64(cls, flat: np.ndarray, name: str | None) -> "Calendar":
        if np.isnat(flat).any():
            raise ValueError("the time axis holds missing dates (NaT): drop them first.")
        low, high = (int(t.astype("M8[Y]").astype(int)) + 1970 for t in (flat.min(), flat.max()))
        if name is not None and not in_gregorian_years(name):
            return cls(name, flat.dtype, *_month_starts(name, low - 1, high + 2))
        months = np.arange((low - 1) * 12, (high + 3) * 12)
        return cls("proleptic_gregorian", flat.dtype, int(months[0]), real_start(months))

    @property
    def counts_otherwise(self) -> bool:
        """Whether dates are those of the real calendar while months are as long as in another one."""
        return self.dtype.kind == "M" and not in_gregorian_years(self.name)

    def ticks(self, times: np.ndarray) -> np.ndarray:
        """Dates as microseconds."""
        if not self.counts_otherwise:
            return _microseconds(times, self.name)
        month = times.astype("M8[M]").astype("int64") + 1970 * 12
        return self.start(month) + _microseconds(times, self.name) - real_start(month)

    def lacks(self, times: np.ndarray) -> np.ndarray:
        """Which dates of the real calendar are none in this one; they are the start of the next month to ``ticks``."""
        if not self.counts_otherwise:
            return np.zeros(times.shape, bool)
        return self.ticks(times) >= self.start(times.astype("M8[M]").astype("int64") + 1970 * 12 + 1)

    def dates(self, ticks: np.ndarray) -> np.ndarray:
        """Microseconds as dates of the dtype that the calendar was made from."""
        if self.counts_otherwise:
            month = self.month(ticks)
            ticks = real_start(month) + ticks - self.start(month)
        if self.dtype.kind == "M":
            return ticks.astype("M8[us]").astype(self.dtype)
        import cftime

        return np.asarray(cftime.num2date(ticks, "microseconds since 1970-01-01", self.name))

    def month(self, ticks: np.ndarray) -> np.ndarray:
        """Number of the month that holds each time."""
        return np.searchsorted(self.starts, ticks, side="right") - 1 + self.first_month

    def start(self, month: np.ndarray) -> np.ndarray:
        """Start of each numbered month."""
        return self.starts[np.asarray(month) - self.first_month]

    @property
    def mean_year(self) -> float:
        """Days of the mean year: 365, 366 or 360 where all years are alike, 365.25 in the Julian calendar."""
        return mean_year(self.name)

    @property
    def family(self) -> str:
        """One name for the calendars that agree since 1582."""
        return _SAME.get(self.name, self.name)


def _month_starts(calendar: str, first: int, last: int, zero: bool | None = None) -> tuple[int, np.ndarray]:
    """Number of January of the ``first`` year, and the starts of all months from there to the end of the ``last``."""
    import cftime

    options = {"calendar": calendar} if zero is None else {"calendar": calendar, "has_year_zero": zero}
    years = [y for y in range(first, last + 1) if y != 0 or zero is not False]
    dates = [cftime.datetime(y, m, 1, **options) for y in years for m in range(1, 13)]
    return years[0] * 12, _microseconds(np.array(dates), calendar)


def real_start(month: np.ndarray) -> np.ndarray:
    """Start of numbered months in the real calendar, in microseconds."""
    return (np.asarray(month) - 1970 * 12).astype("M8[M]").astype("M8[us]").astype("int64")


def _microseconds(times: np.ndarray, calendar: str) -> np.ndarray:
    if times.dtype.kind == "M":
        return times.astype("M8[us]").astype("int64")
    import cftime

    numbers = cftime.date2num(times, "microseconds since 1970-01-01", calendar)
    return np.asarray(numbers).astype("int64").reshape(times.shape)


_UNITS = {"month": 1, "year": 12}


@dataclass(frozen=True)
class Steps:
    """The steps of a time axis or a climatology."""

    dim: str  # "time", "month" or "dayofyear"
    days: np.ndarray  # length of every step
    kind: str  # "month" or "year" where every step is exactly one, else "other"
    month_days: np.ndarray  # length of the month in which each step begins
    mean_year: float  # days of the calendar's mean year
    start: np.ndarray | None = None  # in microseconds (a time axis)
    stop: np.ndarray | None = None
    calendar: Calendar | None = None
    labels: np.ndarray | None = None  # month or day of the year (a climatology)

    @classmethod
    def between(cls, start: np.ndarray, stop: np.ndarray, calendar: Calendar) -> "Steps":
        """The steps of a time axis, whose starts and stops are in microseconds."""
        first, last = calendar.month(start), calendar.month(stop)
        whole = (calendar.start(first) == start).all() and (calendar.start(last) == stop).all()
        kinds = {1: "month", 12: "year"}
        kind = kinds.get(int(last[0] - first[0]), "other") if whole and np.ptp(last - first) == 0 else "other"
        month_days = (calendar.start(first + 1) - calendar.start(first)) / DAY
        return cls("time", (stop - start) / DAY, kind, month_days, calendar.mean_year, start, stop, calendar)

    def are(self, period: str) -> bool:
        """Whether the steps are calendar "month"s or "year"s already, each once and in order."""
        position = self.labels if self.calendar is None else self.start
        off = period == "year" and self.calendar is not None and (self.calendar.month(self.start) % 12).any()
        return self.kind == period and not off and bool((np.diff(position) > 0).all())

    def whole_months(self) -> np.ndarray | None:
        """How many months every step lasts; None where they are not whole, or too many."""
        first, last = self.calendar.month(self.start), self.calendar.month(self.stop)
        edges = (self.calendar.start(first) == self.start) & (self.calendar.start(last) == self.stop)
        return last - first if edges.all() and (last - first).max() <= MOST_MONTHS else None

    def whole_days(self) -> np.ndarray | None:
        """How many days every step lasts from midnight; None where they are not whole, or too many."""
        days = self.stop - self.start
        rest = np.stack([days, self.start - self.calendar.start(self.calendar.month(self.start))]) % DAY
        return None if rest.any() or days.max() > MOST_DAYS * DAY else days // DAY

    def split(self, period: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(step, period, days) of every piece of a step in a "month" or "year", sorted by period."""
        if self.calendar is None:
            return self._split_climatology(period)
        unit = _UNITS[period]
        edges = self.calendar.starts[::unit]
        step, at, start, stop = pieces(self.start, self.stop, edges[:-1], edges[1:])
        order = np.argsort(at, kind="stable")
        return step[order], self.calendar.first_month // unit + at[order], ((stop - start) / DAY)[order]

    def _split_climatology(self, period: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        index = np.arange(self.days.size)
        if period == "year":
            return index, np.zeros_like(index), self.days
        if self.dim == "dayofyear":
            return days_in_months(self.labels)
        order = np.argsort(self.labels, kind="stable")
        return index[order], self.labels[order], self.days[order]

    def periods(self, labels: np.ndarray, period: str) -> tuple[xr.DataArray | None, np.ndarray]:
        """Coordinate of the periods (None for the one year of a climatology) and their full lengths in days."""
        if self.calendar is None:
            if period == "year":
                return None, np.array([MEAN_YEAR])
            return xr.DataArray(labels, dims="month", name="month"), MONTH_DAYS[labels - 1]
        unit = _UNITS[period]
        start, stop = self.calendar.start(labels * unit), self.calendar.start((labels + 1) * unit)
        return xr.DataArray(self.calendar.dates(start), dims="time", name="time"), (stop - start) / DAY

    def of_periods(self, labels: np.ndarray, period: str) -> "Steps":
        """The steps of whole months or years."""
        if self.calendar is None:
            return self
        starts = [self.calendar.start((labels + i) * _UNITS[period]) for i in (0, 1)]
        return Steps.between(*starts, self.calendar)

    def covered(self, period: str) -> np.ndarray:
        """Which periods the axis covers from end to end."""
        _, label, days = self.split(period)
        labels, group = np.unique(label, return_inverse=True)
        return np.bincount(group, days) >= self.periods(labels, period)[1] - 1e-6


def days_in_months(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(position, month, days) of the days of the mean Gregorian year.

    Day d lies in one month in common years and, after February, one day earlier in leap years; 366 exists in leap years
    only, and where the climatology stops at 365, that day stands in for it. So February has 28.2425 days.
    """
    common, leap = np.repeat(np.arange(1, 13), COMMON_YEAR), np.repeat(np.arange(1, 13), LEAP_YEAR)
    shares = [(i, common[d - 1], 1 - LEAP_SHARE) for i, d in enumerate(labels) if d <= 365]
    shares += [(i, leap[d - 1], LEAP_SHARE) for i, d in enumerate(labels)]
    shares += [(i, 12, LEAP_SHARE) for i, d in enumerate(labels) if d == 365 and 366 not in labels]
    position, month, days = (np.array(column) for column in zip(*shares, strict=True))
    order = np.lexsort((position, month))
    return position[order], month[order], days[order]


def climatology(obj: xr.DataArray | xr.Dataset, dim: str) -> Steps:
    """The steps of the mean Gregorian year along ``month`` or ``dayofyear``."""
    size, allowed = obj.sizes[dim], {"month": (12,), "dayofyear": (365, 366)}[dim]
    if dim in obj.coords:
        labels = np.asarray(obj[dim].values)
    elif size in allowed:
        labels = np.arange(1, size + 1)
    else:
        raise ValueError(f"dimension {dim!r} of size {size} has no coordinate: assign the numbers 1..{allowed[-1]}.")
    known = labels.dtype.kind in "iuf" and np.isin(labels, np.arange(1, allowed[-1] + 1)).all()
    if size == 0 or not known or np.unique(labels).size != size:
        raise ValueError(f"coordinate {dim!r} must hold distinct numbers in 1..{allowed[-1]}, not {labels[:14]}.")
    labels = labels.astype(int)
    if dim == "month":
        days = MONTH_DAYS[labels - 1]
        return Steps(dim, days, "month", days, MEAN_YEAR, labels=labels)
    last = np.where((labels == 365) & (366 not in labels), 1 + LEAP_SHARE, 1.0)
    days = np.where(labels == 366, LEAP_SHARE, last)
    months = np.repeat(np.arange(12), LEAP_YEAR)[labels - 1]
    return Steps(dim, days, "other", MONTH_DAYS[months], MEAN_YEAR, labels=labels)
