"""Region weights on disk: netCDF or Zarr, compressed by gathering, with a checksum of all numbers and words."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux.files import at_home, require_place, whole
from xflux.provenance import digest, inside, require_seal, seal

_KIND = "xflux region weights"
_FORMATS = (f"{_KIND} 1", f"{_KIND} 2")
"""The first has no checksum."""
_DENSEST = 2000
"""Bytes of values that a byte of a file can hold: more are claimed, not there."""


def save_weights(weights: xr.DataArray, path: str | Path) -> None:
    """Write region weights to a netCDF file (``.nc``) or a Zarr store (``.zarr``).

    Parameters
    ----------
    weights
        From :func:`xflux.region_weights`, (region, lat, lon) backed by ``sparse.COO``.
    path
        Ends in .nc or .zarr; older weights there are replaced, once the new ones are written whole.

    Raises
    ------
    ValueError, TypeError
        Another suffix; not sparse weights.
    FileExistsError, PermissionError
        Something else is there, a link, or what may only be read.

    Examples
    --------
    >>> import tempfile
    >>> from xflux import region_weights
    >>> grid = xr.Dataset(coords={"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]})
    >>> weights = region_weights(grid, "latitude-bands")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(weights, f"{folder}/bands.nc")
    ...     load_weights(f"{folder}/bands.nc").equals(weights)
    True
    """
    data = weights.data
    suffix = Path(path).suffix
    if suffix not in (".nc", ".zarr"):
        raise ValueError(f"cannot tell the format of {str(path)!r}; expected a path that ends in .nc or .zarr.")
    if weights.dims != ("region", "lat", "lon") or not hasattr(data, "coords"):
        raise TypeError(
            f"save_weights takes the result of region_weights, sparse with dims (region, lat, lon); got "
            f"{type(data).__name__} with dims {weights.dims}."
        )
    path = require_place(path, _KIND)
    shape = np.array(weights.shape, dtype="int64")
    entry = np.ravel_multi_index(tuple(data.coords.astype("int64")), tuple(shape))
    attrs = {"units": weights.attrs["units"], "compress": "region lat lon"}
    variables = {"weight": ("entry", data.data, attrs), "entry": ("entry", entry, {"compress": "region lat lon"})}
    coords = {name: coord.drop_attrs() if name == "cell_weight" else coord for name, coord in weights.coords.items()}
    ds = xr.Dataset(variables, coords, {**weights.attrs, "format": _FORMATS[-1], "name": str(weights.name)})
    ds.attrs["sha256"] = _checksum(ds)
    with whole(path, _KIND) as part:
        if suffix == ".nc":
            packed = {"zlib": True, "complevel": 4}
            ds.to_netcdf(part, engine="netcdf4", encoding={"weight": packed, "entry": packed})
            seal(part)
        else:  # Zarr has no settled form for text of fixed length
            text = ds["region"].dtype.kind == "U"
            ds = ds.assign_coords(region=ds["region"].astype(object)) if text else ds
            ds.to_zarr(part, mode="w", consolidated=False)


def _checksum(ds: xr.Dataset) -> str:
    """SHA-256 of every value, and of the attributes of the whole."""
    words = {key: np.atleast_1d(value).tolist() for key, value in ds.attrs.items() if key != "sha256"}
    return digest(words, {str(name): variable.values for name, variable in ds.variables.items()})


def load_weights(path: str | Path) -> xr.DataArray:
    """Read what :func:`save_weights` wrote: the same weights, sparse, with the same attributes.

    Parameters
    ----------
    path
        Of that file.

    Raises
    ------
    FileNotFoundError, ValueError
        Nothing there; not a file of region weights, or a damaged one.

    Examples
    --------
    >>> import tempfile
    >>> from xflux import region_weights
    >>> grid = xr.Dataset(coords={"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]})
    >>> weights = region_weights(grid, "latitude-bands")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(weights, f"{folder}/bands.nc")
    ...     bands = load_weights(f"{folder}/bands.nc")
    >>> bands.dims, bands.attrs["units"], bands.attrs["area_basis"]
    (('region', 'lat', 'lon'), 'm2', 'land')
    """
    path = at_home(path)
    if not path.exists():
        raise FileNotFoundError(f"no region weights at {str(path)!r}.")
    try:
        ds = _read(path)
    except Exception as error:  # the libraries of both formats raise nearly anything on damage
        raise ValueError(f"{str(path)!r} is damaged or no region weights: {error}; write it again.") from error
    if ds.attrs.get("format") not in _FORMATS:
        raise ValueError(f"{str(path)!r} holds no region weights of format {_FORMATS[-1]!r}; use save_weights.")
    if ds.attrs["format"] != _FORMATS[0] and ds.attrs.pop("sha256", None) != _checksum(ds):
        raise ValueError(f"{str(path)!r} is damaged: its contents do not have the checksum written; write it again.")
    return _weights(ds)


def _read(path: Path) -> xr.Dataset:
    kind: dict[str, Any] = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
    if not path.is_dir():
        require_seal(path)
    with xr.open_dataset(path, **kind) as ds:
        if ds.nbytes > _DENSEST * sum(p.stat().st_size for p in inside(path)):
            raise ValueError(f"{ds.nbytes} bytes of values are not in it")
        return ds.load()


def _weights(ds: xr.Dataset) -> xr.DataArray:
    import sparse

    shape = tuple(ds.sizes[dim] for dim in ("region", "lat", "lon"))
    kind = "int32" if np.prod(shape, dtype="int64") < 2**31 else "int64"
    coords = np.stack(np.unravel_index(ds["entry"].values, shape)).astype(kind)
    data = sparse.COO(coords, ds["weight"].values, shape, has_duplicates=False, sorted=True)
    attrs = {key: value for key, value in ds.attrs.items() if key not in ("format", "name")}
    if ds["region"].dtype.kind not in "iufU":
        ds = ds.assign_coords(region=np.array(ds["region"].values.tolist()))
    names = {name: ds[name] for name in ds.coords if name != "entry"}
    if "cell_weight" in ds.variables:
        names["cell_weight"] = ds["cell_weight"].assign_attrs(units="m2").reset_coords(drop=True)
    return xr.DataArray(data, names, ("region", "lat", "lon"), name=ds.attrs["name"], attrs=attrs)
