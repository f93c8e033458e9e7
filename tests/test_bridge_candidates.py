"""DTW against its definition, clusters against planted ones, the draw."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xflux.bridge.candidates import (
    ALL_PIXELS,
    default_clusters,
    dtw_distances,
    spectral_clusters,
    stratified_draw,
    z_normalised,
)


def definition(a, b, radius):
    """DTW by its recursion, in a Sakoe–Chiba band of this radius."""
    radius = max(len(a), len(b)) if radius is None else radius
    cost = np.full((len(a) + 1, len(b) + 1), np.inf)
    cost[0, 0] = 0.0
    for i in range(1, len(a) + 1):
        for j in range(max(1, i - radius), min(len(b), i + radius) + 1):
            cost[i, j] = (a[i - 1] - b[j - 1]) ** 2 + min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
    return np.sqrt(cost[-1, -1])


@given(seed=st.integers(0, 10**6), steps=st.integers(2, 30), radius=st.sampled_from([0, 1, 2, 6, None]))
@settings(max_examples=25, deadline=None)
def test_dtw_equals_its_definition(seed, steps, radius):
    series = np.random.default_rng(seed).standard_normal((4, steps))
    expected = [[definition(a, b, radius) for b in series] for a in series]
    found = dtw_distances(series, window=radius)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert (found == found.T).all() and not np.diag(found).any()
    np.testing.assert_allclose(dtw_distances(series[:3], series, window=radius), found[:3], atol=1e-12)


def test_blocks_of_dtw_join_without_a_seam(monkeypatch):
    series = np.random.default_rng(2).standard_normal((50, 12))
    whole = dtw_distances(series[:7], series)
    monkeypatch.setattr("xflux.bridge.candidates._BLOCK", 7 * 9)
    np.testing.assert_array_equal(dtw_distances(series[:7], series), whole)


def test_dtw_refuses_nan_instead_of_passing_it_on():
    series = np.ones((3, 12))
    series[1, 4] = np.nan
    with pytest.raises(ValueError, match=r"1 of 3 series .* not finite.*Leave these pixels out"):
        dtw_distances(series)


def test_opposite_seasons_stay_apart_in_the_default_band_only():
    month = np.arange(204)
    north, south = np.cos(2 * np.pi * month / 12), np.cos(2 * np.pi * (month - 6) / 12)
    pair = np.stack([north, south])
    euclid, narrow, wide = (dtw_distances(pair, window=w)[0, 1] for w in (0, 2, 6))
    assert narrow > 0.3 * euclid
    assert wide < 0.25 * narrow


def seasons(n: int, seed: int = 0, noise: float = 0.4):
    """Pixels of four seasonal phases with noise, and the phase of each."""
    rng = np.random.default_rng(seed)
    phase = rng.integers(0, 4, n)
    month = np.arange(60)
    series = np.cos(2 * np.pi * (month - 3 * phase[:, None]) / 12) + noise * rng.standard_normal((n, 60))
    return z_normalised(series), phase


@pytest.mark.parametrize("landmarks", [400, 60])
def test_planted_clusters_come_back(landmarks):
    from sklearn.metrics import adjusted_rand_score

    series, phase = seasons(400)
    found = spectral_clusters(series, 4, landmarks=landmarks, window=1)
    assert adjusted_rand_score(found, phase) > 0.95


def test_full_computation_agrees_with_scikit_learn():
    from sklearn.cluster import SpectralClustering
    from sklearn.metrics import adjusted_rand_score

    series, _ = seasons(150, noise=0.6)
    d = dtw_distances(series)
    affinity = np.exp(-0.5 * (d / np.median(d[np.triu_indices(150, 1)])) ** 2)
    theirs = SpectralClustering(4, affinity="precomputed", random_state=0).fit_predict(affinity)
    assert adjusted_rand_score(spectral_clusters(series, 4), theirs) > 0.9


def test_landmarks_lose_little_against_the_full_computation():
    from sklearn.metrics import adjusted_rand_score

    series, phase = seasons(500, noise=0.9)
    full, part = spectral_clusters(series, 4), spectral_clusters(series, 4, landmarks=100)
    assert adjusted_rand_score(full, part) > 0.9
    assert adjusted_rand_score(part, phase) > adjusted_rand_score(full, phase) - 0.05


def test_clusters_depend_on_the_seed_only():
    series, _ = seasons(200, noise=1.5)
    first = spectral_clusters(series, 5, landmarks=80, seed=3)
    np.testing.assert_array_equal(first, spectral_clusters(series * (1 + 1e-15), 5, landmarks=80, seed=3))
    assert (first != spectral_clusters(series, 5, landmarks=80, seed=4)).any()


def test_identical_and_constant_series_give_some_clusters():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spectral_clusters(np.zeros((20, 12)), 4).size == 20
    assert not spectral_clusters(np.ones((1, 12))).any()
    assert not z_normalised(np.full((2, 12), 3.0)).any()


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=12), size=st.integers(2, 300), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_draw_is_stratified_and_complete(sizes, size, seed):
    clusters = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    drawn = stratified_draw(clusters, size, np.random.default_rng(seed))
    assert drawn.size == min(size, clusters.size) and np.unique(drawn).size == drawn.size
    assert (np.diff(drawn) > 0).all()
    got = np.bincount(clusters[drawn], minlength=len(sizes))
    if size >= len(sizes):
        assert (got >= 1).all()
        share = np.array(sizes) / clusters.size * drawn.size
        assert (np.abs(got - share) <= len(sizes) + 1).all()


def test_every_pixel_of_a_cluster_is_drawn_alike():
    clusters = np.repeat([0, 1], [30, 70])
    counts = np.zeros(100)
    for seed in range(2000):
        counts[stratified_draw(clusters, 20, np.random.default_rng(seed))] += 1
    assert np.abs(counts[:30] / counts[:30].mean() - 1).max() < 0.3
    assert np.abs(counts[30:] / counts[30:].mean() - 1).max() < 0.3


def test_rules():
    assert ALL_PIXELS == 300
    assert default_clusters(15_000) == 17 and default_clusters(301) == 4 and default_clusters(10**6) == 20


def test_fewer_draws_than_clusters_vary_between_trials():
    clusters = np.arange(6)
    seen = {tuple(stratified_draw(clusters, 3, np.random.default_rng(seed))) for seed in range(30)}
    assert len(seen) > 5 and all(len(set(chosen)) == 3 for chosen in seen)
