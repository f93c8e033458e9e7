"""A land fraction from a file of its own, laid on a product's grid."""

from pathlib import Path

import numpy as np
import xarray as xr

from xflux.catalogue.table import ProductError
from xflux.cells import positions
from xflux.reading import netcdf
from xflux.values import LAND_NAMES, shares

_NAMES = (*LAND_NAMES, "lf")
_RENAME = {"latitude": "lat", "longitude": "lon", "y": "lat", "x": "lon"}


def with_land_fraction(ds: xr.Dataset, source: str | Path | xr.DataArray | xr.Dataset) -> xr.Dataset:
    """``ds`` with the coordinate ``land_fraction`` (lat, lon), 0–1, matched cell by cell to its grid."""
    fraction = land_fraction_in(source)
    fraction = fraction.rename({k: v for k, v in _RENAME.items() if k in fraction.dims}).squeeze(drop=True)
    if set(fraction.dims) != {"lat", "lon"}:
        raise ProductError(f"land_fraction needs the dims lat and lon, got {fraction.dims}")
    try:
        rows, columns = positions(fraction, ds, of="the land fraction's grid")
        values = shares(fraction.transpose("lat", "lon"))[np.ix_(rows, columns)]
    except ValueError as problem:
        raise ProductError(str(problem)) from None
    attrs = {"units": "1", "long_name": "share of the cell that is land"}
    return ds.assign_coords(land_fraction=(("lat", "lon"), values, attrs))


def land_fraction_in(source: str | Path | xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The land fraction of a file, by its name or as its only map."""
    if isinstance(source, xr.DataArray):
        return source
    if isinstance(source, xr.Dataset):
        return _fraction_in(source)
    with netcdf(source, "a land fraction in netCDF") as opened:
        return _fraction_in(opened).load()


def _fraction_in(opened: xr.Dataset) -> xr.DataArray:
    two_d = [v for v in opened.data_vars if opened[v].ndim >= 2]
    named = [v for v in two_d if str(v).lower() in _NAMES] or two_d
    if len(named) != 1:
        raise ProductError(f"which variable is the land fraction? found {', '.join(map(str, opened.data_vars))}")
    return opened[named[0]]
