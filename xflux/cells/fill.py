"""Land cells without drivers take those of the nearest cell that has them."""

import numpy as np
import xarray as xr

from xflux.cells.axes import standardise
from xflux.cells.match import positions


def fill_nearest(grid: xr.Dataset, land: xr.DataArray, max_distance: float = 1.0) -> tuple[xr.Dataset, int]:
    """Fill land cells whose drivers are missing from the nearest cell with complete drivers.

    Along coasts land masks differ. A land cell that lacks a value of any driver takes, where its own is missing, the
    value of the nearest cell that has all drivers at all steps, at most ``max_distance`` away. Distance is the
    great-circle angle between cell centres (1° = 111.2 km), so it crosses the dateline and the poles.

    Parameters
    ----------
    grid
        Dataset of drivers with the dims lat and lon; other variables are passed through.
    land
        (lat, lon) on the grid's cells: True, or a fraction > 0, on land.
    max_distance
        Degrees of great circle.

    Returns
    -------
    tuple[xr.Dataset, int]
        (the filled Dataset, the number of land cells that were filled). The Dataset's ``attrs["filled_cells"]`` and
        ``attrs["land_cells_without_drivers"]`` (out of reach) say the same. Lazy variables stay lazy; finding out where
        drivers are missing reads them once.

    Raises
    ------
    ValueError
        No variable over lat and lon.

    Examples
    --------
    >>> lon = [-179.5, -178.5, 179.5]
    >>> grid = xr.Dataset({"t": (("lat", "lon"), [[1.0, np.nan, np.nan]])}, {"lat": [0.0], "lon": lon})
    >>> filled, n = fill_nearest(grid, grid.t.fillna(1) > 0)
    >>> filled.t.values, n
    (array([[1., 1., 1.]]), 2)
    """
    grid = standardise(grid)
    drivers = [n for n, v in grid.data_vars.items() if {"lat", "lon"} <= set(v.dims) and v.dtype.kind == "f"]
    if not drivers:
        raise ValueError(f"the grid has no driver over lat and lon; it has {list(grid.data_vars)}")
    steps = {n: [d for d in grid[n].dims if d not in ("lat", "lon")] for n in drivers}
    complete = xr.Dataset({n: grid[n].notnull().all(steps[n]) for n in drivers})
    complete = complete.compute().to_dataarray("driver").all("driver")
    taker, giver, said = coasts(complete, land, max_distance)
    out = grid.assign({n: _take(grid[n], taker, giver) for n in drivers}) if len(taker) else grid.copy()
    out.attrs |= said
    return out, len(taker)


def coasts(complete: xr.DataArray, land: xr.DataArray, max_distance: float) -> tuple[np.ndarray, np.ndarray, dict]:
    """Land cells that lack drivers and the nearest that have all, each (n, 2) by row and column; and how many.

    >>> has = xr.DataArray([[True, False, False]], {"lat": [0.0], "lon": [0.0, 1.0, 9.0]}, ("lat", "lon"))
    >>> coasts(has, xr.ones_like(has), 1.0)
    (array([[0, 1]]), array([[0, 0]]), {'filled_cells': 1, 'land_cells_without_drivers': 1})
    """
    complete = complete.transpose("lat", "lon")
    takers, givers = np.argwhere(_on_grid(land, complete) & ~complete.values), np.argwhere(complete.values)
    taker, giver = _nearest(takers, givers, complete, max_distance)
    return taker, giver, {"filled_cells": len(taker), "land_cells_without_drivers": len(takers) - len(taker)}


def near_land(land: xr.DataArray, max_distance: float) -> xr.DataArray:
    """Cells (lat, lon) that are land (a fraction > 0), or whose centre is at most some degrees from that of one.

    >>> land = xr.DataArray([[1.0, 0.0, 0.0, 0.0]], {"lat": [0.0], "lon": [0.0, 1.0, 2.0, 359.0]}, ("lat", "lon"))
    >>> near_land(land, 1.0).values
    array([[ True,  True, False,  True]])
    """
    found = land.transpose("lat", "lon") > 0
    near, _ = _nearest(np.argwhere(~found.values), np.argwhere(found.values), land, max_distance)
    found.values[tuple(near.T)] = True
    return found


def _on_grid(land: xr.DataArray, grid: xr.DataArray) -> np.ndarray:
    """The land mask as booleans on the grid's cells (lat, lon); jitter in the coordinates is allowed, no more."""
    land = standardise(land)
    row, column = positions(land, grid, of="the land mask")
    mask = land.isel(lat=row, lon=column)
    values = mask.transpose("lat", "lon").values
    return values if values.dtype == bool else np.nan_to_num(values.astype(float)) > 0


def _nearest(takers: np.ndarray, givers: np.ndarray, grid: xr.Dataset, max_distance: float):
    """Cells (lat, lon index) that can be filled, and for each the cell to take from."""
    from scipy.spatial import cKDTree

    if not len(takers) or not len(givers):
        return takers[:0], givers[:0]
    chord = 2 * np.sin(np.deg2rad(min(max_distance, 180)) / 2)
    tree = cKDTree(_unit_vectors(givers, grid))
    # a hair wider, so that a cell at exactly max_distance counts
    gap, index = tree.query(_unit_vectors(takers, grid), distance_upper_bound=chord * (1 + 1e-6))
    found = np.isfinite(gap)
    return takers[found], givers[index[found]]


def _unit_vectors(cells: np.ndarray, grid: xr.Dataset) -> np.ndarray:
    lat, lon = np.deg2rad(grid["lat"].values[cells[:, 0]]), np.deg2rad(grid["lon"].values[cells[:, 1]])
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _take(da: xr.DataArray, taker: np.ndarray, giver: np.ndarray) -> xr.DataArray:
    """Where a taker's value is missing, the giver's."""

    def numpy(values: np.ndarray) -> np.ndarray:
        out = values.copy()
        own, other = out[..., taker[:, 0], taker[:, 1]], values[..., giver[:, 0], giver[:, 1]]
        out[..., taker[:, 0], taker[:, 1]] = np.where(np.isnan(own), other, own)
        return out

    filled = xr.apply_ufunc(
        numpy, da, input_core_dims=[["lat", "lon"]], output_core_dims=[["lat", "lon"]], dask="parallelized",
        output_dtypes=[da.dtype], keep_attrs=True, dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    return filled.transpose(*da.dims)
