"""A study's towers: drivers from their own weather, memory, land cover, months."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux.study import StudyError, load_study
from xflux.study import inputs as study_inputs

STUDY = """
name = "own"
data = "{folder}"
[towers]
table = "towers.csv"
[towers.base]
TAIR = "Ta"
PREC = "P"
[towers.units]
Ta = "degC"
[drivers]
base = "base.nc"
land_fraction = "land.nc"
variables = ["Tair", "T_30d", "WAI2", "forest"]
[drivers.recipes]
T_30d = "running_mean(TAIR, 30)"
[drivers.cover]
variable = "PFT"
[drivers.cover.classes]
forest = {{ grid = ["tree"], towers = ["ENF", "DBF"] }}
[target]
file = "target.nc"
variable = "land"
"""


@pytest.fixture
def study(tmp_path):
    """One tower of two years with air temperature of its own, on a grid of four cells by month."""
    axes = {"month": range(1, 13), "lat": [0.5, -0.5], "lon": [0.0, 1.0]}
    month = xr.DataArray(np.arange(1.0, 13), {"month": range(1, 13)}, "month")
    field = xr.DataArray(np.ones((12, 2, 2)), axes, ("month", "lat", "lon")) * month
    pft = xr.DataArray(np.full((2, 2, 2), 0.4), {"pft": ["tree", "grass"], **{k: axes[k] for k in ("lat", "lon")}})
    base = {"TAIR": field.assign_attrs(units="degC"), "PREC": (field * 9).assign_attrs(units="mm month-1"), "PFT": pft}
    xr.Dataset(base).to_netcdf(tmp_path / "base.nc")
    xr.Dataset({"land_fraction": field[0].drop_vars("month")}).to_netcdf(tmp_path / "land.nc")
    time = pd.date_range("2005-01-01", "2006-12-31")
    good = np.where(np.arange(730) % 2, 1.0, 0.1)
    pd.DataFrame({
        "site": "AA-Aaa", "time": time, "NEE": np.arange(730.0), "NEE_QC": good, "Ta": np.arange(730.0) / 10,
        "lat": 0.4, "lon": 0.1, "IGBP": "DBF",
    }).assign(P=np.nan).to_csv(tmp_path / "towers.csv", index=False)  # fmt: skip
    (tmp_path / "study.toml").write_text(STUDY.format(folder=tmp_path))
    xr.Dataset({"land": xr.DataArray(1.0)}).to_netcdf(tmp_path / "target.nc")
    return tmp_path / "study.toml"


def placed(path, **changes):
    config = load_study(path, changes)
    files = study_inputs.input_files(config)
    table = study_inputs.read_tower_table(config, files)
    grid = study_inputs.make_grid(config, files, path.parent)
    return study_inputs.place_towers(config, table, grid, files), grid


def test_drivers_of_towers_are_made_from_their_own_weather(study):
    towers, grid = placed(study)
    assert list(towers.data_vars) == ["nee", "Tair", "T_30d", "WAI2", "forest"] == ["nee", *list(grid)[:4]]
    own = np.arange(730.0) / 10
    np.testing.assert_allclose(towers.Tair, own[1::2])
    before = np.r_[np.full(31, 12.0), own]  # December of the cell; days without a good flux count too
    np.testing.assert_allclose(towers.T_30d, [before[i + 2 : i + 32].mean() for i in range(1, 730, 2)])
    assert towers.attrs["TAIR_from_cell"] == 0 and towers.attrs["PREC_from_cell"] == 1
    assert set(towers.forest.values) == {1.0} and float(grid.forest[0, 0]) == 0.4
    np.testing.assert_allclose(grid.T_30d[1, 0, 0], (2 * 28 + 1 * 2) / 30)


def test_months_of_towers(study):
    towers, _ = placed(study, **{"towers.step": "month", "drivers.recipes.T_30d": "running_mean(TAIR, 60)"})
    own = pd.Series(np.arange(730.0) / 10, pd.date_range("2005-01-01", "2006-12-31"))
    months, days = own.resample("MS").mean(), own[1::2].resample("MS").count()
    assert towers.attrs["time_step"] == "month" and towers.days.values.tolist() == days[days >= 15].tolist()
    np.testing.assert_allclose(towers.Tair, months[days >= 15])
    # February has too few good days of flux for a sample, but its weather is remembered in March
    assert str(towers.time.values[1])[:7] == "2005-03"
    assert float(towers.T_30d[1]) == pytest.approx((months.iloc[2] * 31 + months.iloc[1] * 28 + months.iloc[0]) / 60)


@pytest.mark.parametrize(("change", "message"), [
    ({"towers.base.TAIR": "T"}, r"towers.base: the tower table has no column \['T'\]"),
    ({"drivers.variant": "none"}, "towers.base goes through the recipes"),
    ({"drivers.cover.variable": "IGBP"}, "drivers.cover.variable = 'IGBP': no base file has it"),
    ({"towers.min_days": 40}, "towers.min_days"),
])  # fmt: skip
def test_what_towers_cannot_have(study, change, message):
    with pytest.raises(StudyError, match=message):
        placed(study, **change)


def test_what_a_tower_measures_goes_before_a_recipe(study):
    towers, grid = placed(study, **{"towers.keep": {"T_30d": "Ta"}})
    np.testing.assert_allclose(towers.T_30d, np.arange(730.0)[1::2] / 10)
    np.testing.assert_allclose(grid.T_30d[1, 0, 0], (2 * 28 + 1 * 2) / 30)
