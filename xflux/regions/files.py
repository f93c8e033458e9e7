"""Region weights on disk: netCDF or Zarr, compressed by gathering."""

from pathlib import Path

import numpy as np
import xarray as xr

_FORMAT = "xflux region weights 1"


def save_weights(weights: xr.DataArray, path: str | Path) -> None:
    """Write region weights to a netCDF file (``.nc``) or a Zarr store (``.zarr``).

    Parameters
    ----------
    weights
        From :func:`xflux.region_weights`, (region, lat, lon) backed by ``sparse.COO``.
    path
        Ends in .nc or .zarr; an existing file is replaced.

    Raises
    ------
    ValueError
        Another suffix. ``TypeError``: not sparse weights.

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
    if weights.dims != ("region", "lat", "lon") or not hasattr(data, "coords"):
        raise TypeError(
            f"save_weights takes the result of region_weights, sparse with dims (region, lat, lon); got "
            f"{type(data).__name__} with dims {weights.dims}."
        )
    shape = np.array(weights.shape, dtype="int64")
    entry = np.ravel_multi_index(tuple(data.coords.astype("int64")), tuple(shape))
    attrs = {"units": weights.attrs["units"], "compress": "region lat lon"}
    variables = {"weight": ("entry", data.data, attrs), "entry": ("entry", entry, {"compress": "region lat lon"})}
    coords = {name: coord.drop_attrs() if name == "cell_weight" else coord for name, coord in weights.coords.items()}
    ds = xr.Dataset(variables, coords, {**weights.attrs, "format": _FORMAT, "name": str(weights.name)})
    encoding = {"weight": {}, "entry": {}}
    suffix = Path(path).suffix
    if suffix == ".nc":
        ds.to_netcdf(path, engine="netcdf4", encoding={name: {"zlib": True, "complevel": 4} for name in encoding})
    elif suffix == ".zarr":
        # Zarr has no settled form for text of fixed length.
        ds = ds.assign_coords(region=ds["region"].astype(object)) if ds["region"].dtype.kind == "U" else ds
        ds.to_zarr(path, mode="w", consolidated=False)
    else:
        raise ValueError(f"cannot tell the format of {str(path)!r}; expected a path that ends in .nc or .zarr.")


def load_weights(path: str | Path) -> xr.DataArray:
    """Read what :func:`save_weights` wrote: the same weights, sparse, with the same attributes.

    Raises
    ------
    FileNotFoundError
        Nothing there. ``ValueError``: not a file of region weights.

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
    import sparse

    if not Path(path).exists():
        raise FileNotFoundError(f"no region weights at {str(path)!r}.")
    zarr = Path(path).suffix == ".zarr"
    with xr.open_dataset(path, **({"engine": "zarr", "consolidated": False} if zarr else {"engine": "netcdf4"})) as ds:
        ds = ds.load()
    if ds.attrs.get("format") != _FORMAT:
        raise ValueError(f"{str(path)!r} holds no region weights of format {_FORMAT!r}; write them with save_weights.")
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
