"""Files that are damaged, cut short or of another kind: one clear error with the file's name, whatever reads them."""

import dataclasses
import json
import struct

import numpy as np
import pytest

import xflux

DEEP = "[" * 50_000 + "]" * 50_000


def refused(read, path):
    """The text of the ValueError or OSError that `read(path)` must raise, which names the file."""
    with pytest.raises((ValueError, OSError)) as caught:
        read(path)
    assert path.name in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


# --- models: what they may hold, when made and when read -------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("torch")
    from xflux.train import FluxModel

    rng = np.random.default_rng(0)
    weights = {"weight0": rng.normal(size=(2, 2, 4)), "bias0": rng.normal(size=(2, 1, 4))}
    weights |= {"weight1": rng.normal(size=(2, 4, 1)), "bias1": rng.normal(size=(2, 1, 1))}
    weights = {name: tensor.astype("f4") for name, tensor in weights.items()}
    return FluxModel(
        ["a", "b"], np.zeros(2), np.ones(2), ["nee"], {"nee": "gC m-2 d-1"}, weights, last_weights=dict(weights)
    )


def changed(weights, name, make):
    return weights | {name: make(weights[name])}


def with_nan(tensor):
    tensor = tensor.copy()
    tensor.flat[-1] = np.nan
    return tensor


UNFIT = {
    "a weight is NaN": (lambda w: {"weights": changed(w, "weight1", with_nan)}, "weights: the tensor weight1 is not f"),
    "a last bias is NaN": (lambda w: {"last_weights": changed(w, "bias0", with_nan)}, "last_weights: the tensor bias0"),
    "infinite": (lambda w: {"weights": changed(w, "bias1", lambda t: t / 0)}, "tensor bias1 is not finite"),
    "integers": (lambda w: {"weights": {k: t.astype(int) for k, t in w.items()}}, "weight0 is int64; expected all flo"),
    "two kinds": (lambda w: {"weights": changed(w, "bias1", np.float64)}, "bias1 is float64; expected all float32, or"),
    "fewer members": (lambda w: {"weights": changed(w, "bias0", lambda t: t[:1])}, r"bias0 has the shape \(1, 1, 4\)"),
    "two outputs": (lambda w: {"weights": changed(w, "weight1", lambda t: np.tile(t, 2))}, r"weight1 .*not fit \(2, 4"),
    "a layer lacks": (lambda w: {"last_weights": {k: w[k] for k in ("weight0", "bias0", "bias1")}}, "has the tensors"),
    "none at all": (lambda w: {"weights": {}}, "has the tensors"),
    "no members": (lambda w: {"weights": {k: t[:0] for k, t in w.items()}}, "weight0 has the shape"),
    "scale 0": (lambda w: {"scale": np.array([1.0, 0])}, "scale of driver b is 0; expected a finite number above 0"),
    "scale −1": (lambda w: {"scale": np.array([-1.0, 1])}, "scale of driver a is -1"),
    "scale NaN": (lambda w: {"scale": np.array([1.0, np.nan])}, "scale of driver b is nan"),
    "mean inf": (lambda w: {"mean": np.array([1.0, np.inf])}, "mean of driver b is inf; expected a finite number$"),
    "one scale": (lambda w: {"scale": np.ones(1)}, "scale has the shape"),
    "a driver twice": (lambda w: {"drivers": ["a", "a"]}, "drivers of the model are .*none twice"),
    "a target twice": (lambda w: {"target_names": ["nee", "nee"]}, "target_names of the model are"),
    "no units": (lambda w: {"target_units": {}}, "target_units has units of"),
    "activation": (lambda w: {"activation": "swish"}, "unknown activation 'swish'; this xflux has"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_model_that_cannot_be_one_is_not_made(model, case):
    change, message = UNFIT[case]
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=message):
        dataclasses.replace(model, **change(model.weights))


def _header(path):
    raw = path.read_bytes()
    return json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])


def described(path, change):
    """Give the model file at `path` another JSON text, and no checksum."""
    raw, header = path.read_bytes(), _header(path)
    tensors = raw[8 + struct.unpack("<Q", raw[:8])[0] :]
    words = header["__metadata__"]
    words["json"] = change(json.loads(words["json"]))
    words.pop("sha256", None)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def test_a_model_file_with_unfit_tensors_names_file_and_tensor(model, tmp_path):
    from xflux.train import files
    from xflux.train.model import KIND

    path = model.save(tmp_path / "model.safetensors")
    text, arrays = files.read(path, KIND)
    for name, wrong, message in (
        ("best.weight0", np.full((2, 2, 4), np.nan, "f4"), "weights: the tensor weight0 is not finite"),
        ("last.bias1", np.zeros((2, 1, 1), int), "last_weights: the tensor bias1 is int64"),
        ("scale", np.zeros(2), "scale of driver a is 0"),
    ):
        files.write(path, KIND, text, arrays | {name: wrong})
        assert message in refused(xflux.load_model, path)


@pytest.mark.parametrize("value", [None, 5, "x", [], [None], {}, {"a": None}, [{"a": 1}], True, float("nan")])
def test_a_model_file_whose_description_has_other_types(model, tmp_path, value):
    keys = json.loads(_header(model.save(tmp_path / "whole"))["__metadata__"]["json"])
    for key in keys:
        path = model.save(tmp_path / "model.safetensors")
        described(path, lambda text, key=key: json.dumps(text | {key: value}))
        try:
            assert repr(xflux.load_model(path))
        except ValueError as error:
            assert path.name in str(error)
        described(path, lambda text, key=key: json.dumps({k: v for k, v in text.items() if k != key}))
        refused(xflux.load_model, path)


@pytest.mark.parametrize("text", [DEEP, "", "null", "5", "[]", '"x"', "{", "9" * 5000, "\x00"])
def test_a_model_file_whose_description_is_no_description(model, tmp_path, text):
    path = model.save(tmp_path / "model.safetensors")
    described(path, lambda _: text)
    refused(xflux.load_model, path)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "F4", "no such kind"])
def test_a_model_file_with_tensors_that_numpy_lacks(tmp_path, kind):
    pytest.importorskip("torch")
    path = tmp_path / "model.safetensors"
    tensor = {"dtype": kind, "shape": [8 if kind[:2] == "F8" else 4], "data_offsets": [0, 8]}
    text = json.dumps({"__metadata__": {"kind": "xflux model"}, "w": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"0" * 8)
    refused(xflux.load_model, path)
