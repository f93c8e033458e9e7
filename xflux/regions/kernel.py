"""Weighted sums over cells: one pass over the data gives every region, the remainder and what was valid.

A plan lists, region after region, the cells and their weights. The loop is compiled, releases the interpreter and
accumulates in float64; threads share the leading axis, so the result does not depend on their number. A mask
with ``weighted`` takes longer (``benchmarks/regions.py``); it, flox and ``bincount`` carry no rounding along.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from xflux.forks import cores
from xflux.values import check

_BLOCK_BYTES = 8 * 2**20  # stay in cache between the check and the sums


@dataclass(frozen=True)
class CellLists:
    """Cells and weights, sorted by region and then by cell."""

    # (groups + 1) first entry of each group; the groups are the regions and, where known, the remainder last
    start: np.ndarray
    cell: np.ndarray  # (entries) flat index of the cell
    weight: np.ndarray  # (entries) m2

    @property
    def totals(self) -> np.ndarray:
        """(groups) sum of the weights."""
        return np.array([self.weight[a:b].sum() for a, b in zip(self.start[:-1], self.start[1:], strict=True)])

    def scaled(self, by_cell: np.ndarray) -> "CellLists":
        """The plan with the weights of each cell multiplied by a number."""
        return CellLists(self.start, self.cell, self.weight * by_cell[self.cell])

    def windows(self, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
        """The plan cut into windows of a (lat, lon) map, (len(rows), len(columns)) of plans.

        ``rows`` and ``columns`` are the sizes of the windows; cells then count from the window's own corner.
        """
        plans = np.empty(len(rows) * len(columns), dtype=object)
        if plans.size == 1:
            plans[0] = self
            return plans.reshape(1, 1)
        row, column = np.divmod(self.cell, np.int32(sum(columns)))
        south, west = np.cumsum((0, *rows)), np.cumsum((0, *columns))
        i, j = np.searchsorted(south, row, side="right") - 1, np.searchsorted(west, column, side="right") - 1
        window = i * len(columns) + j
        cell = ((row - south[i]) * np.array(columns)[j] + column - west[j]).astype("int32")
        groups, count = self.start.size - 1, len(rows) * len(columns)
        group = np.repeat(np.arange(groups), np.diff(self.start))
        order = np.argsort(window, kind="stable")  # the groups stay together within a window
        cell, weight = cell[order], self.weight[order]
        sizes = np.bincount(window * groups + group, minlength=count * groups).reshape(count, groups)
        ends = np.cumsum(sizes.sum(axis=1))
        for k, (size, end) in enumerate(zip(sizes, ends, strict=True)):
            own = slice(end - size.sum(), end)
            plans[k] = CellLists(np.concatenate([[0], np.cumsum(size)]), cell[own], weight[own])
        return plans.reshape(len(rows), len(columns))


def weighted_sums(values: np.ndarray, plan: CellLists, threads: int | None = None) -> np.ndarray:
    """Sum of weight × value over the valid cells of each group, and the weight of those cells.

    ``values``: (…, lat, lon) of any real dtype; NaN is missing. ``plan``: made for the same grid. ``threads``: 1 within
    a dask task; all cores otherwise.
    Returned: (…, 2, groups) float64: sum, valid weight.
    """
    from xflux.regions.compiled import group_sums, pieces_of

    lead = values.shape[:-2]
    cells = values.shape[-2] * values.shape[-1]
    steps = int(np.prod(lead, dtype="int64"))
    out = np.empty((steps, 2, plan.start.size - 1))
    # A view where the memory allows it; otherwise each block is copied on its own, never the whole array.
    flat = values.reshape(steps, *values.shape[-2:]) if values.flags.c_contiguous or len(lead) <= 1 else None
    threads = threads or cores()
    pieces = pieces_of(plan.start, plan.cell)
    block = max(1, min(_BLOCK_BYTES // max(1, cells * values.dtype.itemsize), -(-steps // threads)))

    def work(first: int) -> None:
        last = min(first + block, steps)
        part = flat[first:last] if flat is not None else _steps(values, lead, first, last)
        part = np.ascontiguousarray(part).reshape(last - first, cells)
        if part.dtype not in (np.float32, np.float64):
            part = part.astype(np.float64)
        check(part)  # in cache: a hundredth of the time
        group_sums(part, *pieces, plan.cell, plan.weight, out[first:last])

    firsts = range(0, steps, block)
    if threads == 1 or len(firsts) <= 1:
        for first in firsts:
            work(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, firsts))
    return out.reshape(*lead, 2, plan.start.size - 1)


def _steps(values: np.ndarray, lead: tuple[int, ...], first: int, last: int) -> np.ndarray:
    index = np.unravel_index(np.arange(first, last), lead)
    return values[index]
