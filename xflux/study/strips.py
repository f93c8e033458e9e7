"""Cells of a grid one below the other, on disk: written by steps and read by cells, or the other way round."""

from math import prod
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.temporal.calendar import AXES


class Strip:
    """Variables of some cells in float32, in a plain file (step, …, cell) for every few of the cells.

    Some steps of all cells are then a few long reads or writes, and so are all steps of some; parts that do not overlap
    may be written at once.
    """

    def __init__(self, folder: Path, like: xr.Dataset, lat: xr.DataArray, few: int):
        """``like``: the variables at one cell; ``lat``: of all cells; ``few``: cells of a file."""
        folder.mkdir()
        like = like.drop_vars([c for c in like.coords if c not in like.dims])
        self.folder, self.like, self.lat = folder, like.transpose(*AXES, ..., missing_dims="ignore"), lat
        self.parts = [slice(i, min(i + few, lat.size)) for i in range(0, lat.size, few)]
        for name in like.data_vars:
            for k in range(len(self.parts)):
                self._file(name, k).touch()

    def write(self, name: str, k: int, values: np.ndarray, start: int = 0) -> None:
        """Values (step, …, cell) of the k-th part, from the step ``start`` on."""
        with self._file(name, k).open("r+b") as file:
            file.seek(4 * start * prod(self._step(name, k)))
            file.write(np.ascontiguousarray(values, "float32"))

    def read(self, name: str, k: int, steps: slice = slice(None)) -> np.ndarray:
        """Steps (step, …, cell) of the k-th part; what has no time is one step."""
        start, stop, _ = steps.indices(next(iter(self.like[name].shape), 1))
        size = prod(self._step(name, k))
        values = np.fromfile(self._file(name, k), "float32", (stop - start) * size, offset=4 * start * size)
        return values.reshape(-1, *self._step(name, k))

    def column(self, k: int) -> xr.Dataset:
        """The k-th part as a grid of one column (lon, …, lat)."""
        fields = {}
        for name, field in self.like.data_vars.items():
            values = self.read(name, k).reshape(1, *field.shape, -1)
            fields[name] = (("lon", *field.dims, "lat"), values, field.attrs)
        return xr.Dataset(fields, {**self.like.coords, "lat": self.lat[self.parts[k]]}, self.like.attrs)

    def drop(self, k: int) -> None:
        """Free the disk of the k-th part."""
        for name in self.like.data_vars:
            self._file(str(name), k).unlink()

    def _step(self, name: str, k: int) -> tuple[int, ...]:
        """Shape of a step of the k-th part."""
        return (*self.like[name].shape[1:], self.parts[k].stop - self.parts[k].start)

    def _file(self, name: str, k: int) -> Path:
        return self.folder / f"{name}.{k}"
