"""The weight of every cell in every region, in m2: area × land × the region's share; made once per grid."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import xarray as xr

from xflux.cells import Cells, locate, points_of, standardise
from xflux.contents import area_basis as basis_of
from xflux.contents import check_basis
from xflux.provenance import stamp
from xflux.regions.cover import Cover, globe_share, made_whole
from xflux.regions.kernel import CellLists
from xflux.regions.masks import land_array, land_on, own_land
from xflux.regions.polygons import identity, is_polygons
from xflux.regions.sets import cover_of, forget_land
from xflux.units import flux_variables
from xflux.values import warn


@dataclass(frozen=True)
class Weights:
    """Weights as they are used: rows of cells, one row a region."""

    name: str
    labels: np.ndarray
    basis: str | None
    rows: object  # ``csr_array`` (region, cell) m2
    globe: np.ndarray | None  # (cell) m2 of the whole cell on the basis, None for overlapping sets
    extent: np.ndarray  # (region) share of the region that lies on the grid
    globe_extent: float = 1.0  # share of the Earth's area, or land, that lies on the grid
    overlapping: bool = False
    basis_assumed: bool = False  # whether weights made earlier were told no basis

    def bare(self) -> "Weights":
        """Without the rows and the map, for tasks that need to know the rest."""
        return replace(self, rows=None, globe=None if self.globe is None else self.globe[:0])

    def plan(self) -> CellLists:
        """Regions and, where there is a globe, the remainder that falls in none."""
        start, cell, weight = self.rows.indptr, self.rows.indices, self.rows.data
        if self.globe is not None:
            rest = self.globe - np.bincount(cell, weight, minlength=self.globe.size)
            # What rounding leaves of a fully assigned cell is no remainder.
            left = np.flatnonzero(np.abs(rest) > 1e-13 * self.globe)
            cell, weight = np.concatenate([cell, left.astype(cell.dtype)]), np.concatenate([weight, rest[left]])
            start = np.append(start, cell.size)
        return CellLists(start.astype("int64"), cell.astype("int32", copy=False), weight)


def weigh(cover: Cover, cells: Cells, area: np.ndarray, basis: str, land: np.ndarray | None) -> Weights:
    """DESIGN §4, Area: what share of a cell's area, or land, is each region's.

    A cell, or its land, is shared among the regions in proportion to what each covers of what is known of it: of its
    land, as the polygons or a land fraction have it; on basis *cell* of the whole cell where no land is known.
    ``area`` (cell) is overwritten: on 0.05 degrees every such array has 200 MB.
    """
    from scipy.sparse import csr_array

    known = cover.union()
    known = known.copy() if known is cover.own else known
    other = land
    if cover.complete or (land is None and basis == "land"):
        other = cover.land
    elif land is None:
        other = 1.0
    if other is not None:
        np.maximum(known, other, out=known)
    if basis == "land" and land is None:
        np.multiply(area, known, out=area, where=known < 1)
    elif basis == "land":
        area *= land
    factor = np.divide(area, known, out=known, where=known > 0)
    share = cover.share
    rows = csr_array((share.data * factor[share.indices], share.indices, share.indptr), shape=share.shape)
    on_grid = np.ones(len(cover.labels)) if cover.extent is None else cover.extent
    of_globe = cover.land_extent if basis == "land" and cover.land is not None else globe_share(cells)
    globe = None if cover.overlapping else area
    return Weights(cover.name, cover.labels, basis, rows, globe, on_grid, of_globe, cover.overlapping)


def is_weights(regions: object) -> bool:
    """Whether ``regions`` are region weights made earlier: dims (region, lat, lon), units m2."""
    return isinstance(regions, xr.DataArray) and "region" in regions.dims and regions.attrs.get("units") == "m2"


def read_weights(weights: xr.DataArray, here: Cells) -> Weights:
    """Weights made earlier, for the grid at hand; its cells may come in another order or longitude convention."""
    from scipy.sparse import coo_array

    weights = standardise(weights).transpose("region", "lat", "lon")
    there = points_of(weights)
    rows, columns = (_index(there[axis], here, axis) for axis in ("lat", "lon"))
    data = weights.data
    if hasattr(data, "coords"):
        (region, lat, lon), value = data.coords, data.data
    else:
        dense = np.asarray(data)
        region, lat, lon = np.nonzero(np.nan_to_num(dense))
        value = dense[region, lat, lon]
    lat, lon = rows[lat], columns[lon]
    inside = (lat >= 0) & (lon >= 0)
    cell = (lat.astype("int64") * here.shape[1] + lon)[inside]
    cells = here.shape[0] * here.shape[1]
    matrix = coo_array((value[inside], (region[inside], cell)), shape=(weights.sizes["region"], cells)).tocsr()
    globe = None
    if "cell_weight" in weights.coords:
        globe = np.zeros(here.shape)
        source = weights["cell_weight"].transpose("lat", "lon").values
        globe[np.ix_(rows[rows >= 0], columns[columns >= 0])] = source[np.ix_(rows >= 0, columns >= 0)]
        globe = globe.ravel()
    labels = weights["region"].values if "region" in weights.coords else np.arange(weights.sizes["region"])
    attrs = weights.attrs
    return Weights(
        str(attrs.get("regions", "weights")), labels, attrs.get("area_basis"), matrix, globe,
        *_extents(weights, np.bincount(region, value, minlength=len(labels)), matrix.sum(axis=1), globe),
        bool(attrs.get("regions_overlap", False)), bool(attrs.get("area_basis_assumed", False)),
    )  # fmt: skip


def _extents(weights: xr.DataArray, made: np.ndarray, here: np.ndarray, globe) -> tuple[np.ndarray, float]:
    """Share of each region, and of the globe, that lies on the grid at hand: of what the weights say is the whole."""
    whole = weights["whole_weight"].values if "whole_weight" in weights.coords else made
    on_grid = np.where(np.isnan(whole), 0.0, np.divide(here, whole, out=np.ones(len(here)), where=whole > 0))
    everything = weights.attrs.get("globe_weight", 0.0)
    of_globe = globe.sum() / everything if globe is not None and everything > 0 else 1.0
    return made_whole(on_grid), float(made_whole(of_globe))


def _index(there: np.ndarray, here: Cells, axis: str) -> np.ndarray:
    """Place on the grid at hand of every row or column of the weights, −1 where the grid lacks it."""
    own = here.points[axis]
    found = locate(there, own, axis)
    if (found < 0).any():
        raise ValueError(
            f"the weights were made for another grid: their {axis} cells ({len(there)}, from {there[0]:g}) are not "
            f"those of the data ({len(own)}, from {own[0]:g}). Make them with region_weights(grid, regions)."
        )
    index = np.full(len(there), -1)
    index[found] = np.arange(len(found))
    return index


def weights_for(grid, regions, basis: str, land_fraction: xr.DataArray | None, cells: Cells | None = None) -> Weights:
    """Weights of regions of any kind on a grid."""
    grid = standardise(grid)
    cells = Cells.of(grid) if cells is None else cells
    if is_weights(regions):
        made = read_weights(regions, cells)
        if made.basis is not None and made.basis != basis:
            raise ValueError(
                f"the weights were made for area_basis={made.basis!r}, but {basis!r} is asked for: make them with "
                f"region_weights(grid, regions, area_basis={basis!r})."
            )
        if (
            land_fraction is not None
            and made.basis == "land"
            and not _of_land(made, land_on(land_fraction, cells), cells)
        ):
            warn("land_fraction= is not used: the weights were made with their own. Give it to region_weights.")
        return made
    if land_fraction is None:
        land_fraction = own_land(grid)
    land = None if land_fraction is None else land_on(land_fraction, cells)
    return weigh(cover_of(regions, cells), cells, cells.area().ravel(), check_basis(basis), land)


def _of_land(made: Weights, land: np.ndarray, cells: Cells) -> bool:
    """Whether weights on basis land are known to be of these shares of land."""
    area = cells.area().ravel()
    return made.globe is not None and np.allclose(made.globe, land * area, rtol=0, atol=1e-6 * area.max())


def region_weights(
    grid: xr.DataArray | xr.Dataset,
    regions,
    area_basis: str | None = None,
    land_fraction: xr.DataArray | None = None,
) -> xr.DataArray:
    """Weight of every cell in every region, (region, lat, lon) in m2, backed by ``sparse.COO``.

    Parameters
    ----------
    grid
        Anything with latitude and longitude coordinates (CF bounds of a Dataset are used).
    regions
        A name, a label or fraction mask, polygons, or weights made earlier.
    area_basis
        "land": cell area × land fraction × the region's share of the cell's land. "cell": cell area, shared among
        regions by their land. Default: what the grid's attributes say, else "land"; ``area_basis_assumed`` then
        rides along, and a flux that does not say its own is met with a warning.
    land_fraction
        (lat, lon), 0–1. Default: the grid's variable ``land_fraction``, else the land that the regions know.

    Returns
    -------
    xarray.DataArray
        With the coordinates ``cell_weight`` (lat, lon), m2 of the whole cell on the basis, assigned or not, and
        ``whole_weight`` (region), m2 of the whole region, on this grid or not (NaN: nothing of it is).

    Raises
    ------
    ValueError
        No latitude or longitude, an unknown region or basis, a mask or land fraction that does not fit the grid.

    Examples
    --------
    >>> grid = xr.Dataset(coords={"lat": np.arange(-85.0, 90, 10), "lon": np.arange(5.0, 360, 10)})
    >>> w = region_weights(grid, "latitude-bands")
    >>> w.dims, w.attrs["units"], w.attrs["area_basis"]
    (('region', 'lat', 'lon'), 'm2', 'land')
    """
    grid = standardise(grid)
    made = regions.attrs if is_weights(regions) else {}
    basis = area_basis or made.get("area_basis") or _basis_of_grid(grid)
    weights = to_dataarray(weights_for(grid, regions, basis or "land", land_fraction), grid)
    return weights.assign_attrs(area_basis_assumed=1) if basis is None or "area_basis_assumed" in made else weights


def _basis_of_grid(grid: xr.DataArray | xr.Dataset) -> str | None:
    """What a grid says, or all fluxes on it that say something."""
    fluxes = [grid[name] for name in flux_variables(grid)] if isinstance(grid, xr.Dataset) else []
    found = {basis_of(da) for da in fluxes} - {None}
    return basis_of(grid) or (found.pop() if len(found) == 1 else None)


def to_dataarray(weights: Weights, grid: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The labelled, sparse form."""
    import sparse

    nlat, nlon = grid.sizes["lat"], grid.sizes["lon"]
    count = np.diff(weights.rows.indptr)
    kind = "int32" if max(len(count) * nlat * nlon, 1) < 2**31 else "int64"
    region = np.repeat(np.arange(len(count), dtype=kind), count)
    lat, lon = np.divmod(weights.rows.indices.astype(kind, copy=False), nlon)
    data = sparse.COO(
        np.stack([region, lat, lon]), weights.rows.data, (len(count), nlat, nlon), has_duplicates=False, sorted=True
    )
    coords = {"region": weights.labels, "lat": grid["lat"], "lon": grid["lon"]}
    attrs = {"units": "m2", "long_name": "weight of the cell in the region", "regions": weights.name}
    if weights.overlapping:
        attrs["regions_overlap"] = 1
    if weights.basis is not None:
        attrs["area_basis"] = weights.basis
    total = weights.rows.sum(axis=1)
    whole = np.divide(total, weights.extent, out=np.full(len(total), np.nan), where=weights.extent > 0)
    coords["whole_weight"] = ("region", whole, {"units": "m2", "long_name": "weight of the whole region"})
    if weights.globe is not None:
        coords["cell_weight"] = (("lat", "lon"), weights.globe.reshape(nlat, nlon), {"units": "m2"})
        attrs["globe_weight"] = float(weights.globe.sum() / weights.globe_extent)
    attrs |= {"provenance": stamp(f"region_weights(regions={weights.name!r})")}
    return xr.DataArray(data, coords, ("region", "lat", "lon"), name="region_weight", attrs=attrs)


_MAX_ENTRIES = 16
_MAX_BYTES = 512 * 2**20
_memory: OrderedDict[bytes, tuple[Weights, CellLists]] = OrderedDict()
_lock = Lock()


def _fingerprint(regions, grid, cells: Cells, basis: str, land_fraction: xr.DataArray | None) -> bytes | None:
    """Key of the weights, None for regions that are made faster than they are recognised."""
    if isinstance(regions, str):
        if "transcom" in regions or regions.endswith(".nc"):  # a file, which may change
            return None
        content = regions.encode()
    elif isinstance(regions, list | tuple):
        content = repr(regions).encode()
    elif is_polygons(regions):
        content = identity(regions)
    else:
        return None
    digest = hashlib.blake2b(content)
    digest.update(cells.key + basis.encode())
    land_fraction = own_land(grid) if land_fraction is None else land_fraction
    if land_fraction is not None:
        land = land_array(land_fraction)
        digest.update(repr((land.dims, land.attrs.get("units"))).encode())
        for values in (land["lat"].values, land["lon"].values, land.values):
            digest.update(values.tobytes())
    return digest.digest()


def plan_for(
    grid: xr.DataArray | xr.Dataset, regions, basis: str, land_fraction: xr.DataArray | None
) -> tuple[Weights, CellLists]:
    """Weights and plan, remembered for named sets and polygons."""
    cells = Cells.of(grid)
    key = _fingerprint(regions, grid, cells, basis, land_fraction)
    with _lock:
        if key is not None and key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    weights = weights_for(grid, regions, basis, land_fraction, cells)
    made = weights, weights.plan()
    if key is not None and _size(*made) <= _MAX_BYTES:
        with _lock:
            _memory[key] = made
            while len(_memory) > _MAX_ENTRIES or sum(_size(*entry) for entry in _memory.values()) > _MAX_BYTES:
                _memory.popitem(last=False)
    return made


def clear_cache() -> None:
    """Forget the weights that were made for named sets and polygons (at most 16, of 512 MiB together).

    They are kept so that the same grid and regions are worked out once in a process; results do not depend on them.

    >>> clear_cache()
    """
    with _lock:
        _memory.clear()
    forget_land()


def _size(weights: Weights, plan: CellLists) -> int:
    globe = 0 if weights.globe is None else weights.globe.nbytes
    return globe + weights.rows.data.nbytes + weights.rows.indices.nbytes + plan.cell.nbytes + plan.weight.nbytes
