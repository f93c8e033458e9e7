"""Exact shares of polygons in cells: known areas, any grid, any order, any longitude convention."""

from itertools import pairwise

import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux
from xflux.cells import RADIUS, Cells, axis_overlap, cell_area, grid_bounds
from xflux.regions import region_weights
from xflux.regions.shapes import rings_of, shipped
from xflux.regions.shares import Axis, Rings, polygon_shares

geopandas = pytest.importorskip("geopandas")


def grid(res, lon0=-180.0, down=False, lats=None):
    lat = np.arange(-90 + res / 2, 90, res) if lats is None else np.asarray(lats)
    lon = np.arange(lon0 + res / 2, lon0 + 360, res)
    return xr.Dataset(coords={"lat": lat[::-1] if down else lat, "lon": lon})


def gaussian(n):
    return np.degrees(np.arcsin(np.polynomial.legendre.leggauss(n)[0]))


def frame(*shapes, names=None):
    return geopandas.GeoDataFrame({"name": names or [f"r{i}" for i in range(len(shapes))]}, geometry=list(shapes))


def band_area(west, south, east, north):
    return RADIUS**2 * np.radians(east - west) * (np.sin(np.radians(north)) - np.sin(np.radians(south)))


def dense_area(ring):
    """∮ λ d(sin φ) by trapezoids on 2000 points an edge."""
    points = np.asarray(ring.coords)
    t = np.linspace(0, 1, 2000)[:, None]
    outline = np.concatenate([a + t * (b - a) for a, b in pairwise(points)])
    x, s = outline[:, 0], np.sin(np.radians(outline[:, 1]))
    return abs(np.sum((x[1:] + x[:-1]) * np.diff(s)) / 2)


def true_share(polygon, cell):
    """Clip in longitude and latitude, then sum the outline in (λ, sin φ)."""
    west, south, east, north = cell
    parts = shapely.get_parts(shapely.intersection(polygon, shapely.box(*cell)))
    parts = [p for p in parts if p.geom_type == "Polygon" and not p.is_empty]
    area = sum(dense_area(p.exterior) - sum(map(dense_area, p.interiors)) for p in parts)
    return area / ((east - west) * (np.sin(np.radians(north)) - np.sin(np.radians(south))))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8)), min_size=3, max_size=7),
    st.floats(-70, 70),
    st.floats(-400, 400),
    st.booleans(),
)
def test_share_of_every_cell_equals_clipping(points, lat0, lon0, hole):
    polygon = shapely.convex_hull(shapely.MultiPoint(points))
    if polygon.geom_type != "Polygon" or polygon.area < 1e-3:
        return
    if hole:
        polygon = polygon.difference(shapely.affinity.scale(polygon, 0.3, 0.3))
    polygon = shapely.affinity.translate(polygon, lon0, lat0)
    lat, lon = np.linspace(lat0 - 10, lat0 + 10, 9), np.linspace(lon0 - 10, lon0 + 10, 7)
    lat = np.clip(lat, -90, 90)
    bounds = np.stack([lat[:-1], lat[1:]], 1), np.stack([lon[:-1], lon[1:]], 1)
    ((cell, share),) = polygon_shares(rings_of([polygon]), *bounds, 1)
    shares = np.zeros((8, 6))
    shares.flat[cell] = share
    expected = [[true_share(polygon, (w, s, e, n)) for w, e in bounds[1]] for s, n in bounds[0]]
    np.testing.assert_allclose(shares, expected, atol=2e-7)


@pytest.mark.parametrize(
    "g",
    [grid(0.25), grid(0.5, 0, True), grid(1.0), grid(2.5, 0), grid(3.75, 0, lats=gaussian(64))],
    ids=["quarter", "half", "one", "2.5", "gauss"],
)
def test_polygon_area_is_kept_on_every_grid(g):
    triangle = shapely.Polygon([(10.1, 47.3), (21.7, 49.9), (15.2, 58.8)])
    w = region_weights(g, frame(triangle), "land")
    exact = region_weights(grid(0.2), frame(triangle), "land").sum().data[()]
    assert float(w.sum().data) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("res", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("size", [1e-3, 0.05, 0.4])
def test_a_region_inside_one_cell_keeps_its_area(res, size):
    west, south = 13.34, 52.31
    w = region_weights(grid(res), frame(shapely.box(west, south, west + size, south + size)), "land")
    assert float(w.sum().data) == pytest.approx(band_area(west, south, west + size, south + size), rel=1e-9)


def test_the_global_box_is_the_globe():
    for g in (grid(2.0), grid(2.0, 0), grid(5.0, -47)):
        for box in (shapely.box(-180, -90, 180, 90), shapely.box(0, -90, 360, 90)):
            for basis in ("land", "cell"):
                w = region_weights(g, frame(box), basis)
                np.testing.assert_allclose(float(w.sum().data), 4 * np.pi * RADIUS**2, rtol=1e-12)


@pytest.mark.parametrize("lon0", [-180, 0, -300, 37.5])
def test_dateline_polygon_equals_its_two_halves(lon0):
    whole = shapely.box(170, -20, 190, 33.3)
    split = shapely.MultiPolygon([shapely.box(170, -20, 180, 33.3), shapely.box(-180, -20, -170, 33.3)])
    g = grid(2.5, lon0)
    a, b = (region_weights(g, frame(s), "land").data.todense() for s in (whole, split))
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-3)
    assert a.sum() == pytest.approx(band_area(170, -20, 190, 33.3), rel=1e-12)


def test_polygon_edges_are_straight_in_longitude_and_latitude():
    """A side along the parallel of 60 degrees stays on it: no great circles."""
    w = region_weights(grid(1.0), frame(shapely.box(-100, 60, 100, 70)), "land")
    assert float(w.sum().data) == pytest.approx(band_area(-100, 60, 100, 70), rel=1e-12)
    assert float(w.sel(lat=slice(70, 90)).sum().data) == 0


@pytest.mark.parametrize("name", ["reccap2", "countries"])
def test_weights_do_not_depend_on_order_convention_or_extent(name):
    g = grid(2.0)
    w = region_weights(g, name, "land")
    dense = w.copy(data=w.data.todense())
    turned = (g.isel(lat=slice(None, None, -1)), g.roll(lon=63, roll_coords=True), g.isel(lon=slice(None, None, -1)))
    for other in turned:
        other_w = region_weights(other, name, "land")
        other_w = other_w.copy(data=other_w.data.todense())
        np.testing.assert_allclose(other_w.reindex_like(dense).values, dense.values, rtol=1e-12, atol=1e-3)
    shifted = region_weights(g.assign_coords(lon=g.lon % 360), name, "land").data.todense()
    np.testing.assert_allclose(shifted, dense.values, rtol=1e-12, atol=1e-3)
    tile = g.isel(lat=slice(20, 71), lon=slice(13, 150))
    np.testing.assert_allclose(
        region_weights(tile, name, "land").data.todense(), dense[:, 20:71, 13:150].values, rtol=1e-12, atol=1e-3
    )


def test_country_polygons_tile():
    """Shares add up to one inside continents and never to more: neighbours share their borders."""
    cells = Cells.of(grid(1.0))
    labels, rings = shipped("countries")
    total = np.zeros(180 * 360)
    for cell, share in polygon_shares(rings, cells.lat, cells.lon, len(labels)):
        total[cell] += share
    assert total.max() < 1 + 1e-12
    assert 1 - 1e-12 < total.reshape(180, 360)[[115, 80, 112], [185, 125, 258]].min()  # Sahara, Brazil, India
    area = cell_area(grid(1.0)).values.ravel() @ total
    assert area == pytest.approx(1.47e14, rel=0.01)


def test_areas_of_reccap2_match_the_reference(data_folder):
    reference = np.genfromtxt(
        data_folder / "regions/reccap2_region_areas.csv", delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    for g in (grid(0.5), grid(1.0, 0, True), grid(3.75, lats=gaussian(64))):
        area = region_weights(g, "reccap2").sum(("lat", "lon")).data.todense() / 1e12
        np.testing.assert_array_equal(region_weights(g, "reccap2").region, reference["region"])
        np.testing.assert_allclose(area, reference["area_mkm2"], rtol=0.015)


def test_overseas_parts_are_their_own():
    area = region_weights(grid(1.0), "countries").sum(("lat", "lon"))
    area = dict(zip(area.region.values, area.data.todense() / 1e9, strict=True))  # 1000 km2
    areas = {"GUF": 83.5, "REU": 2.5, "SJM": 62, "FRA": 547, "NOR": 324, "GRL": 2171, "ATA": 12300}
    for code, expected in areas.items():
        assert area[code] == pytest.approx(expected, rel=0.05), code
    assert area["FRA"] < 560


def test_no_country_vanishes_on_a_coarse_grid():
    area = region_weights(grid(10.0), "countries").sum(("lat", "lon")).data.todense()
    fine = region_weights(grid(0.5), "countries").sum(("lat", "lon")).data.todense()
    assert (area > 0).all()
    np.testing.assert_allclose(area, fine, rtol=1e-6)


def test_russia_and_fiji_lie_on_both_sides_of_the_dateline():
    w = region_weights(grid(0.5), "countries", "land")
    for code in ("RUS", "FJI"):
        by_lon = w.sel(region=code).sum("lat").data.todense()
        lon = w.lon.values
        assert by_lon[lon < -179].sum() > 0 and by_lon[lon > 179].sum() > 0 and by_lon[abs(lon + 120) < 20].sum() == 0


def test_overlapping_regions_keep_their_own_areas():
    a, b = shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30)
    w = region_weights(grid(3.0), frame(a, b), "land")
    np.testing.assert_allclose(
        w.sum(("lat", "lon")).data.todense(), [band_area(0, 0, 20, 20), band_area(10, 10, 30, 30)], rtol=1e-11
    )
    assert "cell_weight" not in w.coords


def test_regionmask_regions():
    regionmask = pytest.importorskip("regionmask")
    boxes = [shapely.box(0, 0, 20, 20), shapely.box(-30, 0, 0, 9)]
    regions = regionmask.Regions(boxes, names=["east", "west"], name="two")
    w = region_weights(grid(3.0), regions)
    assert list(w.region.values) == ["east", "west"] and w.attrs["regions"] == "two"
    assert float(w.sel(region="west").sum().data) == pytest.approx(band_area(-30, 0, 0, 9), rel=1e-11)


def test_polygons_in_another_projection_are_brought_to_degrees():
    box = shapely.box(10, 45, 12, 48)
    metres = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[box], crs="EPSG:4326").to_crs("EPSG:3857")
    w = region_weights(grid(1.0), metres)
    assert float(w.sum().data) == pytest.approx(band_area(10, 45, 12, 48), rel=1e-6)


def test_lines_are_no_regions():
    with pytest.raises(TypeError, match="LineString; expected a Polygon"):
        region_weights(grid(5.0), frame(shapely.LineString([(0, 0), (1, 1)])))


def test_axis_with_gaps_and_wrapped_order():
    axis = Axis.of(np.array([[350.0, 355.0], [355.0, 360.0], [0.0, 5.0], [10.0, 15.0]]), "lon")
    np.testing.assert_array_equal(axis.cell, [2, -1, 3, -1, 0, 1])
    np.testing.assert_array_equal(axis.edges, [0, 5, 10, 15, 350, 355, 360])


def test_overlap_of_axes_is_exact_and_whole():
    coarse = grid_bounds(grid(2.5, 0))
    fine = grid_bounds(grid(1.0, -180))
    for axis, (a, b) in {"lat": (coarse[0], fine[0]), "lon": (coarse[1], fine[1])}.items():
        np.testing.assert_allclose(np.asarray(axis_overlap(b, a, axis).sum(axis=1)).ravel(), 1, rtol=1e-12)


def test_empty_rings_cover_nothing():
    rings = Rings(np.zeros(0), np.zeros(0), np.zeros(1, int), np.zeros(0, int))
    ((cell, share),) = polygon_shares(rings, np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), 1)
    assert cell.size == 0 and share.size == 0


def test_weights_are_remembered_per_grid(monkeypatch):
    from xflux.regions import weights

    da = xr.DataArray(np.ones((18, 36)), grid(10.0).coords, ("lat", "lon"), attrs={"units": "gC m-2 d-1"})
    da = da.assign_attrs(area_basis="land")
    first = xflux.regions.aggregate_regions(da, "reccap2", "PgC d-1")
    monkeypatch.setattr(weights, "weights_for", lambda *_: pytest.fail("made twice"))
    xr.testing.assert_identical(first, xflux.regions.aggregate_regions(da, "reccap2", "PgC d-1"))


def test_polygons_with_other_names_are_other_regions():
    box, other = shapely.box(0, 0, 20, 20), shapely.box(30, 0, 40, 20)
    da = xr.DataArray(np.ones((18, 36)), grid(10.0).coords, ("lat", "lon"), attrs={"units": "gC m-2 d-1"})
    da = da.assign_attrs(area_basis="land")
    for names in (["a", "b"], ["c", "d"]):
        out = xflux.regions.aggregate_regions(da, frame(box, other, names=names), "PgC d-1")
        assert list(out.region.values) == names
    series = xflux.regions.aggregate_regions(da, geopandas.GeoSeries([box, other], index=["x", "y"]), "PgC d-1")
    assert list(series.region.values) == ["x", "y"]
    np.testing.assert_array_equal(series.values, out.values)
