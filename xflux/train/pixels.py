"""Which cells a constraint looks at, and what their flux counts for in each region."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr

from xflux.cells import cell_area, positions
from xflux.regions import region_weights
from xflux.regions.cover import WHOLE
from xflux.temporal.calendar import MEAN_MONTH
from xflux.train.constraints import RegionalConstraint
from xflux.train.data import Scaling, Setting
from xflux.train.grid import GridRows, grid_rows
from xflux.train.target import RegionalTarget, match_regions
from xflux.values import warn

GRAM = 1e-15  # Pg


@dataclass(frozen=True)
class Pixels:
    """Cells and what their flux counts for: ``area (pixel,)`` split among regions (``share`` sums to 1 at most)."""

    rows: GridRows
    area: torch.Tensor
    region: torch.Tensor
    share: torch.Tensor
    intercept: torch.Tensor


def regional_pixels(
    constraint: RegionalConstraint, names: tuple[str, ...], scaling: Scaling, config: Setting
) -> tuple[Pixels, np.ndarray, np.ndarray]:
    """All pixels of the regions, each region's modelled land in m2, and its share of the whole region's land.

    Regions are in the order of `names`. Land beyond the drivers' grid is the region's too.
    """
    from scipy.sparse import csr_array

    weights = region_weights_of(constraint)
    order = match_regions(names, tuple(map(str, weights["region"].values)), "regions=")
    table = csr_array(weights.data.reshape((weights.sizes["region"], -1)).tocsr())[order].tocsc()
    table.eliminate_zeros()
    _check_overlap(constraint, weights, table)
    counts = np.diff(table.indptr)
    wanted = np.flatnonzero(counts)
    rows = grid_rows(constraint.drivers, scaling, wanted, config.torch_dtype, config.torch_device, config.scratch)
    if not len(rows.cells):
        raise ValueError("no cell of the regions has all drivers: do drivers= and regions= lie on the same land?")
    region, share = _padded(table[:, rows.cells], int(counts.max(initial=1)))
    area = share.sum(1)
    by_region = np.bincount(region.ravel(), (share * rows.share[:, None]).ravel(), len(names))
    whole = np.asarray(table.sum(1)).ravel()
    if "whole_weight" in weights.coords:
        whole = weights["whole_weight"].values[order]
    of_whole = np.divide(by_region, whole, out=np.zeros(len(names)), where=whole > 0)
    pixels = _as_pixels(rows, area * GRAM, region, share / area[:, None], np.zeros(len(names)), config)
    return pixels, by_region, of_whole


def _as_pixels(rows: GridRows, area, region, share, intercept, config: Setting) -> Pixels:
    def tensor(values, dtype=torch.float64):
        return torch.tensor(np.asarray(values), dtype=dtype, device=config.torch_device)

    return Pixels(rows, tensor(area), tensor(region, torch.int64), tensor(share), tensor(intercept))


def keep_regions(pixels: Pixels, kept: np.ndarray) -> Pixels:
    """The same pixels with the regions `kept` only, numbered anew."""
    number = torch.full((len(pixels.intercept),), -1, device=pixels.region.device)
    index = torch.as_tensor(kept, device=pixels.region.device)
    number[index] = torch.arange(len(kept), device=pixels.region.device)
    region = number[pixels.region]
    share = torch.where(region >= 0, pixels.share, torch.zeros_like(pixels.share))
    return replace(pixels, region=region.clamp(min=0), share=share, intercept=pixels.intercept[index])


def _check_overlap(constraint: RegionalConstraint, weights: xr.DataArray, table) -> None:
    """Raise where the regions of a cell are together larger than it, or the set overlaps: land would count twice."""
    area = cell_area(constraint.drivers).transpose("lat", "lon").values.ravel()
    over = np.asarray(table.sum(0)).ravel() > area * (1 + 1e-6)
    if weights.attrs.get("regions_overlap") and not over.any():
        over = np.diff(table.indptr) > 1
    if over.any():
        raise ValueError(
            f"the regions overlap: in {over.sum()} cells they add up to more than the cell's land (e.g. number "
            f"{np.flatnonzero(over)[0]}); give the constraint regions that do not overlap, or one constraint each"
        )


def region_weights_of(constraint: RegionalConstraint) -> xr.DataArray:
    """The weights of the constraint's regions on its drivers' grid ``(region, lat, lon)``, m2."""
    return region_weights(
        constraint.drivers, constraint.regions, area_basis="land", land_fraction=constraint.land_fraction
    )


def _padded(table, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Region numbers and m2 ``(pixel, width)`` of a (region × pixel) table in columns; unused places hold 0 m2."""
    n = table.shape[1]
    counts = np.diff(table.indptr)
    place = np.arange(table.nnz) - np.repeat(table.indptr[:-1], counts)
    pixel = np.repeat(np.arange(n), counts)
    region, share = np.zeros((n, width), np.int64), np.zeros((n, width))
    region[pixel, place], share[pixel, place] = table.indices, table.data
    return region, share


def bridge_pixels(
    constraint: RegionalConstraint, names: tuple[str, ...], scaling: Scaling, config: Setting, bridge=None
) -> tuple[Pixels, np.ndarray, np.ndarray]:
    """The bridge's contributing pixels, weights and intercepts (Eq. 7), each region's land in m2, and its share: all.

    A pixel of two regions comes twice. A region for which the bridge has no prediction has no land.
    """
    bridge, grid = bridge or constraint.bridge, constraint.drivers
    labels = tuple(map(str, bridge.regions["region"].values))
    order = match_regions(names, labels, "the bridge")
    number = {labels[i]: place for place, i in enumerate(order)}
    table = bridge.pixels
    row, column = positions(grid, table, of="the constraint's drivers, which must be on the bridge's grid")
    cells = row * grid.sizes["lon"] + column
    rows = grid_rows(grid, scaling, cells, config.torch_dtype, config.torch_device)
    if len(rows.cells) < len(cells) or rows.incomplete:
        raise ValueError(
            f"{max(len(cells) - len(rows.cells), rows.incomplete)} contributing pixels of the bridge have NaN in a "
            "driver: fill them (xflux.drivers.fill_nearest) or fit the bridge on a flux that has the drivers' cells"
        )
    region = np.array([number[str(name)] for name in table["region"].values], int)[:, None]
    weight = np.asarray(table["weight"].values, float) / MEAN_MONTH
    intercept = np.asarray(bridge.regions["intercept"].values, float)[order] / MEAN_MONTH
    land = np.asarray(bridge.regions["land_area"].values, float)[order]
    land = np.where(np.isfinite(intercept), land, 0.0)
    pixels = _as_pixels(rows, weight, region, np.ones((len(weight), 1)), np.nan_to_num(intercept), config)
    return pixels, land, np.ones(len(land))


def whole_of_bridge(
    constraint: RegionalConstraint, names: tuple[str, ...], scaling: Scaling, config: Setting
) -> Pixels | None:
    """All pixels of a bridge's regions, where the constraint or the bridge says which; else None."""
    regions = constraint.regions
    if regions is None:
        regions = getattr(constraint.bridge, "weights", None)
    if regions is None:
        return None
    return regional_pixels(replace(constraint, regions=regions), names, scaling, config)[0]


def share_of_land(constraint: RegionalConstraint, names: np.ndarray, share: np.ndarray) -> dict[str, float]:
    """Share of each region's land on which there are drivers; warns where that is less than the target is of."""
    part = [f"{name} ({100 * s:.2g} %)" for name, s in zip(names, share, strict=True) if s < WHOLE]
    if part:
        warn(
            f"constraint {constraint.name}: the drivers cover a part of the land only of {', '.join(part)}, the target "
            "is the whole region's. Land without drivers adds nothing to the integral, as if its flux were zero; where "
            "it is not, give drivers for all of the region, land_fraction= where it is sea, or a target of the part ("
            "attrs['constraints'] has them as modelled_share)."
        )
    return {str(name): round(float(s), 6) for name, s in zip(names, share, strict=True)}


def modelled(constraint: RegionalConstraint, target: RegionalTarget, area: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Numbers of the regions that have modelled land and a target; the others are left out by name."""
    there = np.isfinite(target.values).any((0, 2))
    lost = [name for name, a, t in zip(target.regions, area, there, strict=True) if not (a > 0 and t)]
    kept = np.flatnonzero((area > 0) & there)
    if not len(kept):
        raise ValueError(f"no region of the target has a cell with all drivers: {lost}")
    if lost:
        warn(
            f"constraint {constraint.name}: no modelled land or no target in {', '.join(lost)}: left out of the loss "
            "and of the total"
        )
    return kept, lost
