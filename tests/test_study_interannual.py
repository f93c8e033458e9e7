"""A study by years: anomalies on a climatology, a coarser grid, years and inversions that judge."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux import load_model
from xflux.study import StudyError, check_study, interannual, load_study, run_study, table
from xflux.study import inputs as study_inputs
from xflux.study.base import study_base

STUDY = """
name = "years"
data = "{folder}"
variants = ["months", "anomalies"]
held_out_inversions = false
blocked = false
[towers]
table = "towers.csv"
step = "month"
max_distance = 3000
units = {{ Ta = "degC" }}
[towers.base]
TAIR = "Ta"
[drivers]
base = "base.nc"
years = [2002, 2007]
land_fraction = "land.nc"
variables = ["T", "T_60d", "P"]
[drivers.recipes]
T = "TAIR"
T_60d = "running_mean(TAIR, 60)"
P = "PREC"
[drivers.anomalies]
files = "anomalies.nc"
add = {{ TAIR = "dt" }}
multiply = {{ PREC = "ratio" }}
largest_ratio = 3.0
[target]
file = "target.nc"
variable = "land"
region_dim = "band"
regions = "latitude-bands"
[variant.months]
integral = "full"
[variant.anomalies]
integral = "full"
years_per_step = "all"
anomalies = true
[bridge]
fit = false
[train]
folds = 2
epochs = 2
batch = 50
validation_years = 1
[evaluation]
regions = ["latitude-bands"]
unseen_years = [2006, 2007]
unseen_inversions = ["C"]
groups = {{ north = [0, 60] }}
[[evaluation.series]]
name = "models"
file = "models.nc"
variable = "nbp"
region_dim = "box"
ensemble_dim = "model"
leave_out = ["odd"]
regions = {{ globe = "world" }}
"""
LAT, LON = np.arange(-75.0, 90, 30), np.arange(-165.0, 180, 30)
MONTHS = pd.date_range("2001-01-01", "2007-12-01", freq="MS")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A coarse Earth whose flux follows temperature: six rows of cells, seven years, three inversions, ten towers."""
    folder = tmp_path_factory.mktemp("years")
    axes = {"month": range(1, 13), "lat": LAT, "lon": LON}
    season = xr.DataArray(np.sin(np.arange(12) / 2), dims="month")
    field = (xr.DataArray(np.ones((12, 6, 12)), axes, ("month", "lat", "lon")) * season).transpose(
        "month", "lat", "lon"
    )
    base = {"TAIR": (10 + field).assign_attrs(units="degC"), "PREC": (field * 0 + 2).assign_attrs(units="mm d-1")}
    xr.Dataset(base).to_netcdf(folder / "base.nc")
    xr.Dataset({"land_fraction": field[0].drop_vars("month") * 0 + 0.5}).to_netcdf(folder / "land.nc")
    rng = np.random.default_rng(0)
    warm = xr.DataArray(rng.normal(size=7), {"year": range(2001, 2008)}, ("year",))
    dt = xr.DataArray(np.ones((84, 6, 12)), {"time": MONTHS, "lat": LAT, "lon": LON}, ("time", "lat", "lon"))
    dt = (dt * warm.sel(year=dt.time.dt.year).drop_vars("year")).assign_attrs(units="K")
    ratio = (dt * 0 + 4).where(dt.time.dt.month == 7, 0.5).where(dt.lon > 0).drop_attrs()
    xr.Dataset({"dt": dt, "ratio": ratio}).to_netcdf(folder / "anomalies.nc")
    _write_target(folder, warm, rng)
    time = pd.date_range("2002-01-01", "2005-12-31")
    site = [
        pd.DataFrame({"site": f"AA-{i:03d}", "time": time, "NEE": rng.normal(size=time.size), "NEE_QC": 1.0,
                      "Ta": 10 + 5 * np.sin(np.arange(time.size) / 58), "lat": 15.0, "lon": 15.0, "IGBP": "DBF"})
        for i in range(4)
    ]  # fmt: skip
    pd.concat(site).to_csv(folder / "towers.csv", index=False)
    (folder / "study.toml").write_text(STUDY.format(folder=folder))
    return folder / "study.toml"


def _write_target(folder, warm, rng) -> None:
    from xflux.regions import region_labels

    year = xr.DataArray(MONTHS.year.values, {"time": MONTHS}, ("time",))
    flux = 0.1 * warm.sel(year=year).drop_vars("year") * xr.DataArray(np.ones(18), dims="band")
    members = [flux + offset + 0.01 * rng.normal() for offset in (-0.1, 0.0, 0.1)]
    target = xr.concat(members, xr.Variable("inversion", ["A", "B", "C"])).assign_coords(
        band=list(region_labels("latitude-bands"))
    )
    target.assign_attrs(units="PgC yr-1").rename("land").to_netcdf(folder / "target.nc")
    nbp = xr.DataArray(np.ones((2, 1, 84)), dims=("model", "box", "time")) * year.values
    nbp = nbp.assign_coords(model=["good", "odd"], box=["world"], time=MONTHS)
    nbp = nbp.where(nbp.model == "good", -99.0).assign_attrs(units="PgC month-1")
    nbp.rename("nbp").to_netcdf(folder / "models.nc")


def base_of(path, **changes):
    config = load_study(path, changes)
    return study_base(config.drivers, study_inputs.input_files(config))


def test_a_climatology_gets_years(written):
    (years,) = base_of(written)
    with xr.open_dataset(written.parent / "anomalies.nc") as given, xr.open_dataset(written.parent / "base.nc") as base:
        month = given.time.dt.month
        # the year before the first is there too, for memory
        assert years.time.size == 84 and years.TAIR.attrs["units"] == "degC"
        np.testing.assert_allclose(years.TAIR, base.TAIR.sel(month=month) + given.dt)
        expected = base.PREC.sel(month=month) * given.ratio.clip(max=3.0).fillna(1.0)
        np.testing.assert_allclose(years.PREC, expected)


def test_without_the_year_before_the_first_is_the_first(written):
    (years,) = base_of(written, **{"drivers.years": [2001, 2003], "evaluation.unseen_years": [2003, 2003]})
    assert str(years.time.values[0])[:7] == "2001-01"


def test_anomalies_by_year_and_on_other_cells(written, tmp_path):
    year = pd.to_datetime(["2001-07-01", "2002-07-01", "2003-07-01"])
    lat, lon = np.arange(-80.0, 90, 20), np.arange(-170.0, 180, 20)
    dt = xr.DataArray(np.ones((3, 9, 18)), {"time": year, "lat": lat, "lon": lon}, ("time", "lat", "lon"))
    dt = dt * xr.DataArray([1.0, 2.0, 3.0], dims="time")
    dt.assign_attrs(units="degC").to_dataset(name="dt").to_netcdf(tmp_path / "by_year.nc")
    changes = {
        "drivers.anomalies": {"files": str(tmp_path / "by_year.nc"), "add": {"TAIR": "dt"}},
        "drivers.years": [2002, 2003],
        "evaluation.unseen_years": [2003, 2003],
    }
    climatology, years = base_of(written, **changes)
    assert "PREC" in climatology and "TAIR" not in climatology
    with xr.open_dataset(written.parent / "base.nc") as base:
        added = years.TAIR - base.TAIR.sel(month=years.time.dt.month)
    np.testing.assert_allclose(added.mean(("lat", "lon")), np.repeat([1.0, 2.0, 3.0], 12))


def test_a_coarser_grid_is_the_mean_over_land(written, tmp_path):
    with xr.open_dataset(written.parent / "base.nc") as base:
        rising = base.assign(TAIR=base.TAIR + base.lon / 100, PREC=base.PREC)
        rising.to_netcdf(tmp_path / "rising.nc")
        share = xr.where(base.lon == -165, 1.0, 0.25) * xr.ones_like(base.lat)
        share.transpose("lat", "lon").to_dataset(name="land_fraction").to_netcdf(tmp_path / "land.nc")
    config = load_study(written, {
        "drivers.resolution": 60.0, "drivers.base": str(tmp_path / "rising.nc"),
        "drivers.land_fraction": str(tmp_path / "land.nc"),
    })  # fmt: skip
    files = study_inputs.input_files(config)
    (coarse,) = study_base(config.drivers, files)
    assert coarse.sizes == {"time": 84, "lat": 3, "lon": 6}
    np.testing.assert_allclose(study_inputs.read_land_fraction(config, files, coarse)[0, :2], [0.625, 0.25])
    # of the two columns of a cell, the one with four times the land counts four times
    first, second = (coarse.TAIR.isel(time=0, lat=0, lon=i) for i in (0, 1))
    np.testing.assert_allclose(second - first, ((-105 - 75) / 2 - (4 * -165 - 135) / 5) / 100)


@pytest.mark.parametrize(("change", "message"), [
    ({"drivers.years": [2002, 2009]}, r"drivers.years = \[2002, 2009\]: the anomalies of 'dt' lack 2008 to 2009"),
    ({"drivers.anomalies.add": {"TAIR": "tas"}}, "no variable 'tas'; the files have"),
    ({"drivers.anomalies.add": {"RAIN": "dt"}}, "'RAIN' is no monthly climatology of drivers.base"),
    ({"drivers.anomalies.multiply": {"PREC": "dt"}}, "'dt' in 'K' is a ratio"),
    ({"drivers.resolution": 10.0}, "is finer than drivers.base, which has 30"),
])  # fmt: skip
def test_anomalies_that_do_not_fit(written, change, message):
    with pytest.raises(StudyError, match=message):
        check_study(load_study(written, change))


@pytest.mark.parametrize(("change", "message"), [
    ({"variants": ["weeks"]}, r"\['weeks'\] is none of .*a section \[variant.NAME\]"),
    ({"variants": ["bridge"]}, "bridge.fit = false"),
    ({"variant.months.integrl": "full"}, "unknown key 'variant.months.integrl'; did you mean 'integral'"),
    ({"variant": {"../x": {}}, "variants": ["../x"]}, "names of letters"),
    ({"evaluation.unseen_years": [2006, 2010]}, "the drivers have"),
    ({"drivers.resolution": 7.0}, "does not divide 180"),
    ({"drivers.anomalies.multiply": {"TAIR": "dt"}}, "once: in add or in multiply"),
    ({"drivers.anomalies.detrend": ["VPD"]}, r"detrend: \['VPD'\] has no anomalies here"),
    ({"variant.months.means": {"CAMS": "reccap2"}}, r"variant means: \['CAMS'\] is no map of evaluation.maps"),
])  # fmt: skip
def test_malformed_studies_by_years(written, change, message):
    with pytest.raises(StudyError, match=message):
        load_study(written, change)


def test_what_judges_is_not_seen(written):
    config = load_study(written)
    target = study_inputs.make_target(config, study_inputs.input_files(config))
    seen = study_inputs.seen(config, target)
    assert seen.inversion.values.tolist() == ["A", "B"] and int(seen.time.dt.year.max()) == 2005
    days = xr.DataArray(pd.to_datetime(["2005-12-31", "2006-01-01", "2007-12-31", "2008-01-01"]), dims="sample")
    assert study_inputs.in_seen_years(config, days).tolist() == [True, False, False, True]
    with pytest.raises(StudyError, match=r"\['D'\] is not in the target"):
        study_inputs.seen(load_study(written, {"evaluation.unseen_inversions": ["D"]}), target)


def test_anomalies_are_scored_by_part_of_the_years(written):
    years = np.arange(2002, 2008)
    trend = xr.DataArray(np.arange(6.0), {"year": years}, ("year",))
    wave = xr.DataArray([1.0, -1, 0, 0, -1, 1], {"year": years}, ("year",))  # no trend
    config = load_study(written, {"evaluation.unseen_years": [2005, 2007]})
    training, unseen = interannual.compare(config, 2 * wave + 5 * trend, wave - 3)
    assert (training["years"], training["n"], unseen["years"], unseen["n"]) == ("training", 3, "unseen", 3)
    for part in (training, unseen):
        assert part["r"] == pytest.approx(1) and part["sd / reference"] == pytest.approx(2)
    assert unseen["bias (PgC yr-1)"] == pytest.approx(0 + 5 * 4 + 3)
    assert unseen["sd (PgC yr-1)"] == pytest.approx(2 * np.std([0, -1, 1]))
    expected = np.corrcoef([15.0, 18, 27], [0.0, -1, 1])[0, 1]
    assert unseen["r, with trend"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_study_by_years_from_end_to_end(written, tmp_path):
    even = xr.DataArray(np.ones((6, 12)), {"lat": LAT, "lon": LON}, ("lat", "lon"), attrs={"units": "gC m-2 yr-1"})
    even.to_dataset(name="flux").to_netcdf(tmp_path / "even.nc")
    changes = {
        "evaluation.maps": [{"name": "even", "file": str(tmp_path / "even.nc"), "variable": "flux", "period": "-",
                             "contains": "-"}],
        "variant.months.means": {"even": "latitude-bands"}, "train.weights": "days",
    }  # fmt: skip
    run = run_study(load_study(written, changes), tmp_path / "run", say=lambda _: None)
    terms = [load_model(run / "models" / f"ec_atm_{name}.safetensors").history for name in ("months", "anomalies")]
    assert ["even" in history["term"].values for history in terms] == [True, False]
    scores = table(run, "interannual")
    assert set(scores["region"]) == {"globe", "north"} and set(scores["years"]) == {"training", "unseen"}
    assert {"EC", "EC-ATM months", "EC-ATM anomalies", "models", "unseen inversions' mean"} <= set(scores["product"])
    one = scores.set_index(["product", "region", "years"])
    assert one.loc[("EC", "globe", "training"), "n"] == 4 and one.loc[("EC", "globe", "unseen"), "n"] == 2
    # inversions that differ by offsets only agree in every year
    assert one.loc[("inversions", "globe", "training"), "r"] > 0.9999
    assert one.loc[("models", "globe", "unseen"), "bias (PgC yr-1)"] == pytest.approx(12 * 2006.5 - _target_mean(run))
    assert json.loads((run / "summary.json").read_text())["tables"].keys() >= {"interannual", "interannual_years"}
    assert (run / "figures" / "interannual.png").exists() and not (run / "bridge").exists()
    assert set(table(run, "interannual_references")["reference"]) == {
        "A",
        "B",
        "C",
        "unseen inversions' mean",
        "models",
    }


def _target_mean(run) -> float:
    with xr.open_dataset(run / "inputs" / "target.nc") as opened:
        target = opened["target"].sel(inversion=["A", "B"]).sum("region").mean("inversion")
        return float(target.sel(time=slice("2006", "2007")).sum() / 2)


def test_anomalies_less_their_trend(written):
    (plain,), (years,) = base_of(written), base_of(written, **{"drivers.anomalies.detrend": ["TAIR"]})
    with xr.open_dataset(written.parent / "anomalies.nc") as given:
        dt = given.dt.values[:, 0, 0]
    when = (given.time - given.time[0]).values / np.timedelta64(1, "D")
    trend = np.polyval(np.polyfit(when, dt, 1), when)
    removed = (plain.TAIR - years.TAIR).values[:, 0, 0]
    np.testing.assert_allclose(removed, trend - trend.mean(), atol=1e-6)
    np.testing.assert_allclose(plain.PREC, years.PREC)


def test_a_map_of_classes_is_averaged_as_shares(written, tmp_path):
    with xr.open_dataset(written.parent / "base.nc") as base:
        igbp = xr.where(base.lon < 0, 1.0, 10.0) * xr.ones_like(base.lat)
        base.assign(IGBP=igbp.transpose("lat", "lon")).to_netcdf(tmp_path / "classes.nc")
    cover = {"variable": "IGBP", "classes": {"forest": ["ENF"], "grass": ["GRA"]}}
    changes = {"drivers.resolution": 90.0, "drivers.base": str(tmp_path / "classes.nc"), "drivers.cover": cover}
    made = base_of(written, **changes)
    shares = next(part.IGBP for part in made if "IGBP" in part)
    np.testing.assert_allclose(shares.sel({"class": "ENF"})[0], [1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(shares.sel({"class": ["ENF", "GRA"]}).sum("class"), 1.0)
    config = load_study(written, {**changes, "drivers.variables": ["T", "forest"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = study_inputs.make_grid(config, study_inputs.input_files(config), tmp_path)
    np.testing.assert_allclose(grid.forest[0], [1.0, 1.0, 0.0, 0.0])
