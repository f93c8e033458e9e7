"""The command line: ``xflux`` budget, demo, run, report, table, predict, new, products and versions."""

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Land-carbon fluxes: regional budgets, bridges and dual-constraint flux models.",
    epilog="Example: xflux budget my_flux.nc --regions reccap2",
)

TEMPLATES = {"study": "study_template.toml", "upton2024": "upton2024.toml"}

Out = Annotated[
    Path | None, typer.Option("--out", help="Run folder, new or with stages to keep; by default runs/NAME.")
]
Smoke = Annotated[bool, typer.Option("--smoke", help="A small configuration; its numbers mean nothing.")]


def say_version(asked: bool) -> None:
    if asked:
        from xflux import __version__

        typer.echo(f"xflux {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Say the version, and end.")
    ] = False,
) -> None:
    """Land-carbon fluxes: regional budgets, bridges and dual-constraint flux models."""


def main() -> None:
    """Entry point: errors of the user's making and warnings are lines of text, in the words of the command line."""
    flags, seen = flags_of(sys.argv[1:2]), set()

    def show(message, category, *_args, **_kwargs) -> None:
        text = as_flags(str(message), flags)
        if text not in seen:
            seen.add(text)
            typer.secho(f"xflux: {text}", fg=typer.colors.YELLOW, err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            app()
        except (ValueError, KeyError, OSError, ImportError) as error:
            if os.environ.get("XFLUX_DEBUG"):
                raise
            typer.secho(f"xflux: {as_flags(str(error), flags)}", fg=typer.colors.RED, err=True)
            raise SystemExit(2) from None


def flags_of(command: list[str]) -> dict[str, str]:
    """Parameter → option of a command: what functions call ``area_basis=`` is ``--area-basis`` here."""
    known = getattr(typer.main.get_command(app), "commands", {})
    params = known[command[0]].params if command and command[0] in known else []
    flags = {str(p.name): p.opts[-1] for p in params if p.opts[-1].startswith("--")}
    return flags | {"periods": flags["years"]} if "years" in flags else flags


def as_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message of the library in the options of the command line.

    >>> as_flags("name it: allow=('fire',), or give area_basis=.", {"allow": "--allow", "area_basis": "--area-basis"})
    'name it: --allow fire, or give --area-basis.'
    """

    def flag(found: re.Match) -> str:
        value = found[3] or ("" if found[2] else found[4])
        return flags[found[1]] + (f" {value}" if value else "")

    if not flags:
        return text
    return re.sub(rf"(?<![\w.-])({'|'.join(flags)})=(\('(\w+)',\)|True\b)?(['\"\w\[(]?)", flag, text)


@app.command(epilog="Example: xflux demo --smoke --out runs/first")
def demo(
    out: Out = None,
    seed: Annotated[int, typer.Option(help="A whole number, of the world and of everything random.")] = 0,
    smoke: Smoke = False,
) -> None:
    """The whole chain on the embedded synthetic Earth, whose truth is known; writes a run folder and a report."""
    from xflux.study.demo import run_demo

    with progress_of() as (say, _):
        run_demo(out or Path("runs") / ("demo-smoke" if smoke else "demo"), seed=seed, smoke=smoke, say=say)


@app.command(epilog="Example: xflux run study.toml --out runs/mine --set train.epochs=10")
def run(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    out: Out = None,
    smoke: Smoke = False,
    blocked: Annotated[bool, typer.Option("--blocked", help="Also train EC-ATM on folds blocked by distance.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the study and say what would be done.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE in place of the study file's, which is the default.")
    ] = None,
) -> None:
    """The whole chain on your own data: read, train, predict, evaluate, draw, report."""
    from xflux import study as room
    from xflux.files import require_place
    from xflux.study.loading import parse_override
    from xflux.study.stages import KIND

    config = room.load_study(study, dict(parse_override(text) for text in set_ or []))
    folder = out or Path("runs") / (config.name + ("-smoke" if smoke else ""))
    if dry_run:
        require_place(folder, KIND)
        for key, paths in room.check_study(config).items():
            more = f" … {paths[-1].name} ({len(paths)} files)" if len(paths) > 1 else ""
            typer.echo(f"found  {key}: {paths[0]}{more}")
        typer.echo(f"would train EC{''.join(f', EC-ATM {v}' for v in config.variants)} and write to {folder}")
        return
    with progress_of() as (say, _):
        room.run_study(config, folder, smoke=smoke, blocked=blocked, say=say)


@app.command(epilog="Example: xflux report runs/mine runs/other --out compared.html")
def report(
    runs: Annotated[
        list[str], typer.Argument(help="Run folders or quoted patterns; two or more are compared side by side.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file; by default report.html in the first run.")
    ] = None,
) -> None:
    """Figures and tables of a run as one HTML page."""
    from xflux import report as room
    from xflux.tabulate.files import expanded

    folders = [Path(path) for pattern in runs for path in expanded(pattern)]
    typer.echo(room.write_report(folders[0] if len(folders) == 1 else folders, out))


@app.command(epilog="Example: xflux table runs/mine global_annual --markdown")
def table(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    name: Annotated[
        str | None, typer.Argument(help="Table, as its file in RUN/tables is called; by default a list of them.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, with all digits.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
) -> None:
    """Make one table of a run anew from the run folder's arrays, and print it; or list what this run can make."""
    from xflux.report.run import heading
    from xflux.study import tables, verdict
    from xflux.tabulate.output import aligned

    if name is None:
        known = tables.tables_of(tables.Results(run))
        written = [stem for stem in known if (run / "tables" / f"{stem}.csv").exists()]
        rows = [[stem, summary_of(known[stem][1]) or heading(stem)] for stem in written or known]
        console().print(aligned(["table", "what it holds"], rows, left=2))
        return
    made = tables.table(run, name)
    if csv or markdown:
        typer.echo(made.to_csv(index=False) if csv else verdict.table_in_markdown(made))
        return
    rows = [[verdict.cell(value) for value in row] for row in made.itertuples(index=False)]
    left = next((i for i, kind in enumerate(made.dtypes) if kind.kind in "fiu"), len(made.columns))
    console().print(aligned(list(map(str, made.columns)), rows, left=max(left, 1)))


def summary_of(function: Callable) -> str:
    """The first sentence of a docstring."""
    first = " ".join((function.__doc__ or "").strip().split("\n\n")[0].split())
    return re.split(r"(?<!Sect)(?<!Fig)\.(?:\s|$)", first)[0]


def console() -> "Console":
    """Of the terminal's width, or wide enough where the output goes into a file."""
    from rich.console import Console

    from xflux.display import WIDTH

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=WIDTH)


@app.command(epilog='Example: xflux budget "nbe_*.nc" --regions EU,USA --years 2001-2014 --out table.csv')
def budget(
    files: Annotated[
        list[str],
        typer.Argument(help="netCDF files, Zarr stores or quoted patterns; NAME=FILE names one. Several are compared."),
    ],
    regions: Annotated[
        str,
        typer.Option(
            help='A set (reccap2, countries, latitude-bands, transcom, srex …), regions or countries ("EU,USA"), a box '
            '"west,south,east,north", a netCDF mask (FILE:VARIABLE where it has several) or a file of shapes.'
        ),
    ] = "reccap2",
    units: Annotated[
        str | None, typer.Option(help='Per year, as "PgC yr-1" (the default for carbon), "TgCO2 yr-1", "PgH2O yr-1".')
    ] = None,
    years: Annotated[
        str | None, typer.Option(help="2001-2014, or several: 2001-2009,2010-2017. By default all whole years.")
    ] = None,
    area_basis: Annotated[
        str | None, typer.Option(help='What the flux is per m2 of, "land" or "cell"; by default as the file says.')
    ] = None,
    land_fraction: Annotated[
        Path | None,
        typer.Option(
            help="netCDF file with the cells' share of land, 0-1 or %; by default the files' or the regions'."
        ),
    ] = None,
    var: Annotated[str | None, typer.Option(help="Name of the flux; by default the only one of a file.")] = None,
    product: Annotated[
        str | None, typer.Option(help="Published product that is read (xflux products); by default files as they are.")
    ] = None,
    allow_contents: Annotated[
        list[str] | None, typer.Option(help="fire or rivers, which some products may contain; by default neither.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table too, as .csv, .md or .nc; by default not.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it too, as .png, .pdf or .svg; by default not.")] = None,
) -> None:
    """Regional budget of a flux in files: mean, spread over members and years, and what is covered."""
    from xflux import tabulate
    from xflux.tabulate.output import check_places

    check_places(out, plot)
    found = tabulate.budget(
        files, regions, units=units, periods=parse_years(years), area_basis=area_basis, land_fraction=land_fraction,
        var=var, product=product, allow_contents=allow_contents or (),
    )  # fmt: skip
    for period in found.table["period"].values.tolist():
        console().print(tabulate.text(found, period))
    for path, made in ((out, tabulate.write), (plot, tabulate.draw)):
        if path is not None:
            typer.echo(made(found, path))


def parse_years(text: str | None) -> list[tuple[int, int]] | None:
    """
    >>> parse_years("2001-2009,2010")
    [(2001, 2009), (2010, 2010)]
    """
    if text is None:
        return None
    found = [re.fullmatch(r"(\d{1,4})(?:\s*[-–:]\s*(\d{1,4}))?", part.strip()) for part in text.split(",")]
    periods = [(int(one[1]), int(one[2] or one[1])) for one in found if one]
    if len(periods) < len(found) or any(first > last for first, last in periods):
        raise ValueError(f"years={text!r}: expected first and last year, as 2001-2014, or several such with commas")
    return periods


@app.command(epilog="Example: xflux new study.toml")
def new(
    path: Annotated[Path, typer.Argument(help="Study file to write.")] = Path("study.toml"),
    template: Annotated[
        str, typer.Option("--template", help="study: a study with every key; upton2024: the paper's own.")
    ] = "study",
) -> None:
    """Write a commented study file to start from."""
    from importlib import resources

    from xflux import files

    if template not in TEMPLATES:
        raise ValueError(f"--template {template!r}: expected one of {', '.join(TEMPLATES)}")
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists already; give another name or remove it")
    with files.whole(path, "xflux study file") as part:
        part.write_text(resources.files("xflux.data").joinpath(TEMPLATES[template]).read_text())
    typer.echo(f"{path}: name your files, then `xflux run {path} --dry-run`")


@app.command(epilog='Example: xflux predict ec.safetensors "drivers_*.nc" nee.zarr --members mean+std')
def predict(
    model: Annotated[Path, typer.Argument(help="Model file, as model.save wrote it.")],
    drivers: Annotated[
        list[str], typer.Argument(help="Driver files (Zarr, netCDF) or quoted patterns: merged, a file a year joined.")
    ],
    out: Annotated[str, typer.Argument(help="Zarr store to write, or to go on with; or a netCDF file, NAME.nc.")],
    members: Annotated[str, typer.Option(help='"all", "mean", "mean+std", or numbers such as "0,3".')] = "mean",
    time: Annotated[
        str | None, typer.Option(help='Part of the drivers\' time, as "2001" or "2001:2005-06"; by default all.')
    ] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Monthly climatologies linear in time.")] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(help='"threads" (by default), "processes", or a dask.distributed scheduler\'s address.'),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads or processes; by default the cores.")] = None,
    chunks: Annotated[
        str | None, typer.Option(help='Steps and cells of a region, as "time=31,lat=180"; by default as in the files.')
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run a model over gridded drivers and write its fluxes; after an interruption, the same call goes on."""
    from xflux import forward
    from xflux.forward.files import open_drivers, store_beside, to_netcdf
    from xflux.tabulate.files import expanded
    from xflux.train import load_model

    store = store_beside(out, overwrite) if out.endswith(".nc") else out
    loaded = load_model(model)
    grid = open_drivers([path for pattern in drivers for path in expanded(pattern)], loaded.drivers)
    with progress_of(quiet) as (_, progress):
        done = forward.run(
            grid,
            loaded,
            store,
            members=_members(members),
            time=slice(*(t or None for t in time.split(":"))) if time and ":" in time else time,
            interpolate=interpolate,
            scheduler=scheduler or "threads",
            workers=workers,
            chunks=_chunks(chunks),
            overwrite=overwrite,
            progress=progress,
        )
    if store != out:
        to_netcdf(store, out)
    names = sorted(n for n in map(str, done.data_vars) if not n.endswith("_bnds"))
    typer.echo(f"{out}: {', '.join(names)} {dict(done.sizes)}")


@app.command(epilog="Example: xflux products")
def products() -> None:
    """The published products that open_product reads."""
    from xflux.catalogue import describe

    typer.echo(describe())


@app.command(epilog="Example: xflux versions")
def versions() -> None:
    """Versions of Python, xflux and the packages that shape its numbers."""
    from xflux import provenance

    for name, version in provenance.versions().items():
        typer.echo(f"{name:<14} {version}")


@contextmanager
def progress_of(quiet: bool = False) -> Iterator[tuple]:
    """What a study and what a forward run tell their progress to: a bar on a terminal, lines in a log, nothing."""
    if quiet or not sys.stderr.isatty():
        yield None, not quiet
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    text = TextColumn("{task.description}", markup=False)
    columns = text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        bar.add_task("", total=None)

        def say(line: str) -> None:
            counted = re.match(r"\s+(.*?)(\d+)/(\d+)", line)
            if counted:
                move(int(counted[2]), int(counted[3]), text=counted[1].strip())
            elif line.endswith("…"):
                bar.remove_task(bar.task_ids[-1])  # a bar that has a total cannot lose it
                bar.add_task(line, total=None)
            else:
                bar.console.print(line, markup=False)

        def move(done: int, total: int, _seconds: float = 0, text: str = "chunks") -> None:
            bar.update(bar.task_ids[-1], description=text, completed=done, total=total)

        yield say, move


def _members(text: str) -> str | list[int]:
    """
    >>> _members("mean+std"), _members("0,3")
    ('mean+std', [0, 3])
    """
    numbers = [part.strip() for part in text.split(",")]
    return [int(n) for n in numbers] if all(n.isdigit() for n in numbers) else text


def _chunks(text: str | None) -> dict[str, int] | None:
    """
    >>> _chunks("time=31,lat=180")
    {'time': 31, 'lat': 180}
    """
    if not text:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and number.strip().isdigit() for name, _, number in pairs):
        raise ValueError(f"predict: --chunks {text!r}; expected e.g. time=31,lat=180,lon=360")
    return {name.strip(): int(number) for name, _, number in pairs}


if __name__ == "__main__":
    main()
