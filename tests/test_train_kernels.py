"""The network's kernels against plain NumPy, and the trained model in the forward run."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from forward_world import assert_close
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xflux.forward import predict

pytest.importorskip("torch")

from xflux.train import fused
from xflux.train.fused import relu_network
from xflux.train.kernels import LANES, STRIP, TILE, WIDE


def draw_network(sizes, members, seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(members, a, b)) / np.sqrt(a) for a, b in pairwise(sizes)]
    biases = [rng.normal(size=(members, 1, b)).astype("float32") for b in sizes[1:]]
    return [w.astype("float32") for w in weights], biases


def plain(rows, mean, scale, weights, biases):
    """The network in plain NumPy, in double precision: (target, member, row), and the activations of every layer."""
    h = np.broadcast_to((rows - mean) / scale, (len(weights[0]), *rows.shape))
    layers = [h]
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = h @ w.astype(float) + b
        h = h if k == len(weights) - 1 else np.maximum(h, 0)  # of NaN: NaN
        layers.append(h)
    return h.transpose(2, 0, 1), layers


def plain_slopes(layers, weights, slope):
    """Slopes of weights and biases, from that of the outputs (target, member, row): back through the layers."""
    found, dz = [], slope.transpose(1, 2, 0).astype(float)
    for k in reversed(range(len(weights))):
        found.append((layers[k].transpose(0, 2, 1) @ dz, dz.sum(1, keepdims=True)))
        dz = dz @ weights[k].transpose(0, 2, 1) * (layers[k] > 0)
    return found[::-1]


@example([1, 1], 1, 17, 2, 1000, "float32", "C")  # more outputs than a hidden layer has units
@settings(max_examples=20, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 40), max_size=3),
    drivers=st.integers(1, 12),
    targets=st.integers(1, 9),
    members=st.integers(1, 3),
    n=st.sampled_from([0, 1, LANES, STRIP - 1, STRIP + 1, TILE - 1, TILE, TILE + 1, 1000]),
    kind=st.sampled_from(["float32", "float64"]),
    order=st.sampled_from("CF"),
)
def test_outputs_of_any_shape(hidden, drivers, targets, members, n, kind, order):
    weights, biases = draw_network([drivers, *hidden, targets], members)
    rng = np.random.default_rng(1)
    rows = np.asarray(rng.normal(size=(n, drivers)), kind, order=order)
    mean, scale = rng.normal(size=drivers), rng.uniform(0.5, 2, drivers)
    found = relu_network(rows, mean, scale, weights, biases)
    assert found.shape == (targets, members, n)
    expected, _ = plain(rows, mean, scale, weights, biases)
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1.0, np.abs(expected).max(initial=0)))


@example(hidden=[9], pixels=3, steps=TILE + 9)  # tiles that begin within a pixel
@settings(max_examples=8, deadline=None)
@given(hidden=st.lists(st.integers(1, 40), max_size=3), pixels=st.integers(1, 60), steps=st.sampled_from([1, 5, 12]))
def test_slopes_of_any_shape(hidden, pixels, steps):
    weights, biases = draw_network([5, *hidden, 2], 3)
    rng = np.random.default_rng(2)
    values = rng.normal(size=(90, 5, steps)).astype("float32")
    at = rng.integers(0, 90, (1, pixels))
    slope = rng.normal(size=(2, 3, pixels * steps)).astype("float32")
    _, layers = plain(values[at[0]].transpose(0, 2, 1).reshape(-1, 5), np.zeros(5), np.ones(5), weights, biases)
    for h, w, b in zip(layers, weights[:-1], biases, strict=False):  # rounding may switch a unit at its kink
        slope[:, (np.abs(h @ w.astype(float) + b) < 1e-5).any(-1)] = 0
    packed = fused.Packed(list(zip(weights, biases, strict=True)))
    found = fused.backward(packed, values, at, np.ascontiguousarray(slope.transpose(1, 0, 2)))
    for own, expected in zip(found, plain_slopes(layers, weights, slope), strict=True):
        for a, b in zip(own, expected, strict=True):
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b) + 1e-6


def test_nan_stays_in_its_row():
    weights, biases = draw_network([3, 2 * WIDE + 1, WIDE, 1], 2)
    rows = np.ones((70, 3), "float32")
    rows[13, 1] = np.nan
    found = relu_network(rows, np.zeros(3), np.ones(3), weights, biases)
    assert np.isnan(found[..., 13]).all() and np.isfinite(np.delete(found, 13, axis=-1)).all()


def test_large_offsets_lose_nothing():
    """A pressure of 101 325 ± 10 Pa is standardised in float64."""
    weights, biases = draw_network([1, 8, 1], 1)
    rows = 101_325 + np.linspace(-30, 30, 50, dtype="float64")[:, None]
    found = relu_network(rows, np.array([101_325.0]), np.array([10.0]), weights, biases)
    np.testing.assert_allclose(found, plain(rows, 101_325.0, 10.0, weights, biases)[0], atol=1e-5)


def test_a_trained_model_in_the_forward_run():
    """FluxModel, ten members, against the plain network on the stacked array, in any chunks."""
    from xflux.train.model import FluxModel

    weights, biases = draw_network([4, 32, 32, 32, 1], 10)
    names = ["a", "b", "c", "d"]
    state = {f"weight{i}": w for i, w in enumerate(weights)} | {f"bias{i}": b for i, b in enumerate(biases)}
    mean, scale = np.array([10.0, 0, 5, 1]), np.array([8.0, 1, 2, 0.3])
    model = FluxModel(names, mean, scale, ["nee"], {"nee": "gC m-2 d-1"}, state)
    rng = np.random.default_rng(0)
    raw = (mean + scale * rng.normal(size=(30, 8, 9, 4))).astype("float32")
    raw[:, 2:4, 5, 1] = np.nan
    grid = xr.Dataset({n: (("time", "lat", "lon"), raw[..., i]) for i, n in enumerate(names)})
    grid = grid.assign_coords(time=pd.date_range("2001-01-01", periods=30))
    expected = plain(raw.reshape(-1, 4), mean, scale, weights, biases)[0][0].reshape(10, 30, 8, 9)
    for chunks in ({}, {"time": 7, "lat": 3}, {"lon": 1}):
        assert_close(predict(grid.chunk(chunks), model).compute(scheduler="threads").values, expected)
    assert_close(predict(grid, model, members="mean").values, expected.mean(axis=0))
    assert_close(predict(grid, model, members=[3, 1]).values, expected[[3, 1]])
