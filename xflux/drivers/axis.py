"""The time axis of a driver: its name, and the length of its steps in days."""

from __future__ import annotations

import numpy as np
import xarray as xr

AXES = ("time", "month", "dayofyear")
# days of the months of a common year: climatologies are run on 365 days
MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def axis_of(da: xr.DataArray) -> str | None:
    """``time``, ``month``, ``dayofyear``, or None for a static field."""
    found = [d for d in AXES if d in da.dims]
    if len(found) > 1:
        raise ValueError(f"{da.name!r} has the dims {da.dims}: one of {', '.join(AXES)} is expected, not several")
    return found[0] if found else None


def whole_days(da: xr.DataArray) -> np.ndarray:
    """Days of every step, as integers ≥ 1 (sub-daily steps are refused)."""
    axis = axis_of(da)
    if axis == "month":
        return MONTH_DAYS[np.asarray(da["month"].values, int) - 1]
    if axis == "dayofyear":
        return np.ones(da.sizes["dayofyear"], int)
    from xflux.temporal import step_days

    days = np.asarray(step_days(da).values, float)
    if days.min() < 0.99:
        raise ValueError(f"{da.name!r} has steps of {days.min() * 24:.1f} h: average it to days first")
    return np.rint(days).astype(int)
