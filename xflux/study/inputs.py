"""What a study file points at: towers at their drivers, the driver grid, and the regional target."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux import drivers, temporal, towers
from xflux.cells import RADIUS, regrid
from xflux.reading import blamed_on, matching, netcdf
from xflux.study import published
from xflux.study.base import land_share, study_base
from xflux.study.config import StudyConfig, StudyError, Target
from xflux.study.weather import driver_names, in_years, make_drivers, open_grid, replace_grid, study_recipes, write_grid

IN_MEMORY = 2**30
"""Bytes of a grid in ``time`` up to which it is held in memory; larger ones stay on disk."""
Files = dict[str, list[Path]]
"""Key of the study file → the files that it names."""


@dataclass(frozen=True)
class Inputs:
    """Everything that training and evaluation read, opened from the run folder."""

    towers: xr.Dataset
    """dim sample: nee (gC m-2 d-1), one variable a driver; coords site, time, lat, lon, igbp."""
    grid: xr.Dataset
    """drivers over (time | dayofyear | month, lat, lon) or (lat, lon), and land_fraction; large ones lazy."""
    target: xr.DataArray
    """(inversion, region, time) PgC month-1."""

    @property
    def land_fraction(self) -> xr.DataArray:
        """Land share of each cell (lat, lon)."""
        return self.grid["land_fraction"].load()

    @property
    def driver_grid(self) -> xr.Dataset:
        """The grid's drivers alone."""
        return self.grid.drop_vars("land_fraction")

    @property
    def drivers(self) -> list[str]:
        """Names of the drivers, in the model's order."""
        return list(self.driver_grid.data_vars)

    @property
    def lazy(self) -> bool:
        """Whether the drivers stay on disk."""
        return any(driver.chunks for driver in self.driver_grid.data_vars.values())


# ---------------------------------------------------------------------------------------------------- which files
def study_files(config: StudyConfig) -> dict[str, list[str]]:
    """Key of the study file → paths and patterns, as the study writes them."""
    named: dict[str, list[str] | str | None] = {
        "towers.table": config.towers.table,
        "towers.sites": config.towers.sites,
        **{f"drivers.base.{i}": pattern for i, pattern in enumerate(config.drivers.base)},
        "drivers.anomalies.files": config.drivers.anomalies.files if config.drivers.anomalies else None,
        "drivers.land_fraction": config.drivers.land_fraction,
        "target.file": config.target.file,
        "bridge.file": config.bridge.file,
        "evaluation.truth.file": config.evaluation.truth.file if config.evaluation.truth else None,
        "evaluation.budget.file": config.evaluation.budget.file if config.evaluation.budget else None,
        "evaluation.plant_types.file": config.evaluation.plant_types.file if config.evaluation.plant_types else None,
    }
    named |= {f"evaluation.series ({s.name})": s.file for s in config.evaluation.series}
    named |= {f"evaluation.maps ({m.name})": m.file for m in config.evaluation.maps}
    for key, product in published.all_products(config).items():
        named |= {key: product.files, f"{key}.land_fraction": product.land_fraction}
    return {key: [value] if isinstance(value, str) else value for key, value in named.items() if value}


def input_files(config: StudyConfig) -> Files:
    """Key of the study file → the files that it names; an error lists all that are missing."""
    folder, files, missing = config.data_folder(), {}, []
    for key, patterns in study_files(config).items():
        found: list[Path] = []
        for pattern in patterns:
            matches = matching(folder / pattern)
            missing += [] if matches else [f"  {key} = {str(folder / pattern)!r}"]
            found += matches
        files[key] = list(dict.fromkeys(found))
    if missing:
        raise StudyError(
            "these files of the study do not exist:\n"
            + "\n".join(missing)
            + f"\npaths are relative to the data folder {str(folder)!r}"
        )
    return files


def check_variables(config: StudyConfig, files: Files) -> None:
    """Open every file's header and name each column, variable or coordinate value that the study needs and it lacks."""
    wanted = [("drivers.land_fraction", config.drivers.land_fraction_variable)]
    wanted += [("target.file", config.target.variable)] if config.target.file else []
    wanted += [(f"evaluation.maps ({m.name})", m.variable) for m in config.evaluation.maps]
    wanted += [(f"evaluation.series ({s.name})", s.variable) for s in config.evaluation.series]
    wanted += [("bridge.file", config.bridge.variable)] if config.bridge.file else []
    for key, asked in (("truth", config.evaluation.truth), ("plant_types", config.evaluation.plant_types)):
        wanted += [(f"evaluation.{key}.file", asked.variable)] if asked else []
    problems = []
    for key, name in wanted:
        with netcdf(files[key][0], f"netCDF ({key})") as dataset:
            if name not in dataset:
                problems.append(
                    f"  {key}: no variable {name!r} in {files[key][0].name!r}, which has {sorted(dataset.data_vars)}"
                )
            elif key == "target.file":
                problems += _target_problems(config.target, dataset[name], files[key][0].name)
    if config.evaluation.budget:
        with blamed_on(files["evaluation.budget.file"][0], "CSV (evaluation.budget.file)"):
            table = pd.read_csv(files["evaluation.budget.file"][0], nrows=1)
        problems += [
            f"  evaluation.budget.file: no column {name!r}, it has {list(table.columns)}"
            for name in ("Year", config.evaluation.budget.variable)
            if name not in table
        ]
    problems += published.problems(config, files)
    problems += _driver_problems(config, files)
    if problems:
        raise StudyError("the study's files lack what it needs:\n" + "\n".join(problems))


def _driver_problems(config: StudyConfig, files: Files) -> list[str]:
    """What keeps the drivers from being made, found on one cell of the base files."""
    try:
        base = study_base(config.drivers, files)
        names = driver_names(config.drivers, base)
        for part in base:
            in_years(part, config.drivers.years)
    except (StudyError, ValueError, OSError) as error:
        return [f"  {error}" if str(error).startswith("drivers") else f"  drivers.base: {error}"]
    unknown = sorted(set(config.towers.keep) - set(names))
    return [f"  towers.keep: the grid has no driver {unknown}; it has {sorted(names)}"] if unknown else []


def _target_problems(target: Target, array: xr.DataArray, file: str) -> list[str]:
    needed = {target.region_dim, "time", *target.ensemble_dims}
    if needed != set(array.dims):
        return [
            f"  target: {array.name!r} in {file!r} has dims {array.dims}, the study names {sorted(needed)} "
            "(region_dim, ensemble_dims and time)"
        ]
    return [
        f"  target.select.{dim}: {value!r} is not in {file!r}, which has {array[dim].values.tolist()}"
        for dim, values in target.select.items()
        for value in values
        if value not in array[dim].values
    ]


# ----------------------------------------------------------------------------------------------------- the target
def make_target(config: StudyConfig, files: Files) -> xr.DataArray:
    """The regional target (inversion, region, time) in PgC month-1, from a file or from published inversions."""
    target = config.target
    amounts = read_target(target, files["target.file"][0]) if target.file else published.target(target, files)
    if target.years:
        first, last = target.years
        year = amounts["time"].dt.year
        amounts = amounts.sel(time=(year >= first) & (year <= last))
        if not amounts.sizes["time"]:
            raise StudyError(f"target.years = [{first}, {last}]: the inversions have no month of these years")
        amounts = amounts.dropna("inversion", how="all")
    return amounts


def read_target(target: Target, path: Path) -> xr.DataArray:
    """The regional target as (inversion, region, time) in PgC month-1; inversions without any value are left out.

    The region labels that tile the globe are kept: labels of the file that the region set does not have (wider
    bands that overlap the others) are dropped, and named in ``attrs["left_out"]``. The globe of a study is the sum of
    its regions: what lies in none is dropped too.
    """
    from xflux import regions

    with netcdf(path, "netCDF (target.file)") as dataset:
        array = dataset[target.variable].load()
    array = array.sel({dim: list(values) for dim, values in target.select.items()})
    array = array.rename({target.region_dim: "region"})
    labels = [str(label) for label in array["region"].values]
    known = regions.region_labels(target.regions)
    kept = [label for label in labels if label in known]
    if not kept:
        raise StudyError(
            f"target: none of the labels {labels} is a region of {target.regions!r}, which has {list(known)}"
        )
    array = array.reset_coords(drop=True).sel(region=kept)
    array["region"].attrs = {}
    stacked = _one_ensemble_dim(array, target.ensemble_dims)
    stacked = stacked.dropna("inversion", how="all").transpose("inversion", "region", "time")
    amounts = temporal.convert_units(stacked, "PgC month-1").astype("float64")
    amounts.attrs |= published.target_contents(target) | {
        "long_name": "land-atmosphere carbon flux",
        "left_out": ", ".join(sorted(set(labels) - set(kept))),
    }
    return amounts.rename("target")


def _one_ensemble_dim(array: xr.DataArray, dims: list[str]) -> xr.DataArray:
    """Ensemble dims as one, ``inversion``, whose labels join theirs by a slash."""
    if len(dims) == 1:
        return array.rename({dims[0]: "inversion"}) if dims[0] != "inversion" else array
    labels = pd.MultiIndex.from_product([array[dim].values for dim in dims])
    stacked = array.stack(inversion=dims).drop_vars(["inversion", *dims])
    return stacked.assign_coords(inversion=["/".join(map(str, label)) for label in labels])


def seen(config: StudyConfig, target: xr.DataArray) -> xr.DataArray:
    """The part of the target that models may see: without the years and inversions that judge."""
    kept = seen_inversions(config, target)
    kept = kept.isel(time=np.flatnonzero(in_seen_years(config, kept["time"])))
    if not kept.size:
        raise StudyError("evaluation.unseen_years and unseen_inversions leave nothing to train on")
    return kept


def in_seen_years(config: StudyConfig, time: xr.DataArray) -> np.ndarray:
    """Which times models may see: those outside of the years that judge. It holds for towers as for the target."""
    first, last = config.evaluation.unseen_years or (1, 0)
    year = time.dt.year.values
    return (year < first) | (year > last)


def seen_inversions(config: StudyConfig, target: xr.DataArray) -> xr.DataArray:
    """The inversions that models may see, in all years."""
    names = target["inversion"].values.tolist()
    unknown = sorted(set(config.evaluation.unseen_inversions) - set(names))
    if unknown:
        raise StudyError(f"evaluation.unseen_inversions: {unknown} is not in the target, which has {names}")
    return target.sel(inversion=~target["inversion"].isin(config.evaluation.unseen_inversions))


def seasonal(flux: xr.DataArray) -> xr.DataArray:
    """Mean seasonal cycle along ``month``; a climatology is one already."""
    return flux if "month" in flux.dims else temporal.mean_seasonal_cycle(flux)


# ------------------------------------------------------------------------------------------------ drivers and towers
def make_grid(config: StudyConfig, files: Files, folder: Path) -> xr.Dataset:
    """Drivers on the grid, gap-filled at the coast, with the land fraction beside them.

    Climatologies are made in memory; drivers in ``time`` are written to ``folder/grid.zarr`` piece by piece.
    """
    base = study_base(config.drivers, files)
    fraction = read_land_fraction(config, files, base[0])
    if any("time" in part.dims for part in base):
        reach = np.rad2deg(1000 * config.towers.max_distance / RADIUS)
        return write_grid(config.drivers, base, fraction, folder, reach)
    made = make_drivers(config.drivers, [part.load() for part in base])
    grid, _ = drivers.fill_nearest(made, fraction > 0, max_distance=config.drivers.fill_distance)
    grid["land_fraction"] = fraction
    return grid


def read_land_fraction(config: StudyConfig, files: Files, grid: xr.Dataset) -> xr.DataArray:
    """Land share (lat, lon), 0–1, on the cells of ``grid``; an error where the cells are others."""
    share = land_share(config.drivers, files)
    if config.drivers.resolution:
        return regrid(share, grid)
    return published.on_cells(share, grid, "drivers.land_fraction")


def read_tower_table(config: StudyConfig, files: Files) -> xr.Dataset:
    """Tower days or months, with the columns that stand in for drivers under the drivers' names.

    Where drivers are made from the towers' own series, days without a good flux are there too, for their weather.
    """
    own, monthly = config.towers, config.towers.step == "month"
    table = towers.read_towers(
        files["towers.table"], qc=own.qc, sites=files.get("towers.sites"), start=own.start,
        units=own.units, every_day=bool(own.base) or monthly,
    )  # fmt: skip
    for key, columns in (("keep", own.keep), ("base", own.base)):
        missing = [column for column in columns.values() if column not in table]
        if missing:
            raise StudyError(f"towers.{key}: the tower table has no column {missing}; it has {sorted(table.data_vars)}")
    if monthly and table.attrs["time_step"] == "day":
        table = towers.to_months(table, min_days=own.min_days, every_month=bool(own.base))
    return table.rename({column: driver for driver, column in own.keep.items() if column != driver})


def place_towers(config: StudyConfig, table: xr.Dataset, grid: xr.Dataset, files: Files) -> xr.Dataset:
    """Towers at the grid's drivers, their own measurements standing in where named; samples with all of it only."""
    drivers_only = grid.drop_vars("land_fraction")
    unknown = sorted(set(config.towers.keep) - set(map(str, drivers_only.data_vars)))
    if unknown:
        raise StudyError(f"towers.keep: the grid has no driver {unknown}; it has {sorted(drivers_only.data_vars)}")
    table, own = _own_drivers(config, table, files)
    keep = [name for name in map(str, drivers_only.data_vars) if name in own or name in config.towers.keep]
    placed = towers.colocate(table, drivers_only, max_distance=config.towers.max_distance, keep=keep)
    placed = placed[["nee", *drivers_only.data_vars]]
    placed = placed.isel(sample=np.flatnonzero(np.isfinite(placed["nee"].values)))
    complete = np.logical_and.reduce([np.isfinite(placed[name].values) for name in placed.data_vars])
    placed.attrs["rows_without_drivers"] = int((~complete).sum())
    if not complete.any():
        raise StudyError("no tower day has all drivers: do the towers and the drivers share any years (drivers.years)?")
    return placed.isel(sample=np.flatnonzero(complete))


def _own_drivers(config: StudyConfig, table: xr.Dataset, files: Files) -> tuple[xr.Dataset, set[str]]:
    """The towers with the drivers that are their own, of their weather and class, and the names of these."""
    own: set[str] = set()
    if config.towers.base:
        kept = {column: driver for driver, column in config.towers.keep.items()}
        columns = {name: kept.get(column, column) for name, column in config.towers.base.items()}
        table = drivers.at_towers(
            table, study_base(config.drivers, files), columns, variant=config.drivers.variant,
            recipes=study_recipes(config.drivers), max_distance=config.towers.max_distance,
        )  # fmt: skip
        own |= {str(n) for n, v in table.data_vars.items() if "formula" in v.attrs}
        for driver in own & set(config.towers.keep):  # measured there: goes before what a recipe makes
            measured = table[f"{driver}_tower"]
            table[driver] = measured.where(np.isfinite(measured), table[driver])
    for cover in config.drivers.cover:
        classes = drivers.cover(table, cover.groups())
        table, own = table.assign(classes.data_vars), own | set(map(str, classes.data_vars))
    return table, own


def tower_climate(paths: list[Path], site: np.ndarray) -> np.ndarray | None:
    """Climate of each sample's site, where a site list has a column of that name."""
    tables = [pd.read_parquet(p) if p.suffix == ".parquet" else pd.read_csv(p) for p in paths if p.suffix != ".xlsx"]
    tables = [t for t in tables if {"site", "climate"} <= set(t.columns)]
    if not tables:
        return None
    known = pd.concat(tables).drop_duplicates("site").set_index("site")["climate"]
    return pd.Series(site).map(known).fillna("unknown").astype(str).to_numpy()


# ------------------------------------------------------------------------------------------------- in the run folder
def thin(inputs: Inputs) -> Inputs:
    """A small version for ``--smoke``: every fourth row and column of a fine grid, every 40th of many tower days."""
    fine = inputs.grid.sizes["lat"] > 100
    part = slice(1, None, 4) if fine else slice(None)
    grid = inputs.grid.isel(lat=part, lon=part).assign_attrs(inputs.grid.attrs | {"thinned": int(fine)})
    days = 40 if inputs.towers.sizes["sample"] > 20_000 else 1
    chosen = inputs.towers.isel(sample=slice(None, None, days))
    return Inputs(chosen.assign_attrs(inputs.towers.attrs | {"smoke": 1}), grid, inputs.target)


def save_inputs(inputs: Inputs, folder: Path) -> None:
    """Write the inputs as netCDF, a grid in ``time`` as Zarr (where :func:`make_grid` has not written it already)."""
    inputs.towers.to_netcdf(folder / "towers.nc")
    inputs.target.to_netcdf(folder / "target.nc")
    if not (folder / "grid.zarr").exists():
        inputs.grid.to_netcdf(folder / "grid.nc")
    elif inputs.grid.attrs.get("thinned"):
        replace_grid(inputs.grid, folder)


def open_inputs(folder: Path, **chunks: int) -> Inputs:
    """Read the inputs that :func:`save_inputs` wrote; a grid in ``time`` stays on disk, in its chunks or in these."""

    def load(name: str) -> xr.Dataset:
        with netcdf(folder / name, "an input of a run") as dataset:
            return dataset.load()

    if (folder / "grid.zarr").exists():
        grid = open_grid(folder / "grid.zarr", **chunks)
        grid = grid if grid.nbytes > IN_MEMORY else grid.load()
    else:
        grid = load("grid.nc")
    return Inputs(load("towers.nc"), grid, load("target.nc")["target"])
