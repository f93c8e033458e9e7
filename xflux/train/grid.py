"""Drivers of the cells that a constraint looks at, as standardised rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from xflux import align
from xflux.temporal import step_days
from xflux.temporal.bounds import dates_within
from xflux.train.data import Scaling
from xflux.train.fused import compiled, run_tasks
from xflux.values import decoded, found_fill, warn_of_fill

CELLS = 4096  # rows that are moved at once
NUMBERS = 2**24  # of a driver that are standardised at once
TOGETHER = 5e7  # numbers up to which drivers of several axes are joined to one array


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

    def at(self, steps: torch.Tensor | None) -> "torch.Tensor | Rows":
        """Standardised drivers ``(pixel, driver, step)`` of ``steps (member | 1, step)``; None is all, in order.

        A tensor where all drivers have one axis and all steps are wanted.
        """
        if steps is None and len(self.groups) == 1 and self.groups[0][2] is None:
            return self.groups[0][1]
        if steps is None:
            steps = torch.arange(len(self.days), device=self.groups[0][1].device)[None]
        groups = [(columns, values, steps if own is None else own[steps]) for columns, values, own in self.groups]
        return Rows(groups, self.n_drivers)

    def present(self, pixels: torch.Tensor, steps: torch.Tensor | None = None) -> torch.Tensor | None:
        """1 where all drivers are there, else 0 ``(member, pixel, step)``; None where none is ever missing."""
        if self.valid is None:
            return None
        if steps is None:
            return self.valid[pixels]
        return self.valid[pixels[:, :, None], steps[:, None, :]]


@dataclass(frozen=True)
class Rows:
    """Drivers ``(pixel, driver, step)`` of some steps, left in the arrays where they lie until pixels are asked for.

    ``groups``: the columns of every axis, their values ``(pixel, column, own step)``, and the own steps
    ``(member | 1, step)``.
    """

    groups: list[tuple[list[int], torch.Tensor, torch.Tensor]]
    n_drivers: int

    @property
    def dtype(self) -> torch.dtype:
        return self.groups[0][1].dtype

    @property
    def device(self) -> torch.device:
        return self.groups[0][1].device

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.groups[0][1]), self.n_drivers, self.groups[0][2].shape[1]

    def numpy(self) -> "Rows":
        """Itself: `sources` are arrays."""
        return self

    def sources(self, member: int, pixels: np.ndarray) -> list[tuple]:
        """Of every axis: columns, values, and the place of each pixel and step in them."""
        return [
            (columns, values.numpy(), pixels, steps[member % len(steps)].numpy())
            for columns, values, steps in self.groups
        ]

    def __getitem__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Drivers ``(member, pixel, driver, step)`` of ``pixels (member | 1, pixel)``; threads share members."""
        members = max(len(pixels), len(self.groups[0][2]))
        shape = (members, pixels.shape[1], *self.shape[1:])
        out = torch.empty(shape, dtype=self.dtype, device=self.device)
        if out.device.type != "cpu":
            for columns, values, steps in self.groups:
                out[:, :, columns] = values[pixels[:, :, None], :, steps[:, None, :]].transpose(2, 3)
            return out

        def work(member: int) -> None:
            for columns, values, place, steps in self.sources(member, pixels[member % len(pixels)].numpy()):
                compiled().take(out[member].numpy(), place, steps, values, np.array(columns))

        run_tasks(work, range(members))
        return out


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
    others = [d for d in ("dayofyear", "month") if d in grid.dims]
    return GridRows(
        groups=merged,
        n_drivers=len(scaling.drivers),
        axis=axis,
        steps=steps,
        dates=dates,
        days=np.asarray(step_days(grid.drop_dims(others) if "time" in steps.dims else steps).values, float),
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
        fill = None
        for some, at, cells in _pieces(grid[name], own, wanted):
            fill = found_fill(cells) if fill is None else fill
            finite = np.isfinite(cells)
            there[some, at] &= finite
            values[some, k, at] = np.where(finite, scaling(cells, name), 0)
        warn_of_fill(fill, f"driver {name!r} of a constraint")
    return values, there


def _pieces(da: xr.DataArray, own: str | None, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, slice, np.ndarray]]:
    """Some of the wanted cells, own steps, and values ``(cell, own step)``: a driver is never in memory twice.

    A lazy one is read once, by tiles of its own chunks.
    """
    da = (da if own else da.expand_dims("step")).transpose(own or "step", "lat", "lon")
    row, column = np.divmod(wanted, da.sizes["lon"])
    of_steps, of_lat, of_lon = da.chunks or ((1,), da.shape[1:2], da.shape[2:])
    tile = len(of_lon) * np.searchsorted(np.cumsum(of_lat), row, "right")
    tile += np.searchsorted(np.cumsum(of_lon), column, "right")
    for number in np.unique(tile):
        some = np.flatnonzero(tile == number)
        lat, lon = row[some] - row[some].min(), column[some] - column[some].min()
        box = da[:, row[some].min() :, column[some].min() :][:, : lat.max() + 1, : lon.max() + 1]
        at_once = max(of_steps) * max(1, NUMBERS // (box[0].size * max(of_steps)))
        for start in range(0, len(da), at_once):
            at = slice(start, start + at_once)
            yield some, at, box[at].values[:, lat, lon].T


def _tensors(groups: dict, kept: np.ndarray, n_steps: int, n_drivers: int, dtype, device) -> tuple:
    """The groups as tensors over the kept cells; joined to one where that is small."""

    def tensor(values):
        return torch.from_numpy(values).to(device=device, dtype=dtype)

    groups = {own: (numbers, _compact(values, kept), index) for own, (numbers, values, index) in groups.items()}
    if len(groups) > 1 and kept.sum() * n_steps * n_drivers <= TOGETHER:
        joined = np.empty((int(kept.sum()), n_drivers, n_steps), _numpy(dtype))
        for columns, values, index in groups.values():
            joined[:, columns] = values if index is None else values[..., index]
        return ((list(range(n_drivers)), tensor(joined), None),)
    result = []
    for columns, values, index in groups.values():
        own = None if index is None else torch.as_tensor(index, device=device)
        result.append((columns, tensor(values), own))
    return tuple(result)


def _compact(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The kept rows, moved to the front in place, so that there are never two copies of a large array."""
    if kept.all():
        return values
    source = np.flatnonzero(kept)
    for start in range(0, len(source), CELLS):
        some = source[start : start + CELLS]
        values[start : start + len(some)] = values[some]
    return values[: len(source)]
