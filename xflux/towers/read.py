"""Tower files as published, and plain tables, as one Dataset over ``sample``."""

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.display import some_of
from xflux.reading import blamed_on, matching
from xflux.towers import fluxnet, netcdf, plain
from xflux.towers.sites import site_list
from xflux.values import warn, warn_of_fills


def read_towers(
    paths: str | os.PathLike | pd.DataFrame | Iterable[str | os.PathLike],
    qc: float | None = 0.8,
    *,
    variable: str | Mapping[str, str] | None = None,
    sites: str | os.PathLike | pd.DataFrame | Iterable | None = None,
    start: str | None = None,
    end: str | None = None,
    variables: Iterable[str] | None = None,
    units: Mapping[str, str] | None = None,
    dayfirst: bool | None = None,
    every_day: bool = False,
) -> xr.Dataset:
    """Read eddy-covariance towers: FLUXNET2015 / ONEFlux and AmeriFlux BASE files as published, or a plain table.

    Parameters
    ----------
    paths
        A glob pattern, a path, several of them, or a table in memory. CSV files with the column ``TIMESTAMP`` or
        ``TIMESTAMP_START`` are read as FLUXNET2015, AmeriFlux FLUXNET, ICOS ETC or AmeriFlux BASE files (HH, HR, DD or
        MM; −9999 is missing; the site is taken from the file name, else from the comments before the header; ``FC``
        finds ``FC_1_1_1`` where that is its only position). Other CSV (commas, tabs, or semicolons with decimal
        commas) and parquet tables need columns like ``site``, ``time`` (dates, or numbers like 20050131 and 200501),
        ``NEE`` and may have ``NEE_QC``, ``NEE_RANDUNC`` and percentiles, ``lat``, ``lon``, ``IGBP`` and any variables
        of their own. NetCDF files are read as PLUMBER2 has them: a site a file, dims (time, y, x), or (time, site),
        weather in files of their own or not.
    qc
        Samples are kept where the quality of the target, the share of half hours that were measured or gap-filled
        well (0–1), is at least this. ``None`` keeps all, and so does a file without a flag, with a
        warning. Half-hourly and hourly files are made into days first; ``qc`` is then the smallest share of good half
        hours in a day, and where there is no flag, of half hours that have a value.
    variable
        The column that becomes ``nee`` (default ``NEE_VUT_REF`` in FLUXNET files, ``NEE`` in tables), or a mapping of
        names to columns for several targets, such as ``{"nee": "NEE_VUT_USTAR50", "gpp": "GPP_NT_VUT_REF"}``.
    sites
        Where the towers are: a table or CSV with columns like site, lat, lon, igbp (of several columns of codes, the
        one that has the towers'), or BADM files (SITE_ID, VARIABLE, DATAVALUE). It goes before a table's own columns.
        Without either, lat and lon are NaN and igbp is "", with one warning.
    start, end
        First and last day, such as ``"2001"`` (ends are inclusive, as in pandas).
    variables
        Further columns to keep under their own names.
    units
        Units of columns whose units cannot be known by name, e.g. ``{"NEE": "umolCO2 m-2 s-1"}``; a carbon flux in
        another unit is converted to gC m-2 d-1, other fluxes keep theirs; amounts per step ("mm") become "mm d-1".
    dayfirst
        Whether 01/02/2005 is the first of February. Needed only where neither a day above 12 nor regular steps tell.
    every_day
        Keep the days whose targets are missing or poor too, with NaN for them: their weather counts where drivers are
        made of the towers' own series.

    Returns
    -------
    xr.Dataset
        Over ``sample`` with the coordinates ``site``, ``time``, ``lat``, ``lon``, ``igbp``; ``nee`` in gC m-2 d-1
        (positive into the atmosphere), ``nee_qc``, uncertainty columns (``nee_randunc``, ``nee_25`` …) and the tower's
        own variables (``Tair``, ``SW_IN``, ``VPD``, ``P`` …) with ``units``. ``attrs["time_step"]`` is "day" or
        "month".

    Raises
    ------
    FileNotFoundError
        No file matches.
    KeyError
        A column that is needed is missing; the columns that could be meant are listed.
    ValueError
        Dates that are ambiguous or missing, a sample that occurs twice, mixed time steps, units that differ from file
        to file, or nothing that is left after quality control.

    Examples
    --------
    >>> table = pd.DataFrame({"site": "XX-Abc", "time": ["2005-01-01", "2005-01-02"], "NEE": [-1.0, 2.0],
    ...                       "NEE_QC": [1.0, 0.5], "Tair": [3.0, 4.0], "lat": 50.0, "lon": 8.0, "IGBP": "ENF"})
    >>> towers = read_towers(table)
    >>> towers.sizes["sample"], float(towers.nee[0]), towers.Tair.attrs["units"]
    (1, -1.0, 'degC')
    """
    tables, step = [], set()
    for name, source in _files(paths):
        with blamed_on(source, "a table of towers") if isinstance(source, Path) else nullcontext():
            is_netcdf = isinstance(source, Path) and source.suffix.lower() in netcdf.SUFFIXES
            kind = netcdf if is_netcdf else fluxnet if fluxnet.is_fluxnet(source) else plain
            tables.append(kind.read(name, source, variable, variables, units or {}, dayfirst))
        step.add(tables[-1].attrs["time_step"])
    if len(step) > 1:
        raise ValueError(f"daily and monthly towers are mixed: read them one after the other ({_sources(tables)})")
    tables = netcdf.join(tables, f"the target {variable or 'NEE'}")
    column_units = _units(tables, units or {})
    long_names = {k: v for t in tables for k, v in t.attrs["long_names"].items()}
    targets = tables[0].attrs["targets"]
    table = pd.concat([t.assign(_file=number) for number, t in enumerate(tables)], ignore_index=True)
    _refuse_twice(table, tables)
    unflagged = {} if qc is None else _unflagged(tables, targets, qc)
    table = _select(table, targets, qc, start, end, every_day, unflagged).drop(columns="_file")
    for target in targets:
        warn_of_fills(table[target].to_numpy(float), target)
    table = _with_places(table, None if sites is None else site_list(sites, set(table["site"])))
    _check_places(table, _sources(tables))
    threshold = np.nan if qc is None else float(qc)
    attrs = {"time_step": step.pop(), "quality_threshold": threshold, "sources": _sources(tables)}
    return _dataset(table, column_units, long_names, attrs)


def _files(paths) -> list[tuple[str, pd.DataFrame | Path]]:
    """(name, table or path) of everything that ``paths`` means, in the order of names."""
    if isinstance(paths, pd.DataFrame):
        return [("the table", paths)]
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise FileNotFoundError("no tower file was given: paths is empty")
    found = []
    for one in given:
        text = os.fspath(one)
        if os.path.isdir(text):
            raise FileNotFoundError(f"{text!r} is a folder: give a pattern, e.g. '{text}/FLX_*_DD_*.csv'")
        matches = matching(text)
        if not matches:
            raise FileNotFoundError(f"no tower file matches {text!r}: check the path or the pattern")
        found += matches
    kept = [f for f in found if not fluxnet.AUXILIARY.search(f.name)]
    if not kept:
        raise FileNotFoundError(f"{given} has only auxiliary files (ERAI, AUXMETEO, AUXNEE, BIF): give DD or HH")
    return [(str(f), f) for f in kept]


def _units(tables: list[pd.DataFrame], given: Mapping[str, str]) -> dict[str, str]:
    """Units by column; ``units=`` for what no file has, or files that disagree, are errors."""
    unknown = [k for k in given if not any(k in t or k in t.attrs["header"] for t in tables)]
    if unknown:
        raise KeyError(f"units= names {', '.join(unknown)}, which no file has; give the columns' own names")
    found = {}
    for table in tables:
        for name, unit in table.attrs["units"].items():
            if found.setdefault(name, unit) != unit:
                raise ValueError(
                    f"{name} is in {found[name]!r} in some files and in {unit!r} in "
                    f"{os.path.basename(table.attrs['source'])}: read them one after the other"
                )
    return found


def _sources(tables: list[pd.DataFrame]) -> str:
    return some_of([os.path.basename(t.attrs["source"]) for t in tables], 8)


def _refuse_twice(table: pd.DataFrame, tables: list[pd.DataFrame]) -> None:
    twice = table.duplicated(["site", "time"], keep=False)
    if twice.any():
        sites = sorted(table.loc[twice, "site"].unique())[:5]
        files = [os.path.basename(tables[n].attrs["source"]) for n in table.loc[twice, "_file"].unique()[:4]]
        raise ValueError(
            f"{int(twice.sum())} samples share site and time with another (sites {', '.join(sites)}; "
            f"{', '.join(files)}): give one file per site and period, e.g. FULLSET or SUBSET, DD or HH"
        )


def _unflagged(tables: list[pd.DataFrame], targets: list[str], qc: float) -> dict[str, list[int]]:
    """Target → the files that have no quality flag for it while others have one: their samples are kept."""
    found = {target: [n for n, t in enumerate(tables) if f"{target}_qc" not in t] for target in targets}
    found = {target: lacking for target, lacking in found.items() if 0 < len(lacking) < len(tables)}
    for target, lacking in found.items():
        names = [os.path.basename(tables[n].attrs["source"]) for n in lacking]
        warn(f"no quality flag for {target} in {some_of(names)}: no quality control there (qc={qc})")
    return found


def _select(
    table: pd.DataFrame, targets: list[str], qc: float | None, start, end, every_day: bool, unflagged: Mapping
) -> pd.DataFrame:
    """Samples inside the period that have a target of the quality asked for."""
    if start is not None or end is not None:
        first = pd.Period(start).start_time if start is not None else table["time"].min()
        last = pd.Period(end).end_time if end is not None else table["time"].max()
        inside = table[(table["time"] >= first) & (table["time"] <= last)]
        if not len(inside):
            raise ValueError(
                f"no tower sample between {start} and {end}: the files cover "
                f"{table['time'].min():%Y-%m-%d} to {table['time'].max():%Y-%m-%d}"
            )
        table = inside
    quality = table[targets].notna()
    if qc is not None:
        unknown = [t for t in targets if f"{t}_qc" not in table]
        if unknown:
            warn(f"no quality flag for {', '.join(unknown)}: no quality control (qc={qc})")
        for target in set(targets) - set(unknown):
            if (highest := table[f"{target}_qc"].max()) > 1 + 1e-6:
                raise ValueError(
                    f"the quality of {target} goes up to {highest:g}; expected the share of good half hours, 0–1: "
                    "divide percentages by 100, turn flags into shares, or read all with qc=None"
                )
            quality[target] &= (table[f"{target}_qc"] >= qc) | table["_file"].isin(unflagged.get(target, []))
    table = table.copy()
    table[targets] = table[targets].where(quality)
    kept = table[quality.any(axis=1)]
    if not len(kept):
        raise ValueError(f"no sample of {', '.join(targets)} is left of {len(table)} with quality >= {qc}: lower qc=")
    return table if every_day else kept


def _with_places(table: pd.DataFrame, sites: pd.DataFrame | None) -> pd.DataFrame:
    """Add lat, lon and igbp by site; a list of sites goes before the table's own columns."""
    for name, empty in (("lat", np.nan), ("lon", np.nan), ("igbp", "")):
        own = table[name] if name in table else pd.Series(empty, index=table.index)
        listed = table["site"].map(sites[name]) if sites is not None else pd.Series(empty, index=table.index)
        if name == "igbp":
            listed, own = (x.astype(object).where(x.notna(), "") for x in (listed, own))
            table[name] = listed.where(listed != "", own).astype(str)
        else:
            table[name] = listed.where(listed.notna(), own).astype(float)
    lost = sorted(table.loc[table["lat"].isna() | table["lon"].isna(), "site"].unique())
    if lost:
        where = "sites= was not given" if sites is None else "not in sites="
        warn(f"no coordinates for {len(lost)} site(s): {some_of(lost)} ({where}); lat and lon are NaN there")
    return table.sort_values(["site", "time"], kind="stable")


def _check_places(table: pd.DataFrame, sources: str) -> None:
    """Raise where a site is nowhere on Earth, or at places more than a tenth of a degree apart."""
    off = sorted(table.loc[(table["lat"].abs() > 90) | (table["lon"].abs() > 360), "site"].unique())
    if off:
        at = table[table["site"] == off[0]].iloc[0]
        raise ValueError(
            f"{some_of(off)} at latitude {at['lat']:g}, longitude {at['lon']:g} is nowhere on Earth; expected decimal "
            f"degrees in {sources} (are the columns swapped?)"
        )
    apart = table.groupby("site")[["lat", "lon"]].agg(lambda x: x.max() - x.min())
    moved = apart.index[((apart > 0.1) & (apart < 359)).any(axis=1)].tolist()  # −0.1 and 359.9 are one meridian
    if moved:
        raise ValueError(
            f"{some_of(moved)} stands at several places (lat, lon) in {sources}: give the true ones by sites="
        )


def _dataset(table: pd.DataFrame, units: dict, long_names: dict, attrs: dict) -> xr.Dataset:
    coords = {
        "site": ("sample", table["site"].to_numpy().astype(str)),
        "time": ("sample", table["time"].to_numpy().astype("datetime64[ns]")),
        "lat": ("sample", table["lat"].to_numpy(float), {"units": "degrees_north"}),
        "lon": ("sample", table["lon"].to_numpy(float), {"units": "degrees_east"}),
        "igbp": ("sample", table["igbp"].to_numpy().astype(str), {"long_name": "IGBP land-cover class"}),
    }
    data = {}
    for name in table.columns.difference(list(coords), sort=False):
        extra = {k: v for k, v in (("units", units.get(name)), ("long_name", long_names.get(name))) if v is not None}
        column = table[name]
        values = column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.to_numpy().astype(str)
        data[name] = ("sample", values, extra)
    return xr.Dataset(data, coords, attrs)
