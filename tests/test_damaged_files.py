"""Files that are damaged, cut short or of another kind: one clear error with the file's name, whatever reads them."""

import dataclasses
import gzip
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

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


# --- whatever is read: every kind of damage --------------------------------------------------------------------------

FOREIGN = {
    "empty": b"",
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "HTML": b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>a, b; c</body></html>\n",
    "gzip": gzip.compress(b"nothing" * 50),
    "zip": b"PK\x03\x04" + bytes(100),
    "NUL": bytes(500),
    "Latin-1": "Gebirgsfl\xfcsse;\xb5mol\n".encode("latin-1") * 3,
    "HDF5 of nothing": b"\x89HDF\r\n\x1a\n" + bytes(600),
    "deep JSON": DEEP.encode(),
    "deep TOML": b"a = " + DEEP.encode(),
    "a long line": b"x" * 200_000,
}


def mutations(whole, count, seed=0):
    """The bytes cut short, with bits flipped, parts overwritten, left out or doubled."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        at, length = int(rng.integers(len(whole))), int(rng.integers(1, 64))
        raw = bytearray(whole)
        if number % 5 == 0:
            raw = raw[:at]
        elif number % 5 == 1:
            raw[at] ^= 1 << int(rng.integers(8))
        elif number % 5 == 2:
            raw[at : at + length] = rng.integers(0, 256, length, np.uint8).tobytes()
        elif number % 5 == 3:
            del raw[at : at + length]
        else:
            raw[at:at] = whole[at : at + length] * 3
        yield bytes(raw)


def read_model(path):
    return repr(xflux.load_model(path))


def read_bridge(path):
    return xflux.load_bridge(path).pixels


def read_study(path):
    from xflux.study import load_study

    return load_study(path)


def write_model(path):
    torch = pytest.importorskip("torch")
    from xflux.train import FluxModel
    from xflux.train.network import Network

    state = Network((1, 4, 1), [(0, 0), (0, 1)], dtype=torch.float32).state()
    FluxModel(["a"], np.zeros(1), np.ones(1), ["nee"], {"nee": "gC m-2 d-1"}, state).save(path)


def write_bridge(path):
    axes = {"time": xr.date_range("2001-01-01", periods=24, freq="MS"), "lat": [5.0, -5.0], "lon": [0.0, 10.0]}
    nee = xr.DataArray(np.random.default_rng(0).normal(size=(24, 2, 2)), axes)
    nee = nee.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    nee.flux.fit_bridge(xr.zeros_like(nee[0], dtype=int).drop_vars("time"), r2=0.9).save(path)


def write_study(path):
    from importlib import resources

    path.write_bytes((resources.files("xflux.data") / "study_template.toml").read_bytes())


def write_weights(path):
    xflux.save_weights(
        xflux.region_weights(xr.Dataset(coords={"lat": [-45.0, 45], "lon": [0.0, 90]}), "latitude-bands"), path
    )


def write_product(path):
    time = ("time", [15.0, 45.0, 74.0], {"units": "days since 2001-01-01"})
    flux = ("time", "lat", "lon"), np.ones((3, 2, 2)), {"units": "gC m-2 d-1"}
    xr.Dataset({"NEE": flux}, {"time": time, "lat": [5.0, -5.0], "lon": [0.0, 10.0]}).to_netcdf(
        path, engine="netcdf4", encoding={"NEE": {"zlib": True, "fletcher32": True}}
    )


def read_product(path):
    row = {"variables": {"nee": {"names": ["NEE"], "units": "gC m-2 d-1"}}, "step": "month"}
    return xflux.open_product("own", path, table={"own": row}).load()


def towers():
    time = pd.date_range("2005-01-01", periods=20)
    table = {"site": "XX-Abc", "time": time, "NEE": np.arange(20.0), "NEE_QC": 1.0, "lat": 50.0, "lon": 8.0}
    return pd.DataFrame(table)


def read_sites(path):
    return xflux.read_towers(towers(), sites=path)


def write_table(path):
    path.write_text('[own]\ntitle = "Ours"\n[own.variables.nee]\nnames = ["NEE"]\nunits = "gC m-2 d-1"\n')


def write_towers(path):
    towers().rename_axis("sample").to_xarray().to_netcdf(path, engine="netcdf4")


KINDS = {
    "model.safetensors": (write_model, read_model),
    "bridge.nc": (write_bridge, read_bridge),
    "study.toml": (write_study, read_study),
    "weights.nc": (write_weights, lambda path: xflux.load_weights(path)),
    "product.nc": (write_product, read_product),
    "table.toml": (write_table, lambda path: xflux.products(path)),
    "towers.csv": (lambda path: towers().to_csv(path, index=False), xflux.read_towers),
    "towers.tsv": (lambda path: towers().to_csv(path, index=False, sep="\t"), xflux.read_towers),
    "towers.csv.gz": (lambda path: towers().to_csv(path, index=False), xflux.read_towers),
    "towers.parquet": (lambda path: towers().to_parquet(path), xflux.read_towers),
    "towers.nc": (write_towers, xflux.read_towers),
    "sites.csv": (lambda path: towers()[:1].to_csv(path, index=False), read_sites),
    "sites.xlsx": (lambda path: towers()[:1].to_excel(path, index=False), read_sites),
    "sites.parquet": (lambda path: towers()[:1].to_parquet(path), read_sites),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The bytes of one good file of each kind."""
    folder, found = tmp_path_factory.mktemp("good"), {}
    for name, (write, _) in KINDS.items():
        write(folder / name)
        found[name] = (folder / name).read_bytes()
    return found


def put(folder, name, content):
    """A new file of that name, in a folder of its own: xarray keeps files open by their path."""
    path = Path(tempfile.mkdtemp(dir=folder)) / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_foreign_files_and_folders_are_refused_by_name(name, tmp_path):
    read, path = KINDS[name][1], tmp_path / name
    refused(read, path)
    path.mkdir()
    refused(read, path)
    for content in FOREIGN.values():
        refused(read, put(tmp_path, name, content))


@pytest.mark.filterwarnings("ignore:no coordinates for")
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused_by_name(name, originals, tmp_path):
    """Nothing but a ValueError or OSError that names the file, whatever byte is wrong."""
    read = KINDS[name][1]
    read(put(tmp_path, name, originals[name]))
    for content in mutations(originals[name], 60):
        try:
            read(put(tmp_path, name, content))
        except (ValueError, OSError) as error:
            assert name in str(error)


def test_a_file_that_claims_more_than_it_can_hold_is_refused_before_memory_is_asked_for(tmp_path):
    netCDF4 = pytest.importorskip("netCDF4")
    path = tmp_path / "bridge.nc"
    with netCDF4.Dataset(path, "w") as made:
        made.title = "xflux bridge 1"
        made.createDimension("cell", 10**9)
        made.createVariable("cell_weight", "f8", ("cell",), zlib=True, chunksizes=(10**6,))
    assert "claims to hold 8e+09 bytes" in refused(xflux.load_bridge, path)


@pytest.mark.parametrize("text", ["null", "[]", "5", DEEP, "{", '"x"'])
def test_a_bridge_whose_options_are_no_object(tmp_path, text):
    path = tmp_path / "bridge.nc"
    write_bridge(path)
    for name in ("options", "weights_attrs"):
        changed = xr.load_dataset(path, engine="netcdf4").assign_attrs({name: text})
        changed.to_netcdf(tmp_path / "changed.nc", engine="netcdf4")
        refused(xflux.load_bridge, tmp_path / "changed.nc")
