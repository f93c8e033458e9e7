"""The stages of a study in their order: inputs, EC, bridge, EC-ATM in its variants, forward runs, tables, figures."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

import xflux
from xflux import forward, provenance, report
from xflux.study import inputs as study_inputs
from xflux.study.config import StudyConfig
from xflux.study.stages import RunFolder, file_hash, peak_memory_gib, write_json

LABELS = {"ec": "EC", "bridge": "EC-ATM bridge", "sampled": "EC-ATM sampled", "sampled+total": "EC-ATM sampled+total"}


@dataclass(frozen=True)
class Study:
    """One run: what is asked, where it goes, and the inputs once they are there."""

    config: StudyConfig
    run: RunFolder
    smoke: bool = False

    @property
    def inputs(self) -> study_inputs.Inputs:
        """The inputs, read from the run folder."""
        return study_inputs.open_inputs(self.run.path / "inputs")


def slug(variant: str) -> str:
    """File name of a model: ``"sampled+total"`` → ``"ec_atm_sampled_total"``."""
    return "ec" if variant == "ec" else "ec_atm_" + variant.replace("+", "_")


def check_study(config: StudyConfig) -> dict[str, Path]:
    """Check all that can be checked before anything long starts: folders, files, columns, packages."""
    from xflux import train as _needs_torch  # noqa: F401

    files = study_inputs.input_files(config)
    study_inputs.check_variables(config, files)
    return files


def run_study(
    config: StudyConfig,
    out: str | Path,
    *,
    smoke: bool = False,
    blocked: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Run a whole study into a folder; stages that are done there, from the same settings and inputs, are kept.

    Parameters
    ----------
    config
        The study (:func:`load_study`).
    out
        Run folder: inputs, models, Zarr outputs, tables, figures, provenance.
    smoke
        A small configuration that takes a minute or two; its numbers mean nothing.
    blocked
        Also train the EC-ATM variants on folds blocked by distance.

    Returns
    -------
    The run folder.
    """
    config = config.smoke() if smoke else config
    config = config.model_copy(update={"blocked_variants": config.blocked_variants or blocked})
    files = check_study(config)
    study = Study(config, RunFolder(out, say), smoke)
    write_json(study.run.path / "study.json", config.model_dump())
    hashes = {key: file_hash(path) for key, path in files.items()}
    _make_inputs(study, files, hashes)
    _train_and_predict(study, "ec", after=("inputs",))
    _fit_bridges(study, files, hashes)
    for variant in config.variants:
        _train_and_predict(study, variant, after=("inputs", "ec", *(("bridges",) if variant == "bridge" else ())))
    models = ("ec", *config.variants)
    extra = _extra_runs(study)
    _evaluate(study, models, extra, files)
    write_json(
        study.run.path / "provenance.json",
        {
            "study": config.name,
            "smoke": smoke,
            "seed": config.seed,
            "versions": provenance.versions(),
            "inputs": {key: {"file": str(files[key].name), "sha256": digest} for key, digest in hashes.items()},
            "seconds": study.run.timings,
            "peak_memory_gib": round(peak_memory_gib(), 2),
        },
    )
    page = report.write_report(study.run.path)
    study.run.say(f"results: {page} · report.md · tables/ · figures/ · flux/*.zarr · models/")
    return study.run.path


def _make_inputs(study: Study, files: dict[str, Path], hashes: dict[str, str]) -> None:
    def make() -> None:
        config = study.config
        table = study_inputs.read_tower_table(config, files)
        grid = study_inputs.make_grid(config, files)
        towers = study_inputs.place_towers(config, table, grid)
        target = study_inputs.read_target(config.target, files["target.file"])
        made = study_inputs.Inputs(towers, grid, target)
        folder = study.run.fresh("inputs")
        folder.mkdir(parents=True)
        study_inputs.save_inputs(study_inputs.thin(made) if study.smoke else made, folder)

    settings = [
        study.config.model_dump(include={"towers", "drivers", "target"}),
        study.smoke,
        {key: hashes[key] for key in hashes if not key.startswith("evaluation")},
    ]
    study.run.stage(
        "inputs",
        make,
        outputs=["inputs/towers.nc", "inputs/grid.nc", "inputs/target.nc"],
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
        **changes,
    )


def _constraint(study: Study, variant: str, target: xr.DataArray):
    from xflux import train

    inputs, config = study.inputs, study.config
    shared = dict(target=target, drivers=inputs.driver_grid, allow=tuple(config.target.allow))
    if variant == "bridge":
        bridge = xflux.load_bridge(study.run.path / "bridge" / f"{config.target.regions}.nc")
        return train.RegionalConstraint(bridge=bridge, land_fraction=inputs.land_fraction, **shared)
    return train.RegionalConstraint(
        integral="sampled",
        regions=config.target.regions,
        total=variant == "sampled+total",
        land_fraction=inputs.land_fraction,
        pixels=config.train.pixels_per_step,
        **shared,
    )


def _train(study: Study, name: str, constraints: list, **changes) -> None:
    from xflux import train

    inputs = study.inputs
    path = study.run.fresh(f"models/{name}.safetensors")
    checkpoint = study.run.checkpoint(f"models/{name}")
    model = train.fit(
        inputs.towers,
        drivers=inputs.drivers,
        target="nee",
        constraints=constraints,
        config=_train_config(study, **changes),
        checkpoint=checkpoint,
        progress=lambda line: study.run.say(f"        {name}: {line}"),
    )
    model.save(path)
    checkpoint.unlink(missing_ok=True)


def _training_settings(study: Study, *more) -> list:
    return [study.config.model_dump(include={"train", "seed", "target"}), study.smoke, *more]


def _train_and_predict(study: Study, variant: str, after: tuple[str, ...]) -> None:
    name = slug(variant)

    def fit() -> None:
        _train(study, name, [] if variant == "ec" else [_constraint(study, variant, study.inputs.target)])

    study.run.stage(
        f"train-{name}" if variant != "ec" else "ec",
        fit,
        settings=_training_settings(study, variant),
        after=after,
        title=f"training {LABELS[variant]}",
        outputs=[f"models/{name}.safetensors"],
    )
    trained = "ec" if variant == "ec" else f"train-{name}"
    study.run.stage(
        f"forward-{name}",
        lambda: _forward(study, name),
        after=(trained, "inputs"),
        outputs=[f"flux/{name}.zarr"],
        title=f"forward run of {LABELS[variant]}",
    )


def _forward(study: Study, name: str) -> None:
    """All members over the grid; days are averaged to months before they are written."""
    model = xflux.load_model(study.run.path / "models" / f"{name}.safetensors")
    grid, out = study.inputs.driver_grid, study.run.fresh(f"flux/{name}.zarr")
    if "time" not in grid.dims:
        forward.run(grid, model, out, members="all", progress=False)
        return
    daily = forward.predict(grid.chunk(time=92), model, members="all")
    with warnings.catch_warnings():  # zarr's about gathered metadata
        warnings.simplefilter("ignore", UserWarning)
        daily.flux.to_monthly().chunk(time=12).to_dataset(name="nee").to_zarr(out)


def open_flux(run: Path, name: str) -> xr.DataArray:
    """NEE of a model's forward run, (member, month | time, lat, lon) gC m-2 d-1, monthly."""
    return xr.open_zarr(Path(run) / "flux" / f"{name}.zarr")["nee"]


def _fit_bridges(study: Study, files: dict[str, Path], hashes: dict[str, str]) -> None:
    def make() -> None:
        inputs = study.inputs
        field = bridge_field(study, files)
        for name in _region_sets(study):
            bridge = field.flux.fit_bridge(
                name, r2=study.config.bridge.r2, seed=study.config.seed, land_fraction=inputs.land_fraction
            )
            bridge.save(study.run.fresh(f"bridge/{name}.nc"))

    study.run.stage(
        "bridges",
        make,
        after=("forward-ec",),
        settings=[study.config.bridge.model_dump(), hashes.get("bridge.file"), study.config.seed, _region_sets(study)],
        outputs=[f"bridge/{name}.nc" for name in _region_sets(study)],
        title="bridges",
    )


def _region_sets(study: Study) -> list[str]:
    return list(dict.fromkeys([study.config.target.regions, *study.config.evaluation.regions]))


def bridge_field(study: Study, files: dict[str, Path]) -> xr.DataArray:
    """The flux from which bridges are fitted: a bottom-up product, or the EC forward run."""
    if "bridge.file" not in files:
        return open_flux(study.run.path, "ec").load()
    with xr.open_dataset(files["bridge.file"]) as dataset:
        return dataset[study.config.bridge.variable].load()


def inversion_halves(target: xr.DataArray, seed: int) -> tuple[list[str], list[str]]:
    """A seeded split of the inversion systems into two halves; both experiments of a system stay together.

    >>> a, b = inversion_halves(xr.DataArray(range(4), coords={"inversion": ["IS/A", "LN/A", "IS/B", "LN/B"]}), 0)
    >>> len(a), len(b), {name[-1] for name in a} & {name[-1] for name in b}
    (2, 2, set())
    """
    names = [str(name) for name in target["inversion"].values]
    systems = sorted({name.rsplit("/", 1)[-1] for name in names})
    drawn = set(np.random.default_rng(seed).permutation(systems)[: len(systems) // 2].tolist())
    first = [name for name in names if name.rsplit("/", 1)[-1] in drawn]
    return first, [name for name in names if name not in first]


def _extra_runs(study: Study) -> tuple[str, ...]:
    config, stages = study.config, []
    if config.held_out_inversions:

        def half() -> None:
            target = study.inputs.target
            first, _ = inversion_halves(target, config.seed)
            _train(study, "half", [_constraint(study, "sampled+total", target.sel(inversion=first))])

        study.run.stage(
            "train-half",
            half,
            settings=_training_settings(study, "half"),
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
            constraints = [] if variant == "ec" else [_constraint(study, variant, study.inputs.target)]
            _train(study, f"blocked_{name}", constraints, block_distance=config.towers.block_distance)

        study.run.stage(
            f"blocked-{name}",
            train_blocked,
            after=("inputs", *(("bridges",) if variant == "bridge" else ())),
            settings=_training_settings(study, config.towers.block_distance, variant),
            outputs=[f"models/blocked_{name}.safetensors"],
            title=f"training {LABELS[variant]} on folds blocked at {config.towers.block_distance:g} km",
        )
        stages.append(f"blocked-{name}")
    return tuple(stages)


def _evaluate(study: Study, models: tuple[str, ...], extra: tuple[str, ...], files: dict[str, Path]) -> None:
    from xflux.study import figures, tables

    forwards = tuple(f"forward-{slug(model)}" for model in models)
    settings = [study.config.model_dump(include={"evaluation", "target", "towers", "train"}), models]

    def make_tables() -> None:
        tables.write_tables(study, models, files)

    study.run.stage(
        "tables",
        make_tables,
        after=("inputs", "bridges", *forwards, *extra),
        settings=settings,
        outputs=["tables", "summary.json", "report.md", "towers/held_out.nc"],
        title="tables",
    )
    study.run.stage(
        "figures", lambda: figures.write_figures(study, models), after=("tables",), outputs=["figures"], title="figures"
    )
