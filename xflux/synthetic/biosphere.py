"""Plant functional types, what satellites see of them, and the true fluxes, for a block of cells."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux import drivers
from xflux.synthetic.climate import Climate, Land, fading_mean

# name: IGBP class, optimum climate (temperature degC, rain mm d-1), largest fAPAR, light use (gC per MJ of PAR),
# Q10 of respiration, share of GPP that plants respire
TYPES = {
    "tropical_forest": ("EBF", 26.0, 5.5, 0.92, 1.00, 1.6, 0.60),
    "savanna": ("SAV", 25.0, 2.4, 0.60, 0.95, 1.7, 0.55),
    "desert": ("OSH", 19.0, 0.25, 0.15, 0.55, 1.5, 0.50),
    "temperate_forest": ("DBF", 11.0, 2.8, 0.85, 1.35, 2.0, 0.52),
    "grass": ("GRA", 8.0, 1.2, 0.65, 1.20, 2.0, 0.50),
    "crop": ("CRO", 14.0, 2.0, 0.80, 1.60, 2.0, 0.45),
    "boreal_forest": ("ENF", -2.0, 1.6, 0.72, 1.10, 2.2, 0.52),
    "tundra": ("WET", -10.0, 1.0, 0.40, 0.80, 2.4, 0.50),
}


@dataclass(frozen=True)
class Hidden:
    """What no driver explains, by cell: a standing sink or source (gC m-2 d-1) and a factor on light use."""

    sink: np.ndarray
    vigour: np.ndarray


def pft_shares(climate: Climate, texture: np.ndarray) -> np.ndarray:
    """Shares of the plant functional types (pft, cell): how near each one's optimum is, and chance."""
    lat = climate.land.lat
    rain = climate.wetness * (7.5 * np.exp(-((lat / 15) ** 2)) + 2.4 * np.exp(-(((np.abs(lat) - 52) / 17) ** 2)) + 0.25)
    score = np.stack([
        -(((climate.temperature - t) / 7) ** 2) - 2.0 * (np.log((rain + 0.1) / (p + 0.1))) ** 2
        for _, t, p, *_ in TYPES.values()
    ])  # fmt: skip
    score[list(TYPES).index("crop")] -= 0.7
    score = score + 0.8 * texture
    share = np.exp(score - score.max(0))
    return (share / share.sum(0)).astype(np.float32)


def block(
    climate: Climate, shares: np.ndarray, hidden: Hidden, cells: slice
) -> tuple[xr.Dataset, dict[str, np.ndarray]]:
    """Base variables (time, cell) of some cells, and their GPP and the parts of TER in arbitrary scale."""
    weather = climate.weather(cells)
    land, time = climate.land, climate.time.astype("datetime64[ns]")
    coords = {"time": time, "lat": ("cell", land.lat[cells])}

    def var(values, units):
        return xr.DataArray(values.astype(np.float32), dims=("time", "cell"), coords=coords, attrs={"units": units})

    tair, rain = var(weather["tair"], "degC"), var(weather["rain"], "mm d-1")
    rpot = drivers.potential_radiation(tair["lat"].drop_vars("lat"), tair["time"]).astype(np.float32)
    rg = var(rpot.values * (0.76 - 0.5 * weather["cloud"]), "W m-2")
    rpot = var(rpot.values, "W m-2")
    pet = drivers.potential_evapotranspiration(tair, rg, rpot=rpot)
    water = drivers.water_availability(rain, pet)["wai"].astype(np.float32)
    wai = var(water.values, "1")

    traits = {n: np.array([t[i] for t in TYPES.values()]) @ shares[:, cells] for n, i in
              (("cover", 3), ("light", 4), ("q10", 5), ("plants", 6))}  # fmt: skip
    moist = 1 / (1 + np.exp(-(fading_mean(wai.values, 30) - 0.25) / 0.08))
    warm = 1 / (1 + np.exp(-(fading_mean(tair.values, 20) - 6) / 2.5))
    fpar = traits["cover"] * warm * (0.2 + 0.8 * moist)
    base = xr.Dataset({"TAIR": tair, "PREC": rain, "RG": rg, "RPOT": rpot, "WAI": wai})
    base = base.assign({k: var(v, u) for k, (v, u) in _seen_from_space(fpar, weather, wai.values, rg.values).items()})
    return base, _fluxes(fpar, weather["tair"], rg.values, wai.values, traits, hidden.vigour[cells])


def _seen_from_space(fpar, weather, wai, rg) -> dict:
    """MODIS-like variables from the state of the surface."""
    return {
        "FPAR": (fpar, "1"),
        "EVI": (0.06 + 0.55 * fpar, "1"),
        "NDVI": (0.12 + 0.78 * (1 - np.exp(-2.2 * fpar)) / (1 - np.exp(-2.2)), "1"),
        "NDWI": (-0.25 + 0.45 * fpar + 0.25 * wai, "1"),
        "BAND4": (0.06 + 0.10 * (1 - fpar) + 0.04 * (1 - wai), "1"),
        "LST_DAY": (weather["tair"] + 9 * (1 - fpar) * rg / 300, "degC"),
        "LST_NIGHT": (weather["tair"] - 5 * (1 - weather["cloud"]), "degC"),
    }


def _fluxes(fpar, tair, rg, wai, traits, vigour) -> dict[str, np.ndarray]:
    """GPP (gC m-2 d-1), what plants respire of it, and soil respiration before its carbon stock is known."""
    par = 0.5 * 0.0864 * rg  # MJ m-2 d-1
    warm = 1 / (1 + np.exp(-(tair - 5) / 3)) / (1 + np.exp((tair - 36) / 3))
    dry = 1 / (1 + np.exp(-(wai - 0.15) / 0.06))
    gpp = traits["light"] * vigour * fpar * par / (1 + par / 22) * 1.6 * warm * (0.25 + 0.75 * dry)
    plants = traits["plants"] * fading_mean(gpp, 15)
    soil = traits["q10"] ** ((fading_mean(tair, 5) - 15) / 10) * (0.3 + 0.7 * wai / (wai + 0.25))
    return {"gpp": gpp.astype(np.float32), "plants": plants.astype(np.float32), "soil": soil.astype(np.float32)}


@dataclass(frozen=True, eq=False)
class World:
    """Shares of the plant types (type, cell), drivers by cell, true GPP and TER (time, cell) in gC m-2 d-1."""

    climate: Climate
    shares: np.ndarray
    packed: xr.Dataset
    gpp: np.ndarray
    ter: np.ndarray

    @property
    def land(self) -> Land:
        """Its land cells."""
        return self.climate.land

    @property
    def days(self) -> np.ndarray:
        """Dates of the days."""
        return self.climate.time

    @property
    def time(self) -> xr.DataArray:
        """The days as a coordinate."""
        return xr.DataArray(self.days.astype("datetime64[ns]"), dims="time", name="time")

    def map(self, values: np.ndarray, axis: str | None, coord=None, **attrs) -> xr.DataArray:
        """Packed (…, cell) → (…, lat, lon), lazily and in blocks of time where there is an axis; sea is NaN."""
        lat, lon = self.land.grid["lat"], self.land.grid["lon"]
        where = {"shape": (lat.size, lon.size), "row": self.land.row, "col": self.land.col}
        if axis is None:
            return xr.DataArray(_unpacked(values, **where), {"lat": lat, "lon": lon}, ("lat", "lon"), attrs=attrs)
        import dask.array as da

        lazy = da.from_array(values, chunks=(92 if axis == "time" else -1, -1), name=False)
        chunks = (lazy.chunks[0], (lat.size,), (lon.size,))
        maps = lazy.map_blocks(_unpacked, **where, dtype=np.float32, chunks=chunks, drop_axis=1, new_axis=[1, 2])
        return xr.DataArray(maps, {axis: coord, "lat": lat, "lon": lon}, (axis, "lat", "lon"), attrs=attrs)


def _unpacked(part: np.ndarray, shape: tuple[int, int], row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """(…, cell) → (…, lat, lon), NaN at sea."""
    out = np.full((*part.shape[:-1], *shape), np.nan, np.float32)
    out[..., row, col] = part
    return out
