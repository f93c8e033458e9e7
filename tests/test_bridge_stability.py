"""Selection counts over many draws: seeded, resumable, the same on any scheduler."""

import dask
import numpy as np
import pytest
import xarray as xr

from xflux.bridge import bridge_stability, fit_bridge

LAT, LON = np.arange(85.0, -90, -10), np.arange(-175.0, 180, 10)
OPTIONS = {"candidates": 40, "clusters": 3}


@pytest.fixture(scope="module")
def nee():
    rng = np.random.default_rng(0)
    modes, patterns = rng.standard_normal((36, 4)), rng.standard_normal((4, LAT.size, LON.size))
    values = np.einsum("tk,kij->tij", modes, patterns) + 0.3 * rng.standard_normal((36, LAT.size, LON.size))
    time = xr.date_range("2001-01-01", periods=36, freq="MS")
    attrs = {"units": "gC m-2 d-1", "area_basis": "cell"}
    return xr.DataArray(values, {"time": time, "lat": LAT, "lon": LON}, ("time", "lat", "lon"), attrs=attrs)


@pytest.fixture(scope="module")
def mask(nee):
    return xr.where(nee["lat"] > 0, 0, 1) + 0 * nee["lon"].astype(int)


@pytest.fixture(scope="module")
def counts(nee, mask):
    return bridge_stability(nee, mask, trials=12, batch=5, **OPTIONS)


def test_counts_add_up(nee, mask, counts):
    assert counts["count"].dims == ("lat", "lon") and counts["n_pixels"].dims == ("region",)
    assert counts["drawn"].sum() == 12 * 2 * 40
    for k, north in enumerate((True, False)):
        inside = (nee["lat"] > 0) == north
        assert counts["count"].where(inside).sum().item() == pytest.approx(12 * counts["n_pixels"][k].item())
    assert (counts["count"] <= counts["drawn"]).all() and (counts["reached"] == 1).all()
    assert (counts["frequency"].where(counts["drawn"] > 0) <= 1).sum() == (counts["drawn"] > 0).sum()


def test_every_trial_is_a_fit_of_the_paper(nee, mask, counts):
    """A pixel that carries the region by itself is selected whenever it is drawn."""
    strong = nee.copy()
    strong.loc[{"lat": 45.0, "lon": 5.0}] *= 50
    out = bridge_stability(strong, mask, trials=12, **OPTIONS).sel(lat=45.0, lon=5.0)
    assert 0 < out["drawn"] < 12 and out["frequency"] == 1


def test_batches_and_schedulers_change_nothing(nee, mask, counts):
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(bridge_stability(nee, mask, trials=12, batch=50, **OPTIONS), counts)
    other = bridge_stability(nee, mask, trials=12, seed=1, **OPTIONS)
    assert not other["count"].equals(counts["count"])


def test_a_cluster_gives_the_same_and_gets_the_data_once(nee, mask, counts):
    """The graphs of the batches are small: the samples travel beside them, once."""
    import warnings

    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = bridge_stability(nee, mask, trials=12, batch=4, **OPTIONS)
        with dask.config.set(scheduler="synchronous"):  # beside an active cluster
            here = bridge_stability(nee, mask, trials=12, batch=4, **OPTIONS)
    xr.testing.assert_identical(found, counts)
    xr.testing.assert_identical(here, counts)


def test_goes_on_after_an_interruption(nee, mask, counts, tmp_path, monkeypatch):
    from xflux.bridge import stability

    path = tmp_path / "trials.npz"
    run, calls = stability._run, []

    def interrupted(*args):
        calls.append(args[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(stability, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bridge_stability(nee, mask, trials=12, batch=5, path=path, **OPTIONS)
    monkeypatch.setattr(stability, "_run", run)
    monkeypatch.setattr(stability, "clusters_of", None)  # not found anew
    done = np.load(path)["n_pixels"]
    assert (done[:, :10] > 0).all() and (done[:, 10:] == -1).all()
    xr.testing.assert_identical(bridge_stability(nee, mask, trials=12, batch=5, path=path, **OPTIONS), counts)


def test_more_trials_are_added_and_strangers_refused(nee, mask, counts, tmp_path):
    path = tmp_path / "trials.npz"
    bridge_stability(nee, mask, trials=4, path=path, **OPTIONS)
    xr.testing.assert_equal(bridge_stability(nee, mask, trials=12, path=path, **OPTIONS), counts)
    with pytest.raises(ValueError, match="trials of other data or options"):
        bridge_stability(nee, mask, trials=12, path=path, r2=0.9, **OPTIONS)
    with pytest.raises(ValueError, match="trials of other data or options"):
        bridge_stability((2 * nee).assign_attrs(nee.attrs), mask, trials=12, path=path, **OPTIONS)
    turned = nee.isel(lat=slice(None, None, -1)).transpose("lon", "time", "lat")
    again = bridge_stability(turned, mask, trials=12, path=path, **OPTIONS)  # the same data in another order
    xr.testing.assert_equal(again.sortby("lat"), counts.sortby("lat"))
    with pytest.raises(ValueError, match="already holds 12 trials, more than trials=4: give trials=12"):
        bridge_stability(nee, mask, trials=4, path=path, **OPTIONS)


@pytest.mark.parametrize("content", [b"garbage", b"", b"PK\x03\x04 cut off"])
def test_a_damaged_file_of_trials_is_named(nee, mask, tmp_path, content):
    path = tmp_path / "trials.npz"
    path.write_bytes(content)
    with pytest.raises((ValueError, FileExistsError), match=r"trials\.npz.* damaged"):
        bridge_stability(nee, mask, trials=2, path=path, **OPTIONS)
    with path.open("wb") as file:
        np.savez(file, other=1)
    with pytest.raises(FileExistsError, match=r"trials\.npz' exists and is no xflux stability"):
        bridge_stability(nee, mask, trials=2, path=path, **OPTIONS)


def test_small_regions_vary_too_and_empty_ones_are_nan(nee, mask):
    half = nee.where(nee["lat"] > 0)
    out = bridge_stability(half, mask, trials=4)
    assert out["drawn"].where(out["lat"] > 0).sum() == 4 * 9 * 36 / 2  # half of the pixels
    assert np.isnan(out["n_pixels"][1]) and out["count"].where(out["lat"] < 0, drop=True).isnull().all()


def test_contributing_pixels_are_among_the_frequent_ones(nee, mask, counts):
    bridge = fit_bridge(nee, mask, **OPTIONS)
    picked = counts["frequency"].sel(lat=bridge.pixels["lat"], lon=bridge.pixels["lon"])
    assert picked.mean() > counts["frequency"].mean()


def test_senseless_numbers(nee, mask):
    with pytest.raises(ValueError, match="trials=0, batch=50: expected at least 1"):
        bridge_stability(nee, mask, trials=0)


def test_a_file_of_trials_whose_arrays_do_not_fit_is_named(nee, mask, tmp_path):
    path = tmp_path / "trials.npz"
    bridge_stability(nee, mask, trials=1, path=path, **OPTIONS)
    with np.load(path) as kept:
        whole = dict(kept)
    for name in ("n_pixels", "reached", "count", "drawn", "cluster"):
        for value in (np.array("x"), np.array(5), np.zeros((0, 0), int), np.arange(3), whole[name] * 1.5):
            np.savez_compressed(path, **whole | {name: value})
            with pytest.raises(ValueError, match=r"trials\.npz is damaged or is not a file of bridge_stability"):
                bridge_stability(nee, mask, trials=1, path=path, **OPTIONS)
