"""The objective, equation by equation (Upton et al. 2024, Sect. 3.4). Every function works member by member.

Shapes: ``estimate (member, region, step)`` and ``target (member, inversion, region, step)``, both in PgC per month
whatever the target's step (water and energy: in units of the target's mean magnitude); a NaN in `target` is an
inversion that has no value there.
"""

import torch


def mean_squared_error(
    observed: torch.Tensor, inferred: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Eq. 5, L_EC ``(member, target)``; rows whose observation is NaN do not count.

    Parameters
    ----------
    observed, inferred
        ``(member, row, target)``, in the same units.
    weight
        How much a row counts ``(member, row)``; the paper's is 1.

    Examples
    --------
    >>> observed, inferred = torch.tensor([[[1.0], [2.0], [torch.nan]]]), torch.tensor([[[0.0], [0.0], [9.0]]])
    >>> mean_squared_error(observed, inferred).item()
    2.5
    >>> mean_squared_error(observed, inferred, torch.tensor([[2.0, 1.0, 1.0]])).item()
    2.0
    """
    valid = torch.isfinite(observed)
    counts = valid * (1.0 if weight is None else weight[..., None])
    error = torch.where(valid, observed - inferred, torch.zeros_like(inferred))
    return (counts * error**2).sum(1) / torch.where(valid.any(1), counts.sum(1), 1.0)


def monthly_mean(daily: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """Eq. 6: monthly NEE ``(member, pixel, month)``.

    Parameters
    ----------
    daily
        NEE ``(member, pixel, day)``.
    slot
        A day's share of each month ``(day, month)``.

    Examples
    --------
    >>> slot = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]])
    >>> monthly_mean(torch.tensor([[[1.0, 3.0, 5.0]]]), slot).tolist()
    [[[2.0, 5.0]]]
    """
    return daily @ slot


def bridged(monthly: torch.Tensor, theta: torch.Tensor, intercept: torch.Tensor) -> torch.Tensor:
    """Eq. 7: regional NEE ``(member, region, month)``.

    Parameters
    ----------
    monthly
        NEE ``(member, pixel, month)``.
    theta, intercept
        Θ ``(region, pixel)`` and b ``(region,)``.

    Examples
    --------
    >>> monthly, theta, intercept = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[0.5, 0.25]]), torch.tensor([-0.25])
    >>> bridged(monthly, theta, intercept).tolist()
    [[[0.75]]]
    """
    return torch.einsum("rp,mpt->mrt", theta, monthly) + intercept[:, None]


def misfit(target: torch.Tensor, estimate: torch.Tensor, exponent: float = 3.0) -> torch.Tensor:
    """Eq. 8, L_{r,m}: the ℓ_p norm of the differences to the inversions that are there ``(member, region, step)``.

    Parameters
    ----------
    target
        The inversions ``(member, inversion, region, step)``; NaN: no value.
    estimate
        The model ``(member, region, step)``, in the same units.
    exponent
        p.

    Examples
    --------
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

    Parameters
    ----------
    target
        As in `misfit`.

    Examples
    --------
    >>> inversion_range(torch.tensor([[[[1.0, 4.0]], [[3.0, torch.nan]]]])).tolist()
    [[[2.0, 0.0]]]
    """
    high = torch.where(torch.isfinite(target), target, -torch.inf).amax(1)
    low = torch.where(torch.isfinite(target), target, torch.inf).amin(1)
    return torch.where(torch.isfinite(high), high - low, torch.zeros_like(high))


def regional_loss(
    loss: torch.Tensor, spread: torch.Tensor, valid: torch.Tensor, normalise: bool = True
) -> torch.Tensor:
    """Eq. 10, L_{ATM,r} ``(member, region)``: L/(1 + range), averaged over steps.

    Parameters
    ----------
    loss, spread
        Of `misfit` and `inversion_range`, ``(member, region, step)``.
    valid
        Where there is a target ``(member, region, step)``: these steps count.
    normalise
        False: without the division.

    Examples
    --------
    >>> loss, spread = torch.tensor([[[4.0, 9.0, 5.0]]]), torch.tensor([[[1.0, 2.0, 0.0]]])
    >>> regional_loss(loss, spread, torch.tensor([[[True, True, False]]])).tolist()
    [[2.5]]
    """
    scaled = loss / (1 + spread) if normalise else loss
    return torch.where(valid, scaled, torch.zeros_like(scaled)).sum(-1) / valid.sum(-1).clamp(min=1)


def area_mean(loss: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Eq. 11, L_ATM ``(member,)``: the regions' losses weighted by area; 0 where no region has a target.

    Parameters
    ----------
    loss
        ``(member, region)``.
    area
        Modelled land of the target's regions ``(region,)``, in any unit; ``(member, region)`` where it differs.

    Examples
    --------
    >>> area_mean(torch.tensor([[1.0, 3.0]]), torch.tensor([3e12, 1e12])).tolist()
    [1.5]
    """
    return (loss * area).sum(-1) / area.sum(-1).clamp(min=torch.finfo(area.dtype).tiny)


def atmospheric_loss(
    target: torch.Tensor, estimate: torch.Tensor, area: torch.Tensor, exponent: float = 3.0, normalise: bool = True
) -> torch.Tensor:
    """Eq. 8–11 in one: L_ATM ``(member,)``.

    Parameters
    ----------
    target, estimate, exponent
        As in `misfit`.
    area
        As in `area_mean`.
    normalise
        As in `regional_loss`.

    Examples
    --------
    >>> target, estimate = torch.tensor([[[[1.0]], [[3.0]]]]), torch.tensor([[[1.0]]])
    >>> round(atmospheric_loss(target, estimate, torch.tensor([1e12])).item(), 4), round(4 ** (1 / 3) / (1 + 2), 4)
    (0.5291, 0.5291)
    """
    valid = torch.isfinite(target).any(1)
    loss = misfit(target, estimate, exponent)
    return area_mean(regional_loss(loss, inversion_range(target), valid, normalise), area)


def annual_amounts(values: torch.Tensor, per_year: int) -> torch.Tensor:
    """PgC per year of whole years ``(…, year)``.

    Parameters
    ----------
    values
        PgC per month ``(…, step)``.
    per_year
        Steps of a year: 12, or 1 (a mean month).

    Examples
    --------
    >>> annual_amounts(torch.tensor([1.0, 2.0]), per_year=1).tolist()
    [12.0, 24.0]
    """
    return values.unflatten(-1, (-1, per_year)).sum(-1) * (12 / per_year)


def anomaly_scale(target: torch.Tensor, mean_over: torch.Tensor) -> torch.Tensor:
    """Mean square of the inversions' annual anomalies, of the regions and of their sum ``(member, region + 1)``.

    0 where there are none but those of rounding.

    Parameters
    ----------
    target, mean_over
        As in `anomaly_loss`.

    Examples
    --------
    >>> anomaly_scale(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[True, True]])).tolist()
    [[1.0, 1.0]]
    """
    target = _with_sum(target, 2)
    anomaly, base = _anomalies(target, torch.isfinite(target), mean_over)
    square, size = (torch.where(base, a**2, 0.0).sum((1, 3)) for a in (anomaly, target))
    return torch.where(square > 1e-20 * size, square / base.sum((1, 3)).clamp(min=1), 0.0)


def anomaly_loss(
    target: torch.Tensor,
    estimate: torch.Tensor,
    area: torch.Tensor,
    mean_over: torch.Tensor,
    judged: torch.Tensor,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Misfit of annual anomalies, of the regions and of their sum ``(member,)``; beyond the paper.

    With A(y) the amount of year y, T the years whose mean is taken away and J those that are judged:

        A'(y) = A(y) − mean over T of A
        L_r   = mean over inversions a and years of J of (A'_r(y) − A'_{a,r}(y))² / mean over a and T of A'_{a,r}(y)²
        L     = ½ · (Σ_r area_r · L_r / Σ_r area_r + L of the regions' sum)

    1 is a model without anomalies. Each inversion loses its own mean, so that offsets between inversions, larger than
    a year's anomaly, do not count. Both means are over those years of T that the inversion has.

    Parameters
    ----------
    target, estimate
        ``(member, inversion, region, year)`` and ``(member, region, year)`` in PgC per year; NaN: no value.
    area
        Modelled land ``(region,)`` or ``(member, region)``.
    mean_over, judged
        T and J ``(member, year)``; J = T in training, the years held out in validation.
    scale
        The inversions' mean square, where it is that of more years than these (`anomaly_scale`).

    Examples
    --------
    Anomalies ∓1 of the inversion against 0 and ∓2 of the model:

    >>> target, years = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[True, True]])
    >>> anomaly_loss(target, torch.tensor([[[7.0, 7.0]]]), torch.tensor([1.0]), years, years).item()
    1.0
    >>> anomaly_loss(target, torch.tensor([[[5.0, 9.0]]]), torch.tensor([1.0]), years, years).item()
    1.0
    """
    scale = anomaly_scale(target, mean_over) if scale is None else scale
    target, estimate = _with_sum(target, 2), _with_sum(estimate, 1)
    valid = torch.isfinite(target)
    of_inversion, base = _anomalies(target, valid, mean_over)
    of_model, _ = _anomalies(estimate[:, None].expand_as(target), valid, mean_over)
    used = valid & judged[:, None, None] & base.any(-1, keepdim=True)
    square = torch.where(used, (of_model - of_inversion) ** 2, 0.0).sum((1, 3)) / used.sum((1, 3)).clamp(min=1)
    there = used.any(-1).any(1) & (scale > 0)
    loss = torch.where(there, square / torch.where(there, scale, 1.0), 0.0)
    # without a year in which an inversion has every region there is no sum to judge
    weight = torch.where(there[:, -1], 0.5, 0.0)
    return (1 - weight) * area_mean(loss[:, :-1], area * there[:, :-1]) + weight * loss[:, -1]


def _with_sum(values: torch.Tensor, dim: int) -> torch.Tensor:
    """The regions along `dim`, and after them their sum."""
    return torch.cat([values, values.sum(dim, keepdim=True)], dim)


def _anomalies(values: torch.Tensor, valid: torch.Tensor, mean_over: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values less their mean over the valid years of `mean_over`, and which years these are; 0 where not valid.

    A year alone has no anomaly, so that it is no mean either.
    """
    base = valid & mean_over[:, None, None]
    base = base & (base.sum(-1, keepdim=True) > 1)
    values = torch.where(valid, values, 0.0)
    mean = torch.where(base, values, 0.0).sum(-1, keepdim=True) / base.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(valid, values - mean, 0.0), base


def shrunk_precision(target: torch.Tensor, shrinkage: float, floor: float = 0.01) -> torch.Tensor:
    """Inverse of the inversions' covariance between regions and steps ``(member, n, n)``, n = region × step.

    The sample covariance of a few inversions has no inverse: its correlations are shrunk towards zero,
    ``(1 − λ)·S + λ·diag(S)``, and every variance is at least (floor × the largest standard deviation)². A gap of an
    inversion counts as its being at the others' mean. Where the inversions do not differ at all (or there is one),
    every variance is 1 (PgC per month)², as in Eq. 10, where the 1 stands alone.

    Parameters
    ----------
    target
        As in `misfit`.
    shrinkage
        λ, 0 to 1.
    floor
        Least standard deviation, in units of the largest.

    Examples
    --------
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

    Parameters
    ----------
    target, estimate
        As in `misfit`.
    precision
        C⁻¹ of `shrunk_precision`.

    Examples
    --------
    >>> target, estimate = torch.tensor([[[[1.0, 3.0]], [[3.0, 1.0]]]]), torch.tensor([[[2.0, 2.0]]])
    >>> covariance_loss(target, estimate, torch.eye(2)[None]).item()
    1.0
    """
    values = target.flatten(2)
    difference = torch.where(torch.isfinite(values), values - estimate.flatten(1)[:, None], 0.0)
    return torch.einsum("man,mnk,mak->m", difference, precision, difference) / (values.shape[1] * values.shape[2])


def loss_weight(log_variance: torch.Tensor) -> torch.Tensor:
    """Eq. 12, w = 1/(2σ²), from log σ² (so that σ² stays positive whatever the optimiser does).

    Parameters
    ----------
    log_variance
        log σ², ``(member, term)`` or any shape.

    Examples
    --------
    >>> loss_weight(torch.tensor(0.25).log()).item()
    2.0
    """
    return 0.5 * torch.exp(-log_variance)


def loss_regulariser(log_variance: torch.Tensor) -> torch.Tensor:
    """Eq. 13, s = log sqrt(σ²), from log σ².

    Parameters
    ----------
    log_variance
        log σ², ``(member, term)`` or any shape.

    Examples
    --------
    >>> round(loss_regulariser(torch.tensor(4.0).log()).exp().item(), 4)
    2.0
    """
    return 0.5 * log_variance


def total_loss(losses: torch.Tensor, log_variance: torch.Tensor, weight: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Eq. 14 for any number of losses ``(member,)``.

    Parameters
    ----------
    losses, log_variance
        L and log σ², ``(member, term)``.
    weight
        Power to which the likelihood of a term is taken ``(term,)``; the paper's is 1.

    Examples
    --------
    >>> losses, variances = torch.tensor([[2.0, 6.0]]), torch.tensor([[1.0, 1.0]])
    >>> total_loss(losses, variances.log()).tolist()
    [4.0]
    >>> total_loss(losses, variances.log(), torch.tensor([1.0, 0.5])).tolist()
    [2.5]
    """
    return (weight * (loss_weight(log_variance) * losses + loss_regulariser(log_variance))).sum(-1)
