"""The demo: a synthetic Earth written as the files of a study, and the study run on them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xflux.extras import require
from xflux.study.config import load_study
from xflux.study.pipeline import run_study

STUDY = """# The synthetic Earth: a world whose true flux is known, observed by biased towers and by five inversions.
# Run it again, with other settings, by `xflux run study.toml --out FOLDER`.

name = "demo"
title = "A synthetic Earth whose truth is known"
seed = {seed}
data = "{data}"
variants = ["bridge", "sampled"]
held_out_inversions = false
blocked = false
limits = [
  "Anything about the real Earth: towers, drivers, inversions and the truth are made up (xflux.synthetic).",
  "That EC-ATM helps in every pixel: the map is scored against the truth, better or worse.",
]

[towers]
table = "towers.parquet"
keep = {{ Tair = "Tair" }}
max_distance = 300           # km: the cells are large

[drivers]
base = "drivers.nc"
land_fraction = "land_fraction.nc"
variant = "none"             # the file holds the drivers themselves

[target]
file = "inversions.nc"
variable = "nee"
regions = "reccap2"
includes_fire = false
includes_rivers = false

[bridge]
file = "bottom_up.nc"

[train]
folds = {folds}
epochs = {epochs}
learning_rate = 0.01         # few epochs
batch = 10000
pixels_per_step = {pixels}

[evaluation]
regions = ["reccap2"]

[evaluation.truth]
file = "truth.nc"
"""


def run_demo(
    out: str | Path = "runs/demo",
    *,
    seed: int = 0,
    smoke: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """The whole chain on the synthetic Earth: EC, EC-ATM by bridge and by sampling, against the truth.

    Writes the world's files and a study file into ``out/world``, and runs that study in ``out``.

    Returns
    -------
    The run folder.
    """
    require("train", "plot", by="the demo")
    out = Path(out)
    folder = (out / "world").resolve()
    wanted = {"resolution": 6.0 if smoke else 3.0, "years": 3 if smoke else 6, "seed": seed}
    note = folder / "world.json"
    if not note.exists() or note.read_text() != _json(wanted):
        write_world(folder, **wanted)
        note.write_text(_json(wanted))
    study = folder / "study.toml"
    sizes = {"folds": 3, "epochs": 2, "pixels": 60} if smoke else {"folds": 5, "epochs": 15, "pixels": 250}
    study.write_text(STUDY.format(seed=seed, data=folder.as_posix(), **sizes))
    return run_study(load_study(study), out, say=say, smoke=False)


def _json(wanted: dict) -> str:
    import json

    return json.dumps(wanted, sort_keys=True)


def write_world(folder: Path, *, resolution: float, years: int, seed: int) -> None:
    """Write a synthetic Earth as a study's files: towers, drivers, land, inversions, bottom-up product, truth."""
    from xflux import synthetic

    folder.mkdir(parents=True, exist_ok=True)
    world = synthetic.earth(resolution=resolution, years=years, seed=seed)
    towers = world.towers
    table = pd.DataFrame({name: towers[name].values for name in ("site", "time", "lat", "lon", "igbp")})
    table = table.assign(NEE=towers["nee"].values, NEE_QC=towers["nee_qc"].values, Tair=towers["Tair"].values)
    table.to_parquet(folder / "towers.parquet", index=False)
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
    dataset = dataset.drop_vars([c for c in dataset.coords if c not in dataset.dims])
    plain = [v for v in dataset.data_vars if np.issubdtype(dataset[v].dtype, np.floating)]
    dataset.to_netcdf(path, encoding={v: {"zlib": True, "complevel": 1} for v in plain})
