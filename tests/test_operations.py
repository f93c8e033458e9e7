"""Random chains of xarray's operations before an integral: the right number by plain NumPy, a word, or an error."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import event, given, settings
from hypothesis import strategies as st

RADIUS = 6_371_000
DAY = pd.Timedelta("1D")
UNITS = {"units": "gC m-2 d-1", "area_basis": "cell"}


@dataclass(frozen=True)
class Plain:
    """The same flux in NumPy: values (step, lat, lon), where each step begins and ends, the cells' edges."""

    values: np.ndarray
    start: pd.DatetimeIndex
    stop: pd.DatetimeIndex
    lat: np.ndarray
    lon: np.ndarray

    def steps(self, chosen):
        return replace(self, values=self.values[chosen], start=self.start[chosen], stop=self.stop[chosen])

    def mean_of(self, groups):
        """Means over runs of steps; what is missing does not count."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            values = np.stack([np.nanmean(self.values[g], 0) for g in groups])
        return replace(
            self, values=values, start=self.start[[g[0] for g in groups]], stop=self.stop[[g[-1] for g in groups]]
        )

    def sums(self, freq):
        """PgC of the northern and the southern cells by calendar period."""
        width = {"lat": 180 / self.lat.size, "lon": np.deg2rad(360 / self.lon.size)}
        edges = [np.sin(np.deg2rad(self.lat + side * width["lat"] / 2)) for side in (-1, 1)]
        amount = self.values * (RADIUS**2 * width["lon"] * (edges[1] - edges[0]))[:, None] / 1e15
        parts = [amount[:, rows].reshape(len(amount), -1) for rows in (self.lat > 0, self.lat < 0)]
        rates, there = np.nansum(parts, -1).T, np.isfinite(parts).any(-1).T
        found = {}
        for period in pd.period_range(self.start[0], self.stop[-1] - pd.Timedelta("1s"), freq=freq):
            low = np.maximum(self.start, period.start_time)
            days = np.maximum(((np.minimum(self.stop, (period + 1).start_time) - low) / DAY).to_numpy(), 0)
            if days.sum():
                valid = (days[:, None] * there).sum(0) > 0
                found[period.start_time] = np.where(valid, (rates * days[:, None]).sum(0), np.nan)
        return found


def world(kind, bounds, lazy):
    time = pd.date_range("2004-01-01", "2005-03-31 12:00", freq={"days": "D", "months": "MS", "half days": "12h"}[kind])
    stop = time + (pd.offsets.MonthBegin() if kind == "months" else time[1] - time[0])
    lat, lon = np.array([-67.5, -22.5, 22.5, 67.5]), np.arange(30.0, 360, 60)
    values = np.random.default_rng(0).normal(size=(len(time), 4, 6))
    da = xr.DataArray(values, {"time": time, "lat": lat, "lon": lon}, ("time", "lat", "lon"), "nee", UNITS)
    ds = da.to_dataset()
    if bounds:
        ds = ds.assign_coords(time_bnds=(("time", "bnds"), np.stack([time, stop], 1)))
        ds["time"].attrs["bounds"] = "time_bnds"
    return (ds.chunk(time=200, lat=3) if lazy else ds), Plain(values, time, stop, lat, lon)


def on_flux(function):
    return lambda ds: ds.assign(nee=function(ds["nee"]).assign_attrs(ds["nee"].attrs))


def middle(time):
    return time[len(time) // 5], time[-len(time) // 5]


def coarsened(plain, n):
    return plain.mean_of([np.arange(i, i + n) for i in range(0, len(plain.start) // n * n, n)])


def by_month(plain):
    return plain.mean_of([np.flatnonzero(plain.start.to_period("M") == m) for m in plain.start.to_period("M").unique()])


def boxes(plain):
    values = plain.values.reshape(len(plain.values), plain.lat.size // 2, 2, plain.lon.size // 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        values = np.nanmean(values, (2, 4))
    return replace(plain, values=values, lat=plain.lat.reshape(-1, 2).mean(1), lon=plain.lon.reshape(-1, 2).mean(1))


SAFE = {  # after these every integral is right, without a word
    "sel": (
        lambda ds: ds.sel(time=slice(*middle(ds["time"].values))),
        lambda p: p.steps((p.start >= middle(p.start)[0]) & (p.start <= middle(p.start)[1])),
    ),
    "where": (
        on_flux(lambda da: da.where(da > -0.3)),
        lambda p: replace(p, values=np.where(p.values > -0.3, p.values, np.nan)),
    ),
    "masked": (
        on_flux(lambda da: da.where(da["lat"] < 0)),
        lambda p: replace(p, values=np.where(p.lat[:, None] < 0, p.values, np.nan)),
    ),
    "astype": (on_flux(lambda da: da.astype("float32")), lambda p: p),
    "copy": (lambda ds: ds.copy(deep=True), lambda p: p),
    "arithmetic": (on_flux(lambda da: 3 - da * 2), lambda p: replace(p, values=3 - p.values * 2)),
    "concat": (
        lambda ds: xr.concat([ds.isel(time=slice(0, 7)), ds.isel(time=slice(7, None))], "time", data_vars="minimal"),
        lambda p: p,
    ),
    "tiles": (
        lambda ds: xr.concat([ds.isel(lon=[0]), ds.isel(lon=slice(1, None))], "lon", data_vars="minimal"),
        lambda p: p,
    ),
    "west": (lambda ds: ds.assign_coords(lon=(ds["lon"] + 180) % 360 - 180).sortby("lon"), lambda p: p),
    "north first": (lambda ds: ds.isel(lat=slice(None, None, -1)), lambda p: p),
    "other order": (on_flux(lambda da: da.transpose("lon", ...)), lambda p: p),
    "names": (lambda ds: ds.rename(lat="latitude", lon="longitude"), lambda p: p),
    "units": (lambda ds: ds.flux.convert_units("kgCO2 m-2 s-1"), lambda p: p),
    "chunks": (lambda ds: ds.chunk(lat=2), lambda p: p),
}
COARSE = {  # after these it is right, or an error or a warning says what is not known
    "coarsen": (lambda ds: ds.coarsen(time=2, boundary="trim").mean(), lambda p: coarsened(p, 2)),
    "pentads": (lambda ds: ds.coarsen(time=5, boundary="trim").mean(), lambda p: coarsened(p, 5)),
    "resample": (lambda ds: ds.resample(time="MS").mean(), by_month),
    "boxes": (lambda ds: ds.coarsen(lat=2, lon=2).mean(), boxes),
    "gaps": (
        lambda ds: ds.isel(time=np.r_[0 : ds.sizes["time"] // 3, ds.sizes["time"] // 2 : ds.sizes["time"]]),
        lambda p: p.steps(np.r_[0 : len(p.start) // 3, len(p.start) // 2 : len(p.start)]),
    ),
}
AVERAGES = {"coarsen", "pentads", "resample"}


def integral(ds, freq):
    ds = ds.rename({old: new for old, new in (("latitude", "lat"), ("longitude", "lon")) if old in ds.dims})
    mask = (ds["lat"] > 0).astype(int).drop_attrs() * xr.ones_like(ds["lon"], int).drop_attrs()
    found = ds.flux.aggregate_regions(mask.rename(None), units="PgC", freq=freq)["nee"]
    return {pd.Timestamp(t): found.sel(time=t, region=[1, 0]).values for t in found["time"].values}


def check(ds, plain, exact):
    tolerance = 1e-9 if exact else 2e-5
    for freq, period in (("YS", "Y"), ("MS", "M")):
        if freq == "MS" and ((plain.stop - plain.start) / DAY).max() > 31.5:
            continue
        found, expected = integral(ds, freq), plain.sums(period)
        assert list(found) == list(expected)
        scale = np.nanmax(np.abs(list(expected.values())))
        np.testing.assert_allclose(
            list(found.values()), list(expected.values()), rtol=tolerance, atol=tolerance * scale
        )


@given(
    st.sampled_from(["days", "months", "half days"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(sorted(SAFE)), max_size=4, unique=True),
)
@settings(max_examples=10, deadline=None)
def test_an_integral_after_harmless_operations_is_right_without_a_word(kind, bounds, lazy, chain):
    ds, plain = world(kind, bounds, lazy)
    chain.sort(key=["units", "names"].__contains__)  # the others are written for one unit and one name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in chain:
            ds, plain = SAFE[name][0](ds), SAFE[name][1](plain)
        check(ds, plain, "astype" not in chain)


@given(
    st.sampled_from(["days", "months", "half days"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(sorted(COARSE)),
    st.lists(st.sampled_from([*sorted(SAFE.keys() - {"names", "units"}), *COARSE]), max_size=3, unique=True),
)
@settings(max_examples=12, deadline=None)
def test_an_integral_on_another_axis_is_right_or_says_what_is_not_known(kind, bounds, lazy, first, chain):
    ds, plain = world(kind, bounds, lazy)
    averages = [name for name in (first, *chain) if name in AVERAGES]  # a second one, or one of parts of months, parts
    chain = averages[:1] + [name for name in (first, *chain) if name not in averages]  # steps, and nothing tells where
    if chain[0] == "pentads" and not bounds:  # stamped at midnights, which are middles where the first is of 1 January
        chain = [name for name in chain if name != "sel"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            for name in chain:
                change = (SAFE | COARSE)[name]
                ds, plain = change[0](ds), change[1](plain)
            check(ds, plain, "astype" not in chain)
        except ValueError as error:
            event(f"error: {str(error)[:30]}")
            return
        except AssertionError:
            if not [w for w in said if issubclass(w.category, UserWarning)]:
                raise


@pytest.mark.parametrize("name", sorted(COARSE))
def test_coarser_axes_without_bounds_are_right(name):
    ds, plain = world("days", False, False)
    check(COARSE[name][0](ds), COARSE[name][1](plain), True)
