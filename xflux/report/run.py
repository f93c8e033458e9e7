"""What a run folder holds, read for the page; what is missing is listed, never an error."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from xflux.files import at_home
from xflux.provenance import read_json
from xflux.reading import blamed_on

PARTS = ("study.toml or study.json", "summary.json", "provenance.json", "tables/*.csv", "figures/*.png", "flux/*.zarr")


@dataclass(frozen=True)
class Run:
    """A run folder's content.

    Attributes
    ----------
    path
        Of the folder.
    study, summary, provenance
        What these files say, as dicts.
    tables
        Name → table.
    figures, fluxes
        Name → PNG file, and Zarr store.
    missing
        What the folder lacks, or cannot be read.

    Examples
    --------
    >>> summary = {"tables": {"towers": "At towers"}, "models": {"ec": {"file": "ec", "label": "EC"}}}
    >>> run = Run(Path("runs/demo"), {"name": "demo"}, summary, {}, {}, {}, {})
    >>> run.heading("towers"), run.label("ec"), run.title
    ('At towers', 'EC', 'demo')
    """

    path: Path
    study: dict
    summary: dict
    provenance: dict
    tables: "dict[str, pd.DataFrame]"
    figures: dict[str, Path]
    fluxes: dict[str, Path]
    missing: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The study's title or name, else the folder's name."""
        named = [self.summary.get("title"), self.study.get("title"), self.summary.get("study"), self.study.get("name")]
        return str(next((name for name in named if name), self.path.name))

    def heading(self, table: str) -> str:
        """What the summary calls a table, else its file's name in words.

        Parameters
        ----------
        table
            Name of its file, without the suffix.
        """
        named = self.summary.get("tables", {})
        return str(named[table]) if isinstance(named, dict) and table in named else heading(table)

    def label(self, file: str) -> str:
        """What the summary calls a model.

        Parameters
        ----------
        file
            Stem of its files.
        """
        return _model_files(self.summary).get(file, file)


def _model_files(summary: dict) -> dict[str, str]:
    """File stem → label of the models that a summary lists, in its order."""
    models = summary.get("models", {})
    entries = [e for e in models.values() if isinstance(e, dict)] if isinstance(models, dict) else []
    return {str(e["file"]): str(e.get("label", e["file"])) for e in entries if "file" in e}


def read_run(folder: str | Path) -> Run:
    """Read a run folder; parts that are unreadable or absent are listed in ``missing``.

    Parameters
    ----------
    folder
        Run folder.

    Raises
    ------
    FileNotFoundError, ValueError
        No such folder; it holds nothing of a run.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     length = (Path(folder) / "study.toml").write_text('title = "Small"')
    ...     run = read_run(folder)
    >>> run.title, run.missing
    ('Small', ['summary.json', 'provenance.json', 'tables/*.csv', 'figures/*.png', 'flux/*.zarr'])
    """
    path = at_home(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"run folder {str(path)!r} does not exist")
    missing: list[str] = []
    study = _toml(path / "study.toml", missing) or _json(path / "study.json", missing)
    found = {
        "summary.json": _json(path / "summary.json", missing),
        "provenance.json": _json(path / "provenance.json", missing),
        "tables/*.csv": _tables(path / "tables", missing),
        "figures/*.png": {p.stem: p for p in sorted((path / "figures").glob("*.png")) if _is_own(p, path, missing)},
        "flux/*.zarr": {p.stem: p for p in sorted((path / "flux").glob("*.zarr")) if _is_own(p, path, missing)},
    }
    order = _model_files(found["summary.json"])
    fluxes, tables = found["flux/*.zarr"], found["tables/*.csv"]
    listed = found["summary.json"].get("tables")
    listed = list(map(str, listed)) if isinstance(listed, dict | list) else []
    found["tables/*.csv"] = {n: tables[n] for n in dict.fromkeys([*listed, *tables]) if n in tables}
    found["flux/*.zarr"] = {n: fluxes[n] for n in [*(f for f in order if f in fluxes), *fluxes] if n in fluxes}
    missing += [name for name, content in {PARTS[0]: study, **found}.items() if not content]
    if not study and not any(found.values()):
        raise ValueError(f"{str(path)!r} holds nothing of a run: looked for {', '.join(PARTS)}")
    return Run(path, study, *found.values(), missing=missing)


def _json(path: Path, missing: list[str]) -> dict:
    content = _readable(path, path.name, missing, read_json)
    return content if isinstance(content, dict) else {"content": content} if content is not None else {}


def _toml(path: Path, missing: list[str]) -> dict:
    return _readable(path, path.name, missing, lambda file: tomllib.loads(file.read_text(encoding="utf-8"))) or {}


def _tables(folder: Path, missing: list[str]) -> "dict[str, pd.DataFrame]":
    found = {p.stem: _readable(p, f"tables/{p.name}", missing, pd.read_csv) for p in sorted(folder.glob("*.csv"))}
    return {name: table for name, table in found.items() if table is not None}


def _readable(path: Path, name: str, missing: list[str], read: Callable[[Path], Any]) -> Any:
    """What `read` makes of a file; None where there is none, or with a note where it is damaged."""
    if not path.exists() or not _is_own(path, path.parents[name.count("/")], missing):
        return None
    try:
        with blamed_on(path, "a part of a run"):
            return read(path)
    except (ValueError, OSError) as error:
        missing.append(f"{name} (unreadable: {error})")
        return None


def _is_own(path: Path, folder: Path, missing: list[str]) -> bool:
    """Whether a part of a run lies in its folder: a link out of it, in a run of somebody else's, is not followed."""
    inside = [path, *path.rglob("*")] if path.is_dir() else [path]
    own = all(part.resolve().is_relative_to(folder.resolve()) for part in inside)
    if not own:
        missing.append(f"{path.relative_to(folder)} (a link out of the run folder)")
    return own


def heading(stem: str) -> str:
    """A file's stem as words.

    >>> heading("regions_latitude-bands")
    'Regions: latitude-bands'
    """
    words = re.sub(r"^(regions|annual|history|bridge)_", r"\1: ", stem).replace("_", " ")
    return words[:1].upper() + words[1:]
