"""One region of a run: read its drivers, predict, write. What a worker does."""

import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xflux.forward.block import predict_block
from xflux.forward.land import on_worker
from xflux.forward.model import Model, Outputs
from xflux.forward.plan import Driver, Plan
from xflux.stores import Region, Store

CACHE = 512 * 2**20  # bytes of climatologies that a process keeps for the tile at hand


@dataclass(eq=False)
class Job:
    """All that a worker needs to write any region; it reaches each worker once."""

    plan: Plan
    model: Model
    out: Outputs
    store: Store
    remote: frozenset[str] = frozenset()  # drivers whose blocks live on a cluster
    _tiles: dict = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "model": self.model, "out": self.out, "store": self.store, "remote": self.remote}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _tiles={}, _lock=threading.Lock())

    def write(self, region: Region) -> bool:
        """Predict and write a region unless its chunks are there; whether it has land."""
        if self.store.is_present(region):
            return True
        values = self.compute(region)
        self.store.write(region, values)
        return not np.isnan(values[0]).all()

    def compute(self, region: Region) -> np.ndarray:
        """(planes, *region)."""
        steps, tile = region[0], dict(zip(self.plan.space, region[1:], strict=True))
        parts = [self._driver(d, steps, tile) for d in self.plan.drivers]
        shape = tuple(s.stop - s.start for s in region)
        return predict_block([[a] for a, _ in parts], [look for _, look in parts], shape, self.model, self.out)

    def _driver(self, driver: Driver, steps: slice, tile: dict[str, slice]) -> tuple[np.ndarray, tuple]:
        """The driver on the region, and where in it every step lies."""
        space = {d: s for d, s in tile.items() if d in driver.data.dims}
        if driver.aligned:
            values = self._load(driver, {driver.axis: steps, **space})
            return self._full_rank(values, driver), (np.arange(steps.stop - steps.start), None, None)
        mine = driver.steps[steps]
        later = None if driver.later is None else driver.later[steps]
        weight = None if driver.weight is None else driver.weight[steps]
        if self._fits(tile):
            return self._tile(driver, tile, space), (mine, later, weight)
        used = np.unique(mine if later is None else np.concatenate([mine, later]))
        pick = {driver.axis: used} if driver.axis else {}
        values = self._full_rank(self._load(driver, pick | space), driver)
        place = None if later is None else np.searchsorted(used, later)
        return values, (np.searchsorted(used, mine), place, weight)

    def _full_rank(self, values: np.ndarray, driver: Driver) -> np.ndarray:
        dims = (driver.axis, *self.plan.space)
        return values[tuple(slice(None) if d in driver.data.dims else None for d in dims)]

    def _fits(self, tile: dict[str, slice]) -> bool:
        """Whether the whole climatologies of the tile may be kept."""
        cells = np.prod([s.stop - s.start for s in tile.values()], dtype=np.int64)
        steps = sum(d.data.sizes[d.axis] if d.axis else 1 for d in self.plan.drivers if not d.aligned)
        return bool(4 * cells * steps <= CACHE)

    def _tile(self, driver: Driver, tile: dict[str, slice], space: dict[str, slice]) -> np.ndarray:
        """The driver's whole climatology on the tile, read once while the tile lasts."""
        where = tuple((s.start, s.stop) for s in tile.values())
        with self._lock:
            if where not in self._tiles:
                for old in list(self._tiles)[:-1]:  # the tile before may still be in use
                    del self._tiles[old]
                self._tiles[where] = {}
            kept = self._tiles[where]
            lock = kept.setdefault("lock", threading.Lock())
        with nullcontext() if driver.name in self.remote else lock:  # a wait for the cluster must hold nothing up
            if driver.name not in kept:
                kept[driver.name] = self._full_rank(self._load(driver, space), driver)
            return kept[driver.name]

    def _load(self, driver: Driver, pick: dict[str, Any]) -> np.ndarray:
        """Values as float32; dask in this thread, unless its blocks live on a cluster."""
        data = driver.data.isel(pick)
        if driver.name not in self.remote:
            return np.asarray(data.compute(scheduler="synchronous").values, np.float32)
        if not on_worker():
            raise ValueError(
                f"run: driver {driver.name!r} is persisted on a cluster; give that cluster as scheduler=, or load it"
            )
        from distributed import worker_client

        with worker_client() as client:
            return np.asarray(client.compute(data.data).result(), np.float32)


def is_remote(data: xr.DataArray) -> bool:
    """Whether the array was persisted on a cluster."""
    if not data.chunks or "distributed" not in sys.modules:
        return False
    from distributed import Future

    return any(isinstance(v, Future) for v in data.__dask_graph__().values())
