"""The Lasso of Eq. 1: known answers, optimality, the exact stop, degenerate input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xflux.bridge.lasso import (
    anomalies,
    cross_validate,
    largest_alpha,
    lasso_segments,
    r_squared,
    without_shrinkage,
)


def problem(samples: int, pixels: int, seed: int, rank: int = 8, noise: float = 0.3):
    """Correlated pixels (a few modes and noise) and their area-weighted sum."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, rank)) @ rng.standard_normal((rank, pixels))
    x = x + noise * rng.standard_normal((samples, pixels)) + 2.0
    return x, x @ rng.uniform(0.5, 1.0, pixels) * 1e-3


def stationarity(x, y, fit, positive=False) -> float:
    """Largest violation of Eq. 1's optimality conditions, as a share of α: 2 X'r = α sign(β), |2 X'r| ≤ α elsewhere."""
    gradient = 2 * (x - x.mean(0)).T @ (y - fit.predict(x))
    active = fit.coef != 0
    inside = gradient if positive else np.abs(gradient)
    on = np.abs(gradient[active] - fit.alpha * np.sign(fit.coef[active])).max(initial=0.0)
    return max(on, (inside - fit.alpha).max()) / fit.alpha


def duality_gap(x, y, fit) -> float:
    """Relative gap between Eq. 1 and its dual max_θ ‖y‖² − ‖y − θ‖² with |2 X'θ| ≤ α."""
    xc, yc = x - x.mean(0), y - y.mean()
    residual = yc - xc @ fit.coef
    primal = residual @ residual + fit.alpha * np.abs(fit.coef).sum()
    theta = residual * min(1.0, fit.alpha / np.abs(2 * xc.T @ residual).max())
    return (primal - (yc @ yc - (yc - theta) @ (yc - theta))) / primal


@given(
    samples=st.integers(6, 60), pixels=st.integers(1, 80), seed=st.integers(0, 10**6),
    r2=st.sampled_from([0.5, 0.95, 0.999]), positive=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_fit_is_optimal_and_stops_exactly_at_its_target(samples, pixels, seed, r2, positive):
    x, y = problem(samples, pixels, seed)
    fit = largest_alpha(x, y, r2, positive=positive)
    assert fit.r2 == pytest.approx(r_squared(y, fit.predict(x)), abs=1e-12)
    if not fit.reached:
        assert fit.r2 < r2 and fit.alpha == pytest.approx(0, abs=1e-12)
        return
    assert r2 <= fit.r2 <= r2 + 1e-9  # the largest α, not the next of a grid
    assert stationarity(x, y, fit, positive) < 1e-6
    assert (fit.coef >= 0).all() or not positive
    if not positive:
        assert abs(duality_gap(x, y, fit)) < 1e-7


def plain_lasso(x, y, alpha, sweeps=3000):
    """Eq. 1 in plain steps: every pixel's best weight in turn, the others held, until nothing moves."""
    x, residual, coef = x - x.mean(0), y - y.mean(), np.zeros(x.shape[1])
    for _ in range(sweeps):
        for j, column in enumerate(x.T):
            pull, square = column @ residual + coef[j] * (column @ column), column @ column
            new = np.sign(pull) * max(abs(pull) - alpha / 2, 0) / square
            residual, coef[j] = residual + column * (coef[j] - new), new
    return coef, 1 - residual @ residual / ((y - y.mean()) @ (y - y.mean()))


@pytest.mark.parametrize(("seed", "r2"), [(0, 0.5), (1, 0.8), (2, 0.95)])
def test_equals_coordinate_descent(seed, r2):
    x, y = problem(30, 6, seed, noise=2.0)
    fit = largest_alpha(x, y, r2)
    coef, reached = plain_lasso(x, y, fit.alpha)
    np.testing.assert_allclose(fit.coef, coef, atol=1e-9)
    assert reached == pytest.approx(r2, abs=1e-9) and plain_lasso(x, y, 1.01 * fit.alpha)[1] < r2


def test_alpha_is_that_of_equation_1_and_equals_scikit_learn():
    from sklearn.linear_model import Lasso

    x, y = problem(120, 60, 3)
    fit = largest_alpha(x, y, 0.97)
    theirs = Lasso(alpha=fit.alpha / (2 * len(y)), tol=1e-14, max_iter=1_000_000).fit(x, y)
    np.testing.assert_allclose(fit.coef, theirs.coef_, atol=1e-9 * np.abs(fit.coef).max())
    assert fit.intercept == pytest.approx(theirs.intercept_, rel=1e-9)


def test_path_equals_lars_path_at_every_knot():
    from sklearn.linear_model import lars_path

    x, y = problem(50, 30, 5)
    xc, yc = x - x.mean(0), y - y.mean()
    alphas, _, coefs = lars_path(xc, yc, method="lasso")
    ours = list(lasso_segments(xc, yc))
    lower = np.array([segment.lower for segment in ours])
    for alpha, coef in list(zip(alphas, coefs.T, strict=True))[1:20]:
        k = int(np.argmin(np.abs(lower - alpha * len(y))))
        assert lower[k] == pytest.approx(alpha * len(y), rel=1e-7)
        np.testing.assert_allclose(ours[k].coef(lower[k], 30), coef, atol=1e-8 * np.abs(coef).max())


def test_one_pixel_by_hand():
    x = np.array([[-1.0], [0.0], [1.0]])
    y = 2.0 * x[:, 0] + 5.0  # SST 8; β = 2 − α/4, SSE = 2 (α/4)²
    fit = largest_alpha(x, y, r2=0.75)
    assert fit.alpha == pytest.approx(4.0) and fit.coef[0] == pytest.approx(1.0)
    assert fit.intercept == pytest.approx(5.0) and fit.r2 == pytest.approx(0.75)


@pytest.mark.parametrize("positive", [False, True])
def test_planted_pixels_and_weights_come_back(positive):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((204, 40))
    truth = np.zeros(40)
    truth[[3, 17, 31]] = [0.02, 0.05, 0.01]
    fit = largest_alpha(x, x @ truth + 0.7, 1 - 1e-9, positive=positive)
    np.testing.assert_array_equal(np.flatnonzero(fit.coef), [3, 17, 31])
    np.testing.assert_allclose(fit.coef, truth, rtol=1e-3)
    assert without_shrinkage(fit, x, x @ truth + 0.7, positive=positive).coef == pytest.approx(truth, rel=1e-10)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_column_permutation_changes_nothing(seed):
    x, y = problem(40, 90, seed)
    order = np.random.default_rng(seed).permutation(90)
    one, other = largest_alpha(x, y), largest_alpha(x[:, order], y)
    np.testing.assert_allclose(other.coef, one.coef[order], rtol=1e-8, atol=1e-12 * np.abs(one.coef).max())


def test_copies_and_combinations_of_columns_do_no_harm():
    x, y = problem(60, 12, 2)
    tripled = np.concatenate([x, x, x[:, :3] + x[:, 3:6]], axis=1)
    one, many = largest_alpha(x, y, 0.99), largest_alpha(tripled, y, 0.99)
    assert many.reached and many.r2 == pytest.approx(0.99, abs=1e-9)
    assert many.alpha >= one.alpha * (1 - 1e-9)  # more columns never need a smaller α
    assert stationarity(tripled, y, many) < 1e-6


@pytest.mark.parametrize("seed", range(30, 50))
def test_what_rounding_makes_of_copies_does_no_harm(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 4)) @ rng.standard_normal((4, 12)) + 0.1 * rng.standard_normal((12, 12))
    x, y = np.concatenate([x, x, x[:, :2] + x[:, -2:]], axis=1), rng.integers(-2, 3, 12).astype(float)
    fit = largest_alpha(x, y, 0.999)
    assert fit.reached and np.count_nonzero(fit.coef) < 12


@pytest.mark.parametrize("seed", [1148, *range(40)])
def test_exact_ties_do_not_lead_astray(seed):
    """Columns of small integers tie all the time (seed 1148 needs the ties broken)."""
    rng = np.random.default_rng(seed)
    samples, pixels = rng.integers(4, 25), rng.integers(1, 40)
    x = rng.integers(-2, 3, (samples, pixels)).astype(float)
    y = x @ rng.integers(0, 3, pixels)
    fit = largest_alpha(x, y, 0.9999, positive=True)
    assert not fit.reached or (stationarity(x, y, fit, positive=True) < 1e-5 and fit.r2 >= 0.9999)


def test_fewer_samples_than_pixels_reach_any_target():
    x, y = problem(12, 200, 4)
    fit = largest_alpha(x, y, 1 - 1e-9)
    assert fit.reached and np.count_nonzero(fit.coef) <= 11


def test_constant_target_and_constant_pixels():
    x = np.ones((10, 3))
    flat = largest_alpha(x, np.full(10, 4.0))
    assert np.isnan(flat.r2) and flat.intercept == 4.0 and not flat.coef.any() and not flat.reached
    assert without_shrinkage(flat, x, np.full(10, 4.0), positive=True) is flat
    # the mean of ten times 0.1 is another number
    moving = largest_alpha(0.1 * x, np.random.default_rng(0).standard_normal(10))
    assert moving.r2 == 0.0 and not moving.reached and not moving.coef.any()


def test_unreachable_target_gives_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 2)), rng.standard_normal(100)
    fit = largest_alpha(x, y, 0.9)
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(100)]), y, rcond=None)[0]
    assert not fit.reached
    np.testing.assert_allclose([*fit.coef, fit.intercept], expected, atol=1e-10)


def test_target_on_anomalies():
    rng = np.random.default_rng(3)
    month = np.tile(np.arange(12), 10)
    season = np.cos(2 * np.pi * month / 12)[:, None] * rng.uniform(2, 4, 30)
    x = season + 0.3 * rng.standard_normal((120, 30))
    y = x.sum(axis=1) * 1e-3
    plain, strict = largest_alpha(x, y, 0.95), largest_alpha(x, y, 0.95, groups=month)
    assert r_squared(y, plain.predict(x), month) < 0.9 < 0.95 <= plain.r2
    assert r_squared(y, strict.predict(x), month) == pytest.approx(0.95, abs=1e-9)
    assert np.count_nonzero(strict.coef) > np.count_nonzero(plain.coef)


def test_a_pixel_without_anomalies_explains_none():
    rng = np.random.default_rng(0)
    month, cycle, weather = np.tile(np.arange(12), 2), np.tile(rng.standard_normal(12), 2), rng.standard_normal(24)
    x, y = np.stack([cycle, weather], axis=1), 10 * cycle + weather
    fit = largest_alpha(x, y, 0.9, groups=month)
    assert fit.coef[0] and r_squared(y, fit.predict(x), month) == pytest.approx(0.9, abs=1e-12)


def test_anomalies_have_no_seasonal_cycle():
    values, month = np.random.default_rng(0).standard_normal(36), np.tile(np.arange(12), 3)
    assert np.abs(anomalies(values, month).reshape(3, 12).mean(axis=0)).max() < 1e-15


def test_cross_validation_never_sees_its_fold():
    x, y = problem(60, 20, 6)
    folds = np.repeat([0, 1, 2], 20)
    before = cross_validate(x, y, folds)
    changed = y.copy()
    changed[:20] += 100.0
    np.testing.assert_array_equal(cross_validate(x, changed, folds)[:20], before[:20])
    assert r_squared(y, before) < 1.0
    assert np.isnan(cross_validate(x, y, np.zeros(60))).all()


def test_cross_validation_is_a_fit_a_fold_and_without_shrinkage_if_asked():
    x, y = problem(40, 10, 3)
    folds = np.arange(40) // 20
    plain, free = (cross_validate(x, y, folds, refit=refit) for refit in (False, True))
    for fold in (0, 1):
        train = folds != fold
        fit = largest_alpha(x[train], y[train])
        np.testing.assert_array_equal(plain[~train], fit.predict(x[~train]))
        np.testing.assert_array_equal(free[~train], without_shrinkage(fit, x[train], y[train]).predict(x[~train]))
    assert not np.allclose(plain, free)


def test_refit_has_no_shrinkage():
    x, y = problem(80, 30, 8)
    fit = largest_alpha(x, y)
    free = without_shrinkage(fit, x, y)
    assert free.r2 > fit.r2 and set(np.flatnonzero(free.coef)) == set(np.flatnonzero(fit.coef))
    residual = y - free.predict(x)
    chosen = np.flatnonzero(free.coef)
    assert np.abs(x[:, chosen].T @ residual).max() < 1e-9 * np.abs(x[:, chosen].T @ y).max()


def test_refit_keeps_weights_positive():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((20, 1)) + 0.5 * rng.standard_normal((20, 6))
    y = x @ np.abs(rng.standard_normal(6)) + rng.standard_normal(20)
    fit = largest_alpha(x, y, 0.9, positive=True)
    free, positive = (without_shrinkage(fit, x, y, positive=p) for p in (False, True))
    assert free.coef.min() < 0 <= positive.coef.min() and fit.r2 < positive.r2 < free.r2


def test_no_more_pixels_than_stepwise_alpha_with_scikit_learn():
    from sklearn.linear_model import Lasso
    from sklearn.metrics import r2_score

    more = []
    for seed in range(6):
        x, y = problem(120, 150, seed, rank=12)
        ours = largest_alpha(x, y, 0.95)
        model = Lasso(alpha=2 * np.abs((x - x.mean(0)).T @ (y - y.mean())).max() / (2 * len(y)), warm_start=True)
        model.set_params(max_iter=100_000, tol=1e-6)
        while r2_score(y, model.fit(x, y).predict(x)) < 0.95:
            model.alpha *= 0.9
        more.append(np.count_nonzero(ours.coef) - np.count_nonzero(model.coef_))
        assert ours.alpha >= 2 * len(y) * model.alpha * (1 - 1e-6)
    assert max(more) <= 3 and sum(m <= 0 for m in more) >= 5
