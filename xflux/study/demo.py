"""The demo: a synthetic Earth written as the files of a study, and the study run on them."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.extras import require
from xflux.files import claim, whole, write_json
from xflux.provenance import file_digest, read_json
from xflux.study.loading import load_study
from xflux.study.pipeline import run_study
from xflux.study.stages import KIND

STUDY = (resources.files("xflux.data") / "demo_study.toml").read_text(encoding="utf-8")


def run_demo(
    out: str | Path = "runs/demo", *, seed: int = 0, smoke: bool = False, say: Callable[[str], None] | None = None
) -> Path:
    """The whole chain on the synthetic Earth: EC, EC-ATM by bridge and by sampling, against the truth.

    Writes the world's files and a study file into ``out/world``, and runs that study in ``out``. Files of one seed are
    the same to the byte. A study file that was edited is not written over.
    """
    require("train", "plot", by="the demo")
    out = claim(out, KIND)
    folder = claim(out / "world", "xflux world").resolve()
    wanted = {"resolution": 6.0 if smoke else 3.0, "years": 3 if smoke else 6, "seed": seed}
    note, study = folder / "world.json", folder / "study.toml"
    made = read_json(note) if note.exists() else {}
    if study.exists() and file_digest(study) != made.get("study"):
        raise FileExistsError(f"{study} was edited: run it by `xflux run {study} --out FOLDER`, or demo another --out")
    if made.get("world") != wanted:
        note.unlink(missing_ok=True)
        study.unlink(missing_ok=True)
        write_world(folder, **wanted)
    sizes = {"folds": 3, "epochs": 2, "pixels": 60} if smoke else {"folds": 5, "epochs": 15, "pixels": 250}
    with whole(study, "xflux study file", own=True) as part:
        part.write_text(STUDY.format(seed=seed, data=folder.as_posix(), **sizes), encoding="utf-8")
    write_json(note, {"world": wanted, "study": file_digest(study)})
    return run_study(load_study(study), out, say=say, small=smoke)


def write_world(folder: Path, *, resolution: float, years: int, seed: int) -> None:
    """Write a synthetic Earth as a study's files: towers, drivers, land, inversions, bottom-up product, truth."""
    from xflux import synthetic

    folder.mkdir(parents=True, exist_ok=True)
    world = synthetic.earth(resolution=resolution, years=years, seed=seed)
    towers = world.towers
    table = pd.DataFrame({name: towers[name].values for name in ("site", "time", "lat", "lon", "igbp")})
    table = table.assign(NEE=towers["nee"].values, NEE_QC=towers["nee_qc"].values, Tair=towers["Tair"].values)
    with whole(folder / "towers.parquet", "xflux world", own=True) as part:
        table.to_parquet(part, index=False)
    for name, field in {
        "drivers": world.drivers,
        "land_fraction": world.land_fraction,
        "inversions": world.target,
        "bottom_up": world.bottom_up,
        "truth": world.nee_monthly,
    }.items():
        _write(field, folder / f"{name}.nc")


def _write(field: xr.DataArray | xr.Dataset, path: Path) -> None:
    dataset = field if isinstance(field, xr.Dataset) else field.to_dataset()
    dataset = dataset.drop_vars([c for c in dataset.coords if c not in dataset.dims]).load()  # the same bytes always
    plain = [v for v in dataset.data_vars if np.issubdtype(dataset[v].dtype, np.floating)]
    with whole(path, "xflux world", own=True) as part:
        dataset.to_netcdf(part, encoding={v: {"zlib": True, "complevel": 1} for v in plain})
