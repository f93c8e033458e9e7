"""A bridge's options reach the trainer: the paper's literal form, and a bridge that is fitted anew."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from train_world import BANDS, DRIVERS, world

pytest.importorskip("torch")

from xflux import train
from xflux.bridge import fit_bridge
from xflux.train.regional import RegionalTerm

from test_train_regional import SCALING, SETTING, SMALL, forward_run, network  # isort: skip


@pytest.fixture(scope="module")
def earth():
    return world()


@pytest.fixture(scope="module")
def noisy(earth):
    """Five fields about the truth, (member, month, lat, lon)."""
    members = xr.concat([earth.flux * s for s in np.linspace(0.5, 1.5, 5)], "member")
    members += np.random.default_rng(0).normal(size=members.shape) * 0.1
    return members.assign_attrs(units="gC m-2 d-1", area_basis="land")


@pytest.mark.parametrize("month_lengths", [True, False])
def test_what_is_trained_is_what_the_bridge_predicts(earth, noisy, month_lengths):
    bridge = fit_bridge(noisy, earth.weights, month_lengths=month_lengths)
    term = RegionalTerm(train.RegionalConstraint(earth.target, earth.grid, bridge=bridge), SCALING, [0, 1], 0, SETTING)
    term.start_epoch(0)
    net = network()
    estimate = term.integral.estimate(net, *term.draw())
    units = {"nee": "gC m-2 d-1"}
    model = train.FluxModel(DRIVERS, np.zeros(3), np.ones(3), ["nee"], units, net.state(), history=xr.Dataset())
    expected = bridge.predict(forward_run(model, earth.grid)).transpose("member", "region", "month").sel(region=BANDS)
    np.testing.assert_allclose(estimate.numpy(), expected.values, rtol=1e-6)


@pytest.mark.parametrize("month_lengths", [True, False])
@pytest.mark.parametrize("days", [365, 366])
def test_days_of_a_climatology_are_split_as_the_bridge_does(earth, noisy, days, month_lengths):
    bridge = fit_bridge(noisy, earth.weights, month_lengths=month_lengths)
    rng, shape = np.random.default_rng(0), (days, 18, 36)
    grid = xr.Dataset(coords={"dayofyear": np.arange(1, days + 1), "lat": earth.grid.lat, "lon": earth.grid.lon})
    grid = grid.assign(
        {name: (("dayofyear", "lat", "lon"), rng.normal(size=shape), {"units": "1"}) for name in DRIVERS}
    )
    net = network()
    model = train.FluxModel(
        DRIVERS, np.zeros(3), np.ones(3), ["nee"], {"nee": "gC m-2 d-1"}, net.state(), history=xr.Dataset()
    )
    found = train.regional_integrals(model, train.RegionalConstraint(earth.target, grid, bridge=bridge))["bridge"]
    expected = bridge.predict(forward_run(model, grid)).transpose("member", "region", "month").sel(region=BANDS)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def annual_target(earth):
    """The monthly target's years, in PgC per year."""
    found = earth.target.groupby("time.year").sum("time").transpose("inversion", "region", "year")
    return found.assign_attrs(units="PgC yr-1")


@pytest.mark.parametrize("month_lengths", [True, False])
def test_annual_and_mean_targets_meet_the_bridges_months(earth, noisy, month_lengths):
    """A year through the bridge is the sum of its months through the bridge; it enters as the mean month."""
    bridge = fit_bridge(noisy, earth.weights, month_lengths=month_lengths)
    net = network()
    model = train.FluxModel(
        DRIVERS, np.zeros(3), np.ones(3), ["nee"], {"nee": "gC m-2 d-1"}, net.state(), history=xr.Dataset()
    )
    months = bridge.predict(forward_run(model, earth.grid)).transpose("member", "region", "month").sel(region=BANDS)
    for target in (annual_target(earth), annual_target(earth).mean("year").assign_attrs(units="PgC yr-1")):
        top = train.RegionalConstraint(target, earth.grid, bridge=bridge)
        found = train.regional_integrals(model, top)
        assert found["bridge"].shape == (2, 3, 1)
        np.testing.assert_allclose(found["bridge"][..., 0], months.sum("month") / 12, rtol=1e-6)


def in_time(earth):
    time = xr.date_range("2015-01-01", periods=36, freq="MS")
    grid = earth.grid.sel(month=time.month).rename(month="time").assign_coords(time=time)
    return grid.assign(warm=(grid.warm + 0.2 * (grid.time.dt.year - 2015)).assign_attrs(units="1"))


def days_of_the_mean_year() -> xr.DataArray:
    """How much of each month a day of the year is in 400 Gregorian years; 365 stands in for 366."""
    time = xr.date_range("2000-01-01", "2399-12-31", freq="D", unit="s")
    share = np.zeros((365, 12))
    np.add.at(share, (np.minimum(time.dayofyear, 365) - 1, time.month - 1), 1 / 400)
    return xr.DataArray(share, {"dayofyear": np.arange(1, 366), "month": np.arange(1, 13)}, ("dayofyear", "month"))


@pytest.mark.parametrize("steps", ["annual", "dated", "days"])
def test_refitting_does_not_depend_on_the_targets_steps(earth, noisy, steps):
    """The field from which the bridge is fitted anew is monthly, whatever target and drivers are."""
    from xflux.train.refit import monthly_field

    grid = {"annual": earth.grid, "dated": in_time(earth)}.get(steps)
    if grid is None:
        day = np.arange(1, 366)
        month = xr.DataArray(np.searchsorted(np.cumsum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]), day) + 1,
                             {"dayofyear": day}, ("dayofyear",))  # fmt: skip
        grid = earth.grid.sel(month=month).drop_vars("month")
    target = earth.target if steps != "annual" else annual_target(earth)
    top = train.RegionalConstraint(target, grid, bridge=fit_bridge(noisy, earth.weights), refit_bridge=1)
    setting = dataclasses.replace(SETTING, validation_years=1)
    term, net = RegionalTerm(top, SCALING, [0, 1], 0, setting), network()
    field = monthly_field(term.whole, net, grid, 1.0, "gC m-2 d-1")
    model = train.FluxModel(
        DRIVERS, np.zeros(3), np.ones(3), ["nee"], {"nee": "gC m-2 d-1"}, net.state(), history=xr.Dataset()
    )
    expected = forward_run(model, grid)
    if steps == "days":
        share = days_of_the_mean_year()
        expected = ((expected * share).sum("dayofyear") / share.sum("dayofyear")).transpose("member", "month", ...)
    assert field.dims[1] == expected.dims[1]
    expected = expected.where(earth.weights.sum("region") > 0)
    np.testing.assert_allclose(field, expected, rtol=1e-5, atol=1e-5)
    config = dataclasses.replace(SMALL, max_epochs=2, validation_years=1)
    history = train.fit(earth.towers, DRIVERS, constraints=[top], config=config).history
    gap = history["ATM_bridged"] - history["ATM_integral"]
    np.testing.assert_allclose(history["ATM_gap"].sum("region"), gap, atol=1e-3)
    assert history["ATM_gap"].dims == ("epoch", "member", "region") and np.isfinite(gap).all()


def test_one_member_has_no_anomalies(earth, noisy):
    """A single member's climatology has each month once: R² is asked of the flux itself."""
    top = train.RegionalConstraint(earth.target, earth.grid, bridge=fit_bridge(noisy, earth.weights), refit_bridge=1)
    config = dataclasses.replace(SMALL, max_epochs=2, members=(1,))
    history = train.fit(earth.towers, DRIVERS, constraints=[top], config=config).history
    assert np.isfinite(history["ATM_gap"]).all()


def test_a_bridge_or_areas_of_whole_cells_are_refused(earth, noisy):
    """The model's flux is per m2 of land: known when the constraint is stated, not when the bridge is fitted anew."""
    of_cells = fit_bridge(noisy.assign_attrs(area_basis="cell"), earth.weights.assign_attrs(area_basis="cell"))
    with pytest.raises(ValueError, match=r"bridge is per m2 of the whole cell .* the model's flux per m2 of land"):
        train.RegionalConstraint(earth.target, earth.grid, bridge=of_cells, refit_bridge=3)
    with pytest.raises(ValueError, match="regions is per m2 of the whole cell"):
        train.RegionalConstraint(earth.target, earth.grid, regions=earth.weights.assign_attrs(area_basis="cell"))


def test_refit_bridge_needs_a_bridge_and_all_pixels(earth, noisy):
    with pytest.raises(ValueError, match="refit_bridge is 3 with integral='full'"):
        train.RegionalConstraint(earth.target, earth.grid, integral="full", regions=earth.weights, refit_bridge=3)
    with pytest.raises(ValueError, match="refit_bridge is 0 with integral='bridge'"):
        train.RegionalConstraint(earth.target, earth.grid, bridge=fit_bridge(noisy, earth.weights), refit_bridge=0)


def test_a_refitted_bridge_resumes_exactly(earth, noisy, tmp_path):
    top = train.RegionalConstraint(earth.target, earth.grid, bridge=fit_bridge(noisy, earth.weights), refit_bridge=2)
    config = dataclasses.replace(SMALL, max_epochs=4)
    whole = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)

    def stop(line):
        if "epoch 3/" in line:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train.fit(earth.towers, DRIVERS, constraints=[top], config=config, checkpoint=path, progress=stop)
    resumed = train.fit(earth.towers, DRIVERS, constraints=[top], config=config, checkpoint=path)
    assert all(np.array_equal(whole.last_weights[k], resumed.last_weights[k]) for k in whole.last_weights)
    assert whole.history.equals(resumed.history)


def test_a_bridge_that_is_fitted_anew_keeps_its_options(earth, noisy, monkeypatch):
    from xflux.train import refit as room

    asked = []

    def noted(*args, **options):
        asked.append(options)
        return fit_bridge(*args, **options)

    monkeypatch.setattr(room, "fit_bridge", noted)
    first = fit_bridge(noisy, earth.weights, r2=0.9, month_lengths=False, positive=True)
    top = train.RegionalConstraint(earth.target, earth.grid, bridge=first, refit_bridge=1)
    train.fit(earth.towers, DRIVERS, constraints=[top], config=dataclasses.replace(SMALL, max_epochs=1))
    assert asked and asked[0]["r2"] == 0.9 and not asked[0]["month_lengths"] and asked[0]["positive"]
    assert asked[0]["target"] == "anomalies" and first.attrs["target"] == "flux"
    assert asked[0]["seed"] == SMALL.seed and asked[0]["area_basis"] == "land"


def test_a_bridge_without_refits_is_the_papers(earth, noisy):
    top = train.RegionalConstraint(earth.target, earth.grid, bridge=fit_bridge(noisy, earth.weights))
    given = {(None, None): False, (3, None): True, (3, False): False, (None, True): True}
    for (refit, wanted), expected in given.items():
        own = dataclasses.replace(top, refit_bridge=refit, control_variate=wanted)
        assert RegionalTerm(own, SCALING, [0], 0, SETTING).controlled is expected
    bridge = dataclasses.replace(top.bridge, weights=None)
    with pytest.raises(ValueError, match="need all pixels of the regions: give regions="):
        alone = dataclasses.replace(top, bridge=bridge, control_variate=True)
        RegionalTerm(alone, SCALING, [0], 0, SETTING)


@pytest.mark.parametrize("months_per_step", [12, 5])
@pytest.mark.parametrize("dates", [False, True])
def test_with_a_control_variate_the_bridge_says_what_has_changed(earth, noisy, dates, months_per_step):
    """At the field's own weights the estimate is the full integral; then it moves as the bridge does."""
    grid = in_time(earth) if dates else earth.grid
    bridge = fit_bridge(noisy, earth.weights)
    top = train.RegionalConstraint(earth.target, grid, bridge=bridge, months_per_step=months_per_step)
    setting = dataclasses.replace(SETTING, validation_years=1)
    terms = {
        kind: RegionalTerm(dataclasses.replace(top, control_variate=kind == "controlled"), SCALING, [0, 1], 0, setting)
        for kind in ("plain", "controlled")
    }
    old, new = network(), network()
    new.load({k: v + 0.1 * np.sign(v) for k, v in old.state().items()})
    controlled, plain = terms["controlled"], terms["plain"]
    controlled.renew(old)
    controlled.start_epoch(0)
    at, area, steps = controlled.draw()

    def said(term, net):
        return term.integral.estimate(net, at, area, steps, term.field)

    full = controlled.whole.estimate(old, *controlled.whole.everything(), steps)
    np.testing.assert_allclose(said(controlled, old), full, rtol=1e-6, atol=1e-9)
    assert not np.allclose(said(plain, old), full, rtol=1e-3)
    moved = full + said(plain, new) - said(plain, old)
    np.testing.assert_allclose(said(controlled, new), moved, rtol=1e-4, atol=1e-7)


def test_a_control_variate_keeps_the_gap_small(earth, noisy):
    """The bridge is fitted on other fields than the network's: alone it leaves the full integral."""
    top = train.RegionalConstraint(earth.target, earth.grid, bridge=fit_bridge(noisy, earth.weights, r2=0.5))
    config = dataclasses.replace(SMALL, max_epochs=8)
    gap = {}
    for control in (None, True):
        own = dataclasses.replace(top, control_variate=control)
        history = train.fit(earth.towers, DRIVERS, constraints=[own], config=config).history
        gap[control] = float(np.sqrt((history["ATM_gap"].isel(epoch=-1) ** 2).mean()))
        np.testing.assert_allclose(
            history["ATM_gap"].sum("region"), history["ATM_bridged"] - history["ATM_integral"], atol=1e-3
        )
    assert gap[True] < 0.2 * gap[None]


def test_the_papers_literal_bridge_counts_the_months_that_others_count(earth, noisy):
    """A month of which little is there is none for the bridge either: its year trains nobody."""
    days = xr.date_range("2015-01-01", "2018-12-31", freq="D")
    days = days[~((days.year == 2016) & (days.month == 5) & (days.day > 10))]
    grid = earth.grid.sel(month=days.month).rename(month="time").assign_coords(time=days)
    config = dataclasses.replace(SMALL, max_epochs=1, validation_years=1)
    for literal in (False, True):
        bridge = fit_bridge(noisy, earth.weights, month_lengths=not literal)
        top = train.RegionalConstraint(earth.target, grid, bridge=bridge)
        model = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
        assert np.isfinite(model.history["ATM_gap"]).all()
        held_out = model.attrs["constraints"][0]["held_out_years"].values()
        assert {year for years in held_out for year in years} <= {2015, 2017, 2018}
        found = train.regional_integrals(model, top)
        assert found.sizes["step"] == 47 and not ((found.year == 2016) & (found.month == 5)).any()


def test_a_refitted_bridge_resumes_whatever_the_order_of_its_regions(earth, noisy, tmp_path):
    bridge = dataclasses.replace(fit_bridge(noisy, earth.weights), weights=None)
    top = train.RegionalConstraint(
        earth.target, earth.grid, bridge=bridge, regions=earth.weights.isel(region=[2, 0, 1]), refit_bridge=1
    )
    whole = train.fit(earth.towers, DRIVERS, constraints=[top], config=SMALL)
    path = tmp_path / "checkpoint"

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(earth.towers, DRIVERS, constraints=[top], config=SMALL, checkpoint=path, progress=stop)
    resumed = train.fit(earth.towers, DRIVERS, constraints=[top], config=SMALL, checkpoint=path)
    assert whole.history.equals(resumed.history)
