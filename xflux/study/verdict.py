"""What a study says in words: the verdict with its numbers, what may not be claimed, the Markdown report."""

import numpy as np
import pandas as pd

from xflux.study.results import Results, model_label


def summary(study: Results, tables: dict[str, pd.DataFrame], titles: dict[str, str]) -> dict:
    """Numbers of a study by key, the verdict in a sentence, and what may not be claimed (all JSON-able)."""
    numbers = numbers_of(study, tables)
    half = {"half": {"label": study.labels["half"], "file": "half"}} if study.config.held_out_inversions else {}
    return {
        "study": study.config.name,
        "title": study.config.title,
        "subject": f"Net flux of CO₂, positive from land into the atmosphere · inversions {study.period} "
        f"({study.target_contains}) · {study.model_period}",
        "smoke": study.smoke,
        "numbers": numbers,
        "verdict": _verdict(study, numbers, tables),
        "headline": headline(study, numbers, tables),
        "claims_not_allowed": study.config.limits,
        "models": {model: {"label": model_label(model), "file": name} for model, name in study.names.items()} | half,
        "units": UNITS,
        "tables": {name: titles[name] for name in tables},
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
        for key in ("annual", "spread", "annual difference", "seasonal-cycle RMSE", "region-month RMSE"):
            column = {"annual": "annual flux", "spread": "±"}.get(key, key)
            numbers[f"{label}: {key}"] = float(annual.loc[label, f"{column} ({UNITS[key]})"])
        for epoch in ("best", "last"):
            numbers[f"{label}: tower RMSE, {epoch} epoch"] = float(towers.loc[(label, epoch), "RMSE (gC m-2 d-1)"])
    return numbers


def _learned_from(study: Results, model: str) -> str:
    """What a model has learned from, in words that ask for no other."""
    if model == "ec":
        return "towers alone"
    how = study.config.constraint(model)
    links = {"bridge": "few fixed pixels", "sampled": "random pixels", "full": "all pixels"}
    more = {"global sum": how.total, "anomalies of years": how.anomalies, "a map's regional means": how.means}
    return f"towers + inversions by {', '.join([links[how.integral], *(word for word, has in more.items() if has)])}"


def _verdict(study: Results, numbers: dict[str, float], tables: dict[str, pd.DataFrame]) -> str:
    """One sentence on the last model: the sum, the cycle, towers, the bridge, and what may not be claimed."""
    label = model_label(study.models[-1])
    said = [_sum_and_cycle(study, numbers, tables, label), _at_towers(numbers, tables, label)]
    said += [_bridge_holds(study, tables["bridge_post_hoc"])] if "bridge_post_hoc" in tables else []
    heads = [claim.split(":")[0].rstrip(".") for claim in study.config.limits]
    heads = [head if head[1:2].isupper() else head[:1].lower() + head[1:] for head in heads]
    heads[3:] = [f"{len(heads) - 3} more (below)"] if len(heads) > 3 else []
    said += [f"not to be claimed: {', '.join(heads)}"] if heads else []
    return "; ".join(part for part in said if part).replace(" ± ", "\u00a0±\u00a0") + "."


def _reach(study: Results) -> tuple[float, float]:
    """How far a single inversion is from the inversions' mean, at most: in the annual sum, and RMS in its months."""
    total = study.inversions.sum("region", skipna=False)
    off = total - total.mean("inversion")
    return float(abs(off.sum("month")).max()), float(np.sqrt((off**2).mean("month")).max())


def _sum_and_cycle(study: Results, numbers: dict[str, float], tables: dict[str, pd.DataFrame], label: str) -> str:
    """Right is what is no farther from the inversions' mean than one of them."""
    off, cycle = (abs(numbers[f"{label}: {key}"]) for key in ("annual difference", "seasonal-cycle RMSE"))
    ec_off, ec_cycle = (abs(numbers[f"EC: {key}"]) for key in ("annual difference", "seasonal-cycle RMSE"))
    most, widest = _reach(study)
    flux = {name: pm(numbers[f"{name}: annual"], numbers[f"{name}: spread"]) for name in (label, "EC")}
    beside = f"inversions: {pm(numbers['inversions annual'], numbers['inversions spread'])}"
    beside += f"; truth: {pm(_truth(tables))}" if "truth" in tables else ""
    taught, ec = "towers alone", ""
    if label != "EC":
        taught, ec = "towers and inversions", f"; EC, from towers alone: {flux['EC']}"
    shape = np.sqrt(max(cycle**2 - (off / 12) ** 2, 0.0))
    return (
        f"{label} has learned from {taught}: its global sum is {_grade(off, most, ec_off)} ({flux[label]} PgC/yr; "
        f"{beside}{ec}), its seasonal cycle is {_grade(cycle, widest, ec_cycle)} (off the inversions' mean by "
        f"{significant(cycle)} PgC per month, {significant(shape)} without the sum's offset; "
        f"a single inversion's by up to {significant(widest, 1)})"
    )


def _truth(tables: dict[str, pd.DataFrame]) -> float:
    return float(tables["truth"].iloc[0]["truth (PgC yr-1)"])


def _grade(off: float, reach: float, of_ec: float) -> str:
    """
    >>> _grade(0.2, 0.5, 20.0), _grade(2.0, 0.5, 20.0), _grade(20.0, 0.5, 20.0)
    ('right', "wrong, 10 times nearer than EC's", 'wrong')
    """
    if off <= reach:
        return "right"
    return "wrong" if of_ec < 2 * off else f"wrong, {of_ec / off:.0f} times nearer than EC's"


def _at_towers(numbers: dict[str, float], tables: dict[str, pd.DataFrame], label: str) -> str:
    rmse = f"{numbers[f'{label}: tower RMSE, best epoch']:.2f}"
    if label == "EC" or "paired" not in tables:
        return f"at unseen towers its error is {rmse} gC m⁻² d⁻¹"
    pair = tables["paired"].set_index(["model", "epoch"]).loc[(label, "best")]
    same = pair["2.5 %"] <= 0 <= pair["97.5 %"] or abs(pair["difference"]) < 0.005  # the digits that are shown
    word = "no different from" if same else "better than" if pair["difference"] < 0 else "worse than"
    return f"at unseen towers it is {word} EC (error {rmse} against {pair['RMSE of EC']:.2f} gC\u00a0m⁻²\u00a0d⁻¹)"


def _bridge_holds(study: Results, table: pd.DataFrame) -> str:
    """The post-hoc test in words: broken where R² fell by more than 0.1, as ``Bridge.diagnose`` has it (Sect. 3.5)."""
    rows = table[(table["regions"] == study.config.target.regions) & (table["model"] == model_label("bridge"))]
    tested = rows[(rows["region"] != "sum") & rows["r2"].notna()]
    if not len(tested):
        return ""
    broken = int((tested["r2"] < np.minimum(tested["r2 in training"], study.config.bridge.r2) - 0.1).sum())
    link = "the bridge, a linear link from few pixels to a region's sum,"
    found = f"no longer holds in {broken} of {len(tested)} regions" if broken else "still holds"
    return f"{link} {found} for the model trained through it"


def headline(study: Results, numbers: dict[str, float], tables: dict[str, pd.DataFrame]) -> dict:
    """The first table of the page, at most six rows, with as many digits as mean something."""
    heads = ["", "global flux\nPgC/yr", "cycle off by\nPgC/month", "tower error\ngC m⁻² d⁻¹", "regions\nin range"]
    inside = tables["within_inversion_range"].set_index("model")
    rows = [["inversions", pm(numbers["inversions annual"], numbers["inversions spread"]),
             f"up to {significant(_reach(study)[1], 1)}", "–", "–"]]  # fmt: skip
    for model in [study.models[0], *study.models[1:][-3:]]:
        label = model_label(model)
        rows.append([
            f"{label}\n{_learned_from(study, model)}", pm(numbers[f"{label}: annual"], numbers[f"{label}: spread"]),
            significant(numbers[f"{label}: seasonal-cycle RMSE"]), f"{numbers[f'{label}: tower RMSE, best epoch']:.2f}",
            f"{inside.loc[label, 'regions inside']} of {inside.loc[label, 'regions']}",
        ])  # fmt: skip
    last = tables["global_annual"].iloc[-1]
    if "truth" in tables:
        rows.append(["truth", pm(_truth(tables)), "–", "–", "–"])
    elif study.config.evaluation.budget:
        rows.append([last["product"], pm(last["annual flux (PgC yr-1)"], last["± (PgC yr-1)"]), "–", "–", "–"])
    return {"heads": heads, "rows": rows}


def significant(value: float, digits: int = 2) -> str:
    """
    >>> significant(0.8033), significant(12.3), significant(0.0), significant(-2.998)
    ('0.80', '12', '0', '−3.0')
    """
    if not value or not np.isfinite(value):
        return "0" if value == 0 else "–"
    decimals = max(digits - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:.{decimals}f}".replace("-", "−")


def pm(value: float, spread: float = np.nan) -> str:
    """A value with its spread, to the digit that the spread leaves meaning (two where it begins with 1).

    >>> pm(-23.84, 2.82), pm(-2.657, 0.113), pm(-2.998)
    ('−24 ± 3', '−2.66 ± 0.11', '−3.0')
    """
    if not np.isfinite(spread) or spread <= 0:
        return significant(value)
    first = int(np.floor(np.log10(spread)))
    decimals = max((1 if spread < 2 * 10.0**first else 0) - first, 0)
    return f"{value:.{decimals}f} ± {spread:.{decimals}f}".replace("-", "−")


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


def report_text(study: Results, summary: dict, tables: dict[str, pd.DataFrame]) -> str:
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
        lines += [f"## {summary['tables'][name]}", "", table_in_markdown(shown)]
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


def table_in_markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; numbers to three decimals."""
    head = [str(c) for c in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"
