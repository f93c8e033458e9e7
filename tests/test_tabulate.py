"""``xflux budget``: from files to a table, a file and a figure."""

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_regions import axes, flux

from xflux import cells, cli
from xflux.tabulate import budget
from xflux.tabulate.files import expanded, named_files, regions_of


def test_a_flux_without_units_is_what_is_said_to_be_missing(folder):
    ds = made().to_dataset().assign(orography=made()[0].drop_attrs(), nbe_sd=made().drop_attrs())
    del ds["nbe"].attrs["units"]
    ds.to_netcdf("mine.nc")
    with pytest.raises(ValueError, match=r"'nbe' has no units: if it is the flux, say them, ds\['nbe'\]"):
        budget("mine.nc")
    for call in (lambda: ds.flux.aggregate_regions("reccap2"), ds.flux.annual, ds.flux.trend):
        with pytest.raises(ValueError, match="'nbe' has no units"):
            call()
    ds["nbe"].attrs["units"] = "kg m-2 s-1"
    with pytest.raises(ValueError, match="'nbe': cannot read the units 'kg m-2 s-1': a bare mass is ambiguous"):
        ds.flux.aggregate_regions("reccap2")


def test_months_since_a_date_which_xarray_cannot_decode(folder):
    time = ("time", np.arange(24.0), {"units": "months since 2001-01-01", "calendar": "standard"})
    made(steps=24).assign_coords(time=time).to_netcdf("mine.nc")
    assert budget("mine.nc", "latitude-bands").table["mean"].sel(region="GLOBAL").item() == pytest.approx(
        total(made(steps=24)).mean(), rel=1e-9
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name="nbe", steps=36, spacing=10.0, **attrs):
    da = flux(axes(spacing), steps=steps)
    return da.rename(name).assign_attrs({"units": "gC m-2 d-1", "area_basis": "cell"} | attrs)


def total(da):
    """The globe's amount of every year, in Pg, by plain sums."""
    amounts = (da * cells.cell_area(da)).sum(("lat", "lon")) * da.time.dt.days_in_month / 1e15
    return amounts.groupby("time.year").sum().values


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["xflux", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, *capsys.readouterr()


def test_one_file_from_the_command_line(folder, monkeypatch, capsys):
    made().to_netcdf("mine.nc")
    words = [
        "budget",
        "mine.nc",
        "--years",
        "2001-2002",
        "--out",
        "t.csv",
        "--regions",
        "EU,USA",
        "--units",
        "TgC yr-1",
    ]
    for _ in range(2):  # an older table of ours is replaced
        code, out, err = run(monkeypatch, capsys, *words)
        assert (code, err) == (0, "") and "Europe" in out and "positive into the atmosphere, 2001–2002 (2 years)" in out
    table = pd.read_csv("t.csv").set_index("region")
    assert list(table.index) == ["EU", "USA", "GLOBAL"] and table["units"].unique().tolist() == ["TgC yr-1"]
    assert table.loc["GLOBAL", "mean"] == pytest.approx(1e3 * total(made())[:2].mean(), rel=1e-9)


def test_several_products_each_on_its_own_grid_and_in_its_own_units(folder):
    a, b = made(), made("nee", spacing=15.0)
    (a / 1000).assign_attrs(a.attrs | {"units": "kgC m-2 d-1"}).to_netcdf("A.nc")
    for year, one in b.groupby("time.year"):
        one.to_netcdf(f"B_{year}.nc")
    found = budget(["A.nc", "B_*.nc"], "latitude-bands")
    assert found.products == ["A", "B"]
    whole = found.table.sel(region="GLOBAL").isel(period=0)
    means = [total(da).mean() for da in (a, b)]
    np.testing.assert_allclose(whole["mean"], np.mean(means), rtol=1e-9)
    np.testing.assert_allclose(whole["spread"], np.std(means, ddof=1), rtol=1e-6)


def test_what_a_product_says_decides(folder):
    made().to_netcdf("A.nc")
    made(includes_fire=1).to_netcdf("B.nc")
    made(includes_fire=0).to_netcdf("C.nc")
    with pytest.raises(ValueError, match="contents differ"):
        budget(["B.nc", "C.nc"])
    assert budget(["B.nc", "C.nc"], allow_contents=["fire"]).table.n_members.max() == 2
    made("nbp").rename("uptake").assign_attrs(positive="down").to_netcdf("D.nc")
    with pytest.raises(ValueError, match="opposite signs"):
        budget(["A.nc", "D.nc"])


@pytest.mark.filterwarnings("default:the flux does not say:UserWarning")  # which the command shows
def test_refusals_name_the_options_of_the_command_line(folder, monkeypatch, capsys):
    xr.Dataset({"nee": made("nee"), "gpp": made("gpp")}).to_netcdf("two.nc")
    made().drop_attrs().assign_attrs(units="gC m-2 d-1").to_netcdf("basis.nc")
    (folder / "thesis.csv").write_text("mine")
    for words, said in [
        (["two.nc"], "nee (gC m-2 d-1), gpp (gC m-2 d-1): name the one that is meant, --var."),
        (["basis.nc", "--years", "1990"], "or give --area-basis.\n"),
        (["basis.nc", "--units", "PgC"], "--units 'PgC': a budget is an amount per year"),
        (["basis.nc", "--units", "PgC m-2 yr-1"], "--units 'PgC m-2 yr-1': a budget is an amount per year"),
        (["basis.nc", "--years", "2002-2001"], "--years '2002-2001': expected first and last year"),
        (["basis.nc", "--out", "t.xlsx"], "--out 't.xlsx': expected a name that ends in .csv, .md, .nc"),
        (["basis.nc", "--out", "thesis.csv"], "exists and is no xflux budget"),
        (["basis.nc", "--regions", "1,2,3"], "a box is west,south,east,north"),
        (["no*.nc"], "no file matches 'no*.nc'"),
    ]:
        code, _, err = run(monkeypatch, capsys, "budget", *words)
        assert code == 2 and said in err and "Warning" not in err and ".py" not in err, err
    assert (folder / "thesis.csv").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["md", "nc", "csv"])
def test_files_by_suffix(folder, monkeypatch, capsys, suffix):
    made().expand_dims(member=3).to_zarr("m.zarr", consolidated=False)
    code, _, err = run(monkeypatch, capsys, "budget", "m.zarr", "--regions", "Germany", "--out", f"t.{suffix}")
    assert code == 0, err
    text = (folder / f"t.{suffix}").read_bytes()
    if suffix == "md":
        assert b"| Germany |" in text and text.startswith(b"<!-- xflux budget -->")
    if suffix == "nc":
        with xr.open_dataset("t.nc") as ds:
            assert ds["yearly"].sizes["year"] == 3 and ds.attrs["title"] == "xflux budget"


def test_a_figure(folder, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    made().expand_dims(inversion=["a", "b"]).to_netcdf("m.nc")
    code, out, err = run(monkeypatch, capsys, "budget", "m.nc", "--regions", "countries", "--plot", "f.png")
    assert code == 0 and (folder / "f.png").stat().st_size > 10_000 and "f.png" in out, err


def test_years_that_are_not_whole_and_dims_that_are_no_members_are_told(folder):
    made(steps=30).to_netcdf("part.nc")
    with pytest.warns(UserWarning, match="covers 2003 only in part"):
        assert budget("part.nc").table.n_years.item() == 2
    made().expand_dims(pft=4).to_netcdf("pft.nc")
    with pytest.raises(ValueError, match=r"has the dims \['pft'\] beside time"):
        budget("pft.nc")


def test_names_patterns_and_regions(folder):
    for name in ("a_2001.nc", "a_2002.nc"):
        (folder / name).touch()
    assert named_files(["X=a_*.nc", "a_2001.nc"]) == {"X": ["a_2001.nc", "a_2002.nc"], "": ["a_2001.nc"]}
    assert expanded("a_200?.nc") == ["a_2001.nc", "a_2002.nc"]
    assert regions_of("Palestine, State of") == "Palestine, State of"
    mask = xr.DataArray(np.ones((18, 36)), axes(10.0), ("lat", "lon"), name="mask")
    mask.to_netcdf("mask.nc")
    made().to_netcdf("m.nc")
    found = budget("m.nc", "mask.nc").table["mean"].isel(period=0)
    np.testing.assert_allclose(found, total(made()).mean(), rtol=1e-9)


def test_version_and_a_table_of_tables(folder, monkeypatch, capsys):
    import xflux

    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"xflux {xflux.__version__}\n")
    assert cli.summary_of(cli.versions) == "Versions of Python, xflux and the packages that shape its numbers"


def test_a_file_of_several_masks_is_told_which_one(tmp_path):
    cells = {"lat": [0.0, 10.0], "lon": [0.0, 10.0, 20.0]}
    one = xr.DataArray(np.array([[0, 0, 1], [1, 1, 1]]), cells, ("lat", "lon"))
    path = tmp_path / "masks.nc"
    xr.Dataset({"biome": one, "zone": one * 0}).to_netcdf(path)
    assert regions_of(f"{path}:zone").values.max() == 0
    with pytest.raises(ValueError, match="no variable 'zones', but biome, zone"):
        regions_of(f"{path}:zones")
