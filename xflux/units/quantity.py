"""What kind of quantity a unit string is, of which substance, per area, per time, and factors from one to another."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from xflux.units.registry import CHARACTERS, UnitsError, measured, read, refuse

CARBON_SUBSTANCES = ("C", "CO2", "mol")
"""The substances that count as carbon."""
_AMOUNTS = {"water": "PgH2O", "energy": "ZJ"}
_DENSITIES = {"PgC": "gC m-2", "PgH2O": "gH2O m-2", "ZJ": "MJ m-2"}


def known_units(attrs: Mapping) -> "Units | None":
    """The units among attributes; None where they cannot be read: what is wrong is said where a flux is converted."""
    try:
        return parse(attrs.get("units", ""), attrs)
    except UnitsError:
        return None


def usual_amount(attrs: Mapping) -> str:
    """What integrals of a flux with these attributes are in where nothing else is asked for.

    >>> [usual_amount({"units": text}) for text in ("kgCO2 m-2 s-1", "mm d-1", "W m-2")]
    ['PgC', 'PgH2O', 'ZJ']
    """
    units = known_units(attrs)
    return _AMOUNTS.get(units.substance if units else "C", "PgC")


def usual_rate(attrs: Mapping) -> str:
    """The same per m2 and day, with the same power of ten: 1 PgC are 1e15 gC.

    >>> usual_rate({"units": "W m-2"})
    'MJ m-2 d-1'
    """
    return _DENSITIES[usual_amount(attrs)] + " d-1"


def spelled_out(attrs: Mapping) -> str:
    """The units with what a bare mass or mol is of, where other attributes say it; else as they stand.

    >>> spelled_out({"units": "kg m-2 s-1", "standard_name": "water_evapotranspiration_flux"})
    'kgH2O m-2 s-1'
    """
    text, given = str(attrs.get("units", "")), known_units(attrs)
    if given is None:
        return text
    _, dims, names = read(text)
    if "mass" not in dims and (given.substance != "water" or "substance" not in dims):
        return text  # it says so itself, or is a mol, which is one of CO2 where nothing else is said
    of = {"water": "H2O"}.get(given.substance, given.substance)
    short = {"second": "s", "day": "d"} | {n: n + of for n, _ in names if n.endswith(("g", "t", "mol"))}
    return " ".join(short.get(n, n) + (f"{p}" if p != 1 else "") for n, p in names)


@dataclass(frozen=True)
class Units:
    """A parsed unit.

    Attributes
    ----------
    text
        As written.
    substance
        "C", "CO2", "mol" (carbon all three), "water", "energy", or "1" for none.
    per_area
        Whether it is per area (m-2, ha-1, km-2).
    time
        What it is per: "fixed" (second, hour, day), "month", "year", or None for an amount.
    expression
        The unit for the private registry.
    amount
        The unit without its time: "PgC/month" → "PgC".

    Examples
    --------
    >>> units = parse("PgC month-1")
    >>> units.substance, units.per_area, units.time, units.amount
    ('C', False, 'month', 'PgC')
    """

    text: str
    substance: str
    per_area: bool
    time: str | None
    expression: str
    amount: str

    @property
    def kind(self) -> str:
        """ "carbon", "water" or "energy", which do not convert into each other; "1" or "area" for no flux."""
        return "carbon" if self.substance in CARBON_SUBSTANCES else self.substance


# What a description says of a bare mass or mol; units that it spells out come first, then other substances.
_SPELLED = (
    (r"\bas (carbon dioxide|co ?2)\b", "CO2"),
    (r"(\bas c(arbon)?\b|carbon mass|mass of carbon)(?! (di|mon)ox)", "C"),
    (r"\b[ptgmku]?g ?c\b|\bco ?2 ?c\b|\bc co ?2\b", "C"),  # "CO2 flux (kgC m-2 s-1)"
    (r"\b[ptgmku]?g ?co ?2\b", "CO2"),
)
_OTHERS = (
    (r"photon|photosynthetic(ally)? (active )?radiation|\bpar\b|\bppfd\b", "photons"),
    (r"methane|\bch4\b", "methane"),
    (r"carbon monoxide|\bco\b", "carbon monoxide"),
    (r"nitrous oxide|\bn2o\b", "nitrous oxide"),
)
_CARBON_DIOXIDE = re.compile(r"carbon dioxide|\bco ?2\b")
_CARBON = re.compile(r"\bcarbon\b(?! (di|mon)ox)")
_C_OR_CARBON = re.compile(rf"{_CARBON.pattern}|\bc\b")
_SAYS_WATER = re.compile("water|h2o|transpiration|evaporation|precipitation|runoff|rainfall|snowfall")


def _named_substance(attrs: Mapping) -> str | None:
    """What the attributes say a bare mass is: "C", "CO2", "water", "both" (C or CO2), another, or None."""
    words = [
        re.sub(r"[_\-]", " ", " ".join(str(attrs.get(k, "")) for k in keys).lower())
        for keys in (("substance", "species"), ("standard_name",), ("long_name",))
    ]
    together = " ".join(words).strip()
    for pattern, substance in (*_SPELLED, *_OTHERS):
        if re.search(pattern, together):
            return substance
    for text, carbon in zip(words, (_C_OR_CARBON, _CARBON, _CARBON), strict=True):
        dioxide = _CARBON_DIOXIDE.search(text)
        if dioxide or carbon.search(text):
            return "C" if not dioxide else "both" if _C_OR_CARBON.search(text) else "CO2"
    return "water" if _SAYS_WATER.search(together) else None


def parse(text: str, attrs: Mapping | None = None) -> Units:
    """Read a unit string.

    Parameters
    ----------
    text
        e.g. "gC m-2 d-1", "PgC/m2/yr", "kg-CO2/m2/month", "gC per m2 per year", "umolCO2 m-2 s-1", "W m-2".
    attrs
        Attributes of the variable: they may say what a bare mass is made of (``species``, ``standard_name``,
        ``long_name``, or ``substance`` = "C" | "CO2" | "water" to say it explicitly).

    Raises
    ------
    UnitsError
        Unknown or ambiguous: a bare mass ("g m-2 d-1") without attributes that name it (or that speak of carbon and of
        CO2), "C" alone, "PgC**2", a number before the unit, a step ("8day") in place of a unit of time.

    Examples
    --------
    >>> parse("PgC/m2/yr").substance, parse("PgC/m2/yr").time, parse("kgC m-2 s-1").time
    ('C', 'year', 'fixed')
    """
    if isinstance(text, Units):
        return text
    if not isinstance(text, str):
        raise UnitsError(f"units must be a string such as 'gC m-2 d-1', not {text!r}.")
    return _parse(text, _named_substance(attrs) if attrs else None)


@lru_cache(maxsize=512)
def _parse(text: str, named: str | None) -> Units:
    normal, dims, names = read(text)
    amounts = [d for d in dims if d in ("carbon", "water", "mass", "substance", "energy")]
    times = [d for d in dims if d in ("time", "month", "year")]
    if "temperature" in dims:
        raise refuse(text, "a temperature is not known as a part of a flux; expected e.g. 'gC m-2 d-1'.")
    if len(times) > 1 or any(dims[d] != -1 for d in times):
        raise refuse(text, "expected at most one unit of time, to the power -1.")
    time = {"time": "fixed"}.get(times[0], times[0]) if times else None
    amount = " ".join(n if p == 1 else f"{n}{p}" for n, p in names if n not in _CLOCKS)
    length = dims.get("length", 0)
    if not amounts and length == 2 and time is None:
        return Units(text, "area", False, None, normal, amount)
    if not amounts and length == 1:
        if named != "water" and not re.match(r"\s*[mc]m", text):
            raise refuse(text, "a length is no flux; a depth of water is written in mm.")
        return Units(text, "water", True, time, f"1e6 * gH2O / m**3 * ({normal})", amount)
    if len(amounts) > 1 or any(dims[d] != 1 for d in amounts):
        raise refuse(text, "expected one amount of carbon, water or energy, to the power 1.")
    if length not in (0, -2):
        raise refuse(text, "expected nothing but m-2 (ha-1, km-2) beside the amount and the time.")
    substance, context = _substance_of(text, amounts[0] if amounts else None, names, named)
    return Units(text, substance, length == -2, time, f"({normal}){context}", amount)


_CLOCKS = ("second", "minute", "hour", "day", "month", "year")


def _substance_of(text: str, amount: str | None, names: tuple, named: str | None) -> tuple[str, str]:
    """What an amount is of, and the factor that makes a bare mass or mol one of that."""
    if amount == "mass":
        return _mass_of(text, named)
    if amount == "substance":
        return _mol_of(text, named)
    if amount == "carbon":
        (unit,) = (n for n, _ in names if n.endswith(("C", "CO2")))
        return "mol" if "mol" in unit else "CO2" if unit.endswith("CO2") else "C", ""
    return amount or "1", ""


def _mass_of(text: str, named: str | None) -> tuple[str, str]:
    if named in ("C", "CO2", "water"):
        return named, f" * g{'H2O' if named == 'water' else named} / g"
    if named in (None, "both"):
        says = "the attributes speak of carbon and of CO2" if named else "the attributes do not say which"
        raise refuse(
            text,
            f"a bare mass is ambiguous, gC and gCO2 differ by a factor 3.664, and {says}; write 'gC …' or 'gCO2 …', or "
            "set attrs['species'] to 'C' or 'CO2'.",
        )
    raise refuse(text, f"the attributes say that this mass is {named}, not carbon; write 'gC …' or 'gCO2 …' if so.")


def _mol_of(text: str, named: str | None) -> tuple[str, str]:
    """A mol is one of CO2 unless the unit or the attributes name something else."""
    if named in (None, "both", *CARBON_SUBSTANCES):
        return "mol", " * molC / mol"
    if named == "water":
        return "water", " * molH2O / mol"
    raise refuse(text, f"the attributes say that these mol are {named}, not carbon; write 'molC' or 'molCO2' if so.")


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
