"""Text tables as networks and spreadsheets write them: comment lines, separators, decimal commas, encodings."""

import codecs
import gzip
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_COMMA_NUMBER = re.compile(r"-?\d+,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Layout:
    """How a text table is written: what stands before its header, its columns, how they are parted."""

    comments: tuple[str, ...]
    columns: tuple[str, ...]
    separator: str
    decimal: str
    encoding: str


def layout(path: Path) -> Layout:
    """The layout of a text table, from its first lines; comments begin with # and stand before the header."""
    raw = _first_lines(path)
    encoding = _encoding(raw)
    lines = raw.decode(encoding, errors="replace").lstrip("\ufeff").splitlines()
    comments = []
    while lines and (not lines[0].strip(' ,;"\t') or lines[0].lstrip(' "').startswith("#")):
        comments.append(lines.pop(0).strip(' #,;"\t'))
    if not lines:
        raise ValueError(f"{path.name} is empty: expected a table with a header line")
    separator = max("\t;,", key=lines[0].count)
    fields = [field.strip(' "') for line in lines[1:4] for field in line.split(separator)]
    decimal = "," if separator != "," and any(_COMMA_NUMBER.fullmatch(field) for field in fields) else "."
    columns = tuple(name.strip(' "') for name in lines[0].split(separator))
    return Layout(tuple(comments), columns, separator, decimal, encoding)


def table_of(path: Path, usecols: list[str] | Callable | None = None, as_text: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table (its columns ``usecols``, those of ``as_text`` as they are written), without a saved index."""
    form = layout(path)
    wanted = usecols or (lambda name: not str(name).startswith("Unnamed: "))
    return pd.read_csv(
        path,
        sep=form.separator,
        decimal=form.decimal,
        encoding=form.encoding,
        encoding_errors="replace",
        skiprows=len(form.comments),
        skipinitialspace=True,
        usecols=wanted,
        dtype=dict.fromkeys(as_text, str),
        na_values=["NAN"],  # as loggers write it
        low_memory=False,
    )


def _first_lines(path: Path) -> bytes:
    """The first bytes of a file that may be packed."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as packed, packed.open(packed.namelist()[0]) as file:
            return file.read(2**16)
    with (gzip.open if suffix == ".gz" else open)(path, "rb") as file:
        return file.read(2**16)


def _encoding(raw: bytes) -> str:
    """UTF-8 with or without a mark, or UTF-16, as spreadsheets write it; else Latin-1, as older tables are."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        raw[: max(len(raw) - 4, 0)].decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"
