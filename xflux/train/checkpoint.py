"""The state of a training run after each epoch in a file, and whether a file belongs to the run that takes it up."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from xflux.files import at_home, require_place
from xflux.reading import blamed_on
from xflux.train import files
from xflux.train.scratch import ScratchArray
from xflux.values import as_text

if TYPE_CHECKING:
    from xflux.train.fitting import Trainer

KIND = "xflux checkpoint"
VERSION = 2  # of what is kept and of what tells runs apart; another version is another run
BYTES_AT_ONCE = 2**24  # bytes that are hashed at once


class Checkpoint:
    """A file with the whole state of `run`; the random streams need none, they restart with each epoch's number."""

    def __init__(self, path: str | Path, run: "Trainer"):
        self.path, self.run = at_home(path), run
        self.identity = json.loads(json.dumps(_identity(run)))

    def keep(self) -> None:
        """Write the state as it is now."""
        files.write(self.path, KIND, self.identity, _state(self.run))

    def resume(self) -> None:
        """Put the run into the state of the file, where there is one.

        Raises ValueError, OSError: the file is damaged, of another run (towers, drivers, targets, constraints or
        settings differ in anything that the result depends on), or no checkpoint.
        """
        require_place(self.path, KIND)
        if not self.path.exists():
            return
        given, arrays = files.read(self.path, KIND)
        if given.get("version") != VERSION:
            raise ValueError(
                f"the checkpoint {self.path} was written by another version of xflux, which this one cannot go on "
                "from: remove it, and train from the start"
            )
        # as text: True is not 1, NaN is NaN
        differing = [k for k in self.identity if json.dumps(given.get(k)) != json.dumps(self.identity[k])]
        differing += [k for k in given if k not in self.identity]
        if differing:
            raise ValueError(
                f"the checkpoint {self.path} is of another run (its {', '.join(differing)} differ): remove it, or give "
                "this run another checkpoint="
            )
        with blamed_on(self.path, f"an {KIND}"):
            _check_fit(self.run, arrays)
            _restore(self.run, arrays)


# --- what tells a run from another ------------------------------------------------------------------------------


def _identity(run: "Trainer") -> dict:
    """Everything that the result depends on, large things by their digests."""
    rows, scaling = run.rows, run.rows.scaling
    found = {
        "version": VERSION,
        "config": asdict(run.config),
        "drivers": [list(scaling.drivers), scaling.units],
        "targets": rows.units,
        "towers": fingerprint(rows.x, rows.y, rows.weight, rows.fold, rows.site, scaling.mean, scaling.scale),
        "constraints": [term.constraint.name for term in run.terms],
    }
    for term in run.terms:
        found |= {f"{term.constraint.name} {part}": value for part, value in term.identity().items()}
    return found


def fingerprint(*parts) -> str:
    """Digest of arrays, tensors, tables and dataclasses of them: their types, shapes, names and values in order.

    >>> fingerprint(np.array([1.0, 2.0])) == fingerprint(np.array([2.0, 1.0]))
    False
    """
    found = hashlib.sha256()
    _feed(found, parts)
    return found.hexdigest()


def _feed(found, value) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | ScratchArray):
        return _feed_array(found, value)
    found.update(f"{type(value).__name__}(".encode())
    if isinstance(value, xr.DataArray):
        inside = [value.dims, value.data]
    elif is_dataclass(value):
        inside = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        inside = [part for item in sorted(value.items()) for part in item]
    elif isinstance(value, list | tuple):
        inside = value
    else:
        inside = ()
        found.update(repr(value).encode())
    for part in inside:
        _feed(found, part)
    found.update(b")")


def _feed_array(found, array: np.ndarray) -> None:
    """In pieces, so that there is no second copy of a large array."""
    found.update(f"array {array.dtype.kind} {array.shape} ".encode())
    if isinstance(array, np.ndarray):
        array = np.atleast_1d(as_text(array) if array.dtype.kind in "OmMUT" else array)
    found.update(array.dtype.str.encode())
    rows = max(1, BYTES_AT_ONCE // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        found.update(np.ascontiguousarray(array[start : start + rows]).view(np.uint8))


# --- the state ----------------------------------------------------------------------------------------------------


def _state(run: "Trainer") -> dict[str, np.ndarray]:
    arrays = {"log_variance": run.log_variance.detach().cpu().numpy()}
    for part, state in {"now": run.network.state(), "best": run.best, "last": run.last}.items():
        arrays |= {f"{part}.{k}": v for k, v in state.items()}
    for i, parameter in enumerate([*run.network.parameters, run.log_variance]):
        arrays |= {f"adam.{i}.{k}": v.cpu().numpy() for k, v in run.optimiser.state[parameter].items()}
    arrays |= {f"record.{k}": np.stack([r[k] for r in run.records]) for k in run.records[0]}
    arrays |= {k: getattr(run, k) for k in ("best_epoch", "best_value", "stopped")}
    for i, term in enumerate(run.terms):
        arrays |= {f"term.{i}.{k}": v for k, v in term.state().items()}
    return arrays


def _check_fit(run: "Trainer", arrays: dict[str, np.ndarray]) -> None:
    """Every array of the state must be there in its shape and type; NaN may be, of a training that ran away."""
    wanted = {f"{part}.{k}": v for part in ("now", "best", "last") for k, v in run.best.items()}
    wanted |= {"log_variance": run.log_variance.detach().cpu().numpy()}
    wanted |= {name: np.asarray(getattr(run, name)) for name in ("best_epoch", "best_value", "stopped")}
    for i, parameter in enumerate([*run.network.parameters, run.log_variance]):
        if any(k.startswith(f"adam.{i}.") for k in arrays):  # one loss alone has no variance that is learned
            like = parameter.detach().cpu().numpy()
            wanted |= {f"adam.{i}.step": np.zeros(1, "f4"), f"adam.{i}.exp_avg": like, f"adam.{i}.exp_avg_sq": like}
    for name, like in wanted.items():
        if (arrays[name].shape, arrays[name].dtype) != (like.shape, like.dtype):
            raise ValueError(f"its {name} is {arrays[name].dtype} {arrays[name].shape}, not {like.dtype} {like.shape}")
    records = {k.removeprefix("record."): len(v) for k, v in arrays.items() if k.startswith("record.")}
    known = {"loss", "rate", "validation_loss", "sigma2", "validation"}
    if not known <= set(records) or len(set(records.values())) > 1:
        raise ValueError(f"its records of epochs are {records}")


def _restore(run: "Trainer", arrays: dict[str, np.ndarray]) -> None:
    for part, goal in {"best": run.best, "last": run.last}.items():
        goal.update({k: arrays[f"{part}.{k}"] for k in goal})
    run.network.load({k: arrays[f"now.{k}"] for k in run.best})
    with torch.no_grad():
        run.log_variance.copy_(torch.from_numpy(arrays["log_variance"]))
    for i, parameter in enumerate([*run.network.parameters, run.log_variance]):
        keys = [k for k in arrays if k.startswith(f"adam.{i}.")]
        state = {k.rsplit(".", 1)[1]: torch.from_numpy(arrays[k]) for k in keys}
        if state:
            run.optimiser.state[parameter] = {k: v if k == "step" else v.to(parameter) for k, v in state.items()}
    for name in ("best_epoch", "best_value", "stopped"):
        setattr(run, name, arrays[name])
    for i, term in enumerate(run.terms):
        term.restore({k.removeprefix(f"term.{i}."): v for k, v in arrays.items() if k.startswith(f"term.{i}.")})
    names = [k.removeprefix("record.") for k in arrays if k.startswith("record.")]
    done = len(arrays["record.rate"])
    run.records = [{k: arrays[f"record.{k}"][e] for k in names} for e in range(done)]
