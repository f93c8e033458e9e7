"""Every table of a study, made from the files of its run folder alone: :func:`table` gives each by its name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux import evaluate
from xflux.bridge import load_bridge
from xflux.bridge.inspect import diagnose
from xflux.files import write_json
from xflux.reading import LackingError
from xflux.study import inputs as study_inputs
from xflux.study import interannual, paper, truth, verdict
from xflux.study.config import Comparison
from xflux.study.results import Results, in_words, inversion_halves, model_label, open_flux

AT_TOWERS = {"rmse": "RMSE (gC m-2 d-1)", "r2": "R2", "bias": "bias (gC m-2 d-1)", "n": "days", "sites": "sites"}
DIFFERENCE = {
    "rmse_a": "RMSE of EC", "rmse_b": "RMSE of model", "difference": "difference", "low": "2.5 %", "high": "97.5 %",
    "sites": "sites",
}  # fmt: skip
POST_HOC = {"r2": "r2", "slope": "slope", "rmse": "rmse (PgC month-1)"}
SHARES = {
    "pixels": "pixels", "pixel_share": "share of pixels", "weight_share": "share of weight",
    "land_share": "share of land",
}  # fmt: skip
FITTED = {"n_pixels": "pixels", "r2": "r2 in training", "r2_cv": "r2 cross-validated"}


def table(run: "str | Path | Results", name: str) -> pd.DataFrame:
    """One table of a run, made anew from the run folder's arrays: the line behind every number of ``tables/``.

    It is empty where the run has nothing for it (no budget, no truth, a climatology without years).

    Parameters
    ----------
    run
        Run folder.
    name
        As the file in ``tables/`` is called, e.g. ``"global_annual"`` or ``"table_3_monthly"``.

    Raises
    ------
    KeyError, FileNotFoundError, ValueError
        A table that this run has not; no run folder of a study; a part of it is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from importlib import resources
    >>> from xflux.study import load_study
    >>> study = load_study(resources.files("xflux.data") / "upton2024.toml")
    >>> with tempfile.TemporaryDirectory() as run:
    ...     length = (Path(run) / "study.json").write_text(study.model_dump_json())
    ...     table(run, "table_2")
    Traceback (most recent call last):
        ...
    xflux.reading.LackingError: no table 'table_2'; this run has global_annual, table_2_annual, table_3_monthly, ...
    """
    results = run if isinstance(run, Results) else Results(run)
    makers = tables_of(results)
    if name not in makers:
        raise LackingError(f"no table {name!r}; this run has {', '.join(makers)}")
    return makers[name][1](results)


def numbers(run: str | Path) -> dict[str, float]:
    """The numbers of ``summary.json``, which the verdict is written with, made anew from the run folder's arrays.

    Years and their spread are PgC yr-1, months PgC month-1, errors at towers in the towers' units.

    Parameters
    ----------
    run
        Run folder.

    Raises
    ------
    FileNotFoundError, ValueError
        No run folder of a study; a part of it is damaged.

    Examples
    --------
    >>> numbers("runs/absent")
    Traceback (most recent call last):
        ...
    FileNotFoundError: 'runs/absent' is no run folder of a study: it has no study.json
    """
    results = Results(run)
    return verdict.numbers_of(results, {name: table(results, name) for name in ("global_annual", "towers")})


def tables_of(results: Results) -> dict[str, tuple[str, Callable[[Results], pd.DataFrame]]]:
    """Name → title and the function that makes it, for every table that a run may have."""
    by_region = {
        f"regions_{name}": (f"Annual flux (PgC yr-1) of {in_words(name)}", lambda r, name=name: regions_table(r, name))
        for name in results.sets
    }
    return {
        "global_annual": ("Global annual flux", global_annual),
        "table_2_annual": ("Annual fluxes by region against the inversions (layout of Table 2)", paper.table_2),
        "table_3_monthly": ("Monthly fluxes by region against the inversions (layout of Table 3)", paper.table_3),
        "table_c1_sinks": ("Land sinks and their interannual variability (layout of Table C1)", paper.table_c1),
        "seasonal_cycle": ("Global mean seasonal cycle (PgC per month)", seasonal_cycles),
        **by_region,
        "within_inversion_range": ("Regions of the target within the inversions' range", bands_within_range),
        "scores_by_region": ("Scores by region, and what the error consists of", paper.scores_by_region),
        "ensemble": ("Spread of the members against the error of their mean", paper.ensemble_table),
        "common_cells": ("Compared maps on common cells", common_cells),
        "towers": ("Towers, by held-out fold", towers_by_fold),
        "towers_by_group": ("Towers, by time scale, plant type and climate", paper.towers_by_group),
        "paired": ("EC-ATM − EC at the towers (bootstrap over sites)", paired),
        "interannual": ("Annual anomalies by region and years", interannual.anomalies_table),
        "interannual_years": (
            "Means, seasonal cycles and spread, in training and in unseen years",
            interannual.years_table,
        ),
        "interannual_references": (
            "Annual anomalies against every inversion, compared series and the budget",
            interannual.references_table,
        ),
        "interannual_regions": ("Annual anomalies by single region", interannual.anomalies_by_region),
        "bridge_post_hoc": ("What the bridge says against what the full integral is (Sect. 3.5)", bridge_table),
        "bridge_plant_types": ("Plant types of the bridge's pixels and of the land (Figs. B3, B4)", plant_types_table),
        "half_of_the_inversions": ("A test that the model has not seen", half_table),
        "few_inversions": ("Models trained on few of the inversions (Sect. 3.6)", few_inversions_table),
        "drivers": ("Drivers", drivers_table),
        "truth": ("Against the truth", truth.truth_table),
        "monthly_drivers": ("Monthly in place of daily drivers", truth.monthly_drivers_table),
    }


# ------------------------------------------------------------------------------------------------- single tables
def seasonal_cycles(study: Results) -> pd.DataFrame:
    """Mean seasonal cycle of the sum of the target's regions, PgC per month (± over members or inversions)."""
    total = study.inversions.sum("region", skipna=False)
    table = {"inversions": total.mean("inversion").values, "inversions ±": total.std("inversion", ddof=1).values}
    for model, name in study.names.items():
        cycle = study.target_integrals(name).sum("region")
        table[model_label(model)] = cycle.mean("member").values
        table[f"{model_label(model)} ±"] = cycle.std("member", ddof=1).values
    return pd.DataFrame(table, index=pd.Index(range(1, 13), name="month")).reset_index()


def skill_against(cycle: xr.DataArray, reference: xr.DataArray, bands: list[str]) -> dict[str, float]:
    """Global annual difference, seasonal-cycle RMSE and region-month RMSE of two (month, region) arrays."""
    error = cycle - reference
    chosen = error.sel(region=bands)
    return {
        "annual difference (PgC yr-1)": float(error.sum()),
        "seasonal-cycle RMSE (PgC month-1)": float(np.sqrt((error.sum("region") ** 2).mean())),
        "region-month RMSE (PgC month-1)": float(np.sqrt((chosen**2).mean())),
    }


def well_observed(study: Results) -> list[str]:
    """The target's regions between the study's latitudes (all of them where regions are not latitude bands)."""
    south, north = study.config.evaluation.well_observed
    labels = [str(label) for label in study.inversions["region"].values]
    if study.config.target.regions != "latitude-bands":
        return labels
    from xflux import regions

    limits = regions.latitude_band_limits()
    return [label for label in labels if limits[label][0] >= south and limits[label][1] <= north]


def global_annual(study: Results) -> pd.DataFrame:
    """Global annual flux ± spread of every product, with its skill against the inversions' mean."""
    reference = study.inversions.mean("inversion").transpose("month", "region")
    annual = study.inversions.sum(("region", "month"), skipna=False)
    bands = well_observed(study)
    rows = []
    for model, name in study.names.items():
        monthly = study.target_integrals(name)
        total = monthly.sum(("region", "month"))
        rows.append(
            {
                "product": model_label(model),
                "annual flux (PgC yr-1)": float(total.mean()),
                "± (PgC yr-1)": float(total.std("member", ddof=1)),
                "± over": f"{total.size} members",
                **skill_against(monthly.mean("member"), reference.sel(region=monthly["region"]), bands),
                "period": study.model_period,
                "cells": study.cells(),
                "contains": study.contains(model),
            }
        )
    rows.append(
        {
            "product": "inversions",
            "annual flux (PgC yr-1)": float(annual.mean()),
            "± (PgC yr-1)": float(annual.std(ddof=1)),
            "± over": f"{annual.size} inversions",
            "period": study.period,
            "cells": "all land",
            "contains": study.target_contains,
        }
    )
    rows += [_map_row(study, comparison) for comparison in study.config.evaluation.maps]
    rows += _budget_rows(study)
    return pd.DataFrame(rows)


def _map_row(study: Results, comparison: Comparison) -> dict:
    field = study.comparison_map(comparison)
    total = field.flux.aggregate_regions("latitude-bands", units="PgC yr-1").sum("region")
    return {
        "product": comparison.name,
        "annual flux (PgC yr-1)": float(total),
        "period": comparison.period,
        "cells": f"{int(np.isfinite(field).sum())} cells of its own",
        "contains": comparison.contains,
    }


def _budget_rows(study: Results) -> list[dict]:
    budget = study.config.evaluation.budget
    if budget is None:
        return []
    table = pd.read_csv(study.run / "compared" / "budget.csv").set_index("Year")
    first, last = budget.years
    mean = -float(table.loc[first:last, budget.variable].mean())
    shared = {"period": f"{first}-{last}", "cells": "all land"}
    if not study.has("rivers"):
        spread = {"± (PgC yr-1)": budget.spread, "± over": "one sigma of a year, as published"}
        words = f"−{budget.variable}, as the budget has it"
        row = {"product": budget.name, "annual flux (PgC yr-1)": mean} | (spread if budget.spread else {})
        return [row | shared | {"contains": words}]
    return [
        {
            "product": f"{budget.name}, unadjusted",
            "annual flux (PgC yr-1)": mean,
            **shared,
            "contains": "net land flux without natural rivers",
        },
        {
            "product": f"{budget.name} + rivers",
            "annual flux (PgC yr-1)": mean - budget.rivers,
            "± (PgC yr-1)": budget.rivers_spread,
            "± over": "river export",
            **shared,
            "contains": f"−({budget.variable} + {budget.rivers} ± {budget.rivers_spread} PgC yr-1 of rivers)",
        },
    ]


def regions_table(study: Results, regions: str) -> pd.DataFrame:
    """Annual flux by region: every model ± members, the inversions where they know it, maps, modelled share."""
    first = study.integrals[study.names["ec"], regions]
    table = pd.DataFrame(index=pd.Index(first["region"].values, name="region"))
    table["modelled share of land"] = study.regional[regions]["modelled_share"].values
    if regions == study.config.target.regions:
        annual = study.inversions.sum("month", skipna=False)
        table["inversions"] = annual.mean("inversion").to_series()
        table["inversions min"] = annual.min("inversion").to_series()
        table["inversions max"] = annual.max("inversion").to_series()
    for model, name in study.names.items():
        annual = study.integrals[name, regions].sum("month", min_count=1)
        table[model_label(model)] = annual.mean("member").to_series()
        table[f"{model_label(model)} ±"] = annual.std("member", ddof=1).to_series()
    for comparison in study.config.evaluation.maps:
        field = study.comparison_map(comparison)
        table[comparison.name] = field.flux.aggregate_regions(regions, units="PgC yr-1").to_series()
    return table.reset_index()


def bands_within_range(study: Results) -> pd.DataFrame:
    """For each model: how many of the target's regions have an annual flux within the inversions' range."""
    annual = study.inversions.sum("month", skipna=False)
    low, high = annual.min("inversion"), annual.max("inversion")
    rows = []
    for model, name in study.names.items():
        mean = study.target_integrals(name).sum("month").mean("member")
        known = mean["region"].isin(low["region"]) & np.isfinite(mean)
        inside = ((mean >= low) & (mean <= high)).sel(region=mean["region"][known])
        rows.append({"model": model_label(model), "regions inside": int(inside.sum()), "regions": int(inside.size)})
    return pd.DataFrame(rows)


def common_cells(study: Results) -> pd.DataFrame:
    """Global annual flux of the compared maps on the cells that all of them have."""
    fields = {m.name: study.comparison_map(m) for m in study.config.evaluation.maps}
    if len(fields) < 2:
        return pd.DataFrame()
    common = np.logical_and.reduce([np.isfinite(field.values) for field in fields.values()])
    rows = []
    for comparison in study.config.evaluation.maps:
        total = fields[comparison.name].where(common).flux.aggregate_regions("latitude-bands", units="PgC yr-1")
        rows.append(
            {
                "product": comparison.name,
                "annual flux (PgC yr-1)": float(total.sum("region")),
                "cells": f"{int(common.sum())} common cells",
                "period": comparison.period,
                "contains": comparison.contains,
            }
        )
    return pd.DataFrame(rows)


def towers_by_fold(study: Results) -> pd.DataFrame:
    """RMSE, R² and bias at the towers by held-out fold and over all, at the best epoch and at the last."""
    predictions, names, rows = study.predictions, study.labels, []
    for column in _predicted(predictions):
        base = column.removesuffix("_last")
        fold = predictions[f"fold_{base}"].rename("fold")
        for by, label in ((None, "all"), (fold, None)):
            scores = evaluate.tower_scores(predictions["observed"], predictions[column], predictions["site"], by=by)
            for number in range(1 if by is None else scores.sizes["fold"]):
                one = scores if by is None else scores.isel(fold=number)
                epoch = "last" if column.endswith("_last") else "best"
                about = {"model": names.get(base, base), "epoch": epoch, "fold": label or int(one["fold"])}
                rows.append(about | paper.headed(one, AT_TOWERS))
    return pd.DataFrame(rows)


def _predicted(predictions: xr.Dataset) -> list[str]:
    return [str(v) for v in predictions.data_vars if v != "observed" and not str(v).startswith("fold_")]


def paired(study: Results) -> pd.DataFrame:
    """EC-ATM − EC in tower RMSE on the same days, with a bootstrap over sites."""
    predictions, names, seed, rows = study.predictions, study.labels, study.config.seed, []
    for column in _predicted(predictions):
        base, last = column.removesuffix("_last"), column.endswith("_last")
        reference = ("blocked_ec" if base.startswith("blocked_") else "ec") + ("_last" if last else "")
        if column == reference or reference not in predictions:
            continue
        pair = evaluate.paired_difference(
            predictions["observed"], predictions[reference], predictions[column], predictions["site"], seed=seed
        )
        about = {"model": names.get(base, base), "epoch": "last" if last else "best"}
        rows.append(about | paper.headed(pair, DIFFERENCE))
    return pd.DataFrame(rows)


def bridge_table(study: Results) -> pd.DataFrame:
    """The post-hoc test (Sect. 3.5): what the bridge says of every model against what the full integral is."""
    import dask

    rows = []
    for regions in study.sets if study.config.bridge.fit else ():
        bridge = load_bridge(study.run / "bridge" / f"{regions}.nc")
        for model, name in study.names.items():
            flux = open_flux(study.run, name)
            months = dask.compute(bridge.predict(flux), bridge.full(flux))  # together: the flux is read once
            scores = diagnose(bridge.regions, bridge.attrs, *months, threshold=None, warn=False)
            bridged = study_inputs.seasonal(months[0]).sum("month").mean("member")
            full = study.integrals[name, regions].sum("month").mean("member")
            sums = xr.Dataset({"bridge (PgC yr-1)": bridged, "full (PgC yr-1)": full})
            about = {"regions": regions, "region": "", "model": model_label(model)}
            for label in bridged["region"].values:
                found = paper.headed(scores.sel(region=label), POST_HOC)
                found |= paper.headed(bridge.regions.sel(region=label), FITTED)
                both = {name: float(sums[name].sel(region=label)) for name in sums}
                rows.append(about | {"region": str(label)} | both | found)
            rows.append(about | {"region": "sum"} | {name: float(sums[name].sum()) for name in sums})
    return pd.DataFrame(rows)


def plant_types_table(study: Results) -> pd.DataFrame:
    """Plant types of the contributing pixels and of the land, by region (Figs. B3, B4); empty without a map of them."""
    found = study.composition()
    if found is None:
        return pd.DataFrame()
    table = found[list(SHARES)].to_dataframe().rename(columns=SHARES).rename_axis(["region", "plant type"])
    return table[table["pixels"].gt(0) | table["share of land"].gt(0)].reset_index()


def half_table(study: Results) -> pd.DataFrame:
    """A test that the model has not seen: trained on half of the inversion systems, scored on the other half."""
    if ("half", study.config.target.regions) not in study.integrals:
        return pd.DataFrame()
    cycle = study.target_integrals("half").mean("member")
    seen, unseen = inversion_halves(study_inputs.seen(study.config, study.inputs.target), study.config.seed)
    means = {
        key: study.inversions.sel(inversion=names).mean("inversion").transpose("month", "region")
        for key, names in (("seen half", seen), ("unseen half", unseen))
    }
    everything = study.target_integrals(study.names.get("sampled+total", study.names["ec"])).mean("member")
    pairs = [
        ("trained on the seen half", cycle, "unseen half"),
        ("trained on the seen half", cycle, "seen half"),
        ("trained on all inversions", everything, "unseen half"),
        ("EC", study.target_integrals("ec").mean("member"), "unseen half"),
        ("mean of the seen half itself", means["seen half"], "unseen half"),
    ]
    return pd.DataFrame(
        [
            {
                "estimate": label,
                "scored on": half,
                **skill_against(estimate, means[half].sel(region=estimate["region"]), well_observed(study)),
            }
            for label, estimate, half in pairs
        ]
    )


# ----------------------------------------------------------------------------------------------- all of them
def write_tables(run: Path, out: Path) -> None:
    """Write every table as CSV and Markdown, how to make each anew, ``summary.json`` and ``report.md`` into ``out``."""
    results = Results(run)
    makers = tables_of(results)
    found = {name: made for name, (_, make) in makers.items() if len(made := make(results))}
    folder = out / "tables"
    folder.mkdir(parents=True)
    for name, made in found.items():
        made.to_csv(folder / f"{name}.csv", index=False)
        (folder / f"{name}.md").write_text(verdict.table_in_markdown(made))
    (folder / "README.md").write_text(remade_by(found))
    summary = verdict.summary(results, found, {name: title for name, (title, _) in makers.items()})
    write_json(out / "summary.json", summary)
    (out / "report.md").write_text(verdict.report_text(results, summary, found))


def remade_by(found: dict[str, pd.DataFrame]) -> str:
    """How every number is made anew, one line each; the lines are run by the tests."""
    lines = [
        "# Where the numbers come from",
        "",
        "Every table is made from the arrays of this run folder (`inputs/`, `models/`, `flux/`, `bridge/`,",
        "`integrals/`, `compared/`, `towers/`), nothing else. Run here, each line makes a table or number anew;",
        "`xflux table . NAME` prints one.",
        "",
        "```python",
        "from xflux import study",
    ]
    lines += [f'study.table(".", "{name}")  # {name}.csv' for name in found]
    lines += [
        'study.numbers(".")  # the numbers of summary.json, and of the verdict',
        'study.integrals_of(".", "ec")  # integrals/*.nc, from flux/ec.zarr',
        "```",
    ]
    return "\n".join(lines) + "\n"


def few_inversions_table(study: Results) -> pd.DataFrame:
    """Global annual flux of models on few inversions each, beside what they were trained on (Sect. 3.6)."""
    runs = study.one_against_many
    if runs is None:
        return pd.DataFrame()
    columns = {
        "inversions": runs["size"],
        "annual flux (PgC yr-1)": runs["annual"].mean("member"),
        "± (PgC yr-1)": runs["annual"].std("member", ddof=1),
        "their mean (PgC yr-1)": study.few_targets.sum(("month", "region"), skipna=False),
        "less that of all (PgC yr-1)": runs["difference"],
        "loss at towers": runs["tower_loss"].mean("member"),
        "loss by inversions": runs["constraint_loss"].mean("member"),
    }
    return pd.DataFrame({head: da.to_series() for head, da in columns.items()}).rename_axis("trained on").reset_index()


def drivers_table(study: Results) -> pd.DataFrame:
    """The drivers as they were made: name, dims, units, what they are, and what of Table A2 could not be made."""
    rows = [
        {
            "driver": str(name),
            "dims": " × ".join(map(str, array.dims)),
            "units": array.attrs.get("units", "unknown"),
            "what it is": array.attrs.get("long_name", ""),
        }
        for name, array in study.inputs.driver_grid.data_vars.items()
    ]
    left_out = str(study.inputs.grid.attrs.get("not_made", ""))
    rows += [
        {"driver": name.strip(), "what it is": "of Table A2, left out: the data cannot make it"}
        for name in left_out.split(";")
        if name.strip()
    ]
    return pd.DataFrame(rows)
