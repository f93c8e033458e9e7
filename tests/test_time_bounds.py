"""Time axes as files have them: bounds that stop short, overlap, are stale or lost, other names, undecoded numbers."""

import shutil
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux
from xflux.temporal import standardise, step_days, time_bounds
from xflux.temporal.dates import decode

COMMON = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
START = pd.date_range("2001-01-01", periods=12, freq="MS")
STOP = START + pd.offsets.MonthBegin()
DAY = pd.Timedelta("1D")


def flux(time, values=1.0, units="gC m-2 d-1"):
    data = np.broadcast_to(np.asarray(values, float), len(time)).copy()
    return xr.DataArray(data, {"time": time}, ("time",), name="nee", attrs={"units": units})


def bounded(time, start, stop, values=1.0, name="time_bnds"):
    ds = flux(time, values).to_dataset().assign({name: (("time", "bnds"), np.stack([start, stop], 1))})
    ds["time"].attrs["bounds"] = name
    return ds


def by_month(obj):
    found = obj.flux.convert_units("gC m-2 month-1")
    return (found["nee"] if isinstance(found, xr.Dataset) else found).values


SHORT = {
    "a day": (START, STOP - DAY),
    "six hours": (START, STOP - DAY / 4),
    "half an hour": (START, STOP - DAY / 48),
    "from noon to noon": (START + DAY / 2, STOP - DAY / 2),
    "three-hourly middles": (START + DAY / 16, STOP - DAY / 16),
}


@pytest.mark.parametrize("case", SHORT)
def test_bounds_that_stop_short_are_completed_with_one_warning(case):
    start, stop = SHORT[case]
    with pytest.warns(UserWarning, match="stop short of the next step") as said:
        np.testing.assert_allclose(by_month(bounded(start, start, stop)), COMMON)
    assert len(said) == 1
    with pytest.warns(UserWarning, match="stop short"):
        chosen = bounded(start, start, stop).isel(time=[5, 6, 7, 11])
        np.testing.assert_allclose(by_month(chosen), np.array(COMMON)[[5, 6, 7, 11]])
    with pytest.warns(UserWarning, match="stop short"):
        np.testing.assert_allclose(step_days(standardise(bounded(start, start, stop).isel(time=[1]))), 28)


def test_annual_means_of_months_are_years():
    year = pd.date_range("2001-01-01", periods=4, freq="YS")
    for past in (0, 15):
        low = year + past * DAY
        with pytest.warns(UserWarning, match="stop short"):
            days = step_days(standardise(bounded(low, low, low + pd.DateOffset(months=11))))
        np.testing.assert_array_equal(days, [365, 365, 365, 366])


def test_bounds_that_tile_or_leave_out_steps_are_believed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summer = bounded(START, START, STOP).isel(time=[5, 6, 7])
        np.testing.assert_allclose(by_month(summer), [30, 31, 31])
        np.testing.assert_allclose(by_month(bounded(START, START, STOP).isel(time=[0, 6])), [31, 31])
        np.testing.assert_array_equal(step_days(standardise(bounded(START, START, START))), COMMON)  # no length: none


def test_bounds_that_overlap_or_are_stale_raise():
    day = pd.date_range("2001-01-01", periods=60)
    daily = bounded(day, day, day + DAY)
    for bad, match in (
        (bounded(day, day - 4 * DAY, day + 4 * DAY), "overlap"),
        (xr.concat([bounded(START, START, STOP)] * 2, "time"), "overlap"),
        (daily.resample(time="MS").mean(), "coarsen or resample"),
        (daily.coarsen(time=5, boundary="trim").mean(), "coarsen or resample"),
        (daily.assign_coords(time=day + 400 * DAY), "do not hold their stamps"),
        (bounded(START, START, STOP).coarsen(time=3).mean(), "coarsen or resample"),
    ):
        with pytest.raises(ValueError, match=match) as error:
            bad.flux.to_monthly()
        assert "time_bnds" in str(error.value)
        if bad.sizes["time"] != 4:  # the middles of quarters are irregular
            assert np.isfinite(step_days(bad.drop_vars("time_bnds").drop_duplicates("time"))).all()  # the remedy works


def test_bounds_after_reindex_and_beside_members():
    longer = bounded(START, START, STOP).reindex(time=pd.date_range("2000-12-01", periods=14, freq="MS"))
    np.testing.assert_array_equal(step_days(standardise(longer)), [31, *COMMON, 31])
    joined = xr.concat([bounded(STOP, START, STOP)] * 2, "member", data_vars="all")
    assert joined["time_bnds"].dims[0] == "member"
    np.testing.assert_array_equal(step_days(standardise(joined)), COMMON)


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_bounds_with_holes_as_where_leaves_them(calendar):
    time = xr.date_range("2001-01-01", periods=13, freq="MS", calendar=calendar, use_cftime=calendar != "standard")
    lat, lon = np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10)
    da = xr.DataArray(np.ones((12, 18, 36)), {"time": time[:-1], "lat": lat, "lon": lon}, name="nee")
    ds = da.assign_attrs(units="gC m-2 d-1", area_basis="cell").to_dataset()
    ds["time_bnds"] = (("time", "bnds"), np.stack([time[:-1], time[1:]], axis=1))
    for name, values in (("lat", lat), ("lon", lon)):
        ds[f"{name}_bnds"] = ((name, "bnds"), np.stack([values - 5, values + 5], axis=1))
    for mask in (ds.lat > 20, (ds.lat > 20) & (ds.lon < 40), ds.nee.where(ds.lat > 20).notnull()):
        expected = da.where(mask).assign_attrs(ds.nee.attrs).flux.aggregate_regions("reccap2")
        np.testing.assert_allclose(ds.where(mask).flux.aggregate_regions("reccap2").nee, expected, rtol=1e-12)
    stale = ds.reindex(lat=np.arange(-85.0, 90, 5))
    with pytest.raises(ValueError, match=r"lat_bnds.* overlap"):
        stale.flux.aggregate_regions("reccap2")


@pytest.mark.parametrize("last", [2002, 2003, 2015])
def test_a_climatology_is_read_as_months(last):
    end = pd.date_range(f"{last}-01-01", periods=12, freq="MS")
    for stop in (end, end + pd.offsets.MonthEnd(0), end + pd.offsets.MonthBegin()):
        ds = standardise(bounded(end, START, stop, np.arange(12.0)))
        assert ds["nee"].dims == ("month",)
        np.testing.assert_array_equal(ds["nee"].sel(month=[1, 12]), [0, 11])
    windows = pd.date_range("2001-01-01", periods=12, freq="MS")
    with pytest.raises(ValueError, match="overlap"):
        standardise(bounded(windows + pd.Timedelta("180D"), windows, windows + pd.DateOffset(months=12)))
    said = flux(START)
    said["time"].attrs["climatology"] = "climatology_bnds"
    assert standardise(said).dims == ("month",)


def test_a_warning_where_bounds_are_gone_and_needed():
    gone = r"bounds are in 'time_bounds', which is not here .*: 2001-02-01 is taken for .* 2001-02-01 to 2001-03-01\."
    with pytest.warns(UserWarning, match=gone):
        by_month(bounded(STOP, START, STOP, name="time_bounds")["nee"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        middle = bounded(START + (STOP - START) / 2, START, STOP)["nee"]
        np.testing.assert_allclose(by_month(middle), COMMON)
        bounded(STOP, START, STOP)["nee"].flux.convert_units("kgC m-2 s-1")  # needs no lengths
        by_month(bounded(START, START, STOP).flux.to_monthly()["nee"])


@pytest.mark.parametrize(
    ("first", "freq", "count"),
    [
        ("01-01 01:30", "3h", 2920),
        ("01-01 12:00", "1D", 365),
        ("01-05", "8D", 46),
        ("01-04", "8D", 46),
        ("01-09", "16D", 23),
    ],
)
def test_stamps_in_the_middle_of_steps(first, freq, count):
    da = flux(pd.date_range(f"2001-{first}", periods=count, freq=freq))
    np.testing.assert_allclose(by_month(da), COMMON)


@pytest.mark.parametrize(
    ("step", "of"),
    [("1h", "15min"), ("6h", "1h"), ("1D", "6h"), ("2D", "12h"), ("4D", "1D"), ("5D", "1D"), ("6D", "3D")],
)
def test_stamps_that_are_means_of_finer_stamps(step, of):
    fine = pd.date_range("2001-01-01", periods=24 * (pd.Timedelta(step) // pd.Timedelta(of)), freq=of)
    coarse = flux(fine).coarsen(time=pd.Timedelta(step) // pd.Timedelta(of)).mean(keep_attrs=True)
    expected = pd.date_range("2001-01-01", periods=24, freq=step)
    np.testing.assert_array_equal(time_bounds(coarse)[:, 0], expected.to_numpy())


def test_weeks_begin_at_their_stamps():
    weeks = pd.date_range("2021-01-04", periods=52, freq="7D")
    np.testing.assert_array_equal(time_bounds(flux(weeks))[:, 0], weeks)


def test_a_single_step_with_bounds_is_as_long_as_they_say():
    for start, stop in (("2001-01-30", "2001-01-31"), ("2001-01-31 18:00", "2001-01-31 21:00")):
        start, stop = pd.DatetimeIndex([start]), pd.DatetimeIndex([stop])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert step_days(standardise(bounded(start, start, stop))).item() == (stop - start)[0] / DAY


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
@pytest.mark.parametrize(("freq", "every"), [("MS", 2), ("MS", 3), ("YS", 2), ("YS", 4)])
def test_months_or_years_all_of_which_but_every_nth_are_gone_have_no_known_length(calendar, freq, every):
    time = xr.date_range("2000-01-01", periods=2 * every + 1, freq=freq, calendar=calendar)
    with pytest.raises(ValueError, match="lengths are unknown"):
        flux(time.to_numpy()).isel(time=slice(None, None, every)).flux.convert_units("gC m-2")


def test_years_that_start_in_july_are_no_calendar_years():
    first = pd.date_range("2001-07-01", periods=3, freq="12MS")
    ds = bounded(first, first, first + pd.DateOffset(years=1), [1.0, 2.0, 4.0])
    with pytest.warns(UserWarning, match="2001, 2004"):
        np.testing.assert_allclose(ds.flux.annual()["nee"], [(181 + 184 * 2) / 365, (181 * 2 + 184 * 4) / 365])


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_annual_bounds_averaged_two_by_two_are_two_years(calendar):
    year = xr.date_range("2000-01-01", periods=7, freq="YS", calendar=calendar, use_cftime=calendar != "standard")
    ds = bounded(year[:6].values, year[:6].values, year[1:].values)
    with pytest.warns(UserWarning, match="stop short"):
        days = step_days(standardise(ds.coarsen(time=2).mean()))
    np.testing.assert_array_equal(
        days, {"standard": [731, 730, 731], "noleap": [730] * 3, "360_day": [720] * 3}[calendar]
    )


def test_years_a_few_days_off_are_no_climatology():
    start = pd.to_datetime(["2001-01-01", "2002-01-04"])
    ds = bounded(start, start, start[1:].append(pd.to_datetime(["2003-01-07"])))
    assert standardise(ds).sizes == {"time": 2, "bnds": 2}


def test_composites_stamped_in_their_middle_restart_each_year():
    year = pd.date_range("2001-01-05", periods=46, freq="8D")
    both = year.append(year + pd.DateOffset(years=1))
    np.testing.assert_allclose(by_month(flux(both)), COMMON * 2)


NAMES = {
    "valid_time": {"standard_name": "time"},
    "Time": {},
    "time_counter": {"axis": "T"},
    "date": {},
    "t": {"long_name": "time"},
    "record": {},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_axis_is_found_whatever_its_name(name):
    da = flux(START).rename(time=name)
    da[name].attrs = NAMES[name]
    np.testing.assert_allclose(by_month(da), COMMON)
    assert standardise(da.to_dataset())["nee"].dims == ("time",)
    beside = flux(START).rename(time=name).assign_coords(time=np.datetime64("2000-12-31", "ns"))
    assert standardise(beside).sizes == {"time": 12}
    lying = flux(START).rename(time="step").drop_vars("step").assign_coords({f"{name}": ("step", START)})
    if name != "record":
        assert standardise(lying).sizes == {"time": 12}


def test_two_axes_that_could_be_time_raise():
    both = flux(START).rename(time="valid_time").expand_dims(start=START[:2])
    with pytest.raises(ValueError, match="several dimensions could be the time"):
        standardise(both)


def test_months_beside_years_are_said_to_have_mean_lengths():
    da = xr.DataArray(np.ones((2, 12, 2, 2)), {"year": [2001, 2002], "month": range(1, 13), "lat": [-45.0, 45.0],
                      "lon": [0.0, 180.0]}, ("year", "month", "lat", "lon"),
                      attrs={"units": "gC m-2 d-1", "area_basis": "cell"})  # fmt: skip
    with pytest.warns(UserWarning, match="mean year .February 28.2425 d.*obj.stack.*'2001-01', periods=24") as said:
        da.flux.aggregate_regions("latitude-bands")
    assert len(said) == 1
    dated = da.stack(time=("year", "month")).drop_vars(["time", "year", "month"]).assign_coords(
        time=xr.date_range("2001-01", periods=24, freq="MS"))  # fmt: skip
    sums = dated.flux.aggregate_regions("latitude-bands").sum("region")
    np.testing.assert_allclose(sums, 4 * np.pi * 6371e3**2 * dated.time.dt.days_in_month / 1e15)


def test_undecoded_times():
    month = [np.datetime64(f"1661-{m:02d}-01") for m in (1, 2, 12)]
    np.testing.assert_array_equal(decode([0, 1, 11], "months since 1661-01-01").astype("M8[D]"), month)
    np.testing.assert_array_equal(decode([1661 + 1 / 12], "years since 0000-00-00").astype("M8[D]"), month[1:2])
    single = decode((300 + np.arange(24) / 12).astype("float32"), "years since 1700-01-01")
    np.testing.assert_array_equal(single, pd.date_range("2000-01-01", periods=24, freq="MS"))
    absolute = decode([20010101.0, 20010131.5], "day as %Y%m%d.%f")
    np.testing.assert_array_equal(absolute, np.array(["2001-01-01", "2001-01-31T12"], "M8[ns]"))
    assert decode([1], "months since 2001-01-01", "360_day")[0].month == 2
    for stamps in (np.arange(200101, 200113), [f"2001-{m:02d}-01" for m in range(1, 13)]):
        np.testing.assert_allclose(by_month(flux(stamps)), COMMON)
    np.testing.assert_array_equal(step_days(standardise(flux([2003, 2004]))), [365, 366])
    for values, units in (([0.0, 0.1, 0.2], "months since 2001-01-01"), (np.float32([20010101]), "day as %Y%m%d")):
        with pytest.raises(ValueError, match="date_range"):
            decode(np.asarray(values), units)


def test_what_comes_back_needs_no_bounds():
    year = flux(START).flux.annual()
    assert year.flux.convert_units("gC m-2 yr-1").item() == 365
    twice = xr.concat([year, year.assign_coords(time=year["time"] + 365 * DAY)], "time")
    np.testing.assert_allclose(twice.flux.convert_units("gC m-2 yr-1"), 365)
    month = flux(pd.date_range("2001-01-01", periods=365)).flux.to_monthly()
    for coarser in (month.resample(time="YS").mean(), month.coarsen(time=12).mean()):
        with pytest.raises(ValueError, match="put it in a Dataset with time_bnds"):
            coarser.flux.convert_units("gC m-2")


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize("dim", ["time", "inversion"])
def test_results_join_whatever_their_stamps_and_number(as_dataset, dim):
    globe = xr.DataArray(np.ones((1, 2)), {"lat": [0.0], "lon": [90.0, 270.0]}, ("lat", "lon"))
    middle = START[:1] + 15 * DAY
    parts = [bounded(START, START, STOP), bounded(middle + 365 * DAY, START[:1] + 365 * DAY, STOP[:1] + 365 * DAY)]
    parts = [part.assign(nee=(part["nee"] * globe).assign_attrs(units="gC m-2 d-1")) for part in parts]
    parts = [part.flux.aggregate_regions("latitude-bands", units="PgC month-1", area_basis="cell") for part in parts]
    parts = parts if as_dataset else [part["nee"] for part in parts]
    joined = xr.concat(parts, dim, join="outer").flux.convert_units("PgC d-1")
    joined = (joined["nee"] if as_dataset else joined).sum("region", min_count=1)
    assert joined.sizes["time"] == 13
    np.testing.assert_allclose(joined.max("inversion") if dim == "inversion" else joined, joined.max())


def test_one_step_of_a_result_is_known_until_its_axis_changes():
    month = flux(START).flux.to_monthly()
    year = flux(pd.date_range("2001-01-01", "2003-12-31")).flux.annual()
    assert month.isel(time=[1]).flux.convert_units("gC m-2").item() == 28
    assert year.sel(time="2003").flux.convert_units("gC m-2").item() == 365
    assert month[6:8].flux.convert_units("gC m-2").values.tolist() == [31, 31]
    moved = month.isel(time=[1]).assign_coords(time=START[2:3])
    assert moved.flux.convert_units("gC m-2").item() == 31
    days = month.convert_calendar("360_day", align_on="date")
    for stale in (
        month.isel(time=[1]).assign_coords(time=START[1:2] + 14 * DAY),
        month[:3].interp(time=START[:1]),
        days[:3].coarsen(time=3).mean(),
        month[:3].resample(time="YS").mean(),
    ):
        with pytest.raises(ValueError, match="put it in a Dataset with time_bnds"):
            stale.flux.convert_units("gC m-2")


def test_days_of_the_year_of_cdo_are_a_climatology():
    days = pd.date_range("2003-01-01", periods=365)
    daily = flux(days).to_dataset().assign_attrs(history="Sat Nov 28: cdo -O -f nc4 ydaymean in.nc out.nc")
    assert daily.flux.convert_units("gC m-2")["nee"].dims == ("dayofyear",)
    for other in (daily.assign_attrs(history="cdo sub in.nc -ydaymean in.nc out.nc"), daily.isel(time=slice(90))):
        assert other.flux.convert_units("gC m-2")["nee"].dims == ("time",)


@pytest.mark.parametrize("day", [0, 14, 30])
def test_one_mean_of_the_months_of_years(day):
    first, last = pd.Timestamp("2001-01-01") + day * DAY, pd.Timestamp("2002-12-01") + day * DAY
    ds = bounded([first + (last - first) / 2], [first], [last])
    with pytest.warns(UserWarning, match="stop short"):
        assert ds.flux.convert_units("gC m-2")["nee"].item() == 730


def test_data_by_year_say_how_years_become_a_time():
    years = xr.DataArray(np.ones(3), {"year": [2001, 2002, 2003]}, "year", attrs={"units": "gC m-2 d-1"}, name="nee")
    for call in (
        lambda x: x.flux.annual(),
        lambda x: x.flux.annual_anomalies(),
        lambda x: x.flux.convert_units("gC m-2"),
    ):
        for obj in (years, years.to_dataset()):
            with pytest.raises(ValueError, match=r"rename\(year='time'\)"):
                call(obj)
        call(years.rename(year="time"))


def test_years_with_gaps_are_no_anomalies():
    whole = flux(pd.date_range("2001-01-01", periods=36, freq="MS"), units="PgC d-1").flux.convert_units("PgC month-1")
    share = xr.ones_like(whole).drop_attrs()
    share[16] = 0.3
    with pytest.warns(UserWarning, match="in 2002 more is missing"):
        lacking = whole.assign_coords(valid_fraction=share * 0.8).flux.annual_anomalies(detrend=False)
    np.testing.assert_array_equal(lacking.isnull(), [False, True, False])
    assert lacking.attrs["detrended"] == 0
    always = whole.assign_coords(valid_fraction=share.where(False, 0.8)).flux.annual_anomalies(detrend=False)
    np.testing.assert_allclose(always, 0, atol=1e-12)


def test_an_ensemble_of_products_stamped_and_dated_differently():
    middle = START + (STOP - START) / 2
    noleap = xr.date_range("2001-01-15", periods=1, calendar="noleap", use_cftime=True)[0]
    own = [noleap.replace(month=m) for m in range(1, 13)]
    parts = {
        "A": flux(START, 1),
        "B": bounded(middle, START, STOP, 2),
        "C": bounded(STOP, START, STOP, 3),
        "D": flux(own, 4),
    }
    parts["A"].encoding = {"dtype": "int16", "scale_factor": 0.01}
    joined = xflux.ensemble(parts)
    assert not joined.encoding  # of a packed file: it would cut the values of the others
    np.testing.assert_array_equal(joined["time"], START)
    np.testing.assert_array_equal(joined.sel(time="2001-05-01"), [1, 2, 3, 4])
    assert joined.dims == ("inversion", "time") and joined.attrs["units"] == "gC m-2 d-1"
    assert xflux.ensemble({name: parts[name].chunk() for name in "AB"}).chunks is not None
    with pytest.warns(UserWarning, match=r"NaN in B 2 of 12 \(2001-01-01 … 2001-02-01\)"):
        assert xflux.ensemble({"A": parts["A"], "B": parts["A"][2:]}).isnull().sum() == 2
    for other, match in (
        (parts["A"].assign_attrs(units="kgC m-2 s-1"), "convert one"),
        (parts["A"].flux.annual(), "different steps"),
        (parts["A"].expand_dims(inversion=2), "has the dims"),
    ):
        with pytest.raises(ValueError, match=match):
            xflux.ensemble({"A": parts["A"], "B": other})
    gridded = parts["A"].expand_dims(lat=[-45.0, 45.0], lon=[0.0, 180.0])
    of_nemo = gridded.rename(time="time_counter", lat="nav_lat", lon="nav_lon")
    np.testing.assert_array_equal(*xflux.ensemble({"A": gridded, "B": of_nemo}))


OPERATIONS = {
    "sel": lambda ds: ds.sel(time=slice("2001-02-01", None)),
    "where": lambda ds: (
        ds.where(ds["time"] > ds["time"][0])
        if "time_bnds" not in ds
        else ds.assign(nee=ds["nee"].where(ds["time"] > ds["time"][0]))
    ),
    "astype": lambda ds: ds.assign(nee=ds["nee"].astype("float32").assign_attrs(ds["nee"].attrs)),
    "copy": lambda ds: ds.copy(deep=True),
    "coarsen": lambda ds: ds.coarsen(time=2, boundary="trim").mean(keep_attrs=True),
    "resample": lambda ds: ds.resample(time="MS").mean(keep_attrs=True),
    "interp": lambda ds: ds.interp(time=ds["time"][1:-1] + np.timedelta64(1, "D")),
    "concat": lambda ds: xr.concat([ds.isel(time=slice(0, 3)), ds.isel(time=slice(3, None))], "time"),
    "twice": lambda ds: xr.concat([ds, ds], "time"),
    "arithmetic": lambda ds: ds.assign(nee=(ds["nee"] * 1).assign_attrs(ds["nee"].attrs)),
}


@given(
    st.sampled_from(["days", "months"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_chains_of_operations_give_the_right_amount_or_an_error(kind, with_bounds, lazy, chain):
    """A constant flux of 1 a day: the amount of a month is its length, times the share of its time that is valid."""
    time = pd.date_range("2001-01-01", "2001-12-31") if kind == "days" else START
    stop = time + DAY if kind == "days" else STOP
    ds = bounded(time, time, stop) if with_bounds else flux(time).to_dataset()
    ds = ds.chunk(time=70) if lazy else ds
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            for name in chain:
                ds = OPERATIONS[name](ds)
        except Exception:  # xarray's own refusal
            return
        try:
            months = ds.flux.convert_units("gC m-2 month-1")["nee"]
        except ValueError:
            return
    if said:
        return
    share = months.coords.get("nee_valid_fraction", months.coords.get("valid_fraction", xr.ones_like(months)))
    length = months["time"].dt.days_in_month
    expected = (length * share).where(months.notnull())
    np.testing.assert_allclose(months, expected, rtol=1e-5)
    inside = share.where(months.notnull())[1:-1]
    if not {"where", "interp"} & set(chain):
        np.testing.assert_allclose(inside.dropna("time"), 1, rtol=1e-5)


@pytest.mark.skipif(shutil.which("cdo") is None, reason="cdo is not installed")
@pytest.mark.parametrize(
    ("operator", "freq", "days"),
    [
        ("timmean", "3h end", [365]),
        ("monmean", "3h end", [*COMMON, 0.125]),
        ("yearmean -selmon,6,7,8", "1D", [92]),
        ("yearmean -selmon,6,7,8", "ME", [92]),
        ("monmean", "1D", COMMON),
        ("monsum", "1D", COMMON),
        ("monmean", "6h", COMMON),
        ("daymean", "6h", [1] * 365),
        ("yearmonmean", "MS", [365]),
        ("seasmean", "MS", [59, 92, 92, 91, 31]),
        ("ymonmean", "1D", COMMON),
        ("timmean", "1D", [365]),
    ],
)
def test_files_of_cdo(tmp_path, operator, freq, days):
    freq, end = freq.partition(" ")[::2]
    time = pd.date_range("2001-01-01", "2001-12-31 23:00", freq=freq) + pd.Timedelta(freq if end else 0)
    space = {
        "lat": ("lat", [-45.0, 45.0], {"units": "degrees_north"}),
        "lon": ("lon", [0.0, 180.0], {"units": "degrees_east"}),
    }
    flux(time).expand_dims(lat=2, lon=2).assign_coords(space).transpose("time", ...).to_netcdf(tmp_path / "in.nc")
    subprocess.run(
        ["cdo", "-s", *operator.split(), tmp_path / "in.nc", tmp_path / "out.nc"], check=True, capture_output=True
    )
    with xr.open_dataset(tmp_path / "out.nc") as ds, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        np.testing.assert_array_equal(step_days(standardise(ds)), days)


@pytest.mark.parametrize("hour", [0, 12])
def test_composites_that_restart_each_year_at_any_hour_and_their_coarser_means(hour):
    time = pd.date_range("2003-01-01", "2006-01-01")
    start = time[time.day_of_year % 8 == 1]
    lengths = np.diff(start) / DAY
    da = flux(start[:-1] + pd.Timedelta(hours=hour))
    np.testing.assert_array_equal(step_days(da), lengths)
    assert (time_bounds(da)[:, 0].values == start[:-1].values).all()
    with pytest.raises(ValueError, match="cover 8 d of steps that are"):  # their bounds were averaged
        bounded(start[:-1], start[:-1], start[1:]).coarsen(time=2).mean().flux.convert_units("gC m-2")


def test_coarser_months_of_30_days_are_told_from_single_ones_or_there_is_a_word():
    time = xr.date_range("2001-01-01", periods=25, freq="MS", calendar="360_day")
    ds = bounded(time[:24], time[:24], time[1:])
    with pytest.raises(ValueError, match="cover 30 d of steps that are 120 d apart"):
        ds.coarsen(time=4).mean().flux.annual()
    with pytest.warns(UserWarning, match="1 month long and 3 apart, from 2001-02-01") as said:
        ds.coarsen(time=3).mean().flux.convert_units("gC m-2")
    assert len(said) == 1
    year = xr.date_range("2001-01-01", periods=7, freq="YS", calendar="noleap")
    with pytest.warns(UserWarning, match="12 months long and 36 apart"):
        bounded(year[:6], year[:6], year[1:]).coarsen(time=3).mean().flux.convert_units("gC m-2")
    for known in (ds, ds.isel(time=ds["time"].dt.month.isin([6, 7, 8]))):
        assert known.flux.convert_units("gC m-2")["nee"].max() == 30


def test_stamps_that_fit_the_first_day_of_some_and_their_middle_are_told():
    days = pd.date_range("2001-01-01", "2004-12-31")
    pentads = flux(days).coarsen(time=5, boundary="trim").mean()
    for cut in (slice("2001-03-01", "2001-09-01"), slice("2002-02-01", "2003")):
        with pytest.warns(UserWarning, match="each is taken to begin at its stamp") as said:
            pentads.sel(time=cut).flux.to_monthly()
        assert len(said) == 1
    restarting = [day for day in days if day.dayofyear % 8 == 1]
    other = pd.date_range("2001-03-15", periods=40, freq="5D"), pd.date_range("2001-03-15", periods=40, freq="W")
    for known in (flux(restarting).sel(time=slice("2002-05", "2003-03")), flux(days[200:]), *map(flux, other), pentads):
        known.flux.to_monthly()


@pytest.mark.parametrize("kind", [xr.DataArray.copy, xr.DataArray.to_dataset])
@pytest.mark.parametrize(("month", "hours"), [(2, 0), (7, 372), (12, 0)])
def test_one_month_a_year_is_scored_and_joined_as_it_is_without_a_word(month, hours, kind):
    stamps = pd.date_range("2001-01-01", periods=48, freq="MS")
    stamps = stamps[stamps.month == month] + pd.Timedelta(hours=hours)
    a, b = (kind(flux(stamps, np.arange(4.0) + i)) for i in (0, 2))
    assert a.flux.score(b)["bias"] == -2
    joined = xflux.ensemble({"a": a, "b": b})
    assert (joined["time"].values == stamps.values).all() and set(joined.coords) == {"time", "inversion"}
    with pytest.warns(UserWarning, match="one stamp a year") as said:
        joined.flux.annual()
    assert len(said) == 1


@pytest.mark.parametrize(
    "stamps",
    [
        pd.date_range("2001", periods=4, freq="YS"),
        pd.date_range("2001", periods=4, freq="YE"),
        pd.date_range("2001-07-02 12:00", periods=4, freq="8766h"),
        flux(pd.date_range("2001", periods=48, freq="MS")).coarsen(time=12).mean()["time"].values,
        flux(pd.date_range("2001", periods=48, freq="ME")).coarsen(time=12).mean()["time"].values,
    ],
)
def test_years_where_years_are_stamped_are_years_without_a_word(stamps):
    np.testing.assert_allclose(flux(stamps).flux.convert_units("gC m-2"), [365, 365, 365, 366])


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_what_comes_back_is_written_without_a_warning(tmp_path, calendar):
    time = xr.date_range("2001-01-01", periods=60, calendar=calendar, use_cftime=calendar != "standard")
    monthly = bounded(time[:59].values, time[:59].values, time[1:].values).flux.to_monthly()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monthly.to_netcdf(tmp_path / "flux.nc")
        with xr.open_dataset(tmp_path / "flux.nc") as again:
            np.testing.assert_array_equal(again["time"], monthly["time"])
            np.testing.assert_array_equal(step_days(standardise(again)), [31, 28])


@pytest.mark.parametrize("months", [[7], [1, 7], [2, 3, 9]])
def test_months_that_cdo_picked_out_of_every_year_are_no_years(months):
    time = pd.date_range("2001-01-01", periods=48, freq="MS") + pd.Timedelta("14D")
    ds = flux(time).to_dataset().sel(time=time.month.isin(months))
    said = ds.assign_attrs(history=f"Sun: cdo -O -selmon,{','.join(map(str, months))} in.nc out.nc\nSat: made")
    np.testing.assert_array_equal(step_days(standardise(said)), ds.time.dt.days_in_month)
    daily = flux(pd.date_range("2001-07-01", periods=31)).to_dataset().assign_attrs(said.attrs)
    np.testing.assert_array_equal(step_days(standardise(daily)), 1)


def test_one_month_a_year_whose_bounds_are_gone_is_told():
    da = flux(pd.date_range("2001-07-16", periods=3, freq="12MS") + pd.Timedelta("15D"))
    da["time"].attrs["bounds"] = "time_bnds"
    with pytest.warns(UserWarning, match="2001-08-16 is taken for the step from 2001-01-01 to 2002-01-01"):
        standardise(da)


@pytest.mark.parametrize(("month", "told"), [(1, 0), (3, 1), (7, 1), (9, 1), (12, 1)])
def test_one_stamp_a_year_where_no_year_is_stamped_is_told_once(month, told):
    da = flux(pd.date_range(f"2001-{month:02d}-01", periods=3, freq="12MS")).assign_attrs(units="gC m-2 d-1")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        amounts = da.flux.convert_units("gC m-2 yr-1")
    np.testing.assert_allclose(amounts, da * 365)
    assert ["time has one stamp a year, from 2001" in str(w.message) for w in said] == [True] * told


@pytest.mark.parametrize("stamp", [0, 15])
def test_bounds_of_months_that_were_averaged_to_years_are_none(stamp):
    time = pd.date_range("2001-01-01", periods=37, freq="MS")
    ds = bounded(time[:-1] + pd.Timedelta(days=stamp), time[:-1], time[1:])
    with pytest.raises(ValueError, match=r"cover 30\.4167 d of steps that are 365 d apart, as they do after coarsen"):
        standardise(ds.coarsen(time=12).mean())


@pytest.mark.parametrize(
    ("operator", "what"), [("yearsum", "92 days"), ("seassum", "92 days"), ("ymonsum", "years"), ("ydaysum", "years")]
)
def test_sums_of_which_only_the_history_tells(operator, what):
    time = pd.date_range("2001-01-01", periods=4, freq="3MS")
    ds = flux(time) if what == "92 days" else flux(START)
    ds = bounded(time, time, time + pd.DateOffset(months=3)) if what == "92 days" else ds.to_dataset()
    said = ds.assign_attrs(history=f"Sat Nov 28 2026: cdo -O {operator} in.nc out.nc\nFri: cdo monmean a b")
    for convert in (lambda ds: ds.flux.convert_units("gC m-2"), lambda ds: ds.flux.annual(complete=False)):
        with pytest.raises(ValueError, match=f"summed over .*{what} .* history"):
            convert(said)
        convert(said.assign_attrs(history=f"Sat: cdo divc,3 in.nc out.nc\n{said.history}"))


def test_rates_that_were_added_up_are_refused():
    """As ``cdo monsum`` writes them; a sum over the unit's own time is a rate."""
    by_months = bounded(START, START, STOP)
    by_months["nee"].attrs["cell_methods"] = "area: mean time: sum"
    for integral in (lambda ds: ds.flux.to_monthly(), lambda ds: ds.flux.annual(), by_month):
        with pytest.raises(ValueError, match=r"summed over steps of 31 days .* monsum"):
            integral(by_months)
    for units in ("gC m-2", "gC m-2 month-1"):
        of_months = by_months.assign(nee=by_months["nee"].assign_attrs(units=units))
        np.testing.assert_allclose(by_month(of_months), 1.0)
        rate = of_months.flux.convert_units("gC m-2 d-1")
        assert rate["nee"].attrs["cell_methods"] == "area: mean"
        np.testing.assert_allclose(by_month(rate), 1.0)
    daily = flux(pd.date_range("2001-01-01", periods=365)).assign_attrs(cell_methods="time: sum")
    np.testing.assert_allclose(by_month(daily.flux.to_monthly()), COMMON)


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "all_leap", "julian", "standard"])
def test_integrals_of_other_calendars_join_and_keep_their_months(calendar):
    """Dates of the real calendar join by plain ``xr.concat``; the months are still as long as in the data's own."""
    time = xr.date_range("2003-01-01", periods=36, freq="MS", calendar=calendar, use_cftime=True)
    globe = {"lat": [0.0], "lon": [90.0, 270.0]}
    values = np.random.default_rng(0).normal(size=(36, 1, 2))
    attrs = {"units": "gC m-2 d-1", "area_basis": "cell"}
    own = xr.DataArray(values, {"time": time} | globe, ("time", *globe), "nee", attrs)
    real = own.assign_coords(time=pd.date_range("2003-01-01", periods=36, freq="MS"))
    days = {"360_day": [30] * 36}.get(calendar, [t.daysinmonth for t in time])

    amount, rate, other = (
        x.flux.aggregate_regions("latitude-bands", units=units)
        for x, units in ((own, "PgC month-1"), (own, "PgC d-1"), (real, "PgC month-1"))
    )
    for lengths in (amount / rate, rate.flux.convert_units("PgC month-1") / rate):
        np.testing.assert_allclose(lengths.transpose("time", ...).max("region"), days)
    year = np.array(days).reshape(3, 12, 1)
    np.testing.assert_allclose(rate.flux.annual(), (rate.values.reshape(3, 12, -1) * year).sum(1) / year.sum(1))
    per_year = {"noleap": 365, "360_day": 360, "all_leap": 366, "julian": 365.25, "standard": 365.2425}[calendar]
    np.testing.assert_allclose(amount.flux.convert_units("PgC yr-1") / rate, per_year)

    joined = xr.concat([amount, other], "inversion")
    assert joined.sizes["time"] == 36
    np.testing.assert_allclose(joined.isel(inversion=0).flux.annual(), amount.flux.annual())
    for one, part in zip(joined.flux.convert_units("PgC d-1"), (amount, other), strict=True):
        np.testing.assert_allclose(one, part.flux.convert_units("PgC d-1"))
    assert rate.flux.score(rate.assign_coords(time=time).drop_vars("step_months"))["rmse"].max() == 0


DAILY = {  # days of 2003 to 2005 that have a date in the real calendar
    calendar: xr.date_range("2003-01-01", "2005-12-31", calendar=calendar, use_cftime=True)
    for calendar in ("noleap", "standard", "julian")
}
DAILY["datetime64"] = pd.date_range("2003-01-01", "2005-12-31")


def by_region(time, values=None, units="PgC d-1", seed=0):
    """Integrals of two hemispheres from daily, or other, values on two cells."""
    values = np.random.default_rng(seed).normal(size=(len(time), 2, 1)) if values is None else values
    coords = {"time": time, "lat": [-45.0, 45.0], "lon": [0.0]}
    da = xr.DataArray(values, coords, tuple(coords), "nee", {"units": "gC m-2 d-1", "area_basis": "cell"})
    mask = (da["lat"] > 0).astype(int) * xr.ones_like(da["lon"], int)
    return da.flux.aggregate_regions(mask.rename(None), units=units)


def starts(time, length):
    """Which days begin a step, of that many days from 1 January."""
    return (xr.DataArray(time, dims="time").dt.dayofyear.values - 1) % length == 0


@pytest.mark.parametrize(
    ("calendar", "first"), [("360_day", "2003"), ("all_leap", "2004"), ("julian", "1900-02"), ("standard", "1582-10")]
)
def test_days_without_a_date_in_the_real_calendar_stay_in_theirs(calendar, first):
    time = xr.date_range(first, periods=60, calendar=calendar, use_cftime=True)
    values = np.arange(120.0).reshape(60, 2, 1)
    found = by_region(time, values)
    assert (found["time"].values == time.values).all()
    np.testing.assert_allclose(found.flux.to_monthly()[0], found[[t.month == time[0].month for t in time]].mean("time"))


def test_the_calendar_of_joined_days_outlives_what_xarray_does(tmp_path):
    joined, parts = joined_days("concat")
    joined.to_netcdf(tmp_path / "joined.nc")
    yearly = joined.flux.annual()
    with xr.open_dataarray(tmp_path / "joined.nc") as read:
        np.testing.assert_allclose(read.flux.annual(), yearly)
    np.testing.assert_allclose((2 * joined).chunk(time=100).flux.annual(), 2 * yearly)
    with pytest.raises(ValueError, match="count as in noleap, which has no 2004-02-29, but there are values"):
        joined.ffill("time").flux.annual()
    mistaken = joined.sel(model="datetime64").assign_coords(calendar=1)  # as where one without it was joined
    with pytest.raises(ValueError, match="which has no 2004-02-29"):
        xflux.regional_budget(mistaken)
    np.testing.assert_allclose(
        joined.sel(time=slice("2004-03-01", "2005")).flux.annual(complete=False)[:, 1], yearly[:, 2]
    )
    one = parts["noleap"].reindex(time=parts["datetime64"]["time"])
    np.testing.assert_allclose(one.flux.annual(), yearly.sel(model="noleap"))
    days = {name: [365, 365 if name == "noleap" else 366, 365] for name in parts}
    amounts = joined.resample(time="YS").mean().flux.convert_units("PgC")
    for name, part in parts.items():
        expected = part.resample(time="YS").mean() * np.array(days[name])[:, None]
        np.testing.assert_allclose(amounts.sel(model=name), expected)
    assert not {"calendar", "step_days"} & set(joined.flux.to_dataframe())
    coarse = parts["datetime64"].coarsen(time=4).mean()
    np.testing.assert_allclose(coarse.flux.convert_units("PgC"), 4 * coarse)
    fine = parts["noleap"].interp(time=pd.date_range("2003-01-01", periods=9, freq="6h"))
    np.testing.assert_allclose(fine.flux.convert_units("PgC"), fine / 4)
    for freq in ("8D", "MS", "YS"):  # on another axis, or every eighth day: nothing tells which
        other = parts["noleap"][:30].assign_coords(time=pd.date_range("1901", periods=30, freq=freq))
        with pytest.raises(ValueError, match="says that steps last 1 d, but all are"):
            other.flux.convert_units("PgC")
        assert other.drop_vars("step_days").flux.convert_units("PgC").notnull().all()
    picked = parts["noleap"].isel(time=[4, 7, 400])
    np.testing.assert_allclose(picked.flux.convert_units("PgC"), picked)
    with pytest.raises(ValueError, match="no dates in common"):
        xflux.ensemble({"a": picked, "b": by_region(xr.date_range("2003", periods=9, calendar="360_day"))})


@pytest.mark.parametrize("hour", [0, 12, 24])
def test_days_are_on_one_axis_whatever_their_stamps(hour):
    day = pd.date_range("2003-12-01", periods=100)
    globe = xr.DataArray(
        np.ones((100, 2, 1)), {"time": day, "lat": [-45.0, 45.0], "lon": [0.0]}, ("time", "lat", "lon")
    )
    ds = globe.assign_attrs(units="gC m-2 d-1", area_basis="cell").to_dataset(name="nee")
    ds = ds.assign_coords(time=day + pd.Timedelta(hours=hour))
    bounds = ds.assign(time_bnds=(("time", "bnds"), np.stack([day, day + DAY], axis=1)))
    mask = xr.DataArray([[0], [1]], {"lat": ds["lat"], "lon": ds["lon"]}, ("lat", "lon"))
    for stamped in [bounds, ds][: 1 + (hour < 24)]:
        found = stamped.flux.aggregate_regions(mask, units="PgC")
        assert (found["time"].values == day.values).all()


def joined_days(kind, length=1):
    """Joined integrals of all calendars, and the parts, whose steps of some days begin anew each year."""
    parts = {}
    for name, time in DAILY.items():
        parts[name] = by_region(time[starts(time, length)], seed=len(name))
    whole = xr.concat(parts.values(), xr.Variable("model", list(parts)), join="outer")
    return whole if kind == "concat" else xflux.ensemble(parts, "model"), parts


@pytest.mark.parametrize(("kind", "length"), [("concat", 1), ("concat", 8), ("ensemble", 1)])
@pytest.mark.filterwarnings("ignore:steps that others have")
def test_days_of_other_calendars_join_and_every_year_is_what_it_was(kind, length):
    joined, parts = joined_days(kind, length)
    assert joined["time"].dtype.kind == "M" and (length > 1 or joined.sizes["time"] == 1096)
    yearly, budget = joined.flux.annual(), xflux.regional_budget(joined)
    months, amounts = joined.flux.convert_units("PgC month-1"), joined.flux.convert_units("PgC")
    assert budget["n_members"].min() == len(parts) and budget["n_years"] == 3
    for name, part in parts.items():
        start, days = DAILY[name].year, starts(DAILY[name], length)
        lengths = np.diff(np.append(np.flatnonzero(days), days.size))  # the last of the year is cut short
        for i, year in enumerate((2003, 2004, 2005)):
            own = start[days] == year
            mean = (part.values[own] * lengths[own, None]).sum(0) / lengths[own].sum()
            np.testing.assert_allclose(yearly.sel(model=name)[i], mean)
            total = amounts.sel(model=name, time=str(year)).sum("time")
            np.testing.assert_allclose(total, (part.values[own] * lengths[own, None]).sum(0))
            np.testing.assert_allclose(months.sel(model=name, time=str(year)).sum("time"), total)
        np.testing.assert_allclose(joined.sel(model=name).flux.annual(), part.flux.annual())
    assert float(months["valid_fraction"].min()) == 1.0 and float(yearly["valid_fraction"].min()) == 1.0
