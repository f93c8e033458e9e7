"""The objective, Eq. 4–14: hand-computed cases, an independent NumPy version, finite differences."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xflux.train import objective as obj  # noqa: E402


def t(a):
    return torch.tensor(np.asarray(a, float))


def numpy_atmospheric(target, estimate, area):
    """Eq. 8–11 written as loops, for one member: target (A, R, M) with NaN, estimate (R, M)."""
    total = 0.0
    for r in range(estimate.shape[0]):
        losses = []
        for m in range(estimate.shape[1]):
            there = [a for a in target[:, r, m] if np.isfinite(a)]
            if not there:
                continue
            mean = sum(abs(a - estimate[r, m]) ** 3 for a in there) / len(there)
            losses.append(mean ** (1 / 3) / (1 + max(there) - min(there)))
        total += np.mean(losses) * area[r] / sum(area)
    return total


def test_eq5_mean_squared_error_leaves_out_missing_observations():
    observed = t([[[1.0], [2.0], [np.nan]]])
    inferred = t([[[0.0], [4.0], [100.0]]])
    assert obj.mean_squared_error(observed, inferred).item() == (1 + 4) / 2


def test_eq6_monthly_mean_of_days():
    daily = t(np.arange(6.0)).reshape(1, 1, 6)
    slot = t([[0.5, 0]] * 2 + [[0, 0.25]] * 4)
    assert obj.monthly_mean(daily, slot).tolist() == [[[0.5, 3.5]]]


def test_eq7_bridge_by_hand():
    monthly = t([[[1.0, 2.0], [3.0, 4.0]]])
    theta, intercept = t([[2.0, 0.0], [1.0, -1.0]]), t([0.5, 0.0])
    assert obj.bridged(monthly, theta, intercept).tolist() == [[[2.5, 4.5], [-2.0, -2.0]]]


def test_eq8_l3_norm_by_hand():
    target = t([[[[1.0]], [[-1.0]], [[3.0]]]])
    expected = ((0 + 8 + 8) / 3) ** (1 / 3)
    assert obj.misfit(target, t([[[1.0]]])).item() == pytest.approx(expected, rel=1e-14)


def test_eq9_range_by_hand_and_with_gaps():
    target = t([[[[1.0, np.nan]], [[-2.0, 5.0]], [[0.5, np.nan]]]])
    assert obj.inversion_range(target).tolist() == [[[3.0, 0.0]]]


def test_eq10_normalises_by_one_plus_range_and_averages_the_months_that_are_there():
    loss, spread = t([[[2.0, 6.0, 7.0]]]), t([[[1.0, 2.0, 0.0]]])
    valid = torch.tensor([[[True, True, False]]])
    assert obj.regional_loss(loss, spread, valid).item() == (1.0 + 2.0) / 2
    assert obj.regional_loss(loss, spread, valid, normalise=False).item() == 4.0


def test_eq11_area_weights_are_normalised_over_the_regions():
    assert obj.area_mean(t([[1.0, 3.0]]), t([30.0, 10.0])).item() == 1.5


def test_eq12_to_14_by_hand():
    log_variance = t([[0.0, np.log(0.25)]])
    assert obj.loss_weight(log_variance).tolist()[0] == pytest.approx([0.5, 2.0])
    assert obj.loss_regulariser(log_variance).tolist()[0] == pytest.approx([0.0, np.log(0.5)])
    total = obj.total_loss(t([[4.0, 0.1]]), log_variance).item()
    assert total == pytest.approx(0.5 * 4 + 2 * 0.1 + np.log(0.5))
    tempered = obj.total_loss(t([[4.0, 0.1]]), log_variance, t([1.0, 0.25])).item()
    assert tempered == pytest.approx(0.5 * 4 + (2 * 0.1 + np.log(0.5)) / 4)


def test_the_total_may_go_negative_and_stays_finite():
    log_variance = t([[-50.0]])
    assert obj.total_loss(t([[1e-22]]), log_variance).item() < 0


@pytest.mark.parametrize("seed", range(3))
def test_eq8_to_11_against_numpy_loops(seed):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(2, 5, 4, 6))
    target[rng.random(target.shape) < 0.2] = np.nan
    target[:, :, 1, 2] = np.nan  # a month that nobody has
    estimate, area = rng.normal(size=(2, 4, 6)), rng.random(4) + 0.1
    found = obj.atmospheric_loss(t(target), t(estimate), t(area))
    expected = [numpy_atmospheric(target[m], estimate[m], area) for m in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_gradients_against_finite_differences():
    rng = np.random.default_rng(0)
    target = t(rng.normal(size=(2, 4, 3, 5)))
    target[0, 1, 2, 3] = torch.nan
    estimate = t(rng.normal(size=(2, 3, 5))).requires_grad_()
    area, precision = t([1.0, 2.0, 3.0]), obj.shrunk_precision(target, 0.5)
    log_variance = t(rng.normal(size=(2, 2))).requires_grad_()
    weight = t([1.0, 0.3])

    def total(estimate, log_variance):
        first = obj.atmospheric_loss(target, estimate, area)
        second = obj.covariance_loss(target, estimate, precision)
        return obj.total_loss(torch.stack([first, second], -1), log_variance, weight)

    assert torch.autograd.gradcheck(total, (estimate, log_variance))


def test_gradient_is_finite_at_an_exact_fit():
    estimate = t([[[1.0]]]).requires_grad_()
    obj.misfit(t([[[[1.0]]]]), estimate).sum().backward()
    assert estimate.grad.tolist() == [[[0.0]]]


def test_precision_is_the_inverse_of_the_shrunk_covariance():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1, 40, 2, 3))
    flat = values.reshape(40, 6)
    sample = np.cov(flat.T)
    diagonal = np.diag(np.diag(sample))
    floor = 0.01**2 * sample.diagonal().max() * np.eye(6)
    expected = np.linalg.inv(0.7 * sample + 0.3 * diagonal + floor)
    assert np.allclose(obj.shrunk_precision(t(values), 0.3)[0].numpy(), expected, rtol=1e-10)


def test_covariance_loss_by_hand():
    target, estimate = t([[[[1.0]], [[3.0]]]]), t([[[0.0]]])
    precision = t([[[0.5]]])
    assert obj.covariance_loss(target, estimate, precision).item() == pytest.approx((0.5 * 1 + 0.5 * 9) / 2)
