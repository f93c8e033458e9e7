"""From what a user calls regions to what they cover of a grid."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.cells import Cells
from xflux.regions.cover import Cover, by_cell, latitude_band_limits, latitude_bands, rows_of
from xflux.regions.coverage import polygon_shares
from xflux.regions.masks import fraction_mask, label_mask
from xflux.regions.polygons import is_polygons, overlapping, polygons_of
from xflux.regions.shapes import made_valid, rings_of, shipped

NAMES = ("reccap2", "reccap2-chapters", "reccap2-chapters-11", "transcom", "latitude-bands", "countries")


def cover_of(regions, cells: Cells) -> Cover:
    """Cover of regions of any kind.

    Parameters
    ----------
    regions
        A name, a (lat, lon) label mask, a (region, lat, lon) fraction mask, a GeoDataFrame or a
        ``regionmask.Regions``.

    Raises
    ------
    ValueError
        An unknown name. ``TypeError``: a kind that is not listed.
    """
    if isinstance(regions, str | Path):
        return _named(str(regions), cells)
    if isinstance(regions, xr.DataArray):
        return fraction_mask(regions, cells) if "region" in regions.dims else label_mask(regions, cells)
    if is_polygons(regions):
        return polygon_cover(regions, cells)
    raise TypeError(
        f"regions of type {type(regions).__name__} are not understood; expected one of the names {NAMES}, a (lat, lon) "
        f"label mask, a (region, lat, lon) fraction mask, a GeoDataFrame, a regionmask.Regions or region weights."
    )


def _named(name: str, cells: Cells) -> Cover:
    if name == "latitude-bands":
        return latitude_bands(cells)
    if name in ("reccap2", "reccap2-chapters", "reccap2-chapters-11", "countries"):
        labels, rings = shipped(name)
        parts = polygon_shares(rings, cells.lat, cells.lon, len(labels) + 1)
        everything = rows_of(parts, cells.count)
        return Cover(name, labels, everything[: len(labels)], land=by_cell(everything), complete=True)
    if name == "transcom" or name.startswith("transcom:") or name.endswith(".nc"):
        return transcom(name.removeprefix("transcom").removeprefix(":") or None, cells)
    raise ValueError(f"region set {name!r} is unknown; expected one of {', '.join(NAMES)}.")


def region_labels(name: str) -> tuple[str, ...]:
    """Labels of a named set that xflux ships, in their order.

    >>> region_labels("reccap2")[:3], len(region_labels("latitude-bands"))
    (('USA', 'CAN', 'CAM'), 18)
    """
    if name == "latitude-bands":
        return tuple(latitude_band_limits())
    if name not in NAMES or name == "transcom":
        shipped_names = ", ".join(known for known in NAMES if known != "transcom")
        raise ValueError(f"region set {name!r} is not shipped; expected one of {shipped_names}.")
    return tuple(str(label) for label in shipped(name)[0])


def polygon_cover(regions, cells: Cells) -> Cover:
    """Cover of a GeoDataFrame (in any coordinate system) or a ``regionmask.Regions``.

    The land of a cell is what the polygons cover or, where that is more, Natural Earth's land: a small region takes its
    own share of a cell on the continent, and the whole of a cell in which it is the only land.
    """
    import shapely

    geometries, labels, name = polygons_of(regions)
    rings = rings_of(geometries)
    share = rows_of(polygon_shares(rings, cells.lat, cells.lon, len(labels)), cells.count)
    overlap = overlapping(geometries)
    union = share
    if overlap:
        whole = rings_of([shapely.union_all([made_valid(g) for g in geometries if g is not None])])
        union = rows_of(polygon_shares(whole, cells.lat, cells.lon, 1), cells.count)
    own = np.minimum(by_cell(union), 1.0)
    return Cover(name, labels, share, land=_world_land(cells.key, cells), own=own, overlapping=overlap)


_land: dict[bytes, np.ndarray] = {}


def _world_land(key: bytes, cells: Cells) -> np.ndarray:
    """(cell) share of Natural Earth's land, remembered for the last grid."""
    if key not in _land:
        _, world = shipped("countries")
        world = replace(world, group=np.zeros_like(world.group))
        land = by_cell(rows_of(polygon_shares(world, cells.lat, cells.lon, 1), cells.count))
        _land.clear()
        _land[key] = land
    return _land[key]


def transcom(path: str | None, cells: Cells) -> Cover:
    """The published TransCom-3 mask, 11 land and 11 ocean regions; what was not optimised (0) belongs to none.

    Parameters
    ----------
    path
        NetCDF file; default ``regions/transcom_1deg.nc`` or ``transcom*.nc`` under ``$XFLUX_DATA``.
    """
    file = _transcom_file(path)
    with xr.open_dataset(file) as ds:
        flat = [name for name, da in ds.data_vars.items() if da.ndim == 2]
        found = [name for name in flat if re.search("transcom|region|basis", str(name), re.IGNORECASE)]
        if not found:
            raise ValueError(f"{file.name} holds no 2-D variable named like 'transcom_region': {list(ds.data_vars)}.")
        mask = ds[found[0]].load()
    return label_mask(mask.where(mask != 0, -1).assign_attrs(mask.attrs), cells, "transcom")


def _transcom_file(path: str | None) -> Path:
    folder = os.environ.get("XFLUX_DATA")
    if path is not None:
        candidates = [Path(path).expanduser()]
    elif folder:
        places = (Path(folder) / "regions", Path(folder))
        candidates = [found for place in places for found in sorted(place.glob("*transcom*.nc"))]
    else:
        candidates = []
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"the TransCom-3 mask is not shipped with xflux and was not found ({path or '$XFLUX_DATA=' + str(folder)}). "
        f"Get the published 1° basis function map (Gurney et al. 2002, doi:10.1038/415626a; e.g. regions.nc of NOAA "
        f"CarbonTracker, https://gml.noaa.gov/ccgg/carbontracker/) and give regions='transcom:PATH', or put it at "
        f"$XFLUX_DATA/regions/transcom_1deg.nc."
    )
