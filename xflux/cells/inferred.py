"""Edges of the cells of an axis, worked out from the centres.

Longitudes live on a circle here: any convention, any order, rolled or subset grids all work, because cells are found on
the sorted circle and handed back under the labels that came in. ``cf_xarray.add_bounds`` does not serve: it puts edges
beyond the poles (±90.5 on 1°, ±112.5 on 45°), makes of the seam a cell [359, 180], and knows no half-height polar rows.
"""

from collections.abc import Hashable

import numpy as np

from xflux.cells.axes import STANDARD_NAMES

# Coordinates in float32 are off by up to 1.5e-5 degrees near 360; differences below this mean nothing.
JITTER = 5e-5


def regular_step(centres: np.ndarray) -> tuple[float, float] | None:
    """Step of a regular axis that may have gaps (sorted, ascending) and its rounding; None where it is irregular.

    Gaps are the exception: where most steps are wider than the narrowest, as between a point at the pole and the centre
    of the first row, the axis is irregular. How far the centres are rounded is seen from how far they lie off the line
    through the first and the last; a step is a whole part of the circle only where that rounding allows it.
    """
    steps = np.diff(centres)
    narrow = steps < 1.5 * steps.min()
    if narrow.mean() < 0.5:
        return None
    step = np.median(steps[narrow])
    counts = np.round((centres - centres[0]) / step)
    step = (centres[-1] - centres[0]) / counts[-1]
    off = np.abs(centres - centres[0] - counts * step).max()
    if off > 2 * max(1e-3 * step, JITTER):
        return None
    rounding = 4 * off + 1e-9
    whole = 360 / round(360 / step)
    return (whole if abs(whole - step) * counts[-1] < rounding else step), rounding


def _regular_bounds(centres: np.ndarray, step: float, rounding: float) -> np.ndarray:
    """(n, 2) of a regular axis, freed of rounding: the origin is the mean one, on a half step where it nearly is."""
    counts = np.round((centres - centres[0]) / step)
    half = np.mean(centres - counts * step) / (step / 2)
    if abs(half - np.round(half)) * step / 2 < rounding:
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
    if (regular := regular_step(centres)) is not None:
        bounds = _regular_bounds(centres, *regular)
    else:
        bounds = _midpoint_bounds(centres)
        bounds[0, 0] = -90 if bounds[0, 0] + 90 < (centres[1] - centres[0]) / 2 else bounds[0, 0]
        bounds[-1, 1] = 90 if 90 - bounds[-1, 1] < (centres[-1] - centres[-2]) / 2 else bounds[-1, 1]
        _half_polar(centres, bounds)
    bounds[np.abs(bounds - 90) < JITTER] = 90
    bounds[np.abs(bounds + 90) < JITTER] = -90
    return np.clip(bounds, -90, 90)


def _half_polar(centres: np.ndarray, bounds: np.ndarray) -> None:
    """GEOS-Chem's half-height polar rows (89 on 4°, 89.5 on 2°): their inner edge is not midway. In place."""
    if len(centres) < 4 or (regular := regular_step(centres[1:-1])) is None:
        return
    step = regular[0]
    if abs(90 - centres[-1] - step / 4) < JITTER and abs(90 - step - centres[-2]) < JITTER:
        bounds[-2, 1] = bounds[-1, 0] = 90 - step / 2
    if abs(90 + centres[0] - step / 4) < JITTER and abs(90 - step + centres[1]) < JITTER:
        bounds[1, 0] = bounds[0, 1] = step / 2 - 90


def _lon_bounds(centres: np.ndarray, step: float | None) -> np.ndarray:
    """(n, 2) of ascending longitudes that span less than 360°; a global axis closes on itself."""
    if len(centres) == 1:
        return np.array([[centres[0] - step / 2, centres[0] + step / 2]])
    if (regular := regular_step(centres)) is not None:
        bounds = _regular_bounds(centres, *regular)
    else:
        bounds = _midpoint_bounds(centres)
        closing = centres[0] + 360 - centres[-1]
        if closing < 1.5 * np.diff(centres).max():
            bounds[-1, 1] = centres[-1] + closing / 2
            bounds[0, 0] = bounds[-1, 1] - 360
    excess, width = bounds[-1, 1] - bounds[0, 0] - 360, bounds[-1, 1] - bounds[-1, 0]
    if abs(excess) < max(1e-3 * width, JITTER):
        bounds[-1, 1] = bounds[0, 0] + 360
    elif excess > 0:
        raise ValueError(
            f"{len(centres)} columns of {width:.6g} degrees do not fit into 360: the last and the first overlap by "
            f"{excess:.3g} after one turn. Drop the last column, or put the longitudes right with assign_coords."
        )
    return bounds


def on_circle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order and unwrapped values of longitudes, ascending from behind the widest gap."""
    order = np.argsort(np.mod(values, 360), kind="stable")
    ascending = np.mod(values, 360)[order]
    gaps = np.diff(ascending, append=ascending[0] + 360)
    # The seam stays at the first label where the axis is global; otherwise it lies in the widest gap.
    seam = np.argmax(gaps) + 1 if gaps.max() > 1.5 * np.median(gaps) else int(np.flatnonzero(order == 0)[0])
    order = np.roll(order, -seam)
    ascending = np.roll(ascending, -seam)
    return order, ascending[0] + np.mod(ascending - ascending[0], 360)


def check_centres(values: np.ndarray, name: Hashable, axis: str) -> None:
    full = STANDARD_NAMES[axis]
    if values.ndim != 1:
        raise ValueError(f"{name!r} is {values.ndim}-dimensional; expected one-dimensional {full}s: regrid first.")
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{full}s {name!r} are empty or not all finite.")
    if axis == "lat" and np.abs(values).max() > 90 + JITTER:
        furthest = values[np.abs(values).argmax()]
        raise ValueError(f"latitudes {name!r} reach {furthest:g}; drop those beyond ±90 degrees.")
    wrapped = np.sort(np.mod(values, 360) if axis == "lon" else values)
    gaps = np.diff(wrapped, append=wrapped[0] + 360) if axis == "lon" else np.diff(wrapped)
    usual = np.median(gaps) if values.size > 2 else 0.0
    if values.size > 1 and gaps.min() < max(JITTER, 1e-3 * usual):
        repeated = wrapped[gaps.argmin()]
        raise ValueError(
            f"{full} {repeated:g} occurs twice{' modulo 360' if axis == 'lon' else ''} in {name!r}: the same cells "
            f"would count twice. Drop the repeated one, as in obj.isel({name}=slice(None, -1))."
        )


def inferred(values: np.ndarray, axis: str, step: float | None = None) -> np.ndarray:
    """(n, 2) edges of the cells with these centres, in their order; ``step`` is the width of a single one."""
    if axis == "lat":
        order = np.argsort(values)
        ascending = _lat_bounds(values[order], step)
    else:
        order, unwrapped = on_circle(values)
        ascending = _lon_bounds(unwrapped, step)
        ascending += (360 * np.round((values[order] - unwrapped) / 360))[:, None]
    result = np.empty_like(ascending)
    result[order] = ascending
    return result
