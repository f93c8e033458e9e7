"""FLUXNET2015 and ONEFlux files as published (AmeriFlux FLUXNET, ICOS ETC; HH, HR, DD and MM), and AmeriFlux BASE.

Sources: Pastorello et al. (2020, doi:10.1038/s41597-020-0534-3); https://fluxnet.org/data/fluxnet2015-dataset;
https://ameriflux.lbl.gov/data/aboutdata/data-variables.
"""

import functools
import importlib.resources
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from xflux.towers.averages import to_days
from xflux.towers.sites import column_named
from xflux.towers.text import layout, read_dates, table_of
from xflux.towers.values import CARBON, as_numbers, check_direction, daily_rate
from xflux.units import CARBON_MOLAR_MASS

SITE = re.compile(r"(?:^|[_\-.])([A-Z]{2}-[A-Za-z0-9]{3})(?=[_.\-]|$)")
_STEP = re.compile(r"_(HH|HR|DD|WW|MM|YY)(?=[_.])")
AUXILIARY = re.compile(r"_(AUXMETEO|AUXNEE|ERAI|ERA5|BIF|BIFVARINFO|BADM|SITEINFO|VARINFO|INFO)(?=[_.])")
UNCERTAINTIES = ("RANDUNC", "JOINTUNC")
PERCENTILES = ("05", "16", "25", "50", "75", "84", "95")
STEPS_A_DAY = {"HH": 48, "HR": 24}
# gC m-2 d-1 per umolCO2 m-2 s-1
DAILY_FLUX = 86400e-6 * CARBON_MOLAR_MASS


@functools.cache
def column_table() -> dict:
    """The table of tower variables (``data/towers.toml``)."""
    return tomllib.loads(importlib.resources.files("xflux.data").joinpath("towers.toml").read_text())


def is_fluxnet(source: pd.DataFrame | Path) -> bool:
    """Whether a table or file has FLUXNET's time columns."""
    if not isinstance(source, pd.DataFrame) and source.suffix.lower() == ".parquet":
        return False
    columns = source.columns if isinstance(source, pd.DataFrame) else layout(source).columns
    # published files have their site in the name; a table of several sites has a column for it
    own = column_named(columns, "site") is not None or "time" in columns
    return bool({"TIMESTAMP", "TIMESTAMP_START", "TIMESTAMP_END"} & set(columns)) and not own


def read(
    name: str, source: pd.DataFrame | Path, variable, variables, units: Mapping[str, str], dayfirst: bool | None = None
) -> pd.DataFrame:
    """One file as a harmonised frame: site, time, targets, ``<target>_qc``, uncertainties, the tower's variables.

    Its attrs hold ``targets``, ``units``, ``long_names``, ``time_step`` ("day" or "month") and ``source``.
    """
    form = None if isinstance(source, pd.DataFrame) else layout(source)
    header = list(source.columns if form is None else form.columns)
    targets = variable if isinstance(variable, Mapping) else {"nee": variable or "NEE_VUT_REF"}
    wanted = _columns(name, header, targets, tuple(variables or ()))
    stamps = [c for c in header if c.startswith("TIMESTAMP")]
    usecols = stamps + [c for c in dict.fromkeys(wanted.values()) if c not in stamps]
    table = source[usecols] if form is None else table_of(source, usecols, as_text=tuple(stamps))
    time, step = _times(name, table, dayfirst)
    for target, column in targets.items():
        check_direction(target, column, name)
    frame = pd.DataFrame({ours: as_numbers(table[theirs], name, ours in targets) for ours, theirs in wanted.items()})
    given = {k: u for k, c in wanted.items() if (u := units.get(c, units.get(k)))}
    known = column_table()["variables"]
    long_names = wanted | {k: v["long_name"] for k, v in known.items()}
    if step in STEPS_A_DAY:
        long_names |= {f"{t}_qc": f"share of the day's steps that have {wanted[t]}" for t in targets}
        sums = [k for k in frame if known.get(k, {}).get("daily") == "sum"]
        frame, time = to_days(frame, time, STEPS_A_DAY[step], sums, targets)
    out_units = _in_units(frame, time, step, {t: wanted[t] for t in targets}, given)
    frame.insert(0, "site", _site(name, form.comments if form else ()))
    frame.insert(1, "time", time)
    frame.attrs = {
        "source": name,
        "targets": list(targets),
        "units": out_units,
        "long_names": {k: v for k, v in long_names.items() if k in frame},
        "time_step": "month" if step == "MM" else "day",
        "header": header,
    }
    return frame


def _in_units(frame: pd.DataFrame, time: pd.Series, step: str, targets: Mapping, given: Mapping) -> dict[str, str]:
    """Fluxes of the frame as rates per day, in place; the units of all columns."""
    known = column_table()["variables"]
    units = {k: v["units"] for k, v in known.items() if k in frame} | {k: "1" for k in frame if k.endswith("_qc")}
    within = step in STEPS_A_DAY
    # partitioned fluxes of half hours come in the unit of NEE
    molar = [k for k, u in units.items() if u == "gC m-2 d-1" and k not in given and k not in targets and within]
    frame[molar] = frame[molar] * DAILY_FLUX
    for target, column in targets.items():
        unit = given.get(target) or _target_units(column, within)
        scale, unit = daily_rate(unit, column, STEPS_A_DAY.get(step, 1), time if step == "MM" else None)
        # uncertainties and percentiles have the units of what they belong to
        own = [k for k in frame if k.startswith(f"{target}_") and not k.endswith("_qc") and k not in targets]
        frame[[target, *own]] = frame[[target, *own]].mul(scale, axis=0)
        units |= dict.fromkeys([target, *own], unit)
    return {k: u for k, u in ({k: u for k, u in given.items() if k not in units or k in known} | units).items() if u}


def _target_units(column: str, within_day: bool) -> str | None:
    """Units of a published flux: carbon in umol m-2 s-1 by half hours, in gC m-2 d-1 by days; None is unknown."""
    if CARBON.match(column):
        return "umolCO2 m-2 s-1" if within_day else "gC m-2 d-1"
    if re.match(r"(LE|H)(_|$)", column):
        return "W m-2"
    known = {c: v["units"] for v in column_table()["variables"].values() for c in v["columns"]}
    return known.get(column)


def _site(name: str, comments: Iterable[str]) -> str:
    """The site's code, from the file's name, else from AmeriFlux's line "Site: US-Ha1" before the header."""
    told = " ".join(line.partition(":")[2] for line in comments if line.lower().startswith("site"))
    found = SITE.search(os.path.basename(name)) or re.search(r"([A-Z]{2}-[A-Za-z0-9]{3})\b", told)
    if not found:
        raise ValueError(
            f"{os.path.basename(name)}: no site code like DE-Hai in the file name; keep the published name, or give a "
            "plain table with columns site and time"
        )
    return found.group(1)


def _columns(name: str, header: list[str], targets: Mapping[str, str], more: tuple[str, ...]) -> dict[str, str]:
    """Our name → the file's column."""
    for target, column in targets.items():
        at = _positions(column, header)  # FC_1_1_1 for FC, where that is the only one
        targets = targets | ({target: at[0]} if column not in header and len(at) == 1 else {})
    missing = [c for c in (*targets.values(), *more) if c not in header]
    if missing:
        like = [c for c in header if c[:2] in (missing[0][:2], "FC") and not c.endswith(("_QC", "UNC", "_TEST"))][:12]
        raise KeyError(
            f"{os.path.basename(name)} has no column {', '.join(missing)}; it has {', '.join(like) or 'none like it'}. "
            "Choose with variable="
        )
    wanted = dict(targets)
    for target, column in targets.items():
        flag = next((f for f in _flags(column) if f in header), None)
        wanted |= {f"{target}_qc": flag} if flag else {}
        spread = {k: c for k, c in _uncertainties(target, column).items() if c in header}
        wanted |= {k: c for k, c in spread.items() if k not in targets}
    for ours, entry in column_table()["variables"].items():
        column = next((c for stem in entry["columns"] for c in (stem, *_positions(stem, header)) if c in header), None)
        if column is None:
            continue
        wanted.setdefault(ours, column)
        if f"{column}_QC" in header:
            wanted.setdefault(f"{ours}_qc", f"{column}_QC")
    return wanted | {c: c for c in more}


def _positions(column: str, header: list[str]) -> list[str]:
    """AmeriFlux's columns of one variable by position (horizontal, vertical, replicate), the topmost first."""
    return sorted(c for c in header if re.fullmatch(rf"{re.escape(column)}(_\d+_\d+)?_(\d|A)", c))


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


def _flags(column: str) -> tuple[str, ...]:
    """Names of a column's quality flag: partitioned fluxes (GPP, RECO) have that of the NEE they were made from.

    The test of stationarity and turbulence of AmeriFlux files counts as such: 0 and 1 are good, 2 is to be discarded.
    """
    for prefix in ("GPP_NT_", "GPP_DT_", "RECO_NT_", "RECO_DT_"):
        if column.startswith(prefix):
            return (f"NEE_{column.removeprefix(prefix)}_QC",)
    if column.startswith(("LE_CORR", "H_CORR")):
        return (f"{column.split('_')[0]}_F_MDS_QC",)
    stem, position = re.fullmatch(r"(.*?)((?:_\d+){3})?", column).groups(default="")
    return f"{column}_QC", f"{stem}_SSITC_TEST{position}"


def _times(name: str, table: pd.DataFrame, dayfirst: bool | None) -> tuple[pd.Series, str]:
    """Start of every step, and the step's name: HH, HR, DD or MM."""
    file = os.path.basename(name)
    given = {c: read_dates(table[c], f"{file}, column {c}", dayfirst) for c in table if c.startswith("TIMESTAMP")}
    first = next(c for c in ("TIMESTAMP_START", "TIMESTAMP", "TIMESTAMP_END") if c in given)
    time = given[first]
    if {"TIMESTAMP_START", "TIMESTAMP_END"} <= set(given):
        step = (given["TIMESTAMP_END"] - time).min()
    else:
        step = time.sort_values().diff().min()
    within = {pd.Timedelta("30min"): "HH", pd.Timedelta("1h"): "HR"}.get(step)
    if within:
        return (time - step if first == "TIMESTAMP_END" else time), within
    found = _STEP.search(file)
    named = found.group(1) if found else None
    if first == "TIMESTAMP" and (time == time.dt.normalize()).all() and named not in ("WW", "YY"):
        written = table[first].astype(str).str.fullmatch(r"\d{6}(\.0)?|\d{4}-\d{2}").all()
        apart = named is None and step >= pd.Timedelta("28D") and (time.dt.day == 1).all()
        return time, "MM" if written or named == "MM" or apart else "DD"
    raise ValueError(
        f"{file}: the step {named or 'of its time stamps'} is not read (HH, HR, DD and MM are): take another file of "
        "the same site"
    )
