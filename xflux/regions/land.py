"""Land fractions: in whatever form they come, on the grid at hand."""

import re
from collections.abc import Hashable

import numpy as np
import xarray as xr

from xflux.cells import Cells, carry, standardise
from xflux.values import LAND_NAMES, shares, warn

_SEA = re.compile(r"sea_area|(sea|ocean|water)_?frac|sftof", re.IGNORECASE)


def land_array(land_fraction: xr.DataArray) -> xr.DataArray:
    """A land fraction (lat, lon); what repeats along another dim, as ``open_mfdataset`` makes it, is taken once.

    Raises TypeError: anything without coordinates; ValueError: it changes along another dim, or is that of the sea.
    """
    if not isinstance(land_fraction, xr.DataArray):
        kind = type(land_fraction).__name__
        one = ": give one of its variables, as in ds['sftlf']" if kind == "Dataset" else ""
        raise TypeError(f"land_fraction must be a DataArray (lat, lon) with its coordinates, not {kind}{one}.")
    said = str(land_fraction.attrs.get("standard_name", land_fraction.name))
    if _SEA.search(said):
        raise ValueError(
            f"land_fraction is {said!r}, the share of the sea: give that of the land, as in "
            "(1 - share).drop_attrs().rename('land_fraction')."
        )
    land = standardise(land_fraction)
    for dim in [dim for dim in land.dims if dim not in ("lat", "lon")]:
        land = once(land, dim, "land_fraction")
    return land.transpose("lat", "lon")


def once(da: xr.DataArray, dim: Hashable, name: str) -> xr.DataArray:
    """What repeats along a dim; an error where it changes."""
    first = da.isel({dim: 0}, drop=True)
    if da.sizes[dim] > 1 and not bool(((da == first) | (da.isnull() & first.isnull())).all()):
        raise ValueError(f"{name} changes along {dim!r}: select one of {dim!r}, or take a mean over it.")
    return first


def land_on(land_fraction: xr.DataArray, cells: Cells) -> np.ndarray:
    """(cell) land fraction on a grid, brought over area for area; NaN is no land.

    Raises ValueError: values outside 0–1.
    """
    land = land_array(land_fraction)
    values = shares(land)
    bring = carry(land, cells)
    if not bring.exact and bring(np.ones(land.shape)).min() < 0.999:
        warn("land_fraction does not reach over all of the grid; cells outside it are taken as without land.")
    return np.clip(bring(values), 0, 1).ravel()


def own_land(grid: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """The product's own land fraction: by its name, or by the CF name land_area_fraction."""
    known = {name: da for name, da in {**getattr(grid, "data_vars", {}), **grid.coords}.items() if da.ndim >= 2}
    by_name = {str(name).lower(): da for name, da in known.items()}
    named = [da for da in known.values() if da.attrs.get("standard_name") == "land_area_fraction"]
    found = [by_name[name] for name in LAND_NAMES[:2] if name in by_name] or (named if len(named) == 1 else [])
    return next(iter([*found, *(by_name[name] for name in LAND_NAMES if name in by_name)]), None)
