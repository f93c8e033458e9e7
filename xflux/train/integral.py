"""Regional integrals of the network's flux in two passes, block by block, and the way back to its parameters."""

from dataclasses import dataclass

import torch

from xflux.train import sums
from xflux.train.calendar import SlotSteps
from xflux.train.network import Network, blocks
from xflux.train.objective import monthly_mean
from xflux.train.pixels import Pixels

MEMBER_ROWS = 2_000_000  # rows of all members together that are worked on at once


@dataclass(frozen=True)
class Field:
    """The full field of earlier weights ``(member, pixel, target step)`` and its integral, the control variate."""

    amounts: torch.Tensor
    total: torch.Tensor

    def of(self, steps: SlotSteps) -> torch.Tensor:
        """The integral on some target steps ``(member, region, target step)``."""
        if steps.numbers is None:
            return self.total
        index = steps.numbers[:, None].expand(len(self.total), self.total.shape[1], -1)
        return self.total.gather(2, index)


@dataclass(frozen=True)
class Integral:
    """What the flux of a set of pixels adds up to in each region, for all members at once.

    ``output`` is the number of the flux among the network's outputs. Pixels are asked for as ``(member | 1, pixel)``,
    each with the area that it stands for; amounts are in gC m-2, integrals in PgC (float64).
    """

    pixels: Pixels
    members: int
    regions: int
    output: int

    @property
    def _regions(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pixels.region, self.pixels.share

    def everything(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All pixels, each for its own area."""
        return torch.arange(len(self.pixels.area), device=self.pixels.area.device)[None], self.pixels.area[None]

    def only(self, at: torch.Tensor, area: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pixels ``wanted (member, pixel)`` of each member, filled up with pixels of no area to one length."""
        longest = max(1, int(wanted.sum(1).max()))
        order = torch.argsort((~wanted).to(torch.uint8), dim=1, stable=True)[:, :longest]
        area = torch.where(wanted, area, torch.zeros_like(area))
        return at.expand(len(wanted), -1).gather(1, order), area.gather(1, order)

    def within(self, at: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """Whether a pixel has land in one of each member's ``regions (member, region)`` → ``(member, pixel)``."""
        found = torch.zeros(len(regions), at.shape[1], dtype=torch.bool, device=at.device)
        at = at.expand(len(regions), -1)
        for k in range(self.pixels.share.shape[1]):
            found |= regions.gather(1, self.pixels.region[at, k]) & (self.pixels.share[at, k] > 0)
        return found

    def estimate(
        self,
        network: Network,
        at: torch.Tensor,
        area: torch.Tensor,
        steps: SlotSteps,
        field: Field | None = None,
        keep: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """First pass, without a graph: ``(member, region, target step)``.

        With a `field`: its integral plus what the pixels have changed since. ``keep`` takes the pixels' amounts.
        """
        by_step = self._zeros(steps.slot.shape[1], at)
        for part in self._blocks(at, steps):
            flux = self._flux(network, at[:, part], steps)
            if keep is not None:
                keep[:, part] = monthly_mean(flux, steps.slot)
            sums.add(by_step, flux, at[:, part], area[:, part], *self._regions)
        total = by_step @ steps.slot.double()  # regions first: they are fewer than pixels
        if field is not None:
            stored, whole = self._zeros(steps.slot.shape[2], at), steps.numbers is None
            amounts = field.amounts if whole else self._stored(field, at, steps)
            sums.add(stored, amounts, at, area, *self._regions, rows=at if whole else None)
            return total - stored + field.of(steps)
        return total + self.pixels.intercept[None, :, None] * steps.slot.double().sum(1)[:, None, :]

    def propagate(
        self, network: Network, at: torch.Tensor, area: torch.Tensor, steps: SlotSteps, slope: torch.Tensor
    ) -> None:
        """Second pass: ``slope (member, region, target step)`` of the estimate back to the parameters."""
        by_step = slope @ steps.slot.double().transpose(1, 2)
        for part in self._blocks(at, steps):
            flux_slope = sums.spread(by_step, at[:, part], area[:, part], *self._regions, steps.slot.dtype)
            present = self.pixels.rows.present(at[:, part], steps.steps)
            if present is not None:
                flux_slope = flux_slope * present
            values = self.pixels.rows.at(steps.steps)
            network.accumulate(values, at[:, part], self._as_output(network, flux_slope.flatten(1, 2)))

    def amounts(self, network: Network, at: torch.Tensor, steps: SlotSteps) -> torch.Tensor:
        """Amounts ``(member, pixel, target step)``."""
        return monthly_mean(self._flux(network, at, steps), steps.slot)

    def _flux(self, network: Network, at: torch.Tensor, steps: SlotSteps) -> torch.Tensor:
        """Flux ``(member, pixel, step)``, 0 where a driver is missing."""
        flux = network.outputs(self.pixels.rows.at(steps.steps), at)[:, self.output].unflatten(1, (at.shape[1], -1))
        present = self.pixels.rows.present(at, steps.steps)
        return flux if present is None else flux * present

    def change(self, network: Network, at: torch.Tensor, steps: SlotSteps, field: Field | None) -> torch.Tensor:
        """Amounts, less those of the field, of any number of pixels ``(member, pixel, target step)``."""
        parts = []
        for part in self._blocks(at, steps):
            amount = self.amounts(network, at[:, part], steps)
            parts.append(amount if field is None else amount - self._stored(field, at[:, part], steps))
        return torch.cat(parts, 1)

    def _as_output(self, network: Network, flux_slope: torch.Tensor) -> torch.Tensor:
        if network.sizes[-1] == 1:
            return flux_slope[:, None]
        whole = flux_slope.new_zeros(len(flux_slope), network.sizes[-1], flux_slope.shape[1])
        whole[:, self.output] = flux_slope
        return whole

    def _blocks(self, at: torch.Tensor, steps: SlotSteps):
        return blocks(at.shape[1], max(1, MEMBER_ROWS // (self.members * steps.slot.shape[1])))

    def _stored(self, field: Field, at: torch.Tensor, steps: SlotSteps) -> torch.Tensor:
        member = torch.arange(self.members, device=at.device)[:, None]
        if steps.numbers is None:
            return field.amounts[member, at]
        return field.amounts[member[..., None], at[..., None], steps.numbers[:, None]]

    def _zeros(self, steps: int, at: torch.Tensor) -> torch.Tensor:
        return torch.zeros(self.members, self.regions, steps, dtype=torch.float64, device=at.device)
