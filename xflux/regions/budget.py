"""The table that goes into a paper: mean ± spread by region and period, with the globe."""

import warnings
from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import xarray as xr

from xflux.cells import cell_area, locate, standardise
from xflux.contents import riding
from xflux.files import stamp
from xflux.regions.aggregate import TIMES, integrate, integrated_units, weighing_basis
from xflux.regions.cache import plan_for
from xflux.regions.globe import GLOBAL, check_labels, with_global
from xflux.temporal import standardise as standardise_time
from xflux.temporal import to_amounts
from xflux.temporal.bounds import dataset_bounds
from xflux.temporal.convert import own_riding, variable_of
from xflux.temporal.steps import steps_of
from xflux.units import UnitsError, flux_variables, parse

Periods = Iterable[tuple[int, int]] | Mapping[str, tuple[int, int]]


def regional_budget(
    obj: xr.DataArray | xr.Dataset,
    regions="reccap2",
    periods: Periods | None = None,
    spread: str = "ensemble",
    *,
    covariance: xr.DataArray | None = None,
    units: str = "PgC yr-1",
    land_fraction: xr.DataArray | None = None,
    ensemble: Hashable | Iterable[Hashable] | None = None,
    var: Hashable | None = None,
    area_basis: str | None = None,
) -> xr.Dataset:
    """Mean annual flux and its spread by period and region, with GLOBAL.

    Parameters
    ----------
    obj
        A flux on (…, lat, lon), or integrals by region from ``aggregate_regions``. Of a Dataset its only flux, or
        ``var``. Years that the time axis covers only in part are left out.
    regions
        As in :func:`aggregate_regions`; ignored where ``obj`` has a dim ``region``.
    periods
        First and last year of each period, [(2001, 2009), (2010, 2017)] or {"2000s": (2001, 2009)}; default: all years.
    spread
        "ensemble": standard deviation (n − 1) over the members of the member's own sum over region and period, so that
        errors which cancel between regions do cancel. "covariance": square root of the variance of the same sum, from
        ``covariance``.
    covariance
        Error covariance of the period mean: (region, region_2), in ``units`` squared, or (lat, lon, lat_2, lon_2) in
        the squared units of the flux; a dim ``period`` where periods differ. Matched by its coordinates.
    units
        Per year, e.g. "PgC yr-1", "TgCO2 yr-1".
    area_basis
        As in :func:`aggregate_regions`.
    ensemble
        Dims of the ensemble; default: all but time, lat, lon and region.

    Returns
    -------
    xarray.Dataset
        ``mean`` and ``spread`` (period, region), ``n_members``, ``n_years`` (period).

    Raises
    ------
    ValueError
        spread="ensemble" without an ensemble, "covariance" without one or with one of other regions or cells, units
        that are not per year, a period without whole years.

    Examples
    --------
    >>> da = xr.DataArray([[1.0, -1.0], [2.0, -2.0]], dims=("member", "region"), coords={"region": ["A", "B"]})
    >>> table = regional_budget(da.assign_attrs(units="PgC yr-1"))
    >>> table["spread"].sel(region="GLOBAL").item(), table["mean"].sel(region="A").item()
    (0.0, 1.5)
    """
    if spread not in ("ensemble", "covariance"):
        raise ValueError(f"spread {spread!r} is unknown; expected 'ensemble' or 'covariance'.")
    if parse(units).time != "year":
        raise UnitsError(f"a budget is per year, not in {units!r}; use e.g. 'PgC yr-1'.")
    da, source = _flux(standardise_time(obj), var)
    weighed = (regions, land_fraction, area_basis)
    yearly = _yearly(da, source, units, *weighed)
    means, years = _by_period(yearly, periods)
    dims = _ensemble_dims(means, ensemble)
    if spread == "ensemble":
        if not dims:
            raise ValueError(
                f"spread='ensemble' needs a dim of members beside {tuple(da.dims)}; give spread='covariance' and "
                f"covariance=, or take the mean of aggregate_regions."
            )
        deviation = means.std(dims, ddof=1)
    else:
        deviation = _from_covariance(covariance, means.mean(dims), da, source, units, weighed)
    count = means.notnull().sum(dims) if dims else means.notnull().astype(int)
    table = xr.Dataset({"mean": means.mean(dims), "spread": deviation, "n_members": count})
    for name in ("mean", "spread"):
        table[name].attrs = {"units": units}
    table = table.transpose("period", "region").assign(n_years=("period", years))
    table.attrs = {"spread": spread, "regions": str(yearly.attrs.get("regions", "")), "units": units} | riding(da)
    table.attrs["provenance"] = stamp(f"regional_budget(regions={table.attrs['regions']!r}, spread={spread!r})")
    return table


def budget_table(table: xr.Dataset, digits: int = 2):
    """The budget as text, "−3.14 ± 1.75", a ``pandas.DataFrame`` of regions by periods.

    >>> da = xr.DataArray([[1.0], [2.0]], dims=("member", "region"), coords={"region": ["A"]})
    >>> budget_table(regional_budget(da.assign_attrs(units="PgC yr-1"))).loc["A", "all"]
    '1.50 ± 0.71'
    """

    def text(mean: float, spread: float) -> str:
        return f"{mean:.{digits}f} ± {spread:.{digits}f}".replace("-", "−")

    table = table[["mean", "spread"]].compute()
    values = xr.apply_ufunc(text, table["mean"], table["spread"], vectorize=True, output_dtypes=[object])
    return values.transpose("region", "period").to_pandas()


def _flux(obj, var: Hashable | None) -> tuple[xr.DataArray, xr.DataArray | xr.Dataset]:
    if isinstance(obj, xr.DataArray):
        return obj.rename({name: c for name, c in own_riding(obj).items() if c not in obj.coords}), obj
    names = [var] if var is not None else flux_variables(obj)
    if len(names) != 1:
        raise ValueError(f"a budget is of one flux, but the Dataset has {names or 'none'}; give var=.")
    inherited = {key: value for key, value in obj.attrs.items() if key == "area_basis"}
    da = variable_of(obj, names[0])
    return da.assign_attrs(inherited | da.attrs), obj


def _yearly(da, source, units: str, regions, land_fraction, area_basis) -> xr.DataArray:
    """(…, time, region) amounts of whole calendar years, or the rate per year where there is no time."""
    timeless = not set(TIMES) & set(da.dims)
    step_units = units if timeless else parse(units).amount
    bounds = dataset_bounds(source) if "time" in da.dims else None
    if "region" in da.dims:
        sums = to_amounts(with_global(da), step_units, None, bounds)[0]
    else:
        sums = integrate(da, source, regions, step_units, None, land_fraction, False, area_basis)
        check_labels(sums["region"].values)
        sums = with_global(sums)
    if timeless:
        return sums
    yearly, share = to_amounts(sums, step_units, "YS", bounds)
    # A year with missing steps is no year: its sum would be too small.
    yearly = yearly.where(share > 1 - 1e-9)
    return yearly.isel(time=steps_of(sums, bounds).covered("year")) if "time" in yearly.dims else yearly


def _by_period(yearly: xr.DataArray, periods: Periods | None) -> tuple[xr.DataArray, np.ndarray]:
    """Mean over the years of each period, of members that have all of them, and how many years these are."""
    if "time" not in yearly.dims:
        if periods is not None:
            raise ValueError(f"periods need the dim 'time'; there is {tuple(yearly.dims)}.")
        return yearly.expand_dims(period=["all"]), np.array([1])
    years = yearly["time"].dt.year.values
    if years.size == 0:
        raise ValueError("the time axis covers no whole year, so there is no annual budget.")
    if periods is None:
        periods = [(int(years.min()), int(years.max()))]
    if not isinstance(periods, Mapping):
        periods = {f"{first}–{last}": (first, last) for first, last in periods}
    parts, counts = [], []
    for name, (first, last) in periods.items():
        chosen = (years >= first) & (years <= last)
        if not chosen.any():
            raise ValueError(f"period {name!r} holds none of the whole years {years.min()}–{years.max()}.")
        if chosen.sum() < last - first + 1:
            warnings.warn(
                f"period {name!r}: only {chosen.sum()} of its {last - first + 1} years are whole in the data "
                f"({years[chosen].min()}–{years[chosen].max()}); the mean is over these.",
                UserWarning,
                stacklevel=3,
            )
        parts.append(yearly.isel(time=chosen).mean("time", skipna=False))
        counts.append(int(chosen.sum()))
    return xr.concat(parts, xr.DataArray(list(periods), dims="period", name="period")), np.array(counts)


def _ensemble_dims(means: xr.DataArray, ensemble) -> list[Hashable]:
    others = [dim for dim in means.dims if dim not in ("period", "region")]
    if ensemble is None:
        return others
    chosen = [ensemble] if isinstance(ensemble, str) else list(ensemble)
    if set(chosen) != set(others):
        raise ValueError(f"the ensemble's dims are {chosen}, but those beside time, lat, lon and region are {others}.")
    return chosen


def _from_covariance(covariance, means, da, source, units, weighed) -> xr.DataArray:
    """√ of the variance of the sums; no correlation is left out."""
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
    names = {dim: covariance[dim].astype(str).values for dim in ("region", "region_2")}
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
