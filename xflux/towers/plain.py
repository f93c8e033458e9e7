"""Plain tables (CSV, parquet): one row a sample, columns like site, time, NEE, NEE_QC, Tair, lat, lon, IGBP."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from xflux.towers.fluxnet import PERCENTILES, UNCERTAINTIES, column_table
from xflux.towers.sites import column_named
from xflux.towers.text import read_dates, table_of
from xflux.towers.values import LOWEST, as_numbers, check_direction, daily_rate
from xflux.values import warn

_TIMES = ("time", "date", "datetime", "timestamp")
_SUFFIX = re.compile(r"_(day|night|month|fill|mean)$")
_OTHER_UNITS = re.compile(r"mol|(^|_)[mk]g|gco2", re.IGNORECASE)


def read(
    name: str, source: pd.DataFrame | Path, variable, variables, units: Mapping[str, str], dayfirst: bool | None = None
) -> pd.DataFrame:
    """One plain table as a harmonised frame (see ``fluxnet.read`` for its form)."""
    table = source.copy() if isinstance(source, pd.DataFrame) else _load(source)
    if any(table.index.names):
        table = table.reset_index()  # dates, or sites and dates, as pandas likes them
    header = list(map(str, table.columns))
    lower = {str(c).lower(): c for c in reversed(list(table.columns))}
    time = next((lower[t] for t in _TIMES if t in lower), None)
    site = column_named(table.columns, "site")
    if time is None or site is None:
        raise KeyError(
            f"{os.path.basename(name)} needs a column 'site' and a column 'time'; it has "
            f"{', '.join(map(str, table.columns[:15]))}. FLUXNET files have TIMESTAMP or TIMESTAMP_START"
        )
    targets = variable if isinstance(variable, Mapping) else {"nee": variable or lower.get("nee", "NEE")}
    wanted = [*targets.values(), *(variables or ())]
    missing = [c for c in wanted if c not in table]
    if missing:
        raise KeyError(
            f"{os.path.basename(name)} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )
    rename = {site: "site", time: "time"} | {column: target for target, column in targets.items()}
    for target, column in targets.items():
        flag = next((c for c in (f"{column}_QC", f"{column}_qc") if c in table), None)
        rename |= {flag: f"{target}_qc"} if flag else {}
    spread = {target: _uncertainties(table, target, column, rename, wanted) for target, column in targets.items()}
    rename |= {theirs: ours for found in spread.values() for theirs, ours in found.items()}
    for what in ("lat", "lon", "igbp"):
        found = column_named(table.columns, what)
        rename |= {found: what} if found else {}
    out_units = {
        rename.get(c, c): u
        for c in table
        if (u := units.get(c) or units.get(rename.get(c)) or _known_units(str(c))) is not None
    }
    table = table.dropna(subset=[site, time], how="all")  # spreadsheets save empty rows
    when = read_dates(table[time], f"{os.path.basename(name)}, column {time}", dayfirst)
    table = _tidy(table.rename(columns=rename).assign(site=table[site].astype(str).str.strip(), time=when))
    for own in {"lat", "lon", *(f"{target}_qc" for target in targets)} & set(table.columns):
        table[own] = as_numbers(table[own], name)
    step = _time_step(table, name)
    for target, column in targets.items():
        check_direction(target, column, name)
        if target not in out_units and _OTHER_UNITS.search(column):
            raise ValueError(
                f"{os.path.basename(name)}: {column} speaks of other units than gC m-2 d-1; say them, e.g. "
                f"units={{{column!r}: 'umolCO2 m-2 s-1'}}"
            )
        unit = out_units.get(target, "gC m-2 d-1")
        for own in (target, *spread[target].values()):  # an uncertainty has the units of what it belongs to
            months = table["time"] if step == "month" else None
            scale, out_units[own] = daily_rate(out_units.get(own, unit), column, months=months)
            table[own] = as_numbers(table[own], name, flux=own == target) * scale
    table.attrs = {"source": name, "targets": list(targets), "units": out_units, "long_names": {}}
    table.attrs |= {"time_step": step, "header": header}
    return table


def _uncertainties(table: pd.DataFrame, target: str, column: str, taken: Mapping, keep: list[str]) -> dict[str, str]:
    """Columns such as NEE_RANDUNC and NEE_25, and their names beside the target, as FLUXNET files have them."""
    names = {f"{column}_{k}": f"{target}_{k.lower()}" for k in (*UNCERTAINTIES, *PERCENTILES, "SE")}
    return {
        c: n for c, n in names.items() if c in table and c not in taken and c not in keep and (n == c or n not in table)
    }


def _load(path: Path) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix in (".csv", ".txt", ".tsv", ".dat", ".gz", ".zip"):
        return table_of(path)
    raise ValueError(f"{path.name}: a tower table is CSV, parquet or netCDF, got {suffix!r}")


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    """−9999 to NaN in numbers, categories to text."""
    for column in table.columns:
        values = table[column]
        if pd.api.types.is_bool_dtype(values):
            continue
        if pd.api.types.is_numeric_dtype(values):
            table[column] = values.where(values > LOWEST) if (values <= LOWEST).any() else values
        elif not pd.api.types.is_datetime64_any_dtype(values):
            table[column] = values.astype(object).where(values.notna(), "")
    return table


def _known_units(column: str) -> str | None:
    """Units of a column by its name; a share such as NEE_QC is "1"."""
    if "_QC" in column.upper():
        return "1"
    known = column_table()["plain"]
    return known.get(column) or known.get(_SUFFIX.sub("", column))


def _time_step(table: pd.DataFrame, name: str) -> str:
    """ "day" or "month", from the smallest step within a site."""
    steps = table.sort_values(["site", "time"]).groupby("site")["time"].diff().dropna()
    step = steps[steps > pd.Timedelta(0)].min() if len(steps) else pd.NaT
    if step is not pd.NaT and step < pd.Timedelta("20h"):
        raise ValueError(
            f"{os.path.basename(name)} has steps of {step}: average it to days first, or give the FLUXNET HH/HR file "
            "as published, whose half-hourly flags make the daily quality"
        )
    if pd.Timedelta("4D") < step < pd.Timedelta("27D"):
        warn(
            f"{os.path.basename(name)} has a sample every {step.days} days at most: each is taken for its one day. "
            f"Means over {step.days} days meet drivers rightly as months only: average them first."
        )
    return "month" if np.timedelta64(27, "D") < step else "day"
