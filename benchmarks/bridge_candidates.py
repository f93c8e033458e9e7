"""Do DTW and clustering choose better candidates than chance? `python benchmarks/bridge_candidates.py [--draws N]`.

On the invented bottom-up product of `bottom_up.py` and the 18 RECCAP2 regions, at the same number of candidates (30,
100, 300):

- `dtw`: stratified random draw from spectral clusters on DTW distances (window 2 months), as `fit_bridge` does;
- `dtw-wide`, `dtw-none`: the same with a window of 6 months, and unconstrained (the paper's; --unconstrained, slow);
- `euclid`: the same clusters on plain Euclidean distances (window 0): what warping adds;
- `random`: a plain random draw from all valid pixels;
- `regular`: every n-th pixel along rows of latitude from a random start: regular thinning.

Judged by the number of contributing pixels at R² 0.95 (fewer is better), R² of held-out blocks of years, the same for
deseasonalised anomalies, and the share of fits that reach R² at all: means over draws and regions, and the difference
to `random` with its standard error over regions.

What a run at 0.5° showed (`--draws 4`, real climatology; the 15 regions of up to 4900 pixels: CAN, NAF and RUS were not
run; 7 minutes of CPU), minus a plain random draw of as many candidates:

| candidates | drawn by | pixels | R² of held-out years | R² of held-out anomalies |
| --- | --- | --- | --- | --- |
| 30 | dtw | -0.07 ± 0.20 of 6.65 | -0.0002 ± 0.0002 of 0.9445 | -0.004 ± 0.032 of 0.628 |
| 30 | regular | +0.07 ± 0.18 | -0.0002 ± 0.0003 | +0.014 ± 0.036 |
| 100 | dtw | +0.27 ± 0.25 of 7.40 | -0.0002 ± 0.0004 of 0.9434 | -0.005 ± 0.011 of 0.618 |
| 100 | regular | +0.30 ± 0.22 | -0.0000 ± 0.0002 | +0.007 ± 0.013 |
| 300 | dtw | +0.25 ± 0.20 of 8.25 | -0.0006 ± 0.0002 of 0.9427 | -0.032 ± 0.021 of 0.618 |
| 300 | regular | +0.25 ± 0.24 | -0.0003 ± 0.0002 | +0.001 ± 0.013 |

So no: DTW and clustering select no better pixels than chance or a regular thinning; every draw reaches R² 0.95. Nor do
a window of 6 months or Euclidean distances. Two of the 36 differences exceed two standard errors, as chance has it, and
both are against DTW: 0.0006 of R² with 300 candidates, and 0.022 of the anomalies' R² for the wide window with 100. The
product is invented: on another one, run it again. `--unconstrained` was not run at 0.5° (about 130 µs a pair of series:
over an hour on one core).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from bottom_up import MONTHS, bottom_up

from xflux.bridge import FitOptions, lasso
from xflux.bridge.candidates import LANDMARKS, spectral_clusters, stratified_draw, z_normalised
from xflux.bridge.fit import fit_candidates, prepare

SCORES = ["pixels", "r2_cv", "r2_cv_anomaly"]


def clusterings(region, unconstrained: bool, landmarks: int) -> dict[str, np.ndarray]:
    """Clusters of the region's pixels by each distance."""
    windows = {"dtw": 2, "dtw-wide": 6, "euclid": 0} | ({"dtw-none": None} if unconstrained else {})
    series = z_normalised(region.x.T)
    return {
        name: spectral_clusters(series, window=window, landmarks=landmarks, seed=0) for name, window in windows.items()
    }


def draws(region, clusters: dict[str, np.ndarray], size: int, number: int):
    """(how, pixels) of one draw by every way of drawing."""
    n, rng = region.pixels.size, np.random.default_rng([number, size])
    for how, labels in clusters.items():
        yield how, stratified_draw(labels, size, rng)
    yield "random", np.sort(rng.choice(n, min(size, n), replace=False))
    start = rng.uniform(0, n / size)
    yield "regular", np.unique(np.minimum((start + np.arange(size) * n / size).astype(int), n - 1))


def scores(region, chosen: np.ndarray, opts: FitOptions) -> dict[str, float]:
    fit = fit_candidates(region, chosen, opts)
    held_out = lasso.cross_validate(region.x[:, chosen], region.y, region.fold, opts.r2)
    return {
        "pixels": np.count_nonzero(fit.coef) if fit.reached else np.nan,
        "reached": fit.reached,
        "r2_cv": lasso.r_squared(region.y, held_out),
        "r2_cv_anomaly": lasso.r_squared(region.y, held_out, region.month),
    }


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Difference to `random` of a region's mean over draws: its mean over regions and the standard error of that.

    The draws of a region share its series and clusters, so regions, not draws, are what is counted.
    """
    wide = table.groupby(["candidates", "region", "how"])[SCORES].mean().unstack("how")
    out = {}
    for score in SCORES:
        difference = wide[score].sub(wide[score]["random"], axis=0).drop(columns="random").groupby("candidates")
        mean, error = difference.mean().stack(), difference.sem().stack()
        out[score] = [f"{m:+.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True)]
        index = mean.index
    return pd.DataFrame(out, index=index)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--months", type=int, default=MONTHS)
    parser.add_argument("--resolution", type=float, default=0.5)
    parser.add_argument("--unconstrained", action="store_true")
    parser.add_argument("--landmarks", type=int, default=LANDMARKS, help="of the clusterings (cost grows with them)")
    parser.add_argument("--regions", nargs="+", help="only these")
    parser.add_argument("--save", help="CSV of every draw, written after each region; regions in it are left out")
    args = parser.parse_args()
    samples = prepare(bottom_up(args.months, args.resolution), "reccap2", None, FitOptions()).samples
    table, start = pd.DataFrame(), time.perf_counter()
    if args.save and Path(args.save).exists():
        table = pd.read_csv(args.save)
    done = set(table["region"]) if len(table) else set()
    regions = [samples.region(k) for k in range(len(samples.labels)) if samples.labels[k] not in done]
    for region in sorted(regions, key=lambda r: r.pixels.size):
        if args.regions and region.label not in args.regions:
            continue
        table = pd.concat([table, pd.DataFrame(studied(region, args))], ignore_index=True)
        if args.save:
            table.to_csv(args.save, index=False)
        print(f"{region.label}: {region.pixels.size} pixels, {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\nmeans over draws and {table['region'].nunique()} regions")
    print(table.groupby(["candidates", "how"])[[*SCORES, "reached"]].mean().round(4).to_string())
    print("\nminus a plain random draw of the same number (mean ± standard error over regions)")
    print(compared(table).to_string())


def studied(region, args: argparse.Namespace) -> list[dict]:
    """Scores of every draw of one region."""
    clusters, rows = clusterings(region, args.unconstrained, args.landmarks), []
    for size in args.sizes:
        for number in range(args.draws):
            for how, chosen in draws(region, clusters, size, number):
                row = {"candidates": size, "region": region.label, "draw": number, "how": how}
                rows.append(row | scores(region, chosen, FitOptions()))
    return rows


if __name__ == "__main__":
    main()
