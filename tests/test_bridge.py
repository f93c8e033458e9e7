"""The bridge on fields whose answer is known."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux
from xflux.bridge import fit_bridge, load_bridge
from xflux.bridge.samples import MEAN_MONTH, months_and_folds, take_regions
from xflux.cells import cell_area
from xflux.regions import aggregate_regions, region_weights
from xflux.temporal import step_days

LAT, LON = np.arange(85.0, -90, -10), np.arange(-175.0, 180, 10)


def field(months: int = 60, seed: int = 0, noise: float = 0.3, basis: str = "cell", **dates) -> xr.DataArray:
    """A few seasonal and interannual modes and noise, gC m-2 d-1, on a 10° grid."""
    rng = np.random.default_rng(seed)
    month = np.arange(months)
    modes = rng.standard_normal((months, 5))
    patterns = rng.standard_normal((5, LAT.size, LON.size))
    values = np.einsum("tk,kij->tij", modes, patterns) + noise * rng.standard_normal((months, LAT.size, LON.size))
    values += 2 * np.cos(2 * np.pi * month / 12)[:, None, None] * np.sign(LAT)[None, :, None]
    time = xr.date_range("2001-01-01", periods=months, freq="MS", **dates)
    attrs = {"units": "gC m-2 d-1", "area_basis": basis}
    return xr.DataArray(values, {"time": time, "lat": LAT, "lon": LON}, ("time", "lat", "lon"), "nee", attrs)


def halves() -> xr.DataArray:
    """Two regions, by text label."""
    mask = xr.where(xr.DataArray(LAT, {"lat": LAT}, "lat") > 0, 0, 1) + xr.DataArray(0 * LON, {"lon": LON}, "lon")
    return mask.assign_attrs(flag_values=[0, 1], flag_meanings="north south")


def relative(a: xr.DataArray, b: xr.DataArray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.fixture(scope="module")
def nee():
    return field()


@pytest.fixture(scope="module")
def bridge(nee):
    return nee.flux.fit_bridge(halves())


# --- the interface of DESIGN §2 ---------------------------------------------------------------------------------------
def test_interface(nee, bridge):
    assert isinstance(bridge, xflux.Bridge)
    assert set(bridge.pixels.dims) == {"pixel"} and {"region", "lat", "lon", "weight"} <= set(bridge.pixels.variables)
    names = {"intercept", "alpha", "r2", "r2_cv", "r2_anomaly", "n_pixels", "land_area"}
    assert names <= set(bridge.regions.data_vars) and dict(bridge.regions.sizes) == {"region": 2}
    predicted = bridge.predict(nee)
    assert predicted.dims == ("time", "region") and predicted.attrs["units"] == "PgC month-1"
    assert predicted.dtype == "float64" and list(predicted["region"].values) == ["north", "south"]
    assert (bridge.regions["r2"] >= 0.95).all() and (bridge.regions["r2_cv"] < 1).all()
    assert (bridge.regions["n_pixels"] == np.unique(bridge.pixels["region"], return_counts=True)[1]).all()


def test_target_is_what_aggregate_regions_makes(nee, bridge):
    xr.testing.assert_allclose(bridge.full(nee), aggregate_regions(nee, halves()).drop_vars(
        ["valid_fraction", "unassigned", "assigned"], errors="ignore"), rtol=1e-12)  # fmt: skip
    full, bridged = bridge.full(nee), bridge.predict(nee)
    rate = MEAN_MONTH / nee["time"].dt.days_in_month
    bridged, full = bridged * rate, full * rate
    misfit = ((bridged - full) ** 2).sum("time") / ((full - full.mean("time")) ** 2).sum("time")
    np.testing.assert_allclose(1 - misfit, bridge.regions["r2"], atol=1e-10)


def test_pixels_weights_and_intercept_are_the_prediction(nee, bridge):
    """What a trainer does with pixels and regions, by hand."""
    days = nee["time"].dt.days_in_month.values
    for name in ("north", "south"):
        part = bridge.pixels.isel(pixel=bridge.pixels["region"].values == name)
        values = nee.sel(lat=part["lat"], lon=part["lon"]).values
        by_hand = values @ part["weight"].values + bridge.regions["intercept"].sel(region=name).item()
        np.testing.assert_allclose(bridge.predict(nee).sel(region=name), by_hand * days / MEAN_MONTH, rtol=1e-12)


def test_operator_is_the_prediction(nee, bridge):
    op = bridge.operator(["south", "north"])
    values = nee.sel(lat=op["lat"], lon=op["lon"]).drop_vars(["lat", "lon"])
    out = (xr.dot(values, op["weight"]) + op["intercept"]) * nee["time"].dt.days_in_month / MEAN_MONTH
    out = out.sel(region=["north", "south"]).transpose("time", "region")
    np.testing.assert_allclose(out, bridge.predict(nee), rtol=1e-11)
    with pytest.raises(ValueError, match=r"regions \['east'\] are not among"):
        bridge.operator(["east"])


# --- planted truth ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("refit", [False, True])
def test_planted_pixels_come_back(calendar, refit):
    """The integral is an exact combination of three pixels a region: the others are constant."""
    nee = field(48, seed=3, calendar=calendar, use_cftime=True)
    varying = np.zeros((LAT.size, LON.size), bool)
    varying[[2, 5, 7, 10, 12, 14], [3, 30, 17, 8, 20, 1]] = True
    nee = nee.where(varying, 1.5)
    bridge = fit_bridge(nee, halves(), r2=1 - 1e-9, refit=refit)
    assert bridge.regions["n_pixels"].values.tolist() == [3, 3]
    area = cell_area(nee)
    for pixel in range(6):
        one = bridge.pixels.isel(pixel=pixel)
        truth = area.sel(lat=one["lat"], lon=one["lon"]).item() * 1e-15 * MEAN_MONTH
        assert one["weight"].item() == pytest.approx(truth, rel=1e-10 if refit else 1e-3)
    assert relative(bridge.predict(nee), bridge.full(nee)) < (1e-12 if refit else 1e-3)
    constant = 1.5 * 1e-15 * MEAN_MONTH * area.where(~varying).where(area["lat"] > 0).sum().item()
    assert bridge.regions["intercept"].sel(region="north").item() == pytest.approx(constant, rel=1e-3)


# --- invariances ------------------------------------------------------------------------------------------------------
@given(
    chunks=st.fixed_dictionaries({"time": st.integers(7, 24), "lat": st.integers(5, 17), "lon": st.integers(11, 36)}),
    roll=st.integers(0, 35), flip=st.booleans(), east=st.booleans(), order=st.permutations(["time", "lat", "lon"]),
)  # fmt: skip
@settings(max_examples=5, deadline=None)
def test_order_chunks_and_conventions_change_nothing(chunks, roll, flip, east, order):
    nee = field(24, seed=5)
    options = {"candidates": 100, "clusters": 3, "landmarks": 120}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = fit_bridge(nee, halves(), **options).predict(nee)
        other = nee.roll(lon=roll, roll_coords=True)
        other = other.isel(lat=slice(None, None, -1)) if flip else other
        other = other.assign_coords(lon=other["lon"] % 360) if east else other
        bridge = fit_bridge(other.transpose(*order).chunk(chunks), halves(), **options)
    assert relative(bridge.predict(nee), expected) < 1e-8
    assert relative(bridge.predict(other.chunk(chunks)), expected) < 1e-8
    assert relative(bridge.full(other), bridge.full(nee)) < 1e-12


@pytest.mark.parametrize("units", ["kgC m-2 s-1", "umolCO2 m-2 s-1", "gC m-2 month-1", "kgCO2 m-2 yr-1"])
def test_units_change_nothing(nee, bridge, units):
    other = nee.flux.convert_units(units)
    again = fit_bridge(other, halves())
    assert relative(again.predict(nee), bridge.predict(nee)) < 1e-8
    assert relative(bridge.predict(other), bridge.predict(nee)) < 1e-12
    np.testing.assert_allclose(again.regions["alpha"], bridge.regions["alpha"], rtol=1e-8)


def test_other_regions_do_not_change_a_region(nee):
    options = {"candidates": 100, "clusters": 3}
    both = fit_bridge(nee, halves(), **options)
    south = fit_bridge(nee, halves().where(halves() == 1), **options)
    xr.testing.assert_equal(both.regions.sel(region=["south"]), south.regions)


def test_seed_draws_other_candidates(nee):
    options = {"candidates": 40, "clusters": 3}
    one, same, other = (fit_bridge(nee, halves(), seed=s, **options) for s in (0, 0, 1))
    xr.testing.assert_identical(one.pixels, same.pixels)
    assert not one.pixels.equals(other.pixels)


def test_weights_without_a_basis_take_that_of_the_flux(nee, bridge):
    made = region_weights(nee, halves())
    bare = made.copy()
    bare.attrs = {"units": "m2"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_bridge(nee, bare)
    xr.testing.assert_equal(found.pixels, bridge.pixels)
    assert found.weights.attrs["area_basis"] == "cell"
    assert relative(found.full(nee), aggregate_regions(nee, halves())) < 1e-12
    unknown = nee.drop_attrs(deep=False).assign_attrs(units=nee.attrs["units"])
    with pytest.warns(UserWarning, match="'cell' is assumed"):
        found = fit_bridge(unknown, bare)
    assert relative(found.full(unknown), aggregate_regions(nee, halves())) < 1e-12


def test_weights_of_another_basis_than_the_flux_are_refused(nee):
    land = region_weights(nee, halves(), area_basis="land")
    with pytest.raises(ValueError, match="flux is per m2 of 'cell', the weights were made for area_basis='land'"):
        fit_bridge(nee, land)
    assert fit_bridge(nee, land, area_basis="land").attrs["area_basis"] == "land"


# --- months, members, days --------------------------------------------------------------------------------------------
def test_prediction_has_the_months_true_length(nee, bridge):
    flat = nee.isel(time=slice(0, 14)) * 0 + 1.0
    predicted = bridge.predict(flat.assign_attrs(nee.attrs))
    per_day = predicted / flat["time"].dt.days_in_month
    np.testing.assert_allclose(per_day, per_day.isel(time=[0]).values.repeat(14, axis=0), rtol=1e-12)
    month = flat.isel(time=slice(0, 12)).rename(time="month").assign_coords(month=np.arange(1, 13))
    february = bridge.predict(month.assign_attrs(nee.attrs)).sel(month=2)
    np.testing.assert_allclose(february, predicted.isel(time=0).values * 28.2425 / 31, rtol=1e-12)
    mean = bridge.predict(flat.isel(time=0, drop=True).assign_attrs(nee.attrs))
    np.testing.assert_allclose(mean, predicted.isel(time=0).values * MEAN_MONTH / 31, rtol=1e-12)


def test_literal_form_regresses_months_on_rates(nee):
    literal = fit_bridge(nee, halves(), month_lengths=False)
    full = aggregate_regions(nee, halves())
    residual = literal.predict(nee) - full
    r2 = 1 - (residual**2).sum("time") / ((full - full.mean("time")) ** 2).sum("time")
    np.testing.assert_allclose(r2, literal.regions["r2"], atol=1e-10)
    two = nee.isel(time=[0, 1])
    two = two.copy(data=np.repeat(two.values[:1], 2, axis=0))
    np.testing.assert_allclose(*literal.predict(two).values, rtol=1e-12)  # January = February in this form


@pytest.mark.parametrize("place", ["variable", "coordinate", "another name"])
def test_a_single_month_of_a_dataset_has_the_length_of_its_bounds(nee, bridge, place):
    name = "tb" if place == "another name" else "time_bnds"
    one = nee.isel(time=[1]).to_dataset()
    one[name] = (("time", "nv"), np.array([["2001-02-01", "2001-03-01"]], "M8[ns]"))
    one["time"].attrs["bounds"] = name
    one = one.set_coords(name) if place == "coordinate" else one
    for found, whole in ((bridge.predict(one), bridge.predict(nee)), (bridge.full(one), bridge.full(nee))):
        np.testing.assert_allclose(found.values, whole.isel(time=[1]).values, rtol=1e-12)
    assert bridge.diagnose(one, warn=False)["n"].values.tolist() == [1, 1]
    many = one.assign(nee=one["nee"] * xr.DataArray(np.linspace(0.5, 2, 30), dims="inversion"))
    many["nee"].attrs = nee.attrs
    assert (fit_bridge(many, halves()).regions["r2"] >= 0.95).all()


def test_members_times_months_of_a_climatology():
    rng = np.random.default_rng(2)
    base = field(12, seed=1).rename(time="month").assign_coords(month=np.arange(1, 13))
    scale = xr.DataArray(rng.uniform(0.5, 1.5, 10), dims="member")
    nee = (base * scale).transpose("member", ...)
    nee = (nee + 0.2 * rng.standard_normal(nee.shape)).assign_attrs(base.attrs)
    bridge = fit_bridge(nee.transpose("lat", "month", "member", "lon"), halves())
    assert bridge.attrs["n_samples"] == 120
    assert (bridge.regions["r2"] >= 0.95).all() and np.isfinite(bridge.regions["r2_cv"]).all()
    assert bridge.predict(nee).dims == ("member", "month", "region")
    assert bridge.diagnose(nee)["n"].values.tolist() == [120, 120]


def test_daily_input_is_averaged_to_months():
    rng = np.random.default_rng(0)
    time = xr.date_range("2003-01-01", "2004-12-31", freq="D")
    values = rng.standard_normal((time.size, LAT.size, LON.size))
    attrs = {"units": "gC m-2 d-1", "area_basis": "cell"}
    daily = xr.DataArray(values, {"time": time, "lat": LAT, "lon": LON}, ("time", "lat", "lon"), attrs=attrs)
    monthly = daily.flux.to_monthly()
    a, b = fit_bridge(daily, halves(), r2=0.9), fit_bridge(monthly, halves(), r2=0.9)
    xr.testing.assert_allclose(a.pixels, b.pixels)
    assert a.predict(daily).sizes["time"] == 24
    xr.testing.assert_allclose(a.predict(daily), b.predict(monthly))


@pytest.mark.parametrize("month_lengths", [True, False])
@pytest.mark.parametrize("units", ["gC m-2 d-1", "gC m-2 month-1", "gC m-2", "kgCO2 m-2 yr-1"])
@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_days_that_are_missing_count_as_in_aggregate_regions(calendar, units, month_lengths):
    """In a cell, on the time axis, and in the months that the series begins and ends in."""
    rng = np.random.default_rng(1)
    time = xr.date_range("2003-01-20", periods=700, freq="D", calendar=calendar, use_cftime=True)
    daily = field(700, seed=4).assign_coords(time=time)
    daily = daily.where(rng.uniform(size=daily.shape) > 0.1).assign_attrs(daily.attrs)
    if units in ("gC m-2 month-1", "gC m-2"):  # per month, or the amount of a day, at daily steps
        lengths = 1 if units == "gC m-2" else daily["time"].dt.days_in_month
        daily = (daily * lengths).assign_attrs(daily.attrs | {"units": units})
    daily = daily.flux.convert_units(units) if "yr" in units else daily
    daily = daily.isel(time=np.r_[0:100, 117:700])
    expected = aggregate_regions(daily, halves())
    bridge = fit_bridge(daily, halves(), r2=0.9, month_lengths=month_lengths)
    forms = [daily, daily.chunk(time=90, lat=7)]
    forms += [daily.to_dataset(name="nee")] if units != "gC m-2" else []  # in a Dataset, an amount alone is no flux
    for form in forms:
        full = bridge.full(form)
        assert relative(full, expected.values) < 1e-12
        np.testing.assert_array_equal(full["time"], expected["time"])
        assert relative(bridge.predict(form), bridge.predict(daily)) < 1e-12
    diagnosis = bridge.diagnose(daily)
    assert (diagnosis["r2"] > 0.85).all() and diagnosis["holds"].all()
    days = xr.ones_like(daily["time"], int).resample(time="MS").sum()  # that are there: 12 in the first month
    days = days.assign_coords(time=expected["time"])
    lengths = days if month_lengths else days / step_days(expected)
    b, f = bridge.predict(daily) / lengths, expected / lengths
    r2 = 1 - ((b - f) ** 2).sum("time") / ((f - f.mean("time")) ** 2).sum("time")
    np.testing.assert_allclose(r2, bridge.regions["r2"], atol=1e-10)


def test_a_part_of_a_month_is_the_amount_of_its_days():
    whole = field(36)
    daily = whole.resample(time="D").ffill().assign_attrs(whole.attrs)
    bridge = fit_bridge(whole, halves())
    january, half = daily.isel(time=slice(0, 31)), daily.isel(time=slice(0, 10))
    np.testing.assert_allclose(bridge.predict(half) / bridge.predict(january), 10 / 31, rtol=1e-12)
    climatology = daily.isel(time=slice(0, 365)).rename(time="dayofyear").assign_coords(dayofyear=np.arange(1, 366))
    part = climatology.isel(dayofyear=slice(40, 300))
    assert relative(bridge.full(part), aggregate_regions(part, halves()).values) < 1e-12


def test_months_of_a_climatology_in_another_order():
    base = field(12, seed=1).rename(time="month").assign_coords(month=np.arange(1, 13))
    winter = base.isel(month=[11, *range(11)])
    bridge = fit_bridge(winter, halves())
    xr.testing.assert_allclose(bridge.pixels, fit_bridge(base, halves()).pixels)
    xr.testing.assert_allclose(bridge.predict(winter).sortby("month"), bridge.predict(base))


def test_folds_are_blocks_of_years_else_of_members():
    month, fold = months_and_folds(field(60), 5)
    np.testing.assert_array_equal(fold, np.repeat(np.arange(5), 12))
    np.testing.assert_array_equal(month, np.tile(np.arange(1, 13), 5))
    members = field(12).expand_dims(member=7)
    assert np.unique(months_and_folds(members, 3)[1].reshape(7, 12), axis=1).shape == (7, 1)
    assert not months_and_folds(field(12), 5)[1].any()


def test_without_years_or_members_cross_validation_is_nan():
    bridge = fit_bridge(field(12), halves())
    assert np.isnan(bridge.regions["r2_cv"]).all() and np.isnan(bridge.regions["r2_anomaly"]).all()
    assert (bridge.regions["r2"] >= 0.95).all()
    with pytest.raises(ValueError, match="needs every calendar month twice"):
        fit_bridge(field(12), halves(), target="anomalies")


# --- options ----------------------------------------------------------------------------------------------------------
def test_options_do_what_they_say(nee, bridge):
    positive = fit_bridge(nee, halves(), positive=True)
    assert (positive.pixels["weight"] > 0).all() and (positive.regions["r2"] >= 0.95).all()
    free = fit_bridge(nee, halves(), refit=True)
    assert (free.regions["r2"] > bridge.regions["r2"]).all()
    np.testing.assert_array_equal(free.pixels["lat"], bridge.pixels["lat"])
    anomalies = fit_bridge(nee, halves(), target="anomalies")
    np.testing.assert_allclose(anomalies.regions["r2_anomaly"], 0.95, atol=1e-8)
    for window in (0, None):
        assert (fit_bridge(nee, halves(), window=window, candidates=60).regions["r2"] >= 0.95).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r2": 1.0}, "r2=1.0 is not between 0 and 1"),
        ({"target": "iav"}, "target='iav' is unknown; expected 'flux' or 'anomalies'"),
        ({"candidates": 1}, "candidates=1 is too few"),
        ({"window": -1}, "window=-1 is negative"),
    ],
)
def test_options_that_make_no_sense(nee, options, message):
    with pytest.raises(ValueError, match=message):
        fit_bridge(nee, halves(), **options)


def test_dataset_needs_one_flux_or_a_name(nee, bridge):
    ds = xr.Dataset({"nee": nee, "gpp": 2 * nee.assign_attrs(), "cell_area": cell_area(nee)})
    ds["gpp"].attrs = nee.attrs
    with pytest.raises(ValueError, match=r"exactly one flux variable; the Dataset has \['nee', 'gpp'\]"):
        fit_bridge(ds, halves())
    with pytest.raises(ValueError, match="var='ter' is not in the Dataset"):
        fit_bridge(ds, halves(), var="ter")
    assert relative(fit_bridge(ds, halves(), var="nee").predict(ds, var="nee"), bridge.predict(nee)) < 1e-12
    alone = ds.drop_vars("gpp").assign_attrs(area_basis="cell")
    alone["nee"].attrs.pop("area_basis")
    assert relative(fit_bridge(alone, halves()).predict(alone), bridge.predict(nee)) < 1e-12


def test_field_without_samples_or_units(nee):
    with pytest.raises(ValueError, match="a bridge needs samples"):
        fit_bridge(nee.isel(time=0, drop=True), halves())
    with pytest.raises(ValueError, match="has no units; set attrs"):
        fit_bridge(nee.drop_attrs(), halves())


def test_predictions_are_stamped_at_the_start_of_their_steps(nee, bridge):
    start = nee.indexes["time"]
    stop = start + np.timedelta64(32, "D")
    stop = stop - (stop.day - 1) * np.timedelta64(1, "D")
    ds = nee.to_dataset(name="nee").assign(time_bnds=(("time", "bnds"), np.stack([start, stop], axis=1)))
    for result in (bridge.predict(ds.assign_coords(time=stop)), bridge.full(ds.assign_coords(time=stop))):
        np.testing.assert_array_equal(result["time"], start)
    np.testing.assert_array_equal(bridge.predict(ds.assign_coords(time=stop)), bridge.predict(nee))


# --- land, NaN, degenerate regions ------------------------------------------------------------------------------------
def test_land_fraction_and_missing_pixels_as_in_aggregate_regions():
    rng = np.random.default_rng(4)
    nee = field(36, basis="land")
    land = xr.DataArray(rng.uniform(0, 1, (LAT.size, LON.size)).round(1), {"lat": LAT, "lon": LON}, ("lat", "lon"))
    nee = nee.where(rng.uniform(size=land.shape) > 0.2)  # pixels without data
    gap = xr.DataArray(rng.uniform(size=nee.shape) < 0.02, nee.coords, nee.dims)
    nee = nee.where(~gap | (nee["lon"] < 0))  # and some gaps in the east
    bridge = fit_bridge(nee, "latitude-bands", land_fraction=land)
    full = aggregate_regions(nee, "latitude-bands", land_fraction=land)
    known = bridge.regions["n_valid"].values > 0
    full = full.drop_vars(["valid_fraction", "unassigned", "assigned"])
    xr.testing.assert_allclose(bridge.full(nee).isel(region=known), full.isel(region=known))
    complete = nee.notnull().all("time")
    for lat, lon in zip(bridge.pixels["lat"].values, bridge.pixels["lon"].values, strict=True):
        assert bool(complete.sel(lat=lat, lon=lon))
    expected = region_weights(nee, "latitude-bands", "land", land).sum(["lat", "lon"]).data.todense()
    np.testing.assert_allclose(bridge.regions["land_area"], expected)


def test_land_area_is_land_also_on_basis_cell(nee):
    land = xr.full_like(nee.isel(time=0, drop=True), 0.25)
    bridge = fit_bridge(nee, halves(), land_fraction=land)
    cell = fit_bridge(nee, halves())
    np.testing.assert_allclose(bridge.regions["land_area"], 0.25 * cell.regions["land_area"])


def test_region_without_valid_pixels_is_nan_and_named(nee):
    with pytest.warns(UserWarning, match="regions south have no pixel"):
        bridge = fit_bridge(nee.where(nee["lat"] > 0), halves())
    south = bridge.regions.sel(region="south")
    assert south["status"] == "no valid pixels" and south["n_pixels"] == 0 and np.isnan(south["r2"])
    assert bridge.predict(nee).sel(region="south").isnull().all()
    assert bridge.predict(nee).sel(region="north").notnull().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagnosis = bridge.diagnose(nee.where(nee["lat"] > 0))
    assert diagnosis["holds"].values.tolist() == [True, False]


def test_all_regions_empty_is_defined_too(nee):
    with pytest.warns(UserWarning, match="regions north, south have no pixel"):
        bridge = fit_bridge((nee * np.nan).assign_attrs(nee.attrs), halves())
    assert bridge.predict(nee).isnull().all() and bridge.pixels.sizes["pixel"] == 0


def test_constant_region_is_predicted_by_its_constant(nee):
    nee = nee.where(nee["lat"] > 0, 0.7)
    with pytest.warns(UserWarning, match="regions south have a constant integral"):
        bridge = fit_bridge(nee, halves())
    south = bridge.regions.sel(region="south")
    assert south["status"] == "constant" and south["n_pixels"] == 0 and np.isnan(south["r2"])
    assert relative(bridge.predict(nee).sel(region="south"), bridge.full(nee).sel(region="south")) < 1e-12
    assert bridge.diagnose(nee)["holds"].all()
    with pytest.warns(UserWarning, match="no longer holds for south"):
        bridge.diagnose(nee.where(nee["lat"] > 0, 0.9))


def test_unreachable_r2_gives_least_squares_and_a_warning():
    rng = np.random.default_rng(0)
    nee = field(120, noise=1.0)
    kept = (nee["lon"] == 5.0) & (abs(nee["lat"]) == 45.0)  # one complete pixel a region
    nee = nee.where(~xr.DataArray(rng.uniform(size=nee.shape) < 0.05, nee.coords, nee.dims) | kept)
    with pytest.warns(UserWarning, match=r"regions north \(0\.\d+\), south .* do not reach R² 0.95.*lower r2="):
        bridge = fit_bridge(nee, halves())
    assert (bridge.regions["status"] == "unreached").all() and (bridge.regions["n_pixels"] == 1).all()
    assert (bridge.regions["r2"] < 0.95).all() and np.isfinite(bridge.predict(nee)).all()


def test_missed_draw_falls_back_on_all_pixels():
    """Where the drawn candidates cannot reach R², every pixel is one."""
    nee = field(200, noise=3.0)
    bridge = fit_bridge(nee, halves(), candidates=5, r2=0.9)
    assert (bridge.regions["r2"] >= 0.9).all() and (bridge.regions["n_candidates"] == bridge.regions["n_valid"]).all()


def test_fewer_months_than_pixels():
    bridge = fit_bridge(field(8), halves(), r2=0.999)
    assert (bridge.regions["r2"] >= 0.999).all() and (bridge.regions["n_pixels"] <= 7).all()


def test_integer_labels_match_those_of_aggregate_regions(nee, tmp_path):
    mask = halves().drop_attrs()
    bridge = fit_bridge(nee, mask)
    found, expected = (x["region"].reset_coords(drop=True) for x in (bridge.predict(nee), aggregate_regions(nee, mask)))
    assert found.equals(expected)
    bridge.save(tmp_path / "b.nc")
    xr.testing.assert_identical(load_bridge(tmp_path / "b.nc").regions, bridge.regions)


def test_unknown_basis_is_assumed_to_be_cell_and_said(nee):
    bare = nee.assign_attrs()
    bare.attrs = {"units": "gC m-2 d-1"}
    with pytest.warns(UserWarning, match="'cell' is assumed"):
        bridge = fit_bridge(bare, halves())
    assert bridge.regions["n_pixels"].equals(fit_bridge(nee, halves()).regions["n_pixels"])
    assert np.isfinite(bridge.predict(nee.assign_attrs(area_basis="land"))).all()  # unknown never raises


# --- other grids ------------------------------------------------------------------------------------------------------
def test_prediction_on_another_grid(nee, bridge):
    fine = nee.interp(lat=np.arange(87.5, -90, -5), lon=np.arange(-177.5, 180, 5), method="nearest",
                      kwargs={"fill_value": "extrapolate"}).assign_attrs(nee.attrs)  # fmt: skip
    assert np.isfinite(bridge.predict(fine)).all()
    coarse = nee.coarsen(lat=2, lon=2, boundary="trim").mean().assign_attrs(nee.attrs)
    assert np.isfinite(bridge.predict(coarse)).all()  # centres lie exactly half a cell off
    with pytest.raises(ValueError, match=r"lie farther than half a cell .* the first is that of (north|south) at lat"):
        bridge.predict(nee.coarsen(lat=4, lon=4, boundary="trim").mean().assign_attrs(nee.attrs))
    with pytest.raises(ValueError, match="contributing pixels lie farther than half a cell"):
        bridge.predict(nee.sel(lon=slice(0, 180)))
    shifted = nee.assign_coords(lat=nee["lat"] + 1e-5, lon=nee["lon"] - 1e-5)
    assert relative(bridge.predict(shifted), bridge.predict(nee)) < 1e-12


def test_full_integral_on_another_grid_needs_the_regions(nee, bridge):
    coarse = nee.coarsen(lat=2, lon=2, boundary="trim").mean().assign_attrs(nee.attrs)
    with pytest.raises(ValueError, match=r"is not that of the fit .*give regions="):
        bridge.diagnose(coarse)
    named = fit_bridge(nee, "latitude-bands")
    expected = aggregate_regions(coarse, "latitude-bands").sel(region="40N-50N").reset_coords(drop=True)
    np.testing.assert_allclose(named.full(coarse).sel(region="40N-50N"), expected, rtol=1e-12)
    bands = region_weights(nee, "latitude-bands")
    backwards = fit_bridge(nee, take_regions(bands, bands["region"].values[::-1]))
    assert relative(backwards.full(nee, regions="latitude-bands"), named.full(nee)) < 1e-12
    assert backwards.full(nee, regions="latitude-bands")["region"].values[0] == "80N-90N"


def test_a_field_of_the_opposite_sign_is_refused(nee):
    bridge = nee.rename("nee").flux.fit_bridge("latitude-bands", r2=0.5, seed=0)
    assert bridge.attrs["sign"] == "up"
    nbp = (-nee).assign_attrs(nee.attrs).rename("nbp")
    for use in (bridge.predict, bridge.diagnose):
        with pytest.raises(ValueError, match=r"opposite signs: the field \(nbp\).*the bridge into the atmosphere"):
            use(nbp)
    np.testing.assert_allclose(bridge.predict(xflux.contents.turned(nbp)), bridge.predict(nee))


def test_basis_that_differs_is_refused(nee, bridge):
    with pytest.raises(ValueError, match=r"per area of land .* fitted per area of cell"):
        bridge.predict(nee.assign_attrs(area_basis="land"))


@pytest.mark.parametrize("month_lengths", [True, False])
@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_annual_steps_give_the_amount_of_the_year(calendar, month_lengths):
    """Fitted on months or on years; where every pixel is selected the bridge is the integral."""
    months = field(48, calendar=calendar, use_cftime=True)
    some = np.zeros((LAT.size, LON.size), bool)
    some[[2, 5, 11, 14], [3, 30, 17, 8]] = True
    months = months.where(some).assign_attrs(months.attrs)
    years = months.flux.annual()
    expected = aggregate_regions(years, halves(), units="PgC yr-1")
    exact = {"r2": 1 - 1e-9, "refit": True} if month_lengths else {"month_lengths": False}
    for fitted in (fit_bridge(years, halves(), **exact), fit_bridge(months, halves(), **exact)):
        if month_lengths:  # the literal form knows no lengths: months and years differ in it
            assert relative(fitted.predict(years), expected.values) < 1e-7
        assert relative(fitted.full(years), expected.values) < 1e-12
        assert fitted.predict(years).attrs["units"] == fitted.diagnose(years)["rmse"].attrs["units"] == "PgC yr-1"
        assert fitted.predict(months).attrs["units"] == "PgC month-1"
        assert (fitted.diagnose(years)["r2"] > (1 - 1e-8 if month_lengths else 0.5)).all()


def test_seasons_are_samples_but_have_no_prediction():
    ends = xr.date_range("2001-01-01", periods=41, freq="QS").values
    ds = field(40).assign_coords(time=ends[:-1]).to_dataset()
    ds["time_bnds"] = (("time", "nv"), np.stack([ends[:-1], ends[1:]], axis=1))
    bridge = fit_bridge(ds, halves())
    assert (bridge.regions["r2"] >= 0.95).all()
    with pytest.raises(ValueError, match="steps of 90 to 92 days are longer than a month and no years"):
        bridge.predict(ds)


def test_missing_pixel_makes_its_region_nan(nee, bridge):
    first = bridge.pixels.isel(pixel=0)
    here = (nee["lat"] == first["lat"].item()) & (nee["lon"] == first["lon"].item())
    predicted = bridge.predict(nee.where(~here | (nee["time"].dt.year > 2001)).assign_attrs(nee.attrs))
    assert predicted.sel(region=first["region"].item()).isnull().sum() == 12
    assert predicted.drop_sel(region=first["region"].item()).notnull().all()


def test_prediction_is_lazy(nee, bridge):
    lazy = bridge.predict(nee.chunk(time=7))
    assert lazy.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), bridge.predict(nee))


# --- diagnosis, files, looks ------------------------------------------------------------------------------------------
def test_diagnosis_of_the_fitted_field(nee, bridge):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagnosis = bridge.diagnose(nee)
    assert diagnosis["holds"].all() and (diagnosis["r2"] > 0.94).all() and (diagnosis["slope"] < 1).all()
    b, f = bridge.predict(nee), bridge.full(nee)
    np.testing.assert_allclose(diagnosis["bias"], (b - f).mean("time"))
    np.testing.assert_allclose(diagnosis["rmse"], np.sqrt(((b - f) ** 2).mean("time")))
    slope = ((f - f.mean("time")) * (b - b.mean("time"))).sum("time") / ((f - f.mean("time")) ** 2).sum("time")
    np.testing.assert_allclose(diagnosis["slope"], slope)
    assert diagnosis["rmse"].attrs["units"] == "PgC month-1"


def test_broken_link_is_named(nee, bridge):
    moved = nee.copy(data=np.where(nee["lat"].values[:, None] < 0, np.roll(nee.values, 7, axis=2) * 1.7, nee.values))
    with pytest.warns(UserWarning, match=r"no longer holds for south \(R² .*the pattern of the flux has changed"):
        diagnosis = bridge.diagnose(moved)
    assert diagnosis["holds"].to_series().to_dict() == {"north": True, "south": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not bridge.diagnose(moved, warn=False)["holds"].all()


def test_a_region_that_cannot_be_judged_is_no_broken_link(nee, bridge):
    south = bridge.pixels.isel(pixel=bridge.pixels["region"].values == "south").isel(pixel=0)
    here = (nee["lat"] == south["lat"].item()) & (nee["lon"] == south["lon"].item())
    with pytest.warns(UserWarning, match=r"^the bridge cannot be judged for south: a contributing pixel") as caught:
        diagnosis = bridge.diagnose(nee.where(~here).assign_attrs(nee.attrs))
    assert len(caught) == 1 and diagnosis["holds"].values.tolist() == [True, False]
    assert diagnosis["n"].values.tolist() == [60, 0]


def test_an_offset_breaks_the_link_though_the_correlation_stays(nee, bridge):
    pixels = set(zip(bridge.pixels["lat"].values, bridge.pixels["lon"].values, strict=True))
    off = np.array([[(a, b) not in pixels for b in LON] for a in LAT])
    with pytest.warns(UserWarning, match="no longer holds for north .*south"):
        bridge.diagnose((nee + 2.0 * off).assign_attrs(nee.attrs))


def test_save_and_load(nee, bridge, tmp_path):
    bridge.save(tmp_path / "bridge.nc")
    again = xflux.load_bridge(tmp_path / "bridge.nc")
    xr.testing.assert_identical(again.pixels, bridge.pixels)
    xr.testing.assert_identical(again.regions, bridge.regions)
    xr.testing.assert_identical(again.predict(nee), bridge.predict(nee))
    xr.testing.assert_identical(again.diagnose(nee), bridge.diagnose(nee))
    assert again.attrs == bridge.attrs and repr(again) == repr(bridge)
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(ValueError, match="is not a bridge"):
        load_bridge(tmp_path / "other.nc")
    whole = (tmp_path / "bridge.nc").read_bytes()
    for rest in (b"", whole[:3000], whole[:-2000]):
        (tmp_path / "cut.nc").write_bytes(rest)
        with pytest.raises(ValueError, match=r"cut\.nc is damaged or is not a bridge"):
            load_bridge(tmp_path / "cut.nc")
    flipped = bytearray(whole)
    at = whole.index(bridge.pixels["weight"].values.tobytes())
    flipped[at + 5] ^= 4  # one bit of a weight
    (tmp_path / "cut.nc").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"cut\.nc is damaged or is not a bridge"):
        load_bridge(tmp_path / "cut.nc")
    with pytest.raises(FileNotFoundError):
        load_bridge(tmp_path / "absent.nc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.assign_attrs(title="xflux bridge 2"), "has the format 'xflux bridge 2', .* update xflux"),
        (lambda ds: ds.assign_attrs(options="{"), r"other\.nc is damaged or is not a bridge"),
        (lambda ds: ds.drop_vars("cell_weight"), r"other\.nc is damaged or is not a bridge .*cell_weight"),
        (lambda ds: ds.drop_vars("status"), r"other\.nc is damaged or is not a bridge .*status"),
    ],
)
def test_files_of_newer_versions_and_garbled_ones(bridge, tmp_path, change, message):
    bridge.save(tmp_path / "bridge.nc")
    change(xr.load_dataset(tmp_path / "bridge.nc")).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(ValueError, match=message):
        load_bridge(tmp_path / "other.nc")


def test_empty_bridge_can_be_saved(nee, tmp_path):
    with pytest.warns(UserWarning):
        bridge = fit_bridge((nee * np.nan).assign_attrs(nee.attrs), halves())
    bridge.save(tmp_path / "empty.nc")
    assert load_bridge(tmp_path / "empty.nc").predict(nee).isnull().all()


def test_repr_is_readable(bridge):
    words = repr(bridge)
    assert "xflux.Bridge" in words and "north" in words and "R² 0.95" in words and "r2_cv" in words
    html = bridge._repr_html_()
    assert "<table" in html and html.count("<tr") == 3 and "south" in html


def test_plots(nee, bridge):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = bridge.plot()
    drawn = sum(len(c.get_offsets()) for c in ax.collections if hasattr(c, "get_offsets"))
    assert drawn >= bridge.pixels.sizes["pixel"]
    ax = bridge.plot_diagnosis(nee)
    assert len(ax.get_legend().get_texts()) == 3 and "PgC" in ax.get_xlabel()
    plt.close("all")


# --- PFTs -------------------------------------------------------------------------------------------------------------
def test_composition_counts_pixels_and_land(nee, bridge):
    pft = xr.where(nee["lon"] < 0, 1, 2) + 0 * nee["lat"]
    pft = pft.assign_attrs(flag_values=[1, 2], flag_meanings="forest grass").transpose("lat", "lon")
    parts = bridge.composition(pft)
    west = bridge.pixels["lon"].values < 0
    north = bridge.pixels["region"].values == "north"
    assert parts["pixels"].sel(region="north", pft="forest") == (west & north).sum()
    assert parts["all_pixels"].sum() == bridge.pixels.sizes["pixel"]
    np.testing.assert_allclose(parts["land_share"], 0.5)
    np.testing.assert_allclose(parts["pixel_share"].sum("pft"), 1)
    weight = np.abs(bridge.pixels["weight"].values)
    share = weight[west & north].sum() / weight[north].sum()
    assert parts["weight_share"].sel(region="north", pft="forest").item() == pytest.approx(share)
    fractions = xr.concat([pft == 1, 0.4 * (pft == 2)], xr.Variable("pft", ["forest", "grass"]))
    xr.testing.assert_equal(bridge.composition(fractions), parts)
    with pytest.raises(ValueError, match=r"dims \(lat, lon\) or \(pft, lat, lon\)"):
        bridge.composition(fractions.expand_dims(year=2))
    with pytest.raises(ValueError, match=r"dims \(lat, lon\) or \(pft, lat, lon\); got \('time'"):
        bridge.composition(pft.expand_dims(time=3))


def test_an_infinite_pixel_touches_its_own_region_only(nee, bridge):
    pixel = bridge.pixels.isel(pixel=0)
    odd, own = nee.copy(), bridge.regions["region"] == pixel["region"].item()
    odd.loc[{"time": nee.time[3], "lat": pixel["lat"].item(), "lon": pixel["lon"].item()}] = np.inf
    got, right = bridge.predict(odd), bridge.predict(nee)
    np.testing.assert_array_equal(got.where(~own, drop=True), right.where(~own, drop=True))
    assert np.isnan(got.isel(time=3).where(own, drop=True)).all() and np.isfinite(got.isel(time=2)).all()


def test_what_a_field_is_per_m2_of_is_read_or_given(nee, bridge):
    """The bridge was fitted per m2 of the cell; a field that is per m2 of land, however that is said, is refused."""
    plain = nee.drop_attrs().assign_attrs(units="gC m-2 d-1")
    xr.testing.assert_allclose(bridge.diagnose(plain, area_basis="cell"), bridge.diagnose(nee))
    for call in (
        lambda: bridge.predict(plain.assign_attrs(cell_methods="area: mean where land")),
        lambda: bridge.diagnose(plain, area_basis="land"),
        lambda: bridge.full(plain, area_basis="land"),
    ):
        with pytest.raises(ValueError, match=r"per area of land .* fitted per area of cell"):
            call()
