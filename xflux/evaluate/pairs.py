"""Two arrays that are compared: same units, same labels, and valid in pairs."""

from collections.abc import Hashable, Iterable

import xarray as xr

from xflux.cells import with_lat_lon
from xflux.cells.match import match_labels
from xflux.contents import check_alike, check_sign
from xflux.temporal import standardise
from xflux.temporal.bounds import bounds_name
from xflux.temporal.riding import CALENDAR, on_real_dates
from xflux.temporal.steps import carried, known_steps, stamped_at_starts
from xflux.units import factor, flux_variables, left_out, spelled_out
from xflux.values import checked


def align_pair(
    da: xr.DataArray, reference: xr.DataArray, dim: str | Iterable[Hashable] | None, allow_contents: Iterable[str] = ()
) -> tuple[xr.DataArray, xr.DataArray, list[Hashable]]:
    """The pair on common labels, ``reference`` in the units of ``da``, and the dims to score over as a list.

    Along the scored dims the common labels are kept (``n`` tells how many); along every other shared dim the
    labels must be the same set, because a silent inner join there would drop cells or regions.
    """
    given = da, reference
    lengths = not same_stamps(da, reference)
    da, reference = one_flux(da, "the array", lengths), one_flux(reference, "the reference", lengths)
    arrays = [(a, b) for a, b in zip(given, (da, reference), strict=True) if isinstance(a, xr.DataArray)]
    read = {old: new for a, b in arrays for old, new in zip(a.dims, b.dims, strict=True)}
    check_alike(da, reference, allow_contents, "allow_contents")
    reference = same_units(da, reference)
    stamps = [a.indexes["time"] for a in (da, reference) if "time" in a.indexes]
    if len(stamps) == 2 and not stamps[0].equals(stamps[1]):
        da, reference = on_real_dates(stamped_at_starts(da), stamped_at_starts(reference))
    da, reference = (x.drop_vars(CALENDAR, errors="ignore") for x in (da, reference))  # a score has none
    dims = _scored_dims(da, reference, dim, read)
    for name in [d for d in da.dims if d in reference.dims]:
        reference = match_labels(da, reference, name, scored=name in dims)
    return *xr.align(da, reference, join="inner", copy=False), dims


def same_stamps(*objs: xr.DataArray | xr.Dataset) -> bool:
    """Whether all have the same stamps and no bounds, so that nobody needs to know what steps they mean."""
    if not all(isinstance(obj, xr.DataArray | xr.Dataset) for obj in objs):
        return False
    objs = [standardise(obj, lengths=False) for obj in objs]
    if not all("time" in obj.indexes and obj.indexes["time"].equals(objs[0].indexes["time"]) for obj in objs):
        return False
    return not any(isinstance(obj, xr.Dataset) and bounds_name(obj) for obj in objs)


def one_flux(obj: xr.DataArray | xr.Dataset, role: str, lengths: bool = True) -> xr.DataArray:
    """A flux with the axes by their names and the values that can be believed, of a Dataset its only one."""
    if isinstance(obj, xr.DataArray):
        return with_lat_lon(checked(standardise(obj, lengths)))
    if not isinstance(obj, xr.Dataset):
        raise TypeError(f"{role} must be a DataArray (or a Dataset with one flux variable), got {type(obj).__name__}")
    obj = standardise(obj, lengths)
    names = flux_variables(obj)
    if len(names) != 1:
        raise ValueError(f"{role} is a Dataset with the flux variables {names}: select one of them." + left_out(obj))
    return with_lat_lon(carried(checked(obj[names[0]]), known_steps(obj)))


def comparable(da: xr.DataArray, reference: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """The pair in the units of ``da``, with what is declared missing as NaN; opposite signs and fill values raise."""
    check_sign(da, reference)
    return checked(da), same_units(da, checked(reference))


def same_units(da: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """``reference`` in the units of ``da``, where both say theirs; what cannot be converted raises UnitsError."""
    texts = da.attrs.get("units"), reference.attrs.get("units")
    ours, theirs = spelled_out(da.attrs), spelled_out(reference.attrs)
    one_is_silent = texts[0] == texts[1] and (ours in texts or theirs in texts)  # of what its grams are
    return in_units(reference, ours) if all(texts) and not one_is_silent else reference


def in_units(da: xr.DataArray, units: str) -> xr.DataArray:
    """``da`` in other units, where it says its own."""
    have = spelled_out(da.attrs)
    return da if have in ("", units) else (da * factor(have, units)).assign_attrs({**da.attrs, "units": units})


def _scored_dims(da: xr.DataArray, reference: xr.DataArray, dim, read: dict[Hashable, Hashable]) -> list[Hashable]:
    """As a list; a dim that was read under another name, ``valid_time`` as ``time``, may be called by its own."""
    everywhere = dict.fromkeys((*da.dims, *reference.dims))
    if dim is None or dim is ...:
        return list(everywhere)
    dims = [dim] if isinstance(dim, str) or not isinstance(dim, Iterable) else list(dim)
    dims = [d if d in everywhere else read.get(d, d) for d in dims]
    missing = [d for d in dims if d not in everywhere]
    if missing:
        raise ValueError(f"no dim {missing} to score over: the array has {da.dims}, the reference {reference.dims}")
    return dims
