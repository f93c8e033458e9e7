"""Candidate pixels of a region: DTW distances, spectral clusters, a stratified random draw (paper, Sect. 3.3).

Rules, where the paper gives none:

- a region of up to ``ALL_PIXELS`` = 300 valid pixels uses all of them; a larger one draws 300;
- clusters: √(n/50) of n pixels, between 4 and 20 (n = 1000: 4; n = 15 000: 17);
- DTW in a Sakoe–Chiba band of 2 months on z-normalised series. A band of six months lets opposite seasons match at
  no cost, so that both sides of the equator merge; ``window=None`` is the paper's unconstrained form;
- affinity exp(−d²/2σ²), σ = the median distance among the landmarks;
- beyond ``LANDMARKS`` = 600 pixels the affinity is known through its columns at 600 random landmarks (Nyström), so
  that cost and memory grow with n, not n². With every pixel a landmark it is the full computation.
"""

from contextlib import nullcontext

import numpy as np

from xflux.forks import forked

ALL_PIXELS = 300
LANDMARKS = 600
_BLOCK = 2_000_000  # distances per call, so that memory stays bounded


def dtw_distances(series: np.ndarray, others: np.ndarray | None = None, window: int | None = 2) -> np.ndarray:
    """Dynamic-time-warping distances between the rows of two sets of series: (m, n).

    Parameters
    ----------
    series, others
        (m, steps) and (n, steps), finite. None: rows of the first among themselves (symmetric, zero diagonal).
    window
        The Sakoe–Chiba radius in steps (0: Euclidean; None: unconstrained).

    Raises
    ------
    ValueError
        A value is not finite.

    Examples
    --------
    >>> dtw_distances(np.array([[0.0, 1, 0, 0], [0, 0, 1, 0]]), window=1)
    array([[0., 0.],
           [0., 0.]])
    >>> dtw_distances(np.array([[0.0, 1, 0, 0], [0, 0, 1, 0]]), window=0).round(3)
    array([[0.   , 1.414],
           [1.414, 0.   ]])
    """
    series = _finite(series)
    radius = None if window is None else int(window) + 1  # dtaidistance counts the diagonal: window r + 1 = radius r
    if others is None:
        upper = _distances(series, radius, None)
        full = np.zeros((len(series), len(series)))
        full[np.triu_indices(len(series), 1)] = upper
        return full + full.T
    others = _finite(others)
    out = np.empty((len(series), len(others)))
    m, width = len(series), max(1, _BLOCK // len(series))
    for start in range(0, len(others), width):
        part = others[start : start + width]
        both = np.concatenate([series, part])
        block = ((0, m), (m, m + len(part)), False)
        out[:, start : start + len(part)] = _distances(both, radius, block).reshape(m, len(part))
    return out


def _distances(series: np.ndarray, window: int | None, block: tuple | None) -> np.ndarray:
    from dtaidistance import dtw
    from threadpoolctl import threadpool_limits

    if len(series) < 2:
        return np.zeros(0)
    parallel = dtw.dtw_cc_omp is not None
    with threadpool_limits(1) if forked() else nullcontext():  # the parent's threads would be waited for
        found = dtw.distance_matrix_fast(series, window=window, block=block, compact=True, parallel=parallel)
    return np.asarray(found, float)


def _finite(series: np.ndarray) -> np.ndarray:
    series = np.ascontiguousarray(series, dtype=float)
    bad = int((~np.isfinite(series)).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"DTW got {bad} of {len(series)} series with values that are not finite; expected complete series. "
            "Leave these pixels out: a single NaN makes every distance to it NaN."
        )
    return series


def z_normalised(series: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and standard deviation 1 (a constant row becomes 0), rounded as :func:`rounded` does."""
    centred = series - series.mean(axis=1, keepdims=True)
    std = centred.std(axis=1, keepdims=True)
    return rounded(np.divide(centred, std, out=np.zeros_like(centred), where=std > 0))


def rounded(series: np.ndarray) -> np.ndarray:
    """To 1e-5, so that the rounding errors of a change of units or order do not reach the clusters."""
    return np.round(series, 5)


def default_clusters(pixels: int) -> int:
    """Number of clusters by the stated rule: √(n/50), between 4 and 20.

    Parameters
    ----------
    pixels
        How many there are.

    Examples
    --------
    >>> [default_clusters(n) for n in (300, 1000, 5000, 15000, 60000)]
    [4, 4, 10, 17, 20]
    """
    return int(np.clip(round(np.sqrt(pixels / 50)), 4, 20))


def spectral_clusters(
    series: np.ndarray,
    clusters: int | None = None,
    *,
    window: int | None = 2,
    landmarks: int = LANDMARKS,
    seed: int | np.random.Generator = 0,
) -> np.ndarray:
    """Cluster (pixel,) of each series: spectral clustering on the DTW affinity.

    The normalised affinity D^-½ K D^-½ (Ng, Jordan and Weiss 2002) with K ≈ C W⁺ Cᵀ from its columns C at the
    landmarks (Nyström; Fowlkes et al. 2004); rows of its leading eigenvectors, scaled to length 1, go to k-means.

    Parameters
    ----------
    series
        (pixel, steps), finite.
    clusters
        How many; None: :func:`default_clusters`.
    window
        As in :func:`dtw_distances`.
    landmarks
        How many pixels the affinity is worked out at, at most.
    seed
        Of the landmarks and of k-means.

    Raises
    ------
    ValueError
        A value is not finite.

    Examples
    --------
    >>> season = np.sin(2 * np.pi * np.arange(12) / 12)
    >>> series = np.concatenate([np.outer([1, 1.1, 0.9], season), np.outer([1, 1.1, 0.9], -season)])
    >>> cluster = spectral_clusters(series, 2)
    >>> (cluster == cluster[0]).tolist()
    [True, True, True, False, False, False]
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    n = len(series)
    clusters = min(default_clusters(n) if clusters is None else clusters, n)
    if clusters < 2:
        return np.zeros(n, int)
    chosen = np.sort(rng.choice(n, landmarks, replace=False)) if n > landmarks else np.arange(n)
    distances = _distances_to(series, chosen, window)
    with threadpool_limits(1):  # on a busy machine threads wait for each other, far longer than they compute
        embedding = _embedding(distances, chosen, clusters)
        distinct = len(np.unique(embedding.round(9), axis=0))  # pixels may repeat each other
        means = KMeans(min(clusters, distinct), n_init=5, random_state=int(rng.integers(2**31)))
        return means.fit_predict(embedding)


def _distances_to(series: np.ndarray, landmarks: np.ndarray, window: int | None) -> np.ndarray:
    """DTW distances (pixel, landmark)."""
    columns = np.empty((len(series), len(landmarks)))
    columns[landmarks] = dtw_distances(series[landmarks], window=window)
    others = np.setdiff1d(np.arange(len(series)), landmarks)
    if others.size:
        columns[others] = dtw_distances(series[landmarks], series[others], window=window).T
    return columns


def _embedding(columns: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """Leading eigenvectors (pixel, size) of the normalised affinity, rows of length 1."""
    scale = np.median(columns[landmarks][np.triu_indices(len(landmarks), 1)]) or 1.0
    np.exp(-0.5 * np.square(columns / scale), out=columns)
    values, vectors = np.linalg.eigh(columns[landmarks])
    kept = values > 1e-6 * values[-1]  # the DTW kernel is not positive definite: its negative part is left out
    factor = columns @ (vectors[:, kept] / np.sqrt(values[kept]))  # K ≈ factor factorᵀ
    degree = factor @ factor.sum(axis=0)
    factor /= np.sqrt(np.maximum(degree, 1e-9 * degree.max()))[:, None]
    top, axes = np.linalg.eigh(factor.T @ factor)
    leading = factor @ (axes[:, -size:] / np.sqrt(np.maximum(top[-size:], 1e-12)))
    return leading / np.maximum(np.linalg.norm(leading, axis=1, keepdims=True), 1e-12)


def stratified_draw(clusters: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of pixels drawn at random within the clusters, in proportion to the clusters' sizes.

    Every cluster gives at least one, where there are draws enough.

    Parameters
    ----------
    clusters
        (pixel,) the cluster of each.
    size
        How many to draw; all pixels where there are no more.
    rng
        Where chance comes from.

    Examples
    --------
    >>> stratified_draw(np.array([0, 0, 0, 0, 1, 1]), 3, np.random.default_rng(0)).size
    3
    """
    if clusters.size <= size:
        return np.arange(clusters.size)
    names, counts = np.unique(clusters, return_counts=True)
    shares = _allocate(counts, size, rng)
    drawn = [
        rng.choice(np.flatnonzero(clusters == name), share, replace=False)
        for name, share in zip(names, shares, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _allocate(counts: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws per cluster: one each, the rest in proportion, by largest remainder."""
    if size < counts.size:  # fewer draws than clusters: large clusters are the likely ones
        shares = np.zeros(counts.size, int)
        shares[rng.choice(counts.size, size, replace=False, p=counts / counts.sum())] = 1
        return shares
    exact = 1 + (size - counts.size) * (counts - 1) / max((counts - 1).sum(), 1)
    shares = np.floor(exact).astype(int)
    order = np.argsort(-(exact - shares), kind="stable")
    shares[order[: size - shares.sum()]] += 1
    return shares
