"""Drivers: potential radiation, water balance, seasonal cycles, recipes, gaps, coasts."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xflux import drivers
from xflux.towers import read_towers


def daily(values, start="2001-01-01", calendar="standard", **coords):
    time = xr.date_range(start, periods=len(values), freq="D", calendar=calendar, use_cftime=calendar != "standard")
    return xr.DataArray(values, {"time": time}, ("time",)).assign_coords(**coords)


# --- potential radiation -------------------------------------------------------------------------------------------


def test_radiation_known_values():
    # at the equator on an equinox: S0/pi times the distance factor, which is near 1
    r = drivers.potential_radiation(0.0, dayofyear=np.array([80]))
    assert abs(float(r[0]) - 1361 / np.pi * 1.008) < 2
    # polar night, and polar day: S0 E sin(declination) all day long
    r = drivers.potential_radiation(np.array([-90.0, 90.0]), dayofyear=np.array([172]))
    assert float(r[0, 0]) == 0
    np.testing.assert_allclose(r[0, 1], 1361 * 0.9679 * np.sin(np.deg2rad(23.45)), rtol=2e-3)


def test_radiation_of_the_year_is_the_planets():
    lat = np.arange(-89.5, 90)
    r = drivers.potential_radiation(xr.DataArray(lat, dims="lat"), dayofyear=np.arange(1, 366))
    mean = r.mean("dayofyear").weighted(xr.DataArray(np.cos(np.deg2rad(lat)), dims="lat")).mean()
    np.testing.assert_allclose(mean, 1361 / 4, rtol=1e-3)


def test_radiation_of_steps_is_the_mean_of_their_days():
    lat = xr.DataArray([-40.0, 0.0, 65.0], dims="lat")
    day = drivers.potential_radiation(lat, daily(np.zeros(731), "2003-01-01")["time"])
    month = drivers.potential_radiation(
        lat,
        pd.date_range("2003-01-01", periods=24, freq="MS")
        .to_series()
        .to_xarray()["index"]
        .rename(index="time")
        .rename("time"),
    )
    np.testing.assert_allclose(month, day.resample(time="MS").mean(), rtol=2e-3, atol=0.1)
    climatology = drivers.potential_radiation(lat, month=np.arange(1, 13))
    np.testing.assert_allclose(climatology, month[:12], rtol=1e-2, atol=1.5)
    assert climatology.dims == ("month", "lat") and climatology.attrs["units"] == "W m-2"
    noleap = drivers.potential_radiation(lat, daily(np.zeros(365), calendar="noleap")["time"])
    np.testing.assert_allclose(noleap, day[:365], rtol=5e-3, atol=0.5)


def test_radiation_agrees_with_the_towers(data_folder):
    towers = read_towers(data_folder / "towers/fluxnet2015/*.csv", qc=None, sites=data_folder / "towers/sites.csv")
    for site in sorted(set(towers.site.values)):
        here = towers.isel(sample=towers.site.values == site)
        ours = drivers.potential_radiation(float(here.lat[0]), dayofyear=here.time.dt.dayofyear.values)
        theirs = here.SW_IN_POT.values
        # the files use another solar constant; shape and size agree
        assert np.corrcoef(ours, theirs)[0, 1] > 0.999
        assert abs(np.nanmean(ours) / np.nanmean(theirs) - 1) < 0.02


def test_radiation_needs_one_axis():
    with pytest.raises(ValueError, match="give one of time, month and dayofyear, got 0"):
        drivers.potential_radiation(0.0)


# --- water balance -------------------------------------------------------------------------------------------------


def closure(rain, out, days):
    """rain − et − runoff − change of storage, summed: mm."""
    axis = rain.dims[0]
    days = xr.DataArray(days, dims=axis)
    change = out.storage.isel({axis: -1}) - out.storage_before
    return np.abs(((rain - out.et - out.runoff) * days).sum(axis) - change).max()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), upper=st.floats(0.5, 60), lower=st.floats(1, 300), wet=st.floats(0, 3))
def test_water_balance_closes(seed, upper, lower, wet):
    rng = np.random.default_rng(seed)
    rain = daily(rng.gamma(0.3, 8, 800) * wet)
    pet = daily(rng.uniform(0, 9, 800))
    out = drivers.water_availability(rain, pet, upper=upper, lower=lower, initial=rng.uniform(), spinup_years=0)
    assert closure(rain, out, np.ones(800)) < 1e-9
    # and on every single day
    change = out.storage.diff("time")
    np.testing.assert_allclose((rain - out.et - out.runoff)[1:], change, atol=1e-9)
    assert 0 <= out.wai.min() and out.wai.max() <= 1 + 1e-12
    assert (out.et <= pet + 1e-12).all() and (out.et >= 0).all() and (out.runoff >= 0).all()


def test_water_balance_by_hand():
    rain, pet = daily([30.0, 0.0, 0.0, 0.0]), daily([5.0, 5.0, 20.0, 5.0])
    out = drivers.water_availability(rain, pet, upper=20, lower=100, initial=0, spinup_years=0)
    # day 1: 20 stay above, 10 go below, 5 evaporate; day 2: 5 more; day 3: the last 10 and (20 − 10) × 10/100;
    # day 4: nothing above, 5 × 9/100 from below
    np.testing.assert_allclose(out.et, [5, 5, 11, 0.45])
    np.testing.assert_allclose(out.storage, [25, 20, 9, 8.55])
    np.testing.assert_allclose(out.wai, np.array([25, 20, 9, 8.55]) / 120)
    flood = drivers.water_availability(
        daily([300.0, 0]), daily([0.0, 0]), upper=20, lower=100, initial=0.5, spinup_years=0
    )
    np.testing.assert_allclose([flood.runoff[0], flood.wai[0]], [300 - 60, 1])


@pytest.mark.parametrize("axis", ["month", "dayofyear"])
def test_climatologies_come_into_balance(axis):
    n = 12 if axis == "month" else 365
    coords = {axis: np.arange(1, n + 1)}
    days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) if axis == "month" else np.ones(n)
    phase = 2 * np.pi * np.arange(n) / n
    rain = xr.DataArray(np.stack([3 + 2.5 * np.sin(phase), 0.4 + 0 * phase, 9 + phase], 1), coords, (axis, "cell"))
    pet = xr.DataArray(np.stack([3 - 2 * np.sin(phase), 6 + 0 * phase, 3 + 0 * phase], 1), coords, (axis, "cell"))
    out = drivers.water_availability(rain, pet)
    assert closure(rain, out, days) < 1e-9
    # a year that starts where it ends
    np.testing.assert_allclose(out.storage.isel({axis: -1}), out.storage_before, atol=1e-8)
    weights = xr.DataArray(days / days.sum(), dims=axis)
    np.testing.assert_allclose((rain * weights).sum(axis), ((out.et + out.runoff) * weights).sum(axis), atol=1e-9)
    # the steppe dries out, the rain forest is full
    assert out.wai.isel(cell=1).max() < 0.05 and out.wai.isel(cell=2).min() > 0.8


def test_composites_and_months_are_run_day_by_day():
    rain, pet = daily(np.repeat([4.0, 0.0, 9.0], [31, 28, 31])), daily(np.repeat([2.0, 3.0, 1.0], [31, 28, 31]))
    by_day = drivers.water_availability(rain, pet, initial=0.3, spinup_years=0)
    months = [v.resample(time="MS").mean() for v in (rain, pet)]
    by_month = drivers.water_availability(*months, initial=0.3, spinup_years=0)
    for name in ("wai", "et", "runoff"):
        np.testing.assert_allclose(by_month[name], by_day[name].resample(time="MS").mean())
    np.testing.assert_allclose(by_month.storage, by_day.storage.resample(time="MS").last())


def test_water_is_lazy_and_does_not_depend_on_chunks():
    rng = np.random.default_rng(0)
    time = pd.date_range("2001-01-01", periods=400)
    shape = (400, 6, 7)
    rain = xr.DataArray(rng.gamma(0.3, 8, shape).astype("f4"), {"time": time}, ("time", "lat", "lon"))
    rain[:, 0, 0] = np.nan
    rain[7, 1, 1] = np.nan
    pet = xr.DataArray(rng.uniform(0, 9, shape), {"time": time}, ("time", "lat", "lon"))
    upper = xr.DataArray(rng.uniform(5, 30, (6, 7)), dims=("lat", "lon"))
    eager = drivers.water_availability(rain, pet, upper=upper)
    lazy = drivers.water_availability(rain.chunk(time=100, lat=2), pet.chunk(time=90, lon=3), upper=upper)
    assert all(v.chunks for v in lazy.data_vars.values())
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-12)
    assert np.isnan(eager.wai[:, 0, 0]).all()
    # a gap is a gap from then on
    assert np.isfinite(eager.wai[:7, 1, 1]).all() and np.isnan(eager.wai[7:, 1, 1]).all()


def test_water_needs_the_same_steps():
    rain = daily(np.ones(30))
    with pytest.raises(ValueError, match=r"rain \('time',\) and pet \('month',\) need the same time axis"):
        drivers.water_availability(rain, xr.DataArray(np.ones(12), {"month": np.arange(1, 13)}))
    with pytest.raises(ValueError, match="different steps along time"):
        drivers.water_availability(rain, daily(np.ones(30), "2002-01-01"))
    hourly = rain.assign_coords(time=pd.date_range("2001-01-01", periods=30, freq="h"))
    with pytest.raises(ValueError, match=r"steps of 1\.0 h: average it to days first"):
        drivers.water_availability(hourly, hourly)


@pytest.mark.parametrize("block", [1, 7, 10**6])
@pytest.mark.parametrize("lazy", [False, True])
def test_evapotranspiration_is_the_same_in_blocks(monkeypatch, block, lazy):
    monkeypatch.setattr("xflux.drivers.water.FORMULA_BLOCK", block)
    rng, lat = np.random.default_rng(0), [-75.0, 0.0, 60.0]
    t = xr.DataArray(rng.normal(5, 20, (1, 12, 3)), {"month": range(1, 13), "lat": lat}, ("lon", "month", "lat"))
    t, rpot = t.astype("float32"), drivers.potential_radiation(t.lat, t.month)
    rg = (t.copy(data=rng.uniform(0, 400, t.shape))).where(t > -20)
    given = [field.chunk(month=5) if lazy else field for field in (t, rg, rpot)]
    with_rg = drivers.potential_evapotranspiration(*given[:2], rpot=given[2])
    without = drivers.potential_evapotranspiration(given[0], rpot=given[2])
    assert with_rg.dims == ("month", "lon", "lat") and bool(with_rg.chunks) is bool(without.chunks) is lazy
    tair, rg, r = (field.transpose("month", ..., "lat").values for field in (t, rg, rpot))
    tair, rg = tair[:, 0], rg[:, 0]
    sun = np.nan_to_num(np.clip((rg / np.where(r > 1, r, np.nan) - 0.25) / 0.5, 0, 1))
    net = np.maximum(0.77 * rg - (0.2 + 0.8 * sun) * (107 - tair), 0)
    slope = 4098 * 0.6108 * np.exp(17.27 * tair / (tair + 237.3)) / (tair + 237.3) ** 2
    np.testing.assert_allclose(with_rg[:, 0], 1.26 * slope / (slope + 0.0665) * net * 86400 / 2.45e6, rtol=1e-6)
    np.testing.assert_allclose(without[:, 0], r * 86400 / 2.45e6 * np.maximum(tair + 5, 0) / 100, rtol=1e-6)


def test_evapotranspiration_is_of_the_right_size():
    t, rpot = xr.DataArray([26.0, 10.0, -20.0]), xr.DataArray([420.0, 300.0, 80.0])
    with_rg = drivers.potential_evapotranspiration(t, 0.5 * rpot, rpot=rpot)
    without = drivers.potential_evapotranspiration(t, rpot=rpot)
    # equatorial forest 3.5–5 mm, temperate growing season 1.5–3 mm, polar night nothing
    for pet in (with_rg, without):
        assert 3.3 < pet[0] < 5 and 1.2 < pet[1] < 3 and 0 <= pet[2] < 0.3
    assert with_rg.attrs["units"] == "mm d-1" and "Priestley" in with_rg.attrs["method"]


# --- seasonal cycles -----------------------------------------------------------------------------------------------


def test_29_february_is_day_60():
    da = daily(np.arange(1461.0), "2001-01-01")  # 2004 is a leap year
    msc = drivers.seasonal_cycle(da)
    assert msc.dims == ("dayofyear",) and msc.sizes["dayofyear"] == 365
    days = da.time.dt.dayofyear.values
    for number in (1, 59, 60, 61, 364):
        assert float(msc.sel(dayofyear=number)) == da.values[days == number].mean()
    # day 60: 1 March of three years and 29 February of one; 31 December of the leap year joins day 365
    assert float(msc.sel(dayofyear=60)) == np.mean([59, 365 + 59, 730 + 59, 1095 + 59])
    assert float(msc.sel(dayofyear=365)) == da.values[days >= 365].mean()


def test_calendars_and_period():
    noleap = daily(np.arange(730.0), calendar="noleap")
    msc = drivers.seasonal_cycle(noleap)
    np.testing.assert_allclose(msc, np.arange(365) + 182.5)
    years = daily(np.repeat([1.0, 5.0, 100.0], 365), calendar="noleap")
    np.testing.assert_allclose(drivers.seasonal_cycle(years, ("2001", "2002")), 3)
    assert drivers.seasonal_cycle(years, ("2001", "2002")).attrs["msc_period"] == "2001-01-01 to 2002-12-31"
    np.testing.assert_allclose(drivers.seasonal_cycle(years, ("1980", "1990")), 106 / 3)


def test_monthly_input_gives_months_and_climatologies_pass():
    time = pd.date_range("2001-01-01", periods=24, freq="MS")
    da = xr.DataArray(np.arange(24.0), {"time": time}, ("time",), attrs={"units": "1"})
    msc = drivers.seasonal_cycle(da)
    np.testing.assert_allclose(msc, np.arange(12) + 6)
    assert msc.attrs["units"] == "1"
    assert drivers.seasonal_cycle(msc) is msc


def test_gaps_are_left_out_of_the_cycle():
    da = daily(np.r_[np.full(365, 1.0), np.full(365, 3.0)], calendar="noleap")
    da[10] = np.nan
    msc = drivers.seasonal_cycle(da)
    assert float(msc[10]) == 3.0 and float(msc[9]) == 2.0


def test_composites_become_days():
    stamps = pd.to_datetime([f"{y}-{d:03d}" for y in (2001, 2002) for d in range(1, 366, 8)], format="%Y-%j")
    middle = np.array([(s - stamps[0]).days + (4 if s.dayofyear < 361 else 2.5) for s in stamps])
    da = xr.DataArray(2 * middle, {"time": stamps}, ("time",))
    out = drivers.to_daily(da)
    assert out.sizes["time"] == 730
    noon = np.arange(730) + 0.5
    inside = (noon >= middle[0]) & (noon <= middle[-1])
    np.testing.assert_allclose(out.values[inside], 2 * noon[inside])
    assert drivers.seasonal_cycle(da).sizes["dayofyear"] == 365
    np.testing.assert_allclose(drivers.to_daily(da.chunk(time=10)), out)


def parts_of_months(*starts):
    return pd.DatetimeIndex([pd.Timestamp(y, m, d) for y in range(2001, 2005) for m in range(1, 13) for d in starts])


def year_angle(days):
    return np.sin(2 * np.pi * np.asarray(days) / 365.25)


@pytest.mark.parametrize(("stamps", "end", "error"), [
    (parts_of_months(1, 11, 21), "2005-01-01", 0.03), (parts_of_months(1, 16), "2005-01-01", 0.03),
    (parts_of_months(1, 6, 11, 16, 21, 26), "2005-01-01", 0.03),
    (pd.date_range("2001-01-01", periods=49, freq="30D"), "2005-01-10", 0.04),
])  # fmt: skip
def test_composites_that_are_not_modis(stamps, end, error):
    """Dekads, half months, pentads by month, 30 days: a wave comes back with neither a shift nor a hole."""
    edges = np.append(stamps.values, np.datetime64(end, "ns"))
    middle = (edges[:-1] + np.diff(edges) / 2 - edges[0]) / np.timedelta64(1, "D")
    da = xr.DataArray(year_angle(middle), {"time": stamps}, ("time",))
    days = drivers.to_daily(da)
    assert days.sizes["time"] == (edges[-1] - edges[0]) / np.timedelta64(1, "D")
    cycle = drivers.seasonal_cycle(da)
    assert cycle.sizes["dayofyear"] == 365
    inside = slice(10, -10)  # the series' own ends are constant
    np.testing.assert_allclose(cycle[inside], year_angle(np.arange(365) + 0.5)[inside], atol=error)
    radiation = drivers.potential_radiation(np.array([50.0]), da["time"])[:, 0]
    daily_radiation = drivers.potential_radiation(np.array([50.0]), days["time"])[:, 0].values
    step = np.searchsorted(edges, days.time.values, side="right") - 1
    mean = np.bincount(step, daily_radiation) / np.bincount(step)
    np.testing.assert_allclose(radiation, mean, atol=0.7)


def test_bounds_of_a_dataset_say_how_long_its_composites_last():
    """Stamps in the middle, steps of no rule: with bounds the wave has no shift."""
    edges = np.cumsum(np.append(0, np.tile([7, 9, 10, 6], 46)))
    dates = np.datetime64("2001-01-01", "ns") + edges * np.timedelta64(1, "D")
    middle = (edges[:-1] + edges[1:]) / 2
    time = dates[:-1] + (dates[1:] - dates[:-1]) / 2
    ds = xr.Dataset({"NDVI": ("time", year_angle(middle)), "bnds_of_time": (("time", "nv"),
                     np.stack([dates[:-1], dates[1:]], 1))}, {"time": time})  # fmt: skip
    ds["time"].attrs["bounds"] = "bnds_of_time"
    made = drivers.make(ds, [{"name": "X", "formula": "msc(NDVI)"}])
    assert list(made.coords) == ["dayofyear"]
    np.testing.assert_allclose(made.X[10:-10], year_angle(np.arange(365) + 0.5)[10:-10], atol=0.03)


def test_days_stamped_at_their_end_go_by_their_bounds():
    """ERA5's sums of a day carry the stamp of the next day's first hour."""
    end = pd.date_range("2003-01-02", periods=730)
    ds = xr.Dataset({"EVI": ("time", np.arange(730.0)), "time_bnds": (("time", "bnds"), np.stack([end - pd.Timedelta(
        "1D"), end], 1))}, {"time": end})  # fmt: skip
    cycle = drivers.make(ds, [{"name": "X", "formula": "msc(EVI)", "period": [2003, 2003]}]).X
    np.testing.assert_array_equal(cycle, np.arange(365))


def test_numbers_out_of_range_are_refused():
    from_0 = xr.DataArray(np.ones(12), {"month": np.arange(12)}, ("month",))
    with pytest.raises(ValueError, match="months are 1 to 12, got 0 to 11"):
        drivers.water_availability(from_0, from_0)
    with pytest.raises(ValueError, match="months are 1 to 12, got 0 to 11"):
        drivers.potential_radiation(10.0, month=np.arange(12))
    with pytest.raises(ValueError, match="days of year are 1 to 366, got 0 to 364"):
        drivers.potential_radiation(10.0, dayofyear=np.arange(365))
    with pytest.raises(ValueError, match="latitudes are −90 to 90 degrees, got 5 to 95"):
        drivers.potential_radiation(np.array([95.0, 5.0]), month=np.array([1]))


@pytest.mark.parametrize(("calendar", "composites"), [("noleap", 46), ("360_day", 45), ("all_leap", 46)])
def test_composites_beside_daily_weather_in_other_calendars(calendar, composites):
    stamps = [d for y in (2001, 2002) for d in xr.date_range(f"{y}-01-01", periods=composites, freq="8D",
                                                             calendar=calendar, use_cftime=True)]  # fmt: skip
    evi = xr.DataArray(np.arange(float(len(stamps))), {"time": xr.CFTimeIndex(stamps)}, ("time",))
    length = {"noleap": 365, "360_day": 360, "all_leap": 366}[calendar]
    weather = daily(np.ones(2 * length), calendar=calendar)
    made = drivers.make({"EVI": evi, "NDVI": weather}, [{"name": "X", "formula": "EVI * NDVI"}]).X
    assert made.time.dt.calendar == calendar and made.sizes["time"] == 2 * length
    np.testing.assert_allclose(made, drivers.to_daily(evi))
    np.testing.assert_allclose(made[7:9], [7.5 - 4, 8.5 - 4] / np.float64(8))  # between the first two middles


def test_days_meet_by_date_months_by_month_and_composites_as_days():
    def product(a, b):
        return drivers.make({"EVI": a, "NDVI": b}, [{"name": "X", "formula": "EVI * NDVI"}]).X

    day = daily(np.arange(400.0))
    noon = day.assign_coords(time=day.time + np.timedelta64(12, "h"))
    np.testing.assert_array_equal(product(day, noon), np.arange(400.0) ** 2)
    month = xr.DataArray(np.arange(24.0), {"time": pd.date_range("2001-01-01", periods=24, freq="MS")}, ("time",))
    middle = month.assign_coords(time=month.time + np.timedelta64(14, "D"))
    np.testing.assert_array_equal(product(month, middle), np.arange(24.0) ** 2)
    eight = xr.DataArray(np.ones(40), {"time": pd.date_range("2001-01-01", periods=40, freq="8D")}, ("time",))
    sixteen = xr.DataArray(np.arange(20.0), {"time": pd.date_range("2001-01-01", periods=20, freq="16D")}, ("time",))
    np.testing.assert_allclose(product(eight, sixteen), drivers.to_daily(sixteen))
    with pytest.raises(ValueError, match="no time in common: left 2001-01-01 to 2002-02-04, right 2011-01-01"):
        product(day, daily(np.ones(9), "2011-01-01"))


def test_gaps_of_composites_are_filled_from_the_same_days_of_other_years():
    stamps = pd.to_datetime([f"{y}-{d:03d}" for y in range(2001, 2005) for d in range(1, 366, 8)], format="%Y-%j")
    da = xr.DataArray(np.tile(np.sin(np.arange(46.0)), 4), {"time": stamps}, ("time",))
    holes = da.copy()
    holes[60:80] = np.nan
    np.testing.assert_allclose(drivers.fill_gaps(holes), da, atol=1e-12)
    # every 8 days without regard to the year: no other year has the same stamp
    stamps = pd.date_range("2001-01-01", periods=183, freq="8D")
    da = xr.DataArray(year_angle(np.arange(183) * 8 + 4), {"time": stamps}, ("time",))
    holes = da.copy()
    holes[60:80] = np.nan
    np.testing.assert_allclose(drivers.fill_gaps(holes), da, atol=0.02)


def test_a_gap_of_months_has_the_length_of_those_months():
    da = xr.DataArray(np.arange(36.0), {"time": pd.date_range("2001-01-01", periods=36, freq="MS")}, ("time",))
    for month, length in ((12, 31), (13, 28), (15, 30)):
        holes = da.copy()
        holes[month] = np.nan
        assert np.isnan(drivers.fill_gaps(holes, max_gap=length - 1, seasonal=False)[month])
        # on the line between the middles of the months beside it
        np.testing.assert_allclose(drivers.fill_gaps(holes, max_gap=length, seasonal=False)[month], month, atol=0.03)


def test_rock_holds_no_water():
    rain = daily(np.random.default_rng(0).uniform(0, 9, 400)).expand_dims(cell=3, axis=1)
    upper, lower = (xr.DataArray(v, dims="cell") for v in ([20.0, 20.0, 0.0], [130.0, 0.0, 0.0]))
    out = drivers.water_availability(rain, xr.full_like(rain, 3.0), upper=upper, lower=lower)
    left = (rain - out.et - out.runoff).sum("time") - (out.storage[-1] - out.storage_before)
    np.testing.assert_allclose(left, 0, atol=1e-9)
    np.testing.assert_array_equal(out.wai.isnull().all("time"), [False, False, True])
    np.testing.assert_allclose(out.runoff[:, 2], rain[:, 2])


@pytest.mark.parametrize(("name", "units", "one"), [
    ("RG", "J m**-2", 1 / 86400), ("RG", "W m**-2", 1), ("RG", "W/m^2", 1), ("RG", "MJ/m2/day", 1e6 / 86400),
    ("PREC", "kg m**-2 s**-1", 86400), ("PREC", "kg/m2/s", 86400), ("PREC", "m s-1", 86400e3), ("PREC", "mm h-1", 24),
    ("PREC", "m of water equivalent", 1000), ("TAIR", "degree_Celsius", 1), ("TAIR", "degrees_C", 1),
    ("LST_DAY", "degree_Kelvin", -272.15), ("NDVI", "dimensionless", 1), ("EVI", "EVI", 1), ("LAI", "m^2/m^2", 1),
    ("FPAR", "Percent", 0.01),
])  # fmt: skip
def test_units_as_files_write_them(name, units, one):
    data = {name: xr.DataArray([1.0, 1.0], {"month": [1, 2]}, ("month",), attrs={"units": units})}
    np.testing.assert_allclose(drivers.make(data, [{"name": "X", "formula": name}]).X, one)


def test_amplitude_minimum_and_mean():
    da = xr.DataArray([3.0, np.nan, 1.0] + [2.0] * 9, {"month": np.arange(1, 13)}, ("month",))
    assert float(drivers.amplitude(da)) == 2.0
    with pytest.raises(ValueError, match="needs a time, month or dayofyear axis"):
        drivers.amplitude(da[0])


def test_gap_filling():
    da = daily(np.arange(731.0), "2003-01-01")
    short, long = da.copy(), da.copy()
    short[100:110] = np.nan
    np.testing.assert_allclose(drivers.fill_gaps(short, max_gap=10), da)
    assert np.isnan(drivers.fill_gaps(short, max_gap=9, seasonal=False)[100:110]).all()
    long[100:200] = np.nan
    filled = drivers.fill_gaps(long, max_gap=32)
    # the other year's value on that day
    np.testing.assert_allclose(filled[100:200], np.arange(100, 200) + 365)
    assert np.isnan(drivers.fill_gaps(da * np.nan)).all()
    cyclic = xr.DataArray([np.nan, 2.0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 4.0], {"month": np.arange(1, 13)}, ("month",))
    # between December's middle (31/2 days before the year's end) and February's, by days
    np.testing.assert_allclose(drivers.fill_gaps(cyclic)[0], 3, atol=0.06)
    two = xr.concat([short, long], "cell")
    np.testing.assert_allclose(drivers.fill_gaps(two.chunk(cell=1, time=100)), drivers.fill_gaps(two))


def test_pft_mixing():
    pft = ["tree", "grass", "crop"]
    values = xr.DataArray([[10.0, 2.0, 4.0], [10.0, np.nan, 4.0], [np.nan] * 3], {"pft": pft}, ("cell", "pft"))
    shares = xr.DataArray([0.5, 0.3, 0.2], {"pft": pft}, ("pft",))
    mixed = drivers.mix_pfts(values, shares)
    np.testing.assert_allclose(mixed, [6.4, (5 + 0.8) / 0.7, np.nan])
    np.testing.assert_allclose(drivers.mix_pfts(values, shares[::-1]), mixed)
    # a share of nothing (lake) stays nothing
    np.testing.assert_allclose(drivers.mix_pfts(values[0], shares * 0.5), 3.2)
    with pytest.raises(ValueError, match=r"different types: only values \['crop'\], only shares \[\]"):
        drivers.mix_pfts(values, shares[:2])
    with pytest.raises(ValueError, match="shares has no dim 'pft'"):
        drivers.mix_pfts(values, shares.rename(pft="type"))


# --- Table A2 ------------------------------------------------------------------------------------------------------

TEN = ["WAI2", "MSC_EVIRpot", "MSC_FparLST", "MIN_MSC_NDWI", "AMP_Band4", "MSC_LST_Night", "Rg_VIMSC", "AMP_MSC_NDVI",
       "Tair", "AMP_MSC_WAI"]  # fmt: skip


def base(years=2, shape=(2, 3)):
    """Daily base variables in one Dataset."""
    return xr.merge(modis_and_weather(years, shape, days=1), join="exact")


def modis_and_weather(years=2, shape=(2, 3), days=8):
    """MODIS-like variables in composites of some days that restart each year, and daily weather."""
    rng = np.random.default_rng(3)
    time = pd.date_range("2001-01-01", f"{2000 + years}-12-31")
    coords = {"lat": np.linspace(-40, 50, shape[0]), "lon": np.linspace(0, 20, shape[1])}

    def var(t, low, high, units):
        season = 0.5 + 0.5 * np.sin(2 * np.pi * t.dayofyear.values / 365.25)
        values = low + (high - low) * (0.8 * season[:, None, None] + 0.2 * rng.random((len(t), *shape)))
        return xr.DataArray(values, {"time": t, **coords}, ("time", "lat", "lon"), attrs={"units": units})

    stamps = pd.DatetimeIndex([d for d in time if (d.dayofyear - 1) % days == 0])
    modis = {"EVI": (0.1, 0.6, "1"), "NDVI": (0.2, 0.8, "1"), "FPAR": (0.1, 0.9, "1"), "NDWI": (-0.2, 0.4, "1"),
             "BAND4": (0.05, 0.2, "1"), "LST_DAY": (270, 310, "K"), "LST_NIGHT": (265, 295, "K")}  # fmt: skip
    met = {"RG": (50, 300, "W m-2"), "TAIR": (-5, 25, "degC"), "PREC": (0, 8, "mm d-1")}
    return [xr.Dataset({k: var(t, *v) for k, v in d.items()}) for t, d in ((stamps, modis), (time, met))]


def test_all_ten_drivers_by_the_printed_formulas():
    b = base()
    made = drivers.table_a2(b)
    assert list(made.data_vars) == TEN and made.attrs["not_made"] == "" and made.attrs["proxies"] == ""
    doy = b.time.dt.dayofyear.clip(max=365)
    np.testing.assert_allclose(made.MSC_EVIRpot, (b.EVI * b.RG).groupby(doy).mean(), rtol=1e-10)
    rpot = drivers.potential_radiation(b.lat, b.time)
    np.testing.assert_allclose(made.Rg_VIMSC, (b.NDVI * rpot).groupby(doy).mean(), rtol=1e-10)
    np.testing.assert_allclose(made.MSC_FparLST, (b.FPAR * (b.LST_DAY - 273.15)).groupby(doy).mean(), rtol=1e-8)
    np.testing.assert_allclose(made.MSC_LST_Night, (b.LST_NIGHT - 273.15).groupby(doy).mean(), rtol=1e-8)
    np.testing.assert_allclose(made.MIN_MSC_NDWI, b.NDWI.groupby(doy).mean().min("dayofyear"))
    np.testing.assert_allclose(made.AMP_Band4, b.BAND4.max("time") - b.BAND4.min("time"))
    ndvi = b.NDVI.groupby(doy).mean()
    np.testing.assert_allclose(made.AMP_MSC_NDVI, ndvi.max("dayofyear") - ndvi.min("dayofyear"))
    np.testing.assert_allclose(made.Tair, b.TAIR)
    pet = drivers.potential_evapotranspiration(b.TAIR, b.RG, rpot=rpot)
    wai = drivers.water_availability(b.PREC, pet).wai
    np.testing.assert_allclose(made.WAI2, wai)
    cycle = wai.groupby(doy).mean()
    np.testing.assert_allclose(made.AMP_MSC_WAI, cycle.max("dayofyear") - cycle.min("dayofyear"))
    assert made.WAI2.dims == ("time", "lat", "lon") and made.MSC_EVIRpot.dims == ("dayofyear", "lat", "lon")
    assert all({"units", "long_name", "formula"} <= set(v.attrs) for v in made.data_vars.values())


def test_variant_names_follows_the_names():
    b = base()
    made = drivers.table_a2(b, variant="names")
    doy = b.time.dt.dayofyear.clip(max=365)
    rpot = drivers.potential_radiation(b.lat, b.time)
    np.testing.assert_allclose(made.MSC_EVIRpot, (b.EVI * rpot).groupby(doy).mean(), rtol=1e-10)
    np.testing.assert_allclose(made.Rg_VIMSC, (b.NDVI * b.RG).groupby(doy).mean(), rtol=1e-10)
    with pytest.raises(ValueError, match="variant is 'formulas' or 'names', got 'name'"):
        drivers.table_a2(b, variant="name")


def test_lazy_input_stays_lazy_and_equals_eager():
    b = base()
    eager = drivers.table_a2(b)
    lazy = drivers.table_a2(b.chunk(time=100, lat=1, lon=2))
    assert all(v.chunks is not None for v in lazy.data_vars.values())
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-10)


def test_towers_and_grid_come_from_the_same_functions():
    b = base()
    at_site = b.isel(lat=1, lon=2).expand_dims("site").drop_vars("lon")
    at_site = at_site.assign_coords(lat=("site", [float(b.lat[1])]))
    made, there = drivers.table_a2(b), drivers.table_a2(at_site)
    for name in TEN:
        np.testing.assert_allclose(there[name].isel(site=0), made[name].isel(lat=1, lon=2), rtol=1e-10)


def test_proxies_are_named_and_what_is_missing_is_listed():
    b = base()[["NDVI", "LST_DAY", "RG", "TAIR", "PREC"]]
    made = drivers.table_a2(b)
    assert "MSC_NDVIRg" in made and made.MSC_NDVIRg.attrs["proxy_for"] == "MSC_EVIRpot"
    assert "MSC_FparNDVILST" in made and "MSC_EVIRpot" not in made
    for text in ("MIN_MSC_NDWI (needs NDWI)", "AMP_Band4 (needs BAND4)", "MSC_LST_Night (needs LST_NIGHT)"):
        assert text in made.attrs["not_made"]
    assert "MSC_NDVIRg for MSC_EVIRpot" in made.attrs["proxies"]
    with pytest.raises(ValueError, match="no driver can be made from nothing"):
        drivers.table_a2(xr.Dataset({"nothing": ("lat", [1.0])}))


def test_recipes_are_data(tmp_path):
    b = base()
    recipe = {"name": "MSC_DTR", "formula": "msc(LST_DAY - LST_NIGHT) / 2", "units": "K"}
    made = drivers.table_a2(b, recipes=[recipe])
    doy = b.time.dt.dayofyear.clip(max=365)
    np.testing.assert_allclose(made.MSC_DTR, (b.LST_DAY - b.LST_NIGHT).groupby(doy).mean() / 2, rtol=1e-9)
    assert made.MSC_DTR.attrs["units"] == "K" and list(made.data_vars)[:10] == TEN
    (tmp_path / "mine.toml").write_text('[[driver]]\nname = "Tair"\nformula = "TAIR + 273.15"\nunits = "K"\n')
    np.testing.assert_allclose(drivers.table_a2(b, recipes=tmp_path / "mine.toml").Tair, b.TAIR + 273.15)
    # a base variable that the table does not know is found by its own name
    own = drivers.make(b.assign(SNOW=b.TAIR * 0), [{"name": "snow", "formula": "msc(SNOW)"}])
    assert list(own) == ["snow"]


@pytest.mark.parametrize(("formula", "message"), [
    ("__import__('os').system('true')", "is not understood"),
    ("msc(EVI, how='x')", "is not understood"),
    ("EVI ** 2", "is not understood"),
    ("msc(EVI", "cannot be read"),
])  # fmt: skip
def test_formulas_that_cannot_be_read(formula, message):
    with pytest.raises(ValueError, match=message):
        drivers.table_a2(base(), recipes=[{"name": "x", "formula": formula}])


def test_recipes_with_unknown_keys():
    with pytest.raises(ValueError, match="recipe 'x': needs name and formula"):
        drivers.table_a2(base(), recipes=[{"name": "x", "formula": "EVI", "unit": "1"}])


def test_whole_numbers_in_the_units_of_the_recipes_are_no_longer_whole():
    coords = {"time": xr.date_range("2001-01-01", periods=46, freq="8D"), "lat": [0.0], "lon": [0.0]}
    ndvi = xr.DataArray(np.arange(46).reshape(46, 1, 1) % 7, coords, name="NDVI", attrs={"units": "1"})
    recipe = {"name": "own", "formula": "msc(NDVI)"}
    whole, real = (drivers.make(v.to_dataset(), [recipe])["own"] for v in (ndvi, ndvi.astype(float)))
    np.testing.assert_allclose(whole, real)
    assert whole.sel(dayofyear=7).item() == 2.5 / 8  # from the middle of the first composite to that of the second


def test_base_units_are_converted_or_refused():
    b = base()
    kelvin = b.assign(TAIR=(b.TAIR + 273.15).assign_attrs(units="K"),
                      RG=(b.RG * 86400).assign_attrs(units="J m-2 d-1"),
                      PREC=(b.PREC / 86400).assign_attrs(units="kg m-2 s-1"))  # fmt: skip
    xr.testing.assert_allclose(drivers.table_a2(kelvin), drivers.table_a2(b), rtol=1e-8)
    with pytest.raises(ValueError, match="'RG' has the units 'hPa', 'W m-2' is needed"):
        drivers.table_a2(b.assign(RG=b.RG.assign_attrs(units="hPa")))
    with pytest.warns(UserWarning, match=r"'TAIR' has no units: taken to be in 'degC'. Say which: .*units=…") as said:
        silent = drivers.table_a2(b.assign(TAIR=b.TAIR.drop_attrs()))
    xr.testing.assert_allclose(silent, drivers.table_a2(b))
    assert len(said) == 1


def test_monthly_climatology_with_rain_per_month():
    months = {"month": np.arange(1, 13), "lat": [10.0, 50.0], "lon": [0.0]}
    one = xr.DataArray(np.ones((12, 2, 1)), months)
    lengths = xr.DataArray([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], {"month": months["month"]})
    b = xr.Dataset({"PREC": (one * lengths * 2).assign_attrs(units="mm month-1"),
                    "TAIR": (one * 15).assign_attrs(units="degC"),
                    "NDVI": (one * 0.5).assign_attrs(units="1")})  # fmt: skip
    per_day = b.assign(PREC=(one * 2).assign_attrs(units="mm d-1"))
    made = drivers.table_a2(b)
    xr.testing.assert_allclose(made, drivers.table_a2(per_day))
    assert made.WAI2.dims == ("month", "lat", "lon") and made.Rg_VIMSC.dims == ("month", "lat", "lon")


def test_era5_under_its_own_names_and_units():
    _, met = modis_and_weather()
    plain = drivers.table_a2(met)
    era5 = xr.Dataset({
        "t2m": (met.TAIR + 273.15).assign_attrs(units="K"), "tp": (met.PREC / 1000).assign_attrs(units="m"),
        "ssrd": (met.RG * 86400).assign_attrs(units="J m**-2"),
    }).rename(time="valid_time", lat="latitude", lon="longitude")  # fmt: skip
    for made in (drivers.table_a2(era5), drivers.table_a2(dict(era5.data_vars)), drivers.table_a2([era5])):
        xr.testing.assert_allclose(made, plain, rtol=1e-6)
        assert made.WAI2.dims == ("time", "lat", "lon")


def test_composites_beside_daily_weather():
    modis, met = modis_and_weather()
    made = drivers.table_a2([modis, met])
    assert list(made.data_vars) == TEN
    evi = drivers.to_daily(modis.EVI)
    doy = evi.time.dt.dayofyear.clip(max=365)
    np.testing.assert_allclose(made.MSC_EVIRpot, (evi * met.RG).groupby(doy).mean(), rtol=1e-9)
    np.testing.assert_allclose(made.AMP_Band4, modis.BAND4.max("time") - modis.BAND4.min("time"))
    lazy = drivers.table_a2([modis.chunk(time=20), met.chunk(time=100, lat=1)])
    assert lazy.MSC_EVIRpot.chunks
    xr.testing.assert_allclose(lazy.compute(), made, rtol=1e-9)
    by_name = drivers.table_a2({**modis.data_vars, **met.data_vars})
    xr.testing.assert_identical(by_name, made)
    with pytest.raises(ValueError, match="base variable 'PREC', 'RG', 'TAIR' is given twice"):
        drivers.table_a2([met, met])


def test_real_climatology(data_folder):
    b = xr.open_dataset(data_folder / "drivers/monthly_climatology_05deg.nc").isel(
        lat=slice(60, 300, 8), lon=slice(0, 720, 8)
    )
    made = drivers.table_a2(b)
    assert {"WAI2", "MSC_NDVIRg", "MSC_LST_Night", "Rg_VIMSC", "AMP_MSC_NDVI", "Tair", "AMP_MSC_WAI"} <= set(made)
    assert made.attrs["not_made"] == "MIN_MSC_NDWI (needs NDWI); AMP_Band4 (needs BAND4)"
    here = made.WAI2.sel(lat=slice(30, 15)).sel(lon=slice(0, 25)).mean()  # the Sahara
    forest = made.WAI2.sel(lat=slice(2, -6)).sel(lon=slice(-70, -60)).mean()  # Amazonia
    assert here < 0.1 < 0.6 < forest


# --- coasts --------------------------------------------------------------------------------------------------------


def coast(lat, lon, seed=0, share=0.5):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(12, len(lat), len(lon)))
    values[:, rng.random((len(lat), len(lon))) > share] = np.nan
    coords = {"month": np.arange(1, 13), "lat": lat, "lon": lon}
    return xr.Dataset({"a": (("month", "lat", "lon"), values), "b": (("lat", "lon"), values[0] * 2)}, coords)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), distance=st.sampled_from([0.5, 1.0, 2.5]), high=st.booleans())
def test_filling_is_nearest_on_the_sphere(seed, distance, high):
    lat = np.arange(86.0, 90, 1.0) if high else np.arange(-4.0, 4, 1.0)
    lon = np.r_[-179.5:-174.5:1.0, 175.5:180:1.0]
    grid = coast(lat, lon, seed, 0.3)
    land = xr.DataArray(np.random.default_rng(seed + 1).random((len(lat), len(lon))) < 0.7, {"lat": lat, "lon": lon})
    filled, n = drivers.fill_nearest(grid, land, distance)
    from xflux.towers.folds import great_circle_km

    y, x = np.meshgrid(lat, lon, indexing="ij")
    has = grid.b.notnull().values
    count = 0
    for i, j in np.argwhere(land.values & ~has):
        d = np.where(has, np.rad2deg(great_circle_km(y[i, j], x[i, j], y, x) / 6371.0), np.inf)
        if d.min() <= distance * (1 + 1e-6):
            count += 1
            nearest = np.isclose(d, d.min(), rtol=1e-6)
            assert filled.b.values[i, j] in grid.b.values[nearest]
        else:
            assert np.isnan(filled.a.values[:, i, j]).all()
    assert n == count == filled.attrs["filled_cells"]
    assert filled.attrs["land_cells_without_drivers"] == int((land.values & ~has).sum()) - count
    untouched = xr.DataArray(has | ~land.values, {"lat": lat, "lon": lon})
    xr.testing.assert_identical(filled.a.where(untouched).drop_attrs(), grid.a.where(untouched))


def test_own_values_stay_and_lazy_stays_lazy():
    lat, lon = np.arange(3.0), np.arange(4.0)
    grid = coast(lat, lon, share=1)
    grid["a"][3:, 1, 1] = np.nan  # a season is missing
    land = xr.ones_like(grid.b) * 0.4
    filled, n = drivers.fill_nearest(grid.chunk(month=4, lat=2), land)
    assert n == 1 and filled.a.chunks
    np.testing.assert_array_equal(filled.a[:3, 1, 1], grid.a[:3, 1, 1])
    assert np.isfinite(filled.a).all()
    np.testing.assert_array_equal(filled.b, grid.b)
    assert filled.a.dims == grid.a.dims
    eager, _ = drivers.fill_nearest(grid, land)
    xr.testing.assert_identical(filled.compute(), eager)


def test_land_must_be_on_the_grid():
    grid = coast(np.arange(3.0), np.arange(4.0))
    land = xr.ones_like(grid.b)
    jitter = land.assign_coords(lon=land.lon + 1e-6)
    assert drivers.fill_nearest(grid, jitter)[1] == drivers.fill_nearest(grid, land)[1] > 0
    with pytest.raises(ValueError, match="are no cells of the land mask"):
        drivers.fill_nearest(grid, land.assign_coords(lon=land.lon + 0.5))
    with pytest.raises(ValueError, match="no latitude found"):
        drivers.fill_nearest(grid, land.rename(lat="y"))


def test_evapotranspiration_needs_the_same_steps():
    t = xr.DataArray([10.0, 20.0], {"month": [1, 2]}, "month")
    with pytest.raises(ValueError, match="the same steps and cells"):
        drivers.potential_evapotranspiration(t, rpot=t.assign_coords(month=[2, 3]))
