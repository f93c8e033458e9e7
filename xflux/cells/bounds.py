"""Edges of the cells of an axis: from CF bounds, or inferred from the centres."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

from .axes import STANDARD_NAMES, is_axis

# Coordinates in float32 are off by up to 1.5e-5 degrees near 180; jitter below this is not a grid of its own.
_JITTER = 5e-5


def coordinate_bounds(obj: xr.DataArray | xr.Dataset, axis: str) -> xr.DataArray | None:
    """The CF bounds (n, 2) of ``lat`` or ``lon`` that a Dataset carries, None where there are none."""
    if axis not in obj.coords:
        return None
    coord = obj[axis]
    named = coord.attrs.get("bounds") or coord.encoding.get("bounds")
    variables = obj.variables if isinstance(obj, xr.Dataset) else obj.coords
    for name in (named, f"{axis}_bnds", f"{axis}_bounds", f"{STANDARD_NAMES[axis]}_bnds", f"bounds_{axis}"):
        if name in variables and obj[name].ndim == 2 and axis in obj[name].dims:
            bounds = obj[name].transpose(axis, ...)
            if bounds.shape[1] == 2:
                return bounds
    return None


def _kind(coord: xr.DataArray) -> str:
    for axis in ("lat", "lon"):
        if coord.name is not None and is_axis(xr.Dataset(coords={coord.name: coord}), coord.name, axis):
            return axis
    raise ValueError(f"coordinate {coord.name!r} is neither latitude nor longitude by name or attributes.")


def _regular(centres: np.ndarray) -> float | None:
    """Step of a regular axis that may have gaps (sorted, ascending), None where the axis is irregular.

    Gaps are the exception: where most steps are wider than the narrowest, as between a point at the pole and the centre
    of the first row, the axis is irregular.
    """
    steps = np.diff(centres)
    narrow = steps < 1.5 * steps.min()
    if narrow.mean() < 0.5:
        return None
    step = np.median(steps[narrow])
    counts = np.round((centres - centres[0]) / step)
    if counts[-1] > 0:
        step = (centres[-1] - centres[0]) / counts[-1]
    tolerance = max(1e-3 * step, _JITTER)
    if np.abs(centres - centres[0] - counts * step).max() > 2 * tolerance:
        return None
    whole = 360 / round(360 / step)
    return whole if abs(whole - step) * counts[-1] < tolerance else step


def _regular_bounds(centres: np.ndarray, step: float) -> np.ndarray:
    """(n, 2) of a regular axis, freed of jitter: the origin is the mean one, on a half step where it nearly is."""
    counts = np.round((centres - centres[0]) / step)
    half = np.mean(centres - counts * step) / (step / 2)
    if abs(half - np.round(half)) * step / 2 < max(1e-3 * step, _JITTER):
        half = np.round(half)
    west = (half - 1 + 2 * counts) * (step / 2)
    return np.stack([west, west + step], axis=1)


def _midpoint_bounds(centres: np.ndarray) -> np.ndarray:
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.stack([np.r_[first, middle], np.r_[middle, last]], axis=1)


def _lat_bounds(centres: np.ndarray, step: float | None) -> np.ndarray:
    """(n, 2) of ascending latitudes, clipped at the poles.

    Irregular (Gaussian) latitudes have their edges midway, as CDO does, and their outer edges at the poles where less
    than half a row is missing there.
    """
    if len(centres) == 1:
        return np.clip([[centres[0] - step / 2, centres[0] + step / 2]], -90, 90)
    step = _regular(centres)
    if step is not None:
        bounds = _regular_bounds(centres, step)
    else:
        bounds = _midpoint_bounds(centres)
        bounds[0, 0] = -90 if bounds[0, 0] + 90 < (centres[1] - centres[0]) / 2 else bounds[0, 0]
        bounds[-1, 1] = 90 if 90 - bounds[-1, 1] < (centres[-1] - centres[-2]) / 2 else bounds[-1, 1]
        _half_polar(centres, bounds)
    bounds[np.abs(bounds - 90) < _JITTER] = 90
    bounds[np.abs(bounds + 90) < _JITTER] = -90
    return np.clip(bounds, -90, 90)


def _half_polar(centres: np.ndarray, bounds: np.ndarray) -> None:
    """GEOS-Chem's half-height polar rows (89 on 4°, 89.5 on 2°): their inner edge is not midway. In place."""
    if len(centres) < 4 or (step := _regular(centres[1:-1])) is None:
        return
    if abs(90 - centres[-1] - step / 4) < _JITTER and abs(90 - step - centres[-2]) < _JITTER:
        bounds[-2, 1] = bounds[-1, 0] = 90 - step / 2
    if abs(90 + centres[0] - step / 4) < _JITTER and abs(90 - step + centres[1]) < _JITTER:
        bounds[1, 0] = bounds[0, 1] = step / 2 - 90


def _lon_bounds(centres: np.ndarray, step: float | None) -> np.ndarray:
    """(n, 2) of ascending longitudes that span less than 360°; a global axis closes on itself."""
    if len(centres) == 1:
        return np.array([[centres[0] - step / 2, centres[0] + step / 2]])
    step = _regular(centres)
    if step is not None:
        bounds = _regular_bounds(centres, step)
    else:
        bounds = _midpoint_bounds(centres)
        closing = centres[0] + 360 - centres[-1]
        if closing < 1.5 * np.diff(centres).max():
            bounds[-1, 1] = centres[-1] + closing / 2
            bounds[0, 0] = bounds[-1, 1] - 360
    if abs(bounds[-1, 1] - bounds[0, 0] - 360) < max(1e-3 * (bounds[-1, 1] - bounds[-1, 0]), _JITTER):
        bounds[-1, 1] = bounds[0, 0] + 360
    return bounds


def _on_circle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order and unwrapped values of longitudes, ascending from behind the widest gap."""
    order = np.argsort(np.mod(values, 360), kind="stable")
    ascending = np.mod(values, 360)[order]
    gaps = np.diff(ascending, append=ascending[0] + 360)
    # The seam stays at the first label where the axis is global; otherwise it lies in the widest gap.
    seam = np.argmax(gaps) + 1 if gaps.max() > 1.5 * np.median(gaps) else int(np.flatnonzero(order == 0)[0])
    order = np.roll(order, -seam)
    ascending = np.roll(ascending, -seam)
    return order, ascending[0] + np.mod(ascending - ascending[0], 360)


def _check(values: np.ndarray, name: Hashable, axis: str) -> None:
    full = STANDARD_NAMES[axis]
    if values.ndim != 1:
        raise ValueError(f"{name!r} is {values.ndim}-dimensional; expected one-dimensional {full}s: regrid first.")
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{full}s {name!r} are empty or not all finite.")
    if axis == "lat" and np.abs(values).max() > 90 + _JITTER:
        raise ValueError(
            f"latitudes {name!r} reach {values[np.abs(values).argmax()]:g}; drop those beyond ±90 degrees."
        )
    wrapped = np.sort(np.mod(values, 360) if axis == "lon" else values)
    gaps = np.diff(wrapped, append=wrapped[0] + 360) if axis == "lon" else np.diff(wrapped)
    if values.size > 1 and gaps.min() < 1e-5:
        repeated = wrapped[gaps.argmin()]
        raise ValueError(
            f"{full} {repeated:g} occurs twice{' modulo 360' if axis == 'lon' else ''} in {name!r}: the same cells "
            f"would count twice. Drop the repeated one, as in obj.isel({name}=slice(None, -1))."
        )


def cell_bounds(
    coord: xr.DataArray, bounds: xr.DataArray | np.ndarray | None = None, step: float | None = None
) -> np.ndarray:
    """Lower and upper edge of every cell, (n, 2) in degrees, in the order and longitude convention of ``coord``.

    Parameters
    ----------
    coord
        1-D latitudes or longitudes, in any order; regular, Gaussian or otherwise irregular. A regular axis may have
        gaps; its cells keep their width.
    bounds
        CF bounds (n, 2), which win over inference.
    step
        Width of the cell in degrees where ``coord`` has a single value.

    Examples
    --------
    >>> cell_bounds(xr.DataArray([10.0, -10.0], dims="lat", name="lat"))
    array([[  0.,  20.],
           [-20.,   0.]])
    """
    axis = _kind(coord)
    values = np.asarray(coord.values, dtype="float64")
    _check(values, coord.name, axis)
    if bounds is not None:
        return _given_bounds(values, np.asarray(bounds, dtype="float64"), axis, coord.name)
    if values.size == 1 and step is None:
        raise ValueError(
            f"a single {STANDARD_NAMES[axis]} ({values[0]:g}) has no cell width: give step=, or put {coord.name}_bnds "
            f"into a Dataset."
        )
    if axis == "lat":
        order = np.argsort(values)
        ascending = _lat_bounds(values[order], step)
    else:
        order, unwrapped = _on_circle(values)
        ascending = _lon_bounds(unwrapped, step)
        ascending += (360 * np.round((values[order] - unwrapped) / 360))[:, None]
    result = np.empty_like(ascending)
    result[order] = ascending
    return result


def _given_bounds(values: np.ndarray, bounds: np.ndarray, axis: str, name: Hashable) -> np.ndarray:
    """CF bounds as ascending pairs that hold their centre; longitudes that jump by 360 are put right."""
    if bounds.shape != (values.size, 2):
        raise ValueError(f"bounds of {name!r} have the shape {bounds.shape}; expected {(values.size, 2)}.")
    if not np.isfinite(bounds).all():
        raise ValueError(f"bounds of {name!r} hold missing values: fill them, or drop them to have them inferred.")
    if axis == "lat":
        bounds = np.clip(np.sort(bounds, axis=1), -90, 90)
    else:
        # Wrapped bounds, such as (179.5, -179.5), or (-180, 180) of one global column.
        wrapped = np.abs(bounds[:, 1] - bounds[:, 0]) > 180
        whole = np.isclose(np.abs(bounds[:, 1] - bounds[:, 0]), 360)
        fix = wrapped & ~whole & (values.size > 1)
        near = bounds + 360 * np.round((values[:, None] - bounds) / 360)
        bounds = np.sort(np.where(fix[:, None], near, bounds), axis=1)
        bounds += 360 * np.round((values - bounds.mean(axis=1)) / 360)[:, None]
    if (bounds[:, 1] <= bounds[:, 0]).any():
        i = int((bounds[:, 1] <= bounds[:, 0]).argmax())
        raise ValueError(f"bounds {bounds[i]} of {name!r} at {values[i]:g} enclose nothing; drop them to be inferred.")
    outside = (values < bounds[:, 0] - 1e-3) | (values > bounds[:, 1] + 1e-3)
    if outside.any():
        i = int(outside.argmax())
        raise ValueError(f"bounds {bounds[i]} of {name!r} do not hold its value {values[i]:g}.")
    return bounds


def edges(
    coord: xr.DataArray, bounds: xr.DataArray | np.ndarray | None = None, step: float | None = None
) -> np.ndarray:
    """The n + 1 edges of adjacent cells in degrees, in the order of ``coord``.

    Latitudes are clipped to ±90; longitudes are unwrapped, so that they run on beyond 180 or 360 instead of jumping.
    Parameters as in :func:`cell_bounds`.

    Raises
    ------
    ValueError
        The cells are not adjacent in the order given.

    Examples
    --------
    >>> edges(xr.DataArray([0.5, 1.5, -179.0 + 181.5], dims="lon", name="lon"))
    array([0., 1., 2., 3.])
    """
    cells = cell_bounds(coord, bounds, step)
    if _kind(coord) == "lon":
        middle = cells.mean(axis=1)
        turns = np.r_[0, np.cumsum(np.round(-np.diff(middle) / 360))]
        cells = cells + 360 * turns[:, None]
    if len(cells) > 1 and cells[1].mean() < cells[0].mean():
        cells = cells[:, ::-1]
    gaps = np.abs(cells[1:, 0] - cells[:-1, 1])
    if len(cells) > 1 and gaps.max() > 1e-3 * np.abs(np.diff(cells)).min():
        i = int(gaps.argmax())
        values = coord.values
        raise ValueError(
            f"cells of {coord.name!r} are not adjacent between {values[i]:g} and {values[i + 1]:g}: sort it, or "
            f"reindex it to the whole axis."
        )
    return np.r_[cells[:, 0], cells[-1, 1]]
