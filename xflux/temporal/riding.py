"""Steps that ride along a time axis as coordinates, so that results need no bounds."""

import numpy as np
import xarray as xr

from xflux.temporal.calendar import Calendar, in_gregorian_years
from xflux.temporal.dates import as_dates

EDGES = ("step_start", "step_stop")
"""Coordinates over time that carry the steps of a DataArray, which cannot have bounds, where its stamps do not tell."""

STEP_MONTHS = "step_months"
"""Coordinate over time: how many whole months each step lasts that begins at its stamp, the start of a month.

An integer, so that it is no longer one where xarray averages, interpolates or fills it; resampling drops it. Integrals
of regions have dates of the real calendar whatever the data's, so that they join: a hundred times the place of the
data's in ``CALENDARS`` is added, which says how long its months are. Joined with others they are no longer along time
alone, and the months are those of the real calendar.
"""

CALENDARS = ("standard", "noleap", "360_day", "all_leap", "julian")
_HUNDRED = 100

MOST_MONTHS = 24
"""The longest steps that are counted in months: :class:`Calendar` has the months of two more years."""

RIDING = (*EDGES, STEP_MONTHS)

STAMP = "start of the step"
"""``time.attrs["stamp"]`` of what xflux returns, whose steps begin at their stamps."""


def ridden_edges(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """Bounds (time, 2) that ride along as coordinates; None where there are none."""
    if not all(name in obj.coords and obj[name].dims == ("time",) for name in EDGES):
        return None
    pair = [obj[name].values for name in EDGES]
    return xr.DataArray(np.stack(pair, axis=1), {"time": obj["time"]}, ("time", "bnds"), name="time_bnds")


def ridden_months(obj: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray, Calendar] | None:
    """Start and stop in microseconds of whole months that ride along; None where there are none, or stale ones."""
    if STEP_MONTHS not in obj.coords or obj[STEP_MONTHS].dims != ("time",) or obj[STEP_MONTHS].dtype.kind not in "iu":
        return None
    which, months = np.divmod(obj[STEP_MONTHS].values, _HUNDRED)
    if not months.size or months.min() < 1 or months.max() > MOST_MONTHS:
        return None
    if np.ptp(which) or not 0 <= which[0] < len(CALENDARS):  # joined along time: dates alone count
        which = np.zeros_like(which)
    stamps = np.asarray(obj["time"].values)
    try:
        calendar = Calendar.of(stamps, CALENDARS[which[0]])
    except ValueError:
        return None
    start = calendar.ticks(stamps)
    first = calendar.month(start)
    if (calendar.start(first) != start).any():
        return None
    return start, calendar.start(first + months), calendar


def counted(months: np.ndarray, calendar: Calendar) -> np.ndarray:
    """Numbers of months as ``STEP_MONTHS`` has them."""
    return months + _HUNDRED * CALENDARS.index(calendar.family) if calendar.counts_otherwise else months


def in_real_dates(da: xr.DataArray) -> xr.DataArray:
    """Whole months stamped at their start, as :func:`ridden_months` has them, with dates of the real calendar."""
    found = ridden_months(da)
    if found is None or found[2].dtype.kind == "M":
        return da
    start, stop, calendar = found
    first = calendar.month(start)
    dates = as_dates((first - 1970 * 12).astype("M8[M]").astype("M8[us]"))
    real = Calendar.of(dates, None if in_gregorian_years(calendar.name) else calendar.family)
    months = counted(calendar.month(stop) - first, real)
    return da.assign_coords(time=("time", dates, da["time"].attrs)).assign_coords({STEP_MONTHS: ("time", months)})


def of_several_calendars(da: xr.DataArray) -> bool:
    """Whether series that count their months differently were joined."""
    return STEP_MONTHS in da.coords and da[STEP_MONTHS].ndim > 1 and bool((da[STEP_MONTHS] > _HUNDRED).any())


def on_real_dates(a: xr.DataArray, b: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Two series of months in one calendar, one of which has dates of the real one, on those."""
    found = [ridden_months(x) for x in (a, b)]
    if None in found or found[0][2].family != found[1][2].family:
        return a, b
    return in_real_dates(a), in_real_dates(b)


def is_own(obj: xr.DataArray | xr.Dataset) -> bool:
    """Whether an axis is one that xflux made, whose whole months ride along: its bounds repeat these."""
    return STEP_MONTHS in obj.coords and obj["time"].attrs.get("stamp") == STAMP
