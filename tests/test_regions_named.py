"""Regions by name, boxes and regionmask's; flags of masks; GLOBAL and what it is made of."""

import geopandas
import numpy as np
import pytest
import regionmask
import shapely
import xarray as xr
from test_regions import axes, flux

from xflux.cells import RADIUS, cell_area
from xflux.regions import (
    aggregate_regions,
    as_regionmask,
    budget_table,
    region_weights,
    regional_budget,
    with_global,
)
from xflux.regions.names import land_regions
from xflux.regions.shapes import countries, members


def sums(regions, da=None, **options):
    da = flux(axes(5.0), basis="land") if da is None else da
    out = aggregate_regions(da, regions, "PgC d-1", **options)
    return dict(zip(out.region.values.tolist(), out.values.tolist(), strict=True))


# --- names ---------------------------------------------------------------------------------------------------------
def test_regions_and_countries_by_name_are_those_of_their_sets():
    regions, countries = sums("reccap2"), sums("countries")
    assert sums("EU") == {"EU": pytest.approx(regions["EU"], rel=1e-12)}
    some = sums(["EU", "USA"])
    assert some == pytest.approx({k: regions[k] for k in ("EU", "USA")}, rel=1e-12)
    for names in (["Germany", "FRA"], ["germany ", "fra"]):
        found = sums(names)
        assert found == pytest.approx({"Germany": countries["DEU"], "FRA": countries["FRA"]}, rel=1e-12)
    assert sums("RECCAP2") == regions
    assert sums("Northern Africa")["Northern Africa"] == pytest.approx(regions["NAF"], rel=1e-12)
    assert sums(["EQ-10N"])["EQ-10N"] == pytest.approx(sums("latitude-bands")["EQ-10N"], rel=1e-12)


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        ("GBR", "UK|U.K.|Great Britain"),
        ("CIV", "Ivory Coast|cote d'ivoire|Cote d’Ivoire"),
        ("RUS", "Russia|countries:Russia"),
        ("KOR", "South Korea|Korea, South|S. Korea|Korea, Rep."),
        ("COD", "DR Congo|D.R. Congo|DRC|Dem. Rep. Congo|Democratic Republic of the Congo|Congo (Kinshasa)"),
        ("USA", "US|U.S.A.|United States of America"),
        ("BIH", "Bosnia & Herzegovina|Bosnia and Herz."),
        ("NLD GMB CZE TUR", "The Netherlands|Gambia, The|Czech Republic|Turkey"),
        ("TZA LCA", "Tanzania, United Republic of|St. Lucia"),
    ],
)
def test_countries_have_the_names_that_are_in_use(codes, names):
    found = [land_regions([name]) for name in names.split("|")]
    assert {iso for one in found for iso in one.popitem()[1]} == set(codes.split())


def test_no_two_countries_share_a_name():
    for iso, row in countries().items():
        for name in {iso, row["name"], *row["also"].split(";")} - {""} if iso in members("countries") else ():
            assert list(land_regions([f"countries:{name}"]).values()) == [{iso}], name


def test_a_code_that_is_a_region_and_a_country():
    """China is a region with Taiwan; among countries, or after their set's name, it is the country."""
    regions, countries = sums("reccap2"), sums("countries")
    assert sums("CHN")["CHN"] == pytest.approx(regions["CHN"], rel=1e-12)
    assert sums("countries:CHN")["CHN"] == pytest.approx(countries["CHN"], rel=1e-12)
    assert sums(["DEU", "CHN"])["CHN"] == pytest.approx(countries["CHN"], rel=1e-12)


def test_some_regions_leave_the_rest_unassigned():
    da = flux(axes(5.0))
    some, everything = (
        aggregate_regions(da, r, "PgC d-1", include_global=True) for r in (["EU", "BRA"], "latitude-bands")
    )
    np.testing.assert_allclose(some[:2].sum() + some.unassigned, everything[-1], rtol=1e-12)
    nested = aggregate_regions(da, ["EU", "Germany"], "PgC d-1")
    assert "unassigned" not in nested.coords and nested.region.values.tolist() == ["EU", "Germany"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Germny", "did you mean 'Germany'"),
        ("Korea", "'South Korea' or 'North Korea'"),
        (["EU", "Frnce"], "did you mean .*'France'"),
        ("recap2", "did you mean 'reccap2'"),
        ("shapes/mine.GeoJSON", r"give the shapes themselves, geopandas\.read_file"),
        ("biomes.tif", r"open the file and give its map, as in xarray.open_dataset"),
        (["reccap2", "DEU"], "whole set of regions; give the set alone"),
    ],
)
def test_unknown_names_show_near_ones(name, words):
    with pytest.raises(ValueError, match=words):
        sums(name)


# --- boxes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("box", [(-10, 35, 40, 70), (170, -10, -170, 12.5), (-180, -90, 180, 90), (0, -3, 360, 3)])
@pytest.mark.parametrize("west", [-180.0, 0.0])
def test_a_box_has_its_area_on_any_grid(box, west):
    w, s, e, n = box
    wide = np.radians((e - w) if e > w else e - w + 360)
    area = RADIUS**2 * wide * (np.sin(np.radians(n)) - np.sin(np.radians(s)))
    weights = region_weights(xr.Dataset(coords=axes(4.0, 7.5, west=west, down=True)), list(box), "cell")
    assert float(weights.data.sum()) == pytest.approx(area, rel=1e-9) and weights.sizes["region"] == 1


@pytest.mark.parametrize("box", [(0, 10, 10, 0), (5, 0, 5, 10), (0, -95, 10, 10), (0, 0, 720, 10), (0, np.nan, 1, 2)])
def test_boxes_that_are_none(box):
    with pytest.raises(ValueError, match=r"expected \(west, south, east, north\)"):
        sums(box)


# --- regionmask ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["srex", "giorgi", "prudence"])
def test_sets_of_regionmask_by_name(name):
    da = flux(axes(5.0))
    assert sums(name, da) == sums(getattr(regionmask.defined_regions, name), da)
    assert aggregate_regions(da, name, "PgC d-1").attrs["regions"] == name


def test_our_regions_as_regionmask():
    ours = as_regionmask("reccap2")
    assert ours.names == list(sums("reccap2")) and as_regionmask(["DEU", "France"]).names == ["DEU", "France"]
    assert sums(ours) == pytest.approx(sums("reccap2"), rel=1e-9)  # per m2 of land both count the polygons' own
    assert as_regionmask("latitude-bands").names[-1] == "80N-90N"
    with pytest.raises(ValueError, match="'srex' is no set of polygons of xflux"):
        as_regionmask("srex")


# --- polygons ------------------------------------------------------------------------------------------------------
def test_polygons_that_are_broken():
    good = shapely.box(0, 0, 10, 10)
    with np.errstate(invalid="ignore"):
        hole = shapely.Polygon([(0, 0), (np.nan, 5), (5, 5), (0, 0)])
    with pytest.raises(ValueError, match="region 'b' has vertices that are no numbers"):
        sums(geopandas.GeoSeries([good, hole], index=["a", "b"]))
    with pytest.warns(UserWarning, match="no area: b, c"):
        found = sums(geopandas.GeoSeries([good, None, shapely.Polygon()], index=["a", "b", "c"]))
    assert np.isfinite(found["a"]) and np.isnan(found["b"]) and np.isnan(found["c"])
    with pytest.raises(ValueError, match="none of the 1 regions has an area"):
        sums(geopandas.GeoSeries([shapely.Polygon()]))


# --- flags ---------------------------------------------------------------------------------------------------------
ROWS = {"lat": [-60.0, 0, 60], "lon": [0.0, 180]}


def by_row(labels, da=None, **attrs):
    mask = xr.DataArray(np.repeat(np.array(labels), 2).reshape(3, 2), ROWS, ("lat", "lon"), name="m", attrs=attrs)
    one = xr.DataArray(np.ones((3, 2)), ROWS, ("lat", "lon"), attrs={"units": "gC m-2 d-1", "area_basis": "cell"})
    area = cell_area(one).sum("lon").values / 1e15
    found = aggregate_regions(one, mask, "PgC d-1")
    return {label: np.round(found.sel(region=label).item() / area[0], 9) for label in found.region.values.tolist()}


HIGH, WIDE = 1.0, float(np.round(2 * np.sin(np.pi / 6) / (1 - np.sin(np.pi / 6)), 9))  # areas of the three rows


@pytest.mark.parametrize(
    ("labels", "attrs", "expected"),
    [
        ([1, 2, 3], {"flag_meanings": "s m n", "flag_values": [1.0, 2.0, 3.0]}, {"s": HIGH, "m": WIDE, "n": HIGH}),
        ([1, 2, 3], {"flag_meanings": "s m n", "flag_values": "1b, 2b, 3b"}, {"s": HIGH, "m": WIDE, "n": HIGH}),
        ([1, 2, 3], {"flag_meanings": "s m n"}, {"s": HIGH, "m": WIDE, "n": HIGH}),
        ([0, 1, 2], {"flag_meanings": ["s", "m", "n"]}, {"s": HIGH, "m": WIDE, "n": HIGH}),
        ([0, 1, 2], {"flag_meanings": "far south, middle, north"}, {"far south": HIGH, "middle": WIDE, "north": HIGH}),
        ([1, 2, 3], {"flag_meanings": "a a b", "flag_values": [1, 2, 3]}, {"a": HIGH + WIDE, "b": HIGH}),
        ([1, 2, 3], {"flag_meanings": "a b", "flag_values": [1, 2]}, {"a": HIGH, "b": WIDE, "3": HIGH}),
        ([1, 2, 3], {"flag_meanings": "a b c", "flag_masks": [1, 2, 4]}, {"a": 2 * HIGH, "b": HIGH + WIDE}),
        ([0, 4, 5], {"flag_meanings": "x y", "flag_masks": [1, 4]}, {"x": HIGH, "y": HIGH + WIDE}),
        ([1, 2, 9], {"flag_meanings": "u v", "flag_masks": [3, 3], "flag_values": [1, 2]}, {"u": 2 * HIGH, "v": WIDE}),
        ([np.True_, False, None], {}, {1: HIGH}),
        ([True, False, np.nan], {}, {1: HIGH}),
        ([2**60, 2**60 + 1, np.nan], {}, {2**60: HIGH, 2**60 + 1: WIDE}),
        ([2**60, -5, 2**60 + 1], {}, {2**60: HIGH, 2**60 + 1: HIGH}),
    ],
)
def test_what_the_labels_of_a_mask_mean(labels, attrs, expected):
    kind = object if any(isinstance(x, bool | np.bool_) or x is np.nan for x in labels) else None
    assert by_row(np.array(labels, dtype=kind), **attrs) == pytest.approx(expected, rel=1e-6)


def test_labels_of_any_text_and_dims_of_one():
    """NumPy's own strings, which pandas 3 gives ``xr.concat``; the band of a GeoTIFF."""
    one = xr.DataArray(np.ones((3, 2)), ROWS, ("lat", "lon"), attrs={"units": "gC m-2 d-1", "area_basis": "cell"})
    labels = xr.full_like(one, 7, dtype=int).expand_dims(band=[1])
    shares = (one / 2).expand_dims(region=np.array(["a", "b"], np.dtypes.StringDType()))
    found = aggregate_regions(one, shares, "PgC d-1", include_global=True)
    assert found.region.values.tolist() == ["a", "b", "GLOBAL"]
    np.testing.assert_allclose(found, [found[2] / 2, found[2] / 2, aggregate_regions(one, labels, "PgC d-1").item()])
    strings = found.sel(region=["a", "b"]).assign_coords(region=shares.region)
    np.testing.assert_allclose(with_global(strings), found)
    padded = xr.full_like(one, 0).astype("U4").copy(data=np.repeat(np.array(["EU  ", "", "EU"]), 2).reshape(3, 2))
    assert aggregate_regions(one, padded, "PgC d-1").region.values.tolist() == ["EU"]
    shapes = [shapely.box(0, 0, 9, 9), shapely.box(20, 0, 29, 9)]
    assert sums(geopandas.GeoSeries(shapes, index=[("a", 1), ("a", 2)])).keys() == {"a 1", "a 2"}
    far = (one / 2).assign_coords(lat=[-71.0, -70, -69], lon=[-100.0, -99])
    with pytest.warns(UserWarning, match="the grid covers nothing of EU"):
        assert np.isnan(aggregate_regions(far, "EU", "PgC d-1")).all()


@pytest.mark.parametrize(
    ("labels", "attrs", "words"),
    [
        ([1, 2, 2], {"flag_meanings": "s m n"}, "3 flag_meanings without flag_values, and holds the values 1, 2"),
        ([0, 1, 3], {"flag_meanings": "s m n"}, "which value means what is not said"),
        ([1, 2, 3], {"flag_meanings": "s m", "flag_values": [1, 2, 3]}, "3 flag_values but 2 flag_meanings"),
        ([1, 2, 3], {"flag_meanings": "s m n", "flag_masks": [1, 2]}, "2 flag_masks but 3 flag_meanings"),
        ([1, 2, 3], {"flag_meanings": "s m n", "flag_values": [1, 1, 2]}, "give a value twice"),
        ([1.0, 2.0**60, 3.0], {}, "labels beyond 2\\*\\*53 as integers"),
        ([1, 2**63 - 1, 3], {}, "which is no label"),
    ],
)
def test_flags_that_do_not_say_what_they_mean(labels, attrs, words):
    with pytest.raises(ValueError, match=words):
        by_row(labels, **attrs)


def test_the_mask_of_a_dataset_must_be_the_only_one():
    da, mask = flux(axes(30.0, 60.0)), xr.DataArray(np.zeros((6, 6), int), axes(30.0, 60.0), ("lat", "lon"))
    one = mask.to_dataset(name="basins").assign(area=("lat", np.ones(6)))
    assert sums(one, da) == sums(mask, da)
    with pytest.raises(ValueError, match=r"which variable is the mask.*'basins', 'biomes'"):
        sums(one.assign(biomes=mask), da)


# --- GLOBAL --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def integrals():
    coords = axes(10.0)
    da = xr.concat([flux(coords, steps=24, seed=seed) for seed in (1, 2)], "member")
    return aggregate_regions(da.assign_attrs(units="gC m-2 d-1", area_basis="cell"), "reccap2")


CHANGES = {
    "minus": lambda x: -x,
    "twice": lambda x: 2 * x,
    "difference": lambda x: 3 * x - x,
    "of two": lambda x: x.isel(member=[0]) - x.isel(member=[1]).assign_coords(unassigned=x.unassigned[1:] * 2),
    "mean": lambda x: x.mean("member").expand_dims(member=2),
    "some": lambda x: x.sel(region=["EU", "BRA", "RUS"]),
    "joined": lambda x: xr.concat([x.isel(region=[1]), x.isel(region=[4])], "region"),
    "dropped": lambda x: x.drop_vars("unassigned"),
    "without the sum": lambda x: x.drop_vars("assigned"),
}


@pytest.mark.filterwarnings("ignore:GLOBAL is unknown")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_remainder_that_is_not_theirs_makes_no_globe(integrals, change, lazy):
    given = change(integrals.chunk(time=12) if lazy else integrals).assign_attrs(integrals.attrs)
    globe = with_global(given).sel(region="GLOBAL")
    assert np.isnan(globe).all()


@pytest.mark.parametrize(
    "change", [lambda x: x.isel(time=slice(3, 9)), lambda x: x.astype("float32"), lambda x: x.sel(member=[1]) * 1.0]
)
def test_what_keeps_the_sums_keeps_the_globe(integrals, change):
    given = change(integrals)
    expected = given.sum("region") + given.unassigned
    np.testing.assert_allclose(with_global(given).sel(region="GLOBAL"), expected, rtol=1e-5)


def test_a_remainder_that_is_lost_is_said(integrals):
    with pytest.warns(UserWarning, match="GLOBAL is unknown: .* Integrate with include_global=True"):
        table = regional_budget((-integrals).assign_attrs(integrals.attrs))
    assert np.isnan(table["mean"].sel(region="GLOBAL")).all() and np.isfinite(table["mean"].sel(region="EU")).all()
    assert budget_table(regional_budget(integrals.chunk(time=12))).equals(budget_table(regional_budget(integrals)))


def test_a_region_called_global_is_not_the_sum():
    da = flux(axes(30.0, 60.0))
    mask = xr.DataArray(np.full((6, 6), "GLOBAL"), axes(30.0, 60.0), ("lat", "lon"))
    assert list(sums(mask, da)) == ["GLOBAL"]
    for integrate in (lambda: sums(mask, da, include_global=True), lambda: regional_budget(da.expand_dims(m=2), mask)):
        with pytest.raises(ValueError, match="a region is called 'GLOBAL', as the sum of all is"):
            integrate()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "regions, second", [("reccap2", "Canada"), (["Germany", "FRA"], "France"), ("countries", "Afghanistan")]
)
def test_integrals_carry_the_names_of_their_regions(regions, second, lazy):
    coords = {"time": xr.date_range("2001-01-01", periods=2, freq="MS"), "lat": np.arange(-87.5, 90, 5)}
    coords["lon"] = np.arange(2.5, 360, 5)
    da = xr.DataArray(np.ones((2, 36, 72)), coords, ("time", "lat", "lon"), "nee")
    ds = da.assign_attrs(units="gC m-2 d-1", area_basis="land").to_dataset()
    sums = (ds.chunk(time=1) if lazy else ds).flux.aggregate_regions(regions, include_global=True)
    assert [sums["region_name"].values[i] for i in (1, -1)] == [second, "Globe"]
    table = sums.flux.to_dataframe()
    assert list(table.columns) == ["time", "region", "region_name", "nee_valid_fraction", "nee"]
    assert len(table) == len(table.drop_duplicates(["time", "region"])) == sums["nee"].size
    assert table.attrs["units"]["nee"] == "PgC month-1"
    one = table[(table["region_name"] == second) & (table["time"] == "2001-02-01")]["nee"].item()
    assert one == float(sums["nee"].sel(time="2001-02-01", region=sums["region"][1]))
    assert list(sums["nee"].flux.annual(complete=False).flux.to_dataframe()["region_name"]) == list(
        sums["region_name"].values
    )
