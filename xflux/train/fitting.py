"""`fit`: the training loop, read from top to bottom: batch, losses, backward, step, validate."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from xflux.contents import check_alike, check_sign, riding
from xflux.display import teller
from xflux.files import at_home
from xflux.provenance import stamp
from xflux.train.checkpoint import Checkpoint
from xflux.train.config import TrainConfig
from xflux.train.constraints import LinearConstraint, RegionalConstraint
from xflux.train.data import Setting, TowerRows, tower_rows, trained_units
from xflux.train.fused import run_tasks, threads_for_kernels, torch_after_fork
from xflux.train.grid import Rows
from xflux.train.linear import LinearTerm
from xflux.train.model import GPU_BLOCK, FluxModel
from xflux.train.network import Network, generator
from xflux.train.objective import loss_weight, mean_squared_error, total_loss
from xflux.train.regional import RegionalTerm
from xflux.values import warn

log = logging.getLogger("xflux.train")


@torch_after_fork()
def fit(
    towers: xr.Dataset,
    drivers: Sequence[str],
    target: str | Sequence[str] = "nee",
    constraints: Sequence[RegionalConstraint | LinearConstraint] = (),
    config: TrainConfig | None = None,
    *,
    progress: bool | Callable[[str], None] = False,
    checkpoint: str | Path | None = None,
) -> FluxModel:
    """Train one member per fold on towers (EC) and, with `constraints`, on regional fluxes as well (EC-ATM).

    With the same seed, EC and EC-ATM start from the same weights, have the same folds and see the same tower batches.

    Parameters
    ----------
    towers
        Dataset over ``sample`` with the drivers, the target(s) and the coordinate ``site``.
    drivers
        Names of the driver variables, in the order of the model's inputs.
    target
        One flux or several.
    constraints, config
        Any number of `RegionalConstraint` and `LinearConstraint`; how to train.
    progress
        True writes a line per epoch to stderr; a function gets the lines instead.
    checkpoint
        File from which an interrupted run goes on exactly, and where it keeps its state after each epoch. Lazy
        drivers that are too large for memory stand beside it meanwhile, in a file without a name.

    Raises
    ------
    KeyError, TypeError, ValueError
        Before training starts: a missing variable, constraints of another kind, one site, more folds than sites, a
        constant driver, NaN in a driver, a target whose regions, units or contents do not fit, drivers in other units
        than the towers'.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towers = xr.Dataset({"x": ("sample", rng.normal(size=90))}).assign_coords(
    ...     site=("sample", np.repeat(["A", "B", "C"], 30)), lat=("sample", np.zeros(90)), lon=("sample", np.zeros(90))
    ... )
    >>> towers["nee"] = (towers.x * 2).assign_attrs(units="gC m-2 d-1")
    >>> model = fit(towers, ["x"], config=TrainConfig(folds=3, max_epochs=2, activation="tanh"))
    >>> model.predict(np.zeros((5, 1))).shape, dict(model.history.sizes)
    ((3, 5), {'epoch': 2, 'member': 3, 'term': 1})
    """
    if not isinstance(towers, xr.Dataset):
        raise TypeError(f"towers is a {type(towers).__name__}; expected an xarray Dataset over sample (read_towers)")
    config = config or TrainConfig()
    targets = [target] if isinstance(target, str) else list(target)
    if isinstance(constraints, RegionalConstraint | LinearConstraint):
        constraints = [constraints]
    drivers = [drivers] if isinstance(drivers, str) else list(drivers)
    device = _device(config.device)
    setting = Setting(
        seed=config.seed,
        validation_years=config.validation_years,
        torch_dtype=getattr(torch, config.dtype),
        torch_device=device,
        block_rows=config.block_rows if device.type == "cpu" else max(config.block_rows, GPU_BLOCK),
        targets=tuple(targets),
        resample_inversions=config.resample_inversions,
        units={name: trained_units(towers[name].attrs)[0] for name in targets if name in towers},
        **({} if checkpoint is None else {"scratch": at_home(checkpoint).parent}),
    )
    places = config.folds, config.seed, config.block_distance
    rows = tower_rows(towers, drivers, targets, *places, config.missing_drivers, config.weights)
    terms = _terms(towers, constraints, rows, config, setting)
    run = Trainer(rows, terms, config, setting)
    with threads_for_kernels() if run.network.fused(run.x) else nullcontext():
        run.train(teller(progress, log), checkpoint)
    return run.model(towers, constraints)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}, but this PyTorch sees no GPU: use device='auto' or 'cpu'")
    return torch.device(name)


def _terms(
    towers: xr.Dataset, constraints, rows: TowerRows, config: TrainConfig, setting: Setting
) -> list[RegionalTerm | LinearTerm]:
    """The constraints made ready, each with a label of its own."""
    terms = []
    for number, constraint in enumerate(constraints):
        if not isinstance(constraint, RegionalConstraint | LinearConstraint):
            raise TypeError(
                f"constraint {number} is a {type(constraint).__name__}; expected a RegionalConstraint or a "
                "LinearConstraint"
            )
        make = LinearTerm if isinstance(constraint, LinearConstraint) else RegionalTerm
        output = setting.flux_number(constraint.flux)
        flux = towers[setting.targets[output]]
        constraint.check_units(flux)
        if isinstance(constraint, RegionalConstraint):
            check_alike(flux, constraint.target, constraint.allow)
        else:
            check_sign(flux, constraint.observations, ("the towers' flux", "what is observed"))
            constraint = replace(constraint, operator=constraint.operator / rows.scale[output])
        terms.append(make(constraint, rows.scaling, config.trained, number, setting))
    names = [name for term in terms for name in term.names]
    if len(set(names) - set(_tower_terms(setting.targets))) < len(names):
        raise ValueError(f"two losses have the same name ({', '.join(names)}): give each its own name=")
    return terms


class Trainer:
    """One run: the network, the towers' batches, the constraints' terms and the optimiser."""

    def __init__(self, rows: TowerRows, terms: list[RegionalTerm | LinearTerm], config: TrainConfig, setting: Setting):
        self.rows, self.terms, self.config, self.setting = rows, terms, config, setting
        self.members = config.trained
        dtype, device = setting.torch_dtype, setting.torch_device
        sizes = (rows.x.shape[1], *config.hidden, rows.y.shape[1])
        seeds = [(config.seed, m) for m in self.members]
        self.network = Network(sizes, seeds, config.activation, config.dropout, dtype, device, setting.block_rows)
        self.y = torch.tensor(rows.y, dtype=dtype, device=device)
        self.row_weight = torch.tensor(rows.weight, dtype=dtype, device=device)
        self.counts = torch.isfinite(self.y) * self.row_weight[:, None]  # 0 where a row lacks the target
        self.uneven = bool((self.counts != self.counts[0]).any())
        self.x = _side_by_side(torch.tensor(rows.x, dtype=dtype, device=device), self.y, self.counts)
        self.own = [rows.training(member) for member in self.members]
        self.term_names = _tower_terms(setting.targets) + [n for t in terms for n in t.names]
        weight = [1.0] * len(setting.targets) + [w for t in terms for w in t.weights]
        self.weight = torch.tensor(weight, dtype=torch.float64, device=device)
        shape = len(self.members), len(self.term_names)
        self.log_variance = torch.zeros(shape, dtype=torch.float64, device=device, requires_grad=True)
        longest = max(len(rows.training(m)) for m in range(config.folds))
        self.batch = min(config.batch, longest)
        self.steps = -(-longest // self.batch)
        self.optimiser = torch.optim.Adam(
            [
                {"params": self.network.parameters, "base": config.learning_rate},
                {"params": [self.log_variance], "base": config.learning_rate * config.log_variance_rate},
            ],
            lr=config.learning_rate,
        )
        self.records: list[dict[str, np.ndarray]] = []
        self.best = self.network.state()
        self.last = self.network.state()
        self.best_epoch = np.zeros(len(self.members), int)
        self.best_value = np.full(len(self.members), np.inf)
        self.stopped = np.zeros(len(self.members), bool)

    # --- the loop ----------------------------------------------------------------------------------------------

    def train(self, tell: Callable[[str], None], checkpoint: str | Path | None = None) -> None:
        kept = None if checkpoint is None else Checkpoint(checkpoint, self)
        if kept:
            kept.resume()
        first = len(self.records)
        started = time.perf_counter()
        for term in self.terms:
            term.renew(self.network)
        for epoch in range(first, self.config.max_epochs):
            if self.stopped.all():
                break
            self._epoch(epoch)
            self._validate(epoch)
            if kept:
                kept.keep()
            tell(self._line(epoch, first, time.perf_counter() - started))
        for term in self.terms:
            term.finish()
        lost = [member for member, value in zip(self.members, self.best_value, strict=True) if not np.isfinite(value)]
        if lost and self.records:
            warn(
                f"the held-out loss of member {', '.join(map(str, lost))} was never finite, so that its weights are "
                "those that it started with: take a smaller learning_rate, or look at the history"
            )

    def _epoch(self, epoch: int) -> None:
        order = np.empty((len(self.members), self.steps * self.batch), np.int64)
        run_tasks(lambda i: self._shuffle(i, epoch, order[i]), range(len(order)))
        for term in self.terms:
            term.start_epoch(epoch)
        self._drop = [generator(self.config.seed, 3, m, epoch) for m in self.members]
        losses = []
        for step in range(self.steps):
            self._set_rate(epoch * self.steps + step)
            losses.append(self._step(order[:, step * self.batch : (step + 1) * self.batch]))
        self.records.append({"loss": np.mean(losses, axis=0), "rate": np.array(self.optimiser.param_groups[0]["lr"])})

    def _shuffle(self, number: int, epoch: int, order: np.ndarray) -> None:
        """A member's training rows in random order; the epoch's last batch is filled up from a second shuffle."""
        rng, own = generator(self.config.seed, 1, self.members[number], epoch), self.own[number]
        for start in range(0, len(order), len(own)):
            order[start : start + len(own)] = rng.permutation(own)[: len(order) - start]

    def _set_rate(self, step: int) -> None:
        factor = 1.0
        if self.config.schedule == "cosine":
            factor = 0.5 * (1 + np.cos(np.pi * step / (self.config.max_epochs * self.steps)))
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * factor

    def _step(self, order: np.ndarray) -> np.ndarray:
        """One step of the optimiser; the losses ``(member, term)`` before it."""
        self.optimiser.zero_grad(set_to_none=True)
        found = [self._tower_pass(torch.as_tensor(order, device=self.x.device))]
        found += [term.forward(self.network) for term in self.terms]
        losses = torch.cat(found, -1)
        if losses.shape[-1] > 1:
            total_loss(losses, self.log_variance, self.weight).sum().backward()
        for term in self.terms:
            term.backward(self.network)
        self.optimiser.step()
        return losses.detach().cpu().numpy()

    def _tower_pass(self, order: torch.Tensor) -> torch.Tensor:
        """L_EC ``(member, target)`` of the rows ``order (member, row)``, and its gradient (Eq. 5)."""
        drop = [int(rng.integers(2**62)) for rng in self._drop] if self.config.dropout else None
        counts = (self.counts[order] if self.uneven else self.counts[:1].expand(*order.shape, -1)).transpose(1, 2)
        count = counts.sum(-1)
        count = torch.where(count > 0, count, 1.0)
        weight = torch.ones_like(self.log_variance[:, : self.y.shape[1]])
        if len(self.term_names) > 1:
            weight = loss_weight(self.log_variance[:, : self.y.shape[1]]).detach()
        scale = (2 * weight / count).to(self.y.dtype)
        error = self.network.errors(self.x, order, scale, drop)
        return (counts * error.double() ** 2).sum(-1) / count

    # --- validation --------------------------------------------------------------------------------------------

    def _validate(self, epoch: int) -> None:
        found = [self._tower_validation()]
        found += [term.validate(self.network, epoch) for term in self.terms]
        losses = torch.cat(found, -1).detach().cpu().numpy()
        record = self.records[-1]
        record["validation_loss"] = losses
        record["sigma2"] = torch.exp(self.log_variance).detach().cpu().numpy()
        first = self.records[0]["validation_loss"]
        # scale-free: the learned weights move, so that Eq. 14 of two epochs cannot be compared
        value = (losses / np.where(first > 0, first, 1)).sum(-1) if losses.shape[-1] > 1 else losses[:, 0]
        record["validation"] = value
        for term in self.terms:
            record |= {f"{name}@{term.constraint.name}": array for name, array in term.report.items()}
        self._keep_best(epoch, value)

    def _tower_validation(self) -> torch.Tensor:
        """L_EC on each member's own fold ``(member, target)``."""
        index, observed, weight = self._held_out
        return mean_squared_error(observed, self.network.outputs(self.x, index).transpose(1, 2).double(), weight)

    @cached_property
    def _held_out(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Each member's own fold: its rows ``(member, row)``, what was observed, NaN past a fold's end, and weights."""
        held = [self.rows.held_out(m) for m in self.members]
        longest = max(map(len, held))
        index = torch.as_tensor(np.stack([np.resize(h, longest) for h in held]), device=self.x.device)
        real = torch.arange(longest) < torch.tensor([len(h) for h in held])[:, None]
        observed = torch.where(real.to(self.x.device)[..., None], self.y[index], torch.nan)
        return index, observed.double(), self.row_weight[index].double()

    def _keep_best(self, epoch: int, value: np.ndarray) -> None:
        now = self.network.state()
        better = (value < self.best_value) & ~self.stopped
        for name, array in now.items():
            self.best[name][better] = array[better]
            self.last[name][~self.stopped] = array[~self.stopped]
        self.best_value = np.where(better, value, self.best_value)
        self.best_epoch = np.where(better, epoch, self.best_epoch)
        if self.config.patience is not None:
            self.stopped |= epoch - self.best_epoch >= self.config.patience

    # --- what comes back ---------------------------------------------------------------------------------------

    def _line(self, epoch: int, first: int, elapsed: float) -> str:
        done, all_ = (epoch + 1 - first) * self.steps, (self.config.max_epochs - first) * self.steps
        rate = done / elapsed
        record = self.records[-1]
        losses = ", ".join(
            f"{name} {record['loss'][:, i].mean():.4g} (held out {record['validation_loss'][:, i].mean():.4g})"
            for i, name in enumerate(self.term_names)
        )
        return (
            f"epoch {epoch + 1}/{self.config.max_epochs}: {losses}; {rate:.2f} steps/s, "
            f"{(all_ - done) / rate / 60:.1f} min left"
        )

    def history(self) -> xr.Dataset:
        """Losses, σ², validation and learning rate by epoch, member and term."""
        terms = ("epoch", "member", "term")
        stack = {name: np.stack([r[name] for r in self.records]) for name in self.records[0]}
        found = xr.Dataset(
            {
                "loss": (terms, stack["loss"], {"long_name": "mean training loss of the epoch's steps"}),
                "validation_loss": (terms, stack["validation_loss"], {"long_name": "loss on held-out data"}),
                "sigma2": (terms, stack["sigma2"], {"long_name": "learned variance of Eq. 12 at the epoch's end"}),
                "validation": (("epoch", "member"), stack["validation"], {"long_name": "what picks the best epoch"}),
                "learning_rate": ("epoch", stack["rate"]),
                "best_epoch": ("member", self.best_epoch + 1),
            },
            coords={"epoch": np.arange(1, len(self.records) + 1), "member": self.members, "term": self.term_names},
            attrs={"steps_per_epoch": self.steps, "batch": self.batch},
        )
        for term in self.terms:
            own = {k.split("@")[0]: v for k, v in stack.items() if k.partition("@")[2] == term.constraint.name}
            found = found.merge(term.history(own, found["epoch"].values), join="outer", compat="no_conflicts")
        return found

    def model(self, towers: xr.Dataset, constraints) -> FluxModel:
        """The trained model."""
        rows, scaling = self.rows, self.rows.scaling
        sites, first = np.unique(rows.site, return_index=True)
        finite = all(np.isfinite(tensor).all() for tensor in self.last.values())
        return FluxModel(
            *(list(scaling.drivers), scaling.mean, scaling.scale, list(self.setting.targets), rows.units),
            self._in_own_units(self.best),
            activation=self.config.activation,
            driver_units=scaling.units,
            last_weights=self._in_own_units(self.last) if finite else None,  # no model holds weights that ran away
            history=self.history(),
            folds={str(s): int(rows.fold[i]) for s, i in zip(sites, first, strict=True)},
            config=asdict(self.config),
            attrs=_attrs(towers, rows, constraints, self.terms, self.config),
        )

    def _in_own_units(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights of a network whose outputs are in the towers' own units."""
        last = [f"{name}{len(self.network.layers) - 1}" for name in ("weight", "bias")]
        return weights | {name: (weights[name] / self.rows.scale).astype(weights[name].dtype) for name in last}


def _side_by_side(x: torch.Tensor, *beside: torch.Tensor) -> Rows:
    """Drivers of rows, and further columns beside them: a row fills whole cache lines, so that it is read at once."""
    columns = torch.cat([x, *beside], 1)
    wide = torch.nn.functional.pad(columns, (0, -columns.shape[1] % 16))[..., None]
    return Rows([(list(range(x.shape[1])), wide, torch.zeros((1, 1), dtype=torch.int64, device=x.device))], x.shape[1])


def _tower_terms(targets: Sequence[str]) -> list[str]:
    return ["EC"] if len(targets) == 1 else [f"EC:{name}" for name in targets]


def _attrs(towers: xr.Dataset, rows: TowerRows, constraints, terms, config: TrainConfig) -> dict:
    name = next(iter(rows.units))
    contents = riding(towers[name])
    for constraint in constraints:
        if isinstance(constraint, RegionalConstraint):
            contents |= {k: v for k, v in riding(constraint.target).items() if k != "adjusted_for"}
    contents["area_basis"] = "land"
    contents["constraints"] = [term.describe() for term in terms]
    contents["towers_dropped"] = rows.dropped
    contents["provenance"] = stamp(f"train.fit(drivers={list(rows.scaling.drivers)}, config={config})")
    return contents
