"""Annual anomalies of a run's models beside the inversions', in the years of training and in years that nobody saw."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from xflux import evaluate
from xflux.plot import annual
from xflux.plot.panels import detrended
from xflux.plot.styling import CM, PAGE, style, subplots
from xflux.study import inputs as study_inputs
from xflux.study.config import StudyConfig
from xflux.study.published import by_year
from xflux.study.results import Results, model_label

WHOLE_GLOBE = "globe"
MEAN = "inversions' mean"
"""Of the inversions that models may see."""


# ----------------------------------------------------------------------------------------------------- annual fluxes
def in_groups(config: StudyConfig, annual: xr.DataArray) -> xr.DataArray:
    """The globe and the groups of latitude bands that a study names (…, region), from its regions."""
    parts = {WHOLE_GLOBE: list(annual["region"].values)}
    if config.target.regions == "latitude-bands":
        from xflux.regions import latitude_band_limits

        limits = latitude_band_limits()
        for name, (south, north) in config.evaluation.groups.items():
            parts[name] = [r for r in annual["region"].values if limits[r][0] >= south and limits[r][1] <= north]
    # bands without modelled land (the ice of Antarctica) are missing in models, and add nothing
    sums = [annual.sel(region=labels).sum("region", min_count=1) for labels in parts.values()]
    return xr.concat(sums, xr.Variable("region", list(parts)), coords="minimal", compat="override")


def models(results: Results) -> dict[str, xr.DataArray]:
    """Model → annual integrals (member, region, year)."""
    return {model_label(model): by_year(results.series(name)) for model, name in results.names.items()}


def annual_inversions(results: Results) -> xr.DataArray:
    """Every inversion's annual fluxes (inversion, region, year), those that models may not see too."""
    return by_year(results.inputs.target)


def judges(results: Results) -> dict[str, xr.DataArray]:
    """What models are judged by, as (region, year): inversions and their means, compared series, the budget."""
    every, unseen = in_groups(results.config, annual_inversions(results)), results.config.evaluation.unseen_inversions
    may_see = ~every["inversion"].isin(unseen)
    found = {MEAN: every.sel(inversion=may_see).mean("inversion")}
    if unseen:
        found["unseen inversions' mean"] = every.sel(inversion=~may_see).mean("inversion")
    found |= {str(name): every.sel(inversion=name, drop=True) for name in every["inversion"].values}
    found |= results.series_beside
    if results.config.evaluation.budget:
        found[results.config.evaluation.budget.name] = results.budget().expand_dims(region=[WHOLE_GLOBE])
    return found


# ------------------------------------------------------------------------------------------------------------ scores
def parts_of(config: StudyConfig, years: np.ndarray) -> dict[str, np.ndarray]:
    """Which years are of training and which judge."""
    if config.evaluation.unseen_years is None:
        return {"all": np.ones(years.size, bool)}
    first, last = config.evaluation.unseen_years
    judge = (years >= first) & (years <= last)
    return {"training": ~judge, "unseen": judge}


def without_trend(annual: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Annual values less their linear trend over all years."""
    if years.size < 3:
        return np.full(years.size, np.nan)
    return annual - np.polyval(np.polyfit(years - years.mean(), annual, 1), years - years.mean())


def compare(config: StudyConfig, ours: xr.DataArray, theirs: xr.DataArray) -> Iterator[dict]:
    """Scores of annual values (year) by part of the years: trends are those of all common years."""
    years = np.intersect1d(ours["year"], theirs["year"])
    x, y = (da.sel(year=years).values.astype(float) for da in (ours, theirs))
    anomalies = {"": (without_trend(x, years), without_trend(y, years)), ", with trend": (x - x.mean(), y - y.mean())}
    for part, chosen in parts_of(config, years).items():
        row: dict = {"years": part, "n": int(chosen.sum())}
        for how, (a, b) in anomalies.items():
            enough = chosen.sum() > 2 and a[chosen].std() > 0 and b[chosen].std() > 0
            row[f"r{how}"] = float(np.corrcoef(a[chosen], b[chosen])[0, 1]) if enough else np.nan
            row[f"sd / reference{how}"] = float(a[chosen].std() / b[chosen].std()) if enough else np.nan
        row["sd (PgC yr-1)"] = float(anomalies[""][0][chosen].std()) if chosen.any() else np.nan
        row["bias (PgC yr-1)"] = float((x - y)[chosen].mean()) if chosen.any() else np.nan
        yield row


def _rows(results: Results, products: dict, compared: dict) -> pd.DataFrame:
    rows = []
    for product, ours in products.items():
        for reference, theirs in compared.items():
            for region in ours["region"].values:
                if product != reference and all(region in da["region"].values for da in (ours, theirs)):
                    head = {"product": product, "region": str(region), "reference": reference}
                    both = (da.sel(region=region) for da in (ours, theirs))
                    rows += [head | scores for scores in compare(results.config, *both)]
    return pd.DataFrame(rows)


def has_common_years(results: Results) -> bool:
    """Whether models and inversions have three whole years at least in common."""
    if "time" not in results.series("ec").dims:
        return False
    return np.intersect1d(*(by_year(da)["year"] for da in (results.series("ec"), results.inputs.target))).size > 2


def anomalies_table(results: Results) -> pd.DataFrame:
    """Annual anomalies of globe and groups against the mean of the inversions that models may see.

    Beside the members' mean of every model: unseen inversions, compared series and the budget, and the inversions
    themselves, each against the mean of the others ("one against the others", mean over inversions).
    """
    if not has_common_years(results):
        return pd.DataFrame()
    known = judges(results)
    ours = {name: in_groups(results.config, annual.mean("member")) for name, annual in models(results).items()}
    others = {n: da for n, da in known.items() if n == "unseen inversions' mean" or n not in _names(results) | {MEAN}}
    found = _rows(results, ours | others, {MEAN: known[MEAN]})
    return pd.concat([found, _among_themselves(results)], ignore_index=True)


def references_table(results: Results) -> pd.DataFrame:
    """Every model's annual anomalies of globe and groups against every inversion, compared series and the budget."""
    if not has_common_years(results):
        return pd.DataFrame()
    ours = {name: in_groups(results.config, annual.mean("member")) for name, annual in models(results).items()}
    return _rows(results, ours, {n: da for n, da in judges(results).items() if n != MEAN})


def anomalies_by_region(results: Results) -> pd.DataFrame:
    """Every model's annual anomalies by single region against the mean of the inversions that models may see."""
    if not has_common_years(results):
        return pd.DataFrame()
    mean = by_year(study_inputs.seen_inversions(results.config, results.inputs.target)).mean("inversion")
    return _rows(results, {name: annual.mean("member") for name, annual in models(results).items()}, {MEAN: mean})


def _names(results: Results) -> set[str]:
    return set(map(str, results.inputs.target["inversion"].values))


def _among_themselves(results: Results) -> pd.DataFrame:
    """Each inversion against the mean of the others, averaged over inversions: how far they agree."""
    every = in_groups(results.config, by_year(study_inputs.seen_inversions(results.config, results.inputs.target)))
    if every.sizes["inversion"] < 2:
        return pd.DataFrame()
    rows = []
    for name in every["inversion"].values:
        rest = every.sel(inversion=every["inversion"] != name).mean("inversion")
        rows.append(_rows(results, {"one": every.sel(inversion=name, drop=True)}, {"the others": rest}))
    mean = pd.concat(rows).groupby(["region", "years"], sort=False).mean(numeric_only=True).reset_index()
    return mean.assign(product="inversions", reference="one against the others")


def years_table(results: Results) -> pd.DataFrame:
    """Means and seasonal cycles of the globe against the same inversions, by part of the years, and towers.

    ``r of a member`` is the mean over members of the correlation of their own detrended annual anomalies.
    """
    if not has_common_years(results):
        return pd.DataFrame()
    target = study_inputs.seen_inversions(results.config, results.inputs.target).mean("inversion").sum("region")
    observed, site, rows = results.predictions["observed"], results.predictions["site"], []
    for model, name in results.names.items():
        ours = results.series(name).sum("region")
        common = np.intersect1d(ours["time"], target["time"])
        error = (ours.mean("member") - target).sel(time=common)
        at_towers = evaluate.tower_scores(observed, results.predictions[name], site)
        annual, mean = (by_year(da) for da in (ours, target))
        single = [list(compare(results.config, one, mean)) for one in annual.transpose("member", ...)]
        parts = parts_of(results.config, error["time"].dt.year.values)
        for number, (part, chosen) in enumerate(parts.items()):
            cycle = error.isel(time=chosen).groupby("time.month").mean()
            rows.append({
                "model": model_label(model), "years": part, "mean difference (PgC yr-1)": float(cycle.sum()),
                "seasonal-cycle RMSE (PgC month-1)": float(np.sqrt((cycle**2).mean())),
                "r of a member": float(np.mean([scores[number]["r"] for scores in single])),
                "tower R2, held-out sites": float(at_towers["r2"]),
            })  # fmt: skip
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------ figure
def draw_anomalies(results: Results):
    """Detrended annual anomalies of globe and groups: models, the inversions' range and mean; unseen years shaded."""
    products = {"inversions": detrended(in_groups(results.config, annual_inversions(results)))}
    products |= {n: detrended(in_groups(results.config, da.mean("member"))) for n, da in models(results).items()}
    regions, unseen = products["inversions"]["region"].values, results.config.evaluation.unseen_years
    with style():
        size = PAGE, (5 * -(-len(regions) // 2) + 1.5) * CM
        figure, panels = subplots(None, len(regions), min(len(regions), 2), size, "constrained", sharex=True)
        for ax, region in zip(panels, regions, strict=True):
            if unseen:
                ax.axvspan(unseen[0] - 0.5, unseen[1] + 0.5, color="#E8E8E8", linewidth=0, label="unseen years")
            one = {name: da.sel(region=region) for name, da in products.items()}
            annual(one, ax, title=str(region).capitalize(), legend=False)
            ax.axhline(0, color="#A0A0A0", linewidth=0.5, zorder=0)
            ax.set_ylabel("")
        figure.supylabel("Detrended anomaly (PgC yr$^{-1}$)", fontsize=7.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
