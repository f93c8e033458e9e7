"""The lazy forward run against the plain network on the stacked array."""

import datetime
import pickle
import subprocess
import sys

import dask
import forward_world as world
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from forward_world import Net, assert_close, grid, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xflux import units
from xflux.forward import lazy as blocks
from xflux.forward import predict, wrap
from xflux.regions import aggregate_regions


@pytest.fixture(scope="module")
def ds():
    return grid()


@pytest.fixture(scope="module")
def truth(ds):
    return plain(ds, Net())


def test_equals_the_plain_network(ds, truth):
    out = predict(ds, Net())
    assert out.dims == ("member", "time", "lat", "lon") and out.dtype == np.float32
    assert_close(out.values, truth)
    assert np.isnan(truth).any() and np.isfinite(truth).any()


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_schedulers_give_the_same(ds, truth, scheduler):
    out = predict(ds.chunk(time=150, lat=3), Net()).compute(scheduler=scheduler)
    assert_close(out.values, truth)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_chunks_any_dim_order_any_members(ds, truth, data):
    sizes = {d: data.draw(st.integers(1, n), label=d) for d, n in ds.sizes.items() if d in ("lat", "lon", "month")}
    sizes |= {d: data.draw(st.integers(20, ds.sizes[d]), label=d) for d in ("time", "dayofyear")}
    lazy = data.draw(st.sets(st.sampled_from(world.DRIVERS), min_size=1), label="dask")
    mixed = ds.assign({n: ds[n].chunk({d: c for d, c in sizes.items() if d in ds[n].dims}) for n in lazy})
    mixed = mixed.transpose(*data.draw(st.permutations(list(ds.dims)), label="order"))
    choice = data.draw(st.sampled_from(["all", "mean", [2, 0]]), label="members")
    out = predict(mixed, Net(), members=choice)
    expected = {"all": truth, "mean": truth.mean(axis=0)}.get(str(choice), truth[[2, 0]])
    assert out.dims[-3:] == ("time", "lat", "lon")
    assert_close(out.values, expected)


def test_mean_and_spread_are_those_of_the_members(ds, truth):
    out = predict(ds, Net(), members="mean+std")
    assert list(out) == ["nee", "nee_std"] and out.nee.dims == ("time", "lat", "lon")
    assert_close(out.nee.values, truth.mean(axis=0))
    assert_close(out.nee_std.values, truth.astype("float64").std(axis=0))
    assert out.nee_std.attrs["units"] == "gC m-2 d-1"
    assert_close(predict(ds, Net(), members=1).values, truth[[1]])


def test_the_spread_of_near_equal_members_is_exact():
    """Float32 sums of squares would give 0 or noise here."""
    values = np.array([1000.0, 1000.001, 1000.002], "float32")
    model = wrap([lambda r, v=v: np.full(len(r), v) for v in values], ["x"], "1")
    ds = xr.Dataset({"x": (("lat", "lon"), np.ones((2, 2)))})
    found = predict(ds, model, members="mean+std").nee_std.values
    np.testing.assert_allclose(found, values.astype("float64").std(), rtol=1e-6)


def test_nothing_is_computed_before_it_is_asked_for(ds):
    class Bomb(Net):
        def predict(self, rows, members=None):
            raise RuntimeError("computed")

    @dask.delayed
    def loaded():
        raise RuntimeError("loaded")

    lazy = ds.assign(sand=(("lat", "lon"), dask.array.from_delayed(loaded(), (5, 6), "float32")))
    for members in ("all", "mean", "mean+std"):
        predict(ds, Bomb(), members=members)
        predict(lazy, Net(), members=members)
    with pytest.raises(RuntimeError, match="loaded"):
        predict(lazy, Net()).compute()
    with pytest.raises(RuntimeError, match="computed"):
        predict(ds, Bomb()).compute()


class Counted(Net):
    """Says how many rows it has seen."""

    rows = 0

    def predict(self, rows, members=None):
        Counted.rows += len(rows)
        assert np.isfinite(rows).all(), "a row with a missing driver reached the model"
        return super().predict(rows, members)


def test_ocean_and_missing_cells_cost_nothing(ds, truth):
    Counted.rows = 0
    predict(ds.chunk(time=100), Counted()).compute(scheduler="synchronous")
    assert Counted.rows == np.isfinite(truth[0]).sum()


class Heavy(Net):
    """A model of 4 MB that counts how often it is pickled."""

    pickled = 0

    def __post_init__(self):
        super().__post_init__()
        self.ballast = np.random.default_rng(0).bytes(4_000_000)

    def __reduce__(self):
        Heavy.pickled += 1
        return (Heavy, (), self.__dict__)


def test_the_graph_holds_the_model_once(ds, monkeypatch):
    import cloudpickle

    monkeypatch.setattr(blocks, "JOINED", 1)

    lazy = predict(ds.chunk(time=2), Heavy())
    assert lazy.data.npartitions >= 200
    (optimised,) = dask.optimize(lazy)
    tasks = dict(optimised.__dask_graph__())
    Heavy.pickled = 0
    size = len(cloudpickle.dumps(tasks))
    assert Heavy.pickled == 1 and size < 8_000_000
    holding = [k for k, v in tasks.items() if len(cloudpickle.dumps(v)) > 3_000_000]
    assert len(holding) == 1, holding


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_calendars(calendar):
    times = world.calendar_times(calendar)
    length = 360 if calendar == "360_day" else 365
    ds = grid(times, dayofyear=length)
    out = predict(ds, Net())
    assert_close(out.values, plain(ds, Net()))
    assert out.time.dt.calendar == ("proleptic_gregorian" if calendar == "standard" else calendar)


def echo(*names):
    """A model that gives back its first driver."""
    return wrap(lambda rows: rows[:, 0], list(names), "1")


def test_day_366_takes_365_only_where_the_climatology_has_none():
    times = pd.to_datetime(["2004-12-30", "2004-12-31"])  # days 365 and 366
    for length, last in ((365, 365.0), (366, 366.0)):
        days = np.arange(1, length + 1, dtype="float32")
        ds = xr.Dataset({"d": ("dayofyear", days)}, {"dayofyear": days.astype(int)})
        ds["d"] = ds.d.expand_dims(lat=[0.0], lon=[0.0])
        np.testing.assert_array_equal(predict(ds, echo("d"), time=times).values.ravel(), [365.0, last])
    with pytest.raises(ValueError, match=r"driver 'd' has no dayofyear 361 \(it has 1 to 360\)"):
        predict(ds.isel(dayofyear=slice(360)), echo("d"), time=pd.to_datetime(["2004-12-26"]))


def test_month_labels_are_matched_by_value():
    months = np.array([3, 1, 2, 12, 11, 10, 9, 8, 7, 6, 5, 4])
    ds = xr.Dataset({"m": (("month", "lat", "lon"), months[:, None, None].astype("float32"))}, {"month": months})
    times = pd.date_range("2001-01-15", periods=12, freq="MS")
    np.testing.assert_array_equal(predict(ds, echo("m"), time=times).values.ravel(), times.month)


def test_result_axis():
    ds = grid()
    assert predict(ds[["sand", "lai"]], echo("sand", "lai")).dims == ("month", "lat", "lon")
    assert predict(ds[["rg", "lai"]], echo("rg", "lai")).dims == ("dayofyear", "lat", "lon")
    assert predict(ds[["sand"]], echo("sand")).dims == ("lat", "lon")
    assert predict(ds[["sand", "wai"]], echo("sand", "wai")).sizes["time"] == 400
    only = predict(ds, echo("lai"))  # variables that the model does not read do not count
    assert only.dims == ("month", "lat", "lon")
    given = predict(ds, echo("lai"), time=pd.date_range("2020-01-01", periods=3))
    assert given.sizes["time"] == 3


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_a_stamp_at_the_end_of_its_step_is_of_the_month_in_its_bounds(calendar):
    edges = xr.date_range("2001-01-01", periods=25, freq="MS", calendar=calendar, use_cftime=calendar == "noleap")
    ends, bounds = edges[1:], np.stack([edges[:-1], edges[1:]], 1)
    cycle = xr.DataArray(np.arange(12.0), {"month": np.arange(1, 13)}, ("month",))
    map_ = xr.DataArray(np.ones((1, 1)), {"lat": [0.0], "lon": [0.0]}, ("lat", "lon"))
    ds = xr.Dataset({"x": xr.DataArray(np.zeros(24), {"time": ends}, ("time",)) * map_, "cycle": cycle * map_})
    ds["time_bnds"] = (("time", "bnds"), bounds)
    model = wrap(lambda rows: rows[:, 1], ["x", "cycle"], "1")
    own = np.tile(np.arange(12.0), 2)
    np.testing.assert_array_equal(predict(ds, model).squeeze(), own)
    np.testing.assert_array_equal(predict(ds, model, time=ends[3:7]).squeeze(), own[3:7])
    np.testing.assert_array_equal(predict(ds.drop_vars("time_bnds"), model).squeeze(), np.roll(own, -1))


def test_months_of_days_of_year():
    ds = grid(holes=False)
    out = predict(ds, echo("lai", "rg"))
    months = pd.date_range("2001-01-01", periods=365).month
    np.testing.assert_array_equal(out.values, ds.lai.transpose("month", "lat", "lon").values[months - 1])


@pytest.mark.parametrize("days", [range(1, 101), range(1, 361), range(20, 200), range(300, 366), range(1, 367)])
def test_months_of_a_part_of_the_days_of_year(days):
    """Only a climatology of just 360 days is of a 360-day year, where all months have 30."""
    last = max(366, max(days)) if max(days) > 365 else 365
    ds = grid(dayofyear=last, holes=False)[["lai", "rg"]].sel(dayofyear=list(days))
    out = predict(ds, echo("lai", "rg"))
    year = "2004" if last == 366 else "2001"
    months = pd.date_range(f"{year}-01-01", periods=last).month[np.array(days) - 1]
    if list(days) == list(range(1, 361)):
        months = (np.array(days) - 1) // 30 + 1
    np.testing.assert_array_equal(out.values, ds.lai.transpose("month", "lat", "lon").values[months - 1])


@pytest.mark.parametrize("labels", [np.arange(12), np.arange(12) + 0.5, pd.date_range("2001", periods=12, freq="MS")])
def test_months_that_do_not_count_from_one_are_refused(ds, labels):
    january = pd.date_range("2004-01-01", periods=3)
    with pytest.raises(ValueError, match=r"coordinate 'month' goes from .* expected whole numbers from 1 to 12"):
        predict(ds.assign_coords(month=labels), echo("lai"), time=january)


def test_time_selects_the_drivers_steps(ds, truth):
    some = ds.time[[5, 50, 51, 300]]
    assert_close(predict(ds.chunk(time=30), Net(), time=some).values, truth[:, [5, 50, 51, 300]])
    part = predict(ds, Net(), time="2004-02")
    assert part.sizes["time"] == 29
    assert predict(ds, Net(), time=slice("2004-01-01", "2004-12-31")).sizes["time"] == 366
    days = [datetime.date(2004, 2, 28), datetime.date(2004, 2, 29)]
    assert_close(predict(ds, Net(), time=days).values, truth[:, [70, 71]])
    with pytest.raises(ValueError, match="time='1999' is not in the drivers' time, 2003-12-20"):
        predict(ds, Net(), time="1999")
    with pytest.raises(ValueError, match="driver 'tair' has no value at 1999-01-01"):
        predict(ds, Net(), time=pd.to_datetime(["1999-01-01"]))


def test_months_interpolate_between_mid_months():
    ds = xr.Dataset({"m": (("month", "lat", "lon"), np.arange(1.0, 13)[:, None, None])}, {"month": np.arange(1, 13)})
    times = pd.date_range("2001-01-01", "2001-12-31")
    found = predict(ds, echo("m"), time=times, interpolate=True).values.ravel()
    months = times.days_in_month[times.day == 1].to_numpy()
    middles = np.cumsum(months) - months / 2
    ring = np.r_[middles[-1] - 365, middles, middles[0] + 365]
    expected = np.interp(times.day_of_year - 0.5, ring, np.r_[12.0, np.arange(1.0, 13), 1.0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[15] == 1.0  # 16 January, noon
    step = predict(ds, echo("m"), time=times).values.ravel()
    np.testing.assert_array_equal(step, times.month)
    with pytest.raises(ValueError, match="interpolate=True needs daily"):
        predict(ds, echo("m"), time=pd.date_range("2001-01-01", periods=4, freq="MS"), interpolate=True)


def test_interpolation_over_chunks_and_calendars():
    for calendar in ("noleap", "360_day", "standard"):
        times = world.calendar_times(calendar)
        ds = grid(times, dayofyear=360 if calendar == "360_day" else 365, holes=False)
        whole = predict(ds, Net(), interpolate=True).values
        parts = predict(ds.chunk(time=37, month=5, lat=2), Net(), interpolate=True).values
        assert_close(parts, whole)
        assert not np.allclose(whole, predict(ds, Net()).values)


def test_a_missing_month_is_missing_in_the_days_that_need_it():
    values = np.arange(1.0, 13)
    values[5] = np.nan
    ds = xr.Dataset({"m": (("month", "lat", "lon"), values[:, None, None])})
    times = pd.date_range("2001-01-01", "2001-12-31")
    found = np.isnan(predict(ds, echo("m"), time=times).values.ravel())
    np.testing.assert_array_equal(found, times.month == 6)


def test_drivers_with_fewer_dims_broadcast():
    ds = grid(holes=False)
    ds["co2"] = ("time", np.linspace(370, 380, 400))
    ds["band"] = ("lat", np.arange(5.0))
    out = predict(ds.chunk(time=90, lat=2), wrap(lambda r: r[:, 0] + r[:, 1], ["co2", "band"], "1"))
    assert_close(out.values, (ds.co2 + ds.band).values.astype("float32"))
    full = predict(ds, wrap(lambda r: r[:, 0] + r[:, 1] + r[:, 2], ["co2", "band", "sand"], "1"))
    expected = (ds.co2 + ds.band + ds.sand).transpose("time", "lat", "lon")
    assert_close(full.values, expected.values)


def test_names_of_the_horizontal_dims_and_other_grids(ds, truth):
    named = ds.rename(lat="latitude", lon="longitude")
    assert predict(named, Net()).dims == ("member", "time", "lat", "lon")
    assert_close(predict(named, Net()).values, truth)
    cells = ds.stack(cell=("lat", "lon")).reset_index("cell")
    flat = predict(cells, Net())
    assert flat.dims == ("member", "time", "cell")
    assert_close(flat.values, truth.reshape(3, 400, 30))


def test_a_time_of_another_name_is_found_beside_climatologies(ds, truth):
    renamed = ds.rename(time="valid_time", lat="latitude", lon="longitude")
    assert_close(predict(renamed, Net()), truth)


def test_several_targets(ds):
    model = wrap(
        lambda r: np.stack([r[:, 0], 2 * r[:, 1]], axis=1),
        ["tair", "wai"],
        {"gpp": "gC m-2 d-1", "le": "W m-2"},
        targets=["gpp", "le"],
    )
    out = predict(ds.chunk(time=99), model)
    assert isinstance(out, xr.Dataset) and list(out) == ["gpp", "le"]
    assert out.le.attrs["units"] == "W m-2"
    valid = ds.wai.notnull()
    assert_close(out.gpp.values, ds.tair.where(valid).transpose("time", "lat", "lon").values)
    assert_close(out.le.values, (2 * ds.wai).values.astype("float32"))
    both = predict(ds, wrap([model.predict.__self__.functions[0]] * 2, ["tair", "wai"], "1", targets=["gpp", "le"]))
    assert both.gpp.dims == ("member", "time", "lat", "lon")


def test_attributes(ds):
    out = predict(ds, Net())
    assert out.name == "nee" and out.attrs["units"] == "gC m-2 d-1" and out.attrs["area_basis"] == "land"
    assert out.attrs["includes_fire"] == 0 and type(out.attrs["includes_fire"]) is int  # netCDF has no truth values
    assert "predict(Net" in out.attrs["provenance"]
    np.testing.assert_array_equal(out.member, np.arange(3))
    assert out.lat.attrs["units"] == "degrees_north"
    assert predict(ds, Net(), members="mean").attrs["units"] == "gC m-2 d-1"
    assert predict(ds, Net(attrs={"area_basis": "cell"})).attrs["area_basis"] == "cell"


def test_a_missing_driver_is_named_with_its_nearest(ds):
    with pytest.raises(KeyError, match=r"lacks driver 'tair'; nearest is 'Tair'.*grid.rename"):
        predict(ds.rename(tair="Tair"), Net())
    with pytest.raises(ValueError, match=r"lacks driver 'wai'.*Missing: \['wai'\]"):
        predict(ds.drop_vars("wai"), Net())
    with pytest.raises(KeyError) as error:
        predict(ds.drop_vars("tair"), Net())
    assert "nearest" not in str(error.value)  # 'wai' is a driver of its own


def test_wrong_units_are_named_at_the_call(ds):
    kelvin = ds.assign(tair=ds.tair.assign_attrs(units="K"))
    for given_grid in (kelvin, kelvin.chunk()):
        with pytest.raises(ValueError, match="driver 'tair' has units 'K', the model was trained with 'degC'"):
            predict(given_grid, Net())
    for spelling in ("celsius", "C", "°C", "degrees_Celsius", "degC", "degree Celsius", "deg_C", "degrees_C"):
        predict(ds.assign(tair=ds.tair.assign_attrs(units=spelling)), Net())
    unknown = ds.tair.copy()
    unknown.attrs = {}
    predict(ds.assign(tair=unknown), Net())


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("W m-2", "W/m2", True),
        ("W m-2", "W m^-2", True),
        ("hPa", "mbar", True),
        ("hPa", "Pa", False),
        ("hPa", "kPa", False),
        ("mm d-1", "mm/day", True),
        ("mm d-1", "mm month-1", False),
        ("1", "", True),
        ("-", "fraction", True),
        ("%", "1", False),
        ("K", "degC", False),
        ("K", "degF", False),
        ("degreesK", "kelvin", True),
        ("(0 - 1)", "1", True),
        ("m3 m-3", "1", True),
        ("J m-2 s-1", "W m-2", True),
        ("furlongs of fog", "1", False),
    ],
)
def test_driver_units(a, b, same):
    assert units.same(a, b) is same and units.same(b, a) is same


def test_no_land(ds):
    nowhere = ds.assign(sand=ds.sand * np.nan)
    with pytest.raises(ValueError, match=r"no land: no cell .* \(tair, rg, lai, sand, wai\)"):
        predict(nowhere, Net())
    for chunks in ({}, {"time": 50, "lat": 2}):
        lazy = predict(nowhere.chunk(chunks), Net())
        with pytest.raises(ValueError, match="no land"):
            lazy.compute()


def test_a_tile_of_ocean_reads_its_own_blocks_only(ds):
    read = []

    def noted(block, block_info=None):
        read.append(block_info[0]["chunk-location"])
        return block

    chunked = ds.chunk(time=100, lon=1)
    watched = chunked.assign(
        tair=chunked.tair.copy(data=chunked.tair.data.map_blocks(noted, dtype="f4", meta=ds.tair.values[:0]))
    )
    ocean = predict(watched, Net()).isel(lon=0)
    for _ in range(8):  # not even when it is asked for again and again
        assert np.isnan(ocean.compute(scheduler="synchronous").values).all()
    assert {place[ds.tair.dims.index("lon")] for place in read} == {0}


def test_short_chunks_are_taken_together_and_long_ones_cut(monkeypatch):
    """Blocks, by chunks: of a size that pays for a task, never larger than the bound, and the same numbers."""
    whole = grid(world.calendar_times(days=360), ny=20, nx=40)
    monkeypatch.setattr(blocks, "CELL_STEPS", 40_000)
    monkeypatch.setattr(blocks, "JOINED", 20_000)
    monkeypatch.setattr(blocks.os, "cpu_count", lambda: 1)
    known = predict(whole, Net(), members="mean").compute()
    for chunks, expected in (({"time": 1}, 15), ({"time": 360}, 8), ({"time": 7, "lat": 10, "lon": 20}, 16)):
        found = predict(whole.chunk(chunks), Net(), members="mean")
        assert found.data.npartitions == expected, chunks
        xr.testing.assert_allclose(found.compute(), known, rtol=1e-6)


@pytest.mark.parametrize("chunks", [{"time": 30}, {"lat": 2}, {}, None])
def test_equal_calls_give_equal_names(ds, chunks):
    drivers = ds if chunks is None else ds.chunk(chunks)
    mask = ds.sand.notnull().astype(int)
    names = {aggregate_regions(predict(drivers, Net(), members="mean"), mask).data.name for _ in range(2)}
    assert len(names) == 1
    other = aggregate_regions(predict(drivers + 1, Net(), members="mean"), mask).data.name
    assert other not in names


def test_masks_that_do_not_overlap_are_no_land(ds):
    apart = ds.assign(sand=ds.sand.where(ds.lon > 0), lai=ds.lai.where(ds.lon < 0))
    with pytest.raises(ValueError, match="no land"):
        predict(apart, Net())
    with pytest.raises(ValueError, match="no land"):
        predict(apart.chunk(lon=2), Net()).compute()


def test_empty_blocks_are_fine_where_the_grid_has_land(ds, truth):
    """An ocean block, and a first step without data, are not a grid without land."""
    late = ds.assign(wai=ds.wai.where(ds.time > ds.time[30]))
    out = predict(late.chunk(time=10, lon=1), Net())
    assert np.isnan(out.isel(time=slice(10)).values).all()
    assert_close(out.values[:, 40:], truth[:, 40:])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda d: d.assign(sand=d.sand.expand_dims(pft=2)), ValueError, "driver 'sand' has the dim 'pft'.*isel"),
        (lambda d: d.assign(rg=d.rg.expand_dims(month=12)), ValueError, "driver 'rg' has the dims.*expected one of"),
        (lambda d: d.assign(sand=d.sand.astype(str)), ValueError, "driver 'sand' is of type"),
        (lambda d: d.drop_vars("month").isel(month=slice(7)), ValueError, "7 steps of 'month' and no coordinate"),
        (lambda d: d.assign_coords(time=np.arange(400)), ValueError, "time holds int64, not dates"),
        (lambda d: d.tair, TypeError, "is a DataArray; expected an xarray.Dataset"),
    ],
)
def test_grids_that_cannot_be_matched(ds, change, error, match):
    with pytest.raises(error, match=match):
        predict(change(ds), Net())


def test_choices_that_make_no_sense(ds):
    with pytest.raises(ValueError, match="members='some'; expected"):
        predict(ds, Net(), members="some")
    with pytest.raises(ValueError, match="the model has 3 members"):
        predict(ds, Net(), members=[0, 3])
    assert predict(ds, Net(), members=slice(1, 3)).member.values.tolist() == [1, 2]
    for choice in ([True, False, True], 1.5, [], slice(5, 9)):  # a mask would be taken for the members 1, 0 and 1
        with pytest.raises(ValueError, match=r"expected .* indices|the model has 3 members"):
            predict(ds, Net(), members=choice)
    with pytest.raises(ValueError, match="one member and so no spread"):
        predict(ds, echo("sand"), members="mean+std")
    with pytest.raises(TypeError, match=r"dict is no flux model .*xflux\.wrap"):
        predict(ds, {})
    with pytest.raises(ValueError, match="device='cuda', but Net runs where it is"):
        predict(ds, Net(), device="cuda")
    with pytest.raises(ValueError, match="no driver has a time dim"):
        predict(ds, echo("lai"), time="2001")


def test_a_model_that_answers_with_another_shape(ds):
    class Short(Net):
        def predict(self, rows, members=None):
            return super().predict(rows)[:2]

    with pytest.raises(ValueError, match=r"model.predict returned shape \(2, \d+\) for"):
        predict(ds, Short()).compute()


def test_scikit_learn_models_and_pipelines(ds):
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 2)), rng.normal(size=80)
    rows = world.stacked(ds, ["sand", "wai"])
    valid = np.isfinite(rows).all(axis=-1)
    for fitted in (
        make_pipeline(StandardScaler(), LinearRegression()).fit(x, y),
        RandomForestRegressor(5, random_state=0).fit(x, y),
    ):
        out = predict(ds.chunk(time=120), wrap(fitted, ["sand", "wai"], "gC m-2 d-1"))
        assert out.dims == ("time", "lat", "lon")
        assert_close(out.values[valid], fitted.predict(rows[valid]))
    framed = LinearRegression().fit(pd.DataFrame(x, columns=["sand", "wai"]), y)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        wrap(framed, ["sand", "wai"], "1").predict(x)
    with pytest.raises(ValueError, match=r"fitted on \['sand', 'wai'\], drivers are \['wai', 'sand'\]"):
        wrap(framed, ["wai", "sand"], "1")
    with pytest.raises(ValueError, match="fitted on 2 columns, 1 drivers"):
        wrap(LinearRegression().fit(x, y), ["sand"], "1")


def test_an_estimator_that_was_not_fitted_is_refused_at_once():
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for model in (LinearRegression(), make_pipeline(StandardScaler(), LinearRegression())):
        with pytest.raises(ValueError, match="is not fitted; call its fit first"):
            wrap(model, ["tair"], "1")


def test_a_prediction_can_be_saved_as_netcdf(ds, truth, tmp_path):
    """netCDF has no truth values: what the flux contains is 1 or 0."""
    predict(ds.chunk(time=100), Net(), members="mean").to_netcdf(tmp_path / "nee.nc")
    with xr.open_dataset(tmp_path / "nee.nc") as found:
        assert found["nee"].attrs["includes_fire"] == 0
        assert_close(found["nee"].values, truth.mean(axis=0))


def test_wrap_says_what_is_wrong():
    with pytest.raises(TypeError, match="give a list of names"):
        wrap(len, "tair", "1")
    with pytest.raises(TypeError, match="no predict"):
        wrap(3, ["tair"], "1")
    with pytest.raises(TypeError, match="Net is a class"):
        wrap(Net, ["tair"], "1")
    for drivers in ([], ["tair", "tair"]):
        with pytest.raises(ValueError, match="expected one name or more, each once"):
            wrap(len, drivers, "1")
    with pytest.raises(ValueError, match="the list of models is empty"):
        wrap([], ["tair"], "1")
    with pytest.raises(ValueError, match="units are given for"):
        wrap(len, ["tair"], {"gpp": "1"})
    with pytest.raises(ValueError, match=r"returned shape \(1,\) for 2 rows; expected \(2,\)"):
        wrap(lambda r: r[:1, 0], ["a"], "1").predict(np.ones((2, 1)))
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="torch module, which takes tensors"):
        wrap(torch.nn.Linear(1, 1), ["a"], "1")


def test_the_result_can_be_pickled_and_named_the_same_again(ds):
    first, second = predict(ds.chunk(time=90), Net()), predict(ds.chunk(time=90), Net())
    assert first.data.name == second.data.name
    assert predict(ds.chunk(time=90), Net(seed=1)).data.name != first.data.name
    assert predict(ds, Net()).data.name == predict(ds.copy(deep=True), Net()).data.name
    assert predict(ds, Net()).data.name != predict(ds.assign(tair=ds.tair + 1), Net()).data.name
    xr.testing.assert_identical(pickle.loads(pickle.dumps(first)).compute(), second.compute())


def test_importing_the_room_is_light():
    heavy = ("torch", "dask", "zarr", "numba", "scipy", "pint")

    def loaded(room):
        code = f"import sys, {room}; print([m for m in {heavy} if m in sys.modules])"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded("xflux.forward") == loaded("xarray")
