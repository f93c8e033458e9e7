"""Factors from one unit to another, of fluxes and of drivers."""

import re

from xflux.units.quantity import Units, parse
from xflux.units.registry import CHARACTERS, UnitsError, measured, read


def factor(source: str | Units, target: str | Units) -> float:
    """The number that turns values in ``source`` into values in ``target``.

    Parameters
    ----------
    source, target
        Units as :func:`parse` reads them.

    Raises
    ------
    UnitsError
        An unknown unit, different kinds of quantity (gC and gram, per area and not), or a month or year against
        anything but itself.

    Examples
    --------
    >>> round(factor("gC m-2 d-1", "umolCO2 m-2 s-1"), 6)
    0.963623
    >>> factor("kgC m-2", "gC m-2")
    1000.0
    """
    source, target = parse(source), parse(target)
    ours, theirs = measured(source.expression), measured(target.expression)
    if ours[1] != theirs[1]:
        raise UnitsError(_mismatch(source, target))
    return ours[0] / theirs[0]


def _mismatch(source: Units, target: Units) -> str:
    head = f"cannot convert {source.text!r} to {target.text!r}: "
    if source.kind != target.kind:
        return head + f"one is {source.substance}, the other {target.substance}."
    if source.per_area != target.per_area:
        return head + "only one is per area; multiply or divide by .flux.cell_area(), or use .flux.aggregate_regions."
    if None in (source.time, target.time) and source.time != target.time:
        return head + "only one is per time; the length of a step is needed, as .flux.convert_units has it."
    if source.time != target.time:
        return head + "months and years differ in length; use .flux.convert_units on data with a time axis."
    return head + "different quantities."


# Spellings of a whole unit, in lower case without blanks; a quantity's own name is how MODIS writes that it has none.
_DRIVERS = {
    **dict.fromkeys(("", "-", "none", "unitless", "fraction", "dimensionless", "0-1", "(0-1)", "reflectance", "evi",
                     "ndvi", "ndwi", "unity", "proportion"), "1"),
    **dict.fromkeys(("%", "percent", "percentage", "pct"), "percent"),
}  # fmt: skip
_TEMPERATURE = re.compile(r"(?:°|o|degrees?|degs?)?[ _.]?(c|celsius|k|kelvins?)", re.IGNORECASE)
# A depth of water, its mass per area and grams of water are one thing in a driver: 1 mm = 1 kg m-2.
_WATER = ("1", "g / gH2O", "gH2O / g", "m**3 / (1e6 * g)", "1e6 * g / m**3", "m**3 / (1e6 * gH2O)",
          "1e6 * gH2O / m**3")  # fmt: skip


def conversion(source: str, target: str) -> tuple[float, float]:
    """(scale, offset) that turn values of a driver in ``source`` into values in ``target``: values · scale + offset.

    Parameters
    ----------
    source, target
        What :func:`parse` knows, and temperatures, pressures, fractions and percent; a mass of water per area is its
        depth.

    Raises
    ------
    UnitsError
        Different kinds of quantity, or a unit that is not known and not the same text.

    Examples
    --------
    >>> conversion("kg m-2 s-1", "mm d-1"), conversion("K", "degC"), conversion("%", "1")
    ((86400.0, 0.0), (1.0, -273.15), (0.01, 0.0))
    """
    have, want = _driver(source), _driver(target)
    if have == want:
        return 1.0, 0.0
    if {have, want} == {"K", "degC"}:
        return 1.0, 273.15 if want == "K" else -273.15
    ours, theirs = ("0.01" if unit == "percent" else read(unit)[0] or "1" for unit in (have, want))
    for context in _WATER:
        size, dims, _ = measured(f"({ours}) / ({theirs}) * {context}")
        if not any(dims.values()):
            return float(f"{size:.15g}"), 0.0
    try:
        return factor(source, target), 0.0
    except UnitsError:
        raise UnitsError(f"cannot convert {source!r} to {target!r}: different quantities.") from None


def same(given: str, expected: str) -> bool:
    """Whether values in one unit are those in another; unknown spellings are compared as text.

    Parameters
    ----------
    given, expected
        Units as in :func:`conversion`.

    Examples
    --------
    >>> same("K", "degC"), same("W m-2", "W/m2"), same("C", "degC"), same("kg m-2 d-1", "mm d-1")
    (False, True, True, True)
    """
    try:
        scale, offset = conversion(given, expected)
    except UnitsError:
        return " ".join(given.split()) == " ".join(expected.split())
    return abs(scale - 1) < 1e-9 and abs(offset) < 1e-9


def _driver(text: str) -> str:
    """A driver's unit with the spellings of temperatures and of no unit made one."""
    text = re.sub(r"\bm of water( equivalent)?\b", "m", " ".join(text.translate(CHARACTERS).replace("℃", "°C").split()))
    temperature = _TEMPERATURE.fullmatch(text)
    if temperature:
        return "K" if temperature[1][0] in "kK" else "degC"
    return _DRIVERS.get(text.lower().replace(" ", ""), text)
