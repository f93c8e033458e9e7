"""First and second moments of pairs in one pass: parts of any size add up, so that chunks and memory do not matter."""

from collections.abc import Hashable
from functools import reduce
from typing import NamedTuple

import numpy as np
import xarray as xr

CONSTANT = 1e-13  # a series whose standard deviation is below this share of its mean is constant (as in SciPy)
BLOCK = 1 << 16  # pairs that are worked on at once: their float64 copies stay in cache
# rows of a part: valid pairs, sum of weights, means, weighted sums of squared deviations, of products, of errors²
N, W, MEAN_X, MEAN_Y, SXX, SYY, SXY, SSE = range(8)


class Moments(NamedTuple):
    """What every score follows from; NaN where no pair is valid."""

    n: xr.DataArray  # valid pairs of positive weight
    bias: xr.DataArray
    mse: xr.DataArray
    var_x: xr.DataArray  # of the array, population (divided by the sum of the weights)
    var_y: xr.DataArray  # of the reference
    cov: xr.DataArray
    constant_x: xr.DataArray
    constant_y: xr.DataArray


def moments(
    da: xr.DataArray, reference: xr.DataArray, dims: list[Hashable], weights: xr.DataArray | None = None
) -> Moments:
    """Moments of the valid pairs over ``dims``, float64, lazy on dask."""
    arrays = [da, reference] if weights is None else [da, reference, weights]
    arrays = xr.broadcast(*(_unburdened(a, dims) for a in arrays))
    rows = xr.apply_ufunc(
        _all_rows,
        *arrays,
        kwargs={"core": len(dims)},
        input_core_dims=[dims] * len(arrays),
        output_core_dims=[["row"]],
        dask="allowed",
        join="exact",
    )
    n, total, mean_x, mean_y, sxx, syy, sxy, sse = (rows.isel(row=i) for i in range(8))
    total = total.where(total > 0)
    var_x, var_y = sxx / total, syy / total
    return Moments(
        n=n.astype("int64"),
        bias=(mean_x - mean_y).where(n > 0),
        mse=sse / total,
        var_x=var_x,
        var_y=var_y,
        cov=sxy / total,
        constant_x=var_x <= (CONSTANT * mean_x) ** 2,
        constant_y=var_y <= (CONSTANT * mean_y) ** 2,
    )


def _unburdened(da: xr.DataArray, dims: list[Hashable]) -> xr.DataArray:
    """Without coordinates that cannot be of the result, or that would be computed to be compared."""
    return da.drop_vars([k for k, c in da.coords.items() if k not in da.indexes and (c.chunks or {*dims} & {*c.dims})])


def _all_rows(*arrays, core: int):
    """(…, core dims) arrays → (…, 8) rows; dask arrays chunk by chunk, then a tree of merges."""
    if not any(hasattr(a, "dask") for a in arrays):
        return np.moveaxis(_rows(*arrays, core=core), 0, -1)
    from dask import array as dask_array

    ndim = arrays[0].ndim
    index = tuple(range(ndim))
    arrays = dask_array.core.unify_chunks(*(piece for a in arrays for piece in (a, index)))[1]
    chunks = arrays[0].chunks
    parts = dask_array.map_blocks(
        _part,
        *arrays,
        core=core,
        dtype="float64",
        chunks=((8,), *chunks[: ndim - core], *((1,) * len(c) for c in chunks[ndim - core :])),
        new_axis=0,
        meta=np.empty((0,) * (ndim + 1)),
    )
    merged = dask_array.reduction(
        parts,
        chunk=lambda rows, axis, keepdims: rows,
        combine=_merge_along,
        aggregate=_merge_along,
        axis=tuple(range(1 + ndim - core, 1 + ndim)),
        dtype="float64",
        split_every=8,
        meta=np.empty((0,) * (1 + ndim - core)),
    )
    return dask_array.moveaxis(merged, 0, -1)


def _part(*blocks: np.ndarray, core: int) -> np.ndarray:
    rows = _rows(*blocks, core=core)
    return rows.reshape(*rows.shape, *(1,) * core)


def _merge_along(rows: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    for one in axis:
        pieces = np.split(rows, rows.shape[one], axis=one)
        rows = reduce(_merge, pieces)
    return rows if keepdims else np.squeeze(rows, axis=tuple(axis))


def _rows(x: np.ndarray, y: np.ndarray, w: np.ndarray | None = None, *, core: int) -> np.ndarray:
    """Rows (8, …) of (…, core dims) arrays; large ones are halved along their longest axis until they fit a block."""
    longest = int(np.argmax(x.shape)) if x.ndim else 0
    if x.size <= BLOCK or x.shape[longest] < 2:
        return _block_rows(x, y, w, core)
    middle = x.shape[longest] // 2
    halves = [
        _rows(*(a[(slice(None),) * longest + (part,)] for a in (x, y, w) if a is not None), core=core)
        for part in (slice(None, middle), slice(middle, None))
    ]
    return np.concatenate(halves, axis=1 + longest) if longest < x.ndim - core else _merge(*halves)


def _block_rows(x: np.ndarray, y: np.ndarray, w: np.ndarray | None, core: int) -> np.ndarray:
    axes = tuple(range(x.ndim - core, x.ndim))
    x, y = np.asarray(x, dtype="float64"), np.asarray(y, dtype="float64")
    valid = ~(np.isnan(x) | np.isnan(y))
    if not valid.any():  # the sea
        return np.zeros((8, *x.shape[: x.ndim - core]))
    x, y = np.where(valid, x, 0.0), np.where(valid, y, 0.0)
    w = valid.astype("float64") if w is None else np.where(valid, np.asarray(w, dtype="float64"), 0.0)
    total = w.sum(axis=axes, keepdims=True)
    some = np.where(total > 0, total, 1.0)
    mean_x, mean_y = ((w * v).sum(axis=axes, keepdims=True) / some for v in (x, y))
    with np.errstate(invalid="ignore"):  # an infinite pair makes its own scores NaN
        dx, dy = x - mean_x, y - mean_y
        sums = [(w * v).sum(axis=axes) for v in (dx * dx, dy * dy, dx * dy, (x - y) ** 2)]
    flat = [v.reshape(sums[0].shape) for v in (total, mean_x, mean_y)]
    return np.stack([(w > 0).sum(axis=axes), *flat, *sums]).astype("float64")


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rows of two parts together (Chan, Golub & LeVeque 1983, Am. Stat. 37, 242)."""
    total = a[W] + b[W]
    share = b[W] / np.where(total > 0, total, 1.0)
    dx, dy = b[MEAN_X] - a[MEAN_X], b[MEAN_Y] - a[MEAN_Y]
    lift = a[W] * share
    return np.stack(
        [
            a[N] + b[N],
            total,
            a[MEAN_X] + dx * share,
            a[MEAN_Y] + dy * share,
            a[SXX] + b[SXX] + dx * dx * lift,
            a[SYY] + b[SYY] + dy * dy * lift,
            a[SXY] + b[SXY] + dx * dy * lift,
            a[SSE] + b[SSE],
        ]
    )
