"""Several files → one Dataset: along time in any order, by variable, inversion, member or experiment; and its land."""

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.catalogue import times
from xflux.catalogue.table import Product, ProductError
from xflux.cells import locate, positions
from xflux.display import some_of
from xflux.reading import netcdf
from xflux.values import LAND_NAMES, shares

_OPTIONS = {"compat": "override", "combine_attrs": "drop_conflicts", "coords": "minimal"}


def labels_of(path: Path, product: Product) -> dict[str, str]:
    """What the file's name says about it: ``member`` (a model or an inversion) and ``experiment``."""
    for pattern in product.label:
        found = re.search(pattern, path.name)
        if found:
            return {k: v for k, v in found.groupdict().items() if v}
    return {}


def combine(opened: list[tuple[Path, dict[str, str], xr.Dataset]], product: Product) -> tuple[xr.Dataset, list[str]]:
    """All files of one call as one Dataset, and what the caller should be warned of. Duplicate steps raise by name."""
    notes: list[str] = []
    groups = defaultdict(list)
    for path, label, ds in opened:
        groups[(label.get("experiment", ""), label.get("member", ""))].append((path, ds))
    groups = _without_statistics(groups, product, notes)
    parts = {key: _one_member(members, product, notes) for key, members in groups.items()}
    _check_grids(parts, product)
    experiments = list(dict.fromkeys(e for e, _ in parts))
    several = len({member for _, member in parts}) > 1  # one experiment may have a single member, the next has more
    stacked = [
        _stack({m: ds for (e, m), ds in parts.items() if e == name}, product.ensemble, several) for name in experiments
    ]
    return _stack(dict(zip(experiments, stacked, strict=True)), "experiment"), list(dict.fromkeys(notes))


def _without_statistics(groups: dict, product: Product, notes: list[str]) -> dict:
    """Without ensemble means and spreads, unless nothing else was asked for: they are no members."""
    statistics = {key for key in groups if key[1] in product.statistics}
    if not statistics or len(statistics) == len(groups):
        return groups
    names = ", ".join(sorted({member for _, member in statistics}))
    notes.append(f"{product.name}: {names} left out: statistics of the ensemble, not members of it")
    return {key: files for key, files in groups.items() if key not in statistics}


def only(ds: xr.Dataset, names: Collection[str]) -> xr.Dataset:
    """``ds`` with these data variables and all its coordinates (``ds[names]`` would lose the bounds)."""
    return ds.drop_vars([v for v in ds.data_vars if v not in names])


def _stack(parts: dict[str, xr.Dataset], dim: str, several: bool = False) -> xr.Dataset:
    """Concatenated along ``dim``; one part alone gets no dim, only a scalar coordinate with its label."""
    if len(parts) == 1 and not several:
        label, ds = next(iter(parts.items()))
        return ds.assign_coords({dim: label}) if label and dim not in ds.dims else ds
    if any(dim in ds.dims for ds in parts.values()):
        raise ProductError(f"files of {', '.join(parts)} hold several of {dim!r} each: open one at a time")
    _check_calendars(parts, dim)
    index = xr.IndexVariable(dim, np.array([str(p) for p in parts]))  # pandas' own text type does not join
    joined = xr.concat(list(parts.values()), dim=index, join="outer", data_vars="all", **_OPTIONS)
    joined = _own_bounds(joined, list(parts.values()))
    return joined.assign({n: v.transpose(dim, ...) for n, v in joined.data_vars.items() if dim in v.dims})


def _own_bounds(joined: xr.Dataset, parts: list[xr.Dataset]) -> xr.Dataset:
    """Bounds of every step of the union of the parts' times."""
    if "time" not in joined.dims or not all("time_bnds" in p.coords for p in parts):
        return joined.drop_vars("time_bnds", errors="ignore")
    ends: dict = {}
    for start, end in (pair for p in parts for pair in p["time_bnds"].values):
        if ends.setdefault(start, end) != end:
            raise ProductError(
                f"steps of different length from {str(start)[:10]} (to {str(ends[start])[:10]} and to {str(end)[:10]})"
                ": open monthly, annual, … files one kind at a time"
            )
    bounds = np.array([[t, ends[t]] for t in joined["time"].values], dtype=joined["time"].dtype)
    return joined.assign_coords(time_bnds=(("time", "bnds"), bounds, parts[0]["time_bnds"].attrs))


def _one_member(files: list[tuple[Path, xr.Dataset]], product: Product, notes: list[str]) -> xr.Dataset:
    """All files of one inversion or model: each variable along time, then merged."""
    holders = defaultdict(list)  # the files that a variable is in → the variables that are in just these
    for name in dict.fromkeys(v for _, ds in files for v in ds.data_vars):
        holders[tuple(i for i, (_, ds) in enumerate(files) if name in ds.data_vars)].append(name)
    series = [[(files[i][0], only(files[i][1], names)) for i in where] for where, names in holders.items()]
    joined = [_along_time(part, product, notes) for part in series]
    if len(joined) == 1:
        return joined[0]
    joined = [joined[0], *(_snap(ds, joined[0], product, "its variables") for ds in joined[1:])]
    lengths = {tuple(ds.data_vars): ds.sizes.get("time") for ds in joined}
    if len({str(ds["time"].values) if "time" in ds.coords else "" for ds in joined}) > 1:
        notes.append(f"{product.name}: the variables cover different times ({lengths}): filled with NaN")
    alone = [d.drop_vars("time_bnds", errors="ignore") for d in joined]
    merged = xr.merge(alone, join="outer", compat="override", combine_attrs="drop_conflicts")
    return _own_bounds(merged, joined)


def _along_time(files: list[tuple[Path, xr.Dataset]], product: Product, notes: list[str]) -> xr.Dataset:
    """Files of the same variables, in the order of their dates."""
    if len(files) == 1:
        return _note_gaps(_in_order(files[0][1]), product, notes)
    if any("time" not in ds.dims for _, ds in files):
        names = some_of([path.name for path, _ in files], 6)
        raise ProductError(f"{product.name}: {len(files)} files hold the same variables without time: {names}")
    _check_duplicates(files, product)
    _check_calendars({path.name: ds for path, ds in files}, "files")
    files = sorted(files, key=lambda f: f[1]["time"].values[0])
    first = files[0][1]
    parts = [first, *(_snap(ds, first, product, f"{path.name}") for path, ds in files[1:])]
    joined = xr.concat(parts, dim="time", data_vars="minimal", join="override", **_OPTIONS)
    if "time_bnds" in first.coords:
        joined = _own_bounds(joined.drop_vars("time_bnds"), parts)
    elif step := times.find_step(joined["time"], product, ""):
        bounds = times.step_bounds(joined["time"], step, product.stamp)
        axis = ("time", bounds[:, 0], {"bounds": "time_bnds"})
        joined = joined.assign_coords(time=axis, time_bnds=(("time", "bnds"), bounds))
    return _note_gaps(_in_order(joined), product, notes)


def _in_order(ds: xr.Dataset) -> xr.Dataset:
    """Steps in the order of time."""
    return ds if "time" not in ds.dims or ds.indexes["time"].is_monotonic_increasing else ds.sortby("time")


def _check_duplicates(files: list[tuple[Path, xr.Dataset]], product: Product) -> None:
    seen: dict = {}
    for path, ds in files:
        for t in ds["time"].values:
            if t in seen:
                raise ProductError(
                    f"{product.name}: {str(t)[:10]} is in two files, {seen[t]} and {path.name}; "
                    "give each step once (or each inversion its own label: paths={'label': …})"
                )
            seen[t] = path.name


def _check_calendars(parts: dict[str, xr.Dataset], dim: str) -> None:
    calendars = {str(k): ds["time"].dt.calendar for k, ds in parts.items() if "time" in ds.dims}
    if len(set(calendars.values())) > 1:
        raise ProductError(f"different calendars along {dim}: {calendars}; open them one at a time")


def _check_grids(parts: dict, product: Product) -> None:
    """All members on one grid, or an error that lists the grids."""
    grids = defaultdict(list)
    for (experiment, member), ds in parts.items():
        lat, lon = ds["lat"].values, ds["lon"].values
        grids[f"{lat.size} × {lon.size} from ({lat[0]:g}, {lon[0]:g})"].append(" ".join((experiment, member)).strip())
    if len(grids) > 1:
        raise ProductError(
            f"{product.name}: the files are on different grids: "
            + "; ".join(f"{grid}: {', '.join(who)}" for grid, who in grids.items())
            + ". Open each grid by itself (aggregate_regions makes them comparable), or regrid first"
        )


def _snap(ds: xr.Dataset, to: xr.Dataset, product: Product, what: str) -> xr.Dataset:
    """``ds`` with the coordinates of ``to``; equal to a hundredth of a cell (float32 jitter), else an error."""
    for dim in ("lat", "lon"):
        a, b = ds[dim].values, to[dim].values
        if a.shape != b.shape or (locate(a, b, dim, 0.01) != np.arange(b.size)).any():
            raise ProductError(
                f"{product.name}: {what} has another {dim} ({a.size} from {a[0]:g} to {a[-1]:g}) "
                f"than the first file ({b.size} from {b[0]:g} to {b[-1]:g})"
            )
    return ds.assign_coords(lat=to["lat"], lon=to["lon"])


def _note_gaps(ds: xr.Dataset, product: Product, notes: list[str]) -> xr.Dataset:
    """``ds``; notes the missing stretches of time by their dates."""
    if "time_bnds" not in ds.coords or ds.sizes["time"] < 2:
        return ds
    bounds = ds["time_bnds"].values
    holes = [(str(e)[:10], str(s)[:10]) for e, s in zip(bounds[:-1, 1], bounds[1:, 0], strict=True) if s > e]
    if holes:
        notes.append(f"{product.name}: there is no data from {some_of([f'{a} to {b}' for a, b in holes], 5)}")
    return ds


_NAMES = (*LAND_NAMES, "lf")
_RENAME = {"latitude": "lat", "longitude": "lon", "y": "lat", "x": "lon"}


def with_land_fraction(ds: xr.Dataset, source: str | Path | xr.DataArray | xr.Dataset) -> xr.Dataset:
    """``ds`` with the coordinate ``land_fraction`` (lat, lon), 0–1, matched cell by cell to its grid."""
    fraction = land_fraction_in(source)
    fraction = fraction.rename({k: v for k, v in _RENAME.items() if k in fraction.dims}).squeeze(drop=True)
    if set(fraction.dims) != {"lat", "lon"}:
        raise ProductError(f"land_fraction needs the dims lat and lon, got {fraction.dims}")
    try:
        rows, columns = positions(fraction, ds, of="the land fraction's grid")
        values = shares(fraction.transpose("lat", "lon"))[np.ix_(rows, columns)]
    except ValueError as problem:
        raise ProductError(str(problem)) from None
    attrs = {"units": "1", "long_name": "share of the cell that is land"}
    return ds.assign_coords(land_fraction=(("lat", "lon"), values, attrs))


def land_fraction_in(source: str | Path | xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The land fraction of a file, by its name or as its only map."""
    if isinstance(source, xr.DataArray):
        return source
    if isinstance(source, xr.Dataset):
        return _fraction_in(source)
    with netcdf(source, "a land fraction in netCDF") as opened:
        return _fraction_in(opened).load()


def _fraction_in(opened: xr.Dataset) -> xr.DataArray:
    two_d = [v for v in opened.data_vars if opened[v].ndim >= 2]
    named = [v for v in two_d if str(v).lower() in _NAMES] or two_d
    if len(named) != 1:
        raise ProductError(f"which variable is the land fraction? found {', '.join(map(str, opened.data_vars))}")
    return opened[named[0]]
