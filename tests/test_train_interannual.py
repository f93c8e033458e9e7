"""A constraint that sees years: several at once, and annual anomalies as a loss of their own."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DRIVERS, truth, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.train import interannual  # noqa: E402
from xflux.train.objective import anomaly_loss  # noqa: E402

from test_train_regional import SETTING, SMALL, constraint, network, term  # isort: skip  # noqa: E402

YEARS = 8
SEEN = dataclasses.replace(SETTING, validation_years=2)


@pytest.fixture(scope="module")
def earth():
    """Drivers that differ from year to year, and inversions of their flux with offsets larger than its anomalies."""
    small = world()
    rng = np.random.default_rng(5)
    time = xr.date_range("2001-01-01", periods=12 * YEARS, freq="MS")
    grid = small.grid.sel(month=time.month).rename(month="time").assign_coords(time=time)
    grid["wet"] = grid.wet + xr.DataArray(rng.normal(size=YEARS) * 0.5, {"year": np.unique(time.year)}).sel(
        year=grid.time.dt.year
    ).drop_vars("year")
    for name in DRIVERS:
        grid[name].attrs["units"] = "1"
    flux = truth(grid.warm, grid.wet, grid.green)
    regional = (flux * grid.time.dt.days_in_month * small.weights).sum(("lat", "lon")) * 1e-15
    offset = xr.DataArray([-0.5, 0.1, 0.6], {"inversion": list("abc")})
    target = (regional + offset).transpose("inversion", "region", "time").assign_attrs(units="PgC month-1")
    return dataclasses.replace(small, grid=grid, target=target, regional=regional)


def plain(target, estimate, area, mean_over, judged):
    """The equations of `anomaly_loss` in loops."""
    target = np.concatenate([target, target.sum(1, keepdims=True)], 1)
    estimate = np.concatenate([estimate, estimate.sum(0, keepdims=True)])
    losses = []
    for r in range(len(estimate)):
        misfit, square = [], []
        for inversion in target[:, r]:
            there = np.isfinite(inversion) & mean_over
            if there.sum() < 2:
                continue
            own = inversion - inversion[there].mean()
            model = estimate[r] - estimate[r][there].mean()
            misfit += list((model - own)[np.isfinite(inversion) & judged] ** 2)
            square += list(own[there] ** 2)
        losses.append(np.mean(misfit) / np.mean(square) if misfit else np.nan)
    regions, total = np.array(losses[:-1]), losses[-1]
    some = np.isfinite(regions)
    mean = (regions * area)[some].sum() / area[some].sum()
    return mean if np.isnan(total) else (mean + total) / 2


@pytest.mark.parametrize("gaps", ["none", "years", "an inversion with one year", "no sum"])
@pytest.mark.parametrize("held_out", [False, True])
def test_the_loss_is_its_equations(gaps, held_out):
    rng = np.random.default_rng(1)
    target, estimate = rng.normal(size=(3, 4, 6)) + 5, rng.normal(size=(4, 6)) - 3
    area = np.array([1.0, 2.0, 0.5, 3.0])
    if gaps == "years":
        target[0, :, 4:], target[1, 2, 0] = np.nan, np.nan
    elif gaps == "an inversion with one year":
        target[2, :, 1:] = np.nan
    elif gaps == "no sum":
        target[:, 1] = np.nan
    judged = np.arange(6) >= 3 if held_out else np.ones(6, bool)
    mean_over = ~judged if held_out else judged
    tensors = [torch.tensor(a)[None] for a in (target, estimate, area, mean_over, judged)]
    expected = plain(target, estimate, area, mean_over, judged)
    assert anomaly_loss(*tensors).item() == pytest.approx(expected, rel=1e-12)


def test_offsets_of_inversions_and_of_the_model_do_not_count():
    rng = np.random.default_rng(2)
    target, estimate = torch.tensor(rng.normal(size=(1, 3, 2, 5))), torch.tensor(rng.normal(size=(1, 2, 5)))
    area, every = torch.ones(2, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool)
    moved = anomaly_loss(target + torch.randn(1, 3, 2, 1), estimate + torch.randn(1, 2, 1), area, every, every)
    assert moved.item() == pytest.approx(anomaly_loss(target, estimate, area, every, every).item(), rel=1e-9)
    perfect = anomaly_loss(target[:, :1], target[:, 0] + 7, area, every, every)
    assert perfect.item() == pytest.approx(0, abs=1e-20)
    still = anomaly_loss(target, torch.zeros_like(estimate), area, every, every)
    assert still.item() == pytest.approx(1, rel=1e-12)


def test_its_slope():
    rng = np.random.default_rng(3)
    target, area = torch.tensor(rng.normal(size=(1, 3, 2, 5))), torch.tensor([1.0, 2.0], dtype=torch.float64)
    target[0, 0, 1, 2] = torch.nan
    every = torch.ones(1, 5, dtype=torch.bool)
    estimate = torch.tensor(rng.normal(size=(1, 2, 5)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: anomaly_loss(target, e, area, every, every), estimate)


@pytest.mark.parametrize("by_year", [False, True])
@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_a_step_sees_the_training_years_whole(earth, kind, by_year):
    target = earth.target
    if by_year:
        target = target.resample(time="YS").sum().assign_attrs(units="PgC yr-1")
    options = {"drivers": earth.grid, "target": target, "setting": SEEN, "integral": kind, "total": True}
    found = term(earth, years_per_step="all", anomalies=True, **options)
    per_year = 1 if by_year else 12
    _, _, steps = found.draw()
    assert steps.target.shape[-1] == (YEARS - 2) * per_year
    for member, (training, held_out) in enumerate(found.years):
        seen = found.calendar.year[steps.numbers[member]]
        assert seen.tolist() == np.repeat(training, per_year).tolist() and not set(seen) & set(held_out)
    losses = found.forward(network())
    assert found.names == ["ATM", "ATM_total", "ATM_anomalies"] and losses.shape == (2, 3)
    if kind == "full":
        every = found.integral.estimate(network(), *found.integral.everything(), steps)
        for member in range(2):
            a, e = steps.target[member].numpy(), every[member].detach().numpy()
            a, e = (x.reshape(*x.shape[:-1], -1, per_year).sum(-1) * (12 / per_year) for x in (a, e))
            years = np.ones(YEARS - 2, bool)
            expected = plain(a, e, found.area.numpy(), years, years)
            assert losses[member, 2].item() == pytest.approx(expected, rel=1e-6)


def test_some_years_a_step_expect_what_all_give(earth):
    options = {"drivers": earth.grid, "setting": SEEN, "integral": "full", "anomalies": True, "members": 1}
    net = network(1)
    every = term(earth, years_per_step="all", **options).forward(net)[0, -1].item()
    some = term(earth, years_per_step=3, **options)
    seen = np.array([some.forward(net)[0, -1].item() for _ in range(20)])
    assert abs(seen.mean() - every) < 4.5 * seen.std(ddof=1) / np.sqrt(len(seen))
    assert seen.std() > 0


def test_held_out_years_are_judged_against_the_training_years_mean(earth):
    found = term(
        earth, drivers=earth.grid, setting=SEEN, integral="full", years_per_step="all", anomalies=2.0, members=2
    )
    net = network()
    losses = found.validate(net, 0)
    assert found.weights == [1.0, 2.0]
    estimate = found.integral.estimate(net, *found.integral.everything(), found.calendar.every_step(found.training))
    for member, (_, held_out) in enumerate(found.years):
        judged = np.isin(np.arange(2001, 2001 + YEARS), held_out)
        a, e = found.training[member].numpy(), estimate[member].detach().numpy()
        a, e = (x.reshape(*x.shape[:-1], YEARS, 12).sum(-1) for x in (a, e))
        assert losses[member, 1].item() == pytest.approx(plain(a, e, found.area.numpy(), ~judged, judged), rel=1e-6)


def test_members_with_fewer_years_have_no_target_in_the_last_places(earth):
    target = earth.target.copy()
    target[0, :, 24:] = np.nan
    target[1:, :, :24] = np.nan
    setting = dataclasses.replace(SEEN, validation_years=0, resample_inversions=1)
    found = term(earth, target=target, drivers=earth.grid, setting=setting, integral="full", years_per_step="all",
                 anomalies=True, members=6)  # fmt: skip
    lengths = [len(training) for training, _ in found.years]
    assert set(lengths) == {2, 6}
    _, _, steps = found.draw()
    there = torch.isfinite(steps.target).any(1).any(1).sum(-1)
    assert there.tolist() == [12 * n for n in lengths]
    assert torch.isfinite(found.forward(network(6))).all()


def test_it_learns_years_that_it_has_not_seen(earth):
    """Towers without the driver that varies know nothing of years; the anomalies teach it through the offsets."""
    towers = earth.towers.copy()
    towers["nee"] = towers.nee - truth(*(towers[d] for d in DRIVERS)) + truth(towers.warm, 0 * towers.wet, towers.green)
    towers["nee"].attrs["units"] = "gC m-2 d-1"
    unseen = earth.grid.time.dt.year > 2006
    config = dataclasses.replace(SMALL, max_epochs=40, batch=1000, validation_years=1, learning_rate=0.01)
    found = {}
    for name, options in {"EC": None, "ATM": {}, "IAV": {"years_per_step": "all", "anomalies": True}}.items():
        top = [] if options is None else [constraint(earth, target=earth.target[..., ~unseen.values],
               drivers=earth.grid, integral="full", total=True, **options)]  # fmt: skip
        model = train.fit(towers, DRIVERS, constraints=top, config=config)
        whole = constraint(earth, drivers=earth.grid, integral="full")
        months = train.regional_integrals(model, whole).full.mean("member").sum("region").values
        annual, true = (x.reshape(YEARS, 12).sum(1) for x in (months, earth.regional.sum("region").values))
        found[name] = np.corrcoef(annual, true)[0, 1], np.std(annual) / np.std(true)
        if name == "IAV":
            assert model.history.term.values.tolist() == ["EC", "ATM", "ATM_total", "ATM_anomalies"]
            assert model.attrs["constraints"][0]["anomalies"] is True
            seen = train.regional_integrals(model, top[0]).full  # the constraint itself serves to look back
            np.testing.assert_allclose(seen, train.regional_integrals(model, whole).full.isel(step=slice(72)))
    assert found["IAV"][0] > 0.95 and 0.7 < found["IAV"][1] < 1.3
    assert abs(found["IAV"][1] - 1) < abs(found["EC"][1] - 1)


def test_draws_noise_is_told_beside_the_anomalies(earth):
    config = dataclasses.replace(SMALL, max_epochs=1, validation_years=1)
    top = constraint(earth, drivers=earth.grid, pixels=12, years_per_step="all", anomalies=True, control_variate=False,
                     sampling_error=0.1)  # fmt: skip
    months = pytest.warns(UserWarning, match=r"of the inversions' range at \d+ of 336 region-steps")
    years = pytest.warns(UserWarning, match=r"of the inversions' annual anomalies at \d+ of 28 region-years")
    with months, years:
        model = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
    error = model.history.ATM_anomaly_error
    assert error.dims == ("epoch", "region", "year") and error.sizes["region"] == 4 and (error > 0).all()
    assert term(earth, drivers=earth.grid, setting=SEEN, years_per_step="all", anomalies=True).controlled


def test_the_noise_is_that_of_the_draws(earth):
    options = {"drivers": earth.grid, "setting": SEEN, "pixels": 60, "control_variate": False, "members": 1}
    found, net = term(earth, years_per_step="all", anomalies=True, **options), network(1)
    told, sums = [], []
    for number in range(40):
        if number < 8:
            found.sampling_error(net)
            told.append(found.report["anomaly_error"][0] ** 2)
        at, area, steps = found.draw()
        one = found.integral.estimate(net, at, area, steps)[0].detach().numpy().reshape(3, -1, 12).sum(-1)
        sums.append(np.concatenate([one, one.sum(0, keepdims=True)]))
    unit = interannual.noise(torch.ones(1, 4, YEARS - 2), found.anomaly_scale)[0].numpy()
    true = np.std(sums, axis=0, ddof=1) * unit
    ratio = np.sqrt(np.mean(told, 0)).mean() / true.mean()
    assert 0.8 < ratio < 2  # neighbours' differences bound the variance from above


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"anomalies": True}, "anomalies compare years: set years_per_step='all'"),
        ({"anomalies": True, "years_per_step": 3, "months_per_step": 6}, "months_per_step is 6; expected 12"),
        ({"anomalies": -1.0, "years_per_step": 3}, "anomalies is -1.0; expected a number above 0"),
        ({"years_per_step": 0}, "years_per_step is 0; expected 'all' or a number"),
        ({"years_per_step": True}, "years_per_step is True; expected"),
        ({"years_per_step": "some"}, "years_per_step is 'some'; expected"),
        ({"years_per_step": 2, "misfit": "covariance"}, "misfit='covariance' is of one year"),
    ],
)
def test_settings_that_do_not_fit(earth, options, words):
    with pytest.raises(ValueError, match=words):
        constraint(earth, drivers=earth.grid, **options)


def test_years_that_do_not_differ_have_no_anomalies(earth):
    """A climatology repeated: the rounding of its sums is no anomaly to divide by."""
    months = earth.target.isel(time=slice(0, 12)).values
    same = earth.target.copy(data=np.tile(months, (1, 1, YEARS)))
    options = {"drivers": earth.grid, "setting": SEEN, "integral": "full", "years_per_step": "all", "anomalies": True}
    with pytest.raises(ValueError, match="anomalies: the target has none, its years do not differ"):
        term(earth, target=same, **options)
    one = xr.where(earth.target.region == "north", earth.target, same).transpose(*same.dims).assign_attrs(same.attrs)
    losses = term(earth, target=one, **options).forward(network())
    assert losses[:, 1].max() < 1e3


def test_what_knows_no_years_is_told_before_training(earth):
    climatology = earth.grid.isel(time=slice(12)).assign_coords(month=("time", np.arange(1, 13)))
    climatology = climatology.swap_dims(time="month").drop_vars("time")
    for options in ({"drivers": climatology}, {"target": earth.target.isel(time=slice(24)), "drivers": earth.grid}):
        top = constraint(earth, years_per_step="all", anomalies=True, **options)
        words = "are a climatology" if "target" not in options else "need two training years of each member"
        with pytest.raises(ValueError, match=words):
            train.fit(earth.towers, DRIVERS, constraints=[top], config=dataclasses.replace(SMALL, validation_years=1))
