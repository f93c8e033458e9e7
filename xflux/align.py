"""Drivers on one axis: their names and units, and which step of each belongs to every step of the whole.

Drivers come by time, by month, by day of the year, or without an axis. The forward run, the trainer's constraints and
the towers meet them here. Nothing is loaded.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xflux.reading import LackingError
from xflux.temporal import mean_by
from xflux.temporal.bounds import dates_within
from xflux.temporal.calendar import AXES, month_lengths, month_of_day
from xflux.temporal.dates import is_date, written
from xflux.units import same

_LENGTHS = {"month": (12,), "dayofyear": (360, 365, 366)}


class DriverError(LackingError):
    """A driver is missing or misnamed."""


def find(grid: xr.Dataset, names: Sequence[str], what: str = "predict: the grid") -> dict[str, xr.DataArray]:
    """The drivers by name, as they are asked for.

    Raises DriverError: one is missing (the nearest name is given); ValueError: one holds no numbers.
    """
    for name in names:
        if name not in grid.variables:
            raise DriverError(_missing(grid, name, names, what))
        if grid[name].dtype.kind not in "fiub":
            raise ValueError(f"{what}: driver {name!r} is of type {grid[name].dtype}; expected numbers")
    return {name: grid[name] for name in names}


def _missing(grid: xr.Dataset, name: str, names: Sequence[str], what: str) -> str:
    lacking = [d for d in names if d not in grid.variables]
    known = {v.lower(): v for v in map(str, grid.data_vars)}
    others = [low for low, v in known.items() if v not in names]  # another driver is no misspelling
    near = difflib.get_close_matches(name.lower(), others, n=1, cutoff=0.4)
    hint = f'; nearest is {known[near[0]]!r}: grid.rename({{"{known[near[0]]}": "{name}"}})' if near else ""
    has = f"the grid has {sorted(known.values())}"
    return f"{what} lacks driver {name!r}{hint}. Missing: {lacking}; {has}"


def check_units(drivers: Mapping[str, xr.DataArray], expected: Mapping[str, str]) -> None:
    """Raise where a driver has other units than those that the model was trained with; unknown ones pass."""
    for name, da in drivers.items():
        given, wanted = da.attrs.get("units"), expected.get(name)
        if given is not None and wanted and not same(str(given), str(wanted)):
            raise ValueError(
                f"driver {name!r} has units {given!r}, the model was trained with {wanted!r}; convert the values "
                f"and set grid[{name!r}].attrs['units'] = {wanted!r}"
            )


def axis_of(da: xr.DataArray) -> str | None:
    """``time``, ``month``, ``dayofyear``, or None for a static field."""
    found = [d for d in AXES if d in da.dims]
    if len(found) > 1:
        raise ValueError(f"{da.name!r} has the dims {da.dims}: one of {', '.join(AXES)} is expected, not several")
    return found[0] if found else None


def finest(axes: Iterable[str | None]) -> str | None:
    """The axis on which drivers of several axes meet: dates, else days of the year, else months."""
    found = set(axes)
    return next((axis for axis in AXES if axis in found), None)


def labels(grid: xr.Dataset, axis: str) -> xr.DataArray:
    """Coordinate of an axis; a climatology without labels counts from 1."""
    if axis in grid.coords:
        coord = grid[axis].reset_coords(drop=True)
        return coord if axis == "time" else _counted(coord, axis)
    if axis == "time":
        return xr.DataArray(np.arange(grid.sizes["time"]), dims="time")
    if grid.sizes[axis] not in _LENGTHS[axis]:
        raise ValueError(
            f"the grid has {grid.sizes[axis]} steps of {axis!r} and no coordinate; expected "
            f"{' or '.join(map(str, _LENGTHS[axis]))} steps, or a coordinate {axis!r} that counts from 1"
        )
    values = np.arange(1, grid.sizes[axis] + 1)
    return xr.DataArray(values, dims=axis, coords={axis: values})


def _counted(coord: xr.DataArray, axis: str) -> xr.DataArray:
    """A climatology's coordinate, after a check that it counts months or days from 1."""
    last = max(_LENGTHS[axis])
    if coord.dtype.kind not in "iuf" or not bool(((coord >= 1) & (coord <= last) & (coord % 1 == 0)).all()):
        raise ValueError(
            f"the coordinate {axis!r} goes from {' to '.join(map(written, coord.values[[0, -1]]))}; expected whole "
            f"numbers from 1 to {last}: set it with grid.assign_coords({axis}=…)"
        )
    return coord


def dates(grid: xr.Dataset, coord: xr.DataArray) -> xr.DataArray:
    """A date within every step: of the grid's own steps what their bounds say, which stamps may end."""
    position = own_steps(grid, coord)
    return coord if position is None else dates_within(grid).isel(time=position).assign_coords(time=coord["time"])


def own_steps(grid: xr.Dataset, coord: xr.DataArray) -> np.ndarray | None:
    """Positions of dates among the grid's own; None where they are others."""
    if "time" not in grid.indexes or not is_date(coord) or not is_date(grid["time"]):
        return None
    index = grid.indexes["time"]
    position = index.get_indexer(coord.to_index()) if index.is_unique else np.full(coord.size, -1)
    return None if (position < 0).any() else position


def requested(grid: xr.Dataset, time: Any, has_time: bool) -> xr.DataArray:
    """The coordinate ``time`` that is asked for: a part of the grid's own, or dates."""
    if isinstance(time, (str, slice)):
        if not has_time:
            raise ValueError(f"predict: time={time!r}, but no driver has a time dim; give the dates themselves")
        try:
            coord = grid["time"].sel(time=time)
        except KeyError as error:
            ends = " to ".join(map(written, grid["time"].values[[0, -1]]))
            raise ValueError(f"predict: time={time!r} is not in the drivers' time, {ends}") from error
        coord = coord if coord.ndim else coord.expand_dims("time")
    elif isinstance(time, xr.DataArray):
        coord = time if time.ndim else time.expand_dims("time")
    else:
        values = np.atleast_1d(np.asarray(time))
        plain = values.dtype.kind == "U" or all(isinstance(v, date) for v in values.flat)
        values = values.astype("datetime64[ns]") if plain else values
        coord = xr.DataArray(values, dims="time", coords={"time": values})
    if coord.dims != ("time",) or not coord.size or not is_date(coord):
        raise ValueError(f"predict: time= has dims {coord.dims}, type {coord.dtype}; expected one or more dates")
    return coord.reset_coords(drop=True).assign_coords(time=coord.variable.to_base_variable())


def months(axis: str, coord: xr.DataArray) -> np.ndarray:
    """Calendar month (1–12) of every step of an axis."""
    if axis == "month":
        return coord.values.astype(int)
    return coord.dt.month.values if axis == "time" else month_of_day(coord.values, year_length(coord))


def year_length(days: xr.DataArray) -> int:
    """Length of the year that a day-of-year axis counts: 360 only where it has just these days; a part is of 365."""
    last = int(days.max())
    return 360 if last == days.size == 360 else max(365, last)


def by_month(da: xr.DataArray) -> xr.DataArray:
    """Mean of every calendar month (month, …) of a driver by dates or days of the year; others as they are."""
    if "time" in da.dims:
        groups = "time.month"
    elif "dayofyear" in da.dims:
        numbers = month_of_day(labels(da.to_dataset(name="driver"), "dayofyear").values)
        da, groups = da.drop_vars("dayofyear", errors="ignore"), xr.DataArray(numbers, dims="dayofyear", name="month")
    else:
        return da
    return mean_by(da, groups).assign_attrs(da.attrs)


def step_of(name: str, grid: xr.Dataset, own: str, axis: str, coord: xr.DataArray) -> np.ndarray:
    """Own step (month or day of year) of a driver at every step of ``axis``, whose dates or labels are ``coord``.

    Day 366 takes 365 where there is none; any other day or month that is lacking is an error.
    """
    if axis == "time" and not is_date(coord):
        raise ValueError(f"driver {name!r} is a climatology by {own}, but time holds {coord.dtype}, not dates")
    wanted = months(axis, coord) if own == "month" else coord.dt.dayofyear.values
    return _matched(name, labels(grid, own).values, wanted, own, axis)


def _matched(name: str, have: np.ndarray, wanted: np.ndarray, own: str, axis: str) -> np.ndarray:
    if len(np.unique(have)) < have.size:
        raise ValueError(f"the {own} coordinate of driver {name!r} has duplicates: {have.tolist()}")
    if own == "dayofyear" and have.max() == 365:
        wanted = np.minimum(wanted, 365)
    at = pd.Index(have).get_indexer(wanted)
    if lacking := sorted({int(v) for v in wanted[at < 0]}):
        raise ValueError(
            f"driver {name!r} has no {own} {', '.join(map(str, lacking[:12]))} (it has {int(have.min())} to "
            f"{int(have.max())}), which the steps by {axis} need"
        )
    return at


def between_months(name: str, grid: xr.Dataset, axis: str, coord: xr.DataArray) -> tuple[np.ndarray, ...]:
    """Earlier and later own step of a driver by month, and the weight of the later, at the middle of each day.

    Linear between mid-months, December joined to January.
    """
    where = _matched(name, labels(grid, "month").values, np.arange(1, 13), "month", axis)
    days, lengths = _days_and_lengths(axis, coord)
    earlier, weight = np.empty(days.size, np.int64), np.empty(days.size, np.float32)
    for length in np.unique(lengths):
        own = month_lengths(int(length))
        middles = np.cumsum(own) - own / 2
        ring = np.concatenate([[middles[-1] - length], middles, [middles[0] + length]])
        at = lengths == length
        left = np.searchsorted(ring, days[at] - 0.5, side="right") - 1
        earlier[at] = (left - 1) % 12
        weight[at] = (days[at] - 0.5 - ring[left]) / (ring[left + 1] - ring[left])
    return where[earlier], where[(earlier + 1) % 12], weight


def _days_and_lengths(axis: str, coord: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    if axis == "dayofyear":
        return coord.values, np.full(coord.size, year_length(coord))
    if coord.size > 1 and np.median(np.diff(coord.values).astype("timedelta64[s]").astype(float)) > 1.5 * 86400:
        raise ValueError("predict: interpolate=True needs daily or shorter steps; these are longer: leave it out")
    return coord.dt.dayofyear.values, np.asarray(coord.dt.days_in_year)
