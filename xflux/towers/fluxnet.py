"""FLUXNET2015 and ONEFlux files as published: FLUXNET2015, AmeriFlux FLUXNET, ICOS ETC; HH, HR, DD and MM.

Sources: Pastorello et al. (2020, doi:10.1038/s41597-020-0534-3); https://fluxnet.org/data/fluxnet2015-dataset.
"""

from __future__ import annotations

import functools
import importlib.resources
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from xflux.towers.sites import column_named

SITE = re.compile(r"(?:^|[_\-.])([A-Z]{2}-[A-Za-z0-9]{3})(?=[_.\-]|$)")
STEP = re.compile(r"_(HH|HR|DD|WW|MM|YY)(?=[_.])")
AUXILIARY = re.compile(r"_(AUXMETEO|AUXNEE|ERAI|ERA5|BIF|BIFVARINFO|BADM|SITEINFO|VARINFO|INFO)(?=[_.])")
UNCERTAINTIES = ("RANDUNC", "JOINTUNC")
PERCENTILES = ("05", "16", "25", "50", "75", "84", "95")
# gC m-2 d-1 per umolCO2 m-2 s-1: 86400 s, 12.011 g/mol
DAILY_FLUX = 86400e-6 * 12.011


@functools.cache
def column_table() -> dict:
    """The table of tower variables (``data/towers.toml``)."""
    return tomllib.loads(importlib.resources.files("xflux.data").joinpath("towers.toml").read_text())


def is_auxiliary(path: str) -> bool:
    """Whether a file of the family holds no fluxes (downscaled reanalysis, metadata)."""
    return AUXILIARY.search(os.path.basename(path)) is not None


def is_fluxnet(source: pd.DataFrame | Path) -> bool:
    """Whether a table or file has FLUXNET's time columns."""
    if isinstance(source, pd.DataFrame):
        columns = source.columns
    elif source.suffix.lower() == ".parquet":
        return False
    else:
        columns = pd.read_csv(source, nrows=0).columns
    # published files have their site in the name; a table of several sites has a column for it
    own = column_named(columns, "site") is not None or "time" in columns
    return bool({"TIMESTAMP", "TIMESTAMP_START"} & set(columns)) and not own


def to_daily_flux(name: str, units: str, out_units: dict) -> float:
    """Factor of a target to gC m-2 d-1 (a flux that is not carbon keeps its units); notes the units of the result."""
    if units.replace(" ", "") in ("gCm-2d-1",):
        out_units[name] = "gC m-2 d-1"
        return 1.0
    from xflux.units import factor, parse

    if parse(units).substance not in ("C", "CO2", "mol"):
        out_units[name] = units
        return 1.0
    out_units[name] = "gC m-2 d-1"
    return factor(units, "gC m-2 d-1")


def read(name: str, source: pd.DataFrame | Path, variable, variables, units: Mapping[str, str]) -> pd.DataFrame:
    """One file as a harmonised frame: site, time, targets, ``<target>_qc``, uncertainties, the tower's variables.

    Its attrs hold ``targets``, ``units``, ``long_names``, ``time_step`` ("day" or "month") and ``source``.
    """
    header = list(source.columns) if isinstance(source, pd.DataFrame) else list(pd.read_csv(source, nrows=0).columns)
    targets = variable if isinstance(variable, Mapping) else {"nee": variable or "NEE_VUT_REF"}
    wanted = _columns(name, header, targets, tuple(variables or ()))
    stamps = [c for c in header if c.startswith("TIMESTAMP")]
    usecols = stamps + [c for c in dict.fromkeys(wanted.values()) if c not in stamps]
    table = source[usecols] if isinstance(source, pd.DataFrame) else pd.read_csv(source, usecols=usecols)
    time, step = _times(name, table)
    # -9999 is missing in every column
    values = table.drop(columns=stamps).apply(pd.to_numeric, errors="coerce")
    values = values.where(values > -9990)
    frame = pd.DataFrame({ours: values[theirs] for ours, theirs in wanted.items()})
    known = column_table()["variables"]
    out_units = {k: v["units"] for k, v in known.items() if k in frame}
    out_units |= {k: "1" for k in frame if k.endswith("_qc")} | {k: u for k in frame if (u := units.get(wanted[k]))}
    for target, column in targets.items():
        # uncertainties and percentiles have the units of what they belong to
        own = [k for k in frame if k == target or (k.startswith(f"{target}_") and not k.endswith("_qc"))]
        out_units |= dict.fromkeys(own, _target_units(column))
    long_names = {k: v["long_name"] for k, v in known.items() if k in frame}
    long_names |= {k: f"{c}" for k, c in wanted.items() if k not in long_names}
    if step in ("HH", "HR"):
        frame, time = _days(frame, time, 48 if step == "HH" else 24, out_units)
    frame.insert(0, "site", _site(name))
    frame.insert(1, "time", time)
    frame.attrs = {
        "source": name,
        "targets": list(targets),
        "units": out_units,
        "long_names": long_names,
        "time_step": "month" if step == "MM" else "day",
    }
    return frame


def _site(name: str) -> str:
    found = SITE.search(os.path.basename(name))
    if not found:
        raise ValueError(
            f"{os.path.basename(name)}: no site code like DE-Hai in the file name; keep the published name, or give a "
            "plain table with columns site and time"
        )
    return found.group(1)


def _target_units(column: str) -> str:
    return "gC m-2 d-1" if column.startswith(("NEE", "GPP", "RECO")) else "W m-2" if column[:2] in ("LE", "H_") else "1"


def _columns(name: str, header: list[str], targets: Mapping[str, str], more: tuple[str, ...]) -> dict[str, str]:
    """Our name → the file's column."""
    missing = [c for c in (*targets.values(), *more) if c not in header]
    if missing:
        like = [c for c in header if c.startswith(missing[0][:3]) and not c.endswith(("_QC", "UNC"))][:12]
        raise KeyError(
            f"{os.path.basename(name)} has no column {', '.join(missing)}; it has {', '.join(like) or 'none like it'}. "
            "Choose with variable="
        )
    wanted = dict(targets)
    for target, column in targets.items():
        flag = _flag(column)
        wanted |= {f"{target}_qc": flag} if flag in header else {}
        spread = {k: c for k, c in _uncertainties(target, column).items() if c in header}
        wanted |= {k: c for k, c in spread.items() if k not in targets}
    for ours, entry in column_table()["variables"].items():
        column = next((c for c in entry["columns"] if c in header), None)
        if column is None:
            continue
        wanted.setdefault(ours, column)
        if f"{column}_QC" in header:
            wanted.setdefault(f"{ours}_qc", f"{column}_QC")
    return wanted | {c: c for c in more}


def _uncertainties(target: str, column: str) -> dict[str, str]:
    """Columns that say how sure a target is: random and joint uncertainty, percentiles over the thresholds of u*."""
    partitioned = column.startswith(("GPP_", "RECO_"))
    if not partitioned and not column.startswith(("NEE_", "LE_", "H_")):
        return {}
    # the random uncertainty of LE_F_MDS and H_F_MDS is LE_RANDUNC and H_RANDUNC
    stem = column.removesuffix("_F_MDS")
    # NEE_VUT_REF has NEE_VUT_25, GPP_NT_VUT_REF has GPP_NT_VUT_25
    family = "_".join(column.split("_")[: 3 if partitioned else 2])
    own = {f"{target}_{k.lower()}": f"{stem}_{k}" for k in UNCERTAINTIES}
    return own | {f"{target}_{k.lower()}": f"{family}_{k}" for k in (*PERCENTILES, "SE")}


def _flag(column: str) -> str:
    """The quality flag of a column; partitioned fluxes (GPP, RECO) have that of the NEE they were made from."""
    for prefix in ("GPP_NT_", "GPP_DT_", "RECO_NT_", "RECO_DT_"):
        if column.startswith(prefix):
            return f"NEE_{column.removeprefix(prefix)}_QC"
    if column.startswith(("LE_CORR", "H_CORR")):
        return f"{column.split('_')[0]}_F_MDS_QC"
    return f"{column}_QC"


def _times(name: str, table: pd.DataFrame) -> tuple[pd.Series, str]:
    """Start of every step, and the step's name: HH, HR, DD or MM."""
    start = "TIMESTAMP_START" if "TIMESTAMP_START" in table else "TIMESTAMP"
    text = table[start].astype("int64").astype(str)
    digits = int(text.str.len().mode()[0]) if len(text) else 0
    named = STEP.search(os.path.basename(name))
    if digits == 8 and start == "TIMESTAMP":
        return pd.to_datetime(text, format="%Y%m%d"), "DD"
    if digits == 6:
        return pd.to_datetime(text, format="%Y%m"), "MM"
    if digits == 12:
        time = pd.to_datetime(text, format="%Y%m%d%H%M")
        step = time.diff().min() if len(time) > 1 else pd.NaT
        if "TIMESTAMP_END" in table:
            end = pd.to_datetime(table["TIMESTAMP_END"].astype("int64").astype(str), format="%Y%m%d%H%M")
            step = (end - time).min()
        found = {pd.Timedelta("30min"): "HH", pd.Timedelta("1h"): "HR"}.get(step)
        if found:
            return time, found
    raise ValueError(
        f"{os.path.basename(name)}: the step {named.group(1) if named else 'of its time stamps'} is not read "
        "(HH, HR, DD and MM are): take another file of the same site"
    )


def _days(
    frame: pd.DataFrame, time: pd.Series, per_day: int, units: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.Series]:
    """Half hours to days, as the DD product does it.

    Fluxes and weather are the mean of the half hours that have a value, carbon fluxes in gC m-2 d-1 from
    umolCO2 m-2 s-1, precipitation the sum; a day with less than half of its steps is missing. The flag is the share
    of *all* steps of the day that were measured (0) or gap-filled well (1). Random errors of half hours are
    independent: their daily value is sqrt(sum of squares)/n. Percentiles and joint uncertainties are averaged, i.e.
    taken as fully correlated within the day (an upper bound).
    """
    day = time.dt.normalize()
    groups = frame.groupby(day.to_numpy())
    known = column_table()["variables"]
    out = {}
    for name in frame:
        column = groups[name]
        count = column.count()
        if name.endswith("_qc"):
            good = frame[name].le(1) & frame[name].notna()
            out[name] = good.groupby(day.to_numpy()).sum() / per_day
            continue
        if name.endswith("_randunc"):
            value = np.sqrt((frame[name] ** 2).groupby(day.to_numpy()).sum(min_count=1)) / count
        elif known.get(name, {}).get("daily") == "sum":
            # a missing half hour of rain is taken as the mean of the others
            value = column.mean() * per_day
        else:
            value = column.mean()
        if units.get(name) == "gC m-2 d-1":
            value = value * DAILY_FLUX
        out[name] = value.where(count >= per_day / 2)
    days = pd.DataFrame(out).reset_index(names="time")
    # a flag says nothing of a step without a value: it counts as not good
    for name in [n for n in days if n.endswith("_qc")]:
        base = name.removesuffix("_qc")
        if base in frame:
            good = frame[name].le(1) & frame[name].notna() & frame[base].notna()
            days[name] = (good.groupby(day.to_numpy()).sum() / per_day).to_numpy()
    return days.drop(columns="time"), days["time"]
