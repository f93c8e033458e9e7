"""The documentation says what there is: pages, links, equations and names; the build itself runs in .ci/run."""

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

import xflux
from xflux import cli

pytest.importorskip("torch", reason="torch, whose room the documentation has too, is not installed")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "api"} & set(p.relative_to(DOCS).parts))
ROOMS = (
    "adjust", "bridge", "drivers", "evaluate", "forward", "plot", "regions", "report", "study", "synthetic", "tabulate",
    "temporal", "towers", "train",
)  # fmt: skip
# Values and classes that have no page, or one under the module that defines them.
UNLISTED = {
    "plot.COLUMN", "plot.PAGE", "regions.CHAPTERS", "regions.GLOBAL", "regions.RECCAP2", "temporal.MEAN_YEAR",
    "DataArrayFlux", "DatasetFlux",
}  # fmt: skip


def links_of(text: str) -> list[str]:
    """Targets of the Markdown links of a page that stay in the repository."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|mailto:|#", t)]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page):
    for link in links_of(page.read_text(encoding="utf-8")):
        assert (page.parent / link.split("#")[0]).exists(), f"{page}: {link}"


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {p.resolve() for entry in entries for p in page.parent.glob(f"{entry}.md")}
    assert listed == {p.resolve() for p in PAGES} - {(DOCS / "index.md").resolve()}


def test_every_public_name_is_in_the_reference():
    lines = {line.strip() for line in (DOCS / "reference.md").read_text(encoding="utf-8").splitlines()}
    names = set(xflux.__all__) | {"adjust.remove_fire"}
    for room in ROOMS:
        module = importlib.import_module(f"xflux.{room}")
        names |= {f"{room}.{name}" for name in getattr(module, "__all__", ())}
    # A name that stands at the top of the package need not stand in its room too.
    missing = {n for n in names - UNLISTED if n not in lines and n.split(".")[-1] not in lines}
    assert not missing


def test_the_reference_names_only_what_there_is():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    for name in re.findall(r"^   ((?!:)[\w.]+)$", text, flags=re.M):
        if name.startswith(("DataArray.flux", "Dataset.flux")):
            kind, _, method = name.split(".")
            assert hasattr(getattr(xflux, f"{kind}Flux"), method), name
            continue
        *path, last = name.split(".")
        module = importlib.import_module(".".join(["xflux", *path]))
        assert hasattr(module, last), name


@pytest.mark.parametrize("kind", ["DataArray", "Dataset"])
def test_every_accessor_method_is_in_the_reference(kind):
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    accessor = getattr(xflux, f"{kind}Flux")
    methods = {
        name for base in accessor.__mro__ if base.__module__ == "xflux.accessor" for name in vars(base)
        if not name.startswith("_")
    }  # fmt: skip
    assert methods == set(re.findall(rf"{kind}\.flux\.(\w+)", text))


@pytest.mark.parametrize("number", range(1, 15))
def test_every_equation_is_on_the_method_page_and_linked_to_a_function(number):
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    assert f"$$ (eq-{number})\n" in text
    row = next(line for line in text.splitlines() if line.startswith("|") and f"{{eq}}`eq-{number}`" in line)
    target = re.search(r"\{(?:func|class|meth)\}`([\w.]+)`", row)[1].removeprefix("~")
    module, name = target.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), name)


def calls_of(code: str):
    """(dotted name, number of positional arguments, names of keywords) of every call in a block."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args):
            yield ast.unparse(node.func), len(node.args), [k.arg for k in node.keywords if k.arg]


def callable_of(name: str):
    """The function of xflux behind ``xflux.…``, ``<room>.…`` or ``….flux.…``; None for anything else."""
    if ".flux." in name:
        path = name.rsplit(".flux.", 1)[1].split(".")
        return getattr(xflux.DatasetFlux, path[0], None) if len(path) == 1 else None
    room, *path = name.split(".")
    if len(path) != 1 or room not in ("xflux", *ROOMS):
        return None
    module = xflux if room == "xflux" else importlib.import_module(f"xflux.{room}")
    if room in ("bridge", "drivers", "report", "study", "towers"):  # names of variables too
        return getattr(module, path[0], None)
    return getattr(module, path[0])


def test_the_blocks_that_the_build_does_not_run_are_run_by_tests_or_say_why_not():
    run = {"add_a_product", "regional_budget", "drivers", "train", "synthetic_earth"}  # test_products, _towers, …
    plain = {
        p.stem: text for p in PAGES if re.search(r"^```python$", text := p.read_text(encoding="utf-8"), flags=re.M)
    }
    assert set(plain) == run | {"cluster", "study"}
    for page in ("cluster", "study"):
        assert "not run when these pages are built" in " ".join(plain[page].split())


@pytest.mark.parametrize("page", [p for p in PAGES if "```" in p.read_text(encoding="utf-8")], ids=lambda p: p.stem)
def test_code_that_cannot_run_here_still_fits_the_signatures(page):
    """Blocks that need a cluster or files are not run by the build: they parse, and call what there is."""
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
        for name, positional, keywords in calls_of(code):
            function = callable_of(name)
            if function is not None:
                first = [None] if ".flux." in name else []
                inspect.signature(function).bind_partial(*first, *[None] * positional, **dict.fromkeys(keywords))


def commands_of(text: str) -> list[list[str]]:
    """Words of the lines of a page's shell blocks that call ``xflux``."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.S)).replace("\\\n", " ")
    lines = [shlex.split(part, comments=True) for line in blocks.splitlines() for part in line.split("&&")]
    return [line[1:] for line in lines if line and line[0].rpartition("/")[2] == "xflux"]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_commands_are_those_that_the_command_line_has(page):
    for name, *given in commands_of(page.read_text(encoding="utf-8")):
        assert typer.main.get_command(cli.app).commands[name].make_context(name, given)


def test_a_command_that_does_not_fit_is_found():
    ((name, *given),) = commands_of("```sh\ncd x && .venv/bin/xflux budget a.nc \\\n  --region EU  # those\n```")
    with pytest.raises(Exception, match="No such option"):
        typer.main.get_command(cli.app).commands[name].make_context(name, given)


def test_a_call_that_does_not_fit_is_found():
    with pytest.raises(TypeError, match="qq"):
        ((name, positional, keywords),) = calls_of("xflux.read_towers('a', qq=1)")
        inspect.signature(callable_of(name)).bind_partial(*[None] * positional, **dict.fromkeys(keywords))
    with pytest.raises(AttributeError):
        callable_of("train.fitt")


def load_checker():
    spec = importlib.util.spec_from_file_location("check_links", DOCS / "check_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_link_checker_finds_what_is_broken(tmp_path):
    check = load_checker()
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1><a href="sub/other.html#there">good</a><a href="#top">good</a><a href="https://x.org">out</a>'
        '<a href="sub/other.html#gone">bad</a><img src="none.png"><a href="sub/">bad: no index</a>'
    )
    (tmp_path / "sub" / "other.html").write_text('<p id="there"><a href="../index.html?q=1#top">good</a></p>')
    found = check.broken(tmp_path)
    assert [line.split(": ")[1] for line in found] == ["sub/other.html#gone", "none.png", "sub/"]
    with pytest.raises(FileNotFoundError, match="build them first"):
        check.broken(tmp_path / "nowhere")


def test_a_notebook_shows_the_second_figure_too():
    """Its backend becomes interactive when the first figure loads it, inside the style: that must outlive it."""
    mpl = pytest.importorskip("matplotlib")
    from xflux.plot import style

    before = mpl.is_interactive()
    try:
        mpl.interactive(False)
        with style():
            mpl.interactive(True)
        assert mpl.is_interactive()
    finally:
        mpl.interactive(before)
