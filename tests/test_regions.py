"""aggregate_regions: known integrals, conservation, kinds of regions, land, NaN, chunks, units and time."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xflux.cells import RADIUS, cell_area
from xflux.regions import aggregate_regions, latitude_band_limits, region_labels, region_weights, regional_budget
from xflux.regions.kernel import CellLists, weighted_sums
from xflux.units import UnitsError

rng = np.random.default_rng(42)
SETS = ["latitude-bands", "reccap2", "reccap2-chapters", "reccap2-chapters-11", "countries"]


def axes(dlat, dlon=None, west=-180.0, down=False, lats=None):
    dlon = dlon or dlat
    lat = np.arange(-90 + dlat / 2, 90, dlat) if lats is None else np.asarray(lats)
    return {"lat": lat[::-1] if down else lat, "lon": np.arange(west + dlon / 2, west + 360, dlon)}


def gaussian(n):
    return np.degrees(np.arcsin(np.polynomial.legendre.leggauss(n)[0]))


def flux(coords, steps=1, basis="cell", seed=0, positive=True, units="gC m-2 d-1", dtype="f8", **extra):
    shape = (steps, coords["lat"].size, coords["lon"].size)
    values = np.random.default_rng(seed).normal(size=shape)
    values = np.abs(values) + 0.1 if positive else values
    coords = {"time": xr.date_range("2001-01-01", periods=steps, freq="MS"), **coords}
    attrs = {"units": units, **({"area_basis": basis} if basis else {})}
    da = xr.DataArray(values.astype(dtype), coords, ("time", "lat", "lon"), name="nee", attrs=attrs | extra)
    return da if steps > 1 else da.isel(time=0, drop=True)


def globe(da, land=1.0):
    return (da.astype("f8") * cell_area(da) * land).sum(("lat", "lon"))


GRIDS = {
    "0.25": axes(0.25),
    "0.5 north first": axes(0.5, down=True),
    "1 from 0": axes(1.0, west=0.0),
    "2.5x3.75": axes(2.5, 3.75),
    "half polar rows": axes(1, 3.75, lats=[-89.5, *np.arange(-88, 89, 2), 89.5]),
    "T42": axes(1, 2.8125, 0.0, True, gaussian(64)),
}


@pytest.mark.parametrize("coords", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("name", SETS)
def test_regions_and_unassigned_are_the_globe(coords, name):
    da = flux(coords)
    out = aggregate_regions(da, name, "PgC d-1", include_global=True)
    expected = globe(da).item() / 1e15
    regions = out.sel(region=out.region != "GLOBAL")
    assert (regions.sum() + out.unassigned).item() == pytest.approx(expected, rel=1e-12)
    assert out.sel(region="GLOBAL").item() == pytest.approx(expected, rel=1e-12)
    assert list(regions.region.values) == list(region_labels(name))


@pytest.mark.parametrize("name", SETS)
def test_globe_on_land_uses_the_land_fraction(name):
    coords = axes(2.0)
    land = xr.DataArray(rng.uniform(size=(90, 180)), coords, ("lat", "lon"))
    da = flux(coords, basis="land")
    out = aggregate_regions(da, name, "PgC d-1", land_fraction=land)
    assert (out.sum() + out.unassigned).item() == pytest.approx(globe(da, land).item() / 1e15, rel=1e-12)


@pytest.mark.parametrize("coords", GRIDS.values(), ids=GRIDS)
def test_sphere(coords):
    w = region_weights(xr.Dataset(coords=coords), "latitude-bands", "cell")
    total = w.sum(("lat", "lon")).data.todense()
    np.testing.assert_allclose(math.fsum(total), 4 * np.pi * RADIUS**2, rtol=1e-12)
    limits = np.radians(list(latitude_band_limits().values()))
    np.testing.assert_allclose(total, 2 * np.pi * RADIUS**2 * np.diff(np.sin(limits), axis=1)[:, 0], rtol=1e-12)


def test_labels_of_the_sets():
    assert region_labels("latitude-bands")[:2] == ("90S-80S", "80S-70S")
    assert region_labels("latitude-bands")[8:10] == ("10S-EQ", "EQ-10N")
    assert region_labels("reccap2") == tuple(
        "USA CAN CAM NSA BRA SSA EU NAF EQAF SAF RUS CAS MIDE CHN KAJ SAS SEAS OCE".split()
    )
    assert len(region_labels("reccap2-chapters")) == 10 and len(region_labels("reccap2-chapters-11")) == 11
    with pytest.raises(ValueError, match="is not shipped; expected one of reccap2"):
        region_labels("transcom")


def test_unknown_names_and_kinds():
    da = flux(axes(10.0))
    with pytest.raises(ValueError, match="region 'recap' is unknown: did you mean 'reccap2'"):
        aggregate_regions(da, "recap", "PgC d-1")
    with pytest.raises(TypeError, match="regions of type dict are not understood"):
        aggregate_regions(da, {}, "PgC d-1")


# --- order, convention, chunks -------------------------------------------------------------------------------------
def test_order_of_dims_latitudes_and_longitudes_does_not_matter():
    da = flux(axes(2.5, 3.75), steps=3)
    expected = aggregate_regions(da, "reccap2")
    for other in (
        da.isel(lat=slice(None, None, -1)),
        da.transpose("lon", "time", "lat"),
        da.transpose("lat", "lon", "time"),
        da.roll(lon=17, roll_coords=True),
        da.assign_coords(lon=da.lon % 360),
        da.rename(lat="latitude", lon="longitude"),
        da.assign_coords(lon=da.lon + np.random.default_rng(1).uniform(-1e-6, 1e-6, da.lon.size)),
    ):
        out = aggregate_regions(other, "reccap2")
        assert out.dims == ("time", "region")
        np.testing.assert_allclose(out.values, expected.values, rtol=1e-12)
        np.testing.assert_allclose(out.unassigned.values, expected.unassigned.values, rtol=1e-12)


def test_dims_come_back_in_order_with_ensembles_before_time():
    da = flux(axes(10.0), steps=2).expand_dims(member=3, axis=3).expand_dims(model=2)
    out = aggregate_regions(da, "latitude-bands")
    assert out.dims == ("model", "member", "time", "region")
    assert out.valid_fraction.dims == out.dims and out.unassigned.dims == ("model", "member", "time")
    one = aggregate_regions(da[1, :, :, :, 2], "latitude-bands")
    np.testing.assert_allclose(out[1, 2].values, one.values, rtol=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 5), st.integers(3, 36), st.integers(5, 48), st.sampled_from(["latitude-bands", "reccap2"]))
def test_chunks_do_not_matter(time, lat, lon, name):
    da = flux(axes(5.0, 7.5), steps=5, positive=False, dtype="f4")
    da = da.where(np.random.default_rng(3).uniform(size=da.shape) > 0.1)
    expected = aggregate_regions(da, name, include_global=True)
    lazy = aggregate_regions(da.chunk(time=time, lat=lat, lon=lon), name, include_global=True)
    for got, wanted in ((lazy, expected), *((lazy[c], expected[c]) for c in ("unassigned", "valid_fraction"))):
        assert got.chunks is not None
        np.testing.assert_allclose(got.compute().values, wanted.values, rtol=1e-12, atol=1e-16)
    assert lazy.dims == expected.dims and lazy.attrs == expected.attrs


def test_nothing_is_computed_before_it_is_asked_for():
    import dask

    def fail(*_):
        raise AssertionError("computed")

    da = flux(axes(5.0), steps=4).chunk(time=1, lat=9)
    da.data = da.data.map_blocks(fail, dtype="f8", meta=np.empty((0, 0, 0)))
    with dask.config.set(scheduler=fail):
        out = aggregate_regions(da.to_dataset(), "reccap2", include_global=True)
    assert out.nee.chunks is not None and out.nee_unassigned.chunks is not None


def test_float32_is_accumulated_in_float64():
    coords = axes(0.5)
    da = flux(coords, dtype="f4")
    area = cell_area(da).values.ravel()
    exact = math.fsum(np.float64(v) * a for v, a in zip(da.values.ravel(), area, strict=True)) / 1e15
    out = aggregate_regions(da, "latitude-bands", "PgC d-1", include_global=True)
    assert out.dtype == np.float64
    assert out.sel(region="GLOBAL").item() == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i4", "i2", "f2"])
def test_dtypes(dtype):
    da = (flux(axes(10.0)) * 10).round().astype(dtype).assign_attrs(units="gC m-2 d-1", area_basis="cell")
    expected = aggregate_regions(da.astype("f8"), "latitude-bands", "PgC d-1")
    np.testing.assert_allclose(aggregate_regions(da, "latitude-bands", "PgC d-1").values, expected.values, rtol=1e-13)


def test_text_has_no_integral():
    da = xr.DataArray(np.full((18, 36), "a"), axes(10.0), ("lat", "lon"), attrs=flux(axes(10.0)).attrs)
    with pytest.raises(ValueError, match="has the dtype <U1; expected real numbers"):
        aggregate_regions(da, "latitude-bands", "PgC d-1")


# --- NaN -----------------------------------------------------------------------------------------------------------
def test_missing_cells_add_nothing_and_are_reported():
    da = flux(axes(10.0), steps=2)
    da[0, :, :18] = np.nan  # the western half of every band
    out = aggregate_regions(da, "latitude-bands", "PgC d-1", include_global=True)
    np.testing.assert_allclose(out.valid_fraction[0].values, 0.5, rtol=1e-12)
    assert (out.valid_fraction[1] == 1).all()
    np.testing.assert_allclose(out[0, :-1], globe_by_row(da[0]) / 1e15, rtol=1e-12)


def globe_by_row(da):
    return (da * cell_area(da)).sum("lon").values


def test_a_region_without_valid_cells_is_nan_and_the_globe_goes_on():
    da = flux(axes(10.0), steps=2)
    da[0, 5] = np.nan
    out = aggregate_regions(da, "latitude-bands", "PgC d-1", include_global=True)
    assert np.isnan(out[0, 5]) and out.valid_fraction[0, 5] == 0 and np.isfinite(out[1]).all()
    assert out[0].sel(region="GLOBAL").item() == pytest.approx(globe(da[0]).item() / 1e15, rel=1e-12)
    da[1] = np.nan
    nothing = aggregate_regions(da, "latitude-bands", "PgC d-1", include_global=True)[1]
    assert np.isnan(nothing).all() and np.isnan(nothing.unassigned)


def test_nan_on_the_ocean_leaves_a_remainder_that_closes():
    coords = axes(2.0)
    w = region_weights(xr.Dataset(coords=coords), "countries")
    share = xr.DataArray(w.data.todense(), w.coords)
    green = (share.sum("region") > 0) & ~(share.sel(region=["GRL", "ATA"]) > 0).any("region")
    da = flux(coords, steps=2, basis="land").where(green)
    out = aggregate_regions(da, "reccap2", include_global=True)
    assert np.isfinite(out.unassigned).all()
    np.testing.assert_allclose(out[:, :-1].sum("region") + out.unassigned, out[:, -1], rtol=1e-12)


def test_infinity_stays_infinite():
    da = flux(axes(10.0))
    da[4, 7] = np.inf
    out = aggregate_regions(da, "latitude-bands", "PgC d-1")
    assert np.isinf(out[4]) and np.isfinite(out[:4]).all()


# --- units and time ------------------------------------------------------------------------------------------------
def test_amount_of_a_month_has_its_true_length():
    da = flux(axes(10.0), steps=14)
    da[:] = 1.0
    out = aggregate_regions(da, "latitude-bands", include_global=True).sel(region="GLOBAL")
    days = da.time.dt.days_in_month
    np.testing.assert_allclose(out, days * 4 * np.pi * RADIUS**2 / 1e15, rtol=1e-12)


@pytest.mark.parametrize(
    "units, factor",
    [("kgC m-2 s-1", 1e3 * 86400), ("gCO2 m-2 d-1", 12.011 / 44.009), ("umolCO2 m-2 s-1", 12.011e-6 * 86400)],
)
def test_carbon_units(units, factor):
    da = flux(axes(10.0))
    expected = aggregate_regions(da, "latitude-bands", "PgC d-1") * factor
    out = aggregate_regions(da.assign_attrs(units=units), "latitude-bands", "PgC d-1")
    np.testing.assert_allclose(out.values, expected.values, rtol=1e-12)
    assert out.attrs["units"] == "PgC d-1"


def test_water_and_energy():
    da = flux(axes(10.0))
    total = globe(da).item()
    water = aggregate_regions(da.assign_attrs(units="mm d-1"), "latitude-bands", "kgH2O d-1", include_global=True)
    assert water.sel(region="GLOBAL").item() == pytest.approx(total, rel=1e-12)
    heat = aggregate_regions(da.assign_attrs(units="W m-2"), "latitude-bands", "W", include_global=True)
    assert heat.sel(region="GLOBAL").item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("units", ["PgC yr-1", "PgC/yr per grid cell", "PgC yr-1 cell-1", "PgC yr-1 gridcell-1"])
def test_amounts_per_cell_are_added_without_area(units):
    da = flux(axes(10.0), units=units)
    out = aggregate_regions(da, "latitude-bands", "PgC yr-1", include_global=True)
    assert out.sel(region="GLOBAL").item() == pytest.approx(da.sum().item(), rel=1e-12)
    np.testing.assert_allclose(out[:-1].values, da.sum("lon").values, rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what an amount per cell is per m2 of is no question
        aggregate_regions(da.assign_attrs(area_basis=None), "latitude-bands", "PgC yr-1")
    # What a cell emits is not halved where half of the cell is land.
    half = xr.full_like(da, 0.5).assign_attrs(units="1")
    land = aggregate_regions(da.assign_attrs(area_basis="land"), "reccap2", "PgC yr-1", None, half, include_global=True)
    assert land.sel(region="GLOBAL").item() == pytest.approx(da.sum().item(), rel=1e-12)


def test_units_that_have_no_integral():
    da = flux(axes(10.0))
    with pytest.raises(UnitsError, match="nee has no units: set attrs"):
        aggregate_regions(da.assign_attrs(units=None), "latitude-bands")
    with pytest.raises(UnitsError, match="'1' is no amount of carbon"):
        aggregate_regions(da.assign_attrs(units="1"), "latitude-bands")
    with pytest.raises(UnitsError, match=r"to .PgC month-1. without .* the month or step has no length"):
        aggregate_regions(da, "latitude-bands", "PgC month-1")


def test_without_time_a_rate_stays_a_rate():
    da = flux(axes(10.0))
    daily, yearly = (aggregate_regions(da, "latitude-bands", u) for u in ("PgC d-1", "PgC yr-1"))
    np.testing.assert_allclose(yearly.values, daily.values * 365.2425, rtol=1e-12)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_daily_is_summed_to_months_and_missing_days_count_as_missing_time(calendar):
    time = xr.date_range("2004-02-01", periods=40, freq="D", calendar=calendar, use_cftime=True)
    da = xr.DataArray(np.ones((40, 18, 36)), {"time": time, **axes(10.0)}, ("time", "lat", "lon"), name="nee")
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    da[3, 5] = np.nan
    out = aggregate_regions(da, "latitude-bands")
    length = {"standard": 29, "noleap": 28, "360_day": 30}[calendar]
    area = globe_by_row(da[0])
    assert out.sizes["time"] == 2
    np.testing.assert_allclose(out[0, 4], length * area[4] / 1e15, rtol=1e-12)
    np.testing.assert_allclose(out[0, 5], (length - 1) * area[5] / 1e15, rtol=1e-12)
    np.testing.assert_allclose(out.valid_fraction[0, 4:6], [1, 1 - 1 / length], rtol=1e-12)
    last = {"standard": 31, "noleap": 31, "360_day": 30}[calendar]
    np.testing.assert_allclose(out.valid_fraction[1, 4], (40 - length) / last, rtol=1e-12)
    lazy = aggregate_regions(da.chunk(time=7, lat=5), "latitude-bands")
    np.testing.assert_allclose(lazy.values, out.values, rtol=1e-12)


def test_valid_fraction_joins_area_and_time():
    time = xr.date_range("2001-04-01", periods=30, freq="D")
    da = xr.DataArray(np.ones((30, 18, 36)), {"time": time, **axes(10.0)}, ("time", "lat", "lon"), name="nee")
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    da[:15, :, :18] = np.nan
    np.testing.assert_allclose(aggregate_regions(da, "latitude-bands").valid_fraction, 0.75, rtol=1e-12)


def test_single_step_needs_bounds_and_takes_them_from_the_dataset():
    da = flux(axes(10.0), steps=2).isel(time=[0])
    with pytest.raises(ValueError, match="put it in a Dataset with time_bnds"):
        aggregate_regions(da, "reccap2")
    bounds = xr.DataArray(np.array([["2001-01-01", "2001-02-01"]], "M8[ns]"), dims=("time", "bnds"))
    ds = xr.Dataset({"nee": da, "time_bnds": bounds})
    ds.time.attrs["bounds"] = "time_bnds"
    out = aggregate_regions(ds, "reccap2", include_global=True)
    np.testing.assert_allclose(out.nee.sel(region="GLOBAL"), 31 * globe(da) / 1e15, rtol=1e-12)
    assert "nee_unassigned" in out.coords and "nee_valid_fraction" in out.coords
    assert set(out.data_vars) == {"nee"} and "bounds" not in out.time.attrs
    assert len(out.to_dataframe()) == out.nee.size  # integrals need no bounds, which would double every row
    np.testing.assert_allclose(out.flux.annual(complete=False).nee, out.nee, rtol=1e-12)


def test_cell_bounds_of_a_dataset_are_used():
    coords = {"lat": [9.75, 11.25], "lon": [5.0, 6.0]}
    da = xr.DataArray(np.ones((2, 2)), coords, ("lat", "lon"), attrs={"units": "gC m-2 d-1", "area_basis": "cell"})
    bounds = xr.DataArray([[9.0, 10.5], [10.5, 12.0]], dims=("lat", "bnds"))
    ds = xr.Dataset({"nee": da, "lat_bnds": bounds})
    ds.lat.attrs["bounds"] = "lat_bnds"
    with pytest.warns(UserWarning, match="the grid covers only a part of EQ-10N"):
        out = aggregate_regions(ds, "latitude-bands", "gC d-1").nee
    expected = RADIUS**2 * np.radians(2) * (np.sin(np.radians(10)) - np.sin(np.radians(9)))
    assert out.sel(region="EQ-10N").item() == pytest.approx(expected, rel=1e-12)


def test_climatology_keeps_month():
    da = flux(axes(10.0), steps=12).drop_vars("time").rename(time="month").assign_coords(month=np.arange(1, 13))
    da[:] = 1.0
    out = aggregate_regions(da, "latitude-bands", include_global=True)
    assert out.dims == ("month", "region") and out.unassigned.dims == ("month",)
    np.testing.assert_allclose(out[1, -1], 28.2425 * 4 * np.pi * RADIUS**2 / 1e15, rtol=1e-12)
    year = aggregate_regions(da, "latitude-bands", units="PgC yr-1", freq="YS", include_global=True)
    np.testing.assert_allclose(year.sel(region="GLOBAL"), 365.2425 * 4 * np.pi * RADIUS**2 / 1e15, rtol=1e-12)


def test_annual_steps():
    da = flux(axes(10.0), steps=3)
    da = da.assign_coords(time=xr.date_range("2003-01-01", periods=3, freq="YS"))
    out = aggregate_regions(da, "latitude-bands", "PgC yr-1", include_global=True)
    expected = np.array([365, 366, 365]) * globe(da).values / 1e15
    np.testing.assert_allclose(out.sel(region="GLOBAL"), expected, rtol=1e-12)
    with pytest.raises(UnitsError, match="yr-1"):
        aggregate_regions(da, "latitude-bands")


# --- Datasets and attributes ---------------------------------------------------------------------------------------
def test_dataset_gives_its_fluxes_and_nothing_else():
    coords = axes(10.0)
    nee, gpp = flux(coords, steps=2), flux(coords, steps=2, seed=1, units="kgC m-2 s-1")
    others = {"nee_std": nee, "cell_area": cell_area(nee), "lai": nee.assign_attrs(units="1")}
    ds = xr.Dataset({"nee": nee, "gpp": gpp, **others})
    out = aggregate_regions(ds, "reccap2", include_global=True)
    assert set(out.data_vars) == {"nee", "gpp"}
    np.testing.assert_array_equal(out.gpp_unassigned.values, aggregate_regions(ds.gpp, "reccap2").unassigned.values)
    with pytest.raises(ValueError, match="has no gridded flux: its variables and their units are"):
        aggregate_regions(ds[["lai"]], "reccap2")
    with pytest.raises(UnitsError, match=r"'nee': cannot convert .* without a dimension time"):
        aggregate_regions(ds.assign(nee=nee.isel(time=0, drop=True)), "reccap2")


def test_attributes_ride_and_stale_ones_go():
    da = flux(axes(10.0), steps=2, includes_fire=1, sign_as_published="-1", valid_range=[0.0, 4.0])
    out = aggregate_regions(da, "reccap2")
    assert out.attrs["includes_fire"] == 1 and out.attrs["sign_as_published"] == "-1" and out.name == "nee"
    assert "valid_range" not in out.attrs and '"call": "aggregate_regions' in out.attrs["provenance"]
    assert out.attrs["units"] == out.unassigned.attrs["units"] == "PgC month-1"


def test_the_input_is_not_changed():
    da = flux(axes(10.0), steps=2)
    before = da.copy(deep=True)
    aggregate_regions(da, "reccap2", include_global=True)
    xr.testing.assert_identical(da, before)


def test_longitudes_that_occur_twice_raise():
    da = flux(axes(10.0))
    cyclic = xr.concat([da, da.isel(lon=[0]).assign_coords(lon=[185.0])], "lon").assign_attrs(da.attrs)
    with pytest.raises(ValueError, match="twice modulo 360"):
        aggregate_regions(cyclic, "reccap2", "PgC d-1")


def test_a_region_outside_a_regional_grid_is_nan():
    da = flux(axes(1.0)).isel(lat=slice(125, 160), lon=slice(170, 220))
    with pytest.warns(UserWarning, match=r"the grid covers only a part of EU \(97 %\), .* and nothing of USA"):
        out = aggregate_regions(da, "reccap2", "PgC d-1", include_global=True)
    assert np.isfinite(out.sel(region="EU")) and np.isnan(out.sel(region="BRA"))
    assert out.valid_fraction.sel(region="BRA") == 0
    assert out.sel(region="GLOBAL").item() == pytest.approx(globe(da).item() / 1e15, rel=1e-12)


@pytest.mark.parametrize("freq", [None, "MS", "YS"])
def test_lazy_members_and_steps_give_what_memory_gives_in_a_handful_of_tasks(freq):
    rng = np.random.default_rng(4)
    coords = {"model": list("abc"), "time": xr.date_range("2001-01-20", periods=80), "lat": np.arange(-88.0, 90, 4)}
    da = xr.DataArray(
        rng.normal(size=(3, 80, 45, 90)), {**coords, "lon": np.arange(2.0, 360, 4)}, ("model", "time", "lat", "lon"),
        attrs={"units": "gC m-2 d-1", "area_basis": "cell"},
    ).where(rng.random((45, 90)) > 0.2)  # fmt: skip
    lazy = da.chunk(model=2, time=7, lat=20)
    how = {"units": "PgC", "freq": freq, "include_global": True}
    ours = aggregate_regions(lazy, "reccap2", **how)
    theirs = aggregate_regions(da, "reccap2", **how)
    chunks = lazy.data.npartitions
    assert ours.chunks is not None
    assert len(dict(ours.__dask_graph__())) < 5 * chunks  # the data, partial sums, their sums
    xr.testing.assert_allclose(ours, theirs, rtol=1e-12)
    for name in ("valid_fraction", "unassigned"):
        xr.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)
    assert ours.attrs.keys() == theirs.attrs.keys()


@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.02, 0.5, 0.95]))
@settings(max_examples=15, deadline=None)
def test_kernel_on_neighbours_and_strays_equals_a_plain_sum(seed, share):
    rng = np.random.default_rng(seed)
    cells, steps = 3000, 3
    cell = np.concatenate([np.flatnonzero(rng.random(cells) < share) for _ in range(4)]).astype("int32")
    cuts = np.flatnonzero(np.diff(cell) < 0) + 1
    plan = CellLists(np.concatenate([[0], cuts, [cell.size]]).astype("int64"), cell, rng.random(cell.size))
    values = rng.normal(size=(steps, 30, 100)).astype("float32")
    values[rng.random(values.shape) < 0.1] = np.nan
    found = weighted_sums(values, plan)
    flat = values.reshape(steps, -1).astype("float64")
    for group, (first, last) in enumerate(pairwise(plan.start)):
        own, weight = flat[:, cell[first:last]], plan.weight[first:last]
        np.testing.assert_allclose(found[:, 0, group], np.nansum(own * weight, axis=1), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(found[:, 1, group], np.isfinite(own) @ weight, rtol=1e-12)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("dim", ["stat", "group", "window", "bnds", "period", "x", "_packed"])
def test_dims_of_any_name_pass_through(dim, chunked):
    da = flux(axes(10.0), steps=2)
    several = xr.concat([da, 3 * da], dim).assign_attrs(da.attrs).transpose("lat", dim, "lon", "time")
    out = aggregate_regions(several.chunk({dim: 1}) if chunked else several, "latitude-bands", include_global=True)
    assert out.dims == (dim, "time", "region")
    np.testing.assert_allclose(
        out.values, [k * aggregate_regions(da, "latitude-bands", include_global=True) for k in (1, 3)]
    )


def test_names_that_the_result_needs():
    da = flux(axes(10.0), steps=2)
    with pytest.raises(ValueError, match="has a dim 'region' already"):
        aggregate_regions(da.expand_dims(region=2), "latitude-bands")
    with pytest.raises(ValueError, match=r"the flux 'region' has the name of the result's dim: rename it"):
        aggregate_regions(xr.Dataset({"region": da, "nee": da}), "latitude-bands")
    # A label that was left from an earlier selection, or a mask beside the flux, is in nobody's way.
    kept = aggregate_regions(da.assign_coords(region="USA"), "latitude-bands")
    np.testing.assert_array_equal(kept.values, aggregate_regions(da, "latitude-bands").values)
    ds = xr.Dataset({"flux": da, "nee": 2 * da, "region": da[0] * 0, "area": cell_area(da)})
    ds["nee"].attrs = da.attrs
    ds["region"].attrs = {"long_name": "a mask"}
    out = aggregate_regions(ds, "latitude-bands")
    assert list(out.data_vars) == ["flux", "nee"] and out.region.size == 18
    np.testing.assert_allclose(out.nee.values, 2 * out["flux"].values, rtol=1e-13)


def test_a_single_step_is_converted_where_its_length_does_not_matter():
    da = flux(axes(10.0), steps=2)
    both = aggregate_regions(da, "reccap2", "PgC d-1", include_global=True)
    one = aggregate_regions(da.isel(time=[1]), "reccap2", "PgC d-1", include_global=True)
    np.testing.assert_allclose(one.values, both.values[1:], rtol=1e-13)
    np.testing.assert_allclose(one.valid_fraction.values, both.valid_fraction.values[1:], rtol=1e-13)
    monthly = da.assign_attrs(units="gC m-2 month-1")
    expected = aggregate_regions(monthly, "reccap2").values[1:]
    np.testing.assert_allclose(aggregate_regions(monthly.isel(time=[1]), "reccap2").values, expected, rtol=1e-13)
    with pytest.raises(ValueError, match="put it in a Dataset with time_bnds"):
        aggregate_regions(da.isel(time=[1]), "reccap2", "PgC month-1")


def test_annual_steps_are_not_cut_into_months():
    da = flux(axes(10.0), steps=2).assign_coords(time=xr.date_range("2001-01-01", periods=2, freq="YS"))
    with pytest.raises(ValueError, match="longer than a month: freq='MS' is not possible"):
        aggregate_regions(da, "reccap2", "PgC yr-1", freq="MS")


def test_what_rides_on_the_flux_is_not_taken_for_the_integrals_own():
    da = flux(axes(30.0), steps=3)
    riding = da.assign_coords({c: ("time", np.zeros(3)) for c in ("valid_fraction", "unassigned", "assigned")})
    expected = aggregate_regions(da, "reccap2", include_global=True)
    xr.testing.assert_identical(aggregate_regions(riding, "reccap2", include_global=True), expected)
    xr.testing.assert_identical(
        aggregate_regions(riding.chunk(time=2), "reccap2", include_global=True).compute(), expected
    )


@pytest.mark.parametrize("form", ["array", "lazy", "Dataset"])
def test_cells_of_which_a_part_of_the_time_is_valid_count_for_that_part(form):
    lat, lon = {"lat": [-45.0, 45.0]}, {"lon": [90.0, 270.0]}
    values = np.ones((12, 2, 2))
    values[:2, 0, 0] = np.nan
    time = xr.date_range("2001-01-01", periods=12, freq="MS")
    da = xr.DataArray(values, {"time": time, **lat, **lon}, ("time", "lat", "lon"), "nee")
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    obj = {"array": da, "lazy": da.chunk(time=5, lat=1), "Dataset": da.to_dataset()}[form].flux.annual()
    mask = xr.DataArray([[0, 0], [1, 1]], {**lat, **lon}, ("lat", "lon"))
    found = obj.flux.aggregate_regions(mask, units="PgC yr-1", include_global=True)
    share = found["nee_valid_fraction" if form == "Dataset" else "valid_fraction"]
    there = (365 - 31 - 28) / 365
    np.testing.assert_allclose(share[0], [(1 + there) / 2, 1, (3 + there) / 4])
    of_year = regional_budget(obj, mask)["valid_fraction"].sel(region=["0", "1"])
    np.testing.assert_allclose(of_year[0], share[0, :2])
