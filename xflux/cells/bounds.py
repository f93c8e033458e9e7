"""The cells of a grid: CF bounds, checked against the coordinates before they are believed, else inferred; areas.

xarray averages bounds in ``coarsen`` and ``interp``, picks them in ``reindex`` and repeats them along time in
``open_mfdataset``: they then ride on beside coordinates that they no longer fit.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.cells.axes import STANDARD_NAMES, horizontal, standardise

# How far from its middle a cell may have its centre, as a share of the cell: coordinates are written with few digits;
# the rows of Gaussian and other irregular grids are not symmetric.
_OFF_REGULAR, _OFF_IRREGULAR = 0.02, 0.25
# Coordinates in float32 are off by up to 1.5e-5 degrees near 360; differences below this mean nothing.
JITTER = 5e-5


def coordinate_bounds(obj: xr.DataArray | xr.Dataset, axis: str) -> xr.DataArray | None:
    """The CF bounds (n, 2) of ``lat`` or ``lon`` that a Dataset carries, None where there are none.

    Raises ValueError: they vary along a dimension other than their own axis, such as time.
    """
    if axis not in obj.coords:
        return None
    coord, full = obj[axis], STANDARD_NAMES[axis]
    named = coord.attrs.get("bounds") or coord.encoding.get("bounds")
    variables = obj.variables if isinstance(obj, xr.Dataset) else obj.coords
    for name in (named, *(f"{a}_{b}" for a in (axis, full) for b in ("bnds", "bounds")), f"bounds_{axis}"):
        if name in variables and axis in obj[name].dims and obj[name].ndim > 1:
            return _by_vertex(obj[name], axis)
    return None


def _by_vertex(bounds: xr.DataArray, axis: str) -> xr.DataArray | None:
    """(axis, 2), freed of dims along which they are constant; of four or more corners the outermost."""
    others = [dim for dim in bounds.dims if dim not in ("time", "lat", "lon")]
    corners = [dim for dim in others if dim not in bounds.coords] or others  # some files number the vertices
    if not corners or bounds.sizes[corners[-1]] < 2:
        return None
    bounds = bounds.transpose(axis, ..., corners[-1])
    values = np.asarray(bounds.values, dtype="float64")
    values = values.reshape(len(values), -1, values.shape[-1])
    values, low = np.fmax.reduce(values, axis=1), np.fmin.reduce(values, axis=1)  # ds.where(mask) leaves some missing
    if (values - low > JITTER).any():
        raise ValueError(
            f"the cell bounds {bounds.name!r} {bounds.dims} of {axis!r} change along "
            f"{[d for d in bounds.dims[1:-1]]}: cells do not move. Drop them, ds.drop_vars({bounds.name!r}), to have "
            "the cells inferred, or select one."
        )
    if values.shape[1] > 2:
        centre = np.asarray(bounds[axis].values, dtype="float64")[:, None]
        values = values + (360 * np.round((centre - values) / 360) if axis == "lon" else 0)
        values = np.stack([values.min(axis=1), values.max(axis=1)], axis=1)
    return xr.DataArray(values, dims=(axis, "bounds"), name=bounds.name)


def _checked(values: np.ndarray, bounds: xr.DataArray | np.ndarray, axis: str) -> np.ndarray:
    """CF bounds as ascending pairs that hold their centre in their middle and do not overlap.

    Longitudes that jump by 360 are put right; latitudes end at the poles.
    """
    name, bounds = getattr(bounds, "name", None) or f"{axis}_bnds", np.asarray(bounds, dtype="float64")

    def refuse(problem: str) -> None:
        raise ValueError(
            f"the cell bounds {name!r} do not fit {axis!r}: {problem}. They may be left from another grid (coarsen, "
            f"interp and reindex keep them): drop them, ds.drop_vars({name!r}), to have the cells inferred."
        )

    if bounds.shape != (values.size, 2):
        refuse(f"they have the shape {bounds.shape}, expected {(values.size, 2)}")
    missing = ~np.isfinite(bounds).all(axis=1)
    if missing.all():
        refuse("they hold missing values")
    if missing.any():  # what ds.where or reindex left out; a wrong guess does not tile with what is there
        bounds = np.where(missing[:, None], inferred(values, axis), bounds)
    given = _unwrapped(values, bounds) if axis == "lon" else np.sort(bounds, axis=1)
    bounds = given if axis == "lon" else np.clip(given, -90, 90)
    if (empty := bounds[:, 1] <= bounds[:, 0]).any():
        i = int(empty.argmax())
        refuse(f"{bounds[i]} at {values[i]:g} enclose nothing")
    if (off := _off_centre(values, given, bounds, axis)).any():
        i = int(off.argmax())
        refuse(f"{given[i]} do not hold its value {values[i]:g} in their middle")
    if (problem := _not_tiling(values, bounds, axis)) is not None:
        refuse(problem)
    return bounds


def _unwrapped(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Wrapped longitude bounds, such as (179.5, -179.5), put around their centres; (-180, 180) of one column stays."""
    width = np.abs(bounds[:, 1] - bounds[:, 0])
    fix = (width > 180) & ~(np.isclose(width, 360) & (values.size == 1))
    near = bounds + 360 * np.round((values[:, None] - bounds) / 360)
    bounds = np.sort(np.where(fix[:, None], near, bounds), axis=1)
    return bounds + 360 * np.round((values - bounds.mean(axis=1)) / 360)[:, None]


def _off_centre(values: np.ndarray, given: np.ndarray, clipped: np.ndarray, axis: str) -> np.ndarray:
    """Cells that do not have their centre in their middle; one at a pole need only hold it."""
    steps = np.diff(np.sort(np.mod(values - values[0], 360) if axis == "lon" else values))
    regular = not (steps > 0).any() or ((steps > 0).all() and regular_step(np.r_[0, np.cumsum(steps)]) is not None)
    share = _OFF_REGULAR if regular else _OFF_IRREGULAR
    off = np.abs(values - given.mean(axis=1)) > share * np.diff(given, axis=1)[:, 0] + JITTER
    polar = (np.abs(clipped) >= 90 - JITTER).any(axis=1) & (axis == "lat")
    return off & ~(polar & (values >= clipped[:, 0] - JITTER) & (values <= clipped[:, 1] + JITTER))


def _not_tiling(values: np.ndarray, bounds: np.ndarray, axis: str) -> str | None:
    """What is wrong between neighbours: an overlap, or gaps all along an even axis, as averaged bounds leave them."""
    order, centre = on_circle(values) if axis == "lon" else (np.argsort(values), np.sort(values))
    low, high = (bounds[order] + (centre - values[order])[:, None]).T
    if axis == "lon":  # once round; a regional axis has its gap at its back
        low, high, centre = (np.r_[x, x[0] + 360] for x in (low, high, centre))
    width = np.minimum((high - low)[1:], (high - low)[:-1])
    gap, step = low[1:] - high[:-1], np.diff(centre)
    slack = 1e-2 * width + JITTER
    if (lap := gap < -slack).any():
        i = int(lap.argmax())
        return f"the cells of {centre[i]:g} and {centre[i + 1]:g} overlap by {-gap[i]:.4g} degrees"
    inner = slice(None, -1) if axis == "lon" else slice(None)
    gap, step, slack = gap[inner], step[inner], slack[inner]
    if gap.size and (gap > slack).all() and step.max() < 2 * step.min():
        return f"cells {width[0]:.4g} degrees wide stand {step[0]:.4g} degrees apart, with gaps between all of them"
    return None


def _kind(coord: xr.DataArray) -> str:
    if coord.name in STANDARD_NAMES:
        return coord.name
    found = {} if coord.name is None else horizontal(xr.Dataset(coords={coord.name: coord}))
    for axis, names in found.items():
        if names:
            return axis
    raise ValueError(f"coordinate {coord.name!r} is neither latitude nor longitude by name or attributes.")


def cell_bounds(
    coord: xr.DataArray, bounds: xr.DataArray | np.ndarray | None = None, step: float | None = None
) -> np.ndarray:
    """Lower and upper edge of every cell, (n, 2) in degrees, in the order and longitude convention of ``coord``.

    ``coord``: 1-D latitudes or longitudes, in any order; regular, Gaussian or otherwise irregular. A regular axis may
    have gaps; its cells keep their width. ``bounds``: CF bounds (n, 2), which win over inference. ``step``: width of
    the cell in degrees where ``coord`` has a single value.

    >>> cell_bounds(xr.DataArray([10.0, -10.0], dims="lat", name="lat"))
    array([[  0.,  20.],
           [-20.,   0.]])
    """
    axis = _kind(coord)
    values = np.asarray(coord.values, dtype="float64")
    check_centres(values, coord.name, axis)
    if bounds is not None:
        return _checked(values, bounds, axis)
    if values.size == 1 and step is None:
        raise ValueError(
            f"a single {STANDARD_NAMES[axis]} ({values[0]:g}) has no cell width: give step=, or put {coord.name}_bnds "
            f"into a Dataset."
        )
    return inferred(values, axis, step)


def edges(
    coord: xr.DataArray, bounds: xr.DataArray | np.ndarray | None = None, step: float | None = None
) -> np.ndarray:
    """The n + 1 edges of adjacent cells in degrees, in the order of ``coord``.

    Latitudes are clipped to ±90; longitudes are unwrapped, so that they run on beyond 180 or 360 instead of jumping.
    Parameters as in :func:`cell_bounds`.

    Parameters
    ----------
    coord
        Latitudes or longitudes, degrees.
    bounds
        Their CF bounds (n, 2), degrees.
    step
        Width of a single cell, degrees.

    Raises
    ------
    ValueError
        The cells are not adjacent in the order given.

    Examples
    --------
    >>> edges(xr.DataArray([0.5, 1.5, -179.0 + 181.5], dims="lon", name="lon"))
    array([0., 1., 2., 3.])
    """
    cells = cell_bounds(coord, bounds, step)
    if _kind(coord) == "lon":
        middle = cells.mean(axis=1)
        turns = np.r_[0, np.cumsum(np.round(-np.diff(middle) / 360))]
        cells = cells + 360 * turns[:, None]
    if len(cells) > 1 and cells[1].mean() < cells[0].mean():
        cells = cells[:, ::-1]
    gaps = np.abs(cells[1:, 0] - cells[:-1, 1])
    if len(cells) > 1 and gaps.max() > 1e-3 * np.abs(np.diff(cells)).min():
        i = int(gaps.argmax())
        values = coord.values
        raise ValueError(
            f"cells of {coord.name!r} are not adjacent between {values[i]:g} and {values[i + 1]:g}: sort it, or "
            f"reindex it to the whole axis."
        )
    return np.r_[cells[:, 0], cells[-1, 1]]


def regular_step(centres: np.ndarray) -> tuple[float, float] | None:
    """Step of a regular axis that may have gaps (sorted, ascending) and its rounding; None where it is irregular.

    Gaps are the exception: where most steps are wider than the narrowest, as between a point at the pole and the centre
    of the first row, the axis is irregular. How far the centres are rounded is seen from how far they lie off the line
    through the first and the last; a step is a whole part of the circle only where that rounding allows it.
    """
    steps = np.diff(centres)
    narrow = steps < 1.5 * steps.min()
    if narrow.mean() < 0.5:
        return None
    step = np.median(steps[narrow])
    counts = np.round((centres - centres[0]) / step)
    step = (centres[-1] - centres[0]) / counts[-1]
    off = np.abs(centres - centres[0] - counts * step).max()
    if off > 2 * max(1e-3 * step, JITTER):
        return None
    rounding = 4 * off + 1e-9
    whole = 360 / round(360 / step)
    return (whole if abs(whole - step) * counts[-1] < rounding else step), rounding


def _regular_bounds(centres: np.ndarray, step: float, rounding: float) -> np.ndarray:
    """(n, 2) of a regular axis, freed of rounding: the origin is the mean one, on a half step where it nearly is."""
    counts = np.round((centres - centres[0]) / step)
    half = np.mean(centres - counts * step) / (step / 2)
    if abs(half - np.round(half)) * step / 2 < rounding:
        half = np.round(half)
    west = (half - 1 + 2 * counts) * (step / 2)
    return np.stack([west, west + step], axis=1)


def _midpoint_bounds(centres: np.ndarray) -> np.ndarray:
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.stack([np.r_[first, middle], np.r_[middle, last]], axis=1)


def _lat_bounds(centres: np.ndarray, step: float | None) -> np.ndarray:
    """(n, 2) of ascending latitudes, clipped at the poles.

    Irregular (Gaussian) latitudes have their edges midway, as CDO does, and their outer edges at the poles where less
    than half a row is missing there.
    """
    if len(centres) == 1:
        return np.clip([[centres[0] - step / 2, centres[0] + step / 2]], -90, 90)
    if (regular := regular_step(centres)) is not None:
        bounds = _regular_bounds(centres, *regular)
    else:
        bounds = _midpoint_bounds(centres)
        bounds[0, 0] = -90 if bounds[0, 0] + 90 < (centres[1] - centres[0]) / 2 else bounds[0, 0]
        bounds[-1, 1] = 90 if 90 - bounds[-1, 1] < (centres[-1] - centres[-2]) / 2 else bounds[-1, 1]
        _half_polar(centres, bounds)
    bounds[np.abs(bounds - 90) < JITTER] = 90
    bounds[np.abs(bounds + 90) < JITTER] = -90
    return np.clip(bounds, -90, 90)


def _half_polar(centres: np.ndarray, bounds: np.ndarray) -> None:
    """GEOS-Chem's half-height polar rows (89 on 4°, 89.5 on 2°): their inner edge is not midway. In place."""
    if len(centres) < 4 or (regular := regular_step(centres[1:-1])) is None:
        return
    step = regular[0]
    if abs(90 - centres[-1] - step / 4) < JITTER and abs(90 - step - centres[-2]) < JITTER:
        bounds[-2, 1] = bounds[-1, 0] = 90 - step / 2
    if abs(90 + centres[0] - step / 4) < JITTER and abs(90 - step + centres[1]) < JITTER:
        bounds[1, 0] = bounds[0, 1] = step / 2 - 90


def _lon_bounds(centres: np.ndarray, step: float | None) -> np.ndarray:
    """(n, 2) of ascending longitudes that span less than 360°; a global axis closes on itself."""
    if len(centres) == 1:
        return np.array([[centres[0] - step / 2, centres[0] + step / 2]])
    if (regular := regular_step(centres)) is not None:
        bounds = _regular_bounds(centres, *regular)
    else:
        bounds = _midpoint_bounds(centres)
        closing = centres[0] + 360 - centres[-1]
        if closing < 1.5 * np.diff(centres).max():
            bounds[-1, 1] = centres[-1] + closing / 2
            bounds[0, 0] = bounds[-1, 1] - 360
    excess, width = bounds[-1, 1] - bounds[0, 0] - 360, bounds[-1, 1] - bounds[-1, 0]
    if abs(excess) < max(1e-3 * width, JITTER):
        bounds[-1, 1] = bounds[0, 0] + 360
    elif excess > 0:
        raise ValueError(
            f"{len(centres)} columns of {width:.6g} degrees do not fit into 360: the last and the first overlap by "
            f"{excess:.3g} after one turn. Drop the last column, or put the longitudes right with assign_coords."
        )
    return bounds


def on_circle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order and unwrapped values of longitudes, ascending from behind the widest gap."""
    order = np.argsort(np.mod(values, 360), kind="stable")
    ascending = np.mod(values, 360)[order]
    gaps = np.diff(ascending, append=ascending[0] + 360)
    # The seam stays at the first label where the axis is global; otherwise it lies in the widest gap.
    seam = np.argmax(gaps) + 1 if gaps.max() > 1.5 * np.median(gaps) else int(np.flatnonzero(order == 0)[0])
    order = np.roll(order, -seam)
    ascending = np.roll(ascending, -seam)
    return order, ascending[0] + np.mod(ascending - ascending[0], 360)


def check_centres(values: np.ndarray, name: Hashable, axis: str) -> None:
    full = STANDARD_NAMES[axis]
    if values.ndim != 1:
        raise ValueError(f"{name!r} is {values.ndim}-dimensional; expected one-dimensional {full}s: regrid first.")
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{full}s {name!r} are empty or not all finite.")
    if axis == "lat" and np.abs(values).max() > 90 + JITTER:
        furthest = values[np.abs(values).argmax()]
        raise ValueError(f"latitudes {name!r} reach {furthest:g}; drop those beyond ±90 degrees.")
    wrapped = np.sort(np.mod(values, 360) if axis == "lon" else values)
    gaps = np.diff(wrapped, append=wrapped[0] + 360) if axis == "lon" else np.diff(wrapped)
    usual = np.median(gaps) if values.size > 2 else 0.0
    if values.size > 1 and gaps.min() < max(JITTER, 1e-3 * usual):
        repeated = wrapped[gaps.argmin()]
        raise ValueError(
            f"{full} {repeated:g} occurs twice{' modulo 360' if axis == 'lon' else ''} in {name!r}: the same cells "
            f"would count twice. Drop the repeated one, as in obj.isel({name}=slice(None, -1))."
        )


def inferred(values: np.ndarray, axis: str, step: float | None = None) -> np.ndarray:
    """(n, 2) edges of the cells with these centres, in their order; ``step`` is the width of a single one."""
    if axis == "lat":
        order = np.argsort(values)
        ascending = _lat_bounds(values[order], step)
    else:
        order, unwrapped = on_circle(values)
        ascending = _lon_bounds(unwrapped, step)
        ascending += (360 * np.round((values[order] - unwrapped) / 360))[:, None]
    result = np.empty_like(ascending)
    result[order] = ascending
    return result


RADIUS = 6_371_000.0
"""Radius of the Earth in metres, the same everywhere in xflux."""


def grid_bounds(obj: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (nlat, 2) and (nlon, 2) in degrees of the cells of a grid, from its CF bounds where a Dataset has them.

    An axis with a single value takes the width of the other axis: square cells.
    """
    obj = standardise(obj)
    given = {axis: coordinate_bounds(obj, axis) for axis in STANDARD_NAMES}
    known = {
        axis: cell_bounds(obj[axis], given[axis])
        for axis in STANDARD_NAMES
        if obj[axis].size != 1 or given[axis] is not None
    }
    step = float(np.median(np.diff(next(iter(known.values()))))) if known else None
    lat, lon = (known[axis] if axis in known else cell_bounds(obj[axis], step=step) for axis in STANDARD_NAMES)
    return lat, lon


def cell_area(obj: xr.DataArray | xr.Dataset, radius: float = RADIUS) -> xr.DataArray:
    """Area of every cell in m2, dims (lat, lon): R² (sin φ_north − sin φ_south) (λ_east − λ_west).

    Parameters
    ----------
    obj
        With ``lat`` and ``lon``, in degrees; a Dataset's CF bounds are used.
    radius
        Of the Earth, m.

    Raises
    ------
    ValueError
        Curvilinear or missing coordinates, columns that occur twice modulo 360 or do not fit into it, CF bounds that
        contradict their coordinates.

    Examples
    --------
    >>> grid = xr.Dataset(coords={"lat": np.arange(-89.5, 90), "lon": np.arange(-179.5, 180)})
    >>> bool(np.isclose(cell_area(grid).sum(), 4 * np.pi * RADIUS**2, rtol=1e-13))
    True
    """
    obj = standardise(obj)
    area = Cells.of(obj).area(radius)
    attrs = {"units": "m2", "standard_name": "cell_area", "long_name": "area of the grid cell"}
    return xr.DataArray(area, {"lat": obj["lat"], "lon": obj["lon"]}, ("lat", "lon"), name="cell_area", attrs=attrs)


def points_of(obj: xr.DataArray | xr.Dataset) -> dict[str, np.ndarray]:
    """Latitudes and longitudes of a grid as they are."""
    obj = standardise(obj)
    return {axis: np.asarray(obj[axis].values, dtype="float64") for axis in ("lat", "lon")}


def bands(lat: np.ndarray) -> np.ndarray:
    """sin φ_north − sin φ_south of rows (n, 2) in degrees, written so that thin polar ones keep their digits."""
    phi = np.radians(lat)
    return 2 * np.cos(phi.mean(axis=1)) * np.sin(np.diff(phi, axis=1)[:, 0] / 2)


@dataclass(frozen=True)
class Cells:
    """The cells of a grid in degrees, in the grid's own order: read once, and handed on."""

    lat: np.ndarray  # bounds, (nlat, 2) and (nlon, 2)
    lon: np.ndarray
    # the coordinates themselves, (nlat) and (nlon), which CF bounds need not have in their middle
    points: dict[str, np.ndarray]

    @classmethod
    def of(cls, obj: xr.DataArray | xr.Dataset) -> "Cells":
        return cls(*grid_bounds(obj), points_of(obj))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.lat), len(self.lon)

    @property
    def count(self) -> int:
        return len(self.lat) * len(self.lon)

    def area(self, radius: float = RADIUS) -> np.ndarray:
        """(nlat, nlon) in m2."""
        return radius**2 * bands(self.lat)[:, None] * np.diff(np.radians(self.lon), axis=1)[:, 0]

    @property
    def key(self) -> bytes:
        """Fingerprint of the grid."""
        return self.lat.tobytes() + b"|" + self.lon.tobytes()
