"""The rules of the layout: imports go down, torch lives in train, and ``import xflux`` is light and without effects."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xflux"

# Rooms by level, from the bottom; a room imports only what stands lower. The first level is for all to use.
LEVELS = [
    {
        "display",
        "compile",
        "extras",
        "forks",
        "intervals",
        "provenance",
        "reading",
        "shadow",
        "data",
        "units",
        "values",
    },
    {"contents", "files"},
    {"temporal", "cells", "stores"},
    {"align", "regions", "adjust", "catalogue"},
    {"towers", "evaluate", "plot"},
    {"drivers", "forward", "bridge", "report", "tabulate"},
    {"synthetic", "train", "accessor"},
    {"study", "__init__"},
    {"cli"},
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
    """Rooms that a file imports; a name of the package itself, or the bare package, is its ``__init__``."""
    own = [name.split(".")[1:2] for name in imported(path) if name.split(".")[0] == "xflux"]
    return {room[0] if room and room[0] in LEVEL else "__init__" for room in own}


def module_of(path: Path) -> str:
    return ".".join(["xflux", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def modules_imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or in a function."""
    found = {name if name in MODULES else name.rpartition(".")[0] for name in imported(path)}
    return found & set(MODULES) - {module_of(path)}


def private(path: Path) -> list[str]:
    """Private names of other modules that a file imports, or reads from something that is not its own object."""
    tree = ast.parse(path.read_text())
    names = [a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names]
    names += [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] not in ("self", "cls")
    ]
    last = [(name, name.rpartition(".")[2]) for name in names]
    return [name for name, end in last if end.startswith("_") and not end.endswith("__") and name not in PRIVATE]


# What other packages offer under a private name only, each in one place.
PRIVATE = {"sys._getframe", "da.variable._in_memory", "da.data._meta", "variable._repr_html_", "value._hidden"}


def test_every_room_has_a_level():
    assert {room_of(path) for path in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    wrong = {r for r in rooms_imported(path) if r != room and LEVEL[r] >= LEVEL[room]}
    assert not wrong, f"{room} (level {LEVEL[room]}) imports {sorted(wrong)}, which stand no lower"


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter({module: modules_imported(path) for module, path in MODULES.items()}).prepare()


def test_levels_are_few():
    assert len(LEVELS) <= 9


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_is_private_stays_in_its_file(path):
    assert not private(path)


def test_the_test_sees_imports(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    seen = tmp_path / "plot" / "maps.py"
    seen.parent.mkdir()
    seen.write_text(
        "import xflux\nfrom ..cells import _width\ndef f():\n    from . import series\n    series._yearly()"
    )
    assert rooms_imported(seen) == {"__init__", "cells", "plot"}
    assert modules_imported(seen) == {"xflux", "xflux.cells", "xflux.plot.series"}
    assert private(seen) == ["_width", "series._yearly"]


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=module_of)
def test_no_name_of_a_room_hides_a_module(path):
    tree = ast.parse(path.read_text())
    taken = [
        a.asname or a.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for a in node.names
        if node.module
    ]
    taken += [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    beside = {p.stem for p in path.parent.iterdir()}
    assert not {name for name in taken if name in beside and f"{module_of(path)}.{name}" not in imported(path)}


def test_the_test_sees_the_package():
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


# one meaning each: commands and figures of the functions they are named after, formats, verbs of files, fast and plain
SHARED_NAMES = {
    "annual", "backward", "budget", "composition", "forward", "load_model", "one_against_many", "predict", "products",
    "read", "run", "save", "seasonal_cycle", "standardise", "table", "versions", "write",
    "Data", "FORMAT", "KIND", "P", "R",
}  # fmt: skip


def test_no_name_stands_for_two_things():
    found: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else ()
            names = [t.id for t in targets if isinstance(t, ast.Name)] or [getattr(node, "name", "_")]
            for name in names:
                found.setdefault(name, []).append(module_of(path))
    twice = {name: places for name, places in found.items() if len(places) > 1 and not name.startswith("_")}
    assert set(twice) == SHARED_NAMES, {name: twice.get(name) for name in set(twice) ^ SHARED_NAMES}


# What belongs to one idea, found in the code (docstrings and comments do not count), and the room of that idea.
IDEAS = {
    "a registry of units": (r"UnitRegistry\(", {"units"}),
    "molar masses": (r"\b(12\.011|44\.009|18\.015\d*)\b", {"units"}),
    "Earth's radius": (r"\b6371(000)?\.?0?\b", {"cells"}),
    "lengths of months": (r"31, 2[89], 31|\b30\.436875\b|\b30\.4375\b", {"temporal"}),
    "the mean year": (r"\b365\.2425\b", {"temporal"}),
    "groups in time by flox": (r"\bflox\b", {"temporal"}),
    "coordinates by their CF attributes": (r"import cf_xarray", {"cells", "temporal"}),
    "which cells are the same": (r"def (positions|nearest|locate|cell_area)\(", {"cells"}),
    "an attribute that tells contents or basis": (r"def (check_contents|contents|basis_of)\(", {"contents"}),
    "steps of drivers on one axis": (r"def (step_of|by_month|between_months|requested)\(", {"align"}),
    "Zarr by region": (r"zarr\.(open|create)\w*\(|to_zarr\([^)]*region=", {"stores"}),
    "files put in place": (r"os\.(replace|rename|link)\(", {"files"}),
    "a warning": (r"warnings\.warn\(", {"values"}),
    "sets of regionmask": (r"import regionmask", {"regions"}),
}


@pytest.mark.parametrize("idea", IDEAS)
def test_each_idea_is_in_one_room(idea):
    pattern, rooms = IDEAS[idea]
    found = {room_of(path) for path in FILES if re.search(pattern, without_docstrings(path))}
    assert found == rooms, f"{idea}: expected in {sorted(rooms)} only, found in {sorted(found)}"


@functools.cache
def without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)
