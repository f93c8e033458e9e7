"""Annual anomalies in training: which years a step compares, and how large the draws' noise is beside them."""

import numpy as np
import torch

from xflux.train.calendar import Slots, SlotSteps
from xflux.train.constraints import RegionalConstraint
from xflux.train.objective import annual_amounts, anomaly_loss, anomaly_scale


def check_years(constraint: RegionalConstraint, calendar: Slots, years: list[tuple]) -> None:
    """Raise where drivers or target know no years, or a member trains on one year only."""
    if constraint.years_per_step == 1:
        return
    asked = f"constraint {constraint.name}: years_per_step={constraint.years_per_step!r}"
    if calendar.whole:
        raise ValueError(
            f"{asked}, but the drivers or the target are a climatology: a step sees the mean year at once. Give "
            "drivers and a target with time, or leave years_per_step at 1 and anomalies at False"
        )
    few = [len(training) for training, _ in years if training is not None and len(training) < 2]
    if constraint.anomalies and few:
        raise ValueError(
            f"{asked} and anomalies need two training years of each member at least; a member has {few[0]}: use a "
            "longer target, or fewer validation_years"
        )


def years_of(calendar: Slots, years: list[tuple], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Slots of all years, which of these train, and which judge, each member ``(member, year)``."""
    known = np.unique(np.concatenate([np.concatenate([training, held_out]) for training, held_out in years]))

    def among(asked: list) -> torch.Tensor:
        return torch.as_tensor(np.stack([np.isin(known, some) for some in asked]), device=device)

    judging = among([held_out if len(held_out) else training for training, held_out in years])
    training = among([training for training, _ in years])
    return torch.as_tensor(calendar.slots_of(known), device=device), training, judging


def training_scale(calendar: Slots, target: torch.Tensor, years: list[tuple]) -> torch.Tensor:
    """`anomaly_scale` of each member's training years; ``target`` is on all slots."""
    slots, training, _ = years_of(calendar, years, target.device)
    scale = anomaly_scale(annual_amounts(target[..., slots], calendar.per_year), training)
    if not (scale > 0).any(1).all():
        raise ValueError(
            "anomalies: the target has none, its years do not differ where an inversion has two or more of a member's "
            "training years: give it as it was in each year, or leave anomalies at False"
        )
    return scale


def step_loss(
    calendar: Slots,
    steps: SlotSteps,
    estimate: torch.Tensor,
    area: torch.Tensor,
    years: list[tuple],
    scale: torch.Tensor,
) -> torch.Tensor:
    """`anomaly_loss` of the years of one training step ``(member,)``.

    Of n of a member's N years the means are those of the n; n/(n−1) · (N−1)/N makes the expectation that of all.
    """
    target, found = annual_amounts(steps.target, calendar.per_year), annual_amounts(estimate, calendar.per_year)
    of_all = torch.tensor([len(training) for training, _ in years], dtype=torch.float64, device=found.device)
    n = of_all.clamp(max=found.shape[-1])
    there = torch.arange(found.shape[-1], device=found.device) < n[:, None]
    return anomaly_loss(target, found, area, there, there, scale) * (n / (n - 1) * (of_all - 1) / of_all)


def validation_loss(
    calendar: Slots, target: torch.Tensor, estimate: torch.Tensor, area: torch.Tensor, years: list[tuple]
) -> torch.Tensor:
    """`anomaly_loss` of the held-out years against the mean of the training years ``(member,)``.

    ``target`` and ``estimate`` are on all slots. Without held-out years, of the training years.
    """
    slots, training, judging = years_of(calendar, years, estimate.device)
    annual = [annual_amounts(a[..., slots], calendar.per_year) for a in (target, estimate)]
    return anomaly_loss(*annual, area, training, judging)


def noise(variance: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Standard error of a step's annual sums over the inversions' anomalies ``(member, region and total, year)``.

    ``variance`` is that of the annual sums in (PgC per year)². NaN where the inversions have no anomalies.
    """
    return torch.where(scale[..., None] > 0, (variance / scale[..., None]).sqrt(), torch.nan)
