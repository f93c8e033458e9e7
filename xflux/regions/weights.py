"""The weight of every cell in every region, in m2: area × land × the region's share; made once per grid."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.cells import Cells, cell_area, place, points_of, standardise
from xflux.files import stamp
from xflux.regions.cover import Cover
from xflux.regions.kernel import Plan
from xflux.regions.masks import land_on
from xflux.regions.sets import cover_of

BASES = ("land", "cell")


@dataclass(frozen=True)
class Weights:
    """Weights as they are used: rows of cells, one row a region.

    Attributes
    ----------
    rows
        ``csr_array`` (region, cell) m2.
    globe
        (cell) m2 of the whole cell on the basis, None for overlapping sets.
    """

    name: str
    labels: np.ndarray
    basis: str | None
    rows: object
    globe: np.ndarray | None
    overlapping: bool = False

    def plan(self) -> Plan:
        """Regions and, where there is a globe, the remainder that falls in none."""
        start, cell, weight = self.rows.indptr, self.rows.indices, self.rows.data
        if self.globe is not None:
            rest = self.globe - np.bincount(cell, weight, minlength=self.globe.size)
            # What rounding leaves of a fully assigned cell is no remainder.
            left = np.flatnonzero(np.abs(rest) > 1e-13 * self.globe)
            cell, weight = np.concatenate([cell, left.astype(cell.dtype)]), np.concatenate([weight, rest[left]])
            start = np.append(start, cell.size)
        return Plan(start.astype("int64"), cell.astype("int32", copy=False), weight)


def weigh(cover: Cover, area: np.ndarray, basis: str, land: np.ndarray | None) -> Weights:
    """DESIGN §4, Area: basis *cell* shares the cell among regions by their land; *land* shares its land.

    ``area`` (cell) is overwritten: on 0.05 degrees every such array has 200 MB.
    """
    from scipy.sparse import csr_array

    known = cover.union()
    known = known.copy() if known is cover.own else known
    other = cover.land if land is None or cover.complete else land
    if other is not None:
        np.maximum(known, other, out=known)
    if basis == "land" and land is None:
        np.multiply(area, known, out=area, where=known < 1)
    elif basis == "land":
        area *= land
    factor = np.divide(area, known, out=known, where=known > 0)
    share = cover.share
    rows = csr_array((share.data * factor[share.indices], share.indices, share.indptr), shape=share.shape)
    globe = None if cover.overlapping else area
    return Weights(cover.name, cover.labels, basis, rows, globe, cover.overlapping)


def is_weights(regions: object) -> bool:
    """Whether ``regions`` are region weights made earlier: dims (region, lat, lon), units m2."""
    return (
        isinstance(regions, xr.DataArray) and "region" in regions.dims and str(regions.attrs.get("units", "")) == "m2"
    )


def read_weights(weights: xr.DataArray, grid: xr.DataArray | xr.Dataset) -> Weights:
    """Weights made earlier, for the grid at hand; its cells may come in another order or longitude convention."""
    from scipy.sparse import coo_array

    weights = standardise(weights).transpose("region", "lat", "lon")
    here, there = Cells.of(grid), points_of(weights)
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
    name, basis = str(weights.attrs.get("regions", "weights")), weights.attrs.get("area_basis")
    return Weights(name, labels, basis, matrix, globe, bool(weights.attrs.get("regions_overlap", False)))


def _index(there: np.ndarray, here: Cells, axis: str) -> np.ndarray:
    """Place on the grid at hand of every row or column of the weights, −1 where the grid lacks it."""
    found = place(there, here, axis)
    if found is None:
        own = here.points[axis]
        raise ValueError(
            f"the weights were made for another grid: their {axis} cells ({len(there)}, from {there[0]:g}) are not "
            f"those of the data ({len(own)}, from {own[0]:g}). Make them with region_weights(grid, regions)."
        )
    index = np.full(len(there), -1)
    index[found] = np.arange(len(found))
    return index


def check_basis(basis: str) -> str:
    if basis not in BASES:
        raise ValueError(f"area_basis {basis!r} is unknown; expected 'land' or 'cell': what the flux is per m2 of.")
    return basis


def weights_for(grid, regions, basis: str, land_fraction: xr.DataArray | None) -> Weights:
    """Weights of regions of any kind on a grid."""
    grid = standardise(grid)
    if is_weights(regions):
        made = read_weights(regions, grid)
        if made.basis is not None and made.basis != basis:
            raise ValueError(f"the weights were made for area_basis={made.basis!r}, but {basis!r} is asked for.")
        return made
    if land_fraction is None:
        land_fraction = own_land(grid)
    cells = Cells.of(grid)
    land = None if land_fraction is None else land_on(land_fraction, cells)
    area = cell_area(grid).values.ravel()
    return weigh(cover_of(regions, cells), area, check_basis(basis), land)


def own_land(grid: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """The product's own land fraction."""
    if "land_fraction" in getattr(grid, "data_vars", ()) or "land_fraction" in grid.coords:
        return grid["land_fraction"]
    return None


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
        regions by their land. Default: ``grid.attrs["area_basis"]``, else "land".
    land_fraction
        (lat, lon), 0–1. Default: the grid's variable ``land_fraction``, else the land that the regions know.

    Returns
    -------
    xarray.DataArray
        With the coordinate ``cell_weight`` (lat, lon), m2 of the whole cell on the basis, assigned or not.

    Examples
    --------
    >>> grid = xr.Dataset(coords={"lat": np.arange(-85.0, 90, 10), "lon": np.arange(5.0, 360, 10)})
    >>> w = region_weights(grid, "latitude-bands")
    >>> w.dims, w.attrs["units"], w.attrs["area_basis"]
    (('region', 'lat', 'lon'), 'm2', 'land')
    """
    grid = standardise(grid)
    made = regions.attrs.get("area_basis") if is_weights(regions) else None
    basis = area_basis or made or grid.attrs.get("area_basis") or "land"
    return to_dataarray(weights_for(grid, regions, basis, land_fraction), grid)


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
    if weights.globe is not None:
        coords["cell_weight"] = (("lat", "lon"), weights.globe.reshape(nlat, nlon), {"units": "m2"})
    attrs = {"units": "m2", "long_name": "weight of the cell in the region", "regions": weights.name}
    if weights.overlapping:
        attrs["regions_overlap"] = 1
    if weights.basis is not None:
        attrs["area_basis"] = weights.basis
    attrs |= {"provenance": stamp(f"region_weights(regions={weights.name!r})")}
    return xr.DataArray(data, coords, ("region", "lat", "lon"), name="region_weight", attrs=attrs)
