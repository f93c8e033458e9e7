"""Memory of a driver: means and sums over the days before, exact on steps of any length."""

import numpy as np
import xarray as xr

from xflux.align import axis_of
from xflux.drivers.axis import STEP_LENGTH, first_days, whole_days


def running_mean(da: xr.DataArray, days: float) -> xr.DataArray:
    """Mean over the last ``days`` days up to the end of each step.

    Steps of several days (composites, months) count by the days that lie in the window. A climatology begins again
    every year, so that January remembers December. Along ``time`` the first steps, and those after gaps, have the mean
    of what there is, as long as it is half of the window.

    Parameters
    ----------
    da
        (time | month | dayofyear, …); lazy input stays lazy.
    days
        Length of the window.

    Raises
    ------
    ValueError
        No time, month or dayofyear axis; a window that is not positive.

    Examples
    --------
    >>> da = xr.DataArray([1.0, 2.0, 6.0], {"time": xr.date_range("2001-01-01", periods=3)}, "time")
    >>> running_mean(da, 2).values
    array([1. , 1.5, 4. ])
    """
    return _windows(da, days, "running_mean", 1.0)


def running_sum(da: xr.DataArray, days: float) -> xr.DataArray:
    """Sum over the last ``days`` days of a rate per day, e.g. mm of mm d-1; as :func:`running_mean` times ``days``.

    Parameters
    ----------
    da
        (time | month | dayofyear, …), a rate per day.
    days
        Length of the window.

    Raises
    ------
    ValueError
        As :func:`running_mean`.

    Examples
    --------
    >>> da = xr.DataArray([1.0, 2.0, 6.0], {"time": xr.date_range("2001-01-01", periods=3)}, "time")
    >>> running_sum(da, 2).values
    array([2., 3., 8.])
    """
    return _windows(da, days, "running_sum", float(days))


def _windows(da: xr.DataArray, days: float, what: str, scale: float) -> xr.DataArray:
    axis = axis_of(da)
    if axis is None:
        raise ValueError(f"{what}() needs a time, month or dayofyear axis; {da.name!r} has only {da.dims}")
    if not days > 0:
        raise ValueError(f"{what}(): the window must be a positive number of days, got {days!r}")
    length = whole_days(da).astype(float)
    cyclic = axis != "time"
    start = np.cumsum(length) - length if cyclic else first_days(da).astype(float)
    result = xr.apply_ufunc(
        _trailing, da.drop_vars(STEP_LENGTH, errors="ignore"), input_core_dims=[[axis]], output_core_dims=[[axis]],
        kwargs={"start": start, "length": length, "window": float(days), "cyclic": cyclic},
        dask="parallelized", output_dtypes=[float], dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    result = result.transpose(*da.dims) * scale
    steps = {STEP_LENGTH: da[STEP_LENGTH]} if STEP_LENGTH in da.coords else {}
    return result.assign_coords(steps).rename(da.name).assign_attrs(da.attrs)


def _trailing(values: np.ndarray, start: np.ndarray, length: np.ndarray, window: float, cyclic: bool) -> np.ndarray:
    """Means over [end − window, end] of each step along the last axis, from running integrals, which are linear."""
    if cyclic:
        n, year = len(start), length.sum()
        turns = int(np.ceil(window / year)) + 1
        start = np.concatenate([start + year * turn for turn in range(turns)])
        tiled = np.concatenate([values] * turns, -1)
        return _trailing(tiled, start, np.tile(length, turns), window, False)[..., -n:]
    order = np.argsort(start, kind="stable")
    values, start, length = values[..., order].astype(float), start[order], length[order]
    good = np.isfinite(values)
    edges = np.stack([start, start + length], 1).ravel()  # between steps, where there is a gap, integrals stand still
    parts = []
    for amount in (np.where(good, values, 0.0) * length, good * length):
        pieces = np.stack([np.zeros_like(amount), amount], -1).reshape(*amount.shape[:-1], -1)
        integral = np.cumsum(pieces, -1)
        parts.append(integral[..., 1::2] - _at(integral, edges, start + length - window))
    total, valid = parts
    mean = np.where(valid >= window / 2 - 1e-9, total / np.maximum(valid, 1e-9), np.nan)
    out = np.empty_like(mean)
    out[..., order] = mean
    return out


def _at(integral: np.ndarray, edges: np.ndarray, when: np.ndarray) -> np.ndarray:
    """The integrals along the last axis at other times; 0 before the first edge."""
    after = np.searchsorted(edges, when, side="right").clip(1, len(edges) - 1)
    span = edges[after] - edges[after - 1]
    weight = np.clip((when - edges[after - 1]) / np.where(span > 0, span, 1), 0, 1)
    return integral[..., after - 1] * (1 - weight) + integral[..., after] * weight
