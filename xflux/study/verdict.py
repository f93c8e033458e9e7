"""What a study says in words: the verdict with its numbers, what may not be claimed, the Markdown report."""

import numpy as np
import pandas as pd

from xflux.study.results import Results, in_words, model_label


def summary(study: Results, tables: dict[str, pd.DataFrame]) -> dict:
    """Numbers of a study by key, the verdict in a paragraph, and what may not be claimed (all JSON-able)."""
    numbers = numbers_of(study, tables)
    half = {"half": {"label": study.labels["half"], "file": "half"}} if study.config.held_out_inversions else {}
    return {
        "study": study.config.name,
        "title": study.config.title,
        "smoke": study.smoke,
        "numbers": numbers,
        "verdict": _verdict(study, numbers, tables),
        "claims_not_allowed": study.config.limits,
        "models": {model: {"label": model_label(model), "file": name} for model, name in study.names.items()} | half,
        "units": UNITS,
        "tables": {name: title(name) for name in tables},
    }


def numbers_of(study: Results, tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """The numbers of a study by key, taken from its tables."""
    annual = tables["global_annual"].set_index("product")
    towers = tables["towers"].query("fold == 'all'").set_index(["model", "epoch"])
    numbers: dict[str, float] = {
        "inversions annual": float(annual.loc["inversions", "annual flux (PgC yr-1)"]),
        "inversions spread": float(annual.loc["inversions", "± (PgC yr-1)"]),
    }
    for model in study.models:
        label = model_label(model)
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
    return numbers


def _verdict(study: Results, numbers: dict[str, float], tables: dict[str, pd.DataFrame]) -> str:
    text = [
        f"EC, trained on towers alone, has a global land flux of {_pm(numbers, 'EC')} PgC/yr; the inversions say "
        f"{numbers['inversions annual']:.2f} ± {numbers['inversions spread']:.2f} PgC/yr ({study.period})."
    ]
    for model in study.models[1:]:
        label = model_label(model)
        text.append(
            f"{label}: {_pm(numbers, label)} PgC/yr, seasonal-cycle RMSE "
            f"{numbers[f'{label}: seasonal-cycle RMSE']:.3f} and region-month RMSE "
            f"{numbers[f'{label}: region-month RMSE']:.3f} PgC per month, tower RMSE "
            f"{numbers[f'{label}: tower RMSE, best epoch']:.3f} against EC's "
            f"{numbers['EC: tower RMSE, best epoch']:.3f} gC m-2 d-1 "
            f"(last epoch: {numbers[f'{label}: tower RMSE, last epoch']:.3f} against "
            f"{numbers['EC: tower RMSE, last epoch']:.3f})."
        )
    text += _bridge_verdict(study, tables["bridge_post_hoc"]) if "bridge_post_hoc" in tables else []
    text += _annual_verdict(study, tables)
    if "truth" in tables:
        for _, row in tables["truth"].iterrows():
            text.append(
                f"Against the truth ({row['truth (PgC yr-1)']:.2f} PgC/yr) {row['model']} is off by "
                f"{row['bias (PgC yr-1)']:+.2f} PgC/yr, its map by {row['map RMSE (gC m-2 d-1)']:.2f} gC m-2 d-1."
            )
    if "half_of_the_inversions" in tables:
        row = tables["half_of_the_inversions"].iloc[0]
        text.append(
            "Trained on half of the inversion systems and scored on the other half, sampled+total is off by "
            f"{row['annual difference (PgC yr-1)']:+.2f} PgC/yr, with a seasonal-cycle RMSE of "
            f"{row['seasonal-cycle RMSE (PgC month-1)']:.3f} PgC per month."
        )
    return " ".join(text).replace(" -", " −")


def _bridge_verdict(study: Results, table: pd.DataFrame) -> list[str]:
    """The post-hoc test in words: the sum, and the regions whose R² fell by more than 0.1 (as ``Bridge.diagnose``)."""
    rows = table[
        (table["regions"] == study.config.target.regions) & (table["model"] == model_label("bridge"))
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


def _annual_verdict(study: Results, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Years, where the models have them: R and RMSE of the globe against the inversions and the budget (Table 2)."""
    years = np.unique(study.inputs.target["time"].dt.year)
    if "table_2_annual" not in tables or len(years) < 3:
        return []
    table = tables["table_2_annual"].set_index("region")
    budget = study.config.evaluation.budget
    words = []
    for model in study.models:
        label = model_label(model)
        r, rmse = (table[f"{metric}: {label}"] for metric in ("Pearson's R", "RMSE (PgC yr-1)"))
        beside = f", against {budget.name} {r[budget.name]:.2f} and {rmse[budget.name]:.2f}" if budget else ""
        words.append(f"{label} R {r['GLOBAL']:.2f}, RMSE {rmse['GLOBAL']:.2f} PgC/yr{beside}")
    return [f"Year by year, summed over the regions, against the inversions' mean: {'; '.join(words)}."]


def _pm(numbers: dict[str, float], label: str) -> str:
    spread = numbers[f"{label}: spread"]
    value = f"{numbers[f'{label}: annual']:.2f}"
    return value if np.isnan(spread) else f"{value} ± {spread:.2f}"


UNITS = {
    "inversions annual": "PgC yr-1",
    "inversions spread": "PgC yr-1",
    "annual": "PgC yr-1",
    "spread": "PgC yr-1",
    "annual difference": "PgC yr-1",
    "seasonal-cycle RMSE": "PgC month-1",
    "region-month RMSE": "PgC month-1",
    "tower RMSE, best epoch": "gC m-2 d-1",
    "tower RMSE, last epoch": "gC m-2 d-1",
}
TITLES = {
    "global_annual": "Global annual flux",
    "table_2_annual": "Annual fluxes by region against the inversions (layout of Table 2)",
    "table_3_monthly": "Monthly fluxes by region against the inversions (layout of Table 3)",
    "table_c1_sinks": "Land sinks and their interannual variability (layout of Table C1)",
    "seasonal_cycle": "Global mean seasonal cycle (PgC per month)",
    "within_inversion_range": "Regions of the target within the inversions' range",
    "scores_by_region": "Scores by region, and what the error consists of",
    "ensemble": "Spread of the members against the error of their mean",
    "common_cells": "Compared maps on common cells",
    "towers": "Towers, by held-out fold",
    "towers_by_group": "Towers, by time scale, plant type and climate",
    "paired": "EC-ATM − EC at the towers (bootstrap over sites)",
    "interannual": "Annual anomalies by region and years",
    "interannual_years": "Means, seasonal cycles and spread, in training and in unseen years",
    "interannual_references": "Annual anomalies against every inversion, compared series and the budget",
    "interannual_regions": "Annual anomalies by single region",
    "bridge_post_hoc": "What the bridge says against what the full integral is (Sect. 3.5)",
    "half_of_the_inversions": "A test that the model has not seen",
    "drivers": "Drivers",
    "truth": "Against the truth",
    "monthly_drivers": "Monthly in place of daily drivers",
}


def title(name: str) -> str:
    """A table's name in words."""
    if name.startswith("regions_"):
        return f"Annual flux (PgC yr-1) of {in_words(name.removeprefix('regions_'))}"
    return TITLES.get(name, name.replace("_", " ").capitalize())


def report(study: Results, summary: dict, tables: dict[str, pd.DataFrame]) -> str:
    """The Markdown report: verdict, limits, tables, where the figures are."""
    inputs = study.inputs
    counts = (
        f"{inputs.towers.sizes['sample']} tower days of {len(np.unique(inputs.towers['site']))} sites; "
        f"{inputs.grid.attrs.get('filled_cells', 0)} coastal cells took the drivers of the nearest cell within "
        f"{study.config.drivers.fill_distance:g}°; integrals cover the modelled cells and are not scaled up. "
        "Every table can be made anew from this folder: tables/README.md has the line for each."
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
    if study.smoke:
        lines.insert(1, "\n**A smoke run: the numbers mean nothing.**\n")
    for name, table in tables.items():
        shown = table[table["fold"] == "all"] if name == "towers" else table
        lines += [f"## {title(name)}", "", markdown(shown)]
        if name.startswith("regions_") and name != f"regions_{study.config.target.regions}":
            lines.append("The target is by other regions: it does not constrain these, they are a check.\n")
    return "\n".join(lines)


def cell(value: object) -> str:
    """
    >>> cell(0.12345), cell(float("nan")), cell("EC")
    ('0.123', '', 'EC')
    """
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    return "" if value is None else str(value)


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; numbers to three decimals."""
    head = [str(c) for c in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"
