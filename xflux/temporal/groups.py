"""Sums over groups of steps."""

from itertools import pairwise

import numpy as np
import xarray as xr


def sums_by(x: xr.DataArray, dim: str, group: np.ndarray, days: np.ndarray) -> tuple[xr.DataArray, xr.DataArray]:
    """Σ value × days and Σ days of the valid steps of each group 0, 1, …, along ``_period`` in place of ``dim``; lazy.

    One pass over the data adds up each chunk; flox adds up what chunks have in common.
    """
    axis, chunks = x.get_axis_num(dim), x.chunks
    dims = ["_sum", *("_period" if d == dim else d for d in x.dims)]
    if chunks is None:
        both, pieces = _of_a_chunk(x.data, group, days, axis), np.unique(group)
    else:
        import dask.array as da

        own = [np.unique(group[first:last]) for first, last in pairwise(np.cumsum((0, *chunks[axis])))]
        numbers = [part for a in (group, days) for part in (da.from_array(a, chunks=(chunks[axis],)), (axis,))]
        place = tuple(range(x.ndim))
        both = da.blockwise(
            _of_a_chunk, (x.ndim, *place), x.data, place, *numbers, axis=axis, dtype=float,
            new_axes={x.ndim: 2}, adjust_chunks={axis: tuple(map(len, own))}, meta=np.empty((0,) * len(dims)),
        )  # fmt: skip
        pieces = np.concatenate(own)
    sums = xr.DataArray(both, x.coords.to_dataset().drop_dims(dim, errors="ignore").coords, dims)
    if np.unique(pieces).size < pieces.size:
        sums = grouped(sums, xr.DataArray(pieces, dims="_period", name="_period"), "sum")
        sums = sums.drop_vars("_period").transpose(*dims)
    return sums[0], sums[1]


def _of_a_chunk(values: np.ndarray, group: np.ndarray, days: np.ndarray, axis: int) -> np.ndarray:
    """(2, …, group, …): sums over the groups that these steps belong to."""
    from xflux.temporal.compiled import add_up

    names, group = np.unique(group, return_inverse=True)
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    rows, columns = np.prod(before, dtype=int), np.prod(after, dtype=int)
    sums = np.zeros((2, *before, names.size, *after))
    values = np.ascontiguousarray(values, None if values.dtype in (np.float32, np.float64) else float)
    add_up(values.reshape(rows, group.size, columns), group, days, *sums.reshape(2, rows, names.size, columns))
    return sums


def grouped(x: xr.DataArray, by: xr.DataArray, function: str) -> xr.DataArray:
    """``function`` ("sum", "mean", "nanmean") by group; lazy, and whatever xarray's options say."""
    from flox.xarray import xarray_reduce

    return xarray_reduce(x, by, func=function, skipna=False, engine="flox")
