"""Values as they are believed: packing and fill values that nobody decoded are found before they are computed with.

xarray moves what it decodes from a variable's attributes to its encoding, so that ``scale_factor`` or ``missing_value``
in the attributes says that the file was opened without decoding. What is declared missing becomes NaN; packing is
refused, because nobody can tell raw numbers from decoded ones beside a forgotten attribute, and so are values outside
a declared valid range, because the range may be left from other units.
"""

import re
import sys
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

_DECLARED = re.compile(r"_?(fill_?value|missing_?(value|data)|no_?data(_?value|vals)?)", re.IGNORECASE)
_SINGLE = [float(np.float32(fill)) for fill in (-999.9, -9999.9, 1e20, -1e20)]  # as they come out of float32
_FILLS = (-999.0, -9999.0, -99999.0, -999999.0, -999.9, -9999.9, -32767.0, -32768.0, 1e20, -1e20, *_SINGLE)
_ALONE = {
    float(kind(fill))
    for fill in (
        -99, -99.9, -6999, 99, 255, 999, 9999, 99999, 999999, 32767, 65535, 1e10, -1e10,
        2**31 - 1, 2**31, 1 - 2**31, -(2**31),
    )
    for kind in (np.float32, np.float64)
}  # fmt: skip
"""Fill values where all others are far from them: an amount may have such a value, too."""
RANGES = ("valid_min", "valid_max", "valid_range", "actual_range")
"""Attributes that hold for the values as they are: who changes the values drops them."""
_LEAST = 9.99e14  # no fill value is smaller
_INSIDE = ("xflux", "contextlib")  # decorators of the package are functions of contextlib
_HUGE = 1e30  # 9.96921e36 of netCDF, 1e30 to 1e36 of models, the largest float32


class ValuesError(ValueError):
    """Values that are no fluxes: packed, or fill values that nobody decoded.

    >>> decoded(xr.DataArray([1500], dims="x", name="nee", attrs={"scale_factor": 0.01}))
    Traceback (most recent call last):
        ...
    xflux.values.ValuesError: 'nee' is packed and nobody decoded it (scale_factor=0.01 is among its attributes). ...
    """


def decoded(da: xr.DataArray) -> xr.DataArray:
    """Real numbers in the machine's byte order, NaN where the attributes declare a value missing. Lazy.

    Parameters
    ----------
    da
        Any dims and type.

    Raises
    ------
    ValuesError
        ``scale_factor``, ``add_offset`` or ``_Unsigned`` are among the attributes: it is packed. Values outside
        ``valid_min``, ``valid_max`` or ``valid_range`` (at compute where it is lazy). Text.

    Examples
    --------
    >>> decoded(xr.DataArray([1.0, -9999.0], dims="x", attrs={"missing_value": -9999})).values
    array([ 1., nan])
    """
    packed = {key: da.attrs[key] for key, plain in _PACKING.items() if _says(da.attrs, key, plain)}
    if packed:
        found = ", ".join(f"{key}={value}" for key, value in packed.items())
        raise ValuesError(
            f"{_name(da)} is packed and nobody decoded it ({found} is among its attributes). Open the file with "
            "mask_and_scale=True or use xr.decode_cf(ds); where the values are decoded already, drop the attributes."
        )
    da = _masked(_as_numbers(da))
    low, high = _valid_range(da)
    if (low, high) == (-np.inf, np.inf) or da.dtype.kind not in "fiu":
        return da
    return _each_block(da, _check_range, low, high)


def declared_missing(attrs: Mapping) -> set[float]:
    """The fill values among attributes: CF's ``_FillValue`` and ``missing_value``, GDAL's ``nodata``, and their kind.

    >>> sorted(declared_missing({"_FillValue": -1, "nodata": "255", "units": "1"}))
    [-1.0, 255.0]
    """
    return {value for key in attrs if _DECLARED.fullmatch(str(key)) for value in _numbers(attrs[key])}


def _masked(da: xr.DataArray) -> xr.DataArray:
    declared = declared_missing(da.attrs)
    fills = declared | {float(np.float32(value)) for value in declared if _fits(value, np.dtype("f4"))}
    missing = {np.asarray(value).astype(da.dtype).item() for value in fills if _fits(value, da.dtype)}
    if not missing:
        return da
    valid = xr.ones_like(da, dtype=bool)
    for value in missing:
        valid &= da != value
    kept = {key: value for key, value in da.attrs.items() if not _DECLARED.fullmatch(str(key))}
    return da.where(valid).drop_attrs(deep=False).assign_attrs(kept)


def _as_numbers(da: xr.DataArray) -> xr.DataArray:
    """Numbers that everything computes with: native, no Python objects, no half precision, which overflows in sums."""
    if da.dtype.kind in "fiu":
        wanted = np.dtype("f4") if da.dtype.itemsize == 2 and da.dtype.kind == "f" else da.dtype.newbyteorder("=")
        return da if da.dtype == wanted and da.dtype.isnative else da.astype(wanted)
    if da.dtype.kind == "O":
        try:
            return da.astype("float64")
        except (TypeError, ValueError) as problem:
            raise ValuesError(f"{_name(da)} holds objects that are no numbers ({problem}).") from None
    if da.dtype.kind != "b":
        raise ValuesError(f"{_name(da)} has the dtype {da.dtype}; expected real numbers, e.g. by da.astype(float).")
    return da


def _valid_range(da: xr.DataArray) -> tuple[float, float]:
    """The valid range in the units of the values; that of packed integers was written in theirs."""
    both = _numbers(da.attrs.get("valid_range"))
    low, high = both if len(both) == 2 else (-np.inf, np.inf)
    low, high = (next(iter(_numbers(da.attrs.get(k))), x) for k, x in (("valid_min", low), ("valid_max", high)))
    if np.dtype(da.encoding.get("dtype", "f8")).kind not in "iu":
        return low, high
    scale, offset = (next(iter(_numbers(da.encoding.get(k))), x) for k, x in _PACKING_NUMBERS)
    return tuple(sorted((low * scale + offset, high * scale + offset)))


def _check_range(values: np.ndarray, name: str, low: float, high: float) -> None:
    if not values.size:
        return
    least, most = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    slack = 1e-6 * max(abs(x) for x in (low, high) if np.isfinite(x))
    if least < low - slack or most > high + slack:
        inside = [f"(da {sign} {end!r})" for sign, end in ((">=", low), ("<=", high)) if np.isfinite(end)]
        raise ValuesError(
            f"{name} reaches from {least:g} to {most:g}, its attributes declare {low:g} to {high:g} valid (valid_min, "
            f"valid_max or valid_range). Mask the others, e.g. da.where({' & '.join(inside)}), or drop the attributes "
            "where they are left from other units."
        )


def in_memory(da: xr.DataArray) -> bool:
    """Whether the values are here: neither dask's nor waiting in a file. xarray has no public name for it."""
    return da.variable._in_memory


def checked(da: xr.DataArray) -> xr.DataArray:
    """:func:`decoded`, and refuse fill values that nobody declared: at once in memory, at compute where it is lazy.

    Parameters
    ----------
    da
        As in :func:`decoded`, with its errors.

    Raises
    ------
    ValuesError
        −9999, 1e20, 9.96921e36 and the like in a flux.

    Examples
    --------
    >>> checked(xr.DataArray([1.0, np.nan], dims="x")).values
    array([ 1., nan])
    """
    da = decoded(da)
    if da.dtype.kind not in "fiu":
        return da
    return _each_block(da, check)


def check(values: np.ndarray, name: str = "the flux") -> None:
    """Raise where an array of fluxes holds a fill value; two fast passes, so blocks in cache cost nothing."""
    fill = found_fill(values)
    if fill is not None:
        raise ValuesError(
            f"{name} holds the value {fill!r}, which is no flux but a fill value that nobody declared or decoded. Mask "
            f"it first, e.g. da.where(da != {fill!r}), or set attrs['missing_value'] = {fill!r}."
        )


def found_fill(values: np.ndarray) -> float | None:
    """The fill value that an array holds, or None; infinities are none.

    >>> found_fill(np.array([1.0, -9999.0, np.nan]))
    -9999.0
    """
    if values.dtype.kind not in "fiu" or not values.size:
        return None
    low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    for fill in {float(low), float(high)} & _ALONE:
        others = values[(values != fill) & np.isfinite(values)]
        if others.size and _gap(fill, others) > 10 * np.ptp(others.astype(float)) > 0:
            return fill
    if not (low <= -999 or high >= _LEAST):
        return None
    for fill in (f for f in _FILLS if low <= f <= high and _fits(f, values.dtype)):
        if (values == np.asarray(fill).astype(values.dtype)).any():
            return fill
    if values.dtype.kind != "f":
        return None
    finite = values[np.isfinite(values)]
    sizes = np.abs(finite)
    huge = sizes.max(initial=0)
    # 1e15 may be an amount of grams; beside nothing but small values it is MERRA's and GEOS's fill value
    alone = abs(huge / 1e15 - 1) < 1e-6 and 0 < sizes[sizes < huge].max(initial=0) < 1e9
    return float(finite[sizes.argmax()]) if huge >= _HUGE or alone else None


def warn_of_fills(values: np.ndarray, name: str) -> None:
    """Warn of a driver's fill values, and of others that are several, equal and far outside: any may be real."""
    values = values[np.isfinite(values)]
    ends = {float(end): values == end for end in (values.min(), values.max())} if values.size else {}
    inside = ~np.logical_or.reduce(list(ends.values())) if ends else ()
    for value, there in ends.items():
        others = values[inside if np.any(inside) else ~there]
        if others.size and _far_outside(value, int(there.sum()), others):
            warn(
                f"{name}: {there.sum()} of {values.size} values are {value:g}, far outside all others "
                f"({others.min():g} to {others.max():g}); they are used as they are. If that is a fill value, mask it "
                f"first or set attrs['missing_value'] = {value:g}."
            )


def _far_outside(value: float, count: int, others: np.ndarray) -> bool:
    """Whether a value is no neighbour of the others; a well-known fill value needs to be less far off."""
    first, last, gap = float(others.min()), float(others.max()), _gap(value, others)
    if found_fill(np.array([value])) is not None:
        return gap > 10 * (last - first)
    classes = 100 if (others == np.round(others)).all() else 0
    return count >= 3 and last > first and gap > max(10 * (last - first), max(abs(first), abs(last)) / 2, classes)


def _gap(value: float, others: np.ndarray) -> float:
    """How far a value lies outside all others, less than zero inside."""
    return max(float(others.min()) - value, value - float(others.max()))


SAY_UNITS = "Say which: in its attrs['units'], of towers by read_towers(units=…), in a study by [towers] units."


def warn_of_fill(fill: float | None, name: str) -> None:
    """Warn of a driver in which :func:`found_fill` found one, where the others are not there to compare it with."""
    if fill is not None:
        warn(
            f"{name} holds the value {fill:g}, which is used as it is. If that is a fill value, mask it first or set "
            f"attrs['missing_value'] = {fill:g}."
        )


def as_text(labels) -> np.ndarray:
    """Labels as fixed-width text; those of NumPy's own strings, as pandas 3 makes them, do not cast by themselves."""
    labels = np.asarray(labels)
    return (labels.astype(object) if labels.dtype.kind == "T" else labels).astype(str)


def warn(text: str) -> None:
    """Warn at the line of the user, however deep in the package: the first outside it, from which this was called."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)


LAND_NAMES = "land_fraction sftlf landfraction landfrac land_frac frac_land land_area_fraction contfrac lsm lsf".split()
"""What files call the share of a cell that is land."""


def shares(land: xr.DataArray) -> np.ndarray:
    """A land fraction in shares of the cell, float64; NaN is no land, as is what its attributes declare missing.

    Raises ValueError: values outside 0–1, or 0–100 where the units say percent; packed ones.
    """
    land = decoded(land)
    values = np.nan_to_num(np.asarray(land.values, dtype="float64"), posinf=np.inf, neginf=-np.inf)
    values = from_percent(values, land.attrs, "land_fraction")
    if values.size and (values.min() < -1e-6 or values.max() > 1 + 1e-4):
        raise ValueError(
            f"land_fraction reaches from {values.min():g} to {values.max():g}; expected shares of the cell, 0 to 1: "
            f"set its units to '%' or divide, and mask fill values as NaN."
        )
    return values


def from_percent(values: np.ndarray, attrs: dict, name: str) -> np.ndarray:
    """As shares what the units call percent; xarray's own arithmetic leaves '%' on what was divided by 100 already."""
    if not str(attrs.get("units", "")).strip().lower().startswith(_PERCENT):
        return values
    if not 0 < np.fmax.reduce(values, axis=None, initial=0) <= 1:
        return values / 100
    warn(
        f"{name} has the units '%' but reaches to {values.max():g} only: it is taken as shares of the cell, 0 "
        f"to 1. Set its units to '1', or multiply it by 100."
    )
    return values


_PERCENT = ("%", "percent", "per cent", "pct")
_PACKING_NUMBERS = (("scale_factor", 1.0), ("add_offset", 0.0))
_PACKING = {**dict(_PACKING_NUMBERS), "_Unsigned": "false"}


def _each_block(da: xr.DataArray, test: Callable, *limits: float) -> xr.DataArray:
    """``da``, after ``test(values, name, *limits)`` of all of it; where it is lazy, at compute."""
    if da.chunks is None:
        test(da.values, _name(da), *limits)
        return da
    passed = da.data.map_blocks(_passed, test, _name(da), *limits, dtype=da.dtype, meta=da.data._meta)
    return da.copy(data=passed)


def _passed(block: np.ndarray, test: Callable, *args) -> np.ndarray:
    test(np.asarray(block), *args)
    return block


def _says(attrs: dict, key: str, plain: float | str) -> bool:
    """Whether a packing attribute is there and changes the values."""
    if key not in attrs:
        return False
    if isinstance(plain, str):
        return str(attrs[key]).lower() != plain
    return any(number != plain for number in _numbers(attrs[key]))


def _numbers(value: object) -> list[float]:
    """The numbers of an attribute; text that is none, and NaN, which needs no decoding, are left out."""
    try:
        return [n for n in np.asarray(value, dtype="float64").ravel().tolist() if n == n]
    except (TypeError, ValueError):
        return []


def _fits(value: float, dtype: np.dtype) -> bool:
    """Whether a number can stand in an array of the dtype."""
    if dtype.kind == "f":
        return not np.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    return dtype.kind in "iu" and float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _name(da: xr.DataArray) -> str:
    return repr(da.name) if da.name is not None else "the flux"
