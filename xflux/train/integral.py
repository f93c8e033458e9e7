"""Regional integrals of the network's flux in two passes, block by block, and the way back to its parameters."""

from dataclasses import dataclass

import torch

from xflux.train.calendar import Steps
from xflux.train.network import Network, blocks
from xflux.train.pixels import Pixels

BLOCK = 2_000_000  # rows of all members together that are worked on at once


@dataclass(frozen=True)
class Field:
    """The full field of earlier weights ``(member, pixel, target step)`` and its integral, the control variate."""

    amounts: torch.Tensor
    total: torch.Tensor


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

    def everything(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All pixels, each for its own area."""
        return torch.arange(len(self.pixels.area), device=self.pixels.area.device)[None], self.pixels.area[None]

    def estimate(
        self,
        network: Network,
        at: torch.Tensor,
        area: torch.Tensor,
        steps: Steps,
        field: Field | None = None,
        keep: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """First pass, without a graph: ``(member, region, target step)``.

        With a `field`: its integral plus what the pixels have changed since. ``keep`` takes the pixels' amounts.
        """
        shape = (self.members, self.regions, steps.slot.shape[-1])
        total = torch.zeros(shape, dtype=torch.float64, device=at.device)
        for part in self._blocks(at, steps):
            amount = self.amounts(network, at[:, part], steps)
            if keep is not None:
                keep[:, part] = amount
            if field is not None:
                amount = amount - self._stored(field, at[:, part])
            self._scatter(total, amount, at[:, part], area[:, part])
        if field is not None:
            return total + field.total
        return total + self.pixels.intercept[None, :, None] * steps.slot.double().sum(1)[:, None, :]

    def propagate(
        self, network: Network, at: torch.Tensor, area: torch.Tensor, steps: Steps, slope: torch.Tensor
    ) -> None:
        """Second pass: ``slope (member, region, target step)`` of the estimate back to the parameters."""
        for part in self._blocks(at, steps):
            amount_slope = self._gather(slope, at[:, part], area[:, part]).to(steps.slot.dtype)
            flux_slope = amount_slope @ steps.slot.transpose(1, 2)
            present = self.pixels.rows.present(at[:, part], steps.steps)
            if present is not None:
                flux_slope = flux_slope * present
            values, rows = self.pixels.rows.values(at[:, part], steps.steps)
            network.accumulate(values, rows, self._as_output(network, flux_slope.flatten(1, 2)))

    def amounts(self, network: Network, at: torch.Tensor, steps: Steps) -> torch.Tensor:
        """Amounts ``(member, pixel, target step)``."""
        values, rows = self.pixels.rows.values(at, steps.steps)
        flux = network.outputs(values, rows)[:, self.output].unflatten(1, (at.shape[1], -1))
        present = self.pixels.rows.present(at, steps.steps)
        return (flux if present is None else flux * present) @ steps.slot

    def change(self, network: Network, at: torch.Tensor, steps: Steps, field: Field | None) -> torch.Tensor:
        """Amounts, less those of the field, of any number of pixels ``(member, pixel, target step)``."""
        parts = []
        for part in self._blocks(at, steps):
            amount = self.amounts(network, at[:, part], steps)
            parts.append(amount if field is None else amount - self._stored(field, at[:, part]))
        return torch.cat(parts, 1)

    def _as_output(self, network: Network, flux_slope: torch.Tensor) -> torch.Tensor:
        if network.sizes[-1] == 1:
            return flux_slope[:, None]
        whole = flux_slope.new_zeros(len(flux_slope), network.sizes[-1], flux_slope.shape[1])
        whole[:, self.output] = flux_slope
        return whole

    def _blocks(self, at: torch.Tensor, steps: Steps):
        return blocks(at.shape[1], max(1, BLOCK // (self.members * steps.slot.shape[1])))

    def _stored(self, field: Field, at: torch.Tensor) -> torch.Tensor:
        return field.amounts[torch.arange(self.members, device=at.device)[:, None], at]

    def _index(self, at: torch.Tensor, k: int) -> torch.Tensor:
        offset = torch.arange(self.members, device=at.device)[:, None] * self.regions
        return (self.pixels.region[at, k] + offset).flatten()

    def _scatter(self, total: torch.Tensor, amount: torch.Tensor, at: torch.Tensor, area: torch.Tensor) -> None:
        flat = total.view(-1, total.shape[-1])
        for k in range(self.pixels.share.shape[1]):
            part = (amount.double() * (area * self.pixels.share[at, k])[..., None]).flatten(0, 1)
            flat.index_add_(0, self._index(at, k), part)

    def _gather(self, slope: torch.Tensor, at: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
        flat, result = slope.reshape(-1, slope.shape[-1]), 0
        for k in range(self.pixels.share.shape[1]):
            of_region = flat[self._index(at, k)].view(self.members, at.shape[1], -1)
            result = result + of_region * (area * self.pixels.share[at, k])[..., None]
        return result
