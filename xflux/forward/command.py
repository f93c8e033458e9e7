"""``xflux predict``: the forward run from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr

from xflux.reading import blamed_on

STEPS = 31  # of a file a year, read at once


def predict(
    model: Annotated[Path, typer.Argument(help="Model file, as model.save wrote it.")],
    drivers: Annotated[
        list[str], typer.Argument(help="Driver files (Zarr, netCDF): several are merged, a file a year joined.")
    ],
    out: Annotated[str, typer.Argument(help="Zarr store to write, or to go on with.")],
    members: Annotated[str, typer.Option(help='"all", "mean", "mean+std", or numbers such as "0,3".')] = "mean",
    time: Annotated[str | None, typer.Option(help='A part of the drivers\' time, as "2001" or "2001:2005-06".')] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Monthly climatologies linear in time.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(help='"threads", "processes", or the address of a dask.distributed scheduler.')
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads or processes; by default the cores.")] = None,
    chunks: Annotated[str | None, typer.Option(help='Region lengths, as "time=31,lat=180,lon=360".')] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run a model over gridded drivers and write its fluxes; after an interruption, the same call goes on."""
    import xflux
    from xflux.forward.writer import run

    loaded = xflux.load_model(model)
    grid = open_drivers(drivers, loaded.drivers)
    done = run(
        grid,
        loaded,
        out,
        members=parse_members(members),
        time=slice(*(t or None for t in time.split(":"))) if time and ":" in time else time,
        interpolate=interpolate,
        scheduler=scheduler or "threads",
        workers=workers,
        chunks=parse_chunks(chunks),
        overwrite=overwrite,
        progress=not quiet,
    )
    names = sorted(n for n in map(str, done.data_vars) if not n.endswith("_bnds"))
    typer.echo(f"{out}: {', '.join(names)} {dict(done.sizes)}")


def open_drivers(paths: list[str], names: Sequence[str] = ()) -> xr.Dataset:
    """The driver files as one Dataset, read when a region needs them; their grids must be the same.

    Files with the same drivers of different times (a file a year) are one after another. Otherwise each driver in
    ``names`` must be in one file only; of other variables (bounds, land masks) the first is taken.
    """
    opened = {}
    for path in paths:
        if "://" not in path and not Path(path).exists():
            raise FileNotFoundError(f"predict: there is no file {path}")
        remote = "://" in path
        zarr = {"engine": "zarr", "consolidated": None if remote else False} if remote or Path(path).is_dir() else {}
        with blamed_on(path, "netCDF or Zarr"):
            opened[path] = xr.open_dataset(path, chunks=None, **zarr)
    opened = _one_after_another(opened, names)
    for name in names:
        having = [path for path, ds in opened.items() if name in ds.variables]
        if len(having) > 1:
            raise ValueError(
                f"predict: driver {name!r} is in {' and '.join(having)}; give files that have each driver once, or "
                "the same drivers at different times"
            )
    try:
        return xr.merge(opened.values(), join="exact", compat="override", combine_attrs="drop_conflicts")
    except ValueError as error:
        raise ValueError(f"predict: the driver files are on different grids or times: {error}") from error


def _one_after_another(opened: dict[str, xr.Dataset], names: Sequence[str]) -> dict[str, xr.Dataset]:
    """Files whose drivers all have a time axis, and are the same drivers, as one Dataset in the order of time."""
    groups: dict[object, list[str]] = {}
    for path, ds in opened.items():
        own = frozenset(name for name in names if name in ds.variables)
        dated = own and all("time" in ds[name].dims for name in own)
        groups.setdefault(own if dated else path, []).append(path)
    joined = {}
    for paths in groups.values():
        if len(paths) == 1:
            joined[paths[0]] = opened[paths[0]]
            continue
        paths = sorted(paths, key=lambda path: opened[path]["time"].values[0])
        for one, following in pairwise(paths):
            if opened[one]["time"].values[-1] >= opened[following]["time"].values[0]:
                raise ValueError(f"predict: the times of {one} and {following} overlap; give each time once")
        parts = [opened[path].chunk(time=STEPS) for path in paths]
        try:
            joined[", ".join(paths)] = xr.concat(
                parts, "time", data_vars="minimal", coords="minimal", compat="override", join="exact",
                combine_attrs="drop_conflicts",
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"predict: {' and '.join(paths)} are on different grids: {error}") from error
    return joined


def parse_members(text: str) -> str | list[int]:
    """
    >>> parse_members("mean+std"), parse_members("0,3")
    ('mean+std', [0, 3])
    """
    numbers = [part.strip() for part in text.split(",")]
    return [int(n) for n in numbers] if all(n.isdigit() for n in numbers) else text


def parse_chunks(text: str | None) -> dict[str, int] | None:
    """
    >>> parse_chunks("time=31,lat=180")
    {'time': 31, 'lat': 180}
    """
    if not text:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and number.strip().isdigit() for name, _, number in pairs):
        raise ValueError(f"predict: --chunks {text!r}; expected e.g. time=31,lat=180,lon=360")
    return {name.strip(): int(number) for name, _, number in pairs}
