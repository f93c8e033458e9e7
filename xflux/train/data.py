"""From labelled tables and grids to standardised rows: the towers' sample, and the cells of a constraint's drivers."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr

from xflux import align
from xflux.temporal.bounds import dates_within
from xflux.values import checked, decoded, found_fill, warn_of_fill, warn_of_fills

MAX_MISSING = 0.5  # share of tower rows that may be dropped for a missing driver or target before it is an error
CELLS = 4096  # cells of a driver that are standardised at once


@dataclass(frozen=True)
class Scaling:
    """Mean, scale and units of every driver, taken from the training towers; they travel with the model."""

    drivers: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    units: dict[str, str]

    def __call__(self, values: np.ndarray, driver: str) -> np.ndarray:
        """Standardised values of one driver."""
        i = self.drivers.index(driver)
        return (values - self.mean[i]) / self.scale[i]


@dataclass(frozen=True)
class Setting:
    """What every part of a training run shares: seed, held-out years, number type, device, block size, targets.

    ``validation_years`` is None where nothing is trained.
    """

    seed: int
    validation_years: int | None
    torch_dtype: torch.dtype
    torch_device: torch.device
    block_rows: int
    targets: tuple[str, ...]
    resample_inversions: bool | int = False
    units: dict[str, str] = field(default_factory=dict)

    def grams(self, name: str | None) -> float:
        """gC m-2 d-1 in one unit of the flux `name`; raises where it is no carbon flux."""
        name = self.targets[self.flux_number(name)]
        text = self.units.get(name, "")
        if not text:
            return 1.0
        from xflux import units

        try:
            return units.factor(text, "gC m-2 d-1")
        except ValueError as error:
            raise ValueError(
                f"the towers' {name} is in {text!r}, which is no flux of carbon per area and time: a regional "
                f"constraint cannot add it up ({error})"
            ) from error

    def flux_number(self, name: str | None) -> int:
        """Which output of the network is the flux `name` (None: the first)."""
        if name is None:
            return 0
        if name not in self.targets:
            raise ValueError(f"flux={name!r} is no target of the model; its targets are {', '.join(self.targets)}")
        return self.targets.index(name)


@dataclass(frozen=True)
class TowerRows:
    """The complete rows of the tower table: drivers ``x (row, driver)`` and observations ``y (row, target)``.

    Weights ``weight (row,)`` have the mean 1.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    fold: np.ndarray
    site: np.ndarray
    scaling: Scaling
    units: dict[str, str]
    dropped: int

    def training(self, member: int) -> np.ndarray:
        """Row numbers outside the member's own fold."""
        return np.flatnonzero(self.fold != member)

    def held_out(self, member: int) -> np.ndarray:
        """Row numbers of the member's own fold."""
        return np.flatnonzero(self.fold == member)


def tower_rows(
    towers: xr.Dataset,
    drivers: Sequence[str],
    targets: Sequence[str],
    folds: int,
    seed: int,
    distance: float | None = None,
    missing: str = "raise",
    weights: str | None = None,
) -> TowerRows:
    """Complete, standardised rows of the tower table and their folds by site.

    NaN in a driver is an error, or with ``missing="drop"`` such rows are left out as those without any target are,
    with one warning that counts them; more than half of the rows is an error too. Values are kept in float64 until
    they are standardised.
    """
    for what, names in (("drivers", drivers), ("target", targets)):
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{what}={list(names)}: expected one name at least, and none twice")
    _require(towers, [*drivers, *targets, "site", *([weights] if weights else [])], "the tower table")
    if "sample" not in towers.dims:
        raise ValueError(f"the tower table has the dims {tuple(towers.dims)}; expected sample (rename it)")
    x = np.stack([np.asarray(decoded(towers[name]).values, float) for name in drivers], axis=1)
    y = np.stack([np.asarray(checked(towers[name]).values, float) for name in targets], axis=1)
    for name, values in zip(drivers, x.T, strict=True):
        warn_of_fills(values, f"driver {name!r}", stacklevel=4)
    complete = np.isfinite(x).all(1) & np.isfinite(y).any(1)
    _refuse_missing(x, drivers, missing)
    _report_dropped(x, y, complete, drivers, targets)
    x, y = x[complete], y[complete]
    scaling = _scaling(x, towers, drivers)
    places = _places(towers, complete)
    fold = _folds(places, folds, seed, distance)
    return TowerRows(
        x=(x - scaling.mean) / scaling.scale,
        y=y,
        weight=_weight(towers[weights].values[complete], weights) if weights else np.ones(len(y)),
        fold=fold,
        site=places["site"].values,
        scaling=scaling,
        units={name: str(towers[name].attrs.get("units", "")) for name in targets},
        dropped=int((~complete).sum()),
    )


def _weight(values: np.ndarray, name: str) -> np.ndarray:
    weight = np.asarray(values, float)
    if not (np.isfinite(weight).all() and (weight > 0).all()):
        raise ValueError(f"weights={name!r}: expected a finite number above 0 in every row")
    return weight / weight.mean()


def _places(towers: xr.Dataset, complete: np.ndarray) -> xr.Dataset:
    """Site, lat and lon of the complete rows as NumPy has them: xarray cannot index text of pandas' own types."""
    found = {name: towers[name].values[complete] for name in ("site", "lat", "lon") if name in towers.variables}
    text = found["site"].astype(object) if found["site"].dtype.kind == "T" else found["site"]
    return xr.Dataset(
        coords={name: ("sample", values) for name, values in (found | {"site": text.astype(str)}).items()}
    )


def _require(ds: xr.Dataset, names: Sequence[str], what: str) -> None:
    missing = [name for name in names if name not in ds.variables]
    if missing:
        raise KeyError(f"{what} has no variable {', '.join(missing)}; it has {', '.join(map(str, ds.data_vars))}")


def _refuse_missing(x: np.ndarray, drivers: Sequence[str], missing: str) -> None:
    lost = ~np.isfinite(x)
    if missing == "drop" or not lost.any():
        return
    text = ", ".join(f"{name}: {count}" for name, count in zip(drivers, lost.sum(0), strict=True) if count)
    raise ValueError(
        f"{lost.any(1).sum()} of {len(x)} tower rows have NaN in a driver ({text}): fill the drivers "
        "(xflux.drivers.fill_nearest, colocate with a larger max_distance), or leave the rows out with "
        'towers.dropna("sample", subset=drivers) or TrainConfig(missing_drivers="drop")'
    )


def _report_dropped(x, y, complete, drivers, targets) -> None:
    lost = int((~complete).sum())
    if not lost:
        return
    named = {name: int((~np.isfinite(x[:, i])).sum()) for i, name in enumerate(drivers)}
    named |= {name: int((~np.isfinite(y[:, i])).sum()) for i, name in enumerate(targets)}
    text = ", ".join(f"{name}: {count}" for name, count in named.items() if count)
    if lost > MAX_MISSING * len(complete):
        raise ValueError(
            f"{lost} of {len(complete)} tower rows have NaN in a driver or in the target ({text}): "
            "fill or leave out the variable that is missing before training"
        )
    warnings.warn(
        f"{lost} of {len(complete)} tower rows are left out for NaN in a driver or in the target ({text})", stacklevel=4
    )


def _scaling(x: np.ndarray, towers: xr.Dataset, drivers: Sequence[str]) -> Scaling:
    mean, scale = x.mean(0), x.std(0)
    # relative to the values, whatever their units: rounding leaves a spread of about 1e-16
    largest = np.abs(x).max(0)
    constant = [name for name, m, s in zip(drivers, largest, scale, strict=True) if not s > 1e-10 * m]
    if constant:
        raise ValueError(
            f"driver {', '.join(constant)} is constant over the training towers, so it cannot be standardised "
            "and the model could not learn from it: leave it out of drivers="
        )
    units = {name: str(towers[name].attrs["units"]) for name in drivers if "units" in towers[name].attrs}
    return Scaling(tuple(drivers), mean, scale, units)


def _folds(towers: xr.Dataset, folds: int, seed: int, distance: float | None) -> np.ndarray:
    from xflux.towers import site_folds

    sites = np.unique(towers["site"].values)
    if len(sites) < 2:
        raise ValueError(
            f"the tower table has one site ({', '.join(sites)}): folds are made by site, so two are needed at least"
        )
    return np.asarray(site_folds(towers, folds=folds, seed=seed, distance=distance).values)


@dataclass(frozen=True)
class GridRows:
    """Drivers of the modelled cells, kept by their own axes and combined when rows are asked for.

    ``groups`` holds, for every axis, the columns it fills, the values ``(pixel, column, own step)`` and the own step
    of every step. ``dates`` are those that tell a step's month: its stamp, or the middle of its CF bounds.
    ``valid (pixel, step)`` is None where every driver is there at every step.
    """

    groups: tuple[tuple[list[int], torch.Tensor, torch.Tensor | None], ...]
    n_drivers: int
    axis: str
    steps: xr.DataArray
    dates: xr.DataArray
    days: np.ndarray
    cells: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    valid: torch.Tensor | None
    incomplete: int

    def values(self, pixels: torch.Tensor, steps: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised drivers ``(row, driver, step)`` and, for every member's pixels, their place in them.

        ``pixels (member | 1, pixel)``; ``steps (member | 1, step)``: those wanted; None is all of them, in order, and
        needs no copy where all drivers have one axis.
        """
        if steps is None and len(self.groups) == 1 and self.groups[0][2] is None:
            return self.groups[0][1], pixels
        if steps is None:
            steps = torch.arange(len(self.days), device=pixels.device)[None]
        members, n = max(len(pixels), len(steps)), pixels.shape[1]
        first = self.groups[0][1]
        out = torch.empty((members, n, self.n_drivers, steps.shape[1]), dtype=first.dtype, device=first.device)
        for columns, values, own in self.groups:
            at = steps if own is None else own[steps]
            out[:, :, columns] = values[pixels[:, :, None], :, at[:, None, :]].transpose(2, 3)
        return out.flatten(0, 1), torch.arange(members * n, device=pixels.device).view(members, n)

    def present(self, pixels: torch.Tensor, steps: torch.Tensor | None = None) -> torch.Tensor | None:
        """1 where all drivers are there, else 0 ``(member, pixel, step)``; None where none is ever missing."""
        if self.valid is None:
            return None
        if steps is None:
            return self.valid[pixels]
        return self.valid[pixels[:, :, None], steps[:, None, :]]


def grid_rows(
    grid: xr.Dataset,
    scaling: Scaling,
    wanted: np.ndarray,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> GridRows:
    """Standardised drivers of the cells ``wanted`` (flat lat × lon numbers) that are there at one step at least.

    Every driver is read once, in its own axes: (time, lat, lon), (dayofyear | month, lat, lon) or (lat, lon).
    """
    chosen = align.find(grid, scaling.drivers, "the constraint's grid (drivers=)")
    align.check_units(chosen, scaling.units)
    grid = grid.assign({name: decoded(da) for name, da in chosen.items()})
    owns = {}
    for i, name in enumerate(scaling.drivers):
        owns.setdefault(_own_axis(grid[name]), []).append(i)
    axis, steps = _step_axis(grid, owns)
    dates = dates_within(grid) if axis == "time" else steps
    present = np.ones((len(wanted), steps.size), bool)
    groups = {}
    for own, numbers in owns.items():
        names = [scaling.drivers[i] for i in numbers]
        values, there = _group(grid, names, own, wanted, scaling, _numpy(dtype))
        index = None
        if own != axis:
            index = align.step_of(names[0], grid, own, axis, dates) if own else np.zeros(steps.size, int)
        present &= there if index is None else there[:, index]
        groups[own] = (numbers, values, index)
    kept = present.any(1)
    merged = _tensors(groups, kept, steps.size, len(scaling.drivers), dtype, device)
    lat, lon = np.meshgrid(grid["lat"].values, grid["lon"].values, indexing="ij")
    cells = wanted[kept]
    whole = present[kept].all()
    return GridRows(
        groups=merged,
        n_drivers=len(scaling.drivers),
        axis=axis,
        steps=steps,
        dates=dates,
        days=_days(grid, steps),
        cells=cells,
        lat=lat.ravel()[cells],
        lon=lon.ravel()[cells],
        valid=None if whole else torch.tensor(present[kept], dtype=dtype, device=device),
        incomplete=int((~present.all(1)).sum()),
    )


def _numpy(dtype: torch.dtype) -> type:
    return np.float64 if dtype == torch.float64 else np.float32


def _step_axis(grid: xr.Dataset, axes: Iterable[str | None]) -> tuple[str, xr.DataArray]:
    """The axis on which the drivers meet, and its labels; the twelve months where none has an axis."""
    axis = align.finest(axes)
    if axis == "time":
        return axis, grid["time"]
    numbers = np.arange(1, 13) if axis is None else align.labels(grid, axis).values.astype(int)
    axis = axis or "month"
    return axis, xr.DataArray(numbers, {axis: numbers}, (axis,), name=axis)


def _own_axis(da: xr.DataArray) -> str | None:
    """The driver's own axis; None for a map."""
    axis = align.axis_of(da)
    if set(da.dims) != {"lat", "lon"} | ({axis} if axis else set()):
        raise ValueError(
            f"driver {da.name} has the dims {tuple(da.dims)}; expected (lat, lon), (month | dayofyear, lat, lon) "
            "or (time, lat, lon)"
        )
    return axis


def _group(grid: xr.Dataset, names: list[str], own: str | None, wanted: np.ndarray, scaling: Scaling, kind: type):
    """Standardised drivers of one axis ``(cell, driver, own step)``, 0 for a missing one, and where all are there."""
    n_own = grid.sizes[own] if own else 1
    values = np.empty((len(wanted), len(names), n_own), kind)
    there = np.ones((len(wanted), n_own), bool)
    for k, name in enumerate(names):
        read, fill = _cells_of(grid[name], own, wanted), None
        for start in range(0, len(wanted), CELLS):  # piece by piece: no second copy of the driver
            part = slice(start, start + CELLS)
            cells = read(part)
            fill = found_fill(cells) if fill is None else fill
            finite = np.isfinite(cells)
            there[part] &= finite
            values[part, k] = np.where(finite, scaling(cells, name), 0)
        warn_of_fill(fill, f"driver {name!r} of a constraint")
    return values, there


def _cells_of(da: xr.DataArray, own: str | None, wanted: np.ndarray) -> Callable[[slice], np.ndarray]:
    """What gives a part of the wanted cells ``(cell, own step)``; a lazy driver is read once, chunk by chunk."""
    if da.chunks:
        row, column = (xr.DataArray(i, dims="cell") for i in np.divmod(wanted, da.sizes["lon"]))
        lazy = da.isel(lat=row, lon=column).transpose("cell", ...).values.reshape(len(wanted), -1)
        return lambda part: lazy[part]
    whole = np.asarray(da.transpose(*([own] if own else []), "lat", "lon").values)
    flat = whole.reshape(-1, da.sizes["lat"] * da.sizes["lon"])
    return lambda part: flat[:, wanted[part]].T


def _tensors(groups: dict, kept: np.ndarray, n_steps: int, n_drivers: int, dtype, device) -> tuple:
    """The groups as tensors over the kept cells; joined to one where that is small."""

    def tensor(values):
        return torch.from_numpy(values).to(device=device, dtype=dtype)

    groups = {own: (numbers, _compact(values, kept), index) for own, (numbers, values, index) in groups.items()}
    if len(groups) > 1 and kept.sum() * n_steps * n_drivers <= 5e7:
        joined = np.empty((int(kept.sum()), n_drivers, n_steps), _numpy(dtype))
        for columns, values, index in groups.values():
            joined[:, columns] = values if index is None else values[..., index]
        return ((list(range(n_drivers)), tensor(joined), None),)
    result = []
    for columns, values, index in groups.values():
        own = None if index is None else torch.as_tensor(index, device=device)
        result.append((columns, tensor(values), own))
    return tuple(result)


def _compact(values: np.ndarray, kept: np.ndarray, rows: int = 4096) -> np.ndarray:
    """The kept rows, moved to the front in place, so that there are never two copies of a large array."""
    if kept.all():
        return values
    source = np.flatnonzero(kept)
    for start in range(0, len(source), rows):
        some = source[start : start + rows]
        values[start : start + len(some)] = values[some]
    return values[: len(source)]


def _days(grid: xr.Dataset, steps: xr.DataArray) -> np.ndarray:
    """Length of every step in days."""
    from xflux.temporal import step_days

    others = [d for d in ("dayofyear", "month") if d in grid.dims]
    return np.asarray(step_days(grid.drop_dims(others) if "time" in steps.dims else steps).values, float)
