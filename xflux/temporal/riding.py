"""Steps that ride along a time axis as coordinates, so that results need no bounds."""

import numpy as np
import xarray as xr

from xflux.temporal.calendar import Calendar

EDGES = ("step_start", "step_stop")
"""Coordinates over time that carry the steps of a DataArray, which cannot have bounds, where its stamps do not tell."""

MONTHS = "step_months"
"""Coordinate over time: how many whole months each step lasts that begins at its stamp, the start of a month.

An integer, so that it is no longer one where xarray averages, interpolates or fills it; resampling drops it.
"""

MOST_MONTHS = 24
"""The longest steps that are counted in months: :class:`Calendar` has the months of two more years."""

RIDING = (*EDGES, MONTHS)

STAMP = "start of the step"
"""``time.attrs["stamp"]`` of what xflux returns, whose steps begin at their stamps."""


def ridden(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """Bounds (time, 2) of the steps that ride along; None where there are none, or where they are stale."""
    if all(name in obj.coords and obj[name].dims == ("time",) for name in EDGES):
        pair = [obj[name].values for name in EDGES]
    elif (months := _months(obj)) is not None:
        pair = months
    else:
        return None
    return xr.DataArray(np.stack(pair, axis=1), {"time": obj["time"]}, ("time", "bnds"), name="time_bnds")


def _months(obj: xr.DataArray | xr.Dataset) -> list[np.ndarray] | None:
    if MONTHS not in obj.coords or obj[MONTHS].dims != ("time",) or obj[MONTHS].dtype.kind not in "iu":
        return None
    stamps, months = np.asarray(obj["time"].values), obj[MONTHS].values
    try:
        calendar = Calendar.of(stamps)
    except ValueError:
        return None
    start = calendar.ticks(stamps)
    first = calendar.month(start)
    if (calendar.start(first) != start).any() or months.min() < 1 or months.max() > MOST_MONTHS:
        return None
    return [stamps, calendar.dates(calendar.start(first + months))]


def is_own(obj: xr.DataArray | xr.Dataset) -> bool:
    """Whether an axis is one that xflux made, whose whole months ride along: its bounds repeat these."""
    return MONTHS in obj.coords and obj["time"].attrs.get("stamp") == STAMP
