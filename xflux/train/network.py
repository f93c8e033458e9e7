"""The flux network: all members in one set of tensors with a member axis, run in blocks that stay in cache.

A layer holds ``weight[member, in, out]`` and ``bias[member, 1, out]``. The members never mix: batched and separately
trained members are the same numbers.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

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

    Examples
    --------
    >>> net = Network((3, 8, 1), seeds=[(0, 0), (0, 1)])
    >>> tuple(net(torch.zeros(2, 5, 3)).shape)
    (2, 5, 1)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[tuple[int, int]],
        activation: str = "relu",
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; expected one of {sorted(ACTIVATIONS)}")
        self.sizes, self.activation, self.dropout = tuple(sizes), activation, dropout
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

    def __call__(self, x: torch.Tensor, drop: torch.Generator | None = None) -> torch.Tensor:
        """Standardised drivers ``(member, row, driver)`` or ``(1, row, driver)`` → output ``(member, row, target)``."""
        act = ACTIVATIONS[self.activation]
        h = x.expand(self.members, -1, -1)
        for weight, bias in self.layers[:-1]:
            h = act(torch.baddbmm(bias, h, weight))
            if drop is not None and self.dropout:
                keep = torch.rand(h.shape, generator=drop, dtype=h.dtype, device=h.device) >= self.dropout
                h = h * keep / (1 - self.dropout)
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias, h, weight)

    def state(self) -> dict[str, np.ndarray]:
        """The parameters as NumPy arrays named ``weight0, bias0, weight1 …`` (copies)."""
        named = {}
        for i, (weight, bias) in enumerate(self.layers):
            named[f"weight{i}"] = weight.detach().cpu().numpy().copy()
            named[f"bias{i}"] = bias.detach().cpu().numpy().copy()
        return named

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Put the parameters of `state` in place."""
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


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover ``range(n)``.

    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
