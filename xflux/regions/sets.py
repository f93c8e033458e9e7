"""From what a user calls regions to what they cover of a grid."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.cells import Cells
from xflux.files import at_home
from xflux.regions.cover import (
    GLOBE,
    Cover,
    box_cover,
    by_cell,
    extent,
    globe_share,
    latitude_band_limits,
    latitude_bands,
    rows_of,
)
from xflux.regions.masks import mask_cover, the_mask
from xflux.regions.names import NAMES, REGIONMASK, bare, land_regions
from xflux.regions.polygons import is_polygons, overlapping, polygons_of
from xflux.regions.shapes import SETS, made_valid, members, outline, rings_of, shipped, united
from xflux.regions.shares import Rings, polygon_shares


def cover_of(regions, cells: Cells) -> Cover:
    """Cover of regions of any kind.

    ``regions``: a name of a set, a region or a country, or a list of names; a box (west, south, east, north) or a list
    of boxes; a (lat, lon) label mask or a (region, lat, lon) fraction mask; a GeoDataFrame or a ``regionmask.Regions``.
    Raises ValueError: an unknown name; TypeError: a kind that is not listed.
    """
    if isinstance(regions, str | Path):
        return _named(str(regions), cells)
    if isinstance(regions, xr.Dataset):
        regions = the_mask(regions)
    if isinstance(regions, xr.DataArray):
        return mask_cover(regions, cells)
    if is_polygons(regions):
        return polygon_cover(regions, cells)
    if isinstance(regions, Sequence | np.ndarray) and len(regions):
        if all(isinstance(one, str) for one in regions):
            return _listed(list(regions), cells)
        boxes = [regions] if _is_box(regions) else list(regions)
        if all(_is_box(box) for box in boxes):
            return box_cover([tuple(map(float, box)) for box in boxes], cells)
    raise TypeError(
        f"regions of type {type(regions).__name__} are not understood; expected one of the names {NAMES}, a region or "
        f"country or a list of them, a box (west, south, east, north), a (lat, lon) label mask, a (region, lat, lon) "
        f"fraction mask, a GeoDataFrame, a regionmask.Regions or region weights."
    )


def _is_box(box: object) -> bool:
    return isinstance(box, Sequence | np.ndarray) and len(box) == 4 and all(isinstance(x, Real) for x in box)


def _named(name: str, cells: Cells) -> Cover:
    name = {bare(known): known for known in NAMES}.get(bare(name), name)
    if name == "latitude-bands":
        return latitude_bands(cells)
    if name in SETS:
        return land_cover(name, members(name), cells)
    if name in REGIONMASK:
        return replace(polygon_cover(_of_regionmask(name), cells), name=name)
    if name == "transcom" or name.startswith("transcom:") or name.endswith(".nc"):
        return transcom(name.removeprefix("transcom").removeprefix(":") or None, cells, not name.startswith("transcom"))
    return _listed([name], cells)


def _listed(names: list[str], cells: Cells) -> Cover:
    """Regions or countries, or latitude bands; a set stands alone."""
    if any(name in NAMES for name in names):
        if len(names) == 1:
            return _named(names[0], cells)
        raise ValueError(f"{names} holds a whole set of regions; give the set alone, or the names of its regions.")
    bands = latitude_band_limits()
    if all(name in bands for name in names):
        return latitude_bands(cells, dict.fromkeys(names))
    return land_cover(", ".join(names), land_regions(names), cells)


def land_cover(name: str, regions: Mapping[str, set[str]], cells: Cells) -> Cover:
    """Cover of regions that are made of countries; all land of the Earth is known with them.

    A country that belongs to several of the regions makes a group of its own, which counts for each of them.
    """
    from scipy.sparse import csr_array

    shared: dict[tuple[int, ...], set[str]] = {}
    for code in sorted(set().union(*regions.values())):  # sums do not depend on how strings are hashed
        shared.setdefault(tuple(i for i, codes in enumerate(regions.values()) if code in codes), set()).add(code)
    _, rings = united({str(owners): codes for owners, codes in shared.items()})
    everything, whole = _shares(rings, cells, len(shared) + 1)
    belongs = np.array([[i in owners for owners in shared] for i in range(len(regions))], dtype="float64")
    share = csr_array(belongs) @ everything[: len(shared)]
    share.sort_indices()
    on_grid = dict(extent=None, land_extent=1.0)
    if whole is not None:
        land = extent(csr_array(np.ones((1, len(whole)))) @ everything, cells, whole.sum(keepdims=True))
        on_grid = dict(extent=extent(share, cells, belongs @ whole[:-1]), land_extent=float(land[0]))
    overlap = any(len(owners) > 1 for owners in shared)
    own = np.minimum(by_cell(everything[: len(shared)]), 1.0) if overlap else None
    labels = np.array(list(regions))
    return Cover(name, labels, share, by_cell(everything), complete=True, own=own, overlapping=overlap, **on_grid)


def _shares(rings: Rings, cells: Cells, groups: int):
    """``csr_array`` (group, cell) shares, and the share of the sphere of each group where the grid is no globe."""
    share = rows_of(polygon_shares(rings, cells.lat, cells.lon, groups), cells.count)
    if globe_share(cells) == 1:
        return share, None
    return share, np.array([values.sum() for _, values in polygon_shares(rings, *GLOBE, groups)])


def region_labels(name: str) -> tuple[str, ...]:
    """Labels of a named set that xflux ships, in their order.

    Parameters
    ----------
    name
        "reccap2", "countries", "latitude-bands" …

    Raises
    ------
    ValueError
        A set that xflux does not ship.

    Examples
    --------
    >>> region_labels("reccap2")[:3], len(region_labels("latitude-bands"))
    (('USA', 'CAN', 'CAM'), 18)
    """
    if name == "latitude-bands":
        return tuple(latitude_band_limits())
    if name not in SETS:
        raise ValueError(f"region set {name!r} is not shipped; expected one of {', '.join((*SETS, 'latitude-bands'))}.")
    return tuple(members(name))


def as_regionmask(regions: str | Sequence[str]):
    """Regions of xflux by name as ``regionmask.Regions``, for its plots and masks.

    Parameters
    ----------
    regions
        A set that xflux ships ("reccap2", "countries", "latitude-bands" …), or names of regions or countries.

    Raises
    ------
    ValueError
        An unknown region, or a set without polygons.

    Examples
    --------
    >>> as_regionmask("reccap2").names[:3]
    ['USA', 'CAN', 'CAM']
    """
    import regionmask
    import shapely

    names = [regions] if isinstance(regions, str) else list(regions)
    bands = latitude_band_limits()
    if names == ["latitude-bands"] or all(name in bands for name in names):
        chosen = bands if names == ["latitude-bands"] else {name: bands[name] for name in names}
        shapes = {name: shapely.box(-180, south, 180, north) for name, (south, north) in chosen.items()}
    else:
        if len(names) == 1 and names[0] in NAMES and names[0] not in SETS:
            raise ValueError(f"{names[0]!r} is no set of polygons of xflux; expected one of {SETS} or latitude-bands.")
        known = members(names[0]) if names[0] in SETS and len(names) == 1 else land_regions(names)
        shapes = {label: outline(codes) for label, codes in known.items()}
    labels, title = list(shapes), ", ".join(names)
    return regionmask.Regions(list(shapes.values()), names=labels, abbrevs=labels, name=title, overlap=None)


def _of_regionmask(name: str):
    """A set of regionmask's own; those that it has to download may fail to come."""
    import regionmask

    found = regionmask.defined_regions
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except OSError as error:
        raise OSError(f"regionmask could not get its regions {name!r}, which it downloads once: {error}") from error
    return found


def polygon_cover(regions, cells: Cells) -> Cover:
    """Cover of a GeoDataFrame (in any coordinate system) or a ``regionmask.Regions``.

    The land of a cell is what the polygons cover or, where that is more, Natural Earth's land: a small region takes its
    own share of a cell on the continent, and the whole of a cell in which it is the only land.
    """
    import shapely

    geometries, labels, name = polygons_of(regions)
    share, whole = _shares(rings_of(geometries), cells, len(labels))
    overlap = overlapping(geometries)
    union = share
    if overlap:
        merged = rings_of([shapely.union_all([made_valid(g) for g in geometries if g is not None])])
        union = rows_of(polygon_shares(merged, cells.lat, cells.lon, 1), cells.count)
    own = np.minimum(by_cell(union), 1.0)
    land, land_extent = _world_land(cells.key, cells)
    on_grid = None if whole is None else extent(share, cells, whole)
    return Cover(name, labels, share, land, own=own, overlapping=overlap, extent=on_grid, land_extent=land_extent)


_land: dict[bytes, tuple[np.ndarray, float]] = {}


def _world_land(key: bytes, cells: Cells) -> tuple[np.ndarray, float]:
    """(cell) share of Natural Earth's land, and the share of it on the grid; remembered for the last grid."""
    land = _land.get(key)
    if land is None:
        _, world = shipped("countries")
        share, whole = _shares(replace(world, group=np.zeros_like(world.group)), cells, 1)
        land = by_cell(share), 1.0 if whole is None else float(extent(share, cells, whole)[0])
        _land.clear()
        _land[key] = land
    return land


def forget_land() -> None:
    """Forget the land of the last grid."""
    _land.clear()


def transcom(path: str | None, cells: Cells, plain: bool = False) -> Cover:
    """The published TransCom-3 mask, 11 land and 11 ocean regions; what was not optimised (0) belongs to none.

    A file whose name and map do not speak of TransCom is a mask like any other where it is given ``plain``.

    ``path``: netCDF file; default ``regions/transcom_1deg.nc`` or ``transcom*.nc`` under ``$XFLUX_DATA``.
    """
    file = _transcom_file(path)
    with xr.open_dataset(file) as ds:
        mask = _map_of_regions(ds, file.name).load()
    if plain and "transcom" not in f"{file.name} {mask.name}".lower():
        return mask_cover(mask, cells)
    return mask_cover(mask.where(mask != 0, -1).assign_attrs(mask.attrs), cells, "transcom")


def _map_of_regions(ds: xr.Dataset, file: str) -> xr.DataArray:
    """The map of regions of a file: named like TransCom's, else the only one that is named like one."""
    flat = [str(name) for name, da in ds.data_vars.items() if da.squeeze().ndim == 2]
    for pattern in (r"transcom_?regions?$", "transcom", "region|basis", ""):
        found = [name for name in flat if re.search(pattern, name, re.IGNORECASE)]
        if len(found) == 1:
            return ds[found[0]].squeeze(drop=True)
        if found:
            break
    raise ValueError(
        f"{file}: which variable is the map of regions? Expected 'transcom_regions' or a single 2-D variable, found "
        f"{found or 'none'} among {list(ds.data_vars)}: open the file and give the one that is meant, as in ds[name]."
    )


def _transcom_file(path: str | None) -> Path:
    folder = os.environ.get("XFLUX_DATA")
    if path is not None:
        candidates = [at_home(path)]
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
