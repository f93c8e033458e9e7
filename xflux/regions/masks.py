"""Label masks, fraction masks and land fractions: on the grid at hand, or brought over exactly from another one."""

from collections.abc import Callable, Iterable
from numbers import Number

import numpy as np
import pandas as pd
import xarray as xr

from xflux.cells import Cells, carry, standardise
from xflux.regions.cover import Cover, by_cell, rows_of

_NO_NAMES = ("nan", "None", "<NA>", "NaT")
# Coordinates that differ by less than this share of a cell are the same.
_JITTER = 1e-3


def _clean(field: np.ndarray) -> np.ndarray:
    """The field without missing values: NaN is nothing."""
    return np.where(np.isnan(field), 0, field) if field.dtype.kind == "f" and np.isnan(field).any() else field


def land_array(land_fraction: xr.DataArray) -> xr.DataArray:
    """A land fraction with the dims lat and lon; ``TypeError`` for anything without coordinates."""
    if not isinstance(land_fraction, xr.DataArray):
        kind = type(land_fraction).__name__
        raise TypeError(f"land_fraction must be a DataArray (lat, lon) with its coordinates, not {kind}.")
    return standardise(land_fraction)


def land_on(land_fraction: xr.DataArray, cells: Cells) -> np.ndarray:
    """(cell) land fraction on a grid; NaN is no land.

    Raises
    ------
    ValueError
        Values outside 0–1, or dims other than lat and lon.
    """
    land = land_array(land_fraction)
    extra = [dim for dim in land.dims if dim not in ("lat", "lon")]
    if extra:
        raise ValueError(f"land_fraction has the dims {land.dims}; expected (lat, lon): select one of {extra[0]!r}.")
    values = _clean(np.asarray(land.transpose("lat", "lon").values, dtype="float64"))
    if str(land.attrs.get("units", "")).strip() in ("%", "percent"):
        values = values / 100
    if values.size and (values.min() < -1e-6 or values.max() > 1 + 1e-6):
        raise ValueError(
            f"land_fraction reaches from {values.min():g} to {values.max():g}; expected shares of the cell, 0 to 1 "
            f"(set units '%' or divide)."
        )
    return np.clip(carry(land, cells)(values), 0, 1).ravel()


def _labels(mask: xr.DataArray, values: np.ndarray) -> np.ndarray:
    """Names from ``flag_meanings`` where the mask has them, else integers."""
    meanings = mask.attrs.get("flag_meanings")
    if meanings is None:
        return values.astype("int64")
    names = meanings.split() if isinstance(meanings, str) else [str(name) for name in meanings]
    flags = mask.attrs.get("flag_values", range(len(names)))
    flags = flags.replace(",", " ").split() if isinstance(flags, str) else np.ravel(flags)
    flags = [int(str(flag).rstrip("b")) for flag in flags]
    if len(flags) != len(names):
        raise ValueError(f"the mask has {len(flags)} flag_values but {len(names)} flag_meanings; give one each.")
    known = dict(zip(flags, names, strict=True))
    return np.array([known.get(int(value), str(int(value))) for value in values])


def _numbers(field: np.ndarray) -> np.ndarray:
    """Labels as they are, but True as 1, False as none, and numbers that an array of objects holds as numbers."""
    if field.dtype.kind == "b":
        return np.where(field, 1, -1)
    if field.dtype.kind == "O":
        missing = pd.isna(field)
        if all(isinstance(x, Number) for x in field[~missing]):
            return np.where(missing, np.nan, field).astype("float64")
    return field


def _check_labels(values: np.ndarray, name: str) -> None:
    if not np.array_equal(values, np.round(values)):
        raise ValueError(
            f"a (lat, lon) mask holds labels, integers ≥ 0, but {name!r} holds {values[values % 1 > 0][0]:g}; "
            f"fractions of the cell need a dim 'region'."
        )
    if values.size and values[-1] > 2**53:
        raise ValueError(f"the mask {name!r} holds {values[-1]:g}, which is no label: mask fill values as NaN.")


def label_mask(mask: xr.DataArray, cells: Cells, name: str | None = None) -> Cover:
    """Regions of a (lat, lon) mask: every distinct finite value ≥ 0; of a boolean mask True only; of text each name.

    Raises
    ------
    ValueError
        Values that are no integers, or no region at all.
    """
    mask = standardise(mask)
    if set(mask.dims) != {"lat", "lon"}:
        raise ValueError(
            f"a label mask has the dims (lat, lon), not {mask.dims}: select one of the others, or, if it holds shares "
            f"of the cell, name its dim of regions 'region'."
        )
    if hasattr(mask.data, "todense"):
        raise ValueError("the weights of one region have lost their dim: keep it, as in weights.sel(region=['USA']).")
    mask = mask.transpose("lat", "lon")
    field = _numbers(np.asarray(mask.values))
    if field.dtype.kind in "OUS":
        names, codes = np.unique(field.astype(str), return_inverse=True)
        empty = np.isin(names, ["", *_NO_NAMES])
        values, labels = np.flatnonzero(~empty), names[~empty]
        field = codes.reshape(field.shape)
    else:
        fill = [mask.attrs[key] for key in ("_FillValue", "missing_value") if key in mask.attrs]
        field = field if field.dtype.kind == "f" else field.astype("int64")  # unsigned ones have no −1
        field = np.where(np.isfinite(field) & ~np.isin(field, fill), field, -1)
        values = np.unique(field)
        values = values[values >= 0]
        _check_labels(values, mask.name)
        labels = _labels(mask, values)
        field, values = field.astype("int64"), values.astype("int64")
    if values.size == 0:
        raise ValueError(f"the mask {mask.name!r} holds no value ≥ 0, so there is no region.")
    bring = carry(mask, cells)
    if bring.exact:
        parts = _parts_of_labels(bring(field).ravel(), values)
    else:
        parts = _parts(lambda value: bring(field == value), values)
    return Cover(name or str(mask.name or "mask"), labels, rows_of(parts, cells.shape[0] * cells.shape[1]))


def _parts_of_labels(flat: np.ndarray, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], [values, values + 1])
    return [(order[a:b], np.ones(b - a)) for a, b in bounds.T]


def _parts(field_of: Callable, keys: Iterable) -> list[tuple[np.ndarray, np.ndarray]]:
    parts = []
    for key in keys:
        flat = np.ascontiguousarray(field_of(key)).ravel()
        index = np.flatnonzero(flat)
        parts.append((index, flat[index]))
    return parts


def fraction_mask(mask: xr.DataArray, cells: Cells) -> Cover:
    """Regions of a (region, lat, lon) mask of shares of the cell; NaN is nothing.

    Raises
    ------
    ValueError
        Shares outside 0–1, or further dims.
    """
    mask = standardise(mask)
    if set(mask.dims) != {"region", "lat", "lon"}:
        raise ValueError(f"a fraction mask has the dims (region, lat, lon); got {mask.dims}.")
    labels = mask["region"].values if "region" in mask.coords else np.arange(mask.sizes["region"])
    field = _dense(mask.transpose("region", "lat", "lon"))
    low, high = (np.nanmin(field), np.nanmax(field)) if field.size else (0, 0)
    if low < -1e-6 or high > 1 + 1e-4:
        raise ValueError(
            f"fractions of the cell lie between 0 and 1, but {mask.name!r} reaches from {low:g} to {high:g}. "
            f"Weights in m2 need attrs['units'] = 'm2'; percentages must be divided by 100."
        )
    bring = carry(mask, cells)
    parts = _parts(lambda i: bring(np.clip(_clean(field[i]), 0, 1)), range(len(labels)))
    share = rows_of(parts, cells.shape[0] * cells.shape[1])
    # Shares in float32 add up to one only nearly.
    overlapping = bool(share.nnz) and float(by_cell(share).max()) > 1 + 1e-5
    return Cover(str(mask.name or "mask"), np.asarray(labels), share, overlapping=overlapping)


def _dense(mask: xr.DataArray) -> np.ndarray:
    data = mask.data
    data = data.todense() if hasattr(data, "todense") else np.asarray(data)
    return data.astype("float64") if data.dtype.kind != "f" else data
