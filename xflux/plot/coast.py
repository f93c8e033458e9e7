"""Coastlines without a network: the polygons that xflux ships, else the outline of the field's own land."""

from functools import lru_cache

import numpy as np
import xarray as xr


@lru_cache(maxsize=4)
def coastlines() -> tuple[np.ndarray, ...]:
    """Rings (n, 2) of lon, lat in degrees of the shipped land polygons; empty where none are shipped."""
    return ()


def outline(valid: xr.DataArray, lat_edges: np.ndarray, lon_edges: np.ndarray) -> list[np.ndarray]:
    """Segments (2, 2) of lon, lat between valid and missing cells of a (lat, lon) mask."""
    mask = np.asarray(valid.transpose("lat", "lon"), dtype=bool)
    segments = []
    rows, columns = np.nonzero(mask[1:] != mask[:-1])
    for i, j in zip(rows, columns, strict=True):
        segments.append(np.array([[lon_edges[j], lat_edges[i + 1]], [lon_edges[j + 1], lat_edges[i + 1]]]))
    around = np.isclose(abs(lon_edges[-1] - lon_edges[0]), 360.0)
    right = np.roll(mask, -1, axis=1)
    last = mask.shape[1] if around else mask.shape[1] - 1
    rows, columns = np.nonzero((mask != right)[:, :last])
    for i, j in zip(rows, columns, strict=True):
        segments.append(np.array([[lon_edges[j + 1], lat_edges[i]], [lon_edges[j + 1], lat_edges[i + 1]]]))
    return segments
