"""HDF5 files whose months are groups (GFED4.1s): opened lazily, one time step per group."""

from pathlib import Path

import numpy as np
import xarray as xr

from xflux.catalogue import times
from xflux.catalogue.table import Product, ProductError
from xflux.temporal.dates import date as calendar_date


def open_groups(path: Path, product: Product) -> xr.Dataset:
    """A flat Dataset: ``a/*/C`` for the month groups ``a/01/C`` … along time, ``b/x`` for fixed ones, 1-D lat/lon."""
    known = _paths(path)
    lat, lon = (_axis(path, known, name, product) for name in ("lat", "lon"))
    year = times.from_filename_year(path, product)
    data = {}
    for name in sorted({n for v in product.variables for n in v.names}):
        months = range(1, 13) if "*" in name else (1,)
        found = {m: text for m in months if (text := name.replace("*", f"{m:02d}")) in known}
        maps = {m: _flat(path, text, (lat.size, lon.size)) for m, text in found.items()}
        if "*" in name and maps:
            stacked = xr.concat(list(maps.values()), dim="time", combine_attrs="override")
            data[name] = stacked.assign_coords(time=[calendar_date(year, m, 1, "standard") for m in maps])
        elif maps:
            data[name] = maps[1]
    return xr.Dataset(data, coords={"lat": ("lat", lat), "lon": ("lon", lon)})


def _paths(path: Path) -> set[str]:
    """Paths of all variables in the file."""
    import netCDF4

    def walk(group, prefix: str) -> set[str]:
        own = {prefix + name for name in group.variables}
        return own.union(*(walk(g, f"{prefix}{name}/") for name, g in group.groups.items()))

    with netCDF4.Dataset(path) as file:
        return walk(file, "")


def _open(path: Path, variable: str) -> xr.DataArray:
    """One variable of one group, lazy; plain HDF5 has no dim names, so they come out as phony ones.

    Nothing is masked: HDF5's default fill value is 0, which would make every cell without fire a missing one.
    """
    group, _, name = variable.rpartition("/")
    options = {"decode_times": False, "mask_and_scale": False, "chunks": {}}
    ds = xr.open_dataset(path, group=group or None, engine="netcdf4", **options)
    return ds[name]


def _flat(path: Path, variable: str, shape: tuple[int, int]) -> xr.DataArray:
    da = _open(path, variable)
    if da.shape != shape:
        raise ProductError(f"{path.name}: {variable} has the shape {da.shape}, expected {shape} (lat, lon)")
    return xr.DataArray(da.data, dims=("lat", "lon"), attrs=da.attrs, name=variable)


def _axis(path: Path, known: set[str], name: str, product: Product) -> np.ndarray:
    """1-D latitude or longitude from a 2-D one that varies along one dim only."""
    if name not in known:
        top = ", ".join(sorted({p.split("/")[0] for p in known})) or "nothing"
        raise product.unlike(path, f"expected {name!r} in its root group, found {top}")
    values = _open(path, name).values
    if values.ndim < 2:
        return values
    axis = 1 if name == "lat" else 0
    first = np.take(values, 0, axis=axis)
    if not np.allclose(values, np.expand_dims(first, axis), atol=1e-5):
        raise ProductError(f"{path.name}: {name} varies along both dims (a curvilinear grid)")
    return first
