"""The objective, equation by equation (Upton et al. 2024, Sect. 3.4). Every function works member by member.

Shapes: ``estimate (member, region, step)`` and ``target (member, inversion, region, step)``, both in PgC per month
whatever the target's step; a NaN in `target` is an inversion that has no value there.
"""

import torch


def mean_squared_error(observed: torch.Tensor, inferred: torch.Tensor) -> torch.Tensor:
    """Eq. 5, L_EC: ``(member, row, target)`` → ``(member, target)``; rows whose observation is NaN do not count.

    >>> observed, inferred = torch.tensor([[[1.0], [2.0], [torch.nan]]]), torch.tensor([[[0.0], [0.0], [9.0]]])
    >>> mean_squared_error(observed, inferred).item()
    2.5
    """
    valid = torch.isfinite(observed)
    error = torch.where(valid, observed - inferred, torch.zeros_like(inferred))
    return (error**2).sum(1) / valid.sum(1).clamp(min=1)


def monthly_mean(daily: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """Eq. 6: daily NEE ``(member, pixel, day)`` and its share of each month ``slot (day, month)`` → monthly NEE.

    >>> slot = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]])
    >>> monthly_mean(torch.tensor([[[1.0, 3.0, 5.0]]]), slot).tolist()
    [[[2.0, 5.0]]]
    """
    return daily @ slot


def bridged(monthly: torch.Tensor, theta: torch.Tensor, intercept: torch.Tensor) -> torch.Tensor:
    """Eq. 7: ``(member, pixel, month)``, Θ ``(region, pixel)`` and b ``(region,)`` → regional NEE.

    >>> monthly, theta, intercept = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[0.5, 0.25]]), torch.tensor([-0.25])
    >>> bridged(monthly, theta, intercept).tolist()
    [[[0.75]]]
    """
    return torch.einsum("rp,mpt->mrt", theta, monthly) + intercept[:, None]


def misfit(target: torch.Tensor, estimate: torch.Tensor, exponent: float = 3.0) -> torch.Tensor:
    """Eq. 8, L_{r,m}: the ℓ_p norm of the differences to the inversions that are there ``(member, region, step)``.

    >>> round(misfit(torch.tensor([[[[1.0]], [[3.0]]]]), torch.tensor([[[1.0]]])).item() ** 3, 4)
    4.0
    """
    valid = torch.isfinite(target)
    difference = torch.where(valid, target - estimate[:, None], torch.zeros_like(estimate[:, None]))
    mean = (difference.abs() ** exponent).sum(1) / valid.sum(1).clamp(min=1)
    # the root has no slope at an exact fit: there the gradient is taken as zero
    positive = mean > 0
    return torch.where(positive, torch.where(positive, mean, torch.ones_like(mean)) ** (1 / exponent), mean)


def inversion_range(target: torch.Tensor) -> torch.Tensor:
    """Eq. 9: highest less lowest inversion ``(member, region, step)``; 0 where none or one is there.

    >>> inversion_range(torch.tensor([[[[1.0, 4.0]], [[3.0, torch.nan]]]])).tolist()
    [[[2.0, 0.0]]]
    """
    high = torch.where(torch.isfinite(target), target, -torch.inf).amax(1)
    low = torch.where(torch.isfinite(target), target, torch.inf).amin(1)
    return torch.where(torch.isfinite(high), high - low, torch.zeros_like(high))


def regional_loss(
    loss: torch.Tensor, spread: torch.Tensor, valid: torch.Tensor, normalise: bool = True
) -> torch.Tensor:
    """Eq. 10, L_{ATM,r}: L/(1 + range) averaged over the steps that have a target ``(member, region)``.

    >>> loss, spread = torch.tensor([[[4.0, 9.0, 5.0]]]), torch.tensor([[[1.0, 2.0, 0.0]]])
    >>> regional_loss(loss, spread, torch.tensor([[[True, True, False]]])).tolist()
    [[2.5]]
    """
    scaled = loss / (1 + spread) if normalise else loss
    return torch.where(valid, scaled, torch.zeros_like(scaled)).sum(-1) / valid.sum(-1).clamp(min=1)


def area_mean(loss: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Eq. 11, L_ATM: the regions' losses weighted by their modelled land ``area (region,)`` → ``(member,)``.

    The areas are normalised over the target's regions; ``(member, region)`` where they differ by member. 0 where no
    region has a target.

    >>> area_mean(torch.tensor([[1.0, 3.0]]), torch.tensor([3e12, 1e12])).tolist()
    [1.5]
    """
    return (loss * area).sum(-1) / area.sum(-1).clamp(min=torch.finfo(area.dtype).tiny)


def atmospheric_loss(
    target: torch.Tensor, estimate: torch.Tensor, area: torch.Tensor, exponent: float = 3.0, normalise: bool = True
) -> torch.Tensor:
    """Eq. 8–11 in one: L_ATM ``(member,)``.

    >>> target, estimate = torch.tensor([[[[1.0]], [[3.0]]]]), torch.tensor([[[1.0]]])
    >>> round(atmospheric_loss(target, estimate, torch.tensor([1e12])).item(), 4), round(4 ** (1 / 3) / (1 + 2), 4)
    (0.5291, 0.5291)
    """
    valid = torch.isfinite(target).any(1)
    loss = misfit(target, estimate, exponent)
    return area_mean(regional_loss(loss, inversion_range(target), valid, normalise), area)


def shrunk_precision(target: torch.Tensor, shrinkage: float, floor: float = 0.01) -> torch.Tensor:
    """Inverse of the inversions' covariance between regions and steps ``(member, n, n)``, n = region × step.

    The sample covariance of a few inversions has no inverse: its correlations are shrunk towards zero,
    ``(1 − λ)·S + λ·diag(S)``, and every variance is at least (floor × the largest standard deviation)². A gap of an
    inversion counts as its being at the others' mean. Where the inversions do not differ at all (or there is one),
    every variance is 1 (PgC per month)², as in Eq. 10, where the 1 stands alone.

    >>> target = torch.tensor([[[[1.0, 3.0]], [[3.0, 1.0]]]])
    >>> torch.linalg.inv(shrunk_precision(target, shrinkage=0.5, floor=0.0)).round(decimals=4).tolist()
    [[[2.0, -1.0], [-1.0, 2.0]]]
    """
    values = target.flatten(2)
    valid = torch.isfinite(values)
    count = valid.sum(1)
    mean = torch.where(valid, values, 0.0).sum(1) / count.clamp(min=1)
    anomaly = torch.where(valid, values - mean[:, None], 0.0)
    sample = anomaly.transpose(1, 2) @ anomaly / max(target.shape[1] - 1, 1)
    variance = sample.diagonal(dim1=1, dim2=2)
    largest = variance.amax(1, keepdim=True)
    least = torch.where(largest > 0, floor**2 * largest, 1.0)
    shrunk = (1 - shrinkage) * sample + torch.diag_embed(shrinkage * variance + least)
    return torch.linalg.inv(shrunk)


def covariance_loss(target: torch.Tensor, estimate: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """Instead of Eq. 8–11: mean over inversions of ``(a − NEE)ᵀ C⁻¹ (a − NEE) / n`` → ``(member,)``.

    >>> target, estimate = torch.tensor([[[[1.0, 3.0]], [[3.0, 1.0]]]]), torch.tensor([[[2.0, 2.0]]])
    >>> covariance_loss(target, estimate, torch.eye(2)[None]).item()
    1.0
    """
    values = target.flatten(2)
    difference = torch.where(torch.isfinite(values), values - estimate.flatten(1)[:, None], 0.0)
    return torch.einsum("man,mnk,mak->m", difference, precision, difference) / (values.shape[1] * values.shape[2])


def loss_weight(log_variance: torch.Tensor) -> torch.Tensor:
    """Eq. 12, w = 1/(2σ²), from log σ² (so that σ² stays positive whatever the optimiser does).

    >>> loss_weight(torch.tensor(0.25).log()).item()
    2.0
    """
    return 0.5 * torch.exp(-log_variance)


def loss_regulariser(log_variance: torch.Tensor) -> torch.Tensor:
    """Eq. 13, s = log sqrt(σ²), from log σ².

    >>> round(loss_regulariser(torch.tensor(4.0).log()).exp().item(), 4)
    2.0
    """
    return 0.5 * log_variance


def total_loss(losses: torch.Tensor, log_variance: torch.Tensor, weight: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Eq. 14 for any number of losses: ``(member, term)`` twice → ``(member,)``.

    ``weight (term,)`` is the power to which the likelihood of a term is taken; the paper's is 1.

    >>> losses, variances = torch.tensor([[2.0, 6.0]]), torch.tensor([[1.0, 1.0]])
    >>> total_loss(losses, variances.log()).tolist()
    [4.0]
    >>> total_loss(losses, variances.log(), torch.tensor([1.0, 0.5])).tolist()
    [2.5]
    """
    return (weight * (loss_weight(log_variance) * losses + loss_regulariser(log_variance))).sum(-1)
