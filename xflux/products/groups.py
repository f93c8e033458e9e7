"""HDF5 files whose months are groups (GFED4.1s): opened lazily, one time step per group."""

from pathlib import Path

import numpy as np
import xarray as xr

from . import times
from .table import Product, ProductError


def open_groups(path: Path, product: Product) -> xr.Dataset:
    """A flat Dataset: ``a/*/C`` for the month groups ``a/01/C`` … along time, ``b/x`` for fixed ones, 1-D lat/lon."""
    names = sorted({n for v in product.variables for n in v.names})
    try:
        tree = xr.open_datatree(path, engine="h5netcdf", phony_dims="sort", decode_times=False, chunks={})
    except (OSError, ValueError) as err:
        raise ProductError(f"{product.name}: cannot open {str(path)!r} as HDF5: {err}") from err
    lat, lon = _axes(tree, product, path)
    year = times.from_filename_year(path, product)
    data, months = {}, {}
    for name in names:
        if "*" in name:
            stacked = _months(tree, name, lat.size, lon.size)
            if stacked is not None:
                data[name], months[name] = stacked
        elif _get(tree, name) is not None:
            data[name] = _plain(_get(tree, name), lat.size, lon.size)
    found = sorted({m for v in months.values() for m in v})
    dates = [times._date(year, m, 1, "standard") for m in found]
    arrays = {n: (v.assign_coords(time=[dates[found.index(m)] for m in months[n]]) if n in months else v)
              for n, v in data.items()}
    return xr.Dataset(arrays, coords={"lat": ("lat", lat), "lon": ("lon", lon)}, attrs=dict(tree.attrs))


def _get(tree: xr.DataTree, path: str) -> xr.DataArray | None:
    group, _, name = path.rpartition("/")
    try:
        node = tree[group] if group else tree
    except KeyError:
        return None
    return node.dataset[name] if name in node.dataset.variables else None


def _plain(da: xr.DataArray, nlat: int, nlon: int) -> xr.DataArray:
    """A (lat, lon) array from one with phony dims."""
    if da.shape != (nlat, nlon):
        raise ProductError(f"group variable {da.name!r} has shape {da.shape}, expected {(nlat, nlon)}")
    return xr.DataArray(da.data, dims=("lat", "lon"), attrs=da.attrs)


def _months(tree: xr.DataTree, pattern: str, nlat: int, nlon: int) -> tuple[xr.DataArray, list[int]] | None:
    """All months of ``a/*/C`` along time, with their numbers."""
    parent, _, name = pattern.partition("/*/")
    try:
        groups = sorted(g for g in tree[parent].children if g.isdigit() and 1 <= int(g) <= 12)
    except KeyError:
        return None
    steps = {int(g): _get(tree, f"{parent}/{g}/{name}") for g in groups}
    steps = {m: _plain(da, nlat, nlon) for m, da in steps.items() if da is not None}
    if not steps:
        return None
    return xr.concat(list(steps.values()), dim="time", combine_attrs="override"), list(steps)


def _axes(tree: xr.DataTree, product: Product, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """1-D latitude and longitude from 2-D ones that vary along one dim only."""
    axes = []
    for name, axis in (("lat", 1), ("lon", 0)):
        da = _get(tree, name)
        if da is None:
            raise ProductError(f"{path.name} does not look like {product.name}: expected {name!r} in its root group")
        values = da.values
        if values.ndim == 2:
            first = np.take(values, 0, axis=axis)
            if not np.allclose(values, np.expand_dims(first, axis), atol=1e-5):
                raise ProductError(f"{path.name}: {name} varies along both dims (a curvilinear grid)")
            values = first
        axes.append(values)
    return axes[0], axes[1]
