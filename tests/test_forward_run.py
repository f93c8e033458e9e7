"""The forward run on disk: the same numbers as predict, CF metadata, resume, verification."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask.array
import forward_world as world
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from forward_world import Net, assert_close, grid, plain

from xflux.forward import predict, run, wrap
from xflux.forward.files import open_drivers
from xflux.stores import Store

CHUNKS = {"time": 40, "lat": 3}


@pytest.fixture(scope="module")
def ds():
    return grid(holes=True)


@pytest.fixture(scope="module")
def truth(ds):
    return plain(ds, Net())


def quiet(*args, **kwargs):
    return run(*args, progress=False, **kwargs)


def chunk_bytes(path):
    """Every file of a store but its attributes."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}


@pytest.mark.parametrize("members", ["all", "mean", "mean+std", [2, 0]])
def test_equals_predict(ds, truth, tmp_path, members):
    out = quiet(ds.chunk(time=70), Net(), tmp_path / "a.zarr", members=members, chunks=CHUNKS)
    lazy = predict(ds, Net(), members=members)
    lazy = lazy if isinstance(lazy, xr.Dataset) else lazy.to_dataset()
    for name in lazy:
        assert out[name].dims == lazy[name].dims
        assert_close(out[name].values, lazy[name].values)
        assert out[name].attrs["units"] == "gC m-2 d-1"
    for coord in lazy.coords:
        np.testing.assert_array_equal(out[coord], lazy[coord])


def test_climatologies_that_are_kept_or_read_by_region_give_the_same(ds, truth, tmp_path, monkeypatch):
    import xflux.forward.job as job

    kept = quiet(ds, Net(), tmp_path / "kept.zarr", members="all", chunks=CHUNKS, interpolate=True)
    monkeypatch.setattr(job, "CACHE", 0)
    read = quiet(ds, Net(), tmp_path / "read.zarr", members="all", chunks=CHUNKS, interpolate=True)
    np.testing.assert_array_equal(kept.nee, read.nee)
    assert_close(read.nee.values, predict(ds, Net(), interpolate=True).values)
    assert_close(quiet(ds, Net(), tmp_path / "step.zarr", members="all").nee.values, truth)


def test_metadata(ds, tmp_path):
    bounds = np.stack([ds.time.values, ds.time.values + np.timedelta64(1, "D")], axis=1)
    given = ds.assign(time_bnds=(("time", "nv"), bounds))
    given["time"].attrs["bounds"] = "time_bnds"
    out = quiet(given, Net(), tmp_path / "a.zarr", members="mean+std")
    assert out.attrs["Conventions"].startswith("CF-1") and "predict(Net" in out.attrs["provenance"]
    assert out.nee.attrs["cell_methods"] == "time: mean area: mean where land realization: mean"
    assert "standard_deviation" in out.nee_std.attrs["cell_methods"]
    assert out.nee.attrs["long_name"] == "net ecosystem exchange" and out.nee.attrs["area_basis"] == "land"
    assert out.lat.attrs["standard_name"] == "latitude" and out.time.attrs["bounds"] == "time_bnds"
    np.testing.assert_array_equal(out.time_bnds, bounds)
    assert set(out.lat_bnds.values[0]) == {45.0, 75.0}
    assert json.loads(out.attrs["xflux_run"])["state"] == "complete"
    month = quiet(ds[["lai", "sand"]], wrap(lambda r: r[:, 0], ["lai", "sand"], "1"), tmp_path / "m.zarr")
    assert month.nee.dims == ("month", "lat", "lon") and "over years" in month.nee.attrs["cell_methods"]


def test_other_calendars_are_written(tmp_path):
    ds = grid(world.calendar_times("360_day", days=90), dayofyear=360)
    out = quiet(ds, Net(), tmp_path / "a.zarr", members="all", chunks={"time": 25})
    assert out.time.dt.calendar == "360_day"
    assert_close(out.nee.values, plain(ds, Net()))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers_write_the_same_bytes(ds, tmp_path, scheduler):
    quiet(ds, Net(), tmp_path / "a.zarr", chunks=CHUNKS, scheduler="threads", workers=1)
    workers = {"threads": 2, "processes": 1}[scheduler]
    quiet(ds, Net(), tmp_path / "b.zarr", chunks=CHUNKS, scheduler=scheduler, workers=workers)
    assert chunk_bytes(tmp_path / "a.zarr") == chunk_bytes(tmp_path / "b.zarr")


def test_files_are_read_by_region(ds, truth, tmp_path):
    ds[["tair", "wai"]].chunk(time=100).to_zarr(tmp_path / "daily.zarr", zarr_format=3, consolidated=False)
    ds[["rg", "lai", "sand"]].to_netcdf(tmp_path / "climate.nc")
    drivers = open_drivers([str(tmp_path / "daily.zarr"), str(tmp_path / "climate.nc")])
    assert not drivers.tair.chunks
    out = quiet(drivers, Net(), tmp_path / "a.zarr", members="all")
    assert_close(out.nee.values, truth)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_drivers([str(tmp_path / "none.nc")])
    other = ds[["sand"]].assign_coords(lat=ds.lat + 0.1)
    other.to_netcdf(tmp_path / "other.nc")
    with pytest.raises(ValueError, match="on different grids"):
        open_drivers([str(tmp_path / "climate.nc"), str(tmp_path / "other.nc")])


def test_a_second_call_computes_nothing_and_other_runs_are_refused(ds, tmp_path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    quiet(ds, Net(), path, chunks=CHUNKS)
    before = chunk_bytes(path)
    quiet(ds, Net(log=str(log)), path)  # the store's own chunks are taken up
    assert chunk_bytes(path) == before
    assert len(log.read_text().splitlines()) == 1  # the model is asked once, whether it is the same
    with pytest.raises(FileExistsError, match="holds a run with other model"):
        quiet(ds, Net(seed=5), path)
    with pytest.raises(FileExistsError, match="other members"):
        quiet(ds, Net(), path, members="mean+std")
    with pytest.raises(FileExistsError, match="other coords"):
        quiet(ds.isel(time=slice(100)), Net(), path)
    with pytest.raises(FileExistsError, match="other chunks of time"):
        quiet(ds, Net(), path, chunks={"time": 10})
    warmer = ds.assign(tair=ds.tair + 5)
    with pytest.raises(FileExistsError, match="holds a run with other values of tair; give another path"):
        quiet(warmer, Net(), path)
    warmer.to_zarr(tmp_path / "warmer.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(FileExistsError, match="holds a run with other values of tair; give"):
        quiet(open_drivers([str(tmp_path / "warmer.zarr")]), Net(), path)
    quiet(ds.chunk(time=50), Net(), path)  # a computation is not looked into
    quiet(ds, Net(seed=5), path, overwrite=True, chunks=CHUNKS)
    assert chunk_bytes(path) != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no xflux store"):
        quiet(ds, Net(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_missing_and_damaged_chunks_are_found_and_only_they_are_written(ds, tmp_path):
    path = tmp_path / "a.zarr"
    quiet(ds, Net(), path, chunks=CHUNKS)
    before = chunk_bytes(path)
    files = sorted((path / "nee" / "c").rglob("*"))
    files = [f for f in files if f.is_file()]
    assert len(files) == 20
    files[0].write_bytes(files[0].read_bytes()[:-7])  # truncated
    files[5].write_bytes(b"")  # emptied
    files[9].unlink()  # lost
    flipped = bytearray(files[12].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    files[12].write_bytes(flipped)  # a bit fell over
    (files[3].parent / "0.abc.partial").write_bytes(b"left by a killed writer")
    times = {f: f.stat().st_mtime_ns for f in files if f.exists()}
    quiet(ds, Net(), path)
    assert chunk_bytes(path) == before
    written = {f for f in files if f.stat().st_mtime_ns != times.get(f)}
    assert written == {files[i] for i in (0, 5, 9, 12)}


def test_a_chunk_that_is_damaged_while_it_is_written_is_found_at_the_end(ds, tmp_path, monkeypatch):
    quiet(ds, Net(), tmp_path / "good.zarr", chunks=CHUNKS)
    write, harmed = Store.write, []

    def harm(self, region, values):
        write(self, region, values)
        if not harmed:
            harmed.append(region)
            for chunk in self._chunks(region):
                file = Path(self.path) / chunk.path
                file.write_bytes(file.read_bytes()[:10])

    monkeypatch.setattr(Store, "write", harm)
    quiet(ds, Net(), tmp_path / "a.zarr", chunks=CHUNKS)
    assert harmed and chunk_bytes(tmp_path / "good.zarr") == chunk_bytes(tmp_path / "a.zarr")


def test_a_full_disk_is_an_error_that_says_how_to_go_on(ds, tmp_path, monkeypatch):
    quiet(ds, Net(), tmp_path / "good.zarr", chunks=CHUNKS)
    write, left = Store.write, [7]

    def full(self, region, values):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, region, values)

    path = tmp_path / "a.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full)
        with pytest.raises(OSError, match=r"the disk is full; 7 of 20 chunks written and kept.*repeat") as caught:
            quiet(ds, Net(), path, chunks=CHUNKS, workers=1)
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    log = tmp_path / "log"
    quiet(ds, Net(log=str(log)), path)
    assert chunk_bytes(path) == chunk_bytes(tmp_path / "good.zarr")
    assert len(log.read_text().splitlines()) == 1 + 13, "only what was missing is predicted"


def test_a_small_file_system_that_really_fills_up(tmp_path):
    """On a tmpfs of 400 kB in a user namespace, where the kernel allows one."""
    script = tmp_path / "full.py"
    script.write_text(
        "import sys, numpy as np\nsys.path.insert(0, sys.argv[1])\n"
        "from forward_world import Net, grid, calendar_times\nfrom xflux.forward import run\n"
        "ds = grid(calendar_times(days=600), ny=20, nx=30, holes=False)\n"
        "try:\n    run(ds, Net(), sys.argv[2] + '/a.zarr', chunks={'time': 20}, progress=False)\n"
        "except OSError as e:\n    print('FULL', e.errno, e.strerror)\n"
    )
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=400k none {tmp_path}/disk"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    command = f"{mount} && {sys.executable} {script} {Path(__file__).parent} {tmp_path}/disk"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, timeout=600)
    assert f"FULL {errno.ENOSPC} run: the disk is full" in done.stdout, done.stdout + done.stderr


def test_no_land_and_no_axis(ds, tmp_path):
    nowhere = ds.assign(sand=ds.sand * np.nan)
    with pytest.raises(ValueError, match="no land"):
        quiet(nowhere, Net(), tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="no land"):
        quiet(nowhere.chunk(), Net(), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(ValueError, match="no driver has a time, month or dayofyear axis"):
        quiet(ds, wrap(lambda r: r[:, 0], ["sand"], "1"), tmp_path / "a.zarr")
    with pytest.raises(ValueError, match=r"expected lengths from 1 along \['time', 'lat', 'lon'\]"):
        quiet(ds, Net(), tmp_path / "a.zarr", chunks={"day": 3})
    with pytest.raises(ValueError, match="workers=0; expected 1 or more"):
        quiet(ds, Net(), tmp_path / "a.zarr", workers=0)
    with pytest.raises(ValueError, match="scheduler='cluster'; expected"):
        quiet(ds, Net(), tmp_path / "a.zarr", scheduler="cluster")


def test_progress(ds, tmp_path, capsys):
    seen = []
    run(ds, Net(), tmp_path / "a.zarr", chunks=CHUNKS, progress=lambda *now: seen.append(now))
    assert [s[:2] for s in seen] == [(i + 1, 20) for i in range(20)]
    run(ds, Net(), tmp_path / "b.zarr", chunks=CHUNKS)
    assert "xflux: 20/20 chunks" in capsys.readouterr().err


def test_regions_follow_the_files_chunks(tmp_path):
    from xflux.forward.model import outputs
    from xflux.forward.plan import plan
    from xflux.forward.writer import region_sizes

    times = pd.date_range("2001-01-01", periods=730)
    zeros = dask.array.zeros((730, 360, 720), chunks=(31, 360, 720), dtype="float32")
    empty = xr.Dataset({"x": (("time", "lat", "lon"), zeros)}, {"time": times})
    net = Net(drivers=["x"], members=10)
    laid = plan(empty, net)
    assert region_sizes(laid, outputs(net, "mean"), 2, None) == {"time": 31, "lat": 360, "lon": 720}
    tiles = plan(empty.chunk(time=365, lat=60, lon=90), net)
    assert region_sizes(tiles, outputs(net, "mean"), 2, None) == {"time": 730, "lat": 60, "lon": 90}
    daily = plan(empty.chunk(time=1), net)
    assert region_sizes(daily, outputs(net, "mean"), 2, None)["time"] == 16
    assert region_sizes(daily, outputs(net, "all"), 2, {"time": 5})["time"] == 5


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from forward_world import Net, grid
from xflux.forward import run

if __name__ == "__main__":
    delay = float(sys.argv[3])
    run(grid(), Net(delay=delay), sys.argv[2], members="all", chunks={"time": 40, "lat": 3}, scheduler="threads")
"""


def test_sigkill_and_a_second_start(ds, tmp_path):
    quiet(ds, Net(), tmp_path / "good.zarr", members="all", chunks=CHUNKS)
    script, path = tmp_path / "job.py", tmp_path / "a.zarr"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(Path(__file__).parent), str(path)]
    first = subprocess.Popen([*command, "0.5"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while sum(f.is_file() for f in path.glob("nee/c/**/[0-9]")) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    there = [f for f in path.glob("nee/c/**/*") if f.is_file()]
    kept = {f: f.stat().st_mtime_ns for f in there if not f.name.endswith(".partial")}
    assert 4 <= len(kept) < 60
    assert json.loads(zarr.open_group(path, mode="r").attrs["xflux_run"])["state"] == "made"
    subprocess.run([*command, "0"], check=True, stderr=subprocess.DEVNULL)
    assert chunk_bytes(path) == chunk_bytes(tmp_path / "good.zarr")
    rewritten = [f for f, t in kept.items() if f.stat().st_mtime_ns != t]
    assert len(rewritten) <= 6, "only regions of which not every member was there are written again"


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as made:
        yield made


def test_a_cluster_by_address(ds, truth, cluster, tmp_path):
    out = quiet(ds, Net(), tmp_path / "a.zarr", members="all", chunks=CHUNKS, scheduler=cluster.scheduler_address)
    assert_close(out.nee.values, truth)


def test_drivers_that_live_on_the_cluster(ds, truth, cluster, tmp_path):
    from distributed import Client

    with Client(cluster) as client:
        held = client.persist(ds.chunk(time=130))
        out = quiet(held, Net(), tmp_path / "a.zarr", members="all", chunks={"time": 130})
        assert_close(out.nee.values, truth)
        assert_close(predict(held, Net()).compute().values, truth)


def test_the_model_reaches_each_worker_once(ds, cluster, tmp_path):
    from distributed import Client

    with Client(cluster) as client:
        lazy = predict(ds.chunk(time=5), Traced(log=str(tmp_path / "loads")))
        lazy.compute()
        loads = (tmp_path / "loads").read_text().split()
        workers = set(client.run(os.getpid).values())
        assert workers and all(loads.count(str(pid)) <= 2 for pid in workers), loads


class Traced(Net):
    """Notes every process that unpickles it."""

    def predict(self, rows, members=None):
        return Net.predict(Net(), rows, members)

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.log, "a", encoding="utf-8") as f:
            f.write(f"{os.getpid()}\n")


def test_a_killed_worker(ds, cluster, tmp_path):
    from distributed import Client

    quiet(ds, Net(), tmp_path / "good.zarr", chunks=CHUNKS)
    log, path = tmp_path / "log", tmp_path / "a.zarr"
    with Client(cluster) as client:
        victims = list(client.run(os.getpid).values())

        def kill(done, total, seconds):
            if done == 4:
                os.kill(victims[0], signal.SIGKILL)

        out = run(ds, Net(log=str(log), delay=0.2), path, chunks=CHUNKS, scheduler=client, progress=kill)
    assert out.nee.shape == (400, 5, 6)
    assert chunk_bytes(path) == chunk_bytes(tmp_path / "good.zarr")
    calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()[1:]]
    assert len(calls) - len(set(calls)) <= 1, "at most the region in the killed worker's hands is predicted twice"
    assert len(set(calls)) == 20
