"""The paper's own study from its template, on synthetic files in the published formats whose answers are known."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner
from write_study import INVERSIONS, write_upton2024

import xflux
from xflux import study
from xflux.cli import app
from xflux.study import inputs as study_inputs
from xflux.study import models
from xflux.study.results import Results

pytest.importorskip("torch")
YEARS = "[2001, 2003]"
SMALL = {
    "drivers.years": YEARS, "target.years": YEARS, "evaluation.budget.years": YEARS, "towers.max_distance": "1500",
    "drivers.fill_distance": "1", "train.epochs": "2", "train.folds": "3", "train.batch": "1000",
    "train.validation_years": "1", "bridge.stability": "3",
    "one_against_many.sizes": "[1]",
    "evaluation.plant_types": "{ file = 'plant_types.nc', variable = 'pft_share' }",
}  # fmt: skip


def settings(data, **more):
    pairs = SMALL | {"data": str(data)} | more
    return [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_upton2024(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def toml(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.toml"
    call("new", path, "--template", "upton2024")
    return path


@pytest.fixture(scope="module")
def run(world, toml, tmp_path_factory):
    """The run folder; drivers stay on disk, as those of 17 years at half a degree must."""
    folder = tmp_path_factory.mktemp("runs") / "upton2024"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_inputs, "IN_MEMORY", 0)
        call("run", toml, "--out", folder, *settings(world.folder))
    return folder


# ------------------------------------------------------------------ the template
def test_the_template_is_the_papers_study(toml):
    config = study.load_study(toml)
    assert config.target.regions == "reccap2" and config.variants == ["bridge"] and config.train.folds == 10
    first, last = config.target.years
    assert (last - first + 1) * 12 == 204 and config.drivers.years == config.target.years
    assert config.target.products[0].select == {"inversion": list(INVERSIONS)}
    assert config.target.fire.product == "gfas" and config.bridge.product.product == "fluxcom"
    assert len(config.drivers.variables) == 10 and config.train.hidden == [32, 32, 32]
    assert config.train.learning_rate == 0.003 and config.train.batch == 10_000 and config.bridge.r2 == 0.95


def test_templates_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"--template 'upton': expected one of study, upton2024"):
        CliRunner().invoke(app, ["new", str(tmp_path / "x.toml"), "--template", "upton"], catch_exceptions=False)
    call("new", tmp_path / "s.toml")
    assert study.load_study(tmp_path / "s.toml").name == "my_study"


def test_dry_run_names_what_is_there_and_what_is_missing(world, toml, tmp_path):
    output = call("run", toml, "--dry-run", *settings(world.folder))
    assert "found  target.products.0" in output and "found  drivers.base.0" in output and "(3 files)" in output
    assert "would train EC, EC-ATM bridge" in output
    for key, value, match in (
        ("target.fire.files", "gfas/none_*.nc", r"target\.fire = .*none_"),
        ("target.products.0.select.inversion", "['CAMS', 'LoFI']", r"'LoFI' is not one of \['CAMS-Satellite'"),
        ("drivers.variables", "['WAI', 'Tair']", r"the grid has no \['WAI'\]"),
        ("drivers.years", "[1980, 1990]", r"drivers.years = \[1980, 1990\]: the base variables cover 2001-2003"),
        ("target.fire.product", "gfass", r"target.fire: no product 'gfass'.*Did you mean gfas"),
        ("target.products.0.variable", "nbee", r"target.products.0: .*\['nbee'\] are not in its row"),
        ("towers.keep", "{ Tmax = 'TA' }", r"towers.keep: the grid has no driver \['Tmax'\]"),
    ):  # fmt: skip
        with pytest.raises(study.StudyError, match=match):
            study.check_study(study.load_study(toml, _parsed(settings(world.folder, **{key: value}))))


def _parsed(arguments):
    from xflux.study.loading import parse_override

    return dict(parse_override(text) for text in arguments[1::2])


def test_a_target_has_one_source(toml):
    with pytest.raises(study.StudyError, match=r"'target': give either file .* or products"):
        study.load_study(toml, {"target.file": "x.nc", "target.variable": "v"})
    with pytest.raises(study.StudyError, match=r"unknown key 'target.products.0.file'; did you mean 'files'"):
        study.load_study(toml, {"target.products.0.file": "x.nc"})
    with pytest.raises(study.StudyError, match=r"'5' is no entry of a list of 1"):
        study.load_study(toml, {"target.products.5.name": "x"})


# ------------------------------------------------------------------ what the files become
def test_the_target_is_the_inversions_without_their_fires(world, run):
    target = study.Results(run).inputs.target
    known = world.nee.flux.aggregate_regions("reccap2", land_fraction=world.earth.land_fraction)
    known = known.sel(inversion=list(INVERSIONS)).transpose("inversion", "region", "time")
    assert list(target["inversion"].values) == list(INVERSIONS) and target.sizes["time"] == 36
    np.testing.assert_allclose(target.values, known.values, atol=2e-4 * float(abs(known).max()))
    assert int(target.attrs["includes_fire"]) == 0 and int(target.attrs["includes_rivers"]) == 0


def test_the_drivers_are_those_of_table_a2(world, run):
    grid = study.Results(run).inputs.grid
    assert list(grid.data_vars)[:-1] == [
        "WAI2", "MSC_EVIRpot", "MSC_FparLST", "MIN_MSC_NDWI", "AMP_Band4", "MSC_LST_Night", "Rg_VIMSC", "AMP_MSC_NDVI",
        "Tair", "AMP_MSC_WAI",
    ]  # fmt: skip
    assert grid["Tair"].dims == ("time", "lat", "lon") and grid.sizes["time"] == 1095
    for name in ("WAI2", "Tair", "AMP_MSC_WAI"):
        expected = world.earth.drivers[name].compute()
        found = grid[name].load().assign_coords(lon=(grid.lon + 180) % 360 - 180).sortby("lon").sortby("lat")
        land = np.isfinite(expected.values)
        np.testing.assert_allclose(found.values[land], expected.values[land], atol=1e-4, err_msg=name)
    assert not [p for p in (run / "inputs").iterdir() if p.name.startswith(("base", "made"))]


def test_towers_keep_their_own_weather(world, run):
    towers = study.Results(run).inputs.towers
    assert towers.attrs["rows_without_drivers"] == 0
    assert len(set(towers["site"].values.tolist())) == 24 and int(towers["Tair"].attrs["filled_from_grid"]) > 0


# ------------------------------------------------------------------ Tables 2 and 3, computed without xflux
def by_hand(world, flux):
    """(time, region) PgC per month of a flux (time, lat, lon) gC m-2 d-1 of land, by plain sums."""
    flux = flux.assign_coords(lon=(flux.lon + 180) % 360 - 180).sortby("lon").sortby("lat")
    flux = flux.transpose("time", "lat", "lon").astype("float64")
    weights = xflux.region_weights(flux, "reccap2", area_basis="cell")  # the cell's area, shared by land
    area = (weights.data.todense() * world.earth.land_fraction.values).reshape(18, -1)
    values = np.nan_to_num(flux.values).reshape(flux.sizes["time"], -1)
    return values @ area.T * flux["time"].dt.days_in_month.values[:, None] / 1e15


def expected_rows(ours, target):
    """RMSE and R by column of (time, region) arrays, the regions' sum first."""
    ours, target = (np.column_stack([a.sum(1), a]) for a in (ours, target))
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, target.T, strict=True)]
    return np.array(r), np.sqrt(((ours - target) ** 2).mean(0))


@pytest.fixture(scope="module")
def sums(world, run):
    """Product → (time, region), from the files by hand."""
    found = {}
    for label, name in (("EC-ATM bridge", "ec_atm_bridge"), ("EC", "ec")):
        found[label] = by_hand(world, xr.open_zarr(run / "flux" / f"{name}.zarr")["nee"].mean("member").load())
    fluxcom = xr.open_mfdataset(sorted((world.folder / "fluxcom").glob("NEE*.nc")))["NEE"].load()
    found["FLUXCOM"] = by_hand(world, fluxcom.where(fluxcom > -9990))
    found["target"] = study.Results(run).inputs.target.mean("inversion").transpose("time", "region").values
    return found


def test_table_2_has_the_papers_layout_and_the_known_numbers(world, run, sums):
    table = pd.read_csv(run / "tables" / "table_2_annual.csv")
    products = ["EC-ATM bridge", "EC", "FLUXCOM"]
    heads = [f"{m}: {p}" for m in ("Pearson's R", "RMSE (PgC yr-1)") for p in products]
    assert list(table.columns) == ["region", *heads]
    regions = [str(r) for r in study.Results(run).inputs.target["region"].values]
    assert list(table["region"]) == ["GLOBAL", *regions, "GCB22"] and len(regions) == 18
    years = {name: s.reshape(3, 12, 18).sum(1) for name, s in sums.items()}
    for product in products:
        r, rmse = expected_rows(years[product], years["target"])
        np.testing.assert_allclose(table[f"RMSE (PgC yr-1): {product}"][:-1], rmse, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(table[f"Pearson's R: {product}"][:-1], r, atol=5e-3)
        globe, budget = years[product].sum(1), -world.budget.values
        np.testing.assert_allclose(
            table[f"RMSE (PgC yr-1): {product}"].iloc[-1], np.sqrt(((globe - budget) ** 2).mean()), rtol=1e-4
        )
        np.testing.assert_allclose(
            table[f"Pearson's R: {product}"].iloc[-1], np.corrcoef(globe, budget)[0, 1], atol=1e-3
        )


def test_table_3_has_the_papers_layout_and_the_known_numbers(run, sums):
    table = pd.read_csv(run / "tables" / "table_3_monthly.csv")
    products = ["EC-ATM bridge", "EC", "FLUXCOM"]
    heads = [
        "Pearson's R – monthly integrals",
        "RMSE – monthly integrals (PgC month-1)",
        "Pearson's R – MSC",
        "RMSE – MSC (PgC month-1)",
    ]
    assert list(table.columns) == ["region", *(f"{h}: {p}" for h in heads for p in products)]
    assert len(table) == 19 and table["region"][0] == "GLOBAL"
    cycles = {name: s.reshape(3, 12, 18).mean(0) for name, s in sums.items()}
    for product in products:
        for part, what in (("monthly integrals", sums), ("MSC", cycles)):
            r, rmse = expected_rows(what[product], what["target"])
            np.testing.assert_allclose(table[f"RMSE – {part} (PgC month-1): {product}"], rmse, rtol=2e-4, atol=2e-6)
            np.testing.assert_allclose(table[f"Pearson's R – {part}: {product}"], r, atol=5e-3)


def test_table_c1_has_mean_and_variability_of_every_product(run, sums):
    table = pd.read_csv(run / "tables" / "table_c1_sinks.csv").set_index("Study")
    for product in ("EC-ATM bridge", "EC", "FLUXCOM"):
        annual = sums[product].sum(1).reshape(3, 12).sum(1)
        np.testing.assert_allclose(table.loc[product, "Land flux mean (PgC yr-1)"], annual.mean(), rtol=1e-4)
    assert table.loc["GCB22", "Land flux mean (PgC yr-1)"] == pytest.approx(-2.75)
    assert table.loc["EC", "Period"] == "2001–2003" and "Ruehr et al. (2023)" in table.index


def test_towers_are_scored_by_time_scale_plant_type_and_climate(run):
    table = pd.read_csv(run / "tables" / "towers_by_group.csv")
    assert set(table["by"]) == {"time scale", "plant type (IGBP)", "climate"}
    assert list(table["group"][:4]) == ["daily", "seasonal", "anomalies", "between_sites"]
    p = study.Results(run).predictions
    rmse = float(np.sqrt(((p["ec"] - p["observed"]) ** 2).mean()))
    assert table.iloc[0]["RMSE (gC m-2 d-1): EC"] == pytest.approx(rmse, rel=1e-5)


def test_correlations_are_of_each_cells_months(world, run):
    flux = xr.open_zarr(run / "flux" / "ec_atm_bridge.zarr")["nee"].mean("member").load()
    fluxcom = xr.open_mfdataset(sorted((world.folder / "fluxcom").glob("NEE*.nc")))["NEE"].load()
    found = Results(run).correlations["ec_atm_bridge"]
    assert found["reference"].values.tolist() == ["inversions", "FLUXCOM"]
    rows, columns = np.nonzero(np.isfinite(found[0].values))
    assert rows.size == int(np.isfinite(flux[0]).sum())
    for k in range(0, rows.size, rows.size // 5):
        place = {d: float(found[d][i]) for d, i in (("lat", rows[k]), ("lon", columns[k]))}
        ours = flux.sel(place).values
        place["lon"] = (place["lon"] + 180) % 360 - 180
        for reference, theirs in (("inversions", world.nee.mean("inversion")), ("FLUXCOM", fluxcom)):
            known = np.corrcoef(ours, theirs.sel(place, method="nearest").values)[0, 1]
            assert float(found.sel(reference=reference)[rows[k], columns[k]]) == pytest.approx(known, abs=5e-4)


def test_the_mean_of_the_members_is_read_once(run):
    results = Results(run)
    mean = results.members_mean["ec"]
    flux = xr.open_zarr(run / "flux" / "ec.zarr")["nee"]
    np.testing.assert_allclose(mean, flux.values.astype(float).mean(0), rtol=1e-5, atol=1e-6)
    assert mean.attrs["units"] == "gC m-2 d-1" and results.members_mean["ec"] is mean


def test_pixels_and_land_are_counted_by_plant_type(world, run):
    table = pd.read_csv(run / "tables" / "bridge_plant_types.csv")
    pixels = xflux.load_bridge(run / "bridge" / "reccap2.nc").pixels
    majority = world.earth.pft.idxmax("pft")
    lon = (pixels["lon"] + 180) % 360 - 180
    types = majority.sel(lat=pixels["lat"], lon=lon, method="nearest").to_series()
    counted = types.groupby([pixels["region"].to_series(), types]).size()
    found = table[table["pixels"] > 0].set_index(["region", "plant type"])["pixels"]
    assert found.to_dict() == counted.to_dict()
    shares = table.groupby("region")[["share of pixels", "share of weight", "share of land"]].sum()
    np.testing.assert_allclose(shares, 1.0)


def test_models_on_few_inversions_are_those_of_the_study(run):
    results = Results(run)
    table = pd.read_csv(run / "tables" / "few_inversions.csv").set_index("trained on")
    assert list(table.index) == [*INVERSIONS, "+".join(INVERSIONS)] and table["inversions"].tolist() == [1] * 5 + [5]
    own = results.target_integrals("ec_atm_bridge").isel(member=slice(2)).sum(("month", "region"))
    assert table["annual flux (PgC yr-1)"].iloc[-1] == pytest.approx(float(own.mean()), rel=1e-5)
    target = results.inversions.sum(("month", "region"))
    np.testing.assert_allclose(table["their mean (PgC yr-1)"], [*target.values, float(target.mean())])
    assert table["annual flux (PgC yr-1)"].std() > 0


# ------------------------------------------------------------------ every number from the run folder, by one line
@pytest.fixture(scope="module")
def bare(run, tmp_path_factory):
    """The run folder without anything that is made from its arrays."""
    folder = tmp_path_factory.mktemp("bare") / "run"
    shutil.copytree(
        run, folder, ignore=shutil.ignore_patterns("tables", "figures", "summary.json", "report.*", "stages")
    )
    return folder


def lines_of(run):
    text = (run / "tables" / "README.md").read_text()
    first, *lines = re.search(r"```python\n(.*?)```", text, re.S).group(1).strip().splitlines()
    return first, lines


def test_every_table_is_made_anew_by_its_line(run, bare, monkeypatch):
    first, lines = lines_of(run)
    tables = {line.split("# ")[1].removesuffix(".csv"): line for line in lines if line.startswith("study.table")}
    assert set(tables) == {path.stem for path in (run / "tables").glob("*.csv")} and len(tables) >= 14
    monkeypatch.chdir(bare)
    space = {}
    exec(first, space)
    for name, line in tables.items():
        made = eval(line, space).reset_index(drop=True)
        kept = pd.read_csv(run / "tables" / f"{name}.csv")
        again = pd.read_csv(_text(made))
        pd.testing.assert_frame_equal(again, kept, rtol=1e-6, atol=1e-9, obj=name)


def _text(table):
    import io

    return io.StringIO(table.to_csv(index=False))


def test_numbers_of_the_summary_and_integrals_are_made_anew_by_their_lines(run, bare, monkeypatch):
    first, lines = lines_of(run)
    monkeypatch.chdir(bare)
    space = {}
    exec(first, space)
    (numbers,) = [eval(line, space) for line in lines if line.startswith("study.numbers")]
    kept = json.loads((run / "summary.json").read_text())["numbers"]
    assert numbers.keys() == kept.keys()
    np.testing.assert_allclose(list(numbers.values()), list(kept.values()), rtol=1e-9)
    (integrals,) = [eval(line, space) for line in lines if line.startswith("study.integrals_of")]
    with xr.open_dataset(run / "integrals" / "reccap2.nc") as stored:
        np.testing.assert_allclose(integrals.values, stored["ec"].values, rtol=1e-9)


def test_numbers_of_the_verdict_are_those_of_the_tables(run):
    summary = json.loads((run / "summary.json").read_text())
    known = list(summary["numbers"].values())
    for path in (run / "tables").glob("*.csv"):
        known += pd.read_csv(path).select_dtypes("number").to_numpy().ravel().tolist()
    total = Results(run).inversions.sum("region").transpose("inversion", "month").values
    known.append(np.sqrt(((total - total.mean(0)) ** 2).mean(1)).max())  # an inversion's own distance from their mean
    known = np.array(known, float)
    known = known[np.isfinite(known)]
    shown = [summary["verdict"], *(cell for row in summary["headline"]["rows"] for cell in row)]
    found = re.findall(r"-?\d+\.\d+", " ".join(shown).replace("−", "-"))
    assert len(found) > 10 and len(summary["headline"]["rows"]) <= 6
    assert summary["verdict"].count(". ") == 0 and "not to be claimed: " in summary["verdict"]
    for number in found:
        digits = len(number.split(".")[1])
        assert (np.abs(known - float(number)) <= 0.5001 * 10.0**-digits).any(), number


def test_a_changed_flux_changes_the_table(run, bare, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(bare, folder)
    path = folder / "integrals" / "reccap2.nc"
    with xr.open_dataset(path) as stored:
        changed = stored.load().assign(ec=stored["ec"] + 1.0)
    changed.to_netcdf(path)
    before, after = (
        study.table(f, "global_annual").set_index("product")["annual flux (PgC yr-1)"] for f in (run, folder)
    )
    assert after["EC"] - before["EC"] == pytest.approx(12 * 18)


def test_the_command_prints_a_table(run):
    assert re.search(r"global_annual +Global annual flux ± spread of every product", call("table", run))
    csv = call("table", run, "global_annual", "--csv")
    kept = pd.read_csv(run / "tables" / "global_annual.csv")
    pd.testing.assert_frame_equal(pd.read_csv(_StringIO(csv)), kept, rtol=1e-9)
    with pytest.raises(KeyError, match="no table 'globe'; this run has global_annual"):
        study.table(run, "globe")
    with pytest.raises(FileNotFoundError, match="no run folder of a study"):
        study.table(run / "tables", "global_annual")


def _StringIO(text):
    import io

    return io.StringIO(text)


# ------------------------------------------------------------------ resuming, report, figures
def test_a_second_run_keeps_every_stage(world, toml, run):
    said = []
    config = study.load_study(toml, _parsed(settings(world.folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_inputs, "IN_MEMORY", 0)
        study.run_study(config, run, say=said.append)
    assert [line for line in said if "…" in line] == [] and sum("done before, kept" in line for line in said) == 11


def test_how_many_pixels_are_sampled_is_no_setting_of_what_samples_none(toml):
    class Asked:
        def __init__(self):
            self.settings = {}

        def stage(self, name, make, *, settings=None, **options):
            self.settings[name] = settings

    found = []
    for pixels in ("400", "500"):
        run = Asked()
        config = study.load_study(toml, _parsed(["--set", f"train.pixels_per_step={pixels}"]))
        for variant in ("ec", "bridge", "sampled"):
            models.train_and_predict(models.Study(config, run), variant, ())
        found.append(run.settings)
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"train-ec_atm_sampled"}


def test_report_and_figures_of_the_paper_are_there(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "table-table_2_annual" in page and "table-table_3_monthly" in page and "xflux table" in page
    figures = {path.stem for path in (run / "figures").glob("*.png")}
    drawn = "global_flux efficiency mean_and_variability selected_months towers bridge_reccap2 stability towers_longest"
    drawn += " correlation_maps plant_types plant_types_by_region few_inversions_1"
    assert {*drawn.split(), "seasonal_cycle_global", "seasonal_cycle_by_region"} <= figures
    provenance = json.loads((run / "provenance.json").read_text())
    assert (
        provenance["inputs"]["target.fire"]["file"]
        == "36 files, cams_gfas_co2fire_200101.nc … cams_gfas_co2fire_200312.nc"
    )


def test_smoke_is_the_same_study_made_small(toml, run):
    small = study.load_study(toml).smoke()
    assert small.drivers.years == small.target.years == (2001, 2002) and small.train.validation_years == 1
    assert small.train.folds == 3 and small.target.products == study.load_study(toml).target.products
    inputs = study.Results(run).inputs
    thin = study_inputs.thin(inputs)
    assert thin.grid.sizes == inputs.grid.sizes  # 18 × 36 cells are few already
    fine = study_inputs.Inputs(inputs.towers, xr.Dataset({"a": (("lat", "lon"), np.zeros((180, 360)))}), inputs.target)
    assert study_inputs.thin(fine).grid.sizes == {"lat": 45, "lon": 90}
    assert study_inputs.thin(fine).towers.attrs["smoke"] == 1
