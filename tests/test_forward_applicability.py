"""The dissimilarity index against its definition, written out."""

import numpy as np
import pytest
import xarray as xr
from forward_world import Net
from scipy.spatial.distance import cdist, pdist

from xflux.forward import applicability, predict


@pytest.fixture
def towers():
    rng = np.random.default_rng(0)
    sites = np.repeat([f"S{i:02d}" for i in range(12)], 20)
    centre = rng.normal(size=(12, 3))[np.repeat(np.arange(12), 20)]
    values = centre + 0.3 * rng.normal(size=(240, 3))
    ds = xr.Dataset({n: ("sample", values[:, i] * 10.0**i) for i, n in enumerate("abc")}, {"site": ("sample", sites)})
    ds["a"].attrs["units"] = "degC"
    ds["b"][7] = np.nan
    return ds


@pytest.fixture
def grid():
    rng = np.random.default_rng(1)
    scale = 10.0 ** np.arange(3)
    values = rng.normal(size=(5, 6, 7, 3)) * scale * 2
    ds = xr.Dataset({n: (("time", "lat", "lon"), values[..., i]) for i, n in enumerate("abc")})
    ds["c"][:, 0] = np.nan
    return ds.assign_coords(time=np.arange("2001-01-01", "2001-01-06", dtype="datetime64[D]").astype("datetime64[ns]"))


def by_definition(grid, towers, weights, fold):
    """Eq. 2-4 and the threshold of Meyer and Pebesma (2021), with every distance."""
    rows = np.stack([towers[n].values for n in "abc"], axis=1)
    keep = np.isfinite(rows).all(axis=1)
    rows, fold = rows[keep], fold[keep]
    mean, spread = rows.mean(axis=0), rows.std(axis=0, ddof=1)
    scaled = (rows - mean) / spread * weights
    new = (np.stack([grid[n].values for n in "abc"], axis=-1).reshape(-1, 3) - mean) / spread * weights
    ok = np.isfinite(new).all(axis=1)
    index = np.full(len(new), np.nan)
    index[ok] = cdist(new[ok], scaled).min(axis=1) / pdist(scaled).mean()
    between = cdist(scaled, scaled)
    between[fold[:, None] == fold[None]] = np.inf
    own = between.min(axis=1) / pdist(scaled).mean()
    low, high = np.quantile(own, [0.25, 0.75])
    return index.reshape(grid.a.shape), own[own <= high + 1.5 * (high - low)].max()


@pytest.mark.parametrize("weights", [None, {"a": 2.0, "c": 0.0}])
def test_equals_the_definition(grid, towers, weights):
    fold = np.arange(240) // 20 % 4
    found = applicability(grid, towers, ["a", "b", "c"], weights=weights, folds=xr.DataArray(fold, dims="sample"))
    factors = np.array([(weights or {}).get(n, 1.0) for n in "abc"])
    index, threshold = by_definition(grid, towers, factors, fold)
    np.testing.assert_allclose(found.dissimilarity, index, rtol=1e-4, atol=1e-6)
    assert found.dissimilarity.attrs["threshold"] == pytest.approx(threshold)
    np.testing.assert_array_equal(found.applicable, np.nan_to_num(index, nan=np.inf) <= threshold)
    assert not found.applicable.isel(lat=0).any() and found.applicable.dtype == bool
    by_site = {s: int(f) for s, f in zip(towers.site.values, fold, strict=True)}
    again = applicability(grid, towers, ["a", "b", "c"], weights=weights, folds=by_site)
    assert again.dissimilarity.attrs["threshold"] == pytest.approx(threshold)


def test_lazy_and_the_same_in_any_chunks(grid, towers):
    whole = applicability(grid, towers, ["a", "b", "c"])
    assert whole.dissimilarity.chunks and whole.dissimilarity.attrs["units"] == "1"
    parts = applicability(grid.chunk(time=2, lat=1), towers, ["a", "b", "c"])
    xr.testing.assert_equal(whole.compute(), parts.compute(scheduler="threads"))


def test_zero_at_a_tower_and_growing_away_from_all(towers):
    at = towers.isel(sample=[3])
    grid = xr.Dataset({n: (("lat", "lon"), [[float(at[n][0]), 1e6]]) for n in "abc"})
    found = applicability(grid, towers, ["a", "b", "c"])
    assert found.dissimilarity.values[0, 0] < 1e-6 and found.applicable.values.tolist() == [[True, False]]


def test_folds_by_site_are_stricter_than_folds_that_split_sites(grid, towers):
    """Rows of one site are near each other: split among folds they would make any place look known."""
    by_site = applicability(grid, towers, ["a", "b", "c"]).dissimilarity.attrs["threshold"]
    split = applicability(grid, towers, ["a", "b", "c"], folds=np.arange(240) % 10).dissimilarity.attrs["threshold"]
    assert by_site > 1.5 * split


def test_thinned_towers(grid, towers):
    some = applicability(grid, towers, ["a", "b", "c"], max_rows=100)
    assert some.dissimilarity.attrs["tower_rows"] == 100
    assert (some.dissimilarity >= 0).where(some.dissimilarity.notnull(), True).all()


def test_says_what_is_wrong(grid, towers):
    with pytest.raises(KeyError, match=r"the towers lack \['d'\]"):
        applicability(grid, towers, ["a", "d"])
    with pytest.raises(ValueError, match=r"\['c'\] do not vary over the towers"):
        applicability(grid, towers.assign(c=towers.c * 0), ["a", "b", "c"])
    applicability(grid, towers.assign(c=towers.c * 0), ["a", "b", "c"], weights={"c": 0})
    with pytest.raises(ValueError, match="no coordinate 'site'"):
        applicability(grid, towers.drop_vars("site"), ["a"])
    with pytest.raises(ValueError, match="expected numbers ≥ 0"):
        applicability(grid, towers, ["a"], weights={"z": 1})
    with pytest.raises(ValueError, match="driver 'a' has units 'K', the model was trained with 'degC'"):
        applicability(grid.assign(a=grid.a.assign_attrs(units="K")), towers, ["a"])
    with pytest.raises(ValueError, match="0 complete tower rows"):
        applicability(grid, towers * np.nan, ["a"])
    with pytest.raises(ValueError, match="folds= lacks the sites"):
        applicability(grid, towers, ["a"], folds={"S00": 1})


def test_beside_the_flux(grid, towers):
    nee = predict(grid, Net(drivers=["a", "b", "c"], driver_units={}), members="mean")
    area = applicability(grid, towers, ["a", "b", "c"])
    assert nee.where(area.applicable).dims == nee.dims
