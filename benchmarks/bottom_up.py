"""A bottom-up NEE product of 204 months for the bridge's benchmarks: realistic in structure, invented in value.

No bottom-up product is shipped, and the data folder holds climatologies only. This one is made of

- a seasonal cycle per pixel: GPP by light-use efficiency (radiation × NDVI × a temperature ramp, scaled to the FLUXCOM
  map where there is one), TER with Q10 = 1.8 and soil moisture, 2 % less than GPP over the year; from the 0.5° monthly
  climatology of ``$XFLUX_DATA`` (``drivers/monthly_climatology_05deg.nc``). Without it the same formulas run on
  analytic fields of latitude and two smooth random fields, on the land of the package's own RECCAP2 polygons;
- interannual modes: eight smooth patterns of warmth and of wetness (correlation length 12°) with red-noise indices
  (lag-one correlation 0.85 per month), which act on GPP and TER in proportion;
- weather: monthly anomalies with a correlation length of 3° and a lag-one correlation of 0.3;
- white noise of 3 % of a pixel's standard deviation, as a machine-learned field has.

``python benchmarks/bottom_up.py`` prints what came out.
"""

import os
from pathlib import Path

import numpy as np
import xarray as xr

import xflux

MONTHS = 204
_CLIMATOLOGY = "drivers/monthly_climatology_05deg.nc"


def bottom_up(
    months: int = MONTHS, resolution: float = 0.5, seed: int = 0, data: str | Path | None = None
) -> xr.DataArray:
    """NEE (time, lat, lon), float32, gC m-2 d-1 per land area, NaN over the sea; from January 2001.

    ``resolution`` is a multiple of 0.5°; ``data`` the data folder (default ``$XFLUX_DATA``), or "" for none.
    """
    data = os.environ.get("XFLUX_DATA", "") if data is None else data
    path = Path(data) / _CLIMATOLOGY if data else None
    gpp, ter, cold = _from_drivers(path) if path is not None and path.exists() else _analytic(seed)
    step = round(resolution / 0.5)
    if step > 1:
        gpp, ter, cold = (f.coarsen(lat=step, lon=step).mean() for f in (gpp, ter, cold))
    land = gpp.notnull().all("month").values & ter.notnull().all("month").values
    rows, columns = np.nonzero(land)
    rng = np.random.default_rng(seed)
    month = np.arange(months) % 12
    nee = np.full((months, *land.shape), np.nan, "float32")
    g, r, c = (np.asarray(f.transpose("month", "lat", "lon"))[:, rows, columns] for f in (gpp, ter, cold))
    warm, wet = (_anomaly(months, land.shape, rng, step)[:, rows, columns] for _ in range(2))
    warm_gpp = 0.04 * warm * np.where(c[month] > 0, 1, -1)  # warmth helps where it is cold, and costs where it is not
    values = r[month] * (1 + 0.04 * warm + 0.03 * wet) - g[month] * np.maximum(1 + warm_gpp + 0.07 * wet, 0)
    values += 0.03 * values.std(axis=0) * rng.standard_normal(values.shape)
    nee[:, rows, columns] = values
    time = xr.date_range("2001-01-01", periods=months, freq="MS")
    coords = {"time": time, "lat": gpp["lat"].values, "lon": gpp["lon"].values}
    attrs = {"units": "gC m-2 d-1", "area_basis": "land", "long_name": "invented bottom-up NEE"}
    return xr.DataArray(nee, coords, ("time", "lat", "lon"), name="nee", attrs=attrs)


def _from_drivers(path: Path) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Seasonal cycles of GPP and TER (month, lat, lon), and whether the month is colder than 15 °C (1, else −1)."""
    ds = xr.open_dataset(path)
    warmth = ((ds["TAIR"] + 2) / 20).clip(0, 1)
    light = ds["RG"].clip(0) * ds["NDVI_FILLED"].clip(0.02, 0.9) * warmth
    known = ds["GPP_FLUXCOM"].clip(0.02)
    scale = (known / light.mean("month").clip(0.5)).clip(0.01, 0.2)
    gpp = light * scale.fillna(0.05)
    wetness = (ds["SWL1"].fillna(0.2) / 0.3).clip(0.3, 1.3)
    ter = 1.8 ** ((ds["TAIR"] - 10) / 10) * wetness
    ter = ter * (0.98 * gpp.mean("month") / ter.mean("month"))
    return gpp, ter, xr.where(ds["TAIR"] < 15, 1, -1)


def _analytic(seed: int) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """The same from latitude alone and two smooth random fields, on the land of the RECCAP2 polygons."""
    lat, lon = np.arange(89.75, -90, -0.5), np.arange(-179.75, 180, 0.5)
    grid = xr.Dataset(coords={"lat": lat, "lon": lon})
    weights = xflux.region_weights(grid, "reccap2").sum("region").data.todense()
    land = weights > 0.5 * grid.flux.cell_area().values
    rng = np.random.default_rng(seed + 1)
    phi = np.radians(lat)[None, :, None]
    season = np.cos(2 * np.pi * (np.arange(12)[:, None, None] - 6.5) / 12) * np.sign(phi)
    tilt = np.sin(np.abs(phi)) * season
    tair = 28 - 45 * np.sin(phi) ** 2 + 18 * tilt + 2 * _smooth(land.shape, 20, rng)
    light = (220 * np.cos(phi) + 90 * tilt).clip(0)
    green = (0.45 + 0.15 * _smooth(land.shape, 12, rng) + 0.15 * season * np.abs(phi)).clip(0.02, 0.9)
    gpp = 0.06 * light * green * ((tair + 2) / 20).clip(0, 1)
    ter = 1.8 ** ((tair - 10) / 10)
    ter *= 0.98 * gpp.mean(axis=0) / ter.mean(axis=0)
    coords = {"month": np.arange(1, 13), "lat": lat, "lon": lon}
    fields = [np.where(land, f, np.nan) for f in (gpp, ter, np.where(tair < 15, 1, -1))]
    return tuple(xr.DataArray(f, coords, ("month", "lat", "lon")) for f in fields)


def _smooth(shape: tuple[int, int], degrees: float, rng: np.random.Generator, step: int = 1) -> np.ndarray:
    """A random field of unit variance with about this correlation length; it wraps in longitude."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape), degrees / (0.5 * step), mode=("nearest", "wrap"))
    return ((field - field.mean()) / field.std()).astype("float32")


def _anomaly(months: int, shape: tuple[int, int], rng: np.random.Generator, step: int) -> np.ndarray:
    """Standardised monthly anomalies (time, lat, lon): interannual modes and weather."""
    total = np.zeros((months, *shape), "float32")
    for _ in range(8):
        index = _red(rng.standard_normal((months, 1, 1)), 0.85)
        total += index.astype("float32") * _smooth(shape, 12, rng, step) / np.sqrt(8)
    weather = np.stack([_smooth(shape, 3, rng, step) for _ in range(months)])
    return total + 0.7 * _red(weather, 0.3)


def _red(white: np.ndarray, lag: float) -> np.ndarray:
    """Red noise of unit variance along the first axis."""
    out = white.copy()
    for t in range(1, len(out)):
        out[t] = lag * out[t - 1] + np.sqrt(1 - lag**2) * white[t]
    return out


if __name__ == "__main__":
    nee = bottom_up()
    yearly = nee.flux.aggregate_regions("reccap2", units="PgC yr-1", freq="YS", include_global=True)
    print(f"{nee.sizes}, {int(nee.notnull().any('time').sum())} land cells")
    print(yearly.mean("time").to_series().round(2).to_string())
    print(f"interannual standard deviation of the globe: {float(yearly.sel(region='GLOBAL').std()):.2f} PgC yr-1")
