"""The README's lines from a fresh environment to a regional budget and to a figure, run on files as a user has them.

.ci/run does the same in a fresh environment, with ``python tests/test_readme.py FOLDER`` for the files.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xflux

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
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


def write_five_inversions(folder: Path) -> None:
    """A file an inversion, as the script names them: two grids and units, stamps at start, middle or end."""
    for k, name in enumerate(re.search(r"for name in \((.*?)\)", lines_of("script"))[1].replace('"', "").split(", ")):
        time = xr.date_range("2010-01-01", periods=24, freq="ME" if k == 2 else "MS")
        time = time + np.timedelta64(14 * (k == 1), "D")
        lat, lon = np.arange(-88.0, 90, 4 if k < 3 else 8), np.arange(0.0, 360, 5)
        units, rate = [("gC m-2 d-1", 1.0), ("kgC m-2 s-1", 1 / 86.4e6)][k % 2]
        flux = np.full((24, lat.size, lon.size), -rate * (1 + k))
        attrs = {"units": units, "area_basis": "cell"}
        da = xr.DataArray(flux, {"time": time, "lat": lat, "lon": lon}, name="nbe", attrs=attrs)
        da.to_netcdf(folder / f"{name}.nc")


def lines_of(marker: str) -> str:
    text = README.read_text(encoding="utf-8")
    return re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, flags=re.S)[1].strip()


def budget_lines() -> list[str]:
    return lines_of("budget").splitlines()


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


def test_five_inversions_to_a_figure_with_their_spread_in_ten_lines(tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    script = lines_of("script")
    assert len([line for line in script.splitlines() if line]) == 10
    assert script in (README.parent / "docs" / "start.md").read_text(encoding="utf-8")
    write_five_inversions(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(script, names)
    panels = plt.gcf().axes
    assert len(panels) == 4 and all(len(panel.collections) == 1 for panel in panels)  # a line and its shade
    january = 31 * -np.arange(1, 6) * AREA / 1e15  # PgC, of -1 … -5 gC m-2 d-1 all over the globe
    sums = [da.sel(region="GLOBAL").values[0] for da in names["sums"].values()]
    assert sums == pytest.approx(january)
    assert (tmp_path / "five_inversions.png").stat().st_size > 10_000
    plt.close("all")


def test_version_and_requirements_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "conda" / "meta.yaml").read_text()
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'version = "{project["version"]}"' in recipe and xflux.__version__ == project["version"]
    assert f"## {project['version']} " in (ROOT / "CHANGELOG.md").read_text()
    conda = {"dask": "dask-core", "torch": "pytorch", "matplotlib": "matplotlib-base", "xxhash": "python-xxhash"}
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["train"], *extras["plot"]]:
        name, least = re.fullmatch(r"([\w-]+)(?:\[.*\])?(>=.*)", line).groups()
        assert f"    - {conda.get(name, name.lower())} {least}\n" in recipe


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_own_file(folder / "my_flux.nc")
    write_five_inversions(folder)
