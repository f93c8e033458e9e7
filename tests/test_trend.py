"""Trends of annual values: slopes, intervals and p-values against known answers."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from xflux import temporal


def monthly(yearly, units="PgC month-1", start="2001-01", **dims):
    """Monthly amounts whose years sum to ``yearly``."""
    time = xr.date_range(start, periods=12 * len(yearly), freq="MS")
    return xr.DataArray(np.repeat(np.asarray(yearly, float) / 12, 12), {"time": time}, "time", "nbe", {"units": units})


@pytest.mark.parametrize("method", ["theil-sen", "least-squares", "ar1"])
def test_an_exact_line(method):
    found = temporal.trend(monthly(2.0 - 0.5 * np.arange(8)), method)
    np.testing.assert_allclose([found[n].item() for n in ("slope", "low", "high")], -0.5, atol=1e-9)
    assert found["slope"].attrs["units"] == "PgC yr-1 yr-1" and found["n_years"] == 8 and found["p_value"] < 1e-3


def test_least_squares_and_ar1_by_hand():
    x, y = np.arange(12.0), 0.1 * np.arange(12) + np.sin(np.arange(12.0))
    plain, ar1 = (temporal.trend(monthly(y), m, level=0.9) for m in ("least-squares", "ar1"))
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - slope * x - intercept
    error = np.sqrt((rest**2).sum() / 10 / ((x - x.mean()) ** 2).sum())
    np.testing.assert_allclose(plain["slope"], slope)
    np.testing.assert_allclose(plain["high"] - slope, stats.t.ppf(0.95, 10) * error)
    r = (rest[1:] * rest[:-1]).sum() / (rest**2).sum()
    worth = 12 * (1 - r) / (1 + r)
    assert 0 < r and ar1["slope"] == plain["slope"] and ar1["p_value"] > plain["p_value"]
    widened = stats.t.ppf(0.95, worth - 2) * np.sqrt((rest**2).sum() / (worth - 2) / ((x - x.mean()) ** 2).sum())
    np.testing.assert_allclose(ar1["high"] - slope, widened)


def test_theil_sen_is_not_moved_by_one_year():
    y = 0.1 * np.arange(11)
    y[5] = 100.0
    found = temporal.trend(monthly(y))
    assert found["slope"].item() == pytest.approx(0.1) and found["low"] <= found["slope"] <= found["high"]
    assert found["p_value"].item() == pytest.approx(stats.kendalltau(np.arange(11), y).pvalue)


def test_dims_lazy_gaps_and_years_in_part():
    da = monthly(np.arange(6.0)).isel(time=slice(6, None)) * xr.DataArray([1.0, 2.0, np.nan], dims="region")
    da = da.assign_attrs(units="PgC month-1")
    eager, lazy = temporal.trend(da), temporal.trend(da.chunk(time=5, region=1))
    assert lazy["slope"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), eager)
    np.testing.assert_allclose(eager["slope"], [1, 2, np.nan])
    assert eager["n_years"].values.tolist() == [5, 5, 0]  # 2001 is no whole year
    gap = da.where((da.time.dt.year != 2003) | (da.time.dt.month != 5))
    assert temporal.trend(gap)["n_years"].values.tolist() == [4, 4, 0]
    few = temporal.trend(da.isel(time=slice(0, 30)))
    assert few["n_years"].max() == 2 and few["slope"].isnull().all()


def test_a_dataset_has_one_flux_and_refusals_say_what_is_expected():
    da = monthly(np.arange(6.0))
    assert da.to_dataset().flux.trend()["slope"].item() == pytest.approx(1)
    for given, options, said in [
        (da, {"method": "mk"}, "method 'mk' is unknown; expected one of theil-sen, least-squares, ar1"),
        (da, {"level": 95}, "level=95: expected a share"),
        (da.isel(time=0, drop=True), {}, "a trend needs the dimension 'time'"),
        (xr.Dataset({"nee": da, "gpp": da}), {}, r"has \['nee', 'gpp'\]: give one of them"),
    ]:
        with pytest.raises(ValueError, match=said):
            temporal.trend(given, **options)
