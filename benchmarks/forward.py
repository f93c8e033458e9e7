"""Speed of the forward run, against the machine's matrix product and against what people write today.

    python benchmarks/forward.py                  all tables (about 10 minutes on 2 idle cores, 3 GB of disk)
    python benchmarks/forward.py --small          a try in under a minute; its figures mean little
    python benchmarks/forward.py --only memory    one of: memory, zarr, years, scaling

Every ratio is taken within one run of the script. 4 800 flop per row and member (10 → 32 → 32 → 32 → 1).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.forward import predict, run

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FLOP = 2 * (10 * 32 + 32 * 32 + 32 * 32 + 32)
NAMES = [f"driver{i}" for i in range(10)]
DAILY = NAMES[:2]


def best(work: Callable[[], object], repeats: int = 3) -> float:
    """Shortest wall time in seconds, after one call that warms up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def sgemm(size: int) -> float:
    """GFLOP/s of a large float32 matrix product on all cores."""
    import torch

    torch.set_num_threads(CORES)
    a, b = torch.randn(size, size), torch.randn(size, size)
    rate = 2 * size**3 / best(lambda: a @ b, 5) / 1e9
    torch.set_num_threads(1)
    return rate


def model(members: int = 10):
    """An untrained ensemble of the paper's shape."""
    from xflux.train.model import FluxModel

    rng = np.random.default_rng(0)
    sizes, state = (10, 32, 32, 32, 1), {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        state[f"weight{i}"] = (rng.normal(size=(members, n_in, n_out)) / np.sqrt(n_in)).astype("float32")
        state[f"bias{i}"] = rng.normal(size=(members, 1, n_out)).astype("float32")
    return FluxModel(NAMES, np.zeros(10), np.ones(10), ["nee"], {"nee": "gC m-2 d-1"}, state)


def drivers(days: int, resolution: float, start: str = "2001-01-01") -> xr.Dataset:
    """Two daily and eight monthly drivers; a quarter of the cells is land, in stripes as wide as continents."""
    ny, nx = round(180 / resolution), round(360 / resolution)
    rng = np.random.default_rng(1)
    lat, lon = 90 - resolution * (np.arange(ny) + 0.5), -180 + resolution * (np.arange(nx) + 0.5)
    land = (np.sin(np.radians(lon)) * np.cos(np.radians(2 * lat))[:, None] > 0.35) | (lat[:, None] < -83)
    ds = xr.Dataset(coords={"time": pd.date_range(start, periods=days), "lat": lat, "lon": lon})
    ds["month"] = np.arange(1, 13)
    for name in NAMES:
        dim, steps = ("time", days) if name in DAILY else ("month", 12)
        values = rng.standard_normal((steps, ny, nx), dtype="float32")
        values[:, ~land] = np.nan
        ds[name] = ((dim, "lat", "lon"), values)
    return ds


def rows_of(ds: xr.Dataset) -> int:
    """Rows that have every driver."""
    return int(np.isfinite(ds[NAMES[-1]].values[0]).sum()) * ds.sizes["time"]


def peer(ds: xr.Dataset, net, threads: int) -> Callable[[], object]:
    """apply_ufunc over ten nn.Sequential, one month per chunk, on the land cells alone (which favours it)."""
    import dask
    import torch

    land = np.flatnonzero(np.isfinite(ds[NAMES[-1]].values[0]).ravel())
    when = xr.DataArray(ds.time.dt.month.values - 1, dims="time")
    columns = []
    for name in NAMES:
        da = ds[name] if name in DAILY else ds[name].isel(month=when)
        flat = da.values.reshape(ds.sizes["time"], -1)[:, land]
        columns.append(xr.DataArray(flat, dims=("time", "cell")).chunk(time=31))
    members = [sequential(net, m) for m in range(net.members)]

    def apply(*blocks):
        x = torch.from_numpy(np.stack(blocks, axis=-1))
        with torch.no_grad():
            return np.stack([m(x)[..., 0].numpy() for m in members], axis=-1)

    out = xr.apply_ufunc(
        apply,
        *columns,
        output_core_dims=[["member"]],
        dask="parallelized",
        output_dtypes=["f4"],
        dask_gufunc_kwargs={"output_sizes": {"member": net.members}},
    )

    def work():
        torch.set_num_threads(threads)
        with dask.config.set(num_workers=max(1, CORES // threads)):
            out.compute(scheduler="threads")
        torch.set_num_threads(1)

    return work


def sequential(net, member: int):
    """One member as a torch.nn.Sequential."""
    import torch

    parts = []
    for i in range(len(net.weights) // 2):
        w, b = net.weights[f"weight{i}"][member], net.weights[f"bias{i}"][member, 0]
        layer = torch.nn.Linear(*w.shape)
        layer.weight.data, layer.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b.copy())
        parts += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def memory(days: int, resolution: float, size: int) -> None:
    """In memory: rate against sgemm, and against the peer."""
    ds, net = drivers(days, resolution), model()
    n = rows_of(ds)
    limit = sgemm(size)
    print(f"\nIn memory: {n:,} rows, ten members, {CORES} cores; large sgemm {limit:.0f} GFLOP/s")
    print(f"{'':44}{'seconds':>9}{'GFLOP/s':>9}{'of sgemm':>9}")
    times = {}
    for choice in ("all", "mean", "mean+std"):
        times[choice] = best(lambda c=choice: predict(ds, net, members=c).compute(scheduler="threads"))
        show(f'predict(members="{choice}")', times[choice], n * net.members, limit)
    peers = [best(peer(ds, net, threads), 1) for threads in {1, CORES}]
    show("apply_ufunc, ten nn.Sequential, month chunks", min(peers), n * net.members, limit)
    print(f'predict(members="all") is {min(peers) / times["all"]:.1f} × faster than apply_ufunc (to reach: 3.5)')
    reached = n * net.members * FLOP / times["all"] / 1e9 / limit
    print(f"share of sgemm {100 * reached:.0f} % (to reach: 27 %)")


def show(what: str, seconds: float, rows: int, limit: float) -> None:
    """One line of the table."""
    rate = rows * FLOP / seconds / 1e9
    print(f"{what:44}{seconds:9.2f}{rate:9.1f}{100 * rate / limit:8.0f} %")


def zarr(days: int, resolution: float) -> None:
    """From Zarr to Zarr, against computing in memory plus reading and writing the same arrays alone."""
    ds, net = drivers(days, resolution), model()
    chunks = {"time": 31}
    in_memory = best(lambda: predict(ds, net, members="mean").compute(scheduler="threads"), 2)
    with tempfile.TemporaryDirectory() as folder:
        source, target, plain = (Path(folder) / name for name in ("in.zarr", "out.zarr", "plain.zarr"))
        ds.chunk(chunks).to_zarr(source, zarr_format=3, consolidated=False)
        opened = xr.open_zarr(source, consolidated=False, chunks=None)
        whole = best(lambda: run(opened, net, target, progress=False, overwrite=True, scheduler="threads"), 2)
        lazy = xr.open_zarr(source, consolidated=False)
        reading = best(lambda: lazy.compute(scheduler="threads"), 2)
        result = xr.open_zarr(target, consolidated=False)[["nee"]].load().chunk(chunks)
        for name in result.variables:
            result[name].encoding = {}
        writing = best(lambda: result.to_zarr(plain, mode="w", zarr_format=3, consolidated=False), 2)
    parts = in_memory + reading + writing
    print(f"\nZarr to Zarr: {days} days at {resolution}°, two daily and eight monthly drivers, members='mean'")
    print(f"in memory {in_memory:.2f} s, reading {reading:.2f} s, writing {writing:.2f} s: together {parts:.2f} s")
    print(f"run() {whole:.2f} s = {whole / parts:.2f} × (to stay under: 1.5)")


def years(counts: list[int], resolution: float) -> None:
    """Memory and time of a run from Zarr, by years, each in a process of its own."""
    print(f"\nrun() from Zarr at {resolution}°, members='mean': peak memory and time by years")
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            source, target = Path(folder) / "in.zarr", Path(folder) / "out.zarr"
            one = drivers(365, resolution)
            steady = one.drop_vars(["time", *DAILY])
            steady.to_zarr(source, mode="w", zarr_format=3, consolidated=False)
            for year in range(count):
                part = one[DAILY].assign_coords(time=one.time + np.timedelta64(365 * year, "D"))
                part = part.drop_vars(["lat", "lon"]).chunk(time=73)
                where = {"append_dim": "time"} if year else {}
                part.to_zarr(source, mode="a", zarr_format=3, consolidated=False, **where)
            del one, steady, part
            code = (
                "import sys, time; sys.path.insert(0, sys.argv[1]); import forward as b, xarray as xr\n"
                "from xflux.forward import run\n"
                "ds = xr.open_zarr(sys.argv[2], consolidated=False, chunks=None); start = time.perf_counter()\n"
                "run(ds, b.model(), sys.argv[3], progress=False, overwrite=True, scheduler='threads')\n"
                "print(time.perf_counter() - start, b.peak())"
            )
            command = [sys.executable, "-c", code, str(Path(__file__).parent), str(source), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            print(f"{count:3d} years {float(done[0]):8.1f} s {float(done[1]):6.2f} GiB (to stay under: 3)")


def peak() -> float:
    """Largest resident memory of this process in GiB; getrusage would count what the parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def scaling(days: int, resolution: float) -> None:
    """How the time grows with steps, resolution and members; what a whole product costs."""
    print("\nScaling, in memory, members='mean'")
    print(f"{'days':>6}{'degrees':>9}{'members':>9}{'rows':>14}{'seconds':>9}{'ns per row and member':>23}")
    cost = 0.0
    cases = [(days // 4, resolution, 10), (days // 2, resolution, 10), (days, resolution, 10)]
    cases += [(days, 4 * resolution, 10), (days, 2 * resolution, 10), (days, resolution, 1), (days, resolution, 5)]
    for n_days, degrees, members in cases:
        ds, net = drivers(n_days, degrees), model(members)
        seconds = best(lambda ds=ds, net=net: predict(ds, net, members="mean").compute(scheduler="threads"), 2)
        n = rows_of(ds)
        each = 1e9 * seconds / n / members
        cost = each if (n_days, degrees, members) == (days, resolution, 10) else cost
        print(f"{n_days:6d}{degrees:9.2f}{members:9d}{n:14,}{seconds:9.2f}{each:23.2f}")
    land = {0.5: 67_000, 0.05: 6_700_000}
    print(f"\nExtrapolated from {cost:.2f} ns per row and member: 17 years of days, ten members, land cells only")
    for degrees, cells in land.items():
        hours = cells * 6209 * 10 * cost / 3.6e12
        print(
            f"{degrees}°, {cells:,} land cells: {hours:.2f} h on {CORES} cores; "
            f"{60 * hours * CORES / 200:.1f} min on 100 workers of 2 cores (linear, without reading and writing)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", choices=["memory", "zarr", "years", "scaling"])
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    small = asked.small
    tables = {
        "memory": lambda: memory(*((31, 2.0, 1024) if small else (31, 0.5, 4096))),
        "zarr": lambda: zarr(*((60, 2.0) if small else (365, 0.5))),
        "years": lambda: years(*(([1, 2], 2.0) if small else ([1, 3], 0.5))),
        "scaling": lambda: scaling(*((60, 2.0) if small else (120, 0.5))),
    }
    for name, table in tables.items():
        if asked.only in (None, name):
            table()
    print(f"\npeak memory of this process {peak():.1f} GiB")


if __name__ == "__main__":
    main()
