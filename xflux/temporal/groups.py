"""Means over groups of steps that come out the same however they are made."""

from collections.abc import Hashable

import numpy as np
import xarray as xr


def mean_by(da: xr.DataArray, groups: xr.DataArray | Hashable) -> xr.DataArray:
    """Mean over steps of equal labels, NaN left out, in the precision of the data.

    xarray adds up single precision in an order that depends on chunks, on whether flox or bottleneck are there, and on
    its options, so that the seventh digit differs from run to run. In double precision these sums are exact.

    Parameters
    ----------
    da
        Values in any units.
    groups
        Labels along a dim, or their name, such as "time.year".

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=4, freq="MS")
    >>> da = xr.DataArray(np.float32([1, 2, 3, np.nan]), {"time": time}, "time")
    >>> mean_by(da, "time.year").values
    array([2.], dtype=float32)
    """
    dtype = da.dtype if da.dtype.kind == "f" else np.float64
    return da.astype("float64").groupby(groups).mean(skipna=True).astype(dtype)
