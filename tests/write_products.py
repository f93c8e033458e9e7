"""Small files that look like each published product, with every quirk of its row, and the answers that they hold.

Written with netCDF4 and h5py from the products' descriptions; shares nothing with the reader in ``xflux.catalogue``.
A :class:`Fixture` gives, for each variable of the schema, the values as an own calculation expects them (turned to
positive into the atmosphere, amounts per cell divided by the cell's area), and the totals of the globe in PgC by step.

Run as a script to write all of them: ``python tests/write_products.py FOLDER``.
"""

import calendar
import sys
from dataclasses import dataclass, field
from pathlib import Path

import netCDF4
import numpy as np

R = 6_371_000.0
GREGORIAN_YEAR = 365.2425
MOL = 12.011
CO2 = 12.011 / 44.009
SECONDS = 86400.0


@dataclass
class Fixture:
    """Files of one product and what they hold.

    ``values[v]`` has the dims (…, time, lat, lon) of the schema in published order of lat and lon; ``totals[v]`` is the
    globe's amount in PgC per step, dims (…, time); ``starts`` are the steps' first days (year, month, day).
    """

    product: str
    paths: list[Path]
    values: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]
    units: dict[str, str]
    starts: list[tuple[int, int, int]]
    members: list[str] = field(default_factory=list)
    extra: dict = field(default_factory=dict)


# --- a globe in a few cells -------------------------------------------------------------------------------------------


def axes(nlat: int, nlon: int, *, descending: bool = False, west: float = -180.0) -> tuple[np.ndarray, np.ndarray]:
    """Centres of a regular global grid."""
    lat = -90 + 180 / nlat * (np.arange(nlat) + 0.5)
    lon = west + 360 / nlon * (np.arange(nlon) + 0.5)
    return (lat[::-1] if descending else lat), lon


def areas(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Cell areas (lat, lon) in m2 of a regular grid; rows at the poles are half as high."""
    half = abs(lat[1] - lat[0]) / 2
    top = np.sin(np.radians(np.minimum(lat + half, 90)))
    bottom = np.sin(np.radians(np.maximum(lat - half, -90)))
    return np.outer(R**2 * (top - bottom), np.full(lon.size, 2 * np.pi / lon.size))


def field_of(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-0.3, 1.0, shape).astype("float64") * scale


def months(first: int, years: int) -> list[tuple[int, int, int]]:
    return [(y, m, 1) for y in range(first, first + years) for m in range(1, 13)]


def days_in(starts: list[tuple[int, int, int]], kind: str = "standard") -> np.ndarray:
    """Lengths of months in a calendar."""
    if kind == "360_day":
        return np.full(len(starts), 30.0)
    leap = kind == "standard"
    return np.array([calendar.monthrange(y if leap else 2001, m)[1] for y, m, _ in starts], float)


def stamps(starts: list[tuple[int, int, int]], units: str, kind: str = "standard", shift: float = 0.0) -> np.ndarray:
    """Numbers for the steps' starts, moved by ``shift`` days."""
    import cftime

    dates = [cftime.datetime(*s, calendar=kind) for s in starts]
    per_day = {"days": 1.0, "hours": 24.0, "seconds": 86400.0}[units.split()[0]]
    return np.array([cftime.date2num(d, units, kind) for d in dates], float) + shift * per_day


def total(values: np.ndarray, area: np.ndarray, grams: float, length: np.ndarray | float) -> np.ndarray:
    """PgC of the globe by step: values × area × grams of carbon per unit × length of the step in the unit's time."""
    return np.nansum(values * area, axis=(-2, -1)) * grams * length / 1e15


def write(path: Path, dims: dict, variables: dict, attrs: dict | None = None) -> Path:
    """One netCDF file of name: (dims, values, attributes[, dtype]); the attribute ``fill`` is the fill value."""
    with netCDF4.Dataset(path, "w") as nc:
        for name, size in dims.items():
            nc.createDimension(name, size)
        for name, (vdims, values, vattrs, *dtype) in variables.items():
            vattrs = dict(vattrs)
            kind = dtype[0] if dtype else np.asarray(values).dtype
            var = nc.createVariable(name, kind, vdims, fill_value=vattrs.pop("fill", None))
            var.set_auto_maskandscale(False)
            var[...] = values
            var.setncatts(vattrs)
        nc.setncatts(attrs or {})
    return path


def lat_lon(lat, lon, names=("latitude", "longitude"), attrs: bool = True) -> dict:
    a = ({"units": "degrees_north"}, {"units": "degrees_east"}) if attrs else ({}, {})
    return {names[0]: ((names[0],), lat, a[0]), names[1]: ((names[1],), lon, a[1])}


# --- one writer per row -----------------------------------------------------------------------------------------------


def gcp_inversions(folder: Path) -> Fixture:
    """Char rows of member names, PgC/m2/yr, a member that is NaN outside its period, 2-D river terms (lon, lat)."""
    lat, lon = axes(6, 8)
    starts, names = months(2001, 2), ["CAMS", "CarboScope", "UoE"]
    area, days = areas(lat, lon), days_in(starts)
    shape = (3, 24, 6, 8)
    nbe = field_of(1, *shape, scale=1e-13)
    nbe[2, :12] = np.nan
    rivers = np.abs(field_of(2, 6, 8, scale=1e-15))
    chars = np.array([list(n.ljust(20)) for n in names], "S1")
    dims4 = ("ensemble_member", "time", "latitude", "longitude")
    u = {"units": "PgC/m2/yr", "fill": np.nan}
    path = write(
        folder / "GCP2022_inversions_1x1_version1_2_20230428.nc",
        {"ensemble_member": 3, "time": 24, "latitude": 6, "longitude": 8, "string_length": 20},
        {
            **lat_lon(lat, lon),
            "time": (
                ("time",),
                stamps(starts, "days since 1957-01-01", shift=14.5),
                {"units": "days since 1957-01-01"},
            ),
            "ensemble_member_name": (("ensemble_member", "string_length"), chars, {}, "S1"),
            "land_flux_only_fossil_cement_adjusted": (dims4, nbe, u),
            "land_flux_fossil_cement_and_river_adjusted": (dims4, nbe + rivers, u),
            "prior_flux_land": (dims4, nbe * 0.5, u),
            "fossil_fuel_emissions": (dims4, np.abs(nbe), u),
            "river_adjustment_land": (("longitude", "latitude"), rivers.T, {"units": "PgC/m2/yr"}),
            "river_adjustment_land_scaled": (("longitude", "latitude"), rivers.T * 1.3, {"units": "PgC/m2/yr"}),
            "cell_area": (("latitude", "longitude"), area, {"units": "m2"}),
        },
        {"title": "GCP inversions"},
    )
    values = {"nbe": nbe, "nbe_river_adjusted": nbe + rivers, "nbe_prior": nbe * 0.5, "fossil": np.abs(nbe)}
    totals = {k: total(v, area, 1e15, days / GREGORIAN_YEAR) for k, v in values.items()}
    totals = {k: np.where(np.isnan(values[k]).all((-2, -1)), np.nan, t) for k, t in totals.items()}
    units = dict.fromkeys(values, "PgC m-2 yr-1")
    extra = {"rivers": -rivers, "cell_area": area}
    return Fixture("gcp-inversions", [path], values, totals, units, starts, names, extra)


def carbontracker(folder: Path) -> Fixture:
    """Float64 monthly means at mid-month, mol m-2 s-1, bookkeeping variables, no cell area."""
    lat, lon = axes(6, 8)
    starts = months(2001, 1)
    names = {"nee": "bio_flux_opt", "ocean": "ocn_flux_opt", "fossil": "fossil_flux_imp", "fire": "fire_flux_imp"}
    values = {k: field_of(10 + i, 12, 6, 8, scale=1e-7) for i, k in enumerate(names)}
    u = {"units": "mol m-2 s-1", "averaging_period_length_hours": 744.0}
    path = write(
        folder / "CT2022.flux1x1-monthly.nc",
        {"time": 12, "latitude": 6, "longitude": 8, "calendar_components": 6},
        {
            **lat_lon(lat, lon),
            "time": (
                ("time",),
                stamps(starts, "days since 2000-01-01", shift=15),
                {"units": "days since 2000-01-01 00:00:00 UTC"},
            ),
            "time_components": (("time", "calendar_components"), np.ones((12, 6), "i4"), {}),
            "decimal_time": (("time",), np.linspace(2001, 2002, 12), {"units": "years"}),
            **{names[k]: (("time", "latitude", "longitude"), v, u) for k, v in values.items()},
        },
        {"Conventions": "CF-1.5"},
    )
    seconds = days_in(starts) * SECONDS
    totals = {k: total(v, areas(lat, lon), MOL, seconds) for k, v in values.items()}
    return Fixture("carbontracker", [path], values, totals, dict.fromkeys(values, "mol m-2 s-1"), starts)


def carbontracker_3hourly(folder: Path) -> Fixture:
    """Two days of 3-hourly files with stamps in the middle of the interval."""
    lat, lon = axes(6, 8)
    values, paths = [], []
    for day in (2, 1):
        v = field_of(20 + day, 8, 6, 8, scale=1e-7)
        values.insert(0, v)
        time = 366 + day - 1 + (np.arange(8) * 3 + 1.5) / 24
        paths.append(
            write(
                folder / f"CT2022.flux1x1.2001010{day}.nc",
                {"time": 8, "latitude": 6, "longitude": 8},
                {
                    **lat_lon(lat, lon),
                    "time": (("time",), time, {"units": "days since 2000-01-01 00:00:00 UTC"}),
                    "bio_flux_opt": (("time", "latitude", "longitude"), v, {"units": "mol m-2 s-1"}),
                },
            )
        )
    nee = np.concatenate(values)
    totals = {"nee": total(nee, areas(lat, lon), MOL, 3 * 3600.0)}
    starts = [(2001, 1, 1 + i // 8) for i in range(16)]
    return Fixture("carbontracker", paths, {"nee": nee}, totals, {"nee": "mol m-2 s-1"}, starts)


def carbontracker_europe(folder: Path) -> Fixture:
    """The time dim is called date; cell_area in the file."""
    lat, lon = axes(6, 8)
    starts = months(2004, 1)
    names = {
        "nee": "bio_flux_opt",
        "nee_prior": "bio_flux_prior",
        "ocean": "ocn_flux_opt",
        "fossil": "fossil_flux_imp",
        "fire": "fire_flux_imp",
    }
    values = {k: field_of(30 + i, 12, 6, 8, scale=1e-7) for i, k in enumerate(names)}
    area = areas(lat, lon)
    path = write(
        folder / "CTE2020_monthly.nc",
        {"date": 12, "latitude": 6, "longitude": 8},
        {
            **lat_lon(lat, lon),
            "date": (("date",), stamps(starts, "days since 2000-01-01"), {"units": "days since 2000-01-01"}),
            "cell_area": (("latitude", "longitude"), area, {"units": "m2"}),
            **{names[k]: (("date", "latitude", "longitude"), v, {"units": "mol m-2 s-1"}) for k, v in values.items()},
        },
    )
    totals = {k: total(v, area, MOL, days_in(starts) * SECONDS) for k, v in values.items()}
    units = dict.fromkeys(values, "mol m-2 s-1")
    return Fixture("carbontracker-europe", [path], values, totals, units, starts, extra={"cell_area": area})


def jena_carboscope(folder: Path) -> Fixture:
    """PgC/yr per cell, daily in seconds since 2000, dim mtime, spin-up years outside yrfi_valid–yrfe_valid."""
    lat, lon = axes(4, 6)
    area = areas(lat, lon)
    first = np.datetime64("2002-01-01")
    days = np.arange(np.datetime64("2001-01-01"), np.datetime64("2005-01-01"))
    seconds = (days - np.datetime64("2000-01-01")).astype(float) * SECONDS + SECONDS / 2
    names = {"nbe": "co2flux_land", "ocean": "co2flux_ocean", "fossil": "co2flux_subt", "excluded": "co2flux_excl"}
    cell = {k: field_of(40 + i, days.size, 4, 6, scale=0.02) for i, k in enumerate(names)}
    for v in cell.values():
        v[:365] = 1e6
        v[-366:] = -1e6
    land = np.clip(np.abs(field_of(49, 4, 6)), 0, 1)
    variables = {
        **lat_lon(lat, lon, ("lat", "lon")),
        "mtime": (("mtime",), seconds, {"units": "seconds since 2000-01-01 00:00:00"}),
        "dxyp": (("lat", "lon"), area, {"units": "m2"}),
        "area": (("rt", "lat", "lon"), np.stack([area * land, area * (1 - land), area]), {"units": "m2"}),
        "rt": (("rt",), np.arange(3), {}),
        "tmask": (("rt",), np.ones(3), {}),
        "itime": (("mtime",), np.arange(days.size), {}),
        "myear": (("year",), np.arange(2001.0, 2005.0), {}),
        "dt": ((), np.float64(SECONDS), {"units": "s"}),
        **{names[k]: (("mtime", "lat", "lon"), v, {"units": "PgC/yr"}) for k, v in cell.items()},
    }
    path = write(
        folder / "s99oc_v2020_daily.nc",
        {"mtime": days.size, "lat": 4, "lon": 6, "rt": 3, "year": 4},
        variables,
        {"yrfi_valid": 2002.0, "yrfe_valid": 2003.0},
    )
    valid = (days >= first) & (days < np.datetime64("2004-01-01"))
    values = {k: v[valid] / area for k, v in cell.items()}
    totals = {k: v[valid].sum((1, 2)) / GREGORIAN_YEAR for k, v in cell.items()}
    starts = [(d.year, d.month, d.day) for d in days[valid].astype(object)]
    extra = {"cell_area": area, "land_fraction": land}
    return Fixture(
        "jena-carboscope", [path], values, totals, dict.fromkeys(values, "PgC m-2 yr-1"), starts, extra=extra
    )


def cams(folder: Path) -> Fixture:
    """One month per file, no time axis, three file names, kgC m-2 month-1, rows at the poles, lsf."""
    lat, lon = np.linspace(90, -90, 7), -180 + 45 * np.arange(8.0)
    area = areas(lat, lon)
    land = np.clip(np.abs(field_of(59, 7, 8)), 0, 1)
    files = {
        (2019, 3, 1): "cams73_latest_co2_flux_surface_mm_201903.nc",
        (2019, 1, 1): "cams73_v20r1_co2_flux_surface_mm_201901.nc",
        (2019, 2, 1): "z_cams_l_lsce_201902_v18r2_ra_sfc_mm_co2flux.nc",
    }
    names = {
        "nbe": "flux_apos_bio",
        "nbe_prior": "flux_apri_bio",
        "ocean": "flux_apos_ocean",
        "ocean_prior": "flux_apri_ocean",
        "fossil": "flux_foss",
    }
    data = {s: {k: field_of(50 + s[1] * 5 + i, 7, 8, scale=0.01) for i, k in enumerate(names)} for s in files}
    long_name = (
        "Posterior land surface upward mass flux of carbon for the whole grid box and the whole month without fossile"
    )
    paths = [
        write(
            folder / name,
            {"latitude": 7, "longitude": 8},
            {
                **lat_lon(lat, lon),
                "area": (("latitude", "longitude"), area, {"units": "m2"}),
                "lsf": (("latitude", "longitude"), land, {"long_name": "land-sea fraction"}),
                **{
                    names[k]: (("latitude", "longitude"), v, {"units": "kgC m-2 month-1", "long_name": long_name})
                    for k, v in data[s].items()
                },
            },
        )
        for s, name in files.items()
    ]
    starts = sorted(files)
    values = {k: np.stack([data[s][k] for s in starts]) for k in names}
    totals = {k: total(v, area, 1000.0, 1.0) for k, v in values.items()}
    units = dict.fromkeys(values, "kgC m-2 month-1")
    return Fixture("cams", paths, values, totals, units, starts, extra={"cell_area": area, "land_fraction": land})


def miroc4_actm(folder: Path) -> Fixture:
    """kg of CO2 per month, a file a year, no area."""
    lat, lon = axes(6, 8)
    names = {
        "nbe": "flux_apos_land",
        "ocean": "flux_apos_ocean",
        "nbe_prior": "flux_apri_land",
        "ocean_prior": "flux_apri_ocean",
        "fossil": "flux_apri_fossil",
    }
    values = {k: field_of(60 + i, 24, 6, 8, scale=0.01).astype("f4") for i, k in enumerate(names)}
    paths = []
    for i, year in enumerate((2004, 2005)):
        time = stamps(months(year, 1), f"days since {year}-01-01", shift=15)
        paths.insert(
            0,
            write(
                folder / f"co2.MACTM-r84.JAMSTEC.{year}.nc",
                {"time": 12, "latitude": 6, "longitude": 8},
                {
                    **lat_lon(lat, lon),
                    "time": (("time",), time, {"units": f"days since {year}-01-01"}),
                    **{
                        names[k]: (
                            ("time", "latitude", "longitude"),
                            v[12 * i : 12 * i + 12],
                            {"units": "kg-CO2/m2/month"},
                        )
                        for k, v in values.items()
                    },
                },
            ),
        )
    totals = {k: total(v, areas(lat, lon), 1000 * CO2, 1.0) for k, v in values.items()}
    return Fixture("miroc4-actm", paths, values, totals, dict.fromkeys(values, "kgCO2 m-2 month-1"), months(2004, 2))


def oco2_mip(folder: Path) -> Fixture:
    """A bare short time; start_date rows; one model with mid-month dates, one without any, EnsMean without time."""
    lat, lon = axes(6, 8)
    starts = months(2015, 6)
    values = {}
    paths = []
    for i, (model, day) in enumerate(
        {"Baker": 1, "CMS_FLUX": 16, "LoFI": None, "EnsMean": None, "EnsStd": None}.items()
    ):
        v = field_of(70 + i, 72, 6, 8, scale=100).astype("f4")
        variables = {**lat_lon(lat.astype("f4"), lon.astype("f4"), attrs=False)}
        if not model.startswith("Ens"):
            variables["time"] = (("time",), np.arange(72, dtype="i2"), {})
        if day:
            variables["start_date"] = (
                ("time", "date_component"),
                np.array([(y, m, day) for y, m, _ in starts], "i2"),
                {},
            )
        for name, w in (("land", v), ("ocean", v * 0.5), ("net", v * 1.5)):
            variables[name] = (("time", "latitude", "longitude"), w, {"units": "gC per m2 per year"})
        sizes = {"latitude": 6, "longitude": 8, "time": 72, "date_component": 3}
        paths.append(write(folder / f"{model}_gridded_fluxes_LNLGIS.nc4", sizes, variables))
        if not model.startswith("Ens"):
            values[model] = v
    stacked = np.stack(list(values.values()))
    values = {"nbe": stacked, "ocean": stacked * np.float32(0.5), "net": stacked * np.float32(1.5)}
    length = days_in(starts) / GREGORIAN_YEAR
    totals = {k: total(v.astype(float), areas(lat, lon), 1.0, length) for k, v in values.items()}
    members = ["Baker", "CMS_FLUX", "LoFI"]
    return Fixture("oco2-mip", paths, values, totals, dict.fromkeys(values, "gC m-2 yr-1"), starts, members)


def gcp2018_atlas(folder: Path) -> Fixture:
    """360_day calendar; two inversions of different length."""
    lat, lon = axes(6, 8)
    starts = months(2000, 3)
    nbe = field_of(80, 2, 36, 6, 8, scale=100)
    nbe[1, :12] = np.nan
    paths = []
    for i, (name, first) in enumerate((("CAMS-V17-1-2018", 0), ("CTE2018", 12))):
        time = stamps(starts[first:], "days since 1979-01-01", "360_day", shift=15)
        part = nbe[i, first:]
        paths.append(
            write(
                folder / f"fco2_{name}_June2018-ext3_1979-2017_monthlymean_XYT.nc",
                {"time": 36 - first, "latitude": 6, "longitude": 8},
                {
                    **lat_lon(lat, lon),
                    "time": (("time",), time, {"units": "days since 1979-01-01", "calendar": "360_day"}),
                    "Terrestrial_flux": (("time", "latitude", "longitude"), part, {"units": "gC m-2 yr-1"}),
                    "Ocean_flux": (("time", "latitude", "longitude"), part * 0.1, {"units": "gC m-2 yr-1"}),
                },
            )
        )
    values = {"nbe": nbe, "ocean": nbe * 0.1}
    totals = {k: total(v, areas(lat, lon), 1.0, 30 / 360) for k, v in values.items()}
    totals = {k: np.where(np.isnan(values[k]).all((-2, -1)), np.nan, t) for k, t in totals.items()}
    units = dict.fromkeys(values, "gC m-2 yr-1")
    return Fixture("gcp2018-atlas", paths, values, totals, units, starts, ["CAMS-V17-1-2018", "CTE2018"])


def fluxcom(folder: Path) -> Fixture:
    """lat descending, coordinates without attributes, days since 1582, land fraction (percent) in its own file."""
    lat, lon = axes(6, 8, descending=True)
    area, starts = areas(lat, lon), months(2001, 2)
    percent = np.clip(np.abs(field_of(99, 6, 8)) * 60, 0, 100)
    values = {k: field_of(90 + i, 24, 6, 8).astype("f4") for i, k in enumerate(("nee", "gpp", "ter"))}
    ocean = np.s_[:, 2, 3]
    for v in values.values():
        v[ocean] = 1e-20
        v[:, 0, 0] = np.nan
    paths = []
    for name, fp in (("NEE", "FP-NONE"), ("GPP", "FP-ALL"), ("TER", "FP-ALL")):
        for year in (2002, 2001):
            part = values[name.lower()][12 * (year - 2001) :][:12]
            time = stamps(months(year, 1), "days since 1582-10-15 00:00:00", "gregorian", shift=14)
            fill = np.where(np.isnan(part), -9999, part).astype("f4")
            variables = {
                **lat_lon(lat, lon, ("lat", "lon"), attrs=False),
                "time": (("time",), time, {"units": "days since 1582-10-15 00:00:00", "calendar": "gregorian"}),
                name: (("time", "lat", "lon"), fill, {"units": "gC m-2 d-1", "fill": np.float32(-9999)}),
                f"{name}_mad": (("time", "lat", "lon"), np.abs(fill) / 10, {"units": "gC m-2 d-1"}),
            }
            if name == "NEE":
                variables["NEE_n"] = (("time", "lat", "lon"), np.full(part.shape, 15, "f4"), {})
            file = f"{name}.RS_METEO.{fp}.MLM-ALL.METEO-ALL.720_360.monthly.{year}.nc"
            paths.append(write(folder / file, {"time": 12, "lat": 6, "lon": 8}, variables))
    land = write(
        folder / "landfraction.720.360.nc",
        {"latitude": 6, "longitude": 8},
        {
            **lat_lon(lat[::-1].astype("f4"), lon.astype("f4")),
            "landfraction": (("latitude", "longitude"), percent[::-1], {"units": "percent"}),
        },
    )
    totals = {k: total(v.astype(float), area * percent / 100, 1.0, days_in(starts)) for k, v in values.items()}
    extra = {"land_file": land, "land_fraction": percent / 100, "zero_cell": (2, 3)}
    return Fixture("fluxcom", paths, values, totals, dict.fromkeys(values, "gC m-2 d-1"), starts, extra=extra)


def fluxcom_rs(folder: Path) -> Fixture:
    """The RS product: 8-day steps that restart each January, on a redistributed copy with longitude/latitude."""
    lat, lon = axes(6, 8, descending=True)
    day = np.arange(0, 365, 8)
    nee = field_of(96, day.size, 6, 8).astype("f4")
    origin = stamps([(2003, 1, 1)], "days since 1582-10-15 00:00:00", "gregorian")
    path = write(
        folder / "NEE.RS_V006.FP-NONE.MLM-ALL.METEO-NONE.4320_2160.8daily.2003.nc",
        {"time": day.size, "latitude": 6, "longitude": 8},
        {
            **lat_lon(lat, lon),
            "time": (("time",), origin + day, {"units": "days since 1582-10-15 00:00:00", "calendar": "gregorian"}),
            "NEE": (("time", "latitude", "longitude"), nee, {"units": "gC m-2 day-1"}),
        },
    )
    length = np.append(np.full(day.size - 1, 8.0), 365 - day[-1])
    dates = (np.datetime64("2003-01-01") + day).astype(object)
    totals = {"nee": total(nee.astype(float), areas(lat, lon), 1.0, length)}
    starts = [(d.year, d.month, d.day) for d in dates]
    return Fixture("fluxcom", [path], {"nee": nee}, totals, {"nee": "gC m-2 d-1"}, starts)


def x_base(folder: Path) -> Fixture:
    """lat descending, bounds of every axis, a leftover hour_bnds, a land fraction, years out of order."""
    lat, lon = axes(6, 8, descending=True)
    area, starts = areas(lat, lon), months(2001, 3)
    land = np.clip(np.abs(field_of(109, 6, 8)), 0, 1)
    nee = field_of(100, 36, 6, 8).astype("f4")
    nee[:, land == 0] = np.nan
    bounds = {
        "lat_bnds": (("lat", "nbnds"), np.stack([lat + 15, lat - 15], 1), {}),
        "lon_bnds": (("lon", "nbnds"), np.stack([lon - 22.5, lon + 22.5], 1), {}),
        "hour_bnds": (("nbnds",), np.array([0, 24]), {}),
        "land_fraction": (
            ("lat", "lon"),
            land,
            {"units": "1", "long_name": "fraction of land for which NEE is defined"},
        ),
    }
    paths = []
    for year in (2003, 2001, 2002):
        when = stamps(months(year, 1), "days since 1970-01-01")
        ends = when + days_in(months(year, 1))
        attrs = {
            "units": "gC m-2 d-1",
            "long_name": "Net Ecocsystem Exchange",
            "version": "CCBY",
            "standard_name": "net_ecosystem_exchange_of_carbon",
            "fill": np.float32(np.nan),
        }
        paths.append(
            write(
                folder / f"NEE_{year}_050_monthly.nc",
                {"time": 12, "lat": 6, "lon": 8, "nbnds": 2},
                {
                    **lat_lon(lat, lon, ("lat", "lon")),
                    **bounds,
                    "time": (("time",), when, {"units": "days since 1970-01-01", "bounds": "time_bnds"}),
                    "time_bnds": (("time", "nbnds"), np.stack([when, ends], 1), {}),
                    "NEE": (("time", "lat", "lon"), nee[12 * (year - 2001) :][:12], attrs),
                },
            )
        )
    totals = {"nee": total(nee.astype(float), area * land, 1.0, days_in(starts))}
    return Fixture("x-base", paths, {"nee": nee}, totals, {"nee": "gC m-2 d-1"}, starts, extra={"land_fraction": land})


def x_base_cycle(folder: Path) -> Fixture:
    """The monthly mean diurnal cycle: dims (time, hour, lat, lon)."""
    lat, lon = axes(6, 8, descending=True)
    starts = months(2001, 1)
    nee = field_of(101, 12, 24, 6, 8).astype("f4")
    path = write(
        folder / "NEE_2001_050_monthlycycle.nc",
        {"time": 12, "hour": 24, "lat": 6, "lon": 8},
        {
            **lat_lon(lat, lon, ("lat", "lon")),
            "time": (("time",), stamps(starts, "days since 1970-01-01"), {"units": "days since 1970-01-01"}),
            "hour": (("hour",), np.arange(24), {}),
            "NEE": (("time", "hour", "lat", "lon"), nee, {"units": "gC m-2 d-1"}),
            "land_fraction": (("lat", "lon"), np.ones((6, 8)), {"units": "1"}),
        },
    )
    return Fixture("x-base", [path], {"nee": nee}, {}, {"nee": "gC m-2 d-1"}, starts)


def metaflux(folder: Path) -> Fixture:
    """GPP and RECO with their spread in one file."""
    lat, lon = axes(6, 8)
    starts = months(2010, 1)
    values = {"gpp": np.abs(field_of(110, 12, 6, 8)), "ter": np.abs(field_of(111, 12, 6, 8))}
    u = {"units": "gC m-2 d-1"}
    path = write(
        folder / "METAFLUX_GPP_RECO_monthly_2010.nc",
        {"time": 12, "lat": 6, "lon": 8},
        {
            **lat_lon(lat, lon, ("lat", "lon")),
            "time": (("time",), stamps(starts, "days since 2000-01-01"), {"units": "days since 2000-01-01"}),
            "GPP": (("time", "lat", "lon"), values["gpp"], u),
            "RECO": (("time", "lat", "lon"), values["ter"], u),
            "GPP_std": (("time", "lat", "lon"), values["gpp"] / 10, u),
            "RECO_std": (("time", "lat", "lon"), values["ter"] / 10, u),
        },
    )
    totals = {k: total(v, areas(lat, lon), 1.0, days_in(starts)) for k, v in values.items()}
    return Fixture("metaflux", [path], values, totals, dict.fromkeys(values, "gC m-2 d-1"), starts)


def gfas(folder: Path) -> Fixture:
    """Packed int16, CO2 mass, lat descending, lon from 0 to 360, hours since 1900."""
    lat, lon = axes(6, 8, descending=True, west=0.0)
    packed = np.random.default_rng(120).integers(0, 30000, (31, 6, 8)).astype("i2")
    packed[:, 1, 1] = -32767
    scale, offset = 3e-15, 1e-11
    starts = [(2003, 1, d + 1) for d in range(31)]
    units = "hours since 1900-01-01 00:00:0.0"
    path = write(
        folder / "cams_gfas_co2fire_200301.nc",
        {"time": 31, "latitude": 6, "longitude": 8},
        {
            **lat_lon(lat, lon),
            "time": (("time",), stamps(starts, "hours since 1900-01-01").astype("i4"), {"units": units}),
            "co2fire": (
                ("time", "latitude", "longitude"),
                packed,
                {
                    "units": "kg m**-2 s**-1",
                    "long_name": "Wildfire flux of Carbon Dioxide",
                    "scale_factor": scale,
                    "add_offset": offset,
                    "missing_value": np.int16(-32767),
                    "fill": np.int16(-32767),
                },
            ),
        },
    )
    fire = np.where(packed == -32767, np.nan, packed * scale + offset)
    totals = {"fire": total(fire, areas(lat, lon), 1000 * CO2, SECONDS)}
    return Fixture("gfas", [path], {"fire": fire}, totals, {"fire": "kgCO2 m-2 s-1"}, starts)


def gfed(folder: Path) -> Fixture:
    """HDF5 groups by month, 2-D lat and lon, zeros over the ocean; a beta file without burned area."""
    import h5py

    lat, lon = axes(6, 8, descending=True)
    area = areas(lat, lon)
    fire = np.clip(field_of(130, 24, 6, 8, scale=3), 0, None).astype("f4")
    paths = []
    for i, (year, name) in enumerate(((2016, "GFED4.1s_2016.hdf5"), (2017, "GFED4.1s_2017_beta.hdf5"))):
        with h5py.File(folder / name, "w") as f:
            f["lat"] = np.repeat(lat[:, None], 8, 1).astype("f4")
            f["lon"] = np.repeat(lon[None], 6, 0).astype("f4")
            f["ancill/grid_cell_area"] = area
            f["ancill/basis_regions"] = np.ones((6, 8), "i4")
            for m in range(12):
                f[f"emissions/{m + 1:02d}/C"] = fire[12 * i + m]
                f[f"emissions/{m + 1:02d}/C"].attrs["units"] = "g C m-2 month-1"
                f[f"emissions/{m + 1:02d}/DM"] = fire[12 * i + m] / 480
                f[f"emissions/{m + 1:02d}/partitioning/DM_SAVA"] = np.ones((6, 8), "f4")
                if year == 2016:
                    f[f"burned_area/{m + 1:02d}/burned_fraction"] = np.zeros((6, 8), "f4")
        paths.append(folder / name)
    totals = {"fire": total(fire.astype(float), area, 1.0, 1.0)}
    return Fixture(
        "gfed4.1s",
        paths[::-1],
        {"fire": fire},
        totals,
        {"fire": "gC m-2 month-1"},
        months(2016, 2),
        extra={"cell_area": area},
    )


def ilamb(folder: Path) -> Fixture:
    """noleap with mid-month stamps and bounds, nbp positive for uptake, areacella, cell_methods 'where land'."""
    lat, lon = axes(6, 8)
    starts, area = months(2003, 2), areas(lat, lon)
    days = days_in(starts, "noleap")
    begin = stamps(starts, "days since 1850-01-01", "noleap")
    nbp = field_of(140, 24, 6, 8)
    path = write(
        folder / "nbp_test.nc",
        {"time": 24, "lat": 6, "lon": 8, "nb": 2},
        {
            **lat_lon(lat, lon, ("lat", "lon")),
            "time": (
                ("time",),
                begin + days / 2,
                {"units": "days since 1850-01-01", "calendar": "noleap", "bounds": "time_bounds"},
            ),
            "time_bounds": (("time", "nb"), np.stack([begin, begin + days], 1), {}),
            "areacella": (("lat", "lon"), area, {"units": "m2"}),
            "nbp": (
                ("time", "lat", "lon"),
                nbp,
                {
                    "units": "g m-2 d-1",
                    "cell_methods": "area: mean where land time: mean",
                    "cell_measures": "area: areacella",
                },
            ),
        },
    )
    totals = {"nbe": total(-nbp, area, 1.0, days)}
    extra = {"cell_area": area, "calendar": "noleap"}
    return Fixture("ilamb", [path], {"nbe": -nbp}, totals, {"nbe": "gC m-2 d-1"}, starts, extra=extra)


def openghg(folder: Path) -> Fixture:
    """Time last, 'mol/m2/s', a GPP file that is negative, one step a file with the year in its name."""
    lat, lon = axes(6, 8)
    gpp = np.abs(field_of(150, 2, 6, 8, scale=1e-7))
    paths = []
    for i, year in enumerate((2013, 2012)):
        v = gpp[1 - i]
        paths.append(
            write(
                folder / f"co2-gpp-cardamom_EUROPE_{year}.nc",
                {"lat": 6, "lon": 8, "time": 1},
                {
                    **lat_lon(lat.astype("f4"), lon.astype("f4"), ("lat", "lon")),
                    "time": (
                        ("time",),
                        np.zeros(1, "i8"),
                        {
                            "units": f"days since {year}-01-01",
                            "calendar": "proleptic_gregorian",
                            "notes": "Start of time period",
                        },
                    ),
                    "flux": (
                        ("lat", "lon", "time"),
                        -v[:, :, None],
                        {"units": "mol/m2/s", "source": "co2-gpp-cardamom-mth", "species": "co2", "fill": np.nan},
                    ),
                },
                {"title": "Gross Primary Productivity CO2"},
            )
        )
    totals = {"gpp": total(gpp, areas(lat, lon), MOL, 31 * SECONDS)}
    starts = [(2012, 1, 1), (2013, 1, 1)]
    return Fixture("openghg", paths, {"gpp": gpp}, totals, {"gpp": "mol m-2 s-1"}, starts)


# model: (lat, lon, time names; calendar; time units; unit attribute and text; annual; west; fill; file)
TRENDY_MODELS = {
    "CLASSIC": (("latitude", "longitude", "time"), "365_day", "days since 1700-12-31", ("units", "kg m-2 s-1"), {}),
    "ORCHIDEEv3": (("lat", "lon", "time_counter"), "noleap", "seconds since 1700-01-01", ("units", "kg m-2 s-1"), {}),
    "ISBA-CTRIP": (
        ("lat_FULL", "lon_FULL", "time_counter"),
        "gregorian",
        "months since 1700-01-16",
        ("units", "kg m-2 s-1"),
        {},
    ),
    "CARDAMOM": (("latitude", "longitude", "Time"), "standard", "days since 1901-01-01", ("long_name", "kgC/m2/s"), {}),
    "DLEM": (("lat", "lon", "time"), "standard", "months since 1700-01-01", ("unit", "kgC m-2 s-1"), {"annual": True}),
    "ISAM": (("lat", "lon", "time"), "noleap", "days since 1700-01-01", ("units", "kgC m-2 month-1"), {"west": 0.0}),
    "JULES": (
        ("latitude", "longitude", "time"),
        "365_day",
        "seconds since 2000-01-01",
        ("units", "kg m-2 s-1"),
        {"west": 0.0, "fill": -99999.0},
    ),
    "SDGVM": (
        ("latitude", "longitude", "time"),
        "360_day",
        "hours since 1900-01-01",
        ("units", "kg m-2 s-1"),
        {"file": "SDGVM_S3_nbp_Annual.nc", "annual": True},
    ),
    "YIBs": (
        ("latitude", "longitude", "time"),
        "standard",
        "months since 1700-01-01",
        ("units", "kg m-2 s-1"),
        {"file": "YIBs_S3_Monthly_nbp.nc", "fill": 1e20},
    ),
    "CABLE-POP": (
        ("latitude", "longitude", "time"),
        "standard",
        "days since 1700-01-01",
        ("units", "kg m-2 s-1"),
        {"beyond": True},
    ),
}


def trendy(folder: Path, model: str) -> Fixture:
    """One land model: its own names, calendar, time unit, unit attribute, fill and longitudes; nbp = uptake."""
    names, kind, time_units, (attr, text), options = TRENDY_MODELS[model]
    lat, lon = axes(6, 8, west=options.get("west", -180.0))
    lat = np.append(lat, 105.0) if options.get("beyond") else lat
    annual = options.get("annual", False)
    starts = [(y, 1, 1) for y in range(2001, 2005)] if annual else months(2003, 2)
    scale = 0.02 if "month" in text else 1e-8
    nbp = field_of(160 + len(model), len(starts), lat.size, 8, scale=scale)
    nbp[:, 2, 2] = np.nan
    published = np.where(np.isnan(nbp), options.get("fill", np.nan), nbp)
    if time_units.startswith("months"):
        time = np.array([(y - 1700) * 12 + m - 1 for y, m, _ in starts], float)
    else:
        time = stamps(starts, time_units, kind, shift=14)
    path = write(
        folder / options.get("file", f"{model}_S3_nbp.nc"),
        {names[2]: len(starts), names[0]: lat.size, names[1]: 8},
        {
            **lat_lon(lat, lon, names[:2]),
            names[2]: ((names[2],), time, {"units": time_units, "calendar": kind}),
            "nbp": ((names[2], names[0], names[1]), published, {attr: text}),
        },
    )
    real = np.abs(lat) < 90
    nbe = -nbp[:, real]
    kind = "standard" if kind == "gregorian" else kind
    year = {"360_day": 360, "standard": None}.get(kind, 365)
    if annual:
        days = np.array([year or 365 + calendar.isleap(y) for y, _, _ in starts], float)
    else:
        days = days_in(starts, kind)
    length = 1.0 if "month" in text else days * SECONDS
    totals = {"nbe": total(nbe, areas(lat[real], lon), 1000.0, length)}
    unit = "kgC m-2 month-1" if "month" in text else "kgC m-2 s-1"
    extra = {"calendar": kind, "step": "year" if annual else "month"}
    return Fixture("trendy", [path], {"nbe": nbe}, totals, {"nbe": unit}, starts, extra=extra)


WRITERS = {
    w.__name__: w
    for w in (
        gcp_inversions,
        carbontracker,
        carbontracker_3hourly,
        carbontracker_europe,
        jena_carboscope,
        cams,
        miroc4_actm,
        oco2_mip,
        gcp2018_atlas,
        fluxcom,
        fluxcom_rs,
        x_base,
        x_base_cycle,
        metaflux,
        gfas,
        gfed,
        ilamb,
        openghg,
    )
} | {f"trendy_{m}": (lambda folder, m=m: trendy(folder, m)) for m in TRENDY_MODELS}


def write_all(folder: Path) -> dict[str, Fixture]:
    """Every fixture, each in a folder of its own."""
    out = {}
    for name, writer in WRITERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        out[name] = writer(folder / name)
    return out


if __name__ == "__main__":
    for name, fixture in write_all(Path(sys.argv[1])).items():
        print(name, *(p.name for p in fixture.paths))
