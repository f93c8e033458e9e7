"""The table that goes into a paper: mean ± spread by region and period, with the globe."""

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import xarray as xr

from xflux.cells import cell_area, locate, standardise
from xflux.contents import riding
from xflux.provenance import stamp
from xflux.reading import require_variables
from xflux.regions.aggregate import integrate, integrated_units, weighing_basis
from xflux.regions.globe import GLOBAL, with_global
from xflux.regions.names import long_names
from xflux.regions.weights import plan_for
from xflux.temporal import to_amounts
from xflux.temporal.averages import GAP
from xflux.temporal.axis import with_steps
from xflux.temporal.calendar import AXES
from xflux.temporal.convert import sole_flux, valid_share
from xflux.temporal.riding import check_dates, of_each_series
from xflux.temporal.steps import Steps, known_steps, steps_of
from xflux.units import UnitsError, parse, usual_amount
from xflux.values import as_text, warn

Periods = Iterable[tuple[int, int]] | Mapping[str, tuple[int, int]]


def regional_budget(
    obj: xr.DataArray | xr.Dataset,
    regions="reccap2",
    periods: Periods | None = None,
    spread: str = "ensemble",
    *,
    covariance: xr.DataArray | None = None,
    units: str | None = None,
    land_fraction: xr.DataArray | None = None,
    ensemble: Hashable | Iterable[Hashable] | None = None,
    var: Hashable | None = None,
    area_basis: str | None = None,
) -> xr.Dataset:
    """Mean annual flux and its spread by period and region, with GLOBAL.

    Parameters
    ----------
    obj, var
        A flux on (…, lat, lon), or integrals by region from ``aggregate_regions``. Of a Dataset its only flux, or
        ``var``. Years that the time axis covers only in part are left out.
    regions
        As in :func:`aggregate_regions`; ignored where ``obj`` has a dim ``region``.
    periods
        First and last year of each period, [(2001, 2009), (2010, 2017)] or {"2000s": (2001, 2009)}; default: from the
        first to the last year that all members have. A member counts in a period of which it has all years.
    spread
        "ensemble": standard deviation (n − 1) over the members of the member's own sum over region and period, so that
        errors which cancel between regions do cancel; NaN for a single product. "covariance": square root of the
        variance of the same sum, from ``covariance``.
    covariance
        Error covariance of the period mean: (region, region_2), in ``units`` squared, or (lat, lon, lat_2, lon_2) in
        the squared units of the flux; a dim ``period`` where periods differ. Matched by its coordinates.
    units
        Per year, e.g. "TgCO2 yr-1"; default "PgC yr-1", of water "PgH2O yr-1", of energy "ZJ yr-1".
    land_fraction, area_basis
        As in :func:`aggregate_regions`.
    ensemble
        Dims of the ensemble; default: all but time, lat, lon and region.

    Returns
    -------
    xarray.Dataset
        By (period, region): ``mean``, ``spread``, ``sd_years`` (the standard deviation, n − 1, of the ensemble mean's
        years), ``valid_fraction`` (the share of the region and of the time that is not missing; NaN where integrals
        were given without it) and ``n_members``; ``n_years`` (period). Regions that have names carry them as the
        coordinate ``region_name``.

    Raises
    ------
    ValueError
        spread="covariance" without a covariance or with one of other regions or cells, units that are not per year, a
        period without whole years, members without a year in common.

    Examples
    --------
    >>> da = xr.DataArray([[1.0, -1.0], [2.0, -2.0]], dims=("member", "region"), coords={"region": ["A", "B"]})
    >>> table = regional_budget(da.assign_attrs(units="PgC yr-1"))
    >>> table["spread"].sel(region="GLOBAL").item(), table["mean"].sel(region="A").item()
    (0.0, 1.5)
    """
    if spread not in ("ensemble", "covariance"):
        raise ValueError(f"spread {spread!r} is unknown; expected 'ensemble' or 'covariance'.")
    obj, steps = with_steps(obj)
    da, source = flux_of(obj, var)
    units = units_per_year(units, da)
    weighed = (regions, land_fraction, area_basis)
    table = budget_of_years(yearly_integrals(da, source, units, *weighed, steps=steps), periods, ensemble)
    if spread == "covariance":
        of_sum = spread_of_sum(covariance, table["mean"], da, source, units, weighed)
        table["spread"] = of_sum.transpose("period", "region").assign_attrs(units=units)
    table.attrs["spread"] = spread
    table.attrs["provenance"] = stamp(f"regional_budget(regions={table.attrs['regions']!r}, spread={spread!r})")
    return table


def budget_of_years(yearly: xr.Dataset, periods: Periods | None = None, ensemble=None) -> xr.Dataset:
    """The table of :func:`regional_budget` from :func:`yearly_integrals`; the spread is that of the ensemble."""
    flux = yearly["flux"]
    dims = _ensemble_dims(flux, ensemble)
    parts = _by_period(yearly, dims, periods)
    means, said = parts["mean"], {key: flux.attrs[key] for key in ("regions", "units") if key in flux.attrs}
    deviation = means.std(dims, ddof=1) if dims else xr.full_like(means, np.nan)
    table = xr.Dataset({"mean": means.mean(dims), "spread": deviation, "sd_years": parts["sd_years"]})
    for name in table:
        table[name].attrs = {"units": said["units"]}
    table["valid_fraction"] = parts["valid"].mean(dims).assign_attrs(units="1")
    table["n_members"] = means.notnull().sum(dims).drop_attrs(deep=False).assign_attrs(units="1")
    table = table.transpose("period", "region").assign(n_years=parts["n_years"].assign_attrs(units="1"))
    table.attrs = {"regions": "", **said, **riding(flux)}
    names = long_names(table.attrs["regions"], table["region"].values.tolist())
    return table if names is None else table.assign_coords(region_name=("region", names))


def budget_table(table: xr.Dataset, digits: int = 2):
    """The budget as text, "−3.14 ± 1.75" a ``pandas.DataFrame`` of regions by periods; "−3.14" without a spread.

    Parameters
    ----------
    table
        What :func:`regional_budget` gives, in any units.
    digits
        Decimals.

    Examples
    --------
    >>> da = xr.DataArray([[1.0], [2.0]], dims=("member", "region"), coords={"region": ["A"]})
    >>> budget_table(regional_budget(da.assign_attrs(units="PgC yr-1"))).loc["A", "all"]
    '1.50 ± 0.71'
    """

    def text(mean: float, spread: float) -> str:
        known = "" if np.isnan(spread) else f" ± {spread:.{digits}f}"
        return f"{mean:.{digits}f}{known}".replace("-", "−")

    table = table[["mean", "spread"]].compute()
    values = xr.apply_ufunc(text, table["mean"], table["spread"], vectorize=True, output_dtypes=[object])
    return values.transpose("region", "period").to_pandas()


def flux_of(obj: xr.DataArray | xr.Dataset, var: Hashable | None) -> tuple[xr.DataArray, xr.DataArray | xr.Dataset]:
    """The one flux, or that of this name, and what has its bounds and its land."""
    if isinstance(obj, xr.Dataset):
        require_variables(obj, [] if var is None else [var], "the Dataset")
    da = sole_flux(obj, "a budget", "; give var=", var)
    inherited = {"area_basis": obj.attrs["area_basis"]} if "area_basis" in obj.attrs else {}
    return da.assign_attrs(inherited | da.attrs), obj


def units_per_year(units: str | None, da: xr.DataArray) -> str:
    """What a budget is in: as asked for, if that is an amount per year, or as is usual for what the flux is of."""
    if units is not None and (parse(units).time != "year" or parse(units).per_area):
        raise UnitsError(f"units={units!r}: a budget is an amount per year, e.g. 'PgC yr-1' or 'TgCO2 yr-1'.")
    return units or f"{usual_amount(da.attrs)} yr-1"


def yearly_integrals(da, source, units: str, regions, land_fraction=None, area_basis=None, steps=None) -> xr.Dataset:
    """In memory, by (…, year, region): ``flux``, amounts of whole calendar years, and ``valid``, what they cover.

    Years that the time axis covers in part are left out: ``attrs["partial"]`` lists them. Without a time axis it is the
    rate per year, and what the map covers.
    """
    weighed = (regions, land_fraction, area_basis)
    return of_each_series(da, steps, lambda one, own: _yearly(one, source, units, weighed, own))


def _yearly(da, source, units: str, weighed: tuple, steps: Steps | None) -> xr.Dataset:
    regions, land_fraction, area_basis = weighed
    timeless = not set(AXES) & set(da.dims)
    step_units = units if timeless else parse(units).amount
    steps = (steps or known_steps(source)) if "time" in da.dims else None
    if "region" in da.dims:
        check_dates(da)
        sums, flux = da, to_amounts(with_global(da), step_units, None, steps)[0]
    else:
        sums = integrate(da, source, regions, step_units, None, land_fraction, None, area_basis, steps)
        flux = with_global(sums)
    valid = sums.coords.get("valid_fraction")
    if not timeless:
        flux, share = to_amounts(flux, step_units, "YS", steps)
        # A year with missing steps is no year: its sum would be too small.
        flux = flux.where(share > 1 - 1e-9)
        valid = None if valid is None else valid_share(sums, share, steps, "year")
    valid = xr.full_like(flux, np.nan) if valid is None else valid.reset_coords(drop=True)
    labels = as_text(flux["region"])
    valid = valid.assign_coords(region=as_text(valid["region"])).reindex(region=labels)
    attrs = riding(da) | {"units": units, "regions": str(flux.attrs.get("regions", ""))}
    flux = flux.assign_coords(region=labels).assign_attrs(attrs)
    both = xr.Dataset({"flux": flux.reset_coords(drop=True), "valid": valid.reset_coords(drop=True)}).compute()
    return _whole_years(both, steps_of(sums, steps).covered("year")) if "time" in both.dims else both


def _whole_years(both: xr.Dataset, covered: np.ndarray) -> xr.Dataset:
    years = both["time"].dt.year.values.astype(int)
    both = both.drop_vars("time").rename(time="year").assign_coords(year=years)
    both = both.isel(year=covered).assign_attrs(partial=years[~covered].tolist())
    return _without_gaps(both) if covered.any() else both


def _without_gaps(both: xr.Dataset) -> xr.Dataset:
    """Without the years of a member in one of whose regions more is missing than in other years: all regions of it."""
    flux, valid = both["flux"], both["valid"]
    short = (valid < (1 - GAP) * valid.max("year")) & flux.notnull()
    if short.any():
        years, regions = (flux[dim].values[short.any(set(short.dims) - {dim}).values] for dim in ("year", "region"))
        named = [*regions[:4], *[f"{regions.size - 4} more"] * (regions.size > 4)]
        warn(
            f"in {', '.join(map(str, years))} more is missing of {', '.join(map(str, named))} than in other years "
            f"(valid_fraction): left out of the budget. Drop the coordinate valid_fraction of integrals to keep them."
        )
    return both.assign(flux=flux.where(~short.any("region")))


def _by_period(yearly: xr.Dataset, dims: list[Hashable], periods: Periods | None) -> xr.Dataset:
    """``mean`` and ``valid`` (…, period, region) of members that have all years, ``sd_years``, ``n_years``."""
    if "year" not in yearly.dims:
        if periods is not None:
            raise ValueError(f"periods= needs the dim 'time'; there is {tuple(yearly['flux'].dims)}.")
        once = yearly.rename(flux="mean").expand_dims(period=["all"])
        return once.assign(sd_years=once["mean"].mean(dims) * np.nan, n_years=("period", [1]))
    if yearly.sizes["year"] == 0:
        raise ValueError("the time axis covers no whole year, so there is no annual budget.")
    has = yearly["flux"].notnull().any("region")
    if has.any():
        kept = has.any(dims).values  # a year that no member has is none
        yearly, has = yearly.isel(year=kept), has.isel(year=kept)
    years = yearly["year"].values
    if periods is None:
        periods = [_common_years(has, dims, years)]
        _name_partial(yearly.attrs.get("partial", []))
    if not isinstance(periods, Mapping):
        periods = {f"{first}–{last}": (first, last) for first, last in periods}
    parts = []
    for name, (first, last) in periods.items():
        chosen = (years >= first) & (years <= last)
        _check_period(name, first, last, years[chosen], years)
        _name_incomplete(name, has.isel(year=chosen).all("year"), dims)
        parts.append(_of_period(yearly.isel(year=chosen), dims))
    return xr.concat(parts, xr.DataArray(list(periods), dims="period", name="period"))


def _of_period(part: xr.Dataset, dims: list[Hashable]) -> xr.Dataset:
    mean = part["flux"].mean("year", skipna=False)
    counts = mean.notnull() | ~mean.notnull().any(dims)  # the share of a region that no member has is told too
    of_members, several = part["flux"].where(mean.notnull()).mean(dims), part.sizes["year"] > 1
    sd_years = of_members.std("year", ddof=1, skipna=False) if several else of_members.mean("year") * np.nan
    valid = part["valid"].where(counts).mean("year")
    return xr.Dataset({"mean": mean, "valid": valid, "sd_years": sd_years, "n_years": part.sizes["year"]})


def _name_partial(years: list[int]) -> None:
    if years:
        warn(f"the time axis covers {', '.join(map(str, years))} only in part: left out of the budget.")


def _common_years(has: xr.DataArray, dims: list[Hashable], years: np.ndarray) -> tuple[int, int]:
    """First and last year that all members have."""
    common = years[has.all(dims).values]
    if common.size:
        return int(common.min()), int(common.max())
    if not has.any():
        return int(years.min()), int(years.max())
    raise ValueError(
        f"the members have no whole year in common: {_years_of(has, dims, years)}. Select the members, or give periods "
        f"of which some have all years."
    )


def _years_of(has: xr.DataArray, dims: list[Hashable], years: np.ndarray) -> str:
    each = has.stack(member=dims) if dims else has.expand_dims("member")
    said = []
    for one in each.transpose("member", "year"):
        own = years[one.values]
        said.append(f"{_label(one, dims)} {own.min()}–{own.max()}" if own.size else f"{_label(one, dims)} none")
    return ", ".join(said)


def _label(one: xr.DataArray, dims: list[Hashable]) -> str:
    return "/".join(str(one[dim].item()) for dim in dims if dim in one.coords) or "a member"


def _check_period(name: str, first: int, last: int, chosen: np.ndarray, years: np.ndarray) -> None:
    if not chosen.size:
        raise ValueError(f"period {name!r} holds none of the whole years {years.min()}–{years.max()}.")
    if chosen.size < last - first + 1:
        warn(
            f"period {name!r}: only {chosen.size} of its {last - first + 1} years are whole in the data "
            f"({chosen.min()}–{chosen.max()}); the mean is over these."
        )


def _name_incomplete(period: str, has: xr.DataArray, dims: list[Hashable]) -> None:
    """Members that do not count in a period in which others do."""
    each = has.stack(_each=dims) if dims else has.expand_dims("_each")
    lacking = [_label(one, dims) for one in each if not one]
    if 0 < len(lacking) < each.size:
        warn(
            f"period {period!r}: {', '.join(lacking)} lack{'s' * (len(lacking) == 1)} a part of its years and "
            f"{'is' if len(lacking) == 1 else 'are'} left out."
        )


def _ensemble_dims(yearly: xr.DataArray, ensemble) -> list[Hashable]:
    others = [dim for dim in yearly.dims if dim not in ("year", "region")]
    if ensemble is None:
        return others
    chosen = [ensemble] if isinstance(ensemble, str) else list(ensemble)
    if set(chosen) != set(others):
        raise ValueError(f"the ensemble's dims are {chosen}, but those beside time, lat, lon and region are {others}.")
    return chosen


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
