"""The paper's Tables 2, 3 and C1 and its evaluation at towers (Sect. 4.4), for the models and products of a run."""

import numpy as np
import pandas as pd
import xarray as xr

from xflux import evaluate
from xflux.contents import CONTENTS  # allowed to differ: inversions may contain more on purpose, and the tables say so
from xflux.study import inputs as study_inputs
from xflux.study.results import Results, model_label

SCORES = {
    "n": "months", "bias": "bias (PgC month-1)", "rmse": "RMSE (PgC month-1)", "r": "R", "nse": "NSE", "nnse": "nNSE",
}  # fmt: skip
SPREADS = {
    "n": "months", "rmse": "RMSE of the mean (PgC month-1)", "spread": "spread (PgC month-1)",
    "ratio": "spread / RMSE (1: reliable)", "coverage": "share of months within the members' range",
    "coverage_expected": "expected share",
}  # fmt: skip


def headed(scores: xr.Dataset, headings: dict[str, str]) -> dict[str, float | int]:
    """Numbers under the headings of a table."""
    return {heading: scores[name].item() for name, heading in headings.items()}


def compared_products(results: Results) -> dict[str, xr.DataArray]:
    """Models, the constrained ones first as in the paper, and compared products: (member, month | time, region)."""
    order = [m for m in results.models if m != "ec"] + ["ec"]
    return {model_label(m): results.series(results.names[m]) for m in order} | results.products


def has_years(results: Results) -> bool:
    """Whether the forward runs have years, or a mean seasonal cycle only."""
    return "time" in results.series("ec").dims


def table_2(results: Results) -> pd.DataFrame:
    """Table 2: annual regional integrals against the inversions' mean; last row: the globe against the budget.

    Empty where the models run on a climatology, which has no years.
    """
    if not has_years(results):
        return pd.DataFrame()
    budget = results.config.evaluation.budget
    second = {} if budget is None else {"second": results.budget(), "second_name": budget.name}
    table = evaluate.annual_table(compared_products(results), results.inputs.target, allow_contents=CONTENTS, **second)
    return flat(table)


def table_3(results: Results) -> pd.DataFrame:
    """Table 3: monthly integrals and mean seasonal cycles against the inversions' mean; of a climatology the latter."""
    return flat(evaluate.monthly_table(compared_products(results), results.inputs.target, allow_contents=CONTENTS))


def table_c1(results: Results) -> pd.DataFrame:
    """Table C1: mean land flux and its interannual variability, beside the literature; empty without years."""
    if not has_years(results):
        return pd.DataFrame()
    series = compared_products(results) | {"inversions": results.inputs.target}
    budget = results.budget()
    series |= {} if budget is None else {results.config.evaluation.budget.name: budget}
    return evaluate.sink_table(series).reset_index()


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """Columns (metric, product) as "metric: product", the index as the first columns."""
    units = table.attrs.get("units", "")
    named = []
    for metric, name in table.columns:
        head = f"{metric} ({units})" if metric.startswith(("RMSE", "Bias")) else metric
        named.append(f"{head}: {name}" if name else head)
    return table.set_axis(named, axis=1).reset_index()


def against_inversions(results: Results, name: str) -> tuple[xr.DataArray, xr.DataArray, str]:
    """A model's members and the inversions' mean on common months: (…, region, time | month), and the common dim."""
    ours, target = results.series(name), results.inputs.target.mean("inversion", keep_attrs=True)
    if "time" not in ours.dims:
        return ours, study_inputs.seasonal(target), "month"
    common = np.intersect1d(ours.indexes["time"], target.indexes["time"])
    return ours.sel(time=common), target.sel(time=common), "time"


def scores_by_region(results: Results) -> pd.DataFrame:
    """Bias, RMSE, R, NSE and nNSE by region (Fig. 3), and what the squared error consists of: bias, variance, phase."""
    rows = []
    for model, name in results.names.items():
        ours, target, dim = against_inversions(results, name)
        mean = ours.mean("member", keep_attrs=True)
        scores = evaluate.score(mean, target, dim, allow_contents=CONTENTS)
        parts = evaluate.decompose_mse(mean, target, dim, allow_contents=CONTENTS)
        for region in scores["region"].values:
            one, part = scores.sel(region=region), parts.sel(region=region)
            shares = {f"share of MSE: {k}": float(part[k] / part["mse"]) for k in ("bias", "variance", "phase")}
            rows.append({"model": model_label(model), "region": str(region)} | headed(one, SCORES) | shares)
    return pd.DataFrame(rows)


def ensemble_table(results: Results) -> pd.DataFrame:
    """Spread of the members against the error of their mean, for the sum of the target's regions, by month."""
    rows = []
    for model, name in results.names.items():
        ours, target, dim = against_inversions(results, name)
        target = target.sel(region=ours["region"])
        known = np.isfinite(ours).all(("member", dim)).values & np.isfinite(target).all(dim).values
        if ours.sizes["member"] < 2 or not known.any():
            continue
        both = [da.isel(region=np.flatnonzero(known)).sum("region", keep_attrs=True) for da in (ours, target)]
        skill = evaluate.spread_skill(*both, dim, allow_contents=CONTENTS)
        rows.append({"model": model_label(model)} | headed(skill, SPREADS))
    return pd.DataFrame(rows)


def towers_by_group(results: Results) -> pd.DataFrame:
    """Sect. 4.4, held-out predictions of the best epoch: by time scale, between sites, by plant type and climate."""
    p = results.predictions
    models = {label: p[name] for name, label in results.labels.items() if name in p}
    groups = {"plant type (IGBP)": p["igbp"].astype(str)}
    if "climate" in p.coords:
        groups["climate"] = p["climate"].astype(str)
    groups = {k: g for k, g in groups.items() if len(set(g.values.tolist()) - {""})}
    return flat(evaluate.tower_table(p["observed"], models, p["site"], p["time"], groups))
