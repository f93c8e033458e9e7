"""What tells where numbers come from, and that they are whole: JSON text, digests and seals, versions, provenance."""

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGES = ("xflux", "xarray", "numpy", "dask", "torch", "scikit-learn", "numba")
SEAL = b"\nxflux sha256 "


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises ValueError: it is no JSON text, is nested too deep, or holds a number too long; the message names the file.
    """
    return parse_json(Path(path).read_bytes(), path)


def parse_json(text: str | bytes, origin: str | Path) -> Any:
    """The content of a JSON text that came from ``origin``.

    >>> parse_json("[" * 100_000, "deep.json")
    Traceback (most recent call last):
        ...
    ValueError: deep.json is damaged or no JSON text: it is nested too deep
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{origin} is damaged or no JSON text: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{origin} is damaged or no JSON text: {error}") from error


def plain(value: Any) -> Any:
    """JSON form of NumPy values; of anything else its text.

    >>> json.dumps({"r2": np.float32(0.5), "when": np.datetime64("2001-01-01")}, default=plain)
    '{"r2": 0.5, "when": "2001-01-01"}'
    """
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    return str(value)


# --------------------------------------------------------------------------------------------------------- digests
def digest(content: object, arrays: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of a text or JSON-able object, in any order of its keys, and of named arrays, their types and shapes.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}), digest({}, {"x": np.zeros(2)}) == digest({})
    (True, False)
    """
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True, default=plain)
    found = hashlib.sha256(text.encode())
    for name, values in sorted((arrays or {}).items()):
        values = np.asarray(values)
        is_text = values.dtype.kind not in "biufcmM"  # it comes back from files in other types
        found.update(f"{name} {'text' if is_text else values.dtype} {values.shape}".encode())
        found.update(json.dumps(values.astype(object).tolist(), default=str).encode() if is_text else values.tobytes())
    return found.hexdigest()


def seal(path: Path) -> None:
    """Append the SHA-256 of a netCDF file to it: HDF5 reads on, but may never return from a damaged file."""
    found = file_digest(path)
    with path.open("ab") as file:
        file.write(SEAL + found.encode())


def require_seal(path: Path) -> None:
    """An error where a sealed file is not what it was when it was sealed; one without a seal passes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     length = Path(folder, "a.nc").write_bytes(b"numbers")
    ...     seal(Path(folder, "a.nc"))
    ...     require_seal(Path(folder, "a.nc"))
    ...     length = Path(folder, "a.nc").write_bytes(Path(folder, "a.nc").read_bytes().replace(b"num", b"num "))
    ...     require_seal(Path(folder, "a.nc"))
    Traceback (most recent call last):
        ...
    ValueError: its bytes do not have the checksum that was written
    """
    length = max(0, path.stat().st_size - len(SEAL) - 64)
    with path.open("rb") as file:
        file.seek(length)
        said = file.read()
        if not said.startswith(SEAL):
            return
        file.seek(0)
        if said[len(SEAL) :] != hashlib.sha256(file.read(length)).hexdigest().encode():
            raise ValueError("its bytes do not have the checksum that was written")


def inside(path: Path) -> list[Path]:
    """A file itself, or all files of a folder (a Zarr store) in the order of their names."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, or of all files of a folder (a Zarr store) with their names."""
    found = hashlib.sha256()
    for file in inside(path):
        found.update(str(file.relative_to(path) if path.is_dir() else "").encode())
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: found)
    return found.hexdigest()


# ------------------------------------------------------------------------------------------------------ provenance
@cache
def versions() -> dict[str, str]:
    """Versions of Python, xflux and the packages that shape its numbers; a package that is absent is left out.

    >>> versions()["python"].count(".")
    2
    """
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def stamp(call: str, inputs: dict | None = None) -> str:
    """JSON text for ``attrs["provenance"]``: the call, its inputs and the versions (no clock, so that runs repeat).

    Parameters
    ----------
    call
        What was called, as one would write it.
    inputs
        What it was given, by name; JSON as far as it goes, else text.

    Examples
    --------
    >>> json.loads(stamp("aggregate_regions(regions='reccap2')"))["call"]
    "aggregate_regions(regions='reccap2')"
    """
    return json.dumps({"call": call, "inputs": inputs or {}, "versions": versions()}, default=str)
