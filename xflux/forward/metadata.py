"""CF names, bounds and cell methods of a run's output."""

from typing import Any

import numpy as np
import xarray as xr

from xflux.align import is_date
from xflux.cells import cell_bounds, coordinate_bounds
from xflux.temporal.riding import RIDING, STAMP

_LONG_NAMES = {
    "nee": "net ecosystem exchange",
    "nbe": "net biosphere exchange",
    "gpp": "gross primary production",
    "ter": "terrestrial ecosystem respiration",
    "le": "latent heat flux",
    "h": "sensible heat flux",
}
_COORDS = {
    "lat": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y", "bounds": "lat_bnds"},
    "lon": {"standard_name": "longitude", "units": "degrees_east", "axis": "X", "bounds": "lon_bnds"},
    "time": {"standard_name": "time", "axis": "T", "bounds": "time_bnds"},
    "month": {"long_name": "month of the year", "units": "1"},
    "dayofyear": {"long_name": "day of the year", "units": "1"},
    "member": {"standard_name": "realization", "long_name": "member of the ensemble", "units": "1"},
}


def with_cf(result: xr.Dataset, grid: xr.Dataset, over_members: bool = False) -> xr.Dataset:
    """The result with CF attributes and bounds; nothing is computed. ``over_members``: fluxes are means of members."""
    from xflux import temporal

    out, grid = result.drop_vars(RIDING, errors="ignore"), temporal.standardise(grid)
    for dim in ("lat", "lon", "time"):
        bounds = _bounds(dim, out, grid)
        if bounds is not None:
            out[f"{dim}_bnds"] = bounds
    for name, coord in out.coords.items():
        attrs = {k: v for k, v in coord.attrs.items() if k != "bounds"} | _COORDS.get(name, {})
        if f"{name}_bnds" not in out:
            attrs.pop("bounds", None)
        if name == "time" and not is_date(coord):
            attrs.pop("standard_name", None)
        if "bounds" in attrs and name == "time" and (out["time_bnds"].values[:, 0] == coord.values).all():
            attrs["stamp"] = STAMP
        out[name].attrs = attrs
    for name in result.data_vars:
        _describe(out[name], str(name), over_members)
    out.attrs = {"Conventions": "CF-1.11", "title": "Fluxes from a forward run of xflux"} | out.attrs
    return out.drop_encoding()


def _describe(da: xr.DataArray, name: str, over_members: bool) -> None:
    target = name.removesuffix("_std")
    methods = [f"{d}: mean" for d in ("time",) if d in da.dims]
    methods += [f"{d}: mean (comment: climatology, over years)" for d in ("month", "dayofyear") if d in da.dims]
    if {"lat", "lon"} <= set(da.dims):
        methods.append("area: mean where land")
    if over_members:
        methods.append(f"realization: {'mean' if name == target else 'standard_deviation'}")
    da.attrs.setdefault("long_name", _LONG_NAMES.get(target, target.replace("_", " ")))
    da.attrs["cell_methods"] = " ".join(methods)


def _bounds(dim: str, out: xr.Dataset, grid: xr.Dataset) -> xr.DataArray | None:
    """Bounds that the grid has for these very steps, else those inferred from the coordinate."""
    if dim not in out.coords or dim not in out.dims:
        return None
    if dim in ("lat", "lon"):
        values = _edges(out[dim], grid)
        return None if values is None else xr.DataArray(values, dims=(dim, "bnds"))
    given = grid[dim].attrs.get("bounds", f"{dim}_bnds") if dim in grid.coords else f"{dim}_bnds"
    if given in grid.variables and grid[given].dims[:1] == (dim,) and grid[given].ndim == 2:
        found = grid[given].rename({grid[given].dims[1]: "bnds"}).reset_coords(drop=True)
        try:
            values = found.sel({dim: out[dim]}).values
        except KeyError:
            values = None
        if values is not None:
            return xr.DataArray(values, dims=(dim, "bnds"))
    values = _time_bounds(out["time"])
    return None if values is None else xr.DataArray(values, dims=(dim, "bnds"))


def _edges(coord: xr.DataArray, grid: xr.Dataset) -> Any:
    own = coord.name in grid.coords and grid[coord.name].equals(coord)
    try:
        return cell_bounds(coord, coordinate_bounds(grid, coord.name) if own else None)
    except ValueError:  # a single row, or bounds that are left from another grid
        return None


def _time_bounds(coord: xr.DataArray) -> Any:
    """Regular steps from stamp to stamp, months as calendar months; else none."""
    if not is_date(coord):
        return None
    try:
        from xflux.temporal import time_bounds

        return time_bounds(xr.DataArray(np.zeros(coord.size), {"time": coord}, ("time",))).values
    except (ImportError, ValueError):
        return None
