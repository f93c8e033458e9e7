"""The figures of a study, each drawn from the run folder alone, as PNG and PDF."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux import plot
from xflux.bridge import load_bridge
from xflux.plot.styling import colours, largest
from xflux.regions.names import long_names
from xflux.study import interannual, paper
from xflux.study.results import Results, in_words, model_label
from xflux.study.truth import time_mean
from xflux.temporal import MEAN_YEAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_figures(run: str | Path, folder: Path) -> None:
    """Draw every figure of a study into a new folder."""
    import matplotlib.pyplot as plt

    study = Results(run)
    folder.mkdir()
    for draw in (_mean_maps, _differences, _seasonal_cycles, _bars, _efficiency, _years, _interannual, _months,
                 _correlations, _towers, _histories, _few_inversions, _bridge):  # fmt: skip
        for name, drawn in draw(study):
            figure = drawn if hasattr(drawn, "savefig") else drawn.figure
            for ending in (".png", ".pdf"):
                figure.savefig(folder / f"{name}{ending}", dpi=160)
            plt.close(figure)


Drawn = Iterator[tuple[str, "Figure | Axes"]]
"""Figures with the names of their files."""


def mean_flux(study: Results, name: str) -> xr.DataArray:
    """Mean annual flux of a model, averaged over members: (lat, lon) gC m-2 yr-1."""
    return _per_year(study.members_mean[name])


def _per_year(flux: xr.DataArray) -> xr.DataArray:
    return (time_mean(flux) * MEAN_YEAR).assign_attrs(units="gC m-2 yr-1", long_name="mean annual flux")


def _mean_maps(study: Results) -> Drawn:
    fields = {model_label(model): mean_flux(study, name) for model, name in study.names.items()}
    fields |= {f"{m.name} ({m.period})": study.comparison_map(m) for m in study.config.evaluation.maps}
    if study.config.evaluation.truth:
        fields["truth"] = _per_year(study.truth)
    look = {"label": "Mean annual flux (gC m$^{-2}$ yr$^{-1}$)", "vmin": -600, "vmax": 600}
    yield "mean_flux_maps", plot.maps(fields, columns=2, **look)
    if len(study.models) > 1:
        pair = {label: fields[label] for label in map(model_label, ("ec", study.models[-1]))}
        yield "map_pair", plot.maps(pair, columns=1, **look)


def _differences(study: Results) -> Drawn:
    ec = mean_flux(study, study.names["ec"])
    fields = {
        f"{model_label(model)} − EC": (mean_flux(study, name) - ec).assign_attrs(ec.attrs)
        for model, name in study.names.items()
        if model != "ec"
    }
    if fields:
        yield "difference_maps", plot.maps(fields, columns=1, label="Difference (gC m$^{-2}$ yr$^{-1}$)", centre=0)


def _cycles(study: Results, reduce: bool) -> dict[str, xr.DataArray]:
    cycles = {"inversions": study.inversions.sum("region", skipna=False) if reduce else study.inversions}
    for model, name in study.names.items():
        cycle = study.target_integrals(name)
        cycles[model_label(model)] = cycle.sum("region", keep_attrs=True) if reduce else cycle
    if study.config.evaluation.truth:
        cycles["truth"] = study.true_cycle.sum("region", skipna=False) if reduce else study.true_cycle
    return {label: cycle.assign_attrs(units="PgC month-1") for label, cycle in cycles.items()}


def _named(da: xr.DataArray, regions: str) -> xr.DataArray:
    """The array with its regions' names beside their labels, where the set has names."""
    names = long_names(regions, da["region"].values.tolist())
    return da if names is None else da.assign_coords(region_name=("region", names))


def _seasonal_cycles(study: Results) -> Drawn:
    yield "seasonal_cycle_global", plot.seasonal_cycle(_cycles(study, True), title="Mean seasonal cycle of the globe")
    modelled = [
        r for r in study.inversions["region"].values if np.isfinite(study.target_integrals("ec").sel(region=r)).all()
    ]
    regions = study.config.target.regions
    cycles = {label: _named(cycle.sel(region=modelled), regions) for label, cycle in _cycles(study, False).items()}
    yield "seasonal_cycle_by_region", plot.seasonal_cycle(cycles)


def _bars(study: Results) -> Drawn:
    for regions in study.sets:
        products = {}
        if regions == study.config.target.regions:
            products["inversions"] = study.inversions.sum("month", skipna=False).assign_attrs(units="PgC yr-1")
        for model, name in study.names.items():
            annual = study.integrals[name, regions].sum("month", min_count=1)
            products[model_label(model)] = annual.assign_attrs(units="PgC yr-1")
        for comparison in study.config.evaluation.maps:
            field = study.comparison_map(comparison)
            products[comparison.name] = field.flux.aggregate_regions(regions, units="PgC yr-1")
        named = {name: _named(da, regions) for name, da in products.items()}
        yield f"annual_{regions}", plot.regions(named, quantity="Annual flux")


def _efficiency(study: Results) -> Drawn:
    """Fig. 3, of regions that the models cover."""
    table = paper.scores_by_region(study).dropna(subset="nNSE")
    products = {
        label: _named(xr.DataArray(rows["nNSE"], {"region": rows["region"].values}), study.config.target.regions)
        for label, rows in table.groupby("model", sort=False)
    }
    best = list(products)[-1]
    common = [r for r in products[best]["region"].values if all(r in p["region"].values for p in products.values())]
    if common:
        common = largest({"": study.inversions.sum("month", skipna=False).sel(region=common)})[0]
        chosen = {label: products[label].sel(region=common) for label in reversed(products)}
        yield "efficiency", plot.efficiency(chosen, order_by=best, colour=colours(products))


def _interannual(study: Results) -> Drawn:
    if interannual.has_common_years(study):
        yield "interannual", interannual.draw_anomalies(study)


def _years(study: Results) -> Drawn:
    """Fig. 2 and Fig. 5: global annual fluxes, and maps of their mean and of their variability."""
    if not paper.has_years(study):
        return
    series = {label: da.sum("region", keep_attrs=True) for label, da in paper.compared_products(study).items()}
    series["inversions"] = study.inputs.target.sum("region", skipna=False, keep_attrs=True)
    budget, errors = study.config.evaluation.budget, {}
    if budget:
        series[budget.name] = study.budget()
        errors = {budget.name: budget.spread} if budget.spread else {}
    if len(np.unique(series["EC"]["time"].dt.year)) > 2:  # a line through two years leaves no anomalies
        yield "global_flux", plot.global_flux(series, errors=errors, members=["inversions"])
    maps = {}
    for model, name in study.names.items():
        annual = study.members_mean[name].flux.annual(complete=True)
        maps[model_label(model)] = (annual * MEAN_YEAR).assign_attrs(units="gC m-2 yr-1")
    if min(da.sizes["time"] for da in maps.values()) > 1:
        yield "mean_and_variability", plot.mean_and_variability(maps)


def _months(study: Results) -> Drawn:
    """Fig. 6: four months of EC and of the last model."""
    if len(study.models) < 2:
        return
    last = study.models[-1]
    both = [study.members_mean[study.names[m]] for m in ("ec", last)]
    yield "selected_months", plot.selected_months(*both, names=("EC", model_label(last)))


def _correlations(study: Results) -> Drawn:
    """Fig. 7, of the last model and EC."""
    r = study.correlations
    pair = {model_label(model): r[study.names[model]] for model in (study.models[-1], "ec")} if r else {}
    if len(pair) == 2:
        rows = {str(name): {m: da.sel(reference=name) for m, da in pair.items()} for name in r["reference"].values}
        yield "correlation_maps", plot.correlation_maps(rows)


def _towers(study: Results) -> Drawn:
    """Figs. 8, 9 (the towers with the longest records) and C2."""
    p = study.predictions
    models = {model_label(model): p[name] for model, name in study.names.items()}
    yield "towers", plot.tower_scatter(p["observed"], models)
    sites, days = np.unique(p["site"].values, return_counts=True)
    longest = sites[np.argsort(-days, kind="stable")[:2]].tolist()
    yield "towers_longest", plot.site_scatter(p["observed"], models, p["site"], longest)
    types = p["igbp"].astype(str)
    counts = {t: int((types == t).sum()) for t in np.unique(types) if t}
    often = [t for t, n in sorted(counts.items(), key=lambda c: -c[1]) if n >= 100][:6]
    if len(often) > 1:
        rows = {"sample": np.flatnonzero(types.isin(often))}
        two = {label: models[label].isel(rows) for label in [*models][:1] + [*models][1:][-1:]}
        yield "towers_by_plant_type", plot.tower_scatter(p["observed"].isel(rows), two, by=types.isel(rows))


def _histories(study: Results) -> Drawn:
    from xflux.train import load_model

    for model, name in study.names.items():
        history = load_model(study.run / "models" / f"{name}.safetensors").history
        yield f"history_{name}", plot.history(history, title=model_label(model))


def _few_inversions(study: Results) -> Drawn:
    """Figs. C3 to C5: the globe and every region, of models on one inversion, two and three."""
    runs = study.one_against_many
    if runs is None:
        return
    ours, theirs = runs["regional"].rename(step="month").assign_coords(month=range(1, 13)), study.few_targets
    ours, theirs = (_with_globe(da, study.config.target.regions) for da in (ours, theirs))
    for size in np.unique(runs["size"].values[:-1]).tolist():
        names = runs["run"].values[:-1][runs["size"].values[:-1] == size].tolist()
        both = [{name: da.sel(run=name, drop=True) for name in names} for da in (ours, theirs)]
        yield f"few_inversions_{size}", plot.one_against_many(*both)


def _with_globe(da: xr.DataArray, regions: str) -> xr.DataArray:
    """Sums of the regions, and the sum of all before them."""
    da = da.reset_coords(drop=True)
    globe, named = da.sum("region", skipna=False).expand_dims(region=["Globe"]), _named(da, regions)
    globe = globe.assign_coords(region_name=("region", ["Globe"])) if "region_name" in named.coords else globe
    return xr.concat([globe, named], "region").assign_attrs(units="PgC month-1")


def _bridge(study: Results) -> Drawn:
    """Contributing pixels, Fig. B2, and their plant types (Figs. B3 and B4)."""
    if (study.run / "stability.nc").exists():
        with xr.open_dataset(study.run / "stability.nc") as counted:
            yield "stability", plot.inclusion(counted["count"], trials=study.config.bridge.stability)
    for regions in study.sets if study.config.bridge.fit else ():
        bridge = load_bridge(study.run / "bridge" / f"{regions}.nc")
        yield f"bridge_{regions}", plot.bridge(bridge.pixels, title=f"Contributing pixels, {in_words(regions)}")
    found = study.composition()
    if found is not None:
        yield "plant_types", plot.plant_types(found["all_pixel_share"], found["all_land_share"])
        yield "plant_types_by_region", plot.composition(found["pixel_share"])
