"""Linear constraints and the one-against-many analysis."""

import dataclasses

import numpy as np
import pytest
import sparse
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.train.data import Scaling, Setting  # noqa: E402
from xflux.train.linear import LinearTerm  # noqa: E402
from xflux.train.network import Network  # noqa: E402

SMALL = train.TrainConfig(folds=3, max_epochs=3, batch=1000, hidden=(16, 16))
SETTING = Setting(0, 2, torch.float64, torch.device("cpu"), 512, ("nee",))
SCALING = Scaling(tuple(DRIVERS), np.zeros(3), np.ones(3), {})


@pytest.fixture(scope="module")
def earth():
    return world(bias=0.5)


def footprints(earth, observations=60, seed=0):
    """Sums of the flux over small random windows, as a sparse operator."""
    rng = np.random.default_rng(seed)
    dense = rng.random((observations, 12, 18, 36)) * (rng.random((observations, 12, 18, 36)) < 0.02)
    dense /= dense.sum((1, 2, 3), keepdims=True)
    coords = {"month": earth.grid.month, "lat": earth.grid.lat, "lon": earth.grid.lon}
    return xr.DataArray(dense, dims=("obs", "month", "lat", "lon"), coords=coords)


def observe(operator, earth):
    return (operator * earth.flux).sum(("month", "lat", "lon"))


def term(earth, operator, observations=None, sigma=0.1, **options):
    observations = observe(operator, earth) if observations is None else observations
    found = train.LinearConstraint(operator, observations, sigma, earth.grid, **options)
    return LinearTerm(found, SCALING, [0, 1], 0, SETTING)


def test_estimate_is_the_operator_on_the_flux(earth):
    operator = footprints(earth)
    found = term(earth, operator)
    net = Network((3, 8, 1), [(0, 0), (0, 1)], dtype=torch.float64)
    grid = xr.broadcast(*[earth.grid[n] for n in DRIVERS])
    rows = np.stack([a.transpose("month", "lat", "lon").values.ravel() for a in grid], 1)
    flux = net(torch.tensor(rows)[None])[..., 0].detach().numpy()
    expected = flux @ operator.values.reshape(60, -1).T
    assert np.allclose(found.estimate(net).numpy(), expected, rtol=1e-10)
    lon = operator.lon.astype("float32") - 360
    turned = operator.assign_coords(lon=lon + 3e-4).isel(lat=slice(None, None, -1), lon=slice(3, None))
    seen = np.where(np.arange(36) < 3, 0, operator.values).reshape(60, -1)
    part = term(earth, turned, observe(operator, earth)).estimate(net).numpy()
    assert np.allclose(part, flux @ seen.T, rtol=1e-10)
    compressed = operator.copy(data=sparse.COO(operator.values)).transpose("lat", "obs", "lon", "month")
    assert np.allclose(term(earth, compressed, observe(operator, earth)).estimate(net).numpy(), expected, rtol=1e-10)


def test_an_operator_without_steps_sees_the_mean_flux(earth):
    operator, days = (
        footprints(earth).isel(month=0, drop=True),
        np.array([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]),
    )
    found = term(earth, operator, xr.DataArray(np.zeros(60), dims="obs"))
    spread = operator * xr.DataArray(days / days.sum(), dims="month", coords={"month": earth.grid.month})
    net = Network((3, 8, 1), [(0, 0), (0, 1)], dtype=torch.float64)
    same = term(earth, spread, xr.DataArray(np.zeros(60), dims="obs"))
    assert np.allclose(found.estimate(net).numpy(), same.estimate(net).numpy(), rtol=1e-10)


def test_loss_is_scaled_by_sigma_and_gradient_agrees_with_finite_differences(earth):
    operator = footprints(earth)
    sigma = xr.DataArray(np.linspace(0.1, 1, 60), dims="obs")
    found = term(earth, operator, sigma=sigma)
    net = Network((3, 8, 1), [(0, 0), (0, 1)], dtype=torch.float64)
    used = ~found.held_out.numpy()
    residual = (observe(operator, earth).values - found.estimate(net).numpy()) / sigma.values
    expected = [(residual[m][used[m]] ** 2).mean() for m in range(2)]
    assert found.forward(net)[:, 0].tolist() == pytest.approx(expected, rel=1e-10)
    found.forward(net).sum().backward()
    found.backward(net)
    weight = net.parameters[0]
    slope = []
    for h in (1e-6, -1e-6):
        with torch.no_grad():
            weight[1, 2, 3] += h
            slope.append(found.forward(net).sum().item())
            weight[1, 2, 3] -= h
    assert weight.grad[1, 2, 3].item() == pytest.approx((slope[0] - slope[1]) / 2e-6, rel=1e-5)


def test_a_planted_bias_is_removed_by_footprints(earth):
    operator = footprints(earth, 120)
    noise = np.random.default_rng(1).normal(size=120) * 0.02
    top = train.LinearConstraint(operator, observe(operator, earth) + noise, 0.02, earth.grid, name="TALL")
    config = dataclasses.replace(SMALL, max_epochs=15, batch=500)
    rows = xr.broadcast(*[earth.grid[n] for n in DRIVERS])
    rows = np.stack([a.transpose("month", "lat", "lon").values.ravel() for a in rows], 1)
    bias = []
    for constraints in ([], [top]):
        model = train.fit(earth.towers, DRIVERS, constraints=constraints, config=config)
        bias.append(np.abs((model.predict(rows) - earth.flux.values.ravel()).mean(1)).max())
    assert bias[0] > 0.35 and bias[1] < 0.12
    assert list(model.history.term.values) == ["EC", "TALL"]
    assert model.attrs["constraints"][0]["observations"] == 120


def test_missing_observations_and_cells_without_drivers(earth):
    operator = footprints(earth)
    observations = observe(operator, earth)
    observations[:10] = np.nan
    found = term(earth, operator, observations)
    assert not found.held_out[:, :10].any() and (found.held_out.sum(1) == 10).all()
    holed = dataclasses.replace(earth, grid=earth.grid.assign(green=earth.grid.green.where(earth.grid.lon > 0)))
    with pytest.warns(UserWarning, match=r"LINEAR: \d+\.\d% of the operator's weight lies on cells without drivers"):
        term(holed, operator)


def test_observations_are_matched_by_their_labels(earth):
    operator = footprints(earth, 6).assign_coords(obs=list("abcdef"))
    seen = observe(operator, earth).assign_coords(obs=operator.obs)
    sigma = xr.DataArray(np.arange(1.0, 7), {"obs": operator.obs})
    top = train.LinearConstraint(operator, seen[::-1], sigma[[3, 1, 0, 5, 2, 4]], earth.grid)
    assert np.array_equal(top.observations, seen) and np.array_equal(top.sigma, sigma)
    with pytest.raises(ValueError, match="labels obs of observations are not those of the operator"):
        train.LinearConstraint(operator, seen.assign_coords(obs=list("abcdex")), 1.0, earth.grid)
    named = train.LinearConstraint(operator, seen[::-1].drop_vars("obs"), 1.0, earth.grid.rename(lat="latitude"))
    assert "lat" in named.drivers.dims
    assert train.fit(earth.towers, DRIVERS, constraints=[named], config=dataclasses.replace(SMALL, max_epochs=1))


def test_errors(earth):
    operator = footprints(earth)
    with pytest.raises(ValueError, match=r"60 rows .* but there are 3 observations"):
        term(earth, operator, xr.DataArray(np.zeros(3), dims="obs"))
    with pytest.raises(ValueError, match="sigma must be finite and above 0"):
        term(earth, operator, sigma=0.0)
    with pytest.raises(ValueError, match="18 of 18 latitudes are no cells of the constraint's drivers, on whose grid"):
        term(earth, operator.assign_coords(lat=operator.lat + 0.1), xr.DataArray(np.zeros(60), dims="obs"))
    with pytest.raises(ValueError, match="steps are by time but the drivers' by month"):
        term(earth, operator.rename(month="time"), xr.DataArray(np.zeros(60), dims="obs"))
    with pytest.raises(ValueError, match=r"operator has the dims .*expected \(obs, lat, lon\)"):
        term(earth, operator.rename(obs="k"), xr.DataArray(np.zeros(60), dims="obs"))


def test_one_against_many(earth, tmp_path):
    top = train.RegionalConstraint(
        earth.target.isel(inversion=slice(0, 3)), earth.grid, integral="full", regions=earth.weights
    )
    config = dataclasses.replace(SMALL, folds=2, max_epochs=1)
    asked = (earth.towers, DRIVERS, top, "nee", config)
    found = train.one_against_many(*asked, sizes=(1, 2), draws=2)
    stopped, again = [], []

    def stop(line):
        stopped.append(line)
        if len(stopped) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.one_against_many(*asked, sizes=(1, 2), draws=2, checkpoint=tmp_path / "few", progress=stop)
    resumed = train.one_against_many(*asked, sizes=(1, 2), draws=2, checkpoint=tmp_path / "few", progress=again.append)
    assert resumed.identical(found) and len(again) == 2  # of six models of one epoch, four were there
    assert list(found.run.values[:3]) == ["a", "b", "c"] and found.run.values[-1] == "a+b+c"
    assert found["size"].values.tolist() == [1, 1, 1, 2, 2, 3]
    assert (found["used"].sum("inversion") == found["size"]).all()
    assert found["regional"].dims == ("run", "member", "region", "step") and found["difference"][-1] == 0
    assert found["difference"][:3].values.std() > 0
    annual = found["regional"].sum(("region", "step"))
    assert np.allclose(found["annual"], annual) and found["annual"].attrs["units"] == "PgC yr-1"
    with pytest.raises(ValueError, match="at least two inversions"):
        one = dataclasses.replace(top, target=top.target.isel(inversion=[0]))
        train.one_against_many(earth.towers, DRIVERS, one, config=config)


def test_plain_numbers_and_what_does_not_fit_them(earth, tmp_path):
    operator = footprints(earth)
    values = observe(operator, earth).values
    own = term(earth, operator, values, sigma=np.full(60, 0.1))
    assert own.observed.tolist() == term(earth, operator).observed.tolist()
    with pytest.raises(ValueError, match=r"sigma has the shape \(5,\) for 60 observations"):
        term(earth, operator, values, sigma=np.ones(5))
    with pytest.raises(ValueError, match="the operator's month has no labels"):
        term(earth, operator.drop_vars("month"), values)
    top = train.LinearConstraint(operator, values, 0.1, earth.grid, weight=np.float32(0.5))
    config, path = dataclasses.replace(SMALL, max_epochs=1), tmp_path / "checkpoint"
    train.fit(earth.towers, DRIVERS, constraints=[top], config=config, checkpoint=path)
    train.fit(earth.towers, DRIVERS, constraints=[top], config=config, checkpoint=path)
    for change in ({"exponent": 3.0}, {"held_out": 0.5}, {"weight": 0.25}):
        other = dataclasses.replace(top, **change)
        with pytest.raises(ValueError, match=r"another run \(its LINEAR settings"):
            train.fit(earth.towers, DRIVERS, constraints=[other], config=config, checkpoint=path)


def test_nan_in_an_operator_is_no_entry_and_infinity_an_error(earth):
    operator, values = footprints(earth), observe(footprints(earth), earth)
    net = Network((3, 8, 1), [(0, 0), (0, 1)], dtype=torch.float64)
    expected = term(earth, operator.where(operator < operator.max(), 0), values).estimate(net)
    holes = operator.where(operator < operator.max())
    for given in (holes, holes.copy(data=sparse.COO(holes.values))):
        assert torch.equal(term(earth, given, values).estimate(net), expected)
    with pytest.raises(ValueError, match="operator of constraint LINEAR has infinite entries"):
        term(earth, operator.where(operator < operator.max(), np.inf), values)


def test_a_constraint_of_another_sign_or_unit_is_refused(earth):
    operator = footprints(earth, 5)
    observed = observe(operator, earth)
    drivers = list(DRIVERS)

    def fit(operator, observed):
        constraint = train.LinearConstraint(operator, observed, 0.1, earth.grid)
        return train.fit(earth.towers, drivers=drivers, constraints=[constraint], config=SMALL)

    with pytest.raises(ValueError, match=r"opposite signs: the towers' flux .* downward"):
        fit(operator, observed.assign_attrs(positive="down"))
    for units in ("ppm / (umol m-2 s-1)", "ppm (umol m-2 s-1)-1", "ppm per umol m-2 s-1"):
        with pytest.raises(ValueError, match=r"multiply the operator by 0\.963623"):
            fit(operator.assign_attrs(units=units), observed)
    for units in ("ppm / (gC m-2 d-1)", "ppm/s", "1"):
        train.LinearConstraint(operator.assign_attrs(units=units), observed, 0.1, earth.grid).check_units(
            earth.towers["nee"]
        )
    renamed = train.LinearConstraint(operator.rename(lat="latitude"), observed, 0.1, earth.grid.rename(lat="latitude"))
    assert renamed.operator.dims == operator.dims
