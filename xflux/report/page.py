"""The page of one or more runs: what is on it, gathered here as plain values; ``page.html`` says how it looks."""

import base64
import io
import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from xflux.report.mapdata import map_data
from xflux.report.run import Run

if TYPE_CHECKING:
    import jinja2

LARGEST = 2**1000  # whole numbers beyond it are no numbers of a run, and no floats
SUMMARY = "summary.json · made anew by: xflux.study.numbers(RUN)"
SCROLLED_ABOVE = 450  # pixels above which a figure is scrolled on a phone, not shrunk


def build(runs: list[Run], resolution: float) -> str:
    """The whole page as text."""
    data, problems = map_data(runs, resolution)
    files = resources.files("xflux.report")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    contents = arranged(_names(runs, "figures"), _names(runs, "tables"), lambda stem: _words(runs, stem))
    if data:
        contents.setdefault(MAPS, [])
    page = _template().render(
        title=" · ".join(dict.fromkeys(run.title for run in runs)),
        runs=[_about(run, runs) for run in runs],
        differences=_differences(runs) if len(runs) > 1 else None,
        contents={
            section: [
                (entry, _images(runs, entry.figure) if entry.figure else [], [_tables(runs, name) for name in tables])
                for entry, tables in entries
            ]
            for section, entries in sorted(contents.items(), key=lambda part: SECTIONS.index(part[0]))
        },
        map_data=data,
        spacing=_spacing(data) if data else None,
        missing_parts=_missing(runs, problems),
        style=style,
        script=script,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # JSON may hold half a surrogate pair, a file may not


@cache
def _template() -> "jinja2.Template":
    import jinja2

    look = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    engine = jinja2.Environment(loader=jinja2.PackageLoader("xflux.report", "."), autoescape=True, **look)
    engine.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return engine.get_template("page.html")


def _mapping(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _about(run: Run, runs: list[Run]) -> dict[str, Any]:
    """What the page says of one run in words and in its first table."""
    claims = run.summary.get("claims_not_allowed") or []
    headline = _mapping(run.summary.get("headline"))
    rows = headline.get("rows") or []
    return {
        "name": run_name(run, runs),
        "smoke": run.provenance.get("smoke") or run.summary.get("smoke"),
        "subject": run.summary.get("subject"),
        "verdict": run.summary.get("verdict"),
        "headline": headline if isinstance(rows, list) and all(isinstance(row, list) for row in rows) else {},
        "first": [image for name in FIRST if (image := _image(run, name, 1.05))],
        "claims": claims if isinstance(claims, list) else [claims],
        "study": run.study,
        "inputs": run.provenance.get("inputs"),
        "provenance": {k: v for k, v in run.provenance.items() if k != "inputs"} if run.provenance else None,
    }


def run_name(run: Run, runs: list[Run]) -> str:
    """A run's folder name, with its parent's where two runs are called the same."""
    same = [r for r in runs if r.path.resolve().name == run.path.resolve().name]
    path = run.path.resolve()
    return path.name if len(same) == 1 else f"{path.parent.name}/{path.name}"


# ------------------------------------------------------------------------------------------------------------ numbers
def run_numbers(run: Run) -> dict[str, float]:
    """The numbers of ``summary.json``: its key ``numbers``, else its own numeric entries."""
    source = _mapping(run.summary.get("numbers", run.summary))
    numbers = {str(k): v for k, v in source.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {k: v for k, v in numbers.items() if isinstance(v, float) or abs(v) < LARGEST}


def _differences(runs: list[Run]) -> dict | None:
    """The numbers of every run, and what each has more than the first."""
    units = {k: v for run in runs for k, v in _mapping(run.summary.get("units")).items()}
    found = {run_name(run, runs): run_numbers(run) for run in runs}
    first, *others = found
    heads = ["quantity", *found, *(f"{name} − {first}" for name in others)]
    rows = []
    for key in dict.fromkeys(key for numbers in found.values() for key in numbers):
        values = [numbers.get(key, math.nan) for numbers in found.values()]
        rows.append([_with_units(key, units), *values, *(value - values[0] for value in values[1:])])
    return shown_table(heads, rows, SUMMARY) if rows else None


def _with_units(quantity: str, units: dict[str, str]) -> str:
    """A quantity, or "model: quantity", with its units."""
    plain = quantity.split(": ", 1)[-1]
    return f"{quantity} ({units[plain]})" if plain in units else quantity


# ------------------------------------------------------------------------------------------------- tables and figures
def _names(runs: list[Run], kind: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in getattr(run, kind)))


def _words(runs: list[Run], stem: str) -> str:
    """What a model's or a region set's file name says."""
    label = next((run.label(stem) for run in runs if run.label(stem) != stem), stem)
    return label if label != stem else stem.replace("reccap2", "RECCAP2 regions").replace("_", " ").replace("-", " ")


def _tables(runs: list[Run], name: str) -> dict[str, Any]:
    """One table of every run, None where a run does not have it."""
    source = f"tables/{name}.csv · made anew by: xflux table RUN {name}"
    frames = [run.tables.get(name) for run in runs]
    made = [None if f is None else shown_table(f.columns, f.itertuples(index=False), source) for f in frames]
    longest = max(len(table["rows"]) for table in made if table)
    return {
        "name": name,
        "title": next(run.heading(name) for run in runs if name in run.tables),
        "longest": longest,
        "blocks": [(run_name(run, runs), table) for run, table in zip(runs, made, strict=True)],
    }


def shown_table(heads: Iterable, rows: Iterable[Iterable], source: str) -> dict[str, Any]:
    """Heads and rows of (text, full number or None), so that it can be sorted."""
    heads = ["" if str(name).startswith("Unnamed: ") else str(name) for name in heads]
    return {"heads": heads, "rows": [[_cell(value) for value in row] for row in rows], "source": source}


def _cell(value: object) -> tuple[str, str | None]:
    if isinstance(value, bool) or (not isinstance(value, int | float) and not hasattr(value, "dtype")):
        return str(value), None
    try:
        number = float(value)
    except OverflowError:  # whole numbers have no largest one
        return str(value), None
    return ("–", "") if math.isnan(number) else (shown(number), repr(number))


def shown(number: float) -> str:
    """A number with four significant digits, whole numbers in full.

    >>> shown(-2.053171), shown(151000.0), shown(0.0412345)
    ('−2.053', '151000', '0.04123')
    """
    text = f"{number:.0f}" if number.is_integer() and abs(number) < 1e12 else f"{number:.4g}"
    return text.replace("-", "−")


def _images(runs: list[Run], name: str) -> list[tuple[str, dict | None]]:
    """One figure of every run under the run's name, None where a run does not have it."""
    return [(run_name(run, runs) if len(runs) > 1 else "", _image(run, name)) for run in runs]


def _image(run: Run, name: str, zoom: float = 1.2) -> dict | None:
    """A figure as an address of data, small (WebP, or the PNG itself without Pillow), and its width on the page.

    Its letters are those of a journal's column, enlarged by ``zoom``.
    """
    if name not in run.figures:
        return None
    content, kind, width = run.figures[name].read_bytes(), "png", SCROLLED_ABOVE
    try:
        from PIL import Image

        with Image.open(io.BytesIO(content)) as picture:
            width = picture.width * 96 / (picture.info.get("dpi") or (96,))[0]
            small = io.BytesIO()
            picture.convert("RGB").save(small, "WEBP", quality=70, method=6)
        content, kind = min((small.getvalue(), "webp"), (content, kind), key=lambda one: len(one[0]))
    except (ImportError, OSError):  # no Pillow, or no picture: as it is
        pass
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return {"name": name, "address": address, "width": round(width * zoom), "wide": width > SCROLLED_ABOVE}


def _spacing(data: dict) -> str:
    edges = data["layers"][0]["lat_edges"]
    return f"{abs(edges[-1] - edges[0]) / (len(edges) - 1):.3g}"


def _missing(runs: list[Run], problems: list[str]) -> list[str]:
    parts = [f"{run_name(run, runs)}: {part}" if len(runs) > 1 else part for run in runs for part in run.missing]
    return [*parts, *problems]


@dataclass(frozen=True)
class Entry:
    """A figure of a section, by its file's stem, and its tables; "*" stands for what is matched, the same in both."""

    section: str
    figure: str
    title: str
    caption: str
    tables: Sequence[str] = ()


_READ = tomllib.loads(resources.files("xflux.report").joinpath("contents.toml").read_text(encoding="utf-8"))
ENTRIES = tuple(Entry(**row) for row in _READ["figure"])
FIRST = _READ["first"]
"""The figures of the first screen."""
MAPS, MORE = "Maps", "More"
SECTIONS = (*dict.fromkeys(entry.section for entry in ENTRIES), MORE)


def arranged(
    figures: Iterable[str], tables: Iterable[str], words: Callable[[str], str] = str
) -> dict[str, list[tuple[Entry, list[str]]]]:
    """Section → entries with the tables that are there; every figure and table once, unknown ones in the last section.

    ``words`` says what "*" stood for.

    >>> found = arranged(["annual_countries", "mine"], ["regions_countries", "towers"])
    >>> [(section, entry.title, under) for section, entries in found.items() for entry, under in entries]
    [('Regions', 'Annual flux by region: countries', ['regions_countries']),
     ('Towers', '', ['towers']), ('More', 'Mine', [])]
    """
    figures, tables = [f for f in figures if f not in FIRST], list(tables)
    found: dict[str, list[tuple[Entry, list[str]]]] = {}
    for row in ENTRIES:
        stems = [f for f in figures if fnmatchcase(f, row.figure)] or [""]
        for stem in stems:
            rest = stem[len(row.figure) - 1 :]
            # a table that several figures share stands under the last
            asked = [t.replace("*", rest) if stem else t for t in row.tables if "*" in t or stem == stems[-1]]
            under = [t for pattern in asked for t in tables if fnmatchcase(t, pattern)]
            if stem or under:
                title = row.title.replace("*", words(rest)) if stem else ""
                found.setdefault(row.section, []).append((replace(row, figure=stem, title=title), under))
            figures, tables = [f for f in figures if f != stem], [t for t in tables if t not in under]
    for stem in figures:
        title = stem.replace("_", " ").capitalize()
        found.setdefault(MORE, []).append((Entry(MORE, stem, title, ""), []))
    if tables:
        found.setdefault(MORE, []).append((Entry(MORE, "", "", ""), tables))
    return found
