"""Without an extra of the package: what needs it says so before any work, and all else works."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from xflux import extras

WITHOUT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import xarray as xr, numpy as np, xflux
nee = xr.DataArray([-2.0, -4.0], {{"year": [2001, 2002]}}, name="nee", attrs={{"units": "PgC yr-1"}})
def refused(function, *words):
    try:
        function()
    except ImportError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("no ImportError")
"""


def run(names: list[str], code: str, *arguments: str) -> str:
    code = WITHOUT.format(names=set(names)) + code
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_torch(tmp_path):
    run(["torch"], f"""
refused(lambda: xflux.train, "xflux.train needs torch, which is not installed: pip install", "torch")
refused(lambda: xflux.load_model({str(tmp_path / "m")!r}), "needs torch", "pip install")
from xflux.study.demo import run_demo
refused(lambda: run_demo({str(tmp_path / "demo")!r}, smoke=True), "the demo needs torch", "pip install")
assert nee.flux.convert_units("GtC yr-1")[0].item() == -2
""")  # fmt: skip
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_without_safetensors():
    run(["safetensors"], 'refused(lambda: xflux.train, "xflux.train needs safetensors, which is not installed")')


def test_without_matplotlib(tmp_path):
    run(["matplotlib"], f"""
def too_early():
    raise AssertionError("work was begun")
import dask, dask.array
lazy = nee.copy(data=dask.array.from_delayed(dask.delayed(too_early)(), (2,), dtype=float))
refused(lazy.flux.plot.annual, "xflux.plot.annual needs matplotlib, which is not installed: pip install")
refused(lambda: xflux.plot.region_map(), "xflux.plot.region_map needs matplotlib")
from xflux.tabulate.output import check_places
refused(lambda: xflux.plot.style().__enter__(), "xflux.plot.style needs matplotlib")
refused(lambda: xflux.Bridge.plot_diagnosis(None, lazy), "bridge.plot_diagnosis needs matplotlib", "pip install")
refused(lambda: check_places(plot="a.png"), "a figure of the budget needs matplotlib", "pip install")
from xflux.study.demo import run_demo
refused(lambda: run_demo({str(tmp_path / "demo")!r}, smoke=True), "the demo needs matplotlib", "pip install")
(p := __import__("pathlib").Path({str(tmp_path)!r})) and (p / "summary.json").write_text('{{"verdict": "x"}}')
assert xflux.report.write_report(p).exists()
""")  # fmt: skip
    assert not (tmp_path / "demo").exists()


def test_a_command_says_it_in_one_line(tmp_path):
    code = """
import xflux.cli
sys.argv = ["xflux", "demo", "--smoke", "--out", sys.argv[1]]
try:
    xflux.cli.main()
except SystemExit as end:
    assert end.code == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names={"torch", "matplotlib"}) + code, str(tmp_path / "demo")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
    assert "xflux: the demo needs torch and matplotlib, which are not installed: pip install" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_of_an_installed_copy_names_the_extras():
    assert extras.command("train", "plot") == 'pip install "xflux[train,plot]"'


def test_the_command_of_sources_that_were_not_installed(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert extras.command("plot") == "pip install matplotlib"


def test_the_extras_are_those_of_the_package():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, modules in extras.EXTRAS.items():
        assert tuple(need.partition(">")[0] for need in project["optional-dependencies"][extra]) == modules
