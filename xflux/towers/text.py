"""Text tables as networks and spreadsheets write them: comment lines, separators, decimal commas, encodings, dates."""

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


_NUMBERS = {6: "%Y%m", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_YEAR_FIRST = re.compile(r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2}(?:[T ].*)?)?")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?:[T ,]+(\S.*))?")
_ZONE = re.compile(r"(?<=\d)\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$")
_WRITE = "write them as 2005-01-31, or as numbers 20050131 (days) or 200501 (months)"


def read_dates(column: pd.Series, where: str, dayfirst: bool | None = None) -> pd.Series:
    """Dates and times of a column; those of a zone as they read.

    Read are dates, text like ``2005-01-31`` and ``2005-01-31T00:30``, numbers like 20050131, 200501 and 200501310030,
    and dates with the year last where a day above 12, or ``dayfirst``, says what comes first.

    Raises ValueError: ambiguous, missing or other dates; ``where`` names the file and its column.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_localize(None)
    if pd.api.types.is_datetime64_any_dtype(column):
        found = column
    else:
        if column.isna().any():
            raise ValueError(f"{where}: {int(column.isna().sum())} of {len(column)} rows have no date: drop them first")
        text = column.astype(str).str.strip().str.removesuffix(".0")
        try:
            found = _of_text(text, where, dayfirst)
        except ValueError as problem:
            if where in str(problem):
                raise
            raise ValueError(f"{where}: times like {text.iloc[0]!r} are not understood ({problem}); {_WRITE}") from None
    if found.isna().any():
        raise ValueError(f"{where}: {int(found.isna().sum())} of {len(found)} rows have no date: drop them first")
    return found


def _of_text(text: pd.Series, where: str, dayfirst: bool | None) -> pd.Series:
    if text.str.fullmatch(r"[0-9]+").all():
        length = text.str.len()
        form = _NUMBERS.get(int(length.max()) if len(length) else 8)
        if form is None or length.nunique() > 1:
            raise ValueError(f"{where}: times like {text.iloc[0]!r} are not understood; {_WRITE}")
        return pd.to_datetime(text, format=form)
    if text.str.fullmatch(r"[0-9.,]+[eE]\+?[0-9]+").any():
        raise ValueError(
            f"{where}: {text.iloc[0]!r} has lost its last digits to a spreadsheet; take the file as published"
        )
    text = text.str.replace(_ZONE, "", regex=True) if text.str.contains(":").any() else text
    if text.str.fullmatch(_YEAR_FIRST).all():
        text = text.str.replace(r"[/.](?=\d{1,2}(?:\D|$))", "-", n=2, regex=True)
        padded = text.str[:10].str.fullmatch(r"\d{4}-\d{2}(-\d{2})?").all()
        return pd.to_datetime(text, format="ISO8601" if padded else "mixed")
    if text.str.fullmatch(_YEAR_LAST).all():
        return _year_last(text, where, dayfirst)
    return pd.to_datetime(text, format="mixed")


def _year_last(text: pd.Series, where: str, dayfirst: bool | None) -> pd.Series:
    """Dates such as 31/01/2005: a number above 12 tells what comes first, or else the regular steps of one reading."""
    parts = text.str.extract(_YEAR_LAST)
    first, second = parts[0].astype(int), parts[2].astype(int)
    seen = {True: first.gt(12).any(), False: second.gt(12).any()}
    if all(seen.values()):
        raise ValueError(
            f"{where}: some dates have the day first ({text[first.gt(12)].iloc[0]}), some the month "
            f"({text[second.gt(12)].iloc[0]}); {_WRITE}"
        )
    if dayfirst is not None and seen[not dayfirst]:
        other = text[(second if dayfirst else first).gt(12)].iloc[0]
        raise ValueError(f"{where}: dayfirst={dayfirst}, but {other!r} is not")
    if dayfirst is None and any(seen.values()):
        dayfirst = bool(seen[True])
    if dayfirst is not None:
        return _read_as(parts, dayfirst)
    readings = [found for found in (_read_as(parts, True), _read_as(parts, False)) if _regular(found)]
    if len(readings) != 1:
        raise ValueError(
            f"{where}: dates like {text.iloc[-1]!r} are ambiguous, no day is above 12: say dayfirst=True or "
            f"dayfirst=False, or {_WRITE}"
        )
    return readings[0]


def _read_as(parts: pd.DataFrame, dayfirst: bool) -> pd.Series:
    day, month = (parts[0], parts[2]) if dayfirst else (parts[2], parts[0])
    year = parts[3].where(parts[3].str.len() == 4, "20" + parts[3])
    stamp = year + "-" + month.str.zfill(2) + "-" + day.str.zfill(2)
    clock = parts[4].fillna("")
    if (clock == "").all():
        return pd.to_datetime(stamp, format="%Y-%m-%d")
    return pd.to_datetime(stamp + " " + clock.replace("", "00:00"), format="mixed")


def _regular(time: pd.Series) -> bool:
    """Whether there are many stamps at one and the same interval: days, half hours, or months on one day."""
    stamps = pd.DatetimeIndex(time.unique()).sort_values()
    month = stamps.year * 12 + stamps.month
    return len(stamps) > 2 and bool(
        stamps.to_series().diff().dropna().nunique() == 1 or ((month[1:] - month[:-1] == 1).all())
    )
