"""Scores against the true flux, where a study knows it: regions, months, and every pixel, better or worse."""

import numpy as np
import pandas as pd
import xarray as xr

from xflux import evaluate
from xflux.cells import cell_area
from xflux.study.results import Results, model_label, open_flux
from xflux.synthetic.observe import monthly
from xflux.temporal import step_days


def truth_table(study: Results) -> pd.DataFrame:
    """Every model against the truth: global sum, regions by month, the map of mean fluxes (area-weighted by pixel).

    ``share of EC's bias removed`` is 1 − |bias| / |bias of EC|, of the global annual flux.
    """
    if study.config.evaluation.truth is None:
        return pd.DataFrame()
    truth, true_cycle = study.truth, study.true_cycle
    true_map = time_mean(truth)
    area = (cell_area(truth) * study.inputs.land_fraction).fillna(0)
    rows = []
    for model, name in study.names.items():
        cycle = study.target_integrals(name).mean("member")
        error = cycle - true_cycle
        scores = evaluate.score(
            time_mean(open_flux(study.run, name).mean("member", dtype="float64").load()),
            true_map,
            dim=("lat", "lon"),
            weights=area,
        )
        rows.append(
            {
                "model": model_label(model),
                "annual flux (PgC yr-1)": float(cycle.sum()),
                "truth (PgC yr-1)": float(true_cycle.sum()),
                "bias (PgC yr-1)": float(error.sum()),
                "region-month RMSE (PgC month-1)": float(np.sqrt((error**2).mean())),
                "map RMSE (gC m-2 d-1)": float(scores["rmse"]),
                "map r": float(scores["r"]),
            }
        )
    table = pd.DataFrame(rows)
    table["share of EC's bias removed"] = 1 - table["bias (PgC yr-1)"].abs() / abs(table["bias (PgC yr-1)"].iloc[0])
    return table


def monthly_drivers_table(study: Results) -> pd.DataFrame:
    """What monthly in place of daily drivers do, for every model: mean of f(x) against f of the mean x."""
    from xflux.train import load_model

    drivers = study.inputs.driver_grid
    if "time" not in drivers.dims:
        return pd.DataFrame()
    by_month = monthly(drivers)
    rows = []
    for model, name in study.names.items():
        trained = load_model(study.run / "models" / f"{name}.safetensors")
        of_means = by_month.flux.predict(trained, members="mean").compute()
        sums = of_means.flux.aggregate_regions(
            study.config.target.regions, units="PgC month-1", land_fraction=study.inputs.land_fraction
        )
        daily = study.target_integrals(name).mean("member")
        rows.append(
            {
                "model": model_label(model),
                "mean of f(x), daily drivers (PgC yr-1)": float(daily.sum()),
                "f of the mean x, monthly drivers (PgC yr-1)": float(sums.sum()),
            }
        )
    table = pd.DataFrame(rows)
    table["difference (PgC yr-1)"] = table.iloc[:, 2] - table.iloc[:, 1]
    return table


def time_mean(flux: xr.DataArray) -> xr.DataArray:
    """Mean over time, or over the mean year, by the lengths of its steps."""
    axis = "month" if "month" in flux.dims else "time"
    return flux.weighted(step_days(flux)).mean(axis).assign_attrs(units=flux.attrs.get("units", "gC m-2 d-1"))
