"""Fields from one grid to another, area for area."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from .area import Cells, points_of
from .match import matching, place

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Carry:
    """Brings a field of cell shares (lat, lon) from one grid to another, area for area.

    On the same grid, in any order or longitude convention, nothing is computed: the cells are only reordered, and
    ``exact`` is true.
    """

    rows: object
    columns: object
    exact: bool

    def __call__(self, field: np.ndarray) -> np.ndarray:
        if not self.exact:
            return self.rows @ (self.columns @ field.T.astype("float64")).T
        same = all(np.array_equal(i, np.arange(n)) for i, n in zip((self.rows, self.columns), field.shape, strict=True))
        return field if same else field[np.ix_(self.rows, self.columns)]


def carry(field: xr.DataArray, target: Cells) -> Carry:
    """How to bring a field to other cells. On the same coordinates they are the same cells, whatever bounds say."""
    points = points_of(field)
    if field.sizes["lat"] == len(target.lat) and field.sizes["lon"] == len(target.lon):
        rows, columns = (place(points[axis], target, axis) for axis in ("lat", "lon"))
        if rows is not None and columns is not None:
            return Carry(rows, columns, True)
    source = Cells.of(field)
    rows, columns = matching(source.lat, target.lat, "lat"), matching(source.lon, target.lon, "lon")
    if rows is not None and columns is not None:
        return Carry(rows, columns, True)
    by_lat, by_lon = axis_overlap(source.lat, target.lat, "lat"), axis_overlap(source.lon, target.lon, "lon")
    return Carry(by_lat, by_lon, False)


def axis_overlap(source: np.ndarray, target: np.ndarray, axis: str):
    """Share of every target interval that lies in each source interval, ``csr_array`` (target, source).

    Parameters
    ----------
    source, target
        Bounds (n, 2) in degrees. Latitudes are weighted by sin φ, longitudes live on the circle.
    """
    from scipy.sparse import csr_array

    rows, columns, shares = [], [], []
    order = np.argsort(source[:, 0], kind="stable")
    low, high = source[order, 0], source[order, 1]
    shifts = (0.0,) if axis == "lat" else (-720.0, -360.0, 0.0, 360.0, 720.0)
    for i, (a, b) in enumerate(target):
        for shift in shifts:
            first = np.searchsorted(high, a - shift, side="right")
            last = np.searchsorted(low, b - shift, side="left")
            for k in range(first, last):
                south, north = max(a, low[k] + shift), min(b, high[k] + shift)
                if axis == "lat":
                    share = _band(south, north) / _band(a, b)
                else:
                    share = (north - south) / (b - a)
                if share > _TOLERANCE:
                    rows.append(i)
                    columns.append(order[k])
                    shares.append(1.0 if share > 1 - _TOLERANCE else share)
    return csr_array((shares, (rows, columns)), shape=(len(target), len(source)))


def _band(south: float, north: float) -> float:
    middle, half = np.radians((south + north) / 2), np.radians((north - south) / 2)
    return 2 * np.cos(middle) * np.sin(half)
