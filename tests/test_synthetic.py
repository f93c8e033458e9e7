"""The synthetic Earth: schema, known sums, biases that can be switched off, a regression on its towers."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xflux
from xflux import synthetic
from xflux.synthetic.climate import autoregressive, el_nino, fading_mean, make_land, smooth_fields
from xflux.synthetic.observe import place

TEN = ["WAI2", "MSC_EVIRpot", "MSC_FparLST", "MIN_MSC_NDWI", "AMP_Band4", "MSC_LST_Night", "Rg_VIMSC", "AMP_MSC_NDVI",
       "Tair", "AMP_MSC_WAI"]  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return synthetic.earth(resolution=6, years=2, seed=1)


def test_everything_is_in_the_schema(world):
    assert list(world.drivers.data_vars) == TEN
    daily = [n for n in TEN if "time" in world.drivers[n].dims]
    assert daily == ["WAI2", "Tair"]
    assert world.drivers.WAI2.dims == ("time", "lat", "lon") and world.drivers.WAI2.chunks
    assert world.drivers.Rg_VIMSC.dims == ("dayofyear", "lat", "lon") and world.drivers.AMP_Band4.dims == ("lat", "lon")
    assert all("units" in v.attrs for v in world.drivers.data_vars.values())
    made = (world.inversions.nbe, world.bottom_up.nee, world.fire, world.nee_monthly)
    for flux in (world.nee, world.gpp, world.ter, *made):
        assert flux.attrs["units"] == "gC m-2 d-1" and flux.attrs["area_basis"] == "land"
        assert flux.dims[-3:] == ("time", "lat", "lon")
    assert world.inversions.nbe.attrs["includes_fire"] and not world.nee.attrs["includes_fire"]
    assert world.inversions.nbe.dims[0] == "inversion" and world.inversions.sizes["inversion"] == 5
    assert set(world.towers.coords) == {"site", "time", "lat", "lon", "igbp"} and set(world.towers.dims) == {"sample"}
    assert world.target.dims == ("inversion", "region", "time") and world.target.attrs["units"] == "PgC month-1"
    np.testing.assert_allclose(world.pft.sum("pft").where(world.land_fraction > 0.01, drop=True).max(), 1, rtol=1e-5)


def test_true_sums_are_those_asked_for(world):
    assert abs(world.global_mean(world.nee) + 3) < 1e-3
    assert abs(world.global_mean(world.gpp) - 125) < 1e-2
    assert abs(world.global_mean(world.ter) - 122) < 1e-2
    other = synthetic.earth(resolution=15, years=1, sink=-1.5, gpp=100, fire=0.0, towers=5)
    assert abs(other.global_mean(other.nee) + 1.5) < 1e-3 and abs(other.global_mean(other.gpp) - 100) < 1e-2
    assert float(other.fire.max()) == 0


def test_sums_by_the_toolkit_agree(world):
    total = world.nee.flux.aggregate_regions(
        "reccap2", units="PgC yr-1", freq="YS", land_fraction=world.land_fraction, include_global=True
    )
    np.testing.assert_allclose(total.sel(region="GLOBAL").mean(), -3, atol=0.02)
    np.testing.assert_allclose(world.gpp.mean() > 1, True)


def test_the_same_seed_is_the_same_world(world):
    again = synthetic.earth(resolution=6, years=2, seed=1)
    xr.testing.assert_identical(again.nee.compute(), world.nee.compute())
    xr.testing.assert_identical(again.towers, world.towers)
    xr.testing.assert_identical(again.inversions, world.inversions)
    other = synthetic.earth(resolution=6, years=2, seed=2)
    assert not np.allclose(other.nee.mean(), world.nee.mean(), atol=0) and not other.towers.nee.equals(world.towers.nee)


def test_parts_do_not_depend_on_the_order_in_which_they_are_asked_for(world):
    again = synthetic.earth(resolution=6, years=2, seed=1)
    xr.testing.assert_identical(again.inversions, world.inversions)  # before the towers this time
    xr.testing.assert_identical(again.towers, world.towers)


def test_blocks_of_cells_do_not_change_the_world(world, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["xflux.synthetic.planet"], "CELLS_AT_ONCE", 37)
    again = synthetic.earth(resolution=6, years=2, seed=1)
    np.testing.assert_allclose(again.nee.compute(), world.nee.compute(), atol=1e-4)


def test_the_same_world_is_observed_otherwise(world):
    other = synthetic.earth(resolution=6, years=2, seed=1, biases=False, towers=40)
    seen = world.observed(biases=False, towers=40)
    xr.testing.assert_identical(seen.towers, other.towers)
    xr.testing.assert_identical(seen.inversions, other.inversions)
    assert seen.nee.identical(world.nee) and world.settings.towers == 240, "the first is left alone"
    with pytest.raises(TypeError, match=r"observed\(\) cannot change hidden, only night_bias, .*earth\(\)"):
        world.observed(hidden=0.0)


def test_biases_can_be_switched_off():
    off = synthetic.earth(resolution=10, years=1, biases=False)
    assert (off.settings.night_bias, off.settings.uneven, off.settings.inversion_error) == (0, 0, 0)
    truth = off.nee_monthly + off.fire
    for one in off.inversions.inversion.values:
        np.testing.assert_allclose(off.inversions.nbe.sel(inversion=one), truth, atol=1e-5)
    quiet = synthetic.earth(resolution=10, years=1, biases=False, tower_noise=0.0, hidden=0.0)
    np.testing.assert_allclose(quiet.towers.nee, quiet.towers.nee_true, atol=1e-6)
    some = synthetic.earth(resolution=10, years=1, biases=False, uneven=0.5)
    assert some.settings.uneven == 0.5 and some.settings.night_bias == 0


def test_towers_measure_the_cell_they_stand_in():
    quiet = synthetic.earth(resolution=10, years=1, biases=False, tower_noise=0.0, hidden=0.0, towers=30)
    at = xflux.colocate(quiet.towers, xr.Dataset({"truth": quiet.nee, "Tair": quiet.drivers.Tair}), max_distance=1e3)
    np.testing.assert_allclose(at.truth, at.nee, atol=1e-5)
    np.testing.assert_allclose(at.Tair, at.Tair_tower, atol=1e-5)


def test_the_night_bias_is_a_tropical_sink(world):
    error = (world.towers.nee - world.towers.nee_true).to_series()
    tropical = np.abs(world.towers.lat.values) < 18
    assert error[tropical].mean() < -0.8 and abs(error[np.abs(world.towers.lat.values) > 35].mean()) < 0.1


def test_towers_stand_unevenly_or_at_random():
    land = make_land(4.0)
    rng = np.random.default_rng(0)
    tropical = np.abs(land.lat) < 23
    area = land.area[tropical].sum() / land.area.sum()
    even = tropical[place(land, 0.0, 20_000, rng)].mean()
    real = tropical[place(land, 1.0, 20_000, rng)].mean()
    assert abs(even - area) < 0.02 and real < 0.35 * area


def test_errors_of_inversions_are_regional_correlated_and_small_in_sum():
    world = synthetic.earth(resolution=6, years=4, seed=3, towers=5)
    truth = (world.nee_monthly).flux.aggregate_regions("reccap2", land_fraction=world.land_fraction)
    error = (world.target - truth).transpose("inversion", "region", "time")
    sums = error.sum("region").mean("time") * 12
    assert np.abs(sums).max() < 0.9
    regional = error.mean("time") * 12
    assert regional.std() > 0.15 and regional.std() > 0.5 * sums.std()
    pairs = np.corrcoef(error.values.reshape(5, -1))
    assert 0.25 < pairs[np.triu_indices(5, 1)].mean() < 0.8


def test_the_bottom_up_product_inherits_the_towers_bias(world):
    error = world.bottom_up.nee - world.nee_monthly
    tropics = error.where(np.abs(error.lat) < 15).mean()
    assert tropics < -0.3 and world.bottom_up.nee.sizes["time"] == 24


def rows_of(earth, names, every=11):
    """Drivers of every land cell on some days, and the cells' areas."""
    days = np.arange(3, earth.world.climate.time.size, every)
    year = earth.world.climate.time.astype("M8[Y]").astype("M8[D]")
    doy = (earth.world.climate.time - year).astype(int).clip(max=364)[days]
    columns = []
    for name in names:
        da = earth.world.packed[name]
        values = {"time": lambda d=da: d.transpose("time", "cell").values[days],
                  "dayofyear": lambda d=da: d.transpose("dayofyear", "cell").values[doy]}  # fmt: skip
        axis = next((d for d in values if d in da.dims), None)
        columns.append(values[axis]() if axis else np.broadcast_to(da.values, (len(days), da.size)))
    return np.stack([c.ravel() for c in columns], 1), len(days)


@pytest.mark.slow
@pytest.mark.parametrize("biases", [True, False])
def test_a_regression_on_the_towers_has_the_papers_bias_or_none(biases):
    """A stand-in for the network (boosted trees): the full table over seeds is benchmarks/synthetic_earth.py."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    earth = synthetic.earth(resolution=5, years=4, seed=0, biases=biases)
    at = xflux.colocate(earth.towers, earth.drivers, max_distance=1e3, keep=["Tair"])
    pick = np.random.default_rng(0).permutation(at.sizes["sample"])[:30_000]
    x = np.stack([at[n].values for n in TEN], 1)[pick]
    model = HistGradientBoostingRegressor(max_iter=120, min_samples_leaf=200, random_state=0)
    model.fit(x, at.nee.values[pick])
    rows, days = rows_of(earth, TEN)
    mean = model.predict(rows).reshape(days, -1).mean(0)
    error = (mean * earth.world.land.area).sum() * 365.2425 / 1e15 + 3
    assert error < -8 if biases else abs(error) < 1.5


def test_drivers_by_month():
    world = synthetic.earth(resolution=15, years=1, towers=5)
    monthly = world.monthly_drivers
    assert {d for v in monthly.data_vars.values() for d in v.dims} == {"month", "lat", "lon"}
    np.testing.assert_allclose(
        monthly.Tair.sel(month=2), world.drivers.Tair.sel(time="2001-02").mean("time"), rtol=1e-4, atol=1e-4
    )
    march = world.drivers.Rg_VIMSC.sel(dayofyear=slice(60, 90)).mean("dayofyear")
    np.testing.assert_allclose(monthly.Rg_VIMSC.sel(month=3), march, rtol=1e-4)


def test_fields_have_the_statistics_they_claim():
    rng = np.random.default_rng(0)
    lat = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 4000)))
    lon = rng.uniform(-180, 180, 4000)
    fields = smooth_fields(lat, lon, 0.2, 60, rng)
    assert abs(fields.mean()) < 0.08 and abs(fields.var() - 1) < 0.05
    # no seam: values at 180 and −180 are the same
    seam = smooth_fields(np.r_[10.0, 10.0], np.r_[180.0, -180.0], 0.2, 5, rng)
    np.testing.assert_allclose(seam[:, 0], seam[:, 1], atol=1e-4)
    red = autoregressive(200_000, 1, 4.0, rng)[:, 0]
    assert abs(red.std() - 1) < 0.03 and abs(np.corrcoef(red[1:], red[:-1])[0, 1] - np.exp(-1 / 4)) < 0.01
    nino = el_nino(40_000, rng)
    assert 0.6 < nino.std() < 1.5
    np.testing.assert_allclose(fading_mean(np.full((800, 2), 3.0), 30), 3.0, rtol=1e-5)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"resolution": 7.0}, ValueError, "resolution=7.0: degrees that divide 180"),
    ({"resolution": 15, "years": 0}, ValueError, "years=0: a whole number of years"),
    ({"resolution": 15, "night": 0.1}, TypeError, "earth.. has no setting night; there are .*night_bias"),
    ({"resolution": 15, "uneven": 2.0}, ValueError, "uneven=2.0: from 0"),
    ({"resolution": 15, "night_bias": 1.0}, ValueError, "night_bias=1.0: a share of respiration"),
    ({"resolution": 15, "hidden": -1.0}, ValueError, "hidden=-1.0 must not be negative"),
    ({"resolution": 15, "towers": 1}, ValueError, "at least 2 towers"),
    ({"resolution": 15, "towers": 2.5}, ValueError, "at least 2 towers, in whole numbers"),
    ({"resolution": 15, "sink": float("nan")}, ValueError, "sink=nan: a finite number is needed"),
    ({"resolution": 15, "inversion_error": float("inf")}, ValueError, "inversion_error=inf: a finite number"),
])  # fmt: skip
def test_settings_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        synthetic.earth(**arguments)


@pytest.mark.parametrize("resolution", [1.2, 1.8, 3.6, 7.5, 22.5, 180 / 7])
def test_any_resolution_that_divides_180(resolution):
    grid = make_land(resolution).grid
    np.testing.assert_allclose(grid.lat, np.linspace(-90, 90, 2 * grid.lat.size + 1)[1::2], atol=1e-9)
    np.testing.assert_allclose(grid.lon, np.linspace(-180, 180, 2 * grid.lon.size + 1)[1::2], atol=1e-9)


def test_settings_are_documented():
    for field in dataclasses.fields(synthetic.Settings):
        assert field.name in synthetic.Settings.__doc__


def test_towers_say_that_they_see_no_fires():
    """So that a target with fires is refused unless it is adjusted."""
    train = pytest.importorskip("xflux.train")
    world = xflux.synthetic.earth(resolution=15, years=1, towers=20)
    towers = xflux.colocate(world.towers, world.drivers, max_distance=1500)
    sums = world.inversions.nbe.flux.aggregate_regions("reccap2", land_fraction=world.land_fraction)
    top = train.RegionalConstraint(sums, world.drivers, regions="reccap2", land_fraction=world.land_fraction)
    with pytest.raises(ValueError, match=r"includes fire, .* does not"):
        train.fit(towers, list(world.drivers), constraints=[top], config=train.TrainConfig(folds=2, max_epochs=1))


def test_the_lines_of_the_page_run():
    page = Path(__file__).parents[1] / "docs" / "synthetic_earth.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    small = block.replace("resolution=2.0, years=6", "resolution=15, years=1")
    names = {}
    exec(small, names)
    assert small != block and names["world"].observed(night_bias=0.1, towers=480).settings.towers == 480
