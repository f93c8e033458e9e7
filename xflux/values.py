"""Values as they are believed: packing and fill values that nobody decoded are found before they are computed with.

xarray moves what it decodes from a variable's attributes to its encoding, so that ``scale_factor`` or ``missing_value``
in the attributes says that the file was opened without decoding. What is declared missing becomes NaN; packing is
refused, because nobody can tell raw numbers from decoded ones beside a forgotten attribute.
"""

import warnings

import numpy as np
import xarray as xr

_DECLARED = ("_FillValue", "missing_value")
_FILLS = (-999.0, -9999.0, -99999.0, -999999.0, 1e20, -1e20)
_LEAST = 9.99e14  # no fill value is smaller
_HUGE = 1e30  # 9.96921e36 of netCDF, 1e30 to 1e36 of models, the largest float32


class ValuesError(ValueError):
    """Values that are no fluxes: packed, or fill values that nobody decoded.

    >>> decoded(xr.DataArray([1500], dims="x", name="nee", attrs={"scale_factor": 0.01}))
    Traceback (most recent call last):
        ...
    xflux.values.ValuesError: 'nee' is packed and nobody decoded it (scale_factor=0.01 is among its attributes). ...
    """


def decoded(da: xr.DataArray) -> xr.DataArray:
    """With NaN for the values that its attributes declare missing. Lazy.

    Raises
    ------
    ValuesError
        ``scale_factor``, ``add_offset`` or ``_Unsigned`` are among the attributes: it is packed.

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
    fills = [value for key in _DECLARED for value in _numbers(da.attrs.get(key))]
    missing = [np.asarray(value).astype(da.dtype) for value in fills if _fits(value, da.dtype)]
    if not missing:
        return da
    valid = da != missing[0]
    for value in missing[1:]:
        valid &= da != value
    kept = {key: value for key, value in da.attrs.items() if key not in _DECLARED}
    return da.where(valid).drop_attrs(deep=False).assign_attrs(kept)


def in_memory(da: xr.DataArray) -> bool:
    """Whether the values are here: neither dask's nor waiting in a file. xarray has no public name for it."""
    return da.variable._in_memory


def checked(da: xr.DataArray) -> xr.DataArray:
    """:func:`decoded`, and refuse fill values that nobody declared: at once in memory, at compute where it is lazy.

    Raises
    ------
    ValuesError
        −9999, 1e20, 9.96921e36 and the like in a flux.
    """
    da = decoded(da)
    if da.dtype.kind not in "fiu":
        return da
    if da.chunks is None:
        check(da.values, _name(da))
        return da
    return da.copy(data=da.data.map_blocks(_passed, _name(da), dtype=da.dtype, meta=da.data._meta))


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


def warn_of_fills(values: np.ndarray, name: str, stacklevel: int = 2) -> None:
    """Warn of values of a driver that are equal, several and far outside all others: any finite value may be real."""
    values = values[np.isfinite(values)]
    if values.size < 4:
        return
    low, high = values.min(), values.max()
    others = values[(values != low) & (values != high)]
    if not others.size:
        return
    first, last = others.min(), others.max()
    for value, gap in ((low, first - low), (high, high - last)):
        count = int((values == value).sum())
        if count >= 3 and gap > 10 * max(last - first, 1e-3 * abs(first)) > 0:
            warnings.warn(
                f"{name}: {count} of {values.size} values are {value:g}, far outside all others ({first:g} to "
                f"{last:g}); they are used as they are. If that is a fill value, mask it first or set "
                f"attrs['missing_value'] = {value:g}.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def warn_of_fill(fill: float | None, name: str, stacklevel: int = 2) -> None:
    """Warn of a driver in which :func:`found_fill` found one, where the others are not there to compare it with."""
    if fill is not None:
        warnings.warn(
            f"{name} holds the value {fill:g}, which is used as it is. If that is a fill value, mask it first or set "
            f"attrs['missing_value'] = {fill:g}.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


_PACKING = {"scale_factor": 1.0, "add_offset": 0.0, "_Unsigned": "false"}


def _passed(block: np.ndarray, name: str) -> np.ndarray:
    check(np.asarray(block), name)
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
        return abs(value) <= float(np.finfo(dtype).max)
    return dtype.kind in "iu" and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _name(da: xr.DataArray) -> str:
    return repr(da.name) if da.name is not None else "the flux"
