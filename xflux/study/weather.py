"""Drivers in time (daily weather, composites): made piece by piece, so that they need not fit in memory.

Three passes, each over pieces of bounded size: (1) the base files, time by time, of which the cells at land are kept
in a strip, one below the other; (2) the recipes of Table A2, a few of these cells at a time, since water balance and
seasonal cycles need a cell's whole series; (3) back on the grid, time by time, and coastal cells, which take their
drivers from a neighbour.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from xflux import drivers, stores
from xflux.cells import near_land
from xflux.study.config import Drivers, LandCover, StudyError
from xflux.study.published import steps_of_years
from xflux.temporal.calendar import AXES

VALUES_AT_ONCE = 4_000_000
"""Values of one variable that are worked on at once: whole series of some cells, 32 MB in float64."""
CHUNK_STEPS = 92
"""Steps of a chunk of the drivers in the run folder."""
CHUNK_CELLS = {"lat": 60, "lon": 120}
"""Cells of a chunk of the drivers in the run folder."""


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
    cells = np.argwhere(near_land(fraction, max(reach, config.fill_distance)).values).T
    if not cells.size:
        raise StudyError("drivers.land_fraction: no cell of drivers.base has land")
    at_once = min(_cells_at_once(part) for part in base)
    strips = [_strip(part, folder / f"base_{i}.zarr", cells, at_once) for i, part in enumerate(base)]
    made = _on_grid(_made(config, strips, folder / "made.zarr", at_once), cells, fraction)
    filled, _ = drivers.fill_nearest(made, fraction > 0, max_distance=config.fill_distance)
    filled["land_fraction"] = fraction
    filled.attrs |= {"order": ", ".join([*driver_names(config, base), "land_fraction"])}
    out = _written(filled, folder / "grid.zarr")
    for name in [*(f"base_{i}.zarr" for i in range(len(base))), "made.zarr"]:
        shutil.rmtree(folder / name, ignore_errors=True)
    return open_grid(out)


def open_grid(path: Path, **chunks: int) -> xr.Dataset:
    """The drivers of a store, lazily, in the order of the recipes (stores are read in that of names)."""
    opened = xr.open_zarr(path, chunks=chunks)
    order = [name for name in opened.attrs.get("order", "").split(", ") if name in opened]
    return opened[[*order, *(n for n in opened.data_vars if n not in order)]]


def replace_grid(grid: xr.Dataset, folder: Path) -> None:
    """Write another grid in the place of ``folder/grid.zarr``, which it may be made from."""
    new = folder / "new.zarr"
    _written(grid, new)
    shutil.rmtree(folder / "grid.zarr", ignore_errors=True)
    new.rename(folder / "grid.zarr")


# -------------------------------------------------------------------------------------------------- the three passes
def _strip(part: xr.Dataset, path: Path, cells: np.ndarray, at_once: int) -> xr.Dataset:
    """A copy of some cells, one below the other as on a grid of one column, in chunks of few of them (pass 1)."""
    row, column = (xr.DataArray(index, dims="cell") for index in cells)

    def below(field):
        kept = field.isel(lat=row, lon=column).drop_vars("lon")
        return kept.swap_dims(cell="lat").expand_dims("lon").transpose("lon", ..., "lat")  # no folder for every chunk

    strip = below(part)
    _create(strip, path, {str(d): {"time": CHUNK_STEPS, "lat": at_once}.get(str(d), -1) for d in strip.dims})
    for name, field in part.data_vars.items():
        _put_by_steps(field, str(name), path, below)
    return xr.open_zarr(path, chunks=None).assign_coords({d: part[d] for d in part.dims if _is_text(part[d])})


def _is_text(axis: xr.DataArray) -> bool:
    """Labels (classes of land cover), which stores of Zarr have no settled form for."""
    return axis.dtype.kind in "UO"


def _cells_at_once(part: xr.Dataset) -> int:
    longest = max(v.size // (v.sizes["lat"] * v.sizes["lon"]) for v in part.data_vars.values())
    return max(1, VALUES_AT_ONCE // longest)


def _made(config: Drivers, strips: list[xr.Dataset], path: Path, at_once: int) -> xr.Dataset:
    """The recipes, a few cells at a time (pass 2)."""
    for start in range(0, strips[0].sizes["lat"], at_once):
        few = slice(start, start + at_once)
        part = make_drivers(config, [strip.isel(lat=few).load() for strip in strips])
        part = in_years(part, config.years).astype("float32")
        part = part.transpose("lon", *(d for d in AXES if d in part.dims), "lat")
        if start == 0:
            chunks = {str(d): {"lat": at_once}.get(str(d), CHUNK_STEPS) for d in part.dims}
            _create(part, path, chunks, strips[0]["lat"])
        stores.put(path, part, {"lat": slice(start, start + part.sizes["lat"])})
    return xr.open_zarr(path, chunks={"lat": -1})


def _on_grid(strip: xr.Dataset, cells: np.ndarray, grid: xr.DataArray) -> xr.Dataset:
    """A strip's cells back in their places, lazily; NaN elsewhere."""
    sizes = {d: grid.sizes[d] for d in ("lat", "lon")}

    def placed(values: np.ndarray) -> np.ndarray:
        out = np.full((*values.shape[:-2], *sizes.values()), np.nan, "float32")
        out[..., *cells] = values[..., 0]
        return out

    full = xr.apply_ufunc(
        placed, strip, input_core_dims=[["lat", "lon"]], output_core_dims=[["lat", "lon"]], exclude_dims={"lat", "lon"},
        dask="parallelized", output_dtypes=["float32"], keep_attrs=True,
        dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": sizes},
    )  # fmt: skip
    return full.assign_coords({d: grid[d] for d in sizes})


def _written(data: xr.Dataset, path: Path) -> Path:
    """Write a lazy Dataset, one variable and one piece of its time axis after the other (pass 3)."""
    _create(data, path, {str(d): CHUNK_CELLS.get(str(d), CHUNK_STEPS) for d in data.dims})
    for name, field in data.data_vars.items():
        _put_by_steps(field, str(name), path)
    return path


def _put_by_steps(field: xr.DataArray, name: str, path: Path, change: Callable = lambda piece: piece) -> None:
    """Write a lazy field, changed, in pieces that end where its chunks do, so that each is read once."""
    axis = next((d for d in AXES if d in field.dims), None)
    start, ends = 0, np.cumsum(field.chunksizes.get(axis, field.sizes.get(axis, 1))).tolist()
    for end in ends:
        if end - start >= CHUNK_STEPS or end == ends[-1]:  # a yearly file may be a single chunk
            where = {axis: slice(start, end)} if axis else {}
            piece = change(field.isel(where).load())
            stores.put(path, piece.to_dataset(name=name), where | {"lat": slice(0, piece.sizes["lat"])})
            start = end


def _create(data: xr.Dataset, path: Path, chunks: dict[str, int], lat: xr.DataArray | None = None) -> None:
    """An empty store for variables like these, on other latitudes where they are given."""
    import dask.array as da

    shutil.rmtree(path, ignore_errors=True)
    lat = data["lat"] if lat is None else lat
    lengths, fields = {}, {}
    for name, field in data.data_vars.items():
        shape = tuple(lat.size if d == "lat" else n for d, n in field.sizes.items())
        wanted = [chunks[str(d)] for d in field.dims]
        lengths[name] = tuple(n if c < 0 else min(c, n) for c, n in zip(wanted, shape, strict=True))
        fields[name] = (field.dims, da.zeros(shape, chunks=lengths[name], dtype="float32"), field.attrs)
    coords = {d: data[d] if d != "lat" else lat for d in data.dims if d in data.coords and not _is_text(data[d])}
    stores.create(str(path), xr.Dataset(fields, coords, data.attrs).drop_encoding(), lengths)
    stores.gather_metadata(path)
