"""Which plant functional types the contributing pixels stand for (Fig. B3, B4)."""

import numpy as np
import xarray as xr

from ..cells import nearest, standardise
from .places import nearest_cells


def composition(pixels: xr.Dataset, weights: xr.DataArray, pft: xr.DataArray) -> xr.Dataset:
    """PFTs of the contributing pixels against those of the land.

    Parameters
    ----------
    pixels, weights
        Of a fitted bridge.
    pft
        On the bridge's grid (or one whose cells hold the pixels): a class per cell (lat, lon), named by
        ``flag_values`` and ``flag_meanings`` where it has them, or fractions (pft, lat, lon), of which a cell's
        majority counts. NaN is no class.

    Returns
    -------
    xr.Dataset
        By ``region`` and ``pft``: ``pixels`` (count of contributing pixels), ``pixel_share``, ``weight_share``
        (of the sum of absolute weights), ``land_share`` (of the region's area, by majority class: the outline in
        Fig. B3); and the same over all regions, ``all_pixels``, ``all_pixel_share``, ``all_land_share`` (pft).
    """
    classes, names = _majority(standardise(pft))
    row, column = nearest_cells(pixels, classes)
    labels = weights["region"].values
    region = np.array([list(labels).index(name) for name in pixels["region"].values], int)
    kind = classes.values[row, column]
    count, weight = (np.zeros((labels.size, names.size)) for _ in range(2))
    known = kind >= 0
    np.add.at(count, (region[known], kind[known]), 1)
    np.add.at(weight, (region[known], kind[known]), np.abs(pixels["weight"].values[known]))
    land = _land(weights, classes, names.size)
    dims = ("region", "pft")
    out = xr.Dataset(
        {
            "pixels": (dims, count.astype(int)),
            "pixel_share": (dims, _shares(count)),
            "weight_share": (dims, _shares(weight)),
            "land_share": (dims, _shares(land)),
            "all_pixels": ("pft", count.sum(axis=0).astype(int)),
            "all_pixel_share": ("pft", _shares(count.sum(axis=0)[None])[0]),
            "all_land_share": ("pft", _shares(land.sum(axis=0)[None])[0]),
        },
        {"region": labels, "pft": names},
    )
    return out


def _majority(pft: xr.DataArray) -> tuple[xr.DataArray, np.ndarray]:
    """Index of every cell's class (lat, lon), −1 for none, and the classes' names."""
    front = [dim for dim in pft.dims if dim not in ("lat", "lon")]
    if len(front) > 1 or set(front) & {"time", "month", "dayofyear"}:
        raise ValueError(f"a PFT map has the dims (lat, lon) or (pft, lat, lon); got {pft.dims}: take one, as in isel.")
    if front:
        shares = pft.transpose(front[0], "lat", "lon").fillna(0.0)
        index = shares.argmax(front[0]).where(shares.max(front[0]) > 0, -1).astype(int)
        names = pft[front[0]].values if front[0] in pft.coords else np.arange(pft.sizes[front[0]])
        return index, np.asarray(names)
    values = pft.transpose("lat", "lon")
    found = np.unique(values.values[np.isfinite(values.values)])
    index = xr.full_like(values, -1, dtype=int)
    index.values[:] = np.where(np.isfinite(values), np.searchsorted(found, values.fillna(0)), -1)
    return index, _names(found, pft.attrs)


def _names(found: np.ndarray, attrs: dict) -> np.ndarray:
    flags = np.atleast_1d(attrs.get("flag_values", [])).tolist()
    meanings = attrs.get("flag_meanings", "")
    meanings = meanings.split() if isinstance(meanings, str) else list(meanings)
    known = dict(zip(flags, meanings, strict=False))
    return np.array([str(known.get(value, f"{value:g}")) for value in found.tolist()])


def _land(weights: xr.DataArray, classes: xr.DataArray, size: int) -> np.ndarray:
    """Area (region, class) in m2, each cell under its majority class; cells of no class count for none."""
    coo = weights.transpose("region", "lat", "lon").data
    row, column = (nearest(classes[axis].values, weights[axis].values, axis)[0] for axis in ("lat", "lon"))
    kind = classes.values[row[coo.coords[1]], column[coo.coords[2]]]
    area = np.zeros((coo.shape[0], size))
    known = kind >= 0
    np.add.at(area, (coo.coords[0][known], kind[known]), coo.data[known])
    return area


def _shares(values: np.ndarray) -> np.ndarray:
    total = values.sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)
