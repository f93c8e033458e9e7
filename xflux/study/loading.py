"""A study file read, with what is set on the command line, and its errors in words."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from xflux.files import at_home
from xflux.reading import blamed_on
from xflux.study.config import StudyConfig, StudyError


def load_study(path: str | Path, overrides: dict[str, Any] | None = None) -> StudyConfig:
    """Read and validate a study file.

    Parameters
    ----------
    path
        TOML file.
    overrides
        Dotted keys and their values, e.g. ``{"train.epochs": 10}`` (``--set train.epochs=10``).

    Raises
    ------
    StudyError
        Names every unknown key with the nearest valid one, every missing key, and every value of a wrong type.

    Examples
    --------
    >>> from importlib import resources
    >>> study = load_study(resources.files("xflux.data") / "study_template.toml", {"train.epochs": 10})
    >>> study.target.regions, study.train.epochs, study.variants
    ('latitude-bands', 10, ['bridge', 'sampled', 'sampled+total'])
    """
    path = at_home(path)
    try:
        with blamed_on(path, "a study file", StudyError):
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise StudyError(f"study file {str(path)!r} does not exist; `xflux new study.toml` writes one") from None
    for dotted, value in (overrides or {}).items():
        _set(content, dotted, value)
    with blamed_on(path, "a study file", StudyError):
        try:
            return StudyConfig.model_validate(content)
        except ValidationError as error:
            raise StudyError(f"study file {str(path)!r}:\n" + "\n".join(map(_explain, error.errors()))) from None


def parse_override(text: str) -> tuple[str, Any]:
    """One ``key=value`` of ``--set``, the value read as TOML, else as text.

    >>> parse_override("train.epochs=10"), parse_override("name=test")
    (('train.epochs', 10), ('name', 'test'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise StudyError(f"--set {text!r}: expected key=value, e.g. --set train.epochs=10")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return key.strip(), value.strip()


def _set(content: dict, dotted: str, value: Any) -> None:
    """Set a dotted key; a number names an entry of a list (``evaluation.products.0.files``)."""
    *parents, last = dotted.split(".")
    place: Any = content
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place[_entry(place, parent, dotted)]
        if not isinstance(place, dict | list):
            raise StudyError(f"--set {dotted}: {parent!r} is a value, not a section")
    place[last if isinstance(place, dict) else _entry(place, last, dotted)] = value


def _entry(place: list, key: str, dotted: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise StudyError(f"--set {dotted}: {key!r} is no entry of a list of {len(place)} (0 … {len(place) - 1})")
    return int(key)


def _explain(error: dict) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        valid = list(_section_at(error["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
        return f"  unknown key {where!r}; {hint}"
    if error["type"] == "missing":
        return f"  missing key {where!r}"
    if error["type"] == "value_error":
        return f"  {where!r}: {error['ctx']['error']}"
    return f"  {where!r}: {error['msg']} (given: {error['input']!r})"


def _section_at(location: tuple) -> type[BaseModel]:
    section: type[BaseModel] = StudyConfig
    for key in location:
        if key not in section.model_fields:  # an entry of a list, a name in a table of tables
            continue
        annotation = section.model_fields[key].annotation
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        section = next((a for a in inner if issubclass(a, BaseModel)), section)
    return section
