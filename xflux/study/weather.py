"""Drivers in time (daily weather, composites): made piece by piece, so that they need not fit in memory.

Three passes, each over pieces of bounded size: (1) the base files, time by time, of which the cells at land are kept
in a strip, one below the other; (2) the recipes of Table A2, a few of these cells at a time, since water balance and
seasonal cycles need a cell's whole series; (3) back on the grid, time by time, and coastal cells, which take their
drivers from a neighbour.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr

from xflux import drivers, stores
from xflux.cells import coasts, near_land
from xflux.forks import cores
from xflux.study.base import READ_AT_ONCE
from xflux.study.config import Drivers, LandCover, StudyError
from xflux.study.published import steps_of_years
from xflux.study.strips import Strip
from xflux.temporal.calendar import AXES

VALUES_AT_ONCE = 4_000_000
"""Values of one variable that are worked on at once: whole series of some cells, 32 MB in float64."""
CHUNK_STEPS = 92
"""Steps of a chunk of the drivers in the run folder."""
CHUNK_CELLS = {"lat": 60, "lon": 120}
"""Cells of a chunk of the drivers in the run folder."""
MOST_THREADS = 4
"""Pieces in memory at once, however many cores there are."""


def make_drivers(config: Drivers, base: list[xr.Dataset]) -> xr.Dataset:
    """The drivers that the study names, by the recipes of Table A2 or as the files have them, float32."""
    plain = base[0] if len(base) == 1 else base
    if config.variant == "none":
        made = plain if isinstance(plain, xr.Dataset) else xr.merge(plain, join="exact", compat="override")
        made = made.assign(drivers.make(plain, study_recipes(config)).data_vars) if config.recipes else made
    else:
        made = drivers.table_a2(plain, variant=config.variant, recipes=study_recipes(config))
    for cover in config.cover:
        made = made.assign(drivers.cover(_cover_field(cover, base), cover.groups()).data_vars)
    names = config.variables or list(made.data_vars)
    missing = [name for name in names if name not in made]
    if missing:
        left_out = f"; not made: {made.attrs['not_made']}" if made.attrs.get("not_made") else ""
        raise StudyError(
            f"drivers.variables: the grid has no {missing}; it has {sorted(map(str, made.data_vars))}{left_out}"
        )
    return made[names]


def study_recipes(config: Drivers) -> list[dict[str, str]]:
    """The study's own recipes."""
    return [{"name": name, "formula": formula} for name, formula in config.recipes.items()]


def _cover_field(cover: LandCover, base: list[xr.Dataset]) -> xr.DataArray:
    found = next((part[cover.variable] for part in base if cover.variable in part), None)
    if found is None:
        raise StudyError(f"drivers.cover.variable = {cover.variable!r}: no base file has it")
    return found


def driver_names(config: Drivers, base: list[xr.Dataset]) -> list[str]:
    """Names of the drivers that the files allow, found on one cell."""
    cell = [part.isel(lat=slice(0, 1), lon=slice(0, 1)) for part in base]
    return list(map(str, make_drivers(config, cell).data_vars))


def in_years(data: xr.Dataset, years: tuple[int, int] | None) -> xr.Dataset:
    """The steps of the years asked for; a climatology stays as it is."""
    if years is None or "time" not in data.dims:
        return data
    return steps_of_years(data, years, f"drivers.years = {list(years)}: the base variables cover")


def write_grid(
    config: Drivers, base: list[xr.Dataset], fraction: xr.DataArray, folder: Path, reach: float = 0.0
) -> xr.Dataset:
    """Make the drivers and write them to ``folder/grid.zarr``; returns them, lazily, with the land fraction.

    They are made on land, and so far from it (degrees) as coastal cells or towers take them: ``reach``.
    """
    fraction = fraction.transpose("lat", "lon")
    cells = np.argwhere(near_land(fraction, max(reach, config.fill_distance)).values).T
    if not cells.size:
        raise StudyError("drivers.land_fraction: no cell of drivers.base has land")
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    strips = _strips(base, cells, scratch)
    made, complete = _made(config, strips, scratch / "made")
    out = _on_grid(made, cells, complete, fraction, config.fill_distance, folder / "grid.zarr")
    shutil.rmtree(scratch)
    return open_grid(out)


def open_grid(path: Path, **chunks: int) -> xr.Dataset:
    """The drivers of a store, lazily, in the order of the recipes (stores are read in that of names)."""
    opened = xr.open_zarr(path, chunks=chunks)
    order = [name for name in opened.attrs.get("order", "").split(", ") if name in opened]
    return opened[[*order, *(n for n in opened.data_vars if n not in order)]]


def replace_grid(grid: xr.Dataset, folder: Path) -> None:
    """Write another grid in the place of ``folder/grid.zarr``, which it may be made from."""
    new = folder / "new.zarr"
    _written(grid, new, lambda name, where: grid[name].isel(where).values)
    shutil.rmtree(folder / "grid.zarr", ignore_errors=True)
    new.rename(folder / "grid.zarr")


# -------------------------------------------------------------------------------------------------- the three passes
def _strips(base: list[xr.Dataset], cells: np.ndarray, folder: Path) -> list[Strip]:
    """Copies of some cells, one below the other, in parts of few of them (pass 1)."""
    few, strips, jobs = min(map(_cells_at_once, base)), [], []
    for i, part in enumerate(base):
        lat = part["lat"][cells[0]].drop_vars([c for c in part["lat"].coords if c != "lat"])
        strips.append(Strip(folder / f"base_{i}", part.isel(lat=0, lon=0, drop=True), lat, few))
        jobs += [(strips[-1], part[name], where) for name in part.data_vars for where in _pieces(part[name])]
    place = np.ravel_multi_index(tuple(cells), (base[0].sizes["lat"], base[0].sizes["lon"]))

    def copy(strip: Strip, field: xr.DataArray, where: dict[str, slice]) -> None:
        field = field.transpose(*where, ..., "lat", "lon").isel(where)
        values = field.compute(scheduler="sync").values.reshape(*field.shape[:-2], -1)
        for k, part in enumerate(strip.parts):
            strip.write(str(field.name), k, values.take(place[part], -1), *(steps.start for steps in where.values()))

    _at_once(copy, jobs)
    return strips


def _pieces(field: xr.DataArray) -> list[dict[str, slice]]:
    """Pieces along the time axis that end where the chunks do, so that each is read or written once."""
    axis = next((d for d in AXES if d in field.dims), None)
    if axis is None:
        return [{}]
    pieces, start, step = [], 0, field.nbytes // field.sizes[axis]
    ends = np.cumsum(field.chunksizes.get(axis, field.sizes[axis])).tolist()
    for end in ends:
        if (end - start) * step >= READ_AT_ONCE / 2 or end == ends[-1]:  # a file may be a single chunk
            pieces.append({axis: slice(start, end)})
            start = end
    return pieces


def _cells_at_once(part: xr.Dataset) -> int:
    longest = max(v.size // (v.sizes["lat"] * v.sizes["lon"]) for v in part.data_vars.values())
    return max(1, VALUES_AT_ONCE // longest)


def _made(config: Drivers, strips: list[Strip], folder: Path) -> tuple[Strip, np.ndarray]:
    """The recipes, a few cells at a time (pass 2), and which of the cells have all drivers at all steps."""

    def drivers_of(few: list[xr.Dataset]) -> xr.Dataset:
        part = in_years(make_drivers(config, few), config.years)
        return part.astype("float32", copy=False).transpose("lon", *AXES, "lat", missing_dims="ignore")

    like = drivers_of([strip.column(0).isel(lat=[0]) for strip in strips])
    made = Strip(folder, like.isel(lat=0, lon=0, drop=True), strips[0].lat, strips[0].parts[0].stop)
    complete = np.ones(made.lat.size, bool)

    def read(k: int) -> list[xr.Dataset]:
        return [strip.column(k) for strip in strips]

    def write(k: int, part: dict[str, np.ndarray]) -> None:
        for name, values in part.items():
            made.write(name, k, values)
            complete[made.parts[k]] &= ~np.isnan(values).any(tuple(range(values.ndim - 1)))
        for strip in strips:
            strip.drop(k)

    last = len(made.parts) - 1
    with ThreadPoolExecutor(2) as pool:  # recipes stay in one thread: xarray changes warnings of the whole process
        ahead, behind = pool.submit(read, 0), None
        for k in range(last + 1):
            few, ahead = ahead.result(), pool.submit(read, k + 1) if k < last else None
            part = {str(name): driver.values for name, driver in drivers_of(few).data_vars.items()}
            if behind:
                behind.result()
            behind = pool.submit(write, k, part)
        behind.result()
    return made, complete


def _on_grid(
    made: Strip, cells: np.ndarray, complete: np.ndarray, fraction: xr.DataArray, reach: float, path: Path
) -> Path:
    """A strip's cells back in their places, and coasts from their neighbours (pass 3); NaN elsewhere."""
    grid = made.like.expand_dims(lat=fraction["lat"], lon=fraction["lon"]).transpose(..., "lat", "lon")
    whole, place = xr.zeros_like(fraction, bool), np.full(fraction.shape, complete.size)
    whole.values[tuple(cells)], place[tuple(cells)] = complete, np.arange(complete.size)
    taker, giver, said = coasts(whole, fraction > 0, reach)
    taker, giver = place[tuple(taker.T)], place[tuple(giver.T)]

    def values(name: str, where: dict[str, slice]) -> np.ndarray:
        if name == "land_fraction":
            return fraction.values
        parts = [made.read(name, k, *where.values()) for k in range(len(made.parts))]
        strip = np.concatenate([*parts, np.full((len(parts[0]), 1), np.nan, "float32")], -1)  # the sea at the end
        strip[:, taker] = np.where(np.isnan(strip[:, taker]), strip[:, giver], strip[:, taker])
        return strip.take(place, -1).reshape(grid[name].isel(where).shape)

    order = {"order": ", ".join([*map(str, grid.data_vars), "land_fraction"])}
    return _written(grid.assign(land_fraction=fraction).assign_attrs(said | order), path, values)


def _written(like: xr.Dataset, path: Path, values: Callable[[str, dict[str, slice]], np.ndarray]) -> Path:
    """Write a Dataset, of which ``values`` gives pieces, chunk by chunk of its time axis."""
    template = _create(like, path)

    def put(name: str, where: dict[str, slice]) -> None:
        stores.put(path, xr.Dataset({name: (like[name].dims, values(name, where))}), where)

    _at_once(put, [(name, where) for name, field in template.data_vars.items() for where in _pieces(field)])
    return path


def _create(data: xr.Dataset, path: Path) -> xr.Dataset:
    """An empty store for variables like these; returned lazily, in its chunks."""
    import dask.array as da

    shutil.rmtree(path, ignore_errors=True)
    lengths, fields = {}, {}
    for name, field in data.data_vars.items():
        lengths[name] = tuple(min(CHUNK_CELLS.get(str(d), CHUNK_STEPS), n) for d, n in field.sizes.items())
        fields[name] = (field.dims, da.zeros(field.shape, chunks=lengths[name], dtype="float32"), field.attrs)
    template = xr.Dataset(fields, {d: data[d] for d in data.dims if d in data.coords}, data.attrs).drop_encoding()
    stores.create(str(path), template, lengths)
    stores.gather_metadata(path)
    return template


def _at_once(work: Callable[..., None], jobs: list[tuple]) -> None:
    """Every job, a few of them at once."""
    with ThreadPoolExecutor(min(cores(), MOST_THREADS)) as pool:
        list(pool.map(work, *zip(*jobs, strict=True)))
