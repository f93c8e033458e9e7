"""Budgets: mean ± spread by region and period, the spread computed on the sum."""

import numpy as np
import pytest
import xarray as xr
from test_regions import axes, flux, globe

import xflux
from xflux.cells import RADIUS
from xflux.regions import budget_table, regional_budget

rng = np.random.default_rng(5)


def members(values, **coords):
    da = xr.DataArray(values, {"region": ["A", "B"], **coords}, ("member", "region"), attrs={"units": "PgC yr-1"})
    return da


def test_spread_of_the_sum_is_not_the_sum_of_spreads():
    table = regional_budget(members([[1.0, -1.0], [2.0, -2.0], [4.0, -3.0]]))
    assert table["mean"].dims == ("period", "region") and list(table.region.values) == ["A", "B", "GLOBAL"]
    np.testing.assert_allclose(table["mean"][0], [7 / 3, -2, 1 / 3])
    np.testing.assert_allclose(table["spread"][0], np.std([[1, 2, 4], [-1, -2, -3], [0, 0, 1]], axis=1, ddof=1))
    assert (table.n_members == 3).all() and table.attrs["spread"] == "ensemble"


def test_covariance_of_the_members_gives_the_spread_of_the_members():
    values = rng.normal(size=(9, 2))
    cov = xr.DataArray(np.cov(values.T), {"region": ["A", "B"], "region_2": ["A", "B"]}, ("region", "region_2"))
    by_members = regional_budget(members(values))
    mean = members(values).mean("member", keep_attrs=True)
    by_covariance = regional_budget(mean, spread="covariance", covariance=cov)
    np.testing.assert_allclose(by_covariance["spread"], by_members["spread"], rtol=1e-12)
    np.testing.assert_allclose(by_covariance["mean"], by_members["mean"], rtol=1e-12)


def test_covariance_between_cells():
    """White noise adds in squares, a common error adds up."""
    coords = axes(30.0)
    da = flux(coords)
    area = xflux.cells.cell_area(da).values.ravel()
    n = area.size
    dims = ("lat", "lon", "lat_2", "lon_2")
    for matrix, globe_variance in ((np.eye(n), (area**2).sum()), (np.ones((n, n)), area.sum() ** 2)):
        cov = xr.DataArray(matrix.reshape(6, 12, 6, 12), dims=dims)
        table = regional_budget(da, "latitude-bands", spread="covariance", covariance=cov)
        expected = np.sqrt(globe_variance) * 365.2425 / 1e15
        assert table["spread"].sel(region="GLOBAL").item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunked", [False, True])
def test_years_and_periods_of_a_gridded_ensemble(chunked):
    da = flux(axes(10.0), steps=30).expand_dims(model=[1.0, 3.0]) * xr.DataArray([1.0, 3.0], dims="model")
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    da = da.chunk(time=5) if chunked else da
    table = regional_budget(da, "latitude-bands", {"first": (2001, 2001), "both": (2001, 2002)})
    days = da.time.dt.days_in_month
    amounts = (globe(da).isel(model=0) * days / 1e15).values
    years = np.array([amounts[:12].sum(), amounts[12:24].sum()])  # 2003 is no whole year
    np.testing.assert_allclose(table["mean"].sel(region="GLOBAL"), [2 * years[0], 2 * years.mean()], rtol=1e-12)
    spread = np.sqrt(2) * np.array([years[0], years.mean()])
    np.testing.assert_allclose(table["spread"].sel(region="GLOBAL"), spread, rtol=1e-12)
    assert list(table.n_years.values) == [1, 2]
    with pytest.warns(UserWarning, match="covers 2003 only in part: left out of the budget"):
        assert list(regional_budget(da, "latitude-bands").period.values) == ["2001–2002"]


def test_budget_of_regional_integrals_equals_that_of_the_grid():
    da = flux(axes(10.0), steps=24).expand_dims(model=2) * xr.DataArray([1.0, 2.0], dims="model")
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    direct = regional_budget(da, "reccap2")
    for units in ("PgC month-1", "PgC d-1", "TgC month-1"):
        sums = xflux.regions.aggregate_regions(da, "reccap2", units)
        table = regional_budget(sums)
        np.testing.assert_allclose(table["mean"].values, direct["mean"].values, rtol=1e-12)
        np.testing.assert_allclose(table["spread"].values, direct["spread"].values, rtol=1e-12)


def test_integrals_without_a_valid_fraction_have_a_budget():
    time = xr.date_range("2001-01-01", periods=24, freq="MS")
    monthly = xr.DataArray(np.ones((24, 2)), {"time": time, "region": ["A", "B"]}, ("time", "region"))
    table = regional_budget(monthly.assign_attrs(units="PgC month-1"))
    np.testing.assert_allclose(table["mean"], [[12, 12, 24]])
    assert table.valid_fraction.isnull().all() and table.n_years == 2


def test_a_member_counts_only_with_all_its_years():
    da = flux(axes(10.0), steps=24).expand_dims(model=3) * xr.DataArray([1.0, 2.0, 4.0], dims="model")
    da = da.where(~((da.time.dt.year == 2001) & (da.time.dt.month == 3) & (xr.DataArray([0, 0, 1], dims="model") == 1)))
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    with pytest.warns(UserWarning, match="period '2001–2001': 2 lacks a part of its years and is left out"):
        table = regional_budget(da, "latitude-bands", [(2001, 2001), (2002, 2002)])
    assert (table.n_members.sel(period="2001–2001") == 2).all() and (table.n_members.sel(period="2002–2002") == 3).all()


def test_budget_of_a_dataset_with_bounds_and_of_a_climatology():
    da = flux(axes(10.0), steps=12).expand_dims(model=2).assign_attrs(units="gC m-2 d-1", area_basis="cell")
    da.data = np.ones(da.shape)
    middle = da.assign_coords(time=da.time + np.timedelta64(14, "D"))
    bounds = xr.date_range("2001-01-01", periods=13, freq="MS").values
    ds = xr.Dataset({"nee": middle, "time_bnds": (("time", "bnds"), np.stack([bounds[:-1], bounds[1:]], 1))})
    ds.time.attrs["bounds"] = "time_bnds"
    sphere = 4 * np.pi * RADIUS**2 / 1e15
    assert regional_budget(ds, "reccap2")["mean"].sel(region="GLOBAL").item() == pytest.approx(365 * sphere, rel=1e-12)
    month = da.drop_vars("time").rename(time="month").assign_coords(month=np.arange(1, 13))
    table = regional_budget(month, "reccap2")
    assert table["mean"].sel(region="GLOBAL").item() == pytest.approx(365.2425 * sphere, rel=1e-12)


def test_budget_of_what_a_dataset_was_aggregated_to():
    """Each variable's `nee_unassigned`, … belongs to GLOBAL as `unassigned` does; other variables' do not."""
    one = flux(axes(10.0), steps=24).assign_attrs(units="gC m-2 d-1", area_basis="cell")
    nee = xr.concat([one, 3 * one], "model").assign_attrs(one.attrs)
    ds = xr.Dataset({"nee": nee, "gpp": (nee + 1).assign_attrs(one.attrs)}).flux.aggregate_regions("reccap2")
    expected = regional_budget(nee, "reccap2")
    alone = ds[["nee"]]
    for made in (alone, ds.nee, alone.flux.annual(), ds.nee.flux.annual(), ds.nee.flux.convert_units("TgC")):
        table = regional_budget(made)
        np.testing.assert_allclose(table["mean"], expected["mean"], rtol=1e-12)
        np.testing.assert_allclose(table["spread"], expected["spread"], rtol=1e-12)
    np.testing.assert_allclose(regional_budget(ds, var="nee")["mean"], expected["mean"], rtol=1e-12)


def test_text():
    text = budget_table(regional_budget(members([[1.0, -1.0], [2.0, -2.0]])), digits=1)
    assert text.loc["B", "all"] == "−1.5 ± 0.7" and text.loc["GLOBAL", "all"] == "0.0 ± 0.0"


def test_errors_say_what_is_missing():
    one = members([[1.0, 2.0]]).isel(member=0)
    with pytest.raises(ValueError, match=r"needs covariance=: a DataArray \(region, region_2\)"):
        regional_budget(one, spread="covariance")
    with pytest.raises(ValueError, match="spread 'sd' is unknown; expected 'ensemble' or 'covariance'"):
        regional_budget(one, spread="sd")
    cov = xr.DataArray([[1.0]], {"region": ["A"], "region_2": ["A"]}, ("region", "region_2"))
    with pytest.raises(ValueError, match=r"covariance lacks the regions \['B'\]"):
        regional_budget(one, spread="covariance", covariance=cov)
    with pytest.raises(ValueError, match=r"holds none of the whole years 2001–2001"):
        regional_budget(flux(axes(10.0), steps=12).expand_dims(m=2).assign_attrs(
            units="gC m-2 d-1", area_basis="cell"), "reccap2", [(1990, 1999)])  # fmt: skip
    with pytest.raises(ValueError, match="the time axis covers no whole year"):
        regional_budget(
            flux(axes(10.0), steps=5).expand_dims(m=2).assign_attrs(units="gC m-2 d-1", area_basis="cell"), "reccap2"
        )
    with pytest.raises(ValueError, match="periods= needs the dim 'time'"):
        regional_budget(members([[1.0, 2.0], [1.0, 2.0]]), periods=[(2001, 2002)])


def covariance_of(labels, seed=3):
    root = np.random.default_rng(seed).normal(size=(len(labels),) * 2)
    return xr.DataArray(root @ root.T, {"region": labels, "region_2": labels}, ("region", "region_2"))


def test_a_covariance_is_matched_by_its_coordinates_not_by_its_order():
    one = members(rng.normal(size=(1, 2))).isel(member=0)
    cov = covariance_of(["A", "B"])
    kwargs = {"spread": "covariance"}
    expected = np.sqrt([cov[0, 0], cov[1, 1], cov.sum()])
    for other in (cov, cov.isel(region=[1, 0]), cov.isel(region_2=[1, 0]), cov.T):
        np.testing.assert_allclose(regional_budget(one, covariance=other, **kwargs).spread[0], expected, rtol=1e-13)
    numbers = one.assign_coords(region=[0, 1])
    table = regional_budget(numbers, covariance=cov.assign_coords(region=[0, 1], region_2=[0, 1]), **kwargs)
    np.testing.assert_allclose(table.spread[0], expected, rtol=1e-13)
    both = xr.concat([cov, 4 * cov], "period").assign_coords(period=["early", "late"])
    years = xr.date_range("2001-01-01", periods=4, freq="YS")
    series = xr.DataArray(np.ones((4, 2)), {"time": years, "region": ["A", "B"]}, ("time", "region"), attrs=one.attrs)
    periods = {"late": (2003, 2004), "early": (2001, 2002)}
    table = regional_budget(series, periods=periods, covariance=both, **kwargs)
    np.testing.assert_allclose(table.spread, [2 * expected, expected], rtol=1e-13)
    with pytest.raises(ValueError, match=r"the covariance is of the periods \['early', 'late'\], not \['2001–2004'\]"):
        regional_budget(series, covariance=both, **kwargs)


@pytest.mark.parametrize("names", [("lat", "lon"), ("latitude", "longitude")])
def test_a_covariance_between_cells_is_matched_by_latitude_and_longitude(names):
    coords = axes(30.0, 60.0)
    n = coords["lat"].size * coords["lon"].size
    root = rng.normal(size=(n, n))
    matrix = (root @ root.T).reshape([coords["lat"].size, coords["lon"].size] * 2)
    dims = ("lat", "lon", "lat_2", "lon_2")
    cov = xr.DataArray(matrix, {d: coords[d[:3]] for d in dims}, dims)
    da = flux(coords)
    area = xflux.cells.cell_area(da).values
    weights = [np.where(np.arange(6)[:, None] == k, area, 0).ravel() for k in range(6)]
    expected = [np.sqrt(w @ (root @ root.T) @ w) * 365.2425 / 1e15 for w in (*weights, area.ravel())]
    mask = xr.DataArray(np.repeat(np.arange(6)[:, None], 6, 1), coords, ("lat", "lon"))
    cov = cov.rename(dict(zip(("lat", "lon"), names, strict=True)))
    for turned in (
        da,
        da.isel(lat=slice(None, None, -1)),
        da.roll(lon=2, roll_coords=True),
        da.assign_coords(lon=da.lon % 360).sortby("lon"),
        da.transpose("lon", "lat"),
    ):
        table = regional_budget(turned, mask, spread="covariance", covariance=cov)
        np.testing.assert_allclose(table.spread[0], expected, rtol=1e-10)
    with (
        pytest.warns(UserWarning, match="the grid covers nothing of 5"),
        pytest.raises(ValueError, match=r"the covariance's lat \(6 from -75\) is not the lat of the flux \(5"),
    ):
        regional_budget(da.isel(lat=slice(5)), mask, spread="covariance", covariance=cov)


def test_a_budget_is_per_year_and_a_covariance_is_one():
    one = members(rng.normal(size=(3, 2)))
    for units in ("PgC month-1", "PgC", "PgC d-1"):
        with pytest.raises(ValueError, match=f"units='{units}': a budget is an amount per year"):
            regional_budget(one, units=units)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        regional_budget(one, spread="covariance", covariance=-covariance_of(["A", "B"]))
    with pytest.raises(ValueError, match=r"a DataArray \(region, region_2\) .* not ndarray"):
        regional_budget(one, spread="covariance", covariance=np.eye(2))


def test_a_period_longer_than_the_data_says_so():
    years = xr.date_range("2001-01-01", periods=4, freq="YS")
    dims, attrs = ("member", "time", "region"), {"units": "PgC yr-1"}
    da = xr.DataArray(rng.normal(size=(2, 4, 1)), {"time": years, "region": ["A"]}, dims, attrs=attrs)
    with pytest.warns(UserWarning, match="period '1999–2002': only 2 of its 4 years are whole in the data"):
        table = regional_budget(da, periods=[(1999, 2002)])
    assert table.n_years.item() == 2


def test_a_single_product_has_its_years_but_no_spread():
    da = flux(axes(10.0), steps=36).assign_attrs(units="gC m-2 d-1", area_basis="cell")
    table = regional_budget(da.chunk(time=7), "reccap2")
    amounts = globe(da) * da.time.dt.days_in_month / 1e15
    years = amounts.values.reshape(3, 12).sum(1)
    whole = table.sel(region="GLOBAL", period="2001–2003")
    np.testing.assert_allclose([whole["mean"], whole["sd_years"]], [years.mean(), years.std(ddof=1)], rtol=1e-12)
    assert table["spread"].isnull().all() and (table.n_members == 1).all()
    assert table.sd_years.attrs["units"] == "PgC yr-1"
    assert budget_table(table, 1).loc["GLOBAL", "2001–2003"] == f"{years.mean():.1f}"
    assert table["region_name"].sel(region=["KAJ", "GLOBAL"]).values.tolist() == ["Korea and Japan", "Globe"]


def test_the_default_period_is_what_all_members_have():
    a = flux(axes(10.0), steps=48).assign_attrs(units="gC m-2 d-1", area_basis="cell")
    late = a.isel(time=slice(18, None))
    with pytest.warns(UserWarning, match="steps that others have are NaN"):
        both = xflux.ensemble({"A": a, "B": late})
    table = regional_budget(both, "latitude-bands")
    assert list(table.period) == ["2003–2004"] and (table.n_members == 2).all()
    with pytest.warns(UserWarning, match="period '2001–2004': B lacks a part of its years and is left out"):
        table = regional_budget(both, "latitude-bands", [(2001, 2004)])
    assert (table.n_members == 1).all()
    with pytest.raises(ValueError, match="no whole year in common: A 2001–2001, B 2003–2004"):
        regional_budget(both.where((both.time.dt.year == 2001) | (both.inversion == "B")), "latitude-bands")


@pytest.mark.parametrize("time", [False, True])
def test_the_share_that_is_covered(time):
    da = flux(axes(10.0), steps=24).assign_attrs(units="gC m-2 d-1", area_basis="cell")
    da = da.where(da.lat < 0)
    table = regional_budget(
        da if time else da.isel(time=0, drop=True).assign_attrs(units="gC m-2 d-1"), "latitude-bands"
    )
    share = table["valid_fraction"].isel(period=0)
    np.testing.assert_allclose(share.sel(region=["90S-80S", "80N-90N", "GLOBAL"]), [1, 0, 0.5], atol=1e-12)


@pytest.mark.parametrize("given", ["maps", "integrals", "annual integrals"])
def test_a_year_in_which_more_of_a_region_is_missing_is_left_out(given):
    time, lon = xr.date_range("2001-01-01", periods=48, freq="MS"), np.arange(5.0, 360, 10)
    coords = {"time": time, "lat": np.arange(-85.0, 90, 10), "lon": lon}
    da = xr.DataArray(np.ones((48, 18, 36)), coords, list(coords), "nbe", {"units": "gC m-2 d-1", "area_basis": "cell"})
    da = da * time.year.values[:, None, None] * (lon > 90)  # a quarter without a flux, which is not missing
    da = da.where(da["lon"] > 50)
    holed = da.where((da["time"] != np.datetime64("2002-03-01")) | (da["lat"] > 0) | (da["lon"] > 180))
    options = {"maps": None, "integrals": {}, "annual integrals": {"units": "PgC yr-1", "freq": "YS"}}[given]
    holed, da = (x.assign_attrs(units="gC m-2 d-1", area_basis="cell") for x in (holed, da))
    if options is not None:
        holed = holed.flux.aggregate_regions("latitude-bands", **options)
    with pytest.warns(UserWarning) as said:
        table = xflux.regional_budget(holed, "latitude-bands")
    assert "in 2002 more is missing of 90S-80S" in str(said[0].message) and len(said) == 2
    with pytest.warns(UserWarning, match="only 3 of its 4 years"):
        kept = xflux.regional_budget(da.isel(time=time.year != 2002), "latitude-bands", periods=[(2001, 2004)])
    np.testing.assert_allclose(table["mean"], kept["mean"], rtol=1e-12)
    shares = (x["valid_fraction"].drop_sel(region="GLOBAL") for x in (table, kept))  # integrals have that of no globe
    np.testing.assert_allclose(*shares, rtol=1e-12)
    assert table["n_years"].item() == 3
