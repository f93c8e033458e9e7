"""NetCDF towers: a file a site as PLUMBER2 and FluxnetLSM write it (fluxes and weather apart), or several in one.

Source: Ukkola et al. (2022, doi:10.5194/essd-14-449-2022): dims (time, y, x), one cell, ALMA names, flags of 0 and 1
where a half hour was measured or gap-filled well, ``latitude``, ``longitude`` and ``IGBP_veg_short`` as variables.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.reading import check_size
from xflux.temporal import time_bounds
from xflux.towers import plain
from xflux.towers.averages import to_days
from xflux.towers.colocation import converted
from xflux.towers.fluxnet import SITE, column_table
from xflux.towers.sites import SITE_COLUMNS
from xflux.towers.values import CARBON, as_numbers, check_direction, daily_rate
from xflux.values import decoded

SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf")
_SITE_ATTRS = ("site_code", "site_id", "fluxnet_id", "fluxnet_site_code", "site_name")
_IGBP = ("IGBP_veg_short", "igbp", "IGBP", "IGBP_class")
_PER_STEP = ("mm", "kgm-2", "kg/m2")
_WITHIN = {pd.Timedelta("30min"): 48, pd.Timedelta("1h"): 24}


def read(name: str, source: Path, variable, variables, units: Mapping[str, str], dayfirst=None) -> pd.DataFrame:
    """One file as a harmonised frame (see ``fluxnet.read``); one without any target has none in its attrs: weather."""
    with xr.open_dataset(source) as opened:
        check_size(source, opened.nbytes)
        ds = opened.load()
    if "time" not in ds.variables or ds["time"].ndim != 1 or ds["time"].dtype.kind != "M":
        raise ValueError(
            f"{source.name}: expected dates of the standard calendar in a variable 'time' of one dimension"
        )
    if any(n in ds.variables and ds[n].dims == ds["time"].dims for n in ("site", "site_id")):
        own = {
            str(n): v.attrs["units"] for n, v in ds.variables.items() if "units" in v.attrs and n not in ("lat", "lon")
        }
        table = ds[[n for n, v in ds.variables.items() if v.dims == ds["time"].dims]].to_dataframe()
        return plain.read(name, table.reset_index(drop=True), variable or _default(ds), variables, own | dict(units))
    targets = dict(variable) if isinstance(variable, Mapping) else {"nee": variable or _default(ds)}
    targets = {t: c for t, c in targets.items() if c in ds}
    wanted = _columns(ds, targets, tuple(variables or ()))
    step_dim = ds["time"].dims[0]
    parts = [_one_site(site, source, wanted, units, step_dim, targets) for site in _sites(ds, step_dim)]
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {**parts[0].attrs, "source": name, "targets": list(targets), "header": [*map(str, ds.variables)]}
    return table


def join(tables: list[pd.DataFrame], targets: str) -> list[pd.DataFrame]:
    """The frames that have targets, with the columns of those that have none (weather) by site and time."""
    fluxes = [t for t in tables if t.attrs["targets"]]
    weather = [t for t in tables if not t.attrs["targets"]]
    if not fluxes:
        has = sorted({str(c) for t in tables for c in t.attrs["header"]})
        raise KeyError(f"no file has {targets}; they have {', '.join(has[:30])}. Choose with variable=")
    if not weather:
        return fluxes
    beside = pd.concat(weather).drop(columns=["lat", "lon", "igbp"], errors="ignore").drop_duplicates(["site", "time"])
    out = []
    for table in fluxes:
        new = ["site", "time", *beside.columns.difference(table.columns)]
        joined = table.merge(beside[new], on=["site", "time"], how="left")
        about = {k: {**weather[0].attrs[k], **table.attrs[k]} for k in ("units", "long_names")}
        joined.attrs = {**table.attrs, **about, "header": [*table.attrs["header"], *weather[0].attrs["header"]]}
        out.append(joined)
    return out


def _default(ds: xr.Dataset) -> str:
    return next((str(n) for n in ds.data_vars if str(n).lower() == "nee"), "NEE_VUT_REF")


def _columns(ds: xr.Dataset, targets: Mapping[str, str], more: tuple[str, ...]) -> dict[str, str]:
    """Our name → the file's variable: targets and weather, each with its flag."""
    known = {ours: next((c for c in names if c in ds), None) for ours, names in column_table()["netcdf"].items()}
    wanted = dict(targets) | {k: c for k, c in known.items() if c is not None and k not in targets}
    for ours, theirs in list(wanted.items()):
        flag = next((f for f in (f"{theirs}_qc", f"{theirs}_QC", f"{theirs}_QCFlag") if f in ds), None)
        wanted |= {f"{ours}_qc": flag} if flag else {}
    return wanted | {c: c for c in more if c in ds}


def _sites(ds: xr.Dataset, step_dim: str) -> list[xr.Dataset]:
    """The file's sites one by one, without dims of one cell."""
    ds = ds.squeeze([d for d, n in ds.sizes.items() if n == 1 and d != step_dim and not ds[d].dtype.kind == "S"])
    along = {d for v in ds.data_vars.values() if step_dim in v.dims for d in v.dims} - {step_dim}
    if len(along) > 1:
        raise ValueError(f"towers have dims (time) or (time, site); found also {', '.join(sorted(map(str, along)))}")
    if not along:
        return [ds]
    (dim,) = along
    return [ds.isel({dim: i}) for i in range(ds.sizes[dim])]


def _one_site(ds: xr.Dataset, source: Path, wanted: Mapping, units: Mapping, step_dim: str, targets: Mapping):
    known = {k: decoded(ds[c]).to_series() for k, c in wanted.items() if ds[c].dims == (step_dim,)}
    frame = pd.DataFrame({k: as_numbers(x, source.name, k in targets).to_numpy(float) for k, x in known.items()})
    given = {k: units.get(c, units.get(k, ds[c].attrs.get("units"))) for k, c in wanted.items() if k in frame}
    time, per_day = _steps(ds)
    if per_day > 1:
        sums = [k for k in frame if (given[k] or "").replace(" ", "") in _PER_STEP]
        frame, time = to_days(frame, time, per_day, sums, targets)
        given |= {k: f"{given[k]} d-1" for k in sums if k not in targets}
    step = time.diff().min() if len(time) > 1 else pd.Timedelta("1D")
    if pd.Timedelta("1D") < step < pd.Timedelta("28D"):
        raise ValueError(f"{source.name} has steps of {step}: half hours, hours, days and months are read")
    _check_targets(ds, source, {k: c for k, c in targets.items() if k in frame}, given)
    _convert(ds, frame, given, targets, time if step >= pd.Timedelta("28D") else None)
    place = {"lat": _number(ds, "lat"), "lon": _number(ds, "lon"), "igbp": _text(ds, _IGBP)}
    out = frame.assign(site=_site(ds, source), time=time, **place)
    out.attrs = {
        "units": {k: u for k, u in given.items() if u} | {k: "1" for k in frame if k.endswith("_qc")},
        "long_names": {k: str(ds[c].attrs.get("long_name", c)) for k, c in wanted.items()},
        "time_step": "month" if step >= pd.Timedelta("28D") else "day",
    }
    return out


def _check_targets(ds: xr.Dataset, source: Path, targets: Mapping, given: Mapping) -> None:
    for target, column in targets.items():
        check_direction(target, column, source.name, ds[column].attrs)
        if given.get(target) is None and CARBON.match(column):
            raise ValueError(
                f"{source.name}: {column} has no units; say them, e.g. units={{{column!r}: 'umolCO2 m-2 s-1'}}"
            )


def _convert(ds: xr.Dataset, frame: pd.DataFrame, given: dict, targets: Mapping, months: pd.Series | None) -> None:
    """Targets as rates per day, weather in the units of the table of tower variables; in place, with ``given``."""
    known = column_table()["variables"]
    for name in [k for k in frame if not k.endswith("_qc")]:
        have, want = given.get(name), known.get(name, {}).get("units")
        if name in targets:
            scale, given[name] = daily_rate(have, targets[name], months=months, attrs=ds[targets[name]].attrs)
            frame[name] = frame[name] * scale
        elif have and want and have != want:
            with contextlib.suppress(ValueError):  # what cannot be converted keeps its own units
                frame[name] = converted(xr.DataArray(frame[name].to_numpy(), name=name), have, want).values
                given[name] = want


def _steps(ds: xr.Dataset) -> tuple[pd.Series, int]:
    """Start of every step, from bounds where the file has them, and how many make a day (1: days or longer)."""
    time = pd.Series(ds["time"].values)
    step = time.diff().min() if len(time) > 1 else pd.Timedelta("1D")
    named = ds["time"].attrs.get("bounds") or ds["time"].encoding.get("bounds")
    if named in ds.variables and ds["time"].dims == ("time",):
        time = pd.Series(time_bounds(ds).values[:, 0])
    elif (
        step in _WITHIN
        and time.iloc[0] == time.iloc[0].normalize() + step
        and time.iloc[-1].normalize() == time.iloc[-1]
    ):
        time = time - step  # from 00:30 to 24:00: whole days by the ends of their half hours
    return time, _WITHIN.get(step, 1)


def _site(ds: xr.Dataset, source: Path) -> str:
    """The site's code: a coordinate of the site's dim, a global attribute, or the file's name."""
    own = _text(ds, ("site", "site_id", "site_code", "station"))
    named = next((str(ds.attrs[a]).strip() for a in _SITE_ATTRS if ds.attrs.get(a)), "")
    found = SITE.search(source.name)
    code = own or (named if SITE.fullmatch(named) or not found else found.group(1))
    if not code:
        raise ValueError(
            f"{source.name}: no site code in its name, its attributes ({', '.join(_SITE_ATTRS)}) or variables"
        )
    return code


def _number(ds: xr.Dataset, what: str) -> float:
    found = next((n for n in ds.variables if str(n).lower() in SITE_COLUMNS[what] and ds[n].size == 1), None)
    said = next((v for n, v in ds.attrs.items() if str(n).lower() in SITE_COLUMNS[what]), np.nan)
    with contextlib.suppress(ValueError, TypeError):  # text that is no number
        return float(ds[found].values.item() if found is not None else said)
    return np.nan


def _text(ds: xr.Dataset, names: tuple[str, ...]) -> str:
    """Text of a variable (characters are joined) or attribute."""
    name = next((n for n in names if n in ds.variables and ds[n].dtype.kind in "SUO"), None)
    if name is None:
        return next((str(ds.attrs[n]).strip() for n in names if n in ds.attrs), "")
    parts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.ravel(ds[name].values)]
    return "".join(parts).replace("\x00", "").strip()
