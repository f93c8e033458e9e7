"""Which labels of two arrays are the same: cells, and any other dim."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

from xflux.cells.match import locate

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
