"""A regional constraint made ready for training: target by member, pixels, estimate in two passes over blocks."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from xflux.train.constraints import (
    MONTHS,
    RegionalConstraint,
    Target,
    match_regions,
    read_target,
    training_target,
)
from xflux.train.data import GridRows, Scaling, Setting, grid_rows
from xflux.train.draws import Curve, allocate
from xflux.train.network import Network, blocks, generator
from xflux.train.objective import area_mean, inversion_range, misfit, regional_loss

MEAN_MONTH = 30.436875  # d, to which a bridge's weights refer
BLOCK = 2_000_000  # rows of all members together that are worked on at once
CONTROL_LIMIT = 4e8  # numbers of a stored field (member × pixel × step) beyond which there is no control variate


@dataclass(frozen=True)
class Pixels:
    """Cells and what their flux counts for: ``area (pixel,)`` split among regions (``share`` sums to 1 at most)."""

    rows: GridRows
    area: torch.Tensor
    region: torch.Tensor
    share: torch.Tensor
    intercept: torch.Tensor


@dataclass(frozen=True)
class Steps:
    """Steps of the drivers used at once ``(member | 1, step)`` (None: all), and what they add to which target step.

    ``slot (member | 1, step, target step)`` holds days (or their share of a mean month); ``target`` and
    ``valid`` are the target on these steps.
    """

    steps: torch.Tensor | None
    slot: torch.Tensor
    target: torch.Tensor


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
        self.pixels, area = _pixels(constraint, target, scaling, self.dtype, self.device)
        target, area, self.left_out = self._modelled(target, area)
        self.regions = target.regions
        self.area = torch.tensor(area, dtype=torch.float64, device=self.device)
        self.calendar = Calendar.of(target, self.pixels.rows, bridge=constraint.kind == "bridge")
        self.years = _held_out_years(self.calendar, target, members, config)
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


def _pixels(constraint: RegionalConstraint, target: Target, scaling: Scaling, dtype, device):
    """The constraint's pixels and each region's modelled land in m2, in the target's order."""
    if constraint.kind == "bridge":
        return _bridge_pixels(constraint, target, scaling, dtype, device)
    weights = _region_weights(constraint)
    order = match_regions(target.regions, tuple(map(str, weights["region"].values)), "regions=")
    table = weights.data.to_scipy_sparse() if weights.ndim == 2 else _sparse(weights)
    table = table.tocsr()[order].tocsc()
    table.eliminate_zeros()
    counts = np.diff(table.indptr)
    wanted = np.flatnonzero(counts)
    rows = grid_rows(constraint.drivers, scaling, wanted, dtype, device)
    region, share = _padded(table[:, rows.cells], int(counts.max(initial=1)))
    area = share.sum(1)
    modelled = share if rows.valid is None else share * rows.valid.double().mean(1, keepdim=True).cpu().numpy()
    by_region = np.bincount(region.ravel(), modelled.ravel(), len(target.regions))

    def tensor(a, t=torch.float64):
        return torch.tensor(a, dtype=t, device=device)

    intercept = torch.zeros(len(target.regions), dtype=torch.float64, device=device)
    pixels = Pixels(rows, tensor(area * 1e-15), tensor(region, torch.int64), tensor(share / area[:, None]), intercept)
    return pixels, by_region


def _region_weights(constraint: RegionalConstraint) -> xr.DataArray:
    given = constraint.regions
    if isinstance(given, xr.DataArray) and given.attrs.get("units") == "m2" and "region" in given.dims:
        return given.transpose("region", "lat", "lon")
    from xflux.regions import region_weights

    weights = region_weights(constraint.drivers, given, area_basis="land", land_fraction=constraint.land_fraction)
    return weights.transpose("region", "lat", "lon")


def _sparse(weights: xr.DataArray):
    from scipy.sparse import csr_array

    data = weights.data
    if hasattr(data, "coords"):
        flat = np.ravel_multi_index(data.coords[1:], data.shape[1:])
        shape = (data.shape[0], int(np.prod(data.shape[1:])))
        return csr_array((data.data, (data.coords[0], flat)), shape=shape)
    return csr_array(np.nan_to_num(np.asarray(data, float)).reshape(data.shape[0], -1))


def _padded(table, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Region numbers and m2 ``(pixel, width)`` of a (region × pixel) table in columns; unused places hold 0 m2."""
    n = table.shape[1]
    counts = np.diff(table.indptr)
    place = np.arange(table.nnz) - np.repeat(table.indptr[:-1], counts)
    pixel = np.repeat(np.arange(n), counts)
    region, share = np.zeros((n, width), np.int64), np.zeros((n, width))
    region[pixel, place], share[pixel, place] = table.indices, table.data
    return region, share


def _bridge_pixels(constraint: RegionalConstraint, target: Target, scaling: Scaling, dtype, device):
    bridge, grid = constraint.bridge, constraint.drivers
    names = tuple(map(str, bridge.regions["region"].values))
    order = match_regions(target.regions, names, "the bridge")
    number = {names[i]: place for place, i in enumerate(order)}
    table = bridge.pixels
    cells = _cells(grid, table["lat"].values, table["lon"].values)
    rows = grid_rows(grid, scaling, cells, dtype, device)
    if len(rows.cells) < len(cells) or rows.incomplete:
        lost = len(cells) - len(rows.cells) + rows.incomplete
        raise ValueError(
            f"{lost} contributing pixels of the bridge have NaN in a driver: fill them (xflux.drivers.fill_nearest) "
            "or fit the bridge on a flux that has the drivers' cells"
        )
    region = np.array([number[str(name)] for name in table["region"].values])[:, None]

    def tensor(a, t=torch.float64):
        return torch.tensor(np.asarray(a), dtype=t, device=device)

    weight = np.asarray(table["weight"].values, float) / MEAN_MONTH
    intercept = np.asarray(bridge.regions["intercept"].values, float)[order] / MEAN_MONTH
    area = np.asarray(bridge.regions["land_area"].values, float)[order]
    pixels = Pixels(rows, tensor(weight), tensor(region, torch.int64), tensor(np.ones_like(weight))[:, None],
                    tensor(intercept))  # fmt: skip
    return pixels, area


def _cells(grid: xr.Dataset, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Flat numbers of the cells with these centres (longitude modulo 360); raises where there is none."""
    grid_lat, grid_lon = grid["lat"].values, grid["lon"].values
    row = np.abs(grid_lat[None] - np.asarray(lat)[:, None]).argmin(1)
    apart = np.abs((grid_lon[None] - np.asarray(lon)[:, None] + 180) % 360 - 180)
    column = apart.argmin(1)
    off = (np.abs(grid_lat[row] - lat) > 1e-4) | (apart[np.arange(len(column)), column] > 1e-4)
    if off.any():
        first = np.flatnonzero(off)[0]
        raise ValueError(
            f"{off.sum()} of the bridge's {len(off)} pixels are no cells of the constraint's drivers, e.g. lat "
            f"{lat[first]}, lon {lon[first]}: the bridge and the drivers must be on one grid"
        )
    return row * len(grid_lon) + column


def _held_out_years(calendar: "Calendar", target: Target, members: list[int], config: Setting) -> list[tuple]:
    """Training and held-out years of every member (empty for a climatology)."""
    years = calendar.years(target)
    if years is None:
        return [(None, ())] * len(members)
    held = config.validation_years
    if len(years) <= held:
        raise ValueError(
            f"the target has {len(years)} whole years ({', '.join(map(str, years))}) that the drivers cover, and "
            f"validation_years={held} of them are held out: nothing is left to train on. Use fewer validation_years"
        )
    split = []
    for member in members:
        out = generator(config.seed, 2, member).permutation(years)[:held]
        split.append((np.setdiff1d(years, out), np.sort(out)))
    return split


@dataclass(frozen=True)
class Calendar:
    """How the drivers' steps meet the target's.

    ``whole``: all driver steps make one set of target slots (a climatology of drivers, or of the target).
    Otherwise every slot is a step of the target with its own driver steps.
    """

    whole: bool
    matrix: torch.Tensor | None
    own: tuple[np.ndarray, ...]
    weight: np.ndarray
    year: np.ndarray | None
    column: np.ndarray
    n_slots: int
    annual: bool
    device: object
    dtype: object

    @classmethod
    def of(cls, target: Target, rows: GridRows, bridge: bool) -> "Calendar":
        device, dtype = rows.groups[0][1].device, rows.groups[0][1].dtype
        weight = rows.days / (MONTHS if target.annual else 1)
        month = _months(rows)
        common = {"annual": target.annual, "device": device, "dtype": dtype, "weight": weight}
        if rows.axis != "time" or target.year is None:
            n_years = 1 if rows.axis != "time" else len(np.unique(rows.steps.dt.year.values))
            slot = np.zeros_like(month) if target.annual else month - 1
            n_slots = 1 if target.annual else MONTHS
            matrix = np.zeros((len(month), n_slots))
            matrix[np.arange(len(month)), slot] = weight / n_years
            order = np.argsort(target.month) if target.year is None else np.arange(n_slots)
            return cls(True, torch.tensor(matrix, dtype=dtype, device=device)[None], (), year=None, column=order,
                       n_slots=n_slots, **common)  # fmt: skip
        step_year = rows.steps.dt.year.values
        own, column = [], []
        for i, (y, m) in enumerate(zip(target.year, target.month, strict=True)):
            at = np.flatnonzero((step_year == y) & ((month == m) | target.annual))
            if len(at):
                own.append(at)
                column.append(i)
        column = np.array(column, int)
        return cls(False, None, tuple(own), year=target.year[column], column=column, n_slots=len(own), **common)

    def years(self, target: Target) -> np.ndarray | None:
        """Whole years that can train the model; None for a target without years."""
        if target.year is None:
            return None
        if self.whole:
            return target.years
        found, counts = np.unique(self.year, return_counts=True)
        covered = found[counts == (1 if self.annual else MONTHS)]
        return np.intersect1d(target.years, covered)

    def target(self, target: Target, years: np.ndarray | None) -> np.ndarray:
        """The target on the slots ``(inversion, region, slot)``."""
        if self.whole:
            return target.values[..., self.column] if years is None else training_target(target, years)
        return target.values[..., self.column]

    def all_steps(self, target: torch.Tensor) -> Steps:
        return Steps(None, self.matrix, target)

    def draw(self, rngs, years, target: torch.Tensor, months: int, device) -> Steps:
        """The steps of one training step: all of them, or consecutive months of one training year by member."""
        if self.whole:
            return self.all_steps(target)
        chosen = []
        for rng, (training, _) in zip(rngs, years, strict=True):
            slots = np.flatnonzero(self.year == rng.choice(training))
            start = rng.integers(0, max(len(slots) - months, 0) + 1)
            chosen.append(slots[start : start + months])
        return self._gather(chosen, target, device)

    def validation_steps(self, years, training: torch.Tensor, validation: torch.Tensor, device):
        """Steps for validation: everything at once, or year by held-out year."""
        if self.whole:
            yield self.all_steps(validation)
            return
        for k in range(max(len(held_out) for _, held_out in years) or 1):
            pick = [(held_out if len(held_out) else train)[k] for train, held_out in years]
            yield self._gather([np.flatnonzero(self.year == year) for year in pick], validation, device)

    def _gather(self, chosen: list[np.ndarray], target: torch.Tensor, device) -> Steps:
        longest = max(sum(len(self.own[s]) for s in slots) for slots in chosen)
        steps = np.zeros((len(chosen), longest), np.int64)
        slot = np.zeros((len(chosen), longest, len(chosen[0])))
        for m, slots in enumerate(chosen):
            at = 0
            for k, s in enumerate(slots):
                own = self.own[s]
                steps[m, at : at + len(own)] = own
                slot[m, np.arange(at, at + len(own)), k] = self.weight[own]
                at += len(own)
        picked = torch.stack([target[m][..., torch.as_tensor(slots, device=device)] for m, slots in enumerate(chosen)])
        return Steps(torch.as_tensor(steps, device=device), torch.tensor(slot, dtype=self.dtype, device=device), picked)


def _months(rows: GridRows) -> np.ndarray:
    """Calendar month (1–12) of every driver step."""
    if rows.axis == "month":
        return rows.steps.values.astype(int)
    if rows.axis == "time":
        return rows.steps.dt.month.values
    from xflux.train.data import _month_of_day

    return _month_of_day(rows.steps.values, rows.steps.size)
