"""The flux network: all members in one set of tensors with a member axis, run in blocks that stay in cache.

A layer holds ``weight[member, in, out]`` and ``bias[member, 1, out]``. The members never mix: batched and separately
trained members are the same numbers.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from xflux.train import fused

if TYPE_CHECKING:
    from xflux.train.grid import Rows

ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "elu": torch.nn.functional.elu,
    "softplus": torch.nn.functional.softplus,
}


def generator(seed: int, *key: int) -> np.random.Generator:
    """An independent random stream for ``key`` (stream, member, epoch …); the same key gives the same numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


class Network:
    """Feed-forward networks, one per member, with shared shape.

    Parameters
    ----------
    sizes
        Widths from input to output, e.g. ``(10, 32, 32, 32, 1)``.
    seeds
        One ``(seed, member)`` pair for every member: its initial weights depend on nothing else.
    activation
        One of `ACTIVATIONS`, after every layer but the last.
    dropout
        Share of hidden outputs that are zeroed in training.
    dtype, device, block_rows
        Of the parameters; rows that are computed at once, so that the activations stay in cache.
    fuse
        Use the fused kernels where they serve (see `kernels`).

    Raises
    ------
    ValueError
        An unknown activation.

    Examples
    --------
    >>> net = Network((3, 8, 1), seeds=[(0, 0), (0, 1)])
    >>> tuple(net(torch.zeros(2, 5, 3)).shape)
    (2, 5, 1)
    >>> values, pixels = torch.zeros(5, 3, 4), torch.tensor([[0, 1]])  # each row's drivers, and two rows' numbers
    >>> net.accumulate(values, pixels, slope=torch.ones(2, 1, 8))
    >>> tuple(net.outputs(values, pixels).shape), net.fused(values)
    ((2, 1, 8), True)
    >>> from xflux.train.grid import Rows
    >>> beside = torch.cat([values[..., :1], torch.zeros(5, 1, 1), torch.ones(5, 1, 1)], 1)  # observed, and its counts
    >>> towers = Rows([([0, 1, 2], beside, torch.zeros((1, 1), dtype=int))], 3)
    >>> tuple(net.errors(towers, pixels, scale=torch.ones(2, 1)).shape)
    (2, 1, 2)
    >>> net.load(net.state())
    >>> list(net.state())
    ['weight0', 'bias0', 'weight1', 'bias1']
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[tuple[int, int]],
        activation: str = "relu",
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        block_rows: int = 1024,
        fuse: bool = True,
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; expected one of {sorted(ACTIVATIONS)}")
        self.sizes, self.activation, self.dropout = tuple(sizes), activation, dropout
        self.block_rows, self.fuse = block_rows, fuse
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        members = [_initial_member(self.sizes, *seed) for seed in seeds]
        for layer in range(len(sizes) - 1):
            weight, bias = (np.stack([member[layer][part] for member in members]) for part in (0, 1))
            self.layers.append(
                tuple(torch.tensor(a, dtype=dtype, device=device).requires_grad_() for a in (weight, bias))
            )

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Weights and biases, layer by layer."""
        return [tensor for layer in self.layers for tensor in layer]

    @property
    def members(self) -> int:
        return self.layers[0][0].shape[0]

    def __call__(self, x: torch.Tensor, drop: list[torch.Generator] | None = None) -> torch.Tensor:
        """Standardised drivers ``(member, row, driver)`` or ``(1, row, driver)`` → output ``(member, row, target)``."""
        act = ACTIVATIONS[self.activation]
        h = x.expand(self.members, -1, -1)
        for weight, bias in self.layers[:-1]:
            h = act(torch.baddbmm(bias, h, weight))
            if drop is not None:
                kept = [torch.rand(h.shape[1:], generator=g, device=h.device) >= self.dropout for g in drop]
                h = h * torch.stack(kept) / (1 - self.dropout)
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias, h, weight)

    # Rows are named by pixel: ``values (pixel, driver, step)`` and ``pixels (member | 1, pixel)``; a member's rows are
    # its pixels' steps in order. Only a block of rows is ever computed at once, so that memory is bounded.

    def outputs(self, values: torch.Tensor, pixels: torch.Tensor, drop: list[int] | None = None) -> torch.Tensor:
        """First pass, without a graph: outputs ``(member, target, row)``.

        Parameters
        ----------
        values, pixels
            Drivers ``(pixel, driver, step)``, a tensor or `grid.Rows`, and whose rows ``(member | 1, pixel)``.
        drop
            A seed for each member, of its dropout.
        """
        if self.fused(values):
            out = fused.forward(fused.Packed(self._arrays()), values.numpy(), pixels.numpy(), self.sizes[-1])
            return torch.from_numpy(out)
        values, pixels = _together(values, pixels)
        per = values.shape[2]
        shape = (self.members, self.sizes[-1], pixels.shape[1] * per)
        out = torch.empty(shape, dtype=values.dtype, device=values.device)
        generators = self._generators(drop)
        with torch.no_grad():
            for part in blocks(pixels.shape[1], max(1, self.block_rows // per)):
                found = self(_rows(values, pixels[:, part]), generators)
                out[..., part.start * per : part.stop * per] = found.transpose(1, 2)
        return out

    def accumulate(
        self, values: torch.Tensor, pixels: torch.Tensor, slope: torch.Tensor, drop: list[int] | None = None
    ) -> None:
        """Second pass: forward and back block by block; adds to the parameters' gradients.

        Parameters
        ----------
        values, pixels, drop
            As in `outputs`.
        slope
            The loss's gradient with respect to `outputs`, in its shape.
        """
        if self.fused(values):
            self._add(fused.backward(fused.Packed(self._arrays()), values.numpy(), pixels.numpy(), slope.numpy()))
            return
        values, pixels = _together(values, pixels)
        per, generators = values.shape[2], self._generators(drop)
        for part in blocks(pixels.shape[1], max(1, self.block_rows // per)):
            own = slope[..., part.start * per : part.stop * per]
            self(_rows(values, pixels[:, part]), generators).backward(own.transpose(1, 2))

    def errors(
        self, values: "Rows", pixels: torch.Tensor, scale: torch.Tensor, drop: list[int] | None = None
    ) -> torch.Tensor:
        """Outputs less what was observed ``(member, target, row)``, 0 where nothing was; forward and back in one pass.

        Adds error · counts · scale, as the loss's slope, to the parameters' gradients.

        Parameters
        ----------
        values
            Drivers of one step, beside which there is, by target, what was observed and how much it counts: whatever
            a row needs lies together.
        pixels, drop
            As in `outputs`.
        scale
            ``(member, target)``.
        """
        targets, table = self.sizes[-1], values.groups[0][1]
        if self.fused(values):
            error = torch.empty(self.members, targets, pixels.shape[1])
            given = (a.numpy() for a in (values, pixels, error, scale))
            self._add(fused.backward(fused.Packed(self._arrays()), *given))
            return error
        beside = table[pixels][:, :, self.sizes[0] :, 0].transpose(1, 2)
        wanted, counts = beside[:, : 2 * targets].chunk(2, 1)
        inferred = self.outputs(values, pixels, drop)
        error = torch.where(torch.isfinite(wanted), inferred - wanted, torch.zeros_like(inferred))
        self.accumulate(values, pixels, error * counts * scale[..., None], drop)
        return error

    def _add(self, slopes: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Adds to the parameters' gradients."""
        for tensor, own in zip(self.parameters, (slope for layer in slopes for slope in layer), strict=True):
            given = torch.from_numpy(own.astype(np.float32))
            tensor.grad = given if tensor.grad is None else tensor.grad + given

    def fused(self, values: torch.Tensor) -> bool:
        """Whether the fused kernels serve: ReLU in float32 on a CPU, without dropout.

        Parameters
        ----------
        values
            As in `outputs`.
        """
        fits = self.activation == "relu" and values.dtype == torch.float32 and values.device.type == "cpu"
        return self.fuse and fits and not self.dropout

    def _arrays(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(weight.detach().numpy(), bias.detach().numpy()) for weight, bias in self.layers]

    def _generators(self, drop: list[int] | None) -> list[torch.Generator] | None:
        if drop is None or not self.dropout:
            return None
        return [torch.Generator(self.layers[0][0].device).manual_seed(seed) for seed in drop]

    def state(self) -> dict[str, np.ndarray]:
        """The parameters as NumPy arrays named ``weight0, bias0, weight1 …`` (copies)."""
        named = {}
        for i, (weight, bias) in enumerate(self.layers):
            named[f"weight{i}"] = weight.detach().cpu().numpy().copy()
            named[f"bias{i}"] = bias.detach().cpu().numpy().copy()
        return named

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Put parameters in place.

        Parameters
        ----------
        state
            As of `state`.
        """
        with torch.no_grad():
            for i, (weight, bias) in enumerate(self.layers):
                weight.copy_(torch.from_numpy(state[f"weight{i}"]))
                bias.copy_(torch.from_numpy(state[f"bias{i}"]))


def _initial_member(sizes: Sequence[int], seed: int, member: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases as `torch.nn.Linear` draws them: uniform in ±1/sqrt(inputs)."""
    rng = generator(seed, 0, member)
    layers = []
    for n_in, n_out in pairwise(sizes):
        bound = 1 / np.sqrt(n_in)
        layers.append((rng.uniform(-bound, bound, (n_in, n_out)), rng.uniform(-bound, bound, (1, n_out))))
    return layers


def _together(values, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The drivers of the pixels as one tensor, where they stand in several, and their place in it."""
    if isinstance(values, torch.Tensor):
        return values, pixels
    found = values[pixels]
    return found.flatten(0, 1), torch.arange(found.shape[:2].numel(), device=pixels.device).view(found.shape[:2])


def _rows(values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Drivers ``(member | 1, row, driver)`` of the pixels' steps."""
    return values[pixels].transpose(2, 3).flatten(1, 2)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover ``range(n)``.

    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
