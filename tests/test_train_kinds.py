"""Regional constraints of latent heat and water: the loss by hand, units of what comes back, refusals."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DAYS, DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.bridge import fit_bridge  # noqa: E402
from xflux.train.data import Scaling, Setting  # noqa: E402
from xflux.train.network import Network  # noqa: E402
from xflux.train.posthoc import regional_integrals  # noqa: E402
from xflux.train.regional import RegionalTerm  # noqa: E402
from xflux.train.sensitivity import one_against_many  # noqa: E402

SMALL = train.TrainConfig(folds=2, max_epochs=2, batch=1000, hidden=(16, 16))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A flux's ``attrs``; how many ``rate`` per day are one of its units; 1e15 of these are one ``amount``."""

    attrs: dict
    rate: str
    factor: float
    amount: str
    spelled: str


EVAPORATION = {"units": "kg m-2 s-1", "standard_name": "water_evapotranspiration_flux"}
KINDS = {
    "heat": Kind({"units": "W m-2"}, "MJ m-2", 0.0864, "ZJ", "W m-2"),
    "depth": Kind({"units": "mm d-1"}, "gH2O m-2", 1e3, "PgH2O", "mm d-1"),
    "mass": Kind(EVAPORATION, "gH2O m-2", 8.64e7, "PgH2O", "kgH2O m-2 s-1"),
    "carbon": Kind({"units": "umolCO2 m-2 s-1"}, "gC m-2", 12.011e-6 * 86400, "PgC", "umolCO2 m-2 s-1"),
}


def earth_of(name):
    """The planted world in the units of a kind; of water 1000 times the numbers, a few mm per day."""
    kind, earth = KINDS[name], world(step=15.0, samples=2000)
    size = 1e3 if kind.amount == "PgH2O" else 1.0
    towers = earth.towers.rename(nee="le")
    towers["le"] = (towers.le * (size / kind.factor)).assign_attrs(kind.attrs)
    target = (earth.target * size).assign_attrs(units=f"{kind.amount} month-1")
    flux = (earth.flux * (size / kind.factor)).assign_attrs(kind.attrs, area_basis="land")
    return dataclasses.replace(earth, towers=towers, target=target, flux=flux)


def constraint(earth, **options):
    return train.RegionalConstraint(
        earth.target, earth.grid, **{"integral": "full", "regions": earth.weights} | options
    )


def regional(model, earth, kind):
    """Integrals (member, region, month) of a model's flux times days and areas, without xflux."""
    fields = xr.broadcast(*earth.grid[DRIVERS].values())
    rows = np.stack([a.transpose("month", "lat", "lon").values.ravel() for a in fields], 1)
    flux = model.predict(rows).reshape(model.members, 12, *earth.weights.shape[1:])
    return np.einsum("kmij,rij,m->krm", flux, earth.weights.values, DAYS) * (1e-15 * kind.factor)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("name", ["heat", "depth", "mass"])
def test_loss_by_hand(name, normalise):
    """Eq. 8-11 counted in the mean magnitude of the training target, of the regions and of their sum."""
    earth, kind = earth_of(name), KINDS[name]
    setting = Setting(0, 2, torch.float64, torch.device("cpu"), 512, ("le",), units={"le": kind.spelled})
    scaling = Scaling(tuple(DRIVERS), np.zeros(3), np.ones(3), {})
    term = RegionalTerm(constraint(earth, total=True, normalise=normalise), scaling, [0], 0, setting)
    net = Network((3, 8, 1), [(0, 0)], dtype=torch.float64)
    term.start_epoch(0)
    found = term.forward(net)[0].detach().numpy()

    model = train.FluxModel(DRIVERS, np.zeros(3), np.ones(3), ["le"], {"le": kind.spelled}, net.state())
    estimate = regional(model, earth, kind)[0]
    years = earth.target.time.dt.year.isin(term.years[0][0]).values
    own = earth.target.transpose("inversion", "region", "time").values[..., years]
    cycle = own.reshape(*own.shape[:2], -1, 12).mean(2)
    land = earth.weights.sum(("lat", "lon")).values
    pairs = [(cycle, estimate, land), (cycle.sum(1, keepdims=True), estimate.sum(0, keepdims=True), [1])]
    for loss, (target, of_model, area) in zip(found, pairs, strict=True):
        cubic = (np.abs(target - of_model) ** 3).mean(0) ** (1 / 3)
        by_region = (cubic / (np.abs(own).mean() + normalise * np.ptp(target, axis=0))).mean(1)
        assert loss == pytest.approx(np.average(by_region, weights=area), rel=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_what_comes_back(name):
    """The model in the towers' units; history, looking back and the bridge fitted anew in the usual amounts."""
    earth, kind = earth_of(name), KINDS[name]
    bridge = fit_bridge(earth.flux, earth.weights, r2=0.9)
    top = constraint(earth, integral="bridge", bridge=bridge, refit_bridge=1, total=True)
    model = train.fit(earth.towers, DRIVERS, "le", constraints=[top], config=SMALL)
    assert model.units == kind.spelled
    per_year = {model.history[f"ATM_{key}"].attrs["units"] for key in ("integral", "bridged", "gap")}
    assert per_year == {f"{kind.amount} yr-1"}
    found = regional_integrals(model, top)
    assert found.full.attrs["units"] == found.bridge.attrs["units"] == f"{kind.amount} month-1"
    assert found.strata_std.attrs["units"] == kind.rate
    by_hand = regional(model, earth, kind)
    np.testing.assert_allclose(found.full.values, by_hand, rtol=1e-3, atol=1e-4 * np.abs(by_hand).max())


@pytest.mark.parametrize("name", KINDS)
def test_training_follows_the_sum(name):
    """Towers a half (gC, mm, MJ per day) too high: the regions' sum is the target's all the same, in any unit."""
    earth, kind = earth_of(name), KINDS[name]
    offset = 0.5 * (1e3 if kind.amount == "PgH2O" else 1) / kind.factor
    towers = earth.towers.assign(le=(earth.towers.le + offset).assign_attrs(kind.attrs))
    config = dataclasses.replace(SMALL, max_epochs=20, batch=100, learning_rate=0.01)
    year = 12 * earth.target.mean(("inversion", "time")).sum("region").item()
    model = train.fit(towers, DRIVERS, "le", constraints=[constraint(earth, total=True)], config=config)
    found = regional(model, earth, kind).sum((1, 2)).mean()
    assert found == pytest.approx(year, rel=0.02)  # with the towers' offset it is 1.9 times the target


def test_runs_of_single_inversions():
    earth = earth_of("depth")
    top = constraint(earth)
    top = dataclasses.replace(top, target=earth.target.isel(inversion=[0, 1]))
    runs = one_against_many(earth.towers, DRIVERS, top, "le", SMALL, sizes=(1,))
    assert runs.annual.attrs["units"] == "PgH2O yr-1" and runs.regional.attrs["units"] == "PgH2O month-1"


@pytest.mark.parametrize(
    ("flux", "target", "bridge", "message"),
    [
        (
            "heat",
            "carbon",
            None,
            r"target is in 'PgC month-1' \(carbon\), the towers' le is in 'W m-2' \(energy\); exp",
        ),
        ("depth", "heat", None, r"'ZJ month-1' \(energy\), the towers' le is in 'mm d-1' \(water\)"),
        ("heat", "heat", "carbon", r"'W m-2' \(energy\), the bridge is in 'PgC month-1' \(carbon\)"),
        (
            "carbon",
            "heat",
            "heat",
            r"'ZJ month-1' \(energy\), the towers' le is in 'umol.*' \(carbon\), .*'ZJ month-1'",
        ),
    ],
)
def test_other_kinds_are_refused_before_training(flux, target, bridge, message):
    earth = dataclasses.replace(earth_of(flux), target=earth_of(target).target)
    own = {"integral": "bridge", "bridge": fit_bridge(earth_of(bridge).flux, earth.weights, r2=0.9)} if bridge else {}
    with pytest.raises(ValueError, match=f"constraint ATM: .*{message}"):
        train.fit(earth.towers, DRIVERS, "le", constraints=[constraint(earth, **own)], config=SMALL)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("degC", "le is in 'degC' (no flux)"),
        ("1", "le is in '1' (no flux)"),
        ("PgH2O d-1", "no flux per area and time"),
    ],
)
def test_what_is_no_flux_is_refused(units, message):
    earth = earth_of("depth")
    earth.towers.le.attrs["units"] = units
    with pytest.raises(ValueError) as error:
        train.fit(earth.towers, DRIVERS, "le", constraints=[constraint(earth)], config=SMALL)
    assert message in str(error.value)
