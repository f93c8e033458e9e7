"""Speed of the bridge against the literal recipe: `python benchmarks/bridge.py [--months N] [--resolution D]`.

On the invented bottom-up product of `bottom_up.py` (204 months, 0.5°) and the 18 RECCAP2 regions, on the cores it is
given:

1. `fit_bridge` (limit 10 minutes, 4 GiB);
2. the pixel counts of stepwise α on the *same* candidates (must hold: no more in 16 regions, 3 more at most);
3. the literal recipe where it is feasible (regions of at most --literal pixels): the full DTW matrix in the same band,
   scikit-learn's spectral clustering, the same number of candidates, scikit-learn's Lasso with α lowered by 0.9 until
   R² ≥ 0.95; and what the landmarks lose there: adjusted Rand index of the clusters, pixels, R² of held-out years;
4. `bridge_stability` with --trials draws (limit: 1000 in 15 minutes); `--only-stability` runs this alone.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd
from bottom_up import MONTHS, bottom_up
from sklearn.cluster import SpectralClustering
from sklearn.linear_model import Lasso
from sklearn.metrics import adjusted_rand_score

from xflux.bridge import FitOptions, bridge_stability, lasso
from xflux.bridge.candidates import default_clusters, dtw_distances, stratified_draw, z_normalised
from xflux.bridge.fit import clusters_of, draw_candidates, fit_bridge, fit_candidates, prepare


def stepwise(x: np.ndarray, y: np.ndarray, r2: float, tol: float = 1e-4) -> tuple[np.ndarray, float]:
    """The paper's loop: α lowered by 0.9 until the training R² is reached; weights and seconds."""
    start = time.perf_counter()
    model = Lasso(max_iter=20_000, tol=tol, warm_start=True)
    alpha = np.abs((x - x.mean(0)).T @ (y - y.mean())).max() / len(y)
    for _ in range(200):
        model.set_params(alpha=alpha).fit(x, y)
        if model.score(x, y) >= r2:
            break
        alpha *= 0.9
    return model.coef_, time.perf_counter() - start


def literal(region, opts: FitOptions) -> dict:
    """Full DTW matrix, scikit-learn's spectral clustering, stratified draw, stepwise α."""
    start = time.perf_counter()
    series = z_normalised(region.x.T)
    distance = dtw_distances(series, window=opts.window)
    affinity = np.exp(-0.5 * (distance / np.median(distance[np.triu_indices(len(series), 1)])) ** 2)
    k = default_clusters(len(series))
    labels = SpectralClustering(k, affinity="precomputed", random_state=opts.seed).fit_predict(affinity)
    chosen = stratified_draw(labels, opts.candidates, region.seed(opts.seed, 1))
    coef, _ = stepwise(region.x[:, chosen], region.y, opts.r2)
    seconds = time.perf_counter() - start
    return {"literal s": seconds, "literal pixels": np.count_nonzero(coef), "labels": labels,
            "literal r2_cv": _held_out(region, chosen, opts)}  # fmt: skip


def ours(region, steps: int, opts: FitOptions) -> dict:
    """What fit_bridge does in one region, timed without its cross-validation."""
    start = time.perf_counter()
    labels = clusters_of(region, steps, opts)
    chosen = stratified_draw(labels, opts.candidates, region.seed(opts.seed, 1))
    fit = fit_candidates(region, chosen, opts)
    seconds = time.perf_counter() - start
    return {"xflux s": seconds, "xflux pixels": np.count_nonzero(fit.coef), "xflux labels": labels,
            "xflux r2_cv": _held_out(region, chosen, opts)}  # fmt: skip


def _held_out(region, chosen: np.ndarray, opts: FitOptions) -> float:
    held_out = lasso.cross_validate(region.x[:, chosen], region.y, region.fold, opts.r2)
    return lasso.r_squared(region.y, held_out)


def counts(parts, steps: int, opts: FitOptions) -> pd.DataFrame:
    """Pixels and time of the exact stop and of stepwise α on the same candidates."""
    rows = []
    for region in parts:
        chosen = draw_candidates(region, steps, opts)
        x = region.x[:, chosen]
        start = time.perf_counter()
        fit = fit_candidates(region, chosen, opts)
        seconds = time.perf_counter() - start
        coef, theirs = stepwise(x, region.y, opts.r2)
        rows.append({"region": region.label, "pixels": np.count_nonzero(fit.coef), "stepwise": np.count_nonzero(coef),
                     "ms": 1e3 * seconds, "stepwise ms": 1e3 * theirs})  # fmt: skip
    return pd.DataFrame(rows).set_index("region")


def stability(nee, trials: int) -> None:
    """All trials of all regions, clustering included, through the public door."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = bridge_stability(nee, "reccap2", trials=trials)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(found[["n_pixels", "n_pixels_std", "reached"]].to_dataframe().round(2).to_string())
    print(f"bridge_stability, {trials} trials of {found.sizes['region']} regions, clustering included: {wall / 60:.1f} "
          f"min, CPU {cpu / 60:.1f} min, peak memory {peak_gib():.2f} GiB", flush=True)  # fmt: skip


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--months", type=int, default=MONTHS)
    parser.add_argument("--resolution", type=float, default=0.5)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only-stability", action="store_true")
    parser.add_argument("--literal", type=int, default=1200)
    args = parser.parse_args()
    nee = bottom_up(args.months, args.resolution)
    if args.only_stability:
        return stability(nee, args.trials)
    before = peak_gib()
    start = time.perf_counter()
    bridge = fit_bridge(nee, "reccap2")
    fitted = time.perf_counter() - start
    peak = peak_gib()
    print(bridge)
    opts = FitOptions()
    start_ = prepare(nee, "reccap2", None, opts)
    steps = start_.samples.steps
    parts = [start_.samples.region(k) for k in range(18)]
    print(f"\nfit_bridge, 18 regions: {fitted:.0f} s, peak memory {peak:.2f} GiB (before it {before:.2f})")

    table = counts(parts, steps, opts)
    fewer = int((table["pixels"] <= table["stepwise"]).sum())
    print("\nexact stop against stepwise α (factor 0.9, scikit-learn) on the same candidates")
    print(table.round(1).to_string())
    print(
        f"no more pixels in {fewer} of {len(table)} regions, at most {(table['pixels'] - table['stepwise']).max():+d}; "
        f"Lasso {table['stepwise ms'].sum() / table['ms'].sum():.1f} times faster"
    )

    rows = []
    for region in [p for p in parts if opts.candidates < p.pixels.size <= args.literal]:
        row = {"region": region.label, "valid": region.pixels.size} | literal(region, opts) | ours(region, steps, opts)
        row["rand index"] = adjusted_rand_score(row.pop("labels"), row.pop("xflux labels"))
        rows.append(row | {"ratio": row["literal s"] / row["xflux s"]})
    if rows:
        print("\nthe literal recipe (full matrix, SpectralClustering, stepwise α) where it is feasible")
        print(pd.DataFrame(rows).set_index("region").round(3).to_string())
    pairs = np.array([p.pixels.size for p in parts], float)
    few = np.minimum(pairs, opts.landmarks)
    print(f"DTW pairs: literal {(pairs * (pairs - 1) / 2).sum():.2e}, with landmarks {(few * pairs).sum():.2e}")
    print()
    stability(nee, args.trials)


if __name__ == "__main__":
    main()
