"""What stands where on the page: sections in reading order, each figure with its caption and the tables under it."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import resources


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
