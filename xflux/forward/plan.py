"""How the drivers of a grid meet on the axis of the result: names, dims, units, calendars. Nothing is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xflux import align, temporal
from xflux.cells import with_lat_lon
from xflux.forward.model import Model
from xflux.temporal.bounds import dataset_bounds
from xflux.temporal.calendar import AXES
from xflux.temporal.riding import RIDING
from xflux.temporal.steps import carried, steps_of
from xflux.values import decoded


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

    Raises DriverError, a KeyError and a ValueError: a driver is missing (the nearest name is given); ValueError: one
    has other units than the model, or dims or steps that cannot be matched.
    """
    _check_model(model)
    if not isinstance(grid, xr.Dataset):
        raise TypeError(f"predict: the grid of drivers is a {type(grid).__name__}; expected an xarray.Dataset")
    grid = with_lat_lon(temporal.standardise(grid))
    chosen = {name: decoded(da) for name, da in align.find(grid, model.drivers).items()}
    align.check_units(chosen, getattr(model, "driver_units", None) or {})
    space = _space(chosen)
    kinds = {name: _axis_of(da, name, space) for name, da in chosen.items()}
    axis, coord = _result_axis(grid, kinds, time)
    n_steps = 1 if coord is None else coord.size
    dates = align.dates(grid, coord) if axis == "time" else coord
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
    if time is not None:
        return "time", align.requested(grid, time, "time" in kinds.values())
    axis = align.finest(kinds.values())
    return axis, None if axis is None else align.labels(grid, axis)


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
    if own == "month" and interpolate and (axis != "time" or align.is_date(coord)):
        return align.between_months(name, grid, axis, coord)
    return align.step_of(name, grid, own, axis, coord), None, None


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


def _riding_coords(grid: xr.Dataset, space: tuple[str, ...], axis: str | None, coord: Any) -> dict[str, xr.DataArray]:
    """Coordinates of the result: those on its dims; scalar ones too."""
    keep = {n: c for n, c in grid.coords.items() if set(c.dims) <= set(space) and n not in AXES}
    if axis and coord is not None and axis in coord.coords:
        keep[axis] = coord[axis].assign_attrs()
        keep[axis].attrs.pop("bounds", None)  # a DataArray has none
    return keep | (_steps_that_stamps_hide(grid, coord) if axis == "time" else {})


def _steps_that_stamps_hide(grid: xr.Dataset, coord: xr.DataArray) -> dict[str, xr.DataArray]:
    """Start and stop of the result's steps, as coordinates, where the grid's bounds tell them and its stamps do not."""
    position = align.own_steps(grid, coord)
    bounds = None if position is None else dataset_bounds(grid)
    if bounds is None:
        return {}
    plain = xr.DataArray(np.zeros(coord.size), {"time": coord["time"]}, ("time",))
    result = carried(plain, steps_of(plain, bounds.isel(time=position)))
    return {name: result[name] for name in RIDING if name in result.coords}
