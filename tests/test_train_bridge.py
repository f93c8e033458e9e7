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


def test_a_bridge_that_is_fitted_anew_keeps_its_options(earth, noisy, monkeypatch):
    from xflux import bridge as room

    asked = []

    def noted(*args, **options):
        asked.append(options)
        return fit_bridge(*args, **options)

    monkeypatch.setattr(room, "fit_bridge", noted)
    first = fit_bridge(noisy, earth.weights, r2=0.9, month_lengths=False, positive=True)
    top = train.RegionalConstraint(earth.target, earth.grid, bridge=first, refit_bridge=1)
    train.fit(earth.towers, DRIVERS, constraints=[top], config=dataclasses.replace(SMALL, max_epochs=1))
    assert asked and asked[0]["r2"] == 0.9 and not asked[0]["month_lengths"] and asked[0]["positive"]
    assert asked[0]["seed"] == SMALL.seed and asked[0]["area_basis"] == "land"
