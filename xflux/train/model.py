"""The trained model: members, drivers and their scaling, history; saved as tensors and JSON, never as code."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict

from xflux.contents import contents
from xflux.display import described, named_units
from xflux.reading import blamed_on
from xflux.train import files
from xflux.train.fused import relu_network, torch_after_fork
from xflux.train.network import ACTIVATIONS, blocks

KIND = "xflux model"
ROWS_AT_ONCE = 1024  # rows at once, so that the activations stay in cache
GPU_BLOCK = 262_144
_AS_THEY_ARE = ("driver_units", "target_units", "activation", "folds", "config", "attrs")  # in a model file


@dataclass(frozen=True, eq=False, repr=False)
class FluxModel:
    """An ensemble of networks that turns drivers into fluxes.

    Attributes
    ----------
    drivers, driver_units
        What `predict` wants, in this order, and the units that the training towers had.
    mean, scale
        Of every driver over the training towers, (driver,) in its units.
    target_names, target_units
        Fluxes, and their units, such as gC m-2 d-1.
    weights
        ``weight0, bias0, …`` with a member axis: of the best epoch of each member.
    last_weights
        The same at the last epoch.
    history
        Dataset ``(epoch, member, term)``: losses, σ², validation, learning rate, best epoch.
    folds
        Fold of every training site; member k has not seen the sites of fold k.
    activation, device
        Of the hidden layers; where it is computed.
    config, attrs
        How it was trained; what the flux contains, provenance.

    Raises
    ------
    ValueError
        A driver or target that is named twice, a mean or scale that is not finite or a scale that is not above 0, an
        unknown activation, and weights that are integers, are not finite or do not fit each other, by name.

    Examples
    --------
    >>> layer = {"weight0": np.array([[[2.0]], [[4.0]]]), "bias0": np.array([[[-1.0]], [[0.0]]])}
    >>> model = FluxModel(["tair"], np.zeros(1), np.ones(1), ["nee"], {"nee": "gC m-2 d-1"}, layer)
    >>> model.predict(np.array([[0.0], [3.0]])).tolist()
    [[-1.0, 5.0], [0.0, 12.0]]
    >>> model.select([1]).members, model.to("cpu").device
    (1, 'cpu')
    """

    drivers: list[str]
    mean: np.ndarray
    scale: np.ndarray
    target_names: list[str]
    target_units: dict[str, str]
    weights: dict[str, np.ndarray]
    activation: str = "relu"
    driver_units: dict[str, str] = field(default_factory=dict)
    last_weights: dict[str, np.ndarray] | None = None
    history: xr.Dataset = field(default_factory=xr.Dataset)
    folds: dict[str, int] = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    attrs: dict = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self):
        _check_names(self)
        _check_scaling(self)
        for which in ("weights", "last_weights"):
            if getattr(self, which) is not None:
                _check_layers(self, which)

    def __repr__(self) -> str:
        return described(f"xflux.FluxModel: {self._title()}", self._facts())

    def _repr_html_(self) -> str:
        from html import escape

        rows = (f"<tr><th style='text-align:left'>{escape(k)}</th><td style='text-align:left'>{escape(v)}</td></tr>"
                for k, v in self._facts().items())  # fmt: skip
        return f"<div><b>xflux.FluxModel</b>: {escape(self._title())}<table>{''.join(rows)}</table></div>"

    def _title(self) -> str:
        fluxes = named_units(self.target_names, self.target_units)
        return f"{self.members} members, {len(self.drivers)} drivers → {fluxes}"

    def _facts(self) -> dict[str, str]:
        """What a person wants to know of the model, as text."""
        layers = [self.weights[f"weight{i}"] for i in range(len(self.weights) // 2)]
        sizes = [len(self.drivers), *(w.shape[2] for w in layers)]
        found = {
            "drivers": named_units(self.drivers, self.driver_units),
            "network": f"{' → '.join(map(str, sizes))}, {self.activation}, {layers[0].dtype}",
        }
        if "epoch" in self.history.sizes:
            best = self.history["best_epoch"].values
            terms = ", ".join(map(str, self.history["term"].values))
            found["trained"] = f"{self.history.sizes['epoch']} epochs (best: {best.min()} … {best.max()}) on {terms}"
        for constraint in self.attrs.get("constraints", ()):
            kind = constraint.get("integral", "linear")
            regions = constraint.get("regions")
            found[constraint.get("name", "constraint")] = f"{kind}, {len(regions)} regions" if regions else kind
        contained = [name for name, has in contents(self.attrs).items() if has]
        return found | ({"contains": ", ".join(contained)} if contained else {})

    @property
    def members(self) -> int:
        """Number of members."""
        return self.weights["weight0"].shape[0]

    @property
    def units(self) -> str | dict[str, str]:
        """Units of the flux, by target where there are several."""
        if len(self.target_names) == 1:
            return self.target_units[self.target_names[0]]
        return dict(self.target_units)

    @property
    def last(self) -> "FluxModel":
        """The same model with the weights of the last epoch (no selection)."""
        if self.last_weights is None:
            raise ValueError("this model was saved without its last epoch's weights")
        return replace(self, weights=self.last_weights)

    def to(self, device: str) -> "FluxModel":
        """The same model on another device.

        Parameters
        ----------
        device
            "cpu", "cuda": where `predict` computes.

        Raises
        ------
        RuntimeError
            PyTorch does not know the device.
        """
        return replace(self, device=str(torch.device(device)))

    def select(self, members: Sequence[int]) -> "FluxModel":
        """A model of some members only.

        Parameters
        ----------
        members
            By number, from 0.

        Raises
        ------
        IndexError
            One that is not there.
        """
        picked = list(members)

        def some(weights):
            return None if weights is None else {k: v[picked] for k, v in weights.items()}

        history = self.history.isel(member=picked) if "member" in self.history.dims else self.history
        return replace(self, weights=some(self.weights), last_weights=some(self.last_weights), history=history)

    def predict(self, rows: np.ndarray, members: Sequence[int] | slice | int | None = None) -> np.ndarray:
        """Flux of rows of drivers, ``(member, row)``; several targets: ``(target, member, row)``.

        Thread-safe; a NaN in a row gives NaN.

        Parameters
        ----------
        rows
            ``(row, driver)``, in the order and units of the model's drivers.
        members
            Some, by number; None: all.

        Raises
        ------
        ValueError
            Rows of another shape.
        """
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != len(self.drivers):
            raise ValueError(
                f"rows have the shape {rows.shape}; expected (row, {len(self.drivers)}) for the drivers "
                f"{', '.join(self.drivers)}"
            )
        pick = slice(None) if members is None else [members] if isinstance(members, int | np.integer) else members
        weights, biases = (
            [self.weights[f"{kind}{i}"][pick] for i in range(len(self.weights) // 2)] for kind in ("weight", "bias")
        )
        if self.activation == "relu" and weights[0].dtype == np.float32 and self.device == "cpu":
            out = relu_network(rows, self.mean, self.scale, weights, biases)
        else:
            layers = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in zip(weights, biases, strict=True)]
            x = ((rows - self.mean) / self.scale).astype(weights[0].dtype)
            out = self._predict_blocks(layers, torch.from_numpy(x))
        return out[0] if len(self.target_names) == 1 else out

    @torch_after_fork()
    def _predict_blocks(self, layers: list, x: torch.Tensor) -> np.ndarray:
        """Any activation and float64: block by block, so that the activations stay in cache."""
        out = np.empty((len(self.target_names), len(layers[0][0]), len(x)), self.weights["weight0"].dtype)
        act = ACTIVATIONS[self.activation]
        layers = [(weight.to(self.device), bias.to(self.device)) for weight, bias in layers]
        with torch.no_grad():
            for part in blocks(len(x), ROWS_AT_ONCE if self.device == "cpu" else GPU_BLOCK):
                h = x[part].to(self.device).expand(len(layers[0][0]), -1, -1)
                for weight, bias in layers[:-1]:
                    h = act(torch.baddbmm(bias, h, weight))
                out[..., part] = torch.baddbmm(layers[-1][1], h, layers[-1][0]).permute(2, 0, 1).cpu().numpy()
        return out

    def save(self, path: str | Path) -> Path:
        """Write the model to one file: tensors, and all the rest as JSON in its header (safetensors).

        Parameters
        ----------
        path
            A new file, or that of an older model, which is replaced; it is what is returned.

        Raises
        ------
        FileExistsError
            Something else is there.

        Examples
        --------
        >>> import tempfile
        >>> layer = {"weight0": np.array([[[2.0]]]), "bias0": np.array([[[-1.0]]])}
        >>> model = FluxModel(["tair"], np.zeros(1), np.ones(1), ["nee"], {"nee": "gC m-2 d-1"}, layer)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/ec.safetensors").name
        'ec.safetensors'
        """
        arrays = {f"best.{k}": v for k, v in self.weights.items()}
        if self.last_weights is not None:
            arrays |= {f"last.{k}": v for k, v in self.last_weights.items()}
        arrays |= {"mean": np.asarray(self.mean), "scale": np.asarray(self.scale)}
        names = {"drivers": list(self.drivers), "targets": list(self.target_names)}
        rest = {name: getattr(self, name) for name in _AS_THEY_ARE}
        return files.write(path, KIND, names | rest | {"history": self.history.to_dict(encoding=False)}, arrays)


def load_model(path: str | Path) -> FluxModel:
    """Read a model that `FluxModel.save` wrote to `path`. Nothing in it is ever run as code.

    Raises FileNotFoundError, ValueError: the file is missing, damaged, of a newer version or no model.
    """
    text, arrays = files.read(path, KIND)
    with blamed_on(path, f"an {KIND}"):
        _Description.model_validate(text)
        best, last = (
            {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
            for part in ("best.", "last.")
        )
        rest = {name: text[name] for name in _AS_THEY_ARE}
        return FluxModel(
            text["drivers"], arrays["mean"], arrays["scale"], text["targets"], weights=best, last_weights=last or None,
            history=xr.Dataset.from_dict(text["history"]), **rest,
        )  # fmt: skip


class _Attributes(BaseModel):
    constraints: list[dict[str, Any]] = []


class _Description(BaseModel):
    """The JSON text of a model file."""

    model_config = ConfigDict(strict=True)

    drivers: list[str]
    driver_units: dict[str, str]
    targets: list[str]
    target_units: dict[str, str]
    activation: str
    folds: dict[str, int]
    config: dict[str, Any]
    attrs: _Attributes
    history: dict[str, Any]


def _check_names(model: FluxModel) -> None:
    for what, names in (("drivers", model.drivers), ("target_names", model.target_names)):
        if isinstance(names, str) or not len(names) or len(set(names)) < len(names):
            raise ValueError(f"{what} of the model are {names!r}; expected a list of one name at least, and none twice")
    if set(model.target_names) != set(model.target_units):
        raise ValueError(f"target_units has units of {list(model.target_units)}, the targets are {model.target_names}")
    if model.activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {model.activation!r}; this xflux has {sorted(ACTIVATIONS)}")


def _check_scaling(model: FluxModel) -> None:
    for what in ("mean", "scale"):
        values = np.asarray(getattr(model, what), float)
        if values.shape != (len(model.drivers),):
            raise ValueError(f"{what} has the shape {values.shape}; expected one number for each of {model.drivers}")
        wrong = ~np.isfinite(values) | ((values <= 0) if what == "scale" else False)
        if wrong.any():
            name, value = model.drivers[int(wrong.argmax())], values[wrong][0]
            right = "a finite number above 0" if what == "scale" else "a finite number"
            raise ValueError(f"{what} of driver {name} is {value:g}; expected {right}")


def _check_layers(model: FluxModel, which: str) -> None:
    """Raise where the layers ``weights`` or ``last_weights`` are not those of a network."""
    tensors, width = getattr(model, which), len(model.drivers)
    members, kind = len(model.weights.get("weight0", ())), getattr(model.weights.get("weight0"), "dtype", None)
    depth = max(1, len(tensors) // 2)
    expected = {f"{part}{i}" for i in range(depth) for part in ("weight", "bias")}
    if set(tensors) != expected:
        raise ValueError(f"{which} has the tensors {sorted(tensors)}; expected {sorted(expected)}")
    for i in range(depth):
        out = np.shape(tensors[f"weight{i}"])[-1] if i < depth - 1 else len(model.target_names)
        shapes = {f"weight{i}": (members, width, out), f"bias{i}": (members, 1, out)}
        for name, shape in shapes.items():
            tensor = np.asarray(tensors[name])
            if tensor.shape != shape or not tensor.size:
                raise ValueError(f"{which}: the tensor {name} has the shape {tensor.shape}, which does not fit {shape}")
            if tensor.dtype != kind or kind not in (np.float32, np.float64):
                raise ValueError(f"{which}: the tensor {name} is {tensor.dtype}; expected all float32, or all float64")
            if not np.isfinite(tensor).all():
                raise ValueError(f"{which}: the tensor {name} is not finite: the training that made it ran away")
        width = out
