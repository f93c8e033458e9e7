"""Polygons as users have them: other coordinate systems, poles, the antimeridian, holes, gaps in the table."""

import numpy as np
import pytest
import shapely
import xarray as xr
from test_regions_cover import band_area, frame, geopandas, grid

from xflux.regions import aggregate_regions, region_weights
from xflux.regions.polygons import folded

pyproj = pytest.importorskip("pyproj")


def areas(regions, res=2.0, basis="land"):
    return region_weights(grid(res), regions, basis).sum(("lat", "lon")).data.todense()


def projected(crs, *rings_of_polygon):
    """A polygon whose rings (lon, lat) were drawn in degrees with many points and then projected."""
    forward = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    exterior, *holes = (np.c_[forward(*ring)] for ring in rings_of_polygon)
    return geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.Polygon(exterior, holes)], crs=crs)


def parallel(lat, west=-180.0, east=180.0):
    return np.linspace(west, east, 7201)[:-1], np.full(7200, float(lat))


@pytest.mark.parametrize(("crs", "lat"), [("EPSG:3413", 62.3), ("EPSG:3031", -71.9), ("EPSG:3573", 10.0)])
def test_a_cap_around_a_pole(crs, lat):
    south, north = (lat, 90) if lat > 0 else (-90, lat)
    cap = projected(crs, parallel(lat))
    assert areas(cap)[0] == pytest.approx(band_area(-180, south, 180, north), rel=1e-5)
    w = region_weights(grid(2.0), cap, "land").data.todense()[0]
    assert (w[-1 if lat > 0 else 0] > 0).all() and (w[0 if lat > 0 else -1] == 0).all()


def test_a_ring_around_the_pole_has_a_hole():
    ring = projected("EPSG:3413", parallel(60), parallel(75))
    assert areas(ring)[0] == pytest.approx(band_area(-180, 60, 180, 75), rel=1e-5)
    off_seam = projected("EPSG:3413", parallel(60), (np.r_[170, 190, 190, 170], np.r_[80.0, 80, 85, 85]))
    straight = areas(off_seam)[0]
    assert straight == pytest.approx(band_area(-180, 60, 180, 90) - band_area(170, 80, 190, 85), rel=1e-3)


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:32601", "EPSG:3832", "EPSG:3413", "EPSG:6933"])
def test_a_box_over_the_antimeridian(crs):
    west, south, east, north = 177.2, 51.0, 182.9, 56.5
    up, along = np.linspace(south, north, 200), np.linspace(west, east, 200)
    lon = np.r_[along, np.full(200, east), along[::-1], np.full(200, west)]
    lat = np.r_[np.full(200, south), up, np.full(200, north), up[::-1]]
    if crs == "EPSG:6933":  # cylindrical, cut at 180: two parts
        parts = shapely.union_all([shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)])
        box = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[parts], crs="EPSG:4326").to_crs(crs)
    else:
        box = projected(crs, ((lon + 180) % 360 - 180, lat))
    assert areas(box)[0] == pytest.approx(band_area(west, south, east, north), rel=1e-5)


def test_long_edges_of_a_projection_are_straight_there():
    """Four corners in an equal-area projection: the area is that of the plane, but for the sphere's other shape."""
    box = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(-2.3e6, 3e5, 2.2e6, 3e6)], crs="EPSG:5070")
    fine = box.set_geometry(box.segmentize(1000.0))
    assert areas(box)[0] == pytest.approx(areas(fine)[0], rel=1e-6)
    assert areas(box)[0] == pytest.approx(4.5e6 * 2.7e6, rel=2e-3)
    feet = box.to_crs("EPSG:2229")
    assert areas(feet)[0] == pytest.approx(areas(box)[0], rel=0.1)


def test_degrees_from_another_meridian_or_pole():
    box = shapely.box(10, 45, 12, 48)
    paris = shapely.box(10 - 2.33722917, 45, 12 - 2.33722917, 48)
    for crs in ("EPSG:4326", "EPSG:4258", "OGC:CRS84", "+proj=longlat +R=6371000", "EPSG:4979"):
        own = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[box], crs=crs)
        assert areas(own)[0] == pytest.approx(band_area(10, 45, 12, 48), rel=1e-12), crs
    own = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[paris], crs="+proj=longlat +pm=paris")
    assert areas(own)[0] == pytest.approx(band_area(10, 45, 12, 48), rel=1e-6)
    rotated = "+proj=ob_tran +o_proj=longlat +o_lat_p=90 +o_lon_p=0 +lon_0=30 +R=6371000 +type=crs"
    own = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(0, 0, 5, 5)], crs=rotated)
    assert areas(own)[0] == pytest.approx(band_area(0, 0, 5, 5), rel=1e-5)


def test_metres_without_a_coordinate_system_are_refused():
    for crs in (None, "EPSG:4326"):
        metres = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(1e6, 1e6, 2e6, 2e6)], crs=crs)
        with pytest.raises(ValueError, match=r"region 0 reaches .* no degrees .* set_crs"):
            areas(metres)


def test_overlap_across_the_antimeridian_is_seen():
    east, west = shapely.box(170, 0, 190, 10), shapely.box(-180, 0, -170, 10)
    w = region_weights(grid(2.0), frame(east, west), "land")
    assert w.attrs["regions_overlap"] == 1 and "cell_weight" not in w.coords
    np.testing.assert_allclose(areas(frame(east, west)), [band_area(0, 0, 20, 10), band_area(0, 0, 10, 10)], rtol=1e-12)
    beside = frame(shapely.box(170, 0, 180, 10), west)
    assert "regions_overlap" not in region_weights(grid(2.0), beside).attrs


@pytest.mark.parametrize("turn", [-720, -360, 0, 360, 720])
def test_shapes_any_number_of_turns_away_are_the_same(turn):
    shape = shapely.Polygon([(150, -20), (215, -31), (200, 40)], [[(180, -10), (190, -9), (185, 10)]])
    moved = shapely.transform(shape, lambda points: points + [turn, 0.0])
    np.testing.assert_allclose(areas(frame(moved)), areas(frame(shape)), rtol=1e-12)
    assert folded(moved).bounds == pytest.approx((-180, -31, 180, 40))
    assert folded(moved).area == pytest.approx(shape.area, rel=1e-12)


def test_holes_that_reach_the_outline_stay_holes():
    box, bite = [(0, 0), (10, 0), (10, 10), (0, 10)], [(5, 5), (15, 5), (15, 8), (5, 8)]
    bitten = shapely.Polygon(box, [bite])
    assert not bitten.is_valid
    assert areas(frame(bitten))[0] == pytest.approx(band_area(0, 0, 10, 10) - band_area(5, 5, 10, 8), rel=1e-12)
    touching = shapely.Polygon(box, [[(2, 0), (4, 0), (4, 6), (2, 6)]])
    assert areas(frame(touching))[0] == pytest.approx(band_area(0, 0, 10, 10) - band_area(2, 0, 4, 6), rel=1e-12)
    backwards = shapely.Polygon(box[::-1], [[(2, 1), (4, 1), (4, 6), (2, 6)]])
    assert areas(frame(backwards))[0] == pytest.approx(band_area(0, 0, 10, 10) - band_area(2, 1, 4, 6), rel=1e-12)
    nested = shapely.MultiPolygon([shapely.Polygon(box, [[(2, 2), (8, 2), (8, 8), (2, 8)]]), shapely.box(4, 4, 6, 6)])
    expected = band_area(0, 0, 10, 10) - band_area(2, 2, 8, 8) + band_area(4, 4, 6, 6)
    assert areas(frame(nested))[0] == pytest.approx(expected, rel=1e-12)


def test_regions_without_a_shape_are_empty():
    table = geopandas.GeoDataFrame(
        {"name": ["a", "b", None]}, geometry=[shapely.box(0, 0, 10, 10), None, shapely.Polygon()], crs="EPSG:4326"
    )
    da = xr.DataArray(np.ones((18, 36)), grid(10.0).coords, ("lat", "lon"), attrs={"units": "gC m-2 d-1"})
    with pytest.warns(UserWarning, match="regions that are empty have no area: 1, 2"):
        out = aggregate_regions(da.assign_attrs(area_basis="land"), table, "PgC d-1")
    assert out.region.values.tolist() == [0, 1, 2]  # a name is missing
    assert out[0] > 0 and np.isnan(out[1:]).all()


@pytest.mark.parametrize(
    ("names", "index", "labels"),
    [(["a", "b"], [5, 5], ["a", "b"]), (["a", "a"], [7, 3], [7, 3]), (["a", "a"], [5, 5], [0, 1])],
)
def test_labels_are_unique(names, index, labels):
    shapes = [shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10)]
    table = geopandas.GeoDataFrame({"name": names}, geometry=shapes, index=index, crs="EPSG:4326")
    assert region_weights(grid(5.0), table).region.values.tolist() == labels


def test_slivers_between_neighbours_do_not_break_the_sum():
    """Digitised borders overlap by a hair: the remainder takes it, and everything is still the globe."""
    table = frame(shapely.box(-60, -30, 0, 40), shapely.box(-1e-6, -30, 70, 40))
    da = xr.DataArray(np.ones((90, 180)), grid(2.0).coords, ("lat", "lon"), attrs={"units": "gC m-2 d-1"})
    out = aggregate_regions(da.assign_attrs(area_basis="cell"), table, "gC d-1")
    assert "unassigned" in out.coords
    assert (out.sum() + out.unassigned).item() == pytest.approx(4 * np.pi * 6_371_000.0**2, rel=1e-13)
