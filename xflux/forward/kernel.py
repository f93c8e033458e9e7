"""A small ReLU network over many rows, all members: activations stay in the first-level cache, sums in registers.

Rows lie along the vector lanes. A tile of outputs × lanes is summed in registers over all inputs, as a matrix
product does it, so that nearly every instruction is a multiply-add. There is no global state and no thread of its
own, and the GIL is released: any number of callers run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 192  # rows at a time: an activation of 32 neurons is 24 KiB
WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))
VECTOR = 16 if WIDE else 8  # float32 per register
OUTPUTS, VECTORS = (8, 2) if WIDE else (4, 2)  # a tile: its sums fill half of the registers
TILE = VECTOR * VECTORS


def relu_network(
    rows: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
) -> np.ndarray:
    """Outputs of all members for all rows.

    Parameters
    ----------
    rows
        (n, drivers); fastest where a driver is contiguous (Fortran order).
    mean, scale
        (drivers,): the network sees (rows - mean) / scale.
    weights, biases
        Per layer (members, in, out) and (members, 1, out); ReLU after every layer but the last.

    Returns
    -------
    ndarray (targets, members, n) float32. A NaN in a row gives NaN.

    Examples
    --------
    >>> w, b = np.full((1, 2, 1), 0.5, "float32"), np.ones((1, 1, 1), "float32")
    >>> relu_network(np.array([[1.0, 3.0]], "float32"), np.zeros(2), np.ones(2), [w], [b])
    array([[[3.]]], dtype=float32)
    """
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
    columns = np.ascontiguousarray(rows.T)
    layers = tuple(np.ascontiguousarray(w, np.float32) for w in weights)
    shifts = tuple(np.ascontiguousarray(b, np.float32).reshape(len(b), -1) for b in biases)
    members, _, targets = layers[-1].shape
    out = np.empty((targets, members, columns.shape[1]), np.float32)
    widest = max(columns.shape[0], *(w.shape[2] for w in layers))
    buffers = _aligned((3, widest, LANES))
    _network(columns, np.asarray(mean, np.float64), 1 / np.asarray(scale, np.float64), layers, shifts, buffers, out)
    return out


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Buffer whose vectors never cross a cache line."""
    size = int(np.prod(shape))
    raw = np.zeros(size + 16, np.float32)
    start = (-raw.ctypes.data // 4) % 16
    return raw[start : start + size].reshape(shape)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _network(columns, mean, inverse, weights, biases, buffers, out):
    drivers, n = columns.shape
    targets, members, _ = out.shape
    for first in range(0, n, LANES):
        lanes = min(LANES, n - first)
        for d in range(drivers):
            for i in range(lanes):
                buffers[2, d, i] = np.float32((columns[d, first + i] - mean[d]) * inverse[d])
        for m in range(members):
            h = buffers[2]
            for layer in range(len(weights)):
                o = buffers[layer % 2]
                _dense(weights[layer][m], biases[layer][m], h, o, lanes, layer < len(weights) - 1)
                h = o
            for t in range(targets):
                for i in range(lanes):
                    out[t, m, first + i] = h[t, i]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _dense(w, b, h, o, n, relu):
    """o[j, lane] = b[j] + Σ_k w[k, j] h[k, lane], then ReLU; the lanes of a last tile beyond n are not looked at."""
    n_in, n_out = w.shape
    whole = n_out - n_out % OUTPUTS
    for i in range(0, n, TILE):
        for j in range(0, whole, OUTPUTS):
            weight, shift, into = w[:, j:].ctypes.data, b[j:].ctypes.data, o[j:, i:].ctypes.data
            _tile(weight, n_out, shift, h[:, i:].ctypes.data, into, n_in, relu)
    for j in range(whole, n_out):
        oj = o[j]
        oj[:n] = b[j]
        for k in range(n_in):
            a, hk = w[k, j], h[k]
            for i in range(n):
                oj[i] += a * hk[i]
        if relu:
            for i in range(n):
                oj[i] = np.float32(0) if oj[i] < 0 else oj[i]  # keeps NaN


@intrinsic
def _tile(typing_context, w, row, b, h, o, n_in, relu):
    """One tile, in registers: OUTPUTS rows of ``o`` × TILE lanes. Pointers as integers; rows of h, o are LANES long."""
    signature = types.void(types.uintp, types.intp, types.uintp, types.uintp, types.uintp, types.intp, types.boolean)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        w, row, b, h, o, n_in, relu = args
        one, many = ir.FloatType(), ir.VectorType(ir.FloatType(), VECTOR)
        shape = ir.FunctionType(many, [many] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, shape, f"llvm.fmuladd.v{VECTOR}f32")

        def pointer(address, offset, kind):  # offset in floats
            return builder.inttoptr(builder.add(address, builder.mul(offset, offset.type(4))), kind.as_pointer())

        def number(value):
            return n_in.type(value)

        def spread(address, offset):  # one float in all lanes
            scalar = builder.load(pointer(address, offset, one), align=4)
            first = builder.insert_element(ir.Constant(many, ir.Undefined), scalar, ir.IntType(32)(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), [0] * VECTOR)
            return builder.shuffle_vector(first, ir.Constant(many, ir.Undefined), zeros)

        tile = [(j, v) for j in range(OUTPUTS) for v in range(VECTORS)]
        sums = {at: cgutils.alloca_once(builder, many) for at in tile}
        for j, v in tile:
            builder.store(spread(b, number(j)), sums[j, v])
        with cgutils.for_range(builder, n_in) as loop:
            at = builder.mul(loop.index, number(LANES))
            inputs = [
                builder.load(pointer(h, builder.add(at, number(v * VECTOR)), many), align=4) for v in range(VECTORS)
            ]
            for j in range(OUTPUTS):
                weight = spread(w, builder.add(builder.mul(loop.index, row), number(j)))
                for v in range(VECTORS):
                    total = builder.call(multiply_add, [weight, inputs[v], builder.load(sums[j, v])])
                    builder.store(total, sums[j, v])
        zero = ir.Constant(many, [0.0] * VECTOR)
        for j, v in tile:
            total = builder.load(sums[j, v])
            negative = builder.fcmp_ordered("<", total, zero)  # false for NaN, which stays
            total = builder.select(relu, builder.select(negative, zero, total), total)
            builder.store(total, pointer(o, number(j * LANES + v * VECTOR), many), align=4)
        return context.get_dummy_value()

    return signature, codegen
