"""A linear constraint made ready for training: the rows that it looks at, the operator and its transpose."""

import numpy as np
import torch
import xarray as xr

from xflux.cells import positions
from xflux.train.checkpoint import fingerprint
from xflux.train.constraints import LinearConstraint, plain_options
from xflux.train.data import Scaling, Setting
from xflux.train.grid import GridRows, grid_rows
from xflux.train.network import Network, blocks, generator
from xflux.values import warn


class LinearTerm:
    """One `LinearConstraint` in training: ``observations ≈ H · flux`` at the rows where H is not zero."""

    def __init__(
        self, constraint: LinearConstraint, scaling: Scaling, members: list[int], number: int, config: Setting
    ):
        self.constraint, self.members = constraint, members
        self.device, self.output = config.torch_device, config.flux_number(constraint.flux)
        entries = _entries(constraint)
        cells = np.unique(entries[2])
        rows = grid_rows(constraint.drivers, scaling, cells, config.torch_dtype, config.torch_device)
        entries = _by_step(constraint, rows, entries)
        self.values, self.entries, self.lost = _view(constraint, rows, entries, self.device)
        self.rows = torch.arange(len(self.values), device=self.device)[None]
        self.observed = torch.tensor(np.array(constraint.observations.values, float), device=self.device)
        sigma = np.broadcast_to(np.asarray(constraint.sigma, float), self.observed.shape)
        self.sigma = torch.tensor(sigma.copy(), device=self.device)
        self.held_out = self._hold_out(config.seed, number)
        self.report: dict[str, np.ndarray] = {}

    @property
    def names(self) -> list[str]:
        """Label of the loss."""
        return [self.constraint.name]

    @property
    def weights(self) -> list[float]:
        """Weight of the loss."""
        return [self.constraint.weight]

    def _hold_out(self, seed: int, number: int) -> torch.Tensor:
        """True where a member keeps an observation for validation ``(member, obs)``."""
        there = np.flatnonzero(torch.isfinite(self.observed).cpu().numpy())
        n = round(self.constraint.held_out * len(there))
        if not len(there) - n:
            raise ValueError(f"constraint {self.constraint.name} has no observation to train on")
        held_out = np.zeros((len(self.members), len(self.observed)), bool)
        for i, member in enumerate(self.members):
            held_out[i, generator(seed, 5, member, number).permutation(there)[:n]] = True
        return torch.as_tensor(held_out, device=self.device)

    def start_epoch(self, epoch: int) -> None:
        """Nothing is drawn: every step uses all observations that are not held out."""

    def renew(self, network: Network) -> None:
        """No field is stored."""

    def estimate(self, network: Network) -> torch.Tensor:
        """H · flux ``(member, obs)``, without a graph."""
        flux = network.outputs(self.values, self.rows)[:, self.output]
        obs, row, value = self.entries
        return _multiply(flux.double(), row, obs, value, len(self.observed))

    def forward(self, network: Network) -> torch.Tensor:
        """Loss ``(member, 1)`` of one training step; the graph begins at the estimate."""
        self._estimate = self.estimate(network).requires_grad_()
        return self._loss(self._estimate, ~self.held_out)

    def backward(self, network: Network) -> None:
        """From the slope of the estimate to the parameters."""
        obs, row, value = self.entries
        slope = _multiply(self._estimate.grad, obs, row, value, len(self.values)).to(self.values.dtype)
        whole = slope.new_zeros(len(slope), network.sizes[-1], slope.shape[1])
        whole[:, self.output] = slope
        network.accumulate(self.values, self.rows, whole)

    def _loss(self, estimate: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        valid = used & torch.isfinite(self.observed)
        residual = torch.where(valid, (self.observed - estimate) / self.sigma, 0.0)
        return ((residual.abs() ** self.constraint.exponent).sum(1) / valid.sum(1).clamp(min=1))[:, None]

    def validate(self, network: Network, epoch: int) -> torch.Tensor:
        """Loss on the held-out observations (on all, where none is held out)."""
        used = self.held_out if self.held_out.any() else ~self.held_out
        return self._loss(self.estimate(network), used)

    def identity(self) -> dict:
        """What tells this constraint from another, for checkpoints."""
        return {
            "settings": ["linear", self.names, plain_options(self.constraint)],
            "observations": fingerprint(self.observed, self.sigma, self.held_out),
            "operator": fingerprint(self.entries),
            "drivers": fingerprint(self.values),
        }

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """A checkpoint keeps nothing of it."""

    def finish(self) -> None:
        """Nothing to report."""

    def history(self, records: dict[str, np.ndarray], epochs: np.ndarray) -> xr.Dataset:
        return xr.Dataset()

    def describe(self) -> dict:
        """What the model's attributes say about the constraint."""
        found = {"name": self.constraint.name, "observations": int(torch.isfinite(self.observed).sum())}
        return found | {"rows": len(self.values), "weights": self.weights, "operator_outside_drivers": self.lost}


def _multiply(vector: torch.Tensor, source: torch.Tensor, goal: torch.Tensor, value: torch.Tensor, n: int):
    """``out[:, goal] += value · vector[:, source]`` over a sparse operator's entries ``(member, n)``."""
    out = torch.zeros(len(vector), n, dtype=torch.float64, device=vector.device)
    for part in blocks(len(value), 1_000_000):
        out.index_add_(1, goal[part], vector[:, source[part]] * value[part])
    return out


def _entries(constraint: LinearConstraint) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """The operator's non-zero entries: number of the observation, of its step (None: no steps), of the cell; value."""
    operator, grid = constraint.operator, constraint.drivers
    steps = [d for d in operator.dims if d not in ("obs", "lat", "lon")]
    row, column = positions(grid, operator, of="the constraint's drivers, on whose grid the operator must be")
    data = operator.transpose("obs", *steps, "lat", "lon").data
    if hasattr(data, "coords"):
        coords, values = tuple(data.coords), np.asarray(data.data, float)
    else:
        data = np.asarray(data, float)
        coords = np.nonzero(data)
        values = data[coords]
    if np.isinf(values).any():
        raise ValueError(f"the operator of constraint {constraint.name} has infinite entries")
    there = np.isfinite(values)  # NaN is no entry
    coords, values = [c[there] for c in coords], values[there]
    cell = row[coords[-2]] * grid.sizes["lon"] + column[coords[-1]]
    return coords[0], (coords[1] if steps else None), cell, values


def _by_step(constraint: LinearConstraint, rows: GridRows, entries):
    """The entries by the drivers' step numbers; an operator without steps sees the mean over all of them."""
    obs, step, cell, value = entries
    if step is None:
        n, share = len(rows.days), rows.days / rows.days.sum()
        return np.repeat(obs, n), np.tile(np.arange(n), len(obs)), np.repeat(cell, n), np.outer(value, share).ravel()
    dim = next(d for d in constraint.operator.dims if d not in ("obs", "lat", "lon"))
    if dim != rows.axis:
        raise ValueError(f"the operator's steps are by {dim} but the drivers' by {rows.axis}: give both one axis")
    if dim not in constraint.operator.indexes:
        raise ValueError(f"the operator's {dim} has no labels: give it those of the drivers")
    own = constraint.operator.indexes[dim]
    place = rows.steps.to_index().get_indexer(own)
    if (place < 0).any():
        raise ValueError(
            f"{(place < 0).sum()} of the operator's {len(own)} steps are not among the drivers', e.g. "
            f"{dim}={own[np.flatnonzero(place < 0)[0]]}"
        )
    return obs, place[step], cell, value


def _view(constraint: LinearConstraint, rows: GridRows, entries, device):
    """Drivers of the rows seen ``(row, driver, 1)``, the operator's (obs, row, value), and the share that is lost."""
    obs, step, cell, value = entries
    place = np.full(int(cell.max(initial=0)) + 1, -1)
    place[rows.cells] = np.arange(len(rows.cells))
    pixel = place[cell]
    there = pixel >= 0
    if rows.valid is not None:
        there &= rows.valid[:, 0].cpu().numpy()[pixel, step]
    lost = float(np.abs(value[~there]).sum() / max(np.abs(value).sum(), 1e-300))
    if not there.any():
        raise ValueError(f"the operator of constraint {constraint.name} sees no cell that has all drivers")
    if lost > 0:
        warn(
            f"constraint {constraint.name}: {lost:.1%} of the operator's weight lies on cells without drivers, whose "
            "flux counts as zero"
        )
    n_steps = len(rows.days)
    seen, column = np.unique(pixel[there] * n_steps + step[there], return_inverse=True)
    matrix = tuple(torch.as_tensor(a, device=device) for a in (obs[there], column, value[there]))
    pixels, own = np.unique(seen // n_steps, return_inverse=True)
    values = rows.at(None)[torch.as_tensor(pixels, device=device)[None]][0]
    at = torch.as_tensor(own, device=device), torch.as_tensor(seen % n_steps, device=device)
    return values[at[0], :, at[1]][..., None].contiguous(), matrix, lost
