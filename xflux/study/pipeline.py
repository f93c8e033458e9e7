"""The stages of a study in their order: inputs, EC, bridge, EC-ATM in its variants, forward runs, tables, figures."""

from collections.abc import Callable
from pathlib import Path

import xarray as xr

from xflux import report
from xflux.extras import require
from xflux.files import alone, require_place
from xflux.provenance import versions
from xflux.reading import netcdf
from xflux.study import inputs as study_inputs
from xflux.study import published
from xflux.study.config import StudyConfig
from xflux.study.models import Study, bridges_of, extra_runs, settings_of, train_and_predict
from xflux.study.results import first_step, open_flux, region_sets, slug
from xflux.study.stages import KIND, RunFolder, peak_memory_gib


def check_study(config: StudyConfig) -> study_inputs.Files:
    """Check all that can be checked before anything long starts: folders, files, columns, products, packages.

    What is returned says which files each key of the study file names.

    Parameters
    ----------
    config
        The study (:func:`load_study`).

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

    The run folder is returned.

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
    train_and_predict(study, "ec", after=("inputs",))
    if config.bridge.fit:
        _fit_bridges(study, files, hashes)
    for variant in config.variants:
        train_and_predict(study, variant, after=("inputs", "ec", *bridges_of(study, variant)))
    extra = extra_runs(study)
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
        settings_of(study, "towers", "drivers", "target"),
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
        settings_of(study, "bridge", "seed"),
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
        field = published.bottom_up_maps(study.config.bridge.product, files, "bridge.product", study.inputs.grid, years)
    elif "bridge.file" in files:
        with netcdf(files["bridge.file"][0], "netCDF (bridge.file)") as dataset:
            field = dataset[study.config.bridge.variable].load()
        if not all(field.sizes[d] == own.sizes[d] for d in ("lat", "lon")):
            field = published.on_cells(field, own, "bridge.file")
    else:
        return (own.mean("member", keep_attrs=True) if "time" in own.dims else own).load()
    return field.where(first_step(own).notnull().load())


def _evaluate(study: Study, extra: tuple[str, ...], files: study_inputs.Files, hashes: dict[str, str]) -> None:
    """Everything that is compared, brought into the run folder; then the tables and figures, from the folder alone."""
    from xflux.study import figures, results, tables

    forwards = tuple(f"forward-{slug(model)}" for model in ("ec", *study.config.variants))
    bridge = study.config.bridge
    bridged = (*["bridges"] * bridge.fit, *["stability"] * bool(bridge.fit and bridge.stability))
    compared = {key: hashes[key] for key in hashes if key.startswith("evaluation")}
    study.run.stage(
        "results",
        lambda: results.write_results(study, files),
        after=("inputs", *bridged, *forwards, *extra),
        settings=[settings_of(study, "evaluation", "target", "towers", "drivers", "train"), compared],
        outputs=["integrals", "compared", "towers/held_out.nc"],
        recipe=2,
        title="regional integrals and towers",
    )
    study.run.stage(
        "tables",
        lambda: tables.write_tables(study.run.path, study.run.new),
        after=("results",),
        settings=[settings_of(study, "evaluation", "title", "limits"), study.smoke],
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
