"""A study: its file, its checks before anything long starts, its stages, and the split of the inversions."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from xflux.study import StudyError, check_study, load_study
from xflux.study import inputs as study_inputs
from xflux.study.loading import parse_override
from xflux.study.results import inversion_halves, slug
from xflux.study.stages import RunFolder

STUDY = "examples/real_world/study.toml"


@pytest.fixture
def small(tmp_path):
    """A data folder with a target and the other files of a study, just large enough to be checked."""
    (tmp_path / "data").mkdir()
    folder = tmp_path / "data"
    time = pd.date_range("2015-01-01", periods=24, freq="MS")
    flux = xr.DataArray(np.ones((2, 18, 24)), dims=("model", "band", "time"), attrs={"units": "PgC yr-1"})
    flux = flux.assign_coords(model=["A", "B"], time=time, band=study_bands())
    flux.rename("land").to_netcdf(folder / "target.nc")
    cells = {"month": range(1, 13), "lat": [0.5, -0.5], "lon": [0.0, 1.0]}
    ones = xr.DataArray(np.ones((12, 2, 2)), cells, ("month", "lat", "lon"), attrs={"units": "1"})
    xr.Dataset({"NDVI": ones, "TAIR": ones.assign_attrs(units="degC")}).to_netcdf(folder / "drivers.nc")
    xr.Dataset({"land_fraction": ones[0].drop_vars("month")}).to_netcdf(folder / "land.nc")
    (folder / "towers.csv").write_text("")
    text = f"""
name = "small"
data = "{folder}"
[towers]
table = "towers.csv"
[drivers]
base = "drivers.nc"
land_fraction = "land.nc"
[target]
file = "target.nc"
variable = "land"
region_dim = "band"
ensemble_dims = ["model"]
regions = "latitude-bands"
"""
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def study_bands() -> list[str]:
    from xflux.regions import region_labels

    return list(region_labels("latitude-bands"))


def test_the_example_study_is_valid():
    study = load_study(STUDY)
    assert study.train.folds == 10 and study.target.select == {"experiment": ["IS", "LNLGIS"]}


def test_misspelled_keys_name_the_nearest(small):
    with pytest.raises(StudyError, match=r"unknown key 'train.epoch'; did you mean 'epochs'"):
        load_study(small, {"train.epoch": 3})
    with pytest.raises(StudyError, match=r"unknown key 'target.regons'; did you mean 'regions'"):
        load_study(small, {"target.regons": "reccap2"})
    with pytest.raises(StudyError, match=r"'towers.qc': .*number.*given: 'high'"):
        load_study(small, {"towers.qc": "high"})


def test_missing_keys_files_and_toml_errors(small, tmp_path):
    (tmp_path / "empty.toml").write_text("name = 'x'\n")
    with pytest.raises(StudyError, match="missing key 'towers'"):
        load_study(tmp_path / "empty.toml")
    (tmp_path / "broken.toml").write_text("name = \n")
    with pytest.raises(StudyError, match=r"broken\.toml is damaged or is not a study file"):
        load_study(tmp_path / "broken.toml")
    with pytest.raises(StudyError, match="xflux new"):
        load_study(tmp_path / "absent.toml")


def test_overrides_are_read_as_toml():
    assert parse_override("train.epochs=10") == ("train.epochs", 10)
    assert parse_override("target.allow=['fire']") == ("target.allow", ["fire"])
    with pytest.raises(StudyError, match="expected key=value"):
        parse_override("train.epochs")


def test_a_missing_data_folder_is_named(small, monkeypatch):
    with pytest.raises(StudyError, match=r"data folder '/nowhere' does not exist"):
        check_study(load_study(small, {"data": "/nowhere"}))
    monkeypatch.delenv("XFLUX_DATA", raising=False)
    with pytest.raises(StudyError, match="environment variable is not set"):
        check_study(load_study(small, {"data": "$XFLUX_DATA"}))


def test_missing_files_and_variables_are_all_named(small):
    check_study(load_study(small))
    with pytest.raises(StudyError, match=r"target.file = .*gone.nc"):
        check_study(load_study(small, {"target.file": "gone.nc"}))
    with pytest.raises(StudyError, match=r"no variable 'sea' in 'target.nc', which has \['land'\]"):
        check_study(load_study(small, {"target.variable": "sea"}))
    with pytest.raises(StudyError, match=r"target.select.model: 'Z' is not in"):
        check_study(load_study(small, {"target.select": {"model": ["Z"]}}))
    with pytest.raises(StudyError, match=r"has dims \('model', 'band', 'time'\)"):
        check_study(load_study(small, {"target.ensemble_dims": ["inversion"]}))


def test_a_column_or_driver_that_is_missing_is_named(small, tmp_path):
    config = load_study(small, {"towers.keep": {"Tair": "TA"}})
    days = pd.date_range("2005-01-01", periods=5)
    table = pd.DataFrame({"site": "AA-Aaa", "time": days, "NEE": 1.0, "NEE_QC": 1.0, "lat": 10.0, "lon": 10.0})
    table.to_csv(tmp_path / "data" / "towers.csv", index=False)
    files = study_inputs.input_files(config)
    with pytest.raises(StudyError, match=r"towers.keep: the tower table has no column \['TA'\]"):
        study_inputs.read_tower_table(config, files)
    cells = {"month": range(1, 13), "lat": [0.5, -0.5], "lon": [0.0, 1.0]}
    ones = xr.DataArray(np.ones((12, 2, 2)), cells, ("month", "lat", "lon"), attrs={"units": "1"})
    xr.Dataset({"NDVI": ones}).to_netcdf(tmp_path / "data" / "base.nc")
    xr.Dataset({"land_fraction": ones[0]}).drop_vars("month").to_netcdf(tmp_path / "data" / "land2.nc")
    config = load_study(
        small, {"drivers.base": "base.nc", "drivers.land_fraction": "land2.nc", "drivers.variables": ["Tair"]}
    )
    with pytest.raises(StudyError, match=r"drivers.variables: the grid has no \['Tair'\]"):
        study_inputs.make_grid(config, study_inputs.input_files(config), tmp_path)


def test_target_is_monthly_amounts_of_labelled_regions(small):
    config = load_study(small)
    target = study_inputs.make_target(config, study_inputs.input_files(config))
    assert target.dims == ("inversion", "region", "time") and target.attrs["units"] == "PgC month-1"
    days = target["time"].dt.days_in_month
    xr.testing.assert_allclose(target.isel(inversion=0, region=0, drop=True), days / 365.2425 * xr.ones_like(days))


def test_a_stage_runs_again_only_when_what_it_was_made_from_changes(tmp_path):
    done = []

    def study(setting, first_again=False):
        run = RunFolder(tmp_path / "run", say=lambda text: None)
        run.stage(
            "first", lambda: (done.append("first"), run.fresh("a").write_text("1")), outputs=["a"], settings=setting
        )
        run.stage(
            "second", lambda: (done.append("second"), run.fresh("b").write_text("2")), outputs=["b"], after=("first",)
        )

    study(1)
    study(1)
    assert done == ["first", "second"]
    study(2)
    assert done == ["first", "second"] * 2
    (tmp_path / "run" / "b").unlink()
    study(2)
    assert done[4:] == ["second"]


def test_files_are_read_again_only_when_they_change(tmp_path, monkeypatch):
    path, read = tmp_path / "a.nc", []
    path.write_text("1")
    monkeypatch.setattr("xflux.study.stages.file_digest", lambda p: read.append(p) or p.read_text())
    first = RunFolder(tmp_path / "run").hash_of([path])
    assert RunFolder(tmp_path / "run").hash_of([path]) == first == "1" and len(read) == 1
    path.write_text("22")
    assert RunFolder(tmp_path / "run").hash_of([path]) == "22" and len(read) == 2


def test_a_target_of_other_years_is_cut(small):
    config = load_study(small, {"target.years": [2016, 2016]})
    target = study_inputs.make_target(config, study_inputs.input_files(config))
    assert set(target["time"].dt.year.values) == {2016}
    with pytest.raises(StudyError, match=r"target.years = \[1990, 1991\]: the inversions have no month"):
        config = load_study(small, {"target.years": [1990, 1991]})
        study_inputs.make_target(config, study_inputs.input_files(config))


def test_a_stage_that_fails_is_not_done(tmp_path):
    run = RunFolder(tmp_path, say=lambda text: None)
    with pytest.raises(ZeroDivisionError):
        run.stage("bad", lambda: 1 / 0, outputs=[])
    done = []
    run.stage("bad", lambda: done.append(1), outputs=[])
    assert done == [1]


def test_halves_keep_a_system_together_and_are_seeded():
    names = [f"{e}/{m}" for e in ("IS", "LNLGIS") for m in "ABCDEFG"][:-1]
    target = xr.DataArray(np.zeros(len(names)), coords={"inversion": names})
    first, second = inversion_halves(target, 0)
    assert sorted(first + second) == sorted(names)
    assert not {n[-1] for n in first} & {n[-1] for n in second}
    assert (first, second) == inversion_halves(target, 0)
    assert any(inversion_halves(target, seed)[0] != first for seed in range(1, 5))


def test_slugs():
    assert [slug(v) for v in ("ec", "bridge", "sampled+total")] == ["ec", "ec_atm_bridge", "ec_atm_sampled_total"]


def test_dry_run_says_what_would_be_done(small):
    from xflux.cli import app

    result = CliRunner().invoke(app, ["run", str(small), "--dry-run"])
    assert result.exit_code == 0 and "would train EC, EC-ATM bridge" in result.output


def test_a_dry_run_needs_neither_torch_nor_matplotlib(small):
    from test_extras import run

    code = f"import xflux.cli; sys.argv = ['xflux', 'run', {str(small)!r}, '--dry-run']; xflux.cli.main()"
    assert "would train EC" in run(["torch", "safetensors", "matplotlib"], code)


def test_a_checkpoint_belongs_to_the_settings_that_made_it(tmp_path):
    run, kept = RunFolder(tmp_path, say=lambda text: None), []

    def make():
        path = run.checkpoint("models/ec")
        kept.append((path, path.exists()))
        path.write_text("state")
        if len(kept) < 3:
            raise KeyboardInterrupt

    for setting in (1, 1, 2):
        try:
            run.stage("ec", make, outputs=["models"], settings=setting)
        except KeyboardInterrupt:
            pass
    assert [was_there for _, was_there in kept] == [False, True, False]
    assert len(list((tmp_path / "models").glob("*.checkpoint"))) == 1
