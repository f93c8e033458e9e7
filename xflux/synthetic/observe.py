"""What is seen of the synthetic Earth: towers, fires, inversions, a bottom-up product."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xflux import towers as tower_room
from xflux.align import by_month
from xflux.synthetic.biosphere import TYPES, World
from xflux.synthetic.climate import Land, autoregressive, smooth_fields
from xflux.temporal import MEAN_YEAR

if TYPE_CHECKING:
    from xflux.synthetic.planet import Settings

PG_PER_YEAR = MEAN_YEAR / 1e15  # PgC yr-1 per gC d-1
INVERSIONS = ("INV-A", "INV-B", "INV-C", "INV-D", "INV-E")
# centres of the real network: lat, lon, spread (degrees), weight; the rest is scattered over all land
NETWORK = ((49, 10, 9, 0.34), (42, -90, 13, 0.26), (50, -105, 14, 0.10), (36, 120, 12, 0.08), (-33, 147, 9, 0.06),
           (65, 27, 12, 0.04), (62, 130, 18, 0.02))  # fmt: skip
SCATTERED = 0.16


def monthly_means(values: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, xr.DataArray]:
    """Daily (time, cell) → means of the months, and their time axis."""
    month = days.astype("datetime64[M]")
    first = np.flatnonzero(np.r_[True, month[1:] != month[:-1]])
    sums = np.add.reduceat(values, first, axis=0, dtype=np.float64)
    counts = np.diff(np.r_[first, len(days)])
    time = xr.DataArray(month[first].astype("datetime64[ns]"), dims="time", name="time")
    return (sums / counts[:, None]).astype(np.float32), time


def monthly(grid: xr.Dataset) -> xr.Dataset:
    """Drivers as monthly climatologies: means over the months of all years."""
    return xr.Dataset({name: by_month(da) for name, da in grid.data_vars.items()}, attrs=grid.attrs).compute()


def place(land: Land, uneven: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Cells of the towers: by land area, mixed with the density of the real network."""
    even = land.area / land.area.sum()
    dense = np.zeros(land.size)
    for lat, lon, spread, weight in NETWORK:
        d2 = (land.lat - lat) ** 2 + (((land.lon - lon + 180) % 360 - 180) * np.cos(np.deg2rad(lat))) ** 2
        bump = land.area * np.exp(-d2 / 2 / spread**2)
        dense += weight * bump / max(bump.sum(), 1e-300)
    dense += SCATTERED * even
    chance = uneven * dense / dense.sum() + (1 - uneven) * even
    return rng.choice(land.size, count, p=chance / chance.sum())


def towers(world: World, settings: "Settings", rng: np.random.Generator) -> xr.Dataset:
    """Daily tower records: two to all years each, three days in four of good quality."""
    land, days = world.land, world.days
    cell = place(land, settings.uneven, settings.towers, rng)
    years = days.astype("datetime64[Y]").astype(int)
    every = np.unique(years)
    length = rng.integers(min(2, len(every)), len(every) + 1, settings.towers)
    start = every[0] + rng.integers(0, len(every) - length + 1)
    step = float(land.grid["lat"][1] - land.grid["lat"][0])
    shift = rng.uniform(-0.45, 0.45, (2, settings.towers)) * step
    own_offset = 0.05 * settings.hidden * rng.standard_normal(settings.towers)
    tropical = 1 / (1 + np.exp((np.abs(land.lat) - 23) / 2))
    igbp = np.array([t[0] for t in TYPES.values()])[world.shares.argmax(0)]
    parts = []
    for s, c in enumerate(cell):
        when = np.flatnonzero((years >= start[s]) & (years < start[s] + length[s]))
        when = when[rng.random(len(when)) < 0.75]
        gpp, ter = world.gpp[when, c], world.ter[when, c]
        true = ter - gpp
        # random error grows with the flux, and has the tails of a Laplace distribution (Richardson et al., 2006)
        noise = rng.laplace(0, 1, len(when)) / np.sqrt(2) * (0.25 + 0.12 * (gpp + ter) / 2) * settings.tower_noise
        nee = true - settings.night_bias * tropical[c] * ter + noise + own_offset[s]
        tair = world.packed["Tair"].values[when, c] if world.packed["Tair"].dims[0] == "time" else None
        parts.append({
            "site": np.full(len(when), f"S{s // 1000}-{s % 1000:03d}"), "time": days[when].astype("datetime64[ns]"),
            "lat": np.full(len(when), land.lat[c] + shift[0, s]), "lon": np.full(len(when), land.lon[c] + shift[1, s]),
            "igbp": np.full(len(when), igbp[c]), "nee": nee, "nee_true": true, "Tair": tair,
            "nee_qc": rng.uniform(0.8, 1.0, len(when)),
        })  # fmt: skip
    table = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    coords = {k: ("sample", table.pop(k)) for k in ("site", "time", "lat", "lon", "igbp")}
    units = {"nee": "gC m-2 d-1", "nee_true": "gC m-2 d-1", "Tair": "degC", "nee_qc": "1"}
    data = {k: ("sample", v.astype(np.float32), {"units": units[k]}) for k, v in table.items()}
    found = xr.Dataset(data, coords, {"time_step": "day", "sources": "synthetic Earth"})
    # a tower sees no fires: a target with fires must be adjusted, or allowed by name
    found["nee"].attrs |= {"includes_fire": 0, "includes_rivers": 0}
    return found


def fires(wai: np.ndarray, gpp: np.ndarray, shares: np.ndarray, land: Land, total: float) -> np.ndarray:
    """Emissions where something grows and dries out, most of all in savanna; scaled to the global mean, PgC yr-1."""
    savanna = 0.1 + shares[list(TYPES).index("savanna")]
    burnt = (savanna * np.tanh(gpp / 3) * np.clip(0.35 - wai, 0, None) ** 2).astype(np.float64)
    now = (burnt.mean(0) * land.area).sum() * MEAN_YEAR / 1e15
    return (burnt * (total / now if now > 0 else 0)).astype(np.float32)


def inversions(world: World, settings: "Settings", rng: np.random.Generator) -> xr.Dataset:
    """Truth and fires by month, and errors: by region and season, correlated between inversions, small in sum."""
    land, size = world.land, settings.inversion_error
    truth, time = monthly_means(world.ter - world.gpp, world.days)
    wai, _ = monthly_means(world.packed["WAI2"].transpose("time", "cell").values, world.days)
    truth = truth + fires(wai, world.gpp.mean(0), world.shares, land, settings.fire)
    area = land.region_area.sum(1)  # m2 by region
    share = land.region_area / land.region_area.sum(0)  # of each cell's land
    common, common_pattern = _regional_errors(area, len(time), rng), smooth_fields(land.lat, land.lon, 0.2, 1, rng)[0]
    maps = []
    for _ in INVERSIONS:
        own = _regional_errors(area, len(time), rng)
        region = size * (np.sqrt(0.5) * common + np.sqrt(0.5) * own) / (area * PG_PER_YEAR)  # gC m-2 d-1
        pattern = 0.15 * size * (common_pattern + smooth_fields(land.lat, land.lon, 0.2, 1, rng)[0])
        # inside a region the pattern has no sum: inversions know regions better than their parts
        mean = (land.region_area @ pattern) / area
        maps.append(truth + (region @ share).astype(np.float32) + (pattern - mean @ share).astype(np.float32))
    attrs = {"units": "gC m-2 d-1", "long_name": "net biome exchange", "area_basis": "land",
             "includes_fire": 1, "includes_rivers": 0}  # fmt: skip
    fields = [world.map(m, "time", time, **attrs) for m in maps]
    nbe = xr.concat(fields, xr.DataArray(list(INVERSIONS), dims="inversion", name="inversion")).compute()
    return xr.Dataset({"nbe": nbe.assign_attrs(attrs)}, attrs={"title": "inversions of the synthetic Earth"})


def _regional_errors(area: np.ndarray, months: int, rng: np.random.Generator) -> np.ndarray:
    """Errors (month, region) in PgC yr-1: standing 0.4, seasonal 0.8, month to month 0.4 in a region of mean size.

    Nine tenths of their sum is taken back in proportion to area: what one region gains, the others lose. A global
    error of 0.2 PgC yr-1 stays.
    """
    relative = np.sqrt(area / area.mean())
    season = 2 * np.pi * np.arange(months) / 12
    waves = rng.standard_normal((2, len(area)))
    error = (
        0.4 * rng.standard_normal(len(area))
        + 0.8 * (np.cos(season)[:, None] * waves[0] + np.sin(season)[:, None] * waves[1])
        + 0.4 * autoregressive(months, len(area), 3.0, rng)
    ) * relative
    error = error - 0.9 * error.sum(1, keepdims=True) * area / area.sum()
    # the standing part of the sum is known best: the growth rate of CO2 is measured
    error = error - error.mean(0).sum() * area / area.sum()
    return error + 0.2 * rng.standard_normal() * area / area.sum()


def bottom_up(world: World, towers: xr.Dataset, drivers: xr.Dataset, seed: int, attrs: dict[str, Any]) -> xr.Dataset:
    """Upscaled NEE: boosted trees on 40 000 tower days, predicted from the drivers' monthly means."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    names = list(drivers.data_vars)
    at = tower_room.colocate(towers, drivers, max_distance=1e4, keep=["Tair"])
    rng = np.random.default_rng(seed)
    rows = rng.permutation(at.sizes["sample"])[:40_000]
    x = np.stack([at[n].values[rows] for n in names], axis=1)
    model = HistGradientBoostingRegressor(max_iter=150, random_state=0).fit(x, at["nee"].values[rows])
    days = world.days
    columns = []
    for name in names:
        da = world.packed[name]
        if "time" in da.dims:
            columns.append(monthly_means(da.transpose("time", "cell").values, days)[0])
        elif "dayofyear" in da.dims:
            year = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(int).clip(max=364)
            columns.append(monthly_means(da.transpose("dayofyear", "cell").values[year], days)[0])
        else:
            columns.append(np.broadcast_to(da.values, columns[0].shape))
    _, time = monthly_means(world.gpp[:, :1], days)
    table = np.stack([c.ravel() for c in columns], axis=1)
    nee = model.predict(table).reshape(columns[0].shape).astype(np.float32)
    attrs = {**attrs, "long_name": "net ecosystem exchange, upscaled from towers"}
    return xr.Dataset({"nee": world.map(nee, "time", time, **attrs).compute()}, attrs={"title": "bottom-up product"})
