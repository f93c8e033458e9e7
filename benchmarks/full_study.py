"""The paper's study at its full size, on planted files in the published forms whose truth is known.

    python benchmarks/full_study.py FOLDER                 0.5°, daily, 2001-2017, 200 towers: hours
    python benchmarks/full_study.py FOLDER --degrees 4 --years 2 --set train.epochs=2     a try in minutes

Made once: weather by day from 2001 on (no 2000, which fills the paper's water balance) and composites of 8 days, netCDF
by year; six inversions by month, daily fires, a bottom-up product, FLUXNET files, all seen of an Earth of 1° at the
finest. At full size 26 GB, and 17 GB more while they are made. Then ``xflux run`` on the
template upton2024, with the variants ``bridge`` and ``sampled+total``. Stopped, it goes on: files and stages that are
there are kept, and so are their figures. Every stage is told with its wall and CPU time, peak memory, bytes read and
written, and its limit, what it cannot do without: the arithmetic of the network at the rate of its kernels on all
cores, the bridges' clusters and Lasso paths alone in one thread, and its files, each read once and written once by
plain xarray and pandas with the same codecs, extrapolated from parts of them by bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import write_study as published

import xflux
from xflux import study, synthetic
from xflux.bridge.fit import FitOptions, draw_candidates, fit_candidates, prepare
from xflux.cells import cell_area
from xflux.study.inputs import input_files
from xflux.study.loading import parse_override
from xflux.study.models import Study
from xflux.study.pipeline import bridge_field
from xflux.study.stages import RunFolder
from xflux.synthetic.biosphere import TYPES, Hidden, block, pft_shares
from xflux.synthetic.climate import Climate, Land, make_climate, make_land, smooth_fields

SEED = 0
CELLS = 2_000  # of which all days are in memory at once
WEATHER = ["TAIR", "PREC", "RG"]
SEEN = ["EVI", "NDVI", "NDWI", "FPAR", "LST_DAY", "LST_NIGHT", "BAND4"]
NONE = {"figures": "matplotlib draws"}  # stages without a limit
PART = 4e8  # bytes of files of a kind that are read or written for the limits
FORWARD = 4_800  # flop per row and member; of a training step:
TOWER, PIXEL = 13_760, 18_560  # a pixel's rows go forward twice, since those of a whole step are too many to keep


# --- the files ------------------------------------------------------------------------------------------------------
def once(folder: Path, name: str, work: Callable[[], object]) -> None:
    """Do it unless it was done before."""
    done = folder / f".{name}"
    if not done.exists():
        start = time.perf_counter()
        work()
        done.touch()
        print(f"made {name}: {time.perf_counter() - start:.0f} s", flush=True)


def make_files(folder: Path, degrees: float, years: int, towers: int) -> None:
    """Every file that the template names, a year or a few cells at a time."""
    for name in ("fluxnet", "era5", "modis", "fluxcom", "inversions", "gfas", "budgets", "packed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    once(folder, "plant_types", lambda: write_plant_types(folder, degrees, years))
    if (folder / ".all").exists():
        return
    once(folder, "observed", lambda: make_observed(folder, degrees, years, towers))
    land, days = make_land(degrees), pd.date_range("2001", f"{2000 + years}-12-31")
    pack(land, days, years, folder / "packed")
    for year in sorted(set(days.year)):
        at = np.flatnonzero(days.year == year)
        for name, write, names in (("era5", published.write_era5, WEATHER), ("modis", published.write_modis, SEEN)):
            one = partial(year_of, land, days, at, folder, names)
            once(folder, f"{name}_{year}", lambda one=one, write=write, to=folder / name: write(one(), to))
    shutil.rmtree(folder / "packed")
    once(folder, "all", lambda: None)


def make_observed(folder: Path, degrees: float, years: int, towers: int) -> None:
    """What is seen of an Earth of 1° at the finest, as inversions are: a finer one would fill the memory."""
    earth = synthetic.earth(resolution=max(degrees, 1.0), years=years, seed=SEED, towers=towers)
    once(folder, "fluxnet", lambda: published.write_fluxnet(earth, folder / "fluxnet"))
    once(folder, "inversions", lambda: published.write_gcp(earth, folder / "inversions"))
    once(folder, "gfas", lambda: published.write_gfas(earth, folder / "gfas"))
    once(folder, "fluxcom", lambda: published.write_fluxcom(finer(earth, make_land(degrees)), folder / "fluxcom"))
    truth = earth.nee_monthly.flux.aggregate_regions("reccap2", land_fraction=earth.land_fraction, units="PgC month-1")
    truth.reset_coords(drop=True).rename("nee").to_netcdf(folder / "truth.nc")
    sink = -truth.sum("region").groupby("time.year").sum().to_series().rename_axis("Year")
    pd.DataFrame({"E_FF": 9.0, "S_LAND_residual": sink}).to_csv(folder / "budgets" / "gcb2022_annual_GtC.csv")


def finer(earth, land: Land) -> SimpleNamespace:
    """Its monthly flux between the centres of its cells, on the land of a finer grid."""
    share = xr.zeros_like(cell_area(land.grid))
    share.values[land.row, land.col] = land.fraction
    nee = earth.nee_monthly.ffill("lon").bfill("lon")  # the sea's cells take their land's value
    nee = nee.interp(lat=land.grid["lat"], lon=land.grid["lon"], kwargs={"fill_value": "extrapolate"})
    return SimpleNamespace(nee_monthly=nee.where(share > 0), land_fraction=share)


def world_of(land: Land, years: int) -> tuple[Climate, np.ndarray]:
    """Climate and plant types, of the same world as the Earth that is seen."""
    streams = np.random.SeedSequence(SEED).spawn(6)
    climate = make_climate(land, years, np.random.default_rng(streams[0]))
    texture = smooth_fields(land.lat, land.lon, 0.15, len(TYPES), np.random.default_rng(streams[1]))
    return climate, pft_shares(climate, texture)


def write_plant_types(folder: Path, degrees: float, years: int) -> None:
    """Shares of the plant types, on the drivers' grid."""
    land = make_land(degrees)
    shares = np.zeros((len(TYPES), land.grid.sizes["lat"], land.grid.sizes["lon"]), np.float32)
    shares[:, land.row, land.col] = world_of(land, years)[1]
    coords = {"pft": list(TYPES), "lat": land.grid["lat"], "lon": land.grid["lon"]}
    xr.DataArray(shares, coords, name="pft_share").to_netcdf(folder / "plant_types.nc")


def pack(land: Land, days: pd.DatetimeIndex, years: int, folder: Path) -> None:
    """Base variables (time, cell), on disk: all of them at once need more than a laptop's memory."""
    climate, shares = world_of(land, years)
    hidden = Hidden(np.zeros(land.size), np.ones(land.size))

    def part(first: int) -> None:
        base, _ = block(climate, shares, hidden, slice(first, first + CELLS))
        for name in WEATHER + SEEN:
            path, values = folder / f"{name}.npy", base[name].transpose("time", "cell").values
            options = {} if path.exists() else {"dtype": np.float32, "shape": (len(days), land.size)}
            kept = np.lib.format.open_memmap(path, "w+" if options else "r+", **options)
            kept[:, first : first + CELLS] = values
            kept.flush()
        (folder / "units.json").write_text(json.dumps({name: base[name].attrs["units"] for name in WEATHER + SEEN}))

    for first in range(0, land.size, CELLS):
        once(folder, f"cells_{first}", partial(part, first))


def year_of(land: Land, days: pd.DatetimeIndex, at: np.ndarray, folder: Path, names: list[str]) -> xr.Dataset:
    """Base variables (time, lat, lon) of some days, NaN at sea."""
    units, fields = json.loads((folder / "packed" / "units.json").read_text()), {}
    for name in names:
        full = np.full((at.size, land.grid.sizes["lat"], land.grid.sizes["lon"]), np.nan, np.float32)
        full[:, land.row, land.col] = np.load(folder / "packed" / f"{name}.npy", mmap_mode="r")[at[0] : at[-1] + 1]
        fields[name] = (("time", "lat", "lon"), full, {"units": units[name]})
    return xr.Dataset(fields, {"time": days[at], "lat": land.grid["lat"], "lon": land.grid["lon"]})


# --- the study ------------------------------------------------------------------------------------------------------
def counted() -> dict[str, float]:
    """Seconds and bytes of this process until now."""
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {
        "wall": time.perf_counter(),
        "cpu": time.process_time(),
        "read": int(io["rchar"]),
        "written": int(io["wchar"]),
    }


def peak_gib() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20


class Measured(RunFolder):
    """A run folder that notes what each stage costs, of stages that an earlier call finished or began too."""

    def stage(self, name: str, make: Callable[[], None], **options) -> None:
        notes, done = self.path.parent / "costs", threading.Event()
        begun = notes / f"{name}.begun"

        def measured() -> None:
            Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
            notes.mkdir(exist_ok=True)
            before = counted()
            earlier = json.loads(begun.read_text()) if begun.exists() else dict.fromkeys([*before, "peak"], 0.0)

            def note() -> None:
                cost = {key: earlier[key] + value - before[key] for key, value in counted().items()}
                text = json.dumps(cost | {"peak": max(earlier["peak"], peak_gib())})
                begun.with_suffix(".new").write_text(text)
                begun.with_suffix(".new").replace(begun)

            def keep_noting() -> None:
                while not done.wait(10):
                    note()

            watch = threading.Thread(target=keep_noting, daemon=True)
            watch.start()
            try:
                make()
            finally:
                done.set()
                watch.join()
            note()
            begun.replace(notes / f"{name}.json")

        super().stage(name, measured, **options)


def flop_rate() -> float:
    """The flop a second of the forward kernel on all cores."""
    import forward

    ds, net = forward.drivers(31, 1.0), forward.model()
    seconds = forward.best(lambda: forward.predict(ds, net, members="all").compute(scheduler="threads"))
    return forward.rows_of(ds) * net.members * forward.FLOP / seconds


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_reading(paths: list[Path]) -> float:
    """Seconds in which xarray or pandas alone reads files of one kind, as they are."""
    sizes = np.array([path.stat().st_size for path in paths])
    some = [*range(0, len(paths), max(1, int(np.ceil(sizes.sum() / PART))))]
    read = {".csv": pd.read_csv, ".nc": lambda path: xr.open_dataset(path).load()}[paths[0].suffix]
    return timed(lambda: [read(paths[k]) for k in some]) * sizes.sum() / sizes[some].sum()


def plain_store(store: Path) -> tuple[float, float]:
    """Seconds in which xarray alone reads a Zarr store, and writes it with its chunks and codecs."""
    read = written = 0.0
    for name, field in xr.open_zarr(store, chunks=None).data_vars.items():
        axis = next((d for d in ("time", "dayofyear") if d in field.dims), field.dims[0])
        steps = field.encoding["chunks"][field.dims.index(axis)]
        steps *= max(1, int(PART * field.sizes[axis] / field.nbytes / steps))
        part, scratch = field.isel({axis: slice(0, steps)}), store.parent / ".part.zarr"
        scale = field.size / part.size
        read += timed(part.load) * scale
        again = part.to_dataset(name=name)
        written += timed(lambda again=again, to=scratch: again.to_zarr(to, mode="w", consolidated=False)) * scale
        shutil.rmtree(scratch)
    return read, written


def files_of(run: Path, config) -> dict[str, float]:
    """Seconds for the files of every stage that is not training."""
    groups = {key: paths for key, paths in input_files(config).items() if not key.startswith("bridge")}
    given = {key: plain_reading(paths) for key, paths in groups.items()}
    grid, written = plain_store(run / "inputs" / "grid.zarr")
    fluxes = {path.stem: plain_store(path) for path in (run / "flux").glob("*.zarr")}
    read = sum(cost[0] for cost in fluxes.values())
    compared = sum(seconds for key, seconds in given.items() if key.startswith("evaluation"))
    again = sum(seconds for key, seconds in given.items() if key.startswith(("target.products", "target.fire")))
    limits = {f"forward-{name}": grid + cost[1] for name, cost in fluxes.items()}
    limits |= {f"train-{name}": grid for name in fluxes if "sampled" in name}
    limits |= dict.fromkeys(("bridges", "stability"), fluxes["ec"][0])
    return limits | {"inputs": sum(given.values()) - compared + written, "results": read + compared + again,
                     "tables": read + grid}  # fmt: skip


def flop_of(run: Path, name: str, config) -> float:
    """Arithmetic of the network in a stage."""
    results = study.Results(run)
    grid, members = results.inputs.driver_grid, config.train.folds
    land = int((results.inputs.land_fraction > 0).sum())
    forward_run = FORWARD * land * grid.sizes["time"]
    if name.startswith("forward"):
        return forward_run * members
    samples, epochs, batch = results.inputs.towers.sizes["sample"], config.train.epochs, config.train.batch
    pixels = 0 if name == "ec" else min(land, config.train.pixels_per_step)
    if name.endswith("bridge") or name == "one-against-many":
        pixels = xflux.load_bridge(run / "bridge" / "reccap2.nc").pixels.sizes["pixel"]
    steps = -(-samples * (members - 1) // (members * batch))
    training = epochs * (steps * (TOWER * batch + PIXEL * 365 * pixels) + FORWARD * samples / members)
    if name == "one-against-many":
        return (training + forward_run) * xr.open_dataset(run / "one_against_many.nc")["annual"].size
    if name == "ec":
        return training * members
    judged = pixels if name.endswith("bridge") else land  # sampled integrals are judged by the whole field
    validation = FORWARD * judged * 365 * config.train.validation_years * epochs
    return (training + validation) * members if name.startswith("train-") else 0.0


def kernels_of_bridges(run: Path, config) -> dict[str, float]:
    """Seconds of one thread that a stage's clusters and Lasso paths take alone, each region's timed once."""
    field = bridge_field(Study(config, RunFolder(run)), input_files(config))
    options = FitOptions(r2=config.bridge.r2, seed=config.seed)
    samples = prepare(field, config.target.regions, study.Results(run).inputs.land_fraction, options).samples
    clusters = paths = 0.0
    for part in (samples.region(k) for k in range(len(samples.labels))):
        start = time.perf_counter()
        chosen = draw_candidates(part, samples.steps, options)
        middle = time.perf_counter()
        fit_candidates(part, chosen, options)
        clusters, paths = clusters + middle - start, paths + time.perf_counter() - middle
    return {"bridges": clusters + (1 + options.folds) * paths, "stability": clusters + config.bridge.stability * paths}


def told(run: Path, config) -> None:
    """The table of stages."""
    rate, kernels, files = flop_rate(), kernels_of_bridges(run, config), files_of(run, config)
    print(f"the network {rate / 1e9:.0f} GFLOP/s; a stage's limit, in s: the network's arithmetic, the bridges' "
          "clusters and paths, files read and written by plain xarray")  # fmt: skip
    columns = ("wall s", "CPU s", "peak GiB", "read GB", "write GB", "network", "bridges", "files", "limit", "of limit")
    print(f"{'stage':30}{''.join(f'{h:>10}' for h in columns)}")
    total = 0.0
    for path in sorted((run.parent / "costs").glob("*.json"), key=lambda p: p.stat().st_mtime):
        cost, name = json.loads(path.read_text()), path.stem
        parts = [flop_of(run, name, config) / rate, kernels.get(name, 0.0), files.get(name, 0.0)]
        limit = sum(parts)
        said = "".join(f"{part:10.1f}" for part in [*parts, limit]) + f"{cost['wall'] / (limit or np.nan):9.1f}×"
        total += cost["wall"]
        print(f"{name:30}{cost['wall']:10.1f}{cost['cpu']:10.1f}{cost['peak']:10.2f}{cost['read'] / 1e9:10.2f}"
              f"{cost['written'] / 1e9:10.2f}{said if name not in NONE else '  ' + NONE[name]}")  # fmt: skip
    print(f"all stages {total / 3600:.2f} h")


def configured(data: Path, degrees: float, years: int, overrides: list[str]) -> study.StudyConfig:
    """The template with two variants, on these files; ``overrides`` as of ``xflux run --set``."""
    span = f"[2001, {2000 + years}]"
    settings = {"data": str(data), "variants": '["bridge", "sampled+total"]'}
    settings |= dict.fromkeys(("drivers.years", "target.years", "evaluation.budget.years"), span)
    settings |= {"evaluation.plant_types": "{ file = 'plant_types.nc', variable = 'pft_share' }"}
    settings |= {"train.validation_years": str(min(2, years - 1))}
    settings |= {"train.pixels_per_step": "400"}  # 365 rows each on daily drivers: as many as 12 000 have by month
    if degrees > 1:
        settings |= {"towers.max_distance": str(120 * degrees)}
    pairs = [f"{key}={value}" for key, value in settings.items()] + overrides
    template = Path(study.__file__).parent.parent / "data" / "upton2024.toml"
    return study.load_study(template, dict(map(parse_override, pairs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--degrees", type=float, default=0.5)
    parser.add_argument("--years", type=int, default=17)
    parser.add_argument("--towers", type=int, default=200)
    parser.add_argument("--only-files", action="store_true", help="make the files and stop")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of xflux run")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    data = asked.folder / "data"
    make_files(data, asked.degrees, asked.years, asked.towers)
    if asked.only_files:
        return
    config = configured(data, asked.degrees, asked.years, asked.set)
    sys.modules["xflux.study.pipeline"].RunFolder = Measured
    run = study.run_study(config, asked.folder / "run")
    told(run, config)


if __name__ == "__main__":
    main()
