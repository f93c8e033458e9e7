"""Interannual variability on real data: `python benchmarks/interannual.py OUT [--seeds 0 1 2]`, with $XFLUX_DATA set.

Runs `examples/interannual/study.toml` once a seed into OUT/seed_N (what is done there is kept) and prints, as mean and
range over the seeds: annual anomalies against the inversions' mean, and means, seasonal cycles and towers, in the years
of training and in those that no model saw. Then what must hold of the best variant in the unseen years, with what came
out: of the mean over seeds, and of each seed. At the towers it is said twice: by the epoch that each member was
delivered with, which held-out towers helped to choose, and by one that the other members chose. What it means is in
docs/interannual.md. A seed takes about seven minutes of one core.

At last, why one region is harder than another: how far the inversions agree on its years, two by two, and how likely
four years are to give an r of 0.5 where a long series would give 0.5 to 0.8.

`--blocks` chooses settings within the years of training: each of three blocks of four years of 2001-2012 is left out in
turn, and what judges are these years.
"""

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

import xflux
from xflux import study
from xflux.study import interannual
from xflux.study.results import Results, model_label

STUDY = Path(__file__).parents[1] / "examples" / "interannual" / "study.toml"
BLOCKS = ((2001, 2004), (2005, 2008), (2009, 2012))
SCORES = ["r", "sd / reference", "bias (PgC yr-1)"]
MEANS = ["mean difference (PgC yr-1)", "seasonal-cycle RMSE (PgC month-1)", "r of a member", "tower R2, held-out sites"]
MUST = {  # (column, region) → least, most
    ("r", "globe"): (0.8, 1), ("r", "30S-30N"): (0.8, 1), ("r", "20-50N"): (0.5, 1),
    ("sd / reference", "globe"): (0.7, 1.3), ("sd / reference", "30S-30N"): (0.7, 1.3),
    (MEANS[0], ""): (-0.3, 0.3), (MEANS[1], ""): (0, 0.08),
}  # fmt: skip


def run(out: Path, changes: dict) -> Path:
    """One run of the study, with these keys in place of the file's."""
    return study.run_study(study.load_study(STUDY, changes), out)


def collect(runs: list[Path], name: str) -> pd.DataFrame:
    """A table of every run, one below the other."""
    return pd.concat([study.table(run, name).assign(run=run.name) for run in runs], ignore_index=True)


def spread(table: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """Mean over runs, and least to most."""
    groups = table.groupby(by, sort=False)[columns]
    mean, low, high = groups.mean(), groups.min(), groups.max()
    cells = {
        c: [f"{m:.2f} ({a:.2f}…{b:.2f})" for m, a, b in zip(mean[c], low[c], high[c], strict=True)] for c in columns
    }
    return pd.DataFrame(cells, mean.index)


def chosen_elsewhere(run: Path) -> dict[str, float]:
    """R² at held-out towers of every model where no tower has a say in the epoch by which it is judged.

    A member takes the epoch that is best, by the loss that all of them choose by, for the mean of the others.
    """
    results = Results(run)
    towers = results.inputs.towers
    sites, observed = towers["site"].values.astype(str), towers["nee"].values.astype(float)
    found = {}
    for label, name in results.names.items():
        model = xflux.load_model(run / "models" / f"{name}.safetensors")
        loss, mse = model.history["validation"].values, model.history["validation_loss"].sel(term="EC").values
        fold = np.array([model.folds.get(site, -1) for site in sites])
        epochs = [np.delete(loss, k, axis=1).mean(axis=1).argmin() for k in range(model.members)]
        squares = sum((fold == k).sum() * mse[epoch, k] for k, epoch in enumerate(epochs))
        total = observed[fold >= 0].var() * (fold >= 0).sum()
        found[model_label(label)] = 1 - squares / total
    return found


def held(scores: pd.DataFrame, means: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    """What must hold in unseen years, for every model: mean over runs and whether it is inside."""
    annual = scores[scores["years"] == "unseen"].groupby(["product", "region"])[SCORES].mean()
    whole = means[means["years"] == "unseen"].groupby("model")[MEANS].mean()
    other, rows = elsewhere.mean(), []
    for model in means["model"].unique():
        for (column, region), (least, most) in MUST.items():
            value = annual.loc[(model, region), column] if region else whole.loc[model, column]
            rows.append((model, region, column, value, least, most, least <= value <= most))
        lost = whole.loc[model, MEANS[3]] - whole.loc["EC", MEANS[3]]
        rows.append((model, "", "tower R2 less EC's", lost, -0.02, 1, lost >= -0.02))
        lost = other[model] - other["EC"]
        rows.append((model, "", "the same, epochs chosen elsewhere", lost, -0.02, 1, lost >= -0.02))
    return pd.DataFrame(rows, columns=["model", "region", "what", "value", "least", "most", "holds"])


def agreement(run: Path) -> pd.DataFrame:
    """r of detrended annual anomalies of any two of the inversions, unseen ones too: mean, least and most."""
    results, rows = Results(run), []
    every = interannual.in_groups(results.config, interannual.annual_inversions(results))
    pairs = list(combinations(every["inversion"].values, 2))
    for region in every["region"].values:
        for part in range(2):
            one = [every.sel(region=region, inversion=list(pair)) for pair in pairs]
            r = [list(interannual.compare(results.config, *both))[part] for both in one]
            found = np.array([scores["r"] for scores in r])
            rows.append((r[0]["years"], region, found.mean(), found.min(), found.max()))
    return pd.DataFrame(rows, columns=["years", "region", "mean r of two", "least", "most"])


def chance(least: float = 0.5, years: int = 4, draws: int = 100_000) -> dict[float, float]:
    """Share of draws of so many years whose r is at least this, where a long series has r 0.5 … 0.8."""
    rng, found = np.random.default_rng(0), {}
    for rho in (0.5, 0.6, 0.7, 0.8):
        a, b = rng.normal(size=(2, draws, years))
        b = rho * a + np.sqrt(1 - rho**2) * b
        a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
        r = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
        found[rho] = round(float((r >= least).mean()), 2)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", help="only these of the study's")
    parser.add_argument("--blocks", action="store_true", help="leave out blocks of 2001-2012 instead, first seed")
    options = parser.parse_args()
    shared = {"variants": options.variants} if options.variants else {}
    if options.blocks:
        changes = shared | {"seed": options.seeds[0], "drivers.years": [2001, 2012], "target.years": [2001, 2012]}
        runs = [
            run(options.out / f"block_{first}", changes | {"evaluation.unseen_years": [first, last]})
            for first, last in BLOCKS
        ]
    else:
        runs = [run(options.out / f"seed_{seed}", shared | {"seed": seed}) for seed in options.seeds]
    scores, means = collect(runs, "interannual"), collect(runs, "interannual_years")
    print(spread(scores, ["years", "region", "product", "reference"], SCORES).sort_index().to_string())
    print(spread(means, ["years", "model"], MEANS).sort_index().to_string())
    elsewhere = pd.DataFrame([chosen_elsewhere(r) for r in runs], [r.name for r in runs])
    print(held(scores, means, elsewhere).round(3).to_string(index=False))
    for name in elsewhere.index if len(runs) > 1 else ():
        alone = (scores[scores["run"] == name], means[means["run"] == name], elsewhere.loc[[name]])
        print(f"{name}: not held", held(*alone).query("not holds").round(3).to_string(index=False), sep="\n")
    print(agreement(runs[0]).round(2).to_string(index=False))
    print("four years give r of 0.5 or more where a long series has:", chance())


if __name__ == "__main__":
    main()
