"""Regional integrals of a flux: what da.flux.aggregate_regions does."""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from xflux.cells import cell_area, standardise
from xflux.contents import after_sum, assumed_area_basis
from xflux.contents import area_basis as basis_of
from xflux.provenance import stamp
from xflux.regions.cover import WHOLE
from xflux.regions.globe import GLOBAL, REMAINDERS, check_labels, region_attrs
from xflux.regions.kernel import CellLists, weighted_sums
from xflux.regions.names import long_names
from xflux.regions.weights import Weights, is_weights, plan_for
from xflux.temporal.axis import say_that_years_have_months, with_steps
from xflux.temporal.calendar import AXES
from xflux.temporal.convert import check_not_summed, to_amounts, valid_share, variable_of, with_bounds
from xflux.temporal.riding import CALENDAR, RIDING, in_real_dates, of_each_series
from xflux.temporal.steps import Steps, stamped_at_starts, steps_of
from xflux.units import (
    CARBON_SUBSTANCES,
    UnitsError,
    factor,
    flux_variables,
    is_uncertainty,
    left_out,
    parse,
    usual_amount,
)
from xflux.values import decoded, warn

_VALID = {"units": "1", "long_name": "share of the region's weight and of the step's time that is valid"}
_REMAINDER = {"unassigned": "integral outside all regions", "assigned": "integral inside the regions, all together"}
_INTEGRATED = {"C": "gC", "CO2": "gC", "mol": "gC", "water": "kgH2O", "energy": "J"}
_PER = {"fixed": " d-1", "month": " month-1", "year": " yr-1", None: ""}
_PER_CELL = re.compile(r"(?:/|\bper\b)\s*(?:grid)?[\s_-]*cell\b|\b(?:grid)?_?cell\s*(?:\*\*|\^)?-1\b", re.IGNORECASE)


def aggregate_regions(
    obj: xr.DataArray | xr.Dataset,
    regions,
    units: str | None = None,
    freq: str | None = None,
    land_fraction: xr.DataArray | None = None,
    include_global: bool = False,
    area_basis: str | None = None,
) -> xr.DataArray | xr.Dataset:
    """Integral of a flux over every region, (…, time, region).

    Parameters
    ----------
    obj
        Flux per area (or per grid cell, where its units have no area) on (…, lat, lon), in any order of dims. Of a
        Dataset, every flux variable; its CF time and cell bounds and its ``land_fraction`` are used.
    regions
        A set: "reccap2", "reccap2-chapters", "transcom", "latitude-bands", "countries", or regionmask's "srex",
        "giorgi", "prudence", "ar6.land". A region or country, or a list of them: "EU", "Germany", ["DEU", "FRA"]. A box
        (west, south, east, north) in degrees, over the dateline where west > east. A (lat, lon) label mask; a (region,
        lat, lon) fraction mask; a GeoDataFrame; a ``regionmask.Regions``; weights of ``region_weights``.
    units
        Of the result; default "PgC month-1", of water "PgH2O month-1", of energy "ZJ month-1". Per month it is the
        amount of each calendar month, per year that of each year on annual steps and a rate on shorter ones.
    freq
        Steps of the result, e.g. "MS" or "YS"; default: those of ``obj``, or calendar months for "… month-1".
    land_fraction
        (lat, lon), 0–1 or %, for fluxes per m2 of land. Default: the product's own, else the polygons' land.
    include_global
        Adds the region "GLOBAL": all regions and what falls in none; the integer labels of a mask become text then.
    area_basis
        "land" or "cell": what the flux is per m2 of. Default: its attribute ``area_basis``, else its ``cell_methods``.

    Returns
    -------
    xarray.DataArray or xarray.Dataset
        float64, with the coordinates ``valid_fraction`` (…, time, region), the share of the whole region's weight, on
        the grid or not, and of the step's time that was not missing, and ``unassigned`` (…, time), what falls in no
        region, beside ``assigned``, the sum of the regions to which it belongs (absent for sets that overlap), and
        ``region_name`` (region) of regions that have names. On a Dataset they are ``<variable>_valid_fraction`` and so
        on.

    Raises
    ------
    ValueError
        Units that do not fit, include_global for overlapping regions, no flux variable.

    Warns
    -----
    UserWarning
        Names the regions of which the grid covers less than 99 %; an area basis that had to be assumed; an uncertainty.

    Examples
    --------
    >>> coords = {"time": xr.date_range("2001-01", periods=2, freq="MS"), "lat": np.arange(-85.0, 90, 10)}
    >>> da = xr.DataArray(np.ones((2, 18, 36)), {**coords, "lon": np.arange(5.0, 360, 10)}, ("time", "lat", "lon"))
    >>> da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    >>> total = aggregate_regions(da, "latitude-bands", include_global=True)
    >>> total.dims, float(total.sel(region="GLOBAL")[0].round(3))
    (('time', 'region'), 15.812)
    """
    obj, steps = with_steps(obj)
    say_that_years_have_months(obj)
    if isinstance(obj, xr.Dataset):
        return _aggregate_dataset(obj, regions, units, freq, land_fraction, include_global, area_basis, steps)
    if is_uncertainty(str(obj.name), obj.attrs):
        warn(
            f"{obj.name!r} is an uncertainty by its name or attributes, and is added up like a flux, as if all cells "
            f"erred together. The spread of a sum is that of its members' sums."
        )
    return integrate(obj, obj, regions, units, freq, land_fraction, include_global, area_basis, steps)


def _aggregate_dataset(ds, regions, target, freq, land_fraction, include_global, area_basis, steps) -> xr.Dataset:
    ds = standardise(ds)
    kinds = None if target is None else _substances(target)
    names = [name for name in flux_variables(ds, kinds) if {"lat", "lon"} <= set(ds[name].dims)]
    if not names:
        listed = {name: da.attrs.get("units") for name, da in ds.data_vars.items()}
        raise ValueError(
            f"the Dataset has no gridded flux{f' for {target!r}' if target else ''}: its variables and their units are "
            f"{listed}." + left_out(ds, kinds or CARBON_SUBSTANCES)
        )
    if "region" in names:
        raise ValueError("the flux 'region' has the name of the result's dim: rename it, e.g. ds.rename(region='nee').")
    inherited = {key: ds.attrs[key] for key in ("area_basis",) if key in ds.attrs}
    results = {}
    for name in names:
        da = variable_of(ds, name).assign_attrs(inherited | ds[name].attrs)
        assumed = any("area_basis_assumed" in other.attrs for other in results.values())
        quiet = [*["extent"] * bool(results), *["basis"] * assumed]
        try:
            result = integrate(da, ds, regions, target, freq, land_fraction, include_global, area_basis, steps, quiet)
        except UnitsError as error:
            raise UnitsError(f"{name!r}: {error}") from None
        own = [c for c in (*REMAINDERS, "valid_fraction") if c in result.coords]
        results[name] = result.rename({c: f"{name}_{c}" for c in own})
    provenance = results[names[0]].attrs["provenance"]
    return with_bounds(xr.Dataset(results, attrs={**ds.attrs, "provenance": provenance}), ds)


def _substances(target: str) -> tuple[str, ...]:
    substance = parse(target).substance
    return CARBON_SUBSTANCES if substance in CARBON_SUBSTANCES else (substance,)


def integrate(
    da, source, regions, target, freq, land_fraction, include_global, area_basis=None, steps=None, quiet=()
) -> xr.DataArray:
    """Integrals of one flux; ``source`` (the flux, or its Dataset) has the cells and the land fraction.

    ``include_global``: None where it is known. ``steps``: those that it carries. ``quiet`` names the warnings, "basis"
    and "extent", that another flux of the Dataset has had.
    """
    da, source = decoded(standardise(da)), standardise(source)
    if "region" in da.dims:
        raise ValueError("the flux has a dim 'region' already, the name of the result's: rename it, or integrate each.")
    target = target or f"{usual_amount(da.attrs)} month-1"
    scale, integrated, per_cell = integrated_units(da)
    basis, assumed = weighing_basis(da, regions, per_cell, area_basis, "basis" in quiet)
    weights, plan = plan_for(source, regions, basis, land_fraction)
    if include_global is None:
        include_global = weights.globe is not None
        check_labels(weights.labels)
    elif include_global:
        _check_global(weights)
    if "extent" not in quiet:
        _warn_of_extent(weights)
    if per_cell:
        plan = plan.scaled(1 / cell_area(source).values.ravel())
    sums = _with_own_share(_integrate(da, plan), da, plan).assign_attrs(after_sum(da) | {"units": integrated})
    sums = sums.drop_vars(("valid_fraction", *REMAINDERS), errors="ignore")  # of the flux, not of its integrals
    steps = steps if "time" in sums.dims else None
    check_not_summed(da, steps)
    finish = partial(
        _finished, weights=weights.bare(), totals=plan.totals, include_global=include_global, scale=scale,
        target=target, freq=freq,
    )  # fmt: skip
    columns = of_each_series(sums, steps, lambda one, own: _in_few_tasks(partial(finish, steps=own), one))
    result = _labelled(columns, weights, include_global, target)
    names = long_names(str(weights.name), result["region"].values.tolist())
    if names is not None:
        result = result.assign_coords(region_name=("region", names, {"long_name": "name of the region"}))
    return result.rename(da.name).assign_attrs(_attrs(weights, basis, assumed, target, freq))


def weighing_basis(
    da: xr.DataArray, regions, per_cell: bool = False, given: str | None = None, quiet: bool = False
) -> tuple[str, bool]:
    """What the flux is per m2 of, and whether it had to be assumed; weights made earlier know theirs."""
    if per_cell and not is_weights(regions):
        return "cell", False  # an amount per cell is the whole of it, whatever the land: it is shared, not scaled
    made = regions.attrs if is_weights(regions) else {}
    own, theirs = basis_of(da, given), made.get("area_basis")
    if own and theirs and own != theirs:
        raise ValueError(
            f"the flux is per m2 of {own!r}, the weights were made for area_basis={theirs!r}: make them with "
            f"region_weights(grid, regions, area_basis={own!r})."
        )
    if own or (theirs and "area_basis_assumed" not in made):
        return own or theirs, False
    if theirs and not quiet:
        warn(
            f"neither the flux nor the weights were told an area_basis, whether the flux is per m2 of land or of the "
            f"whole cell; that of the weights, {theirs!r}, is assumed. Set attrs['area_basis'] or give area_basis=."
        )
    if theirs or quiet:
        return theirs or "cell", True
    return assumed_area_basis(da)


def _check_global(weights: Weights) -> None:
    if weights.globe is None:
        raise ValueError(
            f"include_global needs to know what falls in no region, but the regions of {weights.name!r} overlap (or "
            f"came as weights without the coordinate 'cell_weight'); leave it out, or add up the regions you want."
        )
    check_labels(weights.labels)


def _warn_of_extent(weights: Weights) -> None:
    """Name the regions that the grid covers less than 99 % of."""
    labels, share = weights.labels.astype(str), weights.extent
    part = [f"{k} ({100 * x:.2g} %)" for k, x in zip(labels, share, strict=True) if 0 < x < WHOLE]
    none = labels[share == 0].tolist()
    if part or none:
        shown = none if len(none) <= 20 else [*none[:20], f"{len(none) - 20} more"]
        said = [f"only a part of {', '.join(part)}"] if part else []
        said += [f"nothing of {', '.join(shown)}"] if none else []
        warn(
            f"the grid covers {' and '.join(said)}: what lies outside the grid adds nothing, and valid_fraction says "
            f"what share is there."
        )


def integrated_units(da: xr.DataArray) -> tuple[float, str, bool]:
    """Factor to the integral's own units, those units, and whether the flux is per cell instead of per area."""
    text = da.attrs.get("units")
    if text is None:
        raise UnitsError(f"{da.name or 'the flux'} has no units: set attrs['units'], e.g. 'gC m-2 d-1'.")
    source = parse(_PER_CELL.sub("", text) if isinstance(text, str) else text, da.attrs)
    if source.substance not in _INTEGRATED:
        raise UnitsError(f"{text!r} is no amount of carbon, water or energy, so it has no integral over an area.")
    integrated = _INTEGRATED[source.substance] + _PER[source.time]
    per_area = integrated.replace(" ", " m-2 ", 1) if " " in integrated else integrated + " m-2"
    return factor(source, per_area if source.per_area else integrated), integrated, not source.per_area


def _integrate(da: xr.DataArray, plan: CellLists) -> xr.DataArray:
    """(…, time, stat, group): the sum and the valid weight of every group; lazy where the flux is."""
    lead = [dim for dim in da.dims if dim not in ("lat", "lon")]
    lead.sort(key=lambda dim: dim in AXES)  # stable: time comes last
    da = da.transpose(*lead, "lat", "lon")
    sums = weighted_sums(da.values, plan) if da.chunks is None else _lazy(da.data, plan)
    coords = {name: coord for name, coord in da.coords.items() if not {"lat", "lon"} & set(coord.dims)}
    coords = {name: coord for name, coord in coords.items() if name not in ("lat", "lon", "region")}
    return xr.DataArray(sums, coords, (*lead, "_stat", "_group"))


def _with_own_share(sums: xr.DataArray, da: xr.DataArray, plan: CellLists) -> xr.DataArray:
    """A cell of which only a part of the time is valid, as in a map of annual means, counts for that part."""
    share = da.coords.get("valid_fraction")
    if share is None or not {"lat", "lon"} <= set(share.dims):
        return sums
    own = _integrate(share.reset_coords(drop=True).where(da.notnull()).transpose(*da.dims), plan)
    return xr.concat([sums.isel(_stat=[0]), own.isel(_stat=[0])], "_stat", coords="minimal", compat="override")


def _lazy(data, plan: CellLists):
    """Partial sums of every chunk, added over the chunks of a map; each task gets the part of the plan it needs."""
    import dask.array
    from dask.base import tokenize

    lead, (rows, columns) = data.chunks[:-2], data.chunks[-2:]
    name = f"xflux-weights-{tokenize(plan, rows, columns)}"
    plans = dask.array.from_array(plan.windows(rows, columns), chunks=1, name=name, asarray=False)
    single = ((1,) * len(rows), (1,) * len(columns))
    axes = (data.ndim - 2, data.ndim - 1)
    parts = data.map_blocks(
        _partial,
        plans,
        dtype="float64",
        chunks=(*lead, *single, (2,), (plan.start.size - 1,)),
        new_axis=(data.ndim, data.ndim + 1),
        meta=np.empty((0,) * (data.ndim + 2)),
    )
    return parts.sum(axis=axes)


def _partial(block: np.ndarray, plan: np.ndarray) -> np.ndarray:
    """(…, 1, 1, stat, group) of one chunk; the scheduler runs chunks beside each other, so one thread is enough."""
    return weighted_sums(np.asarray(block), plan.item(), threads=1)[..., None, None, :, :]


def _in_few_tasks(finish: Callable[[xr.DataArray], xr.DataArray], sums: xr.DataArray) -> xr.DataArray:
    """``finish(sums)``; where they are lazy, in one task for each block of members.

    The sums are small: as arrays on dask, their regions, months and shares would cost more than the sums themselves.
    """
    if sums.chunks is None:
        return finish(sums)
    lead = [dim for dim in sums.dims if dim not in (*AXES, "_stat", "_group")]
    sums = sums.chunk(dict.fromkeys(sums.dims, -1) | dict.fromkeys(lead, "auto"))
    members = {name: coord for name, coord in sums.coords.items() if set(lead) & set(coord.dims)}
    shape = [1 if dim in lead else size for dim, size in sums.sizes.items()]
    frame = xr.DataArray(np.zeros(shape), sums.drop_vars(members).coords, sums.dims, attrs=sums.attrs)
    like = finish(frame)
    own = like.shape[len(lead) :]
    data = sums.data.map_blocks(
        _of_block,
        frame,
        finish,
        dtype="float64",
        drop_axis=range(len(lead), sums.ndim),
        new_axis=range(len(lead), like.ndim),
        chunks=(*sums.chunks[: len(lead)], *((size,) for size in own)),
        meta=np.empty((0,) * like.ndim),
    )
    return xr.DataArray(data, like.coords.to_dataset().assign_coords(members).coords, like.dims, attrs=like.attrs)


def _of_block(block: np.ndarray, frame: xr.DataArray, finish: Callable[[xr.DataArray], xr.DataArray]) -> np.ndarray:
    return finish(xr.DataArray(block, frame.coords, frame.dims, attrs=frame.attrs)).values


def _finished(sums, *, weights: Weights, totals, include_global, scale, target, freq, steps) -> xr.DataArray:
    """(…, time, column) in the units and steps asked for: the regions, what is in none and in all of them where that
    is known, and the regions' valid shares.
    """
    count = len(weights.labels)
    total, valid = sums.values[..., 0, :] * scale, sums.values[..., 1, :]
    regions = np.where(valid[..., :count] > 0, total[..., :count], np.nan)
    # Of the whole region, on the grid or not.
    shares = _share(valid[..., :count], totals[:count] / np.where(weights.extent > 0, weights.extent, 1))
    rest = regions[..., :0]
    if weights.globe is not None:
        known = (everything := valid.sum(axis=-1, keepdims=True)) > 0
        # What is missing adds nothing; only where the whole globe is missing is the remainder unknown.
        rest = np.concatenate([total[..., count:], np.nansum(regions, axis=-1, keepdims=True)], axis=-1)
        rest = np.where(known, rest, np.nan)
        if include_global:
            of_all = np.where(known, np.nansum(total, axis=-1, keepdims=True), np.nan)
            its_share = _share(everything, totals.sum() / weights.globe_extent)
            regions, shares = (np.concatenate(pair, axis=-1) for pair in ((regions, of_all), (shares, its_share)))
    frame = sums.isel(_stat=0, _group=0, drop=True)
    columns = np.concatenate([regions, rest], axis=-1)
    columns = xr.DataArray(columns, frame.coords, (*frame.dims, "_column"), attrs=sums.attrs)
    return _over_time(columns, shares, steps, target, freq)


def _share(valid: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Valid weight over weight; 0 for a region without any; whole where only rounding is missing."""
    share = valid / np.where(totals > 0, totals, 1)
    return np.where(abs(share - 1) > 1e-12, share, 1.0)


def _over_time(
    columns: xr.DataArray, shares: np.ndarray, steps: Steps | None, target: str, freq: str | None
) -> xr.DataArray:
    """Into the units asked for by the true lengths of the steps; beside them the share of valid area and time."""
    result, share = to_amounts(columns, target, freq, steps)
    regions, summed = {"_column": slice(0, shares.shape[-1])}, freq is not None
    valid = columns.isel(regions).copy(data=shares)
    # A single step without bounds is converted where that needs no length: it stays as it is.
    if not summed and parse(target).time == "month" and (steps is not None or columns.sizes.get("time") != 1):
        lengths = steps_of(columns, steps)
        summed = lengths is not None and lengths.kind != "month"
    if summed:
        weighed = columns.isel(regions).assign_coords(valid_fraction=valid)
        valid = valid_share(weighed, share.isel(regions), steps, "year" if (freq or "M")[0] == "Y" else "month")
    both = np.concatenate([result.values, valid.transpose(*result.dims).values], axis=-1)
    result = xr.DataArray(both, result.coords, result.dims, attrs=result.attrs)
    return in_real_dates(result if summed else stamped_at_starts(result, steps))


def _labelled(columns: xr.DataArray, weights: Weights, include_global: bool, target: str) -> xr.DataArray:
    """(…, time, region) of columns, with ``valid_fraction`` and, where the remainder is known, ``unassigned``."""
    labels = np.array([*map(str, weights.labels), GLOBAL]) if include_global else weights.labels
    own = columns.isel(_column=slice(0, len(labels))).rename(_column="region")
    valid = columns.isel(_column=slice(columns.sizes["_column"] - len(labels), None))
    coords = {"valid_fraction": (own.dims, valid.data, _VALID)}
    for number, name in enumerate(REMAINDERS if weights.globe is not None else (), len(labels)):
        one = columns.isel(_column=number)
        coords[name] = (one.dims, one.data, {"units": target, "long_name": _REMAINDER[name]})
    attrs = region_attrs(weights.globe is not None, weights.overlapping)
    return own.assign_coords(region=("region", labels, attrs), **coords)


def _attrs(weights: Weights, basis: str, assumed: bool, target: str, freq: str | None) -> dict:
    attrs = {"units": target, "area_basis": basis, "regions": weights.name, "cell_methods": "area: sum"}
    if assumed:
        attrs["area_basis_assumed"] = 1
    if weights.overlapping:
        attrs["regions_overlap"] = 1
    call = f"aggregate_regions(regions={weights.name!r}, units={target!r}, freq={freq!r})"
    return attrs | {"provenance": stamp(call, {"area_basis": basis})}


def to_dataframe(obj: xr.DataArray | xr.Dataset) -> "pd.DataFrame":
    """Values by step and region as a table that has every value in one row; what is lazy is computed.

    Parameters
    ----------
    obj
        Integrals by region as ``aggregate_regions`` makes them, or any flux.

    Returns
    -------
    pandas.DataFrame
        A column for each dim, ``region_name``, the flux in its own units (``attrs["units"]`` of the frame, by column)
        and ``valid_fraction``. Lengths of steps and sums in and outside all regions, which ride along for xflux, are
        left out.

    Raises
    ------
    ValueError
        Dims beside which another dim of the Dataset has no values: a table has one row for each combination.

    Examples
    --------
    >>> da = xr.DataArray([[1.0], [2.0]], {"year": [2001, 2002], "region": ["EU"]}, name="nee", attrs={"units": "PgC"})
    >>> to_dataframe(da.assign_coords(unassigned=("year", [0.1, 0.2])))
       year region  nee
    0  2001     EU  1.0
    1  2002     EU  2.0
    """
    ds = obj.to_dataset(name=obj.name or "flux") if isinstance(obj, xr.DataArray) else obj
    clutter = [
        c
        for c, coord in ds.coords.items()
        if c in (*RIDING, CALENDAR) or str(c).endswith((*REMAINDERS, "_bnds", "_bounds"))
    ]
    table = ds.drop_vars(clutter).compute()
    frame = table.to_dataframe(dim_order=max((da.dims for da in table.values()), key=len)).reset_index()
    if "region_name" in frame:
        frame.insert(list(frame).index("region") + 1, "region_name", frame.pop("region_name"))
    frame.attrs = {"units": {str(name): da.attrs.get("units") for name, da in table.data_vars.items()}}
    return frame
