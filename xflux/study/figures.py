"""The figures of a study, each drawn from the run folder alone, as PNG and PDF."""

from pathlib import Path

import numpy as np
import xarray as xr

import xflux
from xflux import plot
from xflux.study import pipeline
from xflux.study.tables import Study, comparison_map
from xflux.study.truth import true_flux
from xflux.temporal import MEAN_YEAR, step_days


def write_figures(task, models: tuple[str, ...]) -> None:
    """Draw every figure of a study into ``figures/``."""
    from xflux.study.inputs import input_files

    study = Study(task.run.path, task.config, models, input_files(task.config))
    folder = task.run.fresh("figures")
    folder.mkdir()
    _mean_maps(study, folder)
    _differences(study, folder)
    _seasonal_cycles(study, folder)
    _bars(study, folder)
    _towers(study, folder)
    _histories(study, folder)
    _bridge(study, folder)


def _save(drawn, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure = drawn if hasattr(drawn, "savefig") else drawn.figure
    for ending in (".png", ".pdf"):
        figure.savefig(path.with_name(path.name + ending), dpi=200)
    plt.close(figure)


def mean_flux(study: Study, name: str) -> xr.DataArray:
    """Mean annual flux of a model, averaged over members: (lat, lon) gC m-2 yr-1."""
    return _per_year(pipeline.open_flux(study.run, name).mean("member", keep_attrs=True).load())


def _per_year(flux: xr.DataArray) -> xr.DataArray:
    axis = "month" if "month" in flux.dims else "time"
    mean = flux.weighted(step_days(flux)).mean(axis) * MEAN_YEAR
    return mean.assign_attrs(units="gC m-2 yr-1", long_name="mean annual flux")


def _mean_maps(study: Study, folder: Path) -> None:
    fields = {pipeline.LABELS[model]: mean_flux(study, name) for model, name in study.names.items()}
    fields |= {f"{m.name} ({m.period})": comparison_map(study, m) for m in study.config.evaluation.maps}
    if study.config.evaluation.truth:
        fields["truth"] = _per_year(true_flux(study))
    _save(
        plot.maps(fields, columns=2, label="mean annual flux (gC m$^{-2}$ yr$^{-1}$)", vmin=-600, vmax=600),
        folder / "mean_flux_maps",
    )


def _differences(study: Study, folder: Path) -> None:
    ec = mean_flux(study, study.names["ec"])
    fields = {
        f"{pipeline.LABELS[model]} − EC": (mean_flux(study, name) - ec).assign_attrs(ec.attrs)
        for model, name in study.names.items()
        if model != "ec"
    }
    if fields:
        _save(
            plot.maps(fields, columns=1, label="difference (gC m$^{-2}$ yr$^{-1}$)", centre=0),
            folder / "difference_maps",
        )


def _cycles(study: Study, reduce: bool) -> dict[str, xr.DataArray]:
    cycles = {"inversions": study.inversions.sum("region", skipna=False) if reduce else study.inversions}
    for model, name in study.names.items():
        cycle = study.target_integrals(name)
        cycles[pipeline.LABELS[model]] = cycle.sum("region", keep_attrs=True) if reduce else cycle
    return {label: cycle.assign_attrs(units="PgC month-1") for label, cycle in cycles.items()}


def _seasonal_cycles(study: Study, folder: Path) -> None:
    _save(plot.seasonal_cycle(_cycles(study, True), title="Global"), folder / "seasonal_cycle_global")
    modelled = [
        r for r in study.inversions["region"].values if np.isfinite(study.target_integrals("ec").sel(region=r)).all()
    ]
    cycles = {label: cycle.sel(region=modelled) for label, cycle in _cycles(study, False).items()}
    _save(plot.seasonal_cycle(cycles), folder / "seasonal_cycle_by_region")


def _bars(study: Study, folder: Path) -> None:
    for regions in study.sets:
        products = {}
        if regions == study.config.target.regions:
            products["inversions"] = study.inversions.sum("month", skipna=False).assign_attrs(units="PgC yr-1")
        for model, name in study.names.items():
            annual = study.integrals[name, regions].sum("month", min_count=1)
            products[pipeline.LABELS[model]] = annual.assign_attrs(units="PgC yr-1")
        for comparison in study.config.evaluation.maps:
            field = comparison_map(study, comparison)
            products[comparison.name] = field.flux.aggregate_regions(regions, units="PgC yr-1")
        _save(plot.regions(products, quantity="annual flux"), folder / f"annual_{regions}")


def _towers(study: Study, folder: Path) -> None:
    with xr.open_dataset(study.run / "towers" / "held_out.nc") as dataset:
        predictions = dataset.load()
    models = {pipeline.LABELS[model]: predictions[name] for model, name in study.names.items()}
    _save(plot.tower_scatter(predictions["observed"], models), folder / "towers")


def _histories(study: Study, folder: Path) -> None:
    for model, name in study.names.items():
        history = xflux.load_model(study.run / "models" / f"{name}.safetensors").history
        _save(plot.history(history, title=pipeline.LABELS[model]), folder / f"history_{name}")


def _bridge(study: Study, folder: Path) -> None:
    for regions in study.sets:
        bridge = xflux.load_bridge(study.run / "bridge" / f"{regions}.nc")
        _save(plot.bridge(bridge.pixels, title=f"contributing pixels, {regions}"), folder / f"bridge_{regions}")
