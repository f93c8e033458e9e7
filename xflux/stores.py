"""Zarr stores written by region: made once, asked which chunks are missing or damaged, gone on with."""

import json
import shutil
from collections.abc import Iterable
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux.files import KIND_OF_STORE as KIND
from xflux.files import require_place, write_json
from xflux.provenance import digest, parse_json
from xflux.reading import blamed_on

Region = tuple[slice, ...]  # over the dims of one plane
RUN_MARK = "xflux_run"


class Store:
    """A Zarr group whose variables ``names`` share one grid of chunks. Small enough to be sent to every worker."""

    def __init__(self, path: str, names: tuple[str, ...], has_member_dim: bool):
        self.path, self.names, self.has_member_dim = path, names, has_member_dim

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "arrays"}

    @cached_property
    def arrays(self) -> list[Any]:
        """The arrays, open for writing. An ocean's chunk is written too: what is absent was not computed."""
        import zarr

        group = zarr.open_group(self.path, mode="r+")
        return [group[name].with_config({"write_empty_chunks": True}) for name in self.names]

    def regions(self) -> list[Region]:
        """One region per chunk: tiles of the map outside, steps inside."""
        array = self.arrays[0]
        lead = 1 if self.has_member_dim else 0
        shape, chunks = array.shape[lead:], array.chunks[lead:]
        parts = [[slice(i, min(i + c, n)) for i in range(0, n, c)] for n, c in zip(shape, chunks, strict=True)]
        steps, *space = parts
        return [(step, *tile) for tile in product(*space) for step in steps]

    def write(self, region: Region, values: np.ndarray) -> None:
        """``values`` (planes, *region): planes are members of one variable, or one plane per variable."""
        per_name = values.shape[0] // len(self.names)
        for k, array in enumerate(self.arrays):
            mine = values[k * per_name : (k + 1) * per_name]
            if self.has_member_dim:
                array[(slice(None), *region)] = mine
            else:
                array[region] = mine[0]

    def is_present(self, region: Region) -> bool:
        """Whether every chunk of the region exists."""
        from zarr.core.sync import sync

        return all(sync(path.exists()) for path in self._chunks(region))

    def is_readable(self, region: Region) -> bool:
        """Whether every chunk of the region decodes; each carries a checksum."""
        try:
            for array in self.arrays:
                array[(slice(None), *region) if self.has_member_dim else region]
        except Exception:  # a codec may raise anything on garbage
            return False
        return True

    def delete(self, region: Region) -> None:
        """Remove the region's chunks."""
        from zarr.core.sync import sync

        for path in self._chunks(region):
            sync(path.delete())

    def _chunks(self, region: Region) -> Iterable[Any]:
        for array in self.arrays:
            lead = 1 if self.has_member_dim else 0
            at = [s.start // c for s, c in zip(region, array.chunks[lead:], strict=True)]
            heads = range(-(-array.shape[0] // array.chunks[0])) if lead else [None]
            for head in heads:
                where = tuple(at) if head is None else (head, *at)
                yield array.store_path / array.metadata.encode_chunk_key(where)

    def finish(self) -> None:
        """Note in the store that every chunk is there, and gather its metadata, so that it opens in one read."""
        _mark(self.path, state="complete")
        gather_metadata(self.path)


def _mark(path: str, **changes: Any) -> None:
    import zarr

    group = zarr.open_group(path, mode="r+")
    group.attrs[RUN_MARK] = json.dumps(json.loads(group.attrs[RUN_MARK]) | changes)


def read_mark(path: str) -> dict[str, Any] | None:
    """What the maker of a store left in its attributes; None where there is no store.

    Raises FileExistsError, PermissionError: what is at ``path`` is no such store, or is a link, or holds other files or
    arrays than its maker wrote.
    """
    import zarr

    local = "://" not in path
    if local:
        place = require_place(path, KIND)
        if not place.exists() or not any(place.iterdir() if place.is_dir() else []):
            return None
    try:
        attrs = dict(zarr.open_group(path, mode="r", use_consolidated=False).attrs)
    except FileNotFoundError:
        if not _inside(path):
            return None
        attrs = {}
    if RUN_MARK not in attrs:
        raise FileExistsError(f"{path!r} exists and is no {KIND}: give another path")
    mark = parse_json(str(attrs[RUN_MARK]), path)
    if mark.get("state") != "new":
        _require_nothing_else(path, mark.get("arrays"))
    return mark


def _inside(path: str) -> list[str]:
    """Names in a folder here or far away, and in its folders, as "nee/c"."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(path)
    found = fs.find(root, maxdepth=2, withdirs=True) if fs.exists(root) else []
    return [name for one in found if (name := one.removeprefix(root).strip("/"))]


def _require_nothing_else(path: str, arrays: list[str] | None) -> None:
    """A store may have been copied, attributes and all, into one of the user's, or the user's files into the store."""
    names = [name for name in _inside(path) if not name.endswith((".part", ".partial"))]
    others = [n for n in names if arrays and "/" not in n and n not in ("zarr.json", *arrays)]
    inner = [n.split("/") for n in names if "/" in n]
    others += [f"{of}/{name}" for of, name in inner if of not in others and name not in ("zarr.json", "c")]
    if others:
        said = ", ".join(sorted(others)[:5])
        raise FileExistsError(f"{path!r} holds {said}, which no {KIND} has: give another path")


def check_whole(path: str, names: tuple[str, ...], mark: dict[str, Any]) -> None:
    """An error where a store has lost an array, or a part of its coordinates, so that it cannot be gone on with."""
    import zarr

    with blamed_on(path, f"an {KIND}; give overwrite=True or another path"):
        found = set(zarr.open_group(path, mode="r", use_consolidated=False))
    lost = sorted(set(mark.get("arrays", names)) - found)
    if lost:
        raise OSError(f"{path!r} is damaged: it has lost {', '.join(lost)}; give overwrite=True or another path")
    with blamed_on(path, f"an {KIND}; give overwrite=True or another path"):
        as_written = mark.get("coordinates") in (None, _coordinates(path, names))
    if not as_written:
        raise OSError(f"{path!r} is damaged: its coordinates are not as written; give overwrite=True or another path")


def _coordinates(path: str, names: tuple[str, ...]) -> str:
    """Digest of every array but those of ``names`` (coordinates, bounds) and of how all are laid out and described."""
    import zarr

    group = zarr.open_group(path, mode="r", use_consolidated=False)
    arrays = {name: group[name] for name in sorted(group)}
    laid = {name: [str(a.dtype), a.shape, a.chunks, dict(a.attrs), str(a.fill_value)] for name, a in arrays.items()}
    return digest(laid, {name: array[...] for name, array in arrays.items() if name not in names})


def create(
    path: str, template: xr.Dataset, chunks: dict[str, tuple[int, ...]], mark: dict[str, Any] | None = None
) -> None:
    """Write the metadata and coordinates of a store whose variables in ``chunks`` are yet to be written, by region.

    ``template``: the whole, lazy. ``chunks``: lengths of the chunks of each of its float32 variables. ``mark``: what is
    kept in the store's attributes. It says "made" only at the end, so that half a store is seen.
    """
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    template = template.assign_attrs({RUN_MARK: json.dumps((mark or {}) | {"state": "new"})})
    zarr.open_group(path, mode="w", zarr_format=3, attributes={RUN_MARK: template.attrs[RUN_MARK]})
    codecs = (ZstdCodec(level=1), Crc32cCodec())
    encoding = {n: {"chunks": c, "compressors": codecs, "_FillValue": np.float32(np.nan)} for n, c in chunks.items()}
    template.to_zarr(path, mode="a", compute=False, encoding=encoding, zarr_format=3, consolidated=False)
    arrays = sorted(zarr.open_group(path, mode="r").array_keys())
    _mark(path, state="made", arrays=arrays, coordinates=_coordinates(path, tuple(chunks)))


def put(path: str | Path, piece: xr.Dataset, where: dict[str, slice]) -> None:
    """Write values, as float32, into their place in a store; parts of different chunks may be written at once."""
    import zarr

    group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
    for name, field in piece.data_vars.items():
        place = tuple(where.get(str(d), slice(None)) for d in field.dims)
        group[str(name)][place] = field.values


def remove(path: str) -> None:
    """Delete a store that :func:`read_mark` has been asked about."""
    if "://" in path:
        import zarr

        zarr.open_group(path, mode="w")
    else:
        shutil.rmtree(path)


def clean(path: str) -> None:
    """Remove what a killed writer left beside the chunks."""
    for rest in () if "://" in path else Path(path).rglob("*.partial"):
        rest.unlink(missing_ok=True)


def gather_metadata(path: str | Path) -> None:
    """Copy the arrays' metadata into the group's, so that a store opens in one read.

    ``zarr.consolidate_metadata`` does the same with a warning to every caller, which cannot be kept from the user
    without changing the filters of all threads.

    >>> import tempfile, xarray as xr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = xr.Dataset({"nee": ("lat", [1.0, 2.0])}).to_zarr(f"{folder}/a.zarr", consolidated=False)
    ...     gather_metadata(f"{folder}/a.zarr")
    ...     xr.open_zarr(f"{folder}/a.zarr", consolidated=True)["nee"].values.tolist()
    [1.0, 2.0]
    """
    import fsspec
    import zarr

    def note(inner: str) -> str:
        return f"{path}/{inner}zarr.json"

    def read(inner: str) -> dict:
        with fsspec.open(note(inner), "rt", encoding="utf-8") as file:
            return json.load(file)

    names = sorted(zarr.open_group(str(path), mode="r", use_consolidated=False).array_keys())
    gathered = {"kind": "inline", "must_understand": False, "metadata": {name: read(f"{name}/") for name in names}}
    group = {key: value for key, value in read("").items() if key != "consolidated_metadata"}
    whole_group = group | {"consolidated_metadata": gathered}
    if "://" not in str(path):
        write_json(note(""), whole_group)
        return
    with fsspec.open(note(""), "wt", encoding="utf-8") as file:
        json.dump(whole_group, file, indent=2)
