"""Drivers of the cells that a constraint looks at, as standardised rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from xflux import align
from xflux.temporal import step_days
from xflux.temporal.bounds import dates_within
from xflux.train.data import Scaling
from xflux.train.fused import compiled, run_tasks
from xflux.train.network import blocks
from xflux.train.scratch import ScratchArray
from xflux.values import decoded, found_fill, warn_of_fill

SPILL = 2**30  # bytes of lazy drivers of one axis from which on they stand in a file, not in memory
NUMBERS = 2**24  # of a driver that are standardised at once
TOGETHER = 5e7  # numbers up to which drivers of several axes are joined to one array


@dataclass(frozen=True)
class GridRows:
    """Drivers of the modelled cells, kept by their own axes and combined when rows are asked for.

    ``groups`` holds, for every axis, the columns it fills, the values ``(pixel, column, own step)`` and the own step
    of every step. ``dates`` are those that tell a step's month: its stamp, or the middle of its CF bounds.
    ``valid (pixel, 1, step)`` tells where all drivers are there, None where they always are; ``share (pixel,)`` is the
    share of the steps; ``incomplete`` counts cells that lack some, those that are left out too.
    """

    groups: tuple[tuple[list[int], torch.Tensor | ScratchArray, torch.Tensor | None], ...]
    n_drivers: int
    axis: str
    steps: xr.DataArray
    dates: xr.DataArray
    days: np.ndarray
    cells: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    valid: torch.Tensor | ScratchArray | None
    share: np.ndarray
    incomplete: int

    @property
    def like(self) -> torch.Tensor:
        """An empty tensor of the drivers' type, where they are computed with."""
        return torch.as_tensor(self.groups[0][1][:0])

    def at(self, steps: torch.Tensor | None) -> "torch.Tensor | Rows":
        """Standardised drivers ``(pixel, driver, step)`` of ``steps (member | 1, step)``; None is all, in order.

        A tensor where all drivers have one axis and all steps are wanted.
        """
        columns, values, own = self.groups[0]
        if steps is None and len(columns) == self.n_drivers and own is None and isinstance(values, torch.Tensor):
            return values
        steps = self._every() if steps is None else steps
        groups = [(columns, values, steps if own is None else own[steps]) for columns, values, own in self.groups]
        return Rows(groups, self.n_drivers)

    def present(self, pixels: torch.Tensor, steps: torch.Tensor | None = None) -> torch.Tensor | None:
        """1 where all drivers are there, else 0 ``(member, pixel, step)``; None where none is ever missing."""
        if self.valid is None:
            return None
        return Rows([([0], self.valid, self._every() if steps is None else steps)], 1)[pixels][:, :, 0].to(self.like)

    def _every(self) -> torch.Tensor:
        return torch.arange(len(self.days), device=self.like.device)[None]


@dataclass(frozen=True)
class Rows:
    """Drivers ``(pixel, driver, step)`` of some steps, left in the arrays where they lie until pixels are asked for.

    ``groups``: the columns of every axis, their values ``(pixel, column, own step)``, and the own steps
    ``(member | 1, step)``.
    """

    groups: list[tuple[list[int], torch.Tensor | ScratchArray, torch.Tensor]]
    n_drivers: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.as_tensor(self.groups[0][1][:0]).dtype

    @property
    def device(self) -> torch.device:
        return self.groups[0][2].device

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.groups[0][1]), self.n_drivers, self.groups[0][2].shape[1]

    def numpy(self) -> "Rows":
        """Itself: `sources` are arrays."""
        return self

    def sources(self, member: int, pixels: np.ndarray) -> list[tuple]:
        """Of every axis: columns, values, and the place of each pixel and step in them."""
        found = []
        for columns, values, steps in self.groups:
            own = steps[member % len(steps)].numpy()
            if isinstance(values, ScratchArray):
                found.append((columns, values.take(pixels, own), np.arange(len(pixels)), np.arange(len(own))))
            else:
                found.append((columns, values.numpy(), pixels, own))
        return found

    def __getitem__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Drivers ``(member, pixel, driver, step)`` of ``pixels (member | 1, pixel)``; threads share members."""
        members = max(len(pixels), len(self.groups[0][2]))
        shape = (members, pixels.shape[1], *self.shape[1:])
        out = torch.empty(shape, dtype=self.dtype, device=self.device)
        if out.device.type != "cpu":
            for columns, values, steps in self.groups:
                out[:, :, columns] = values[pixels[:, :, None], : len(columns), steps[:, None, :]].transpose(2, 3)
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
    scratch: Path | None = None,
) -> GridRows:
    """Standardised drivers of the cells ``wanted`` (flat lat × lon numbers) that are there at one step at least.

    Every driver is read once, in its own axes: (time, lat, lon), (dayofyear | month, lat, lon) or (lat, lon). With a
    folder ``scratch``, lazy ones of more than `SPILL` bytes go to a file there, for a CPU.
    """
    chosen = align.find(grid, scaling.drivers, "the constraint's grid (drivers=)")
    align.check_units(chosen, scaling.units)
    grid = grid.assign({name: decoded(da) for name, da in chosen.items()})
    owns = {}
    for i, name in enumerate(scaling.drivers):
        owns.setdefault(_own_axis(grid[name]), []).append(i)
    axis, steps = _step_axis(grid, owns)
    dates = dates_within(grid) if axis == "time" else steps
    groups = []
    scratch = scratch if torch.device(device).type == "cpu" else None
    for own, numbers in owns.items():
        names = [scaling.drivers[i] for i in numbers]
        index = None
        if own != axis:
            index = align.step_of(names[0], grid, own, axis, dates) if own else np.zeros(steps.size, int)
        groups.append((numbers, _group(grid, names, own, wanted, scaling, _numpy(dtype), scratch), index))
    valid, share = _settle(groups, (len(wanted), 1, steps.size), scratch)
    kept = share > 0
    merged = _tensors(groups, int(kept.sum()), steps.size, len(scaling.drivers), device)
    lat, lon = np.meshgrid(grid["lat"].values, grid["lon"].values, indexing="ij")
    cells = wanted[kept]
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
        valid=None if (share[kept] == 1).all() else _cut(valid, len(cells), device),
        share=share[kept],
        incomplete=int((share < 1).sum()),
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


def _group(
    grid: xr.Dataset, names: list[str], own: str | None, wanted: np.ndarray, scaling: Scaling, kind: type, scratch
) -> np.ndarray | ScratchArray:
    """Standardised drivers of one axis ``(cell, driver, own step)``, NaN for a missing one."""
    shape = len(wanted), len(names), grid.sizes[own] if own else 1
    lazy, size = any(grid[name].chunks for name in names), np.prod(shape) * np.dtype(kind).itemsize
    values = ScratchArray(shape, kind, scratch) if scratch and lazy and size > SPILL else np.empty(shape, kind)
    for k, name in enumerate(names):
        fill = None
        for some, at, cells in _pieces(grid[name], own, wanted):
            fill = found_fill(cells) if fill is None else fill
            values[some, k, at] = np.where(np.isfinite(cells), scaling(cells, name), np.nan)
        warn_of_fill(fill, f"driver {name!r} of a constraint")
    return values


def _settle(groups: list, shape: tuple[int, int, int], scratch: Path | None) -> tuple:
    """Put 0 for a missing driver and move cells that have all of them at one step to the front; in place.

    Which steps have all ``(kept cell, 1, step)``, and the share of them ``(cell,)``.
    """
    filed = any(isinstance(values, ScratchArray) for _, values, _ in groups)
    valid = ScratchArray(shape, bool, scratch) if filed else np.empty(shape, bool)
    share, n = np.zeros(shape[0]), 0
    numbers = sum(values.shape[1] * values.shape[2] for _, values, _ in groups) + shape[2]
    for some in blocks(shape[0], max(1, NUMBERS // numbers)):
        parts, present = [values[some] for _, values, _ in groups], np.ones((some.stop - some.start, shape[2]), bool)
        for part, (_, _, index) in zip(parts, groups, strict=True):
            there = ~np.isnan(part).any(1)
            present &= there if index is None else there[:, index]
        share[some] = present.mean(1)
        kept = present.any(1)
        goal = slice(n, n := n + int(kept.sum()))
        valid[goal] = present[kept][:, None]
        for part, (_, values, _) in zip(parts, groups, strict=True):
            if goal != some or np.isnan(part).any():
                values[goal] = np.where(np.isnan(part), 0, part)[kept]
    return valid, share


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


def _tensors(groups: list, n: int, n_steps: int, n_drivers: int, device) -> tuple:
    """The groups as tensors over the ``n`` kept cells; joined to one where that is small."""
    in_memory = all(isinstance(values, np.ndarray) for _, values, _ in groups)
    if len(groups) > 1 and n * n_steps * n_drivers <= TOGETHER and in_memory:
        joined = np.empty((n, n_drivers, n_steps), groups[0][1].dtype)
        for columns, values, index in groups:
            joined[:, columns] = values[:n] if index is None else values[:n][..., index]
        return ((list(range(n_drivers)), _cut(joined, n, device), None),)
    return tuple(
        (columns, _cut(values, n, device), None if index is None else torch.as_tensor(index, device=device))
        for columns, values, index in groups
    )


def _cut(values: np.ndarray | ScratchArray, n: int, device) -> torch.Tensor | ScratchArray:
    """The first ``n`` cells, as a tensor where they are in memory."""
    return torch.from_numpy(values[:n]).to(device) if isinstance(values, np.ndarray) else values.cut(n)
