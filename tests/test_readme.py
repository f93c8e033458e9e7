"""The README's lines from a fresh environment to a regional budget, run on a file as a user might have it.

.ci/run does the same in a fresh environment, with ``python tests/test_readme.py my_flux.nc`` for the file.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

README = Path(__file__).parents[1] / "README.md"
AREA = 4 * np.pi * 6_371_000**2


def write_own_file(path: Path) -> None:
    """A monthly flux in a user's own conventions: kgC m-2 s-1, 0 to 360, north to south, mid-month stamps, a gap."""
    time = xr.date_range("2010-01-01", periods=24, freq="MS") + np.timedelta64(14, "D")
    lat, lon = np.arange(88.75, -90, -2.5), np.arange(0.0, 360, 3.75)
    flux = np.full((24, lat.size, lon.size), -2e-9)
    flux[12:] = -4e-9
    flux[:, -4:] = np.nan  # Antarctica
    attrs = {"units": "kgC m-2 s-1", "long_name": "net carbon flux"}
    coords = {"time": time, "latitude": ("latitude", lat, {"units": "degrees_north"}), "longitude": lon}
    coords["longitude"] = ("longitude", lon, {"units": "degrees_east"})
    xr.DataArray(flux, coords, ("time", "latitude", "longitude"), name="netflux", attrs=attrs).to_netcdf(path)


def budget_lines() -> list[str]:
    block = re.search(r"<!-- budget -->\n```sh\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)[1]
    return block.strip().splitlines()


def test_one_command_after_the_install():
    assert len(budget_lines()) == 2  # the environment, and the budget


def test_the_lines_give_the_budget_of_a_file(tmp_path):
    write_own_file(tmp_path / "my_flux.nc")
    install, *rest = budget_lines()
    assert install.startswith("python3 -m venv")  # this one runs in .ci/run
    script = "\n".join(rest).replace(".venv/bin/xflux", f"{sys.executable} -m xflux.cli")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    table = {line.split()[0]: line.replace("−", "-").split()[1:] for line in done.stdout.splitlines() if line.strip()}
    # -3e-9 kgC m-2 s-1 on average, over all but the cells south of 80° S, in years of 365 days
    covered = AREA * (1 + np.sin(np.radians(80))) / 2
    assert float(table["GLOBAL"][1]) == pytest.approx(-3e-9 * covered * 86400 * 365 / 1e12, abs=0.006)
    assert set(table) >= {"USA", "BRA", "EU", "RUS", "OCE"}


if __name__ == "__main__":
    write_own_file(Path(sys.argv[1]))
