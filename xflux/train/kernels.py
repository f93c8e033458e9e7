"""Register-blocked kernels of the flux network for CPUs: 2 × 16 rows (lanes) by a few outputs stay in registers.

Rows lie along the lanes of vector registers, so that a layer is a chain of fused multiply-adds with broadcast
weights, and a block's activations never leave the cache. Numba compiles them; the vector code is written as LLVM IR,
because plain loops reach a third of the speed. Training and the forward run go through the same layers: `forward` and
`backward` of rows that are named by pixel and step, `predict` of plain rows. There is no global state and the GIL is
released, so that any number of callers run side by side. Float32 and ReLU only: `network` has the general path.
"""

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from xflux.compile import njit


def _has_avx512() -> bool:
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
    except RuntimeError:
        return False


LANES = 16 if _has_avx512() else 8  # floats in a vector register
VECTORS = 2  # vectors of rows in a register tile
STRIP = LANES * VECTORS  # rows of a strip
WIDE = 8 if LANES == 16 else 4  # outputs in a register tile: WIDE × VECTORS accumulators
OUTER = 4  # rows and columns of a tile of the weight gradient
TILE = 192  # rows computed at once: whole strips, and whole years of months

_F32 = ir.FloatType()
_I64 = ir.IntType(64)
_VEC = ir.VectorType(_F32, LANES)
_RELU, _MASK, _NONE = 1, 2, 0
_pread = types.ExternalFunction("pread", types.intp(types.int32, types.voidptr, types.uintp, types.int64))


def _fma(builder):
    kind = ir.FunctionType(_VEC, [_VEC, _VEC, _VEC])
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")


def _splat(builder, scalar):
    undefined = ir.Constant(_VEC, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _at(builder, pointer, offset):
    return builder.gep(pointer, [offset if isinstance(offset, ir.Value) else ir.Constant(_I64, offset)])


def _load(builder, pointer, offset):
    return builder.load(builder.bitcast(_at(builder, pointer, offset), _VEC.as_pointer()), align=4)


def _store(builder, value, pointer, offset):
    builder.store(value, builder.bitcast(_at(builder, pointer, offset), _VEC.as_pointer()), align=4)


def _loop(builder, count, initial, body):
    """A counted loop (count ≥ 1) that carries the vectors `initial`; returns them after the last round."""
    before = builder.block
    loop, after = builder.append_basic_block("round"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    number = builder.phi(_I64)
    number.add_incoming(ir.Constant(_I64, 0), before)
    carried = [builder.phi(_VEC) for _ in initial]
    for phi, value in zip(carried, initial, strict=True):
        phi.add_incoming(value, before)
    new = body(number, carried)
    following = builder.add(number, ir.Constant(_I64, 1))
    number.add_incoming(following, loop)
    for phi, value in zip(carried, new, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return new


@intrinsic
def _address(context, array, offset):
    """Pointer to an element of a contiguous array."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())

    return types.voidptr(array, offset), codegen


def _dense(after: int, outputs: int = WIDE):
    """Make ``out[o] = after(bias[o] + Σ_i weight[i, o] · h[i])`` for some outputs and a strip of rows."""

    @intrinsic
    def dense(context, weight, ld_weight, h, ld_h, n_in, out, ld_out, bias, mask):
        def codegen(context, builder, signature, args):
            pointers = [builder.bitcast(args[k], _F32.as_pointer()) for k in (0, 2, 5, 7, 8)]
            weight, h, out, bias, mask = pointers
            ld_weight, ld_h, n_in, ld_out = args[1], args[3], args[4], args[6]
            fma = _fma(builder)
            start = []
            for o in range(outputs):
                start += [_splat(builder, builder.load(_at(builder, bias, o)))] * VECTORS

            def body(i, sums):
                rows = _at(builder, h, builder.mul(i, ld_h))
                row_weight = _at(builder, weight, builder.mul(i, ld_weight))
                values = [_load(builder, rows, v * LANES) for v in range(VECTORS)]
                new = []
                for o in range(outputs):
                    factor = _splat(builder, builder.load(_at(builder, row_weight, o)))
                    new += [builder.call(fma, [factor, values[v], sums[o * VECTORS + v]]) for v in range(VECTORS)]
                return new

            sums = _loop(builder, n_in, start, body)
            zero = ir.Constant(_VEC, [0.0] * LANES)
            for o in range(outputs):
                place = builder.mul(ld_out, ir.Constant(_I64, o))
                for v in range(VECTORS):
                    value = sums[o * VECTORS + v]
                    at = builder.add(place, ir.Constant(_I64, v * LANES))
                    if after != _NONE:
                        sign = value if after == _RELU else _load(builder, mask, at)
                        # unordered: a row that lacks a driver stays NaN
                        value = builder.select(builder.fcmp_unordered(">", sign, zero), value, zero)
                    _store(builder, value, out, at)
            return context.get_dummy_value()

        pointer, integer = types.voidptr, types.int64
        signature = types.void(pointer, integer, pointer, integer, integer, pointer, integer, pointer, pointer)
        return signature, codegen

    return dense


_dense_relu, _dense_mask, _dense_one = _dense(_RELU), _dense(_MASK), _dense(_NONE, 1)


@intrinsic
def _outer(context, h, ld_h, strip_h, dz, ld_dz, strip_dz, strips, sums, ld_sums):
    """``sums[i, o] += h[i] · dz[o]`` over the strips, lane by lane, for OUTER × OUTER pairs."""

    def codegen(context, builder, signature, args):
        h, dz, sums = (builder.bitcast(args[k], _F32.as_pointer()) for k in (0, 3, 7))
        ld_h, strip_h, ld_dz, strip_dz, strips, ld_sums = (args[k] for k in (1, 2, 4, 5, 6, 8))
        fma = _fma(builder)
        places = []
        for i in range(OUTER):
            row = builder.mul(ld_sums, ir.Constant(_I64, i))
            places += [builder.add(row, ir.Constant(_I64, o * LANES)) for o in range(OUTER)]
        start = [_load(builder, sums, place) for place in places]

        def body(strip, carried):
            left, right = _at(builder, h, builder.mul(strip, strip_h)), _at(builder, dz, builder.mul(strip, strip_dz))
            for v in range(VECTORS):
                a = [_load(builder, _at(builder, left, builder.mul(ld_h, ir.Constant(_I64, i))), v * LANES)
                     for i in range(OUTER)]  # fmt: skip
                b = [_load(builder, _at(builder, right, builder.mul(ld_dz, ir.Constant(_I64, o))), v * LANES)
                     for o in range(OUTER)]  # fmt: skip
                carried = [builder.call(fma, [a[n // OUTER], b[n % OUTER], s]) for n, s in enumerate(carried)]
            return carried

        for place, value in zip(places, _loop(builder, strips, start, body), strict=True):
            _store(builder, value, sums, place)
        return context.get_dummy_value()

    pointer, integer = types.voidptr, types.int64
    signature = types.void(pointer, integer, integer, pointer, integer, integer, integer, pointer, integer)
    return signature, codegen


@intrinsic
def _sum(context, dz, strip_dz, strips, sums):
    """``sums += dz`` over the strips, lane by lane."""

    def codegen(context, builder, signature, args):
        dz, sums = (builder.bitcast(args[k], _F32.as_pointer()) for k in (0, 3))

        def body(strip, carried):
            (total,), right = carried, _at(builder, dz, builder.mul(strip, args[1]))
            for v in range(VECTORS):
                total = builder.fadd(total, _load(builder, right, v * LANES))
            return [total]

        _store(builder, *_loop(builder, args[2], [_load(builder, sums, 0)], body), sums, 0)
        return context.get_dummy_value()

    pointer, integer = types.voidptr, types.int64
    return types.void(pointer, integer, integer, pointer), codegen


@njit()
def _layers_forward(sizes, targets, strips, activations, place, weights, weight_at, biases, bias_at):
    """All layers for the strips of a tile; the drivers are at place[0], layer l's output at place[l + 1]."""
    last = len(sizes) - 2
    for strip in range(strips):
        for layer in range(last + 1):
            n_in, n_out = sizes[layer], sizes[layer + 1]
            if layer == 0:
                source, ld = place[0] + strip * STRIP, TILE
            else:
                source, ld = place[layer] + strip * STRIP * n_in, STRIP
            goal = place[layer + 1] + strip * STRIP * n_out
            h = _address(activations, source)
            for o in range(0, n_out if layer < last else targets, WIDE if layer < last else 1):
                w, b = _address(weights, weight_at[layer] + o), _address(biases, bias_at[layer] + o)
                out = _address(activations, goal + o * STRIP)
                if layer < last:
                    _dense_relu(w, n_out, h, ld, n_in, out, STRIP, b, b)
                else:  # few: one by one is less work than a whole tile
                    _dense_one(w, n_out, h, ld, n_in, out, STRIP, b, b)


@njit()
def _take(activations, at, strip, out):
    """One output of a tile's rows, whose strips begin ``strip`` apart."""
    for first in range(0, len(out), STRIP):
        for lane in range(min(STRIP, len(out) - first)):
            out[first + lane] = activations[at + lane]
        at += strip


@njit()
def _fill(sources, per, first, n_rows, activations):
    """Drivers of a tile, lanes last: row r is step ``r % per`` of pixel ``r // per``.

    A source holds some columns of them: where its values have each pixel, and each step.
    """
    for columns, values, rows, steps in sources:
        for k in range(len(columns)):  # driver by driver: reads of rows in any order do not wait for each other
            goal = activations[columns[k] * TILE : columns[k] * TILE + n_rows]
            if per == 1:
                at, step = rows[first : first + n_rows], steps[0]
                for r in range(n_rows):
                    goal[r] = values[at[r], k, step]
                continue
            r, pixel, step = 0, first // per, first % per
            while r < n_rows:
                source, length = values[rows[pixel], k], min(per - step, n_rows - r)
                for s in range(length):
                    goal[r + s] = source[steps[step + s]]
                r, pixel, step = r + length, pixel + 1, 0


@njit()
def _slope_of_errors(error, pixels, values, observed, counts, scale, out):
    """Makes errors, 0 where nothing was observed, of outputs, and of them error · counts · scale in ``out``."""
    for r in range(len(pixels)):
        wanted = values[pixels[r], observed, 0]
        error[r] = error[r] - wanted if np.isfinite(wanted) else 0
        out[r] = error[r] * values[pixels[r], counts, 0] * scale
    return out


@njit()
def _add_lanes(sums, out):
    """Adds the lanes of each sum, in float64."""
    for k in range(len(out)):
        total = 0.0
        for lane in range(LANES):
            total += np.float64(sums[k * LANES + lane])
        out[k] += total


@njit()
def _layers_backward(
    sizes, targets, strips, activations, place, turned, weight_at, dz, spare, zeros, weight_sums, bias_sums, bias_at
):
    """Back through all layers: adds to the sums of weights and biases; ``dz`` holds the output's slope."""
    last = len(sizes) - 2
    for layer in range(last, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        used = n_out if layer < last else targets  # the others pad a tile
        ld_h, strip_h = (TILE, STRIP) if layer == 0 else (STRIP, STRIP * n_in)
        for i in range(0, n_in, OUTER):
            h = _address(activations, place[layer] + i * ld_h)
            for o in range(0, used, OUTER):
                goal = _address(weight_sums, (weight_at[layer] + i * n_out + o) * LANES)
                _outer(h, ld_h, strip_h, _address(dz, o * STRIP), STRIP, STRIP * n_out, strips, goal, n_out * LANES)
        for o in range(n_out):
            goal = _address(bias_sums, (bias_at[layer] + o) * LANES)
            _sum(_address(dz, o * STRIP), STRIP * n_out, strips, goal)
        if layer == 0:
            return
        none = _address(zeros, 0)
        for strip in range(strips):
            right = _address(dz, strip * STRIP * n_out)
            for i in range(0, n_in, WIDE):
                out = _address(spare, strip * STRIP * n_in + i * STRIP)
                mask = _address(activations, place[layer] + strip * STRIP * n_in + i * STRIP)
                w = _address(turned, weight_at[layer] + i)
                _dense_mask(w, n_in, right, STRIP, used, out, STRIP, none, mask)
        dz, spare = spare, dz


@njit()
def forward(sources, per, sizes, place, weights, weight_at, biases, bias_at, out):
    """Network outputs ``out (target, row)`` of the rows (pixel by pixel, ``per`` steps each)."""
    activations = np.zeros(place[-1], np.float32)
    n = out.shape[1]
    for first in range(0, n, TILE):
        n_rows = min(TILE, n - first)
        strips = -(-n_rows // STRIP)
        _fill(sources, per, first, n_rows, activations)
        _layers_forward(sizes, out.shape[0], strips, activations, place, weights, weight_at, biases, bias_at)
        base, n_out = place[len(sizes) - 1], sizes[-1]
        for t in range(out.shape[0]):
            _take(activations, base + t * STRIP, n_out * STRIP, out[t, first : first + n_rows])


@njit()
def predict(columns, mean, inverse, sizes, place, weights, weight_at, biases, bias_at, out):
    """Outputs ``out (target, member, row)`` of all members for ``columns (driver, row)``, standardised in float64."""
    activations = np.zeros(place[-1], np.float32)
    drivers, n = columns.shape
    base, n_out = place[len(sizes) - 1], sizes[-1]
    for first in range(0, n, TILE):
        n_rows = min(TILE, n - first)
        for d in range(drivers):
            for r in range(n_rows):
                activations[d * TILE + r] = np.float32((columns[d, first + r] - mean[d]) * inverse[d])
        for m in range(len(weights)):
            strips = -(-n_rows // STRIP)
            _layers_forward(sizes, out.shape[0], strips, activations, place, weights[m], weight_at, biases[m], bias_at)
            for t in range(out.shape[0]):
                _take(activations, base + t * STRIP, n_out * STRIP, out[t, m, first : first + n_rows])


@njit()
def backward(
    sources, per, sizes, place, weights, turned, weight_at, biases, bias_at, slope, scale, weight_slope, bias_slope
):
    """Forward again and back: adds the slopes of weights and biases for ``slope (target, row)`` of the outputs.

    With a ``scale (target,)``, the values have in further columns what was observed and how much that counts. Then
    ``slope`` is where the outputs' errors go, and their own slope is error · counts · scale.
    """
    widest = sizes.max() * TILE
    activations = np.zeros(place[-1], np.float32)
    dz, spare, zeros = np.zeros(widest, np.float32), np.zeros(widest, np.float32), np.zeros(WIDE, np.float32)
    weight_sums = np.zeros(len(weights) * LANES, np.float32)
    bias_sums = np.zeros(len(biases) * LANES, np.float32)
    (targets, n), n_out, (columns, values, pixels, _) = slope.shape, sizes[-1], sources[0]
    for first in range(0, n, TILE):
        n_rows = min(TILE, n - first)
        strips = -(-n_rows // STRIP)
        _fill(sources, per, first, n_rows, activations)
        _layers_forward(sizes, targets, strips, activations, place, weights, weight_at, biases, bias_at)
        dz[: strips * STRIP * n_out] = 0
        for t in range(targets):
            given = slope[t, first : first + n_rows]
            if len(scale):
                _take(activations, place[len(sizes) - 1] + t * STRIP, n_out * STRIP, given)
                own, column = pixels[first : first + n_rows], len(columns) + t
                given = _slope_of_errors(given, own, values, column, column + targets, scale[t], spare[:n_rows])
            for r in range(n_rows):
                dz[((r // STRIP) * n_out + t) * STRIP + r % STRIP] = given[r]
        _layers_backward(
            sizes, targets, strips, activations, place, turned, weight_at, dz, spare, zeros, weight_sums,
            bias_sums, bias_at,
        )  # fmt: skip
    _add_lanes(weight_sums, weight_slope)
    _add_lanes(bias_sums, bias_slope)


@njit()
def add_pixels(total, values, rows, pixels, area, region, share):
    """``total (region, step)`` += area · share · ``values[rows]`` of the pixels' regions."""
    for j in range(len(pixels)):
        pixel = pixels[j]
        for k in range(share.shape[1]):
            weight = area[j] * share[pixel, k]
            if weight != 0:
                goal, source = total[region[pixel, k]], values[rows[j]]
                for s in range(len(goal)):
                    goal[s] += weight * source[s]


@njit()
def spread_pixels(out, slope, pixels, area, region, share):
    """``out (pixel, step)`` = Σ area · share · ``slope (region, step)`` of the pixels' regions."""
    for j in range(len(pixels)):
        pixel = pixels[j]
        for k in range(share.shape[1]):
            weight = area[j] * share[pixel, k]
            source = slope[region[pixel, k]]
            if k == 0:
                for s in range(len(source)):
                    out[j, s] = weight * source[s]
            elif weight != 0:
                for s in range(len(source)):
                    out[j, s] += weight * source[s]


@njit()
def read(file, out, pixels, steps, own):
    """``out (pixel, column, step)`` of some pixels and steps of a file ``(pixel, column, own step)``; False: cut short.

    Steps that follow each other are read at once.
    """
    whole, ends = True, np.full(len(steps), len(steps))
    for s in range(len(steps) - 2, -1, -1):
        ends[s] = ends[s + 1] if steps[s + 1] == steps[s] + 1 else s + 1
    for j in range(len(pixels)):
        for d in range(out.shape[1]):
            s = 0
            while s < len(steps):
                end = ends[s]
                goal = _address(out, (j * out.shape[1] + d) * len(steps) + s)
                start = ((pixels[j] * out.shape[1] + d) * own + steps[s]) * out.itemsize
                whole &= _pread(file, goal, (end - s) * out.itemsize, start) == (end - s) * out.itemsize
                s = end
    return whole


@njit()
def take(out, pixels, steps, values, columns):
    """``out (pixel, column, step)`` = ``values (pixel, driver, step)`` of some pixels and steps."""
    for j in range(len(pixels)):
        for d in range(len(columns)):
            goal, source = out[j, columns[d]], values[pixels[j], d]
            for s in range(len(steps)):
                goal[s] = source[steps[s]]
