"""Drivers of the wanted cells as standardised rows: however the driver is stored, and never twice in memory."""

import tracemalloc

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from xflux.train import grid as room  # noqa: E402
from xflux.train.data import Scaling  # noqa: E402
from xflux.train.network import Network  # noqa: E402

DAYS, LAT, LON = pd.date_range("2001", periods=365), np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10)
SCALING = Scaling(("daily", "seasonal", "fixed"), np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), {})


@pytest.fixture(scope="module")
def drivers():
    rng = np.random.default_rng(0)
    sizes = {"daily": ("time", 365), "seasonal": ("dayofyear", 365), "fixed": (None, 1)}
    ds = xr.Dataset(coords={"time": DAYS, "dayofyear": np.arange(1, 366), "lat": LAT, "lon": LON})
    for name, (dim, n) in sizes.items():
        values = rng.normal(size=(n, LAT.size, LON.size)).astype(np.float32)
        ds[name] = ((*([dim] if dim else []), "lat", "lon"), values if dim else values[0])
    ds["daily"][40:50, 3, 4] = np.nan
    return ds


@pytest.mark.parametrize("chunks", [None, {}, {"time": 31, "lat": 5}, {"time": 1}, {"time": 100, "lat": 7, "lon": 11}])
@pytest.mark.parametrize(("numbers", "spill"), [(1, 2**30), (1000, 0), (2**24, 0), (2**24, 2**30)])
def test_rows_are_the_same_however_drivers_are_chunked(drivers, chunks, numbers, spill, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SPILL", spill)
    monkeypatch.setattr(room, "NUMBERS", numbers if chunks else 2**14)
    wanted, kept = np.array([3, 3 * 36 + 4, 77, 200, 201, 640]), np.array([3, 3 * 36 + 4, 200, 201, 640])
    grid = drivers.assign(fixed=drivers.fixed.where(drivers.fixed != drivers.fixed[2, 5]))  # cell 77 is never there
    grid = grid if chunks is None else grid.chunk(chunks)
    rows = room.grid_rows(grid, SCALING, wanted, torch.float64, scratch=tmp_path)
    got = rows.at(None)[torch.arange(5)[None]][0]
    for k, name in enumerate(SCALING.drivers):
        expected = (drivers[name].values.reshape(-1, 18 * 36)[:, kept].T - SCALING.mean[k]) / SCALING.scale[k]
        np.testing.assert_array_equal(got[:, k], np.nan_to_num(np.broadcast_to(expected, (5, 365))))
    np.testing.assert_array_equal(rows.cells, kept)
    np.testing.assert_array_equal(rows.share, [1, 355 / 365, 1, 1, 1])
    assert rows.incomplete == 2 and rows.present(torch.arange(5)[None]).logical_not().sum() == 10


def test_a_lazy_driver_is_never_twice_in_memory(monkeypatch):
    monkeypatch.setattr(room, "NUMBERS", 2**18)
    zeros, lat, lon = dask.array.zeros((365, 72, 144), chunks=(73, 36, 72)), np.arange(72) - 36.0, np.arange(144) - 72.0
    lazy = xr.Dataset({"daily": (("time", "lat", "lon"), zeros)}, {"time": DAYS, "lat": lat, "lon": lon})
    tracemalloc.start()
    room.grid_rows(lazy, Scaling(("daily",), np.zeros(1), np.ones(1), {}), np.arange(72 * 144), torch.float64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * zeros.nbytes  # its rows, a piece, and a byte each for what is there


@pytest.mark.parametrize("members", [(1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("joined", [0, 5e7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_pixels_and_steps_are_those_of_plain_indices(drivers, members, dtype, joined, monkeypatch):
    monkeypatch.setattr(room, "TOGETHER", joined)
    rows = room.grid_rows(drivers, SCALING, np.arange(18 * 36), dtype)
    rng = np.random.default_rng(1)
    pixels, steps = rng.integers(0, 18 * 36, (members[0], 5)), rng.integers(0, 365, (members[1], 7))
    got = rows.at(torch.tensor(steps))[torch.tensor(pixels)]
    assert got.dtype == dtype
    for k, name in enumerate(SCALING.drivers):
        flat = np.broadcast_to(drivers[name].values.reshape(-1, 18 * 36), (365, 18 * 36))
        expected = np.nan_to_num((flat - SCALING.mean[k]) / SCALING.scale[k]).astype(got.numpy().dtype)
        picked = [expected[np.ix_(steps[m % members[1]], pixels[m % members[0]])].T for m in range(3)]
        np.testing.assert_array_equal(got[:, :, k], picked)


@pytest.mark.parametrize("fuse", [True, False])
def test_the_network_reads_drivers_where_they_lie(drivers, fuse, monkeypatch):
    monkeypatch.setattr(room, "TOGETHER", 0)
    rng = np.random.default_rng(2)
    pixels, steps = torch.tensor(rng.integers(0, 18 * 36, (1, 9))), torch.tensor(rng.integers(0, 365, (3, 200)))
    network = Network((3, 8, 1), [(0, 0), (0, 1), (0, 2)], fuse=fuse)
    apart = room.grid_rows(drivers, SCALING, np.arange(18 * 36)).at(steps)
    together, found = apart[pixels].flatten(0, 1), []
    for values, at in ((apart, pixels), (together, torch.arange(27).view(3, 9))):
        slope = torch.ones_like(network.outputs(values, at))
        network.accumulate(values, at, slope)
        found.append([network.outputs(values, at), *(p.grad for p in network.parameters)])
        for parameter in network.parameters:
            parameter.grad = None
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
