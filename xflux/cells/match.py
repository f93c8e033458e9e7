"""Which cells of two grids are the same, which is nearest, and which labels of any other dim are."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

from xflux.cells.axes import STANDARD_NAMES
from xflux.cells.bounds import JITTER

TOLERANCE = 1e-3
"""Share of a cell by which the centres of the same cell may differ: files round them, to float32 or to few digits."""


def nearest(source: np.ndarray, target: np.ndarray, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest value of ``source`` for every one of ``target``, and how far it is, in degrees.

    >>> nearest(np.array([0.5, 120.5, 240.5]), np.array([-0.5, 121.0]), "lon")
    (array([0, 1]), array([1. , 0.5]))
    """
    have, want = np.asarray(source, dtype="float64"), np.asarray(target, dtype="float64")
    if axis == "lon":
        have, want = np.mod(have, 360), np.mod(want, 360)
    order = np.argsort(have, kind="stable")
    ends = (have[order[-1]] - 360, have[order[0]] + 360) if axis == "lon" else (-np.inf, np.inf)
    order, have = np.r_[order[-1], order, order[0]], np.r_[ends[0], have[order], ends[1]]
    right = np.searchsorted(have, want).clip(1, len(have) - 1)
    pick = np.where(want - have[right - 1] <= have[right] - want, right - 1, right)
    return order[pick], np.abs(have[pick] - want)


def locate(source: np.ndarray, target: np.ndarray, axis: str, tolerance: float = TOLERANCE) -> np.ndarray:
    """Index in ``source`` of every value of ``target`` (degrees), −1 where it lacks one; longitudes modulo 360."""
    if not len(source):
        return np.full(len(target), -1)
    index, apart = nearest(source, target, axis)
    return np.where(apart <= max(tolerance * _width(source, target, axis), JITTER), index, -1)


def _width(source: np.ndarray, target: np.ndarray, axis: str) -> float:
    """Usual distance between neighbours, of the first that has any."""
    for values in (source, target):
        ascending = np.unique(np.mod(values, 360) if axis == "lon" else np.asarray(values))
        if len(ascending) > 1:
            return float(np.median(np.diff(ascending)))
    return 1.0


def positions(
    source: xr.DataArray | xr.Dataset,
    target: xr.DataArray | xr.Dataset,
    tolerance: float = TOLERANCE,
    of: str = "the other grid",
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of ``source`` where the cells of ``target`` lie, in any order and longitude convention.

    Parameters
    ----------
    source, target
        With the coordinates ``lat`` and ``lon``; ``target`` may be a list of places.
    tolerance
        How far centres may be apart, as a share of the source's cell.
    of
        What to call ``source`` in the error.

    Raises
    ------
    ValueError
        ``source`` lacks a cell of ``target``; the first one is named.

    Examples
    --------
    >>> grid = xr.Dataset(coords={"lat": [-45.0, 45.0], "lon": [0.0, 90.0, 180.0, 270.0]})
    >>> positions(grid, xr.Dataset(coords={"lat": [45.0], "lon": [-90.0, 0.0]}))
    (array([1]), array([3, 0]))
    """
    found = []
    for axis, full in STANDARD_NAMES.items():
        have, want = source[axis].values, target[axis].values
        index = locate(have, want, axis, tolerance)
        if (lacking := index < 0).any():
            first = want[lacking.argmax()]
            near = f", nearest is {have[nearest(have, [first], axis)[0][0]]:g}" if len(have) else ""
            raise ValueError(
                f"{lacking.sum()} of {want.size} {full}s are no cells of {of}, the first {first:g} (it has {have.size} "
                f"{full}s{near}): bring both to one grid, as with .flux.regrid(grid)."
            )
        found.append(index)
    return found[0], found[1]


def same_grid(one: xr.DataArray | xr.Dataset, other: xr.DataArray | xr.Dataset) -> bool:
    """Whether two grids have the same cells, in any order and longitude convention."""
    return all(
        one[axis].size == other[axis].size and (locate(one[axis].values, other[axis].values, axis) >= 0).all()
        for axis in STANDARD_NAMES
    )


SNAP = 1e-4  # labels of other dims than lat and lon that are this close are the same (float32 files)


def match_labels(da: xr.DataArray, reference: xr.DataArray, name: Hashable, scored: bool) -> xr.DataArray:
    """``reference`` on the labels of ``da`` where they agree to within rounding; scored dims may differ."""
    if name not in da.indexes or name not in reference.indexes:
        if da.sizes[name] != reference.sizes[name]:
            raise ValueError(f"dim {name!r} has {da.sizes[name]} and {reference.sizes[name]} entries and no labels")
        return reference
    ours, theirs = da.indexes[name], reference.indexes[name]
    if ours.equals(theirs):
        return reference
    snapped = _snap(ours, theirs, name)
    if snapped is not None:
        return reference.isel({name: snapped}).assign_coords({name: da[name].variable})
    _same_calendar(ours, theirs, name)
    common = ours.intersection(theirs)
    if len(common) == 0 or (not scored and not (len(common) == len(ours) == len(theirs))):
        raise ValueError(
            f"the labels of {name!r} differ: {_brief(ours)} against {_brief(theirs)} ({len(common)} in common). "
            + ("Bring both to the same stamps, e.g. with .flux.to_monthly()." if scored else "Select the common ones.")
        )
    return reference


def _snap(ours, theirs, name: Hashable) -> np.ndarray | None:
    """Positions in ``theirs`` of the labels of ``ours`` where all agree to within rounding, else None."""
    if len(ours) != len(theirs) or not all(i.dtype.kind in "iuf" for i in (ours, theirs)):
        return None
    if name in ("lat", "lon"):
        found = locate(theirs.to_numpy(), ours.to_numpy(), name)
        return found if (found >= 0).all() else None
    found = theirs.get_indexer(ours, method="nearest", tolerance=SNAP) if theirs.is_monotonic_increasing else [-1]
    return found if (np.sort(found) == np.arange(len(ours))).all() else None


def _same_calendar(ours, theirs, name: Hashable) -> None:
    calendars = [getattr(i, "calendar", "standard") for i in (ours, theirs)]
    if calendars[0] != calendars[1]:
        raise ValueError(
            f"{name!r} has the calendar {calendars[0]!r} here and {calendars[1]!r} in the reference: "
            "convert one of them first (DataArray.convert_calendar)"
        )


def _brief(index) -> str:
    values = [str(v) for v in index]
    return f"[{', '.join(values)}]" if len(values) <= 20 else f"[{values[0]} … {values[-1]}] ({len(values)})"
