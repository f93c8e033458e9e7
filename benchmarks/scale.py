"""What a study costs by its size, from what `full_study.py` noted: a table in Markdown, and a figure.

    python benchmarks/scale.py FOLDER… [--picture docs/images/scale.png]

Each folder is one of `benchmarks/full_study.py`. Cost is CPU seconds, which a busy machine changes least, over the
work that a stage grows with. A stage that the largest folder has not done is extrapolated from the next smaller one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

import xflux
from xflux import study

STAGES = {  # stage → what it is, and what it grows with
    "inputs": ("drivers, towers, target", "cell days"),
    "ec": ("training EC", "tower rows"),
    "forward-ec": ("forward run of all members", "member cell days"),
    "bridges": ("bridges of 18 regions", "cell months"),
    "stability": ("draws of candidates", "draws"),
    "train-ec_atm_bridge": ("training EC-ATM by bridge", "pixel rows"),
    "train-ec_atm_sampled_total": ("training EC-ATM sampled+total", "sampled rows"),
    "results": ("regional integrals, towers", "member cell months"),
    "tables": ("tables", "member cell months"),
    "figures": ("figures", "cell months"),
}


def work(folder: Path) -> dict[str, float]:
    """How much of everything that a stage grows with there is."""
    results = study.Results(folder / "run")
    config, grid = results.config, results.inputs.driver_grid
    train, members = config.train, config.train.folds
    land, days = int((results.inputs.land_fraction > 0).sum()), grid.sizes["time"]
    steps = train.epochs * -(-results.inputs.towers.sizes["sample"] * (members - 1) // train.batch)
    bridge = folder / "run" / "bridge" / "reccap2.nc"
    pixels = xflux.load_bridge(bridge).pixels.sizes["pixel"] if bridge.exists() else 0
    return {
        "cell days": land * days,
        "tower rows": train.batch * steps,
        "member cell days": land * days * members,
        "cell months": land * days / 30.4,
        "draws": config.bridge.stability,
        "pixel rows": (365 * pixels + train.batch) * steps,
        "sampled rows": (365 * min(train.pixels_per_step, land) + train.batch) * steps,
        "member cell months": land * days / 30.4 * members,
    }


def told(folder: Path) -> str:
    """A folder's size in words."""
    results = study.Results(folder / "run")
    grid, train = results.inputs.driver_grid, results.config.train
    step = abs(float(grid["lat"][1] - grid["lat"][0]))
    return f"{step:g}°, {grid.sizes['time']} days, {train.folds} members, {train.epochs} epochs"


def table(folders: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """CPU seconds and peak memory by stage (rows) and folder; NaN where a stage was not done."""
    costs = {told(f): {p.stem: json.loads(p.read_text()) for p in (f / "costs").glob("*.json")} for f in folders}
    by = {key: {name: {s: c[key] for s, c in cost.items()} for name, cost in costs.items()} for key in ("cpu", "peak")}
    return tuple(pd.DataFrame(by[key]).reindex(STAGES) for key in ("cpu", "peak"))


def in_words(seconds: float) -> str:
    """Seconds, minutes or hours to two digits or so."""
    if pd.isna(seconds):
        return "–"
    size, unit = next((s, u) for s, u in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= 2 * s or s == 1)
    return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"


def extrapolated(seconds: pd.DataFrame, amounts: pd.DataFrame) -> pd.DataFrame:
    """Seconds of the smaller folder times the ratio of work, where a larger one was not measured."""
    found = seconds.copy()
    for stage, (_, unit) in STAGES.items():
        for smaller, name in zip(found.columns[:-1], found.columns[1:], strict=True):
            if pd.isna(found.loc[stage, name]):
                more = amounts.loc[unit, name] / amounts.loc[unit, smaller]
                found.loc[stage, name] = found.loc[stage, smaller] * more
    return found


def draw(seconds: pd.DataFrame, found: pd.DataFrame, amounts: pd.DataFrame, path: Path) -> None:
    """CPU hours by stage and cell days: filled marks are measured."""
    import matplotlib.pyplot as plt

    from xflux.plot.styling import PAGE, style

    with style():
        figure, ax = plt.subplots(figsize=(0.75 * PAGE, 0.5 * PAGE), layout="constrained")
        size = amounts.loc["cell days"]
        for number, (stage, (words, _)) in enumerate(STAGES.items()):
            colour, known = f"C{number}", seconds.loc[stage].notna()
            ax.plot(size, found.loc[stage] / 60, color=colour, linewidth=0.8, label=words)
            ax.plot(size[known], seconds.loc[stage][known] / 60, "o", color=colour, markersize=3.5)
            ax.plot(size[~known], found.loc[stage][~known] / 60, "o", color=colour, markersize=3.5, mfc="white")
        ax.set(xscale="log", yscale="log", xlabel="land cells × days", ylabel="CPU minutes")
        figure.legend(loc="outside right center")
        figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    folders = sorted(asked.folders, key=lambda folder: work(folder)["cell days"])
    seconds, peak = table(folders)
    amounts = pd.DataFrame({told(folder): work(folder) for folder in folders})
    found = extrapolated(seconds, amounts)
    print(f"| stage | grows with | {' | '.join(found.columns)} |\n| --- | --- |{' ---: |' * len(found.columns)}")
    for stage, (words, unit) in STAGES.items():
        cells = []
        for name in found.columns:
            known = pd.notna(seconds.loc[stage, name])
            text = in_words(found.loc[stage, name])
            cells.append(f"{text}, {peak.loc[stage, name]:.1f} GiB" if known else f"*{text}*")
        print(f"| {words} | {unit} | {' | '.join(cells)} |")
    if asked.picture:
        draw(seconds, found, amounts, asked.picture)


if __name__ == "__main__":
    main()
