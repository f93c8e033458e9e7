"""The numerics of one block: gather the valid rows, ask the model, put the fluxes back. NumPy in, NumPy out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xflux.forward.model import Outputs
from xflux.values import found_fill, warn_of_fill

ROWS = 16_384  # rows per call of the model: ten drivers of them stay in the second-level cache


def predict_block(
    arrays: Sequence[Sequence[np.ndarray]], lookups: list[tuple], shape: tuple[int, ...], model: Any, out: Outputs
) -> np.ndarray:
    """Fluxes of one block.

    ``arrays``: per driver the blocks (own steps, *space) that follow each other, each dim of space of full length or 1.
    ``lookups``: per driver (steps, later, weight) into its own steps, for every step of the block. ``shape``: (steps,
    *space) of the block.
    Returned: ndarray (planes, steps, *space) float32, NaN where any driver is not finite.
    """
    n_steps, space = shape[0], shape[1:]
    for name, blocks in zip(model.drivers, arrays, strict=True):
        fills = (fill for fill in map(found_fill, blocks) if fill is not None)
        warn_of_fill(next(fills, None), f"driver {name!r}")
    drivers = [_Planes(a, lookup, space) for a, lookup in zip(arrays, lookups, strict=True)]
    cells = _candidates(drivers)
    planes = len(out.targets) * out.per_target
    result = np.full((planes, n_steps, int(np.prod(space))), np.nan, np.float32)
    together = max(1, ROWS // max(1, cells.size))
    for first in range(0, n_steps if cells.size else 0, together):
        steps = range(first, min(first + together, n_steps))
        for part in range(0, cells.size, ROWS):
            _fill(result, drivers, steps, cells[part : part + ROWS], model, out)
    return result.reshape(planes, *shape)


class _Planes:
    """One driver of a block, plane by plane as flat float32 or wider."""

    def __init__(self, blocks: Sequence[np.ndarray], lookup: tuple, space: tuple[int, ...]):
        self.steps, self.later, self.weight = lookup
        self.flat = [np.broadcast_to(plane, space).reshape(-1) for block in blocks for plane in block]

    def used(self) -> np.ndarray:
        both = self.steps if self.later is None else np.concatenate([self.steps, self.later])
        return np.unique(both)

    def take(self, step: int, cells: np.ndarray, into: np.ndarray) -> None:
        into[:] = self.flat[self.steps[step]].take(cells)
        if self.weight is not None and self.weight[step] != 0:
            w = self.weight[step]
            into *= 1 - w
            into += w * self.flat[self.later[step]].take(cells)


def _candidates(drivers: list[_Planes]) -> np.ndarray:
    """Cells at which every driver is finite at some step: the others are never looked at again."""
    valid = np.ones(drivers[0].flat[0].size, bool)
    for driver in drivers:
        ever = np.zeros_like(valid)
        for step in driver.used():
            ever |= np.isfinite(driver.flat[step])
            if ever.all():
                break
        valid &= ever
    return np.flatnonzero(valid)


def _fill(
    result: np.ndarray, drivers: list[_Planes], steps: range, cells: np.ndarray, model: Any, out: Outputs
) -> None:
    n = cells.size
    columns = np.empty((len(drivers), len(steps) * n), np.float32)  # one driver after another: gathers are contiguous
    for i, step in enumerate(steps):
        for driver, column in zip(drivers, columns, strict=True):
            driver.take(step, cells, column[i * n : (i + 1) * n])
    finite = np.isfinite(columns).all(axis=0)
    if not finite.any():
        return
    complete = finite.all()
    rows = columns if complete else columns[:, finite]
    chosen = out.choice if isinstance(out.choice, tuple) else None
    fluxes = np.asarray(model.predict(rows.T) if chosen is None else model.predict(rows.T, members=list(chosen)))
    fluxes = out.reduce(fluxes, rows.shape[1])
    at = [cells] * len(steps) if complete else [cells[f] for f in finite.reshape(len(steps), n)]
    start = 0
    for step, where in zip(steps, at, strict=True):
        result[:, step, where] = fluxes[:, start : start + where.size]
        start += where.size
