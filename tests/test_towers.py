"""Towers: files as published, quality control, days from half hours, co-location, folds."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux
from xflux.towers import colocate, read_towers, site_folds
from xflux.towers.folds import great_circle_km

FACTOR = 86400e-6 * 12.011  # gC m-2 d-1 per umol m-2 s-1
SITES = pd.DataFrame({"site": ["XX-Abc", "YY-Def"], "lat": [50.0, -3.0], "lon": [8.0, -60.0], "igbp": ["ENF", "EBF"]})


def write_half_hours(folder, name="FLX_XX-Abc_FLUXNET2015_SUBSET_HH_2004-2004_1-4.csv", days=3, per_day=48, **columns):
    """A file as published: TIMESTAMP_START/END, -9999 for what is missing."""
    start = pd.date_range("2004-02-28", periods=days * per_day, freq=f"{1440 // per_day}min")
    step = pd.Timedelta(minutes=1440 // per_day)
    table = pd.DataFrame({
        "TIMESTAMP_START": start.strftime("%Y%m%d%H%M"), "TIMESTAMP_END": (start + step).strftime("%Y%m%d%H%M"),
    } | columns)  # fmt: skip
    table.fillna(-9999).to_csv(folder / name, index=False)
    return folder / name


def half_hours(per_day=48):
    """Three days: good; a quarter filled poorly; a third missing."""
    rng = np.random.default_rng(0)
    nee = rng.normal(-2, 5, (3, per_day))
    flag = rng.integers(0, 2, (3, per_day))
    flag[1, : per_day // 4] = 2
    nee[2, : per_day // 3] = np.nan
    flag = np.where(np.isnan(nee), np.nan, flag)
    randunc = rng.uniform(0.5, 2, (3, per_day))
    return nee, flag, randunc


@pytest.mark.parametrize(("per_day", "step"), [(48, "HH"), (24, "HR")])
def test_days_from_half_hours_have_the_known_values(tmp_path, per_day, step):
    nee, flag, randunc = half_hours(per_day)
    rain, tair = np.full(3 * per_day, 0.5), np.arange(3.0 * per_day)
    path = write_half_hours(
        tmp_path, f"FLX_XX-Abc_FLUXNET2015_SUBSET_{step}_2004-2004_1-4.csv", per_day=per_day,
        NEE_VUT_REF=nee.ravel(), NEE_VUT_REF_QC=flag.ravel(), NEE_VUT_REF_RANDUNC=randunc.ravel(), P_F=rain, TA_F=tair,
    )  # fmt: skip
    towers = read_towers(path, qc=None, sites=SITES)
    assert list(towers.time.values.astype("datetime64[D]").astype(str)) == ["2004-02-28", "2004-02-29", "2004-03-01"]
    # all half hours that have a value count, the poorly filled too, as in the DD product
    np.testing.assert_allclose(towers.nee, np.nanmean(nee, 1) * FACTOR, rtol=1e-9)
    np.testing.assert_allclose(towers.nee_qc, [1.0, 0.75, 2 / 3], rtol=1e-9)
    np.testing.assert_allclose(towers.P, 0.5 * per_day)
    np.testing.assert_allclose(towers.Tair, tair.reshape(3, -1).mean(1))
    expected = np.sqrt((randunc**2).sum(1)) / per_day * FACTOR
    np.testing.assert_allclose(towers.nee_randunc, expected, rtol=1e-9)
    assert towers.nee.attrs["units"] == "gC m-2 d-1" and towers.P.attrs["units"] == "mm d-1"
    assert read_towers(path, qc=0.75, sites=SITES).sizes["sample"] == 2
    assert read_towers(path, qc=0.8, sites=SITES).sizes["sample"] == 1


def test_targets_under_other_names_have_their_units(tmp_path):
    path = write_half_hours(
        tmp_path, days=1, NEE_VUT_REF=np.ones(48), NEE_VUT_REF_QC=np.zeros(48), NEE_VUT_REF_JOINTUNC=np.full(48, 0.5),
        LE_F_MDS=np.full(48, 80.0), LE_F_MDS_QC=np.ones(48), LE_RANDUNC=np.full(48, 4.8),
    )  # fmt: skip
    towers = read_towers(path, variable={"flux": "NEE_VUT_REF", "le": "LE_F_MDS"}, sites=SITES)
    np.testing.assert_allclose([towers.flux[0], towers.flux_jointunc[0]], np.array([1, 0.5]) * FACTOR)
    assert towers.flux_jointunc.attrs["units"] == "gC m-2 d-1" and towers.le.attrs["units"] == "W m-2"
    np.testing.assert_allclose(towers.le, 80.0)
    np.testing.assert_allclose(towers.le_randunc, 4.8 / np.sqrt(48))
    assert towers.le_randunc.attrs["units"] == "W m-2"


def test_a_day_with_less_than_half_of_its_steps_is_missing(tmp_path):
    nee = np.full((2, 48), 1.0)
    nee[0, :25] = np.nan
    path = write_half_hours(
        tmp_path, days=2, NEE_VUT_REF=nee.ravel(), NEE_VUT_REF_QC=np.where(nee == 1, 0, np.nan).ravel()
    )
    towers = read_towers(path, qc=None, sites=SITES)
    assert towers.sizes["sample"] == 1 and str(towers.time.values[0])[:10] == "2004-02-29"


def test_half_hours_agree_with_the_daily_product(tmp_path, data_folder):
    """Half hours written so that their days are those of a real DD file come back as that file."""
    original = next((data_folder / "towers/fluxnet2015").glob("FLX_AU-Fog_*_DD_*.csv"))
    daily = read_towers(original, qc=None, sites=data_folder / "towers/sites.csv")
    daily = daily.isel(sample=slice(100, 130))
    rng = np.random.default_rng(1)
    wiggle = rng.normal(0, 3, (30, 48))
    wiggle -= wiggle.mean(1, keepdims=True)
    good = np.rint(daily.nee_qc.values * 48)
    columns = {
        "NEE_VUT_REF": (daily.nee.values[:, None] / FACTOR + wiggle).ravel(),
        "NEE_VUT_REF_QC": np.where(np.arange(48) < good[:, None], 1, 3).ravel(),
        "TA_F": (daily.Tair.values[:, None] + wiggle).ravel(),
        "P_F": np.repeat(daily.P.values / 48, 48),
    }
    start = pd.date_range(daily.time.values[0], periods=30 * 48, freq="30min")
    table = pd.DataFrame({
        "TIMESTAMP_START": start.strftime("%Y%m%d%H%M"),
        "TIMESTAMP_END": (start + pd.Timedelta("30min")).strftime("%Y%m%d%H%M"), **columns,
    })  # fmt: skip
    table.to_csv(tmp_path / "FLX_AU-Fog_FLUXNET2015_SUBSET_HH_2006-2008_1-4.csv", index=False)
    made = read_towers(tmp_path / "FLX_AU-Fog*_HH_*.csv", qc=None, sites=data_folder / "towers/sites.csv")
    np.testing.assert_array_equal(made.time, daily.time)
    for name in ("nee", "Tair", "P"):
        np.testing.assert_allclose(made[name], daily[name], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(made.nee_qc, daily.nee_qc, atol=0.5 / 48)


def test_original_fluxnet_files_read_unchanged(data_folder):
    files = sorted((data_folder / "towers/fluxnet2015").glob("*.csv"))
    towers = read_towers([str(f) for f in files], sites=data_folder / "towers/sites.csv")
    assert sorted(set(towers.site.values)) == [f.name.split("_")[1] for f in files]
    assert float(towers.nee_qc.min()) >= 0.8 and np.isfinite(towers.nee).all() and np.isfinite(towers.lat).all()
    raw = pd.read_csv(files[0]).query("NEE_VUT_REF_QC >= 0.8 and NEE_VUT_REF > -9990")
    here = towers.where(towers.site == files[0].name.split("_")[1], drop=True)
    np.testing.assert_allclose(here.nee, raw.NEE_VUT_REF)
    np.testing.assert_allclose(here.nee_randunc, raw.NEE_VUT_REF_RANDUNC.where(raw.NEE_VUT_REF_RANDUNC > -9990))
    assert {"nee_25", "nee_50", "nee_75", "Tair", "SW_IN", "VPD", "P", "GPP_NT", "LE"} <= set(towers)
    assert all(towers[v].attrs.get("units") for v in towers)
    # no value of -9999 is left anywhere
    assert min(float(towers[v].min()) for v in towers) > -9000


def test_the_daily_table_is_the_published_product(data_folder):
    towers = read_towers(data_folder / "towers/towers_daily.parquet", qc=0.8, sites=data_folder / "towers/sites.csv",
                         start="2001")  # fmt: skip
    assert len(set(towers.site.values)) > 150 and towers.time.values.min() >= np.datetime64("2001-01-01")
    assert float(towers.nee_qc.min()) >= 0.8 and towers.Tair.attrs["units"] == "degC"
    assert towers.igbp.dtype.kind == "U" and set(towers.dims) == {"sample"}


def write_daily(folder, name, column="NEE_VUT_REF", stamps=("20050101", "20050102", "20050103"), **more):
    table = pd.DataFrame({"TIMESTAMP": stamps, column: [1.0, -9999, 3.0], f"{column}_QC": [1.0, 1.0, 0.9], **more})
    table.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize("name", [
    "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv",
    "AMF_XX-Abc_FLUXNET_SUBSET_DD_2005-2005_3-5.csv",
    "ICOSETC_XX-Abc_FLUXNET_DD_L2.csv",
    "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_beta-3.csv",
])  # fmt: skip
def test_names_of_all_networks(tmp_path, name):
    towers = read_towers(write_daily(tmp_path, name), sites=SITES)
    assert list(towers.site.values) == ["XX-Abc", "XX-Abc"]
    np.testing.assert_array_equal(towers.nee, [1.0, 3.0])
    np.testing.assert_array_equal(towers.lat, [50.0, 50.0])


def test_monthly_files(tmp_path):
    path = write_daily(
        tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_MM_2005-2005_1-4.csv", stamps=("200501", "200502", "200503")
    )
    towers = read_towers(path, sites=SITES)
    assert towers.attrs["time_step"] == "month" and str(towers.time.values[1])[:10] == "2005-03-01"


def test_weeks_are_refused(tmp_path):
    path = tmp_path / "FLX_XX-Abc_FLUXNET2015_FULLSET_WW_2005-2005_1-4.csv"
    pd.DataFrame(
        {"TIMESTAMP_START": [20050101, 20050108], "TIMESTAMP_END": [20050107, 20050114], "NEE_VUT_REF": [1, 2]}
    ).to_csv(path, index=False)
    with pytest.raises(ValueError, match="the step WW is not read"):
        read_towers(path)


def test_choice_of_variable(tmp_path):
    path = write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv", "NEE_VUT_USTAR50",
                       NEE_VUT_USTAR50_JOINTUNC=[0.1, 0.2, 0.3], NEE_VUT_25=[0.0, 0.0, 2.5],
                       GPP_NT_VUT_USTAR50=[5.0, 6.0, -9999.0])  # fmt: skip
    towers = read_towers(path, variable="NEE_VUT_USTAR50", sites=SITES)
    np.testing.assert_array_equal(towers.nee_jointunc, [0.1, 0.3])
    np.testing.assert_array_equal(towers.nee_25, [0.0, 2.5])
    two = read_towers(path, variable={"nee": "NEE_VUT_USTAR50", "gpp": "GPP_NT_VUT_USTAR50"}, sites=SITES)
    np.testing.assert_array_equal(two.gpp, [5.0, 6.0, np.nan])
    np.testing.assert_array_equal(two.nee, [1.0, np.nan, 3.0])
    assert two.gpp.attrs["units"] == "gC m-2 d-1"
    with pytest.raises(KeyError, match=r"no column NEE_VUT_REF; it has NEE_VUT_USTAR50, NEE_VUT_25.*variable="):
        read_towers(path)


def test_badm_and_site_lists_give_places(tmp_path):
    path = write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    badm = pd.DataFrame({
        "SITE_ID": ["XX-Abc"] * 4, "GROUP_ID": [1, 1, 2, 3],
        "VARIABLE_GROUP": ["GRP_LOCATION"] * 2 + ["GRP_IGBP", "GRP_TEAM"],
        "VARIABLE": ["LOCATION_LAT", "LOCATION_LONG", "IGBP", "TEAM_MEMBER_NAME"],
        "DATAVALUE": ["51.5", "-10.25", "WET", "Müller"],
    })  # fmt: skip
    badm.to_csv(tmp_path / "FLX_AA-Flx_FLUXNET2015_BIF_LATEST.csv", index=False, encoding="latin-1")
    badm.to_excel(tmp_path / "FLX_AA-Flx_BIF_DD_20200501.xlsx", index=False)  # as it comes with the files
    for name in ("FLX_AA-Flx_FLUXNET2015_BIF_LATEST.csv", "FLX_AA-Flx_BIF_DD_20200501.xlsx"):
        towers = read_towers(path, sites=tmp_path / name)
        assert (float(towers.lat[0]), float(towers.lon[0]), str(towers.igbp.values[0])) == (51.5, -10.25, "WET")
    named = pd.DataFrame({"SITE_ID": ["XX-Abc"], "LOCATION_LAT": [1.0], "LOCATION_LONG": [2.0], "IGBP": ["MF"]})
    assert float(read_towers(path, sites=named).lon[0]) == 2.0
    with pytest.raises(KeyError, match="the site list has no column for lat, lon"):
        read_towers(path, sites=pd.DataFrame({"site": ["XX-Abc"]}))


@pytest.mark.parametrize(("header", "row", "encoding"), [
    ("site,lat,lon,igbp", "XX-Abc,51.5,-10.25,WET", "utf-8-sig"),  # as spreadsheets save it
    ("SITE_ID\tLOCATION_LAT\tLOCATION_LONG\tIGBP\tName", "XX-Abc \t51.5\t-10.25\tWET\tMüller", "latin-1"),
    ("Site ID,Latitude (degrees),Longitude (degrees),Vegetation Abbreviation (IGBP)", "XX-Abc,51.5,-10.25,WET",
     "utf-8"),  # AmeriFlux
])  # fmt: skip
def test_site_lists_as_they_come(tmp_path, header, row, encoding):
    path = write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    (tmp_path / "sites.txt").write_text(f"{header}\n{row}\n", encoding=encoding)
    towers = read_towers(path, sites=tmp_path / "sites.txt")
    assert (float(towers.lat[0]), float(towers.lon[0]), str(towers.igbp.values[0])) == (51.5, -10.25, "WET")


def test_unknown_places_warn_once_and_name_the_sites(tmp_path):
    path = write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    with pytest.warns(UserWarning, match="no coordinates for 1 site.*XX-Abc") as caught:
        towers = read_towers(path)
    assert len(caught) == 1
    assert np.isnan(towers.lat).all() and set(towers.igbp.values) == {""}
    with pytest.raises(ValueError, match=r"lat/lon are NaN at 1 of 1 sites: XX-Abc.*sites="):
        colocate(towers, climatology())


def test_plain_tables(tmp_path):
    table = pd.DataFrame({
        "Site_ID": ["A", "A", "B"], "date": ["2005-01-01", "2005-01-02", "2005-01-01"], "NEE": [1.0, -9999.0, 3.0],
        "NEE_QC": [0.9, 0.9, 0.5], "Tair": [1.0, 2.0, -9999.0],
        "latitude": [1.0, 1.0, 2.0], "longitude": [3.0, 3.0, 4.0],
        "IGBP": pd.Categorical(["ENF", "ENF", "GRA"]), "my_index": [7, 8, 9],
    })  # fmt: skip
    table.to_csv(tmp_path / "towers.csv", index=False)
    table.to_parquet(tmp_path / "towers.parquet")
    for source in (table, tmp_path / "towers.csv", str(tmp_path / "towers.parquet")):
        towers = read_towers(source)
        assert list(towers.site.values) == ["A"] and float(towers.nee[0]) == 1.0 and int(towers.my_index[0]) == 7
        assert float(towers.lat[0]) == 1.0 and str(towers.igbp.values[0]) == "ENF"
    everything = read_towers(table, qc=None)
    assert everything.sizes["sample"] == 2 and np.isnan(everything.Tair[1])
    assert "units" not in everything.my_index.attrs
    molar = read_towers(table, qc=None, units={"NEE": "umolCO2 m-2 s-1"})
    np.testing.assert_allclose(molar.nee, np.array([1.0, 3.0]) * FACTOR, rtol=1e-6)


def test_tables_without_quality_warn(tmp_path):
    table = pd.DataFrame({"site": ["A"], "time": ["2005-01-01"], "NEE": [1.0], "lat": [1.0], "lon": [1.0]})
    with pytest.warns(UserWarning, match="no quality flag for nee"):
        assert read_towers(table).sizes["sample"] == 1


@pytest.mark.parametrize(("dates", "first", "step"), [
    ([20050228, 20050301], "2005-02-28", "day"), (["20050228", "20050301"], "2005-02-28", "day"),
    ([20050228.0, 20050301.0], "2005-02-28", "day"), ([200502, 200503], "2005-02-01", "month"),
    (["200502", "200503"], "2005-02-01", "month"), (["2005-02-28 00:00+11:00", "2005-03-01 00:00+11:00"], "2005-02-28",
                                                    "day"),
])  # fmt: skip
def test_dates_as_numbers_are_dates(dates, first, step):
    table = pd.DataFrame({"site": "A", "time": dates, "NEE": [1.0, 2.0], "NEE_QC": 1.0, "lat": 1.0, "lon": 2.0})
    if "+" in str(dates[0]):
        table["time"] = pd.to_datetime(table["time"])
    towers = read_towers(table)
    assert str(towers.time.values[0])[:10] == first and towers.attrs["time_step"] == step
    alone = read_towers(table.iloc[:1])  # no step to go by
    assert str(alone.time.values[0])[:10] == first
    with pytest.raises(ValueError, match="times like '2005' are not understood"):
        read_towers(table.assign(time=2005))


def test_a_table_of_several_sites_may_call_its_days_timestamp(tmp_path):
    table = pd.DataFrame({
        "SITE_ID": ["XX-Abc", "YY-Def"], "TIMESTAMP": [20050101, 20050101], "NEE_VUT_REF": [1.0, 2.0],
        "NEE_VUT_REF_QC": [1.0, 0.9],
    })  # fmt: skip
    table.to_csv(tmp_path / "daily.csv", index=False)
    for source in (tmp_path / "daily.csv", table):
        towers = read_towers(source, variable="NEE_VUT_REF", sites=SITES)
        assert list(towers.site.values) == ["XX-Abc", "YY-Def"]
        assert {str(t)[:10] for t in towers.time.values} == {"2005-01-01"}


def test_uncertainties_of_a_table_have_the_units_of_its_target():
    table = pd.DataFrame({
        "site": "A", "time": ["2005-01-01"], "NEE": [1.0], "NEE_QC": 1.0, "NEE_RANDUNC": 0.5, "NEE_25": 0.75,
        "lat": 1.0, "lon": 2.0,
    })  # fmt: skip
    towers = read_towers(table, units={"NEE": "umolCO2 m-2 s-1"})
    got = [float(towers[v][0]) for v in ("nee", "nee_randunc", "nee_25")]
    np.testing.assert_allclose(got, np.array([1, 0.5, 0.75]) * FACTOR)
    assert towers.nee_randunc.attrs["units"] == "gC m-2 d-1"


def test_a_file_without_a_flag_beside_one_with_it_is_kept_and_named(tmp_path):
    flagged = write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    bare = tmp_path / "FLX_YY-Def_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv"
    pd.read_csv(flagged).drop(columns="NEE_VUT_REF_QC").to_csv(bare, index=False)
    with pytest.warns(UserWarning, match=r"no quality flag for nee in FLX_YY-Def_\S+: no quality control there"):
        towers = read_towers(tmp_path / "FLX_*.csv", qc=0.95, sites=SITES)
    assert list(towers.site.values) == ["XX-Abc", "YY-Def", "YY-Def"] and set(towers) == {"nee", "nee_qc"}


def test_percentiles_of_partitioned_fluxes_are_kept(tmp_path):
    path = write_daily(
        tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv", GPP_NT_VUT_REF=[5.0, 6.0, 7.0],
        GPP_NT_VUT_05=[4.0, 5.0, 6.0], GPP_NT_VUT_SE=[0.1, 0.2, 0.3], NEE_VUT_50=[8.0] * 3, NEE_VUT_USTAR50=[9.0] * 3,
    )  # fmt: skip
    chosen = {"nee": "NEE_VUT_REF", "gpp": "GPP_NT_VUT_REF", "nee_50": "NEE_VUT_USTAR50"}
    with pytest.warns(UserWarning, match="no quality flag for nee_50"):
        towers = read_towers(path, variable=chosen, sites=SITES)
    np.testing.assert_array_equal(towers.gpp_05.sel(sample=0), 4.0)
    assert towers.gpp_05.attrs["units"] == "gC m-2 d-1" and float(towers.gpp_se[0]) == 0.1
    assert float(towers.nee_50[0]) == 9.0  # a target of the user's goes before a percentile of that name


def test_errors_of_reading(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tower file matches"):
        read_towers(tmp_path / "FLX_*.csv")
    table = pd.DataFrame(
        {"site": ["A"], "time": ["2005-01-01"], "NEE": [1.0], "NEE_QC": [0.1], "lat": [1.0], "lon": [1.0]}
    )
    with pytest.raises(ValueError, match=r"no sample of nee is left of 1 with quality >= 0\.8"):
        read_towers(table)
    with pytest.raises(KeyError, match="needs a column 'site' and a column 'time'"):
        read_towers(table.drop(columns="site"))
    with pytest.raises(KeyError, match="has no column FC"):
        read_towers(table, variable="FC")
    with pytest.raises(ValueError, match="no tower sample between 2010 and None: the files cover 2005-01-01"):
        read_towers(table, start="2010")
    with pytest.raises(ValueError, match="steps of 0 days 00:30:00"):
        half = pd.concat([table.assign(time="2005-01-01 00:00"), table.assign(time="2005-01-01 00:30")])
        read_towers(half)
    both = write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_SUBSET_DD_2005-2005_1-4.csv")
    with pytest.raises(ValueError, match=r"share site and time.*XX-Abc.*FULLSET or SUBSET"):
        read_towers(tmp_path / "FLX_*.csv")
    with pytest.raises(ValueError, match="no site code like DE-Hai in the file name"):
        read_towers(both.rename(tmp_path / "tower.csv"))


def test_auxiliary_files_are_passed_over(tmp_path):
    write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    pd.DataFrame({"TIMESTAMP": [20050101], "TA_ERA": [1.0]}).to_csv(
        tmp_path / "FLX_XX-Abc_FLUXNET2015_ERAI_DD_1989-2014_1-4.csv", index=False
    )
    (tmp_path / "FLX_XX-Abc_FLUXNET_BIFVARINFO_DD_2005-2005_v1.3_r1.csv").write_text("VARIABLE,DATAVALUE\nNEE,1\n")
    assert read_towers(tmp_path / "FLX_*_DD_*.csv", sites=SITES).sizes["sample"] == 2


# --- co-location ---------------------------------------------------------------------------------------------------


def climatology(lat=None, lon=None):
    lat = np.arange(89.5, -90, -1.0) if lat is None else np.asarray(lat, float)
    lon = np.arange(-179.5, 180, 1.0) if lon is None else np.asarray(lon, float)
    months = np.arange(1, 13)
    value = months[:, None, None] * 1000 + lat[:, None] + np.sin(np.deg2rad(lon))
    ndvi = xr.DataArray(
        value, {"month": months, "lat": lat, "lon": lon}, attrs={"units": "1", "long_name": "greenness"}
    )
    return xr.Dataset({"NDVI": ndvi, "static": ndvi[0] * 2})


def towers_at(lat, lon, time=("2005-03-15", "2005-12-31"), **variables):
    sites = [f"S{i}" for i in range(len(lat))]
    n = len(time)
    coords = {
        "site": ("sample", np.repeat(sites, n)),
        "time": ("sample", np.tile(np.array(time, "datetime64[ns]"), len(lat))),
        "lat": ("sample", np.repeat(np.asarray(lat, float), n)),
        "lon": ("sample", np.repeat(np.asarray(lon, float), n)),
        "igbp": ("sample", np.repeat("", n * len(lat))),
    }  # fmt: skip
    data = {"nee": ("sample", np.arange(n * len(lat), dtype=float), {"units": "gC m-2 d-1"})} | variables
    return xr.Dataset(data, coords, {"time_step": "day"})


def test_nearest_cell_by_month_with_units():
    at = colocate(towers_at([50.2, -3.4], [8.1, -60.4]), climatology())
    np.testing.assert_allclose(at.cell_lat.values[::2], [50.5, -3.5])
    np.testing.assert_allclose(at.cell_lon.values[::2], [8.5, -60.5])
    np.testing.assert_allclose(at.NDVI[:2], np.array([3000, 12000]) + 50.5 + np.sin(np.deg2rad(8.5)))
    np.testing.assert_allclose(at.static[2], 2 * (1000 - 3.5 + np.sin(np.deg2rad(-60.5))))
    assert at.NDVI.attrs["units"] == "1" and at.NDVI.attrs["long_name"] == "greenness"
    expected = great_circle_km(50.2, 8.1, 50.5, 8.5)
    np.testing.assert_allclose(at.cell_distance[0], expected)
    assert at.cell_distance.attrs["units"] == "km" and "nee" in at


@pytest.mark.parametrize(("axis", "steps", "expected"), [("month", 12, [3, 12]), ("dayofyear", 365, [74, 365])])
def test_a_climatology_without_labels_counts_from_one(axis, steps, expected):
    values = np.arange(1.0, steps + 1).reshape(-1, 1, 1)
    grid = xr.Dataset({"x": ((axis, "lat", "lon"), values)}, {"lat": [0.0], "lon": [0.0]})
    assert colocate(towers_at([0.1], [0.1]), grid).x.values.tolist() == expected


@settings(max_examples=25, deadline=None)
@given(
    lat=st.floats(-85, 85), lon=st.floats(-180, 360), flip=st.booleans(), shift=st.booleans(), seed=st.integers(0, 9)
)
def test_cell_does_not_depend_on_conventions(lat, lon, flip, shift, seed):
    grid = climatology()
    rng = np.random.default_rng(seed)
    sea = xr.DataArray(rng.random((180, 360)) < 0.5, {"lat": grid.lat, "lon": grid.lon})
    grid = grid.where(~sea)
    other = grid.assign_coords(lon=grid.lon % 360).sortby("lon") if shift else grid
    other = other.sortby("lat") if flip else other
    other = other.transpose("lon", "lat", ...)
    towers = towers_at([lat], [lon])
    a, b = colocate(towers, grid, 2000), colocate(towers, other, 2000)
    np.testing.assert_allclose(a.cell_distance, b.cell_distance, atol=1e-6)
    # by brute force over all cells
    km = great_circle_km(lat, lon, grid.lat.values[:, None], grid.lon.values[None, :])
    nearest = np.where(sea.values, np.inf, km).min()
    np.testing.assert_allclose(a.cell_distance[0], nearest, atol=1e-6)


def test_sea_is_passed_over_and_towers_out_of_reach_are_named():
    grid = climatology()
    grid["NDVI"] = grid.NDVI.where((grid.lat > 0) | (grid.lon > 0))
    with pytest.warns(UserWarning, match=r"1 of 2 sites have no cell with drivers within 50 km.*S1"):
        at = colocate(towers_at([50.2, -3.4], [8.1, -60.4]), grid)
    assert set(at.site.values) == {"S0"}
    at = colocate(towers_at([-0.4], [-60.5]), grid, max_distance=150)
    assert float(at.cell_lat[0]) == 0.5
    with pytest.raises(ValueError, match=r"no tower has a cell with drivers within 50 km \(sites S0\)"):
        colocate(towers_at([-3.4], [-60.4]), grid)


def test_daily_grid_by_date_and_period():
    time = pd.date_range("2004-01-01", "2005-12-31")
    grid = xr.Dataset({"wai": (("time", "lat", "lon"), np.arange(len(time), dtype=float)[:, None, None] * [[[1.0]]])},
                      {"time": time, "lat": [50.0], "lon": [8.0]})  # fmt: skip
    towers = towers_at([50], [8], ("2004-02-29", "2005-12-31", "2007-01-01"))
    np.testing.assert_array_equal(colocate(towers, grid).wai, [59, 730, np.nan])
    noon = grid.assign_coords(time=grid.time + np.timedelta64(12, "h"))
    np.testing.assert_array_equal(colocate(towers, noon).wai, [59, 730, np.nan])
    lazy = colocate(towers, grid.chunk(time=100))
    np.testing.assert_array_equal(lazy.wai, [59, 730, np.nan])
    late = grid.where(grid.time.dt.year == 2005)  # a cell counts that has values later
    for part in (late, late.chunk(time=100)):
        np.testing.assert_array_equal(colocate(towers, part).wai, [np.nan, 730, np.nan])
    with pytest.raises(ValueError, match=r"2007-01-01 to 2007-01-01.*2004-01-01 to 2005-12-31.*no day in common"):
        colocate(towers.isel(sample=[2]), grid)


def test_months_and_composites_of_a_time_axis():
    days = towers_at([50], [8], ("2004-02-29", "2004-03-01", "2004-12-31"))
    months = xr.Dataset({"v": (("time", "lat", "lon"), np.arange(12.0).reshape(-1, 1, 1))},
                        {"time": pd.date_range("2004-01-01", periods=12, freq="MS"), "lat": [50.0], "lon": [8.0]},
    )  # fmt: skip
    np.testing.assert_array_equal(colocate(days, months).v, [1, 2, 11])
    middle = months.assign_coords(time=months.time + np.timedelta64(14, "D"))
    np.testing.assert_array_equal(colocate(days, middle).v, [1, 2, 11])
    stamps = pd.to_datetime([f"2004-{d:03d}" for d in range(1, 366, 8)], format="%Y-%j")
    modis = xr.Dataset({"v": (("time", "lat", "lon"), np.arange(46.0).reshape(-1, 1, 1))},
                       {"time": stamps, "lat": [50.0], "lon": [8.0]})  # fmt: skip
    np.testing.assert_array_equal(colocate(days, modis).v, [7, 7, 45])


def test_day_of_year_and_calendars():
    days = towers_at([50], [8], ("2004-02-28", "2004-02-29", "2004-12-31", "2005-12-31"))
    doy = xr.Dataset({"v": (("dayofyear", "lat", "lon"), np.arange(1.0, 366).reshape(-1, 1, 1))},
                     {"dayofyear": np.arange(1, 366), "lat": [50.0], "lon": [8.0]})  # fmt: skip
    np.testing.assert_array_equal(colocate(days, doy).v, [59, 60, 365, 365])
    time = xr.date_range("2004-01-01", "2005-12-31", calendar="noleap", use_cftime=True)
    noleap = xr.Dataset({"v": (("time", "lat", "lon"), np.arange(730.0).reshape(-1, 1, 1))},
                        {"time": time, "lat": [50.0], "lon": [8.0]})  # fmt: skip
    np.testing.assert_array_equal(colocate(days, noleap).v, [58, 58, 364, 729])


def test_monthly_towers_take_the_months_mean():
    towers = towers_at([50], [8], ("2005-01-01", "2005-02-01")).assign_attrs(time_step="month")
    time = pd.date_range("2005-01-01", "2005-12-31")
    grid = xr.Dataset({"v": (("time", "lat", "lon"), np.arange(365.0).reshape(-1, 1, 1))},
                      {"time": time, "lat": [50.0], "lon": [8.0]})  # fmt: skip
    np.testing.assert_allclose(colocate(towers, grid).v, [15.0, 44.5])


def test_months_stamped_at_their_end_go_by_their_bounds():
    edges = pd.date_range("2005-01-01", periods=13, freq="MS")
    grid = climatology().isel(lat=[39], lon=[188]).rename(month="time").drop_vars("static")
    grid = grid.assign_coords(time=edges[1:]).assign(time_bnds=(("time", "bnds"), np.stack([edges[:-1], edges[1:]], 1)))
    grid["time"].attrs["bounds"] = "time_bnds"
    towers = towers_at([50.5], [8.5], time=("2005-01-01", "2005-12-01"))
    for step in ("day", "month"):
        at = colocate(towers.assign_attrs(time_step=step), grid)
        np.testing.assert_array_equal(np.floor(at.NDVI / 1000), [1, 12])


@pytest.mark.parametrize(("name", "own", "theirs", "factor"), [
    ("VPD", "hPa", "Pa", 100), ("VPD", "hPa", "kPa", 0.1), ("PA", "kPa", "hPa", 10), ("SWC", "percent", "m3 m-3", 0.01),
    ("P", "mm d-1", "kg m**-2 s**-1", 1 / 86400), ("P", "mm d-1", "kg/m2/s", 1 / 86400), ("P", "mm d-1", "mm/day", 1),
])  # fmt: skip
def test_own_variables_in_the_grids_units(name, own, theirs, factor):
    grid = climatology().rename(NDVI=name)[[name]]
    grid[name].attrs["units"] = theirs
    towers = towers_at([50.5], [8.5], **{name: ("sample", [3.0, 4.0], {"units": own})})
    at = colocate(towers, grid, keep=[name])
    np.testing.assert_allclose(at[name], np.array([3.0, 4.0]) * factor)
    assert at[name].attrs["units"] == theirs


def test_the_towers_own_variable_stands_in():
    own = ("sample", np.array([10.0, np.nan, 20.0, 25.0]), {"units": "degC"})
    towers = towers_at([50.2, -3.4], [8.1, -60.4], Tair=own)
    grid = climatology().rename(NDVI="Tair")
    grid["Tair"].attrs["units"] = "K"
    at = colocate(towers, grid, keep=["Tair"])
    np.testing.assert_allclose(at.Tair, [283.15, 12050.5 + np.sin(np.deg2rad(8.5)), 293.15, 298.15])
    assert at.Tair.attrs["units"] == "K" and at.Tair.attrs["filled_from_grid"] == 1
    replaced = colocate(towers, grid)
    assert float(replaced.Tair[0]) > 3000 and float(replaced.Tair_tower[0]) == 10.0
    with pytest.raises(KeyError, match="the towers have no such variable; they have Tair"):
        colocate(towers, grid, keep=["static"])
    with pytest.raises(KeyError, match="the grid has no driver of that name to stand in for; it has NDVI, static"):
        colocate(towers, climatology(), keep=["Tair"])
    grid["Tair"].attrs["units"] = "W m-2"
    with pytest.raises(ValueError, match="the tower's 'degC' cannot stand in for the grid's 'W m-2'"):
        colocate(towers, grid, keep=["Tair"])
    unknown = towers.assign(Tair=towers.Tair.drop_attrs())
    with pytest.warns(UserWarning, match="the tower's 'Tair' has no units: taken to be in 'W m-2'. Say which"):
        np.testing.assert_allclose(colocate(unknown, grid, keep=["Tair"]).Tair[0], 10.0)


def test_grids_that_cannot_be_read():
    towers = towers_at([50], [8])
    with pytest.raises(ValueError, match="no latitude found: the dimensions are"):
        colocate(towers, climatology().rename(lat="y", lon="x"))
    with pytest.raises(ValueError, match=r"driver 'NDVI' has the dims .*pft"):
        colocate(towers, climatology().expand_dims(pft=3))


# --- folds ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(sites=st.integers(2, 60), folds=st.integers(2, 12), seed=st.integers(0, 5))
def test_folds_are_equal_and_never_split_a_site(sites, folds, seed):
    rng = np.random.default_rng(seed)
    name = np.array([f"S{i}" for i in rng.integers(0, sites, sites * 4)])
    towers = xr.Dataset(coords={"site": ("sample", name)})
    count = len(set(name))
    if count < folds:
        with pytest.raises(ValueError, match=f"{folds} folds need at least {folds} sites, but there are {count}"):
            site_folds(towers, folds, seed)
        return
    fold = site_folds(towers, folds, seed)
    by_site = pd.Series(fold.values, name).groupby(level=0)
    assert by_site.nunique().max() == 1
    sizes = by_site.first().value_counts()
    assert len(sizes) == folds and sizes.max() - sizes.min() <= 1
    order = rng.permutation(len(name))
    np.testing.assert_array_equal(site_folds(towers.isel(sample=order), folds, seed), fold[order])


def test_near_sites_share_a_fold():
    # a chain of three towers 60 km apart, a pair across the dateline, and lonely ones
    lat = [50.0, 50.0, 50.0, 0.0, 0.0, 10, 20, 30, 40]
    lon = [8.0, 8.84, 9.68, 179.9, -179.9, 0, 40, 80, 120]
    towers = towers_at(lat, lon)
    for seed in range(5):
        fold = pd.Series(site_folds(towers, 5, seed, distance=100).values, towers.site.values).groupby(level=0).first()
        assert fold["S0"] == fold["S1"] == fold["S2"] and fold["S3"] == fold["S4"]
        assert set(fold) == set(range(5))
    with pytest.raises(
        ValueError, match=r"7 folds need at least 7 groups of sites closer than 100 km, but there are 6"
    ):
        site_folds(towers, 7, distance=100)
    lost = towers.assign_coords(lat=towers.lat * np.nan)
    with pytest.raises(ValueError, match="needs the place of every tower"):
        site_folds(lost, 5, distance=100)


def test_one_site_cannot_be_split():
    towers = xr.Dataset(coords={"site": ("sample", ["A", "A"])})
    with pytest.raises(ValueError, match="10 folds need at least 10 sites, but there are 1"):
        site_folds(towers)
    with pytest.raises(ValueError, match="at least 2 folds, got folds=1"):
        site_folds(towers, folds=1)


def test_the_public_names_are_these():
    assert xflux.read_towers is read_towers and xflux.colocate is colocate


@pytest.mark.parametrize(
    ("paths", "message"),
    [([], "no tower file was given"), ("folder", r"is a folder: give a pattern, e\.g\. .*FLX_\*_DD")],
)
def test_no_file_and_a_folder(tmp_path, paths, message):
    with pytest.raises(FileNotFoundError, match=message):
        read_towers(paths if isinstance(paths, list) else tmp_path)


def test_quality_in_percent_is_refused():
    table = pd.DataFrame({"site": "A", "time": ["2005-01-01", "2005-01-02"], "NEE": 1.0, "NEE_QC": [90.0, 10.0]})
    with pytest.raises(ValueError, match=r"quality of nee goes up to 90; expected the share of good half hours"):
        read_towers(table)
    with pytest.warns(UserWarning, match="no coordinates"):
        assert read_towers(table, qc=None).sizes["sample"] == 2


@pytest.mark.parametrize("page", ["drivers", "train"])
def test_the_blocks_of_the_pages_that_need_tower_files_run_on_small_ones(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "howto" / f"{page}.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)```", text, flags=re.S | re.M)
    cells = re.findall(r"```\{code-cell\} python\n(?::tags:[^\n]*\n)?(.*?)```", text, flags=re.S)
    weather = {"TA_F": [3.0, 4, 5], "SW_IN_F": [50.0, 60, 70], "P_F": [0.0, 1, 2]}
    write_daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2001-2001_1-4.csv", **weather,
                stamps=("20010101", "20010102", "20010103"))  # fmt: skip
    nee, flag, _ = half_hours()
    columns = {"NEE_VUT_USTAR50": nee, "NEE_VUT_USTAR50_QC": flag, "GPP_NT_VUT_REF": nee, "NEE_VUT_REF_QC": flag}
    write_half_hours(tmp_path, **{name: values.ravel() for name, values in columns.items()})
    for name in ("sites.csv", "site_list.csv"):
        SITES.assign(lon=0.0).to_csv(name, index=False)
    names = {"xflux": xflux}
    exec("\n".join([*cells[: 2 * (page == "drivers")], block]), names)
    assert names["towers"].sizes["sample"] > 0
