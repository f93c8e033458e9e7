"""Cells of a latitude–longitude grid: which coordinates they are, where their edges lie, how large they are.

Longitudes live on a circle here: any convention, any order, rolled or subset grids all work, because cells are
found on the sorted circle and handed back under the labels that came in.
"""

from collections.abc import Hashable

import xarray as xr

_NAMES = {
    "lat": ("lat", "latitude", "lats", "nav_lat", "lat_full", "y_lat"),
    "lon": ("lon", "longitude", "lons", "nav_lon", "lon_full", "long"),
}
STANDARD_NAMES = {"lat": "latitude", "lon": "longitude"}
_DEGREES = {
    "lat": ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"),
    "lon": ("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"),
}


def is_axis(obj: xr.DataArray | xr.Dataset, name: Hashable, axis: str) -> bool:
    attrs = obj[name].attrs
    return (
        attrs.get("standard_name") == STANDARD_NAMES[axis]
        or str(attrs.get("units", "")).lower() in _DEGREES[axis]
        or str(name).lower() in _NAMES[axis]
    )


def _find(obj: xr.DataArray | xr.Dataset, axis: str) -> Hashable:
    """Name of the dimension that is latitude or longitude."""
    found = [name for name in obj.dims if name in obj.coords and is_axis(obj, name, axis)]
    if len(found) > 1:
        found = [name for name in found if name == axis] or found
    if len(found) == 1:
        return found[0]
    full = STANDARD_NAMES[axis]
    if len(found) > 1:
        raise ValueError(f"several dimensions look like {full}: {found}; drop or rename all but one.")
    if len(along := _along(obj, axis)) == 1:
        return along[0]
    candidates = [*obj.coords, *(obj.data_vars if isinstance(obj, xr.Dataset) else ())]
    flat = [name for name in candidates if obj[name].ndim == 2 and is_axis(obj, name, axis)]
    if flat:
        raise ValueError(
            f"{flat[0]!r} is two-dimensional {obj[flat[0]].dims}: a curvilinear grid. xflux needs one-dimensional "
            f"latitude and longitude; regrid first (xESMF, CDO remapcon), or, if every row repeats, replace it by its "
            f"first row or column with assign_coords."
        )
    bare = [name for name in obj.dims if str(name).lower() in _NAMES[axis]]
    if bare:
        raise ValueError(f"dimension {bare[0]!r} has no coordinate: assign its {full}s in degrees with assign_coords.")
    listed = [name for name in obj.coords if obj[name].ndim == 1 and is_axis(obj, name, axis)]
    if listed:
        dim = obj[listed[0]].dims[0]
        raise ValueError(
            f"{listed[0]!r} lies along the dimension {dim!r} together with other coordinates: a list of points or an "
            f"unstructured grid. xflux needs latitude and longitude as two dimensions; regrid first."
        )
    raise ValueError(
        f"no {full} found: the dimensions are {tuple(obj.dims)}. Expected a dimension coordinate named "
        f"{axis!r} or {full!r}, or one whose standard_name or units say so."
    )


def _along(obj: xr.DataArray | xr.Dataset, axis: str) -> list[Hashable]:
    """Coordinates along a dimension of another name, as lat(y); not where lat and lon share it."""
    flat = {a: [c for c in obj.coords if obj[c].ndim == 1 and is_axis(obj, c, a)] for a in _NAMES}
    other = {obj[c].dims for c in flat["lon" if axis == "lat" else "lat"]}
    return [c for c in flat[axis] if obj[c].dims not in other and c not in obj.dims]


def standardise(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """The same object with its horizontal dimensions named ``lat`` and ``lon``; nothing is reordered or loaded.

    Coordinates are found by ``standard_name``, ``units`` or name.

    Raises
    ------
    ValueError
        No, several or curvilinear (2-D) coordinates; coordinates not in degrees.

    Examples
    --------
    >>> da = xr.DataArray([[1.0, 2.0]], {"latitude": [10.0], "longitude": [0.0, 1.0]}, ("latitude", "longitude"))
    >>> standardise(da).dims
    ('lat', 'lon')
    """
    names = {_find(obj, axis): axis for axis in ("lat", "lon")}
    for name, axis in names.items():
        units = str(obj[name].attrs.get("units", "")).lower()
        if units.startswith("rad") or units in ("m", "km", "metre", "meter", "metres", "meters"):
            raise ValueError(f"coordinate {name!r} is in {units!r}; xflux needs {STANDARD_NAMES[axis]} in degrees.")
    obj = obj.swap_dims({obj[name].dims[0]: name for name in names if name not in obj.dims})
    renames = {name: axis for name, axis in names.items() if name != axis}
    clashes = [axis for axis in renames.values() if axis in obj.coords]
    return obj.drop_vars(clashes).rename(renames) if renames else obj
