"""Drivers of towers from their own weather, by the recipes of the grid (Sect. 2.2: reanalysis in the gaps only)."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from xflux import temporal
from xflux.align import axis_of, by_month
from xflux.cells import standardise
from xflux.drivers.axis import STEP_LENGTH
from xflux.drivers.base import Base, base_variables, by_date, in_recipe_units
from xflux.drivers.recipe import base_table, table_a2
from xflux.drivers.seasonal import seasonal_cycle, to_daily
from xflux.reading import LackingError, require_variables
from xflux.towers.colocation import Placed, at_cells, at_samples
from xflux.towers.when import by_months, in_real_days
from xflux.values import decoded, warn_of_fills


def at_towers(
    towers: xr.Dataset,
    base: xr.Dataset | Iterable[xr.Dataset],
    own: Mapping[str, str],
    *,
    variant: str = "formulas",
    recipes=None,
    max_distance: float = 50,
) -> xr.Dataset:
    """Drivers at towers, made from the towers' own base variables where they have them.

    The series of a tower, with its cell's in the gaps and before its first year, goes through the recipes that make
    the grid's drivers: water availability and memory are spun up on the cell's weather, seasonal cycles, minima and
    amplitudes are those of the years in which the tower measured.

    Parameters
    ----------
    towers
        Dataset over ``sample`` from ``read_towers``, days or months; with ``every_day=True`` there, weather of days
        without a good flux counts too.
    base
        Base variables of the grid, (time | month | dayofyear, lat, lon), as for ``table_a2``; one Dataset or several.
    own
        Base variable = the tower's own variable, e.g. ``{"TAIR": "Tair", "RG": "SW_IN", "PREC": "P", "VPD": "VPD"}``;
        converted to the units of the recipes, or of the grid.
    variant, recipes
        As for ``table_a2``.
    max_distance
        Largest distance from the tower to the centre of its cell, km.

    Returns
    -------
    xr.Dataset
        The towers that have a cell, with every driver that can be made, ``cell_lat``, ``cell_lon``, ``cell_distance``
        (km), and in ``attrs["<base variable>_from_cell"]`` the share of samples whose value is the cell's. A tower
        variable with the name of a driver becomes ``<name>_tower``.

    Raises
    ------
    KeyError
        ``own`` names a variable that the towers, or a base variable that the grid lacks.
    ValueError
        Unknown places, no site in reach of a cell, units that do not fit.

    Examples
    --------
    >>> day = pd.date_range("2005-01-01", periods=3)
    >>> place = {"site": ("sample", ["A"] * 3), "lat": ("sample", [0.0] * 3), "lon": ("sample", [0.0] * 3)}
    >>> ta = ("sample", [280.0, np.nan, 282.0], {"units": "K"})
    >>> towers = xr.Dataset({"Ta": ta}, {**place, "time": ("sample", day)})
    >>> tair = xr.DataArray(np.full((12, 1, 1), 5.0), {"month": range(1, 13), "lat": [0.0], "lon": [0.0]},
    ...     attrs={"units": "degC"})
    >>> at = at_towers(towers, xr.Dataset({"TAIR": tair}), {"TAIR": "Ta"})
    >>> at.Tair.values.round(2).tolist(), round(at.attrs["TAIR_from_cell"], 2)
    ([6.85, 5.0, 8.85], 0.33)
    """
    bases = [base] if isinstance(base, xr.Dataset) else base
    grids = [_fields(temporal.standardise(standardise(g))) for g in bases]
    require_variables(towers, own.values(), "own: the tower table")
    needed = {str(n) for g in grids for n, v in g.data_vars.items() if "lat" in v.dims}
    placed = at_cells(towers, grids, needed, max_distance)
    data = base_variables([g.assign_coords(lat=("site", placed.lat)) for g in map(in_real_days, placed.fields)])
    time, record = _axis(placed)
    cells = Base(data, base_table())
    shares = {}
    for name, column in own.items():
        found = cells.find(name)
        if found is None:
            raise LackingError(
                f"own={name!r}: the grid has no such base variable to stand beside; it has {', '.join(data)}"
            )
        data[found], shares[f"{name}_from_cell"] = _filled(placed, column, cells[name], time)
    made = table_a2(data, variant, recipes, within=record)
    out = placed.towers.rename({n: f"{n}_tower" for n in map(str, made.data_vars) if n in placed.towers})
    for name, driver in made.data_vars.items():
        out[name] = at_samples(driver, made, placed.number, placed.towers)
    about = {"own_base": ", ".join(f"{k} = {v}" for k, v in own.items()), "proxies": made.attrs["proxies"]}
    return out.assign_coords(placed.coords).assign_attrs(shares | about)


def _fields(grid: xr.Dataset) -> xr.Dataset:
    """Fields over lat and lon, decoded, and what has neither: bounds of time."""
    kept = {
        n: v for n, v in grid.data_vars.items() if {"lat", "lon"} <= set(v.dims) or not {"lat", "lon"} & set(v.dims)
    }
    return grid[list(kept)].assign({n: decoded(v) for n, v in kept.items() if "lat" in v.dims})


def _axis(placed: Placed) -> tuple[xr.DataArray, xr.DataArray]:
    """All steps from a year before the first tower to the last, and (time, site) the years in which each measured."""
    when = pd.DatetimeIndex(placed.towers["time"].values)
    freq = "MS" if by_months(placed.towers) else "D"
    steps = pd.date_range(f"{when.year.min() - 1}-01-01", f"{when.year.max()}-12-31", freq=freq)
    time = xr.DataArray(steps, {"time": steps}, "time", name="time")
    years = pd.Series(when.year).groupby(placed.number).agg(["min", "max"])
    first, last = (xr.DataArray(years[k].to_numpy(), dims="site") for k in ("min", "max"))
    year = time.dt.year
    return time, (year >= first) & (year <= last)


def _filled(placed: Placed, column: str, cell: xr.DataArray, time: xr.DataArray) -> tuple[xr.DataArray, float]:
    """The towers' series (time, site) in the cell's units with the cell's in the gaps; the share of samples in gaps."""
    own, want = decoded(placed.towers[column]), cell.attrs.get("units")
    warn_of_fills(own.values, f"the towers' {column!r}")
    when = pd.DatetimeIndex(own["time"].values)
    when = when.to_period("M").to_timestamp() if by_months(placed.towers) else when.normalize()
    if (twice := pd.MultiIndex.from_arrays([placed.number, when]).duplicated()).any():
        site, day = placed.towers["site"].values[twice][0], f"{when[twice][0]:%Y-%m-%d}"
        raise ValueError(
            f"site {site} has several samples on {day} ({twice.sum()} such samples in all): a series of days or months "
            "has one; average them first"
        )
    series = np.full((time.size, len(placed.lat)), np.nan)
    series[pd.DatetimeIndex(time.values).get_indexer(when), placed.number] = own.values
    axes = {"time": time, "lat": ("site", placed.lat)}
    series = in_recipe_units(xr.DataArray(series, axes, ("time", "site"), column, own.attrs), want)
    filled = series.fillna(_on_axis(cell, time)).transpose("time", "site").assign_attrs(cell.attrs)
    return filled, float(own.isnull().mean())


def _on_axis(cell: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    """The cell's values at days or months; where it has no such date, its mean seasonal cycle."""
    axis = axis_of(cell)
    if axis is None:
        return cell
    monthly = bool((time.dt.day == 1).all())
    if axis == "time":
        cycle = _on_axis(seasonal_cycle(cell), time)
        dated = cell.drop_vars(STEP_LENGTH, errors="ignore") if monthly else to_daily(cell)
        floor = pd.DatetimeIndex(dated["time"].values).to_period("M" if monthly else "D").to_timestamp()
        dated = dated.assign_coords(time=floor)
        dated = dated.groupby("time").mean() if floor.has_duplicates else dated
        return dated.reindex(time=time).fillna(cycle)
    if axis == "dayofyear" and monthly:
        cell = by_month(cell)
    return by_date(cell, time)
