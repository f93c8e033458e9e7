"""What a study says in words: the verdict with its numbers, what may not be claimed, the Markdown report."""

import numpy as np
import pandas as pd

from xflux.study import pipeline


def summary(study, tables: dict[str, pd.DataFrame]) -> dict:
    """Numbers of a study by key, the verdict in a paragraph, and what may not be claimed (all JSON-able)."""
    annual = tables["global_annual"].set_index("product")
    towers = tables["towers"].query("fold == 'all'").set_index(["model", "epoch"])
    numbers: dict[str, float] = {
        "inversions annual": float(annual.loc["inversions", "annual flux (PgC yr-1)"]),
        "inversions spread": float(annual.loc["inversions", "± (PgC yr-1)"]),
    }
    for model in study.models:
        label = pipeline.LABELS[model]
        for key, column in (
            ("annual", "annual flux (PgC yr-1)"),
            ("spread", "± (PgC yr-1)"),
            ("annual difference", "annual difference (PgC yr-1)"),
            ("seasonal-cycle RMSE", "seasonal-cycle RMSE (PgC month-1)"),
            ("region-month RMSE", "region-month RMSE (PgC month-1)"),
        ):
            numbers[f"{label}: {key}"] = float(annual.loc[label, column])
        for epoch in ("best", "last"):
            numbers[f"{label}: tower RMSE, {epoch} epoch"] = float(towers.loc[(label, epoch), "RMSE (gC m-2 d-1)"])
    return {
        "study": study.config.name,
        "title": study.config.title,
        "numbers": numbers,
        "verdict": _verdict(study, numbers, tables),
        "claims_not_allowed": study.config.limits,
        "models": {model: {"label": pipeline.LABELS[model], "file": name} for model, name in study.names.items()},
    }


def _verdict(study, numbers: dict[str, float], tables: dict[str, pd.DataFrame]) -> str:
    text = [
        f"EC, trained on towers alone, has a global land flux of {_pm(numbers, 'EC')} PgC/yr; the inversions say "
        f"{numbers['inversions annual']:.2f} ± {numbers['inversions spread']:.2f} PgC/yr ({study.period})."
    ]
    for model in study.models[1:]:
        label = pipeline.LABELS[model]
        text.append(
            f"{label}: {_pm(numbers, label)} PgC/yr, seasonal-cycle RMSE "
            f"{numbers[f'{label}: seasonal-cycle RMSE']:.3f} and region-month RMSE "
            f"{numbers[f'{label}: region-month RMSE']:.3f} PgC per month, tower RMSE "
            f"{numbers[f'{label}: tower RMSE, best epoch']:.3f} against EC's "
            f"{numbers['EC: tower RMSE, best epoch']:.3f} gC m-2 d-1 "
            f"(last epoch: {numbers[f'{label}: tower RMSE, last epoch']:.3f} against "
            f"{numbers['EC: tower RMSE, last epoch']:.3f})."
        )
    text += _bridge_verdict(study, tables["bridge_post_hoc"])
    if "truth" in tables:
        for _, row in tables["truth"].iterrows():
            text.append(
                f"Against the truth ({row['truth (PgC yr-1)']:.2f} PgC/yr) {row['model']} is off by "
                f"{row['bias (PgC yr-1)']:+.2f} PgC/yr, its map by {row['map RMSE (gC m-2 d-1)']:.2f} gC m-2 d-1."
            )
    half = tables["half_of_the_inversions"]
    if len(half):
        row = half.iloc[0]
        text.append(
            "Trained on half of the inversion systems and scored on the other half, sampled+total is off by "
            f"{row['annual difference (PgC yr-1)']:+.2f} PgC/yr, with a seasonal-cycle RMSE of "
            f"{row['seasonal-cycle RMSE (PgC month-1)']:.3f} PgC per month."
        )
    return " ".join(text)


def _bridge_verdict(study, table: pd.DataFrame) -> list[str]:
    """The post-hoc test in words: the sum, and the regions whose R² fell by more than 0.1 (as ``Bridge.diagnose``)."""
    rows = table[
        (table["regions"] == study.config.target.regions) & (table["model"] == pipeline.LABELS.get("bridge"))
    ].set_index("region")
    if not len(rows):
        return []
    total, by_region = rows.loc["sum"], rows.drop("sum")
    tested = by_region[by_region["r2"].notna()]
    broken = tested[tested["r2"] < np.minimum(tested["r2 in training"], study.config.bridge.r2) - 0.1]
    return [
        f"After training through the bridge it says {total['bridge (PgC yr-1)']:.2f} PgC/yr where the full integral is "
        f"{total['full (PgC yr-1)']:.2f}; the link has broken (R² lower by more than 0.1, Sect. 3.5) in "
        f"{len(broken)} of {len(tested)} regions{': ' if len(broken) else ''}{', '.join(broken.index)}."
    ]


def _pm(numbers: dict[str, float], label: str) -> str:
    spread = numbers[f"{label}: spread"]
    value = f"{numbers[f'{label}: annual']:.2f}"
    return value if np.isnan(spread) else f"{value} ± {spread:.2f}"


def report(task, summary: dict, tables: dict[str, pd.DataFrame]) -> str:
    """The Markdown report: verdict, limits, tables, where the figures are."""
    from xflux.study.tables import markdown

    titles = {
        "global_annual": "Global annual flux",
        "seasonal_cycle": "Global mean seasonal cycle (PgC per month)",
        "within_inversion_range": "Regions of the target within the inversions' range",
        "common_cells": "Compared maps on common cells",
        "towers": "Towers, by held-out fold",
        "paired": "EC-ATM − EC at the towers (bootstrap over sites)",
        "bridge_post_hoc": "What the bridge says against what the full integral is (Sect. 3.5)",
        "half_of_the_inversions": "A test that the model has not seen",
        "drivers": "Drivers",
        "truth": "Against the truth",
        "monthly_drivers": "Monthly in place of daily drivers",
    }
    inputs = task.inputs
    counts = (
        f"{inputs.towers.sizes['sample']} tower days of {len(np.unique(inputs.towers['site']))} sites; "
        f"{inputs.grid.attrs.get('filled_cells', 0)} coastal cells took the drivers of the nearest cell within "
        f"{task.config.drivers.fill_distance:g}°; integrals cover the modelled cells and are not scaled up."
    )
    lines = [
        f"# {summary['title'] or summary['study']}",
        "",
        summary["verdict"],
        "",
        counts,
        "",
        "**What may not be claimed**",
        "",
        *[f"- {claim}" for claim in summary["claims_not_allowed"]],
        "",
    ]
    if task.smoke:
        lines.insert(1, "\n**A smoke run: the numbers mean nothing.**\n")
    for name, table in tables.items():
        shown = table[table["fold"] == "all"] if name == "towers" else table
        lines += [f"## {titles.get(name, name.replace('_', ' ').capitalize())}", "", markdown(shown)]
        if name.startswith("regions_") and name != f"regions_{task.config.target.regions}":
            lines.append("The target is by other regions: it does not constrain these, they are a check.\n")
    return "\n".join(lines)
