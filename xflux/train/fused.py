"""The fused CPU path of the network: all members' rows through `kernels`, in threads that share out the work."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from threading import Lock, current_thread, main_thread

import numpy as np
import torch

from xflux.forks import forked

SOURCES = 4  # arrays that drivers come from: one an axis (time, dayofyear, month, none)
CHUNKS = 4  # pieces of each member's rows; fixed, so that sums do not depend on the number of threads


_threads: ContextVar[int | None] = ContextVar("threads of the kernels", default=None)


@contextmanager
def threads_for_kernels() -> Iterator[None]:
    """The cores for the kernels, one thread for torch's own operations.

    Beside the kernels torch has only small arrays. Its threads wait for each other after every operation on them, which
    on a machine that does other things too takes longer than all the arithmetic, and sums would depend on their number.
    The number is the process's: of fits that run at once the first finds it and every one gives that back.
    """
    with _Fits.lock:
        if not _Fits.running:
            _Fits.threads = torch.get_num_threads()
        _Fits.running += 1
        threads = _Fits.threads
        torch.set_num_threads(1)
    token = _threads.set(threads)
    try:
        yield
    finally:
        _threads.reset(token)
        with _Fits.lock:
            _Fits.running -= 1
            torch.set_num_threads(threads)  # of this thread too, whichever ends last


class _Fits:
    """How many fits run in this process, and torch's threads before the first of them."""

    lock = Lock()
    running = 0
    threads = 1


@cache
def compiled():
    """The compiled kernels; numba is imported when they are first needed."""
    from xflux.train import kernels

    return kernels


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="xflux-train")


os.register_at_fork(after_in_child=_pool.cache_clear)


@contextmanager
def torch_after_fork() -> Iterator[None]:
    """One thread for torch in a forked process: it would wait for the parent's, or crash."""
    with threads_for_kernels() if forked() else nullcontext():
        yield


class Packed:
    """The parameters of all members, padded to whole register tiles, as the kernels want them.

    ``layers``: weights (member, in, out) and biases (member, 1, out).
    """

    def __init__(self, layers: list[tuple[np.ndarray, np.ndarray]]):
        wide = compiled().WIDE
        weights = [w for w, _ in layers]
        self.shapes = [w.shape[1:] for w in weights]
        outputs = [_up(w.shape[2], wide) for w in weights]
        self.sizes = np.array([_up(weights[0].shape[1], 4), *outputs], np.int64)
        lengths = self.sizes[:-1] * self.sizes[1:]
        self.weight_at = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.bias_at = np.concatenate([[0], np.cumsum(self.sizes[1:])]).astype(np.int64)
        self.place = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64) * compiled().TILE
        self.members = weights[0].shape[0]
        self.weights = np.zeros((self.members, self.weight_at[-1]), np.float32)
        self.biases = np.zeros((self.members, self.bias_at[-1]), np.float32)
        for layer, (weight, bias) in enumerate(layers):
            n_in, n_out = weight.shape[1:]
            self._of(self.weights, layer)[:, :n_in, :n_out] = weight
            self.biases[:, self.bias_at[layer] : self.bias_at[layer] + n_out] = bias[:, 0]

    def two_places(self) -> np.ndarray:
        """Places for a pass that needs no activations afterwards: two for the hidden layers in turn, one for the last.

        The outputs stay until all strips are done, so that no hidden layer may write over them.
        """
        first, widest = self.sizes[0], self.sizes[1:].max()
        hidden = [first + widest * (layer % 2) for layer in range(len(self.shapes) - 1)]
        last = first + 2 * widest
        return np.array([0, *hidden, last, last + self.sizes[-1]], np.int64) * compiled().TILE

    def turned(self) -> np.ndarray:
        """The weights with every layer transposed."""
        out = np.empty_like(self.weights)
        for layer in range(len(self.shapes)):
            self._of(out, layer, turned=True)[:] = self._of(self.weights, layer).transpose(0, 2, 1)
        return out

    def _of(self, flat: np.ndarray, layer: int, turned: bool = False) -> np.ndarray:
        shape = self.sizes[layer : layer + 2][:: -1 if turned else 1]
        return flat[:, self.weight_at[layer] : self.weight_at[layer + 1]].reshape(self.members, *shape)

    def unpack(self, weight_slope: np.ndarray, bias_slope: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Slopes in the shapes of the layers, without the padding."""
        found = []
        for layer, (n_in, n_out) in enumerate(self.shapes):
            at = self.bias_at[layer]
            found.append((self._of(weight_slope, layer)[:, :n_in, :n_out], bias_slope[:, None, at : at + n_out]))
        return found


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _tasks(members: int, n: int, whole: int):
    """Pieces (member, chunk, slice of pixels) of nearly equal size, in whole tiles."""
    size = max(whole, _up(-(-n // CHUNKS), whole))
    for member in range(members):
        for chunk, start in enumerate(range(0, n, size)):
            yield member, chunk, slice(start, min(start + size, n))


def run_tasks(work, tasks) -> None:
    # in a worker thread (dask's, say) the others have their own work
    threads = (_threads.get() or torch.get_num_threads()) if current_thread() is main_thread() else 1
    left = deque(tasks)

    def drain() -> None:
        while left:
            try:
                task = left.popleft()
            except IndexError:  # another thread was faster
                return
            work(task)

    # This thread works too: one that sleeps meanwhile lets the system put the others on one core.
    others = [_pool(threads).submit(drain) for _ in range(threads - 1)]
    drain()
    for other in others:
        other.result()


def _sources(values, member: int, pixels: np.ndarray) -> tuple:
    """Where a member's pixels are read from: columns, values, each pixel's and each step's place in them.

    Always as many, and of one type, so that the kernels are compiled once.
    """
    if isinstance(values, np.ndarray):
        _, drivers, steps = values.shape
        found = [(np.arange(drivers), values, pixels, np.arange(steps))]
    else:
        found = values.sources(member, pixels)
    found += [((), np.empty((0, 0, 0), np.float32), (), ())] * (SOURCES - len(found))
    kinds = np.int64, np.float32, np.int64, np.int64
    return tuple(tuple(np.require(a, kind, "CW") for a, kind in zip(one, kinds, strict=True)) for one in found)


def forward(packed: Packed, values, rows: np.ndarray, targets: int) -> np.ndarray:
    """Outputs ``(member, target, row)`` of ``values (pixel, driver, step)`` at ``rows (member | 1, pixel)``."""
    kernels, per = compiled(), values.shape[2]
    n = rows.shape[1]
    out = np.empty((packed.members, targets, n * per), np.float32)

    def work(task) -> None:
        member, _, part = task
        sources = _sources(values, member, rows[member % len(rows), part])
        result = out[member, :, part.start * per : part.stop * per]
        kernels.forward(
            sources, per, packed.sizes, packed.place, packed.weights[member], packed.weight_at,
            packed.biases[member], packed.bias_at, result,
        )  # fmt: skip

    run_tasks(work, _tasks(packed.members, n, max(1, kernels.TILE // per)))
    return out


def backward(packed: Packed, values, rows: np.ndarray, slope: np.ndarray, scale: np.ndarray | None = None) -> list:
    """Slopes of the layers' weights and biases for ``slope (member, target, row)`` of the outputs.

    With a ``scale (member, target)``, the values have in further columns what was observed and how much that counts.
    Then ``slope`` is where the outputs' errors go, and their own slope is error · counts · scale.
    """
    kernels, per, turned = compiled(), values.shape[2], packed.turned()
    scale = np.empty((packed.members, 0), np.float32) if scale is None else scale
    weight_slope = np.zeros((packed.members, CHUNKS + 1, packed.weights.shape[1]))
    bias_slope = np.zeros((packed.members, CHUNKS + 1, packed.biases.shape[1]))

    def work(task) -> None:
        member, chunk, part = task
        sources = _sources(values, member, rows[member % len(rows), part])
        given = slope[member, :, part.start * per : part.stop * per]
        kernels.backward(
            sources, per, packed.sizes, packed.place, packed.weights[member], turned[member],
            packed.weight_at, packed.biases[member], packed.bias_at, given, scale[member],
            weight_slope[member, chunk], bias_slope[member, chunk],
        )  # fmt: skip

    run_tasks(work, _tasks(packed.members, rows.shape[1], max(1, kernels.TILE // per)))
    return packed.unpack(weight_slope.sum(1), bias_slope.sum(1))


def relu_network(
    rows: np.ndarray, mean: np.ndarray, scale: np.ndarray, weights: list[np.ndarray], biases: list[np.ndarray]
) -> np.ndarray:
    """Outputs ``(target, member, row)`` of all members for rows of drivers ``(row, driver)``, in the caller's thread.

    The network sees ``(rows - mean) / scale``; a layer's weights are (member, in, out), its biases (member, 1, out),
    with ReLU after every layer but the last. A NaN in a row gives NaN.

    >>> w, b = np.full((1, 2, 1), 0.5, "float32"), np.ones((1, 1, 1), "float32")
    >>> relu_network(np.array([[1.0, 3.0]], "float32"), np.zeros(2), np.ones(2), [w], [b])
    array([[[3.]]], dtype=float32)
    """
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
    packed = Packed(list(zip(weights, biases, strict=True)))
    out = np.empty((weights[-1].shape[2], packed.members, len(rows)), np.float32)
    compiled().predict(
        np.ascontiguousarray(rows.T), np.asarray(mean, float), 1 / np.asarray(scale, float), packed.sizes,
        packed.two_places(), packed.weights, packed.weight_at, packed.biases, packed.bias_at, out,
    )  # fmt: skip
    return out
