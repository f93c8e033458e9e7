"""Which cells a constraint looks at, and what their flux counts for in each region."""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from xflux.train.constraints import RegionalConstraint, Target, match_regions
from xflux.train.data import GridRows, Scaling, grid_rows

MEAN_MONTH = 30.436875  # d, to which a bridge's weights refer


@dataclass(frozen=True)
class Pixels:
    """Cells and what their flux counts for: ``area (pixel,)`` split among regions (``share`` sums to 1 at most)."""

    rows: GridRows
    area: torch.Tensor
    region: torch.Tensor
    share: torch.Tensor
    intercept: torch.Tensor


def regional_pixels(constraint: RegionalConstraint, target: Target, scaling: Scaling, dtype, device):
    """The constraint's pixels and each region's modelled land in m2, in the target's order."""
    if constraint.kind == "bridge":
        return _bridge_pixels(constraint, target, scaling, dtype, device)
    weights = _region_weights(constraint)
    order = match_regions(target.regions, tuple(map(str, weights["region"].values)), "regions=")
    table = weights.data.to_scipy_sparse() if weights.ndim == 2 else _sparse(weights)
    table = table.tocsr()[order].tocsc()
    table.eliminate_zeros()
    counts = np.diff(table.indptr)
    wanted = np.flatnonzero(counts)
    rows = grid_rows(constraint.drivers, scaling, wanted, dtype, device)
    region, share = _padded(table[:, rows.cells], int(counts.max(initial=1)))
    area = share.sum(1)
    modelled = share if rows.valid is None else share * rows.valid.double().mean(1, keepdim=True).cpu().numpy()
    by_region = np.bincount(region.ravel(), modelled.ravel(), len(target.regions))

    def tensor(a, t=torch.float64):
        return torch.tensor(a, dtype=t, device=device)

    intercept = torch.zeros(len(target.regions), dtype=torch.float64, device=device)
    pixels = Pixels(rows, tensor(area * 1e-15), tensor(region, torch.int64), tensor(share / area[:, None]), intercept)
    return pixels, by_region


def _region_weights(constraint: RegionalConstraint) -> xr.DataArray:
    given = constraint.regions
    if isinstance(given, xr.DataArray) and given.attrs.get("units") == "m2" and "region" in given.dims:
        return given.transpose("region", "lat", "lon")
    from xflux.regions import region_weights

    weights = region_weights(constraint.drivers, given, area_basis="land", land_fraction=constraint.land_fraction)
    return weights.transpose("region", "lat", "lon")


def _sparse(weights: xr.DataArray):
    from scipy.sparse import csr_array

    data = weights.data
    if hasattr(data, "coords"):
        flat = np.ravel_multi_index(data.coords[1:], data.shape[1:])
        shape = (data.shape[0], int(np.prod(data.shape[1:])))
        return csr_array((data.data, (data.coords[0], flat)), shape=shape)
    return csr_array(np.nan_to_num(np.asarray(data, float)).reshape(data.shape[0], -1))


def _padded(table, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Region numbers and m2 ``(pixel, width)`` of a (region × pixel) table in columns; unused places hold 0 m2."""
    n = table.shape[1]
    counts = np.diff(table.indptr)
    place = np.arange(table.nnz) - np.repeat(table.indptr[:-1], counts)
    pixel = np.repeat(np.arange(n), counts)
    region, share = np.zeros((n, width), np.int64), np.zeros((n, width))
    region[pixel, place], share[pixel, place] = table.indices, table.data
    return region, share


def _bridge_pixels(constraint: RegionalConstraint, target: Target, scaling: Scaling, dtype, device):
    bridge, grid = constraint.bridge, constraint.drivers
    names = tuple(map(str, bridge.regions["region"].values))
    order = match_regions(target.regions, names, "the bridge")
    number = {names[i]: place for place, i in enumerate(order)}
    table = bridge.pixels
    cells = _cells(grid, table["lat"].values, table["lon"].values)
    rows = grid_rows(grid, scaling, cells, dtype, device)
    if len(rows.cells) < len(cells) or rows.incomplete:
        lost = len(cells) - len(rows.cells) + rows.incomplete
        raise ValueError(
            f"{lost} contributing pixels of the bridge have NaN in a driver: fill them (xflux.drivers.fill_nearest) "
            "or fit the bridge on a flux that has the drivers' cells"
        )
    region = np.array([number[str(name)] for name in table["region"].values])[:, None]

    def tensor(a, t=torch.float64):
        return torch.tensor(np.asarray(a), dtype=t, device=device)

    weight = np.asarray(table["weight"].values, float) / MEAN_MONTH
    intercept = np.asarray(bridge.regions["intercept"].values, float)[order] / MEAN_MONTH
    area = np.asarray(bridge.regions["land_area"].values, float)[order]
    area = np.where(np.isfinite(intercept), area, 0.0)  # a region that the bridge has no pixels for is left out
    pixels = Pixels(rows, tensor(weight), tensor(region, torch.int64), tensor(np.ones_like(weight))[:, None],
                    tensor(intercept))  # fmt: skip
    return pixels, area


def _cells(grid: xr.Dataset, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Flat numbers of the cells with these centres (longitude modulo 360); raises where there is none."""
    grid_lat, grid_lon = grid["lat"].values, grid["lon"].values
    row = np.abs(grid_lat[None] - np.asarray(lat)[:, None]).argmin(1)
    apart = np.abs((grid_lon[None] - np.asarray(lon)[:, None] + 180) % 360 - 180)
    column = apart.argmin(1)
    off = (np.abs(grid_lat[row] - lat) > 1e-4) | (apart[np.arange(len(column)), column] > 1e-4)
    if off.any():
        first = np.flatnonzero(off)[0]
        raise ValueError(
            f"{off.sum()} of the bridge's {len(off)} pixels are no cells of the constraint's drivers, e.g. lat "
            f"{lat[first]}, lon {lon[first]}: the bridge and the drivers must be on one grid"
        )
    return row * len(grid_lon) + column
