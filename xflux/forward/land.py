"""A grid on which no cell has every driver: an error at the call where the drivers are in memory, else at compute."""

import sys
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from xflux.forward.plan import Plan
from xflux.values import in_memory

NO_LAND = (
    "no land: no cell of the grid has a finite value of every driver at any step ({drivers}); "
    "check that their masks and coordinates overlap"
)


def require_land(laid: Plan) -> None:
    """Raise at the call where every driver is in memory and no cell has them all."""
    if all(in_memory(d.data) for d in laid.drivers) and not _any_valid(laid):
        raise ValueError(NO_LAND.format(drivers=", ".join(d.name for d in laid.drivers)))


def _any_valid(laid: Plan) -> bool:
    shape = tuple(laid.sizes[d] for d in laid.space)
    for step in range(laid.n_steps):
        valid = np.ones(shape, bool)
        for driver in laid.drivers:
            dims = [slice(None) if d in driver.data.dims else None for d in laid.space]
            for at in (driver.steps, driver.later):
                if at is not None:
                    plane = driver.data.values[at[step]] if driver.axis else driver.data.values
                    valid &= np.isfinite(plane[tuple(dims)])
            if not valid.any():
                break
        if valid.any():
            return True
    return False


class LandSeen:
    """The blocks of a grid in which a process found no land: once these are its share of all, it looks elsewhere."""

    def __init__(self, laid: Plan, arrays: list[Any], chunks: tuple[tuple[int, ...], ...]):
        self.names = [d.name for d in laid.drivers]
        self.lookups = [(d.steps, d.later) for d in laid.drivers]
        self.arrays = arrays
        self.steps = chunks[0]  # lengths of the blocks along the axis
        self.blocks = prod(map(len, chunks))
        self.empty: set[tuple[int, ...]] = set()
        self.found = False

    @classmethod
    def of(cls, laid: Plan, arrays: list[Any], chunks: tuple[tuple[int, ...], ...]) -> "LandSeen | None":
        """None where the call has looked already."""
        return None if all(in_memory(d.data) for d in laid.drivers) else cls(laid, arrays, chunks)

    def seen(self, where: tuple[int, ...], result: np.ndarray) -> None:
        """Note a block's result. Of all blocks one process at least gets its share, so that no block reads others."""
        if self.found or not np.isnan(result[0]).all():
            self.found = True
            return
        self.empty.add(where)
        if len(self.empty) * _processes() >= self.blocks:
            self.found = self._search()
            if not self.found:
                raise ValueError(NO_LAND.format(drivers=", ".join(self.names)))

    def _search(self) -> bool:
        """Block by block along the axis, until one cell has every driver."""
        for first, end in pairwise(np.concatenate([[0], np.cumsum(self.steps)])):
            valid: Any = True
            for array, places in zip(self.arrays, self.lookups, strict=True):
                for at in places:
                    if at is not None:
                        valid = valid & (abs(array[at[first:end]]) < np.inf)
            if _compute_here(valid.any()):
                return True
        return False


def on_worker() -> bool:
    """Whether this is a task of a distributed worker."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def _processes() -> int:
    """How many processes share the blocks."""
    if not on_worker():
        return 1
    from distributed import worker_client

    with worker_client(separate_thread=False) as client:
        return max(1, len(client.nthreads()))


def _compute_here(lazy: Any) -> Any:
    """Compute inside a task: on a distributed worker through its cluster (inputs may live there), else in place."""
    import dask

    if not on_worker():
        return dask.compute(lazy, scheduler="synchronous")[0]
    from distributed import worker_client

    with worker_client() as client:
        return client.compute(lazy).result()
