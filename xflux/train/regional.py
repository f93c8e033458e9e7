"""A regional constraint made ready for training: target by member, pixels, estimate in two passes over blocks."""

import warnings

import numpy as np
import torch

from xflux.train.calendar import Calendar, Steps, held_out_years
from xflux.train.constraints import RegionalConstraint, Target, read_target
from xflux.train.data import Scaling, Setting
from xflux.train.draws import Curve, allocate
from xflux.train.network import Network, blocks, generator
from xflux.train.objective import area_mean, inversion_range, misfit, regional_loss
from xflux.train.pixels import Pixels, regional_pixels

BLOCK = 2_000_000  # rows of all members together that are worked on at once
CONTROL_LIMIT = 4e8  # numbers of a stored field (member × pixel × step) beyond which there is no control variate


class RegionalTerm:
    """One `RegionalConstraint` in training: `step`, `estimate`, `losses`, `backward`, `validate`."""

    def __init__(
        self, constraint: RegionalConstraint, scaling: Scaling, members: list[int], number: int, config: Setting
    ):
        self.constraint, self.config = constraint, config
        self.members, self.number = members, number
        self.dtype, self.device = config.torch_dtype, config.torch_device
        self.output = config.flux_number(constraint.flux)
        target = read_target(constraint.target)
        self.pixels, area = regional_pixels(constraint, target, scaling, self.dtype, self.device)
        target, area, self.left_out = self._modelled(target, area)
        self.regions = target.regions
        self.area = torch.tensor(area, dtype=torch.float64, device=self.device)
        self.calendar = Calendar.of(target, self.pixels.rows, bridge=constraint.kind == "bridge")
        self.years = held_out_years(self.calendar, target, members, config)
        self.training, self.validation = self._targets(target)
        self.curve, self.designs = self._designs() if constraint.kind == "sampled" else (None, None)
        n_field = len(members) * len(self.pixels.area) * self.calendar.n_slots
        self.controlled = (
            constraint.kind == "sampled"
            and constraint.control_variate
            and self.calendar.whole
            and n_field <= CONTROL_LIMIT
        )
        self.field: torch.Tensor | None = None
        self.field_sum: torch.Tensor | None = None
        self.error: torch.Tensor | None = None

    @property
    def names(self) -> list[str]:
        """Labels of the losses."""
        name = self.constraint.name
        return [name, f"{name}_total"] if self.constraint.total else [name]

    # --- preparation -------------------------------------------------------------------------------------------

    def _modelled(self, target: Target, area: np.ndarray) -> tuple[Target, np.ndarray, list[str]]:
        """Leave out the regions without modelled land, by name."""
        empty = ~(area > 0)
        lost = [name for name, out in zip(target.regions, empty, strict=True) if out]
        if not lost:
            return target, area, []
        if empty.all():
            raise ValueError(f"no region of the target has a cell with all drivers: {lost}")
        warnings.warn(
            f"constraint {self.constraint.name}: no modelled land in {', '.join(lost)}: left out of the loss "
            "and of the total",
            stacklevel=5,
        )
        keep = np.flatnonzero(~empty)
        number = torch.full((len(empty),), -1)
        number[torch.as_tensor(keep)] = torch.arange(len(keep))
        region = number.to(self.device)[self.pixels.region]
        share = torch.where(region >= 0, self.pixels.share, torch.zeros_like(self.pixels.share))
        self.pixels = Pixels(
            self.pixels.rows, self.pixels.area, region.clamp(min=0), share, self.pixels.intercept[torch.as_tensor(keep)]
        )
        target = Target(
            target.values[:, keep],
            tuple(target.regions[i] for i in keep),
            target.inversions,
            target.year,
            target.month,
            target.annual,
        )
        return target, area[keep], lost

    def _targets(self, target: Target) -> tuple[torch.Tensor, torch.Tensor]:
        """Training and validation target of every member ``(member, inversion, region, slot)``."""
        training, validation = [], []
        for years, held_out in self.years:
            training.append(self.calendar.target(target, years))
            validation.append(self.calendar.target(target, held_out) if len(held_out) else training[-1])
        return tuple(torch.tensor(np.stack(t), device=self.device) for t in (training, validation))

    def _designs(self):
        stratum = self.pixels.region.gather(1, self.pixels.share.argmax(1, keepdim=True))[:, 0].cpu().numpy()
        area = self.pixels.area.cpu().numpy()
        rows = self.pixels.rows
        curve = Curve.along(stratum, area, rows.lat, rows.lon, len(self.regions))
        share = np.bincount(stratum, area, len(self.regions))
        available = np.bincount(stratum, minlength=len(self.regions))
        counts = allocate(self.constraint.pixels, share, available)
        return curve, [curve.design(counts)] * len(self.members)

    # --- one training step -------------------------------------------------------------------------------------

    def start_epoch(self, epoch: int) -> None:
        """Fresh random streams: an epoch's draws depend on the seed, the member and the epoch alone."""
        self._rng = [generator(self.config.seed, 10 + self.number, m, epoch) for m in self.members]

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, Steps]:
        """Pixels ``(member | 1, pixel)``, the area that each stands for, and the steps of one training step."""
        steps = self.calendar.draw(self._rng, self.years, self.training, self.constraint.months_per_step, self.device)
        if self.curve is None:
            return *self._all(), steps
        drawn = [d.draw(rng, self.curve) for d, rng in zip(self.designs, self._rng, strict=True)]
        area = torch.tensor(np.stack([d.area for d in self.designs]), dtype=torch.float64, device=self.device)
        return torch.as_tensor(np.stack(drawn), device=self.device), area, steps

    def _all(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.arange(len(self.pixels.area), device=self.device)[None], self.pixels.area[None]

    def estimate(self, network: Network, pixels: torch.Tensor, area: torch.Tensor, steps: Steps, keep=None):
        """First pass, without a graph: regional amounts ``(member, region, target step)`` in PgC per month.

        With a stored field, that of the field plus the drawn pixels' change since. ``keep`` takes the pixels' own
        amounts, where it is given.
        """
        n_slots = steps.slot.shape[-1]
        total = torch.zeros(len(self.members), len(self.regions), n_slots, dtype=torch.float64, device=self.device)
        controlled = self.controlled and self.field is not None and keep is None
        for part in self._blocks(pixels, steps):
            amount = self._amounts(network, pixels[:, part], steps)
            if keep is not None:
                keep[:, part] = amount
            if controlled:
                amount = amount - self._stored(pixels[:, part])
            self._scatter(total, amount, pixels[:, part], area[:, part])
        if controlled:
            total += self.field_sum
        return total + self._intercept(steps)

    def backward(self, network: Network, pixels: torch.Tensor, area: torch.Tensor, steps: Steps, slope: torch.Tensor):
        """Second pass: ``slope (member, region, target step)`` back to the parameters, block by block."""
        for part in self._blocks(pixels, steps):
            amount_slope = self._gather(slope, pixels[:, part], area[:, part])
            flux_slope = amount_slope.to(self.dtype) @ steps.slot.transpose(1, 2)
            present = self.pixels.rows.present(pixels[:, part], steps.steps)
            if present is not None:
                flux_slope = flux_slope * present
            values, at = self.pixels.rows.values(pixels[:, part], steps.steps)
            flux_slope = flux_slope.flatten(1, 2)
            if network.sizes[-1] > 1:
                whole = flux_slope.new_zeros(len(flux_slope), network.sizes[-1], flux_slope.shape[1])
                whole[:, self.output] = flux_slope
                network.accumulate(values, at, whole)
            else:
                network.accumulate(values, at, flux_slope[:, None])

    def _blocks(self, pixels: torch.Tensor, steps: Steps):
        return blocks(pixels.shape[1], max(1, BLOCK // (len(self.members) * steps.slot.shape[1])))

    def _amounts(self, network: Network, pixels: torch.Tensor, steps: Steps) -> torch.Tensor:
        """Amounts ``(member, pixel, target step)`` in gC m-2."""
        values, at = self.pixels.rows.values(pixels, steps.steps)
        flux = network.outputs(values, at)[:, self.output].unflatten(1, (pixels.shape[1], -1))
        present = self.pixels.rows.present(pixels, steps.steps)
        return (flux if present is None else flux * present) @ steps.slot

    def _stored(self, pixels: torch.Tensor) -> torch.Tensor:
        members = torch.arange(len(self.members), device=self.device)[:, None]
        return self.field[members, pixels]

    def _index(self, pixels: torch.Tensor, k: int) -> torch.Tensor:
        offset = torch.arange(len(self.members), device=self.device)[:, None] * len(self.regions)
        return (self.pixels.region[pixels, k] + offset).flatten()

    def _scatter(self, total: torch.Tensor, amount: torch.Tensor, pixels: torch.Tensor, area: torch.Tensor) -> None:
        flat = total.view(-1, total.shape[-1])
        for k in range(self.pixels.share.shape[1]):
            part = (amount.double() * (area * self.pixels.share[pixels, k])[..., None]).flatten(0, 1)
            flat.index_add_(0, self._index(pixels, k), part)

    def _gather(self, slope: torch.Tensor, pixels: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
        flat, result = slope.reshape(-1, slope.shape[-1]), 0
        for k in range(self.pixels.share.shape[1]):
            of_region = flat[self._index(pixels, k)].view(len(self.members), pixels.shape[1], -1)
            result = result + of_region * (area * self.pixels.share[pixels, k])[..., None]
        return result

    def _intercept(self, steps: Steps) -> torch.Tensor:
        return self.pixels.intercept[None, :, None] * steps.slot.double().sum(1)[:, None, :]

    # --- losses ------------------------------------------------------------------------------------------------

    def losses(self, target: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
        """L_ATM and, where asked for, that of the regions' sum ``(member, term)``."""
        area = self.area if self.constraint.area_weights else torch.ones_like(self.area)
        found = [self._loss(target, estimate, area)]
        if self.constraint.total:
            found.append(self._loss(target.sum(2, keepdim=True), estimate.sum(1, keepdim=True), area[:1]))
        return torch.stack(found, -1)

    def _loss(self, target: torch.Tensor, estimate: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
        valid = torch.isfinite(target).any(1)
        loss = misfit(target, estimate, self.constraint.exponent)
        return area_mean(regional_loss(loss, inversion_range(target), valid, self.constraint.normalise), area)

    # --- between epochs ----------------------------------------------------------------------------------------

    def renew(self, network: Network) -> None:
        """Full integral of the present weights, kept as the control variate."""
        if not self.controlled:
            return
        if self.field is None:
            shape = (len(self.members), len(self.pixels.area), self.calendar.n_slots)
            self.field = torch.empty(shape, dtype=self.dtype, device=self.device)
        self.field_sum = self.estimate(network, *self._all(), self.calendar.all_steps(self.training), keep=self.field)

    def validate(self, network: Network) -> torch.Tensor:
        """Losses on the held-out years with the full integral (the bridge's, for a bridge) ``(member, term)``."""
        self.renew(network)
        if self.controlled:
            return self.losses(self.validation, self.field_sum)
        found = []
        for steps in self.calendar.validation_steps(self.years, self.training, self.validation, self.device):
            found.append(self.losses(steps.target, self.estimate(network, *self._all(), steps)))
        return torch.stack(found).mean(0)
