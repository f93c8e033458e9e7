"""Fields from one grid to another, area for area.

Weights are overlaps in longitude and in sin(latitude), one sparse matrix an axis. xarray-regrid's do not conserve sums:
they pad the poles and renormalise by what is valid (4e-5 off from 5° to 10°, and half of the sum too much where half of
the cells are missing).
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xarray as xr

from xflux.cells.axes import STANDARD_NAMES, standardise
from xflux.cells.bounds import Cells, bands, points_of
from xflux.cells.match import TOLERANCE, locate
from xflux.contents import area_basis as basis_of
from xflux.contents import assumed_area_basis
from xflux.intervals import pieces
from xflux.units import is_flux, parse
from xflux.values import checked, decoded, found_fill, warn_of_fill

Data = TypeVar("Data", xr.DataArray, xr.Dataset)
# Overlaps smaller than this share of a cell are rounding.
_SLIVER = 1e-9


@dataclass(frozen=True)
class Carry:
    """Brings fields (…, lat, lon) of cell shares from one grid to another, area for area.

    On the same grid, in any order or longitude convention, nothing is computed: the cells are only reordered, and
    ``exact`` is true.
    """

    rows: object
    columns: object
    exact: bool

    def __call__(self, field: np.ndarray) -> np.ndarray:
        if not self.exact:
            lead, (nlat, nlon) = field.shape[:-2], field.shape[-2:]
            field = (self.columns @ field.reshape(-1, nlon).T.astype("float64")).reshape(-1, *lead, nlat)
            field = (self.rows @ field.reshape(-1, nlat).T).reshape(-1, self.columns.shape[0], *lead)
            return np.moveaxis(field, (0, 1), (-2, -1))
        same = all(
            np.array_equal(i, np.arange(n)) for i, n in zip((self.rows, self.columns), field.shape[-2:], strict=True)
        )
        return field if same else field[..., self.rows[:, None], self.columns]

    @property
    def reaches_all(self) -> bool:
        """Whether the source covers all of the target's cells."""
        return self.exact or all((m.sum(axis=1) > 1 - 1e-6).all() for m in (self.rows, self.columns))


def carry(field: xr.DataArray, target: Cells, source: Cells | None = None) -> Carry:
    """How to bring a field, or what lies on the cells ``source``, to other cells.

    On the same coordinates they are the same cells, whatever bounds say.
    """
    points = points_of(field)
    found = {axis: locate(points[axis], target.points[axis], axis) for axis in STANDARD_NAMES}
    there = all((index >= 0).all() for index in found.values())
    if there and all(len(points[axis]) == len(target.points[axis]) for axis in STANDARD_NAMES):
        return Carry(*found.values(), True)
    source = Cells.of(field) if source is None else source
    if there:
        pairs = [(np.ptp(getattr(source, a), axis=1)[i], np.ptp(getattr(target, a), axis=1)) for a, i in found.items()]
        if all((np.abs(have - want) <= TOLERANCE * want).all() for have, want in pairs):
            return Carry(*found.values(), True)
    return Carry(*(axis_overlap(getattr(source, axis), getattr(target, axis), axis) for axis in STANDARD_NAMES), False)


def regrid(
    da: Data,
    grid: xr.DataArray | xr.Dataset,
    area_basis: str | None = None,
    land_fraction: xr.DataArray | None = None,
) -> Data:
    """``da`` (…, lat, lon) on the cells of ``grid``, area for area: the integral stays the same. Lazy.

    A missing cell adds nothing to the integral of a flux per m2 of the whole cell. Of a flux per m2 of land, as of what
    is no flux, a cell is the mean over what is valid in it, on land weighted by the land fraction where there is one:
    the integral stays the same with the land fraction that is regridded too. Where nothing is valid, NaN.

    Parameters
    ----------
    da
        Anything with latitude and longitude; of a Dataset every variable that has both, the others stay.
    grid
        Has the new latitudes and longitudes (CF bounds of a Dataset are used).
    area_basis
        What a flux is per m2 of, "land" or "cell"; by default what it says itself, else "cell".
    land_fraction
        (lat, lon), on the cells of ``da``; by default a Dataset's variable ``land_fraction``.

    Returns
    -------
    With the dims, attributes and units of ``da``, and ``grid``'s ``lat`` and ``lon``.

    Raises
    ------
    ValueError
        Amounts per cell, as "gC month-1", which have no mean; an unknown basis.

    Warns
    -----
    UserWarning
        A flux does not say its basis, and "cell" is assumed.

    Examples
    --------
    >>> fine = xr.DataArray(np.ones((4, 8)), {"lat": [-67.5, -22.5, 22.5, 67.5], "lon": np.arange(8) * 45.0})
    >>> coarse = xr.Dataset(coords={"lat": [-45.0, 45.0], "lon": np.arange(4) * 90.0 - 180})
    >>> fine.flux.regrid(coarse).values.round(12).tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    da, grid = standardise(da), standardise(grid)
    cells = Cells.of(grid)
    kept = {axis: {k: v for k, v in grid[axis].attrs.items() if k != "bounds"} for axis in STANDARD_NAMES}
    axes = {axis: (axis, grid[axis].values, attrs) for axis, attrs in kept.items()}
    if isinstance(da, xr.DataArray):
        flux, basis = _with_basis(da, area_basis)
        return _on(flux, cells, basis == "cell", land_fraction).assign_coords(axes)
    land, own = da.get("land_fraction") if land_fraction is None else land_fraction, basis_of(da)
    source = Cells.of(da)  # with the bounds that the Dataset has
    made = {}
    for name, variable in da.data_vars.items():
        if {"lat", "lon"} <= set(variable.dims):
            flux, basis = _with_basis(variable, area_basis or basis_of(variable) or own)
            made[name] = _on(flux, cells, basis == "cell" or name == "land_fraction", land, source)
        elif not {"lat", "lon"} & set(variable.dims):
            made[name] = variable
    return xr.Dataset(made, attrs=da.attrs).assign_coords(axes)


def _with_basis(da: xr.DataArray, given: str | None) -> tuple[xr.DataArray, str | None]:
    """The flux with its basis among the attributes, and the basis; None of what is no flux."""
    units = str(da.attrs.get("units", ""))
    if not is_flux(units, da.attrs):
        return decoded(da), None
    da = checked(da)
    if not parse(units, da.attrs).per_area:
        raise ValueError(
            f"{da.name!r} is in {units!r}, an amount of each cell, which has no mean: divide it by da.flux.cell_area() "
            "first."
        )
    basis, assumed = assumed_area_basis(da, given)
    said = {} if basis_of(da) == basis else {"area_basis": basis}
    return da.assign_attrs(said | ({"area_basis_assumed": 1} if assumed else {})), basis


def _on(
    da: xr.DataArray, cells: Cells, nothing: bool, land: xr.DataArray | None, source: Cells | None = None
) -> xr.DataArray:
    """``da`` on other cells, without its coordinates along them; ``nothing``: a missing cell is one without flux."""
    bring = carry(da, cells, source)
    kept = da.drop_vars([name for name, coord in da.coords.items() if {"lat", "lon"} & set(coord.dims)])
    if bring.exact:
        return kept.isel(lat=bring.rows, lon=bring.columns)
    weight = None
    if land is not None and not nothing:
        land = standardise(land).transpose("lat", "lon").fillna(0)
        weight = carry(land, Cells.of(da) if source is None else source)(land.values.astype("float64"))
    sizes = dict(zip(("lat", "lon"), cells.shape, strict=True))
    out = xr.apply_ufunc(
        _carried, kept, kwargs={"bring": bring, "weight": weight, "nothing": nothing, "name": repr(da.name)},
        input_core_dims=[["lat", "lon"]], output_core_dims=[["lat", "lon"]], exclude_dims={"lat", "lon"},
        dask="parallelized", output_dtypes=[np.result_type(da.dtype, np.float32)], keep_attrs=True,
        dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": sizes},
    )  # fmt: skip
    for left in ("cell_measures", "actual_range"):  # of the cells that were
        out.attrs.pop(left, None)
    return out.transpose(*da.dims)


def _carried(values: np.ndarray, bring: Carry, weight: np.ndarray | None, nothing: bool, name: str) -> np.ndarray:
    warn_of_fill(found_fill(values), name)  # of drivers, where any value may be real; fluxes were refused
    valid = np.isfinite(values)
    share = valid if weight is None else valid * weight
    total, known = bring(np.where(valid, values, 0.0) * share), bring(share)
    if not nothing:
        total = np.divide(total, known, out=np.full(total.shape, np.nan), where=known > _SLIVER)
    return np.where(known > _SLIVER, total, np.nan).astype(np.result_type(values.dtype, np.float32), copy=False)


def axis_overlap(source: np.ndarray, target: np.ndarray, axis: str):
    """Share of every target interval that lies in each source interval, ``csr_array`` (target, source).

    ``source`` and ``target``: bounds (n, 2) in degrees. Latitudes are weighted by sin φ, longitudes live on the circle.
    """
    from scipy.sparse import csr_array

    order = np.argsort(source[:, 0], kind="stable")
    size = bands if axis == "lat" else lambda bounds: np.diff(bounds, axis=1)[:, 0]
    found = []
    for shift in (0.0,) if axis == "lat" else (-720.0, -360.0, 0.0, 360.0, 720.0):
        row, place, *ends = pieces(*target.T, *(source[order] + shift).T)
        share = size(np.stack(ends, axis=1)) / size(target)[row]
        kept = share > _SLIVER
        found.append((row[kept], order[place[kept]], np.where(share > 1 - _SLIVER, 1.0, share)[kept]))
    rows, columns, shares = map(np.concatenate, zip(*found, strict=True))
    return csr_array((shares, (rows, columns)), shape=(len(target), len(source)))
