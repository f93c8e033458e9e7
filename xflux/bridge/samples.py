"""From a gridded flux to what the Lasso sees: monthly mean rates per pixel, regional integrals, folds."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xflux import regions, temporal, units
from xflux.cells import grid_bounds, nearest, standardise
from xflux.contents import area_basis
from xflux.temporal.bounds import dataset_bounds
from xflux.temporal.calendar import AXES, MEAN_MONTH
from xflux.temporal.steps import carried, known_steps, steps_of
from xflux.values import as_text, decoded

# States of a region's fit, in bridge.regions.status
OK, UNREACHED, CONSTANT, EMPTY = "ok", "unreached", "constant", "no valid pixels"


def flux_variable(obj: xr.DataArray | xr.Dataset, var: str | None = None) -> str | None:
    """The name of the one flux in a Dataset (``var``, or found by its units); None for a DataArray."""
    if isinstance(obj, xr.DataArray):
        return None
    found = units.flux_variables(obj)
    if var is not None:
        if var not in obj.data_vars:
            raise ValueError(f"var={var!r} is not in the Dataset; its flux variables are {found}.")
        return var
    if len(found) != 1:
        raise ValueError(
            f"a bridge needs exactly one flux variable; the Dataset has {found or 'none'} among {list(obj.data_vars)}. "
            "Give var=, or pass the DataArray." + units.left_out(obj)
        )
    return found[0]


@dataclass(frozen=True)
class Rate:
    """A flux as mean rates of months (or of longer steps, as they came).

    ``field`` (…, time | month, lat, lon) in gC m-2 d-1, over the time that has values; ``days`` of every step, None
    where there is no time dim; ``source``: what the regions are weighed on (a Dataset brings cell bounds and its land
    fraction); ``months`` in a step, 1 or 12, or 0 where steps are neither months nor years. Of months made from
    shorter steps, ``covered`` (time,) is the share that the series covers, and ``present``, like the field, the share
    of this time in which a cell has values: what is missing adds nothing to an integral, as in ``aggregate_regions``.
    """

    field: xr.DataArray
    days: xr.DataArray | None
    source: xr.DataArray | xr.Dataset
    months: int = 1
    covered: xr.DataArray | None = None
    present: xr.DataArray | None = None

    @property
    def samples(self) -> tuple[str, ...]:
        """Every dim but lat and lon."""
        return self.field.dims[:-2]


def monthly_rate(obj: xr.DataArray | xr.Dataset, var: str | None = None, basis: str | None = None) -> Rate:
    """The flux as monthly mean rates; steps shorter than a month are averaged to calendar months.

    What the flux is per m2 of is read here, or given as ``basis``, and rides on as ``area_basis``.
    """
    name = flux_variable(obj, var)
    source = obj = standardise(temporal.standardise(obj))
    inherited = {k: v for k, v in obj.attrs.items() if k == "area_basis"}
    if name is None:
        obj = obj.assign_attrs(_basis(obj, basis))
    else:
        flux = obj[name].assign_attrs(inherited | obj[name].attrs)
        obj = _with_bounds(obj, name).assign({name: flux.assign_attrs(_basis(flux, basis))})
    obj = obj.drop_vars([c for c in obj.coords if _maps(obj[c])])
    obj = decoded(obj) if name is None else obj.assign({name: decoded(obj[name])})
    dims = obj.dims if name is None else obj[name].dims
    axis = next((dim for dim in AXES if dim in dims), None)
    if axis is None:
        return Rate(_in_order(_field(_as_rate(obj, name), name), None), None, source)
    steps, covered, present = steps_of(obj), None, None
    if not (steps.are("month") or steps.are("year")) and steps.days.max() <= 31.5:
        obj, covered, present = _to_months(obj, name, axis)
        axis = "month" if axis == "dayofyear" else axis
        steps = steps_of(obj)
    days = temporal.step_days(obj)
    field = carried(_in_order(_field(_as_rate(obj, name), name), axis), steps, restamp=True)
    days = days.assign_coords({axis: field[axis]}) if axis in field.coords else days
    present = None if present is None else present.transpose(*field.dims)
    return Rate(field, days, source, {"month": 1, "year": 12}.get(steps.kind, 0), covered, present)


def _basis(flux: xr.DataArray, given: str | None) -> dict[str, str]:
    basis = area_basis(flux, given)
    return {} if basis is None else {"area_basis": basis}


def _to_months(
    obj: xr.DataArray | xr.Dataset, name: str | None, axis: str
) -> tuple[xr.DataArray | xr.Dataset, xr.DataArray, xr.DataArray]:
    """Calendar months, the share of each that the series covers, and the share of that in which a cell has values."""
    units_of = _field(obj, name).attrs.get("units")
    if units_of is not None and units.parse(units_of, _field(obj, name).attrs).time in (None, "month"):
        obj = _as_rate(obj, name)  # amounts add up, rates average: a day that is missing is to count alike
    everywhere = xr.DataArray(np.ones(obj.sizes[axis]), {axis: obj[axis]} if axis in obj.coords else None, (axis,))
    covered = temporal.to_monthly(everywhere, known_steps(obj) if axis == "time" else None)["valid_fraction"]
    covered = covered.drop_vars("valid_fraction")
    covered = covered.where(abs(covered - 1) > 1e-9, 1.0)
    obj = temporal.to_monthly(obj)
    field = _field(obj, name)
    share = field.coords["valid_fraction" if name is None else f"{name}_valid_fraction"]
    return obj, covered, (share.drop_vars(share.name) / covered).clip(max=1.0)


def _field(obj: xr.DataArray | xr.Dataset, name: str | None) -> xr.DataArray:
    return obj if name is None else obj[name]


def _in_order(field: xr.DataArray, axis: str | None) -> xr.DataArray:
    """(…, axis, lat, lon), without the coordinates that lie on the grid."""
    front = [dim for dim in field.dims if dim not in (axis, "lat", "lon")]
    field = field.drop_vars([c for c in field.coords if _maps(field[c])])
    return field.transpose(*front, *([axis] if axis else []), "lat", "lon")


def _maps(coord: xr.DataArray) -> bool:
    """Whether a coordinate lies on the grid without being one of its axes (valid fractions, cell areas)."""
    return coord.name not in ("lat", "lon") and bool({"lat", "lon"} & set(coord.dims))


def _as_rate(obj: xr.DataArray | xr.Dataset, name: str | None) -> xr.DataArray | xr.Dataset:
    """In gC m-2 d-1 (gH2O, MJ); untouched where it is so already, else in float64."""
    field = _field(obj, name)
    if "units" not in field.attrs:
        raise ValueError(f"the flux {field.name!r} has no units; set attrs['units'], as in 'gC m-2 d-1'.")
    given, rate = units.parse(field.attrs["units"], field.attrs), units.usual_rate(field.attrs)
    if given.time == "fixed" and units.factor(given, rate) == 1.0:
        return obj
    if name is None:
        return temporal.convert_units(field.astype(float), rate)
    return temporal.convert_units(obj.assign({name: field.astype(float)}), rate)


def _with_bounds(obj: xr.Dataset, name: str) -> xr.Dataset:
    """The Dataset of one variable and the time bounds, which may be a coordinate."""
    bounds = dataset_bounds(obj) if "time" in obj[name].dims else None
    return obj[[name]] if bounds is None else obj[[name]].assign({bounds.name: bounds.variable})


def integral_rates(rate: Rate, weights: xr.DataArray) -> xr.DataArray:
    """Regional integrals as ``aggregate_regions`` makes them, as rates: (…, time, region) in PgC d-1 (PgH2O, ZJ).

    Rates need no lengths of steps, which the field, parted from its Dataset's bounds, may not tell any more: its steps
    are samples here.
    """
    field = rate.field if rate.present is None else (rate.field * rate.present).assign_attrs(rate.field.attrs)
    axis = next((dim for dim in AXES if dim in field.dims), None)
    plain = field if axis is None else field.drop_vars(axis).rename({axis: "_step"})
    plain = plain.assign_attrs(area_basis=weights.attrs["area_basis"])
    sums = regions.aggregate_regions(plain, weights, units=f"{units.usual_amount(plain.attrs)} d-1")
    sums = sums.drop_vars([c for c in sums.coords if c not in sums.dims])
    return sums if axis is None else sums.rename(_step=axis).assign_coords({axis: field[axis].variable})


@dataclass(frozen=True)
class Samples:
    """What a fit sees: every dim but lat and lon is a sample, the pixels are those with weight in any region.

    ``values`` (sample, pixel) in gC m-2 d-1 and ``target`` (sample, region) in PgC month-1; ``weight`` (region,
    pixel) m2, sparse; ``month`` (sample,) the calendar month (0 where there is none) and ``fold`` (sample,).
    Pixels are ordered by latitude and longitude, whatever the order of the grid, so that results don't depend on it.
    """

    values: np.ndarray
    target: np.ndarray
    weight: Any
    lat: np.ndarray
    lon: np.ndarray
    half: np.ndarray
    labels: np.ndarray
    steps: int
    month: np.ndarray
    fold: np.ndarray

    def region(self, k: int) -> "RegionSamples":
        """The samples of region k, float64, with its complete, varying pixels only."""
        row = self.weight[[k]]
        inside = np.sort(row.indices[row.data > 0])  # indices ascend with latitude and longitude
        y = self.target[:, k]
        known = np.isfinite(y)
        x = self.values[:, inside][known].astype(float)
        complete = np.isfinite(x).all(axis=0) & bool(known.any())
        x, inside = x[:, complete], inside[complete]
        varies = np.ptp(x, axis=0) > 1e-12 * np.abs(x).max(axis=0) if x.size else np.zeros(inside.size, bool)
        return RegionSamples(
            self.labels[k], x[:, varies], y[known], inside[varies], inside.size, known, self.month[known],
            self.fold[known],
        )  # fmt: skip


@dataclass(frozen=True)
class RegionSamples:
    """One region: ``x`` (sample, pixel), ``y`` (sample,), and the position of its pixels among all."""

    label: Any
    x: np.ndarray
    y: np.ndarray
    pixels: np.ndarray
    n_complete: int
    known: np.ndarray
    month: np.ndarray
    fold: np.ndarray

    def seed(self, seed: int, *more: int) -> np.random.Generator:
        """A generator of this region's own, so that other regions do not change its draws."""
        return np.random.default_rng([seed, zlib.crc32(str(self.label).encode()), *more])

    def series(self, steps: int, limit: int = 240) -> np.ndarray:
        """Monthly series (pixel, steps) for DTW: members end to end, or their mean beyond ``limit`` steps in all."""
        whole = self.known.all()
        if len(self.x) > limit and whole and steps > 1 and len(self.x) > steps:
            return self.x.reshape(-1, steps, self.x.shape[1]).mean(axis=0).T
        return self.x.T


def nearest_cells(pixels: xr.Dataset, field: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in ``field`` of every pixel; each must lie within half a cell of both grids."""
    if not pixels.sizes["pixel"]:
        return np.empty(0, int), np.empty(0, int)
    lat, lon, place, far = field["lat"].values, field["lon"].values, [], np.zeros(pixels.sizes["pixel"], bool)
    for axis, bounds in zip(("lat", "lon"), grid_bounds(field), strict=True):
        index, apart = nearest(field[axis].values, pixels[axis].values, axis)
        own = np.ptp(bounds, axis=1)[index] / 2
        far |= apart > (1 + 1e-6) * np.minimum(pixels[f"{axis}_halfwidth"].values, own)
        place.append(index)
    row, column = place
    if far.any():
        first = int(np.flatnonzero(far)[0])
        one = pixels.isel(pixel=first)
        raise ValueError(
            f"{int(far.sum())} of {far.size} contributing pixels lie farther than half a cell from the field's nearest "
            f"cell; the first is that of {one['region'].item()} at lat {one['lat'].item():g}, lon "
            f"{one['lon'].item():g} (nearest: {lat[row[first]]:g}, {lon[column[first]]:g}). Fit the bridge on this "
            "grid, or regrid the field to the bridge's."
        )
    return row, column


def collect(rate: Rate, weights: xr.DataArray, *, month_lengths: bool, folds: int) -> Samples:
    """Load the pixels with weight in any region and the regional integrals, in one pass over the data."""
    import dask
    import scipy.sparse

    field, days, front = rate.field, rate.days, rate.samples
    weights = weights.transpose("region", "lat", "lon")
    matrix = scipy.sparse.csr_array(weights.data.reshape((weights.sizes["region"], -1)).tocsr())
    cells = np.unique(matrix.indices[matrix.data > 0])
    lengths = MEAN_MONTH if month_lengths or days is None or not rate.months else days / rate.months
    target = (integral_rates(rate, weights) * lengths).transpose(*front, "region")
    data = field.data.reshape(-1, field.sizes["lat"] * field.sizes["lon"])[:, cells]
    values, sums = dask.compute(data, target.data)
    lat, lon, half = _cells_of(rate, cells)
    order = np.lexsort((np.round(np.mod(lon + 180, 360), 6), np.round(lat, 6)))
    matrix = matrix[:, cells[order]]
    matrix.sort_indices()
    month, fold = months_and_folds(field, folds)
    return Samples(
        np.asarray(values)[:, order], np.asarray(sums).reshape(-1, weights.sizes["region"]), matrix,
        lat[order], lon[order], half[order], _labels(weights), field.sizes[front[-1]], month, fold,
    )  # fmt: skip


def region_sums(weights: xr.DataArray) -> np.ndarray:
    """Area (region,) in m2 of sparse region weights, without sparse's just-in-time compiled reductions (seconds)."""
    coo = weights.transpose("region", "lat", "lon").data
    return np.bincount(coo.coords[0], coo.data, minlength=coo.shape[0])


def take_regions(weights: xr.DataArray, labels: np.ndarray) -> xr.DataArray:
    """The named regions of sparse weights, in this order."""
    import sparse

    weights = weights.transpose("region", "lat", "lon")
    have = list(weights["region"].values)
    if have == list(labels):
        return weights
    place = np.full(len(have), -1)
    place[[have.index(label) for label in labels]] = np.arange(len(labels))
    coo = weights.data
    kept = place[coo.coords[0]] >= 0
    where = np.stack([place[coo.coords[0][kept]], coo.coords[1][kept], coo.coords[2][kept]])
    chosen = sparse.COO(where, coo.data[kept], shape=(len(labels), *coo.shape[1:]), has_duplicates=False)
    coords = {"region": labels, "lat": weights["lat"], "lon": weights["lon"]}
    return xr.DataArray(chosen, coords, weights.dims, attrs=weights.attrs)


def _labels(weights: xr.DataArray) -> np.ndarray:
    """The regions' labels as ``aggregate_regions`` gives them; text as fixed-width text."""
    labels = np.asarray(weights["region"].values)
    return as_text(labels) if labels.dtype.kind in "OT" else labels


def _cells_of(rate: Rate, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latitude, longitude and half widths (pixel, 2) of flat cell indices."""
    field = rate.field
    row, column = np.divmod(cells, field.sizes["lon"])
    bounds = grid_bounds(rate.source)
    half = np.stack([np.ptp(bounds[0], axis=1)[row] / 2, np.ptp(bounds[1], axis=1)[column] / 2], axis=1)
    return field["lat"].values[row].astype(float), field["lon"].values[column].astype(float), half


def months_and_folds(field: xr.DataArray, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Calendar month (0: none) and fold of every sample: blocks of years, else of members, else one fold."""
    front, shape = field.dims[:-2], field.shape[:-2]
    axis = front[-1] if front and front[-1] in ("time", "month") else None
    month = np.zeros(shape, int)
    fold = np.zeros(shape, int)
    if axis == "month":
        month[...] = field["month"].values
    if axis == "time":
        month[...] = field["time"].dt.month.values
        years = field["time"].dt.year.values
        if np.unique(years).size > 1:
            fold[...] = _blocks(years, folds)
            return month.ravel(), fold.ravel()
    members = int(np.prod(shape[:-1] if axis else shape, initial=1))
    block = _blocks(np.arange(members), folds)
    fold[...] = block.reshape(*shape[:-1], 1) if axis else block.reshape(shape)
    return month.ravel(), fold.ravel()


def _blocks(values: np.ndarray, folds: int) -> np.ndarray:
    """Fold of every value: its distinct values in at most ``folds`` contiguous blocks.

    >>> _blocks(np.array([2001, 2001, 2002, 2003, 2004]), 2)
    array([0, 0, 0, 1, 1])
    """
    names, index = np.unique(values, return_inverse=True)
    parts = np.array_split(np.arange(names.size), min(folds, names.size))
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])[index]
