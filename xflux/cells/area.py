"""The cells of a grid as numbers: bounds, centres, areas."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.cells.axes import STANDARD_NAMES, standardise
from xflux.cells.bounds import cell_bounds, coordinate_bounds

RADIUS = 6_371_000.0
"""Radius of the Earth in metres, the same everywhere in xflux."""


def grid_bounds(obj: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (nlat, 2) and (nlon, 2) in degrees of the cells of a grid, from its CF bounds where a Dataset has them.

    An axis with a single value takes the width of the other axis: square cells.
    """
    obj = standardise(obj)
    given = {axis: coordinate_bounds(obj, axis) for axis in STANDARD_NAMES}
    known = {
        axis: cell_bounds(obj[axis], given[axis])
        for axis in STANDARD_NAMES
        if obj[axis].size != 1 or given[axis] is not None
    }
    step = float(np.median(np.diff(next(iter(known.values()))))) if known else None
    lat, lon = (known[axis] if axis in known else cell_bounds(obj[axis], step=step) for axis in STANDARD_NAMES)
    return lat, lon


def cell_area(obj: xr.DataArray | xr.Dataset, radius: float = RADIUS) -> xr.DataArray:
    """Area of every cell in m2, dims (lat, lon): R² (sin φ_north − sin φ_south) (λ_east − λ_west).

    Parameters
    ----------
    obj
        With ``lat`` and ``lon``, in degrees; a Dataset's CF bounds are used.
    radius
        Of the Earth, m.

    Raises
    ------
    ValueError
        Curvilinear or missing coordinates, columns that occur twice modulo 360 or do not fit into it, CF bounds that
        contradict their coordinates.

    Examples
    --------
    >>> grid = xr.Dataset(coords={"lat": np.arange(-89.5, 90), "lon": np.arange(-179.5, 180)})
    >>> bool(np.isclose(cell_area(grid).sum(), 4 * np.pi * RADIUS**2, rtol=1e-13))
    True
    """
    obj = standardise(obj)
    area = Cells.of(obj).area(radius)
    attrs = {"units": "m2", "standard_name": "cell_area", "long_name": "area of the grid cell"}
    return xr.DataArray(area, {"lat": obj["lat"], "lon": obj["lon"]}, ("lat", "lon"), name="cell_area", attrs=attrs)


def points_of(obj: xr.DataArray | xr.Dataset) -> dict[str, np.ndarray]:
    """Latitudes and longitudes of a grid as they are."""
    obj = standardise(obj)
    return {axis: np.asarray(obj[axis].values, dtype="float64") for axis in ("lat", "lon")}


def bands(lat: np.ndarray) -> np.ndarray:
    """sin φ_north − sin φ_south of rows (n, 2) in degrees, written so that thin polar ones keep their digits."""
    phi = np.radians(lat)
    return 2 * np.cos(phi.mean(axis=1)) * np.sin(np.diff(phi, axis=1)[:, 0] / 2)


@dataclass(frozen=True)
class Cells:
    """The cells of a grid in degrees, in the grid's own order: read once, and handed on."""

    lat: np.ndarray  # bounds, (nlat, 2) and (nlon, 2)
    lon: np.ndarray
    # the coordinates themselves, (nlat) and (nlon), which CF bounds need not have in their middle
    points: dict[str, np.ndarray]

    @classmethod
    def of(cls, obj: xr.DataArray | xr.Dataset) -> "Cells":
        return cls(*grid_bounds(obj), points_of(obj))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.lat), len(self.lon)

    @property
    def count(self) -> int:
        return len(self.lat) * len(self.lon)

    def area(self, radius: float = RADIUS) -> np.ndarray:
        """(nlat, nlon) in m2."""
        return radius**2 * bands(self.lat)[:, None] * np.diff(np.radians(self.lon), axis=1)[:, 0]

    @property
    def key(self) -> bytes:
        """Fingerprint of the grid."""
        return self.lat.tobytes() + b"|" + self.lon.tobytes()
