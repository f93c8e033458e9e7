"""The Zarr store of a run: made once, written by region, asked which chunks are missing or damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux.stores import gather_metadata

Region = tuple[slice, ...]  # over the dims of one plane
MARK = "xflux_run"


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
        self._mark(state="complete")
        gather_metadata(self.path)

    def _mark(self, **changes: Any) -> None:
        import zarr

        group = zarr.open_group(self.path, mode="r+")
        group.attrs[MARK] = json.dumps(json.loads(group.attrs[MARK]) | changes)


def read_mark(path: str) -> dict[str, Any] | None:
    """What a run left in the store's attributes; None where there is no store; an error where it is not a run's."""
    import zarr

    local = Path(path) if "://" not in path else None
    if local is not None and (not local.exists() or (local.is_dir() and not any(local.iterdir()))):
        return None
    try:
        attrs = dict(zarr.open_group(path, mode="r").attrs)
    except FileNotFoundError as error:
        if local is None:
            return None
        raise FileExistsError(_not_ours(path)) from error
    if MARK not in attrs:
        raise FileExistsError(_not_ours(path))
    return json.loads(attrs[MARK])


def _not_ours(path: str) -> str:
    return f"run: {path} exists and is no store of a forward run; give another path, or overwrite=True to replace it"


def create(path: str, template: xr.Dataset, names: tuple[str, ...], chunks: dict[str, int], mark: dict) -> None:
    """Write the metadata and coordinates. The mark says "made" only at the end, so that half a store is seen."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs[MARK] = json.dumps(mark | {"state": "new"})
    codecs = (ZstdCodec(level=1), Crc32cCodec())
    encoding = {n: {"chunks": tuple(chunks[d] for d in template[n].dims), "compressors": codecs} for n in names}
    for name in names:
        encoding[name]["_FillValue"] = np.float32(np.nan)
    template.to_zarr(path, mode="a", compute=False, encoding=encoding, zarr_format=3, consolidated=False)
    group = zarr.open_group(path, mode="r+")
    group.attrs[MARK] = json.dumps(mark | {"state": "made"})


def remove(path: str) -> None:
    """Delete a store."""
    if "://" in path:
        import zarr

        zarr.open_group(path, mode="w")
    elif Path(path).is_dir():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def clean(path: str) -> None:
    """Remove what a killed writer left beside the chunks."""
    if "://" not in path:
        for rest in Path(path).rglob("*.partial"):
            rest.unlink(missing_ok=True)
