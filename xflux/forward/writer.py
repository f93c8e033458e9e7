"""``run``: the forward run on disk. Region by region into Zarr, on threads, processes or a cluster; resumable."""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux import files, stores
from xflux.forward.execute import Progress, execute
from xflux.forward.job import Job, is_remote
from xflux.forward.land import NO_LAND, require_land
from xflux.forward.lazy import CELL_STEPS, PLANES, assemble, on_device, preferred
from xflux.forward.metadata import with_cf
from xflux.forward.model import Model, Outputs, outputs
from xflux.forward.plan import Driver, Plan, plan
from xflux.reading import blamed_on
from xflux.stores import Region, Store

PROBE = 2**24  # values of a file's chunk, at most, of which a run reads some to know the drivers again


def run(
    grid: xr.Dataset,
    model: Model,
    out: str | Path,
    *,
    members: Any = "mean",
    time: Any = None,
    interpolate: bool = False,
    device: str = "auto",
    chunks: dict[str, int] | None = None,
    scheduler: Any = None,
    workers: int | None = None,
    progress: bool | Callable[[int, int, float], None] = True,
    overwrite: bool = False,
) -> xr.Dataset:
    """Predict and write a Zarr store, region by region; call it again after any interruption and it goes on.

    The store comes back opened lazily: the flux with CF names, bounds, cell methods and provenance.

    Parameters
    ----------
    grid, model, members, time, interpolate, device
        As in :func:`predict`. Drivers opened with ``chunks=None`` or ``chunks={}`` are read by region.
    out
        Path or URL of the store (Zarr 3). A region is one chunk of it (per variable and member).
    chunks
        Lengths of the regions along time (or month, dayofyear), lat, lon; by default those of the largest driver's
        file, merged or cut to at most 4 million cells.
    scheduler
        None: the active dask.distributed client, else threads. "threads", "processes" (a local cluster), the
        address of a scheduler, or a client.
    workers
        Threads or processes; by default the cores.
    progress
        True: a line on stderr; or a function of (chunks done, chunks in all, seconds).
    overwrite
        Replace the run at ``out``, as soon as the new one has written its first land. Until then it lies in a
        hidden folder beside, from where the next call brings it back should this process be killed.

    Raises
    ------
    FileExistsError
        ``out`` holds something else (``overwrite`` or not), is a link or where the drivers are read from; or it holds
        a run with another model, grid, members or chunks, or (as far as a sample of drivers in memory or in files
        tells) with other values of the drivers.
    TypeError, ValueError
        What :func:`predict` refuses; no time axis; ``chunks`` or ``workers`` that are none.
    OSError
        Another process is writing there (BlockingIOError); the store has lost an array or coordinates; or the disk is
        full: what is written is kept and the same call goes on from there.

    Examples
    --------
    >>> import tempfile, numpy as np, xarray as xr
    >>> from xflux.forward import wrap
    >>> grid = xr.Dataset({"tair": (("month", "lat", "lon"), np.ones((12, 2, 3), "float32"))})
    >>> model = wrap(lambda rows: -rows[:, 0], ["tair"], "gC m-2 d-1", targets="nee")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nee = run(grid, model, f"{folder}/nee.zarr", progress=False).nee.load()
    >>> dict(nee.sizes), float(nee.mean())
    ({'month': 12, 'lat': 2, 'lon': 3}, -1.0)
    """
    path = os.path.expanduser(out).removeprefix("file://")
    stores.read_mark(path)  # nothing else is there
    _require_other(path, grid)
    laid = plan(grid, model, time, interpolate)
    if laid.axis is None:
        raise ValueError("run: no driver has a time, month or dayofyear axis and time= is not given; use predict")
    chosen = outputs(model, members)
    require_land(laid)
    model = on_device(model, device)
    if workers is not None and workers < 1:
        raise ValueError(f"run: workers={workers}; expected 1 or more")
    n_workers = workers or os.cpu_count() or 1
    sizes = region_sizes(laid, chosen, n_workers, chunks)
    with _its_own(path, overwrite) as drop_old:
        with _disk(path):
            target = _open(path, laid, model, chosen, grid, sizes, chunks, overwrite)
        job = Job(laid, model, chosen, target, frozenset(d.name for d in laid.drivers if is_remote(d.data)))
        todo = _todo(target, n_workers)
        report = Progress(len(target.regions()), len(todo), progress, drop_old)
        with _disk(path, report):
            execute(job, todo, scheduler, n_workers, report)
        if len(todo) == len(target.regions()) and not report.found:
            stores.remove(path)
            raise ValueError(NO_LAND.format(drivers=", ".join(model.drivers)))
        _verify(job, target, todo, n_workers)
        target.finish()
    with blamed_on(path, f"an {stores.KIND}; give overwrite=True or another path"):
        return xr.open_zarr(path, chunks={}, consolidated=False)


@contextmanager
def _its_own(path: str, overwrite: bool) -> Iterator[Callable[[], None]]:
    """No other process writes there; an old run stands aside until what is given is called."""
    if "://" in path:
        yield lambda: None
        return
    with files.alone(Path(path)):
        if (stores.read_mark(path) or {}).get("state") != "complete":
            files.bring_back(Path(path))
        old = files.aside(Path(path)) if overwrite and stores.read_mark(path) else nullcontext(lambda: None)
        with old as drop_old:
            yield drop_old
        files.sweep(Path(path))


def _require_other(path: str, grid: xr.Dataset) -> None:
    """The store must not be the one that the drivers are read from, as far as these say."""
    sources = {v.encoding["source"] for v in (grid, *grid.variables.values()) if "source" in v.encoding}
    if sources and os.path.realpath(path) in {os.path.realpath(source) for source in sources}:
        raise FileExistsError(f"run: {path!r} is where the drivers are read from; give another path")


def region_sizes(laid: Plan, out: Outputs, workers: int, chunks: dict[str, int] | None) -> dict[str, int]:
    """Regular lengths of the regions along the dims of a plane."""
    wanted = dict(chunks or {})
    unknown = set(wanted) - set(laid.dims)
    if unknown or any(int(c) < 1 for c in wanted.values()):
        raise ValueError(f"run: chunks={chunks}; expected lengths from 1 along {list(laid.dims)}")
    guide = max((d for d in laid.drivers), key=lambda d: (d.aligned, d.data.size)).data
    sizes = {d: laid.sizes[d] for d in laid.dims}
    total = int(np.prod(list(sizes.values()), dtype=np.int64))
    planes = len(out.targets) * out.per_target
    limit = max(1, min(CELL_STEPS, 4 * PLANES // planes, max(2**15, total // (4 * workers))))
    own = {d: _own_chunk(guide, d) for d in laid.dims}
    room = limit
    for dim in reversed(laid.space):
        sizes[dim] = wanted.get(dim) or min(own[dim] or sizes[dim], sizes[dim], max(1, room))
        room //= sizes[dim]
    step = own[laid.axis] or 1
    length = step * max(1, room // step) if step <= 4 * max(1, room) else max(1, room)
    sizes[laid.axis] = min(wanted.get(laid.axis) or length, sizes[laid.axis])
    return {d: int(min(n, laid.sizes[d])) for d, n in sizes.items()}


def _own_chunk(data: xr.DataArray, dim: str) -> int | None:
    if dim not in data.dims:
        return None
    return max(data.chunksizes[dim]) if data.chunks else preferred(data, dim)


def _open(
    path: str, laid: Plan, model: Model, out: Outputs, grid: Any, sizes: dict, asked: Any, overwrite: bool
) -> Store:
    """Make the store, or take up the one that an earlier call of the same run made."""
    import dask.array as da

    planes = len(out.targets) * out.per_target
    empty = da.zeros((planes, *(laid.sizes[d] for d in laid.dims)), chunks=-1, dtype=np.float32)
    result = assemble(empty, laid, model, out)
    result = result.to_dataset() if isinstance(result, xr.DataArray) else result
    names = tuple(map(str, result.data_vars))
    mark = _identity(laid, model, out, result)
    found = stores.read_mark(path)
    if overwrite and found is not None:  # a store far away: one that lies here has been moved aside
        stores.remove(path)
        found = None
    if found is None or found["state"] == "new":
        described = with_cf(result, grid, over_members=out.members is not None and not out.has_member_dim)
        lengths = {name: tuple((sizes | {"member": 1})[d] for d in described[name].dims) for name in names}
        stores.create(path, described, lengths, mark | {"chunks": sizes})
    else:
        _same_run(path, found, mark, {d: sizes[d] for d in asked or {}})
        stores.check_whole(path, names, found)
        stores.clean(path)
    return Store(path, names, out.has_member_dim)


def _identity(laid: Plan, model: Model, out: Outputs, result: xr.Dataset) -> dict[str, Any]:
    """What must agree for a run to be taken up: names, coordinates, and how the model answers to fixed rows."""
    samples = [_sample(d) for d in laid.drivers]
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-2, 3, (32, 1))
    rows = size * rng.standard_normal((32, len(laid.drivers)))
    answer = np.asarray(model.predict(rows.astype(np.float32)), np.float64).reshape(-1, 32)
    answer = np.linspace(1, 2, len(answer)) @ answer  # unequal, so that members cannot cancel or swap
    coords = {str(d): [*_ends(c), c.size] for d, c in result.coords.items() if c.ndim == 1}
    steps = [int(np.sum(d.steps * np.arange(1, d.steps.size + 1) % 1_000_003)) for d in laid.drivers]
    return {
        "drivers": [d.name for d in laid.drivers],
        "members": out.choice if isinstance(out.choice, str) else list(out.choice),
        "targets": list(out.targets),
        "coords": coords,
        "steps": steps,
        "answer": [float(f"{v:.6g}") for v in answer],
        "samples": samples,
    }


def _ends(coord: xr.DataArray) -> list[str]:
    """First and last label; dates to the second, since files bring them in other resolutions than memory."""
    ends = coord.values[[0, -1]]
    return [str(v) for v in (ends.astype("datetime64[s]") if ends.dtype.kind == "M" else ends)]


def _sample(driver: Driver) -> list[float] | None:
    """Number and weighted sums of some values of a driver's middle step; None where reading them could cost much."""
    data = driver.data
    blocks = data.encoding.get("preferred_chunks", {})
    read = np.prod([blocks.get(d, 1) for d in data.dims], dtype=np.int64)
    if data.chunks or read > PROBE:  # a lazy driver may be the end of a long computation
        return None
    tile = {d: slice(None, None, -(-data.sizes[d] // 16)) for d in data.dims if d != driver.axis}
    if driver.axis:
        tile[driver.axis] = int(driver.steps[len(driver.steps) // 2])
    values = np.asarray(data.isel(tile).values, np.float64).ravel()  # slices: a file reads each of its chunks once
    weighted = np.linspace(1, 2, values.size) * values
    finite = np.isfinite(values)
    return [float(finite.sum()), float(weighted[finite].sum()), float(np.abs(weighted[finite]).sum())]


def _same_run(path: str, found: dict, mark: dict, asked: dict) -> None:
    other = [k for k in mark if k not in ("answer", "samples") and found.get(k) != mark[k]]
    pairs = zip(mark["drivers"], found.get("samples") or [], mark["samples"], strict=False)
    known = [(name, then, now) for name, then, now in pairs if then and now]
    other += [f"values of {name}" for name, then, now in known if not np.allclose(then, now, rtol=1e-6, atol=0)]
    if not np.allclose(found["answer"], mark["answer"], rtol=1e-3, atol=1e-6, equal_nan=True):
        other.append("model")
    other += [f"chunks of {d}" for d, n in asked.items() if found["chunks"].get(d) != n]
    if other:
        raise FileExistsError(
            f"run: {path} holds a run with other {', '.join(other)}; give another path, or overwrite=True to replace it"
        )


def _todo(target: Store, workers: int) -> list[Region]:
    """Regions to compute: absent, or damaged and therefore deleted."""
    regions = target.regions()
    with ThreadPoolExecutor(workers) as pool:
        present = list(pool.map(target.is_present, regions))
        there = [r for r, p in zip(regions, present, strict=True) if p]
        sound = dict(zip(map(_key, there), pool.map(target.is_readable, there), strict=True))
    for region in there:
        if not sound[_key(region)]:
            target.delete(region)
    return [r for r in regions if not sound.get(_key(r), False)]


def _key(region: Region) -> tuple[int, ...]:
    return tuple(s.start for s in region)


def _verify(job: Job, target: Store, written: list[Region], workers: int) -> None:
    """Read back what this call wrote; what cannot be read is written once more."""
    for last in (False, True):
        with ThreadPoolExecutor(workers) as pool:
            sound = list(pool.map(lambda r: target.is_present(r) and target.is_readable(r), written))
        written = [r for r, ok in zip(written, sound, strict=True) if not ok]
        if not written:
            return
        if last:
            break
        for region in written:
            target.delete(region)
            job.write(region)
    raise OSError(f"run: {len(written)} chunks of {target.path} cannot be read back; check the disk and call again")


@contextmanager
def _disk(path: str, report: Progress | None = None) -> Iterator[None]:
    """Say what a full disk means for the run."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        done = f"{report.before + report.done} of {report.total} chunks" if report else "nothing"
        text = f"run: the disk is full; {done} written and kept. Free space and repeat the call: it goes on there"
        raise OSError(error.errno, text, path) from error
