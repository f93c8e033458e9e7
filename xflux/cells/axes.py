"""Which coordinates of an object are its latitudes and longitudes: cf-xarray finds them, by attributes or by name."""

import re
from collections.abc import Hashable
from itertools import permutations
from typing import TypeVar

import numpy as np
import xarray as xr

Data = TypeVar("Data", xr.DataArray, xr.Dataset)
STANDARD_NAMES = {"lat": "latitude", "lon": "longitude"}
_AXIS = {"lat": "Y", "lon": "X"}
_CF_ATTRS = ("standard_name", "long_name", "units", "axis", "_CoordinateAxisType")
_BOUNDS = re.compile(r"bnds|bounds|vert|corner|edge", re.IGNORECASE)
# Names beyond those that cf-xarray guesses: XLAT, TLONG, geolon, clat, latCell, lat2d; not latent_heat.
_BY_NAME = {
    axis: re.compile(rf"([a-z]|nav_|geo)?{axis}(itude|gitude|g)?(_?\d?[a-z]?|_rho|cell)", re.IGNORECASE)
    for axis in STANDARD_NAMES
}


def horizontal(obj: xr.DataArray | xr.Dataset) -> dict[str, list[Hashable]]:
    """Names of the variables that are latitudes (``lat``) and longitudes (``lon``), of whatever dims."""
    import cf_xarray  # noqa: F401 - registers .cf

    variables = obj.variables if isinstance(obj, xr.Dataset) else {n: obj.coords[n].variable for n in obj.coords}
    attrs = {name: _attrs(v) for name, v in variables.items() if v.ndim and v.dtype.kind in "fiu"}
    named = {a: [n for n in attrs if n not in obj.dims and _BY_NAME[a].fullmatch(str(n))] for a in _BY_NAME}
    by_name = {*obj.coords, *named["lat"], *named["lon"]}
    likely = [
        n for n, said in attrs.items() if n in by_name or said.get("standard_name") in STANDARD_NAMES.values()
        or said.get("units", "").lower().startswith(("degrees_", "degree_"))
    ]  # fmt: skip
    names = {str(name): name for name in likely if not _BOUNDS.search(str(name))}
    stub = xr.Dataset(coords={text: ((), 0.0, attrs[name]) for text, name in names.items()})
    said, guessed = stub.cf.axes, stub.cf.guess_coord_axis().cf.coordinates
    found = {}
    for axis, full in STANDARD_NAMES.items():
        by_cf = [names[text] for text in guessed.get(full, [])]
        found[axis] = list(dict.fromkeys([*by_cf, *(n for n in named[axis] if n in names.values())]))
        if not found[axis]:  # the axis Y or X in degrees, but not of a rotated grid
            found[axis] = [
                names[n] for n in said.get(_AXIS[axis], []) if stub[n].attrs.get("units", "").startswith("degree")
                and stub[n].attrs.get("standard_name", full) == full
            ]  # fmt: skip
    return found


def _attrs(variable: xr.Variable) -> dict[str, str]:
    """What CF reads, as text; cf-xarray knows ``degrees_north``, but not ``Degrees North``."""
    attrs = {key: str(variable.attrs[key]).strip() for key in _CF_ATTRS if key in variable.attrs}
    attrs["long_name"] = attrs.get("long_name", "").lower()
    if re.fullmatch(r"degrees?[ _](north|east)", attrs.get("units", ""), re.IGNORECASE):
        attrs["units"] = attrs["units"].lower().replace(" ", "_")
    return attrs


def _find(obj: xr.DataArray | xr.Dataset, axis: str, known: dict[str, list[Hashable]]) -> Hashable:
    """Name of the coordinate along one dimension that is latitude or longitude."""
    found = [name for name in known[axis] if name in obj.dims]
    if len(found) > 1:
        found = [name for name in found if name == axis] or found
    if len(found) == 1:
        return found[0]
    full = STANDARD_NAMES[axis]
    if len(found) > 1:
        raise ValueError(f"several dimensions look like {full}: {found}; drop or rename all but one.")
    listed = [name for name in known[axis] if obj[name].ndim == 1]
    other = {obj[name].dims for name in known["lon" if axis == "lat" else "lat"]}
    if len(along := [name for name in listed if obj[name].dims not in other]) == 1:
        return along[0]
    if flat := [name for name in known[axis] if obj[name].ndim > 1]:
        dims = obj[flat[0]].dims
        raise ValueError(
            f"{flat[0]!r} is {'two-dimensional' if len(dims) == 2 else 'of the dims'} {dims}: a curvilinear grid. "
            f"xflux needs one-dimensional latitude and longitude; regrid first (xESMF, CDO remapcon)."
        )
    bare = [name for name in obj.dims if name not in obj.coords and str(name).lower() in (axis, full)]
    if bare:
        raise ValueError(f"dimension {bare[0]!r} has no coordinate: assign its {full}s in degrees with assign_coords.")
    if listed:
        dim = obj[listed[0]].dims[0]
        raise ValueError(
            f"{listed[0]!r} lies along the dimension {dim!r} together with other coordinates: a list of points or an "
            f"unstructured grid. xflux needs latitude and longitude as two dimensions; regrid first."
        )
    if turned := [name for name in obj.dims if name in obj.coords and _is_turned(obj[name], axis)]:
        raise ValueError(
            f"{turned[0]!r} is an axis of a rotated or projected grid, and curvilinear in latitude and longitude: "
            f"regrid first (xESMF, CDO remapcon)."
        )
    raise ValueError(
        f"no {full} found: the dimensions are {tuple(obj.dims)}. Expected a dimension coordinate named "
        f"{axis!r} or {full!r}, or one whose standard_name or units say so: name yours, as in "
        f"obj.rename({_AXIS[axis].lower()}={axis!r})."
    )


def _is_turned(coord: xr.DataArray, axis: str) -> bool:
    said = str(coord.attrs.get("standard_name", ""))
    return (
        said in (f"grid_{STANDARD_NAMES[axis]}", f"projection_{_AXIS[axis].lower()}_coordinate")
        or coord.name == f"r{axis}"
    )


def _regular(obj: Data, lat: xr.DataArray, lon: xr.DataArray) -> Data:
    """With latitude and longitude of one dim each where two-dimensional ones repeat: IOIPSL's regular grids."""
    for rows, columns in permutations(lat.dims) if set(lat.dims) == set(lon.dims) else ():
        lats, lons = lat.isel({columns: 0}, drop=True), lon.isel({rows: 0}, drop=True)
        distinct = all(np.unique(da).size == da.size for da in (lats, lons))
        if distinct and bool((lat == lats).all() & (lon == lons).all()):
            units = [{k: v for k, v in da.attrs.items() if k == "units"} for da in (lats, lons)]
            coords = {"lat": (lats.dims, lats.values, units[0]), "lon": (lons.dims, lons.values, units[1])}
            return obj.drop_vars([lat.name, lon.name]).assign_coords(coords)
    return obj


def standardise(obj: Data) -> Data:
    """The same object with its horizontal dimensions named ``lat`` and ``lon``; nothing is reordered or loaded.

    Coordinates are found by ``standard_name``, ``units``, ``axis`` or name, as cf-xarray knows them.

    Parameters
    ----------
    obj
        With latitude and longitude, in degrees, as two of its dims.

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
    named = all(axis in obj.dims and axis in obj.coords for axis in STANDARD_NAMES)
    known = {axis: [axis] for axis in STANDARD_NAMES} if named else horizontal(obj)
    if all(obj[name].ndim == 2 for names in known.values() for name in names) and all(map(len, known.values())):
        obj = _regular(obj, obj[known["lat"][0]], obj[known["lon"][0]])
        known = horizontal(obj)
    names = {_find(obj, axis, known): axis for axis in STANDARD_NAMES}
    for name, axis in names.items():
        units = str(obj[name].attrs.get("units", "")).lower()
        if units.startswith("rad") or units in ("m", "km", "metre", "meter", "metres", "meters"):
            raise ValueError(f"coordinate {name!r} is in {units!r}; xflux needs {STANDARD_NAMES[axis]} in degrees.")
        if str(obj[name].attrs.get("standard_name", "")) == f"grid_{STANDARD_NAMES[axis]}":
            raise ValueError(f"{name!r} is the {STANDARD_NAMES[axis]} of a rotated grid: regrid first.")
    if named:
        return obj
    if isinstance(obj, xr.Dataset):
        obj = obj.set_coords([name for name in names if name in obj.data_vars])
    obj = obj.swap_dims({obj[name].dims[0]: name for name in names if name not in obj.dims})
    renames = {name: axis for name, axis in names.items() if name != axis}
    clashes = [axis for axis in renames.values() if axis in obj.coords]
    return obj.drop_vars(clashes).rename(renames) if renames else obj


def with_lat_lon(obj: Data) -> Data:
    """The same with its dimensions of latitude and longitude, as far as it has them, named ``lat`` and ``lon``."""
    if len(obj.dims) < 2 or set(STANDARD_NAMES) <= set(obj.dims):
        return obj
    try:
        return standardise(obj)
    except ValueError:
        found = {axis: [name for name in names if name in obj.dims] for axis, names in horizontal(obj).items()}
        alone = {names[0]: axis for axis, names in found.items() if len(names) == 1 and axis not in obj.coords}
        return obj.rename(alone)
