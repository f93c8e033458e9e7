"""Drivers that do not fit in memory: made, placed at towers, trained on and run over in pieces of bounded size."""

import threading
import tracemalloc
import warnings

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux import drivers, forward
from xflux.study import StudyError, models, results, weather
from xflux.study.base import open_base
from xflux.study.config import Drivers
from xflux.study.strips import Strip

CELLS = {"lat": np.arange(-87.5, 90, 5.0), "lon": np.arange(-177.5, 180, 5.0)}


def daily(years=2, start="2001-01-01"):
    """Base variables by day on 5°, and the land."""
    time = pd.date_range(start, periods=365 * years + years // 4, freq="D")
    rng, coords = np.random.default_rng(0), {"time": time, **CELLS}
    shape = (len(time), 36, 72)
    season = (
        np.cos(2 * np.pi * (time.dayofyear.to_numpy() - 200) / 365)[:, None, None]
        * np.sign(CELLS["lat"])[None, :, None]
    )
    fields = {
        "TAIR": (12 + 10 * season + rng.normal(0, 3, shape), "degC"),
        "PREC": (rng.exponential(3, shape), "mm d-1"),
        "RG": (180 + 90 * season + 0 * rng.random(shape), "W m-2"),
        "NDVI": (0.5 + 0.2 * season + 0 * rng.random(shape), "1"),
    }
    land = rng.random(shape[1:]) < 0.4
    made = {
        k: (("time", "lat", "lon"), np.where(land, v, np.nan).astype("f4"), {"units": u})
        for k, (v, u) in fields.items()
    }
    share = xr.DataArray(land.astype(float), CELLS, ("lat", "lon"), name="land_fraction", attrs={"units": "1"})
    return xr.Dataset(made, coords), share


NAMES = ["WAI2", "Tair", "Rg_VIMSC", "AMP_MSC_NDVI", "AMP_MSC_WAI"]


def config(**more):
    return Drivers(base=["x"], land_fraction="l", variables=NAMES, fill_distance=6.0, **more)


@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 5, 36])
def test_pieces_of_any_size_give_the_drivers_of_the_whole(tmp_path, monkeypatch, rows):
    base, land = daily()
    monkeypatch.setattr(weather, "VALUES_AT_ONCE", rows * 72 * base.sizes["time"])
    monkeypatch.setattr(weather, "CHUNK_STEPS", 100)
    monkeypatch.setattr(weather, "READ_AT_ONCE", 60 * 36 * 72 * 4)
    land[10] = 1.0  # coastal cells without drivers
    grid = weather.write_grid(config(), [base.chunk(time=50)], land, tmp_path)
    whole, filled = drivers.fill_nearest(drivers.table_a2(base)[NAMES], land > 0, max_distance=6.0)
    assert list(grid.data_vars) == [*NAMES, "land_fraction"] and filled > 0
    assert grid.attrs["filled_cells"] == filled and [p.name for p in tmp_path.iterdir()] == ["grid.zarr"]
    for name in NAMES:
        assert grid[name].dims == whole[name].transpose(*grid[name].dims).dims
        np.testing.assert_allclose(
            grid[name], whole[name].transpose(*grid[name].dims), rtol=2e-5, atol=1e-5, err_msg=name
        )
    assert grid["Rg_VIMSC"].attrs["units"] == "W m-2"


def test_the_drivers_do_not_depend_on_the_threads(tmp_path, monkeypatch):
    class Watched(warnings.catch_warnings):  # changes the filters of the whole process
        def __enter__(self):
            assert threading.current_thread() is threading.main_thread()
            return super().__enter__()

    monkeypatch.setattr(warnings, "catch_warnings", Watched)
    base, land = daily(1)
    base = base.isel(time=slice(0, 60))
    monkeypatch.setattr(weather, "VALUES_AT_ONCE", 300 * base.sizes["time"])
    made = []
    for threads in (1, 3):
        monkeypatch.setattr(weather, "cores", lambda threads=threads: threads)
        made.append(weather.write_grid(config(), [base.chunk(time=20)], land, tmp_path).load())
    xr.testing.assert_identical(*made)


def test_a_piece_that_fails_ends_the_work(tmp_path, monkeypatch):
    base, land = daily(1)
    base = base.isel(time=slice(0, 60))
    monkeypatch.setattr(weather, "VALUES_AT_ONCE", 50 * base.sizes["time"])
    make, tried = weather.make_drivers, []

    def failing(config, parts):
        tried.append(parts)
        if len(tried) == 3:
            raise OSError("no space left")
        return make(config, parts)

    with monkeypatch.context() as patch:
        patch.setattr(weather, "make_drivers", failing)
        with pytest.raises(OSError, match="no space left"):
            weather.write_grid(config(), [base], land, tmp_path)
    assert len(tried) < 10 and not list(tmp_path.glob("*.zarr"))
    monkeypatch.setattr(weather, "VALUES_AT_ONCE", 2000 * base.sizes["time"])
    assert weather.write_grid(config(), [base], land, tmp_path)["Tair"].notnull().any()  # a second try begins anew


def test_a_strip_is_written_by_steps_and_read_by_cells(tmp_path):
    values = np.random.default_rng(0).random((5, 2, 7)).astype("f4")
    like = xr.Dataset({"a": (("class", "time"), np.zeros((2, 5))), "b": ((), 0.0)}, {"class": ["x", "y"]})
    strip = Strip(tmp_path / "strip", like, xr.DataArray(np.arange(7.0), dims="lat"), few=3)
    for k, part in enumerate(strip.parts):
        strip.write("b", k, values[0, 0, part])
        strip.write("a", k, values[3:, :, part], 3)
        strip.write("a", k, values[:3, :, part])
    columns = xr.concat([strip.column(k) for k in range(3)], "lat")
    assert columns["a"].dims == ("lon", "time", "class", "lat") and columns["class"].values.tolist() == ["x", "y"]
    np.testing.assert_array_equal(columns["a"][0], values)
    np.testing.assert_array_equal(columns["b"][0], values[0, 0])
    np.testing.assert_array_equal(strip.read("a", 1, slice(2, 4)), values[2:4, :, 3:6])


@pytest.mark.parametrize("stored", [{}, {"chunksizes": (7, 36, 72)}])
def test_files_are_read_as_they_are_stored_or_few_steps_at_a_time(tmp_path, monkeypatch, stored):
    base, _ = daily(1)
    monkeypatch.setattr("xflux.study.base.READ_AT_ONCE", 20 * 36 * 72 * 4)
    base.isel(time=slice(0, 50)).assign(crs=0).to_netcdf(tmp_path / "a.nc", encoding={n: stored for n in base})
    (opened,) = open_base([[tmp_path / "a.nc"]])
    assert opened["TAIR"].chunksizes["time"] == ((7,) * 7 + (1,) if stored else (20, 20, 10))


def test_years_are_cut_after_the_seasonal_cycles_are_made(tmp_path):
    base, land = daily(3)
    grid = weather.write_grid(config(years=(2002, 2002)), [base], land, tmp_path)
    whole = drivers.table_a2(base)
    assert grid.sizes["time"] == 365 and set(grid.time.dt.year.values) == {2002}
    np.testing.assert_allclose(grid["Rg_VIMSC"], whole["Rg_VIMSC"].transpose("dayofyear", "lat", "lon"), rtol=2e-5)
    wai = whole["WAI2"].transpose("time", "lat", "lon").sel(time="2002")
    np.testing.assert_allclose(grid["WAI2"], wai, rtol=2e-5, atol=1e-6)


def test_drivers_are_made_on_land_and_as_far_from_it_as_anything_takes_them(tmp_path):
    base, land = daily(1)
    base, land = base.fillna(base.mean("time")).fillna(1.0).isel(time=slice(0, 40)), xr.zeros_like(land)
    land[18, 0] = 1.0  # 2.5° N, 177.5° W: neighbours are 5° away, diagonal ones 7°
    for reach, cells in ((0.0, 5), (7.5, 9)):  # coasts reach 6° in these settings
        grid = weather.write_grid(config(), [base], land, tmp_path, reach)
        at = np.flatnonzero(grid["Tair"].notnull().all("time"))
        assert len(at) == cells and {18 * 72, 18 * 72 + 1, 18 * 72 + 71} <= set(at)
        np.testing.assert_array_equal(
            grid["Tair"].values.reshape(40, -1)[:, at], base["TAIR"].values.reshape(40, -1)[:, at]
        )
    with pytest.raises(StudyError, match=r"drivers.land_fraction: no cell of drivers.base has land"):
        weather.write_grid(config(), [base], land * 0, tmp_path)


def test_files_of_a_group_follow_each_other_in_any_order_and_convention(tmp_path):
    base, _ = daily()
    first, second = base.sel(time="2001"), base.sel(time="2002")
    turned = second.assign_coords(lon=second.lon % 360).sortby("lon").sortby("lat", ascending=False)
    second.to_netcdf(tmp_path / "a.nc")
    first.rename(time="valid_time", lat="latitude", lon="longitude").to_netcdf(tmp_path / "b.nc")
    (opened,) = open_base([[tmp_path / "a.nc", tmp_path / "b.nc"]])
    np.testing.assert_array_equal(opened.time, base.time)
    np.testing.assert_array_equal(opened["TAIR"], base["TAIR"])
    turned[["NDVI"]].to_netcdf(tmp_path / "c.nc")
    parts = open_base([[tmp_path / "b.nc"], [tmp_path / "c.nc"]])
    np.testing.assert_array_equal(parts[1]["NDVI"], second["NDVI"])
    first.to_netcdf(tmp_path / "d.nc")
    with pytest.raises(StudyError, match=r"drivers.base: b.nc …: 2001-01-01.* comes twice"):
        open_base([[tmp_path / "b.nc", tmp_path / "d.nc"]])
    first.isel(lat=slice(0, 9)).to_netcdf(tmp_path / "e.nc")
    with pytest.raises(StudyError, match=r"e.nc is not on the grid of drivers.base: 27 of 36 latitudes"):
        open_base([[tmp_path / "b.nc"], [tmp_path / "e.nc"]])
    base.isel(time=0, drop=True).to_netcdf(tmp_path / "f.nc")
    with pytest.raises(StudyError, match="which have no time to follow each other in"):
        open_base([[tmp_path / "b.nc", tmp_path / "f.nc"]])


def peak_of(work) -> float:
    """Most memory that was held at once by Python and NumPy during the work, MB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the grid covers only a part")
def test_memory_does_not_grow_with_the_years(tmp_path, monkeypatch):
    """Three times the years, three times the data: the peak of the whole way stays."""
    monkeypatch.setattr(weather, "VALUES_AT_ONCE", 80_000)
    monkeypatch.setattr(weather, "READ_AT_ONCE", 100_000)
    monkeypatch.setattr(weather, "cores", lambda: 1)  # how many pieces several threads hold at once is chance
    base, land = (part.isel(lon=slice(0, 24)) for part in daily(3))
    for year, part in base.groupby("time.year"):
        part.to_netcdf(tmp_path / f"base_{year}.nc", encoding={n: {"chunksizes": (31, 36, 24)} for n in part})
    model = forward.wrap(lambda rows: rows[:, :2].sum(1), NAMES, "gC m-2 d-1")

    def work(years: int, name: str = "run") -> None:
        out = tmp_path / f"{name}_{years}"
        out.mkdir()
        files = [tmp_path / f"base_{2001 + y}.nc" for y in range(years)]
        grid = weather.write_grid(config(), open_base([files]), land, out)
        models.run_forward(grid.drop_vars("land_fraction"), model, out / "flux" / "ec.zarr")
        sums, _ = results.of_forward_runs(out, ["ec"], ["reccap2"], land, {})
        assert sums["reccap2"]["ec"].sizes["time"] == 12 * years

    work(1, "first")  # what is compiled and cached once does not count
    with dask.config.set(scheduler="synchronous"):
        peaks = [peak_of(lambda years=years: work(years)) for years in (1, 3)]
    assert peaks[1] < 1.3 * peaks[0] and peaks[1] < base.nbytes / 1e6, (peaks, base.nbytes / 1e6)
