"""A lazy forward run with regional sums, by the chunks of its drivers and by the number of processes.

    python benchmarks/chunks.py                 a year of days at 0.5°: minutes, 5 GB of disk
    python benchmarks/chunks.py --days 30 --degrees 2     a try in a minute; its figures mean little

First table: every chunking of the same drivers (two daily, eight monthly, Zarr), each in a process of its own on two
threads, in turn. To hold: within 2 × of the fastest for chunks of 4 MB and more, 4 × for days. Second: one tile of
ocean. Third: ten members on a local cluster of 1, 2 and 4 processes of 1.5 GiB; "rest" is the share of the cores' time
that is neither arithmetic (model, regions) nor reading, both timed alone in one thread (on a busy machine look at that
of CPU time). A year of one member is too little work to judge it by.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import xarray as xr
from forward import CORES, DAILY, drivers, model, peak, rows_of

from xflux.forward import predict
from xflux.regions import aggregate_regions

CHUNKS = {  # steps, rows, columns; -1: all
    "whole": (-1, -1, -1),
    "31 days": (31, -1, -1),
    "tiles of 60 × 60": (-1, 60, 60),
    "tiles of 90 × 90": (-1, 90, 90),
    "7 × 100 × 250": (7, 100, 250),
    "days": (1, -1, -1),
}
PROCESSES = (1, 2, 4)


def made(folder: Path, days: int, degrees: float) -> None:
    """The drivers once in every chunking."""
    ds = drivers(days, degrees)
    for name, lengths in CHUNKS.items():
        chunks = dict(zip(("time", "lat", "lon"), lengths, strict=True))
        ds.chunk(chunks).to_zarr(folder / name, zarr_format=3, consolidated=False)


def lazy(store: Path, members: int) -> xr.DataArray:
    """Regional sums of the ensemble's mean, nothing read."""
    ds = xr.open_zarr(store, consolidated=False)
    return aggregate_regions(predict(ds, model(members), members="mean"), "reccap2")


def bytes_read() -> int:
    """Bytes that this process has read, from the disk or its cache."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def one(store: Path, members: int) -> dict[str, float]:
    """What one chunking costs."""
    import cloudpickle
    import dask

    lazy(store, members).isel(time=0).compute()  # compiled, imported, weights made
    start, cpu, read = time.perf_counter(), time.process_time(), bytes_read()
    sums = lazy(store, members)
    built = time.perf_counter() - start
    result = sums.compute(scheduler="threads", num_workers=2)
    wall, cpu, read = time.perf_counter() - start, time.process_time() - cpu, bytes_read() - read
    tasks = dict(dask.optimize(sums)[0].__dask_graph__())
    return {
        "wall": wall, "built": built, "cpu": cpu, "read": read / 1e6, "peak": peak(), "tasks": len(tasks),
        "graph": len(cloudpickle.dumps(tasks)) / 1e6, "sum": float(result.sum()),
        "same name": float(lazy(store, members).data.name == sums.data.name),
    }  # fmt: skip


def chunkings(folder: Path, members: int, repeats: int) -> None:
    found: dict[str, list[dict]] = {name: [] for name in CHUNKS}
    for _ in range(repeats):
        for name in CHUNKS:
            command = [sys.executable, __file__, "--one", str(folder / name), "--members", str(members)]
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
            found[name].append(json.loads(done))
    middle = {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
    fastest, true = min(m["wall"] for m in middle.values()), middle["whole"]["sum"]
    heads = "".join(f"{head:>8}" for head in ("MB", "s", "of best", "CPU s", "build", "tasks", "graph", "read", "GiB"))
    print(f"{'chunks':20}{heads}")
    for name, m in middle.items():
        chunk = xr.open_zarr(folder / name, consolidated=False)[DAILY[0]].data.chunksize
        print(
            f"{name:20}{4 * np.prod(chunk) / 1e6:8.1f}{m['wall']:8.2f}{m['wall'] / fastest:7.2f}×{m['cpu']:8.2f}"
            f"{m['built']:8.2f}{m['tasks']:8.0f}{m['graph']:6.1f}MB{m['read']:6.0f}MB{m['peak']:8.2f}"
        )
    off = max(abs(m["sum"] / true - 1) for m in middle.values())
    same = all(m["same name"] for m in middle.values())
    print(f"sums differ by {off:.0e} at most; equal calls have equal names: {same}")


def tile(folder: Path, members: int) -> None:
    """Blocks of ocean alone: what they read, of what the whole map reads."""
    store = folder / "tiles of 60 × 60"
    ds = xr.open_zarr(store, consolidated=False)
    widths = ds[DAILY[0]].data.chunks
    empty = ds[DAILY[0]].isel(time=0).isnull().compute().coarsen(lat=widths[1][0], lon=widths[2][0], boundary="pad")
    row, column = np.argwhere(empty.all().values)[0]
    blocks = predict(ds, model(members), members="mean").data.blocks[:, int(row), int(column)]
    before = bytes_read()
    assert np.isnan(blocks.compute(scheduler="synchronous")).all()
    print(f"\na tile of ocean reads {(bytes_read() - before) / 1e3:.0f} kB; "
          f"the store has {sum(f.stat().st_size for f in store.rglob('*') if f.is_file()) / 1e6:.0f} MB")  # fmt: skip


def alone(store: Path, members: int) -> tuple[float, float]:
    """CPU seconds of one thread for the model's rows and the regions' sums alone, and for reading alone."""
    ds, net = xr.open_zarr(store, consolidated=False), model(members)
    rows = np.random.default_rng(0).standard_normal((10, 16_384), dtype="float32").T
    net.predict(rows)
    start, repeats = time.process_time(), 20
    for _ in range(repeats):
        net.predict(rows).mean(axis=0, dtype="float64")
    of_row = (time.process_time() - start) / repeats / len(rows)
    month = ds.isel(time=slice(0, 31)).load()
    flux = xr.zeros_like(month[DAILY[0]]).assign_attrs(units="gC m-2 d-1", area_basis="land")
    aggregate_regions(flux, "reccap2")  # the weights are made
    start = time.process_time()
    aggregate_regions(flux, "reccap2")
    arithmetic = (of_row * rows_of(month) + time.process_time() - start) / 31 * ds.sizes["time"]
    start = time.process_time()
    for name in DAILY:
        ds[name].data.map_blocks(lambda block: block[:1, :1, :1].copy(), dtype="f4").compute(scheduler="synchronous")
    return arithmetic, time.process_time() - start


def warm(store: str, members: int) -> None:
    """Compile, import and make weights in a worker; a task is given to one of them alone."""
    lazy(Path(store), members).isel(time=0).compute(scheduler="synchronous")


def cluster(store: Path, members: int) -> None:
    from distributed import Client, LocalCluster

    arithmetic, reading = alone(store, members)
    print(f"\nLocal cluster, 1.5 GiB a process, {store.name}, {members} members; alone: model and regions "
          f"{arithmetic:.2f} s, reading {reading:.2f} s")  # fmt: skip
    for processes in PROCESSES:
        options = {"n_workers": processes, "threads_per_worker": 1, "memory_limit": "1.5GiB", "dashboard_address": None}
        options |= {"silence_logs": logging.CRITICAL}  # of workers that still say that they live when all is closed
        with LocalCluster(**options) as workers, Client(workers) as client:
            client.run(warm, str(store), members)
            client.run(peak)
            start, cpu = time.perf_counter(), sum(client.run(time.process_time).values())
            lazy(store, members).compute()
            wall, peaks = time.perf_counter() - start, client.run(peak)
            cpu = sum(client.run(time.process_time).values()) - cpu
        rest, busy = (1 - (arithmetic + reading) / spent for spent in (wall * min(processes, CORES), cpu))
        print(f"{processes} processes {wall:7.2f} s, rest {rest:4.0%} of the cores' time and {busy:4.0%} of the CPU's "
              f"{cpu:.2f} s, at most {max(peaks.values()):.2f} GiB a process")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("days", 365), ("members", 1), ("repeats", 3), ("cluster-members", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--degrees", type=float, default=0.5)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked.members)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder, asked.days, asked.degrees)
        chunkings(folder, asked.members, asked.repeats)
        tile(folder, asked.members)
        cluster(folder / "31 days", asked.cluster_members)


if __name__ == "__main__":
    main()
