"""Every number of a study, recomputed from the files of its run folder, as CSV and Markdown."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import xflux
from xflux import evaluate
from xflux.study import inputs as study_inputs
from xflux.study import pipeline
from xflux.study.config import Comparison, StudyConfig
from xflux.study.stages import write_json

NEE = "NEE (towers: no fire, no rivers)"
NBE = "NBE-like (constrained by NBE: fire and rivers in it)"


# ------------------------------------------------------------------------------------- what the run folder holds
def integrals(run: Path, name: str, regions: str, land_fraction: xr.DataArray) -> xr.DataArray:
    """Regional integrals of a model's forward run, (member, month, region) PgC month-1, mean over years.

    The integral covers the modelled cells; the coordinate ``valid_fraction`` says which share of a region's land
    they are. Nothing is scaled up.
    """
    flux = pipeline.open_flux(run, name).load()
    sums = flux.flux.aggregate_regions(regions, units="PgC month-1", land_fraction=land_fraction)
    return study_inputs.seasonal(sums).transpose("member", "month", "region")


def held_out(run: Path, names: list[str], inputs: study_inputs.Inputs) -> xr.Dataset:
    """Flux at every tower day from the member that never saw its site, at the best epoch and (``_last``) the last."""
    rows = np.stack([inputs.towers[driver].values for driver in inputs.drivers], axis=1).astype("float32")
    result = inputs.towers[["nee"]].rename(nee="observed")
    for name in names:
        model = xflux.load_model(run / "models" / f"{name}.safetensors")
        fold = np.array([model.folds[site] for site in inputs.towers["site"].values.tolist()])
        order = [inputs.drivers.index(driver) for driver in model.drivers]
        for part, weights in (("", model), ("_last", model.last)):
            every_member = weights.predict(rows[:, order])
            values = every_member[fold, np.arange(fold.size)].astype("float32")
            result[name + part] = ("sample", values, {"units": "gC m-2 d-1"})
        result[f"fold_{name}"] = ("sample", fold)
    return result


def member_spread(annual: xr.DataArray, dim: str = "member") -> xr.DataArray:
    """Standard deviation over members (n − 1) of the summed quantity."""
    return annual.std(dim, ddof=1)


# ------------------------------------------------------------------------------------------------- single tables
class Study:
    """What the tables share: inputs, regional integrals of every model, the inversions' mean seasonal cycles."""

    def __init__(self, run: Path, config: StudyConfig, models: tuple[str, ...], files: dict[str, Path]):
        self.run, self.config, self.models, self.files = run, config, models, files
        self.inputs = study_inputs.open_inputs(run / "inputs")
        self.names = {model: pipeline.slug(model) for model in models}
        names = [*self.names.values(), *(["half"] if (run / "flux" / "half.zarr").exists() else [])]
        fraction = self.inputs.land_fraction
        self.sets = list(dict.fromkeys([config.target.regions, *config.evaluation.regions]))
        self.integrals = {
            (name, regions): integrals(run, name, regions, fraction) for name in names for regions in self.sets
        }
        self.inversions = study_inputs.seasonal_target(self.inputs.target)
        years = np.unique(self.inputs.target["time"].dt.year)
        self.period = f"{years[0]}-{years[-1]}"
        self.bottom_up_period = "2001-2014 towers, drivers a monthly climatology"

    def contains(self, model: str) -> str:
        """What a model's flux contains, in words."""
        if model == "ec" or not (self.config.target.includes_fire or self.config.target.includes_rivers):
            return NEE
        return NBE

    def cells(self) -> str:
        """How many cells are modelled, in words."""
        flux = (
            pipeline.open_flux(self.run, "ec")
            .isel(member=0)
            .isel({d: 0 for d in ("month", "time")}, missing_dims="ignore")
            .load()
        )
        step = abs(float(flux["lat"][1] - flux["lat"][0]))
        return f"{int(np.isfinite(flux).sum())} modelled land cells of {step:g} degrees"

    def target_integrals(self, name: str) -> xr.DataArray:
        """(member, month, region) PgC month-1 over the target's regions."""
        return self.integrals[name, self.config.target.regions]


def seasonal_cycles(study: Study) -> pd.DataFrame:
    """Global mean seasonal cycle, PgC per month: a row a month, a column a product (± over members or inversions)."""
    total = study.inversions.sum("region", skipna=False)
    table = {"inversions": total.mean("inversion").values, "inversions ±": total.std("inversion", ddof=1).values}
    for model, name in study.names.items():
        cycle = study.target_integrals(name).sum("region")
        table[pipeline.LABELS[model]] = cycle.mean("member").values
        table[f"{pipeline.LABELS[model]} ±"] = member_spread(cycle).values
    return pd.DataFrame(table, index=pd.Index(range(1, 13), name="month"))


def skill_against(cycle: xr.DataArray, reference: xr.DataArray, bands: list[str]) -> dict[str, float]:
    """Global annual difference, seasonal-cycle RMSE and region-month RMSE of two (month, region) arrays."""
    error = cycle - reference
    chosen = error.sel(region=bands)
    return {
        "annual difference (PgC yr-1)": float(error.sum()),
        "seasonal-cycle RMSE (PgC month-1)": float(np.sqrt((error.sum("region") ** 2).mean())),
        "region-month RMSE (PgC month-1)": float(np.sqrt((chosen**2).mean())),
    }


def well_observed(study: Study) -> list[str]:
    """The target's regions between the study's latitudes (all of them where regions are not latitude bands)."""
    south, north = study.config.evaluation.well_observed
    labels = [str(label) for label in study.inversions["region"].values]
    if study.config.target.regions != "latitude-bands":
        return labels
    from xflux import regions

    limits = regions.latitude_band_limits()
    return [label for label in labels if limits[label][0] >= south and limits[label][1] <= north]


def global_annual(study: Study) -> pd.DataFrame:
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
                "product": pipeline.LABELS[model],
                "annual flux (PgC yr-1)": float(total.mean()),
                "± (PgC yr-1)": float(member_spread(total)),
                "± over": f"{total.size} members",
                **skill_against(monthly.mean("member"), reference.sel(region=monthly["region"]), bands),
                "period": study.bottom_up_period,
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
            "contains": "NBE (fire and rivers in it)",
        }
    )
    rows += [_map_row(study, comparison) for comparison in study.config.evaluation.maps]
    rows += _budget_rows(study)
    return pd.DataFrame(rows)


def comparison_map(study: Study, comparison: Comparison) -> xr.DataArray:
    """A compared product's mean flux (lat, lon), per m2 of the whole cell as its file has it."""
    with xr.open_dataset(study.files[f"evaluation.maps ({comparison.name})"]) as dataset:
        return dataset[comparison.variable].load().assign_attrs(area_basis="cell")


def _map_row(study: Study, comparison: Comparison) -> dict:
    field = comparison_map(study, comparison)
    total = field.flux.aggregate_regions("latitude-bands", units="PgC yr-1").sum("region")
    return {
        "product": comparison.name,
        "annual flux (PgC yr-1)": float(total),
        "period": comparison.period,
        "cells": f"{int(np.isfinite(field).sum())} cells of its own",
        "contains": comparison.contains,
    }


def _budget_rows(study: Study) -> list[dict]:
    budget = study.config.evaluation.budget
    if budget is None:
        return []
    table = pd.read_csv(study.files["evaluation.budget.file"]).set_index("Year")
    first, last = budget.years
    mean = -float(table.loc[first:last, budget.variable].mean())
    shared = {"period": f"{first}-{last}", "cells": "all land"}
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


def regions_table(study: Study, regions: str) -> pd.DataFrame:
    """Annual flux by region: every model ± members, the inversions where they know it, maps, modelled share."""
    first = study.integrals[study.names["ec"], regions]
    table = pd.DataFrame(index=pd.Index(first["region"].values, name="region"))
    table["modelled share of land"] = modelled_share(study, regions)
    if regions == study.config.target.regions:
        annual = study.inversions.sum("month", skipna=False)
        for name, value in (
            ("inversions", annual.mean("inversion")),
            ("inversions min", annual.min("inversion")),
            ("inversions max", annual.max("inversion")),
        ):
            table[name] = value.to_series()
    for model, name in study.names.items():
        annual = study.integrals[name, regions].sum("month", min_count=1)
        table[pipeline.LABELS[model]] = annual.mean("member").to_series()
        table[f"{pipeline.LABELS[model]} ±"] = member_spread(annual).to_series()
    for comparison in study.config.evaluation.maps:
        field = comparison_map(study, comparison)
        table[comparison.name] = field.flux.aggregate_regions(regions, units="PgC yr-1").to_series()
    return table.reset_index()


def modelled_share(study: Study, regions: str) -> np.ndarray:
    """Share of each region's land that the models see, the same for all of them."""
    flux = pipeline.open_flux(study.run, "ec").isel(member=0)
    flux = flux.isel({d: slice(0, 1) for d in ("month", "time") if d in flux.dims}).load()
    rate = flux.mean([d for d in ("month", "time") if d in flux.dims], keep_attrs=True)
    sums = rate.flux.aggregate_regions(regions, units="PgC yr-1", land_fraction=study.inputs.land_fraction)
    return sums["valid_fraction"].values


def bands_within_range(study: Study) -> pd.DataFrame:
    """For each model: how many of the target's regions have an annual flux within the inversions' range."""
    annual = study.inversions.sum("month", skipna=False)
    low, high = annual.min("inversion"), annual.max("inversion")
    rows = []
    for model, name in study.names.items():
        mean = study.target_integrals(name).sum("month").mean("member")
        known = mean["region"].isin(low["region"]) & np.isfinite(mean)
        inside = ((mean >= low) & (mean <= high)).sel(region=mean["region"][known])
        rows.append({"model": pipeline.LABELS[model], "regions inside": int(inside.sum()), "regions": int(inside.size)})
    return pd.DataFrame(rows)


def common_cells(study: Study) -> pd.DataFrame:
    """Global annual flux of the compared maps on the cells that all of them have."""
    fields = {m.name: comparison_map(study, m) for m in study.config.evaluation.maps}
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


def tower_table(predictions: xr.Dataset, names: dict[str, str]) -> pd.DataFrame:
    """RMSE, R² and bias at the towers by held-out fold and over all, at the best epoch and at the last."""
    rows = []
    for column in _predicted(predictions):
        base = column.removesuffix("_last")
        fold = predictions[f"fold_{base}"].rename("fold")
        for by, label in ((None, "all"), (fold, None)):
            scores = evaluate.tower_scores(predictions["observed"], predictions[column], predictions["site"], by=by)
            for number in range(1 if by is None else scores.sizes["fold"]):
                one = scores if by is None else scores.isel(fold=number)
                rows.append(
                    {
                        "model": names.get(base, base),
                        "epoch": "last" if column.endswith("_last") else "best",
                        "fold": label or int(one["fold"]),
                        "RMSE (gC m-2 d-1)": float(one["rmse"]),
                        "R2": float(one["r2"]),
                        "bias (gC m-2 d-1)": float(one["bias"]),
                        "days": int(one["n"]),
                        "sites": int(one["sites"]),
                    }
                )
    return pd.DataFrame(rows)


def _predicted(predictions: xr.Dataset) -> list[str]:
    return [str(v) for v in predictions.data_vars if v != "observed" and not str(v).startswith("fold_")]


def paired_table(predictions: xr.Dataset, names: dict[str, str], seed: int) -> pd.DataFrame:
    """EC-ATM − EC in tower RMSE on the same days, with a bootstrap over sites."""
    rows = []
    for column in _predicted(predictions):
        base, last = column.removesuffix("_last"), column.endswith("_last")
        reference = ("blocked_ec" if base.startswith("blocked_") else "ec") + ("_last" if last else "")
        if column == reference or reference not in predictions:
            continue
        pair = evaluate.paired_difference(
            predictions["observed"], predictions[reference], predictions[column], predictions["site"], seed=seed
        )
        rows.append(
            {
                "model": names.get(base, base),
                "epoch": "last" if last else "best",
                "RMSE of EC": float(pair["rmse_a"]),
                "RMSE of model": float(pair["rmse_b"]),
                "difference": float(pair["difference"]),
                "2.5 %": float(pair["low"]),
                "97.5 %": float(pair["high"]),
                "sites": int(pair["sites"]),
            }
        )
    return pd.DataFrame(rows)


def bridge_table(study: Study) -> pd.DataFrame:
    """The post-hoc test (Sect. 3.5): what the bridge says of every model against what the full integral is."""
    rows = []
    for regions in study.sets:
        bridge = xflux.load_bridge(study.run / "bridge" / f"{regions}.nc")
        for model, name in study.names.items():
            flux = pipeline.open_flux(study.run, name).load()
            bridged = study_inputs.seasonal(bridge.predict(flux)).sum("month").mean("member")
            full = study.integrals[name, regions].sum("month").mean("member")
            scores = bridge.diagnose(flux, warn=False)
            for label in bridged["region"].values:
                one = scores.sel(region=label)
                rows.append(
                    {
                        "regions": regions,
                        "region": str(label),
                        "model": pipeline.LABELS[model],
                        "bridge (PgC yr-1)": float(bridged.sel(region=label)),
                        "full (PgC yr-1)": float(full.sel(region=label)),
                        "r2": float(one["r2"]),
                        "slope": float(one["slope"]),
                        "rmse (PgC month-1)": float(one["rmse"]),
                        "pixels": int(bridge.regions["n_pixels"].sel(region=label)),
                        "r2 in training": float(bridge.regions["r2"].sel(region=label)),
                        "r2 cross-validated": float(bridge.regions["r2_cv"].sel(region=label)),
                    }
                )
            rows.append(
                {
                    "regions": regions,
                    "region": "sum",
                    "model": pipeline.LABELS[model],
                    "bridge (PgC yr-1)": float(bridged.sum()),
                    "full (PgC yr-1)": float(full.sum()),
                }
            )
    return pd.DataFrame(rows)


def half_table(study: Study) -> pd.DataFrame:
    """A test that the model has not seen: trained on half of the inversion systems, scored on the other half."""
    if ("half", study.config.target.regions) not in study.integrals:
        return pd.DataFrame()
    cycle = study.target_integrals("half").mean("member")
    seen, unseen = pipeline.inversion_halves(study.inputs.target, study.config.seed)
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
def write_tables(task, models: tuple[str, ...], files: dict[str, Path]) -> None:
    """Write every table of a study as CSV and Markdown, the tower predictions, ``summary.json`` and ``report.md``."""
    from xflux.study import truth, verdict

    run = task.run.path
    study = Study(run, task.config, models, files)
    labels = {pipeline.slug(m): pipeline.LABELS[m] for m in models} | {"half": "EC-ATM sampled+total on half"}
    labels |= {
        f"blocked_{slug}": f"{label}, folds blocked at {task.config.towers.block_distance:g} km"
        for slug, label in labels.items()
    }
    names = [name for name in labels if (run / "models" / f"{name}.safetensors").exists()]
    predictions = held_out(run, names, study.inputs)
    task.run.fresh("towers/held_out.nc")
    predictions.to_netcdf(run / "towers" / "held_out.nc")
    tables = {
        "global_annual": global_annual(study),
        "seasonal_cycle": seasonal_cycles(study).reset_index(),
        **{f"regions_{regions}": regions_table(study, regions) for regions in study.sets},
        "within_inversion_range": bands_within_range(study),
        "common_cells": common_cells(study),
        "towers": tower_table(predictions, labels),
        "paired": paired_table(predictions, labels, task.config.seed),
        "bridge_post_hoc": bridge_table(study),
        "half_of_the_inversions": half_table(study),
        "drivers": drivers_table(study),
        **({"truth": truth.truth_table(study)} if task.config.evaluation.truth else {}),
        "monthly_drivers": truth.monthly_drivers_table(study),
    }
    folder = task.run.fresh("tables")
    folder.mkdir()
    for name, table in tables.items():
        if len(table):
            table.to_csv(folder / f"{name}.csv", index=False)
            (folder / f"{name}.md").write_text(markdown(table))
    summary = verdict.summary(study, tables)
    write_json(run / "summary.json", summary)
    (run / "report.md").write_text(verdict.report(task, summary, {k: t for k, t in tables.items() if len(t)}))


def drivers_table(study: Study) -> pd.DataFrame:
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


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; numbers to three decimals."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}"
        return "" if value is None else str(value)

    head = [str(c) for c in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"
