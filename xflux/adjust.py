"""Make products comparable: take fire, rivers or a fossil difference out of a flux, or put them in (paper, Sect. 2.3).

What a flux contains rides in its attributes: ``includes_fire`` and ``includes_rivers`` (1 or 0, absent = unknown) and
``adjusted_for`` (comma-separated). Each adjustment updates them, and refuses to be made twice. Components come in any
grid, time step and unit: they are brought to the flux's months, unit and grid by true month lengths and by areas, so
that what is added is what is subtracted from the globe.
"""

import numpy as np
import xarray as xr

from xflux import temporal, units
from xflux.cells import Cells, carry, cell_area, regrid, same_grid, standardise
from xflux.contents import (
    ContentsError,
    adjusted_for,
    after_adjustment,
    area_basis,
    check_upward,
    contents,
    riding,
    titled,
)
from xflux.contents import check_contents as check_contents  # public here too
from xflux.display import some_of
from xflux.temporal.calendar import AXES
from xflux.temporal.groups import sums_by
from xflux.temporal.steps import Overlap, needed_steps, overlap
from xflux.values import checked, in_memory, warn

_KIND = {"fire": "fire emissions", "rivers": "the flux that rivers export", "fossil": "the fossil difference"}


# --- adjustments ------------------------------------------------------------------------------------------------------


def remove_fire(flux: xr.DataArray | xr.Dataset, fire: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """``flux − fire``: NBE without fire, which is comparable with towers' NEE (GFAS in the paper).

    Parameters
    ----------
    flux
        (…, time, lat, lon), per area. Its ``includes_fire`` must be true or unknown.
    fire
        Emissions (time | month | dayofyear, lat, lon), positive, in any carbon unit per area (CO2 mass too), on any
        grid that covers it, in the same or shorter steps, for as long or longer; a climatology stands for every year.
        Missing cells have no fire.

    Returns
    -------
    xr.DataArray or xr.Dataset
        Like ``flux``, ``includes_fire`` 0, ``adjusted_for`` with "fire".

    Raises
    ------
    ContentsError
        The flux has no fire in it (CarbonTracker's ``bio``): it would be subtracted twice.
    ValueError
        The fire does not cover the flux's time, or units are not per area.

    Examples
    --------
    >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    >>> nbe = xr.DataArray(np.zeros((2, 2)), axes, attrs={"units": "gC m-2 d-1", "includes_fire": 1})
    >>> fire = xr.DataArray(np.ones((2, 2)), axes, attrs={"units": "gC m-2 d-1"})
    >>> float(remove_fire(nbe, fire).sum())
    -4.0
    """
    return _apply(flux, fire, "fire", -1)


def add_fire(flux: xr.DataArray | xr.Dataset, fire: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """``flux + fire``: NEE with fire, which is comparable with NBE.

    Parameters
    ----------
    flux, fire
        As in :func:`remove_fire`, with its other errors.

    Raises
    ------
    ContentsError
        The flux includes fire already.

    Examples
    --------
    >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    >>> nee = xr.DataArray(np.zeros((2, 2)), axes, attrs={"units": "gC m-2 d-1", "includes_fire": 0})
    >>> fire = xr.DataArray(np.ones((2, 2)), axes, attrs={"units": "gC m-2 d-1"})
    >>> nbe = add_fire(nee, fire)
    >>> float(nbe.sum()), nbe.attrs["includes_fire"]
    (4.0, 1)
    """
    return _apply(flux, fire, "fire", +1)


def remove_rivers(flux: xr.DataArray | xr.Dataset, rivers: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """``flux − rivers``: without the land uptake that rivers export to the ocean, a smaller sink.

    Parameters
    ----------
    flux
        As in :func:`remove_fire`, with its other errors.
    rivers
        What rivers add to the flux between land and atmosphere, positive into the atmosphere as everything here: an
        uptake, about −0.65 PgC yr-1 for the globe (``rivers`` of the product "gcp-inversions"). In units per area, as
        fire; it may be constant in time.

    Raises
    ------
    ContentsError
        The flux is adjusted for rivers already.

    Examples
    --------
    >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    >>> nee = xr.DataArray(np.full((2, 2), -1.0), axes, attrs={"units": "gC m-2 yr-1", "includes_rivers": 1})
    >>> rivers = xr.DataArray(np.full((2, 2), -0.25), axes, attrs={"units": "gC m-2 yr-1"})
    >>> float(remove_rivers(nee, rivers).mean())
    -0.75
    """
    return _apply(flux, rivers, "rivers", -1)


def add_rivers(flux: xr.DataArray | xr.Dataset, rivers: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """``flux + rivers``; the inverse of :func:`remove_rivers`.

    Parameters
    ----------
    flux, rivers
        As in :func:`remove_rivers`, with its other errors.

    Raises
    ------
    ContentsError
        The flux includes what rivers export already.

    Examples
    --------
    >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    >>> nee = xr.DataArray(np.full((2, 2), -1.0), axes, attrs={"units": "gC m-2 yr-1", "includes_rivers": 0})
    >>> rivers = xr.DataArray(np.full((2, 2), -0.25), axes, attrs={"units": "gC m-2 yr-1"})
    >>> float(add_rivers(nee, rivers).mean())
    -1.25
    """
    return _apply(flux, rivers, "rivers", +1)


def adjust_fossil(
    flux: xr.DataArray | xr.Dataset,
    prescribed: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
) -> xr.DataArray | xr.Dataset:
    """The land flux had the inversion prescribed other fossil emissions: ``flux + prescribed − reference``.

    The atmosphere sees land + fossil, so what an inversion prescribes too much of one it finds too little of the other.

    Parameters
    ----------
    flux
        As in :func:`remove_fire`, with its other errors.
    prescribed, reference
        Fossil emissions that the inversion had, and that it is to have; each as the fire there.

    Raises
    ------
    ContentsError
        The flux is adjusted for fossil emissions already.

    Examples
    --------
    >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    >>> nee = xr.DataArray(np.full((2, 2), -1.0), axes, attrs={"units": "gC m-2 yr-1"})
    >>> float(adjust_fossil(nee, prescribed=nee + 11, reference=nee + 10.5).mean())
    -0.5
    """
    flux = temporal.standardise(flux)
    da, bounds = _one_flux(flux, "nbe", "nee")
    if "fossil" in adjusted_for(da):
        raise ContentsError(f"{titled(da, 'the flux')} is adjusted for fossil already: {da.attrs['adjusted_for']!r}")
    added = _combine(da, bounds, prescribed, "fossil", +1).assign_attrs(da.attrs)
    return _adjusted(flux, da, _combine(added, bounds, reference, "fossil", -1), "fossil", None)


def _apply(flux: xr.DataArray | xr.Dataset, component: xr.DataArray | xr.Dataset, kind: str, sign: int):
    """``flux ± component`` if that was not done already."""
    flux = temporal.standardise(flux)
    da, bounds = _one_flux(flux, "nbe", "nee")
    has = contents(da)[kind]
    if has is (sign > 0) or (has is None and sign < 0 and kind in adjusted_for(da)):
        done = "includes" if has else "does not include"
        verb = "added" if sign > 0 else "subtracted"
        raise ContentsError(
            f"{titled(da, 'the flux')} {done} {kind} (includes_{kind}={da.attrs.get(f'includes_{kind}')!r}, "
            f"adjusted_for={da.attrs.get('adjusted_for', '')!r}): it would be {verb} twice. Use the flux as it is."
        )
    return _adjusted(flux, da, _combine(da, bounds, component, kind, sign), kind, sign > 0)


def _adjusted(flux, da: xr.DataArray, result: xr.DataArray, kind: str, added: bool | None):
    """The result with its attributes, in the place of the flux ``da``."""
    result = result.drop_attrs(deep=False).assign_attrs(after_adjustment(da, kind, added)).rename(da.name)
    return flux.assign({da.name: result}) if isinstance(flux, xr.Dataset) else result


# --- one component on the flux's steps, unit and cells ----------------------------------------------------------------


def _one_flux(obj: xr.DataArray | xr.Dataset, *names: str) -> tuple[xr.DataArray, xr.DataArray | None]:
    """The flux and its time bounds: an array, or the Dataset's variable of one of the names, or its only flux."""
    if isinstance(obj, xr.DataArray):
        return checked(standardise(temporal.standardise(obj))), None
    if not isinstance(obj, xr.Dataset):
        raise TypeError(f"expected a DataArray such as ds[{names[0]!r}], or a Dataset, not {type(obj).__name__}")
    obj = standardise(temporal.standardise(obj))
    fluxes = units.flux_variables(obj)
    named = [n for n in names if n in obj.variables and units.is_flux(obj[n].attrs.get("units", ""), obj[n].attrs)]
    name = named[0] if named else fluxes[0] if len(fluxes) == 1 else None
    if name is None:
        wanted = " or ".join(map(repr, names))
        raise ValueError(f"which variable is meant? expected {wanted} or a single flux, found {fluxes}: pass ds[name]")
    bounds = temporal.time_bounds(obj) if "time" in obj[name].dims else None
    # what the Dataset says of itself holds for its flux, unless that says otherwise
    own = riding(obj.attrs) | {k: v for k, v in obj.attrs.items() if k == "area_basis"}
    return checked(obj[name].assign_attrs({**own, **obj[name].attrs})), bounds


def _combine(
    flux: xr.DataArray, bounds: xr.DataArray | None, component: xr.DataArray | xr.Dataset, kind: str, sign: int
) -> xr.DataArray:
    """``flux + sign × component`` on the flux's steps, unit and cells; NaN of the flux stays NaN."""
    part, part_bounds = _one_flux(component, kind)
    _check_component(flux, part, kind)
    part = _on_steps(part, part_bounds, flux, bounds, kind)
    part = _same_labels(part, flux, kind)
    part = _on_cells(part, flux)
    for dim in set(AXES) & set(flux.dims) - set(part.dims):
        part = part.expand_dims({dim: flux[dim]}).assign_attrs(part.attrs)
    bounds = temporal.time_bounds(flux) if bounds is None and "time" in part.dims else bounds
    part = _in_units(part, bounds if "time" in part.dims else None, flux.attrs["units"])
    result = flux + sign * part.reset_coords(drop=True)
    return result.transpose(*flux.dims)


def _check_component(flux: xr.DataArray, part: xr.DataArray, kind: str) -> None:
    """Same area basis where both are known, positive upward, units per area, no dims that the flux has not."""
    for what, da in (("the flux", flux), (_KIND[kind], part)):
        check_upward(da, what)
    bases = area_basis(flux), area_basis(part)
    if None not in bases and bases[0] != bases[1]:
        raise ValueError(
            f"the flux is per m2 of {bases[0]}, {_KIND[kind]} per m2 of {bases[1]}: multiply the one per m2 of land by "
            "the land fraction and set its area_basis to 'cell' first"
        )
    if bases == ("land", "land") and not same_grid(flux, part):
        raise ValueError(
            f"the flux and {_KIND[kind]} are per m2 of land on different grids, whose cells have different shares of "
            "land: their sums would not be kept. Multiply each by its own land fraction and set area_basis to 'cell' "
            "first"
        )
    for what, da in (("the flux", flux), (_KIND[kind], part)):
        if not units.parse(da.attrs.get("units", ""), da.attrs).per_area:
            raise ValueError(
                f"{what}: expected units per area such as 'gC m-2 d-1', got {da.attrs.get('units')!r}; divide what is "
                "per cell by its area, da.flux.cell_area()"
            )
    extra = set(part.dims) - set(flux.dims)
    if set(flux.dims) & set(AXES):
        extra -= set(AXES)  # climatologies and other steps are brought to the flux's
    if extra:
        raise ValueError(
            f"{_KIND[kind]}: dims {sorted(map(str, extra))} are not in the flux {tuple(flux.dims)}; pick one"
        )
    if kind == "rivers" and part.dims == ("lat", "lon") and float((part * cell_area(part)).sum()) > 0:
        warn(
            "rivers add up to a source (positive). What rivers export is an uptake on land, negative here: turn its "
            "sign if your file gives what is to be added to the land flux"
        )
    if kind == "fire" and in_memory(part) and float(part.min()) < 0 >= float(part.max()):
        warn("all fire emissions are negative; fires are a source, positive here: turn their sign")


def _same_labels(part: xr.DataArray, flux: xr.DataArray, kind: str) -> xr.DataArray:
    """The component's inversions, months, … by the flux's labels; xarray alone would drop those it lacks."""
    for dim in set(part.dims) - {"lat", "lon", *AXES}:
        if dim not in flux.coords or dim not in part.coords:
            continue
        lacking = [str(v) for v in flux[dim].values if v not in part[dim].values]
        if lacking:
            raise ValueError(
                f"{_KIND[kind]}: no {dim} {some_of(lacking, 6)}, which the flux has; it has "
                f"{some_of(part[dim].values)}. Select the common ones first"
            )
        part = part.sel({dim: flux[dim].values})
    return part


def _on_steps(
    part: xr.DataArray, part_bounds: xr.DataArray | None, flux: xr.DataArray, bounds: xr.DataArray | None, kind: str
) -> xr.DataArray:
    """The component as a rate per day, averaged over the flux's steps; a constant one stays constant.

    A climatology is spread: each month, or day of the year, onto the times that fall in it.
    """
    axis = next((dim for dim in AXES if dim in part.dims), None)
    if axis is None:
        return part
    steps, own = needed_steps(flux, bounds), needed_steps(part, part_bounds)
    temporal.same_calendar(flux, part)
    if axis == "time" and steps.dim != "time":
        raise ValueError(
            f"{_KIND[kind]} come by date, the flux is a climatology by {steps.dim}: take their mean_seasonal_cycle() "
            "first, over the years that the flux stands for"
        )
    pieces = overlap(steps, own)
    _check_cover(pieces, flux[steps.dim], part[axis], steps.dim == own.dim, kind)
    rate = _in_units(part, part_bounds, "gC m-2 d-1")
    label = flux[steps.dim].reset_coords(drop=True)
    if pieces.one_to_one:
        there = rate.drop_vars(axis).isel({axis: pieces.source}).rename({axis: steps.dim})
        return there.assign_coords({steps.dim: label})
    return _averaged(rate, axis, pieces, label)


def _in_units(part: xr.DataArray, bounds: xr.DataArray | None, wanted: str) -> xr.DataArray:
    """In other units, by the true lengths of the steps where their bounds are known."""
    if bounds is None:
        return temporal.convert_units(part, wanted)
    ds = part.to_dataset(name="part").assign_coords(time_bnds=(("time", "bnds"), bounds.values))
    return temporal.convert_units(ds, wanted)["part"]


def _averaged(rate: xr.DataArray, axis: str, pieces: Overlap, label: xr.DataArray) -> xr.DataArray:
    """Mean of the component over each of the flux's steps; what is missing adds nothing."""
    rate = rate.drop_vars(axis)
    if not np.array_equal(pieces.source, np.arange(rate.sizes[axis])):
        rate = rate.isel({axis: pieces.source})
    mean, _ = sums_by(rate, axis, pieces.target, pieces.share)
    return mean.rename(_period=label.name).assign_coords({label.name: label}).assign_attrs(rate.attrs)


def _check_cover(pieces: Overlap, steps: xr.DataArray, own: xr.DataArray, same_axis: bool, kind: str) -> None:
    """Every flux step is made up of whole component steps; coarser ones would be smeared over several.

    What rivers export is published by year, and is even within it.
    """
    missing = [str(steps.values[i])[:10] for i in np.flatnonzero(pieces.covered(steps.size) < 1 - 1e-9)]
    if missing:
        least, most = (str(v)[:10] for v in (own.values.min(), own.values.max()))
        remedy = "Select the common time first, or give a climatology by month, which stands for every year"
        raise ValueError(
            f"{_KIND[kind]}: {len(missing)} of the flux's {steps.size} steps are not covered, from "
            f"{some_of(missing, 4)}; {own.name} runs from {least} to {most}. "
            f"{remedy if own.name == 'time' else 'Select the common ones first'}"
        )
    shared = np.bincount(pieces.source, minlength=own.size)[pieces.source] > 1
    if same_axis and kind != "rivers" and (shared & (pieces.within < 1 - 1e-9)).any():
        raise ValueError(
            f"{_KIND[kind]} have longer steps than the flux, or steps that straddle its steps: average the flux, or "
            "both, first, for instance to months with xflux.temporal.to_monthly"
        )


def _on_cells(part: xr.DataArray, flux: xr.DataArray) -> xr.DataArray:
    """The component on the flux's cells; what is missing in it is nothing."""
    if not carry(part, Cells.of(flux)).reaches_all:
        south, north, west, east = (float(f(part[d])) for d in ("lat", "lon") for f in (np.min, np.max))
        raise ValueError(
            f"the component covers lat {south:g} to {north:g} and lon {west:g} to {east:g} only, not all of the flux's "
            "cells: reindex it to the whole globe with zeros first"
        )
    return regrid(part, flux, area_basis="cell").fillna(0.0)
