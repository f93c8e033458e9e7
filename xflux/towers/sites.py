"""Where the towers are: site lists and BADM files."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from xflux.reading import blamed_on, matching
from xflux.towers.text import table_of
from xflux.towers.values import LOWEST

SITE_COLUMNS = {
    "site": ("site", "site_id", "siteid", "fluxnetid", "fluxnet_id", "site_code", "sitecode"),
    "lat": ("lat", "latitude", "location_lat", "site_lat", "tower_lat"),
    "lon": ("lon", "long", "longitude", "location_long", "location_lon", "site_long", "tower_lon"),
    "igbp": ("igbp", "igbp_class", "vegetation_abbreviation", "vegetation_igbp", "igbp_veg_short", "pft"),
}


def column_named(columns, what: str) -> str | None:
    """The column that holds ``site``, ``lat``, ``lon`` or ``igbp``, whatever its spelling; None where there is none."""
    # AmeriFlux writes "Latitude (degrees)" and "Vegetation Abbreviation (IGBP)"
    lower = {str(c).split("(")[0].strip().lower().replace(" ", "_"): c for c in reversed(list(columns))}
    return next((lower[n] for n in SITE_COLUMNS[what] if n in lower), None)


def site_list(sites, codes: Collection[str] = ()) -> pd.DataFrame:
    """Table by site with lat, lon, igbp, from a table, a CSV or parquet file, BADM files, or several of these.

    Where a list has several columns of codes or names, that which holds most of ``codes`` is taken.

    >>> site_list(pd.DataFrame({"SITE_ID": ["A"], "LOCATION_LAT": [1.0], "LOCATION_LONG": [2.0]})).loc["A", "lon"]
    np.float64(2.0)
    """
    if isinstance(sites, pd.DataFrame):
        is_badm = {"SITE_ID", "VARIABLE", "DATAVALUE"} <= set(map(str, sites.columns))
        return _from_badm(sites) if is_badm else _from_list(sites, codes)
    paths = [sites] if isinstance(sites, str | os.PathLike) else list(sites)
    parts = []
    for path in paths:
        files = matching(path)
        if not files:
            raise FileNotFoundError(f"no site list matches {os.fspath(path)!r}")
        for file in files:
            with blamed_on(file, "a list of sites"):
                parts.append(site_list(_read(file), codes))
    joined = pd.concat(parts)
    return joined[~joined.index.duplicated()]


def _read(path: Path) -> pd.DataFrame:
    readers = {".parquet": pd.read_parquet, ".xlsx": pd.read_excel, ".xls": pd.read_excel}
    return readers.get(path.suffix.lower(), table_of)(path)


def _from_badm(table: pd.DataFrame) -> pd.DataFrame:
    """BADM is one row a value: the first LOCATION_LAT, LOCATION_LONG and IGBP of each site are taken."""
    first = table.drop_duplicates(["SITE_ID", "VARIABLE"])
    wide = first.pivot(index="SITE_ID", columns="VARIABLE", values="DATAVALUE")
    out = pd.DataFrame(index=pd.Index(wide.index.astype(str).str.strip(), name="site"))
    for name, key in (("lat", "LOCATION_LAT"), ("lon", "LOCATION_LONG")):
        out[name] = pd.to_numeric(wide[key], errors="coerce").to_numpy() if key in wide else np.nan
    out["igbp"] = wide["IGBP"].to_numpy() if "IGBP" in wide else ""
    return out


def _from_list(table: pd.DataFrame, codes: Collection[str]) -> pd.DataFrame:
    if table.index.name is not None:
        table = table.reset_index()
    found = {what: column_named(table.columns, what) for what in SITE_COLUMNS} | {"site": _codes_column(table, codes)}
    missing = [what for what in ("site", "lat", "lon") if found[what] is None]
    if missing:
        raise KeyError(
            f"the site list has no column for {', '.join(missing)}; it has {', '.join(map(str, table.columns[:15]))}: "
            "name them site, lat, lon, igbp"
        )
    out = pd.DataFrame(index=pd.Index(_codes(table[found["site"]]), name="site"))
    for name in ("lat", "lon"):
        out[name] = _degrees(table[found[name]])
    out["igbp"] = table[found["igbp"]].astype(object).to_numpy() if found["igbp"] else ""
    return out[~out.index.duplicated()]


def _degrees(column: pd.Series) -> np.ndarray:
    try:
        return pd.to_numeric(column).where(lambda x: x > LOWEST).to_numpy(float)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"the site list's column {column.name!r} is not in decimal degrees: {problem}") from None


def _codes(column: pd.Series) -> pd.Series:
    return column.astype(str).str.strip()


def _codes_column(table: pd.DataFrame, codes: Collection[str]):
    """The column that names the sites as ``codes`` do; where none does, the one that is called so."""
    named = column_named(table.columns, "site")
    columns = sorted(table.columns, key=lambda c: c != named)  # stable: the one called so wins a tie
    share = {c: _codes(table[c]).isin(set(codes)).sum() for c in columns}
    best = max(share, key=share.get, default=None)
    return best if best is not None and share[best] else named
