"""What the choices of a constraint do, on the run folder of a study (`xflux run`) or where the truth is known.

    python benchmarks/constraints.py decoupling RUN          full integral against 200 fresh draws, drift, strata
    python benchmarks/constraints.py misfit RUN              range, with the total, covariance: three paired runs
    python benchmarks/constraints.py misfit-planted          the same on the synthetic Earth, against its truth
    python benchmarks/constraints.py bridge RUN --refit 5    the bridge's gap with and without fitting it anew
    python benchmarks/constraints.py bootstrap RUN           members' spread with and without resampled inversions, 4°
    python benchmarks/constraints.py strata RUN              sampled and full on 2 degrees
    python benchmarks/constraints.py gap RUN                 in which classes of land EC and the constrained model part
    python benchmarks/constraints.py sum RUN                 what the sum of sampled+total is off by: years and epochs
    python benchmarks/constraints.py one-against-many RUN    each inversion, pairs, triples, all (short runs, 4°)

RUN is the folder of a finished `xflux run examples/real_world/study.toml`: its settings, seed and models are used;
what is trained here goes to --out (default RUN/constraints) and is kept, so that a study that was stopped goes on.
Trained in full (60 epochs, 10 members, one core) a variant takes 10 to 15 minutes. --members takes the first members
of all variants only; --epochs trains every variant anew, so that they stay paired.
"""

import argparse
import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import xflux
from xflux import synthetic, train
from xflux.study.inputs import Inputs, open_inputs

VARIANTS = {
    "range": {}, "range + total": {"total": True}, "weighted": {"total": True, "weight": (0.15, 0.02)},
    "covariance": {"misfit": "covariance"},
}  # fmt: skip
SAVED = {"range": "ec_atm_sampled", "bridge": "ec_atm_bridge", "EC": "ec"}


@dataclasses.dataclass
class Run:
    """A run folder: its inputs and settings, and models that are trained once."""

    path: Path
    out: Path
    options: argparse.Namespace

    def __post_init__(self):
        self.study = json.loads((self.path / "study.json").read_text())
        self.inputs: Inputs = open_inputs(self.path / "inputs")
        self.grid, self.land = self.inputs.driver_grid, self.inputs.land_fraction
        if self.options.coarse > 1:
            self.grid, self.land = coarse(self.inputs, self.options.coarse)
        self.weights = xflux.region_weights(self.grid, self.study["target"]["regions"], "land", self.land)
        self.members = None if self.options.members is None else tuple(range(self.options.members))

    def config(self, **changes) -> train.TrainConfig:
        """The study's training, with changes."""
        t = self.study["train"]
        settings = {
            "folds": t["folds"], "seed": self.study["seed"], "max_epochs": self.options.epochs or t["epochs"],
            "batch": t["batch"], "learning_rate": t["learning_rate"], "log_variance_rate": t["log_variance_rate"],
            "schedule": t["schedule"], "hidden": tuple(t["hidden"]), "validation_years": t["validation_years"],
            "patience": None, "members": self.members,
        }  # fmt: skip
        return train.TrainConfig(**settings | changes)

    def constraint(self, **changes) -> train.RegionalConstraint:
        """The study's sampled constraint, with changes."""
        settings = {
            "target": self.inputs.target, "drivers": self.grid, "regions": self.weights,
            "pixels": self.study["train"]["pixels_per_step"], "allow": tuple(self.study["target"]["allow"]),
        }  # fmt: skip
        if "bridge" not in changes:
            settings["integral"] = "sampled"
        return train.RegionalConstraint(**settings | changes)

    def bridge(self):
        """The bridge of the study, or one on the coarse grid, fitted on EC's field."""
        if self.options.coarse > 1:
            ec = xflux.load_model(self.path / "models" / f"{SAVED['EC']}.safetensors")
            return self.grid.flux.predict(ec, members="all").flux.fit_bridge(self.weights, area_basis="land")
        return xflux.load_bridge(self.path / "bridge" / f"{self.study['target']['regions']}.nc")

    def model(self, name: str, constraint=None, **changes) -> train.FluxModel:
        """The study's saved model, where it is the one that is asked for; else one that is trained here, once."""
        config = self.config(**changes)
        native = self.options.coarse == 1 and config.max_epochs == self.study["train"]["epochs"]
        if name in SAVED and not changes and native:
            model = xflux.load_model(self.path / "models" / f"{SAVED[name]}.safetensors")
            return model if self.members is None else model.select(self.members)
        label = f"{name.replace(' + ', '_').replace(' ', '_').lower()}_{config.max_epochs}epochs"
        label += f"_{len(config.trained)}members" + (f"_coarse{self.options.coarse}" if self.options.coarse > 1 else "")
        path = self.out / f"{label}.safetensors"
        if not path.exists():
            print(f"training {label}", flush=True)
            constraints = [] if constraint is None else [constraint]
            model = train.fit(
                self.inputs.towers, self.inputs.drivers, "nee", constraints, config,
                checkpoint=self.out / f"{label}.checkpoint", progress=True,
            )  # fmt: skip
            model.save(path)
            (self.out / f"{label}.checkpoint").unlink(missing_ok=True)
        return xflux.load_model(path)


def annual(regional: xr.DataArray) -> xr.DataArray:
    """PgC per year of months or of mean months."""
    return 12 * regional.mean("step")


def inversions(target: xr.DataArray, regions) -> xr.DataArray:
    """Mean seasonal cycle of every inversion (inversion, region, month), PgC per month."""
    return target.sel(region=regions).groupby("time.month").mean().transpose("inversion", "region", "month")


def scores(run: Run, model: train.FluxModel) -> dict:
    """Global flux and its spread, errors against the inversions, RMSE at towers that a member has not seen."""
    full = train.regional_integrals(model, run.constraint(integral="full"))["full"]
    reference = inversions(run.inputs.target, full["region"].values)
    error = full.mean("member").values - reference.mean("inversion").values
    rate = annual(full)
    low, high = (12 * f(reference.mean("month"), "inversion") for f in (xr.DataArray.min, xr.DataArray.max))
    inside = (rate.mean("member") >= low) & (rate.mean("member") <= high)
    return {
        "global flux (PgC/yr)": float(rate.sum("region").mean()),
        "± members": float(rate.sum("region").std("member", ddof=1)),
        "seasonal RMSE": float(np.sqrt((error.sum(0) ** 2).mean())),
        "region-month RMSE": float(np.sqrt((error**2).mean())),
        "regions in range": f"{int(inside.sum())} of {inside.size}",
        "tower RMSE, best": tower_rmse(run.inputs.towers, model),
        "last": tower_rmse(run.inputs.towers, model.last),
    }


def tower_rmse(towers: xr.Dataset, model: train.FluxModel) -> float:
    """RMSE over all sites, each by the member that has not seen it."""
    rows = np.stack([towers[name].values for name in model.drivers], 1)
    fold = np.array([model.folds[site] for site in towers["site"].values.astype(str)])
    unseen = fold < model.members
    predicted = model.predict(rows[unseen])[fold[unseen], np.arange(unseen.sum())]
    return float(np.sqrt(np.mean((predicted - towers["nee"].values[unseen]) ** 2)))


def show(rows: list[dict] | pd.DataFrame, title: str, digits: int = 3) -> None:
    """A table, as text."""
    print(f"\n{title}\n{pd.DataFrame(rows).round(digits).to_string(index=False)}", flush=True)


# ---------------------------------------------------------------------------------------------- the studies, in turn


def decoupling(run: Run) -> None:
    """Does the full integral agree with what fresh draws say of it?"""
    rows = []
    for name in ("range", "range + total"):
        model = run.model(name, run.constraint(**VARIANTS[name]))
        found = train.regional_integrals(model, run.constraint(), draws=run.options.draws, seed=1)
        gap = annual(found["sampled"] - found["full"])
        total, noise = gap.sum("region"), np.sqrt((annual(found["sampled_std"]) ** 2).sum("region"))
        drift = model.history["ATM_drift"]
        rows.append({
            "constraint": name, "full (PgC/yr)": float(annual(found["full"]).sum("region").mean()),
            "|draws − full|, mean of members": abs(float(total.mean())), "largest member": float(np.abs(total).max()),
            "largest region and member": float(np.abs(gap).max()), "sd of one draw, at most": float(noise.max()),
            "drift over the last tenth": float(drift.mean()), "largest": float(np.abs(drift).max()),
        })  # fmt: skip
    show(rows, f"Full integral against {run.options.draws} fresh draws of {run.constraint().pixels} pixels (limit 0.1)")


def misfit(run: Run) -> None:
    """Range, with the total, with less weight, covariance: the same seed, weights, folds and batches."""
    rows = [{"constraint": "EC"} | scores(run, run.model("EC"))]
    variants = dict(VARIANTS)
    if run.options.more:
        variants["covariance + total"] = {"misfit": "covariance", "total": True}
        variants |= {f"covariance {s}": {"misfit": "covariance", "shrinkage": s} for s in (0.1, 0.9)}
    for name, options in variants.items():
        model = run.model(name, run.constraint(**options))
        rows.append({"constraint": name} | scores(run, model))
        show(rows[-1:], name)
    reference = inversions(run.inputs.target, run.inputs.target["region"].values).sum("region")
    total = 12 * reference.mean("month")
    print(f"inversions: {float(total.mean()):.2f} ± {float(total.std(ddof=1)):.2f} PgC/yr")
    show(rows, "Misfit of the constraint, real study")


def misfit_planted(options: argparse.Namespace) -> None:
    """The same where the truth is known: errors of the flux itself."""
    rows = []
    for seed in options.seeds:
        world = synthetic.earth(options.resolution, 4, seed)
        towers = xflux.colocate(world.towers, world.drivers, max_distance=2000, keep=["Tair"])
        pick = np.random.default_rng(0).permutation(towers.sizes["sample"])[:40_000]
        towers = towers.isel(sample=np.sort(pick))
        names, grid = list(world.drivers.data_vars), world.monthly_drivers
        config = train.TrainConfig(seed=seed, max_epochs=options.epochs or 40, batch=4000, members=(0, 1, 2, 3, 4))
        truth = world.nee_monthly.flux.mean_seasonal_cycle()
        exact = truth.flux.aggregate_regions("reccap2", "PgC month-1", land_fraction=world.land_fraction)
        for name, changes in {"EC": None, **VARIANTS}.items():
            shared = {"regions": "reccap2", "land_fraction": world.land_fraction}
            top = train.RegionalConstraint(
                world.target, grid, integral="sampled", pixels=1500, **shared | (changes or {})
            )
            model = train.fit(towers, names, constraints=[] if changes is None else [top], config=config)
            rows.append({"seed": seed, "constraint": name} | planted_scores(model, top, exact, truth, world, towers))
        show(rows[-1 - len(VARIANTS) :], f"seed {seed}")
    table = pd.DataFrame(rows)
    table["|global error|"] = table["global error (PgC/yr)"].abs()
    means = table.drop(columns="seed").groupby("constraint", sort=False).mean().reset_index()
    show(means, f"Misfit of the constraint, synthetic Earth, mean of the seeds {options.seeds}")


def planted_scores(model, top, exact, truth, world, towers) -> dict:
    """Errors of the members' mean against the true integrals and the true map."""
    found = train.regional_integrals(model, dataclasses.replace(top, integral="full"))["full"]
    error = found.mean("member") - exact.transpose("region", "month").sel(region=found["region"].values).values
    flux = world.monthly_drivers.flux.predict(model, members="mean").mean("month")
    here, there, area = (a.values.ravel() for a in xr.broadcast(flux, truth.mean("month"), world.land_area))
    seen = np.isfinite(here) & np.isfinite(there) & (area > 0)
    years = annual(found).sum("region")
    return {
        "global error (PgC/yr)": float(annual(error).sum()),
        "± members": float(years.std("member", ddof=1)),
        "regional error (PgC/yr, rms)": float(np.sqrt((annual(error) ** 2).mean())),
        "region-month RMSE": float(np.sqrt((error**2).mean())),
        "map r": float(np.corrcoef(here[seen], there[seen])[0, 1]),
        "map RMSE": float(np.sqrt(np.average((here - there)[seen] ** 2, weights=area[seen]))),
        "tower RMSE": tower_rmse(towers, model),
    }


def bridge(run: Run) -> None:
    """The bridge's integral less the full one, by region, at the best and at the last epoch."""
    given = {"bridge": run.bridge(), "land_fraction": run.land}
    tables, rows = {}, []
    for refit in (None, *run.options.refit):
        name = f"bridge refit {refit}" if refit else "bridge"
        constraint = run.constraint(**given, refit_bridge=refit)
        model = run.model(name, constraint)
        if "ATM_gap" in model.history:
            gap = model.history["ATM_gap"].isel(epoch=-1)
            best = (model.history["ATM_bridged"] - model.history["ATM_integral"]).sel(epoch=model.history["best_epoch"])
        else:  # a model of an earlier version: its bridge has not changed
            found = (train.regional_integrals(m, constraint) for m in (model.last, model))
            gap, best = (annual(f["bridge"] - f["full"]) for f in found)
            best = best.sum("region")
        total, beyond = gap.sum("region"), np.abs(gap).max("region")
        tables[name] = gap
        rows.append({
            "variant": name, "gap at the end, mean of members": float(total.mean()),
            "rms over members": float(np.sqrt((total**2).mean())),
            "at the best epoch, rms": float(np.sqrt((best**2).mean())),
            "regions beyond 0.5 (rms)": int((np.sqrt((gap**2).mean("member")) > 0.5).sum()),
            "largest region and member": float(beyond.max()),
        } | scores(run, model))  # fmt: skip
    show(rows, "The bridge's integral less the full one (PgC/yr)")
    by_region = {name: np.sqrt((gap**2).mean("member")).values for name, gap in tables.items()}
    show(pd.DataFrame({"region": gap["region"].values} | by_region), "By region, rms over members (PgC/yr)")


def bootstrap(run: Run) -> None:
    """Does the ensemble carry the inversions' spread, where each member has its own bootstrap of them?"""
    table, top = {}, run.constraint(total=True, **({"integral": "full"} if run.options.coarse > 1 else {}))
    for name, resample in (("range + total", False), ("resampled", True), ("resampled 1", 1)):
        changes = {"resample_inversions": resample} if resample else {}
        model = run.model(name, top, **changes)
        rate = annual(train.regional_integrals(model, run.constraint(integral="full"))["full"])
        whole = xr.concat([rate, rate.sum("region").assign_coords(region="sum")], "region")
        table[name], table[f"{name}, mean"] = whole.std("member", ddof=1).values, whole.mean("member").values
    reference = 12 * inversions(run.inputs.target, rate["region"].values).mean("month")
    reference = xr.concat([reference, reference.sum("region").assign_coords(region="sum")], "region")
    spread = reference.std("inversion", ddof=1).values
    table = {"region": whole["region"].values, "sd of inversions": spread, "of their mean": spread / 5} | table
    show(pd.DataFrame(table), "Standard deviations of the annual flux, PgC/yr (25 inversions: sd of their mean = sd/5)")


def coarse(inputs: Inputs, factor: int) -> tuple[xr.Dataset, xr.DataArray]:
    """Drivers and land fraction on cells of `factor` × `factor` cells, weighted by land."""
    land = inputs.land_fraction * np.cos(np.deg2rad(inputs.land_fraction["lat"]))
    size = {"lat": factor, "lon": factor}
    there = inputs.driver_grid.notnull() * land
    grid = (inputs.driver_grid.fillna(0) * land).coarsen(size).sum() / there.coarsen(size).sum()
    for name in grid:
        grid[name].attrs = inputs.driver_grid[name].attrs
    return grid.astype("float32"), inputs.land_fraction.coarsen(size).mean()


def strata(run: Run) -> None:
    """Sampled and full constraint on a coarse grid: the noise of draws must not flatten the field within regions."""
    land = run.weights.data
    cells = len(np.unique(land.coords[1:, land.data > 0], axis=1).T)
    rows, fields = [], {}
    for name, changes in {
        "full": {"integral": "full"}, "sampled": {"pixels": cells // 5},
        "sampled, no control": {"pixels": cells // 5, "control_variate": False},
    }.items():  # fmt: skip
        top = run.constraint(total=True, sampling_error=0, **changes)
        model = run.model(name.replace(",", ""), top)
        found = train.regional_integrals(model, dataclasses.replace(top, integral="full"))
        fields[name] = found["strata_std"]
        rate = annual(found["full"]).sum("region")
        ratio = (fields[name].mean("member") / fields["full"].mean("member")).mean("step")
        rows.append({
            "constraint": name, "pixels": top.pixels if name != "full" else cells, "full integral": float(rate.mean()),
            "±": float(rate.std(ddof=1)), "sd within strata (gC m-2 month-1)": float(fields[name].mean()),
            "over that of full": float(fields[name].mean() / fields["full"].mean()), "least region": float(ratio.min()),
            "largest region": float(ratio.max()), "tower RMSE": tower_rmse(run.inputs.towers, model),
        })  # fmt: skip
    show(rows, f"Sampled and full on {run.options.coarse / 2:g} degrees, {cells} cells")


def gap(run: Run) -> None:
    """Annual flux of EC and of sampled+total by the land-cover class of the cell, and how many towers stand in it."""
    saved = {name: f"ec_atm_{name}" if name != "ec" else name for name in ("ec", "sampled_total")}
    models = {n: xflux.load_model(run.path / "models" / f"{file}.safetensors") for n, file in saved.items()}
    towers, area = run.inputs.towers, run.grid["Tair"].flux.cell_area() * run.land
    flux = {n: run.grid.flux.predict(m, members="mean").mean("month").load() for n, m in models.items()}
    area = area.where(np.isfinite(flux["ec"]), 0.0)
    classes = {name: run.grid[name] for name in run.study["drivers"]["cover"][0]["classes"]}
    classes["none of these"] = 1 - sum(classes.values())
    rows = []
    for name, share in classes.items():
        here = area * share
        ec, atm = (float((here * flux[n]).sum()) * 365.2425 / 1e15 for n in saved)
        sites = np.unique(towers["site"].values[towers[name].values == 1]).size if name in towers else 0
        land = float(here.sum() / area.sum())
        rows.append({"class": name, "towers": sites, "share of land": land, "EC": ec, "EC-ATM": atm, "part": atm - ec})
    rows.append({"class": "all", **pd.DataFrame(rows).drop(columns="class").sum().to_dict()})
    show(rows, "Annual flux by class of the cell (PgC/yr)", 2)


def sum_of_years(run: Run) -> None:
    """The sum of sampled+total by member: the target of the years that train it, its last and its best epoch."""
    model = xflux.load_model(run.path / "models" / "ec_atm_sampled_total.safetensors")
    about, history = model.attrs["constraints"][0], model.history
    yearly = run.inputs.target.sel(region=about["regions"]).sum("region", skipna=False).groupby("time.year")
    yearly = yearly.sum(skipna=False).mean("inversion")
    held_out = [about["held_out_years"][str(member)] for member in history["member"].values]
    trained_on = [float(yearly.where(~yearly.year.isin(years)).mean()) for years in held_out]
    at = {"last epoch": history["epoch"][-1], "best epoch": history["best_epoch"]}
    sums = {name: history["ATM_integral"].sel(epoch=epoch).values for name, epoch in at.items()}
    table = pd.DataFrame({"held out": held_out, "target of its own years": trained_on, **sums})
    show(table, "Sum of the regions by member (PgC/yr)", 2)
    all_years, own, last, best = float(yearly.mean()), *table.drop(columns="held out").mean()
    row = {"best epoch": best - all_years, "which years train": own - all_years, "last epoch less these": last - own,
           "best less last epoch": best - last}  # fmt: skip
    show([row], f"Mean of the members less the inversions' {all_years:.2f}, and its parts")


def one_against_many(run: Run) -> None:
    """Every inversion alone, pairs, triples and all, shortly trained."""
    config = run.config(max_epochs=run.options.epochs or 4, members=run.members or (0, 1))
    top = run.constraint(integral="full", total=True)
    found = train.one_against_many(
        run.inputs.towers, run.inputs.drivers, top, config=config, sizes=(1, 2, 3), draws=5, progress=True
    )
    own = 12 * inversions(run.inputs.target, found["region"].values).sum("region").mean("month")
    found["own"] = ("run", [float(own[used].mean()) for used in found["used"].values])
    run.out.mkdir(parents=True, exist_ok=True)
    found.to_netcdf(run.out / "one_against_many.nc")
    table = found[["size", "own", "difference", "tower_loss"]].mean("member").to_dataframe().reset_index()
    table["annual"] = found["annual"].mean("member").values
    show(table[["run", "size", "own", "annual", "difference", "tower_loss"]], "One against many (PgC/yr)")
    table["off"] = (table["annual"] - table["own"]) ** 2
    grouped = table.groupby("size")
    summary = grouped[["annual", "own"]].std().rename(columns={"annual": "sd of runs", "own": "sd of their targets"})
    summary["rms of run less its target"] = np.sqrt(grouped["off"].mean())
    show(summary.assign(runs=grouped.size()).reset_index(), "By number of inversions (PgC/yr)")


COARSE = {"strata": 4, "bootstrap": 8, "one-against-many": 8}  # else the study's own grid
STUDIES = {
    "decoupling": decoupling, "misfit": misfit, "misfit-planted": misfit_planted, "bridge": bridge,
    "bootstrap": bootstrap, "strata": strata, "gap": gap, "sum": sum_of_years, "one-against-many": one_against_many,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished `xflux run`")
    parser.add_argument("--out", type=Path, help="where models go that are trained here (default: RUN/constraints)")
    parser.add_argument("--epochs", type=int, help="fewer epochs than the study's")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--refit", type=int, nargs="+", default=[5], help="epochs after which a bridge is fitted anew")
    parser.add_argument("--members", type=int, help="only the first members; they are the same as among all")
    parser.add_argument("--coarse", type=int, help="cells of the grid that make one coarse cell, each way")
    parser.add_argument("--more", action="store_true", help="misfit: other shrinkages too")
    parser.add_argument("--resolution", type=float, default=4.0, help="of the synthetic Earth")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    options.coarse = options.coarse or COARSE.get(options.study, 1)
    warnings.simplefilter("ignore")
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 100)
    if options.study == "misfit-planted":
        misfit_planted(options)
        return
    if options.run is None:
        parser.error(f"{options.study} needs the folder of a finished `xflux run`")
    STUDIES[options.study](Run(options.run, options.out or options.run / "constraints", options))


if __name__ == "__main__":
    main()
