"""Kinds of regions: label and fraction masks, land fractions and bases, weights made earlier, files, TransCom."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_regions import GRIDS, axes, flux, globe

from xflux.cells import RADIUS, cell_area
from xflux.regions import aggregate_regions, latitude_band_limits, load_weights, region_weights, save_weights

rng = np.random.default_rng(42)


# --- masks ---------------------------------------------------------------------------------------------------------
def mask_of(coords, values, **attrs):
    return xr.DataArray(values, coords, ("lat", "lon"), name="biome", attrs=attrs)


def test_label_mask_zero_is_a_region_nan_and_negatives_are_none():
    coords = axes(10.0)
    values = rng.integers(-2, 4, size=(18, 36)).astype(float)
    values[0, 0] = np.nan
    da = flux(coords)
    out = aggregate_regions(da, mask_of(coords, values), "PgC d-1")
    assert list(out.region.values) == [0, 1, 2, 3] and out.attrs["regions"] == "biome"
    weighted = (da * cell_area(da)).values
    np.testing.assert_allclose(out.values, [weighted[values == k].sum() / 1e15 for k in range(4)], rtol=1e-12)
    assert out.unassigned.item() == pytest.approx(weighted[~(values >= 0)].sum() / 1e15, rel=1e-12)
    with_global = aggregate_regions(da, mask_of(coords, values), "PgC d-1", include_global=True)
    assert list(with_global.region.values) == ["0", "1", "2", "3", "GLOBAL"]


@pytest.mark.parametrize(
    "meanings, flags",
    [("sea land ice", [0, 1, 2]), (["sea", "land", "ice"], "0 1 2"), ("sea land ice", np.int8([0, 1, 2]))],
)
def test_label_mask_takes_names_from_flag_meanings(meanings, flags):
    coords = axes(10.0)
    mask = mask_of(coords, rng.integers(1, 3, size=(18, 36)), flag_meanings=meanings, flag_values=flags)
    assert list(aggregate_regions(flux(coords), mask, "PgC d-1").region.values) == ["land", "ice"]


def test_boolean_and_text_masks():
    coords = axes(10.0)
    da, inside = flux(coords), rng.uniform(size=(18, 36)) > 0.5
    one = aggregate_regions(da, mask_of(coords, inside), "PgC d-1")
    named = aggregate_regions(da, mask_of(coords, np.where(inside, "in", "")), "PgC d-1")
    assert list(one.region.values) == [1] and list(named.region.values) == ["in"]
    np.testing.assert_allclose(one.values, named.values, rtol=1e-13)


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        (lambda m: np.where(m == 0, 255, m).astype("u1"), [1, 2, 255]),
        (lambda m: m.astype("i1"), [0, 1, 2]),
        (lambda m: m.astype(">i2"), [0, 1, 2]),
        (lambda m: np.where(m == 0, np.nan, m).astype("f4"), [1, 2]),
        (lambda m: np.where(m == 0, np.inf, m), [1, 2]),
        (lambda m: np.where(m == 0, None, m.astype(object)), [1, 2]),
        (lambda m: np.where(m == 0, pd.NA, m.astype(object)), [1, 2]),
        (lambda m: np.where(m == 0, np.nan, np.array(["x", "y", "z"], object)[m]), ["y", "z"]),
        (lambda m: np.where(m == 0, pd.NA, np.array(["x", "y", "z"], object)[m]), ["y", "z"]),
        (lambda m: np.array([b"x", b"y", b""])[m], ["x", "y"]),
        (lambda m: np.array(["x", "y", ""], np.dtypes.StringDType())[m], ["x", "y"]),
    ],
)
def test_label_masks_of_any_dtype(change, labels):
    coords = axes(10.0)
    numbers = rng.integers(0, 3, size=(18, 36))
    da, mask = flux(coords), mask_of(coords, change(numbers))
    out = aggregate_regions(da, mask, "PgC d-1")
    assert out.region.values.tolist() == labels
    weighted = (da * cell_area(da)).values / 1e15
    kept = {1: [1, 2], 255: [1, 2, 0], "y": [1, 2], "x": [0, 1], 0: [0, 1, 2]}
    order = kept[labels[-1] if labels[-1] == 255 else labels[0]]
    np.testing.assert_allclose(out.values, [weighted[numbers == k].sum() for k in order], rtol=1e-12)


def test_fill_values_are_no_labels():
    coords = axes(10.0)
    numbers = rng.integers(0, 3, size=(18, 36))
    filled = mask_of(coords, np.where(numbers == 0, 255, numbers).astype("u1"), _FillValue=np.uint8(255))
    assert aggregate_regions(flux(coords), filled, "PgC d-1").region.values.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"holds 1e\+20, which is no label: mask fill values as NaN"):
        aggregate_regions(flux(coords), mask_of(coords, np.where(numbers == 0, 1e20, numbers)), "PgC d-1")


def test_masks_that_are_no_masks():
    coords = axes(10.0)
    da = flux(coords)
    with pytest.raises(ValueError, match=r"integers ≥ 0, but 'biome' holds 0.5; fractions .* dim 'region'"):
        aggregate_regions(da, mask_of(coords, np.full((18, 36), 0.5)), "PgC d-1")
    with pytest.raises(ValueError, match="holds no value ≥ 0"):
        aggregate_regions(da, mask_of(coords, np.full((18, 36), -1)), "PgC d-1")
    percent = mask_of(coords, np.full((18, 36), 40.0)).expand_dims(region=["a"])
    with pytest.raises(ValueError, match="lie between 0 and 1, but 'biome' reaches from 0 to 40"):
        aggregate_regions(da, percent, "PgC d-1")
    with pytest.raises(ValueError, match=r"fraction mask has the dims \(region, lat, lon\)"):
        aggregate_regions(da, mask_of(coords, np.ones((18, 36))).expand_dims(region=1, level=2), "PgC d-1")
    with pytest.raises(ValueError, match=r"label mask has the dims \(lat, lon\), not \('level', 'lat', 'lon'\)"):
        aggregate_regions(da, mask_of(coords, np.ones((18, 36))).expand_dims(level=2), "PgC d-1")
    ones = mask_of(coords, np.ones((18, 36))).expand_dims(time=2)
    with pytest.raises(ValueError, match="the mask changes along 'time': select one"):
        aggregate_regions(da, ones * xr.DataArray([1, 2], dims="time"), "PgC d-1")


def test_masks_as_files_have_them():
    """Repeated along time, in percent, beside the area of the cells."""
    coords = axes(10.0)
    da, share = flux(coords), fractions(coords, 3)
    expected = aggregate_regions(da, share, "PgC d-1")
    percent = (100 * share).assign_attrs(units="%").expand_dims(time=2)
    xr.testing.assert_allclose(aggregate_regions(da, percent, "PgC d-1"), expected)
    labels = mask_of(coords, np.arange(18 * 36).reshape(18, 36) % 3)
    beside = xr.Dataset({"basin": labels.expand_dims(time=2), "area": cell_area(da).assign_attrs(units="m2")})
    for given in (beside.isel(time=0), labels.expand_dims(time=2)):
        xr.testing.assert_allclose(aggregate_regions(da, given, "PgC d-1"), aggregate_regions(da, labels, "PgC d-1"))


def fractions(coords, regions, cover=1.0, dtype="f8", seed=1):
    values = np.random.default_rng(seed).dirichlet(np.ones(regions + 1), size=(coords["lat"].size, coords["lon"].size))
    values = np.moveaxis(values, -1, 0)[:regions] if cover < 1 else np.moveaxis(values, -1, 0)
    names = [f"r{i}" for i in range(len(values))]
    return xr.DataArray(values.astype(dtype), {"region": names, **coords}, ("region", "lat", "lon"), name="share")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("basis", ["cell", "land"])
def test_fraction_mask_that_fills_the_cells(basis, dtype):
    coords = axes(10.0)
    da, share = flux(coords, basis=basis), fractions(coords, 4, dtype=dtype)
    out = aggregate_regions(da, share, "PgC d-1")
    expected = (share * da * cell_area(da)).sum(("lat", "lon")) / 1e15
    np.testing.assert_allclose(out.values, expected.values, rtol=1e-12 if dtype == "f8" else 1e-6)
    total = globe(da).item() / 1e15
    assert (out.sum() + out.unassigned).item() == pytest.approx(total, rel=1e-6 if dtype == "f4" else 1e-12)


def test_fraction_mask_carries_its_own_land():
    """Without a land fraction, land is what the regions cover, on either basis."""
    coords = axes(10.0)
    share = fractions(coords, 4, cover=0.5)
    area = cell_area(share)
    for basis in ("land", "cell"):
        weights = region_weights(share, share, basis).sum(("lat", "lon")).data.todense()
        np.testing.assert_allclose(weights, (share * area).sum(("lat", "lon")), rtol=1e-12)
    shared = region_weights(share, share, "cell", share.sum("region")).sum(("lat", "lon")).data.todense()
    np.testing.assert_allclose(shared, (share / share.sum("region") * area).sum(("lat", "lon")), rtol=1e-12)
    assert aggregate_regions(flux(coords, basis="land"), share, "PgC d-1").unassigned.item() == 0


def test_land_fraction_beside_a_fraction_mask():
    """A region never takes more of the cell's land than it covers of the cell."""
    coords = axes(10.0)
    share = fractions(coords, 4, cover=0.5)
    land = mask_of(coords, np.full((18, 36), 1.0))
    out = region_weights(share, share, "land", land).sum(("lat", "lon")).data.todense()
    np.testing.assert_allclose(out, (share * cell_area(share)).sum(("lat", "lon")), rtol=1e-12)
    own = region_weights(share, share, "land", share.sum("region")).sum(("lat", "lon")).data.todense()
    np.testing.assert_allclose(own, out, rtol=1e-12)


def test_land_fraction_scales_label_masks_and_bands():
    coords = axes(10.0)
    land = mask_of(coords, rng.uniform(size=(18, 36)))
    da, labels = flux(coords, basis="land"), rng.integers(0, 3, size=(18, 36))
    weighted = (da * cell_area(da) * land).values / 1e15
    out = aggregate_regions(da, mask_of(coords, labels), "PgC d-1", land_fraction=land)
    np.testing.assert_allclose(out.values, [weighted[labels == k].sum() for k in range(3)], rtol=1e-12)
    bands = aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=land)
    np.testing.assert_allclose(bands.values, weighted.sum(axis=1), rtol=1e-12)


def test_overlapping_fractions_have_no_remainder():
    coords = axes(10.0)
    da, ones = flux(coords), mask_of(coords, np.ones((18, 36)))
    share = xr.concat([ones, ones.where(ones.lat > 0, 0)], "region").assign_coords(region=["world", "north"])
    out = aggregate_regions(da, share, "PgC d-1")
    assert "unassigned" not in out.coords
    expected = [globe(da).item() / 1e15, globe(da.where(da.lat > 0)).item() / 1e15]
    np.testing.assert_allclose(out.values, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="include_global needs to know what falls in no region"):
        aggregate_regions(da, share, "PgC d-1", include_global=True)


@pytest.mark.parametrize("west", [0.0, -180.0])
def test_a_mask_on_another_grid_is_brought_over_exactly(west):
    """3° cells cut 2.5 x 3.75° cells: every cell keeps the area of every label."""
    coarse, fine = axes(2.5, 3.75), axes(3.0, west=west, down=True)
    labels = rng.integers(0, 3, size=(60, 120))
    w = region_weights(xr.Dataset(coords=coarse), mask_of(fine, labels))
    area = cell_area(mask_of(fine, labels)).values
    np.testing.assert_allclose(
        w.sum(("lat", "lon")).data.todense(), [area[labels == k].sum() for k in range(3)], rtol=1e-12
    )


def test_the_same_mask_in_another_order_is_the_same():
    coords = axes(5.0)
    da, mask = flux(coords), mask_of(coords, rng.integers(-1, 5, size=(36, 72)))
    expected = aggregate_regions(da, mask, "PgC d-1").values
    for other in (
        mask.isel(lat=slice(None, None, -1)),
        mask.roll(lon=20, roll_coords=True),
        mask.assign_coords(lon=mask.lon % 360).sortby("lon"),
        mask.T,
    ):
        np.testing.assert_allclose(aggregate_regions(da, other, "PgC d-1").values, expected, rtol=1e-13)


def test_a_mask_larger_than_the_data():
    mask = mask_of(axes(5.0), rng.integers(0, 5, size=(36, 72)))
    da = flux(axes(5.0)).isel(lat=slice(10, 20), lon=slice(60, 72))
    with pytest.warns(UserWarning, match="the grid covers only a part of 0"):
        out = aggregate_regions(da, mask, "PgC d-1")
    weighted, inside = (da * cell_area(da)).values / 1e15, mask.values[10:20, 60:72]
    np.testing.assert_allclose(out.values, [weighted[inside == k].sum() for k in range(5)], rtol=1e-12)


# --- land and basis ------------------------------------------------------------------------------------------------
def test_basis_cell_shares_cells_by_land():
    g = xr.Dataset(coords=axes(2.0))
    cell, land = (region_weights(g, "reccap2", b) for b in ("cell", "land"))
    cell, land = cell.data.todense(), land.data.todense()
    area = cell_area(g).values
    everything = region_weights(g, "countries", "land").data.todense().sum(axis=0)
    touched = everything > 0
    np.testing.assert_allclose(cell[:, touched], (area * land)[:, touched] / everything[touched], rtol=1e-9, atol=1)
    assert (cell.sum(axis=0) <= area * (1 + 1e-12)).all()


def test_where_nothing_says_the_basis_cell_is_assumed_once():
    da = flux(axes(10.0), basis=None)
    with pytest.warns(UserWarning, match="area_basis 'cell' is assumed") as caught:
        out = aggregate_regions(da, "reccap2", "PgC d-1")
    with pytest.warns(UserWarning, match="area_basis 'cell' is assumed") as of_dataset:
        aggregate_regions(xr.Dataset({"a": da, "b": da}), "reccap2", "PgC d-1")
    assert len(of_dataset) == 1
    assert len(caught) == 1 and out.attrs["area_basis_assumed"] == 1 and out.attrs["area_basis"] == "cell"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = aggregate_regions(da.assign_attrs(area_basis="cell"), "reccap2", "PgC d-1")
    assert "area_basis_assumed" not in known.attrs
    with pytest.warns(UserWarning, match="'nee_sd' is an uncertainty .* added up like a flux"):
        aggregate_regions(da.assign_attrs(area_basis="cell").rename("nee_sd"), "reccap2", "PgC d-1")
    np.testing.assert_array_equal(known.values, out.values)


def test_basis_comes_from_the_argument_then_the_grid_then_land():
    g = xr.Dataset(coords=axes(10.0))
    assert region_weights(g, "reccap2").attrs["area_basis"] == "land"
    assert region_weights(g.assign_attrs(area_basis="cell"), "reccap2").attrs["area_basis"] == "cell"
    assert region_weights(g.assign_attrs(area_basis="cell"), "reccap2", "land").attrs["area_basis"] == "land"
    with pytest.raises(ValueError, match="area_basis='ocean' is unknown; expected 'land' or 'cell'"):
        region_weights(g, "reccap2", "ocean")


@pytest.mark.parametrize("name", ["land_fraction", "sftlf", "landfrac", "LANDFRAC", "Contfrac", "lsm"])
def test_land_fraction_of_the_product_is_used(name):
    coords = axes(10.0)
    land = mask_of(coords, rng.uniform(size=(18, 36)))
    ds = xr.Dataset({"nee": flux(coords, basis="land"), name: land})
    out = aggregate_regions(ds, "latitude-bands", "PgC d-1")
    expected = aggregate_regions(ds.nee, "latitude-bands", "PgC d-1", land_fraction=land)
    np.testing.assert_array_equal(out.nee.values, expected.values)
    assert list(out.data_vars) == ["nee"]


def test_land_fraction_in_percent_on_another_grid_and_wrong():
    coords = axes(5.0)
    da = flux(coords, basis="land")
    coarse = mask_of(axes(10.0), rng.uniform(size=(18, 36)))
    fine = mask_of(coords, np.kron(coarse.values, np.ones((2, 2))))
    expected = aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=fine).values
    percent = (coarse * 100).assign_attrs(units="%")
    np.testing.assert_allclose(
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=percent).values, expected, rtol=1e-12
    )
    with pytest.raises(ValueError, match=r"land_fraction reaches from .* expected shares of the cell, 0 to 1"):
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=coarse * 100)
    repeated = coarse.expand_dims(time=2)
    np.testing.assert_allclose(
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=repeated).values, expected, rtol=1e-12
    )
    changing = repeated * xr.DataArray([1.0, 0.5], dims="time")
    with pytest.raises(ValueError, match=r"changes along 'time': select one"):
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=changing)
    with pytest.raises(TypeError, match=r"land_fraction must be a DataArray .* not float"):
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=0.5)
    with pytest.raises(TypeError, match=r"not Dataset: give one of its variables"):
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=fine.to_dataset())
    with pytest.raises(ValueError, match=r"'ocean_fraction', the share of the sea: give that of the land"):
        aggregate_regions(da, "latitude-bands", "PgC d-1", land_fraction=fine.rename("ocean_fraction"))


# --- weights made earlier ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("basis", ["land", "cell"])
def test_weights_made_earlier_give_the_same(basis):
    da = flux(axes(2.5), steps=2, basis=basis)
    w = region_weights(da, "reccap2")
    assert w.dims == ("region", "lat", "lon") and type(w.data).__module__.startswith("sparse")
    expected = aggregate_regions(da, "reccap2", include_global=True)
    xr.testing.assert_allclose(aggregate_regions(da, w, include_global=True), expected, rtol=1e-12)
    other = da.isel(lat=slice(None, None, -1)).roll(lon=5, roll_coords=True)
    flipped = aggregate_regions(other, w, include_global=True)
    np.testing.assert_allclose(flipped.values, expected.values, rtol=1e-12)


@pytest.mark.parametrize("suffix", [None, ".nc", ".zarr"])
def test_a_grid_that_only_its_bounds_know(tmp_path, suffix):
    """Rows that no inference finds: weights, masks and land fractions of that grid are cell by cell the same."""
    lat = np.r_[-80, np.arange(-60.0, 81, 10), 87]
    south = np.r_[-90, -65, np.arange(-55.0, 76, 10), 85]
    bounds = np.stack([south, np.r_[south[1:], 90]], axis=1)
    coords = {"lat": lat, "lon": np.arange(-175.0, 180, 10)}
    shape = (lat.size, 36)
    land = mask_of(coords, rng.uniform(size=shape))
    values = mask_of(coords, rng.normal(size=shape), units="gC m-2 d-1", area_basis="land")
    ds = xr.Dataset({"nee": values, "land_fraction": land, "lat_bnds": (("lat", "bnds"), bounds)})
    area = np.outer(np.diff(np.sin(np.radians(bounds)))[:, 0], np.full(36, np.radians(10))) * RADIUS**2
    labels = rng.integers(0, 3, size=shape)
    expected = [(area * land * values).values[labels == k].sum() / 1e15 for k in range(3)]
    mask = mask_of(coords, labels)
    for regions in (mask, (mask == xr.DataArray(range(3), dims="region")).astype(float), region_weights(ds, mask)):
        if suffix and regions.dims[0] == "region" and "units" in regions.attrs:
            save_weights(regions, tmp_path / f"w{suffix}")
            regions = load_weights(tmp_path / f"w{suffix}")
        out = aggregate_regions(ds, regions, "PgC d-1")
        np.testing.assert_allclose(out.nee.values, expected, rtol=1e-12)
        turned = aggregate_regions(ds.isel(lat=slice(None, None, -1)), regions, "PgC d-1")
        np.testing.assert_allclose(turned.nee.values, expected, rtol=1e-12)


def test_weights_of_some_regions_leave_the_rest_unassigned():
    da = flux(axes(5.0))
    w = region_weights(da, "reccap2", "cell")
    some = aggregate_regions(da, w.sel(region=["USA", "CHN"]), "PgC d-1")
    everything = aggregate_regions(da, w, "PgC d-1")
    np.testing.assert_allclose(some.values, everything.sel(region=["USA", "CHN"]).values, rtol=1e-13)
    assert (some.sum() + some.unassigned).item() == pytest.approx((everything.sum() + everything.unassigned).item())
    with pytest.raises(ValueError, match=r"one region have lost their dim: .*sel\(region=\['USA'\]\)"):
        aggregate_regions(da, w.sel(region="USA"), "PgC d-1")


def test_weights_for_another_grid_or_basis():
    w = region_weights(xr.Dataset(coords=axes(5.0)), "reccap2", "land")
    with pytest.raises(ValueError, match="the weights were made for another grid: their lat cells"):
        aggregate_regions(flux(axes(2.5), basis="land"), w, "PgC d-1")
    with pytest.raises(ValueError, match="per m2 of 'cell', the weights were made for area_basis='land'"):
        aggregate_regions(flux(axes(5.0)), w, "PgC d-1")
    with pytest.warns(UserWarning, match="land_fraction= is not used: the weights were made with their own"):
        aggregate_regions(flux(axes(5.0), basis="land"), w, "PgC d-1", land_fraction=mask_of(axes(5.0), 0.5))
    land = mask_of(axes(5.0), 0.5)  # their own is no news
    own = region_weights(xr.Dataset(coords=axes(5.0)), "reccap2", "land", land_fraction=land)
    aggregate_regions(flux(axes(5.0), basis="land"), own, "PgC d-1", land_fraction=land.astype("float32"))


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("regions", ["reccap2", "mask"])
def test_saved_weights_are_the_same(tmp_path, suffix, regions):
    g = xr.Dataset(coords=axes(5.0, west=0.0, down=True))
    regions = mask_of(g.coords, rng.integers(0, 3, size=(36, 72))) if regions == "mask" else regions
    w = region_weights(g, regions)
    save_weights(w, tmp_path / f"w{suffix}")
    back = load_weights(tmp_path / f"w{suffix}")
    np.testing.assert_array_equal(back.data.todense(), w.data.todense())
    assert back.attrs == w.attrs and set(back.coords) == set(w.coords) and back.name == w.name
    for name in w.coords:
        np.testing.assert_array_equal(back[name].values, w[name].values)
        assert back[name].dtype.kind == w[name].dtype.kind
    da = flux(g.coords, basis="land")
    xr.testing.assert_identical(aggregate_regions(da, back, "PgC d-1"), aggregate_regions(da, w, "PgC d-1"))


def test_files_that_are_no_weights(tmp_path):
    w = region_weights(xr.Dataset(coords=axes(10.0)), "reccap2")
    with pytest.raises(ValueError, match=r"expected a path that ends in .nc or .zarr"):
        save_weights(w, tmp_path / "w.pkl")
    with pytest.raises(TypeError, match="save_weights takes the result of region_weights"):
        save_weights(flux(axes(10.0)), tmp_path / "w.nc")
    with pytest.raises(FileNotFoundError, match="no region weights at"):
        load_weights(tmp_path / "none.nc")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(ValueError, match="holds no region weights of format"):
        load_weights(tmp_path / "a.nc")


# --- transcom ------------------------------------------------------------------------------------------------------
def test_transcom_from_the_data_folder(data_folder, monkeypatch):
    monkeypatch.setenv("XFLUX_DATA", str(data_folder))
    w = region_weights(xr.Dataset(coords=axes(0.5)), "transcom", "cell")
    assert w.sizes["region"] == 22 and w.region.values[0] == "North_American_Boreal"
    mask = xr.open_dataset(data_folder / "regions/transcom_1deg.nc").transcom_region
    area = cell_area(mask).values
    expected = [area[mask.values == k].sum() for k in range(1, 23)]
    np.testing.assert_allclose(w.sum(("lat", "lon")).data.todense(), expected, rtol=1e-12)
    gauss = region_weights(xr.Dataset(coords=GRIDS["T42"]), f"transcom:{data_folder}/regions/transcom_1deg.nc", "land")
    np.testing.assert_allclose(gauss.sum(("lat", "lon")).data.todense(), expected, rtol=1e-12)


def test_a_mask_file_that_changes_is_read_again(tmp_path):
    coords, path = axes(10.0), tmp_path / "regions.nc"
    da = flux(coords)
    for labels in ([1, 2], [0, 1, 2, 3]):
        field = np.resize(labels, (18, 36))
        mask_of(coords, field).rename("region_map").to_netcdf(path)
        assert aggregate_regions(da, str(path), "PgC d-1").region.values.tolist() == labels


def test_transcom_says_where_to_get_it(monkeypatch):
    monkeypatch.delenv("XFLUX_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"not shipped.*regions='transcom:PATH'.*\$XFLUX_DATA/regions/transcom"):
        region_weights(xr.Dataset(coords=axes(10.0)), "transcom")


def test_bands_have_a_width_that_divides_the_hemispheres():
    assert list(latitude_band_limits(45)) == ["90S-45S", "45S-EQ", "EQ-45N", "45N-90N"]
    assert len(latitude_band_limits(0.1)) == 1800
    for width in (0, 7, -10, 120):
        with pytest.raises(ValueError, match="a width that divides 90"):
            latitude_band_limits(width)
