"""Base variables as a study file asks for them: opened lazily, on a coarser grid, of single years by anomalies."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux import units
from xflux.cells import regrid, same_grid, standardise
from xflux.drivers.landcover import class_shares
from xflux.reading import blamed_on, netcdf
from xflux.study.config import Anomalies, Drivers, StudyError
from xflux.study.published import on_cells

READ_AT_ONCE = 2**25
"""Bytes of a variable that are read at once: little enough for memory to be used again, not taken anew."""


def study_base(config: Drivers, files: dict[str, list[Path]]) -> list[xr.Dataset]:
    """The base variables of a study, lazily: every entry of ``drivers.base``, and those that anomalies give years."""
    base = open_base([files[key] for key in files if key.startswith("drivers.base.")])
    if config.resolution:
        base = coarse(base, config, land_share(config, files))
    return with_anomalies(base, config, files["drivers.anomalies.files"]) if config.anomalies else base


def land_share(config: Drivers, files: dict[str, list[Path]]) -> xr.DataArray:
    """Land share (lat, lon) of each cell, 0–1, on the cells of its file."""
    with netcdf(files["drivers.land_fraction"][0], "netCDF (drivers.land_fraction)") as dataset:
        fraction = standardise(dataset[config.land_fraction_variable]).load()
    percent = "%" in str(fraction.attrs.get("units")) or "percent" in str(fraction.attrs.get("units"))
    share = fraction.fillna(0.0) / (100.0 if percent else 1.0)
    if float(share.max()) > 1 + 1e-6 or float(share.min()) < 0:
        raise StudyError(
            f"drivers.land_fraction runs from {float(share.min()):g} to {float(share.max()):g}: expected 0–1 or percent"
        )
    return share.assign_attrs(units="1", long_name="land share of the cell").rename("land_fraction")


# -------------------------------------------------------------------------------------------------- a coarser grid
def coarse(base: list[xr.Dataset], config: Drivers, land: xr.DataArray) -> list[xr.Dataset]:
    """Means over the cells of a regular grid of ``drivers.resolution`` degrees, weighted by land."""
    step = float(config.resolution)
    grid = xr.Dataset(coords={"lat": np.arange(-90 + step / 2, 90, step), "lon": np.arange(-180 + step / 2, 180, step)})
    finest = max(abs(float(np.diff(part[axis].values[:2])[0])) for part in base for axis in ("lat", "lon"))
    if step < finest - 1e-6:
        raise StudyError(f"drivers.resolution = {step:g} degrees is finer than drivers.base, which has {finest:g}")
    land = land if same_grid(land, base[0]) else regrid(land, base[0])
    covers = {cover.variable for cover in config.cover}  # maps of classes become shares, which can be averaged
    parts = [part.assign({n: class_shares(part[n]) for n in covers & set(part) if part[n].ndim == 2}) for part in base]
    return [regrid(part, grid, area_basis="land", land_fraction=land) for part in parts]


# ------------------------------------------------------------------------------------------------ years by anomalies
def with_anomalies(base: list[xr.Dataset], config: Drivers, paths: list[Path]) -> list[xr.Dataset]:
    """Climatologies that have anomalies become months of single years (time, lat, lon); the others stay.

    The year before the first is there too, where the anomalies have it: memory and water balance begin there. A cell
    without an anomaly keeps its climatology.
    """
    asked = config.anomalies
    opened = xr.merge([_decoded(path) for path in paths], join="exact", compat="override")
    by_year, named = {}, {**asked.add, **asked.multiply}
    for name, variable in named.items():
        part = next((part for part in base if name in part), None)
        if part is None or "month" not in part[name].dims:
            has = sorted(str(n) for p in base for n, v in p.data_vars.items() if "month" in v.dims)
            raise StudyError(f"drivers.anomalies: {name!r} is no monthly climatology of drivers.base, which has {has}")
        if variable not in opened:
            raise StudyError(f"drivers.anomalies: no variable {variable!r}; the files have {sorted(opened.data_vars)}")
        field = _months(opened[variable], config.years, variable)
        field = field if same_grid(field, part) else regrid(field, part)
        field = field.assign_coords(lat=part["lat"], lon=part["lon"])
        field = _without_trend(field) if name in asked.detrend else field
        by_year[name] = _applied(part[name], field, name in asked.add, asked)
    kept = [part.drop_vars([n for n in named if n in part]) for part in base]
    return [part for part in kept if part.data_vars] + [xr.Dataset(by_year)]


def _decoded(path: Path) -> xr.Dataset:
    with blamed_on(path, "netCDF or Zarr (drivers.anomalies)", StudyError):
        opened = standardise(xr.open_zarr(path) if path.is_dir() else xr.open_dataset(path, chunks={}))
    if "time" not in opened.dims:
        raise StudyError(
            f"drivers.anomalies: {path.name} has the dims {tuple(opened.dims)}; time, lat and lon are needed"
        )
    return opened.drop_vars([c for c in opened.coords if c not in opened.dims])


def _months(field: xr.DataArray, years: tuple[int, int], name: str) -> xr.DataArray:
    """Every month from January of the year before the first, where it is there, to December of the last."""
    of = field["time"].dt.year.values * 100 + field["time"].dt.month.values
    known = np.unique(of // 100)
    annual = len(known) == len(of)
    first = years[0] - 1 if years[0] - 1 in known else years[0]
    time = pd.date_range(f"{first}-01-01", f"{years[1]}-12-01", freq="MS")
    wanted = time.year.values if annual else time.year.values * 100 + time.month.values
    place = {int(when): i for i, when in enumerate(of // 100 if annual else of)}
    if len(place) < len(of):
        raise StudyError(f"drivers.anomalies: {name!r} has a month twice; anomalies are by month or by year")
    lacking = sorted({int(w) if annual else int(w) // 100 for w in wanted.tolist() if w not in place})
    if lacking:
        raise StudyError(
            f"drivers.years = {list(years)}: the anomalies of {name!r} lack {lacking[0]}"
            f"{f' to {lacking[-1]}' if len(lacking) > 1 else ''}; they cover {known[0]}-{known[-1]}"
        )
    return field.isel(time=[place[int(w)] for w in wanted]).assign_coords(time=time)


def _without_trend(field: xr.DataArray) -> xr.DataArray:
    """Less the linear trend of every cell, about its mean."""
    when = field["time"].astype("int64") / 1e9
    when = when - when.mean()
    slope = (field * when).mean("time") / (when**2).mean("time")
    return (field - slope * when).transpose(*field.dims).assign_attrs(field.attrs)


def _applied(climatology: xr.DataArray, anomaly: xr.DataArray, add: bool, asked: Anomalies) -> xr.DataArray:
    months = climatology.sel(month=anomaly["time"].dt.month).drop_vars("month")
    given, own = anomaly.attrs.get("units"), climatology.attrs.get("units")
    scale = 1.0
    if given is not None and (own is not None or not add):
        try:
            scale, _ = units.conversion(str(given), str(own) if add else "1")
        except ValueError as problem:
            what = f"is added to {climatology.name!r} in {own!r}" if add else "is a ratio"
            raise StudyError(f"drivers.anomalies: {anomaly.name!r} in {given!r} {what}: {problem}") from None
    if add:
        found = months + (anomaly * scale).fillna(0.0)
    else:
        found = months * (anomaly * scale).fillna(1.0).clip(max=asked.largest_ratio)
    return found.transpose("time", "lat", "lon").rename(climatology.name).assign_attrs(climatology.attrs)


# --------------------------------------------------------------------------------------------------------- the files
def open_base(groups: list[list[Path]]) -> list[xr.Dataset]:
    """Base variables of every group of files, lazily; the files of a group follow each other in time."""
    found = [_open_group(paths) for paths in groups]
    return [on_cells(part, found[0], paths[0].name) for paths, part in zip(groups, found, strict=True)]


def _open_group(paths: list[Path]) -> xr.Dataset:
    parts = [_open_one(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if {"lat", "lon"} - set(part.dims):
            raise StudyError(f"drivers.base: {path.name} has the dims {tuple(part.dims)}; lat and lon are needed")
    if len(parts) == 1:
        return parts[0]
    if not all("time" in part.dims for part in parts):
        names = ", ".join(path.name for path in paths[:4])
        raise StudyError(
            f"drivers.base: one entry names several files ({names}), which have no time to follow each other in; "
            "give each its own entry: base = ['a.nc', 'b.nc']"
        )
    parts = sorted(parts, key=lambda part: part["time"].values[0])
    joined = xr.concat(parts, "time", data_vars="minimal", coords="minimal", compat="override", join="exact")
    twice = joined.get_index("time").duplicated()
    if twice.any():
        raise StudyError(f"drivers.base: {paths[0].name} …: {joined['time'].values[twice][0]} comes twice")
    return joined


def _open_one(path: Path) -> xr.Dataset:
    with blamed_on(path, "netCDF or Zarr (drivers.base)", StudyError):
        opened = xr.open_zarr(path) if path.is_dir() else _in_chunks(path)
        if "valid_time" in opened.dims and "time" not in opened.dims:  # ERA5 of the new data store
            opened = opened.rename(valid_time="time")
        opened = standardise(opened)
        kept = [n for n, v in opened.data_vars.items() if {"lat", "lon"} <= set(v.dims) and v.dtype.kind in "fiu"]
        return opened[kept].drop_vars([c for c in opened.coords if c not in opened[kept].dims], errors="ignore")


def _in_chunks(path: Path) -> xr.Dataset:
    """A file in chunks as it is stored; of few steps where it is stored whole."""
    opened = xr.open_dataset(path, chunks={})
    axis = next((d for d in ("time", "valid_time") if d in opened.dims), None)
    fields = [field for field in opened.data_vars.values() if axis in field.dims]
    largest = max(fields, key=lambda field: field.nbytes, default=None)  # bounds and the like are stored whole anyway
    if largest is None or not largest.encoding.get("contiguous"):
        return opened
    return xr.open_dataset(path, chunks={axis: max(1, READ_AT_ONCE * opened.sizes[axis] // max(1, largest.nbytes))})
