"""What a study file points at: towers at their drivers, the driver grid, and the regional target."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux import drivers, temporal, towers
from xflux.study.config import StudyConfig, StudyError, Target


@dataclass(frozen=True)
class Inputs:
    """Everything that training and evaluation read, opened from the run folder."""

    towers: xr.Dataset
    """dim sample: nee (gC m-2 d-1), one variable a driver; coords site, time, lat, lon, igbp."""
    grid: xr.Dataset
    """drivers over (month, lat, lon) or (lat, lon), and land_fraction."""
    target: xr.DataArray
    """(inversion, region, time) PgC month-1."""

    @property
    def land_fraction(self) -> xr.DataArray:
        """Land share of each cell (lat, lon)."""
        return self.grid["land_fraction"]

    @property
    def driver_grid(self) -> xr.Dataset:
        """The grid's drivers alone."""
        return self.grid.drop_vars("land_fraction")

    @property
    def drivers(self) -> list[str]:
        """Names of the drivers, in the model's order."""
        return list(self.driver_grid.data_vars)


def input_files(config: StudyConfig) -> dict[str, Path]:
    """Key of the study file → the file that it names; an error lists all that are missing."""
    folder = config.data_folder()
    named = {
        "towers.table": config.towers.table,
        "towers.sites": config.towers.sites,
        "drivers.base": config.drivers.base,
        "drivers.land_fraction": config.drivers.land_fraction,
        "target.file": config.target.file,
        "bridge.file": config.bridge.file,
        "evaluation.truth.file": config.evaluation.truth.file if config.evaluation.truth else None,
    }
    for comparison in config.evaluation.maps:
        named[f"evaluation.maps ({comparison.name})"] = comparison.file
    if config.evaluation.budget:
        named["evaluation.budget.file"] = config.evaluation.budget.file
    files = {key: folder / name for key, name in named.items() if name}
    missing = [f"  {key} = {str(path)!r}" for key, path in files.items() if not path.exists()]
    if missing:
        raise StudyError(
            "these files of the study do not exist:\n"
            + "\n".join(missing)
            + f"\npaths are relative to the data folder {str(folder)!r}"
        )
    return files


def check_variables(config: StudyConfig, files: dict[str, Path]) -> None:
    """Open every file's header and name each column, variable or coordinate value that the study needs and it lacks."""
    wanted = [("target.file", config.target.variable), ("drivers.land_fraction", config.drivers.land_fraction_variable)]
    wanted += [(f"evaluation.maps ({m.name})", m.variable) for m in config.evaluation.maps]
    wanted += [("bridge.file", config.bridge.variable)] if config.bridge.file else []
    wanted += [("evaluation.truth.file", config.evaluation.truth.variable)] if config.evaluation.truth else []
    problems = []
    for key, name in wanted:
        with xr.open_dataset(files[key]) as dataset:
            if name not in dataset:
                problems.append(
                    f"  {key}: no variable {name!r} in {files[key].name!r}, which has {sorted(dataset.data_vars)}"
                )
            elif key == "target.file":
                problems += _target_problems(config.target, dataset[name], files[key].name)
    if config.evaluation.budget:
        table = pd.read_csv(files["evaluation.budget.file"], nrows=1)
        problems += [
            f"  evaluation.budget.file: no column {name!r}, it has {list(table.columns)}"
            for name in ("Year", config.evaluation.budget.variable)
            if name not in table
        ]
    if problems:
        raise StudyError("the study's files lack what it needs:\n" + "\n".join(problems))


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


def read_target(target: Target, path: Path) -> xr.DataArray:
    """The regional target as (inversion, region, time) in PgC month-1; inversions without any value are left out.

    The region labels that tile the globe are kept: labels of the file that the region set does not have (wider
    bands that overlap the others) are dropped, and named in ``attrs["left_out"]``.
    """
    from xflux import regions

    with xr.open_dataset(path) as dataset:
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
    array = array.sel(region=kept)
    stacked = _one_ensemble_dim(array, target.ensemble_dims)
    stacked = stacked.dropna("inversion", how="all").transpose("inversion", "region", "time")
    amounts = temporal.convert_units(stacked, "PgC month-1").astype("float64")
    contents = {
        key: value
        for key, value in (("includes_fire", target.includes_fire), ("includes_rivers", target.includes_rivers))
        if value is not None
    }
    amounts.attrs |= {k: int(v) for k, v in contents.items()} | {
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


def seasonal(flux: xr.DataArray) -> xr.DataArray:
    """Mean seasonal cycle along ``month``; a climatology is one already."""
    return flux if "month" in flux.dims else temporal.mean_seasonal_cycle(flux)


def seasonal_target(target: xr.DataArray) -> xr.DataArray:
    """Mean seasonal cycle of every inversion, (inversion, region, month) PgC month-1."""
    return seasonal(target)


def make_grid(config: StudyConfig, files: dict[str, Path]) -> xr.Dataset:
    """Drivers on the grid, gap-filled at the coast, with the land fraction beside them."""
    with xr.open_dataset(files["drivers.base"]) as dataset:
        base = dataset.load()
    with xr.open_dataset(files["drivers.land_fraction"]) as dataset:
        fraction = dataset[config.drivers.land_fraction_variable].load()
    fraction = fraction.reindex(lat=base["lat"], lon=base["lon"], method="nearest", tolerance=1e-3)
    if bool(fraction.isnull().any()):
        raise StudyError(
            "drivers.land_fraction is not on the grid of drivers.base: "
            f"{fraction.sizes} cells do not match within 0.001 degree; regrid one of them first"
        )
    variant = config.drivers.variant
    made = base if variant == "none" else drivers.table_a2(base, variant=variant)
    names = config.drivers.variables or list(made.data_vars)
    missing = [name for name in names if name not in made]
    if missing:
        raise StudyError(f"drivers.variables: the grid has no {missing}; it has {sorted(made.data_vars)}")
    grid, _ = drivers.fill_nearest(made[names], fraction > 0, max_distance=config.drivers.fill_distance)
    grid["land_fraction"] = fraction.fillna(0.0).assign_attrs(units="1", long_name="land share of the cell")
    return grid


def read_tower_table(config: StudyConfig, files: dict[str, Path]) -> xr.Dataset:
    """Tower days of good quality, with the columns that stand in for drivers under the drivers' names."""
    table = towers.read_towers(
        files["towers.table"], qc=config.towers.qc, sites=files.get("towers.sites"), start=config.towers.start
    )
    missing = [own for own in config.towers.keep.values() if own not in table]
    if missing:
        raise StudyError(f"towers.keep: the tower table has no column {missing}; it has {sorted(table.data_vars)}")
    return table.rename({own: driver for driver, own in config.towers.keep.items() if own != driver})


def place_towers(config: StudyConfig, table: xr.Dataset, grid: xr.Dataset) -> xr.Dataset:
    """Tower days at the grid's drivers, the tower's own measurements standing in where named; complete days only."""
    drivers_only = grid.drop_vars("land_fraction")
    unknown = sorted(set(config.towers.keep) - set(map(str, drivers_only.data_vars)))
    if unknown:
        raise StudyError(f"towers.keep: the grid has no driver {unknown}; it has {sorted(drivers_only.data_vars)}")
    placed = towers.colocate(
        table, drivers_only, max_distance=config.towers.max_distance, keep=list(config.towers.keep)
    )
    placed = placed[["nee", *drivers_only.data_vars]]
    complete = np.logical_and.reduce([np.isfinite(placed[name].values) for name in placed.data_vars])
    placed.attrs["rows_without_drivers"] = int((~complete).sum())
    return placed.isel(sample=np.flatnonzero(complete))


def thin(inputs: Inputs) -> Inputs:
    """A small version for ``--smoke``: every fourth row and column of the grid, every fortieth tower day."""
    grid = inputs.grid.isel(lat=slice(1, None, 4), lon=slice(1, None, 4))
    return Inputs(inputs.towers.isel(sample=slice(None, None, 40)), grid, inputs.target)


def save_inputs(inputs: Inputs, folder: Path) -> None:
    """Write the inputs as netCDF."""
    inputs.towers.to_netcdf(folder / "towers.nc")
    inputs.grid.to_netcdf(folder / "grid.nc")
    inputs.target.to_netcdf(folder / "target.nc")


def open_inputs(folder: Path) -> Inputs:
    """Read the inputs that :func:`save_inputs` wrote."""

    def load(name: str) -> xr.Dataset:
        with xr.open_dataset(folder / name) as dataset:
            return dataset.load()

    return Inputs(load("towers.nc"), load("grid.nc"), load("target.nc")["target"])
