"""The stages of a study in their order: inputs, EC, bridge, EC-ATM in its variants, forward runs, tables, figures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from xflux import forward, report, stores
from xflux.bridge import load_bridge
from xflux.extras import require
from xflux.files import alone, require_place
from xflux.provenance import versions
from xflux.reading import netcdf
from xflux.study import inputs as study_inputs
from xflux.study import published
from xflux.study.config import StudyConfig
from xflux.study.results import first_step, inversion_halves, model_label, open_flux, region_sets, slug
from xflux.study.stages import KIND, RunFolder, peak_memory_gib


@dataclass(frozen=True)
class Study:
    """One run: what is asked, where it goes, and the inputs once they are there."""

    config: StudyConfig
    run: RunFolder
    smoke: bool = False
    thin: bool = False

    @property
    def inputs(self) -> study_inputs.Inputs:
        """The inputs, read from the run folder."""
        return study_inputs.open_inputs(self.run.path / "inputs")


def check_study(config: StudyConfig) -> study_inputs.Files:
    """Check all that can be checked before anything long starts: folders, files, columns, products, packages.

    Parameters
    ----------
    config
        The study (:func:`load_study`).

    Returns
    -------
    dict
        Key of the study file → the files that it names.

    Raises
    ------
    StudyError
        The first thing that is missing or does not fit, by its key.

    Examples
    --------
    >>> from importlib import resources
    >>> from xflux.study import load_study
    >>> study = load_study(resources.files("xflux.data") / "study_template.toml", {"data": "no/such/folder"})
    >>> check_study(study)
    Traceback (most recent call last):
        ...
    xflux.study.config.StudyError: data folder 'no/such/folder' does not exist; set $XFLUX_DATA ...
    """
    files = study_inputs.input_files(config)
    study_inputs.check_variables(config, files)
    return files


def run_study(
    config: StudyConfig,
    out: str | Path,
    *,
    smoke: bool = False,
    small: bool = False,
    blocked: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Run a whole study into a folder; stages that are done there, from the same settings and inputs, are kept.

    Parameters
    ----------
    config
        The study (:func:`load_study`).
    out
        Run folder: inputs, models, Zarr outputs, tables, figures, provenance. It must be new, empty or a run folder.
    smoke
        A small configuration that takes a minute or two; its numbers mean nothing.
    small
        The study is a smoke run as it is written: results say so.
    blocked
        Also train the EC-ATM variants on folds blocked by distance.
    say
        Is told each line of progress; None: they go to stderr.

    Returns
    -------
    The run folder.

    Raises
    ------
    StudyError
        Something that the study asks for is not there.
    FileExistsError, BlockingIOError
        The folder is not a run's; another process works in it.

    Examples
    --------
    >>> from importlib import resources
    >>> from xflux.study import load_study
    >>> study = load_study(resources.files("xflux.data") / "study_template.toml", {"data": "no/such/folder"})
    >>> run_study(study, "runs/first")
    Traceback (most recent call last):
        ...
    xflux.study.config.StudyError: data folder 'no/such/folder' does not exist; set $XFLUX_DATA ...
    """
    require("train", "plot", by="a study")
    out = require_place(out, KIND)
    require_place(out / "report.html", report.KIND)
    config = config.smoke() if smoke else config
    config = config.model_copy(update={"blocked_variants": config.blocked_variants or blocked})
    files = check_study(config)
    study = Study(config, RunFolder(out, say), smoke or small, thin=smoke)
    with alone(study.run.path / "stages"):
        return _run(study, files)


def _run(study: Study, files: study_inputs.Files) -> Path:
    config = study.config
    study.run.write("study.json", config.model_dump())
    hashes = {key: study.run.hash_of(paths) for key, paths in files.items()}
    _make_inputs(study, files, hashes)
    _train_and_predict(study, "ec", after=("inputs",))
    if config.bridge.fit:
        _fit_bridges(study, files, hashes)
    for variant in config.variants:
        _train_and_predict(study, variant, after=("inputs", "ec", *_bridges_of(study, variant)))
    extra = _extra_runs(study)
    _evaluate(study, extra, files, hashes)
    study.run.write(
        "provenance.json",
        {
            "study": config.name,
            "smoke": study.smoke,
            "seed": config.seed,
            "versions": versions(),
            "inputs": {key: {"file": named(files[key]), "sha256": digest} for key, digest in hashes.items()},
            "seconds": study.run.timings,
            "peak_memory_gib": round(peak_memory_gib(), 2),
        },
    )
    page = report.write_report(study.run.path)
    study.run.say(f"results: {page} · report.md · tables/ · figures/ · flux/*.zarr · models/")
    return study.run.path


def named(paths: list[Path]) -> str:
    """Files in words: one name, or the first and last of several.

    >>> named([Path("a.nc")]), named([Path("t_2001.nc"), Path("t_2002.nc"), Path("t_2003.nc")])
    ('a.nc', '3 files, t_2001.nc … t_2003.nc')
    """
    return paths[0].name if len(paths) == 1 else f"{len(paths)} files, {paths[0].name} … {paths[-1].name}"


def _asked(study: Study, *sections: str) -> dict:
    """What the study file says in these sections; keys at their defaults do not count: new ones change nothing."""
    return study.config.model_dump(include=set(sections), exclude_defaults=True)


def _make_inputs(study: Study, files: study_inputs.Files, hashes: dict[str, str]) -> None:
    def make() -> None:
        config = study.config
        target = study_inputs.make_target(config, files)
        table = study_inputs.read_tower_table(config, files)
        folder = study.run.fresh("inputs")
        folder.mkdir(parents=True)
        grid = study_inputs.make_grid(config, files, folder)
        towers = study_inputs.place_towers(config, table, grid, files)
        towers = towers.assign_attrs({"smoke": 1} if study.smoke else {})
        made = study_inputs.Inputs(towers, grid, target)
        study_inputs.save_inputs(study_inputs.thin(made) if study.thin else made, folder)

    settings = [
        _asked(study, "towers", "drivers", "target"),
        study.smoke,
        {key: hashes[key] for key in hashes if not key.startswith(("evaluation", "bridge"))},
    ]
    study.run.stage(
        "inputs",
        make,
        outputs=["inputs/towers.nc", "inputs/target.nc"],
        settings=settings,
        title="towers, drivers and target",
    )


def _train_config(study: Study, **changes):
    from xflux import train

    t = study.config.train
    return train.TrainConfig(
        folds=t.folds,
        seed=study.config.seed,
        max_epochs=t.epochs,
        batch=t.batch,
        learning_rate=t.learning_rate,
        log_variance_rate=t.log_variance_rate,
        schedule=t.schedule,
        hidden=tuple(t.hidden),
        patience=None,
        validation_years=t.validation_years,
        weights=t.weights,
        **changes,
    )


def _bridges_of(study: Study, variant: str) -> tuple[str, ...]:
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

    inputs = study.inputs
    path = study.run.fresh(f"models/{name}.safetensors")
    checkpoint = study.run.checkpoint(f"models/{name}")
    seen = np.flatnonzero(study_inputs.in_seen_years(study.config, inputs.towers["time"]))
    model = train.fit(
        inputs.towers.isel(sample=seen),
        drivers=inputs.drivers,
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
    return [_asked(study, "train", "seed", "target"), study.smoke, variant, judge, constraint, *more]


def _seen(study: Study) -> xr.DataArray:
    return study_inputs.seen(study.config, study.inputs.target)


def _train_and_predict(study: Study, variant: str, after: tuple[str, ...]) -> None:
    name = slug(variant)

    def fit() -> None:
        _train(study, name, [] if variant == "ec" else _constraints(study, variant, _seen(study)))

    study.run.stage(
        f"train-{name}" if variant != "ec" else "ec",
        fit,
        settings=_training_settings(study, variant),
        after=after,
        title=f"training {model_label(variant)}",
        outputs=[f"models/{name}.safetensors"],
    )
    trained = "ec" if variant == "ec" else f"train-{name}"
    study.run.stage(
        f"forward-{name}",
        lambda: _forward(study, name),
        after=(trained, "inputs"),
        outputs=[f"flux/{name}.zarr"],
        title=f"forward run of {model_label(variant)}",
    )


def _forward(study: Study, name: str) -> None:
    """All members over the grid; days are averaged to months, a year at a time, before they are written."""
    from xflux.train import load_model

    model = load_model(study.run.path / "models" / f"{name}.safetensors")
    grid, out = study.inputs.driver_grid, study.run.fresh(f"flux/{name}.zarr")
    if "time" not in grid.dims:
        forward.run(grid, model, out, members="all", progress=False)
    else:
        run_forward(grid, model, out)


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


def _fit_bridges(study: Study, files: study_inputs.Files, hashes: dict[str, str]) -> None:
    def make() -> None:
        inputs = study.inputs
        field = bridge_field(study, files)
        for name in region_sets(study.config):
            bridge = field.flux.fit_bridge(
                name, r2=study.config.bridge.r2, seed=study.config.seed, land_fraction=inputs.land_fraction,
                progress=lambda line: study.run.say(f"        {line}"),
            )  # fmt: skip
            bridge.save(study.run.fresh(f"bridge/{name}.nc"))

    settings = [
        _asked(study, "bridge", "seed"),
        {key: hashes[key] for key in hashes if key.startswith("bridge")},
        region_sets(study.config),
    ]
    study.run.stage(
        "bridges",
        make,
        after=("forward-ec",),
        settings=settings,
        outputs=[f"bridge/{name}.nc" for name in region_sets(study.config)],
        title="bridges",
    )
    if study.config.bridge.stability:
        study.run.stage(
            "stability",
            lambda: _count_pixels(study, files),
            after=("forward-ec",),
            settings=settings,
            outputs=["stability.nc"],
            title="stability of the bridges",
        )


def _count_pixels(study: Study, files: study_inputs.Files) -> None:
    asked, kept = study.config.bridge, study.run.checkpoint("stability")
    counted = bridge_field(study, files).flux.bridge_stability(
        study.config.target.regions, trials=asked.stability, r2=asked.r2, seed=study.config.seed,
        land_fraction=study.inputs.land_fraction, path=kept,
    )  # fmt: skip
    counted.to_netcdf(study.run.fresh("stability.nc"))
    kept.unlink()


def bridge_field(study: Study, files: study_inputs.Files) -> xr.DataArray:
    """The flux from which bridges are fitted: a bottom-up product where the model runs, or the EC forward run.

    Of a forward run in time the members' mean is taken, whose months are the samples, as in the paper; of a
    climatology the members' months.
    """
    own = open_flux(study.run.path, "ec")
    if study.config.bridge.product:
        years = study.config.drivers.years
        field = published.bottom_up(study.config.bridge.product, files, "bridge.product", study.inputs.grid, years)
    elif "bridge.file" in files:
        with netcdf(files["bridge.file"][0], "netCDF (bridge.file)") as dataset:
            field = dataset[study.config.bridge.variable].load()
        if not all(field.sizes[d] == own.sizes[d] for d in ("lat", "lon")):
            field = published.on_cells(field, own, "bridge.file")
    else:
        return (own.mean("member", keep_attrs=True) if "time" in own.dims else own).load()
    return field.where(first_step(own).notnull().load())


def _extra_runs(study: Study) -> tuple[str, ...]:
    config, stages = study.config, []
    if config.held_out_inversions:

        def half() -> None:
            target = _seen(study)
            first, _ = inversion_halves(target, config.seed)
            _train(study, "half", _constraints(study, "sampled+total", target.sel(inversion=first)))

        study.run.stage(
            "train-half",
            half,
            settings=_training_settings(study, "sampled+total", "half"),
            after=("inputs", "ec"),
            outputs=["models/half.safetensors"],
            title="training EC-ATM sampled+total on half of the inversions",
        )
        study.run.stage(
            "forward-half",
            lambda: _forward(study, "half"),
            after=("train-half",),
            outputs=["flux/half.zarr"],
            title="forward run of the half",
        )
        stages.append("forward-half")
    for variant in (["ec"] if config.blocked else []) + (config.variants if config.blocked_variants else []):
        name = slug(variant)

        def train_blocked(variant: str = variant, name: str = name) -> None:
            constraints = [] if variant == "ec" else _constraints(study, variant, _seen(study))
            _train(study, f"blocked_{name}", constraints, block_distance=config.towers.block_distance)

        study.run.stage(
            f"blocked-{name}",
            train_blocked,
            after=("inputs", *_bridges_of(study, variant)),
            settings=_training_settings(study, variant, config.towers.block_distance),
            outputs=[f"models/blocked_{name}.safetensors"],
            title=f"training {model_label(variant)} on folds blocked at {config.towers.block_distance:g} km",
        )
        stages.append(f"blocked-{name}")
    return tuple(stages)


def _bridge_stages(config: StudyConfig) -> tuple[str, ...]:
    return (*["bridges"] * config.bridge.fit, *["stability"] * bool(config.bridge.fit and config.bridge.stability))


def _evaluate(study: Study, extra: tuple[str, ...], files: study_inputs.Files, hashes: dict[str, str]) -> None:
    """Everything that is compared, brought into the run folder; then the tables and figures, from the folder alone."""
    from xflux.study import figures, results, tables

    forwards = tuple(f"forward-{slug(model)}" for model in ("ec", *study.config.variants))
    compared = {key: hashes[key] for key in hashes if key.startswith("evaluation")}
    study.run.stage(
        "results",
        lambda: results.write_results(study, files),
        after=("inputs", *_bridge_stages(study.config), *forwards, *extra),
        settings=[_asked(study, "evaluation", "target", "towers", "drivers", "train"), compared],
        outputs=["integrals", "compared", "towers/held_out.nc"],
        recipe=2,
        title="regional integrals and towers",
    )
    study.run.stage(
        "tables",
        lambda: tables.write_tables(study.run.path, study.run.new),
        after=("results",),
        settings=[_asked(study, "evaluation", "title", "limits"), study.smoke],
        outputs=["tables", "summary.json", "report.md"],
        title="tables",
    )
    study.run.stage(
        "figures",
        lambda: figures.write_figures(study.run.path, study.run.fresh("figures")),
        after=("tables",),
        outputs=["figures"],
        title="figures",
    )
