"""Regional constraints: integrals against the forward run, unbiased draws, targets by member, bridge, errors."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import BANDS, DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.regions import aggregate_regions  # noqa: E402
from xflux.train.data import Scaling, Setting  # noqa: E402
from xflux.train.draws import Curve, allocate  # noqa: E402
from xflux.train.network import Network  # noqa: E402
from xflux.train.objective import total_loss  # noqa: E402
from xflux.train.regional import RegionalTerm  # noqa: E402
from xflux.train.target import standard_target, training_target  # noqa: E402

SMALL = train.TrainConfig(folds=3, max_epochs=3, batch=1000, hidden=(16, 16))
SETTING = Setting(0, 2, torch.float64, torch.device("cpu"), 512, ("nee",))
SCALING = Scaling(tuple(DRIVERS), np.zeros(3), np.ones(3), {})


@pytest.fixture(scope="module")
def earth():
    return world()


@pytest.fixture(scope="module")
def ec(earth):
    return train.fit(earth.towers, DRIVERS, config=SMALL)


def constraint(earth, **options):
    options = {"integral": "sampled", "regions": earth.weights, "pixels": 200, "sampling_error": 0} | options
    return train.RegionalConstraint(options.pop("target", earth.target), options.pop("drivers", earth.grid), **options)


def term(earth, members=2, setting=SETTING, **options):
    found = RegionalTerm(constraint(earth, **options), SCALING, list(range(members)), 0, setting)
    found.start_epoch(0)
    return found


def network(members=2, dtype=torch.float64):
    return Network((3, 8, 8, 1), [(0, m) for m in range(members)], dtype=dtype, block_rows=512)


def forward_run(model, grid):
    """The model's flux on the grid, (member, step, lat, lon), written without xflux."""
    everything = xr.broadcast(*[grid[name] for name in DRIVERS])
    step = next(d for d in ("time", "dayofyear", "month") if d in everything[0].dims)
    parts = [a.transpose(step, "lat", "lon") for a in everything]
    rows = np.stack([a.values.ravel() for a in parts], 1)
    values = model.predict(rows).reshape(model.members, *parts[0].shape)
    coords = {step: grid[step], "lat": grid.lat, "lon": grid.lon}
    attrs = {"units": "gC m-2 d-1", "area_basis": "land"}
    return xr.DataArray(values, dims=("member", step, "lat", "lon"), coords=coords, attrs=attrs)


class TestIntegral:
    @pytest.mark.parametrize("gaps", [False, True])
    def test_full_equals_aggregate_regions_of_the_forward_run(self, earth, ec, gaps):
        grid = earth.grid.copy(deep=True)
        rng = np.random.default_rng(3)
        if gaps:
            grid["wet"] = grid.wet.where(rng.random(grid.wet.shape) > 0.1)  # a cell that is there in some months only
            grid["green"] = grid.green.where(rng.random(grid.green.shape) > 0.3)
        land = xr.DataArray(rng.random((18, 36)), dims=("lat", "lon"), coords={"lat": grid.lat, "lon": grid.lon})
        top = constraint(
            earth, drivers=grid, regions="latitude-bands", land_fraction=land, target=band_target(), integral="full"
        )
        with pytest.warns(UserWarning, match="drivers cover a part of the land only") if gaps else nullcontext():
            found = train.regional_integrals(ec, top)["full"]
        expected = aggregate_regions(forward_run(ec, grid), "latitude-bands", "PgC month-1", land_fraction=land)
        expected = expected.sel(region=found.region.values).transpose("member", "region", "month")
        assert np.allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("lost", ["cells without drivers", "a grid that ends"])
    def test_the_share_of_a_region_that_the_drivers_cover(self, earth, lost):
        """The target is the whole region's: what is not modelled is told by name, and kept with the model."""
        whole = term(earth, integral="full")
        assert set(whole.modelled_share.values()) == {1.0}
        rows = slice(0, 9)
        grid = earth.grid.isel(lat=rows) if lost == "a grid that ends" else earth.grid.where(earth.grid.lat < 0)
        weights = earth.weights
        share = weights.isel(lat=rows).sum(("lat", "lon")) / weights.sum(("lat", "lon"))
        with (
            pytest.warns(UserWarning, match="no modelled land or no target in north"),
            pytest.warns(UserWarning, match=r"drivers cover a part of the land only of .*\(\d+ %\)"),
        ):
            part = term(earth, integral="full", drivers=grid)
        expected = {k: v for k, v in zip(weights.region.values.tolist(), share.values.tolist(), strict=True) if v > 0}
        assert part.describe()["modelled_share"] == pytest.approx(expected, abs=1e-6)

    def test_daily_drivers_sum_to_months(self, earth, ec):
        time = xr.date_range("2015-01-01", "2016-12-31", freq="D")
        rng = np.random.default_rng(0)
        grid = earth.grid.drop_vars("wet")
        grid["wet"] = (("time", "lat", "lon"), rng.normal(size=(len(time), 18, 36)), {"units": "1"})
        grid = grid.assign_coords(time=time)
        top = constraint(earth, drivers=grid, integral="full", target=earth.target.sel(time=slice("2015", "2016")))
        found = train.regional_integrals(ec, top)["full"]
        # warm and green follow month and map; the forward run gets them by date
        dated = grid.assign(warm=grid.warm.sel(month=grid.time.dt.month).drop_vars("month")).drop_dims("month")
        flux = forward_run(ec, dated)
        expected = aggregate_regions(flux, earth.weights, "PgC month-1").transpose("member", "region", "time")
        assert found.shape == (3, 3, 24)
        assert np.allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)

    def test_a_climatology_of_days_sums_to_its_year(self, earth, ec):
        grid = earth.grid.drop_vars("wet")
        wet = np.random.default_rng(0).normal(size=(365, 18, 36))
        grid["wet"] = (("dayofyear", "lat", "lon"), wet, {"units": "1"})
        grid = grid.assign_coords(dayofyear=np.arange(1, 366))
        top = constraint(earth, drivers=grid, integral="full")
        slot = term(earth, drivers=grid, integral="full").calendar.matrix[0].numpy()
        assert slot.shape == (365, 12) and slot.sum() == pytest.approx(365.2425)
        assert slot[:31, 0].all() and not slot[31, 0] and slot[31, 1] and slot[364, 11]
        month = xr.DataArray(slot.argmax(1) + 1, dims="dayofyear", coords={"dayofyear": grid.dayofyear})
        daily = grid.assign(warm=grid.warm.sel(month=month).drop_vars("month")).drop_dims("month")
        expected = aggregate_regions(forward_run(ec, daily), earth.weights, "PgC month-1")
        found = train.regional_integrals(ec, top)["full"]
        np.testing.assert_allclose(found, expected.transpose("member", "region", "month"), rtol=1e-5)
        annual = (12 * earth.target.mean("time")).assign_attrs(units="PgC yr-1")
        year = train.regional_integrals(ec, constraint(earth, drivers=grid, integral="full", target=annual))["full"]
        np.testing.assert_allclose(12 * year[..., 0], expected.sum("month"), rtol=1e-5)

    def test_gradients_against_finite_differences(self, earth):
        for options in ({"integral": "full"}, {"integral": "sampled"}, {"integral": "full", "misfit": "covariance"}):
            found, net = term(earth, total=True, **options), network()
            drawn = found.draw()

            def loss(found=found, net=net, drawn=drawn):
                estimate = found.integral.estimate(net, *drawn).requires_grad_()
                return total_loss(found.losses(drawn[2].target, estimate), torch.ones(2, 2) * 0.3).sum(), estimate

            value, estimate = loss()
            value.backward()
            found.integral.propagate(net, *drawn, estimate.grad)
            for parameter, place in ((net.parameters[0], (1, 2, 3)), (net.parameters[3], (0, 0, 5))):
                with torch.no_grad():
                    slope = []
                    for h in (1e-6, -1e-6):
                        parameter[place] += h
                        slope.append(loss()[0].item())
                        parameter[place] -= h
                assert parameter.grad[place].item() == pytest.approx((slope[0] - slope[1]) / 2e-6, rel=1e-5)


def band_target(inversions=3):
    """A target on the ten-degree bands, without noise to speak of."""
    names = [f"{s}S-{s - 10}S" if s > 10 else "10S-EQ" for s in range(90, 0, -10)]
    names += ["EQ-10N"] + [f"{n}N-{n + 10}N" for n in range(10, 90, 10)]
    values = np.random.default_rng(0).normal(size=(inversions, 18, 12)) * 0.1
    coords = {"region": names, "month": np.arange(1, 13)}
    return xr.DataArray(values, dims=("inversion", "region", "month"), coords=coords, attrs={"units": "PgC month-1"})


class TestDraws:
    def test_allocation(self):
        share, available = np.array([1.0, 5.0, 0.01, 3.0]), np.array([500, 40, 300, 4])
        counts = allocate(200, share, available, floor=10)
        assert counts.sum() == 200 and (counts <= available).all() and counts[1] == 40 and counts[3] == 4
        assert counts[2] >= 10
        assert counts[0] == 200 - 40 - 4 - 10
        assert allocate(10_000, share, available).tolist() == available.tolist()

    def test_every_pixel_stands_for_its_area(self):
        """Exact: over equally spaced points, the area that the draws give each pixel is its own area."""
        rng = np.random.default_rng(0)
        area, stratum = rng.random(60) + 0.1, np.repeat([0, 1, 2], 20)
        curve = Curve.along(stratum, area, rng.uniform(-90, 90, 60), rng.uniform(-180, 180, 60), 3)
        design = curve.design(np.array([7, 20, 3]))
        given, points = np.zeros(60), (np.arange(4000) + 0.5) / 4000

        class Fixed:
            def __init__(self, u):
                self.u = u

            def random(self, n):
                return np.full(n, self.u)

        for u in points:
            np.add.at(given, design.draw(Fixed(u), curve), design.area / len(points))
        assert np.allclose(given, area, atol=2e-3)
        assert np.bincount(design.stratum).tolist() == [7, 20, 3]

    @pytest.mark.parametrize("controlled", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_unbiased_and_its_error_is_what_it_says(self, earth, controlled):
        found, net = term(earth, members=1, control_variate=controlled), network(1)
        if controlled:
            found.renew(net)
            with torch.no_grad():
                for p in net.parameters:
                    p += 0.02 * torch.randn(p.shape, generator=torch.manual_seed(0), dtype=p.dtype)
        steps = found.calendar.all_steps(found.training)
        full = found.integral.estimate(net, *found.integral.everything(), steps)[0].numpy()
        draws = np.stack([found.integral.estimate(net, *found.draw(), found.field)[0].numpy() for _ in range(200)])
        z = (draws.mean(0) - full) / (draws.std(0, ddof=1) / np.sqrt(len(draws)))
        assert np.abs(z).max() < 4.5 and 0.6 < z.std() < 1.5
        spread = (found.training.amax(1) - found.training.amin(1))[0].numpy()
        errors = np.stack([found.sampling_error(net)[0, :-1] for _ in range(50)])
        claimed = np.sqrt((errors**2).mean(0)) * spread
        assert 0.9 < np.median(claimed / draws.std(0)) < 1.4  # neighbours differ a little more than an interval

    def test_control_variate_has_less_noise(self, earth):
        net, sd = network(1), {}
        moved = network(1)
        with torch.no_grad():
            for p in moved.parameters:
                p += 0.01
        for controlled in (False, True):
            found = term(earth, members=1, control_variate=controlled)
            found.renew(net)
            draws = [found.integral.estimate(moved, *found.draw(), found.field).numpy() for _ in range(30)]
            sd[controlled] = np.std(draws, axis=0).mean()
        assert sd[True] < 0.2 * sd[False]

    def test_members_have_their_own_draws_and_all_pixels_make_it_exact(self, earth):
        found = term(earth)
        at, _, _ = found.draw()
        assert not torch.equal(at[0], at[1]) and not torch.equal(at, found.draw()[0])
        whole, net = term(earth, pixels=10**6, control_variate=False), network()
        at, area, steps = whole.draw()
        assert (torch.sort(at[0]).values == torch.arange(len(whole.integral.pixels.area))).all()
        exact = whole.integral.estimate(net, *whole.integral.everything(), steps)
        assert torch.allclose(whole.integral.estimate(net, at, area, steps), exact, rtol=1e-12)

    def test_fractional_regions(self, earth):
        """Cells shared by two regions are drawn once and count for both."""
        shared = earth.weights.copy()
        shared[0] = 0.3 * (earth.weights[0] + earth.weights[1])
        shared[1] = 0.7 * (earth.weights[0] + earth.weights[1])
        found, net = term(earth, members=1, regions=shared, control_variate=False, pixels=300), network(1)
        steps = found.calendar.all_steps(found.training)
        full = found.integral.estimate(net, *found.integral.everything(), steps)[0].numpy()
        draws = np.stack([found.integral.estimate(net, *found.draw())[0].numpy() for _ in range(300)])
        z = (draws.mean(0) - full) / (draws.std(0, ddof=1) / np.sqrt(300))
        assert np.abs(z).max() < 4.5

    def test_too_few_draws_warn(self, earth):
        with pytest.warns(UserWarning, match=r"standard error .* more than 0.1 .* draw more than pixels=70"):
            train.fit(
                earth.towers, DRIVERS, config=SMALL,
                constraints=[constraint(earth, pixels=70, sampling_error=0.1, control_variate=False)],
            )  # fmt: skip


class TestTarget:
    def test_mean_cycle_of_the_members_own_training_years(self, earth):
        found = term(earth, members=3)
        months = earth.target.transpose("inversion", "region", "time").values
        for member, (years, held_out) in enumerate(found.years):
            assert len(held_out) == 2 and not set(years) & set(held_out) and len(years) == 2
            for which, chosen in ((found.training, years), (found.validation, held_out)):
                at = np.isin(earth.target.time.dt.year.values, chosen)
                expected = months[..., at].reshape(5, 3, 2, 12).mean(2)
                assert np.allclose(which[member].numpy(), expected, rtol=1e-12)
        assert len({tuple(h) for _, h in found.years}) > 1

    def test_gaps_use_the_years_that_are_there(self):
        values = np.arange(48.0).reshape(1, 1, 48)
        values[0, 0, 3] = np.nan
        target = standard_target(as_target(values, "PgC month-1"))
        cycle = training_target(target, np.array([2015, 2016]))[0, 0]
        assert cycle[3] == 15 and cycle[4] == (4 + 16) / 2

    def test_units(self):
        months = np.ones((1, 1, 48))
        leap = standard_target(as_target(months, "PgC yr-1")).values[0, 0]
        assert leap[0] == pytest.approx(31 / 365.2425) and leap[13] == pytest.approx(29 / 365.2425)
        for text in ("TgC month-1", "Tg C mon-1", "TgC month^-1", "TgC/month"):
            assert standard_target(as_target(months, text)).values[0, 0, 0] == pytest.approx(1e-3)
        for text in ("PgC y-1", "PgC yr^-1", "Pg C per year", "GtC a-1"):
            assert standard_target(as_target(months, text)).values[0, 0, 0] == pytest.approx(31 / 365.2425)
        assert standard_target(as_target(months, "PgCO2 month-1")).values[0, 0, 0] == pytest.approx(12.011 / 44.009)
        years = xr.DataArray(
            np.ones((1, 1, 4)), dims=("inversion", "region", "time"),
            coords={"region": ["x"], "inversion": ["a"], "time": xr.date_range("2015-01-01", periods=4, freq="YS")},
            attrs={"units": "PgC yr-1"},
        )  # fmt: skip
        assert standard_target(years).values[0, 0, 0] == pytest.approx(1 / 12)
        with pytest.raises(ValueError, match="'gC m-2 d-1'; expected an amount of carbon, water or energy per month"):
            standard_target(as_target(months, "gC m-2 d-1"))
        twice = years.rename(time="year").assign_coords(year=[2015, 2015, 2016, 2017])
        with pytest.raises(ValueError, match=r"the target names a year twice: \[2015, 2015"):
            standard_target(twice)
        with pytest.raises(ValueError, match="target has no units"):
            standard_target(as_target(months, None))

    def test_annual_and_mean_targets_enter_per_month(self, earth):
        annual = earth.target.groupby("time.year").sum("time")
        annual = annual.transpose("inversion", "region", "year").assign_attrs(units="PgC yr-1")
        net = network()
        by_year = term(earth, target=annual, integral="full")
        by_mean = term(earth, target=annual.mean("year").assign_attrs(units="PgC yr-1"), integral="full")
        by_month = term(earth, integral="full")
        full = by_month.integral.estimate(net, *by_month.draw()).sum(-1, keepdim=True) / 12
        for found in (by_year, by_mean):
            assert torch.allclose(found.integral.estimate(net, *found.draw()), full, rtol=1e-9)
        assert np.allclose(by_mean.training[0, :, :, 0].numpy(), annual.mean("year").values / 12)
        assert by_mean.years[0][0] is None and len(by_year.years[0][1]) == 2

    def test_a_month_target_has_no_held_out_years(self, earth):
        cycle = earth.target.groupby("time.month").mean().transpose("inversion", "region", "month")
        found = term(earth, target=cycle.assign_attrs(units="PgC month-1").isel(month=slice(None, None, -1)))
        assert torch.equal(found.training, found.validation)
        expected = cycle.values
        assert np.allclose(found.training[0].numpy(), expected)

    def test_resampled_inversions_differ_by_member(self, earth):
        setting = dataclasses.replace(SETTING, resample_inversions=True)
        found, plain = term(earth, members=3, setting=setting), term(earth, members=3)
        assert not torch.equal(found.training[0], found.training[1])
        for member in range(3):
            own = {tuple(a.flatten().tolist()) for a in found.training[member]}
            assert own <= {tuple(a.flatten().tolist()) for a in plain.training[member]} and len(own) < 6

    def test_a_number_of_inversions_for_each_member(self, earth):
        plain = term(earth, members=20)
        for number in (1, 3):
            found = term(earth, members=20, setting=dataclasses.replace(SETTING, resample_inversions=number))
            assert found.training.shape[1] == number
            drawn = set()
            for member in range(20):
                given = [a.flatten().tolist() for a in plain.training[member]]
                drawn |= {given.index(a.flatten().tolist()) for a in found.training[member]}
            assert drawn == set(range(5))
        config = dataclasses.replace(SMALL, max_epochs=1, resample_inversions=1)
        history = train.fit(earth.towers, DRIVERS, constraints=[constraint(earth, total=True)], config=config).history
        assert np.isfinite(history.validation).all()

    def test_dated_drivers_draw_a_training_year(self, earth):
        time = xr.date_range("2015-01-01", periods=36, freq="MS")
        grid = earth.grid.sel(month=time.month).rename(month="time").assign_coords(time=time)
        for name in DRIVERS:
            grid[name].attrs["units"] = "1"
        found = term(
            earth, members=2, drivers=grid, integral="full", setting=dataclasses.replace(SETTING, validation_years=1)
        )
        for _ in range(5):
            _, _, steps = found.draw()
            assert steps.slot.shape == (2, 12, 12)
            for member in range(2):
                year = {2015 + int(s) // 12 for s in steps.steps[member]}
                assert len(year) == 1 and year <= set(found.years[member][0].tolist())
                assert 2018 not in found.years[member][0]
                at = earth.target.time.dt.year.values == next(iter(year))
                assert np.allclose(steps.target[member].numpy(), earth.target.values[..., at])


class TestTraining:
    @pytest.mark.parametrize("kind", ["sampled", "full"])
    def test_a_planted_bias_of_the_towers_is_removed(self, kind):
        earth = world(bias=0.5, samples=4000)
        config = dataclasses.replace(SMALL, max_epochs=25, batch=500)
        truth = float(earth.regional.sum())
        ec = train.fit(earth.towers, DRIVERS, config=config)
        top = constraint(earth, integral=kind, total=True)
        both = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
        totals = [train.regional_integrals(m, top)["full"].sum(("region", "step")) for m in (ec, both)]
        assert np.abs(totals[0] - truth).min() > 20
        assert np.abs(totals[1] - truth).max() < 2.5
        drift = both.history["ATM_integral"].isel(epoch=-1) - both.history["ATM_integral"].isel(epoch=-3)
        assert np.allclose(both.history["ATM_drift"], drift)
        integral = both.last
        assert np.allclose(
            train.regional_integrals(integral, top)["full"].sum(("region", "step")),
            both.history["ATM_integral"].isel(epoch=-1), rtol=1e-4,
        )  # fmt: skip

    def test_sampled_does_not_decouple(self, earth):
        top = constraint(earth, total=True, pixels=300)
        model = train.fit(earth.towers, DRIVERS, constraints=[top], config=dataclasses.replace(SMALL, max_epochs=10))
        found = train.regional_integrals(model, top, draws=200)
        gap = (found["full"] - found["sampled"]).sum(("region", "step"))
        noise = np.sqrt((found["sampled_std"] ** 2).sum(("region", "step")) / 200)
        assert (np.abs(gap) < 4 * np.maximum(noise, 1e-9) * np.sqrt(12)).all()

    def test_the_whole_of_a_bridge_is_told_beside_it_and_refitting_closes_the_gap(self, earth):
        from xflux.bridge import fit_bridge

        field = earth.flux.assign_attrs(units="gC m-2 d-1", area_basis="land")
        noisy = xr.concat([field * s for s in np.linspace(0.5, 1.5, 5)], "member")
        noisy += np.random.default_rng(0).normal(size=noisy.shape) * 0.1
        noisy.attrs = field.attrs
        bridge = fit_bridge(noisy, earth.weights, area_basis="land")
        top = train.RegionalConstraint(earth.target, earth.grid, bridge=bridge)
        found = term(earth, integral="bridge", bridge=bridge)
        net = network()
        estimate = found.integral.estimate(net, *found.draw())
        model = train.FluxModel(
            DRIVERS, np.zeros(3), np.ones(3), ["nee"], {"nee": "gC m-2 d-1"}, net.state(), history=xr.Dataset()
        )
        expected = bridge.predict(forward_run(model, earth.grid)).transpose("member", "region", "month")
        assert np.allclose(estimate.numpy(), expected.sel(region=BANDS).values, rtol=1e-6)
        gaps = []
        for refit in (None, 2):
            own = dataclasses.replace(top, refit_bridge=refit)
            config = dataclasses.replace(SMALL, max_epochs=6)
            history = train.fit(earth.towers, DRIVERS, constraints=[own], config=config).history
            gaps.append(float(np.abs(history["ATM_bridged"] - history["ATM_integral"]).isel(epoch=-1).mean()))
        assert gaps[1] < gaps[0]

    def test_weight_goes_from_ec_to_the_papers_objective(self, earth):
        """A power of a likelihood: 1 is the paper's, next to nothing leaves EC, and between them the fits are too."""
        config = dataclasses.replace(SMALL, max_epochs=10)
        ec = train.fit(earth.towers, DRIVERS, config=config)
        found = {}
        for weight in (1e-12, 0.1, 1.0):
            top = constraint(earth, integral="full", weight=weight)
            found[weight] = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)
        plain = train.fit(earth.towers, DRIVERS, constraints=[constraint(earth, integral="full")], config=config)
        assert all(np.array_equal(found[1.0].last_weights[k], plain.last_weights[k]) for k in plain.last_weights)
        # Adam takes no notice of the factor 1/2 before L_EC, but for its epsilon and the learned variance
        rows = np.stack([earth.towers[name].values for name in DRIVERS], 1)
        apart = [np.abs(found[w].last.predict(rows) - ec.last.predict(rows)).mean() for w in found]
        assert apart[0] < 0.1 * apart[2] and apart[1] < apart[2]
        both = constraint(earth, integral="full", total=True)
        for weight in (0.5, (0.5, 0.5), [1, 0.1]):
            assert term(earth, total=True, weight=weight).weights == list(np.broadcast_to(weight, 2))
        one, two = (dataclasses.replace(both, weight=w) for w in (0.5, (0.5, 0.5)))
        one, two = (train.fit(earth.towers, DRIVERS, constraints=[c], config=SMALL) for c in (one, two))
        assert all(np.array_equal(one.last_weights[k], two.last_weights[k]) for k in one.last_weights)
        assert one.attrs["constraints"][0]["weights"] == two.attrs["constraints"][0]["weights"] == [0.5, 0.5]
        with pytest.raises(ValueError, match="two: of the regions and of their sum"):
            constraint(earth, weight=(1.0, 0.5))
        for weight in (0, -1.0, np.nan, "1"):
            with pytest.raises(ValueError, match="expected a number above 0"):
                constraint(earth, weight=weight)

    def test_units_of_the_towers_flux_reach_the_integral(self, earth, ec):
        other = dataclasses.replace(ec, target_units={"nee": "kgC m-2 d-1"})
        top = constraint(earth, integral="full")
        one, thousand = (train.regional_integrals(m, top)["full"].values for m in (ec, other))
        assert np.allclose(thousand, 1000 * one, rtol=1e-6)

    def test_other_names_and_orders_of_coordinates(self, earth, ec):
        grid = earth.grid.transpose("lon", "month", "lat").rename(lat="latitude", lon="longitude")
        one = train.regional_integrals(ec, constraint(earth, integral="full"))["full"]
        other = train.regional_integrals(ec, constraint(earth, integral="full", drivers=grid))["full"]
        assert np.allclose(one, other, rtol=1e-6)

    def test_several_regional_constraints(self, earth):
        first = constraint(earth, name="A")
        second = constraint(earth, name="B", total=True, regions_per_step=2, exponent=2.0, normalise=False)
        model = train.fit(earth.towers, DRIVERS, constraints=[first, second], config=SMALL)
        assert list(model.history.term.values) == ["EC", "A", "B", "B_total"]
        assert model.history.sigma2.shape == (3, 3, 4) and "A_sampling_error" in model.history

    def test_each_constraint_reports_its_own_region(self, earth):
        tropics = earth.weights.sel(region=["tropics"])
        first = constraint(earth, integral="full")
        second = constraint(earth, integral="full", target=earth.target.sel(region=["tropics"]), regions=tropics)
        second = dataclasses.replace(second, name="a part of @ATM")
        history = train.fit(earth.towers, DRIVERS, constraints=[first, second], config=SMALL).history
        assert np.abs(history["ATM_integral"] - history["a part of @ATM_integral"]).min() > 1

    def test_a_target_of_the_opposite_sign_is_refused_before_training(self, earth):
        for down in ({"positive": "down"}, {"standard_name": "surface_net_downward_mass_flux_of_carbon"}):
            opposite = constraint(earth, target=earth.target.assign_attrs(down))
            with pytest.raises(ValueError, match=r"opposite signs: .*nee.*turned"):
                train.fit(earth.towers, DRIVERS, constraints=[opposite], config=SMALL)

    def test_contents_are_carried(self, earth):
        towers = earth.towers.copy()
        towers["nee"] = towers.nee.assign_attrs(includes_fire=False)
        target = earth.target.assign_attrs(includes_fire=True)
        with pytest.raises(ValueError, match=r"includes fire, .* does not.*allow="):
            train.fit(towers, DRIVERS, constraints=[constraint(earth, target=target)], config=SMALL)
        model = train.fit(
            towers, DRIVERS, constraints=[constraint(earth, target=target, allow=("fire",))], config=SMALL
        )
        assert model.attrs["includes_fire"] is True
        assert train.fit(towers, DRIVERS, config=SMALL).attrs["includes_fire"] is False


class TestErrors:
    def test_regions_that_differ(self, earth):
        target = earth.target.assign_coords(region=["south", "tropics", "arctic"])
        with pytest.raises(ValueError, match=r"only in the target \['arctic'\], only in regions= \['north'\]"):
            term(earth, target=target)

    def test_region_without_land_is_left_out_by_name(self, earth):
        weights = earth.weights.copy()
        weights[0] = 0
        with pytest.warns(UserWarning, match="no modelled land or no target in south"):
            found = term(earth, regions=weights, total=True)
        assert found.regions == ("tropics", "north") and found.left_out == ["south"]
        assert found.training.shape[2] == 2

    def test_overlapping_regions(self, earth):
        weights = earth.weights.copy()
        weights[0] = weights.sum("region").values
        with pytest.raises(ValueError, match=r"regions overlap: in .* cells"):
            term(earth, regions=weights)
        # where there is little land the two together are still smaller than the cell
        shares, little = xr.ones_like(earth.weights), xr.full_like(earth.weights[0].drop_vars("region"), 0.2)
        with pytest.raises(ValueError, match=r"regions overlap: in .* cells"):
            term(earth, regions=shares.drop_attrs(), land_fraction=little)

    def test_no_cell_with_drivers(self, earth):
        with pytest.raises(ValueError, match="no cell of the regions has all drivers"):
            term(earth, drivers=earth.grid.assign(wet=earth.grid.wet * np.nan))

    def test_missing_driver(self, earth):
        with pytest.raises(KeyError, match=r"constraint's grid .* lacks driver 'wet'"):
            term(earth, drivers=earth.grid.drop_vars("wet"))

    def test_units_that_do_not_fit(self, earth):
        grid = earth.grid.assign(wet=earth.grid.wet.assign_attrs(units="percent"))
        with pytest.raises(ValueError, match="driver 'wet' has units 'percent', the model was trained with '1'"):
            train.fit(earth.towers, DRIVERS, constraints=[constraint(earth, drivers=grid)], config=SMALL)

    def test_a_flux_that_is_no_carbon(self, earth):
        towers = earth.towers.copy()
        towers["nee"] = towers.nee.assign_attrs(units="W m-2")
        message = r"target is in 'PgC month-1' \(carbon\), the towers' nee is in 'W m-2' \(energy\)"
        with pytest.raises(ValueError, match=message):
            train.fit(towers, DRIVERS, constraints=[constraint(earth)], config=SMALL)

    def test_too_few_years(self, earth):
        with pytest.raises(ValueError, match=r"2 whole years .*validation_years=2"):
            term(earth, target=earth.target.sel(time=slice("2015", "2016")))

    def test_same_name_twice(self, earth):
        with pytest.raises(ValueError, match="two losses have the same name"):
            train.fit(earth.towers, DRIVERS, constraints=[constraint(earth)] * 2, config=SMALL)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"integral": "guess"}, "integral is 'guess'"),
            ({"integral": "bridge"}, "needs bridge="),
            ({"regions": None}, 'integral="sampled" needs regions='),
            ({"misfit": "huber"}, "misfit is 'huber'"),
            ({"months_per_step": 13}, "months_per_step is 13"),
            ({"months_per_step": 2.5}, "months_per_step is 2.5; expected a whole number"),
            ({"pixels": 100.5}, "pixels is 100.5; expected a whole number"),
            ({"regions_per_step": 0}, "regions_per_step is 0"),
        ],
    )
    def test_options(self, earth, options, message):
        """Named before training starts."""
        with pytest.raises(ValueError, match=message):
            constraint(earth, **options)


class TestTypes:
    def test_of_a_constraint(self, earth):
        for options, message in (
            ({"target": earth.target.to_dataset(name="nee")}, "target is a Dataset; expected an xarray DataArray"),
            ({"drivers": earth.grid.warm}, "drivers is a DataArray; expected an xarray Dataset"),
            ({"integral": "bridge", "bridge": "bridge.nc"}, "bridge is a str; expected a Bridge"),
        ):
            with pytest.raises(TypeError, match=message):
                constraint(earth, **options)

    def test_of_the_towers_the_flux_and_the_constraints(self, earth):
        with pytest.raises(TypeError, match="constraint 0 is a DataArray; expected a RegionalConstraint"):
            train.fit(earth.towers, DRIVERS, constraints=[earth.target], config=SMALL)
        with pytest.raises(TypeError, match="towers is a DataFrame; expected an xarray Dataset"):
            train.fit(earth.towers.to_dataframe(), DRIVERS, config=SMALL)
        with pytest.raises(ValueError, match="flux='gpp' is no target of the model; its targets are nee"):
            train.fit(earth.towers, DRIVERS, constraints=[constraint(earth, flux="gpp")], config=SMALL)


def as_target(values, units):
    time = xr.date_range("2015-01-01", periods=values.shape[-1], freq="MS")
    attrs = {} if units is None else {"units": units}
    return xr.DataArray(
        values, dims=("inversion", "region", "time"),
        coords={"inversion": ["a"], "region": ["x"], "time": time}, attrs=attrs,
    )  # fmt: skip
