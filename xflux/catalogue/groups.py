"""HDF5 files whose months are groups (GFED4.1s): opened lazily, one time step per group."""

from pathlib import Path

import numpy as np
import xarray as xr

from xflux.catalogue import times
from xflux.catalogue.table import Product, ProductError
from xflux.temporal.dates import date as calendar_date


def open_groups(path: Path, product: Product) -> xr.Dataset:
    """A flat Dataset: ``a/*/C`` for the month groups ``a/01/C`` … along time, ``b/x`` for fixed ones, 1-D lat/lon."""
    names = sorted({n for v in product.variables for n in v.names})
    paths = _paths(path)
    lat, lon = _axes(path, paths, product)
    year = times.from_filename_year(path, product)
    data = {}
    for name in names:
        found = _matching(paths, name)
        arrays = [_flat(path, p, lat.size, lon.size) for p in found.values()]
        if "*" in name and arrays:
            dates = [calendar_date(year, m, 1, "standard") for m in found]
            stacked = xr.concat(arrays, dim="time", combine_attrs="override")
            data[name] = stacked.assign_coords(time=dates)
        elif arrays:
            data[name] = arrays[0]
    return xr.Dataset(data, coords={"lat": ("lat", lat), "lon": ("lon", lon)})


def _paths(path: Path) -> set[str]:
    """Paths of all variables in the file."""
    import netCDF4

    def walk(group, prefix: str) -> set[str]:
        own = {prefix + name for name in group.variables}
        return own.union(*(walk(g, f"{prefix}{name}/") for name, g in group.groups.items()))

    with netCDF4.Dataset(path) as file:
        return walk(file, "")


def _matching(paths: set[str], pattern: str) -> dict[int, str]:
    """{month: path} of the group variables of ``a/*/C``; {0: path} of a plain one."""
    if "*" not in pattern:
        return {0: pattern} if pattern in paths else {}
    candidates = {m: pattern.replace("*", f"{m:02d}") for m in range(1, 13)}
    return {m: p for m, p in candidates.items() if p in paths}


def _open(path: Path, variable: str) -> xr.DataArray:
    """One variable of one group, lazy; plain HDF5 has no dim names, so they come out as phony ones.

    Nothing is masked: HDF5's default fill value is 0, which would make every cell without fire a missing one.
    """
    group, _, name = variable.rpartition("/")
    options = {"decode_times": False, "mask_and_scale": False, "chunks": {}}
    ds = xr.open_dataset(path, group=group or None, engine="netcdf4", **options)
    return ds[name]


def _flat(path: Path, variable: str, nlat: int, nlon: int) -> xr.DataArray:
    """A (lat, lon) array of one variable."""
    da = _open(path, variable)
    if da.shape != (nlat, nlon):
        raise ProductError(f"{path.name}: {variable} has the shape {da.shape}, expected {(nlat, nlon)} (lat, lon)")
    return xr.DataArray(da.data, dims=("lat", "lon"), attrs=da.attrs, name=variable)


def _axes(path: Path, paths: set[str], product: Product) -> tuple[np.ndarray, np.ndarray]:
    """1-D latitude and longitude from 2-D ones that vary along one dim only."""
    axes = []
    for name, axis in (("lat", 1), ("lon", 0)):
        if name not in paths:
            top = ", ".join(sorted({p.split("/")[0] for p in paths})) or "nothing"
            raise product.unlike(path, f"expected {name!r} in its root group, found {top}")
        values = _open(path, name).values
        if values.ndim == 2:
            first = np.take(values, 0, axis=axis)
            if not np.allclose(values, np.expand_dims(first, axis), atol=1e-5):
                raise ProductError(f"{path.name}: {name} varies along both dims (a curvilinear grid)")
            values = first
        axes.append(values)
    return axes[0], axes[1]
