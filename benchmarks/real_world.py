"""The study on real data at several seeds: `python benchmarks/real_world.py OUT [--seeds 0 1 2]`, with $XFLUX_DATA set.

Runs `examples/real_world/study.toml` once a seed into OUT/seed_N (what is done there is kept) and prints every model
against the mean of the inversions and at held-out towers, by seed; then what must hold of EC and of sampled+total, with
what came out, of each seed and of the mean. What it means is in docs/real_world.md. A seed takes about 22 minutes of
one core and 3.3 GiB.
"""

import argparse
from pathlib import Path

import pandas as pd

from xflux import study

STUDY = Path(__file__).parents[1] / "examples" / "real_world" / "study.toml"
COLUMNS = {
    "annual difference (PgC yr-1)": "sum", "± (PgC yr-1)": "members' sd",
    "seasonal-cycle RMSE (PgC month-1)": "cycle", "region-month RMSE (PgC month-1)": "band-months",
}  # fmt: skip
MODEL = "EC-ATM sampled+total"
MUST = {"sum": (-0.2, 0.2), "cycle": (0, 0.05), "band-months": (0, 0.035)}  # of the constrained model: least, most


def models(run: Path) -> pd.DataFrame:
    """A row a model of one run: differences from the inversions, R² at held-out towers at the best epoch and last."""
    towers = study.table(run, "towers").query("fold == 'all'").pivot(index="model", columns="epoch", values="R2")
    found = study.table(run, "global_annual").set_index("product")[list(COLUMNS)].rename(columns=COLUMNS)
    return found.join(towers.add_prefix("tower R2, "), how="inner")


def held(found: pd.DataFrame) -> pd.DataFrame:
    """What must hold, and whether it does."""
    ec, ours = found.loc["EC", "tower R2, best"], found.loc[MODEL]
    rows = [("EC", "tower R2", ec, 0.40, 1), (MODEL, "tower R2 over EC's", ours["tower R2, best"] / ec, 0.95, 2)]
    rows += [(MODEL, what, ours[what], *limits) for what, limits in MUST.items()]
    table = pd.DataFrame(rows, columns=["model", "what", "value", "least", "most"])
    return table.assign(holds=table["value"].between(table["least"], table["most"]))


def main() -> None:
    """Run what is not there yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    found = {
        seed: models(study.run_study(study.load_study(STUDY, {"seed": seed}), options.out / f"seed_{seed}"))
        for seed in options.seeds
    }
    together = pd.concat(found, names=["seed", "model"])
    print(together.round(3).to_string())
    for seed, one in found.items():
        print(f"\nseed {seed}", held(one).round(3).to_string(index=False), sep="\n")
    print("\nmean of the seeds", held(together.groupby("model").mean()).round(3).to_string(index=False), sep="\n")


if __name__ == "__main__":
    main()
