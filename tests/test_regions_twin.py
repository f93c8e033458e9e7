"""Region sums against ten plain lines of NumPy: every way of giving regions, both bases, with and without land."""

import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xflux.cells import RADIUS
from xflux.regions import aggregate_regions, region_weights
from xflux.regions.kernel import CellLists, weighted_sums

LAT, LON = np.arange(-75.0, 90, 30), np.arange(-150.0, 180, 60)
COORDS = {"lat": LAT, "lon": LON}
SINE = np.sin(np.radians(LAT[:, None] + [-15, 15]))
AREA = RADIUS**2 * np.radians(60) * np.diff(SINE, axis=1) * np.ones(LON.size)
BOXES = [(-170, -40, 20, 55), (20, -40, 100, 55), (150, -85, -170, 80)]  # the last one over the dateline


def twin(values, share, basis, land):
    """Sum and valid fraction of each region, and the sum over the globe."""
    covered = share.sum(0)
    known = np.maximum(covered, 1.0 if land is None and basis == "cell" else 0.0 if land is None else land)
    cell = AREA if basis == "cell" else AREA * (known if land is None else land)
    weight = np.divide(cell * share, known, out=np.zeros_like(share), where=known > 0)
    valid = np.isfinite(values)
    sums = np.where(valid, weight * values, 0).sum((1, 2)) / 1e15
    there = (weight * valid).sum((1, 2))
    fraction = np.divide(there, weight.sum((1, 2)), out=np.zeros(len(share)), where=there > 0)
    return np.where(there > 0, sums, np.nan), fraction, np.where(valid, cell * values, 0).sum() / 1e15


def box_shares():
    """What the boxes cover of each cell: of its height in sin φ, of its width."""
    shares = []
    for west, south, east, north in BOXES:
        low, high = np.sin(np.radians([south, north]))
        height = np.clip(np.minimum(SINE[:, 1], high) - np.maximum(SINE[:, 0], low), 0, None) / np.diff(SINE)[:, 0]
        east = east if east > west else east + 360
        width = sum(
            np.clip(np.minimum(LON + 30 + turn, east) - np.maximum(LON - 30 + turn, west), 0, None) / 60
            for turn in (0, 360)
        )
        shares.append(height[:, None] * width)
    return np.array(shares)


def regions_of(way, rng):
    """Regions as a user gives them, and the share of each cell that each covers."""
    field = ("lat", "lon")
    if way == "labels":
        labels = rng.integers(-1, 3, size=AREA.shape)
        labels.flat[:3] = range(3)
        return xr.DataArray(labels, COORDS, field), (labels == np.arange(3)[:, None, None]).astype(float)
    if way == "fractions":
        share = np.moveaxis(rng.dirichlet(np.ones(4), size=AREA.shape), -1, 0)[:3]
        return xr.DataArray(share, {"region": list("abc"), **COORDS}, ("region", *field)), share
    if way == "boxes":
        return BOXES, box_shares()
    shapes = [shapely.box(w, s, e if e > w else e + 360, n) for w, s, e, n in BOXES]
    return geopandas.GeoSeries(shapes), box_shares()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["labels", "fractions", "boxes", "polygons"]),
    st.sampled_from(["cell", "land"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_sums_are_those_of_plain_numpy(way, basis, with_land, as_weights, seed):
    rng = np.random.default_rng(seed)
    regions, share = regions_of(way, rng)
    values = np.where(rng.uniform(size=AREA.shape) < 0.3, np.nan, rng.normal(size=AREA.shape))
    attrs = {"units": "gC m-2 d-1", "area_basis": basis}
    flux = xr.DataArray(values, COORDS, ("lat", "lon"), attrs=attrs)
    land = xr.DataArray(rng.uniform(size=AREA.shape), COORDS, ("lat", "lon")) if with_land else None
    if as_weights:
        regions = region_weights(flux, regions, land_fraction=land)
    whole = not (way == "polygons" and basis == "land" and not with_land)  # the rest is Natural Earth's land then
    out = aggregate_regions(flux, regions, "PgC d-1", land_fraction=land, include_global=whole)
    sums, fraction, globe = twin(values, share, basis, None if land is None else land.values)
    np.testing.assert_allclose(out[:3], sums, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(out.valid_fraction[:3], fraction, rtol=1e-9)
    if whole:
        np.testing.assert_allclose(out.sel(region="GLOBAL"), globe, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.nansum(out[:3]) + out.unassigned, globe, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("basis", ["cell", "land"])
@pytest.mark.parametrize("way", ["labels", "fractions", "boxes", "polygons"])
def test_a_cut_out_of_the_globe_is_valid_in_part(way, basis):
    """The same as the whole grid with NaN outside the cut-out, whose regions are named in a warning."""
    rng = np.random.default_rng(3)
    regions, _ = regions_of(way, rng)
    attrs = {"units": "gC m-2 d-1", "area_basis": basis}
    flux = xr.DataArray(rng.normal(size=AREA.shape), COORDS, ("lat", "lon"), attrs=attrs)
    inside = {"lat": slice(2, 5), "lon": slice(0, 3)}
    padded = flux.isel(inside).reindex_like(flux).assign_attrs(attrs)
    expected = aggregate_regions(padded, regions, "PgC d-1")
    with pytest.warns(UserWarning, match=r"the grid covers only a part of .* \(\d+"):
        out = aggregate_regions(flux.isel(inside), regions, "PgC d-1")
    np.testing.assert_allclose(out, expected, rtol=1e-9)
    np.testing.assert_allclose(out.valid_fraction, expected.valid_fraction, rtol=1e-9)
    weights = region_weights(flux, regions)
    with pytest.warns(UserWarning, match="covers only a part"):
        cut = aggregate_regions(flux.isel(inside), weights, "PgC d-1")
    np.testing.assert_allclose(cut.valid_fraction, expected.valid_fraction, rtol=1e-9)


@pytest.mark.parametrize("kind", ["float32", "float64", "int16"])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_loop_sums_as_plain_numpy_whole_and_in_windows(threads, kind):
    rng = np.random.default_rng(0)
    weight = rng.uniform(size=(3, 60, 120)) * (rng.uniform(size=(3, 60, 120)) < [[[0.9]], [[0.3]], [[0.0]]])
    values, factor = rng.normal(scale=50, size=(2, 4, 60, 120)).astype(kind), rng.uniform(size=7200)
    if kind != "int16":
        values[rng.uniform(size=values.shape) < 0.2] = np.nan
    flat = weight.reshape(3, 7200)
    start = np.cumsum([0, *(flat > 0).sum(1)])
    plan = CellLists(start, np.nonzero(flat)[1].astype("int32"), flat[flat > 0]).scaled(factor)
    plain = weight * factor.reshape(60, 120)
    expected = [np.einsum("abij,rij->abr", part, plain) for part in (np.nan_to_num(values), np.isfinite(values) * 1.0)]
    found = weighted_sums(values, plan, threads)
    np.testing.assert_allclose(np.moveaxis(found, -2, 0), expected, rtol=1e-6 if kind == "float32" else 1e-12)
    pieces = plan.windows((20, 39, 1), (70, 50))
    rows, columns = ([slice(0, 20), slice(20, 59), slice(59, 60)], [slice(0, 70), slice(70, 120)])
    together = sum(
        weighted_sums(values[..., r, c], pieces[i, j]) for i, r in enumerate(rows) for j, c in enumerate(columns)
    )
    np.testing.assert_allclose(together, found, rtol=1e-12)


def test_the_loop_carries_along_what_rounding_loses():
    values = np.zeros((60, 120))
    values.flat[[0, 1000, 5000]] = 1e16, 1.0, -1e16  # one after another: 0
    plan = CellLists(np.array([0, 7200]), np.arange(7200, dtype="int32"), np.ones(7200))
    assert weighted_sums(values, plan)[0, 0] == 1.0
