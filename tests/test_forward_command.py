"""``xflux predict`` from files to a store."""

import numpy as np
import pytest
import xarray as xr
from forward_world import DRIVERS, assert_close, grid
from typer.testing import CliRunner

from xflux.cli import app
from xflux.forward import predict

pytest.importorskip("torch")


@pytest.fixture
def files(tmp_path):
    from xflux.train.model import FluxModel

    rng = np.random.default_rng(0)
    state = {
        "weight0": rng.normal(size=(2, 5, 8)).astype("float32"),
        "bias0": rng.normal(size=(2, 1, 8)).astype("float32"),
        "weight1": rng.normal(size=(2, 8, 1)).astype("float32"),
        "bias1": rng.normal(size=(2, 1, 1)).astype("float32"),
    }
    units = {"tair": "degC"}
    model = FluxModel(list(DRIVERS), np.zeros(5), np.ones(5), ["nee"], {"nee": "gC m-2 d-1"}, state, driver_units=units)
    model.save(tmp_path / "model.xflux")
    ds = grid()
    ds[["tair", "wai"]].to_zarr(tmp_path / "daily.zarr", zarr_format=3, consolidated=False)
    ds[["rg", "lai", "sand"]].to_netcdf(tmp_path / "climate.nc")
    return tmp_path, model, ds


def call(*words):
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def test_from_files_to_a_store(files):
    folder, model, ds = files
    given = [folder / "model.xflux", folder / "daily.zarr", folder / "climate.nc", folder / "out.zarr"]
    done = call(*given, "--members", "mean+std", "--chunks", "time=50", "--time", "2004", "--quiet")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "nee, nee_std" in done.output
    out = xr.open_zarr(folder / "out.zarr", consolidated=False)
    expected = predict(ds, model, members="mean+std", time="2004")
    assert_close(out.nee.values, expected.nee.values)
    assert out.sizes["time"] == expected.sizes["time"] > 300


def test_errors_name_the_file_the_driver_and_the_units(files):
    folder, _, ds = files
    damaged = folder / "damaged.xflux"
    damaged.write_bytes((folder / "model.xflux").read_bytes()[:200])
    error = call(damaged, folder / "climate.nc", folder / "out.zarr").exception
    assert isinstance(error, ValueError) and "damaged" in str(error)
    error = call(folder / "model.xflux", folder / "climate.nc", folder / "out.zarr").exception
    assert "lacks driver 'tair'" in str(error)
    ds.assign(tair=ds.tair.assign_attrs(units="K")).to_netcdf(folder / "kelvin.nc")
    error = call(folder / "model.xflux", folder / "kelvin.nc", folder / "out.zarr").exception
    assert "'tair' has units 'K', the model was trained with 'degC'" in str(error)
    error = call(folder / "model.xflux", folder / "climate.nc", folder / "out.zarr", "--chunks", "50").exception
    assert "expected e.g. time=31" in str(error)
    assert not (folder / "out.zarr").exists()


def test_a_driver_in_two_files_and_a_file_that_is_none_are_refused(files):
    folder, _, ds = files
    ds[["tair"]].to_netcdf(folder / "more.nc")
    given = [folder / "model.xflux", folder / "daily.zarr", folder / "more.nc", folder / "climate.nc"]
    error = call(*given, folder / "out.zarr").exception
    assert "driver 'tair' is in" in str(error) and "daily.zarr" in str(error) and "more.nc" in str(error)
    (folder / "text.nc").write_text("no netCDF")
    error = call(folder / "model.xflux", folder / "text.nc", folder / "out.zarr").exception
    assert "text.nc is damaged or is not netCDF or Zarr" in str(error)
    assert not (folder / "out.zarr").exists()


def test_files_of_different_times_are_read_one_after_another(files):
    folder, model, ds = files
    years = [folder / "b.nc", folder / "a.nc"]
    ds[["tair", "wai"]].isel(time=slice(0, 200)).to_netcdf(years[0])
    ds[["tair", "wai"]].isel(time=slice(200, None)).to_netcdf(years[1])
    given = [folder / "model.xflux", *years[::-1], folder / "climate.nc", folder / "out.zarr"]
    done = call(*given, "--chunks", "time=90", "--quiet")
    assert done.exit_code == 0, (done.output, done.exception)
    out = xr.open_zarr(folder / "out.zarr", consolidated=False)
    assert out.indexes["time"].equals(ds.indexes["time"])
    assert_close(out.nee.values, predict(ds, model, members="mean").values)
    ds[["tair", "wai"]].isel(time=slice(199, None)).to_netcdf(folder / "c.nc")
    error = call(folder / "model.xflux", years[0], folder / "c.nc", folder / "climate.nc", folder / "o.zarr").exception
    assert "overlap" in str(error) and "b.nc" in str(error) and "c.nc" in str(error)


def test_a_netcdf_file_is_written_where_one_is_named_and_patterns_are_expanded(files, monkeypatch):
    folder, model, ds = files
    monkeypatch.chdir(folder)
    words = ["model.xflux", "d*.zarr", "clim*.nc", "out.nc", "--time", "2004", "--quiet"]
    done = call(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    with xr.open_dataset("out.nc") as out:
        assert_close(out.nee.values, predict(ds, model, members="mean", time="2004").values)
        assert out.nee.attrs["units"] == "gC m-2 d-1" and "xflux_run" not in out.attrs
    assert not (folder / "out.nc.part.zarr").exists()
    assert "is a finished run" in str(call(*words).exception)
    assert call(*words, "--overwrite").exit_code == 0
    (folder / "mine.nc").write_text("mine")
    assert "exists and is no xflux fluxes" in str(call(*words[:3], "mine.nc", "--overwrite").exception)
