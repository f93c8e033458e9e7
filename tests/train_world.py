"""A small planted world for the trainer's tests: gridded drivers, towers on them, inversions of the truth."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

DRIVERS = ["warm", "wet", "green"]
DAYS = np.array([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
BANDS = ["south", "tropics", "north"]


def truth(warm, wet, green):
    """The planted flux, gC m-2 d-1: not linear, and with all drivers in it."""
    return 1.0 - 1.5 * np.maximum(green, 0) + 0.8 * np.maximum(warm - 0.3 * wet, 0) - 0.3 * wet


@dataclass(frozen=True)
class World:
    grid: xr.Dataset
    towers: xr.Dataset
    weights: xr.DataArray
    flux: xr.DataArray
    regional: xr.DataArray
    target: xr.DataArray


def world(
    step: float = 10.0, samples: int = 6000, sites: int = 24, noise: float = 0.3, bias: float = 0.0, seed: int = 0
):
    rng = np.random.default_rng(seed)
    lat, lon = np.arange(-90 + step / 2, 90, step), np.arange(-180 + step / 2, 180, step)
    grid = _grid(lat, lon, rng)
    area = np.cos(np.deg2rad(lat))[:, None] * np.ones(len(lon)) * (step * 111e3) ** 2
    weights = np.zeros((3, len(lat), len(lon)))
    for number, (south, north) in enumerate([(-90, -25), (-25, 25), (25, 90)]):
        weights[number] = area * ((lat > south) & (lat < north))[:, None]
    coords = {"region": BANDS, "lat": lat, "lon": lon}
    weights = xr.DataArray(
        weights, dims=("region", "lat", "lon"), coords=coords, attrs={"units": "m2", "area_basis": "land"}
    )
    flux = truth(grid.warm, grid.wet, grid.green).transpose("month", "lat", "lon")
    regional = (flux * xr.DataArray(DAYS, dims="month") * weights).sum(("lat", "lon")) * 1e-15
    return World(grid, _towers(samples, sites, noise, bias, rng), weights, flux, regional, _target(regional, rng))


def _grid(lat, lon, rng) -> xr.Dataset:
    month = np.arange(1, 13)
    season = np.cos(2 * np.pi * (month - 7) / 12)[:, None, None] * np.sign(lat)[:, None]
    shape = (12, len(lat), len(lon))
    values = {
        "warm": season + rng.normal(size=shape) * 0.5,
        "wet": rng.normal(size=shape),
        "green": rng.normal(size=shape[1:]) + 0.2,
    }
    dims = {name: ("month", "lat", "lon")[3 - a.ndim :] for name, a in values.items()}
    variables = {name: (dims[name], a, {"units": "1"}) for name, a in values.items()}
    return xr.Dataset(variables, coords={"month": month, "lat": lat, "lon": lon})


def _towers(samples, sites, noise, bias, rng) -> xr.Dataset:
    drivers = rng.normal(size=(samples, 3))
    nee = truth(*drivers.T) + bias + rng.normal(size=samples) * noise
    variables = {name: ("sample", drivers[:, i], {"units": "1"}) for i, name in enumerate(DRIVERS)}
    variables["nee"] = ("sample", nee, {"units": "gC m-2 d-1"})
    number = rng.integers(0, sites, samples)
    place = {"lat": ("sample", number * 2.0 - 20), "lon": ("sample", number * 3.0)}
    return xr.Dataset(variables, coords={"site": ("sample", np.array([f"S-{n:02d}" for n in number]))} | place)


def _target(regional: xr.DataArray, rng, inversions: int = 5, years: int = 4) -> xr.DataArray:
    time = xr.date_range("2015-01-01", periods=12 * years, freq="MS")
    values = np.tile(regional.values.T if regional.dims[0] == "month" else regional.values, (1, years))
    values = values[None] + rng.normal(size=(inversions, *values.shape)) * 0.05
    return xr.DataArray(
        values,
        dims=("inversion", "region", "time"),
        coords={"inversion": list("abcdefghij")[:inversions], "region": BANDS, "time": time},
        attrs={"units": "PgC month-1"},
    )
