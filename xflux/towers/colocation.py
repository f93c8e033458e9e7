"""Drivers at the towers: the nearest valid land cell, matched in time."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from xflux import temporal
from xflux.cells import standardise
from xflux.display import some_of
from xflux.reading import LackingError
from xflux.temporal.calendar import AXES
from xflux.towers.folds import EARTH_RADIUS_KM, great_circle_km, require_places, site_table
from xflux.towers.when import match_times
from xflux.units import conversion
from xflux.values import SAY_UNITS, decoded, warn, warn_of_fills


def colocate(towers: xr.Dataset, grid: xr.Dataset, max_distance: float = 50, keep: Iterable[str] = ()) -> xr.Dataset:
    """Add every driver of ``grid`` to the towers, from the nearest valid land cell.

    A cell is valid where every driver (but those kept) has at least one finite value; its distance to the tower is
    that of its centre, along a great circle. Values are taken by date (the grid's step that the tower's day falls
    in), month or day of year (366 takes 365 where the climatology has 365 days); towers by month take the mean of the
    grid's month. Days outside the grid's period get NaN.

    Parameters
    ----------
    towers
        Dataset over ``sample`` from ``read_towers``.
    grid
        Dataset of drivers with (time | month | dayofyear, lat, lon) or (lat, lon); lazy input is read at the towers'
        cells only.
    max_distance
        Largest distance from the tower to the centre of its cell, km.
    keep
        Variables that the tower has measured itself: they stand in for the driver of the same name, converted to the
        grid's units; where the tower has none (NaN), the grid's value fills in (as ERA5 does in the paper), and
        ``attrs["filled_from_grid"]`` says how many samples that are.

    Returns
    -------
    xr.Dataset
        The towers (those that have a cell) with the drivers, and the coordinates ``cell_lat``, ``cell_lon``,
        ``cell_distance`` (km). A tower variable that has the name of a driver and is not kept becomes ``<name>_tower``.

    Raises
    ------
    ValueError
        Unknown places (the sites are named), no site in reach of a cell, towers outside the grid's period, units that
        do not fit.
    KeyError
        ``keep`` names a variable that the towers or the grid lack.

    Examples
    --------
    >>> towers = xr.Dataset({"nee": ("sample", [-1.0])}, {"site": ("sample", ["A"]), "lat": ("sample", [0.1]),
    ...     "lon": ("sample", [359.9]), "time": ("sample", np.array(["2005-07-01"], "datetime64[ns]"))})
    >>> grid = xr.Dataset({"ndvi": (("month", "lat", "lon"), np.arange(12.0).reshape(12, 1, 1))},
    ...     {"month": range(1, 13), "lat": [0.0], "lon": [0.0]})
    >>> at = colocate(towers, grid)
    >>> float(at.ndvi[0]), round(float(at.cell_distance[0]), 1)
    (6.0, 15.7)
    """
    keep = [keep] if isinstance(keep, str) else list(keep)
    grid = temporal.standardise(standardise(grid))
    drivers = _drivers(grid)
    grid = grid.assign({name: decoded(grid[name]) for name in drivers})
    _check_keep(towers, drivers, keep)
    placed = at_cells(towers, [grid[drivers]], [d for d in drivers if d not in keep] or drivers, max_distance)
    (at_sites,), towers = placed.fields, placed.towers
    out = towers.rename({d: f"{d}_tower" for d in drivers if d in towers and d not in keep})
    for name in drivers:
        warn_of_fills(at_sites[name].values, f"driver {name!r}")
        values = at_samples(at_sites[name], grid, placed.number, towers)
        out[name] = _own(decoded(towers[name]), values) if name in keep else values
    return out.assign_coords(placed.coords)


@dataclass(frozen=True)
class Placed:
    """Towers that have a cell, and what the grids have there."""

    towers: xr.Dataset
    """The samples of these towers."""
    number: np.ndarray
    """Position along ``site`` of every sample."""
    lat: np.ndarray
    """Latitude of the towers, by site."""
    fields: list[xr.Dataset]
    """The grids' variables with ``site`` in place of lat and lon, in memory."""
    coords: dict
    """``cell_lat``, ``cell_lon``, ``cell_distance`` by sample."""


def at_cells(towers: xr.Dataset, grids: list[xr.Dataset], needed: Iterable[str], max_distance: float) -> Placed:
    """Grids on the same cells, at the nearest cell of every tower where each of ``needed`` has a value."""
    names, lat, lon, number = site_table(towers)
    require_places(names, lat, lon, "colocate")
    cells = _nearest_valid(grids, set(needed), lat, lon, max_distance)
    _tell_unreached(names, cells.index, max_distance)
    kept = np.isin(number, cells.index)
    towers, number = towers.isel(sample=kept), cells.index.get_indexer(number[kept])
    index = {d: xr.DataArray(cells[d].to_numpy(), dims="site") for d in ("lat", "lon")}
    fields = [g.isel(index).drop_vars(["lat", "lon"], errors="ignore").compute() for g in grids]
    place = {"units": "km", "long_name": "great-circle distance from the tower to the centre of its cell"}
    coords = {f"cell_{d}": ("sample", grids[0][d].values[cells[d]][number]) for d in ("lat", "lon")}
    coords["cell_distance"] = ("sample", cells["km"].to_numpy()[number], place)
    return Placed(towers, number, lat[cells.index], fields, coords)


def _drivers(grid: xr.Dataset) -> list[str]:
    """Numeric variables over lat and lon; other dims than a time axis are an error."""
    drivers = [str(n) for n, v in grid.data_vars.items() if {"lat", "lon"} <= set(v.dims) and v.dtype.kind in "fiub"]
    for name in drivers:
        other = set(grid[name].dims) - {"lat", "lon"}
        if len(other) > 1 or not other <= set(AXES):
            raise ValueError(
                f"driver {name!r} has the dims {grid[name].dims}: (time | month | dayofyear, lat, lon) or (lat, lon) "
                "are possible; select or mix the others first (drivers.mix_pfts for plant functional types)"
            )
    if not drivers:
        raise ValueError(f"the grid has no numeric variable over lat and lon; it has {list(grid.data_vars)}")
    return drivers


def _check_keep(towers: xr.Dataset, drivers: list[str], keep: list[str]) -> None:
    for name in keep:
        if name not in towers:
            own = [v for v in map(str, towers.data_vars) if not v.startswith("nee")]
            raise LackingError(f"keep={name!r}: the towers have no such variable; they have {', '.join(own)}")
        if name not in drivers:
            raise LackingError(
                f"keep={name!r}: the grid has no driver of that name to stand in for; it has {', '.join(drivers)}. "
                "Rename the grid's variable, or leave it out of keep"
            )


def _nearest_valid(grids: list[xr.Dataset], drivers: set[str], lat, lon, max_distance: float) -> pd.DataFrame:
    """Cell (lat and lon index, km) by number of the site, of those that have one in reach."""
    near = _candidates(grids[0], lat, lon, max_distance)
    rank = near.groupby("site").cumcount()
    found = near.iloc[:0]
    # nearest first: most sites need one look, and lazy grids are read at few cells
    for first, last in ((0, 1), (1, 5), (5, 21), (21, len(near))):
        look = near[(rank >= first) & (rank < last) & ~near["site"].isin(found["site"])]
        if len(look):
            at = look["lat"].to_numpy(), look["lon"].to_numpy()
            valid = np.logical_and.reduce([_has_drivers(g[[n for n in g if n in drivers]], *at) for g in grids])
            found = pd.concat([found, look[valid].drop_duplicates("site")])
    return found.set_index("site").sort_index()


def _candidates(grid: xr.Dataset, lat, lon, max_distance: float) -> pd.DataFrame:
    """For every site the cells within ``max_distance`` km, nearest first."""
    glat, glon = np.asarray(grid["lat"].values, float), np.asarray(grid["lon"].values, float)
    parts = []
    for site, (y, x) in enumerate(zip(lat, lon, strict=True)):
        near = np.flatnonzero(np.abs(glat - y) <= np.rad2deg(max_distance / EARTH_RADIUS_KM) + 1e-9)
        km = great_circle_km(y, x, glat[near, None], glon[None, :])
        row, col = np.nonzero(km <= max_distance)
        cells = pd.DataFrame({"site": site, "lat": near[row], "lon": col, "km": km[row, col]})
        parts.append(cells.sort_values("km", kind="stable"))
    return pd.concat(parts, ignore_index=True)


def _has_drivers(grid: xr.Dataset, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Which cells have a value of every driver at some step: most do at the first, of the others all are read."""
    found = _has_values(grid.isel({d: slice(0, 1) for d in grid.dims if d not in ("lat", "lon")}), rows, cols)
    found[~found] = _has_values(grid, rows[~found], cols[~found])
    return found


def _has_values(grid: xr.Dataset, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    here = grid.isel(lat=xr.DataArray(rows, dims="cell"), lon=xr.DataArray(cols, dims="cell"))
    checks = xr.Dataset({n: v.notnull().any([d for d in v.dims if d != "cell"]) for n, v in here.data_vars.items()})
    return np.logical_and.reduce(
        [np.ones(len(rows), bool)] + [v.values for v in checks.reset_coords(drop=True).compute().values()]
    )


def _tell_unreached(names: np.ndarray, reached: pd.Index, max_distance: float) -> None:
    """The sites that have no cell are named in a warning, and in an error where that is all."""
    lost = np.delete(names, reached)
    if not len(reached):
        raise ValueError(
            f"no tower has a cell with drivers within {max_distance} km (sites {some_of(names)}): check the "
            "longitudes and the grid's extent, fill coastal cells (drivers.fill_nearest) or raise max_distance"
        )
    if len(lost):
        warn(
            f"{len(lost)} of {len(names)} sites have no cell with drivers within {max_distance} km and are left out: "
            f"{some_of(lost)}"
        )


def at_samples(at_sites: xr.DataArray, grid: xr.Dataset, number: np.ndarray, towers: xr.Dataset) -> xr.DataArray:
    """A driver's series at the sites → its value at every sample."""
    axis = next((d for d in AXES if d in at_sites.dims), None)
    about = ("units", "long_name", "proxy_for", "source", "comment", "formula")
    attrs = {k: v for k, v in at_sites.attrs.items() if k in about}
    if axis is None:
        return xr.DataArray(at_sites.values[number], dims="sample", attrs=attrs)
    series, step = match_times(at_sites.transpose(axis, "site"), axis, grid, towers)
    values = np.full(len(number), np.nan, np.result_type(series.dtype, np.float32))
    inside = step >= 0
    values[inside] = series[step[inside], number[inside]]
    return xr.DataArray(values, dims="sample", attrs=attrs)


def _own(own: xr.DataArray, driver: xr.DataArray) -> xr.DataArray:
    """The tower's own measurement in the driver's units; the grid's value where the tower has none."""
    have, want = own.attrs.get("units"), driver.attrs.get("units")
    if have is None and want is not None:
        warn(f"keep={own.name!r}: the tower's {own.name!r} has no units: taken to be in {want!r}. {SAY_UNITS}")
    values = own if have is None or want is None else converted(own, have, want)
    gaps = values.isnull()
    out = values.where(~gaps, driver)
    filled = int((gaps & driver.notnull()).sum())
    return out.assign_attrs(
        {**driver.attrs, **({"units": want or have} if want or have else {})}, source="tower", filled_from_grid=filled
    )


def converted(own: xr.DataArray, have: str, want: str) -> xr.DataArray:
    """Units of a driver; temperatures have an offset, and the rest a factor."""
    try:
        scale, offset = conversion(have, want)
    except ValueError as problem:
        raise ValueError(
            f"keep={own.name!r}: the tower's {have!r} cannot stand in for the grid's {want!r} ({problem})"
        ) from problem
    return own if (scale, offset) == (1, 0) else own * scale + offset
