"""Tower files as people make them: AmeriFlux BASE, dates saved again, European tables, lists of sites, netCDF."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux.towers import read_towers
from xflux.towers.sites import site_list

FACTOR = 86400e-6 * 12.011  # gC m-2 d-1 per umol m-2 s-1
SITES = pd.DataFrame({"site": ["XX-Abc", "YY-Def"], "lat": [50.0, -3.0], "lon": [8.0, -60.0], "igbp": ["ENF", "EBF"]})


def daily(folder, name, column="NEE_VUT_REF", stamps=(20050101, 20050102, 20050103)):
    table = pd.DataFrame({"TIMESTAMP": stamps, column: [1.0, -9999, 3.0], f"{column}_QC": [1.0, 1.0, 0.9]})
    table.to_csv(folder / name, index=False)
    return folder / name


def base(folder, name="AMF_US-AAA_BASE_HH_1-5.csv", comments="# Site: US-AAA\n# Version: 1-5\n", days=2, **columns):
    """An AmeriFlux BASE file; its columns are constant, or given by half hour."""
    start = pd.date_range("2011-06-01", periods=48 * days, freq="30min")
    end = start + pd.Timedelta("30min")
    stamps = {"TIMESTAMP_START": start.strftime("%Y%m%d%H%M"), "TIMESTAMP_END": end.strftime("%Y%m%d%H%M")}
    text = pd.DataFrame(stamps | columns).fillna(-9999).to_csv(index=False)
    (folder / name).write_text(comments + text)
    return folder / name


@pytest.mark.parametrize("comments", ["", "# Site: US-AAA\n# Version: 1-5\n", "# Site: US-AAA,,,\n# Version: 1-5,,,\n",
                                      "# Site: US-AAA;;;\n\n"])  # fmt: skip
def test_ameriflux_base_files(tmp_path, comments):
    path = base(tmp_path, comments=comments, FC=-9999, NEE_PI=-2.0, TA_1_1_1=10.0, TA_1_2_1=20.0, P=0.5, VPD_PI=8.0)
    towers = read_towers(path, variable="NEE_PI", sites=SITES.assign(site=["US-AAA", "B"]))
    np.testing.assert_allclose(towers.nee, [-2 * FACTOR] * 2)
    np.testing.assert_allclose(towers.nee_qc, 1.0)
    assert set(towers.site.values) == {"US-AAA"} and towers.nee.attrs["units"] == "gC m-2 d-1"
    np.testing.assert_allclose([towers.Tair[0], towers.P[0], towers.VPD[0]], [10.0, 24.0, 8.0])
    with pytest.raises(KeyError, match=r"it has FC, NEE_PI\. Choose with variable="):
        read_towers(path)


def test_the_site_of_a_renamed_base_file_is_in_its_comments(tmp_path):
    path = base(tmp_path, "mine.csv", NEE_PI=1.0)
    assert set(read_towers(path, variable="NEE_PI", sites=SITES.assign(site=["US-AAA", "B"])).site.values) == {"US-AAA"}
    with pytest.raises(ValueError, match="no site code like DE-Hai in the file name"):
        read_towers(base(tmp_path, "mine.csv", "", NEE_PI=1.0), variable="NEE_PI")


def test_a_day_of_unfilled_half_hours_needs_its_share_of_values(tmp_path):
    fc = np.where(np.arange(96) < 60, 1.0, np.nan)  # a whole day, and a quarter of one
    fc[48:60] = 3.0
    path = base(tmp_path, FC_1_1_1=fc)
    sites = SITES.assign(site=["US-AAA", "B"])
    assert read_towers(path, variable="FC", sites=sites).sizes["sample"] == 1
    two = read_towers(
        base(tmp_path, FC_1_1_1=np.where(np.arange(96) < 78, 1.0, np.nan)), 0.6, variable="FC", sites=sites
    )
    np.testing.assert_allclose(two.nee_qc, [1.0, 30 / 48])
    path = base(tmp_path, FC=np.full(96, 1.0), FC_SSITC_TEST=np.r_[np.zeros(48), np.ones(24), np.full(24, 2)])
    np.testing.assert_allclose(read_towers(path, None, variable="FC", sites=sites).nee_qc, [1.0, 0.5])
    path = base(tmp_path, FC_1_1_1=np.full(96, 1.0), FC_1_2_1=np.full(96, 2.0))
    with pytest.raises(KeyError, match="no column FC; it has FC_1_1_1, FC_1_2_1"):
        read_towers(path, variable="FC")


@pytest.mark.parametrize(("column", "unit", "expected", "out"), [
    ("FC", "umolCO2 m-2 s-1", FACTOR, "gC m-2 d-1"), ("FC", None, FACTOR, "gC m-2 d-1"),
    ("FC", "mgCO2 m-2 s-1", 86.4 * 12.011 / 44.009, "gC m-2 d-1"), ("NEE_PI", "gC m-2 d-1", 1.0, "gC m-2 d-1"),
    ("NEE_PI", "gC m-2", 48.0, "gC m-2 d-1"), ("LE", "W m-2", 1.0, "W m-2"), ("LE", None, 1.0, "W m-2"),
    ("ET", "mm", 48.0, "mm d-1"), ("ET", "mm h-1", 1.0, "mm h-1"), ("T_X", "degC", 1.0, "degC"),
    ("T_X", None, 1.0, None),
])  # fmt: skip
def test_units_of_a_target_of_half_hours(tmp_path, column, unit, expected, out):
    path = base(tmp_path, **{column: 1.0})
    given = {column: unit} if unit else None
    target = read_towers(path, None, variable={"x": column}, units=given, sites=SITES.assign(site=["US-AAA", "B"]))["x"]
    np.testing.assert_allclose(target, [expected] * 2)
    assert target.attrs.get("units") == out


def test_units_by_month_and_units_that_mean_nothing(tmp_path):
    path = daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_MM_2005-2005_1-4.csv", stamps=(200501, 200502, 200503))
    for unit in ("gC m-2", "gC m-2 month-1"):
        nee = read_towers(path, units={"NEE_VUT_REF": unit}, sites=SITES).nee
        np.testing.assert_allclose(nee, [1 / 31, 3 / 31])
    with pytest.raises(KeyError, match="units= names NEE, which no file has"):
        read_towers(path, units={"NEE": "umolCO2 m-2 s-1"})
    with pytest.raises(ValueError, match="kg m-2 s-1"):  # of carbon or of CO2?
        read_towers(path, units={"NEE_VUT_REF": "kg m-2 s-1"})


@pytest.mark.parametrize(("stamps", "first", "step"), [
    (["2010-01-01", "2010-01-02"], "2010-01-01", "day"),
    (["2010-01-31 00:00:00", "2010-02-01 00:00:00"], "2010-01-31", "day"),
    (["31/01/2010", "01/02/2010"], "2010-01-31", "day"), (["1/31/2010", "2/1/2010"], "2010-01-31", "day"),
    (["31.01.2010", "01.02.2010"], "2010-01-31", "day"), (["2010/01/31", "2010/02/01"], "2010-01-31", "day"),
    (["2010-01", "2010-02"], "2010-01-01", "month"), (["2010-01-01", "2010-02-01"], "2010-01-01", "month"),
    ([20100131.0, 20100201.0], "2010-01-31", "day"),
])  # fmt: skip
@pytest.mark.parametrize("plain", [True, False])
def test_dates_saved_again(tmp_path, stamps, first, step, plain):
    name = "towers.csv" if plain else "FLX_XX-Abc_FLUXNET2015_FULLSET_2000-2014_2-4.csv"
    table = pd.DataFrame({"time" if plain else "TIMESTAMP": stamps, "NEE": [1.0, 2.0], "NEE_QC": 1.0})
    (table.assign(site="XX-Abc") if plain else table).to_csv(tmp_path / name)  # with its index, as pandas does
    towers = read_towers(tmp_path / name, variable="NEE", sites=SITES)
    assert str(towers.time.values[0])[:10] == first and towers.attrs["time_step"] == step
    assert set(towers) == {"nee", "nee_qc"}


def test_half_hours_saved_again(tmp_path):
    start = pd.date_range("2010-01-31", periods=96, freq="30min")
    right = [np.arange(48).mean() * FACTOR, np.arange(48, 96).mean() * FACTOR]
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M:%S+01:00"):
        for end in (False, True):
            stamps = {"TIMESTAMP_START": start.strftime(form)} if not end else {}
            stamps |= {"TIMESTAMP_END": (start + pd.Timedelta("30min")).strftime(form)}
            table = pd.DataFrame(stamps | {"NEE_VUT_REF": np.arange(96.0)})
            path = tmp_path / "FLX_XX-Abc_FLUXNET2015_FULLSET_HH_2010-2010_2-4.csv"
            table.to_csv(path, index=False)
            np.testing.assert_allclose(read_towers(path, sites=SITES).nee, right)


@pytest.mark.parametrize(("dates", "message"), [
    (["01/02/2005", "02/02/2005"], r"the table, column time: dates like '02/02/2005' are ambiguous.*dayfirst=True or"),
    (["31/01/2005", "01/31/2005"], r"some dates have the day first \(31/01/2005\), some the month \(01/31/2005\)"),
    (["2.00501E+11", "2.00501E+11"], "has lost its last digits to a spreadsheet"),
    (["2005-01-01", None], "1 of 2 rows have no date"),
    (["winter", "spring"], "column time: times like 'winter' are not"),
])  # fmt: skip
def test_dates_that_cannot_be_told(dates, message):
    table = pd.DataFrame({"site": "A", "time": dates, "NEE": 1.0, "NEE_QC": 1.0, "lat": 1.0, "lon": 2.0})
    with pytest.raises(ValueError, match=message):
        read_towers(table)


@pytest.mark.parametrize(("start", "periods", "freq", "samples"), [
    ("2005-02-01", 12, "MS", 12), ("2005-06-03", 96, "30min", 2), ("2005-01-01", 12, "MS", None),
    ("2005-06-03", 2, "D", None),
])  # fmt: skip
def test_regular_steps_may_tell_what_comes_first(tmp_path, start, periods, freq, samples):
    """Half hours go on in one reading only; the months of a year may be the first days of January."""
    time = pd.date_range(start, periods=periods, freq=freq)
    name = "FLX_XX-Abc_FLUXNET2015_FULLSET_2005-2005_2-4.csv"
    stamps = time.strftime("%d/%m/%Y %H:%M" if freq == "30min" else "%d/%m/%Y")
    pd.DataFrame({"TIMESTAMP": stamps, "NEE_VUT_REF": 1.0}).to_csv(tmp_path / name, index=False)
    if samples is None:
        with pytest.raises(ValueError, match=r"FLX_XX-Abc\S+, column TIMESTAMP: dates like .* are ambiguous"):
            read_towers(tmp_path / name)
        return
    towers = read_towers(tmp_path / name, qc=None, sites=SITES)
    assert str(towers.time.values[0])[:10] == start and towers.sizes["sample"] == samples


def test_which_comes_first_can_be_said():
    table = pd.DataFrame({"site": "A", "time": ["01/02/2005", "02/03/2005", "03/04/2005"], "NEE": 1.0, "NEE_QC": 1.0,
                          "lat": 1.0, "lon": 2.0})  # fmt: skip
    day, month = (read_towers(table, dayfirst=first).time.values.astype("M8[D]").astype(str) for first in (True, False))
    assert list(day) == ["2005-02-01", "2005-03-02", "2005-04-03"]
    assert list(month) == ["2005-01-02", "2005-02-03", "2005-03-04"]
    with pytest.raises(ValueError, match="dayfirst=True, but '01/31/2005' is not"):
        read_towers(table.assign(time="01/31/2005"), dayfirst=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_european_tables(tmp_path, encoding):
    text = "site;time;NEE;NEE_QC;lat;lon;Ort\nXX-Abc;31.01.2005;-1,5;1;50,25;8,5;Göttingen\n;;;;;;\n"
    (tmp_path / "towers.csv").write_text(text, encoding=encoding)
    towers = read_towers(tmp_path / "towers.csv")
    assert [float(v[0]) for v in (towers.nee, towers.lat, towers.lon)] == [-1.5, 50.25, 8.5]
    assert str(towers.time.values[0])[:10] == "2005-01-31" and str(towers.Ort.values[0]) == "Göttingen"


@pytest.mark.parametrize("fill", [-999.0, 1e20, -9999.9])
def test_a_flux_of_fill_values_is_refused_and_what_is_infinite_is_missing(fill):
    days = {"site": "XX-Abc", "time": pd.date_range("2005-01-01", periods=4), "NEE": [1.0, fill, 3.0, np.inf]}
    table = pd.DataFrame(days | {"NEE_QC": 1.0, "lat": 50.0, "lon": 8.0, "IGBP": "ENF"})
    if fill > -9000:
        with pytest.raises(ValueError, match=r"the table: column 'nee' holds the value .* no flux.*table\.replace"):
            read_towers(table)
        table = table.replace(fill, np.nan)
    assert read_towers(table).nee.values.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("index", ["time", ["site", "time"]])
def test_a_table_by_date_as_pandas_has_it(index):
    days = pd.DataFrame({"site": "XX-Abc", "time": pd.date_range("2005-01-01", periods=3), "NEE": [1.0, 2.0, 3.0]})
    table = days.assign(NEE_QC=1.0, lat=50.0, lon=8.0, IGBP="ENF")
    xr.testing.assert_identical(read_towers(table.set_index(index)), read_towers(table))


def test_text_among_numbers_is_named(tmp_path):
    path = daily(tmp_path, "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2005-2005_1-4.csv")
    path.write_text(path.read_text().replace("3.0", "calm"))
    with pytest.raises(ValueError, match=r"FLX_XX-Abc\S+: column 'NEE_VUT_REF' has what is no number.*calm"):
        read_towers(path)


@pytest.mark.parametrize("columns", [
    {"siteid": [9, 12], "fluxnetid": ["XX-Abc", "YY-Def"]}, {"fluxnetid": ["XX-Abc", "YY-Def"], "siteid": [9, 12]},
    {"site": ["Hainich", "Leinefelde"], "Station code": ["XX-Abc", "YY-Def"]},
    {"Fluxnet ID": ["XX-Abc", "YY-Def"], "Vegetation_IGBP": "ENF"},
    {"SITE_ID": ["US-1", "US-2"], "site": ["XX-Abc", "YY-Def"]}, {"code": ["XX-Abc ", "YY-Def"]},
])  # fmt: skip
def test_site_lists_with_several_codes(columns):
    table = pd.DataFrame({"site": "YY-Def", "time": pd.date_range("2005-01-01", periods=2), "NEE": 1.0, "NEE_QC": 1.0})
    sites = pd.DataFrame(columns | {"latitude": [50.0, 51.0], "longitude": [8.0, 9.0]})
    for listed in (sites, sites.set_index(next(iter(columns)))):
        towers = read_towers(table, sites=listed)
        assert [*towers.lat.values, *towers.lon.values] == [51, 51, 9, 9]


# --- netCDF -----------------------------------------------------------------------------------------------------------


def plumber(folder, site="AT-Neu", kind="Flux", days=2, **variables):
    """A file as PLUMBER2 has it: (time, y, x), names of ALMA; variables are (values, units)."""
    time = pd.date_range("2002-01-01", periods=48 * days, freq="30min")
    ds = xr.Dataset(coords={"time": time, "x": [1.0], "y": [1.0]}, attrs={"site_code": site})
    for name, (values, units) in variables.items():
        full = np.broadcast_to(np.asarray(values, "f4"), time.size).reshape(-1, 1, 1)
        ds[name] = (("time", "y", "x"), full, {"units": units, "long_name": name})
    ds["latitude"], ds["longitude"] = (("y", "x"), [[47.1]]), (("y", "x"), [[11.3]])
    ds["IGBP_veg_short"] = ((), np.array(b"GRA".ljust(200)))
    path = folder / f"{site}_2002-2012_FLUXNET2015_{kind}.nc"
    ds.to_netcdf(path, encoding={"time": {"units": "seconds since 2002-01-01 00:00:00"}})
    return path


def test_netcdf_towers_of_plumber2(tmp_path):
    flag = np.r_[np.zeros(48), np.ones(24), np.full(24, 3)]
    nee = np.arange(96.0)
    plumber(tmp_path, NEE=(nee, "umol/m2/s"), NEE_qc=(flag, "-"), Qle=(50.0, "W/m2"))
    plumber(tmp_path, kind="Met", Tair=(283.15, "K"), Precip=(1 / 86400, "kg/m2/s"), VPD=(8.0, "hPa"),
            Psurf=(90000.0, "Pa"), SWdown=(200.0, "W/m2"), LAI=(2.0, "m2/m2"))  # fmt: skip
    plumber(tmp_path, "DE-Hai", NEE=(1.0, "umol/m2/s"), NEE_qc=(0.0, "-"))
    towers = read_towers(tmp_path / "*.nc", qc=None)
    assert list(towers.site.values) == ["AT-Neu"] * 2 + ["DE-Hai"] * 2
    np.testing.assert_allclose(towers.nee, np.r_[nee[:48].mean(), nee[48:].mean(), 1, 1] * FACTOR)
    np.testing.assert_allclose(towers.nee_qc, [1.0, 0.5, 1.0, 1.0])
    here = towers.isel(sample=0)
    values = [float(here[v]) for v in ("Tair", "P", "VPD", "PA", "SW_IN", "LAI", "LE", "lat", "lon")]
    np.testing.assert_allclose(values, [10.0, 1.0, 8.0, 90.0, 200.0, 2.0, 50.0, 47.1, 11.3], rtol=1e-6)
    assert here.igbp == "GRA" and towers.nee.attrs["units"] == "gC m-2 d-1" and towers.P.attrs["units"] == "mm d-1"
    assert np.isnan(towers.Tair[2:]).all()
    assert list(np.unique(read_towers(tmp_path / "*.nc", qc=0.8, variable={"le": "Qle"}).le)) == [50.0]
    with xr.open_dataset(next(tmp_path.glob("DE-Hai*"))) as ds:  # OzFlux has the place among the attributes
        told = ds.load().drop_vars(["latitude", "longitude"]).assign_attrs(latitude="51.08", longitude="10.45")
    told.to_netcdf(tmp_path / "DE-Hai.nc4")
    there = read_towers(tmp_path / "DE-Hai.nc4")
    assert (there.lat[0], there.lon[0]) == (51.08, 10.45)
    with pytest.raises(KeyError, match=r"no file has the target NEE; they have .*Tair.*variable="):
        read_towers(tmp_path / "*Met.nc")


@pytest.mark.parametrize(
    ("values", "attrs", "message"),
    [
        (1.0, {"units": "umol/m2/s", "positive": "down"}, r"NEE is positive downward, nee the other way.*variable="),
        (1.0, {}, r"NEE has no units; say them, e\.g\. units={'NEE': 'umolCO2 m-2 s-1'}"),
        (1e20, {"units": "umol/m2/s"}, r"holds the value 1e\+20, which is no flux"),
        (500.0, {"units": "umol/m2/s", "valid_max": 100.0}, "declare -inf to 100 valid"),
        (1.0, {"units": "kg/m2/s"}, r"Flux\.nc: cannot read the units 'kg/m2/s': a bare mass is ambiguous"),
    ],
)
def test_netcdf_fluxes_that_are_not_as_promised_are_refused(tmp_path, values, attrs, message):
    path = plumber(tmp_path, NEE=(values, "umol/m2/s"), NEE_qc=(0.0, "-"))
    ds = xr.load_dataset(path)
    ds["NEE"].attrs = attrs
    ds.to_netcdf(path)
    with pytest.raises(ValueError, match=message):
        read_towers(path)


def test_netcdf_fill_values_and_what_a_mass_is_of(tmp_path):
    values, flag = np.r_[np.full(48, -9999.0), np.ones(48)], np.r_[np.zeros(48), np.full(48, -9999.0)]
    path = plumber(tmp_path, NEE=(values, "umol/m2/s"), NEE_qc=(flag, "-"))
    towers = read_towers(path, qc=None)
    assert towers.nee.values == pytest.approx([FACTOR]) and towers.nee_qc.values.tolist() == [0.0]
    ds = xr.load_dataset(path)
    ds["NEE"].attrs = {"units": "kg m-2 s-1", "long_name": "net ecosystem exchange of carbon"}
    ds.to_netcdf(path)
    assert read_towers(path, qc=None).nee.values == pytest.approx([86400e3])


def test_a_column_of_the_other_sign_is_refused_and_the_remedy_works():
    days = {"site": "XX-Abc", "time": pd.date_range("2005-01-01", periods=2), "NEP": [1.0, 2.0], "NEP_QC": 1.0}
    table = pd.DataFrame(days | {"lat": 50.0, "lon": 8.0, "IGBP": "ENF"})
    with pytest.raises(ValueError, match="NEP is positive downward, nee the other way"):
        read_towers(table, variable="NEP")
    towers = read_towers(table, variable={"x": "NEP"})
    assert towers.assign(nee=(-towers.x).assign_attrs(towers.x.attrs)).nee.values.tolist() == [-1.0, -2.0]


def test_a_site_list_whose_degrees_are_no_numbers_is_refused():
    with pytest.raises(ValueError, match=r"column 'lat' is not in decimal degrees.*51°04"):
        site_list(pd.DataFrame({"site": ["A"], "lat": ["51°04'N"], "lon": ["10.5"]}))


@pytest.mark.parametrize(
    ("lat", "lon", "words"),
    [
        ([113.5, 113.5], 50.9, "A at latitude 113.5, longitude 50.9 is nowhere on Earth"),
        ([10.0, 20.0], 5.0, "A stands at several places"),
    ],
)
def test_places_that_cannot_be(lat, lon, words):
    table = pd.DataFrame({"site": "A", "time": ["2005-01-01", "2005-01-02"], "NEE": 1.0, "lat": lat, "lon": lon})
    with pytest.raises(ValueError, match=words):
        read_towers(table, qc=None)
    sites = pd.DataFrame({"site": ["A"], "lat": [-9999], "lon": [-9999]})
    with pytest.warns(UserWarning, match="no coordinates"):
        assert read_towers(table.drop(columns=["lat", "lon"]), qc=None, sites=sites).lat.isnull().all()


def test_a_column_that_names_other_units_needs_them():
    table = pd.DataFrame({"site": "A", "time": ["2005-01-01"], "NEE_umol": 1.0, "lat": 1.0, "lon": 1.0})
    with pytest.raises(ValueError, match="NEE_umol speaks of other units than gC m-2 d-1; say them"):
        read_towers(table, qc=None, variable="NEE_umol")
    found = read_towers(table, qc=None, variable="NEE_umol", units={"NEE_umol": "umol m-2 s-1"})
    assert found.nee.item() == pytest.approx(12.011e-6 * 86400)


def test_netcdf_by_site_in_days_and_stamped_at_the_end(tmp_path):
    time = pd.date_range("2002-01-01", periods=3)
    ds = xr.Dataset(
        {"NEE": (("site", "time"), [[1.0, 2, 3], [4, 5, np.nan]], {"units": "gC m-2 d-1"})},
        {"time": time, "site": ["A", "B"], "latitude": ("site", [1.0, 2.0]), "longitude": ("site", [3.0, 4.0])},
    )
    ds.to_netcdf(tmp_path / "towers.nc")
    with pytest.warns(UserWarning, match="no quality flag"):
        towers = read_towers(tmp_path / "towers.nc")
    assert list(towers.nee.values) == [1, 2, 3, 4, 5] and list(towers.lon.values) == [3, 3, 3, 4, 4]
    towers.to_netcdf(tmp_path / "again.nc")
    again = read_towers(tmp_path / "again.nc", qc=None)
    xr.testing.assert_equal(again.reset_coords(drop=True), towers.reset_coords(drop=True))
    half = pd.date_range("2002-01-01 00:30", periods=96, freq="30min")
    half = xr.Dataset(
        {"Fc": ("time", np.arange(96.0), {"units": "umol/m2/s"})}, {"time": half}, {"site_code": "AU-Tum"}
    )
    half.to_netcdf(tmp_path / "ozflux.nc")
    nee = read_towers(tmp_path / "ozflux.nc", variable="Fc", sites=SITES.assign(site=["AU-Tum", "B"])).nee
    np.testing.assert_allclose(nee, np.array([23.5, 71.5]) * FACTOR)


def test_netcdf_that_is_none(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"no netCDF at all")
    with pytest.raises(ValueError, match=r"a\.nc is damaged or is not a table of towers"):
        read_towers(tmp_path / "a.nc")
    xr.Dataset({"NEE": ("n", [1.0])}).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(ValueError, match=r"b\.nc: expected dates of the standard calendar"):
        read_towers(tmp_path / "b.nc")


def test_files_whose_units_differ_are_not_mixed(tmp_path):
    for site, unit in (("AT-Neu", "furlong"), ("DE-Hai", "hPa")):
        plumber(tmp_path, site, NEE=(1.0, "umol/m2/s"), VPD=(8.0, unit))
    with pytest.raises(ValueError, match="VPD is in 'furlong' in some files and in 'hPa' in DE-Hai"):
        read_towers(tmp_path / "*.nc", qc=None)


def test_means_over_eight_days_are_told_and_what_loggers_miss_is_missing(tmp_path):
    weeks = pd.DataFrame({"site": "XX-Abc", "time": pd.date_range("2005-01-01", periods=5, freq="8D"), "NEE": 1.0})
    weeks.assign(NEE=["1", "NAN", "2", "3", "4"]).to_csv(tmp_path / "weeks.csv", index=False)
    with pytest.warns(UserWarning, match="a sample every 8 days at most: each is taken for its one day"):
        towers = read_towers(tmp_path / "weeks.csv", qc=None, sites=SITES.assign(site=["XX-Abc", "B"]))
    assert towers.nee.values.tolist() == [1, 2, 3, 4]
