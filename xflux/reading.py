"""Reading a file that may be anything: whatever its contents break comes out as one ValueError that names the file."""

import glob
import os
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

LONG = 1500  # letters of another error's text that are repeated: a name in a damaged file can be the whole file
STEPS_AT_ONCE = 31  # of files one after another
DEFLATE = 1032  # no file packed by deflate (zlib, gzip) unpacks to more than this many times its size


class LackingError(KeyError, ValueError):
    """A file or table lacks a column or variable: a KeyError as in Python, and a ValueError as all wrong input."""

    __str__ = Exception.__str__


def require_variables(ds: xr.Dataset, names: Iterable[Hashable], what: str) -> None:
    """Raise LackingError where ``what``, a Dataset, lacks variables or coordinates of these names."""
    if lacking := [str(name) for name in names if name not in ds.variables]:
        has = ", ".join(map(str, ds.data_vars)) or "none"
        raise LackingError(f"{what} has no variable {', '.join(lacking)}; it has {has}")


@contextmanager
def blamed_on(path: str | os.PathLike, what: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Turn every error of the block into a `kind` that says that `path` is damaged or is not `what`.

    A damaged file can break a parser anywhere, with any exception (RecursionError, MemoryError and struct.error
    included), so that all are caught. A missing file or permission, and an error that names the file itself, pass.

    >>> with blamed_on("model.json", "a model"):
    ...     {}["drivers"]
    Traceback (most recent call last):
        ...
    ValueError: model.json is damaged or is not a model (KeyError: 'drivers')
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        named = Path(path).name in str(error)
        if named and isinstance(error, kind):
            raise
        said = str(error.args[0]) if named and isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        said = said if len(said) < LONG else f"{said[:LONG]} …"
        if named and isinstance(error, KeyError):
            raise LackingError(said) from error
        if type(error).__module__.partition(".")[0] == "xflux":  # of what the file says, not of how it is written
            raise kind(f"{path}: {error}") from error
        raise kind(f"{path} is damaged or is not {what} ({said})") from error


@contextmanager
def netcdf(path: str | os.PathLike, what: str, **options) -> Iterator[xr.Dataset]:
    """`xarray.open_dataset` in a `with`, its errors and those of the block blamed on the file."""
    with blamed_on(path, what), xr.open_dataset(path, **options) as opened:
        yield opened


def open_lazily(path: str | os.PathLike) -> xr.Dataset:
    """A netCDF file or a Zarr store, here or remote, lazy; times that xarray cannot decode ("months since") as numbers.

    Raises ValueError: it is neither.
    """
    remote = "://" in str(path)
    options = {"engine": "zarr", "consolidated": None if remote else False} if remote or Path(path).is_dir() else {}
    with blamed_on(path, "netCDF or Zarr"):
        try:
            return xr.open_dataset(path, chunks=None, **options)
        except ValueError:
            return xr.open_dataset(path, chunks=None, decode_times=False, **options)


def one_after_another(parts: list[xr.Dataset]) -> xr.Dataset:
    """Datasets of different times as one, lazy, in the order of time; their grids and calendars must be the same."""
    ordered = sorted(parts, key=lambda ds: ds["time"].values[0])
    return xr.concat(
        [ds.chunk(time=STEPS_AT_ONCE) for ds in ordered], "time", data_vars="minimal", coords="minimal",
        compat="override", join="exact", combine_attrs="drop_conflicts",
    )  # fmt: skip


def matching(pattern: str | os.PathLike) -> list[Path]:
    """The file of a path, or all files of a glob pattern (``**`` for folders) in the order of names; [] for none."""
    path = Path(os.path.expanduser(pattern))
    return [path] if path.exists() else [Path(found) for found in sorted(glob.glob(str(path), recursive=True))]


def check_size(path: str | os.PathLike, nbytes: int) -> None:
    """Raise where a file claims to hold more than it can, before memory for ``nbytes`` of variables is asked for."""
    size = os.path.getsize(path)
    if nbytes > DEFLATE * size + 2**20:
        raise ValueError(f"it claims to hold {nbytes:.3g} bytes of numbers, too many for a file of {size:.3g} bytes")
