"""The registry, and what people write brought to the one spelling that pint parses."""

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files

CARBON_MOLAR_MASS = 12.011
"""g mol-1 of carbon (IUPAC 2021, abridged)."""
CO2_MOLAR_MASS = 44.009
"""g mol-1 of CO2."""

CHARACTERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻₂−–‐‑µμº·⋅∙×\xa0\u202f\u2009\ufeff\x00", "0123456789-2----uu°****     ", "$\"'")
_SPELLINGS = (
    (r"CO_?\{?2\}?\s*-\s*C\b|\bC\s*-\s*CO_?\{?2\}?", "C"),  # CO2-C: the carbon in CO2
    (r"CO_(\{2\}|2)", "CO2"),
    (r"grid[ _-]?(cell|box)", r"grid\1"),
    (r"\s*\*\*\s*|\s*\^\s*", "^"),
    (r"\^?[({]\s*([+-]?\d+)\s*[)}]", r"^\1"),  # m^{-2}, m(-2)
    (r"[\[(](CO2|C|H2O)[\])]", r" \1 "),  # g[C]
    (r"\bof\b", " "),
    (r"\b(sq|square)[ .]*(?=(kilo)?met|k?m\b)", "square"),
    (r"(?<=[CgltWJ2O])m(?=\^?-2)", " m"),  # gCm-2
    (r"(?<=-\d)(?=[A-Za-z])", " "),  # m-2s-1
    (r"\bper\b", "/"),
    (r"(?<=[A-Za-z])-(?=[A-Za-z])|[._*](?=[A-Za-z])", " "),
)
_NAME = r"(?<![A-Za-z])(?>[A-Za-z]*(?:CO2|H2O)|[A-Za-z]+)"
_SUBSTANCE = re.compile(r"([PTGMkmun]?(?:g|t|mol)|molec)\s*(CO2|C|H2O)(?![A-Za-z0-9^])")
_POWER = re.compile(rf"({_NAME})\^?([+-]?\d+)(?!\.)")
_GRAMMAR = re.compile(rf"(?:{_NAME}(?:\*\*[+-]?\d{{1,2}})?|\b1\b|[\s/()*])*")
_NUMBER = re.compile(r"[x*\s]*((?!1(?![\d.eE^*]))\d*\.?\d+\.?(?:[eE][+-]?\d+)?(?:(?:\*\*|\^|[+-])[({]?[+-]?\d+[)}]?)?)")
_STEP = re.compile(r"(?<![\w.+^*-])(?!1\b)\d+[\s-]*(?:d|dy|days?|h|hrs?|hours?|min|minutes?|s|months?|yrs?|years?)\b")


@cache
def _tables() -> dict[str, dict]:
    """``units.toml``, the words by what is written: "grams" → "g"."""
    tables = tomllib.loads(files("xflux.data").joinpath("units.toml").read_text(encoding="utf-8"))
    return tables | {"words": {word: name for name, text in tables["words"].items() for word in text.split()}}


@cache
def _known() -> dict[str, str]:
    """Every unit, with a prefix or without → its definition."""
    known, mass = {}, {"C": CARBON_MOLAR_MASS, "CO2": CO2_MOLAR_MASS}
    for name, (definition, prefixes) in _tables()["units"].items():
        known[name] = definition.format_map(mass)
        known |= {prefix + name: f"{_tables()['prefixes'][prefix]!r} * {name}" for prefix in prefixes}
    return known


class UnitsError(ValueError):
    """A unit string that xflux does not accept, or two that do not convert into each other.

    >>> from xflux.units import factor
    >>> factor("PgC month-1", "PgC yr-1")
    Traceback (most recent call last):
        ...
    xflux.units.registry.UnitsError: cannot convert 'PgC month-1' to 'PgC yr-1': months and years differ in length; ...
    """


def refuse(text: str, why: str) -> UnitsError:
    return UnitsError(f"cannot read the units {text!r}: {why}")


def _normal(text: str) -> str:
    """The string in the registry's names and Python's operators: 'g C/m2/yr' → 'gC/m**2/year'."""
    cleaned = text.translate(CHARACTERS).strip().strip("[]").strip()
    number = _NUMBER.match(cleaned)
    if number:
        raise refuse(text, f"the number {number[1]!r} is not a unit: multiply the values by it, write the unit alone.")
    for pattern, replacement in _SPELLINGS:
        cleaned = re.sub(pattern, replacement, cleaned)
    letters, names = _tables()["letters"], _tables()["words"]
    words = re.sub(_NAME, lambda word: letters.get(word[0]) or names.get(word[0].lower(), word[0]), cleaned)
    joined = _SUBSTANCE.sub(r"\1\2", words)  # a substance on its own joins the amount before it
    normal = _POWER.sub(r"\1**\2", joined).strip()
    _check_grammar(text, normal)
    return normal


def _check_grammar(text: str, normal: str) -> None:
    """Say what is no unit in the string, so that pint is given nothing but names, powers and division."""
    if re.search(r"CO2[ -]?eq?(uiv\w*)?\b", normal, re.IGNORECASE):
        raise refuse(text, "CO2e, CO2 equivalents, are not known as an amount of carbon: they stand for other gases.")
    step = _STEP.search(normal)
    if step:
        raise refuse(
            text,
            f"'{step[0]}' is not a unit, it is the length of the data's step. Write the amount of a step, e.g. 'gC "
            "m-2': the time axis says how long each step is (the last of a year is often shorter).",
        )
    rest = normal[_GRAMMAR.match(normal).end() :]
    if rest:
        raise refuse(text, f"{rest!r} is not a unit with an integer power; expected e.g. 'gC m-2 d-1'.")
    if normal and not re.search(r"[A-Za-z]", normal) and re.sub(r"[\s1]", "", normal):
        raise refuse(text, "there is no unit in it; expected e.g. 'gC m-2 d-1'.")


@cache
def _registry():
    import pint

    registry = pint.UnitRegistry(None, on_redefinition="ignore")
    registry.load_definitions([f"{name} = {definition}" for name, definition in _known().items()])
    return registry


@lru_cache(maxsize=1024)
def measured(expression: str) -> tuple[float, dict[str, int], tuple[tuple[str, int], ...]]:
    """An expression's size in base units, its dimensions and its units; numbers alone, so that threads share them."""
    registry = _registry()
    quantity = registry.Quantity(registry.parse_expression(expression or "1"))
    dims = {name.strip("[]"): int(power) for name, power in quantity.dimensionality.items()}
    return float(quantity.to_root_units().magnitude), dims, tuple((n, int(p)) for n, p in quantity.unit_items())


def read(text: str) -> tuple[str, dict[str, int], tuple[tuple[str, int], ...]]:
    """The normal spelling, its dimensions and its units."""
    normal = _normal(text)
    for name in re.findall(_NAME, normal):
        if name not in _known():
            raise refuse(text, _unknown(name))
    try:
        return normal, *measured(normal)[1:]
    except Exception as problem:  # pint and Python's tokenizer raise many kinds on what is no expression
        raise refuse(text, f"{normal!r} is not a unit ({problem}); expected e.g. 'gC m-2 d-1'.") from None


def _unknown(name: str) -> str:
    if name in ("C", "CO2", "H2O"):
        return f"{name!r} alone is no amount; write e.g. 'gC' or 'kgCO2'."
    hint = f" (write {'k' + name[1:]!r}: kilo is a small k)" if name[0] == "K" and "k" + name[1:] in _known() else ""
    return f"{name!r} is not known{hint}; expected e.g. 'gC m-2 d-1', 'PgC yr-1', 'umolCO2 m-2 s-1'."
