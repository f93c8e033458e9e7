"""Land, mean climate, weather and an ENSO-like mode of the synthetic Earth."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xflux.cells import cell_area
from xflux.regions import region_weights

PATTERNS = 40


@dataclass(frozen=True)
class Land:
    """Cells with land: their place, share of land, and weights (m2) in the 18 regions."""

    grid: xr.Dataset
    row: np.ndarray
    col: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    fraction: np.ndarray
    inland: np.ndarray
    area: np.ndarray
    regions: xr.DataArray
    region_area: np.ndarray  # (region, cell) m2

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.row)


def make_land(resolution: float) -> Land:
    """The 18 RECCAP2 regions of the shipped polygons on a regular grid; Greenland and Antarctica are left out."""
    from scipy.ndimage import gaussian_filter1d

    rows = round(180 / resolution) if np.isfinite(resolution) and 0.25 <= resolution <= 30 else 0
    if not rows or abs(rows * resolution - 180) > 1e-9:
        raise ValueError(f"resolution={resolution}: degrees that divide 180, between 0.25 and 30 (2.0, 2.5, 5.0 …)")
    lat = -90 + resolution / 2 + resolution * np.arange(rows)
    lon = -180 + resolution / 2 + resolution * np.arange(2 * rows)
    grid = xr.Dataset(coords={
        "lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"}),
    })  # fmt: skip
    weights = region_weights(grid, "reccap2", area_basis="land").transpose("region", "lat", "lon")
    dense = np.asarray(weights.data.todense())
    share = (dense.sum(0) / cell_area(grid).transpose("lat", "lon").values).clip(0, 1)
    # a sliver of land below 1 % of the cell is no cell of its own
    row, col = np.nonzero(share > 0.01)
    wide = gaussian_filter1d(gaussian_filter1d(share, 8 / resolution, axis=0), 12 / resolution, axis=1, mode="wrap")
    inside = dense[:, row, col]
    return Land(
        grid, row, col, lat[row], lon[col], share[row, col], wide[row, col], inside.sum(0), weights["region"], inside
    )


@dataclass(frozen=True)
class Climate:
    """Mean climate by cell, and the series that move it; ``weather`` makes any block of cells on demand."""

    land: Land
    time: np.ndarray
    temperature: np.ndarray
    seasonality: np.ndarray
    wetness: np.ndarray
    nino: np.ndarray
    nino_warm: np.ndarray
    nino_dry: np.ndarray
    patterns: np.ndarray
    warm_series: np.ndarray
    wet_series: np.ndarray

    def weather(self, cells: slice) -> dict[str, np.ndarray]:
        """Daily air temperature (degC), rain (mm d-1) and cloudiness (0–1), each (time, cell)."""
        lat = self.land.lat[cells]
        angle = _season_angle(self.time)[:, None]
        # the season: −1 in the middle of the local winter, +1 in summer, 3 weeks after the solstice
        season = np.cos(angle - 2 * np.pi * (172 + 25) / 365.25) * np.sign(lat)
        synoptic = self.warm_series @ self.patterns[:, cells] / np.sqrt(PATTERNS)
        size = (0.8 + 3.2 * (np.abs(lat) / 55).clip(0, 1)) * (0.5 + self.land.inland[cells])
        nino = self.nino[:, None]
        tair = self.temperature[cells] + self.seasonality[cells] * season + size * synoptic
        tair = tair + 0.2 * nino * self.nino_warm[cells]
        storm = self.wet_series @ self.patterns[:, cells] / np.sqrt(PATTERNS) - 0.4
        # lognormal showers above a threshold: rain on about a third of the days
        shower = np.maximum(np.exp(1.1 * storm) - 1.0, 0) * 2.6
        mean = self._mean_rain(lat, angle, cells)
        rain = mean * shower * np.exp(-0.07 * nino * self.nino_dry[cells])
        cloud = (0.25 + 0.25 * np.tanh(mean / 4) + 0.12 * np.clip(storm, -2, 2)).clip(0.05, 0.9)
        return {k: v.astype(np.float32) for k, v in (("tair", tair), ("rain", rain), ("cloud", cloud))}

    def _mean_rain(self, lat: np.ndarray, angle: np.ndarray, cells: slice) -> np.ndarray:
        """Mean rain of the season, mm d-1: a rain belt that follows the sun, dry subtropics, wet middle latitudes."""
        belt = 11 * np.cos(angle - 2 * np.pi * (172 + 35) / 365.25)
        tropical = 7.5 * np.exp(-(((lat - belt) / 11) ** 2))
        storms = 2.4 * np.exp(-(((np.abs(lat) - 52) / 17) ** 2)) * (1.3 - 0.6 * self.land.inland[cells])
        return (tropical + storms + 0.25) * self.wetness[cells]


def _season_angle(time: np.ndarray) -> np.ndarray:
    year = time.astype("datetime64[Y]")
    day = (time.astype("datetime64[D]") - year.astype("datetime64[D]")).astype(float) + 0.5
    return 2 * np.pi * day / 365.25


def make_climate(land: Land, years: int, rng: np.random.Generator) -> Climate:
    """Mean climate, weather and the ENSO-like mode, from one generator."""
    time = np.arange(np.datetime64("2001-01-01"), np.datetime64(f"{2001 + years}-01-01"))
    lat, days = land.lat, len(time)
    relief, wet, warm, dry = smooth_fields(land.lat, land.lon, 0.25, 4, rng)
    tropics = np.exp(-((lat / 20) ** 2))
    temperature = 27.5 - 46 * np.sin(np.deg2rad(lat)) ** 2 - 2.5 * np.maximum(relief, 0)
    seasonality = (1 + 0.36 * np.abs(lat)) * (0.35 + land.inland)
    return Climate(
        land=land,
        time=time,
        temperature=temperature.astype(np.float32),
        seasonality=seasonality.astype(np.float32),
        wetness=np.exp(0.45 * wet).astype(np.float32),
        nino=el_nino(days, rng),
        nino_warm=(tropics * (1 + 0.3 * warm)).astype(np.float32),
        nino_dry=(np.exp(-((lat / 25) ** 2)) * (0.7 + 0.8 * dry)).astype(np.float32),
        patterns=smooth_fields(land.lat, land.lon, 0.13, PATTERNS, rng),
        warm_series=autoregressive(days, PATTERNS, 4.0, rng),
        wet_series=autoregressive(days, PATTERNS, 1.5, rng),
    )


def smooth_fields(lat: np.ndarray, lon: np.ndarray, scale: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` independent fields (count, cell), Gaussian, mean 0, variance 1, without a seam or a grid.

    Sums of cosines with random wave vectors in space, taken on the unit sphere: the correlation falls like
    exp(−d²/2) at a distance d of ``scale`` radians. The same seed gives the same fields at every resolution.
    """
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    x = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    waves = 64
    out = np.empty((count, len(lat)), np.float32)
    for k in range(count):
        vectors = rng.standard_normal((waves, 3)) / scale
        phase = rng.uniform(0, 2 * np.pi, (waves, 1))
        out[k] = np.cos(vectors @ x + phase).sum(0) * np.sqrt(2 / waves)
    return out


def autoregressive(steps: int, count: int, memory: float, rng: np.random.Generator) -> np.ndarray:
    """Red noise (steps, count) of mean 0 and variance 1, with an e-folding memory in steps."""
    from scipy.signal import lfilter

    a = np.exp(-1 / memory)
    noise = rng.standard_normal((steps, count)) * np.sqrt(1 - a * a)
    noise[0] = rng.standard_normal(count)
    return lfilter([1.0], [1.0, -a], noise, axis=0).astype(np.float32)


def fading_mean(values: np.ndarray, memory: float) -> np.ndarray:
    """Exponentially weighted past mean along the first axis; it starts at the mean of the first year."""
    from scipy.signal import lfilter

    a = np.exp(-1 / memory)
    start = values[:365].mean(0) * a
    return lfilter([1 - a], [1.0, -a], values, axis=0, zi=start[None])[0].astype(np.float32)


def el_nino(days: int, rng: np.random.Generator) -> np.ndarray:
    """ENSO-like index by day: a damped oscillation of about four years, driven by noise, variance about 1."""
    months = days // 30 + 3
    spin = 240
    angle, damping = 2 * np.pi / 48, np.exp(-1 / 24)
    state, out = 0j, np.empty(months + spin)
    kicks = rng.standard_normal((months + spin, 2))
    for m in range(months + spin):
        state = state * damping * np.exp(1j * angle) + (kicks[m, 0] + 1j * kicks[m, 1]) * np.sqrt(1 - damping**2)
        out[m] = state.real
    return np.interp(np.arange(days), np.arange(months) * 30.44, out[spin:]).astype(np.float32)
