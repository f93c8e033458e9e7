"""Targets and drivers that do not fit each other's years: gaps, incomplete years and months, calendars."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DAYS, DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.bridge import fit_bridge  # noqa: E402
from xflux.train.target import standard_target  # noqa: E402

SMALL = {"folds": 3, "max_epochs": 2, "batch": 50, "hidden": (8,)}


@pytest.fixture(scope="module")
def earth():
    return world(step=15, samples=300)


@pytest.fixture(scope="module")
def model(earth):
    return train.fit(earth.towers, DRIVERS, config=train.TrainConfig(**SMALL, dtype="float64"))


def in_time(earth, time):
    """The month's drivers repeated over `time`."""
    grid = earth.grid.sel(month=time.month).rename(month="time").assign_coords(time=time)
    return grid.assign(warm=grid.warm + 0.1 * (grid.time.dt.year - 2015))


def full(model, earth, grid, target):
    constraint = train.RegionalConstraint(target, grid, regions=earth.weights, integral="full")
    return train.regional_integrals(model, constraint).full


def with_values(earth, dim, labels):
    values = np.arange(3.0 * len(labels)).reshape(3, len(labels))
    coords = {"region": earth.target.region.values, dim: labels}
    return xr.DataArray(values, coords, ("region", dim), attrs={"units": "PgC month-1"})


def by_hand(model, earth, grid):
    """Amounts of the drivers' months (member, region, time), PgC, without the trainer."""
    rows = np.stack(xr.broadcast(*(grid[n] for n in DRIVERS))).reshape(3, -1).T
    dims = xr.broadcast(*(grid[n] for n in DRIVERS))[0]
    flux = xr.concat([dims.copy(data=part.reshape(dims.shape)) for part in model.predict(rows)], "member")
    amounts = (flux * grid.time.dt.days_in_month * earth.weights).sum(("lat", "lon")) * 1e-15
    return amounts.transpose("member", "region", "time")


def test_a_climatology_meets_drivers_whose_years_begin_in_july(earth, model):
    grid = in_time(earth, xr.date_range("2015-07-01", periods=36, freq="MS"))
    amounts = by_hand(model, earth, grid)
    found = full(model, earth, grid, with_values(earth, "month", np.arange(1, 13)))
    np.testing.assert_allclose(found, amounts.groupby("time.month").mean(), rtol=1e-6)
    found = full(model, earth, grid, with_values(earth, "year", [2015, 2016, 2017, 2018]))
    np.testing.assert_allclose(found, amounts.sel(time=slice("2016", "2017")).groupby("time.year").mean(), rtol=1e-6)


def test_months_that_the_steps_do_not_fill(earth, model):
    """Composites stand for the whole month; a month of which little is there is none."""
    days = xr.date_range("2015-01-20", "2016-12-31", freq="D")
    target = with_values(earth, "time", xr.date_range("2015-01-01", periods=24, freq="MS"))
    grid = in_time(earth, days)
    monthly = by_hand(model, earth, in_time(earth, xr.date_range("2015-01-01", periods=24, freq="MS")))
    np.testing.assert_allclose(full(model, earth, grid, target), monthly[..., 1:], rtol=1e-6)
    eight = in_time(earth, xr.date_range("2015-01-01", periods=92, freq="8D"))
    np.testing.assert_allclose(full(model, earth, eight, target), monthly, rtol=1e-6)


@pytest.mark.parametrize(("calendar", "year"), [("standard", 365.2425), ("noleap", 365), ("360_day", 360)])
def test_a_rate_per_year_on_months_is_of_the_calendars_mean_year(calendar, year):
    time = xr.date_range("2015-01-01", periods=12, freq="MS", calendar=calendar, use_cftime=calendar != "standard")
    target = xr.DataArray(np.ones((1, 12)), {"region": ["a"], "time": time}, attrs={"units": "PgC yr-1"})
    np.testing.assert_allclose(standard_target(target).values[0, 0], target.time.dt.days_in_month / year, rtol=1e-12)
    month = [*range(7, 13), *range(1, 7)]
    target = xr.DataArray(np.ones((1, 12)), {"region": ["a"], "month": month}, attrs={"units": "PgC yr-1"})
    np.testing.assert_allclose(standard_target(target).values[0, 0], DAYS[np.array(month) - 1] / 365.2425, rtol=1e-12)


def gappy(earth, kind):
    target = earth.target.copy()
    if kind == "regions":
        target.values[:, :2, 12:36] = np.nan
    elif kind == "periods":
        target = target.isel(inversion=[0, 1])
        target.values[0, :, 24:], target.values[1, :, :24] = np.nan, np.nan
    elif kind == "one":
        target = target.isel(inversion=[0])
    return target


@pytest.mark.parametrize("months", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("regions", {"regions_per_step": 1}), ("periods", {"misfit": "covariance"}), ("one", {"misfit": "covariance"})],
)
def test_gaps_never_become_nan(earth, kind, options, months):
    grid = earth.grid if months else in_time(earth, xr.date_range("2015-01-01", periods=48, freq="MS"))
    options |= {"regions": earth.weights, "integral": "full", "total": True}
    config = train.TrainConfig(**SMALL, resample_inversions=kind == "periods", validation_years=1)
    constraint = train.RegionalConstraint(gappy(earth, kind), grid, **options)
    history = train.fit(earth.towers, DRIVERS, constraints=[constraint], config=config).history
    assert np.isfinite(history.loss).all() and np.isfinite(history.validation).all()
    assert (history.loss.sel(term="ATM") > 0).all() and (history.validation_loss.sel(term="ATM") > 0).all()


@pytest.mark.parametrize("months", [False, True])
def test_members_with_fewer_held_out_years_validate_as_alone(earth, months):
    """Who draws the short inversion holds out fewer years: each of them counts the same."""
    time = xr.date_range("2015-01-01", periods=84, freq="MS")
    target = xr.concat([earth.target.isel(inversion=slice(2)), earth.target.isel(inversion=slice(2))], "time")
    target = target.isel(time=slice(84)).assign_coords(time=time)
    target = (target + 0.2 * (time.year.values - 2015)).assign_attrs(earth.target.attrs)
    target.values[0, :, 60:] = np.nan
    top = train.RegionalConstraint(
        target, earth.grid if months else in_time(earth, time), regions=earth.weights, integral="full"
    )
    config = train.TrainConfig(**SMALL | {"folds": 6}, resample_inversions=1, validation_years=3, dtype="float64")
    model = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
    years = model.attrs["constraints"][0]["held_out_years"]
    assert months or {2, 3} <= {len(own) for own in years.values()}
    for member in {len(own): int(member) for member, own in years.items()}.values():
        alone = train.fit(earth.towers, DRIVERS, constraints=[top], config=replace(config, members=(member,))).history
        both = model.history.sel(member=[member])
        np.testing.assert_allclose(both.validation, alone.validation, rtol=1e-12)
        np.testing.assert_allclose(both.ATM_integral, alone.ATM_integral, rtol=1e-12)


def test_a_sum_that_no_inversion_has_is_an_error(earth):
    target = earth.target.copy()
    target.values[:3, 0], target.values[3:, 1] = np.nan, np.nan
    top = train.RegionalConstraint(target, earth.grid, regions=earth.weights, integral="full", total=True)
    with pytest.raises(ValueError, match="none of the inversions of member 0 has a value in every region"):
        train.fit(earth.towers, DRIVERS, constraints=[top], config=train.TrainConfig(**SMALL))


def test_a_bootstrap_without_a_value_in_the_training_years_is_named(earth):
    grid = in_time(earth, xr.date_range("2015-01-01", periods=48, freq="MS"))
    target = gappy(earth, "periods")
    target.values[0, :, :12], target.values[1, :, 36:] = np.nan, np.nan
    target.values[0, :, 12:24] = 0.0
    constraint = train.RegionalConstraint(target, grid, regions=earth.weights, integral="full")
    with pytest.raises(ValueError, match="has drawn only inversions without a value in its training"):
        for seed in range(20):
            config = train.TrainConfig(
                **SMALL | {"max_epochs": 1}, seed=seed, resample_inversions=True, validation_years=1
            )
            train.fit(earth.towers, DRIVERS, constraints=[constraint], config=config)


def test_climatologies_beside_time_are_found_by_their_labels(earth, model):
    """Months in any order; a month that is not there is named."""
    time = xr.date_range("2015-01-01", periods=24, freq="MS")
    grid = earth.grid.assign(warm=in_time(earth, time).warm)
    target = with_values(earth, "time", time)
    expected = full(model, earth, grid, target)
    np.testing.assert_array_equal(full(model, earth, grid.isel(month=[*range(6, 12), *range(6)]), target), expected)
    with pytest.raises(ValueError, match=r"has no month 7, 8, .* \(it has 1 to 6\), which the steps by time need"):
        full(model, earth, grid.isel(month=slice(6)), target)


@pytest.mark.parametrize("days", [31, 360, 364, 365, 366])
def test_a_short_climatology_of_days_beside_dates_is_an_error(earth, model, days):
    """Day 366 takes 365; that any later day took the last one there was gave December the drivers of January."""
    time = xr.date_range("2016-01-01", periods=366, freq="D")
    grid = in_time(earth, time)
    green = earth.grid.green.expand_dims(dayofyear=np.arange(1, 367)) * (1 + 0.01 * np.arange(366))[:, None, None]
    target = with_values(earth, "time", xr.date_range("2016-01-01", periods=12, freq="MS"))
    given = grid.assign(green=green.isel(dayofyear=slice(days)).assign_attrs(units="1"))
    if days < 365:
        with pytest.raises(ValueError, match=rf"has no dayofyear {days + 1}, .* \(it has 1 to {days}\)"):
            full(model, earth, given, target)
        return
    place = np.minimum(np.arange(366), days - 1)
    dated = green.isel(dayofyear=place).rename(dayofyear="time").assign_coords(time=time).assign_attrs(units="1")
    np.testing.assert_allclose(full(model, earth, given, target), full(model, earth, grid.assign(green=dated), target))


@pytest.mark.parametrize("when", ["month", "dayofyear", "time"])
def test_drivers_that_lack_a_part_of_the_year_are_named(earth, model, when):
    """What they lack counted as a flux of zero."""
    days = np.arange(1, 366, 8)  # composites as single days
    month = xr.DataArray(np.searchsorted(np.cumsum(DAYS), days) + 1, {"dayofyear": days}, ("dayofyear",))
    grid, lacking = {
        "month": (earth.grid.isel(month=slice(9)), "9 steps by month and do not fill month 10, 11, 12"),
        "dayofyear": (earth.grid.sel(month=month).drop_vars("month"), "46 steps by dayofyear .* fill month 1, 2"),
        "time": (in_time(earth, xr.date_range("2015-01-01", periods=11, freq="MS")), "11 steps by time .* month 12"),
    }[when]
    annual = with_values(earth, "year", [2015]).mean("year").assign_attrs(units="PgC yr-1")
    for target in (annual, with_values(earth, "month", np.arange(1, 13))):
        with pytest.raises(ValueError, match=lacking):
            full(model, earth, grid, target)


def test_months_without_labels_are_in_order(earth, model):
    target = with_values(earth, "month", np.arange(1, 13))
    expected = full(model, earth, earth.grid, target)
    np.testing.assert_array_equal(full(model, earth, earth.grid.drop_vars("month"), target), expected)
    with pytest.raises(ValueError, match="expected whole numbers from 1 to 12"):
        full(model, earth, earth.grid.assign_coords(month=np.arange(12)), target)


def test_bounds_tell_the_month_where_stamps_are_the_ends_of_the_steps(earth, model):
    time = xr.date_range("2015-01-01", periods=37, freq="MS")
    grid, target = in_time(earth, time[:36]), with_values(earth, "time", time[:36])
    grid = grid.assign(green=earth.grid.green + earth.grid.month / 10)  # by month beside time
    ends = grid.assign_coords(time=time[1:].rename("time"))
    ends["time_bnds"] = ("time", "bnds"), np.stack([time[:36], time[1:]], 1)
    ends["time"].attrs["bounds"] = "time_bnds"
    xr.testing.assert_identical(full(model, earth, ends, target), full(model, earth, grid, target))


def test_drivers_by_year_need_a_target_by_year(earth, model):
    years = xr.date_range("2015-01-01", periods=4, freq="YS")
    grid = in_time(earth, years)
    target = with_values(earth, "year", years.year.values)
    parts = xr.broadcast(*(grid[n] for n in DRIVERS))
    rows = np.stack([a.transpose("time", "lat", "lon").values.ravel() for a in parts], 1)
    flux = model.predict(rows).reshape(3, 4, -1)
    area = earth.weights.values.reshape(3, -1)
    expected = np.einsum("mtp,rp,t->mrt", flux, area, [365, 366, 365, 365]) * 1e-15 / 12
    np.testing.assert_allclose(full(model, earth, grid, target), expected, rtol=1e-6)
    monthly = with_values(earth, "time", xr.date_range("2015-01-01", periods=48, freq="MS"))
    with pytest.raises(ValueError, match="steps are up to 366 days long and the target is monthly"):
        full(model, earth, grid, monthly)
    bridge = fit_bridge(earth.flux.assign_attrs(units="gC m-2 d-1", area_basis="land"), earth.weights)
    top = train.RegionalConstraint(target, grid, bridge=bridge, refit_bridge=5)
    with pytest.raises(ValueError, match="4 steps by time and do not fill month 2, 3"):
        train.fit(earth.towers, DRIVERS, constraints=[top], config=train.TrainConfig(**SMALL))
