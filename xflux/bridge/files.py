"""A bridge as one netCDF file: pixels, regions, the sparse region weights, options as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux.files import at_home, whole
from xflux.provenance import require_seal, seal
from xflux.reading import blamed_on, check_size

FORMAT = "xflux bridge 1"
Parts = tuple[xr.Dataset, xr.Dataset, xr.DataArray, dict[str, Any]]


def save(
    path: str | Path, pixels: xr.Dataset, regions: xr.Dataset, weights: xr.DataArray, attrs: dict[str, Any]
) -> None:
    """Write a bridge to ``path`` (netCDF-4); the weights go as the coordinates and values of their nonzeros.

    Numbers carry checksums; an interruption leaves the old file or the new one; only a bridge is replaced.
    """
    weights = weights.transpose("region", "lat", "lon")
    coo = weights.data
    ds = regions.merge(pixels.rename({name: f"pixel_{name}" for name in pixels.data_vars}))
    for name, values in zip(("region", "lat", "lon"), coo.coords, strict=True):
        ds[f"cell_{name}"] = ("cell", values.astype("int32"))
    ds["cell_weight"] = ("cell", coo.data, {"units": "m2", "long_name": "area of the region in the cell"})
    for axis in ("lat", "lon"):
        ds[f"grid_{axis}"] = (f"grid_{axis}", weights[axis].values, {"units": weights[axis].attrs.get("units", "")})
    options = {k: v for k, v in attrs.items() if k != "provenance"}
    ds.attrs = {
        "title": FORMAT,
        "Conventions": "CF-1.11",
        "options": json.dumps(options, default=lambda v: v.item() if hasattr(v, "item") else str(v)),
        "provenance": attrs.get("provenance", ""),
        "weights_attrs": json.dumps(weights.attrs, default=str),
    }
    checked = {name: {"fletcher32": True} for name, var in ds.variables.items() if var.dtype.kind in "iuf" and var.size}
    with whole(path, "xflux bridge") as part:
        ds.to_netcdf(part, format="NETCDF4", engine="netcdf4", encoding=checked)
        seal(part)


def load(path: str | Path) -> Parts:
    """Pixels, regions, weights and attributes that :func:`save` wrote."""
    path = at_home(path)
    if not path.exists():
        raise FileNotFoundError(f"no bridge at {str(path)!r}")
    with blamed_on(path, "a bridge that xflux saved"):
        require_seal(path)
        with xr.open_dataset(path, engine="netcdf4") as opened:
            title = str(opened.attrs.get("title"))
            if title != FORMAT and title.startswith("xflux bridge "):
                why = f"has the format {title!r}, this xflux reads {FORMAT!r}: update xflux, or fit it anew"
                raise ValueError(f"{path} {why}.")
            if title != FORMAT:
                raise ValueError(f"{path} is not a bridge: its title is {title!r}, expected {FORMAT!r}.")
            check_size(path, opened.nbytes)
            ds = opened.load()
        return _parts(ds)


def _parts(ds: xr.Dataset) -> Parts:
    own = [name for name in ds.data_vars if name.startswith("pixel_")]
    pixels = ds[own].drop_vars("region", errors="ignore").rename({name: name.removeprefix("pixel_") for name in own})
    pixels["region"] = _text(pixels["region"])
    regions = ds[[name for name in ds.data_vars if ds[name].dims == ("region",)]]
    regions = regions.assign_coords(region=_text(regions["region"]))
    regions["status"] = _text(regions["status"])
    pixels.attrs = regions.attrs = {}
    _check_pixels(pixels, regions)
    options = _parsed(ds.attrs["options"]) | {"provenance": ds.attrs["provenance"]}
    return pixels, regions, _weights(ds), options


def _check_pixels(pixels: xr.Dataset, regions: xr.Dataset) -> None:
    strangers = set(pixels["region"].values) - set(regions["region"].values)
    if strangers:
        raise ValueError(f"its pixels are of regions that it has not: {sorted(map(str, strangers))[:5]}")
    for name in ("lat", "lon", "weight", "lat_halfwidth", "lon_halfwidth"):
        if not np.isfinite(pixels[name].values).all():
            raise ValueError(f"pixel_{name} is not finite")
    if regions["intercept"].dims != ("region",) or regions["land_area"].dims != ("region",):
        raise ValueError("intercept and land_area are not by region")


def _parsed(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"its options are a {type(found).__name__}, expected a JSON object")
    return found


def _text(names: xr.DataArray) -> xr.DataArray:
    """Text as it was saved: netCDF gives objects back."""
    return names.astype(str, keep_attrs=True) if names.dtype == object else names


def _weights(ds: xr.Dataset) -> xr.DataArray:
    import sparse

    labels = _text(ds["region"]).values
    shape: tuple[Any, ...] = (labels.size, ds.sizes["grid_lat"], ds.sizes["grid_lon"])
    places = np.stack([ds[f"cell_{name}"].values for name in ("region", "lat", "lon")]).astype(int)
    if (np.diff(np.ravel_multi_index(tuple(places), shape)) <= 0).any():  # refuses cells outside of the grid too
        raise ValueError("the cells of its weights are not in order")
    return xr.DataArray(
        sparse.COO(places, ds["cell_weight"].values, shape, has_duplicates=False, sorted=True),
        {"region": labels, "lat": ds["grid_lat"].values, "lon": ds["grid_lon"].values},
        ("region", "lat", "lon"),
        attrs=_parsed(ds.attrs["weights_attrs"]),
    )
