"""The rules of the layout: imports go down, torch lives in train, and ``import xflux`` is light and without effects."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xflux"

# Rooms by level, from the bottom; a room imports only what stands lower. The first level is for all to use.
LEVELS = [
    {"extras", "files", "reading", "shadow", "data", "values"},
    {"units"},
    {"contents"},
    {"temporal", "cells", "stores"},
    {"regions", "towers"},
    {"evaluate", "plot", "drivers", "adjust", "products"},
    {"bridge", "forward", "synthetic"},
    {"report", "train", "accessor"},
    {"study"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}
HEAVY = (
    "torch",
    "matplotlib",
    "sklearn",
    "dtaidistance",
    "regionmask",
    "dask",
    "distributed",
    "flox",
    "pint",
    "cf_xarray",
    "numba",
    "llvmlite",
    "sparse",
    "shapely",
    "scipy",
    "netCDF4",
    "h5netcdf",
    "zarr",
    "geopandas",
    "pydantic",
    "typer",
    "numbagg",
    "bottleneck",
    "cartopy",
    "safetensors",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def without_type_checking(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    return tree


def imported(path: Path) -> list[str]:
    """Dotted names that a file imports, relative ones made absolute; those for type checkers left out."""
    package = ("xflux", *path.relative_to(PACKAGE).parts[:-1])
    names = []
    for node in ast.walk(without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def rooms_imported(path: Path) -> set[str]:
    rooms = {
        parts[1] for parts in (name.split(".") for name in imported(path)) if parts[0] == "xflux" and len(parts) > 1
    }
    return {room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()}


def test_every_room_has_a_level():
    assert {room_of(path) for path in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    wrong = {r for r in rooms_imported(path) if r != room and LEVEL[r] >= LEVEL[room]}
    assert not wrong, f"{room} (level {LEVEL[room]}) imports {sorted(wrong)}, which stand no lower"


def test_the_test_sees_imports():
    assert {"evaluate", "bridge", "regions", "plot", "shadow"} <= rooms_imported(PACKAGE / "accessor.py")
    assert "units" in rooms_imported(PACKAGE / "temporal" / "convert.py")
    assert any(name.startswith("torch") for path in FILES if room_of(path) == "train" for name in imported(path))


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) != "train"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_lives_in_train(path):
    assert not [name for name in imported(path) if name.split(".")[0] in ("torch", "safetensors")]


def test_no_drawers():
    names = {part.removesuffix(".py") for path in FILES for part in path.relative_to(PACKAGE).parts}
    assert not names & {
        "utils",
        "util",
        "helpers",
        "core",
        "common",
        "base_classes",
        "manager",
        "engine",
        "zoo",
        "misc",
    }


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    """Nothing heavy comes with ``import xflux`` that does not come with ``import xarray``."""
    code = "import sys, xarray\nbefore = set(sys.modules)\nimport xflux\nprint(*(set(sys.modules) - before))"
    new = {name.split(".")[0] for name in run(code).split()}
    assert "xflux" in new
    assert not new & set(HEAVY)


def test_import_changes_no_global_state():
    run("""
import warnings, xarray, numpy, pandas
options, filters, errors = dict(xarray.get_options()), list(warnings.filters), numpy.geterr()
import xflux
assert dict(xarray.get_options()) == options
assert warnings.filters == filters
assert numpy.geterr() == errors
""")


def test_registering_the_accessor_warns_of_nothing():
    run("import warnings; warnings.simplefilter('error')\nimport xflux")


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
