"""Whether two unit strings of a driver mean the same (K is not degC); pint decides."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_SPELLINGS = {
    "": "1", "-": "1", "none": "1", "unitless": "1", "fraction": "1", "dimensionless": "1", "0-1": "1", "(0 - 1)": "1",
    "%": "percent",
}  # fmt: skip
_TEMPERATURE = re.compile(r"(?:°|deg(?:ree)?s?)?[ _]?(c|celsius|k|kelvin)", re.IGNORECASE)


def same_units(given: str, expected: str) -> bool:
    """True where values in one can stand for values in the other; unknown spellings are compared as text.

    >>> same_units("K", "degC"), same_units("W m-2", "W/m2"), same_units("C", "degC")
    (False, True, True)
    """
    a, b = _normal(given), _normal(expected)
    if a == b:
        return True
    try:
        first, second = _parse(a), _parse(b)
        if first.dimensionality != second.dimensionality:
            return False
        registry = _registry()
        at = [registry.Quantity(x, first).to(second).magnitude for x in (0.0, 1.0)]
    except Exception:  # pint raises many kinds on text that is no unit
        return False
    return abs(at[0]) < 1e-9 and abs(at[1] - 1.0) < 1e-9


def _normal(text: str) -> str:
    text = " ".join(text.split())
    text = _SPELLINGS.get(text.lower(), text)
    temperature = _TEMPERATURE.fullmatch(text)
    if temperature:
        return "K" if temperature[1][0] in "kK" else "degC"
    text = re.sub(r"\^|\*\*", "", text)
    return re.sub(r"([A-Za-z%)])([+-]?\d+)", r"\1**\2", text)


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


@cache
def _parse(text: str) -> Any:
    return _registry().Unit(text)
