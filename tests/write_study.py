"""The files of the paper's study in their published formats, small, from a synthetic Earth whose answers are known.

ERA5-like days, MODIS-like composites, a GCP inversion file, GFAS fires, FLUXCOM, FLUXNET2015 CSVs, a site list and a
budget table, under the names of the template ``upton2024``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import write_products as published
import xarray as xr

from xflux import synthetic
from xflux.synthetic.biosphere import Hidden, block

FIRST = 2001
INVERSIONS = ("CAMS", "CTE", "CarboScope", "UoE", "NISMON-CO2")


@dataclass
class World:
    """The files' folder, the synthetic Earth, and what the study must find in the files."""

    folder: Path
    earth: synthetic.earth
    nee: xr.DataArray
    """(inversion, time, lat, lon) gC m-2 d-1 of land: the inversions without their fires."""
    budget: pd.Series


def write_upton2024(
    folder: Path, *, resolution: float = 10.0, years: int = 3, towers: int = 24, seed: int = 0
) -> World:
    """Write every file that the template names."""
    earth = synthetic.earth(resolution=resolution, years=years, seed=seed, towers=towers)
    for name in ("fluxnet", "era5", "modis", "fluxcom", "inversions", "gfas", "budgets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    base = base_variables(earth)
    write_era5(base, folder / "era5")
    write_modis(base, folder / "modis")
    write_fluxnet(earth, folder / "fluxnet")
    write_fluxcom(earth, folder / "fluxcom")
    earth.pft.to_netcdf(folder / "plant_types.nc")
    nee = write_gcp(earth, folder / "inversions")
    write_gfas(earth, folder / "gfas")
    sink = pd.Series(np.linspace(2.0, 3.5, years), pd.Index(range(FIRST, FIRST + years), name="Year"))
    table = pd.DataFrame({"E_FF": 9.0, "S_LAND_residual": sink, "net_land_residual": sink - 1.3})
    table.to_csv(folder / "budgets" / "gcb2022_annual_GtC.csv")
    return World(folder, earth, nee, sink)


def base_variables(earth) -> xr.Dataset:
    """Base variables (time, lat, lon), NaN at sea, latitudes ascending."""
    land = earth.world.land
    packed, _ = block(
        earth.world.climate, earth.world.shares, Hidden(np.zeros(land.size), np.ones(land.size)), slice(None)
    )
    fields = {}
    for name, da in packed.data_vars.items():
        full = np.full((da.sizes["time"], land.grid.sizes["lat"], land.grid.sizes["lon"]), np.nan, np.float32)
        full[:, land.row, land.col] = da.transpose("time", "cell").values
        fields[name] = (("time", "lat", "lon"), full, da.attrs)
    return xr.Dataset(fields, {"time": packed["time"], "lat": land.grid["lat"], "lon": land.grid["lon"]})


def write_era5(base: xr.Dataset, folder: Path) -> None:
    """A file a year, as the new data store has them: valid_time, descending latitudes, longitudes 0 to 360, kelvin."""
    names = {"TAIR": "t2m", "PREC": "tp", "RG": "RG"}
    weather = base[list(names)].rename(names)
    weather["t2m"] = (weather["t2m"] + 273.15).assign_attrs(units="K")
    weather = weather.assign_coords(lon=weather["lon"] % 360).sortby("lon").sortby("lat", ascending=False)
    weather = weather.rename(time="valid_time", lat="latitude", lon="longitude")
    for year, part in weather.groupby("valid_time.year"):
        part.to_netcdf(folder / f"era5_daily_05deg_{year}.nc")


def write_modis(base: xr.Dataset, folder: Path) -> None:
    """Composites of 8 days that begin anew each January, a file a year, latitudes ascending, no attributes of lat."""
    names = ["EVI", "NDVI", "NDWI", "FPAR", "LST_DAY", "LST_NIGHT", "BAND4"]
    for year, part in base[names].groupby("time.year"):
        number = (part["time"].dt.dayofyear - 1) // 8
        means = part.groupby(number.rename("composite")).mean()
        starts = part["time"].values[::8][: means.sizes["composite"]]
        means = means.rename(composite="time").assign_coords(time=starts).transpose("time", "lat", "lon")
        for name in names:
            means[name].attrs = base[name].attrs
        means.to_netcdf(folder / f"modis_8daily_05deg_{year}.nc")


def write_fluxnet(earth, folder: Path) -> None:
    """One DD file a site, −9999 for what is missing, and the site list."""
    towers, rows = earth.towers, []
    for number, site in enumerate(np.unique(towers["site"].values)):
        own = towers.isel(sample=np.flatnonzero(towers["site"].values == site))
        code = f"X{'XYZ'[number // 100]}-S{number % 100:02d}"  # a site code has two letters and three signs
        time = pd.DatetimeIndex(own["time"].values)
        table = pd.DataFrame({
            "TIMESTAMP": time.strftime("%Y%m%d"), "TA_F": own["Tair"].values, "TA_F_QC": 1.0,
            "NEE_VUT_REF": own["nee"].values, "NEE_VUT_REF_QC": own["nee_qc"].values,
        })  # fmt: skip
        table.loc[::17, "TA_F"] = np.nan
        name = f"FLX_{code}_FLUXNET2015_SUBSET_DD_{time[0].year}-{time[-1].year}_1-4.csv"
        table.fillna(-9999).to_csv(folder / name, index=False)
        lat, lon = float(own["lat"][0]), float(own["lon"][0])
        climate = "Tropical" if abs(lat) < 23.4 else "Extratropical"
        rows.append((code, lat, lon, str(own["igbp"].values[0]), climate))
    pd.DataFrame(rows, columns=["site", "lat", "lon", "igbp", "climate"]).to_csv(folder / "sites.csv", index=False)


def write_fluxcom(earth, folder: Path) -> None:
    """NEE of the ensemble, a file a year, descending latitudes, the land fraction in percent in a file of its own."""
    nee = earth.nee_monthly
    biased = (nee - 0.6 * np.exp(-((nee["lat"] / 20) ** 2))).sortby("lat", ascending=False).astype("float32")
    lat, lon = biased["lat"].values, biased["lon"].values
    for year in np.unique(biased["time"].dt.year):
        part = biased.isel(time=biased["time"].dt.year.values == year).values
        starts = published.months(int(year), 1)
        time = published.stamps(starts, "days since 1582-10-15 00:00:00", "gregorian", shift=14)
        published.write(
            folder / f"NEE.RS_METEO.FP-NONE.MLM-ALL.METEO-ALL.720_360.monthly.{year}.nc",
            {"time": 12, "lat": lat.size, "lon": lon.size},
            {
                **published.lat_lon(lat, lon, ("lat", "lon"), attrs=False),
                "time": (("time",), time, {"units": "days since 1582-10-15 00:00:00", "calendar": "gregorian"}),
                "NEE": (("time", "lat", "lon"), np.where(np.isnan(part), -9999, part).astype("f4"),
                        {"units": "gC m-2 d-1", "fill": np.float32(-9999)}),
            },
        )  # fmt: skip
    percent = earth.land_fraction.values * 100
    published.write(
        folder / "landfraction.720.360.nc",
        {"latitude": lat.size, "longitude": lon.size},
        {
            **published.lat_lon(lat[::-1].astype("f4"), lon.astype("f4")),
            "landfraction": (("latitude", "longitude"), percent, {"units": "percent"}),
        },
    )


def write_gcp(earth, folder: Path) -> xr.DataArray:
    """Six members of which the study takes five, PgC per m2 of the cell and year; returns the five without fires."""
    nbe = earth.inversions["nbe"].transpose("inversion", "time", "lat", "lon")
    cell = (nbe * earth.land_fraction).fillna(0.0).values.astype("f8") * published.GREGORIAN_YEAR / 1e15
    values = np.concatenate([cell[:1] * 7, cell])  # the first is another's
    names = ["CAMS-Satellite", *INVERSIONS]
    rivers = np.abs(published.field_of(2, *values.shape[2:], scale=1e-15))
    area = published.areas(nbe["lat"].values, nbe["lon"].values)
    starts = published.months(FIRST, nbe.sizes["time"] // 12)
    dims4 = ("ensemble_member", "time", "latitude", "longitude")
    units = {"units": "PgC/m2/yr", "fill": np.nan}
    published.write(
        folder / "GCP2022_inversions_1x1_version1_2_20230428.nc",
        {"ensemble_member": 6, "time": len(starts), "latitude": nbe.sizes["lat"], "longitude": nbe.sizes["lon"],
         "string_length": 20},
        {
            **published.lat_lon(nbe["lat"].values, nbe["lon"].values),
            "time": (("time",), published.stamps(starts, "days since 1957-01-01", shift=14.5),
                     {"units": "days since 1957-01-01"}),
            "ensemble_member_name": (("ensemble_member", "string_length"),
                                     np.array([list(n.ljust(20)) for n in names], "S1"), {}, "S1"),
            "land_flux_only_fossil_cement_adjusted": (dims4, values - rivers, units),
            "land_flux_fossil_cement_and_river_adjusted": (dims4, values, units),
            "river_adjustment_land": (("longitude", "latitude"), rivers.T, {"units": "PgC/m2/yr"}),
            "cell_area": (("latitude", "longitude"), area, {"units": "m2"}),
        },
    )  # fmt: skip
    nee = (nbe - earth.fire).assign_attrs(units="gC m-2 d-1", area_basis="land")
    return nee.assign_coords(inversion=list(INVERSIONS))


def write_gfas(earth, folder: Path) -> None:
    """Mass of CO2, packed in int16, days in a file a month, latitudes descending, longitudes 0 to 360."""
    fire = (earth.fire * earth.land_fraction).fillna(0.0)
    fire = fire.assign_coords(lon=fire["lon"] % 360).sortby("lon").sortby("lat", ascending=False)
    rate = fire.values / 1000 / published.CO2 / published.SECONDS  # kgCO2 m-2 s-1
    scale = max(float(rate.max()), 1e-15) / 30000
    for step, start in enumerate(published.months(FIRST, fire.sizes["time"] // 12)):
        days = int(published.days_in([start])[0])
        packed = np.broadcast_to(np.rint(rate[step] / scale).astype("i2"), (days, *rate.shape[1:]))
        time = published.stamps([(*start[:2], d + 1) for d in range(days)], "hours since 1900-01-01").astype("i4")
        published.write(
            folder / f"cams_gfas_co2fire_{start[0]}{start[1]:02d}.nc",
            {"time": days, "latitude": rate.shape[1], "longitude": rate.shape[2]},
            {
                **published.lat_lon(fire["lat"].values, fire["lon"].values),
                "time": (("time",), time, {"units": "hours since 1900-01-01 00:00:0.0"}),
                "co2fire": (("time", "latitude", "longitude"), packed,
                            {"units": "kg m**-2 s**-1", "scale_factor": scale, "add_offset": 0.0,
                             "fill": np.int16(-32767)}),
            },
        )  # fmt: skip
