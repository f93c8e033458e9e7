"""Driver files as one Dataset."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import xarray as xr

from xflux import stores
from xflux.files import require_place, whole
from xflux.reading import one_after_another, open_lazily

NETCDF = "xflux fluxes"
_KEPT = ("units", "calendar", "dtype", "_FillValue")


def open_drivers(paths: list[str], names: Sequence[str] = ()) -> xr.Dataset:
    """The driver files as one Dataset, read when a region needs them; their grids must be the same.

    Files with the same drivers of different times (a file a year) are one after another. Otherwise each driver in
    ``names`` must be in one file only; of other variables (bounds, land masks) the first is taken.
    """
    parts = {}
    for path in map(os.path.expanduser, paths):
        if "://" not in path and not Path(path).exists():
            raise FileNotFoundError(f"predict: there is no file {path}")
        parts[path] = open_lazily(path)
    parts = _one_after_another(parts, names)
    for name in names:
        having = [path for path, ds in parts.items() if name in ds.variables]
        if len(having) > 1:
            raise ValueError(
                f"predict: driver {name!r} is in {' and '.join(having)}; give files that have each driver once, or "
                "the same drivers at different times"
            )
    try:
        return xr.merge(parts.values(), join="exact", compat="override", combine_attrs="drop_conflicts")
    except ValueError as error:
        raise ValueError(f"predict: the driver files are on different grids or times: {error}") from error


def _one_after_another(opened: dict[str, xr.Dataset], names: Sequence[str]) -> dict[str, xr.Dataset]:
    """Files whose drivers all have a time axis, and are the same drivers, as one Dataset in the order of time."""
    groups: dict[object, list[str]] = {}
    for path, ds in opened.items():
        own = frozenset(name for name in names if name in ds.variables)
        dated = own and all("time" in ds[name].dims for name in own)
        groups.setdefault(own if dated else path, []).append(path)
    joined = {}
    for paths in groups.values():
        if len(paths) == 1:
            joined[paths[0]] = opened[paths[0]]
            continue
        paths = sorted(paths, key=lambda path: opened[path]["time"].values[0])
        for one, following in pairwise(paths):
            if opened[one]["time"].values[-1] >= opened[following]["time"].values[0]:
                raise ValueError(f"predict: the times of {one} and {following} overlap; give each time once")
        try:
            joined[", ".join(paths)] = one_after_another([opened[path] for path in paths])
        except ValueError as error:
            raise ValueError(f"predict: {' and '.join(paths)} are on different grids: {error}") from error
    return joined


def store_beside(path: str, overwrite: bool = False) -> str:
    """The Zarr store that a run to a netCDF file is written to until it is whole, so that it can go on.

    Raises FileExistsError: the file is there, and is not ours or is not to be overwritten.
    """
    require_place(path, NETCDF)
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path!r} is a finished run; give another path, or overwrite=True")
    return f"{path}.part.zarr"


def to_netcdf(store: str, path: str) -> None:
    """Put a finished run into a netCDF file, region by region, and remove the store."""
    with xr.open_zarr(store, chunks={}, consolidated=False) as ds:
        for name in ds.variables:
            ds[name].encoding = {k: v for k, v in ds[name].encoding.items() if k in _KEPT}
        ds.attrs = {key: value for key, value in ds.attrs.items() if key != "xflux_run"} | {"xflux": NETCDF}
        with whole(path, NETCDF) as part:
            ds.to_netcdf(part)
    stores.remove(store)
