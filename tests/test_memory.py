"""Memory of drivers: running means and sums against days counted one by one."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux import drivers


def by_days(values, lengths, window, cyclic=False):
    """Every day on its own: the mean over the window that ends with each step; NaN where less than half is there."""
    day = np.repeat(values, lengths)
    ends = np.cumsum(lengths)
    if cyclic:
        day, ends = np.tile(day, 4), ends + 3 * len(day)
    out = []
    for end in ends:
        seen = day[max(end - window, 0) : end]
        seen = seen[np.isfinite(seen)]
        out.append(seen.mean() if len(seen) >= window / 2 else np.nan)
    return np.array(out)


@pytest.mark.parametrize("window", [1, 7, 30, 45])
@pytest.mark.parametrize("freq", ["D", "MS", "8D"])
def test_windows_count_the_days_that_lie_in_them(window, freq):
    time = xr.date_range("2003-01-01", periods=40, freq=freq)
    values = np.random.default_rng(0).normal(size=40)
    values[[5, 6, 20]] = np.nan
    lengths = {"D": np.ones(40, int), "MS": time.days_in_month.to_numpy(), "8D": np.full(40, 8)}[freq]
    da = xr.DataArray(values, {"time": time}, "time", name="TAIR", attrs={"units": "degC"})
    got = drivers.running_mean(da, window)
    np.testing.assert_allclose(got.values, by_days(values, lengths, window), rtol=1e-10)
    assert got.attrs == da.attrs and got.name == "TAIR"
    np.testing.assert_allclose(drivers.running_sum(da, window).values, got.values * window)


@pytest.mark.parametrize("window", [30, 180, 500])
def test_climatologies_begin_again_every_year(window):
    rng = np.random.default_rng(1)
    month = xr.DataArray(rng.normal(size=12), {"month": range(1, 13)}, "month")
    days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    np.testing.assert_allclose(drivers.running_mean(month, window), by_days(month.values, days, window, True))
    day = xr.DataArray(rng.normal(size=365), {"dayofyear": range(1, 366)}, "dayofyear")
    np.testing.assert_allclose(drivers.running_mean(day, window), by_days(day.values, np.ones(365, int), window, True))


@pytest.mark.parametrize("stamp", ["middle", "last day"])
def test_months_count_as_whole_months_wherever_their_stamps_are(stamp):
    start = pd.date_range("2003-01-01", periods=40, freq="MS")
    days = start.days_in_month.to_numpy()
    after = {"middle": days / 2, "last day": days - 1}[stamp]
    values = np.random.default_rng(1).normal(size=40)
    da = xr.DataArray(values, {"time": start + pd.to_timedelta(after, "D")}, "time")
    np.testing.assert_allclose(drivers.running_mean(da, 45).values, by_days(values, days, 45), rtol=1e-10)


def test_a_gap_in_the_dates_is_not_in_the_window():
    time = pd.DatetimeIndex(["2003-01-01", "2003-01-02", "2003-01-05", "2003-01-06"])
    da = xr.DataArray([1.0, 2.0, 3.0, 4.0], {"time": time}, "time")
    np.testing.assert_allclose(drivers.running_mean(da, 2).values, [1.0, 1.5, 3.0, 3.5])
    np.testing.assert_allclose(drivers.running_mean(da, 4).values, [np.nan, 1.5, 2.5, 3.5])


def test_cells_and_chunks_do_not_matter_and_nothing_is_computed():
    time = xr.date_range("2003-01-01", periods=100, freq="D")
    values = np.random.default_rng(2).normal(size=(100, 2, 3))
    da = xr.DataArray(values, {"time": time}, ("time", "lat", "lon"))
    whole = drivers.running_mean(da, 20)
    lazy = drivers.running_mean(da.chunk(time=33, lat=1), 20)
    assert lazy.chunks is not None and whole.dims == ("time", "lat", "lon")
    np.testing.assert_allclose(lazy.values, whole.values, rtol=1e-12)
    np.testing.assert_allclose(whole[:, 1, 2], by_days(values[:, 1, 2], np.ones(100, int), 20))


def test_memory_in_the_recipes():
    time = xr.date_range("2003-01-01", periods=60, freq="D")
    rain = xr.DataArray(np.arange(60.0), {"time": time}, "time", attrs={"units": "mm d-1"})
    recipe = [{"name": "PREC_30d", "formula": "running_sum(PREC, 30)", "units": "mm"}]
    made = drivers.make(xr.Dataset({"PREC": rain}), recipe)
    assert float(made.PREC_30d[-1]) == np.arange(30.0, 60).sum() and made.PREC_30d.attrs["units"] == "mm"


@pytest.mark.parametrize(("window", "message"), [(0, "must be a positive number"), (30, "needs a time, month or")])
def test_what_has_no_memory(window, message):
    with pytest.raises(ValueError, match=message):
        drivers.running_sum(xr.DataArray([1.0, 2.0], dims="month" if window == 0 else "site"), window)
