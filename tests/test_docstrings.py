"""What help() and the reference show of everything public, as numpydoc: parameters, results, errors, an example.

The same of ``xflux COMMAND --help``.
"""

import ast
import builtins
import inspect
import pkgutil
import re
import shlex
import sys
import textwrap
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from xflux import cli
from xflux.accessor import DatasetFlux, FluxPlots

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
from docstrings import sections  # noqa: E402

ORDER = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Notes", "Examples")
NAMES = ("Parameters", "Attributes")
ENTRY = re.compile(r"(\**\w+(?:, \**\w+)*)( : \S.*)?")


def named(path: str):
    """A function or class of the reference by its name; the accessor's methods have their object already."""
    if ".flux." in path:
        *_, room, name = f".{path}".split(".")
        return getattr(FluxPlots if room == "plot" else DatasetFlux, name)
    return pkgutil.resolve_name(f"xflux.{path}")


TEXT = (DOCS / "reference.md").read_text(encoding="utf-8")
REFERENCE = {name: named(name) for name in re.findall(r"^   ((?:\w+\.)*\w+)$", TEXT, flags=re.M)}


def public() -> dict:
    """Functions and classes of the reference, and the classes' methods, by name."""
    found = {k: v for k, v in REFERENCE.items() if inspect.isfunction(v) or inspect.isclass(v)}
    found = {k: v for k, v in found.items() if not (inspect.isclass(v) and issubclass(v, Exception))}
    for owner, cls in [(k, v) for k, v in found.items() if inspect.isclass(v)]:
        methods = {k: getattr(v, "__func__", v) for k, v in vars(cls).items() if k[0] != "_"}
        found |= {f"{owner}.{k}": v for k, v in methods.items() if inspect.isfunction(v)}
    return found


PUBLIC = public()


def parts(thing) -> dict[str | None, list[str]]:
    """Section of a docstring → its lines."""
    text = thing if isinstance(thing, str) else inspect.getdoc(thing)
    return {title: [line for line in body if line.strip()] for title, body in sections(text.splitlines())}


# --- parameters -------------------------------------------------------------------------------------------------------


def said(thing) -> list[str]:
    """The parameters that a docstring has an entry for."""
    lines = [line for title in NAMES for line in parts(thing).get(title, []) if line[0] != " "]
    return [name.strip("* ") for line in lines if (found := ENTRY.fullmatch(line)) for name in found[1].split(",")]


def given(thing) -> list[str]:
    """The parameters that it has; nobody calls a protocol."""
    known = [] if getattr(thing, "_is_protocol", False) else inspect.signature(thing).parameters
    return [name for name in known if name not in ("self", "cls")]


def wrong_parameters(thing) -> set[str]:
    """Those that have no entry, and entries of a function that are no parameters."""
    return set(given(thing)) - set(said(thing)) | (
        set() if inspect.isclass(thing) else set(said(thing)) - set(given(thing))
    )


# --- form -------------------------------------------------------------------------------------------------------------


def flaws(thing) -> list[str]:
    """Where a docstring is not in numpydoc's form."""
    found, lines = parts(thing), (thing if isinstance(thing, str) else inspect.getdoc(thing)).splitlines()
    titles = [title for title in found if title]
    ragged = [a for a, b in pairwise(lines) if re.fullmatch("-{3,}", b.strip()) and len(b) != len(a)]
    wrong = [f"underline of {title}" for title in ragged]
    wrong += [f"section {title}" for title in titles if title not in ORDER]
    wrong += [f"{b} after {a}" for a, b in pairwise(t for t in titles if t in ORDER) if ORDER.index(a) > ORDER.index(b)]
    wrong += [f"example in {title}" for title in titles if title != "Examples" and ">>>" in "\n".join(found[title])]
    wrong += ["example before the sections"] if titles and any(">>>" in line for line in found[None]) else []
    return wrong + [flaw for title in titles for flaw in flaws_of(title, found[title])]


def flaws_of(title: str, lines: list[str]) -> list[str]:
    """What is wrong in a section: entries that are none, or of which nothing is said."""
    flat = [line for line in lines if line[0] != " "]
    alone = [a for a, b in pairwise([*lines, ""]) if a in flat and not b.startswith(" ") and " : " not in a]
    if title in NAMES:
        return alone + [line for line in flat if not ENTRY.fullmatch(line)]
    if title in ("Raises", "Warns"):
        return alone + [name for line in flat for name in line.split(", ") if not error(name)]
    return flat if title in ("Returns", "Yields") and len(flat) != 1 else []


def error(name: str) -> type | None:
    """The exception or warning of Python or of the reference that has this name."""
    known = [getattr(builtins, name, None), *(one for path, one in REFERENCE.items() if path.split(".")[-1] == name)]
    return next((one for one in known if isinstance(one, type) and issubclass(one, Exception)), None)


# --- errors -----------------------------------------------------------------------------------------------------------


@cache
def nodes(function) -> list[ast.AST]:
    """A function's syntax, without what stands in a ``try`` whose errors it catches."""

    def walk(node):
        yield node
        for name, value in ast.iter_fields(node):
            if not (isinstance(node, ast.Try) and node.handlers and name == "body"):
                for child in value if isinstance(value, list) else [value]:
                    yield from walk(child) if isinstance(child, ast.AST) else ()

    return list(walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))


def raising(function, seen: set) -> list[str]:
    """Functions of xflux that raise, among this one and those that it calls by name."""
    function = inspect.unwrap(function)
    if function in seen or not function.__module__.startswith("xflux"):
        return []
    seen.add(function)
    own = [function.__qualname__] if any(isinstance(node, ast.Raise) for node in nodes(function)) else []
    around = vars(sys.modules[function.__module__])
    called = [around.get(getattr(node.func, "id", "")) for node in nodes(function) if isinstance(node, ast.Call)]
    return own + [name for one in called if inspect.isfunction(one) for name in raising(one, seen)]


def written(thing) -> list:
    """The function itself, or what a class calls when an object is made."""
    made_by = [vars(thing).get(name) for name in ("__init__", "__post_init__")] if inspect.isclass(thing) else [thing]
    own = [one for one in made_by if inspect.isfunction(one) and one.__module__ != "typing"]
    return [one for one in own if not inspect.getfile(one).startswith("<")]  # that of a dataclass has no text


def refusals(thing) -> list[str]:
    """Functions that raise on the way of a call."""
    return [name for one in written(thing) for name in raising(one, set())]


def untold(thing) -> list[str]:
    """Errors that it raises itself, of which neither they nor what they are of stand under Raises."""
    told = tuple(error(name) for line in parts(thing).get("Raises", []) if line[0] != " " for name in line.split(", "))
    raised = [node.exc for one in written(thing) for node in nodes(inspect.unwrap(one)) if isinstance(node, ast.Raise)]
    names = {exc.func.id for exc in raised if isinstance(exc, ast.Call) and isinstance(exc.func, ast.Name)}
    return [name for name in names if error(name) and not issubclass(error(name), told)]


# --- all that is public -----------------------------------------------------------------------------------------------


def test_the_reference_is_seen():
    assert len(PUBLIC) > 200


def test_help_has_an_entry_for_every_parameter():
    wrong = {name: sorted(found) for name, thing in PUBLIC.items() if (found := wrong_parameters(thing))}
    assert not wrong


def test_help_is_in_the_form_of_numpydoc():
    wrong = {name: found for name, thing in PUBLIC.items() if (found := flaws(thing))}
    assert not wrong


def test_help_says_what_is_refused():
    silent = {name: refusals(thing) for name, thing in PUBLIC.items() if "Raises" not in parts(thing)}
    assert not {name: found for name, found in silent.items() if found}
    assert not {name: found for name, thing in PUBLIC.items() if (found := untold(thing))}


def test_help_has_an_example_of_its_own_or_in_that_of_the_class():
    def shown(name: str) -> bool:
        owner, _, method = name.rpartition(".")
        of_class = inspect.getdoc(PUBLIC[owner]) if owner in PUBLIC else ""
        return ">>>" in inspect.getdoc(PUBLIC[name]) or bool(re.search(rf">>> .*\.{method}\(", of_class))

    assert not [name for name in PUBLIC if not shown(name)]


GOOD = """Sum.

Parameters
----------
a, *b : numbers
c
    Another.

Returns
-------
float

Raises
------
ValueError
    Never.

Examples
--------
>>> 1 + 1
2
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c\n", "c, d is another\n"), ("    Another.\n", ""), ("------\nV", "-----\nV"), ("    Never.\n", ""),
        ("ValueError", "ValueErr"), ("ValueError\n    Never", "ValueError: never"), ("float\n", "float\nor int\n"),
        ("Examples", "Example"), ("Sum.\n", "Sum.\n\n>>> 2\n2\n"),
        ("Returns\n-------\nfloat\n\nRaises\n------\nValueError\n    Never.\n",
         "Raises\n------\nValueError\n    Never.\n\nReturns\n-------\nfloat\n"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_form_is_found(old, new):
    assert old in GOOD and not flaws(GOOD) and flaws(GOOD.replace(old, new, 1))


def test_parameters_and_refusals_that_are_not_told_are_found():
    def add(a, *b, c):
        """Sum.

        Parameters
        ----------
        a, d : numbers

        Raises
        ------
        LookupError
            Never.
        """
        if a:
            raise KeyError(a)
        raise ValueError(b)

    from xflux.regions.sets import as_regionmask

    assert wrong_parameters(add) == {"b", "c", "d"}
    assert untold(add) == ["ValueError"]
    assert {"as_regionmask"} < set(refusals(as_regionmask))


# --- the command line -------------------------------------------------------------------------------------------------

COMMANDS = typer.main.get_command(cli.app).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_and_its_help_ends_with_an_example_that_it_takes(name):
    assert re.search(rf"\b{name}\b", cli.__doc__)
    shown = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output.strip()
    example = re.fullmatch(r"Example: xflux (.*)", shown.splitlines()[-1].strip())
    first, *given = shlex.split(example[1])
    assert first == name and COMMANDS[name].make_context(name, given)


@pytest.mark.parametrize(
    "option", [(name, p) for name, c in COMMANDS.items() for p in c.params], ids=lambda o: o[1].name
)
def test_an_option_says_what_it_takes_and_what_holds_without_it(option):
    _, one = option
    assert one.help.endswith(".")
    assert one.required or one.default is not None or "default" in one.help
