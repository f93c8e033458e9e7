"""Where the contributing pixels lie in another grid."""

import numpy as np
import xarray as xr

from ..cells import grid_bounds, nearest


def nearest_cells(pixels: xr.Dataset, field: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in ``field`` of every pixel; each must lie within half a cell of both grids."""
    if not pixels.sizes["pixel"]:
        return np.empty(0, int), np.empty(0, int)
    lat, lon, place, far = field["lat"].values, field["lon"].values, [], np.zeros(pixels.sizes["pixel"], bool)
    for axis, bounds in zip(("lat", "lon"), grid_bounds(field), strict=True):
        index, apart = nearest(field[axis].values, pixels[axis].values, axis)
        own = np.ptp(bounds, axis=1)[index] / 2
        far |= apart > (1 + 1e-6) * np.minimum(pixels[f"{axis}_halfwidth"].values, own)
        place.append(index)
    row, column = place
    if far.any():
        first = int(np.flatnonzero(far)[0])
        one = pixels.isel(pixel=first)
        raise ValueError(
            f"{int(far.sum())} of {far.size} contributing pixels lie farther than half a cell from the field's nearest "
            f"cell; the first is that of {one['region'].item()} at lat {one['lat'].item():g}, lon "
            f"{one['lon'].item():g} (nearest: {lat[row[first]]:g}, {lon[column[first]]:g}). Fit the bridge on this "
            "grid, or regrid the field to the bridge's."
        )
    return row, column
