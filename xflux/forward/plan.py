"""How the drivers of a grid meet on the axis of the result: names, dims, units, calendars. Nothing is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import xarray as xr

from xflux import temporal
from xflux.cells import with_lat_lon
from xflux.forward.model import Model
from xflux.values import decoded

AXES = ("time", "month", "dayofyear")
_LENGTHS = {"month": (12,), "dayofyear": (360, 365, 366)}


class DriverError(KeyError, ValueError):
    """A driver is missing or misnamed. A KeyError whose text is readable."""

    __str__ = ValueError.__str__


@dataclass(frozen=True)
class Driver:
    """One driver and, for every step of the result, its own step (two and a weight where it is interpolated)."""

    name: str
    data: xr.DataArray  # dims: axis (if any), then those of the plan's space that it has
    axis: str | None
    steps: np.ndarray  # (n_steps,) position along the driver's axis
    later: np.ndarray | None = None  # second position, and its weight
    weight: np.ndarray | None = None
    aligned: bool = False  # the driver's axis is the result's


@dataclass(frozen=True)
class Plan:
    """The drivers in the model's order, the result's axis and its horizontal dims."""

    drivers: tuple[Driver, ...]
    axis: str | None
    n_steps: int
    coord: xr.DataArray | None  # labels of the axis
    space: tuple[str, ...]
    sizes: dict[str, int]
    coords: dict[str, xr.DataArray]  # coordinates that ride along

    @property
    def dims(self) -> tuple[str, ...]:
        """Dims of one plane of the result."""
        return ((self.axis,) if self.axis else ()) + self.space


def plan(grid: xr.Dataset, model: Model, time: Any = None, interpolate: bool = False) -> Plan:
    """Meet the drivers of ``grid`` on one axis.

    Raises
    ------
    DriverError
        A driver is missing (the nearest name is given). It is a KeyError and a ValueError.
    ValueError
        A driver has other units than the model, or dims or steps that cannot be matched.
    """
    _check_model(model)
    if not isinstance(grid, xr.Dataset):
        raise TypeError(f"predict: the grid of drivers is a {type(grid).__name__}; expected an xarray.Dataset")
    grid = with_lat_lon(temporal.standardise(grid))
    chosen = {name: decoded(_find(grid, name, model)) for name in model.drivers}
    _check_units(chosen, getattr(model, "driver_units", None) or {})
    space = _space(chosen)
    kinds = {name: _axis_of(da, name, space) for name, da in chosen.items()}
    axis, coord = _result_axis(grid, kinds, time)
    n_steps = 1 if coord is None else coord.size
    dates = _dates(grid, coord) if axis == "time" else coord
    drivers = []
    for name, da in chosen.items():
        own = kinds[name]
        da = da.transpose(*(d for d in (own, *space) if d in da.dims)).reset_coords(drop=True)
        when = coord if own == "time" else dates
        steps, later, weight = _lookup(grid, name, own, axis, when, n_steps, interpolate)
        aligned = own is not None and own == axis
        if aligned and not np.array_equal(steps, np.arange(da.sizes[axis])):
            da, steps = da.isel({axis: steps}), np.arange(n_steps)
        drivers.append(Driver(name, da, own, steps, later, weight, aligned))
    sizes = {d: grid.sizes[d] for d in space} | ({axis: n_steps} if axis else {})
    return Plan(tuple(drivers), axis, n_steps, coord, space, sizes, _riding_coords(grid, space, axis, coord))


def _check_model(model: Any) -> None:
    lacking = [a for a in ("drivers", "units", "target_names", "predict") if not hasattr(model, a)]
    if lacking:
        raise TypeError(
            f"predict: {type(model).__name__} is no flux model (it has no {', '.join(lacking)}); "
            'make one with xflux.wrap(model, drivers=[…], units="gC m-2 d-1")'
        )


def _find(grid: xr.Dataset, name: str, model: Model) -> xr.DataArray:
    if name in grid.variables:
        da = grid[name]
        if da.dtype.kind not in "fiub":
            raise ValueError(f"predict: driver {name!r} is of type {da.dtype}; expected numbers")
        return da
    lacking = [d for d in model.drivers if d not in grid.variables]
    known = {v.lower(): v for v in map(str, grid.data_vars)}
    others = [low for low, v in known.items() if v not in model.drivers]  # another driver is no misspelling
    near = difflib.get_close_matches(name.lower(), others, n=1, cutoff=0.4)
    hint = f'; nearest is {known[near[0]]!r}: grid.rename({{"{known[near[0]]}": "{name}"}})' if near else ""
    has = f"the grid has {sorted(known.values())}"
    raise DriverError(f"predict: the grid lacks driver {name!r}{hint}. Missing: {lacking}; {has}")


def _check_units(chosen: dict[str, xr.DataArray], expected: dict[str, str]) -> None:
    from xflux.units import same

    for name, da in chosen.items():
        given, wanted = da.attrs.get("units"), expected.get(name)
        if given is None or wanted is None or same(str(given), str(wanted)):
            continue
        raise ValueError(
            f"predict: driver {name!r} has units {given!r}, the model was trained with {wanted!r}; convert the values "
            f"and set grid[{name!r}].attrs['units'] = {wanted!r}"
        )


def _space(chosen: dict[str, xr.DataArray]) -> tuple[str, ...]:
    """The horizontal dims: lat and lon, or on other grids (cells, samples, y and x) those of the drivers."""
    every = [d for da in chosen.values() for d in da.dims if d not in AXES]
    if "lat" in every or "lon" in every:
        return tuple(d for d in ("lat", "lon") if d in every)
    largest = max(chosen.values(), key=lambda da: da.ndim)
    return tuple(d for d in largest.dims if d not in AXES)


def _axis_of(da: xr.DataArray, name: str, space: Sequence[str]) -> str | None:
    own = [d for d in da.dims if d not in space]
    extra = [d for d in own if d not in AXES]
    if extra:
        raise ValueError(
            f"predict: driver {name!r} has the dim {extra[0]!r} beside {list(da.dims)}; expected time, month or "
            f"dayofyear with {list(space)}; take one at a time, as in grid.isel({extra[0]}=0)"
        )
    if len(own) > 1:
        raise ValueError(f"predict: driver {name!r} has the dims {own}; expected one of time, month, dayofyear")
    return own[0] if own else None


def _result_axis(grid: xr.Dataset, kinds: dict, time: Any) -> tuple[str | None, xr.DataArray | None]:
    found = set(kinds.values())
    if time is not None:
        return "time", _requested_time(grid, time, "time" in found)
    for axis in ("time", "dayofyear", "month"):
        if axis in found:
            return axis, _labels(grid, axis)
    return None, None


def _requested_time(grid: xr.Dataset, time: Any, has_time: bool) -> xr.DataArray:
    if isinstance(time, (str, slice)):
        if not has_time:
            raise ValueError(f"predict: time={time!r}, but no driver has a time dim; give the dates themselves")
        try:
            coord = grid["time"].sel(time=time)
        except KeyError as error:
            ends = grid["time"].values[[0, -1]]
            raise ValueError(f"predict: time={time!r} is not in the drivers' time, {ends[0]} to {ends[1]}") from error
        coord = coord if coord.ndim else coord.expand_dims("time")
    elif isinstance(time, xr.DataArray):
        coord = time if time.ndim else time.expand_dims("time")
    else:
        values = np.atleast_1d(np.asarray(time))
        plain = values.dtype.kind == "U" or all(isinstance(v, date) for v in values.flat)
        values = values.astype("datetime64[ns]") if plain else values
        coord = xr.DataArray(values, dims="time", coords={"time": values})
    if coord.dims != ("time",) or not coord.size or not _is_date(coord):
        raise ValueError(f"predict: time= has dims {coord.dims}, type {coord.dtype}; expected one or more dates")
    return coord.reset_coords(drop=True).assign_coords(time=coord.variable.to_base_variable())


def _dates(grid: xr.Dataset, coord: xr.DataArray) -> xr.DataArray:
    """A date within every step of the result: of the grid's own steps what their bounds say, which stamps may end."""
    from xflux.temporal.bounds import dates_within

    position = _positions(grid, coord)
    if position is None:
        return coord
    return dates_within(grid).isel(time=position).assign_coords(time=coord["time"])


def _positions(grid: xr.Dataset, coord: xr.DataArray) -> np.ndarray | None:
    """Positions of the dates of the result among the grid's own; None where they are others."""
    if "time" not in grid.indexes or not _is_date(coord) or not _is_date(grid["time"]):
        return None
    index = grid.indexes["time"]
    position = index.get_indexer(coord.to_index()) if index.is_unique else np.full(coord.size, -1)
    return None if (position < 0).any() else position


def _is_date(coord: xr.DataArray) -> bool:
    return coord.dtype.kind == "M" or (coord.dtype.kind == "O" and hasattr(coord.values.flat[0], "timetuple"))


def _labels(grid: xr.Dataset, axis: str) -> xr.DataArray:
    """Coordinate of an axis; a climatology without labels counts from 1."""
    if axis in grid.coords:
        coord = grid[axis].reset_coords(drop=True)
        return coord if axis == "time" else _counted(coord, axis)
    if axis == "time":
        return xr.DataArray(np.arange(grid.sizes["time"]), dims="time")
    if grid.sizes[axis] not in _LENGTHS[axis]:
        raise ValueError(
            f"predict: the grid has {grid.sizes[axis]} steps of {axis!r} and no coordinate; expected "
            f"{' or '.join(map(str, _LENGTHS[axis]))} steps, or a coordinate {axis!r} that counts from 1"
        )
    values = np.arange(1, grid.sizes[axis] + 1)
    return xr.DataArray(values, dims=axis, coords={axis: values})


def _counted(coord: xr.DataArray, axis: str) -> xr.DataArray:
    """A climatology's coordinate, after a check that it counts months or days from 1."""
    last = max(_LENGTHS[axis])
    if coord.dtype.kind not in "iuf" or not bool(((coord >= 1) & (coord <= last) & (coord % 1 == 0)).all()):
        raise ValueError(
            f"predict: the coordinate {axis!r} goes from {coord.values[0]} to {coord.values[-1]}; expected whole "
            f"numbers from 1 to {last}: set it with grid.assign_coords({axis}=…)"
        )
    return coord


def _lookup(
    grid: xr.Dataset, name: str, own: str | None, axis: str | None, coord: Any, n_steps: int, interpolate: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Position along the driver's axis for every step of the result."""
    if own is None:
        return np.zeros(n_steps, np.int64), None, None
    if own == axis and axis != "time":
        return np.arange(n_steps), None, None
    if own == "time":
        return _match_time(grid, name, coord), None, None
    if axis == "month":
        raise AssertionError("a driver by day of year gives a result by day of year")
    if axis == "time" and not _is_date(coord):
        raise ValueError(f"predict: driver {name!r} is a climatology by {own}, but time holds {coord.dtype}, not dates")
    if own == "month" and interpolate:
        return _between_months(grid, name, axis, coord)
    wanted = coord.dt.dayofyear if own == "dayofyear" else _months(axis, coord)
    return _match(_labels(grid, own).values, np.asarray(wanted), name, own), None, None


def _match_time(grid: xr.Dataset, name: str, coord: xr.DataArray) -> np.ndarray:
    if "time" not in grid.indexes:
        return np.arange(coord.size)
    index = grid.indexes["time"]
    if not index.is_unique:
        raise ValueError(f"predict: the time axis of driver {name!r} has duplicates: drop_duplicates('time') first")
    if index.equals(coord.to_index()):
        return np.arange(coord.size)
    steps = index.get_indexer(coord.to_index())
    if (steps < 0).any():
        missing = coord.values[steps < 0]
        raise ValueError(
            f"predict: driver {name!r} has no value at {missing[0]} ({missing.size} of {coord.size} steps of time=); "
            f"it covers {index[0]} to {index[-1]}"
        )
    return steps


def _match(labels: np.ndarray, wanted: np.ndarray, name: str, own: str) -> np.ndarray:
    """Positions of the wanted months or days of year; day 366 takes 365 where there is none."""
    where = {int(v): i for i, v in enumerate(labels)}
    if len(where) != labels.size:
        raise ValueError(f"predict: the {own} coordinate of driver {name!r} has duplicates: {labels.tolist()}")
    if own == "dayofyear" and 366 not in where and 365 in where:
        where[366] = where[365]
    lacking = sorted(set(wanted.tolist()) - set(where))
    if lacking:
        raise ValueError(
            f"predict: driver {name!r} has no {own} {lacking[0]} (it has {min(where)} to {max(where)}), which the "
            f"result's calendar needs"
        )
    return np.array([where[int(v)] for v in wanted])


def _months(axis: str, coord: xr.DataArray) -> np.ndarray:
    if axis == "time":
        return coord.dt.month.values
    ends = np.cumsum(_month_lengths(_year_length(coord)))
    return np.searchsorted(ends, coord.values, side="left") + 1


def _year_length(coord: xr.DataArray) -> int:
    """Length of the year that a day-of-year axis counts: 360 only where it has just these days; a part is of 365."""
    last = int(coord.max())
    return 360 if last == coord.size == 360 else max(365, last)


def _month_lengths(year_length: int) -> np.ndarray:
    if year_length == 360:
        return np.full(12, 30)
    return np.array([31, 28 + (year_length == 366), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _between_months(grid: xr.Dataset, name: str, axis: str, coord: xr.DataArray) -> tuple[np.ndarray, ...]:
    """Linear between mid-months, at the middle of each day, December joined to January."""
    labels = _labels(grid, "month").values
    where = _match(labels, np.arange(1, 13), name, "month")
    days, lengths = _days_and_lengths(axis, coord)
    earlier, weight = np.empty(days.size, np.int64), np.empty(days.size, np.float32)
    for length in np.unique(lengths):
        months = _month_lengths(int(length))
        middles = np.cumsum(months) - months / 2
        ring = np.concatenate([[middles[-1] - length], middles, [middles[0] + length]])
        at = lengths == length
        left = np.searchsorted(ring, days[at] - 0.5, side="right") - 1
        earlier[at] = (left - 1) % 12
        weight[at] = (days[at] - 0.5 - ring[left]) / (ring[left + 1] - ring[left])
    return where[earlier], where[(earlier + 1) % 12], weight


def _days_and_lengths(axis: str, coord: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    if axis == "dayofyear":
        return coord.values, np.full(coord.size, _year_length(coord))
    if coord.size > 1 and np.median(np.diff(coord.values).astype("timedelta64[s]").astype(float)) > 1.5 * 86400:
        raise ValueError("predict: interpolate=True needs daily or shorter steps; these are longer: leave it out")
    return coord.dt.dayofyear.values, np.asarray(coord.dt.days_in_year)


def _riding_coords(grid: xr.Dataset, space: tuple[str, ...], axis: str | None, coord: Any) -> dict[str, xr.DataArray]:
    """Coordinates of the result: those on its dims; scalar ones too."""
    keep = {n: c for n, c in grid.coords.items() if set(c.dims) <= set(space) and n not in AXES}
    if axis and coord is not None and axis in coord.coords:
        keep[axis] = coord[axis].assign_attrs()
        keep[axis].attrs.pop("bounds", None)  # a DataArray has none
    return keep | (_steps_that_stamps_hide(grid, coord) if axis == "time" else {})


def _steps_that_stamps_hide(grid: xr.Dataset, coord: xr.DataArray) -> dict[str, xr.DataArray]:
    """Start and stop of the result's steps, as coordinates, where the grid's bounds tell them and its stamps do not."""
    from xflux.temporal.bounds import dataset_bounds
    from xflux.temporal.riding import RIDING
    from xflux.temporal.steps import carried, steps_of

    position = _positions(grid, coord)
    bounds = None if position is None else dataset_bounds(grid)
    if bounds is None:
        return {}
    plain = xr.DataArray(np.zeros(coord.size), {"time": coord["time"]}, ("time",))
    result = carried(plain, steps_of(plain, bounds.isel(time=position)))
    return {name: result[name] for name in RIDING if name in result.coords}
