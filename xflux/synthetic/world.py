"""The state of a synthetic Earth on its land cells, from which truth, drivers and observations are made."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.synthetic.climate import Climate, Land


@dataclass(frozen=True, eq=False)
class World:
    """Shares of the plant types (type, cell), drivers by cell, true GPP and TER (time, cell) in gC m-2 d-1."""

    climate: Climate
    shares: np.ndarray
    packed: xr.Dataset
    gpp: np.ndarray
    ter: np.ndarray

    @property
    def land(self) -> Land:
        """Its land cells."""
        return self.climate.land

    @property
    def days(self) -> np.ndarray:
        """Dates of the days."""
        return self.climate.time

    @property
    def time(self) -> xr.DataArray:
        """The days as a coordinate."""
        return xr.DataArray(self.days.astype("datetime64[ns]"), dims="time", name="time")

    def map(self, values: np.ndarray, axis: str | None, coord=None, **attrs) -> xr.DataArray:
        """Packed (…, cell) → (…, lat, lon), lazily and in blocks of time where there is an axis; sea is NaN."""
        lat, lon = self.land.grid["lat"], self.land.grid["lon"]
        where = {"shape": (lat.size, lon.size), "row": self.land.row, "col": self.land.col}
        if axis is None:
            return xr.DataArray(_unpacked(values, **where), {"lat": lat, "lon": lon}, ("lat", "lon"), attrs=attrs)
        import dask.array as da

        lazy = da.from_array(values, chunks=(92 if axis == "time" else -1, -1), name=False)
        chunks = (lazy.chunks[0], (lat.size,), (lon.size,))
        maps = lazy.map_blocks(_unpacked, **where, dtype=np.float32, chunks=chunks, drop_axis=1, new_axis=[1, 2])
        return xr.DataArray(maps, {axis: coord, "lat": lat, "lon": lon}, (axis, "lat", "lon"), attrs=attrs)


def _unpacked(part: np.ndarray, shape: tuple[int, int], row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """(…, cell) → (…, lat, lon), NaN at sea."""
    out = np.full((*part.shape[:-1], *shape), np.nan, np.float32)
    out[..., row, col] = part
    return out
