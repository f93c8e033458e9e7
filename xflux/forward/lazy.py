"""``predict``: the lazy forward run. One task per block; the model is one key of the graph.

The graph is made by hand: ``apply_ufunc`` would write out climatologies along time.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, product
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from xflux.forward.block import predict_block
from xflux.forward.land import LandSeen, require_land
from xflux.forward.model import Model, Outputs, outputs
from xflux.forward.plan import Driver, Plan, plan
from xflux.provenance import stamp
from xflux.values import in_memory

CELL_STEPS = 2**22  # cells × steps of a block, at most: 16 MiB a plane
JOINED = 2**20  # cells × steps up to which short blocks are taken together
PLANES = 2**24  # values in a block of the result, at most: 64 MiB


def predict(
    grid: xr.Dataset,
    model: Model,
    members: Any = "all",
    device: str = "auto",
    time: Any = None,
    *,
    interpolate: bool = False,
) -> xr.DataArray | xr.Dataset:
    """Fluxes that the model gives on a grid of drivers: nothing is computed before it is asked for.

    Parameters
    ----------
    grid
        Drivers, found by the names in ``model.drivers``, with the dims (time, lat, lon), (month | dayofyear, lat,
        lon), (lat, lon) or fewer, in any order, NumPy or dask in any chunks.
    model
        A :class:`~xflux.forward.Model`: one that xflux trained, or of :func:`wrap`.
    members
        "all" (a dim ``member`` where the model is an ensemble), "mean", "mean+std" (a Dataset of the flux and
        ``<flux>_std``, over the members, with their number as divisor), or indices of members.
    device
        Handed to ``model.to(device)`` where the model has it; "auto" leaves the choice to the model.
    time
        Dates of the result. Dates, a DataArray or index of them; where drivers have a time axis also a label or a
        slice of it. None: the drivers' own axis (time; else dayofyear or month).
    interpolate
        Monthly climatologies are a step function of the date. True: linear in time between the middles of the
        months of the grid's calendar, evaluated at the middle of each day, December joined to January. Values at
        mid-month are kept; monthly means are not exactly.

    Returns
    -------
    xr.DataArray
        (member, time | month | dayofyear, lat, lon) float32 in the model's units, NaN where any driver is not finite; a
        Dataset where there are several targets or "mean+std". A day of year d takes the value of day d of the
        climatology, by the grid's own calendar; day 366 takes 365 where there is none.

    Raises
    ------
    KeyError
        A driver that the grid lacks.
    TypeError, ValueError
        No Dataset of drivers or no model; drivers in other units or with other dims, times that do not fit; unknown
        members or device; no land at all.

    Examples
    --------
    >>> from xflux.forward import wrap
    >>> grid = xr.Dataset({"tair": (("month", "lat", "lon"), np.ones((12, 2, 3), "float32"))})
    >>> nee = predict(grid, wrap(lambda rows: -rows[:, 0], ["tair"], "gC m-2 d-1"))
    >>> nee.dims, nee.attrs["units"], float(nee.mean())
    (('month', 'lat', 'lon'), 'gC m-2 d-1', -1.0)
    """
    laid = plan(grid, model, time, interpolate)
    out = outputs(model, members)
    require_land(laid)
    model = on_device(model, device)
    data = _blocks(laid, model, out)
    return assemble(data, laid, model, out)


def on_device(model: Model, device: str) -> Model:
    """The model on the device asked for; "auto" and models that know no device stay as they are."""
    if device == "auto" or (device == "cpu" and not hasattr(model, "to")):
        return model
    if not hasattr(model, "to"):
        raise ValueError(f"predict: device={device!r}, but {type(model).__name__} runs where it is; use device='auto'")
    return model.to(device)


def _blocks(laid: Plan, model: Model, out: Outputs) -> Any:
    """Dask array (planes, steps, *space)."""
    import dask
    from dask.array import Array
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    chunks = block_chunks(laid, len(out.targets) * out.per_target)
    arrays = [_array(driver, laid, chunks) for driver in laid.drivers]
    key_model = dask.delayed(model, pure=True, traverse=False, name=f"xflux-model-{tokenize(model)}")
    collections = [*arrays, key_model]
    land = LandSeen.of(laid, arrays, chunks)
    if land is not None:
        collections.append(dask.delayed(land, traverse=False, name=f"xflux-land-{tokenize([a.name for a in arrays])}"))
    name = "xflux-predict-" + tokenize(key_model.key, [a.name for a in arrays], out, laid.n_steps, chunks)
    tasks = {}
    offsets = np.concatenate([[0], np.cumsum(chunks[0])])
    for where in product(*(range(len(c)) for c in chunks)):
        steps = slice(offsets[where[0]], offsets[where[0] + 1])
        parts = [_part(d, a, steps, where) for d, a in zip(laid.drivers, arrays, strict=True)]
        shape = tuple(c[i] for c, i in zip(chunks, where, strict=True))
        keys = [k for keys, _ in parts for k in keys]
        plans = [lookup for _, lookup in parts]
        extra = [] if land is None else [collections[-1].key, list(where)]
        tasks[(name, 0, *where)] = (_task, keys, plans, shape, key_model.key, out, *extra)
    planes = len(out.targets) * out.per_target
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=collections)
    return Array(graph, name, ((planes,), *chunks), dtype=np.float32)


@dataclass(frozen=True)
class _Lookup:
    """Which steps of its blocks a task takes from a driver, and where in these its own steps lie."""

    picks: list[slice | np.ndarray]
    steps: np.ndarray
    later: np.ndarray | None
    weight: np.ndarray | None

    def taken(self, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """Those steps, block by block: small blocks need not be joined."""
        return [np.asarray(block)[pick] for block, pick in zip(blocks, self.picks, strict=True)]


def _part(driver: Driver, array: Any, steps: slice, where: tuple[int, ...]) -> tuple[list, _Lookup]:
    """Keys of the driver's blocks that the steps need, and the steps' places in them."""
    space = tuple(i if len(c) > 1 else 0 for i, c in zip(where[1:], array.chunks[1:], strict=True))
    mine = driver.steps[steps]
    later = None if driver.later is None else driver.later[steps]
    used = np.unique(mine if later is None else np.concatenate([mine, later]))
    offsets = np.concatenate([[0], np.cumsum(array.chunks[0])])
    block = np.searchsorted(offsets, used, side="right") - 1
    numbers = np.unique(block)
    picks = [_as_slice(used[block == b] - offsets[b]) for b in numbers]
    place = None if later is None else np.searchsorted(used, later)
    weight = None if driver.weight is None else driver.weight[steps]
    return [(array.name, int(b), *space) for b in numbers], _Lookup(picks, np.searchsorted(used, mine), place, weight)


def _as_slice(steps: np.ndarray) -> slice | np.ndarray:
    """Steps that follow each other as a slice: a view instead of a copy."""
    first, last = int(steps[0]), int(steps[-1])
    return slice(first, last + 1) if last - first + 1 == steps.size else steps


def _task(
    blocks: list[np.ndarray],
    lookups: list[_Lookup],
    shape: tuple,
    model: Any,
    out: Outputs,
    land: LandSeen | None = None,
    where: Sequence[int] = (),
) -> np.ndarray:
    rest = iter(blocks)
    drivers = [look.taken(list(islice(rest, len(look.picks)))) for look in lookups]
    result = predict_block(drivers, [(k.steps, k.later, k.weight) for k in lookups], shape, model, out)
    if land is not None:
        land.seen(tuple(where), result)
    return result


def _array(driver: Driver, laid: Plan, chunks: tuple[tuple[int, ...], ...]) -> Any:
    """The driver as dask (steps, *space) in the blocks' chunks; dims that it lacks have length 1."""
    data = driver.data
    wanted = dict(zip(laid.space, chunks[1:], strict=True))
    if driver.axis and driver.aligned:  # cut where a block ends, not joined
        ends = set(np.cumsum(chunks[0]).tolist()) | set(_edges([driver], driver.axis, laid.n_steps).tolist())
        wanted[driver.axis] = tuple(np.diff(sorted(ends | {0})).tolist())
    elif driver.axis and not data.chunks:
        wanted[driver.axis] = preferred(data, driver.axis) or data.sizes[driver.axis]
    wanted = {d: c for d, c in wanted.items() if d in data.dims}
    array = _views(data.values, [wanted[d] for d in data.dims]) if in_memory(data) else data.chunk(wanted).data
    dims = (driver.axis, *laid.space)
    return array[tuple(slice(None) if d in data.dims else None for d in dims)]


def _views(values: np.ndarray, chunks: list) -> Any:
    """Dask array over blocks of an array in memory: views, not copied as dask.array.from_array would."""
    from dask.array import Array
    from dask.array.core import normalize_chunks, slices_from_chunks
    from dask.base import tokenize

    name = f"xflux-driver-{tokenize(values, chunks)}"
    normal = normalize_chunks(tuple(chunks), values.shape)
    places = product(*(range(len(c)) for c in normal))
    blocks = {(name, *at): values[s] for at, s in zip(places, slices_from_chunks(normal), strict=True)}
    return Array(blocks, name, normal, dtype=values.dtype)


def preferred(data: xr.DataArray, dim: str) -> int | None:
    """Chunk length of the file behind the array, where it has one."""
    length = data.encoding.get("preferred_chunks", {}).get(dim)
    return length if isinstance(length, int) else None


def block_chunks(laid: Plan, planes: int) -> tuple[tuple[int, ...], ...]:
    """Chunks (steps, *space): the drivers' common ones, cut to a bounded size and to enough blocks for the cores.

    Short ones along the axis are taken together: each task has its cost.
    """
    sizes = [laid.n_steps, *(laid.sizes[d] for d in laid.space)]
    total = int(np.prod(sizes, dtype=np.int64))
    share = total // (4 * (os.cpu_count() or 1))
    limit = max(1, min(CELL_STEPS, PLANES // planes, max(2**15, share)))
    edges = [_edges([d for d in laid.drivers if d.aligned], laid.axis, sizes[0])]
    edges += [_edges(laid.drivers, dim, size) for dim, size in zip(laid.space, sizes[1:], strict=True)]
    room = limit
    for i in range(len(edges) - 1, -1, -1):  # whole rows of the last dims first, then as many steps as fit
        longest = max(1, room)
        edges[i] = _cut(edges[i], longest)
        room //= int(np.diff(edges[i]).max())
    cells = prod(int(np.diff(e).max()) for e in edges[1:])
    edges[0] = _joined(edges[0], min(limit, JOINED, share) // cells)
    return tuple(tuple(int(n) for n in np.diff(e)) for e in edges)


def _edges(drivers: Any, dim: str | None, size: int) -> np.ndarray:
    """Borders of every driver's dask chunks along the dim."""
    found = {0, size}
    for driver in drivers:
        if dim in driver.data.dims and driver.data.chunks:
            found |= set(np.cumsum(driver.data.chunksizes[dim]).tolist())
    return np.array(sorted(found))


def _cut(edges: np.ndarray, longest: int) -> np.ndarray:
    """Split what is longer into equal pieces."""
    pieces = [np.linspace(a, b, -(-(b - a) // longest) + 1).astype(int)[:-1] for a, b in pairwise(edges)]
    return np.concatenate([*pieces, edges[-1:]])


def _joined(edges: np.ndarray, longest: int) -> np.ndarray:
    """Leave out borders while what lies between two is not longer."""
    kept = [0]
    while edges[kept[-1]] < edges[-1]:
        reached = int(np.searchsorted(edges, edges[kept[-1]] + longest, side="right")) - 1
        kept.append(max(reached, kept[-1] + 1))
    return edges[kept]


def assemble(data: Any, laid: Plan, model: Model, out: Outputs) -> xr.DataArray | xr.Dataset:
    """Name the planes: dims, coordinates and attributes of the result."""
    if laid.axis is None:
        data = data[:, 0]
    found: dict[str, xr.DataArray] = {}
    for k, target in enumerate(out.targets):
        own = data[k * out.per_target : (k + 1) * out.per_target]
        attrs = attributes(model, target, out)
        coords = dict(laid.coords)
        if out.has_member_dim:
            numbers = np.arange(out.members) if out.choice == "all" else np.array(out.choice)
            coords["member"] = ("member", numbers)
            found[target] = xr.DataArray(own, coords, ("member", *laid.dims), target, attrs)
            continue
        found[target] = xr.DataArray(own[0], coords, laid.dims, target, attrs)
        if out.choice == "mean+std":
            spread = attrs | {"long_name": f"standard deviation of {target} over the members"}
            found[f"{target}_std"] = xr.DataArray(own[1], coords, laid.dims, f"{target}_std", spread)
    if len(found) == 1:
        return next(iter(found.values()))
    return xr.Dataset(found, attrs={"provenance": attrs["provenance"]})


def attributes(model: Model, target: str, out: Outputs) -> dict[str, Any]:
    """Units, what the flux contains, and where it comes from."""
    units = model.units if isinstance(model.units, str) else model.units[target]
    rides = {k: _plain(v) for k, v in (getattr(model, "attrs", None) or {}).items() if v is not None}
    call = f"predict({type(model).__name__}, members={out.choice!r})"
    inputs = {"drivers": list(model.drivers)} | ({"model": rides["provenance"]} if "provenance" in rides else {})
    return {"area_basis": "land"} | rides | {"units": units, "provenance": stamp(call, inputs)}


def _plain(value: Any) -> Any:
    """As netCDF can hold it: text and numbers only, truth as 1 or 0."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return int(value) if isinstance(value, bool | np.bool_) else value
