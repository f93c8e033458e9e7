"""Steps, rates, amounts and averages: exact in every calendar, whatever the stamps."""

import shutil
import subprocess
from calendar import monthrange

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux  # noqa: F401  the accessor
from xflux.temporal import (
    annual,
    annual_anomalies,
    convert_units,
    interannual_variability,
    mean_seasonal_cycle,
    same_calendar,
    step_days,
    time_bounds,
    to_amounts,
    to_monthly,
)
from xflux.units import UnitsError

CALENDARS = ["standard", "noleap", "360_day", "all_leap", "julian", "proleptic_gregorian"]
NOLEAP = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def month_lengths(calendar: str, first: int, years: int) -> np.ndarray:
    """Days of the months, written out by hand."""
    lengths = []
    for year in range(first, first + years):
        leap = {"noleap": False, "all_leap": True, "julian": year % 4 == 0}.get(calendar, monthrange(year, 2)[1] == 29)
        lengths += (
            [30] * 12
            if calendar == "360_day"
            else [28 + leap + (n - 28) if i == 1 else n for i, n in enumerate(NOLEAP)]
        )
    return np.array(lengths, dtype=float)


def months(first: int, years: int, calendar: str | None = None, stamp: str = "start") -> np.ndarray:
    """Stamps of consecutive months; calendar None gives datetime64."""
    lengths = month_lengths(calendar or "standard", first, years)
    stamps = []
    for i, days in enumerate(lengths):
        year, month = first + i // 12, i % 12 + 1
        day, hour = {"start": (1, 0), "middle": (1 + int(days) // 2, 12 * (int(days) % 2)), "end": (int(days), 0),
                     "last hour": (int(days), 23), "15": (15, 0)}[stamp]  # fmt: skip
        if calendar is None:
            stamps.append(np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}", "ns"))
        else:
            stamps.append(cftime.datetime(year, month, day, hour, calendar=calendar))
    return np.array(stamps)


def series(values, time, units="gC m-2 d-1", **more) -> xr.DataArray:
    return xr.DataArray(values, {"time": time}, ("time",), name="nee", attrs={"units": units, **more})


def days(first: str, last: str, calendar: str | None = None) -> xr.DataArray:
    time = xr.date_range(first, last, freq="D", calendar=calendar or "standard", use_cftime=calendar is not None)
    return series(np.random.default_rng(0).normal(size=len(time)), time)


# --- bounds and lengths ---
@pytest.mark.parametrize("stamp", ["start", "middle", "end", "last hour", "15"])
@pytest.mark.parametrize("calendar", [None, *CALENDARS])
def test_stamps_anywhere_in_the_month_give_its_length(calendar, stamp):
    time = months(1999, 6, calendar, stamp)
    da = series(np.ones(72), time)
    expected = month_lengths(calendar or "standard", 1999, 6)
    np.testing.assert_array_equal(step_days(da), expected)
    amounts = convert_units(da, "gC m-2 month-1")
    np.testing.assert_array_equal(amounts, expected)
    np.testing.assert_array_equal(amounts.time, da.time)
    assert float(annual(amounts)[1]) == expected[12:24].sum()


@pytest.mark.parametrize("calendar", [None, *CALENDARS])
@pytest.mark.filterwarnings("ignore:time has one stamp a year")
def test_years_have_their_length(calendar):
    lengths = month_lengths(calendar or "standard", 1999, 6).reshape(6, 12).sum(axis=1)
    for start in (0, 6, 11):
        time = months(1999, 6, calendar)[start::12]
        np.testing.assert_array_equal(step_days(series(np.ones(6), time)), lengths)
    np.testing.assert_array_equal(convert_units(series(np.ones(6), time), "gC m-2 yr-1"), lengths)


def test_time_bounds_are_dates_of_the_same_kind():
    b = time_bounds(series(np.ones(12), months(2004, 1)))
    assert b.dims == ("time", "bnds")
    assert b.dtype == "datetime64[ns]"
    assert b[1].values.astype("M8[D]").tolist() == [
        pd.Timestamp("2004-02-01").date(),
        pd.Timestamp("2004-03-01").date(),
    ]
    b = time_bounds(series(np.ones(12), months(2004, 1, "360_day", "middle")))
    assert b[1, 1].item() == cftime.datetime(2004, 3, 1, calendar="360_day")


def test_daily_steps_are_calendar_days_at_whatever_hour():
    for hour in (0, 12, 23):
        da = days("2001-01-01", "2001-03-31")
        da = da.assign_coords(time=da.time + np.timedelta64(hour, "h"))
        assert (time_bounds(da)[:, 0].dt.hour == 0).all()
        np.testing.assert_allclose(to_monthly(da), da.groupby("time.month").mean(), rtol=1e-12)


def test_other_regular_steps_run_from_the_stamp():
    time = pd.date_range("2001-01-31 21:00", periods=3, freq="3h")
    np.testing.assert_array_equal(step_days(series(np.ones(3), time)), 0.125)
    # 21–24 h on 31 January, 0–6 h on 1 February
    result = convert_units(series([8.0, 16.0, 24.0], time), "gC m-2 month-1")
    np.testing.assert_allclose(result, [1.0, 5.0])


def test_eight_daily_steps_that_restart_each_year_end_with_it():
    time = np.concatenate([pd.date_range(f"{y}-01-01", periods=46, freq="8D") for y in (2003, 2004)])
    d = step_days(series(np.ones(92), time)).values
    assert d[45] == 5
    assert d[91] == 6
    assert d.sum() == 365 + 366
    rate = annual(series(np.ones(92), time))
    np.testing.assert_allclose(rate, 1.0)
    np.testing.assert_allclose(rate.valid_fraction, 1.0)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "julian"])
@pytest.mark.parametrize("length", [3, 4, 5, 7, 8, 10, 16])
def test_composites_of_any_length_restart_each_year(calendar, length):
    """A last step of one day, or of half the length, does not make the others days with gaps."""
    days = xr.date_range("2003-01-01", "2006-01-01", freq="D", calendar=calendar, use_cftime=True)[:-1]
    start = np.array([t for t in days if (t.dayofyr - 1) % length == 0])
    stop = np.array([*start[1:], days[-1] + (days[1] - days[0])])
    da = xr.DataArray(np.ones(start.size), {"time": start}, "time", attrs={"units": "gC m-2 d-1"})
    np.testing.assert_array_equal(time_bounds(da).values, np.stack([start, stop], axis=1))
    assert (annual(da).valid_fraction == 1).all()


def test_months_and_days_may_have_gaps():
    time = months(2001, 3)
    summer = np.isin(np.arange(36) % 12, [5, 6, 7])
    for stamp in ("start", "middle", "end"):
        da = series(np.ones(36), months(2001, 3, stamp=stamp))[summer]
        np.testing.assert_array_equal(step_days(da), [30, 31, 31] * 3)
    assert time.size == 36
    year = annual(da, complete=False)
    np.testing.assert_allclose(year.valid_fraction, 92 / 365)
    np.testing.assert_allclose(year, 1.0)
    broken = days("2001-01-01", "2001-12-31").isel(time=np.r_[0:40, 50:365])
    assert step_days(broken).sum() == 355
    assert to_monthly(broken).valid_fraction[1] == pytest.approx(18 / 28)


def test_five_weekly_steps_are_no_months():
    time = pd.date_range("2001-01-01", periods=10, freq="35D")
    np.testing.assert_array_equal(step_days(series(np.ones(10), time)), 35)
    with pytest.raises(ValueError, match="longer than a month"):
        to_monthly(series(np.ones(10), time))


def test_a_single_step_needs_bounds():
    da = series([1.0], months(2004, 1)[1:2])
    with pytest.raises(ValueError, match=r"a single time step .* put it in a Dataset with time_bnds"):
        step_days(da)
    with pytest.raises(ValueError, match="Dataset with time_bnds"):
        da.flux.convert_units("gC m-2 month-1")
    ds = da.to_dataset().assign(time_bnds=(("time", "bnds"), np.array([["2004-02-01", "2004-03-01"]], "M8[ns]")))
    assert ds.flux.convert_units("gC m-2 month-1").nee.item() == 29
    # what needs no length needs no bounds
    assert da.flux.convert_units("kgC m-2 s-1").item() == pytest.approx(1e-3 / 86400)
    assert da.assign_attrs(units="PgC month-1").flux.convert_units("TgC month-1").item() == 1000
    irregular = series(np.ones(3), np.array(["2001-01-01", "2001-01-04", "2001-01-09"], "M8[ns]"))
    assert irregular.flux.convert_units("kgC m-2 d-1")[0].item() == pytest.approx(1e-3)


def test_the_one_year_that_annual_returns_knows_its_length():
    one = annual(series(np.ones(12), months(2004, 1)))
    assert one.sizes["time"] == 1
    assert convert_units(one, "gC m-2 yr-1").item() == 366


def test_irregular_unordered_and_undecoded_times_raise():
    with pytest.raises(ValueError, match="neither months, years nor regular"):
        step_days(series(np.ones(3), np.array(["2001-01-01", "2001-01-04", "2001-01-09"], "M8[ns]")))
    with pytest.raises(ValueError, match="sortby"):
        step_days(series(np.ones(12), months(2001, 1)[::-1]))
    with pytest.raises(ValueError, match="without repeats"):
        step_days(series(np.ones(2), months(2001, 1)[[0, 0]]))
    with pytest.raises(ValueError, match="not dates: open the file with decode_times=True"):
        step_days(series(np.ones(3), np.arange(3)))
    with pytest.raises(ValueError, match="missing dates"):
        step_days(series(np.ones(2), np.array(["2001-01-01", "NaT"], "M8[ns]")))
    with pytest.raises(ValueError, match="'time' has no coordinate"):
        step_days(xr.DataArray(np.ones(3), dims="time"))
    with pytest.raises(ValueError, match="there are no steps"):
        step_days(xr.DataArray(np.ones(3), dims="region"))
    with pytest.raises(ValueError, match="empty"):
        step_days(series(np.ones(0), months(2001, 1)[:0]))


# --- CF bounds of a Dataset ---
def with_bounds(da: xr.DataArray, low, high) -> xr.Dataset:
    ds = da.to_dataset(name="nee").assign(time_bnds=(("time", "bnds"), np.stack([low, high], axis=1)))
    ds["time"].attrs["bounds"] = "time_bnds"
    return ds


def test_bounds_win_over_stamps():
    starts = np.array(["2001-01-01", "2001-02-01", "2001-03-01", "2001-04-01"], "M8[ns]")
    # stamped at the end, 1 February for January
    da = series([1.0, 1.0, 1.0], starts[1:])
    np.testing.assert_array_equal(step_days(da), [28, 31, 30])
    ds = with_bounds(da, starts[:-1], starts[1:])
    np.testing.assert_array_equal(step_days(ds), [31, 28, 31])
    result = ds.flux.convert_units("gC m-2 month-1")
    np.testing.assert_array_equal(result.nee, [31, 28, 31])
    np.testing.assert_array_equal(result.time_bnds, ds.time_bnds)
    assert ds.flux.annual(complete=False).year.values.tolist() == [2001]
    assert ds.flux.annual(complete=False).nee_valid_fraction.item() == pytest.approx(90 / 365)


def test_bounds_are_kept_and_follow_the_new_axis():
    da = days("2001-01-01", "2002-12-31")
    ds = with_bounds(da, da.time.values, da.time.values + np.timedelta64(1, "D"))
    monthly = ds.flux.to_monthly()
    assert monthly.time.attrs["bounds"] == "time_bnds"
    assert (monthly.time_bnds[:, 1] - monthly.time_bnds[:, 0]).dt.days.values.tolist() == NOLEAP * 2
    assert ds.flux.annual().time_bnds.shape == (2, 2)
    assert set(monthly.data_vars) == set(ds.flux.annual().data_vars) == {"nee"}
    amounts = ds.flux.convert_units("gC m-2 month-1")
    assert amounts.sizes["time"] == 24
    assert (amounts.time_bnds[:, 1] - amounts.time_bnds[:, 0]).dt.days.values.tolist() == NOLEAP * 2


def test_steps_with_bounds_may_come_in_any_order():
    starts = months(2001, 2)
    order = np.random.default_rng(0).permutation(23)
    da = series(np.arange(23.0), starts[:23]).isel(time=order)
    ds = with_bounds(da, starts[:-1][order], starts[1:][order])
    np.testing.assert_allclose(ds.flux.to_monthly().nee, np.arange(23.0))
    np.testing.assert_array_equal(ds.flux.to_monthly().time, starts[:23])
    np.testing.assert_allclose(ds.flux.convert_units("gC m-2 month-1").nee, da * step_days(ds))
    years = [x.flux.annual(complete=False) for x in (ds, series(np.arange(23.0), starts[:23]))]
    np.testing.assert_allclose(years[0].nee, years[1])


def test_bounds_that_end_a_second_early_are_months():
    starts = months(2001, 2)
    low, high = starts[:-1], starts[1:] - np.timedelta64(1, "s")
    ds = with_bounds(series(np.ones(23), starts[:-1]), low, high)
    np.testing.assert_array_equal(ds.flux.convert_units("gC m-2 month-1").nee, (NOLEAP * 2)[:23])


def test_undecoded_bounds_take_the_units_of_time():
    da = series(np.ones(2), months(2001, 1, stamp="middle")[:2])
    ds = da.to_dataset().assign(time_bnds=(("time", "bnds"), [[0.0, 31.0], [31.0, 59.0]]))
    ds["time"].encoding.update(units="days since 2001-01-01", calendar="standard")
    np.testing.assert_array_equal(step_days(ds), [31, 28])
    del ds["time"].encoding["units"]
    with pytest.raises(ValueError, match="numbers without units"):
        step_days(ds)


def test_bounds_survive_a_file(tmp_path):
    starts = np.array(["2001-01-01", "2001-02-01", "2001-03-01"], "M8[ns]")
    ds = with_bounds(series([1.0, 1.0], starts[1:]), starts[:-1], starts[1:])
    ds.time.encoding["units"] = "days since 2000-01-01"
    ds.to_netcdf(tmp_path / "a.nc")
    for options in ({}, {"decode_coords": "all"}):
        with xr.open_dataset(tmp_path / "a.nc", **options) as read:
            np.testing.assert_array_equal(read.flux.convert_units("gC m-2 month-1").nee, [31, 28])


def test_wrong_bounds_raise():
    da = series([1.0, 1.0], months(2001, 1)[:2])
    with pytest.raises(ValueError, match="time bounds must increase: step 0"):
        step_days(with_bounds(da, da.time.values + np.timedelta64(1, "h"), da.time.values))
    with pytest.raises(ValueError, match="time bounds have the shape"):
        step_days(da, bounds=np.zeros((3, 2)))
    other = months(2001, 1, "noleap")
    with pytest.raises(ValueError, match="in the calendar 'proleptic_gregorian', its bounds in 'noleap'"):
        step_days(da, bounds=np.stack([other[:2], other[1:3]], axis=1))


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i2", "f2"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("chunks", [None, 1, 20, 45, 90])
def test_months_of_chunks_that_share_them_are_whole_in_any_layout(dtype, axis, chunks):
    values = np.random.default_rng(0).integers(-9, 9, (90, 2, 3)).astype(dtype)
    if values.dtype.kind == "f":
        values[5:40, 0, 1] = values[:, 1, 2] = np.nan
    time = xr.date_range("2001-01-01", periods=90)
    da = xr.DataArray(values, {"time": time}, ("time", "lat", "lon"), attrs={"units": "gC m-2 d-1"})
    dims = np.roll(da.dims, axis)
    monthly = to_monthly((da if chunks is None else da.chunk(time=chunks)).transpose(*dims))
    assert monthly.dims == tuple(dims)
    for month, days in enumerate(np.split(values.astype(float), [31, 59])):
        valid = np.isfinite(days).sum(axis=0)
        expected = np.nansum(days, axis=0) / np.where(valid, valid, np.nan)
        np.testing.assert_allclose(monthly[{"time": month}].transpose("lat", "lon"), expected, rtol=1e-14)
        share = monthly.valid_fraction[{"time": month}].transpose("lat", "lon")
        np.testing.assert_allclose(share, valid / len(days), rtol=1e-14)


def test_steps_that_straddle_months_are_shared_by_their_days():
    edges = np.array(["2001-01-21", "2001-02-10", "2001-03-02"], "M8[ns]")
    ds = with_bounds(series([1.0, 4.0], edges[:-1]), edges[:-1], edges[1:])
    total = ds.flux.convert_units("gC m-2 month-1")
    np.testing.assert_allclose(total.nee, [11, 9 + 4 * 19, 4])
    np.testing.assert_allclose(total.nee_valid_fraction, [11 / 31, 1, 1 / 31])
    np.testing.assert_allclose(ds.flux.to_monthly().nee, [1, (9 + 76) / 28, 4])


# --- rates and amounts ---
def test_years_are_not_cut_into_months():
    time = xr.date_range("2001-01-01", periods=3, freq="YS")
    da = xr.DataArray(np.ones(3), {"time": time}, "time", attrs={"units": "PgC d-1"})
    for units in ("PgC d-1", "PgC yr-1", "PgC"):
        with pytest.raises(ValueError, match="steps of 365 days are longer than a month: freq='MS' is not possible"):
            to_amounts(da, units, "MS")
    quarters = xr.date_range("2001-01-01", periods=5, freq="QS").values
    ds = xr.Dataset({"f": ("time", np.ones(4), {"units": "PgC d-1"})}, {"time": quarters[:-1]})
    ds["time_bnds"] = (("time", "bnds"), np.stack([quarters[:-1], quarters[1:]], axis=1))
    with pytest.raises(UnitsError, match=r"'PgC month-1' cannot be had of steps of 92 days, which have no months"):
        convert_units(ds, "PgC month-1")
    np.testing.assert_array_equal(convert_units(ds, "PgC").f, [90, 91, 92, 92])
    assert annual(ds).f.item() == 1


def test_x_per_month_on_annual_steps_raises():
    yearly = series(np.ones(3), months(2001, 3)[::12])
    with pytest.raises(UnitsError, match=r"annual steps, which have no months; use 'yr-1'"):
        convert_units(yearly, "gC m-2 month-1")
    with pytest.raises(UnitsError, match="annual steps"):
        convert_units(yearly.assign_attrs(units="gC m-2 month-1"), "gC m-2 d-1")
    with pytest.raises(UnitsError, match="use 'yr-1'"):
        to_amounts(series(np.ones(24), months(2001, 2), "PgC d-1"), "PgC month-1", freq="YS")


@pytest.mark.parametrize(
    ("calendar", "mean"),
    [
        (None, 365.2425),
        ("standard", 365.2425),
        ("noleap", 365),
        ("all_leap", 366),
        ("360_day", 360),
        ("julian", 365.25),
    ],
)
def test_x_per_year_on_shorter_steps_is_a_rate_of_the_mean_year(calendar, mean):
    np.testing.assert_allclose(convert_units(series(np.ones(24), months(2003, 2, calendar)), "gC m-2 yr-1"), mean)
    back = convert_units(series(np.ones(24), months(2003, 2, calendar), "gC m-2 yr-1"), "gC m-2 month-1")
    np.testing.assert_allclose(back, month_lengths(calendar or "standard", 2003, 2) / mean)


def test_without_time_a_rate_stays_a_rate():
    da = xr.DataArray([1.0], dims="region", attrs={"units": "PgC d-1"})
    assert convert_units(da, "PgC yr-1").item() == 365.2425
    assert convert_units(da, "TgC s-1").item() == pytest.approx(1e3 / 86400)
    assert convert_units(convert_units(da, "PgC yr-1"), "PgC d-1").item() == pytest.approx(1)
    with pytest.raises(UnitsError, match="without a dimension time, month or dayofyear"):
        convert_units(da, "PgC month-1")
    with pytest.raises(UnitsError, match="without a dimension time"):
        convert_units(da, "PgC")
    assert convert_units(da.assign_attrs(units="PgC month-1"), "TgC month-1").item() == 1000
    with pytest.raises(ValueError, match="freq='YS' needs a dimension"):
        to_amounts(da, "PgC", freq="YS")


def test_february_of_three_calendars():
    for calendar, expected in ((None, 29), ("noleap", 28), ("360_day", 30)):
        da = series(np.full(12, 2.0), months(2004, 1, calendar), "kgCO2 m-2 s-1")
        february = convert_units(da, "gC m-2 month-1")[1].item()
        assert february == pytest.approx(2000 * 12.011 / 44.009 * 86400 * expected, rel=1e-12)


def test_amounts_without_time_belong_to_their_step():
    da = series(np.array([31.0, 56.0, 31.0]), months(2001, 1)[:3], "gC m-2")
    np.testing.assert_allclose(convert_units(da, "gC m-2 d-1"), [1, 2, 1])
    np.testing.assert_allclose(convert_units(convert_units(da, "gC m-2 d-1"), "gC m-2"), da)


@pytest.mark.parametrize("units", ["gC m-2 d-1", "gC m-2 month-1", "gC m-2 yr-1", "gC m-2", "umol m-2 s-1"])
@pytest.mark.parametrize("target", ["gC m-2 d-1", "gC m-2 month-1", "gC m-2 yr-1", "gC m-2", "kgCO2 m-2 s-1"])
def test_conversions_invert(units, target):
    da = series(np.random.default_rng(1).normal(size=36), months(2003, 3), units)
    np.testing.assert_allclose(convert_units(convert_units(da, target), units), da, rtol=1e-12)


def test_daily_to_per_month_sums_and_reports_missing_time():
    da = days("2001-01-11", "2001-03-31")
    da[35] = np.nan
    result = convert_units(da, "gC m-2 month-1")
    expected = da.groupby("time.month").sum()
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    np.testing.assert_allclose(result.valid_fraction, [21 / 31, 27 / 28, 1])
    assert result.time.values.astype("M8[D]").astype(str).tolist() == ["2001-01-01", "2001-02-01", "2001-03-01"]
    nothing = convert_units(da.where(da.time.dt.month != 2), "gC m-2 month-1")
    assert np.isnan(nothing[1])
    assert nothing.valid_fraction[1] == 0


def test_to_amounts_by_year_is_the_amount_of_that_year():
    da = series(np.ones(48), months(2001, 4), "PgC d-1")
    total, share = to_amounts(da, "PgC yr-1", freq="YS")
    np.testing.assert_array_equal(total, [365, 365, 365, 366])
    np.testing.assert_allclose(share, 1)
    np.testing.assert_allclose(to_amounts(da, "PgC", freq="YS")[0], total)
    np.testing.assert_allclose(to_amounts(da, "PgC yr-1", freq="MS")[0], 365.2425)
    np.testing.assert_allclose(to_amounts(da, "TgC d-1", freq="YS")[0], 1000)
    with pytest.raises(ValueError, match="freq must be 'MS'"):
        to_amounts(da, "PgC", freq="W")


@given(
    st.sampled_from([None, "noleap", "360_day"]),
    st.integers(0, 40),
    st.integers(40, 800),
    st.sampled_from(["PgC month-1", "PgC"]),
    st.lists(st.integers(0, 700), max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_sums_conserve_what_is_there(calendar, skip, n, units, holes):
    time = xr.date_range(
        "2003-01-01", periods=skip + n, freq="D", calendar=calendar or "standard", use_cftime=calendar is not None
    )[skip:]
    da = series(np.random.default_rng(n).normal(size=n), time, "PgC d-1")
    da[[h for h in holes if h < n]] = np.nan
    total = float(da.sum())
    monthly, share = to_amounts(da, units, freq="MS")
    assert float(monthly.sum()) == pytest.approx(total, rel=1e-10, abs=1e-10)
    assert float(annual(monthly, complete=False).sum()) == pytest.approx(total, rel=1e-10, abs=1e-10)
    assert float((share * step_days(monthly)).sum() if monthly.size > 1 else 0) == pytest.approx(
        float(da.count()) if monthly.size > 1 else 0
    )


def test_attributes_encoding_dtype_and_name():
    da = series(np.ones(12, "float32"), months(2001, 1), long_name="NEE", area_basis="land", valid_range=[-10, 10])
    da.encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -9999}
    result = da.flux.convert_units("kgC m-2 s-1")
    assert result.attrs == {"units": "kgC m-2 s-1", "long_name": "NEE", "area_basis": "land"}
    assert result.encoding == {}
    assert result.dtype == np.float32
    assert result.name == "nee"
    assert da.attrs["units"] == "gC m-2 d-1"
    assert da.encoding["dtype"] == "int16"
    whole = series(np.ones(12, "int16"), months(2001, 1))
    assert whole.flux.convert_units("kgC m-2 d-1")[0].item() == pytest.approx(1e-3)


def test_units_that_do_not_fit_raise():
    da = series(np.ones(12), months(2001, 1))
    with pytest.raises(UnitsError, match=r"only one is per area.*aggregate_regions"):
        da.flux.convert_units("PgC month-1")
    with pytest.raises(UnitsError, match="has no units: set"):
        da.drop_attrs().flux.convert_units("gC m-2 yr-1")
    with pytest.raises(UnitsError, match="one is C, the other water"):
        da.flux.convert_units("mm d-1")


def test_energy_and_water_by_name():
    le = series(np.ones(12), months(2001, 1), "W m-2")
    assert le.flux.convert_units("MJ m-2 d-1")[0].item() == pytest.approx(0.0864)
    assert le.flux.convert_units("MJ m-2 month-1")[1].item() == pytest.approx(0.0864 * 28)
    et = series(np.ones(12), months(2001, 1), "mm d-1")
    assert et.flux.annual().item() == pytest.approx(1)
    assert et.flux.convert_units("mm month-1").flux.annual().item() == pytest.approx(365)
    assert et.flux.convert_units("mm month-1").flux.annual().attrs["units"] == "mm yr-1"


def test_a_dataset_converts_its_fluxes_and_nothing_else():
    time = months(2001, 1)
    ds = xr.Dataset({
        "nee": series(np.ones(12), time), "gpp": series(np.ones(12), time, "umol m-2 s-1"),
        "nee_mad": series(np.ones(12), time), "LE": series(np.ones(12), time, "W m-2"),
        "cell_area": ("x", [1.0], {"units": "m2"}), "T": series(np.ones(12), time, "degC"),
    }, attrs={"title": "x"})  # fmt: skip
    result = ds.flux.convert_units("kgC m-2 s-1")
    assert {v: result[v].attrs["units"] for v in ds.data_vars} == {
        "nee": "kgC m-2 s-1", "gpp": "kgC m-2 s-1", "nee_mad": "gC m-2 d-1", "LE": "W m-2", "cell_area": "m2",
        "T": "degC"}  # fmt: skip
    assert result.attrs == {"title": "x"}
    assert ds.flux.convert_units("kJ m-2 d-1").LE[0].item() == pytest.approx(86.4)
    assert list(ds.flux.annual().data_vars) == ["nee", "gpp"]
    with pytest.raises(UnitsError, match=r"is a flux that converts to 'gC m-2 d-1': T \(degC\)"):
        ds[["T"]].flux.convert_units("gC m-2 d-1")
    with pytest.raises(ValueError, match="no variable of this Dataset is a flux"):
        ds[["T"]].flux.annual()
    with pytest.raises(UnitsError, match="'nee': cannot convert"):
        ds.flux.convert_units("PgC d-1")
    assert list(ds[["LE", "T"]].flux.annual().data_vars) == ["LE"]


# --- climatologies ---
def test_a_climatology_of_months_stands_in_the_mean_gregorian_year():
    da = xr.DataArray(np.ones((12, 2)), {"month": np.arange(1, 13)}, ("month", "x"), attrs={"units": "gC m-2 d-1"})
    np.testing.assert_allclose(step_days(da), [31, 28.2425, *NOLEAP[2:]])
    amounts = da.flux.convert_units("gC m-2 month-1")
    assert amounts.dims == ("month", "x")
    assert amounts.sel(month=2)[0] == 28.2425
    np.testing.assert_allclose(amounts.flux.annual(), 365.2425)
    assert amounts.flux.annual().attrs["units"] == "gC m-2 yr-1"
    np.testing.assert_allclose(da.flux.annual(), 1)
    assert da.flux.mean_seasonal_cycle().identical(
        da.assign_coords(valid_fraction=da.flux.mean_seasonal_cycle().valid_fraction)
    )
    np.testing.assert_allclose(da.flux.convert_units("gC m-2 yr-1"), 365.2425)
    shuffled = amounts.isel(month=np.random.default_rng(0).permutation(12))
    np.testing.assert_allclose(shuffled.flux.annual(), 365.2425)
    np.testing.assert_allclose(shuffled.flux.convert_units("gC m-2 d-1"), 1)
    with pytest.raises(ValueError, match="a climatology has no years"):
        da.flux.annual_anomalies()


def test_the_year_of_a_part_of_a_climatology_is_told():
    whole = xr.DataArray(np.ones(12), {"month": np.arange(1, 13)}, "month", attrs={"units": "PgC month-1"})
    assert annual(whole).item() == 12
    with pytest.warns(UserWarning, match="the climatology has 181 days of its year only"):
        assert annual(whole[:6]).item() == 6
    assert annual(whole[:6], complete=False).item() == 6


@pytest.mark.parametrize("size", [365, 366])
def test_a_climatology_of_days_becomes_months(size):
    da = xr.DataArray(np.ones(size), {"dayofyear": np.arange(1, size + 1)}, ("dayofyear",), attrs={"units": "PgC d-1"})
    assert float(step_days(da).sum()) == pytest.approx(365.2425, rel=1e-14)
    monthly = da.flux.convert_units("PgC month-1")
    np.testing.assert_allclose(monthly, [31, 28.2425, *NOLEAP[2:]], rtol=1e-14)
    np.testing.assert_allclose(monthly.valid_fraction, 1, rtol=1e-14)
    assert monthly.month.values.tolist() == list(range(1, 13))
    np.testing.assert_allclose(da.flux.mean_seasonal_cycle(), 1)
    assert da.flux.annual().item() == pytest.approx(1)
    varied = da.copy(data=np.random.default_rng(0).normal(size=size))
    assert float(varied.flux.convert_units("PgC month-1").sum()) == pytest.approx(
        float((varied * step_days(varied)).sum())
    )


def test_a_climatology_of_400_years_agrees_with_the_mean_year():
    """Month sums of a repeated daily climatology, averaged over 400 Gregorian years, are those of ``dayofyear``."""
    values = np.random.default_rng(0).normal(size=366)
    climatology = xr.DataArray(values, {"dayofyear": np.arange(1, 367)}, ("dayofyear",), attrs={"units": "PgC d-1"})
    time = pd.date_range("1801-01-01", "2200-12-31", freq="D")
    sums = pd.Series(values[time.dayofyear - 1], time).groupby(time.month).sum() / 400
    np.testing.assert_allclose(climatology.flux.convert_units("PgC month-1"), sums, rtol=1e-11)


def test_labels_of_climatologies_are_checked():
    with pytest.raises(ValueError, match=r"distinct numbers in 1\.\.12"):
        step_days(xr.DataArray(np.ones(2), {"month": [0, 1]}, ("month",)))
    with pytest.raises(ValueError, match=r"distinct numbers in 1\.\.366"):
        step_days(xr.DataArray(np.ones(2), {"dayofyear": [1, 367]}, ("dayofyear",)))
    with pytest.raises(ValueError, match="has no coordinate: assign"):
        step_days(xr.DataArray(np.ones(5), dims="month"))
    np.testing.assert_allclose(step_days(xr.DataArray(np.ones(12), dims="month")).sum(), 365.2425)


# --- averages ---
@pytest.mark.parametrize("calendar", [None, "noleap", "360_day", "all_leap", "julian"])
def test_monthly_to_annual_is_daily_to_annual(calendar):
    last = "2004-12-30" if calendar == "360_day" else "2004-12-31"
    da = days("2001-01-01", last, calendar)
    direct, through = annual(da), annual(to_monthly(da))
    np.testing.assert_allclose(direct, da.groupby("time.year").mean(), rtol=1e-12)
    np.testing.assert_allclose(through, direct, rtol=1e-12)
    np.testing.assert_array_equal(through.time, direct.time)
    assert direct.year.values.tolist() == [2001, 2002, 2003, 2004]
    assert direct.attrs["units"] == "gC m-2 d-1"
    amounts = annual(convert_units(da, "gC m-2 month-1"))
    np.testing.assert_allclose(amounts, da.groupby("time.year").sum(), rtol=1e-10)
    np.testing.assert_allclose(amounts, convert_units(direct, "gC m-2 yr-1"), rtol=1e-10)


def test_incomplete_years_show_in_valid_fraction_and_can_be_dropped():
    da = days("2001-07-02", "2003-12-31")
    result = annual(da, complete=False)
    np.testing.assert_allclose(result.valid_fraction, [183 / 365, 1, 1])
    with pytest.warns(UserWarning, match="covers 2001 only in part"):
        whole = annual(da)
    assert whole.year.values.tolist() == [2002, 2003]
    assert annual_anomalies(da, detrend=False).year.values.tolist() == [2002, 2003]
    with pytest.raises(ValueError, match="covers no year from end to end"):
        annual_anomalies(da[:300])


def test_seasonal_cycle_counts_every_year_alike():
    da = days("2001-01-01", "2004-12-31")
    cycle = mean_seasonal_cycle(da)
    assert cycle.dims == ("month",)
    assert cycle.month.values.tolist() == list(range(1, 13))
    by_hand = to_monthly(da).groupby("time.month").mean()
    np.testing.assert_allclose(cycle, by_hand, rtol=1e-12)
    np.testing.assert_allclose(mean_seasonal_cycle(to_monthly(da)), by_hand, rtol=1e-12)
    part = mean_seasonal_cycle(da.sel(time=slice("2001-03-16", "2001-05-31")))
    assert np.isnan(part.sel(month=[1, 2, 6, 12])).all()
    assert part.valid_fraction.sel(month=3) == pytest.approx(16 / 31)
    assert part.valid_fraction.sel(month=1) == 0
    sums = mean_seasonal_cycle(convert_units(da, "gC m-2").sel(time=slice("2001-03-16", "2001-05-31")))
    assert np.isnan(sums.sel(month=3))  # half a month of a sum is no sum of the month
    assert sums.sel(month=4) == pytest.approx(float(da.sel(time="2001-04").sum()))


def test_anomalies_and_variability_known_answer():
    rng = np.random.default_rng(0)
    year = np.arange(2001, 2013)
    noise = rng.normal(size=12)
    noise = noise - np.polyval(np.polyfit(year, noise, 1), year)
    values = 3 + 0.5 * (year - 2001) + noise
    da = series(values, months(2001, 12)[::12], "PgC yr-1")
    np.testing.assert_allclose(annual_anomalies(da), noise, atol=1e-12)
    np.testing.assert_allclose(annual_anomalies(da, detrend=False), values - values.mean(), atol=1e-12)
    assert interannual_variability(da).item() == pytest.approx(noise.std())
    assert interannual_variability(da, ddof=1).item() == pytest.approx(noise.std(ddof=1))
    assert interannual_variability(da, detrend=False).item() == pytest.approx(values.std())
    assert interannual_variability(da).attrs["units"] == "PgC yr-1"
    holes = da.where(~da.time.dt.year.isin([2003, 2009]))
    keep = holes.notnull().values
    residual = values[keep] - np.polyval(np.polyfit(year[keep], values[keep], 1), year[keep])
    np.testing.assert_allclose(annual_anomalies(holes).values[keep], residual, atol=1e-12)
    assert interannual_variability(holes).item() == pytest.approx(residual.std())
    assert np.isnan(interannual_variability(da[:2]))
    assert np.isnan(interannual_variability(da.where(da.time.dt.year < 2003)))
    assert interannual_variability(da[:2], detrend=False).item() == pytest.approx(abs(values[1] - values[0]) / 2)


def test_a_year_of_sums_with_a_month_missing_is_no_anomaly():
    da = series(np.ones(36), months(2001, 3), "PgC month-1")
    da[14] = np.nan
    np.testing.assert_allclose(annual(da), [12, 11, 12])
    anomaly = annual_anomalies(da, detrend=False)
    np.testing.assert_array_equal(anomaly.isnull(), [False, True, False])
    assert float(abs(anomaly).max()) == 0


def test_nan_is_not_zero():
    time = months(2001, 2)
    da = xr.DataArray(np.ones((24, 2)), {"time": time}, ("time", "x"), attrs={"units": "gC m-2 d-1"})
    da[:12, 0] = np.nan
    da[3, 1] = np.nan
    result = annual(da)
    assert np.isnan(result[0, 0])
    np.testing.assert_allclose(result.values[[0, 1, 1], [1, 0, 1]], 1)
    np.testing.assert_allclose(result.valid_fraction, [[0, 335 / 365], [1, 1]])
    amounts, share = to_amounts(da, "gC m-2", freq="YS")
    np.testing.assert_allclose(amounts, [[np.nan, 335], [365, 365]])
    np.testing.assert_allclose(share, result.valid_fraction)


def test_area_share_and_unassigned_ride_along():
    da = xr.DataArray(
        np.ones((24, 2)),
        {"time": months(2003, 2), "region": ["A", "B"]},
        ("time", "region"),
        attrs={"units": "PgC month-1"},
    )
    da = da.assign_coords(
        valid_fraction=(("time", "region"), np.full((24, 2), 0.5)), unassigned=("time", np.full(24, 2.0))
    )
    da["valid_fraction"][:12, 0] = 1.0
    yearly = da.flux.annual()
    np.testing.assert_allclose(yearly.valid_fraction, [[1, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(yearly.unassigned, [24, 24])
    assert yearly.unassigned.attrs["units"] == "PgC yr-1"
    converted = da.flux.convert_units("TgC d-1")
    np.testing.assert_allclose(
        converted.unassigned, 2 * converted.isel(region=0, drop=True).drop_vars(["valid_fraction", "unassigned"])
    )
    np.testing.assert_allclose(converted.valid_fraction, da.valid_fraction)
    in_dataset = (
        da.rename(unassigned="land_unassigned", valid_fraction="land_valid_fraction")
        .to_dataset(name="land")
        .flux.annual()
    )
    np.testing.assert_allclose(in_dataset.land_unassigned, [24, 24])
    assert set(da.flux.mean_seasonal_cycle().coords) >= {"valid_fraction", "unassigned", "month"}


def test_in_a_dataset_each_variable_keeps_its_own_shares():
    def region(units, share):
        da = xr.DataArray(np.ones((24, 1)), {"time": months(2003, 2), "region": ["A"]}, ("time", "region"))
        da = da.assign_attrs(units=units)
        rest = ("time", np.ones(24), {"units": units})
        return da.assign_coords(valid_fraction=(("time", "region"), np.full((24, 1), share)), unassigned=rest)

    parts = {"land": region("PgC month-1", 0.5), "ocean": region("TgC month-1", 0.25)}
    coords = ("valid_fraction", "unassigned")
    ds = xr.Dataset({name: da.rename({c: f"{name}_{c}" for c in coords}) for name, da in parts.items()})
    yearly, converted = ds.flux.annual(), ds.flux.convert_units("PgC d-1")
    for name, da in parts.items():
        np.testing.assert_allclose(yearly[name], da.flux.annual())
        np.testing.assert_allclose(yearly[f"{name}_valid_fraction"], da.valid_fraction[:2])
        np.testing.assert_allclose(yearly[f"{name}_unassigned"], da.flux.annual().unassigned)
        np.testing.assert_allclose(converted[f"{name}_unassigned"], da.flux.convert_units("PgC d-1").unassigned)
        np.testing.assert_allclose(converted[f"{name}_valid_fraction"], da.valid_fraction)
    assert set(converted.coords) == set(ds.coords)
    alone = ds.land.flux.convert_units("TgC month-1")
    np.testing.assert_allclose(alone.land_unassigned, 1000)
    assert alone.land_unassigned.attrs["units"] == "TgC month-1"
    np.testing.assert_allclose(ds.land.flux.annual().land_unassigned, 12)


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_means_under_time_varying_masks_stay_in_the_range_of_the_data(seed):
    rng = np.random.default_rng(seed)
    da = days("2001-01-01", "2002-06-30")
    da = da.where(xr.DataArray(rng.random(da.size) > 0.7, dims="time"))
    for result in (annual(da, complete=False), to_monthly(da), mean_seasonal_cycle(da)):
        assert float(result.min()) >= float(da.min()) - 1e-12
        assert float(result.max()) <= float(da.max()) + 1e-12


def test_states_and_unitless_values_average():
    for attrs in ({"units": "degC"}, {"units": "1"}, {}):
        da = xr.DataArray(np.arange(12.0), {"time": months(2001, 1)}, ("time",), attrs=attrs)
        assert annual(da).item() == pytest.approx((np.arange(12) * NOLEAP).sum() / 365)
        assert annual(da).attrs.get("units") == attrs.get("units")


@pytest.mark.parametrize("dims", [("time", "lat", "lon"), ("lat", "lon", "time"), ("lat", "time", "lon")])
def test_dims_keep_their_place(dims):
    da = xr.DataArray(
        np.ones((24, 2, 3)), {"time": months(2001, 2)}, ("time", "lat", "lon"), attrs={"units": "gC m-2 d-1"}
    ).transpose(*dims)
    assert annual(da).dims == dims
    assert mean_seasonal_cycle(da).dims == tuple("month" if d == "time" else d for d in dims)
    assert annual_anomalies(da).dims == dims
    assert interannual_variability(da).dims == tuple(d for d in dims if d != "time")
    assert convert_units(da, "gC m-2 month-1").dims == dims


def test_mixing_calendars_raises():
    a, b = series(np.ones(12), months(2001, 1)), series(np.ones(12), months(2001, 1, "noleap"))
    with pytest.raises(
        ValueError, match=r"different calendars, \['noleap', 'proleptic_gregorian'\]: use convert_calendar"
    ):
        same_calendar(a, b)
    with pytest.raises(ValueError, match=r"cftime dates, another datetime64"):
        same_calendar(a, series(np.ones(12), months(2001, 1, "standard")))
    same_calendar(a, a, xr.DataArray(1.0))
    mixed = np.array([*months(2001, 1, "noleap")[:2], *months(2001, 1, "standard")[2:4]])
    with pytest.raises(ValueError, match="mixes the calendars"):
        step_days(xr.DataArray(np.ones(4), {"time": ("time", pd.Index(mixed, dtype=object))}, ("time",)))


# --- every public method × numpy, dask × flox × bottleneck ---
METHODS = {
    "convert_units": lambda da: da.flux.convert_units("kgC m-2 month-1"),
    "rate": lambda da: da.flux.convert_units("umol m-2 s-1"),
    "to_monthly": lambda da: da.flux.to_monthly(),
    "annual": lambda da: da.flux.annual(),
    "mean_seasonal_cycle": lambda da: da.flux.mean_seasonal_cycle(),
    "annual_anomalies": lambda da: da.flux.annual_anomalies(),
    "interannual_variability": lambda da: da.flux.interannual_variability(),
}
UNITS = {"convert_units": "kgC m-2 month-1", "rate": "umol m-2 s-1"}


@pytest.fixture(scope="module")
def field() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3 * 365 + 1, 3, 4)).astype("float32")
    values[rng.random(values.shape) < 0.05] = np.nan
    values[:, 1, 1] = np.nan
    time = pd.date_range("2002-01-01", "2004-12-31", freq="D")
    return xr.DataArray(
        values,
        {"time": time, "lat": [0.0, 1, 2], "lon": [0.0, 1, 2, 3]},
        ("time", "lat", "lon"),
        name="nee",
        attrs={"units": "gC m-2 d-1", "area_basis": "land"},
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("flox", "bottleneck"), [(True, True), (True, False), (False, True), (False, False)])
def test_results_do_not_depend_on_flox_bottleneck_dask_or_chunks(field, method, flox, bottleneck):
    expected = METHODS[method](field)
    with xr.set_options(use_flox=flox, use_bottleneck=bottleneck, use_numbagg=bottleneck):
        plain = METHODS[method](field)
        lazy = METHODS[method](field.chunk(time=400, lat=2))
        assert lazy.chunks is not None
        result = lazy.compute()
    for other in (plain, result):
        rtol = 1e-6 if method == "rate" else 1e-11
        np.testing.assert_allclose(other, expected, rtol=rtol, atol=1e-14)
        assert other.dims == expected.dims
        own = {"detrended": 1} if method in ("annual_anomalies", "interannual_variability") else {}
        assert other.attrs == own | {"units": UNITS.get(method, "gC m-2 d-1"), "area_basis": "land"}
        assert set(other.coords) == set(expected.coords)
        if "valid_fraction" in expected.coords:
            np.testing.assert_allclose(other.valid_fraction, expected.valid_fraction, rtol=1e-12)


@given(st.data())
@settings(max_examples=4, deadline=None)
def test_chunks_do_not_matter(field, data):
    chunks = {d: data.draw(st.integers(1 if d != "time" else 150, n)) for d, n in field.sizes.items()}
    method = data.draw(st.sampled_from(["convert_units", "annual", "mean_seasonal_cycle"]))
    np.testing.assert_allclose(METHODS[method](field.chunk(chunks)), METHODS[method](field), rtol=1e-12, atol=1e-13)


def test_no_computation_before_it_is_asked_for(field):
    import dask

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    lazy = field.chunk(time=100)
    with dask.config.set(scheduler=refuse):
        for method in METHODS.values():
            method(lazy)
        lazy.to_dataset().flux.annual()


def test_sums_accumulate_in_float64():
    import math

    rng = np.random.default_rng(0)
    values = (1e3 + rng.normal(size=365 * 8)).astype("float32").reshape(-1)
    da = series(values, pd.date_range("2001-01-01", periods=values.size, freq="3h"), "gC m-2")
    exact = math.fsum(float(v) for v in values)
    assert annual(da).item() == pytest.approx(exact, rel=1e-14)


def test_the_calendar_of_the_past():
    """cftime reaches where datetime64[ns] cannot; standard is Julian before 1582."""
    da = series(np.ones(24), months(1500, 2, "julian"))
    np.testing.assert_array_equal(step_days(da), month_lengths("julian", 1500, 2))
    standard = np.array([cftime.datetime(1500, m, 1, calendar="standard") for m in (1, 2, 3)])
    np.testing.assert_array_equal(step_days(series(np.ones(3), standard))[1], 29)  # 1500 was a Julian leap year


@pytest.mark.skipif(shutil.which("cdo") is None, reason="cdo is not installed")
@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize(
    ("operator", "function"),
    [
        ("monmean", to_monthly),
        ("yearmonmean", lambda da: annual(to_monthly(da))),
        ("yearmean", annual),
        ("ymonmean", lambda da: mean_seasonal_cycle(to_monthly(da))),
    ],
)
def test_equal_to_cdo(tmp_path, calendar, operator, function):
    last = "2004-12-30" if calendar == "360_day" else "2004-12-31"
    da = days("2001-01-01", last, calendar).expand_dims(lat=[0.0, 1.0], lon=[0.0, 1.0]).transpose("time", "lat", "lon")
    da["lat"].attrs["units"], da["lon"].attrs["units"] = "degrees_north", "degrees_east"
    source = to_monthly(da).drop_vars("valid_fraction") if operator in ("yearmonmean", "ymonmean") else da
    source.to_dataset(name="nee").to_netcdf(tmp_path / "in.nc")
    subprocess.run(["cdo", "-s", operator, str(tmp_path / "in.nc"), str(tmp_path / "out.nc")], check=True)
    with xr.open_dataset(tmp_path / "out.nc") as out:
        np.testing.assert_allclose(function(da).values, out.nee.values, rtol=1e-6, atol=1e-9)


def test_xarrays_options_stay_as_they_are_on_threads(field):
    before = dict(xr.get_options())
    field.chunk(time=50).flux.convert_units("gC m-2 month-1").compute(scheduler="threads")
    assert dict(xr.get_options()) == before


@pytest.mark.parametrize("chunks", [None, {"time": 20}], ids=["memory", "dask"])
def test_an_index_of_another_dim_is_one_of_the_months_too(chunks):
    coords = {"time": xr.date_range("2001-01-01", periods=59), "site": ("x", ["a", "b"])}
    da = xr.DataArray(np.ones((59, 2)), coords, ("time", "x"), attrs={"units": "gC m-2 d-1"}).set_xindex("site")
    assert to_monthly(da if chunks is None else da.chunk(chunks)).sel(site="b").values.tolist() == [1.0, 1.0]
