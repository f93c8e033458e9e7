"""Some regions a step, control variates of dated drivers, targets without a whole year, years that are not held out."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.regions import aggregate_regions  # noqa: E402
from xflux.train.regional import RegionalTerm  # noqa: E402

from test_train_regional import SCALING, SETTING, SMALL, constraint, forward_run, network, term  # isort: skip  # noqa: E402


@pytest.fixture(scope="module")
def earth():
    return world()


def dated(earth, years=4, start="2015-01-01"):
    """The month's drivers in time, each year a little warmer."""
    time = xr.date_range(start, periods=12 * years, freq="MS")
    grid = earth.grid.sel(month=time.month).rename(month="time").assign_coords(time=time)
    grid["warm"] = grid.warm + 0.1 * (grid.time.dt.year - 2015)
    for name in DRIVERS:
        grid[name].attrs["units"] = "1"
    return grid


def shared_cells(earth):
    """Regions that share cells at 30 : 70."""
    weights = earth.weights.copy()
    both = earth.weights[0] + earth.weights[1]
    weights[0], weights[1] = 0.3 * both, 0.7 * both
    return weights


class TestRegionsPerStep:
    @pytest.mark.parametrize("kind", ["full", "sampled"])
    @pytest.mark.parametrize("shared", [False, True])
    def test_only_the_drawn_regions_are_computed_and_are_the_same_numbers(self, earth, kind, shared):
        options = {"integral": kind, "control_variate": False}
        options["regions"] = shared_cells(earth) if shared else earth.weights
        some, net = term(earth, regions_per_step=1, **options), network()
        seen = set()
        for _ in range(6):
            at, area, steps = some.draw()
            assert (some._chosen.sum(1) == 1).all()
            drawn = some.integral.estimate(net, at, area, steps)
            assert at.shape[1] < (len(some.integral.pixels.area) if kind == "full" else 200)
            everything = some.integral.estimate(net, *some.integral.everything(), steps)
            for member, region in some._chosen.nonzero().tolist():
                seen.add(region)
                if kind == "full":
                    assert torch.allclose(drawn[member, region], everything[member, region], rtol=1e-10)
        assert seen == {0, 1, 2}

    @pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_draws_of_some_regions_are_unbiased(self, earth, shared):
        options = {"control_variate": False, "pixels": 150, "regions_per_step": 1}
        options["regions"] = shared_cells(earth) if shared else earth.weights
        found, net = term(earth, members=1, **options), network(1)
        steps = found.calendar.all_steps(found.training)
        full = found.integral.estimate(net, *found.integral.everything(), steps)[0].numpy()
        by_region = {0: [], 1: [], 2: []}
        for _ in range(600):
            estimate = found.integral.estimate(net, *found.draw())[0].numpy()
            region = int(found._chosen[0].nonzero())
            by_region[region].append(estimate[region])
        for region, draws in by_region.items():
            z = (np.mean(draws, 0) - full[region]) / (np.std(draws, 0, ddof=1) / np.sqrt(len(draws)))
            assert len(draws) > 120 and np.abs(z).max() < 4.5

    def test_the_total_still_needs_every_region(self, earth):
        found = term(earth, regions_per_step=1, total=True, integral="full")
        at, _, _ = found.draw()
        assert at.shape[1] == len(found.integral.pixels.area)
        losses = found.forward(network())
        assert losses.shape == (2, 2) and (losses > 0).all()

    def test_the_loss_is_that_of_the_drawn_region(self, earth):
        some, net = term(earth, regions_per_step=1, integral="full"), network()
        losses = some.forward(net)[:, 0]
        whole = term(earth, integral="full")
        for member, region in some._chosen.nonzero().tolist():
            one = whole.training.clone()
            one[:, :, [r for r in range(3) if r != region]] = torch.nan
            estimate = whole.integral.estimate(net, *whole.draw())
            assert losses[member].item() == pytest.approx(whole.losses(one, estimate)[member, 0].item(), rel=1e-10)

    def test_members_alone_and_together(self, earth):
        config = dataclasses.replace(SMALL, dtype="float64", batch=2000)
        top = [constraint(earth, regions_per_step=2, pixels=60)]
        together = train.fit(earth.towers, DRIVERS, constraints=top, config=config)
        alone = train.fit(earth.towers, DRIVERS, constraints=top, config=dataclasses.replace(config, members=(2,)))
        assert np.abs(alone.last_weights["weight0"][0] - together.last_weights["weight0"][2]).max() < 1e-10


class TestDatedDrivers:
    @pytest.mark.slow
    def test_a_control_variate_is_unbiased_and_has_less_noise(self, earth):
        setting = dataclasses.replace(SETTING, validation_years=1)
        sd = {}
        for controlled in (False, True):
            found = term(earth, drivers=dated(earth), setting=setting, control_variate=controlled, members=2)
            assert found.controlled is controlled
            net = network()
            found.renew(net)
            with torch.no_grad():
                for p in net.parameters:
                    p += 0.01 * torch.randn(p.shape, generator=torch.manual_seed(1), dtype=p.dtype)
            errors = []
            for _ in range(200):
                at, area, steps = found.draw()
                full = found.integral.estimate(net, *found.integral.everything(), steps)
                errors.append((found.integral.estimate(net, at, area, steps, found.field) - full).numpy())
            z = np.mean(errors, 0) / (np.std(errors, 0, ddof=1) / np.sqrt(200))
            assert np.abs(z).max() < 4.7
            sd[controlled] = np.std(errors, axis=0).mean()
        assert sd[True] < 0.2 * sd[False]

    def test_it_is_off_unless_asked_for(self, earth):
        setting = dataclasses.replace(SETTING, validation_years=1)
        assert not term(earth, drivers=dated(earth), setting=setting).controlled
        assert term(earth).controlled and not term(earth, control_variate=False).controlled

    def test_too_large_a_field_is_told(self, earth, monkeypatch):
        from xflux.train import regional

        monkeypatch.setattr(regional, "CONTROL_LIMIT", 100)
        with pytest.warns(UserWarning, match=r"no control variate: a field of 2 members × \d+ pixels × 12 steps"):
            assert not term(earth, control_variate=True).controlled
        assert not term(earth).controlled

    def test_validation_is_the_full_integral_with_and_without_it(self, earth):
        config = dataclasses.replace(SMALL, max_epochs=2, validation_years=1, dtype="float64")
        grid = dated(earth)
        for controlled in (False, True):
            top = constraint(earth, drivers=grid, control_variate=controlled, total=True)
            model = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
            held = {int(m): years for m, years in model.attrs["constraints"][0]["held_out_years"].items()}
            full = train.regional_integrals(model.last, top)["full"]
            for member, years in held.items():
                own = full.isel(member=member, step=np.isin(full["year"], years))
                expected = 12 * float(own.mean("step").sum("region"))
                assert float(model.history["ATM_integral"][-1, member]) == pytest.approx(expected, rel=1e-6)

    def test_without_held_out_years_all_training_years_validate(self, earth):
        config = dataclasses.replace(SMALL, max_epochs=1, validation_years=0)
        top = constraint(earth, drivers=dated(earth), integral="full")
        model = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
        found = train.regional_integrals(model.last, top)["full"]
        assert found.sizes["step"] == 48
        expected = 12 * found.mean("step").sum("region")
        np.testing.assert_allclose(model.history["ATM_integral"][-1], expected, rtol=1e-5)
        assert model.attrs["constraints"][0]["held_out_years"] == {"0": [], "1": [], "2": []}


class TestLookingBack:
    @pytest.fixture(scope="class")
    def model(self, earth):
        return train.fit(earth.towers, DRIVERS, config=SMALL)

    @pytest.mark.parametrize("months", [1, 7])
    def test_less_than_a_year(self, earth, model, months):
        """Some months of a target are enough to ask what the flux adds up to."""
        target = earth.target.isel(time=slice(4, 4 + months))
        top = constraint(earth, target=target, drivers=dated(earth), integral="full")
        if months == 1:  # one step of a target says nothing of its length
            with pytest.raises(ValueError, match="the target has one time step"):
                train.regional_integrals(model, top)
            return
        found = train.regional_integrals(model, top)["full"]
        expected = aggregate_regions(forward_run(model, dated(earth)), earth.weights, "PgC month-1")
        expected = expected.transpose("member", "region", "time")[..., 4 : 4 + months]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert found["month"].values.tolist() == list(range(5, 5 + months)) and (found["year"] == 2015).all()

    def test_a_climatology_of_drivers_gives_its_whole_year(self, earth, model):
        whole = train.regional_integrals(model, constraint(earth, integral="full"))["full"]
        some = constraint(earth, target=earth.target.isel(time=slice(4, 11)), integral="full")
        xr.testing.assert_identical(train.regional_integrals(model, some)["full"], whole)
        assert whole["month"].values.tolist() == list(range(1, 13))

    def test_years_that_do_not_meet(self, earth, model):
        top = constraint(earth, drivers=dated(earth, start="1980-01-01"), integral="full")
        with pytest.raises(ValueError, match=r"no step of the target \(2015 … 2018\) is covered by the drivers"):
            train.regional_integrals(model, top)
        with pytest.raises(ValueError, match="no step of the target"):
            train.fit(earth.towers, DRIVERS, constraints=[top], config=SMALL)

    def test_training_still_needs_whole_years(self, earth):
        top = constraint(earth, target=earth.target.isel(time=slice(4, 11)))
        with pytest.raises(ValueError, match="the target has 0 whole years"):
            train.fit(earth.towers, DRIVERS, constraints=[top], config=SMALL)


def test_drivers_from_a_lazy_store_are_the_same(earth, tmp_path):
    pytest.importorskip("dask")
    dated(earth).chunk(time=7, lat=5).to_zarr(tmp_path / "drivers.zarr", consolidated=False)
    lazy = xr.open_zarr(tmp_path / "drivers.zarr", consolidated=False)
    found = []
    for grid in (dated(earth), lazy):
        one = RegionalTerm(constraint(earth, drivers=grid, integral="full"), SCALING, [0], 0, SETTING)
        found.append(
            one.integral.estimate(network(1), *one.integral.everything(), one.calendar.every_step(one.training))
        )
    assert torch.equal(*found)


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_into_regions_and_back_on_any_device(common, dtype):
    """The CPU's kernels, torch's operations and a dense matrix agree; the way back is the transpose."""
    from xflux.train import sums

    rng = np.random.default_rng(0)
    region, share = torch.tensor(rng.integers(0, 4, (50, 2))), torch.tensor(rng.random((50, 2)))
    share[::3, 1] = 0
    at = torch.tensor(rng.integers(0, 50, (1 if common else 3, 20)))
    area = torch.tensor(rng.random((1, 20))).expand(len(at), -1)
    stored = torch.tensor(rng.normal(size=(3, 50, 5)), dtype=dtype)
    dense = torch.zeros(3, 4, 20, dtype=torch.float64)
    for member in range(3):
        for j, pixel in enumerate(at[member % len(at)].tolist()):
            for k in range(2):
                dense[member, region[pixel, k], j] += area[member % len(at), j] * share[pixel, k]
    of_pixels = torch.stack([stored[m, at[m % len(at)]] for m in range(3)])
    expected = dense @ of_pixels.double()
    for add in (sums.add, sums.add_anywhere):
        total = torch.zeros(3, 4, 5, dtype=torch.float64)
        add(total, stored, at, area, region, share, rows=at)
        assert torch.allclose(total, expected, rtol=1e-12)
    total = torch.zeros(3, 4, 5, dtype=torch.float64)
    sums.add(total, of_pixels, at, area, region, share)
    assert torch.allclose(total, expected, rtol=1e-12)
    slope = torch.tensor(rng.normal(size=(3, 4, 5)))
    for spread in (sums.spread, sums.spread_anywhere):
        found = spread(slope, at, area, region, share, dtype)
        assert found.dtype == dtype
        assert torch.allclose(
            found.double(), dense.transpose(1, 2) @ slope, atol=1e-6 if dtype == torch.float32 else 1e-12
        )
