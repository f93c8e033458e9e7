"""Towers' own weather through the recipes, months of towers, land cover as drivers."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux import drivers
from xflux.towers import read_towers, to_months

MONTHS = np.arange(1.0, 13)


def base():
    """A grid of two cells whose base variables are the number of the month, times something."""
    axes = {"month": range(1, 13), "lat": [0.0], "lon": [0.0, 10.0]}
    field = xr.DataArray(np.stack([MONTHS, MONTHS * 10], -1)[:, None], axes, ("month", "lat", "lon"))
    return xr.Dataset({
        "TAIR": field.assign_attrs(units="degC"),
        "PREC": (field * 30).assign_attrs(units="mm month-1"),
        "RG": (field * 10).assign_attrs(units="W m-2"),
        "NDVI": (field / 200).assign_attrs(units="1"),
    })  # fmt: skip


def towers(days=730, start="2003-01-01", step="day", **variables):
    time = pd.date_range(start, periods=days, freq="D" if step == "day" else "MS")
    coords = {"site": ["A"] * days, "lat": [0.0] * days, "lon": [0.1] * days, "igbp": ["ENF"] * days}
    data = {"nee": ("sample", np.arange(float(days)), {"units": "gC m-2 d-1"})} | variables
    return xr.Dataset(
        data, {k: ("sample", v) for k, v in coords.items()} | {"time": ("sample", time)}, {"time_step": step}
    )


def of_towers(values, units="degC"):
    return ("sample", np.asarray(values, float), {"units": units})


RECIPES = [
    {"name": "T_30d", "formula": "running_mean(TAIR, 30)"},
    {"name": "P_60d", "formula": "running_sum(PREC, 60)"},
    {"name": "T_range", "formula": "amplitude(msc(TAIR))"},
    {"name": "T_min", "formula": "min(TAIR)"},
    {"name": "T_cycle", "formula": "msc(TAIR)", "period": ["1990", "1995"]},
]


def test_the_towers_own_series_goes_through_the_recipes():
    own = np.random.default_rng(0).normal(10, 5, 731)
    at = drivers.at_towers(towers(731, Ta=of_towers(own + 273.15, "K")), base(), {"TAIR": "Ta"}, recipes=RECIPES)
    np.testing.assert_allclose(at.Tair, own)
    # the window reaches into December of the cell, which is 12 degC
    before = np.r_[np.full(31, 12.0), own]
    np.testing.assert_allclose(at.T_30d, [before[i + 2 : i + 32].mean() for i in range(731)])
    # 2004 has a 366th day, which counts among the 365th
    day = np.minimum(pd.DatetimeIndex(at.time.values).dayofyear, 365)
    by_day = pd.Series(own).groupby(day).mean()
    np.testing.assert_allclose(at.T_cycle, by_day[day])
    np.testing.assert_allclose(at.T_range, by_day.max() - by_day.min())
    np.testing.assert_allclose(at.T_min, own.min())
    assert at.attrs["TAIR_from_cell"] == 0 and at.Tair.attrs["units"] == "degC" and float(at.cell_distance[0]) < 12
    assert set(drivers.table_a2(base()).data_vars) <= set(at.data_vars)


def test_gaps_take_the_cells_value_and_are_counted():
    own = np.where(np.arange(730) % 10 == 0, np.nan, -5.0)
    at = drivers.at_towers(towers(Tair=of_towers(own)), base(), {"TAIR": "Tair"}, recipes=RECIPES)
    month = pd.DatetimeIndex(at.time.values).month
    np.testing.assert_allclose(at.Tair, np.where(np.isnan(own), month, -5.0))
    assert at.attrs["TAIR_from_cell"] == pytest.approx(0.1) and "Tair_tower" in at
    # rain is the cell's, by months: 30 mm times the number of the month, spread over its days; up to January's end
    np.testing.assert_allclose(at.P_60d[:31], 30 + 29 * 12 * 30 / 31)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
@pytest.mark.parametrize("step", ["day", "month"])
def test_a_grid_of_another_calendar_fills_by_date(calendar, step):
    """As colocation: 29 February takes the 28th, a 31st the 30th; rain of the grid goes through recipes too."""
    time = xr.date_range("2003-01-01", "2005-12-30", freq="D", calendar=calendar, use_cftime=True)
    number = np.random.default_rng(3).normal(size=(len(time), 1, 1))
    field = xr.DataArray(number, {"time": time, "lat": [0.0], "lon": [0.0]}, ("time", "lat", "lon"))
    grid = xr.Dataset({"TAIR": field.assign_attrs(units="degC"), "PREC": field.assign_attrs(units="mm d-1")})
    last = {"noleap": pd.Series([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]), "360_day": pd.Series([30] * 12)}
    cell = {(t.year, t.month, t.day): v for t, v in zip(time, number.ravel(), strict=True)}
    size = {"day": 600, "month": 20}[step]
    table = towers(size, "2004-01-01", step, Ta=of_towers([np.nan] * size))
    if step == "month":
        grid = grid.resample(time="MS").mean(keep_attrs=True)
        cell = {(t.year, t.month, 1): v for t, v in zip(grid.time.values, grid.TAIR.values.ravel(), strict=True)}
    recipe = [{"name": "D", "formula": "TAIR + PREC"}]
    at = drivers.at_towers(table, grid, {"TAIR": "Ta"}, recipes=recipe)
    days = pd.DatetimeIndex(table.time.values)
    expected = [2 * cell[t.year, t.month, min(t.day, last[calendar][t.month - 1])] for t in days]
    np.testing.assert_allclose(at.D, expected)


def test_months_and_amounts_without_a_word_of_them():
    """A table without ``time_step`` whose stamps are all on the 1st is one of months; amounts are those of the step."""
    table = towers(24, step="month", P=of_towers(np.arange(24.0), "mm month-1"))
    del table.attrs["time_step"]
    at = drivers.at_towers(table, base(), {"PREC": "P"}, recipes=[{"name": "D", "formula": "PREC"}])
    np.testing.assert_allclose(at.D, np.arange(24.0) / pd.DatetimeIndex(table.time.values).days_in_month)
    table.P.attrs["units"] = "mm"
    with pytest.warns(UserWarning, match="'P' is in 'mm' without a time, on steps longer than a day"):
        drivers.at_towers(table, base(), {"PREC": "P"})


def test_what_is_no_series_of_a_tower():
    with pytest.raises(ValueError, match="site A has several samples on 2003-01-04"):
        twice = towers(20, Ta=of_towers(np.arange(20.0)))
        drivers.at_towers(twice.isel(sample=[*range(20), 3]), base(), {"TAIR": "Ta"})
    with pytest.raises(ValueError, match="variable 'Ta' has the units 'W m-2', 'degC' is needed"):
        drivers.at_towers(towers(20, Ta=of_towers(np.arange(20.0), "W m-2")), base(), {"TAIR": "Ta"})
    with pytest.warns(UserWarning, match="the towers' 'Ta': 1 of 20 values are -9999"):
        drivers.at_towers(towers(20, Ta=of_towers([-9999.0, *range(19)])), base(), {"TAIR": "Ta"})


def test_water_availability_sees_the_towers_rain():
    rain = np.zeros(730)
    dry = drivers.at_towers(towers(P=of_towers(rain, "mm d-1")), base(), {"PREC": "P"})
    wet = drivers.at_towers(towers(P=of_towers(rain + 50, "mm d-1")), base(), {"PREC": "P"})
    assert float(dry.WAI2[-1]) < 0.05 < 0.95 < float(wet.WAI2[-1])
    assert float(dry.WAI2[0]) > 0.1  # spun up on the cell's weather


def test_several_sites_with_years_of_their_own():
    one, two = towers(365, Tair=of_towers(np.full(365, 1.0))), towers(365, "2007-01-01", Tair=of_towers([3.0] * 365))
    two = two.assign_coords(site=("sample", ["B"] * 365), lon=("sample", [9.9] * 365))
    both = xr.concat([one, two], "sample").isel(sample=np.random.default_rng(1).permutation(730))
    at = drivers.at_towers(both, base(), {"TAIR": "Tair"}, recipes=RECIPES)
    for site, value, cell in (("A", 1.0, 1.0), ("B", 3.0, 10.0)):
        here = at.isel(sample=at.site.values == site)
        np.testing.assert_allclose(here.T_cycle, value)
        np.testing.assert_allclose(here.T_range, 0.0, atol=1e-12)
        np.testing.assert_allclose(here.sortby("time").P_60d[0], cell * (30 + 29 * 12 * 30 / 31))


@pytest.mark.parametrize("step", ["D", "MS"])
def test_a_grid_with_dates_fills_by_date_and_elsewhere_by_its_cycle(step):
    time = pd.date_range("2003-01-01", "2004-12-31", freq=step)
    field = xr.DataArray(time.year - 2000.0, {"time": time}, "time").expand_dims(lat=[0.0], lon=[0.0])
    grid = xr.Dataset({"TAIR": field.assign_attrs(units="degC")})
    at = drivers.at_towers(towers(1096, Tair=of_towers([np.nan] * 1096)), grid, {"TAIR": "Tair"}, recipes=RECIPES)
    year, month = (getattr(pd.DatetimeIndex(at.time.values), k) for k in ("year", "month"))
    known = (year < 2005) & (month > 1) & (month < 12)  # months are interpolated to days, from middle to middle
    np.testing.assert_allclose(at.Tair[known], year[known] - 2000)
    np.testing.assert_allclose(at.Tair[year == 2005], 3.5, atol=0.5)
    assert at.attrs["TAIR_from_cell"] == 1


def test_months_of_towers_go_through_the_recipes_in_months():
    own = np.arange(24.0)
    at = drivers.at_towers(towers(24, step="month", Tair=of_towers(own)), base(), {"TAIR": "Tair"}, recipes=RECIPES)
    np.testing.assert_allclose(at.Tair, own)
    np.testing.assert_allclose(at.T_cycle, np.tile((own[:12] + own[12:]) / 2, 2))
    np.testing.assert_allclose(at.T_30d[1], (own[1] * 28 + own[0] * 2) / 30)


def test_own_variables_that_are_not_there():
    table = towers(10, Tair=of_towers([1.0] * 10))
    with pytest.raises(KeyError, match="own: the tower table has no variable SW_IN; it has nee, Tair"):
        drivers.at_towers(table, base(), {"RG": "SW_IN"})
    with pytest.raises(KeyError, match=r"own='VPD': the grid has no such base variable.*TAIR, PREC"):
        drivers.at_towers(table, base(), {"VPD": "Tair"})
    with pytest.raises(ValueError, match="lat/lon are NaN"):
        drivers.at_towers(table.assign_coords(lat=("sample", [np.nan] * 10)), base(), {"TAIR": "Tair"})


def test_weather_of_days_without_a_flux_is_kept():
    table = pd.DataFrame({"site": "A", "time": pd.date_range("2005-01-01", periods=3), "NEE": [1.0, np.nan, 3.0],
                          "NEE_QC": [1.0, 0.0, 0.1], "Tair": [1.0, 2.0, 3.0], "lat": 0.0, "lon": 0.0})  # fmt: skip
    every = read_towers(table, every_day=True)
    assert every.Tair.values.tolist() == [1, 2, 3] and np.isnan(every.nee[1:]).all() and float(every.nee[0]) == 1


# --- months -----------------------------------------------------------------------------------------------------------


def test_months_of_towers_are_means_of_enough_days():
    days = 31 + 28 + 31
    nee = np.arange(float(days))
    nee[[2, 3]] = np.nan  # two days of January
    nee[31:45] = np.nan  # half of February
    tair = np.arange(float(days))
    table = towers(days, Tair=of_towers(tair), nee=of_towers(nee), nee_randunc=of_towers(np.full(days, 2.0)))
    months = to_months(table, min_days=15)
    assert months.attrs["time_step"] == "month" and months.days.values.tolist() == [29, 31]
    np.testing.assert_allclose(months.nee, [np.nanmean(nee[:31]), nee[59:].mean()])
    np.testing.assert_allclose(months.Tair, [tair[:31].mean(), tair[59:].mean()])
    np.testing.assert_allclose(months.nee_randunc, 2 / np.sqrt([29, 31]))
    assert [str(t)[:10] for t in months.time.values] == ["2003-01-01", "2003-03-01"]
    assert months.igbp.values.tolist() == ["ENF"] * 2 and months.nee.attrs == table.nee.attrs
    assert to_months(table, min_days=14).sizes["sample"] == 3
    for bad, message in ((0, "1 to 31; got 0"), (40, "got 40")):
        with pytest.raises(ValueError, match=message):
            to_months(table, min_days=bad)
    with pytest.raises(ValueError, match="no tower month has 20 days of nee; the most is 5"):
        to_months(towers(5), min_days=20)
    with pytest.raises(ValueError, match="by month already"):
        to_months(months)
    for name, lacking in (("nee", "site"), ("gpp", "gpp")):
        with pytest.raises(KeyError, match=f"the tower table has no variable {lacking}; it has nee, Tair"):
            to_months(table.drop_vars("site") if lacking == "site" else table, target=name)


# --- land cover -------------------------------------------------------------------------------------------------------

FOREST = {"forest": ["ENF", "EBF", "MF"], "open": "GRA"}


def test_cover_of_the_grid_and_of_the_towers_have_the_same_names():
    axes = {"lat": [0.0], "lon": [0.0, 1.0, 2.0, 3.0]}
    igbp = xr.DataArray([[1.0, 10.0, 17.0, np.nan]], axes, ("lat", "lon"))
    on_grid = drivers.cover(igbp, FOREST)
    np.testing.assert_array_equal(on_grid.forest, [[1, 0, 0, np.nan]])
    np.testing.assert_array_equal(on_grid.open, [[0, 1, 0, np.nan]])
    at = drivers.cover(xr.Dataset(coords={"igbp": ("sample", ["ENF", " gra", "", "XXX"])}), FOREST)
    np.testing.assert_array_equal(at.forest, [1, 0, np.nan, np.nan])
    assert set(at) == set(on_grid) and at.forest.attrs["units"] == "1"
    named = igbp.assign_attrs(flag_values=[1, 10], flag_meanings="GRA ENF")
    np.testing.assert_array_equal(drivers.cover(named, {"open": "GRA"}).open, [[1, 0, np.nan, np.nan]])


def test_shares_in_percent_are_shares_of_one():
    share = xr.DataArray(
        [[[25.0]], [[75.0]]], {"pft": ["tree", "grass"], "lat": [0.0], "lon": [0.0]}, ("pft", "lat", "lon")
    )
    assert drivers.cover(share.assign_attrs(units="percent"), {"grass": "grass"}).grass.item() == 0.75
    with pytest.raises(ValueError, match="shares of up to 75, not of 1"):
        drivers.cover(share, {"grass": "grass"})


def test_fractions_of_types_and_the_classes_that_towers_have_of_them():
    pft = xr.DataArray(
        [[[0.25]], [[0.5]], [[0.25]]], {"pft": ["broadleaf", "needleleaf", "grass"]}, ("pft", "lat", "lon")
    )
    groups = {"tree": {"grid": ["broadleaf", "needleleaf"], "towers": ["ENF", "EBF", "DBF"]}}
    assert drivers.cover(pft.chunk(), groups).tree.values.tolist() == [[0.75]]
    assert drivers.cover(xr.Dataset(coords={"igbp": ("sample", ["DBF"])}), groups).tree.values.tolist() == [1]
    with pytest.raises(ValueError, match="cover 'tree': no class ENF; the grid have broadleaf, needleleaf, grass"):
        drivers.cover(pft, {"tree": ["ENF"]})
    with pytest.raises(ValueError, match="the towers have no coordinate igbp"):
        drivers.cover(xr.Dataset(), groups)
