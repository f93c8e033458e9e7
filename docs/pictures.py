"""Pictures that the build cannot make: ``XFLUX_DATA=… python docs/pictures.py RUN`` draws them anew.

- ``five_inversions.png``: what the README's script draws, with inversions of the synthetic Earth;
- ``transcom.png``: the published mask, which is not shipped, from ``$XFLUX_DATA``;
- ``ar6.png``: regions that regionmask downloads;
- ``real_world.png``: maps of the run of ``examples/real_world/study.toml`` in the folder ``RUN``.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xflux
from xflux import plot, synthetic
from xflux.study.figures import mean_flux
from xflux.study.results import Results

HERE = Path(__file__).parent


def script() -> str:
    """The ten lines of the README."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    return re.search(r"<!-- script -->\n```python\n(.*?)```", text, flags=re.S)[1]


def five_inversions(path: Path) -> None:
    """Run the script where its five files are."""
    earth = synthetic.earth(resolution=3, years=6)
    names = re.search(r"for name in \((.*?)\)", script())[1].replace('"', "").split(", ")
    with tempfile.TemporaryDirectory() as folder:
        for name, da in zip(names, earth.inversions["nbe"].transpose("inversion", ...), strict=True):
            da = da.drop_vars("inversion").drop_attrs(deep=False)
            da.assign_attrs(units="gC m-2 d-1", area_basis="land", long_name="NBE").to_netcdf(f"{folder}/{name}.nc")
        os.chdir(folder)
        plt.rcParams["savefig.dpi"] = 150
        exec(script(), {})
        Path("five_inversions.png").rename(path)


def numbered(regions: str, path: Path) -> None:
    """A map of a set, with numbers in place of names."""
    globe = xr.Dataset(coords={"lat": np.arange(-89.5, 90), "lon": np.arange(-179.5, 180)})
    weights = xflux.region_weights(globe, regions, area_basis="cell")
    figure, ax = plt.subplots(figsize=(5.2, 2.8), layout="compressed")
    plot.region_map(weights.assign_coords(region=np.arange(1, weights.sizes["region"] + 1)), ax)
    figure.savefig(path, dpi=150)


def real_world(run: str, path: Path) -> None:
    """Mean annual flux without and with the inversions."""
    study = Results(run)
    fields = {
        "EC": mean_flux(study, study.names["ec"]),
        "EC-ATM sampled+total": mean_flux(study, study.names["sampled+total"]),
    }
    maps = plot.maps(fields, columns=2, label="Mean annual flux (gC m$^{-2}$ yr$^{-1}$)", vmin=-600, vmax=600)
    maps.savefig(path, dpi=125)


if __name__ == "__main__":
    five_inversions(HERE / "images" / "five_inversions.png")
    for regions in ("transcom", "ar6.all"):
        numbered(regions, HERE / "images" / f"{regions.removesuffix('.all')}.png")
    real_world(sys.argv[1], HERE / "images" / "real_world.png")
