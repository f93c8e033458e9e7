"""open_product and products(): published files of every row of the table, read as their row says."""

import importlib
import json
import re
import warnings
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import write_products as writer
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xflux
from xflux import temporal
from xflux.catalogue import ProductError
from xflux.catalogue.table import load_table

CASES = sorted(writer.WRITERS)


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory) -> dict[str, writer.Fixture]:
    return writer.write_all(tmp_path_factory.mktemp("products"))


def quietly(*args, **kwargs) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xflux.open_product(*args, **kwargs)


def opened(fixture: writer.Fixture, **kwargs) -> xr.Dataset:
    return quietly(fixture.product, fixture.paths, **kwargs)


# --- every row --------------------------------------------------------------------------------------------------------


def test_every_row_of_the_table_has_a_fixture(fixtures):
    assert {f.product for f in fixtures.values()} == set(load_table())


@pytest.mark.parametrize("name", CASES)
def test_values_dims_and_units_are_those_of_the_writer(fixtures, name):
    fixture = fixtures[name]
    ds = opened(fixture)
    for variable, expected in fixture.values.items():
        da = ds[variable]
        assert da.attrs["units"] == fixture.units[variable]
        assert da.dims[-2:] == ("lat", "lon")
        ensemble = {"gcp-inversions": "inversion", "oco2-mip": "inversion", "gcp2018-atlas": "inversion"}
        if fixture.product in ensemble:
            assert da.dims[:2] == (ensemble[fixture.product], "time")
        else:
            assert da.dims[0] == "time"
        np.testing.assert_allclose(da.values, expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_steps_are_named_by_their_start_and_bounds(fixtures, name):
    fixture = fixtures[name]
    ds = opened(fixture)
    assert [(t.year, t.month, t.day) for t in ds.indexes["time"]] == fixture.starts
    assert ds.time.attrs["bounds"] == "time_bnds"
    bounds = ds.time_bnds.values
    assert (bounds[:, 0] == ds.time.values).all()
    if name != "openghg":  # its files are two Januaries
        assert (bounds[1:, 0] == bounds[:-1, 1]).all()
    assert ds.time.dt.calendar.replace("proleptic_gregorian", "standard") == (
        "360_day" if name == "gcp2018_atlas" else fixture.extra.get("calendar", "standard").replace("365_day", "noleap")
    )


@pytest.mark.parametrize("name", ["carbontracker", "fluxcom_rs"])
def test_a_variable_alone_tells_its_steps_without_a_word(fixtures, name):
    """A DataArray cannot carry bounds; its stamps are known to be the starts."""
    ds = opened(fixtures[name])
    alone = next(iter(ds.data_vars.values()))
    assert "time_bnds" not in alone.coords
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        days = temporal.step_days(alone.isel(time=slice(0, 2)))
    expected = (ds.time_bnds[:2, 1] - ds.time_bnds[:2, 0]) / np.timedelta64(1, "D")
    np.testing.assert_array_equal(days, expected)


@pytest.mark.parametrize("name", CASES)
def test_what_a_flux_is_rides_in_its_attributes(fixtures, name):
    fixture = fixtures[name]
    ds = opened(fixture)
    row = load_table()[fixture.product]
    for variable in fixture.values:
        attrs = ds[variable].attrs
        known = next(v for v in row.variables if v.name == variable)
        assert attrs["sign_as_published"] in ("positive = uptake", "positive into the atmosphere")
        assert ("includes_fire" in attrs) == (known.includes_fire is not None)
        assert attrs["long_name"] and attrs["cell_methods"] == "time: mean"
        if row.area_basis in ("land", "cell"):
            assert attrs["area_basis"] == row.area_basis
    assert ds.lat.attrs["units"] == "degrees_north" and ds.lon.attrs["units"] == "degrees_east"
    assert json.loads(ds.attrs["provenance"])["inputs"]["files"] == [str(p) for p in fixture.paths]
    assert ds.attrs["checked"] and ds.attrs["product"] == fixture.product


@pytest.mark.parametrize("name", CASES)
def test_opening_reads_no_flux_and_chunks_by_time(fixtures, name):
    import dask

    def small_only(graph, keys, **kwargs):
        """Coordinates, names and bounds may be read; nothing with time, latitude and longitude."""
        results = dask.get(graph, keys, **kwargs)
        assert all(np.ndim(r) < 3 for r in results), "a flux was computed while opening"
        return results

    with dask.config.set(scheduler=small_only):
        ds = opened(fixtures[name])
    for variable in fixtures[name].values:
        chunks = ds[variable].chunksizes
        assert len(chunks["lat"]) == len(chunks["lon"]) == 1
        assert all(ds[variable].data.dtype.itemsize * np.prod(c) <= 256 * 2**20 for c in [ds[variable].data.chunksize])


@pytest.mark.parametrize("name", [c for c in CASES if c != "x_base_cycle"])
def test_the_globes_budget_is_the_number_known_to_the_writer(fixtures, name):
    """Product → aggregate_regions, against sums that the writer made with its own areas and month lengths."""
    fixture = fixtures[name]
    land = {"land_fraction": fixture.extra["land_file"]} if "land_file" in fixture.extra else {}
    ds = opened(fixture, **land)
    for variable, expected in fixture.totals.items():
        part = ds.drop_vars([v for v in ds.data_vars if v != variable])
        whole = None
        if ds[variable].attrs.get("area_basis") == "land" and "land_fraction" not in ds.coords:
            whole = xr.DataArray(np.ones((ds.lat.size, ds.lon.size)), {"lat": ds.lat, "lon": ds.lon}, ("lat", "lon"))
        unit = "PgC yr-1" if fixture.extra.get("step") == "year" else "PgC"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            budget = part.flux.aggregate_regions(
                "latitude-bands", units=unit, land_fraction=whole, include_global=True
            )[variable]
        np.testing.assert_allclose(budget.sel(region="GLOBAL").values, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "name", ["gcp_inversions", "jena_carboscope", "x_base", "gfed", "ilamb", "trendy_SDGVM", "gfas"]
)
@pytest.mark.parametrize("form", ["nc", "zarr"])
def test_what_is_opened_can_be_written_and_read_again(fixtures, name, form, tmp_path):
    ds = opened(fixtures[name])
    path = tmp_path / f"x.{form}"
    if form == "nc":
        ds.to_netcdf(path)
    else:
        ds.to_zarr(path)
    again = xr.open_dataset(path, engine="zarr" if form == "zarr" else None)
    for variable in fixtures[name].values:
        np.testing.assert_array_equal(again[variable].values, ds[variable].values)
        assert again[variable].attrs["units"] == ds[variable].attrs["units"]


# --- single quirks ----------------------------------------------------------------------------------------------------


def test_member_names_in_char_rows_and_absent_periods(fixtures):
    ds = opened(fixtures["gcp_inversions"])
    assert list(ds.inversion.values) == ["CAMS", "CarboScope", "UoE"]
    nbe = ds.nbe.sel(inversion="UoE")
    assert nbe.isel(time=slice(0, 12)).isnull().all() and nbe.isel(time=slice(12, None)).notnull().all()
    assert ds.nbe.attrs["includes_fire"] == 1 and ds.nbe.attrs["adjusted_for"] == "fossil"
    assert ds.nbe_river_adjusted.attrs["includes_rivers"] == 0
    np.testing.assert_allclose(ds.rivers.values, fixtures["gcp_inversions"].extra["rivers"])
    assert "rivers" in ds.coords and ds.rivers.dims == ("lat", "lon")
    assert ds.rivers.attrs["sign_as_published"] == "positive = uptake"


@pytest.mark.parametrize("name", ["gcp_inversions", "carbontracker_europe", "jena_carboscope", "cams", "gfed", "ilamb"])
def test_cell_areas_are_coordinates(fixtures, name):
    ds = opened(fixtures[name])
    np.testing.assert_allclose(ds.cell_area.values, fixtures[name].extra["cell_area"], rtol=1e-6)
    assert ds.cell_area.dims == ("lat", "lon") and ds.cell_area.attrs["units"] == "m2"
    assert "cell_area" in ds.coords and "cell_area" not in ds.data_vars


@pytest.mark.parametrize("name", ["jena_carboscope", "cams", "x_base"])
def test_land_fractions_are_coordinates(fixtures, name):
    ds = opened(fixtures[name])
    np.testing.assert_allclose(ds.land_fraction.values, fixtures[name].extra["land_fraction"], rtol=1e-6)
    assert ds.land_fraction.dims == ("lat", "lon")


def test_bio_of_carbontracker_is_nee_without_fire(fixtures):
    for name in ("carbontracker", "carbontracker_europe"):
        ds = opened(fixtures[name])
        assert ds.nee.attrs["includes_fire"] == 0
        assert "time_components" not in ds and "decimal_time" not in ds


def test_spin_up_years_are_dropped(fixtures):
    ds = opened(fixtures["jena_carboscope"])
    assert set(ds.time.dt.year.values) == {2002, 2003} and ds.attrs["valid_years"] == "2002-2003"


def test_land_fraction_from_a_file_of_its_own(fixtures):
    fixture = fixtures["fluxcom"]
    for source in (fixture.extra["land_file"], xr.open_dataset(fixture.extra["land_file"]).landfraction):
        ds = opened(fixture, land_fraction=source)
        np.testing.assert_allclose(ds.land_fraction.values, fixture.extra["land_fraction"], rtol=1e-6)
        assert ds.land_fraction.attrs["units"] == "1"
    turned = xr.open_dataset(fixture.extra["land_file"]).landfraction
    turned = turned.assign_coords(longitude=turned.longitude % 360).sortby("longitude")
    ds = opened(fixture, land_fraction=turned)
    np.testing.assert_allclose(ds.land_fraction.values, fixture.extra["land_fraction"], rtol=1e-6)


def test_a_land_fraction_on_another_grid_is_refused(fixtures):
    other = xr.DataArray(
        np.ones((4, 8)), {"lat": [-67.5, -22.5, 22.5, 67.5], "lon": np.arange(8) * 45.0}, ("lat", "lon")
    )
    with pytest.raises(ProductError, match=r"latitudes are no cells of the land fraction's grid"):
        opened(fixtures["fluxcom"], land_fraction=other)
    wrong = xr.full_like(xr.open_dataset(fixtures["fluxcom"].extra["land_file"]).landfraction, 300.0)
    with pytest.raises(ProductError, match="land_fraction reaches from 3 to 3; expected shares of the cell, 0 to 1"):
        opened(fixtures["fluxcom"], land_fraction=wrong)


def test_cells_of_zeros_stay_unless_asked(fixtures):
    row, column = fixtures["fluxcom"].extra["zero_cell"]
    assert opened(fixtures["fluxcom"]).nee[:, row, column].notnull().all()
    masked = opened(fixtures["fluxcom"], drop_zero_cells=True)
    assert masked.nee[:, row, column].isnull().all()
    assert int(masked.nee.isnull().sum()) == 24 * 2  # that cell, and the one that is missing anyway
    assert "time_bnds" in masked.coords


def test_a_leftover_hour_bnds_is_left_out_and_bounds_kept(fixtures):
    ds = opened(fixtures["x_base"])
    assert "hour_bnds" not in ds.variables
    assert ds.lat_bnds.dims == ("lat", "bnds") and float(ds.lat_bnds[0, 0]) == 90.0
    assert ds.nee.attrs["standard_name"] == "net_ecosystem_exchange_of_carbon"


def test_the_diurnal_cycle_keeps_its_hours(fixtures):
    assert opened(fixtures["x_base_cycle"]).nee.dims == ("time", "hour", "lat", "lon")


def test_eight_day_steps_restart_in_january(fixtures):
    bounds = opened(fixtures["fluxcom_rs"]).time_bnds.values
    assert str(bounds[-1, 1])[:10] == "2004-01-01" and (bounds[-1, 1] - bounds[-1, 0]) / np.timedelta64(1, "D") == 5


def test_statistics_are_no_inversions(fixtures):
    fixture = fixtures["oco2_mip"]
    with pytest.warns(UserWarning, match="EnsMean, EnsStd left out: statistics"):
        ds = xflux.open_product("oco2-mip", fixture.paths)
    assert list(ds.inversion.values) == fixture.members and ds.experiment == "LNLGIS"
    mean = next(p for p in fixture.paths if "EnsMean" in p.name)
    alone = xflux.open_product("oco2-mip", mean)
    assert alone.nbe.dims == ("time", "lat", "lon") and alone.inversion == "EnsMean"
    assert str(alone.time.values[0])[:7] == "2015-01"


def test_experiments_become_a_dim(fixtures, tmp_path):
    import shutil

    for experiment in ("LNLG", "IS"):
        for path in fixtures["oco2_mip"].paths[:2]:
            if experiment == "IS" or "Baker" in path.name:
                shutil.copy(path, tmp_path / path.name.replace("LNLGIS", experiment))
    ds = xflux.open_product("oco2-mip", tmp_path / "*.nc4")
    assert ds.nbe.dims == ("experiment", "inversion", "time", "lat", "lon")
    assert set(ds.experiment.values) == {"IS", "LNLG"}
    assert ds.nbe.sel(experiment="LNLG", inversion="CMS_FLUX").isnull().all()
    assert ds.nbe.sel(experiment="LNLG", inversion="Baker").notnull().all()


def test_trendy_is_turned_and_missing_values_are_missing(fixtures):
    for name in ("trendy_JULES", "trendy_YIBs"):
        nbe = opened(fixtures[name]).nbe
        assert nbe[:, 2, 2].isnull().all() and float(abs(nbe).max()) < 1
        assert nbe.attrs["sign_as_published"] == "positive = uptake" and nbe.attrs["name_as_published"] == "nbp"
        assert nbe.attrs["positive"] == "up" and "downward" not in nbe.attrs.get("standard_name", "")
    ds = opened(fixtures["trendy_CABLE-POP"])
    assert float(ds.lat.max()) < 90 and ds.member == "CABLE-POP" and ds.experiment == "S3"


def test_trendy_models_on_one_grid_become_members(fixtures):
    paths = [*fixtures["trendy_CLASSIC"].paths, *fixtures["trendy_ORCHIDEEv3"].paths]
    nbe = xflux.open_product("trendy", paths).nbe
    assert nbe.dims == ("member", "time", "lat", "lon") and list(nbe.member.values) == ["CLASSIC", "ORCHIDEEv3"]


def test_variables_in_files_of_their_own_are_merged(fixtures):
    ds = opened(fixtures["fluxcom"])
    assert {"nee", "gpp", "ter", "nee_mad", "nee_n"} <= set(ds.data_vars)
    only = opened(fixtures["fluxcom"], variables=["gpp"])
    assert list(only.data_vars) == ["gpp"] and "time_bnds" in only.coords


def test_burned_area_ends_before_fire_does(fixtures):
    with pytest.warns(UserWarning, match="the variables cover different times"):
        ds = xflux.open_product("gfed4.1s", fixtures["gfed"].paths)
    assert ds.burned_fraction.sel(time="2016").notnull().all() and ds.burned_fraction.sel(time="2017").isnull().all()
    assert (ds.fire == 0).any()  # zeros are no fire, not missing


def test_openghg_says_what_its_flux_is(fixtures, tmp_path):
    assert (opened(fixtures["openghg"]).gpp > 0).all()
    paths = {
        "ter": "co2-rtot-cardamom_X_2014.nc",
        "ocean": "co2-nemo-ocean-mth_X_2014.nc",
        "flux": "co2-thing_X_2014.nc",
    }
    lat, lon = writer.axes(6, 8)
    for variable, name in paths.items():
        contents = {
            **writer.lat_lon(lat, lon, ("lat", "lon")),
            "time": (("time",), [0], {"units": "days since 2014-01-01"}),
            "flux": (("lat", "lon", "time"), np.ones((6, 8, 1)), {"units": "mol/m2/s"}),
        }
        writer.write(tmp_path / name, {"lat": 6, "lon": 8, "time": 1}, contents)
        assert list(xflux.open_product("openghg", tmp_path / name).data_vars) == [variable]


def test_one_step_of_unknown_length_has_no_bounds(fixtures, tmp_path):
    lat, lon = writer.axes(6, 8)
    contents = {
        **writer.lat_lon(lat, lon, ("lat", "lon")),
        "time": (("time",), [181], {"units": "days since 2014-01-01"}),
        "flux": (("lat", "lon", "time"), np.ones((6, 8, 1)), {"units": "mol/m2/s"}),
    }
    path = writer.write(tmp_path / "co2-nee_X_2014.nc", {"lat": 6, "lon": 8, "time": 1}, contents)
    ds = xflux.open_product("openghg", path)
    assert "time_bnds" not in ds.variables and str(ds.time.values[0])[:10] == "2014-07-01"


def test_float32_coordinates_are_the_numbers_they_stand_for(fixtures, tmp_path):
    lat = np.arange(89.95, -90, -0.1).astype("f4")[:50]
    lon = np.arange(0.05, 360, 0.1).astype("f4")[:40]
    contents = {
        **writer.lat_lon(lat, lon),
        "time": (("time",), [0.0, 24.0], {"units": "hours since 1900-01-01 00:00:0.0"}),
        "co2fire": (("time", "latitude", "longitude"), np.ones((2, 50, 40)), {"units": "kg m**-2 s**-1"}),
    }
    path = writer.write(tmp_path / "cams_gfas_co2fire_1900.nc", {"time": 2, "latitude": 50, "longitude": 40}, contents)
    ds = xflux.open_product("gfas", path)
    assert float(ds.lat[0]) == 89.95 and float(ds.lon[-1]) == 3.95


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_months_since_are_calendar_months(tmp_path, fraction):
    lat, lon = writer.axes(6, 8)
    contents = {
        **writer.lat_lon(lat, lon),
        "time": (("time",), np.arange(14) + fraction, {"units": "months since 1999-12-16", "calendar": "noleap"}),
        "nbp": (("time", "latitude", "longitude"), np.ones((14, 6, 8)), {"units": "kg m-2 s-1"}),
    }
    path = writer.write(tmp_path / "X_S2_nbp.nc", {"time": 14, "latitude": 6, "longitude": 8}, contents)
    ds = xflux.open_product("trendy", path)
    assert [(t.year, t.month) for t in ds.indexes["time"]][:3] == [(1999, 12), (2000, 1), (2000, 2)]
    assert ds.time.dt.calendar == "noleap" and ds.experiment == "S2"


def test_a_zarr_store_is_a_file_too(fixtures, tmp_path):
    raw = xr.open_dataset(fixtures["x_base"].paths[0], decode_times=False)
    raw.to_zarr(tmp_path / "NEE_2003_050_monthly.zarr")
    ds = xflux.open_product("x-base", tmp_path / "NEE_2003_050_monthly.zarr")
    np.testing.assert_allclose(ds.nee.values, fixtures["x_base"].values["nee"][24:])


MOL = {"units": "mol m-2 s-1"}


def _monthly(tmp_path, name, variable, units, time, dims=("time", "latitude", "longitude"), extra=None, count=12):
    """A file with one variable of ones, and whatever time axis is asked for."""
    lat, lon = writer.axes(6, 8)
    sizes = {"time": count, "latitude": 6, "longitude": 8, **(extra or {})}
    contents = {**writer.lat_lon(lat, lon), variable: (dims, np.ones([sizes[d] for d in dims]), units)}
    if time is not None:
        contents["time"] = (("time",), *time)
    return writer.write(tmp_path / name, sizes, contents)


def test_a_year_of_months_without_dates_is_the_year_of_the_name(tmp_path):
    units = {"units": "kg-CO2/m2/month"}
    path = _monthly(tmp_path, "co2.MACTM-r84.JAMSTEC.2011.nc", "flux_apos_land", units, None)
    ds = xflux.open_product("miroc4-actm", path)
    assert [str(t)[:7] for t in ds.time.values[[0, -1]]] == ["2011-01", "2011-12"]


@pytest.mark.parametrize("units", ["months since 1700-01-01", "years since 1700-01-01"])
def test_years_since_are_years(tmp_path, units):
    step = 12 if units.startswith("months") else 1
    time = (301 * step + np.arange(3) * step, {"units": units})
    path = _monthly(tmp_path, "LPJ_S3_nbp.nc", "nbp", {"units": "kg m-2 s-1"}, time, count=3)
    bounds = xflux.open_product("trendy", path).time_bnds.values.astype("M8[D]").astype(str)
    assert bounds.tolist() == [[f"{y}-01-01", f"{y + 1}-01-01"] for y in (2001, 2002, 2003)]


def test_a_layer_of_one_is_squeezed_and_per_layer_read(tmp_path):
    dims = ("time", "layer", "latitude", "longitude")
    time = (np.arange(12) * 30.0 + 10, {"units": "days since 2001-01-01", "calendar": "noleap"})
    units = {"units": "kgC m-2 month-1 per layer"}
    path = _monthly(tmp_path, "ISAM_S3_nbp.nc", "nbp", units, time, dims, {"layer": 1})
    nbe = xflux.open_product("trendy", path).nbe
    assert nbe.dims == ("time", "lat", "lon") and nbe.attrs["units"] == "kgC m-2 month-1"


def test_units_in_brackets_are_the_units(fixtures, tmp_path):
    raw = xr.open_dataset(fixtures["jena_carboscope"].paths[0], decode_times=False)
    for name in ("co2flux_land", "co2flux_ocean", "co2flux_subt", "co2flux_excl"):
        raw[name].attrs["units"] = "[PgC/yr]"
    raw.to_netcdf(tmp_path / "s99oc_v2020_daily.nc")
    ds = xflux.open_product("carboscope", tmp_path / "s99oc_v2020_daily.nc")
    np.testing.assert_allclose(ds.nbe.values, fixtures["jena_carboscope"].values["nbe"], rtol=1e-12)
    raw.attrs |= {"yrfi_valid": 1999, "yrfe_valid": 2000}
    raw.to_netcdf(tmp_path / "old.nc")
    with pytest.raises(ProductError, match=r"no year of old.nc \(2001-2004\) is among its valid ones \(1999-2000\)"):
        xflux.open_product("carboscope", tmp_path / "old.nc")


def test_a_unit_that_was_never_seen_is_taken_as_it_is(tmp_path):
    time = (np.arange(12) * 30.0 + 15, {"units": "days since 2001-01-01", "calendar": "360_day"})
    path = _monthly(tmp_path, "fco2_X_a.nc", "Terrestrial_flux", {"units": "kgC/m2/yr"}, time)
    assert xflux.open_product("gcp2018", path).nbe.attrs["units"] == "kgC/m2/yr"
    path = _monthly(tmp_path, "fco2_Y_a.nc", "Terrestrial_flux", {"units": "PgC/yr"}, time)
    with pytest.raises(ProductError, match=r"expected units 'gC m-2 yr-1', found 'PgC/yr'"):
        xflux.open_product("gcp2018", path)


def test_two_januaries_are_months_where_the_name_says_so(tmp_path):
    time = (np.array([0.0, 366.0]), {"units": "days since 2000-01-01"})
    units = {"units": "mol m-2 s-1"}
    path = _monthly(tmp_path, "CT.monthly.nc", "bio_flux_opt", units, time, count=2)
    with pytest.warns(UserWarning, match="no data from 2000-02-01 to 2001-01-01"):
        ds = xflux.open_product("carbontracker", path)
    assert (np.diff(ds.time_bnds.values, axis=1) == np.timedelta64(31, "D")).all()


def test_gfas_months_and_days(tmp_path):
    units = {"units": "kg m**-2 s**-1"}
    one = (np.array([0]), {"units": "hours since 2003-01-01 00:00:0.0"})
    month = xflux.open_product(
        "gfas", _monthly(tmp_path, "cams_gfas_co2fire_200301.nc", "co2fire", units, one, count=1)
    )
    assert str(month.time_bnds.values[0, 1])[:10] == "2003-02-01"
    other = xflux.open_product("gfas", _monthly(tmp_path, "gfas_remake.nc", "fire", units, one, count=1))
    assert "time_bnds" not in other.coords and other.fire.attrs["name_as_published"] == "fire"


@pytest.mark.parametrize("layout", ["valid_time", "end of the day", "forecast dims"])
def test_gfas_as_the_store_gives_it_today(tmp_path, layout):
    """Days of January 2003, stamped by valid_time, by the forecast's reference and its end, or along both."""
    day = np.arange(31.0)
    since = {"units": "days since 2003-01-01"}
    data = (day[:, None, None] * np.ones((6, 8)) * 1e-9).astype("f4")
    units = {"units": "kg m**-2 s**-1", "long_name": "Wildfire flux of Carbon Dioxide", "standard_name": "unknown"}
    lat, lon = writer.axes(6, 8, descending=True, west=0.0)
    place = {"latitude": ("latitude", lat), "longitude": ("longitude", lon)}
    if layout == "forecast dims":
        dims = ("forecast_period", "forecast_reference_time", "latitude", "longitude")
        ds = xr.Dataset({"co2fire": (dims, data[None], units)}, place)
        ds = ds.assign_coords(forecast_period=[24], forecast_reference_time=("forecast_reference_time", day, since))
        ds = ds.assign_coords(valid_time=(dims[:2], day[None] + 1, since))
    else:
        ds = xr.Dataset({"co2fire": (("valid_time", "latitude", "longitude"), data, units)}, place)
        ds = ds.assign_coords(valid_time=("valid_time", day + (layout == "end of the day"), since))
        if layout == "end of the day":
            ds = ds.assign_coords(forecast_reference_time=("valid_time", day, since), number=0)
    ds.to_netcdf(tmp_path / "data_sfc.nc")
    fire = xflux.open_product("gfas", tmp_path / "data_sfc.nc").fire
    assert fire.dims == ("time", "lat", "lon") and fire.attrs["units"] == "kgCO2 m-2 s-1"
    assert [str(t)[:10] for t in fire.time.values[[0, 30]]] == ["2003-01-01", "2003-01-31"]
    np.testing.assert_allclose(fire.isel(lat=0, lon=0).values, day * 1e-9, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_all_fluxes_of_a_product_are_aggregated_at_once(fixtures, name):
    ds = opened(fixtures[name])
    unit = "PgC yr-1" if fixtures[name].extra.get("step") == "year" else "PgC month-1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regional = ds.flux.aggregate_regions("latitude-bands", units=unit)
    assert set(fixtures[name].values) <= set(regional.data_vars)


def test_the_rows_of_the_description_are_names_too():
    from xflux.catalogue.table import find_product

    table = load_table()
    for title, name in {
        "GCP/GCB inversions 1x1 (GCB2022..2024)": "gcp-inversions",
        "NOAA CarbonTracker CT2017/CT2019B/CT2022": "carbontracker",
        "CarbonTracker Europe CTE2018/2020": "carbontracker-europe",
        "Jena CarboScope": "jena-carboscope",
        "CAMS/LSCE (PyVAR) CO2 inversion": "cams",
        "MIROC4-ACTM (JAMSTEC)": "miroc4-actm",
        "OCO-2 v10 MIP gridded": "oco2-mip",
        "GCP2018 Global Carbon Atlas inversions": "gcp2018-atlas",
        "FLUXCOM RS+METEO": "fluxcom",
        "FLUXCOM-X X-BASE": "x-base",
        "GFAS v1.2": "gfas",
        "GFED 4.1s": "gfed4.1s",
        "TRENDY": "trendy",
        "ILAMB/obs4MIPs style": "ilamb",
        "openghg flux": "openghg",
    }.items():
        assert find_product(title, table).name == name


def test_contents_ride_into_the_regions(fixtures):
    nbe = opened(fixtures["gcp_inversions"]).nbe.flux.aggregate_regions("latitude-bands")
    assert nbe.attrs["includes_fire"] == 1 and nbe.attrs["includes_rivers"] == 1 and nbe.dims[-1] == "region"


# --- several files ----------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(3)))
def test_the_order_of_files_does_not_matter(fixtures, order):
    fixture = fixtures["x_base"]
    ds = xflux.open_product("x-base", [fixture.paths[i] for i in order])
    np.testing.assert_array_equal(ds.nee.values, fixture.values["nee"])


def test_steps_within_a_file_are_put_in_order(tmp_path):
    time = (np.array([31.0, 0.0, 60.0]), {"units": "days since 2000-01-01"})
    ds = xflux.open_product("carbontracker", _monthly(tmp_path, "CT.nc", "bio_flux_opt", MOL, time, count=3))
    assert [t.month for t in ds.indexes["time"]] == [1, 2, 3] and (np.diff(ds.time_bnds.values) > 0).all()


def test_single_steps_in_many_files_tell_their_length_together(tmp_path):
    for day in range(3):
        time = (np.array([24.0 * day]), {"units": "hours since 2003-01-01 00:00:0.0"})
        _monthly(tmp_path, f"remake_{day}.nc", "fire", {"units": "kg m**-2 s**-1"}, time, count=1)
    ds = xflux.open_product("gfas", str(tmp_path / "remake_*.nc"))
    assert (np.diff(ds.time_bnds.values, axis=1) == np.timedelta64(1, "D")).all()
    assert ds.time.attrs["bounds"] == "time_bnds"


def test_months_and_years_are_not_mixed(tmp_path):
    months = (np.array([0.0, 31.0]), {"units": "days since 2001-01-01"})
    years = (np.array([0.0, 365.0]), {"units": "days since 2001-01-01"})
    paths = [
        _monthly(tmp_path, f"{name}_S3_nbp.nc", "nbp", {"units": "kg m-2 s-1"}, time, count=2)
        for name, time in (("A", months), ("B", years))
    ]
    with pytest.raises(ProductError, match=r"steps of different length from 2001-01-01 \(to 2001-02-01 and to 2002-01"):
        xflux.open_product("trendy", paths)


def test_a_pattern_finds_all_files(fixtures):
    folder = fixtures["x_base"].paths[0].parent
    ds = xflux.open_product("x-base", str(folder / "NEE_*_050_monthly.nc"))
    np.testing.assert_array_equal(ds.nee.values, fixtures["x_base"].values["nee"])


def test_labels_from_the_caller(fixtures):
    fixture = fixtures["carbontracker_europe"]
    ds = xflux.open_product("cte", {"a": fixture.paths[0], "b": fixture.paths})
    assert ds.nee.dims == ("member", "time", "lat", "lon") and list(ds.member.values) == ["a", "b"]


def test_a_step_that_is_there_twice_is_named(fixtures, tmp_path):
    import shutil

    copy = shutil.copy(fixtures["x_base"].paths[0], tmp_path / "NEE_copy_050_monthly.nc")
    with pytest.raises(ProductError, match=r"2003-01-01 is in two files, NEE_2003_050_monthly.nc and NEE_copy"):
        xflux.open_product("x-base", [*fixtures["x_base"].paths, copy])


def test_a_gap_is_named(fixtures):
    paths = [p for p in fixtures["x_base"].paths if "2002" not in p.name]
    with pytest.warns(UserWarning, match="x-base: there is no data from 2002-01-01 to 2003-01-01"):
        assert xflux.open_product("x-base", paths).sizes["time"] == 24


def test_grids_that_differ_are_named(fixtures, tmp_path):
    lat, lon = writer.axes(4, 6)
    contents = {
        **writer.lat_lon(lat, lon),
        "time": (("time",), [0.0, 31.0], {"units": "days since 2003-01-01", "calendar": "noleap"}),
        "nbp": (("time", "latitude", "longitude"), np.ones((2, 4, 6)), {"units": "kg m-2 s-1"}),
    }
    path = writer.write(tmp_path / "Coarse_S3_nbp.nc", {"time": 2, "latitude": 4, "longitude": 6}, contents)
    with pytest.raises(ProductError, match=r"different grids: 6 × 8 .*CLASSIC; 4 × 6 .*Coarse"):
        xflux.open_product("trendy", [*fixtures["trendy_CLASSIC"].paths, path])


def test_calendars_that_differ_are_named(fixtures):
    paths = [*fixtures["trendy_CLASSIC"].paths, *fixtures["trendy_CARDAMOM"].paths]
    with pytest.raises(ProductError, match=r"different calendars along member: .*CARDAMOM"):
        xflux.open_product("trendy", paths)


# --- files that do not look like their product ------------------------------------------------------------------------


def _ct(tmp_path, **changes):
    """A CarbonTracker-like file with one thing changed."""
    lat, lon = writer.axes(6, 8)
    given = {
        "variable": "bio_flux_opt",
        "units": "mol m-2 s-1",
        "lat": "latitude",
        "time": "days since 2000-01-01",
    } | changes
    contents = {
        given["lat"]: ((given["lat"],), lat, {}),
        "longitude": (("longitude",), lon, {}),
        "time": (("time",), [0.0, 31.0], {"units": given["time"]} if given["time"] else {}),
        given["variable"]: (
            ("time", given["lat"], "longitude"),
            np.ones((2, 6, 8)),
            {"units": given["units"]} if given["units"] else {},
        ),
    }
    return writer.write(tmp_path / "CT2022.flux1x1-monthly.nc", {"time": 2, given["lat"]: 6, "longitude": 8}, contents)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variable": "bio"}, r"expected one of the variables bio_flux_opt, .*; found bio$"),
        ({"units": "gC m-2 d-1"}, r"'nee' expected units 'mol m-2 s-1', found 'gC m-2 d-1'"),
        ({"units": "mol m-2 d-1"}, r"'nee' expected units 'mol m-2 s-1', found 'mol m-2 d-1'"),
        ({"units": None}, r"'nee' expected units 'mol m-2 s-1', found 'no units attribute'"),
        ({"lat": "rows"}, r"expected a 1-D 'lat' coordinate \(one of lat, latitude.*found dims .*rows"),
        ({"time": None}, r"expected time as 'decode' .*found None"),
        ({"time": "fortnights since 2000-01-01"}, r"time in 'fortnights since 2000-01-01'.*cannot be decoded"),
    ],
)
def test_a_file_that_is_something_else_says_what_differs(tmp_path, change, message):
    with pytest.raises(ProductError, match=message):
        xflux.open_product("carbontracker", _ct(tmp_path, **change))


@pytest.mark.parametrize("spelling", ["mol/m2/s", "mol m^-2 s^-1", "mol CO2 m-2 s-1", "molC m-2 s-1"])
def test_another_spelling_of_the_unit_is_the_unit(tmp_path, spelling):
    ds = xflux.open_product("carbontracker", _ct(tmp_path, units=spelling))
    assert ds.nee.attrs["units"] == "mol m-2 s-1" and ds.nee.attrs["units_as_published"] == spelling


def test_a_curvilinear_grid_is_refused(tmp_path):
    lat, lon = np.meshgrid(*writer.axes(6, 8), indexing="ij")
    contents = {
        "lat": (("y", "x"), lat, {}),
        "lon": (("y", "x"), lon, {}),
        "time": (("time",), [0.0], {"units": "days since 2000-01-01"}),
        "bio_flux_opt": (("time", "y", "x"), np.ones((1, 6, 8)), {"units": "mol m-2 s-1"}),
    }
    path = writer.write(tmp_path / "CT2022.flux1x1-monthly.nc", {"time": 1, "y": 6, "x": 8}, contents)
    with pytest.raises(ProductError, match=r"expected a 1-D 'lat'.*found a 2-D lat \(curvilinear\)"):
        xflux.open_product("carbontracker", path)


def test_latitudes_beyond_the_pole_are_refused_where_no_one_expects_them(tmp_path):
    lat, lon = np.linspace(-90, 95, 6), writer.axes(6, 8)[1]
    contents = {
        **writer.lat_lon(lat, lon),
        "time": (("time",), [0.0, 31.0], {"units": "days since 2000-01-01"}),
        "bio_flux_opt": (("time", "latitude", "longitude"), np.ones((2, 6, 8)), {"units": "mol m-2 s-1"}),
    }
    path = writer.write(tmp_path / "CT.monthly.nc", {"time": 2, "latitude": 6, "longitude": 8}, contents)
    with pytest.raises(ProductError, match=r"expected latitudes within ±90, found -90 to 95"):
        xflux.open_product("carbontracker", path)


def test_the_same_month_twice_in_a_file_is_refused(tmp_path):
    lat, lon = writer.axes(6, 8)
    contents = {
        **writer.lat_lon(lat, lon),
        "time": (("time",), [0.0, 14.0, 31.0], {"units": "days since 2000-01-01"}),
        "bio_flux_opt": (("time", "latitude", "longitude"), np.ones((3, 6, 8)), {"units": "mol m-2 s-1"}),
    }
    path = writer.write(tmp_path / "CT.monthly.nc", {"time": 3, "latitude": 6, "longitude": 8}, contents)
    with pytest.raises(ProductError, match="the same step more than once: 2000-01-01"):
        xflux.open_product("carbontracker", path)


def test_amounts_per_cell_need_their_area(fixtures, tmp_path):
    raw = xr.open_dataset(fixtures["jena_carboscope"].paths[0], decode_times=False).drop_vars(["dxyp", "area"])
    raw.to_netcdf(tmp_path / "s99oc_v2020_daily.nc")
    with pytest.raises(ProductError, match="'nbe' is an amount per grid cell and needs the cell area 'dxyp'"):
        xflux.open_product("carboscope", tmp_path / "s99oc_v2020_daily.nc")


def test_another_species_is_refused(tmp_path):
    lat, lon = writer.axes(6, 8)
    contents = {
        **writer.lat_lon(lat, lon, ("lat", "lon")),
        "time": (("time",), [0], {"units": "days since 2014-01-01"}),
        "flux": (("lat", "lon", "time"), np.ones((6, 8, 1)), {"units": "mol/m2/s", "species": "ch4"}),
    }
    path = writer.write(tmp_path / "ch4_X_2014.nc", {"lat": 6, "lon": 8, "time": 1}, contents)
    with pytest.raises(ProductError, match=r"expected flux.species = 'co2', found 'ch4'"):
        xflux.open_product("openghg", path)


def test_a_name_without_a_date_is_refused(fixtures, tmp_path):
    import shutil

    copy = shutil.copy(fixtures["cams"].paths[0], tmp_path / "flux.nc")
    with pytest.raises(ProductError, match=r"'flux.nc' has no time axis and no year and month in its name"):
        xflux.open_product("cams", copy)


def test_names_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(ProductError, match=r"no product 'carbontraker'.* Did you mean carbontracker"):
        xflux.open_product("carbontraker", "x.nc")
    with pytest.raises(FileNotFoundError, match=r"no file '.*missing\*.nc' for x-base; its files are called NEE_YYYY"):
        xflux.open_product("x-base", tmp_path / "missing*.nc")
    with pytest.raises(FileNotFoundError, match="paths is empty"):
        xflux.open_product("x-base", [])
    (tmp_path / "text.nc").write_text("no netCDF")
    with pytest.raises(ProductError, match=r"text\.nc is damaged or is not a netCDF"):
        xflux.open_product("x-base", tmp_path / "text.nc")
    (tmp_path / "GFED4.1s_2001.hdf5").write_text("no HDF5")
    with pytest.raises(ProductError, match="is damaged or is not a netCDF"):
        xflux.open_product("gfed4.1s", tmp_path / "GFED4.1s_2001.hdf5")


def test_variables_that_are_not_there(fixtures):
    with pytest.raises(ProductError, match=r"none of variables=\['gpp'\].*the row has nee, gpp"):
        opened(fixtures["x_base"], variables=["gpp"])
    with pytest.raises(ProductError, match=r"variables=\['latent'\] are not in its row, which has nee, gpp"):
        opened(fixtures["x_base"], variables=["nee", "latent"])


INVERSIONS = ["gcp_inversions", "carbontracker", "carbontracker_europe", "jena_carboscope", "cams", "miroc4_actm"]


@pytest.mark.parametrize("name", [*INVERSIONS, "oco2_mip", "gcp2018_atlas"])
def test_files_without_what_makes_the_product(fixtures, tmp_path, name):
    """A file that lost its main flux is not taken for the product because its other fluxes are there."""
    fixture = fixtures[name]
    product = load_table()[fixture.product]
    main = next(v for v in product.variables if v.name == product.requires[0])
    other = next(v for v in product.variables if v.kind == "flux" and v is not main and v.name in fixture.values)
    path = tmp_path / fixture.paths[0].name
    with xr.open_dataset(fixture.paths[0], decode_times=False, mask_and_scale=False) as ds:
        ds.rename({main.names[0]: "renamed"}).to_netcdf(path)
    with pytest.raises(ProductError, match=rf"{path.name} does not look like {product.name}.*{main.names[0]}.*found"):
        quietly(product.name, path)
    assert other.name in quietly(product.name, path, variables=[other.name])


# --- the table --------------------------------------------------------------------------------------------------------

MINE = {
    "my-model": {
        "title": "My model",
        "area_basis": "land",
        "step": "month",
        "dims": {"lat": "rows", "lon": "cols"},
        "variables": {
            "nbe": {"names": "uptake", "units": {"g/m2/month": "gC m-2 month-1"}, "sign": -1, "includes_fire": False}
        },
    }
}


@pytest.fixture
def mine(tmp_path):
    contents = {
        "rows": (("rows",), writer.axes(6, 8)[0], {}),
        "cols": (("cols",), writer.axes(6, 8)[1], {}),
        "time": (("time",), [0.0, 31.0, 60.0], {"units": "days since 2004-01-01"}),
        "uptake": (("cols", "time", "rows"), np.full((8, 3, 6), 2.0), {"units": "g/m2/month"}),
    }
    return writer.write(tmp_path / "mine.nc", {"cols": 8, "time": 3, "rows": 6}, contents)


TOML = """
[my-model]
title = "My model"
area_basis = "land"
step = "month"
dims = { lat = "rows", lon = "cols" }
[my-model.variables.nbe]
names = "uptake"
units = { "g/m2/month" = "gC m-2 month-1" }
sign = -1
includes_fire = false
"""


@pytest.mark.parametrize("way", ["dict", "toml", "environment"])
def test_a_user_adds_a_product_with_a_row(mine, tmp_path, way, monkeypatch):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    if way == "environment":
        monkeypatch.setenv("XFLUX_PRODUCTS", str(path))
    table = {"dict": MINE, "toml": path, "environment": None}[way]
    ds = xflux.open_product("My Model", mine, table=table)
    assert ds.nbe.dims == ("time", "lat", "lon") and (ds.nbe == -2).all()
    assert ds.nbe.attrs["includes_fire"] == 0 and ds.nbe.attrs["area_basis"] == "land"
    assert "my-model" in xflux.products(table).index


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"variables": {"nee": {"units": "gC m-2 d-1", "nmaes": ["x"]}}},
            r"unknown key 'nmaes' \(did you mean 'names'\?\)",
        ),
        ({"variables": {"nee": {"names": ["x"]}}}, "a flux needs 'units'"),
        ({"variables": {}}, r"a row needs at least one \[p.variables.<name>\]"),
        ({"area_bases": "land", "variables": {"nee": {"units": "gC m-2 d-1"}}}, "did you mean 'area_basis'"),
        ({"area_basis": "both", "variables": {"nee": {"units": "gC m-2 d-1"}}}, "area_basis is 'land', 'cell'"),
        ({"requires": ["gpp"], "variables": {"nee": {"units": "gC m-2 d-1"}}}, "requires .*gpp.*none of its variables"),
        ({"step": "fortnight", "variables": {"nee": {"units": "gC m-2 d-1"}}}, "a step is month, year, day"),
        ({"time": "guess", "variables": {"nee": {"units": "gC m-2 d-1"}}}, "time is one of decode"),
        ({"variables": {"nee": {"units": "gC m-2 d-1", "sign": 2}}}, "sign is 1 or -1, got 2"),
        ({"variables": {"nee": {"units": "gC m-2 d-1", "kind": "x"}}}, "kind is 'flux'"),
        ({"variables": {"nee": "x"}}, "needs a table with 'names' and 'units'"),
    ],
)
def test_a_row_is_checked(row, message):
    with pytest.raises(ProductError, match=message):
        xflux.products({"p": row})


def test_a_table_that_is_not_there_or_bare():
    with pytest.raises(ProductError, match="is not a file"):
        xflux.products("nowhere.toml")
    with pytest.raises(ProductError, match="got one bare row"):
        xflux.products({"variables": {}})


def test_products_is_a_function_and_a_room():
    room = importlib.import_module("xflux.catalogue")
    table = xflux.products()
    assert table.equals(room.products()) and len(table) >= 16
    for column in ("name", "variables", "units", "sign", "traps", "citation", "checked", "confidence"):
        assert table[column].map(bool).all(), column
    assert table.loc["openghg", "checked"] == "on published files"
    assert table.loc["gcp-inversions", "checked"] == "on its description"
    assert xflux.open_product is room.open_product


def test_the_table_as_text_fits_a_terminal():
    text = importlib.import_module("xflux.catalogue").describe()
    assert all(len(line) <= 110 for line in text.splitlines())
    assert all(name in text for name in load_table())


def test_every_unit_of_the_table_is_one_that_xflux_reads():
    from xflux.units import is_flux

    for product in load_table().values():
        for variable in product.variables:
            for unit in variable.units.values() if variable.kind == "flux" else ():
                assert is_flux(unit), (product.name, variable.name, unit)


# --- published files --------------------------------------------------------------------------------------------------


def test_published_openghg_files(data_folder):
    folder = data_folder / "products"
    with pytest.warns(UserWarning, match="no data from 2012-02-01 to 2013-01-01"):
        gpp = xflux.open_product("openghg", str(folder / "co2-gpp-*.nc"))
    raw = xr.open_dataset(folder / "co2-gpp-cardamom_EUROPE_2013.nc").flux.squeeze()
    np.testing.assert_array_equal(gpp.gpp.sel(time="2013").squeeze().values, -raw.values)
    ter = xflux.open_product("openghg", folder / "co2-rtot-cardamom-2hr_TEST_2014.nc")
    assert (np.diff(ter.time_bnds.values, axis=1) == np.timedelta64(2, "h")).all() and ter.sizes["time"] == 52
    ocean = xflux.open_product("openghg", folder / "co2-nemo-ocean-mth_TEST_2014.nc")
    assert str(ocean.time_bnds.values[0, 1])[:10] == "2014-08-01"


def test_published_fluxcom_gpp_map(data_folder):
    ds = xflux.open_product("fluxcom", data_folder / "products" / "fluxcom_gpp_climatology_05deg.nc")
    assert ds.gpp.dims == ds.cell_area.dims == ("lat", "lon")
    total = float((ds.gpp * ds.cell_area).sum()) * 365.25 / 1e15
    assert total == pytest.approx(ds.attrs["global_total_PgC_yr"], rel=1e-6)


# --- the how-tos ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["add_a_product", "regional_budget"])
def test_the_code_of_the_howtos_runs(page, tmp_path, monkeypatch):
    """Every Python block of the page, in order, in a folder with small files of the products that it names."""
    text = (Path(__file__).parents[1] / "docs" / "howto" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XFLUX_PRODUCTS", "")
    writer.gcp_inversions(tmp_path)
    fire = writer.gfas(tmp_path).paths[0]
    with netCDF4.Dataset(fire, "a") as file:  # the same January, but of the inversions' first year
        file["time"][:] -= 24 * 730
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("\n".join(blocks), names)
    assert "ds" in names
