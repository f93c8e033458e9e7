"""The models of a study, each trained and run over the globe in stages of its own."""

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from xflux import forward, stores
from xflux.bridge import load_bridge
from xflux.study import inputs as study_inputs
from xflux.study import published
from xflux.study.config import StudyConfig
from xflux.study.results import inversion_halves, model_label, regional_sums, slug
from xflux.study.stages import RunFolder


@dataclass(frozen=True)
class Study:
    """One run: what is asked, where it goes, and the inputs once they are there."""

    config: StudyConfig
    run: RunFolder
    smoke: bool = False
    thin: bool = False

    @cached_property
    def inputs(self) -> study_inputs.Inputs:
        """The inputs, read from the run folder once they are there."""
        return study_inputs.open_inputs(self.run.path / "inputs")


def settings_of(study: Study, *sections: str) -> dict:
    """What the study file says in these sections; keys at their defaults do not count: new ones change nothing."""
    return study.config.model_dump(include=set(sections), exclude_defaults=True)


def _train_config(study: Study, **changes):
    from xflux import train

    asked = study.config.train
    same = asked.model_dump(exclude={"epochs", "pixels_per_step"})
    return train.TrainConfig(**same, max_epochs=asked.epochs, seed=study.config.seed, patience=None, **changes)


def bridges_of(study: Study, variant: str) -> tuple[str, ...]:
    """The stage of the bridges, where a variant needs it."""
    return ("bridges",) if variant != "ec" and study.config.constraint(variant).integral == "bridge" else ()


def _constraints(study: Study, variant: str, target: xr.DataArray) -> list:
    """Those of a variant: by the target, and by the regions' means of the maps that it names."""
    from xflux import train

    inputs, config = study.inputs, study.config
    asked = config.constraint(variant).model_dump(exclude={"means"})
    shared = dict(drivers=inputs.driver_grid, allow=tuple(config.target.allow))
    pixels = dict(
        land_fraction=inputs.land_fraction,
        pixels=config.train.pixels_per_step,
        control_variate=None if inputs.lazy else True,
    )
    if asked["integral"] == "bridge":
        bridge = load_bridge(study.run.path / "bridge" / f"{config.target.regions}.nc")
        if inputs.lazy:  # every pixel of every day would be read for the full integral after each epoch
            bridge = replace(bridge, weights=None)
        own = dict(bridge=bridge, land_fraction=inputs.land_fraction)
    else:
        own = dict(regions=config.target.regions, **pixels)
    found = [train.RegionalConstraint(target, **shared, **asked, **own)]
    files = study_inputs.input_files(config)
    maps = {comparison.name: comparison for comparison in config.evaluation.maps}
    for name, regions in config.constraint(variant).means.items():
        field = published.read_map(maps[name], files[f"evaluation.maps ({name})"][0])
        mean = field.flux.aggregate_regions(regions, units="PgC yr-1")
        more = dict(regions=regions, name=name, weight=np.min(asked["weight"]))
        found.append(train.RegionalConstraint(mean, **more, **shared, **pixels))
    return found


def _train(study: Study, name: str, constraints: list, **changes) -> None:
    from xflux import train

    path, checkpoint = study.run.fresh(f"models/{name}.safetensors"), study.run.checkpoint(f"models/{name}")
    model = train.fit(
        _seen_towers(study),
        drivers=study.inputs.drivers,
        target="nee",
        constraints=constraints,
        config=_train_config(study, **changes),
        checkpoint=checkpoint,
        progress=lambda line: study.run.say(f"        {name}: {line}"),
    )
    model.save(path)
    checkpoint.unlink(missing_ok=True)


def _training_settings(study: Study, variant: str, *more) -> list:
    judge = {"years": study.config.evaluation.unseen_years, "inversions": study.config.evaluation.unseen_inversions}
    constraint = {} if variant == "ec" else study.config.constraint(variant).model_dump()
    written = settings_of(study, "train", "seed", "target")
    if constraint.get("integral", "bridge") == "bridge" and not constraint.get("means"):
        written.get("train", {}).pop("pixels_per_step", None)  # nothing is sampled
    return [written, study.smoke, variant, judge, constraint, *more]


def _seen_towers(study: Study) -> xr.Dataset:
    towers = study.inputs.towers
    return towers.isel(sample=np.flatnonzero(study_inputs.in_seen_years(study.config, towers["time"])))


def _seen(study: Study) -> xr.DataArray:
    return study_inputs.seen(study.config, study.inputs.target)


def train_and_predict(study: Study, variant: str, after: tuple[str, ...]) -> None:
    """The stages of a model: its training, and its forward run over the globe."""
    name, label = slug(variant), model_label(variant)
    trained = "ec" if variant == "ec" else f"train-{name}"
    _training_stage(study, trained, name, variant, after, f"training {label}")
    _forward_stage(study, name, (trained, "inputs"), f"forward run of {label}")


def _training_stage(
    study: Study, stage: str, name: str, variant: str, after: tuple[str, ...], title: str, more: tuple = (), **changes
) -> None:
    """Training of a variant into ``models/NAME``; what it differs in from the variant's own stands in ``more``."""

    def fit() -> None:
        if variant == "ec":
            return _train(study, name, [], **changes)
        target = _seen(study)
        if name == "half":
            target = target.sel(inversion=inversion_halves(target, study.config.seed)[0])
        _train(study, name, _constraints(study, variant, target), **changes)

    settings, outputs = _training_settings(study, variant, *more), [f"models/{name}.safetensors"]
    study.run.stage(stage, fit, settings=settings, after=after, title=title, outputs=outputs)


def _forward_stage(study: Study, name: str, after: tuple[str, ...], title: str) -> None:
    """All members over the grid; days are averaged to months, a year at a time, before they are written."""

    def make() -> None:
        from xflux.train import load_model

        _run_over_grid(study, load_model(study.run.path / "models" / f"{name}.safetensors"), f"flux/{name}.zarr")

    study.run.stage(f"forward-{name}", make, after=after, outputs=[f"flux/{name}.zarr"], title=title)


def _run_over_grid(study: Study, model, name: str) -> Path:
    grid, out = study.inputs.driver_grid, study.run.fresh(name)
    if "time" not in grid.dims:
        forward.run(grid, model, out, members="all", progress=False)
    else:
        run_forward(grid, model, out)
    return out


def run_forward(grid: xr.Dataset, model, out: Path) -> None:
    """A forward run in time as months in a Zarr store, a year of days in memory at a time."""
    days = xr.zeros_like(grid["time"], "float32").drop_attrs().assign_attrs(units="gC m-2 d-1")
    stamps = days.flux.to_monthly()["time"].reset_coords(drop=True).drop_encoding()
    year = grid["time"].dt.year.values
    for number in np.unique(year):
        days = forward.predict(grid.isel(time=np.flatnonzero(year == number)), model, members="all")
        days = days if "member" in days.dims else days.expand_dims(member=[0])
        months = days.flux.to_monthly().reset_coords(drop=True).astype("float32").compute()
        months = months.drop_encoding().to_dataset(name="nee")
        if number == year.min():
            _create_months(months, stamps, out)
        (mine,) = np.nonzero(stamps.dt.year.values == number)
        stores.put(out, months, {"time": slice(mine[0], mine[-1] + 1)})
    stores.gather_metadata(out)


def _create_months(first: xr.Dataset, stamps: xr.DataArray, out: Path) -> None:
    """An empty store for the months of all years, like the first year's."""
    import dask.array as da

    flux = first["nee"]
    sizes = {"member": 1, "time": 12} | {d: min(180, flux.sizes[d]) for d in ("lat", "lon")}
    lengths = tuple(sizes[d] for d in flux.dims)
    shape = tuple(stamps.size if d == "time" else n for d, n in flux.sizes.items())
    coords = {name: coord for name, coord in first.coords.items() if "time" not in coord.dims} | {"time": stamps}
    empty = da.zeros(shape, chunks=lengths, dtype="float32")
    stores.create(str(out), xr.Dataset({"nee": (flux.dims, empty, flux.attrs)}, coords, first.attrs), {"nee": lengths})


def extra_runs(study: Study) -> tuple[str, ...]:
    """The stages of models that test: on half of the inversions, on folds blocked by distance, on few inversions."""
    config, stages = study.config, []
    if config.held_out_inversions:
        title = "training EC-ATM sampled+total on half of the inversions"
        _training_stage(study, "train-half", "half", "sampled+total", ("inputs", "ec"), title, ("half",))
        _forward_stage(study, "half", ("train-half",), "forward run of the half")
        stages.append("forward-half")
    distance = config.towers.block_distance
    for variant in (["ec"] if config.blocked else []) + (config.variants if config.blocked_variants else []):
        name, after = slug(variant), ("inputs", *bridges_of(study, variant))
        title = f"training {model_label(variant)} on folds blocked at {distance:g} km"
        stages.append(f"blocked-{name}")
        _training_stage(
            study, stages[-1], f"blocked_{name}", variant, after, title, (distance,), block_distance=distance
        )
    return (*stages, *_one_against_many(study))


def _one_against_many(study: Study) -> tuple[str, ...]:
    """Models on few inversions each, from the same weights, folds and towers (Sect. 3.6)."""
    asked = study.config.one_against_many
    variant = asked.variant or study.config.variants[0]

    def integrate(model) -> xr.DataArray:
        flux = xr.open_zarr(_run_over_grid(study, model, "part.zarr"))["nee"]
        sums = regional_sums(flux, study.config.target.regions, study.inputs.land_fraction).compute()
        cycle = study_inputs.seasonal(sums).rename(month="step").transpose("member", "region", "step")
        return cycle.assign_attrs(units="PgC month-1")

    def make() -> None:
        from xflux import train

        members, kept = range(asked.members or study.config.train.folds), study.run.checkpoint("models/few_inversions")
        found = train.one_against_many(
            _seen_towers(study),
            study.inputs.drivers,
            _constraints(study, variant, _seen(study))[0],
            config=_train_config(study, members=tuple(members)),
            sizes=asked.sizes,
            draws=asked.draws,
            integrate=integrate,
            checkpoint=kept,
            progress=lambda line: study.run.say(f"        few inversions: {line}"),
        )
        shutil.rmtree(study.run.fresh("part.zarr"), ignore_errors=True)
        found.to_netcdf(study.run.fresh("one_against_many.nc"))
        shutil.rmtree(kept)

    if not asked.sizes:
        return ()
    study.run.stage(
        "one-against-many",
        make,
        after=("inputs", *bridges_of(study, variant)),
        settings=_training_settings(study, variant, asked.model_dump()),
        outputs=["one_against_many.nc"],
        title=f"training EC-ATM {variant} on few inversions",
    )
    return ("one-against-many",)
