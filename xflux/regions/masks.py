"""Label masks, fraction masks and land fractions: on the grid at hand, or brought over exactly from another one."""

import re
from collections.abc import Callable, Hashable, Iterable
from numbers import Integral, Number

import numpy as np
import pandas as pd
import xarray as xr

from xflux.cells import Cells, carry, standardise
from xflux.regions.cover import Cover, by_cell, extent, globe_share, rows_of, sphere_shares
from xflux.values import LAND_NAMES, as_text, declared_missing, from_percent, shares, warn


def mask_cover(mask: xr.DataArray, cells: Cells, name: str | None = None) -> Cover:
    """Cover of a (lat, lon) label mask or a (region, lat, lon) fraction mask."""
    mask = standardise(mask)
    mask = once(mask, "time", "the mask") if "time" in mask.dims else mask
    mask = mask.squeeze([d for d, n in mask.sizes.items() if n == 1 and d not in ("region", "lat", "lon")], drop=True)
    return fraction_mask(mask, cells) if "region" in mask.dims else label_mask(mask, cells, name)


def label_mask(mask: xr.DataArray, cells: Cells, name: str | None = None) -> Cover:
    """Regions of a (lat, lon) mask: every distinct finite value ≥ 0; of a boolean mask True only; of text each name.

    Raises ValueError: other dims, and what :func:`read_labels` refuses.
    """
    if set(mask.dims) != {"lat", "lon"}:
        raise ValueError(
            f"a label mask has the dims (lat, lon), not {mask.dims}: select one of the others, or, if it holds shares "
            f"of the cell, name its dim of regions 'region'."
        )
    if hasattr(mask.data, "todense"):
        raise ValueError("the weights of one region have lost their dim: keep it, as in weights.sel(region=['USA']).")
    mask = mask.transpose("lat", "lon")
    field, labels, members = read_labels(mask)
    bring = carry(mask, cells)
    if bring.exact:
        parts = _parts_of_labels(bring(field).ravel(), members)
    else:
        parts = _parts(lambda values: bring(np.isin(field, values)), members)
    share = rows_of(parts, cells.count)
    on_grid = _on_grid(share, mask, cells, bring, lambda k: np.isin(field, members[k]))
    overlapping = sum(map(len, members)) > np.unique(np.concatenate(members)).size
    return Cover(name or str(mask.name or "mask"), labels, share, overlapping=overlapping, extent=on_grid)


def _parts_of_labels(flat: np.ndarray, members: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    order = np.argsort(flat, kind="stable")
    sorted_values, parts = flat[order], []
    for values in members:
        bounds = np.searchsorted(sorted_values, [values, values + 1]).T
        index = np.sort(np.concatenate([order[a:b] for a, b in bounds]))
        parts.append((index, np.ones(index.size)))
    return parts


def _parts(field_of: Callable, keys: Iterable) -> list[tuple[np.ndarray, np.ndarray]]:
    parts = []
    for key in keys:
        flat = np.ascontiguousarray(field_of(key)).ravel()
        index = np.flatnonzero(flat)
        parts.append((index, flat[index]))
    return parts


def _on_grid(share, mask: xr.DataArray, cells: Cells, bring, field_of: Callable) -> np.ndarray | None:
    """(region) share of each region of the mask that lies on the grid, None where all of the mask does."""
    shape = mask.sizes["lat"], mask.sizes["lon"]
    if globe_share(cells) == 1 or (bring.exact and shape == cells.shape):
        return None
    source = Cells.of(mask)
    rows, columns = sphere_shares(source.lat, source.lon)
    return extent(share, cells, np.array([rows @ field_of(k) @ columns for k in range(share.shape[0])]))


def fraction_mask(mask: xr.DataArray, cells: Cells) -> Cover:
    """Regions of a (region, lat, lon) mask of shares of the cell; NaN is nothing.

    Raises ValueError: shares outside 0–1, or further dims.
    """
    if set(mask.dims) != {"region", "lat", "lon"}:
        raise ValueError(f"a fraction mask has the dims (region, lat, lon); got {mask.dims}.")
    labels = mask["region"].values if "region" in mask.coords else np.arange(mask.sizes["region"])
    labels = as_text(labels) if labels.dtype.kind == "T" else labels
    field = from_percent(_dense(mask.transpose("region", "lat", "lon")), mask.attrs, "the mask")
    low, high = (least.reduce(field, axis=None, initial=0) for least in (np.fmin, np.fmax))  # past NaN
    if low < -1e-6 or high > 1 + 1e-4:
        raise ValueError(
            f"fractions of the cell lie between 0 and 1, but {mask.name!r} reaches from {low:g} to {high:g}. "
            f"Weights in m2 need attrs['units'] = 'm2'; percentages must be divided by 100."
        )
    bring = carry(mask, cells)

    def shares(k: int) -> np.ndarray:
        return np.clip(np.nan_to_num(field[k]), 0, 1)

    share = rows_of(_parts(lambda k: bring(shares(k)), range(len(labels))), cells.count)
    # Shares in float32 add up to one only nearly.
    overlapping = bool(share.nnz) and float(by_cell(share).max()) > 1 + 1e-5
    on_grid = _on_grid(share, mask, cells, bring, shares)
    return Cover(str(mask.name or "mask"), np.asarray(labels), share, overlapping=overlapping, extent=on_grid)


def _dense(mask: xr.DataArray) -> np.ndarray:
    data = mask.data
    data = data.todense() if hasattr(data, "todense") else np.asarray(data)
    return data.astype("float64") if data.dtype.kind != "f" else data


def _is_area(da: xr.DataArray) -> bool:
    """Whether a field is the area of the cells, which stands beside many a mask."""
    return da.attrs.get("standard_name") == "cell_area" or str(da.attrs.get("units")) in ("m2", "m^2", "m**2", "km2")


def the_mask(ds: xr.Dataset) -> xr.DataArray:
    """The one mask of a Dataset: its only variable on (lat, lon) or (region, lat, lon).

    Raises ValueError: none or several, which are listed.
    """
    ds = standardise(ds)
    masks = [name for name, da in ds.data_vars.items() if set(da.dims) in ({"lat", "lon"}, {"region", "lat", "lon"})]
    masks = [name for name in masks if "region" in ds[name].dims or not _is_area(ds[name])] or masks
    if len(masks) != 1:
        listed = ", ".join(f"{name!r} {da.dims}" for name, da in ds.data_vars.items())
        raise ValueError(
            f"which variable is the mask? Expected one on (lat, lon) or (region, lat, lon), found "
            f"{masks or 'none'} among {listed or 'no variables'}: give one of them, as in ds[name] (on the "
            f"command line FILE:NAME)."
        )
    return ds[masks[0]]


_SEA = re.compile(r"sea_area|(sea|ocean|water)_?frac|sftof", re.IGNORECASE)


def land_array(land_fraction: xr.DataArray) -> xr.DataArray:
    """A land fraction (lat, lon); what repeats along another dim, as ``open_mfdataset`` makes it, is taken once.

    Raises TypeError: anything without coordinates; ValueError: it changes along another dim, or is that of the sea.
    """
    if not isinstance(land_fraction, xr.DataArray):
        kind = type(land_fraction).__name__
        one = ": give one of its variables, as in ds['sftlf']" if kind == "Dataset" else ""
        raise TypeError(f"land_fraction must be a DataArray (lat, lon) with its coordinates, not {kind}{one}.")
    said = str(land_fraction.attrs.get("standard_name", land_fraction.name))
    if _SEA.search(said):
        raise ValueError(
            f"land_fraction is {said!r}, the share of the sea: give that of the land, as in "
            "(1 - share).drop_attrs().rename('land_fraction')."
        )
    land = standardise(land_fraction)
    for dim in [dim for dim in land.dims if dim not in ("lat", "lon")]:
        land = once(land, dim, "land_fraction")
    return land.transpose("lat", "lon")


def once(da: xr.DataArray, dim: Hashable, name: str) -> xr.DataArray:
    """What repeats along a dim; an error where it changes."""
    first = da.isel({dim: 0}, drop=True)
    if da.sizes[dim] > 1 and not bool(((da == first) | (da.isnull() & first.isnull())).all()):
        raise ValueError(f"{name} changes along {dim!r}: select one of {dim!r}, or take a mean over it.")
    return first


def land_on(land_fraction: xr.DataArray, cells: Cells) -> np.ndarray:
    """(cell) land fraction on a grid, brought over area for area; NaN is no land.

    Raises ValueError: values outside 0–1.
    """
    land = land_array(land_fraction)
    values = shares(land)
    bring = carry(land, cells)
    if not bring.exact and bring(np.ones(land.shape)).min() < 0.999:
        warn("land_fraction does not reach over all of the grid; cells outside it are taken as without land.")
    return np.clip(bring(values), 0, 1).ravel()


def own_land(grid: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """The product's own land fraction: by its name, or by the CF name land_area_fraction."""
    known = {name: da for name, da in {**getattr(grid, "data_vars", {}), **grid.coords}.items() if da.ndim >= 2}
    by_name = {str(name).lower(): da for name, da in known.items()}
    named = [da for da in known.values() if da.attrs.get("standard_name") == "land_area_fraction"]
    found = [by_name[name] for name in LAND_NAMES[:2] if name in by_name] or (named if len(named) == 1 else [])
    return next(iter([*found, *(by_name[name] for name in LAND_NAMES if name in by_name)]), None)


_NO_NAMES = ("", "nan", "None", "<NA>", "NaT")


def read_labels(mask: xr.DataArray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The field as integers (−1: no region), the labels, and the values of the field that each label stands for.

    Labels are the names of a mask of text, those of ``flag_meanings``, else the integers. In a bit field
    (``flag_masks``) a value may belong to several.

    Raises ValueError: values that are no integers, no region at all, flag attributes that contradict themselves or the
    values.
    """
    field = np.asarray(mask.values)
    field = _plain(as_text(field) if field.dtype.kind == "T" else field)
    if field.dtype.kind in "OUS":
        names, codes = np.unique(np.char.strip(field.astype(str)), return_inverse=True)
        values = np.flatnonzero(~np.isin(names, _NO_NAMES))
        labels, members = names[values], [np.array([value]) for value in values]
        field = codes.reshape(field.shape)
    else:
        field = _integers(field, mask)
        values = np.unique(field)
        values = values[values >= 0]
        by_label = _by_meaning(mask, values)
        labels = np.array(list(by_label)) if by_label is not None else values
        members = list(by_label.values()) if by_label is not None else [np.array([value]) for value in values]
    if len(labels) == 0:
        raise ValueError(f"the mask {mask.name!r} holds no value ≥ 0, so there is no region.")
    return field, labels, members


def _plain(field: np.ndarray) -> np.ndarray:
    """Truth values and numbers that an array of objects holds as such: True is 1, False and missing are none."""
    if field.dtype.kind == "b":
        return np.where(field, 1, -1)
    if field.dtype.kind != "O":
        return field
    missing = pd.isna(field)
    known = field[~missing]
    if all(isinstance(x, bool | np.bool_) for x in known):
        return np.where(missing, False, field).astype(bool) * 2 - 1
    if all(isinstance(x, Integral) for x in known):
        return _exact(np.where(missing, -1, field))
    if all(isinstance(x, Number) for x in known):
        return np.where(missing, np.nan, field).astype("float64")
    return field


def _exact(field: np.ndarray) -> np.ndarray:
    if field.size and field.max() >= 2**63 - 1:
        raise ValueError(f"the mask holds {field.max()}, which is no label: mask fill values as NaN or by −1.")
    return field.astype("int64")


def _integers(field: np.ndarray, mask: xr.DataArray) -> np.ndarray:
    """int64, −1 where there is no region."""
    fill = sorted(declared_missing(mask.attrs))
    if field.dtype.kind in "iu":
        return _exact(np.where(np.isin(field, fill), 0, field)) - np.isin(field, fill)
    if field.dtype.kind != "f":
        raise TypeError(f"a mask holds labels, integers ≥ 0 or names; {mask.name!r} holds values of {field.dtype}.")
    field = np.where(np.isfinite(field) & ~np.isin(field, fill), field, -1)
    broken = field[field != np.round(field)]
    if broken.size:
        raise ValueError(
            f"a (lat, lon) mask holds labels, integers ≥ 0, but {mask.name!r} holds {broken.max():.12g}; fractions of "
            f"the cell need a dim 'region'."
        )
    if field.size and field.max() > 2**53:
        raise ValueError(
            f"the mask {mask.name!r} holds {field.max():g}, which is no label: mask fill values as NaN, and give "
            f"labels beyond 2**53 as integers (floats cannot tell them apart)."
        )
    return field.astype("int64")


def _by_meaning(mask: xr.DataArray, values: np.ndarray) -> dict[str, np.ndarray] | None:
    """The values of each of ``flag_meanings``, None where the mask has none; one meaning given twice is one region."""
    names = _names(mask.attrs.get("flag_meanings"))
    if not names:
        return None
    flags, bits = (
        None if mask.attrs.get(key) is None else [_number(flag) for flag in _listed(mask.attrs[key])]
        for key in ("flag_values", "flag_masks")
    )
    if flags is None and bits is None:
        flags = _counted(values, names, mask)
    for key, given in (("flag_values", flags), ("flag_masks", bits)):
        if given is not None and len(given) != len(names):
            raise ValueError(f"the mask has {len(given)} {key} but {len(names)} flag_meanings; give one each.")
    if bits is not None:
        chosen = [(values & bit) == flag for bit, flag in zip(bits, flags or bits, strict=True)]
    else:
        others = [value for value in values if value not in flags]
        chosen = [values == flag for flag in (*flags, *others)]
        names += [str(value) for value in others]
        if len(set(flags)) < len(flags):
            raise ValueError(f"flag_values {flags} give a value twice; every value has one meaning.")
    found: dict[str, np.ndarray] = {}
    for name, these in zip(names, chosen, strict=True):
        if these.any():
            found[name] = np.union1d(found.get(name, values[:0]), values[these])
    return found


def _names(meanings: str | Iterable | None) -> list[str]:
    """CF separates meanings by blanks; by commas where there are commas."""
    if isinstance(meanings, str):
        return [name.strip() for name in meanings.split("," if "," in meanings else None) if name.strip()]
    return [] if meanings is None else [str(name) for name in np.ravel(meanings)]


def _listed(flags) -> list:
    return flags.replace(",", " ").split() if isinstance(flags, str) else np.ravel(flags).tolist()


def _number(flag) -> int:
    text = str(flag).rstrip("bBsSlLuU")  # as ncdump writes them
    return int(text) if text.lstrip("+-").isdigit() else int(float(text))


def _counted(values: np.ndarray, names: list[str], mask: xr.DataArray) -> list[int]:
    """Without ``flag_values`` only a mask that has every value from 0 or 1 on says which value has which meaning."""
    if len(values) == len(names) and values[0] in (0, 1) and np.all(np.diff(values) == 1):
        return values.tolist()
    shown = ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
    raise ValueError(
        f"the mask {mask.name!r} has {len(names)} flag_meanings without flag_values, and holds the values {shown}: "
        f"which value means what is not said. Give attrs['flag_values'], one number for each meaning."
    )
