"""Weights are made once per grid: a small memory of plans, bounded in number and in bytes."""

import hashlib
from collections import OrderedDict
from threading import Lock

import xarray as xr

from xflux.cells import Cells
from xflux.regions.kernel import CellLists
from xflux.regions.land import land_array, own_land
from xflux.regions.polygons import identity, is_polygons
from xflux.regions.sets import forget_land
from xflux.regions.weights import Weights, weights_for

_MAX_ENTRIES = 16
_MAX_BYTES = 512 * 2**20
_memory: OrderedDict[bytes, tuple[Weights, CellLists]] = OrderedDict()
_lock = Lock()


def _fingerprint(regions, grid, cells: Cells, basis: str, land_fraction: xr.DataArray | None) -> bytes | None:
    """Key of the weights, None for regions that are made faster than they are recognised."""
    if isinstance(regions, str):
        if "transcom" in regions or regions.endswith(".nc"):  # a file, which may change
            return None
        content = regions.encode()
    elif isinstance(regions, list | tuple):
        content = repr(regions).encode()
    elif is_polygons(regions):
        content = identity(regions)
    else:
        return None
    digest = hashlib.blake2b(content)
    digest.update(cells.key + basis.encode())
    land_fraction = own_land(grid) if land_fraction is None else land_fraction
    if land_fraction is not None:
        land = land_array(land_fraction)
        digest.update(repr((land.dims, land.attrs.get("units"))).encode())
        for values in (land["lat"].values, land["lon"].values, land.values):
            digest.update(values.tobytes())
    return digest.digest()


def plan_for(
    grid: xr.DataArray | xr.Dataset, regions, basis: str, land_fraction: xr.DataArray | None
) -> tuple[Weights, CellLists]:
    """Weights and plan, remembered for named sets and polygons."""
    cells = Cells.of(grid)
    key = _fingerprint(regions, grid, cells, basis, land_fraction)
    with _lock:
        if key is not None and key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    weights = weights_for(grid, regions, basis, land_fraction, cells)
    made = weights, weights.plan()
    if key is not None and _size(*made) <= _MAX_BYTES:
        with _lock:
            _memory[key] = made
            while len(_memory) > _MAX_ENTRIES or sum(_size(*entry) for entry in _memory.values()) > _MAX_BYTES:
                _memory.popitem(last=False)
    return made


def clear_cache() -> None:
    """Forget the weights that were made for named sets and polygons (at most 16, of 512 MiB together).

    They are kept so that the same grid and regions are worked out once in a process; results do not depend on them.

    >>> clear_cache()
    """
    with _lock:
        _memory.clear()
    forget_land()


def _size(weights: Weights, plan: CellLists) -> int:
    globe = 0 if weights.globe is None else weights.globe.nbytes
    return globe + weights.rows.data.nbytes + weights.rows.indices.nbytes + plan.cell.nbytes + plan.weight.nbytes
