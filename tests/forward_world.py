"""A small world for the forward-run tests: drivers of every kind of dims, and a network in plain NumPy."""

import os
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

DRIVERS = ["tair", "rg", "lai", "sand", "wai"]


@dataclass
class Net:
    """One hidden layer per member, in NumPy; counts nothing, holds nothing."""

    drivers: list = field(default_factory=lambda: list(DRIVERS))
    units: str = "gC m-2 d-1"
    target_names: list = field(default_factory=lambda: ["nee"])
    members: int = 3
    driver_units: dict = field(default_factory=lambda: {"tair": "degC"})
    attrs: dict = field(default_factory=lambda: {"includes_fire": False})
    seed: int = 0
    delay: float = 0.0
    log: str = ""

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.first = rng.normal(size=(self.members, len(self.drivers), 8)).astype("float32")
        self.second = rng.normal(size=(self.members, 8)).astype("float32")

    def predict(self, rows, members=None):
        if self.log:  # one line per call, safe from several processes
            with open(self.log, "a", encoding="utf-8") as f:
                f.write(f"{os.getpid()} {len(rows)} {float(rows[0, 3]):.6f} {float(rows[0, 0]):.6f}\n")
        time.sleep(self.delay)
        chosen = range(self.members) if members is None else np.atleast_1d(members)
        return np.stack([np.maximum(rows @ self.first[m], 0) @ self.second[m] for m in chosen])


def calendar_times(calendar="standard", start="2003-12-20", days=400):
    if calendar == "standard":
        return pd.date_range(start, periods=days)
    return xr.date_range(start, periods=days, calendar=calendar, use_cftime=True)


def grid(times=None, dayofyear=365, ny=5, nx=6, seed=1, holes=True):
    """Drivers (time, lat, lon), (dayofyear, …), (month, …), (lat, lon), in odd dim orders, with an ocean."""
    rng = np.random.default_rng(seed)
    times = calendar_times() if times is None else times

    def draw(*shape):
        return rng.normal(size=shape).astype("float32")

    ds = xr.Dataset(
        {
            "tair": (("lon", "time", "lat"), draw(nx, len(times), ny), {"units": "degC"}),
            "rg": (("dayofyear", "lat", "lon"), draw(dayofyear, ny, nx)),
            "lai": (("lat", "month", "lon"), draw(ny, 12, nx)),
            "sand": (("lon", "lat"), draw(nx, ny)),
            "wai": (("time", "lat", "lon"), draw(len(times), ny, nx).astype("float64")),
        },
        {"time": times, "lat": np.linspace(60, -60, ny), "lon": np.linspace(-150, 150, nx)},
    )
    ds["lat"].attrs["units"] = "degrees_north"
    ds = ds.assign_coords(month=np.arange(1, 13), dayofyear=np.arange(1, dayofyear + 1))
    if holes:
        ds["sand"] = ds.sand.where(ds.lon > -100)
        ds["wai"][3, 1, 4] = np.nan
        ds["lai"][2, 5, 3] = np.nan
    return ds


def stacked(ds, names=DRIVERS):
    """The product written out, (row = time × lat × lon, driver): the plain way."""
    when = ds.time
    last = int(ds.dayofyear.max())
    # the plain rule: day 366 takes 365 where there is none
    days = np.minimum(np.asarray(when.dt.dayofyear), last) if last >= 365 else np.asarray(when.dt.dayofyear)
    full = []
    for name in names:
        da = ds[name]
        if "dayofyear" in da.dims:
            da = da.sel(dayofyear=xr.DataArray(days, dims="time")).drop_vars("dayofyear")
        if "month" in da.dims:
            da = da.sel(month=xr.DataArray(np.asarray(when.dt.month), dims="time")).drop_vars("month")
        da = da.broadcast_like(xr.DataArray(np.zeros(when.size), dims="time"))
        full.append(da.transpose("time", "lat", "lon").values.astype("float32"))
    return np.stack(full, axis=-1)


def plain(ds, net):
    """(member, time, lat, lon) by the plain network on the stacked array."""
    rows = stacked(ds, net.drivers)
    flat = rows.reshape(-1, rows.shape[-1])
    out = net.predict(flat).reshape(net.members, *rows.shape[:-1])
    return np.where(np.isfinite(rows).all(axis=-1), out, np.nan)


def assert_close(found, expected):
    """Equal to 1e-5 of the field's standard deviation, NaN at the same places."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.nanstd(expected))
