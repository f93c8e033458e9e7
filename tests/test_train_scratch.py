"""Drivers too large for memory: the same numbers from a file, which leaves nothing behind, in bounded memory."""

import errno
import os
import tracemalloc

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.train import checkpoint  # noqa: E402
from xflux.train import grid as room  # noqa: E402
from xflux.train.data import Scaling  # noqa: E402
from xflux.train.scratch import ScratchArray  # noqa: E402

DAYS = pd.date_range("2015", "2018-12-31")


@pytest.fixture(scope="module")
def earth():
    """Four years of days of two drivers, which have gaps, and the mean year of another; lazy, in unlike chunks."""
    found, rng, daily = world(), np.random.default_rng(0), {}
    for name, chunks in {"wet": (100, 5, 36), "green": (200, 18, 12)}.items():
        values = rng.normal(size=(DAYS.size, 18, 36))
        values[rng.random(values.shape) > 0.99] = np.nan
        values[:, 4, 5:9] = np.nan
        daily[name] = ("time", "lat", "lon"), dask.array.from_array(values, chunks), {"units": "1"}
    return found, found.grid.assign_coords(time=DAYS).chunk({"lat": 5}).assign(daily)


@pytest.mark.filterwarnings("ignore:constraint .* the drivers cover a part")
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_training_from_a_file_has_the_same_bits_and_goes_on_in_memory(earth, kind, tmp_path, monkeypatch):
    found, grid = earth
    options = dict(integral="sampled", regions=found.weights, pixels=30, total=True, sampling_error=0)
    top = train.RegionalConstraint(found.target, grid, **options)
    config, made = train.TrainConfig(folds=2, max_epochs=2, batch=2000, hidden=(8,), dtype=kind), []

    class Watched(ScratchArray):
        def __init__(self, shape, *more):
            super().__init__(shape, *more)
            made.append(shape)

    def fit(spill, **more):
        monkeypatch.setattr(room, "SPILL", spill)
        return train.fit(found.towers, DRIVERS, constraints=[top], config=config, **more)

    def stop(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "ScratchArray", Watched)
    monkeypatch.setattr(room, "TOGETHER", 0)
    expected = fit(2**30)
    assert not made
    with pytest.raises(KeyboardInterrupt):
        fit(0, checkpoint=tmp_path / "run", progress=stop)
    assert {shape[2] for shape in made} == {DAYS.size, 12} and os.listdir(tmp_path) == ["run"]
    with pytest.raises(KeyboardInterrupt):  # in the second epoch, in memory
        fit(2**30, checkpoint=tmp_path / "run", progress=stop)
    got = fit(0, checkpoint=tmp_path / "run")
    assert all(np.array_equal(expected.weights[k], got.weights[k]) for k in expected.weights)
    xr.testing.assert_identical(expected.history, got.history)


def test_memory_does_not_grow_with_the_years(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SPILL", 0)
    monkeypatch.setattr(room, "NUMBERS", 2**16)
    monkeypatch.setattr(checkpoint, "BYTES_AT_ONCE", 2**16)
    lat, lon, peaks = np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10), []
    pixels = torch.arange(0, 18 * 36, 20)[None]
    for years in (1, 2, 10):  # the first for the compiler
        time = pd.date_range("2001", periods=365 * years)
        zeros = dask.array.zeros((time.size, 18, 36), chunks=(60, 9, 36), dtype="f4")
        lazy = xr.Dataset({"x": (("time", "lat", "lon"), zeros)}, {"time": time, "lat": lat, "lon": lon})
        scaling = Scaling(("x",), np.zeros(1), np.ones(1), {})
        tracemalloc.start()
        rows = room.grid_rows(lazy, scaling, np.arange(18 * 36), scratch=tmp_path)
        assert float(rows.at(torch.arange(300, 665)[None])[pixels].abs().max()) == 0
        checkpoint.fingerprint(rows.groups)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1] and peaks[2] < zeros.nbytes / 4, peaks


def test_a_disk_that_is_full_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    array = ScratchArray((2, 1, 3), np.float32, tmp_path)
    array.cut(1)
    monkeypatch.setattr(os, "pwrite", lambda *_: 5)
    with pytest.raises(OSError, match=r"No space left.*make room, or give a checkpoint=") as caught:
        array[0:1] = np.ones((1, 1, 3))
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"of 3\.7 GiB, which failed \(No space left"):
        ScratchArray((1000, 1, 10**6), np.float32, tmp_path)
    assert not os.listdir(tmp_path)


def test_a_file_that_is_cut_short_is_an_error(tmp_path):
    array = ScratchArray((2, 1, 3), np.float32, tmp_path)
    with pytest.raises(OSError, match="cannot be read whole"):
        array.take(np.array([5]), np.arange(3))
