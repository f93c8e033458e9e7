"""What the numbers or names of a label mask stand for: labels, and the values that belong to each."""

from collections.abc import Iterable
from numbers import Integral, Number

import numpy as np
import pandas as pd
import xarray as xr

from xflux.values import as_text, declared_missing

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
