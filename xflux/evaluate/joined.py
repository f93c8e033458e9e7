"""Several products on one time axis."""

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from xflux.cells.match import match_labels
from xflux.contents import check_alike
from xflux.evaluate.pairs import one_flux, same_stamps
from xflux.temporal.axis import standardise, with_steps
from xflux.temporal.bounds import may_be_months
from xflux.temporal.convert import RIDING_ALONG
from xflux.temporal.riding import APART, CALENDAR, RIDING, in_real_dates, joined_dim
from xflux.temporal.steps import Steps, carried, known_steps, needed_steps, stamped_at_starts, steps_between, steps_of
from xflux.units import factor
from xflux.values import warn


def ensemble(
    products: Mapping[str, xr.DataArray | xr.Dataset], dim: str = "inversion", *, allow_contents: Iterable[str] = ()
) -> xr.DataArray:
    """Several products as one array, by ``dim``, on the one time axis that holds the steps of all; lazy.

    Steps meet by what they are, whatever their stamps (start, middle, end). Those of different calendars are joined in
    the standard one, and each series keeps the lengths of its own. Where a product lacks steps that another has, it is
    NaN there, and a warning says so.

    Parameters
    ----------
    products
        Fluxes, gridded or by region, by the name that each is to have; a Dataset needs exactly one flux.
    dim
        Name of the new dimension.
    allow_contents
        Contents ("fire", "rivers") that may differ.

    Returns
    -------
    xr.DataArray
        (inversion, …), with the attributes that all share. ``valid_fraction`` and ``unassigned`` ride along where all
        have them.

    Raises
    ------
    TypeError, ValueError
        No mapping of arrays; other units, contents, signs or area basis, steps of other lengths, other regions or
        cells.

    Examples
    --------
    >>> stamps = [xr.date_range("2001-01-01", periods=3, freq=freq) for freq in ("MS", "ME")]
    >>> a, b = (xr.DataArray(np.ones(3), {"time": t}, "time", attrs={"units": "PgC month-1"}) for t in stamps)
    >>> ensemble({"CAMS": a, "CTE": b}).sizes
    Frozen({'inversion': 2, 'time': 3})
    """
    if not isinstance(products, Mapping) or not products:
        raise TypeError('ensemble takes products by name, e.g. {"CAMS": a, "CTE": b}.')
    as_they_are = same_stamps(*products.values()) and all(map(_may_be_months, products.values()))
    arrays = {str(name): one_flux(obj, repr(name), lengths=not as_they_are) for name, obj in products.items()}
    first = next(iter(arrays))
    for name in list(arrays)[1:]:
        arrays[name] = _like(arrays[name], arrays[first], (name, first), allow_contents)
    for name, da in arrays.items():
        if dim in da.dims:
            raise ValueError(f"{name!r} has a dimension {dim!r} already: name the new one, e.g. dim='product'.")
    if "time" not in arrays[first].dims or as_they_are:
        return _concat(arrays, dim)
    arrays = _on_one_calendar(arrays)
    _name_gaps(arrays)
    steps = {name: None if joined_dim(da) else steps_of(da) for name, da in arrays.items()}
    if None in steps.values() or len({s.calendar.family for s in steps.values()}) > 1:
        return _concat(arrays, dim, APART)  # each series keeps its own
    plain = {name: da.drop_vars((*RIDING, CALENDAR), errors="ignore") for name, da in arrays.items()}
    return carried(_concat(plain, dim), _union(steps))


def _like(da: xr.DataArray, first: xr.DataArray, names: tuple[str, str], allow: Iterable[str]) -> xr.DataArray:
    """One product in the labels of the first, if it may stand beside it."""
    if set(da.dims) != set(first.dims):
        raise ValueError(f"{names[0]!r} has the dims {da.dims}, {names[1]!r} has {first.dims}: bring them to the same.")
    units = [x.attrs.get("units") for x in (da, first)]
    if units[0] != units[1] and (None in units or factor(units[0], units[1]) != 1):
        raise ValueError(
            f"{names[0]!r} is in {units[0]!r}, {names[1]!r} in {units[1]!r}: convert one, e.g. "
            f".flux.convert_units({units[1]!r})."
        )
    try:
        check_alike(da, first, allow, "allow_contents")
    except ValueError as error:
        raise type(error)(f"{names[0]!r} and {names[1]!r}: {error}") from None
    for dim in set(first.dims) - {"time"}:
        da = match_labels(first, da, dim, scored=False)
    return da.transpose(*first.dims)


def _may_be_months(da: xr.DataArray) -> bool:
    da = standardise(da, lengths=False)
    return known_steps(da) is None and may_be_months(da["time"])


def _on_one_calendar(arrays: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Stamped at the starts of their steps, which must be of one kind: months, years, or of one length.

    In the real calendar where theirs differ, which has the days of some others.
    """
    for da in [da for da in arrays.values() if _may_be_months(da)][:1]:
        with_steps(da)  # which says what is assumed
    steps = {name: needed_steps(da) for name, da in arrays.items()}
    kinds = {name: f"{np.median(s.days):g} d" if s.kind == "other" else s.kind for name, s in steps.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"the products have different steps, {kinds}: bring them to one, e.g. with .flux.to_monthly()."
        )
    arrays = {name: da if joined_dim(da) else stamped_at_starts(da) for name, da in arrays.items()}
    if len({(s.calendar.family, s.calendar.dtype.kind) for s in steps.values()}) == 1:
        return arrays
    arrays = {name: in_real_dates(da) for name, da in arrays.items()}
    if any(da["time"].dtype.kind != "M" for da in arrays.values()):
        raise ValueError(
            f"the products have different calendars, { {name: s.calendar.family for name, s in steps.items()} }, in "
            f"which these steps have no dates in common: use .flux.to_monthly(), or convert_calendar."
        )
    return arrays


def _name_gaps(arrays: dict[str, xr.DataArray]) -> None:
    everything = np.unique(np.concatenate([da["time"].values for da in arrays.values()]))
    gaps = []
    for name, da in arrays.items():
        lacking = everything[~np.isin(everything, da["time"].values)]
        if lacking.size:
            first, last = (str(t)[:10] for t in lacking[[0, -1]])
            gaps.append(f"{name} {lacking.size} of {everything.size} ({first} … {last})")
    if gaps:
        warn(f"steps that others have are NaN in {'; '.join(gaps)}. Select the common ones to leave them out.")


def _concat(arrays: dict[str, xr.DataArray], dim: str, numbers: tuple[str, ...] = ()) -> xr.DataArray:
    """Joined along a new dimension, with the coordinates beside the axes that all have."""

    def beside(da: xr.DataArray) -> set:
        return {c for c in da.coords if c in numbers or (c in RIDING_ALONG and da[c].dims)}

    common = set.intersection(*map(beside, arrays.values()))
    parts = []
    for da in arrays.values():
        part = da.drop_vars([c for c in da.coords if c not in da.dims and c not in common])
        parts.append(part.drop_attrs(deep=False).rename("_value").reset_coords(common))
    index = xr.Variable(dim, np.array(list(arrays)))
    joined = xr.concat(parts, index, join="outer", data_vars="all", coords="minimal", compat="override")
    joined = joined.set_coords(common).drop_encoding()  # the packing of the first would cut the others' values
    attrs = [da.attrs for da in arrays.values()]
    shared = {key: v for key, v in attrs[0].items() if all(str(a.get(key)) == str(v) for a in attrs)}
    names = {da.name for da in arrays.values()}
    units = {"units": attrs[0]["units"]} if "units" in attrs[0] else {}
    return joined["_value"].rename(names.pop() if len(names) == 1 else None).assign_attrs(shared | units)


def _union(steps: dict[str, Steps]) -> Steps:
    """The steps of the joined axis."""
    ends = [np.concatenate([s.calendar.dates(getattr(s, end)) for s in steps.values()]) for end in ("start", "stop")]
    _, at = np.unique(ends[0], return_index=True)
    return steps_between(*(dates[at] for dates in ends), next(iter(steps.values())).calendar.name)
