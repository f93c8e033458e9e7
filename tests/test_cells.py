"""Cells: areas that sum to the sphere, on any grid, in any order and longitude convention."""

import shutil
import subprocess

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xflux
from xflux.cells import (
    RADIUS,
    cell_area,
    cell_bounds,
    edges,
    grid_bounds,
    nearest,
    positions,
    regrid,
    same_grid,
    standardise,
)
from xflux.study.published import on_cells

SPHERE = 4 * np.pi * RADIUS**2
T42 = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))

GRIDS = {
    "0.25": (np.arange(-89.875, 90, 0.25), np.arange(-179.875, 180, 0.25)),
    "0.5": (np.arange(-89.75, 90, 0.5), np.arange(-179.75, 180, 0.5)),
    "1": (np.arange(-89.5, 90, 1.0), np.arange(-179.5, 180, 1.0)),
    "2.5x3.75": (np.linspace(-88.75, 88.75, 72), np.arange(-180, 180, 3.75)),
    "2.5x3.75 with pole rows": (np.linspace(-90, 90, 73), np.arange(-180, 180, 3.75)),
    "1.9x3.75 with pole rows": (np.linspace(-90, 90, 96), np.arange(0, 360, 3.75)),
    "T42": (T42, np.arange(128) * 2.8125),
    "GEOS 2x2.5": (np.r_[-89.5, np.arange(-88, 89, 2), 89.5], np.arange(-180, 180, 2.5)),
    "GEOS 4x5": (np.r_[-89, np.arange(-86, 87, 4), 89], np.arange(-180, 180, 5.0)),
    "thirds": (np.arange(-90 + 1 / 6, 90, 1 / 3), np.arange(1 / 6, 360, 1 / 3)),
}


def grid(lat, lon) -> xr.Dataset:
    return xr.Dataset(coords={"lat": np.asarray(lat), "lon": np.asarray(lon)})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("convention", ["as is", "0..360", "-180..180", "-300..60"])
@pytest.mark.parametrize("name", GRIDS)
def test_areas_sum_to_the_sphere(name, convention, order, dtype):
    lat, lon = GRIDS[name]
    if convention != "as is":
        west = {"0..360": 0, "-180..180": -180, "-300..60": -300}[convention]
        lon = np.sort(np.mod(lon - west, 360) + west)
    area = cell_area(grid(lat[::order].astype(dtype), lon.astype(dtype)))
    assert area.dims == ("lat", "lon")
    assert area.dtype == np.float64
    assert area.attrs["units"] == "m2"
    assert float(area.min()) > 0
    assert float(area.sum()) == pytest.approx(SPHERE, rel=1e-12)


def test_known_areas():
    area = cell_area(grid(*GRIDS["1"]))
    # R² · Δλ · (sin 1° − sin 0°)
    expected = RADIUS**2 * np.radians(1) * np.sin(np.radians(1))
    assert float(area.sel(lat=0.5, lon=0.5)) == pytest.approx(expected, rel=1e-13)
    cap = RADIUS**2 * np.radians(1) * (1 - np.sin(np.radians(89)))
    assert float(area.sel(lat=89.5, lon=0.5)) == pytest.approx(cap, rel=1e-9)
    assert cell_area(grid(*GRIDS["1"]), radius=1.0).sum() == pytest.approx(4 * np.pi, rel=1e-13)


def test_land_fluxes_of_float32_coordinates_have_the_area_of_float64():
    lat, lon = np.arange(-89.95, 90, 0.1), np.arange(-179.95, 180, 0.1)
    exact = cell_area(grid(lat, lon)).values
    single = cell_area(grid(lat.astype("float32"), lon.astype("float32"))).values
    np.testing.assert_allclose(single, exact, rtol=1e-9)


@given(
    shift=st.integers(0, 35),
    turns=st.integers(-1, 1),
    flip_lat=st.booleans(),
    flip_lon=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_area_belongs_to_the_cell_not_to_its_place_in_the_array(shift, turns, flip_lat, flip_lon, seed):
    lat, lon = np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10)
    area = cell_area(grid(lat, lon))
    moved = np.roll(lon, shift)[:: -1 if flip_lon else 1]
    moved = moved + 360 * turns * (moved < 0)
    shuffled = np.random.default_rng(seed).permutation(lat) if seed else lat[:: -1 if flip_lat else 1]
    other = cell_area(grid(shuffled, moved))
    expected = area.sel(lat=shuffled).isel(lon=0).values[:, None] * np.ones(36)
    np.testing.assert_allclose(other.values, expected, rtol=1e-13)
    west, east = grid_bounds(grid(shuffled, moved))[1].T
    np.testing.assert_allclose((west + east) / 2, moved, atol=1e-9)
    np.testing.assert_allclose(east - west, 10, atol=1e-9)


def test_descending_latitudes_have_descending_edges_within_the_poles():
    e = edges(grid(*GRIDS["0.5"]).lat[::-1])
    assert e[0] == 90
    assert e[-1] == -90
    assert (np.diff(e) < 0).all()
    assert len(e) == 361


def test_pole_rows_are_half_rows():
    np.testing.assert_allclose(cell_bounds(grid([-90.0, 0.0, 90.0], [0.0, 1.0]).lat), [[-90, -45], [-45, 45], [45, 90]])


@pytest.mark.parametrize(
    ("lon", "expected"),
    [
        ([178.5, 179.5, -179.5, -178.5], [178, 179, 180, 181, 182]),
        ([358.5, 359.5, 0.5, 1.5], [358, 359, 360, 361, 362]),
        ([1.5, 0.5, -0.5], [2, 1, 0, -1]),
        ([-0.5, 0.5], [-1, 0, 1]),
        ([0.0, 90.0, 180.0, 270.0], [-45, 45, 135, 225, 315]),
        ([-179.5, 179.5, 178.5], [-179, -180, -181, -182]),
    ],
)
def test_longitude_edges_run_on_over_the_seam(lon, expected):
    np.testing.assert_allclose(edges(grid([0.0, 1.0], lon).lon), expected, atol=1e-12)


def test_gaussian_edges_lie_midway_and_end_at_the_poles():
    e = edges(grid(T42, [0.0, 1.0]).lat)
    assert e[0] == -90
    assert e[-1] == 90
    np.testing.assert_allclose(e[1:-1], (T42[1:] + T42[:-1]) / 2)
    # A part of the grid does not reach for the pole.
    part = edges(grid(T42[:40], [0.0, 1.0]).lat)
    assert part[-1] < T42[40]


def test_geos_polar_rows_are_half_rows():
    e = edges(grid(*GRIDS["GEOS 4x5"]).lat)
    np.testing.assert_allclose(e[[0, 1, 2, -3, -2, -1]], [-90, -88, -84, 84, 88, 90])


def test_a_subset_with_gaps_keeps_its_areas():
    whole = cell_area(grid(*GRIDS["1"]))
    part = whole.isel(lat=[10, 11, 30, 90, 91], lon=[3, 4, 5, 200, 201])
    np.testing.assert_allclose(cell_area(part).values, part.values, rtol=1e-12)
    # 350..359 and 0..9 kept as they lie in a 0..360 file
    astride = grid(np.arange(40.5, 60), np.r_[np.arange(0.5, 10), np.arange(350.5, 360)])
    np.testing.assert_allclose(cell_area(astride).isel(lat=0), cell_area(astride)[0, 0].item(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"not adjacent between 4.5 and 20.5.*sort it, or reindex"):
        edges(grid([0.0, 1.0], [3.5, 4.5, 20.5, 21.5]).lon)


def test_single_row_and_column_take_the_width_of_the_other_axis():
    whole = cell_area(grid(*GRIDS["0.5"]))
    for part in (whole.isel(lat=[77]), whole.isel(lon=[5]), whole.isel(lat=[0]), whole.isel(lat=[359])):
        np.testing.assert_allclose(cell_area(part).values, part.values, rtol=1e-12)
    assert edges(whole.lat[[77]], step=0.5).tolist() == [-51.5, -51.0]
    with pytest.raises(ValueError, match=r"single latitude .* give step=, or put lat_bnds into a Dataset"):
        cell_area(whole.isel(lat=[3], lon=[3]))


def test_bounds_of_a_dataset_win():
    ds = grid([-45.0, 45.0], [90.0, 270.0])
    ds["lat_bnds"] = (("lat", "bnds"), [[-90.0, 10.0], [10.0, 90.0]])
    ds["lat"].attrs["bounds"] = "lat_bnds"
    area = cell_area(ds)
    assert float(area.sum()) == pytest.approx(SPHERE, rel=1e-13)
    assert float(area[0, 0]) == pytest.approx(SPHERE / 4 * (1 + np.sin(np.radians(10))), rel=1e-12)
    one = grid([0.0], [0.0])
    one["lat_bnds"] = (("lat", "bnds"), [[90.0, -90.0]])  # reversed
    one["lon_bnds"] = (("lon", "bnds"), [[-180.0, 180.0]])
    assert float(cell_area(one).sum()) == pytest.approx(SPHERE, rel=1e-13)


def test_wrapped_longitude_bounds_do_not_make_wide_cells():
    ds = grid([-45.0, 45.0], np.arange(-180.0, 180, 90))
    ds["lon_bnds"] = (("lon", "bnds"), [[135.0, -135.0], [-135, -45], [-45, 45], [45, 135]])
    np.testing.assert_allclose(cell_area(ds), SPHERE / 8, rtol=1e-13)


def test_bounds_that_do_not_hold_their_cell_raise():
    ds = grid([-45.0, 45.0], [90.0, 270.0])
    ds["lat_bnds"] = (("lat", "bnds"), [[0.0, 90.0], [-90.0, 0.0]])
    with pytest.raises(ValueError, match="do not hold its value -45"):
        cell_area(ds)


@pytest.mark.parametrize(
    "lon", [np.arange(0, 361, 1.0), np.arange(-180, 181, 1.0), np.r_[np.arange(0, 360, 1.0), 5 + 1e-6]]
)
def test_columns_that_occur_twice_raise(lon):
    with pytest.raises(ValueError, match=r"occurs twice modulo 360 in 'lon'.*isel\(lon=slice\(None, -1\)\)"):
        cell_area(grid(GRIDS["1"][0], lon))


@pytest.mark.parametrize("lon", [np.linspace(0.05, 359.95, 71), np.arange(-180, 180, 1.1), np.arange(0, 400, 50.0)])
def test_columns_that_overlap_after_one_turn_raise(lon):
    with pytest.raises(ValueError, match="do not fit into 360: the last and the first overlap"):
        cell_area(grid(GRIDS["1"][0], lon))
    np.testing.assert_allclose(cell_area(grid([0.0, 1.0], lon[:-2]))[0], cell_area(grid([0.0, 1.0], lon[:2]))[0, 0])


@pytest.mark.parametrize("step", [3.3, 0.7, 1.1, 0.05123])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_cells_keep_their_step(count, step):
    lat, lon = -23.4 + step * np.arange(count), 10 + step * np.arange(count)
    heights = np.sin(np.radians(lat + step / 2)) - np.sin(np.radians(lat - step / 2))
    expected = RADIUS**2 * heights[:, None] * np.radians(step) * np.ones(count)
    np.testing.assert_allclose(cell_area(grid(lat, lon)).values, expected, rtol=1e-9)
    single = cell_area(grid(lat.astype("float32"), lon.astype("float32"))).values
    np.testing.assert_allclose(single, expected, rtol=8e-6 / step)


def with_bounds(lat, lon, south_north=None, west_east=None) -> xr.Dataset:
    ds = grid(lat, lon)
    for name, bounds in {"lat": south_north, "lon": west_east}.items():
        if bounds is not None:
            ds[f"{name}_bnds"] = ((name, "bnds"), bounds)
            ds[name].attrs["bounds"] = f"{name}_bnds"
    return ds


def pairs(limits) -> np.ndarray:
    return np.stack([limits[:-1], limits[1:]], axis=1)


def regular(step: float, west=0.0, limits=(-90, 90, 360)) -> xr.Dataset:
    lat, lon = np.arange(limits[0], limits[1] + step / 2, step), np.arange(west, west + limits[2] + step / 2, step)
    return with_bounds(lat[:-1] + step / 2, lon[:-1] + step / 2, pairs(lat), pairs(lon))


STALE = {
    "coarsen 2 × 2": lambda ds: ds.coarsen(lat=2, lon=2).mean(),
    "coarsen 3 × 1": lambda ds: ds.coarsen(lat=3).mean(),
    "coarsen 1 × 5": lambda ds: ds.coarsen(lon=5).mean(),
    "coarsen, padded": lambda ds: ds.coarsen(lat=7, boundary="pad").mean(),
    "interp, coarser": lambda ds: ds.interp(lat=ds.lat.values[:-1:2] + 0.5),
    "interp, finer": lambda ds: ds.interp(lat=np.arange(31, 59, 0.5)),
    "reindex, coarser": lambda ds: ds.reindex(lat=ds.lat.values[:-1:2] + 0.5, method="nearest"),
    "reindex, finer": lambda ds: ds.reindex(lon=np.arange(-19.75, 39, 0.5), method="nearest"),
    "reindex, shifted": lambda ds: ds.reindex(lat=ds.lat.values + 0.1, method="nearest"),
    "another axis": lambda ds: ds.assign_coords(lat=ds.lat / 2),
    "every second row": lambda ds: ds.isel(lat=slice(None, None, 2)),
}
HOLED = {
    "interp beyond": lambda ds: ds.interp(lat=ds.lat.values + 0.5),
    "running means": lambda ds: ds.rolling(lat=3, center=True).mean(),
    "where": lambda ds: ds.where(ds.lat > ds.lat.mean()),
    "reindex, wider": lambda ds: ds.isel(lat=slice(3, -5)).reindex(lat=ds.lat),
}


@pytest.mark.parametrize("change", STALE)
@pytest.mark.parametrize("limits", [(-90, 90, 360), (30, 60, 60)])
def test_bounds_of_another_grid_raise_and_say_what_to_drop(change, limits):
    ds = regular(1.0, -20.0, limits)
    stale = STALE[change](ds)
    with pytest.raises(ValueError, match=r"do not fit '(lat|lon)'.* drop them, ds.drop_vars\('(lat|lon)_bnds'\)"):
        cell_area(stale)
    assert float(cell_area(ds).sum()) == pytest.approx(float(cell_area(ds.drop_vars(["lat_bnds", "lon_bnds"])).sum()))


@pytest.mark.parametrize("change", HOLED)
@pytest.mark.parametrize("limits", [(-90, 90, 360), (30, 60, 60)])
def test_bounds_of_some_cells_are_believed_where_the_others_fit_beside_them(change, limits):
    ds = HOLED[change](regular(1.0, -20.0, limits))
    assert ds.lat_bnds.isnull().any()
    xr.testing.assert_allclose(cell_area(ds), cell_area(ds.drop_vars(["lat_bnds", "lon_bnds"])), rtol=1e-12)


@pytest.mark.parametrize("rows", [2, 4, 8, 64, 160])
def test_bounds_of_gaussian_rows_are_not_symmetric(rows):
    nodes, weights = np.polynomial.legendre.leggauss(rows)
    lat, lon = np.degrees(np.arcsin(nodes)), np.arange(0, 360, 30.0)
    by_weight = np.degrees(np.arcsin(np.clip(np.r_[-1, np.cumsum(weights) - 1], -1, 1)))
    midway = np.r_[-90, (lat[1:] + lat[:-1]) / 2, 90]
    for limits in (by_weight, midway):
        area = cell_area(with_bounds(lat, lon, pairs(limits)))
        expected = RADIUS**2 * np.diff(np.sin(np.radians(limits))) * np.radians(30)
        np.testing.assert_allclose(area.isel(lon=3), expected, rtol=1e-9)
        turned = cell_area(with_bounds(lat[::-1], lon, pairs(limits)[::-1, ::-1]))
        np.testing.assert_allclose(turned.isel(lon=3), expected[::-1], rtol=1e-9)


LAT, LON = np.arange(-88.0, 89, 4), np.arange(2.0, 360, 4)
HALF_POLAR = np.r_[-90, np.arange(-88.0, 89, 2), 90]
CORNERS = np.array([-2, 2, 2, -2])
EDGES = {
    "beyond the poles": with_bounds(HALF_POLAR, LON, pairs(np.arange(-91, 92, 2.0))),
    "half rows at the poles": with_bounds(HALF_POLAR, LON, pairs(np.r_[-90, np.arange(-89, 90, 2), 90])),
    "round the seam": with_bounds(LAT, LON, west_east=(pairs(np.arange(0, 361, 4.0)) + 180) % 360 - 180),
    "closing at 0": with_bounds(LAT, LON, west_east=pairs(np.arange(0, 361, 4.0) % 360)),
    "narrower than their digits": with_bounds(LAT, LON, pairs(np.round(np.arange(-90, 91, 4) + 1e-4, 3))),
    "gone": with_bounds(LAT, LON).assign_coords(lat=("lat", LAT, {"bounds": "gone"})),
    "at every step": with_bounds(LAT, LON, pairs(np.arange(-90, 91, 4.0))).expand_dims(time=3),
    "four corners": grid(LAT, LON).assign(
        lat_bnds=(("lat", "nv"), LAT[:, None] + CORNERS), lon_bnds=(("lon", "nv"), (LON[:, None] + CORNERS) % 360)
    ),
    "four corners of every cell": grid(LAT, LON).assign(
        lon_bnds=(("lat", "lon", "nv"), np.tile((LON[:, None] + CORNERS) % 360, (len(LAT), 1, 1)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", EDGES)
def test_bounds_as_files_have_them(kind):
    area = cell_area(EDGES[kind])
    assert float(area.sum()) == pytest.approx(SPHERE, rel=2e-6 if "digits" in kind else 1e-12)
    np.testing.assert_allclose(area.isel(lon=0), area.isel(lon=44), rtol=1e-9)


@pytest.mark.parametrize(
    ("ds", "message"),
    [
        (with_bounds(LAT, LON, np.stack([LAT - 2.5, LAT + 2.5], 1)), "-88 and -84 overlap by 1 degrees"),
        (with_bounds(LAT, LON, np.stack([LAT - 1, LAT + 1], 1)), "2 degrees wide stand 4 degrees apart"),
        (with_bounds(LAT, LON, west_east=np.stack([LON - 1.6, LON + 2.4], 1)), r"do not hold its value 2 in their"),
        (with_bounds(LAT, LON, west_east=pairs(np.r_[np.arange(0, 360, 4.0), 180])), "hold its value 358 in their"),
        (
            xr.concat([with_bounds(LAT, LON, LAT[:, None] + [-2, d]) for d in (2, 2.1)], "time", data_vars="all"),
            r"change along \['time'\].*ds.drop_vars\('lat_bnds'\)",
        ),
    ],
)  # fmt: skip
def test_bounds_that_contradict_their_axis_raise(ds, message):
    with pytest.raises(ValueError, match=message):
        cell_area(ds)


def test_bounds_of_rows_picked_unevenly_are_believed():
    ds = regular(1.0)
    picked = ds.isel(lat=[3, 20, 22], lon=slice(5, 9))
    np.testing.assert_allclose(cell_area(picked), cell_area(ds).isel(lat=[3, 20, 22], lon=slice(5, 9)), rtol=1e-12)


def test_jitter_snaps():
    rng = np.random.default_rng(0)
    lat, lon = GRIDS["0.5"]
    jittered = grid(lat + rng.uniform(-1e-6, 1e-6, lat.size), lon + rng.uniform(-1e-6, 1e-6, lon.size))
    np.testing.assert_allclose(cell_area(jittered).values, cell_area(grid(lat, lon)).values, rtol=1e-9)
    assert float(cell_area(jittered).sum()) == pytest.approx(SPHERE, rel=1e-12)


def test_latitudes_beyond_the_pole_raise():
    with pytest.raises(ValueError, match=r"reach 93.5; drop those beyond ±90"):
        cell_area(grid([89.5, 91.5, 93.5], [0.0, 1.0]))


def test_nan_coordinates_raise():
    with pytest.raises(ValueError, match="not all finite"):
        cell_area(grid([0.0, np.nan], [0.0, 1.0]))


@pytest.mark.parametrize(
    ("lat", "lon", "attrs"),
    [
        ("latitude", "longitude", {}),
        ("Latitude", "Longitude", {}),
        ("y", "x", {"units": True}),
        ("rlat", "rlon", {"standard_name": True}),
        ("lat_FULL", "lon_FULL", {}),
        ("nav_lat", "nav_lon", {}),
        ("LAT", "long", {}),
        ("lat_1", "lon_1", {}),
        ("y", "x", {"axis": True}),
        ("y", "x", {"long_name": True}),
    ],
)
def test_standardise_finds_coordinates_by_name_or_attributes(lat, lon, attrs):
    da = xr.DataArray(np.zeros((3, 2, 4)), dims=("time", lat, lon), coords={lat: [1.0, 2.0], lon: [0.0, 1, 2, 3]})
    if "units" in attrs:
        da[lat].attrs["units"], da[lon].attrs["units"] = "degrees_north", "degrees_east"
    if "standard_name" in attrs:
        da[lat].attrs["standard_name"], da[lon].attrs["standard_name"] = "latitude", "longitude"
    if "axis" in attrs:
        da[lat].attrs, da[lon].attrs = {"axis": "Y", "units": "degrees"}, {"axis": "X", "units": "degrees"}
    if "long_name" in attrs:
        da[lat].attrs["long_name"], da[lon].attrs["long_name"] = "Latitude", "Longitude"
    assert standardise(da).dims == ("time", "lat", "lon")
    assert cell_area(da).dims == ("lat", "lon")
    assert da.flux.cell_area().shape == (2, 4)


def test_standardise_keeps_order_and_laziness():
    ds = xr.Dataset(
        {"x": (("longitude", "latitude"), np.zeros((4, 2)))}, {"latitude": [2.0, 1.0], "longitude": [0.0, 1, 2, 3]}
    )
    result = standardise(ds.chunk())
    assert result.x.dims == ("lon", "lat")
    assert result.x.chunks is not None
    assert result.lat.values.tolist() == [2, 1]


def test_curvilinear_and_missing_coordinates_get_clear_errors():
    two = xr.Dataset({"x": (("y", "x_"), np.zeros((2, 3)))}, {"lat": (("y", "x_"), np.zeros((2, 3)))})
    with pytest.raises(ValueError, match=r"two-dimensional.*curvilinear grid.*regrid first"):
        cell_area(two)
    with pytest.raises(ValueError, match="no latitude found: the dimensions are"):
        cell_area(xr.DataArray(np.zeros(3), dims="region"))
    with pytest.raises(ValueError, match="has no coordinate: assign its latitudes"):
        cell_area(xr.DataArray(np.zeros((3, 2)), dims=("lat", "lon")))
    radians = grid([0.0, 0.1], [0.0, 0.1])
    radians["lat"].attrs["units"] = "radians"
    with pytest.raises(ValueError, match="'lat' is in 'radians'"):
        cell_area(radians)
    both = xr.DataArray(np.zeros((2, 2, 2)), dims=("lat", "latitude", "lon"))
    both = both.assign_coords(lat=[0.0, 1], latitude=[0.0, 1], lon=[0.0, 1]).rename(lat="nav_lat")
    with pytest.raises(ValueError, match="several dimensions look like latitude"):
        cell_area(both)


@pytest.mark.parametrize("name", ["lat", "XLAT", "TLAT", "geolat", "lat2d", "A"])
@pytest.mark.parametrize("dims", [("y", "x"), ("Time", "y", "x")])
@pytest.mark.parametrize("coords", [True, False])
def test_curvilinear_grids_are_called_so(name, dims, coords):
    said = {"units": "degrees_north"} if name == "A" else {}
    plane = np.zeros((1, 2, 3)[-len(dims) :])
    ds = xr.Dataset({"nee": (dims, plane), name: (dims, plane, said), "latent_heat": (dims, plane)})
    with pytest.raises(ValueError, match=f"{name!r} is .*curvilinear grid.*regrid first"):
        cell_area(ds.set_coords(name)["nee"] if coords else ds)
    with pytest.raises(ValueError, match="no latitude found"):
        cell_area(ds.drop_vars(name))


@pytest.mark.parametrize("tilt", [0.01, 0.0])
def test_two_dimensional_coordinates_that_do_not_repeat_or_are_all_the_same_are_curvilinear(tilt):
    lat, lon = np.meshgrid([0.0, 1.0], [0.0, 1.0, 2.0], indexing="ij") if tilt else np.zeros((2, 2, 3))
    coords = {"nav_lat": (("y", "x"), lat), "nav_lon": (("y", "x"), lon + tilt * lat)}
    with pytest.raises(ValueError, match=r"'nav_lat' is two-dimensional.*curvilinear grid.*regrid first"):
        cell_area(xr.DataArray(lat, coords, ("y", "x")))


@pytest.mark.parametrize("dims", [("y", "x"), ("lon", "lat"), ("lat", "lon")])
@pytest.mark.parametrize("size", [3, 1])
def test_two_dimensional_coordinates_that_repeat_are_a_regular_grid(dims, size):
    lat, lon = np.arange(size) * 10.0 + 5, np.arange(4.0) * 5
    swapped = dims == ("lon", "lat")
    fields = [a.T if swapped else a for a in np.meshgrid(lat, lon, indexing="ij")]
    coords = {"nav_lat": (dims, fields[0]), "nav_lon": (dims, fields[1])}
    da = xr.DataArray(fields[0] + fields[1], dims=dims, coords=coords)
    for obj in (da, da.to_dataset(name="nee")):
        found = standardise(obj)
        np.testing.assert_array_equal(found.lat, lat)
        np.testing.assert_array_equal(found.lon, lon)
        values = found if obj is da else found["nee"]
        np.testing.assert_array_equal(values.transpose("lat", "lon"), lat[:, None] + lon)


def test_rotated_and_projected_axes_are_no_latitudes():
    rotated = {"rlat": "grid_latitude", "lat": "grid_latitude", "y": "projection_y_coordinate"}
    for name, standard in rotated.items():
        da = xr.DataArray(np.zeros((2, 2)), {name: [0.0, 1], "lon": [0.0, 1]}, (name, "lon"))
        da[name].attrs |= {"standard_name": standard, "units": "degrees", "axis": "Y"}
        with pytest.raises(ValueError, match=f"{name!r} is .* rotated .*regrid first"):
            cell_area(da)


def test_coordinates_along_dimensions_of_other_names():
    """lat(y), lon(x): the same grid, with its dimensions renamed; a list of points is none."""
    lat, lon = GRIDS["2.5x3.75"]
    values = np.zeros((len(lat), len(lon)))
    da = xr.DataArray(values, {"lat": ("y", lat), "lon": ("x", lon)}, ("y", "x"))
    assert standardise(da).dims == ("lat", "lon")
    np.testing.assert_array_equal(cell_area(da).values, cell_area(grid(lat, lon)).values)
    assert standardise(da.rename(lat="latitude", lon="longitude").to_dataset(name="a")).sizes["lat"] == len(lat)
    points = xr.DataArray(np.zeros(5), {"lat": ("cell", np.arange(5.0)), "lon": ("cell", np.arange(5.0))}, ("cell",))
    with pytest.raises(ValueError, match=r"'lat' lies along the dimension 'cell' together .* a list of points"):
        standardise(points)
    with pytest.raises(ValueError, match="a list of points or an unstructured grid"):
        standardise(points.to_dataset(name="nee").reset_coords().rename(lat="latCell", lon="lonCell"))
    apart = da.to_dataset(name="a").reset_coords()  # a file that names no coordinates
    assert standardise(apart).a.dims == ("lat", "lon")


def test_points_at_the_poles_beside_cell_centres_are_not_gaps():
    lat = np.r_[-90, np.arange(-85.0, 90, 10), 90]
    np.testing.assert_allclose(cell_area(grid(lat, np.arange(5.0, 360, 10))).sum(), SPHERE, rtol=1e-12)


def test_bounds_that_are_missing_or_empty_raise():
    lat, lon = np.arange(-85.0, 90, 10), np.arange(5.0, 360, 10)
    good = np.stack([lat - 5, lat + 5], axis=1)
    for bad, message in ((good * np.nan, "hold missing values"), (good[:, [0, 0]], "at -85 enclose nothing")):
        ds = grid(lat, lon).assign(lat_bnds=(("lat", "bnds"), bad))
        with pytest.raises(ValueError, match=message):
            cell_area(ds)


def test_a_dataset_with_a_variable_called_flux_has_cells():
    ds = grid(*GRIDS["1"]).assign(flux=(("lat", "lon"), np.ones((180, 360))))
    assert float(ds.flux.cell_area().sum()) == pytest.approx(SPHERE, rel=1e-12)


@pytest.mark.skipif(shutil.which("cdo") is None, reason="cdo is not installed")
def test_equal_to_cdo_gridarea(tmp_path):
    # CDO joins the corners by great circles; where cells are small the two agree.
    ds = grid(np.arange(40.05, 42, 0.1), np.arange(-3.95, 0, 0.1))
    ds["lat"].attrs["units"], ds["lon"].attrs["units"] = "degrees_north", "degrees_east"
    ds.assign(x=(("lat", "lon"), np.ones((ds.sizes["lat"], ds.sizes["lon"])))).to_netcdf(tmp_path / "in.nc")
    command = ["cdo", "-s", "gridarea", str(tmp_path / "in.nc"), str(tmp_path / "out.nc")]
    subprocess.run(command, check=True, env={"PLANET_RADIUS": "6371000", "PATH": "/usr/bin:/bin:/usr/local/bin"})
    with xr.open_dataset(tmp_path / "out.nc") as out:
        np.testing.assert_allclose(cell_area(ds).values, out["cell_area"].values, rtol=1e-6)


# --- the same cells ---
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("step", [0.05, 0.5, 2.0])
@given(shift=st.integers(0, 35), turns=st.integers(-1, 1), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_positions_find_cells_in_any_order_and_convention(step, dtype, shift, turns, seed):
    lat, lon = np.arange(-12, 12) * step + step / 2, np.arange(-12, 12) * step - step / 2
    rows = np.random.default_rng(seed).permutation(24)[: 24 - seed]
    columns = np.roll(np.arange(24), shift)
    wanted = grid(lat[rows].astype(dtype), (lon[columns] + 360 * turns).astype(dtype))
    found = positions(grid(lat, lon), wanted)
    np.testing.assert_array_equal(found[0], rows)
    np.testing.assert_array_equal(found[1], columns)


def test_the_same_cells_are_the_same_to_a_thousandth():
    here = grid(np.arange(-9.75, 10, 0.5), np.arange(0.25, 20, 0.5))
    for off, same in ((3e-4, True), (6e-4, False)):
        there = here.assign_coords(lat=here.lat + off)
        assert same_grid(here, there) == same
    with pytest.raises(ValueError, match=r"40 of 40 latitudes .* the drivers, the first -9.7494 .*nearest is -9.75"):
        positions(here, there, of="the drivers")
    with pytest.raises(ValueError, match=r"1 of 3 longitudes are no cells of the other grid, the first 20.25"):
        positions(here, grid([0.25], [0.25, 20.25, 0.75]))
    assert positions(here, there, tolerance=0.5)[0].tolist() == list(range(40))
    assert not same_grid(here, here.isel(lat=slice(1, None)))


def test_the_nearest_value_is_found_over_the_seam():
    rng = np.random.default_rng(0)
    have, want = rng.uniform(-180, 180, 50), rng.uniform(0, 360, 200)
    index, apart = nearest(have, want, "lon")
    gaps = np.abs((have[None] - want[:, None] + 180) % 360 - 180)
    np.testing.assert_array_equal(index, gaps.argmin(axis=1))
    np.testing.assert_allclose(apart, gaps.min(axis=1), atol=1e-9)


# --- regridding ---
def a_flux(lat_step=10.0, lon_step=10.0, west=0.0, basis="cell", seed=0, steps=2) -> xr.DataArray:
    lat, lon = np.arange(-90 + lat_step / 2, 90, lat_step), west + np.arange(lon_step / 2, 360, lon_step)
    values = np.random.default_rng(seed).normal(size=(steps, lat.size, lon.size))
    attrs = {"units": "gC m-2 d-1", "area_basis": basis}
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("time", "lat", "lon"), name="nee", attrs=attrs)


def integral(da, land=1.0):
    return (da * cell_area(da) * land).sum(("lat", "lon")).values


@pytest.mark.parametrize("chunks", [None, {"time": 1, "lat": 5}])
@pytest.mark.parametrize("target", [(15.0, 24.0, -180.0), (2.5, 3.75, -7.0), (7.5, 90.0, 0.0)])
def test_the_integral_of_a_flux_is_kept(target, chunks):
    da = a_flux().where(lambda x: x > -1)
    out = (da if chunks is None else da.chunk(chunks)).flux.regrid(a_flux(*target))
    assert (out.chunks is None) == (chunks is None)
    np.testing.assert_allclose(integral(out), integral(da), rtol=1e-10)
    assert (out.dims, out.name, out.attrs) == (da.dims, da.name, da.attrs)
    np.testing.assert_array_equal(out.lon, a_flux(*target).lon)


def test_a_flux_of_land_is_a_mean_over_its_land():
    land = xr.DataArray(np.random.default_rng(1).random((18, 36)), a_flux().isel(time=0).coords, ("lat", "lon"))
    land = land.where(land > 0.3, 0)
    ds = a_flux(basis="land").where(land > 0).to_dataset().assign(land_fraction=land, month=("time", [1, 2]))
    out = ds.flux.regrid(a_flux(15.0, 24.0, -180.0))
    np.testing.assert_allclose(integral(out.nee, out.land_fraction), integral(ds.nee, ds.land_fraction), rtol=1e-10)
    assert out.nee.attrs["area_basis"] == "land" and out.month.values.tolist() == [1, 2]
    alone = xr.ones_like(ds.nee).where(land > 0.6)
    alone = alone.assign_attrs(ds.nee.attrs).flux.regrid(a_flux(30.0, 40.0))
    np.testing.assert_allclose(alone.fillna(1), 1, rtol=1e-12)


def test_missing_cells_add_nothing_to_a_flux_of_the_cell():
    da = xr.ones_like(a_flux()).assign_attrs(a_flux().attrs)
    da = da.where(da.lat > 0).where(da.lon > 10)
    out = da.flux.regrid(a_flux(20.0, 20.0))
    assert out.sel(lat=-20).isnull().all()
    share = float(np.sin(np.radians(10)) / (2 * np.sin(np.radians(10))))
    np.testing.assert_allclose(out.sel(lat=0)[0, 1:], share, rtol=1e-12)
    assert out.sel(lon=10, lat=20)[0].item() == pytest.approx(0.5)
    warm = da.assign_attrs(units="degC", cell_measures="area: areacella", actual_range=[1, 1]).flux.regrid(
        a_flux(20.0, 20.0)
    )
    assert warm.sel(lon=10, lat=20)[0].item() == 1 and not {"cell_measures", "actual_range"} & set(warm.attrs)


def test_regridding_uses_the_cells_of_a_dataset():
    nodes, weights = np.polynomial.legendre.leggauss(6)
    limits = np.degrees(np.arcsin(np.clip(np.r_[-1, np.cumsum(weights) - 1], -1, 1)))
    lon = np.arange(10.0, 360, 20)
    ds = with_bounds(np.degrees(np.arcsin(nodes)), lon, pairs(limits))
    ds["nee"] = xr.DataArray(np.random.default_rng(0).random((6, 18)), dims=("lat", "lon"), attrs=a_flux().attrs)
    out = ds.flux.regrid(a_flux(15.0, 24.0)).nee
    assert integral(out).item() == pytest.approx((ds.nee * cell_area(ds)).sum().item(), rel=1e-10)
    with pytest.raises(ValueError, match=r"drop them, ds.drop_vars\('lat_bnds'\)"):
        ds.coarsen(lat=2).mean().flux.regrid(a_flux(15.0, 24.0))


def test_what_cannot_be_regridded_is_refused_and_an_unknown_basis_is_said():
    coarse = a_flux(20.0, 20.0)
    with pytest.raises(ValueError, match="an amount of each cell, which has no mean: divide it by"):
        a_flux().assign_attrs(units="gC d-1").flux.regrid(coarse)
    with pytest.raises(ValueError, match="area_basis='sea'"):
        regrid(a_flux(), coarse, area_basis="sea")
    bare = a_flux().assign_attrs(area_basis=None)
    with pytest.warns(UserWarning, match="area_basis 'cell' is assumed"):
        assert bare.flux.regrid(coarse).attrs["area_basis_assumed"] == 1


def test_the_same_cells_are_only_put_in_order():
    da = a_flux()
    turned = da.isel(lat=slice(None, None, -1)).roll(lon=7, roll_coords=True)
    turned = turned.assign_coords(lon=(turned.lon.astype("float32") + 180) % 360 - 180)
    np.testing.assert_array_equal(regrid(turned, da).values, da.values)


def ones(off=0.0, units="gC m-2 d-1", **attrs) -> xr.DataArray:
    """A flux on 8 × 10 cells of 0.5°, moved to the east by ``off`` degrees."""
    lat, lon = np.arange(40.25, 44, 0.5), np.arange(5.25, 10, 0.5) + off
    return xr.DataArray(
        np.ones((8, 10)), {"lat": lat, "lon": lon}, ("lat", "lon"), name="nee", attrs={"units": units, **attrs}
    )


def with_weights(one, other):
    weights = xflux.region_weights(one, xr.ones_like(one).astype(int), area_basis="cell")
    return other.assign_attrs(area_basis="cell").flux.aggregate_regions(weights, units="gC d-1")


def with_fire_on_land(one, other):
    return xflux.adjust.add_fire(
        one.assign_attrs(area_basis="land"), other.rename("fire").assign_attrs(area_basis="land")
    )


ROOMS = {
    "coasts": lambda one, other: xflux.drivers.fill_nearest(one.to_dataset(), other > 0),
    "scores": lambda one, other: one.expand_dims(time=3).flux.score(other.expand_dims(time=3), dim="time"),
    "weights": with_weights,
    "adjustments": with_fire_on_land,
    "study": lambda one, other: on_cells(one, other, "a file"),
}


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_rooms_agree_on_which_cells_are_the_same(room):
    for off in (3e-4, 360.0, -360 + 3e-4):
        ROOMS[room](ones(), ones(off))
        ROOMS[room](ones(), ones(off).astype("float32").assign_coords(lon=ones(off).lon.astype("float32")))
    for off in (2e-3, 0.1, 0.25):
        with pytest.raises(ValueError):
            ROOMS[room](ones(), ones(off))


def test_bounds_may_number_their_vertices():
    bounds = np.array([[-90.0, -80.0], [-80.0, 0.0], [0.0, 80.0], [80.0, 90.0]])
    ds = xr.Dataset(
        {"lat_bnds": (("lat", "nv"), bounds)}, {"lat": [-85.0, -30, 30, 85], "lon": [0.0, 180], "nv": [0, 1]}
    )
    np.testing.assert_array_equal(cell_area(ds), cell_area(ds.drop_vars("nv")))
    assert cell_area(ds)[0, 0] < cell_area(ds)[1, 0] / 10
