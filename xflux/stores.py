"""Zarr stores."""

import json
from pathlib import Path


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
    with fsspec.open(note(""), "wt", encoding="utf-8") as file:
        json.dump(group | {"consolidated_metadata": gathered}, file, indent=2)
