"""A regional constraint made ready for training: each member's target, the integral, losses and validation."""

from dataclasses import replace

import numpy as np
import torch
import xarray as xr

from xflux.train import interannual
from xflux.train.calendar import Slots, SlotSteps, held_out_years
from xflux.train.checkpoint import fingerprint
from xflux.train.constraints import RegionalConstraint, plain_options
from xflux.train.data import Scaling, Setting
from xflux.train.draws import Curve, Design, allocate, variance_of_sums
from xflux.train.integral import Field, Integral
from xflux.train.network import Network, generator
from xflux.train.objective import annual_amounts, atmospheric_loss, covariance_loss, inversion_range, shrunk_precision
from xflux.train.pixels import (
    Pixels,
    bridge_pixels,
    keep_regions,
    modelled,
    region_weights_of,
    regional_pixels,
    share_of_land,
    whole_of_bridge,
)
from xflux.train.refit import bridge_of, bridge_state, check_months, fitted_anew, path_field
from xflux.train.target import MONTHS, RegionalTarget, standard_target
from xflux.units import factor, usual_rate
from xflux.values import warn

CONTROL_LIMIT = 2e8  # numbers of a stored field (member × pixel × step) beyond which there is no control variate
PATH = 3  # epochs whose fields the bridge is fitted anew on


class RegionalTerm:
    """One `RegionalConstraint` in training."""

    def __init__(
        self, constraint: RegionalConstraint, scaling: Scaling, members: list[int], number: int, config: Setting
    ):
        self.constraint, self.config, self.scaling = constraint, config, scaling
        self.members, self.number = members, number
        self.device = config.torch_device
        target = standard_target(constraint.target)
        text = config.units.get(config.targets[config.flux_number(constraint.flux)])
        self.rate = factor(text, usual_rate(constraint.target.attrs)) if text else 1.0
        make = bridge_pixels if constraint.kind == "bridge" else regional_pixels
        pixels, area, share = make(constraint, target.regions, scaling, config)
        self.kept, self.left_out = modelled(constraint, target, area)
        self.modelled_share = share_of_land(constraint, np.array(target.regions)[self.kept], share[self.kept])
        target = target.of_regions(self.kept)
        self.target, self.regions = target, target.regions
        self.integral = self._integral(pixels)
        self.whole = self._whole(constraint.target)
        self.area = torch.tensor(area[self.kept], dtype=torch.float64, device=self.device)
        mean_months = constraint.kind == "bridge" and not getattr(constraint.bridge, "month_lengths", True)
        self.calendar = Slots.of(target, pixels.rows, mean_months)
        self.whole_calendar = self.whole and Slots.of(target, self.whole.pixels.rows, False)
        self.years = held_out_years(self.calendar, target, members, config)
        interannual.check_years(constraint, self.calendar, self.years)
        self.training, self.validation, self.one = self._targets(target)
        self._check_total()
        if constraint.anomalies:
            self.anomaly_scale = interannual.training_scale(self.calendar, self.training, self.years)
        self.curve, self.design = self._stratify() if constraint.kind == "sampled" else (None, None)
        self.controlled = self._is_controlled()
        self.field: Field | None = None
        self.precision: torch.Tensor | None = None
        self.refitted, self.path = None, []
        self.report: dict[str, np.ndarray] = {}
        self._chosen: torch.Tensor | None = None
        if (constraint.refit_bridge or self.controlled) and self.whole is None:
            raise ValueError(
                "refit_bridge and a bridge's control_variate need all pixels of the regions: give regions=, the bridge "
                "knows none"
            )
        if constraint.refit_bridge:
            check_months(self.whole.pixels.rows)

    @property
    def names(self) -> list[str]:
        """Labels of the losses."""
        name = self.constraint.name
        of_months = [name, f"{name}_total"] if self.constraint.total else [name]
        return [*of_months, f"{name}_anomalies"] if self.constraint.anomalies else of_months

    @property
    def weights(self) -> list[float]:
        """Weights of the losses."""
        given = self.constraint.weight
        of_regions, of_total = given if isinstance(given, tuple) else (given, given)
        of_months = [of_regions, of_total] if self.constraint.total else [of_regions]
        return [*of_months, float(self.constraint.anomalies)] if self.constraint.anomalies else of_months

    # --- preparation -------------------------------------------------------------------------------------------

    def _integral(self, pixels: Pixels) -> Integral:
        output = self.config.flux_number(self.constraint.flux)
        scaled = replace(keep_regions(pixels, self.kept), area=pixels.area * self.rate)
        return Integral(scaled, len(self.members), len(self.kept), output)

    def _whole(self, target: xr.DataArray) -> Integral | None:
        """The integral over all pixels; beside a bridge it says how far the two are apart."""
        if self.constraint.kind != "bridge":
            return self.integral
        names = tuple(map(str, target["region"].values))
        found = whole_of_bridge(self.constraint, names, self.scaling, self.config)
        return found and self._integral(found)

    def _is_controlled(self) -> bool:
        """Whether pixels estimate the change since the last full field; warns where it was asked for but cannot be."""
        wanted = self.constraint.control_variate
        if self.constraint.kind == "bridge":
            return bool(wanted or (wanted is None and self.constraint.refit_bridge))
        if self.curve is None or wanted is False or not (wanted or self.calendar.whole or self.constraint.anomalies):
            return False
        size = len(self.members) * len(self.integral.pixels.area) * self.calendar.n_slots
        if size > CONTROL_LIMIT and wanted:
            warn(
                f"constraint {self.constraint.name}: no control variate: a field of {len(self.members)} members × "
                f"{len(self.integral.pixels.area)} pixels × {self.calendar.n_slots} steps is more than the "
                f"{CONTROL_LIMIT:.0e} numbers that are kept"
            )
        return size <= CONTROL_LIMIT

    def _targets(self, target: RegionalTarget) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Training and validation target ``(member, inversion, region, slot)``, and the 1 of Eq. 10 ``(member,)``."""
        training, validation, one = [], [], []
        for i, member in enumerate(self.members):
            own = target
            if self.config.resample_inversions:
                rng = generator(self.config.seed, 4, member, self.number)
                asked, n = self.config.resample_inversions, len(target.inversions)
                own = target.of_inversions(rng.integers(n, size=n if asked is True else asked))
                self.years[i] = self._years_there(own, member, *self.years[i])
            years, held_out = self.years[i]
            training.append(self.calendar.target(own, years))
            validation.append(self.calendar.target(own, held_out) if len(held_out) else training[-1])
            one.append(own.magnitude(years))
        return tuple(torch.tensor(np.stack(t), device=self.device) for t in (training, validation, one))

    def _check_total(self) -> None:
        """Raise where no inversion has all regions at once: the loss of their sum would be zero."""
        lacking = ~torch.isfinite(self.training.sum(2)).any(-1).any(1)
        trains = self.config.validation_years is not None
        if self.constraint.total and trains and lacking.any():
            member = self.members[int(lacking.nonzero()[0])]
            raise ValueError(
                f"constraint {self.constraint.name}: total=True, but none of the inversions of member {member} has "
                "a value in every region at one step, so that the regions have no sum: leave out the regions or the "
                "inversions with gaps, or total"
            )

    def _years_there(self, own: RegionalTarget, member: int, training, held_out) -> tuple:
        """The member's years in which one of the inversions that it has drawn has a value."""
        if own.year is None:
            return training, held_out
        there = own.year[np.isfinite(own.values).any((0, 1))]
        if not np.isin(training, there).any():
            raise ValueError(
                f"resample_inversions: member {member} has drawn only inversions without a value in its training "
                f"years ({', '.join(sorted(set(own.inversions)))}): use another seed, or inversions of one period"
            )
        return training[np.isin(training, there)], held_out[np.isin(held_out, there)]

    def _stratify(self) -> tuple[Curve, Design]:
        """The draws of a step: each region's share is in proportion to its modelled land, with a floor."""
        pixels = self.integral.pixels
        stratum = pixels.region.gather(1, pixels.share.argmax(1, keepdim=True))[:, 0].cpu().numpy()
        area, n = pixels.area.cpu().numpy(), len(self.regions)
        curve = Curve.along(stratum, area, pixels.rows.lat, pixels.rows.lon, n)
        counts = allocate(self.constraint.pixels, np.bincount(stratum, area, n), np.bincount(stratum, minlength=n))
        return curve, curve.design(counts)

    # --- one training step -------------------------------------------------------------------------------------

    def start_epoch(self, epoch: int) -> None:
        """Fresh random streams: an epoch's draws depend on the seed, the member and the epoch alone."""
        self._rng = [generator(self.config.seed, 10 + self.number, m, epoch) for m in self.members]

    def forward(self, network: Network) -> torch.Tensor:
        """Losses ``(member, term)`` of one training step; the graph begins at the regional estimate."""
        at, area, steps = self._drawn = self.draw()
        self._estimate = self.integral.estimate(network, at, area, steps, self.field).requires_grad_()
        target = steps.target
        if self._chosen is not None:
            target = torch.where(self._chosen[:, None, :, None], target, torch.nan)
        found = self.losses(target, self._estimate, steps.target)
        if not self.constraint.anomalies:
            return found
        area = self._area_weights(steps.target)
        anomalies = interannual.step_loss(self.calendar, steps, self._estimate, area, self.years, self.anomaly_scale)
        return torch.cat([found, anomalies[:, None]], -1)

    def backward(self, network: Network) -> None:
        """From the slope of the estimate, which the total loss has left there, to the parameters."""
        self.integral.propagate(network, *self._drawn, self._estimate.grad)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, SlotSteps]:
        """Pixels ``(member | 1, pixel)``, the area that each stands for, and the steps of one training step."""
        steps = self._draw_steps()
        at, area = self.draw_pixels()
        self._chosen = self._some_regions(steps.target)
        if self._chosen is None or self.constraint.total or self.constraint.anomalies:  # the sum needs every region
            return at, area, steps
        if self.curve is None:
            wanted = self.integral.within(at, self._chosen)
        else:
            strata = (self._chosen.double() @ self._strata_of_regions()) > 0
            wanted = strata[:, torch.as_tensor(self.design.stratum, device=self.device)]
        return *self.integral.only(at, area, wanted), steps

    def _draw_steps(self) -> SlotSteps:
        asked = self.constraint
        return self.calendar.draw(self._rng, self.years, self.training, asked.months_per_step, asked.years_per_step)

    def draw_pixels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels of a step, drawn or all, and the area that each stands for."""
        if self.curve is None:
            return self.integral.everything()
        drawn = [self.design.draw(rng, self.curve) for rng in self._rng]
        area = torch.tensor(self.design.area, dtype=torch.float64, device=self.device).expand(len(drawn), -1)
        return torch.as_tensor(np.stack(drawn), device=self.device), area

    def _some_regions(self, target: torch.Tensor) -> torch.Tensor | None:
        """The step's ``regions_per_step`` regions, of those that have a target ``(member, region)``; None: all."""
        n, wanted = len(self.regions), self.constraint.regions_per_step
        if wanted == "all" or wanted >= n:
            return None
        there = torch.isfinite(target).any(-1).any(1).expand(len(self._rng), -1).cpu().numpy()
        chosen = np.zeros((len(self._rng), n), bool)
        for member, rng in enumerate(self._rng):
            order = rng.permutation(n)
            order = np.concatenate([order[there[member][order]], order[~there[member][order]]])
            chosen[member, order[:wanted]] = True
        return torch.as_tensor(chosen, device=self.device)

    def _strata_of_regions(self) -> torch.Tensor:
        """1 where pixels of a stratum have land in a region ``(region, stratum)``; they share cells at borders."""
        pixels, n = self.integral.pixels, len(self.regions)
        stratum = pixels.region.gather(1, pixels.share.argmax(1, keepdim=True))
        found = torch.zeros(n, n, dtype=torch.float64, device=self.device)
        for k in range(pixels.share.shape[1]):
            land = pixels.share[:, k] > 0
            found[pixels.region[land, k], stratum[land, 0]] = 1
        return found

    # --- losses ------------------------------------------------------------------------------------------------

    def losses(self, target: torch.Tensor, estimate: torch.Tensor, whole: torch.Tensor | None = None) -> torch.Tensor:
        """L_ATM and, where asked for, that of the regions' sum (of the ``whole`` target) ``(member, term)``."""
        one = self.one[:, None, None]
        whole = (target if whole is None else whole) / one[..., None]
        target, estimate = target / one[..., None], estimate / one
        exponent, normalise = self.constraint.exponent, self.constraint.normalise
        if self.constraint.misfit == "covariance":
            found = [covariance_loss(target, estimate, self._precision(whole))]
        else:
            found = [atmospheric_loss(target, estimate, self._area_weights(target), exponent, normalise)]
        if self.constraint.total:
            # a step at which an inversion lacks a region has no sum of that inversion
            total, one = whole.sum(2, keepdim=True), self.area.new_ones(len(self.members), 1)
            found.append(atmospheric_loss(total, estimate.sum(1, keepdim=True), one, exponent, normalise))
        return torch.stack(found, -1)

    def _area_weights(self, target: torch.Tensor) -> torch.Tensor:
        """Modelled land of the regions that have a target ``(member, region)``; undrawn ones scale up the others."""
        area = self.area if self.constraint.area_weights else torch.ones_like(self.area)
        return area * torch.isfinite(target).any(-1).any(1)

    def _precision(self, target: torch.Tensor) -> torch.Tensor:
        """Inverse of the inversions' covariance; one for all steps where the target is one."""
        if not self.calendar.whole:
            return shrunk_precision(target, self.constraint.shrinkage)
        if self.precision is None:
            training = self.training / self.one[:, None, None, None]
            self.precision = shrunk_precision(training, self.constraint.shrinkage)
        return self.precision

    # --- between epochs ----------------------------------------------------------------------------------------

    def renew(self, network: Network) -> None:
        """Full field of the present weights, kept as the control variate (of a bridge: at its pixels)."""
        if not self.controlled:
            return
        pixels, steps = self.integral.pixels, self.calendar.every_step(self.training)
        shape = (len(self.members), len(pixels.area), self.calendar.n_slots)
        same = self.field is not None and self.field.amounts.shape == shape
        amounts = self.field.amounts if same else pixels.rows.like.new_empty(shape)
        total = self.integral.estimate(network, *self.integral.everything(), steps, keep=amounts)
        if self.constraint.kind == "bridge":
            total = self._full(self.whole, network, self.whole_calendar.every_step(self.training))
        self.field = Field(amounts, total)

    def validate(self, network: Network, epoch: int) -> torch.Tensor:
        """Losses on the held-out years ``(member, term)``: of the full integral, or of a bridge that stands alone."""
        if self.curve is not None:
            self.report["sampling_error"] = self.sampling_error(network)
        bridged = None
        if self.constraint.kind == "bridge":
            steps = self._validation_steps(self.calendar)
            bridged = [self.integral.estimate(network, *self.integral.everything(), s, self.field) for s in steps]
            self._refit(network, epoch)
        self.renew(network)
        if self.controlled:
            full = [self.field.of(steps) for steps in self._validation_steps(self.calendar)]
        elif self.whole is not None:
            full = [self._full(self.whole, network, s) for s in self._validation_steps(self.whole_calendar)]
        else:
            full = None
        judged = bridged if bridged is not None and not self.controlled else full
        found = [self.losses(s.target, e) for s, e in zip(self._validation_steps(self.calendar), judged, strict=True)]
        self._report_integrals(bridged, full)
        found = self.calendar.mean_of_years(found, self.years)
        if not self.constraint.anomalies:
            return found
        every, area = self.calendar.every_step(self.training), self._area_weights(self.training)
        every = self.field.total if self.controlled else self._full(self.integral, network, every)
        anomalies = interannual.validation_loss(self.calendar, self.training, every, area, self.years)
        return torch.cat([found, anomalies[:, None]], -1)

    def _report_integrals(self, bridged: list[torch.Tensor] | None, full: list[torch.Tensor] | None) -> None:
        """Sums over the regions and, beside a bridge, its gap by region, in PgC (PgH2O, ZJ) per year."""
        per_year = {
            name: self.calendar.mean_of_years([one.mean(-1) * MONTHS for one in estimates], self.years)
            for name, estimates in {"bridged": bridged, "integral": full}.items()
            if estimates is not None
        }
        self.report |= {name: regional.sum(-1).cpu().numpy() for name, regional in per_year.items()}
        if len(per_year) == 2:
            self.report["gap"] = (per_year["bridged"] - per_year["integral"]).cpu().numpy()

    def _validation_steps(self, calendar: Slots):
        return calendar.validation_steps(self.years, self.validation)

    @staticmethod
    def _full(integral: Integral, network: Network, steps: SlotSteps) -> torch.Tensor:
        return integral.estimate(network, *integral.everything(), steps)

    def sampling_error(self, network: Network) -> np.ndarray:
        """Standard error of one step's estimate over the inversions' range ``(member, region and total, step)``.

        From one draw (`variance_of_sums`). NaN where the inversions have no range.
        """
        steps = self._draw_steps()
        at, area = self.draw_pixels()
        share = self.integral.pixels.share[at].amax(-1)
        z = self.integral.change(network, at, steps, self.field).double() * (area * share)[..., None]
        if self.constraint.anomalies:
            of_years = variance_of_sums(annual_amounts(z, self.calendar.per_year), self.design, len(self.regions))
            self.report["anomaly_error"] = interannual.noise(of_years, self.anomaly_scale).cpu().numpy()
        variance = variance_of_sums(z, self.design, len(self.regions))
        spread = torch.cat([inversion_range(steps.target), inversion_range(steps.target.sum(2, keepdim=True))], 1)
        return torch.where(spread > 0, variance.sqrt() / spread, torch.nan).cpu().numpy()

    def describe(self) -> dict:
        """What the model's attributes say about the constraint."""
        pixels, held_out = self.integral.pixels, zip(self.members, self.years, strict=True)
        asked = ("name", "total", "refit_bridge", "years_per_step", "anomalies")
        return {key: getattr(self.constraint, key) for key in asked} | {
            "integral": self.constraint.kind,
            "regions": list(self.regions),
            "regions_left_out": self.left_out,
            "modelled_share": self.modelled_share,
            "weights": self.weights,
            "pixels": len(pixels.area),
            "pixels_incomplete": pixels.rows.incomplete,
            "control_variate": self.controlled,
            "held_out_years": {str(member): list(map(int, years)) for member, (_, years) in held_out},
        }

    def finish(self) -> None:
        """Warn where the draws are too few for the inversions' range, or for their annual anomalies."""
        self._warn_of_noise("sampling_error", "range", "region-steps")
        self._warn_of_noise("anomaly_error", "annual anomalies", "region-years")

    def _warn_of_noise(self, key: str, beside: str, places: str) -> None:
        limit = self.constraint.sampling_error
        if key not in self.report or not limit:
            return
        error = np.sqrt((self.report[key] ** 2).mean(0))
        over = np.nan_to_num(error) > limit
        if over.any():
            region, step = np.unravel_index(np.nanargmax(error), error.shape)
            warn(
                f"constraint {self.constraint.name}: at the last epoch the standard error of a step's estimate is more "
                f"than {limit} of the inversions' {beside} at {over.sum()} of {over.size} {places}, most "
                f"({error[region, step]:.2g}) in {[*self.regions, 'the total'][region]}, step {step + 1}: "
                f"draw more than pixels={self.constraint.pixels}"
            )

    def history(self, records: dict[str, np.ndarray], epochs: np.ndarray) -> xr.Dataset:
        """What `validate` has reported, epoch by epoch, labelled."""
        name, per_year = self.constraint.name, f"{self.target.amount} yr-1"
        names = {
            "integral": "full integral over the regions, held-out years",
            "bridged": "the bridge's integral over the regions, held-out years",
        }
        found = xr.Dataset(coords={"epoch": epochs, "member": self.members})
        for key, text in names.items():
            if key in records:
                attrs = {"units": per_year, "long_name": text}
                found[f"{name}_{key}"] = (("epoch", "member"), records[key], attrs)
        if "integral" in records:
            tenth = records["integral"][-max(2, -(-len(epochs) // 10)) :]
            attrs = {"units": per_year, "long_name": "change of the full integral over the last tenth of the epochs"}
            found[f"{name}_drift"] = ("member", tenth[-1] - tenth[0], attrs)
        if "gap" in records:
            attrs = {"units": per_year, "long_name": "the bridge's integral less the full one, held-out years"}
            gap = np.round(records["gap"], 4)  # for a file that stays small
            found[f"{name}_gap"] = xr.DataArray(
                gap, dims=("epoch", "member", "region"), coords={"region": list(self.regions)}, attrs=attrs
            )
        noise = {
            "sampling_error": ("step", "standard error of a step's estimate over the inversions' range, members' rms"),
            "anomaly_error": ("year", "standard error of a step's annual sums over the inversions' anomalies, rms"),
        }
        for key, (dim, text) in noise.items():
            if key in records:
                error = np.sqrt((records[key] ** 2).mean(1))
                coords = {"region": [*self.regions, "total"], dim: np.arange(1, error.shape[-1] + 1)}
                attrs = {"long_name": text, "units": "1"}
                found[f"{name}_{key}"] = xr.DataArray(error, coords, ("epoch", "region", dim), attrs=attrs)
        return found

    # --- a bridge that is fitted anew --------------------------------------------------------------------------

    def _refit(self, network: Network, epoch: int) -> None:
        """Every ``refit_bridge`` epochs: a new bridge from the members' own full field, for all members."""
        every = self.constraint.refit_bridge
        if not every:
            return
        self.path = [*self.path, network.state()][-PATH:]
        if (epoch + 1) % every:
            return
        units = usual_rate(self.constraint.target.attrs)
        field = path_field(self.whole, network, self.path, self.constraint.drivers, self.rate, units)
        weights = getattr(self.constraint.bridge, "weights", None)
        weights = region_weights_of(self.constraint) if weights is None else weights
        self._use(fitted_anew(self.constraint.bridge, field, weights, self.config.seed))

    def _use(self, bridge) -> None:
        names = tuple(map(str, self.constraint.target["region"].values))
        pixels, *_ = bridge_pixels(self.constraint, names, self.scaling, self.config, bridge)
        self.integral, self.refitted = self._integral(pixels), bridge

    def identity(self) -> dict:
        """What tells this constraint from another, for checkpoints."""
        own = [self.integral] if self.whole is None or self.whole is self.integral else [self.integral, self.whole]
        pixels = [one.pixels for one in own]
        bridge, grid = self.constraint.bridge, self.constraint.drivers
        options = {k: v for k, v in getattr(bridge, "attrs", {}).items() if k != "provenance"}  # of a fit anew
        return {
            "settings": [self.names, plain_options(self.constraint)],
            "target": fingerprint(self.target, self.training, self.validation),
            "regions": fingerprint(self.area, [(p.area, p.region, p.share, p.intercept) for p in pixels]),
            "bridge": fingerprint(options, getattr(bridge, "month_lengths", None)),
            "drivers": fingerprint(grid["lat"].values, grid["lon"].values, [p.rows for p in pixels]),
        }

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint has to keep: the bridge, where it has been fitted anew."""
        path = {f"path.{i}.{k}": v for i, state in enumerate(self.path) for k, v in state.items()}
        return path | ({} if self.refitted is None else bridge_state(self.refitted, self._bridge_regions()))

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` has kept."""
        numbers = sorted({int(k.split(".")[1]) for k in state if k.startswith("path.")})
        self.path = [{k.split(".", 2)[2]: v for k, v in state.items() if k.startswith(f"path.{i}.")} for i in numbers]
        if "weight" in state:
            self._use(bridge_of(state, self._bridge_regions()))

    def _bridge_regions(self) -> np.ndarray:
        return self.constraint.bridge.regions["region"].values
