"""The spread of a budget from an error covariance, between regions or between cells."""

import numpy as np
import xarray as xr

from xflux.cells import cell_area, locate, standardise
from xflux.regions.aggregate import integrated_units, weighing_basis
from xflux.regions.cache import plan_for
from xflux.regions.globe import GLOBAL
from xflux.temporal import to_amounts
from xflux.values import as_text


def spread_of_sum(covariance, means, da, source, units, weighed) -> xr.DataArray:
    """√ of the variance of the sums over region and period; no correlation is left out."""
    expected = "a DataArray (region, region_2) or (lat, lon, lat_2, lon_2)"
    if not isinstance(covariance, xr.DataArray):
        raise ValueError(f"spread='covariance' needs covariance=: {expected}, not {type(covariance).__name__}.")
    periods = means["period"].values.tolist()
    if "period" in covariance.coords and set(covariance["period"].values.tolist()) != set(periods):
        raise ValueError(f"the covariance is of the periods {covariance['period'].values.tolist()}, not {periods}.")
    if {"lat_2", "lon_2"} <= set(covariance.dims):
        return _from_cells(covariance, means, da, source, units, *weighed)
    if not {"region", "region_2"} <= set(covariance.dims):
        raise ValueError(f"covariance has the dims {covariance.dims}; expected {expected}.")
    names = {dim: as_text(covariance[dim]) for dim in ("region", "region_2")}
    covariance = covariance.assign_coords(names)
    labels = [str(label) for label in means["region"].values if label != GLOBAL]
    lacking = [label for label in labels if label not in names["region"]]
    if lacking or set(names["region"]) != set(names["region_2"]):
        raise ValueError(f"covariance lacks the regions {lacking} of {labels}, or its two dims have other labels.")
    matrix = covariance.sel(region=labels, region_2=labels).transpose(..., "region", "region_2")
    variance = xr.apply_ufunc(
        lambda c: np.diagonal(c, axis1=-2, axis2=-1), matrix, input_core_dims=[["region", "region_2"]],
        output_core_dims=[["region"]],
    ).assign_coords(region=labels)  # fmt: skip
    if GLOBAL in means["region"].values:
        # What falls in no region takes part where the covariance knows it.
        everything = covariance.sum(("region", "region_2")) if "unassigned" in names["region"] else matrix.sum(
            ("region", "region_2")
        )  # fmt: skip
        variance = xr.concat([variance, everything.expand_dims(region=[GLOBAL], axis=-1)], "region")
    deviation = _root(variance).assign_coords(region=means["region"].values)
    return deviation.broadcast_like(means).reindex_like(means)


def _root(variance: xr.DataArray) -> xr.DataArray:
    """√, where rounding may have left a variance a hair below zero."""
    lowest = float(variance.min())
    if lowest < -1e-9 * float(abs(variance).max()):
        raise ValueError(f"the covariance gives a variance of {lowest:g}: it is not positive semidefinite.")
    return np.sqrt(variance.clip(min=0))


def _from_cells(covariance, means, da, source, units, regions, land_fraction, area_basis) -> xr.DataArray:
    """Variance W C Wᵀ of the integrals over cells, W the region weights and the globe's."""
    source = standardise(source)
    scale, integrated, per_cell = integrated_units(da)
    basis = weighing_basis(da, regions, per_cell, area_basis, quiet=True)[0]
    weights = plan_for(source, regions, basis, land_fraction)[0]
    one = xr.DataArray(scale, attrs={"units": integrated})
    rows = weights.rows.toarray()
    if weights.globe is not None:
        rows = np.vstack([rows, weights.globe])
    if per_cell:
        rows = rows / cell_area(source).values.ravel()
    matrix = _on_cells(covariance, source)
    variance = np.einsum("ri,...ij,rj->...r", rows, matrix.values, rows, optimize=True)
    coords = {"region": means["region"]}
    if "period" in matrix.dims:
        coords |= {"period": matrix["period"]} if "period" in matrix.coords else {}
    variance = xr.DataArray(variance, coords, (*(d for d in matrix.dims if d == "period"), "region"))
    return (_root(variance) * float(to_amounts(one, units)[0])).broadcast_like(means).reindex_like(means)


def _on_cells(covariance: xr.DataArray, source: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """([period], cell, cell_2) in the order of the flux, matched by latitude and longitude where it has them."""
    if not {"lat", "lon"} <= set(covariance.dims):
        first = covariance.isel(lat_2=0, lon_2=0, drop=True)  # so that latitude and longitude are found once
        covariance = covariance.rename(dict(zip(first.dims, standardise(first).dims, strict=True)))
    for axis in ("lat", "lon"):
        for dim in (axis, f"{axis}_2"):
            if dim not in covariance.coords and covariance.sizes[dim] == source.sizes[axis]:
                continue
            place = locate(covariance[dim].values, source[axis].values, axis)
            if covariance.sizes[dim] != source.sizes[axis] or (place < 0).any():
                raise ValueError(
                    f"the covariance's {dim} ({covariance.sizes[dim]} from {covariance[dim].values[0]:g}) is not the "
                    f"{axis} of the flux ({source.sizes[axis]} from {source[axis].values[0]:g})."
                )
            covariance = covariance.isel({dim: place})
    order = [*(d for d in covariance.dims if d == "period"), "lat", "lon", "lat_2", "lon_2"]
    matrix, count = covariance.transpose(*order), source.sizes["lat"] * source.sizes["lon"]
    values = np.asarray(matrix.values).reshape(*matrix.shape[:-4], count, count)
    coords = {"period": matrix["period"]} if "period" in matrix.coords else {}
    return xr.DataArray(values, coords, (*order[:-4], "cell", "cell_2"))
