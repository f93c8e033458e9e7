"""Adjustments: what a flux contains is checked, components are conserved, and nothing is done twice."""

import numpy as np
import pytest
import write_products as writer
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux
from xflux import adjust
from xflux.adjust import ContentsError, add_fire, adjust_fossil, check_contents, remove_fire, remove_rivers
from xflux.cells import cell_area, regrid


def flux_on(
    nlat, nlon, *, months=0, west=-180.0, descending=False, seed=0, units="gC m-2 d-1", start="2003-01", **attrs
):
    lat, lon = writer.axes(nlat, nlon, west=west, descending=descending)
    values = np.random.default_rng(seed).normal(size=(months or 1, nlat, nlon))
    da = xr.DataArray(
        values, {"lat": lat, "lon": lon}, ("time", "lat", "lon"), name="nbe", attrs={"units": units, **attrs}
    )
    if not months:
        return da.isel(time=0)
    return da.assign_coords(time=xr.date_range(start, periods=months, freq="MS"))


def globe(da):
    """Sum over the globe with cell areas."""
    return (da * cell_area(da)).sum(("lat", "lon"))


# --- contents ---------------------------------------------------------------------------------------------------------


def test_the_same_contents_are_the_same():
    assert check_contents(
        {"includes_fire": 1, "includes_rivers": 0}, {"includes_fire": True, "includes_rivers": "no"}
    ) == {
        "fire": "same",
        "rivers": "same",
    }


def test_unknown_contents_never_raise_and_are_recorded():
    nee, nbe = flux_on(2, 2), flux_on(2, 2, includes_fire=1, includes_rivers=1)
    assert check_contents(nee, nbe) == {"fire": "unknown", "rivers": "unknown"}
    assert check_contents({}, {}) == {"fire": "unknown", "rivers": "unknown"}


def test_a_difference_raises_with_the_way_out():
    nee, nbe = flux_on(2, 2, includes_fire=0).rename("nee"), flux_on(2, 2, includes_fire=1)
    for a, b in ((nee, nbe), (nbe, nee)):
        with pytest.raises(
            ContentsError, match=r"\(nbe\) includes fire, .*\(nee\) does not.*remove_fire.*allow=\('fire',\)"
        ):
            check_contents(a, b)
    assert check_contents(nee, nbe, allow="fire")["fire"] == "different (allowed)"
    assert check_contents(nee, nbe, allow=["includes_fire"])["fire"] == "different (allowed)"


def test_an_allowance_that_means_nothing_raises():
    with pytest.raises(ContentsError, match=r"allow=\['smoke'\]: no such content; expected some of fire, rivers"):
        check_contents({}, {}, allow=["smoke"])


def test_contents_of_a_dataset_are_those_of_its_flux():
    ds = flux_on(2, 2, includes_fire=1).to_dataset().assign_coords(cell_area=(("lat", "lon"), np.ones((2, 2))))
    assert adjust.contents(ds) == {"fire": True, "rivers": None}


def test_contents_survive_files(tmp_path):
    flux_on(2, 2, includes_fire=0, includes_rivers=1).to_dataset().to_netcdf(tmp_path / "x.nc")
    again = xr.open_dataset(tmp_path / "x.nc").nbe
    assert adjust.contents(again) == {"fire": False, "rivers": True}


# --- fire -------------------------------------------------------------------------------------------------------------


def test_fire_is_subtracted_once():
    nbe, fire = flux_on(6, 8, months=12, includes_fire=1, adjusted_for="fossil"), abs(flux_on(6, 8, months=12, seed=1))
    nee = remove_fire(nbe, fire)
    np.testing.assert_allclose(nee.values, (nbe - fire).values, rtol=1e-13)
    assert nee.attrs["includes_fire"] == 0 and nee.attrs["adjusted_for"] == "fossil, fire"
    assert nee.attrs["units"] == nbe.attrs["units"] and nee.name == "nbe" and nee.dims == nbe.dims
    with pytest.raises(ContentsError, match=r"\(nbe\) does not include fire.*it would be subtracted twice"):
        remove_fire(nee, fire)
    assert nbe.attrs["includes_fire"] == 1, "the input is left alone"


def test_taking_out_and_putting_back_is_nothing():
    nbe, fire = flux_on(6, 8, months=12, includes_fire=1), abs(flux_on(6, 8, months=12, seed=1))
    back = add_fire(remove_fire(nbe, fire), fire)
    np.testing.assert_allclose(back.values, nbe.values, rtol=0, atol=1e-14)
    assert back.attrs == nbe.attrs
    with pytest.raises(ContentsError, match=r"includes fire.*it would be added twice"):
        add_fire(back, fire)


def test_unknown_contents_are_adjusted_but_not_twice():
    nbe, fire = flux_on(2, 2, months=2), flux_on(2, 2, months=2, seed=1)
    once = remove_fire(nbe, fire)
    assert once.attrs["includes_fire"] == 0
    del once.attrs["includes_fire"]
    with pytest.raises(ContentsError, match="subtracted twice"):
        remove_fire(once, fire)


@pytest.mark.parametrize("name", ["carbontracker", "carbontracker_europe"])
def test_bio_of_carbontracker_has_no_fire_to_subtract(tmp_path, name):
    fixture = writer.WRITERS[name](tmp_path)
    ds = xflux.open_product(fixture.product, fixture.paths)
    with pytest.raises(ContentsError, match=r"\(nee\) does not include fire.*subtracted twice"):
        remove_fire(ds.nee, ds.fire)
    nbe = add_fire(ds.nee, ds.fire)
    np.testing.assert_allclose(nbe.values, fixture.values["nee"] + fixture.values["fire"], rtol=1e-12)
    assert nbe.attrs["includes_fire"] == 1


def test_gfas_from_an_inversion_known_answer(tmp_path):
    """Daily kg of CO2 on another grid, from monthly PgC: the globe's January falls by what the writer burnt."""
    gfas, gcp = writer.gfas(tmp_path), writer.gcp_inversions(tmp_path)
    fire = xflux.open_product("gfas", gfas.paths)
    nbe = xflux.open_product("gcp-inversions", gcp.paths).nbe
    nbe = nbe.isel(time=[0]).assign_coords(time=[np.datetime64("2003-01-01", "ns")])
    bounds = np.array([["2003-01-01", "2003-02-01"]], "M8[ns]")
    ds = nbe.to_dataset().assign_coords(time_bnds=(("time", "bnds"), bounds))
    nee = remove_fire(ds, fire).nbe
    burnt = gfas.totals["fire"].sum()
    fallen = globe(nbe - nee).isel(time=0, inversion=0) * 31 / 365.2425
    assert float(fallen) == pytest.approx(burnt, rel=1e-10)
    assert nee.dims == ("inversion", "time", "lat", "lon") and nee.chunks is not None
    assert nee.sel(inversion="UoE").isnull().all(), "an absent member stays absent"


@settings(max_examples=25, deadline=None)
@given(
    source=st.sampled_from([(6, 8), (18, 36), (7, 12), (36, 72), (16, 24), (9, 5)]),
    target=st.sampled_from([(6, 8), (18, 36), (5, 7), (12, 20)]),
    west=st.sampled_from([-180.0, 0.0, -182.5, 17.3]),
    descending=st.booleans(),
    holes=st.booleans(),
    seed=st.integers(0, 100),
)
def test_regridding_conserves_the_sum(source, target, west, descending, holes, seed):
    da = abs(flux_on(*source, west=west, descending=descending, seed=seed, area_basis="cell"))
    da = da.where(da > 0.3) if holes else da
    on = regrid(da, flux_on(*target))
    assert float(globe(on)) == pytest.approx(float(globe(da.fillna(0))), rel=1e-10)
    assert float(on.min()) >= 0 and float(on.max()) <= float(da.max()) * (1 + 1e-12)


@settings(max_examples=10, deadline=None)
@given(factor=st.sampled_from([2, 3, 5]), seed=st.integers(0, 100))
def test_regridding_to_nested_cells_is_their_mean_and_back(factor, seed):
    coarse = flux_on(6, 8, seed=seed, area_basis="cell")
    fine = regrid(coarse, flux_on(6 * factor, 8 * factor))
    np.testing.assert_allclose(fine.values, np.kron(coarse.values, np.ones((factor, factor))), rtol=1e-12)
    np.testing.assert_allclose(regrid(fine, coarse).values, coarse.values, rtol=1e-12)


def test_regridding_the_same_cells_changes_nothing_but_names():
    da = flux_on(6, 8, seed=3, area_basis="cell")
    turned = da.roll(lon=4).assign_coords(lon=(da.lon.values + 180.0)).isel(lat=slice(None, None, -1))
    np.testing.assert_allclose(regrid(turned, da).values, da.values, rtol=1e-12)


def test_a_gaussian_grid_and_half_cells_at_the_poles_conserve():
    gauss = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))
    a = xr.DataArray(
        np.random.default_rng(0).random((32, 64)), {"lat": gauss, "lon": np.arange(64) * 5.625}, ("lat", "lon")
    )
    b = flux_on(6, 8, area_basis="cell").assign_coords(lat=np.linspace(90, -90, 6))
    for one, other in ((a, b), (b, a)):
        assert float(globe(regrid(one, other))) == pytest.approx(float(globe(one)), rel=1e-10)


def test_xarray_regrid_agrees_where_it_conserves():
    """Nested grids without gaps, away from the poles: the peer gives the same map."""
    pytest.importorskip("xarray_regrid")
    fine, coarse = flux_on(36, 72, seed=4, area_basis="cell"), flux_on(18, 36)
    peer = fine.regrid.conservative(coarse.to_dataset(), latitude_coord="lat")
    values = peer.data.todense() if hasattr(peer.data, "todense") else peer.values
    ours = regrid(fine, coarse)
    np.testing.assert_allclose(values[1:-1], ours.isel(lat=slice(1, -1)).values, rtol=1e-6)


def test_chunks_do_not_matter_and_nothing_is_computed():
    import dask

    nbe = flux_on(6, 8, months=6, includes_fire=1)
    fire = abs(flux_on(18, 24, months=6, seed=1))
    expected = remove_fire(nbe, fire)

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy = remove_fire(nbe.chunk(time=2), fire.chunk(time=1, lat=5))
    np.testing.assert_allclose(lazy.values, expected.values, rtol=1e-12)


def test_units_are_converted_by_true_month_lengths():
    nbe = flux_on(6, 8, months=12, includes_fire=1, units="kgC m-2 month-1")
    fire = xr.full_like(flux_on(6, 8, months=12), 1.0).assign_attrs(units="gC m-2 d-1")
    change = nbe - remove_fire(nbe, fire)
    days = nbe.time.dt.days_in_month
    np.testing.assert_allclose(change.values, (xr.ones_like(nbe) * days / 1000).values, rtol=1e-10)


def test_daily_fire_becomes_months():
    nbe = flux_on(6, 8, months=2, includes_fire=1)
    time = xr.date_range("2003-01-01", "2003-02-28", freq="D")
    fire = xr.DataArray(np.arange(59.0), {"time": time}, "time").expand_dims(lat=nbe.lat, lon=nbe.lon)
    change = nbe - remove_fire(nbe, fire.assign_attrs(units="gC m-2 d-1"))
    np.testing.assert_allclose(change.isel(lat=0, lon=0).values, [15.0, 44.5], rtol=1e-12)


def test_stamps_anywhere_in_the_month_are_that_month():
    nbe, fire = flux_on(6, 8, months=3, includes_fire=1), abs(flux_on(6, 8, months=3, seed=2))
    middle = fire.assign_coords(time=fire.time + np.timedelta64(14, "D"))
    np.testing.assert_allclose(remove_fire(nbe, middle).values, remove_fire(nbe, fire).values)


def test_fire_that_misses_months_is_named():
    nbe = flux_on(6, 8, months=12, includes_fire=1)
    with pytest.raises(ValueError, match=r"2 of the flux's 12 steps are not covered, from 2003-11-01, 2003-12-01"):
        remove_fire(nbe, flux_on(6, 8, months=10, seed=1))


def test_longer_steps_than_the_flux_are_refused():
    daily = flux_on(6, 8, months=12).isel(time=slice(0, 2))
    days = xr.date_range("2003-01-01", periods=2, freq="D")
    with pytest.raises(ValueError, match="longer steps than the flux"):
        remove_fire(daily.assign_coords(time=days), flux_on(6, 8, months=12, seed=1))


@pytest.mark.parametrize(("first", "count"), [("2003-01", 36), ("2001-06", 40), ("2003-01", 12)])
def test_fire_may_go_on_longer_than_the_flux(first, count):
    nbe = flux_on(6, 8, months=12, includes_fire=1)
    fire = abs(flux_on(6, 8, months=count, seed=1, start=first))
    inside = fire.sel(time=nbe.time)
    np.testing.assert_allclose(remove_fire(nbe, fire).values, (nbe - inside).values, rtol=1e-12)
    chunked = remove_fire(nbe.chunk(time=5), fire.chunk(time=7))
    np.testing.assert_allclose(chunked.values, (nbe - inside).values, rtol=1e-12)


def climatology(dim, values, units="gC m-2 d-1"):
    labels = np.arange(1, len(values) + 1)
    return flux_on(6, 8, units=units) * 0 + xr.DataArray(values, {dim: labels}, dim, attrs={"units": units})


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
@pytest.mark.parametrize(
    ("freq", "periods", "expected"),
    [
        ("MS", 30, lambda day: day.month),
        ("D", 800, lambda day: day.month),
        ("YS", 2, lambda day: None),
    ],
)
def test_a_climatology_by_month_stands_for_every_year(calendar, freq, periods, expected):
    time = xr.date_range("2003-01-01", periods=periods, freq=freq, calendar=calendar, use_cftime=calendar != "standard")
    nbe = flux_on(6, 8, includes_fire=1).expand_dims(time=time).assign_attrs(units="gC m-2 d-1")
    fire = climatology("month", np.arange(1.0, 13)).assign_attrs(units="gC m-2 d-1")
    change = (nbe - remove_fire(nbe, fire)).isel(lat=2, lon=3).values
    days = xr.date_range("2003-01-01", "2004-12-31", freq="D", calendar=calendar, use_cftime=calendar != "standard")
    if freq == "YS":
        right = [np.mean([day.month for day in days if day.year == year]) for year in (2003, 2004)]
    else:
        right = [expected(day) for day in time]
    np.testing.assert_allclose(change, right, rtol=1e-12)


@pytest.mark.parametrize("length", [365, 366])
def test_a_climatology_by_day_of_year_stands_for_every_year(length):
    fire = climatology("dayofyear", np.arange(1.0, length + 1)).assign_attrs(units="gC m-2 d-1")
    time = xr.date_range("2004-01-01", periods=366 + 365, freq="D")
    nbe = flux_on(6, 8, includes_fire=1).expand_dims(time=time).assign_attrs(units="gC m-2 d-1")
    right = np.minimum(time.dayofyear.to_numpy(), length).astype(float)
    change = (nbe - remove_fire(nbe, fire)).isel(lat=2, lon=3)
    np.testing.assert_allclose(change.values, right, rtol=1e-12)
    months = nbe.resample(time="MS").mean().assign_attrs(nbe.attrs)
    change = (months - remove_fire(months, fire)).isel(lat=2, lon=3)
    expected = xr.DataArray(right, {"time": time}, "time").resample(time="MS").mean()
    np.testing.assert_allclose(change.values, expected.values, rtol=1e-12)


def test_amounts_of_a_climatology_are_those_of_the_mean_year():
    nbe = flux_on(6, 8, months=12, includes_fire=1)
    fire = climatology("month", np.arange(1.0, 13), "gC m-2 month-1").assign_attrs(units="gC m-2 month-1")
    change = (nbe - remove_fire(nbe, fire)).isel(lat=2, lon=3)
    days = np.array([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    np.testing.assert_allclose(change.values, np.arange(1, 13) / days, rtol=1e-9)


def test_a_flux_by_day_of_year_takes_the_months_of_a_climatology():
    nbe = climatology("dayofyear", np.zeros(365)).assign_attrs(units="gC m-2 d-1")
    change = -remove_fire(nbe, climatology("month", np.arange(1.0, 13)).assign_attrs(units="gC m-2 d-1"))
    assert change.isel(lat=0, lon=0).sel(dayofyear=[1, 31, 365]).values.tolist() == [1.0, 1.0, 12.0]
    with pytest.raises(ValueError, match="come by date, the flux is a climatology by dayofyear: take their mean_seas"):
        remove_fire(nbe, flux_on(6, 8, months=12))


def test_rivers_by_year_are_even_within_the_year():
    nbe = flux_on(6, 8, months=24, includes_rivers=1)
    time = xr.date_range("2003-01-01", periods=3, freq="YS")
    rivers = xr.DataArray([-1.0, -2.0, -3.0], {"time": time}, "time").expand_dims(lat=nbe.lat, lon=nbe.lon)
    change = (nbe - remove_rivers(nbe, rivers.assign_attrs(units="gC m-2 d-1"))).isel(lat=0, lon=0)
    np.testing.assert_allclose(change.values, [-1.0] * 12 + [-2.0] * 12, rtol=1e-12)


def test_calendars_are_not_mixed():
    fire = flux_on(6, 8, months=2, seed=1)
    noleap = fire.assign_coords(
        time=xr.date_range("2003-01-01", periods=2, freq="MS", calendar="noleap", use_cftime=True)
    )
    with pytest.raises(ValueError, match="calendar"):
        remove_fire(flux_on(6, 8, months=2, includes_fire=1), noleap)


def test_climatologies_by_month():
    nbe = flux_on(6, 8, months=12, includes_fire=1).rename(time="month").assign_coords(month=range(1, 13))
    fire = abs(flux_on(6, 8, months=12, seed=1)).rename(time="month").assign_coords(month=range(1, 13))
    np.testing.assert_allclose(remove_fire(nbe, fire).values, (nbe - fire).values, rtol=1e-12)


def test_missing_fire_is_no_fire_and_a_missing_flux_stays_missing():
    nbe, fire = flux_on(6, 8, includes_fire=1), abs(flux_on(6, 8, seed=1))
    nbe[0, 0], fire[1, 1] = np.nan, np.nan
    nee = remove_fire(nbe, fire)
    assert np.isnan(nee[0, 0]) and float(nee[1, 1]) == float(nbe[1, 1]) and int(nee.isnull().sum()) == 1


@pytest.mark.parametrize(
    ("fire", "message"),
    [
        (flux_on(6, 8, units="PgC yr-1"), "expected units per area such as 'gC m-2 d-1', got 'PgC yr-1'"),
        (flux_on(6, 8, area_basis="land"), "the flux is per m2 of cell, fire emissions per m2 of land"),
        (flux_on(6, 8).expand_dims(species=2), r"dims \['species'\] are not in the flux"),
        (flux_on(6, 8).isel(lon=slice(0, 4)), "not all of the flux's cells"),
        (flux_on(6, 8).to_dataset(name="a").assign(b=flux_on(6, 8)), "which variable is meant.*found \\['a', 'b'\\]"),
    ],
)
def test_fire_that_does_not_fit_says_why(fire, message):
    with pytest.raises(ValueError, match=message):
        remove_fire(flux_on(6, 8, includes_fire=1, area_basis="cell"), fire)


def test_only_arrays_are_fluxes():
    with pytest.raises(TypeError, match="expected a DataArray such as"):
        remove_fire(3.0, flux_on(6, 8))


# --- rivers and fossil ------------------------------------------------------------------------------------------------


def test_rivers_are_constant_and_taken_out_once(tmp_path):
    """nbe − rivers is what the GCP file has as the river-adjusted flux."""
    fixture = writer.gcp_inversions(tmp_path)
    ds = xflux.open_product("gcp-inversions", fixture.paths)
    without = remove_rivers(ds.nbe, ds.rivers)
    np.testing.assert_array_equal(remove_rivers(ds, ds).nbe.values, without.values)
    np.testing.assert_allclose(without.values, ds.nbe_river_adjusted.values, rtol=1e-10)
    assert without.attrs["includes_rivers"] == 0 and without.attrs["adjusted_for"] == "fossil, rivers"
    assert check_contents(without, ds.nbe_river_adjusted) == {"fire": "same", "rivers": "same"}
    with pytest.raises(ContentsError, match=r"does not include rivers.*subtracted twice"):
        remove_rivers(ds.nbe_river_adjusted, ds.rivers)
    np.testing.assert_allclose(adjust.add_rivers(without, ds.rivers).values, ds.nbe.values, rtol=1e-10)


def test_rivers_by_year_on_a_flux_by_month():
    nbe = flux_on(6, 8, months=12, includes_rivers=1, units="kgC m-2 month-1")
    rivers = xr.full_like(flux_on(6, 8), -3.65).assign_attrs(units="gC m-2 yr-1")
    change = (remove_rivers(nbe, rivers) - nbe).isel(lat=0, lon=0)
    np.testing.assert_allclose(change.values, 3.65e-3 * nbe.time.dt.days_in_month.values / 365.2425, rtol=1e-8)


def test_rivers_on_a_seasonal_cycle():
    nbe = flux_on(6, 8, months=12, units="gC m-2 month-1").rename(time="month").assign_coords(month=range(1, 13))
    rivers = xr.full_like(flux_on(6, 8), -1.0)
    change = (remove_rivers(nbe, rivers) - nbe).isel(lat=0, lon=0)
    np.testing.assert_allclose(change.values[:3], [31, 28.2425, 31], rtol=1e-10)


def test_rivers_with_the_wrong_sign_are_noticed():
    with pytest.warns(UserWarning, match="rivers add up to a source"):
        remove_rivers(flux_on(6, 8, includes_rivers=1), abs(flux_on(6, 8, seed=1)))


def test_a_fossil_difference_moves_to_the_land():
    nbe = flux_on(6, 8, months=12)
    prescribed, reference = flux_on(6, 8, months=12, seed=1), flux_on(12, 16, months=12, seed=2)
    result = adjust_fossil(nbe, prescribed, reference)
    total = globe(nbe + prescribed - result)
    np.testing.assert_allclose(total.values, globe(reference).values, rtol=1e-10)
    assert result.attrs["adjusted_for"] == "fossil" and "includes_fossil" not in result.attrs
    with pytest.raises(ContentsError, match="is adjusted for fossil already"):
        adjust_fossil(result, prescribed, reference)


def test_nee_of_a_product_is_its_flux(tmp_path):
    fixture = writer.carbontracker_europe(tmp_path)
    ds = xflux.open_product("cte", fixture.paths)
    nbe = add_fire(ds, ds)
    np.testing.assert_allclose(nbe.nee.values, fixture.values["nee"] + fixture.values["fire"], rtol=1e-12)
    np.testing.assert_array_equal(nbe.fire.values, ds.fire.values)


def test_a_dataset_keeps_its_other_variables_and_bounds():
    nbe = flux_on(6, 8, months=1, includes_fire=1)
    bounds = np.array([["2003-01-01", "2003-02-01"]], "M8[ns]")
    ds = nbe.to_dataset().assign(note=("lat", np.ones(6))).assign_coords(time_bnds=(("time", "bnds"), bounds))
    fire = abs(flux_on(6, 8, months=1, seed=1)).to_dataset(name="fire").assign_coords(time_bnds=ds.time_bnds)
    result = remove_fire(ds, fire)
    np.testing.assert_allclose(result.nbe.values, (nbe - fire.fire).values)
    assert {"note", "time_bnds"} <= set(result.variables) and result.nbe.attrs["includes_fire"] == 0


def test_labels_that_the_component_lacks_are_named():
    names = ["A", "B", "C"]
    flux = xr.concat([flux_on(6, 8, seed=i) for i in range(3)], xr.DataArray(names, dims="inversion", name="inversion"))
    turned = flux.isel(inversion=[2, 0, 1])
    done = adjust_fossil(flux, turned * 2, turned)
    np.testing.assert_allclose(done, flux * 2)
    assert list(done.inversion.values) == names
    with pytest.raises(ValueError, match=r"fossil difference: no inversion A, which the flux has; it has C, B"):
        adjust_fossil(flux, turned.sel(inversion=["C", "B"]), turned)
    months = flux_on(6, 8, months=12, includes_fire=1).assign_coords(time=np.arange(1, 13)).rename(time="month")
    with pytest.raises(ValueError, match=r"fire emissions: 6 of the flux's 12 steps are not covered, from 7, 8, 9"):
        remove_fire(months, abs(months).isel(month=slice(6)))


def test_per_land_fluxes_on_different_grids_are_refused():
    """Coarse and fine cells have different shares of land: the regridded sum over land is another one."""
    flux = flux_on(6, 8, includes_fire=1, area_basis="land")
    with pytest.raises(ValueError, match=r"per m2 of land on different grids.*their sums would not be kept"):
        remove_fire(flux, abs(flux_on(12, 16, area_basis="land")))
    turned = abs(flux_on(6, 8, west=0.0, descending=True, area_basis="land"))
    done = remove_fire(flux, turned)
    assert float(globe(flux - done)) == pytest.approx(float(globe(turned)), rel=1e-10)


def test_adding_and_taking_out_leaves_no_adjustment():
    nee, fire = flux_on(6, 8, includes_fire=0), abs(flux_on(6, 8, seed=1))
    back = remove_fire(add_fire(nee, fire), fire)
    assert back.attrs == nee.attrs


def test_fires_that_are_all_negative_are_told():
    fire = abs(flux_on(6, 8, seed=1))
    with pytest.warns(UserWarning, match="all fire emissions are negative"):
        remove_fire(flux_on(6, 8), -fire.assign_attrs(fire.attrs))


def test_components_say_their_basis_by_cell_methods_too():
    fire = abs(flux_on(6, 8, seed=1))
    land = fire.drop_attrs().assign_attrs(units=fire.attrs["units"], cell_methods="area: mean where land")
    with pytest.raises(ValueError, match="the flux is per m2 of cell, fire emissions per m2 of land"):
        remove_fire(flux_on(6, 8).assign_attrs(area_basis="cell"), land)


def test_contents_of_a_dataset_hold_for_its_flux():
    fire = abs(flux_on(6, 8, seed=1))
    bio = flux_on(6, 8).to_dataset(name="nbe")
    with pytest.raises(ContentsError, match="does not include fire"):
        remove_fire(bio.assign_attrs(includes_fire=0), fire)
    with pytest.raises(ContentsError, match="is adjusted for fossil already"):
        adjust_fossil(bio.assign_attrs(adjusted_for="fossil"), fire, fire)
    with pytest.raises(ValueError, match="the flux is per m2 of cell, fire emissions per m2 of land"):
        remove_fire(bio.assign_attrs(area_basis="cell"), fire.assign_attrs(area_basis="land"))
    assert remove_fire(bio.assign_attrs(includes_fire=1), fire).nbe.attrs["includes_fire"] == 0


def test_components_as_cdo_averages_them():
    """Bounds from the first to the last stamp of the input; the mean year over years, stamped in its last one."""
    nbe = flux_on(6, 8, months=24, includes_fire=1)
    fire = abs(flux_on(6, 8, months=24, seed=1)).rename("fire")
    stop = fire.time + (fire.time.dt.days_in_month - 1).astype("m8[D]")
    bounds = (("time", "bnds"), np.stack([fire.time, stop], 1))
    ds = fire.to_dataset().assign(time_bnds=bounds)
    ds["time"].attrs["bounds"] = "time_bnds"
    with pytest.warns(UserWarning, match="bounds"):
        nee = remove_fire(nbe, ds)
    np.testing.assert_allclose(nee.values, (nbe - fire).values, rtol=1e-12)
    cycle = ds.isel(time=slice(12, 24)).drop_vars("time_bnds")
    span = np.stack([fire.time[:12], fire.time[12:24] + fire.time[12:24].dt.days_in_month.astype("m8[D]")], 1)
    cycle = cycle.assign(time_bnds=(("time", "bnds"), span))
    nee = remove_fire(nbe, cycle)
    np.testing.assert_allclose(nee.values, nbe.values - np.concatenate([cycle.fire.values] * 2), rtol=1e-12)
    renamed = remove_fire(nbe, fire.rename(time="valid_time"))
    np.testing.assert_allclose(renamed.values, (nbe - fire).values, rtol=1e-12)
