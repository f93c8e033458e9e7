"""Carbon-aware units: strings in, factors out.

Carbon is a dimension of its own: gC and gCO2 and mol of CO2 are amounts of carbon (12.011 g/mol, CO2 of 44.009 g/mol),
while a bare gram is not. ``month`` and ``year`` have no fixed length and are dimensions too, so that no conversion goes
through a mean month or year here: :mod:`xflux.temporal` knows the calendar.

pint does the algebra in a private registry, made when first needed; the application registry is left alone, and units
never wrap arrays.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import xarray as xr

CARBON_MOLAR_MASS = 12.011
"""g mol-1 of carbon (IUPAC 2021, abridged)."""
CO2_MOLAR_MASS = 44.009
"""g mol-1 of CO2."""

CARBON_SUBSTANCES = ("C", "CO2", "mol")
"""The substances that count as carbon."""

_DEFINITIONS = f"""
zetta- = 1e21 = Z-
exa- = 1e18 = E-
peta- = 1e15 = P-
tera- = 1e12 = T-
giga- = 1e9 = G-
mega- = 1e6 = M-
kilo- = 1e3 = k-
hecto- = 1e2 = h-
centi- = 1e-2 = c-
milli- = 1e-3 = m-
micro- = 1e-6 = u-
nano- = 1e-9 = n-
pico- = 1e-12 = p-
gC = [carbon]
tC = 1e6 gC
gCO2 = {CARBON_MOLAR_MASS / CO2_MOLAR_MASS!r} gC
tCO2 = 1e6 gCO2
molC = {CARBON_MOLAR_MASS} gC
gH2O = [water]
tH2O = 1e6 gH2O
molH2O = 18.015 gH2O
gram = [mass] = g
metre = [length] = m
ha = 1e4 m**2
second = [time] = s
minute = 60 s
hour = 3600 s
day = 86400 s
month = [calendar_month]
year = [calendar_year]
joule = [energy] = J
watt = J / s = W
calorie = 4.184 J
"""

# What may follow a prefix, as people write it → the name in the registry. Substances ride on the mass.
_TIMES = {
    "s": "second", "sec": "second", "secs": "second", "second": "second", "seconds": "second",
    "min": "minute", "mins": "minute", "minute": "minute", "minutes": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "hour": "hour", "hours": "hour",
    "d": "day", "dy": "day", "day": "day", "days": "day", "month": "month", "months": "month", "mon": "month",
    "mo": "month", "mth": "month", "y": "year", "yr": "year", "yrs": "year", "year": "year", "years": "year",
    "a": "year", "annum": "year",
}  # fmt: skip
_WORDS = {
    "gram": "g", "grams": "g", "kilogram": "kg", "kilograms": "kg", "milligram": "mg", "milligrams": "mg",
    "petagram": "Pg", "petagrams": "Pg", "teragram": "Tg", "teragrams": "Tg", "gigagram": "Gg", "gigagrams": "Gg",
    "megagram": "Mg", "megagrams": "Mg", "gigaton": "Gt", "gigatons": "Gt", "gigatonne": "Gt", "gigatonnes": "Gt",
    "gton": "Gt", "mton": "Mt", "megaton": "Mt", "megatons": "Mt", "megatonne": "Mt", "megatonnes": "Mt",
    "ton": "t", "tonne": "t", "tonnes": "t", "moles": "mol", "mole": "mol", "mols": "mol", "micromol": "umol",
    "micromole": "umol", "micromoles": "umol", "mumol": "umol", "millimol": "mmol", "nanomol": "nmol",
    "kilomol": "kmol", "meter": "m", "metre": "m", "meters": "m", "metres": "m", "sqm": "m2",
    "squarem": "m2", "squaremeter": "m2", "squaremetre": "m2", "squaremeters": "m2", "squaremetres": "m2",
    "squarekm": "km2", "sqkm": "km2",
    "hectare": "ha", "hectares": "ha",
    "watt": "W", "watts": "W", "joule": "J", "joules": "J", "carbon": "C", "co2": "CO2", "water": "H2O",
    "h2o": "H2O",
}  # fmt: skip
_CHARACTERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻₂−–‐‑µμ·⋅∙×", "0123456789-2----uu****", "$")
_SPELLINGS = (
    (r"CO_?\{?2\}?\s*-\s*C\b|\bC\s*-\s*CO_?\{?2\}?", "C"),  # CO2-C: the carbon in CO2
    (r"CO_(\{2\}|2)", "CO2"),
    (r"grid[ _-]?(cell|box)", r"grid\1"),
    (r"\s*\*\*\s*|\s*\^\s*", "^"),
    (r"\^[({]?\s*([+-]?\d+)(?:\s*[)}])?", r"^\1"),
    (r"\[(CO2|C|H2O)\]", r"\1"),  # g[C]
    (r"\bof\b", " "),
    (r"\b(sq|square)[ .]*(?=(kilo)?met|k?m\b)", "square"),
    (r"(?<=[Cglt2O])m(?=\^?-2)", " m"),  # gCm-2
    (r"(?<=-\d)(?=[A-Za-z])", " "),  # m-2s-1
    (r"\^?\(\s*([+-]\d+)\s*\)", r"^\1"),  # m(-2)
    (r"\bper\b|/", " / "),
    (r"(?<=[A-Za-z])-(?=[A-Za-z])|[._*](?=[A-Za-z])|\*", " "),
)
_AMOUNT = re.compile(r"(?:([PTGMkmun]?)(g|mol)|([PTGMk]?)(t))(CO2|C|H2O)?$")
_SUBSTANCE = re.compile(r"(CO2|C|H2O)$")
_PLACES = ("cell", "gridcell", "gridbox", "pixel", "region")
_TOKEN = re.compile(r"^(?P<unit>[A-Za-z]+?(?:O2|2O)?)(?:(?:\*\*|\^)?(?P<power>[+-]?\d+))?$")


class UnitsError(ValueError):
    """A unit string that xflux does not accept, or two that do not convert into each other.

    >>> factor("PgC month-1", "PgC yr-1")
    Traceback (most recent call last):
        ...
    xflux.units.UnitsError: cannot convert 'PgC month-1' to 'PgC yr-1': months and years differ in length; ...
    """


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


# What a description says of a bare mass or mol, first match first.
_SAYS = (
    (r"expressed as carbon|\bas c(arbon)?\b|carbon mass|mass of carbon|flux of carbon(?! (di|mon)ox)|^c\b", "C"),
    (r"\b[ptgmku]?g ?c\b|\bco ?2 ?c\b", "C"),  # "CO2 flux (kgC m-2 s-1)"
    (r"photon|photosynthetic(ally)? (active )?radiation|\bpar\b|\bppfd\b", "photons"),
    (r"methane|\bch4\b", "methane"),
    (r"carbon monoxide|\bco\b", "carbon monoxide"),
    (r"nitrous oxide|\bn2o\b", "nitrous oxide"),
    (r"carbon dioxide|\b([ptgmku]?g ?)?co ?2\b", "CO2"),
    (r"\bcarbon\b", "C"),
    (r"water|\bh2o\b|transpiration|evaporation|precipitation|runoff|rainfall|snowfall", "water"),
)


@lru_cache(maxsize=1)
def _registry():
    import pint

    registry = pint.UnitRegistry(None, on_redefinition="ignore")
    registry.load_definitions(_DEFINITIONS.strip().splitlines())
    return registry


def _tokens(text: str) -> list[str]:
    """The string cut into unit tokens, '/' before the inverse ones: 'PgC/m2/yr' → ['PgC', '/m2', '/yr']."""
    cleaned = text.strip().translate(_CHARACTERS).strip("[]")
    for pattern, replacement in _SPELLINGS:
        cleaned = re.sub(pattern, replacement, cleaned)
    tokens: list[str] = []
    inverse, depth = False, 0
    for word in re.findall(r"[()/]|[^\s()/]+", cleaned):
        if word == "/":
            inverse = True
        elif word in "()":
            depth += 1 if word == "(" else -1
            inverse = inverse and (word == "(" or depth > 0)
        else:
            tokens.append(f"/{word}" if inverse else word)
            inverse = inverse and depth > 0
    return tokens


def _refuse(text: str, why: str) -> UnitsError:
    return UnitsError(f"cannot read the units {text!r}: {why}")


def _merge(tokens: list[str], text: str) -> list[tuple[str, int]]:
    """(unit, power) of every token; a substance on its own joins the mass before it: 'kg', 'C' → 'kgC'."""
    merged: list[tuple[str, int]] = []
    for token in tokens:
        sign, word = (-1, token[1:]) if token.startswith("/") else (1, token)
        word = _WORDS.get(word.lower(), word)
        if word in ("1", ""):
            continue
        match = _TOKEN.match(word)
        if match is None:
            raise _refuse(text, f"{word!r} is not a unit with an integer power; expected e.g. 'gC m-2 d-1'.")
        unit, power = _WORDS.get(match["unit"].lower(), match["unit"]), int(match["power"] or 1)
        if _SUBSTANCE.match(unit) and not match["power"]:
            if merged and merged[-1][1] == 1 and re.fullmatch(r"[PTGMkmun]?(g|t|mol)", merged[-1][0]):
                merged[-1] = (merged[-1][0] + unit, merged[-1][1])
                continue
            raise _refuse(text, f"{unit!r} alone is no amount (Celsius? coulomb?); write e.g. 'gC' or 'kgCO2'.")
        merged.append((unit, sign * power))
    return merged


def _name(unit: str, text: str) -> tuple[str, str]:
    """(registry expression, role) of one unit: a substance, 'time:…', or 'power', 'length', 'area', 'mass', 'place'."""
    time = _TIMES.get(unit if len(unit) == 1 else unit.lower())
    if time is not None:
        return time, f"time:{time if time in ('month', 'year') else 'fixed'}"
    amount = _AMOUNT.match(unit)
    if amount:
        prefix, kind = amount[1] or amount[3] or "", amount[2] or amount[4]
        substance = amount[5]
        if kind == "mol":
            if substance == "H2O":
                return prefix + "molH2O", "water"
            return prefix + "molC", "mol"
        if substance is None:
            return prefix + {"g": "gram", "t": "tgram"}[kind], "mass"
        return prefix + kind + substance, {"H2O": "water"}.get(substance, substance)
    if unit in ("W", "mW", "kW", "MW", "GW", "TW", "PW"):
        return unit, "power"
    if unit in ("J", "kJ", "MJ", "GJ", "TJ", "PJ", "EJ", "ZJ"):
        return unit, "energy"
    if unit in ("m", "km", "cm", "mm"):
        return unit, "length"
    if unit in _PLACES:
        return "1", "place"
    if unit == "ha":
        return "ha", "area"
    raise _refuse(text, f"{unit!r} is not known; expected e.g. 'gC m-2 d-1', 'PgC yr-1', 'umolCO2 m-2 s-1'.")


def _named_substance(attrs: Mapping | None) -> str | None:
    """What the attributes say a bare mass is: "C", "CO2", "water" or None where they do not say."""
    attrs = attrs or {}
    words = " ".join(str(attrs.get(k, "")) for k in ("substance", "species", "standard_name", "long_name")).lower()
    words = re.sub(r"[_\-]", " ", words)
    return next((substance for pattern, substance in _SAYS if re.search(pattern, words)), None)


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
        Unknown or ambiguous: a bare mass ("g m-2 d-1") without attributes that name it, "C" alone, "PgC**2".

    Examples
    --------
    >>> parse("PgC/m2/yr").substance, parse("PgC/m2/yr").time, parse("kgC m-2 s-1").time
    ('C', 'year', 'fixed')
    """
    if isinstance(text, Units):
        return text
    if not isinstance(text, str):
        raise UnitsError(f"units must be a string such as 'gC m-2 d-1', not {text!r}.")
    substance = _named_substance(attrs) if attrs else None
    return _parse(text, substance)


@lru_cache(maxsize=512)
def _parse(text: str, named: str | None) -> Units:
    parts, amount, roles = [], [], {}
    for unit, power in _merge(_tokens(text), text):
        expression, role = _name(unit, text)
        count = power
        if role == "length" and abs(power) == 2:
            role, count = "area", power // 2
        elif role == "mass":
            role, expression = _mass_of(text, named, expression)
        elif role == "mol" and named is not None:
            role, expression = _mol_of(text, named, unit, expression)
        parts.append(f"({expression})**({power})")
        roles[role] = roles.get(role, 0) + count
        if not role.startswith("time:"):
            amount.append(unit if power == 1 else f"{unit}{power}")
    if not parts and re.sub(r"[\s1]", "", text):
        raise _refuse(text, "there is no unit in it; expected e.g. 'gC m-2 d-1'.")
    expression = " * ".join(parts) or "1"
    if {role: n for role, n in roles.items() if not role.startswith("time:")} == {"length": 1}:
        return _depth(text, named, expression, roles, amount)
    time, substance = _time_of(text, roles), _substance_of(text, roles)
    if roles.keys() & {"length"} or roles.get("area", -1) != -1 or roles.get("place", -1) != -1:
        if roles != {"area": 1}:
            raise _refuse(text, "expected nothing but m-2 (ha-1, km-2) beside the amount and the time.")
        return Units(text, "area", False, None, expression, " ".join(amount))
    return Units(text, substance, "area" in roles, time, expression, " ".join(amount))


def _depth(text: str, named: str | None, expression: str, roles: dict[str, int], amount: list[str]) -> Units:
    """A depth of water, 1 mm = 1 kg m-2; metres only where the attributes speak of water."""
    if named != "water" and not re.match(r"\s*[mc]m", text):
        raise _refuse(text, "a length is no flux; a depth of water is written in mm.")
    return Units(text, "water", True, _time_of(text, roles), f"1e6 * gH2O / m**3 * {expression}", " ".join(amount))


def _time_of(text: str, roles: dict[str, int]) -> str | None:
    times = [role for role in roles if role.startswith("time:")]
    if len(times) > 1 or any(roles[role] != -1 for role in times):
        raise _refuse(text, "expected at most one unit of time, to the power -1.")
    if times:
        return times[0].removeprefix("time:")
    return "fixed" if "power" in roles else None


def _substance_of(text: str, roles: dict[str, int]) -> str:
    found = [role for role in roles if role not in ("area", "length", "place") and not role.startswith("time:")]
    if len(found) > 1 or any(roles[role] != 1 for role in found):
        raise _refuse(text, "expected one amount of carbon, water or energy, to the power 1.")
    return {"power": "energy"}.get(found[0], found[0]) if found else "1"


def _mass_of(text: str, named: str | None, expression: str) -> tuple[str, str]:
    if named not in ("C", "CO2", "water"):
        raise _refuse(
            text,
            "a bare mass is ambiguous, gC and gCO2 differ by a factor 3.664; write 'gC …' or 'gCO2 …', or let the "
            "attributes (species, standard_name, long_name) say which.",
        )
    suffix = "H2O" if named == "water" else named
    return named, re.sub(r"tgram|gram", lambda kind: kind.group()[0] + suffix, expression)


def _mol_of(text: str, named: str, unit: str, expression: str) -> tuple[str, str]:
    """A mol is one of CO2 unless the unit or the attributes name something else."""
    if named in CARBON_SUBSTANCES or unit.endswith(("C", "CO2")):
        return "mol", expression
    if named == "water":
        return "water", expression.replace("molC", "molH2O")
    raise _refuse(text, f"the attributes say that these mol are {named}, not carbon; write 'molC' or 'molCO2' if so.")


def factor(source: str | Units, target: str | Units) -> float:
    """The number that turns values in ``source`` into values in ``target``.

    Raises
    ------
    UnitsError
        Different kinds of quantity (gC and gram, per area and not), or a month or year against anything but itself.

    Examples
    --------
    >>> round(factor("gC m-2 d-1", "umolCO2 m-2 s-1"), 6)
    0.963623
    >>> factor("kgC m-2", "gC m-2")
    1000.0
    """
    import pint

    source, target = parse(source), parse(target)
    registry = _registry()
    try:
        ratio = registry.parse_expression(source.expression) / registry.parse_expression(target.expression)
        return float(ratio.to("dimensionless").magnitude)
    except pint.DimensionalityError:
        raise UnitsError(_mismatch(source, target)) from None


def _mismatch(source: Units, target: Units) -> str:
    head = f"cannot convert {source.text!r} to {target.text!r}: "
    if source.substance != target.substance and not {source.substance, target.substance} <= set(CARBON_SUBSTANCES):
        return head + f"one is {source.substance}, the other {target.substance}."
    if source.per_area != target.per_area:
        return head + "only one is per area; multiply or divide by .flux.cell_area(), or use .flux.aggregate_regions."
    if None in (source.time, target.time) and source.time != target.time:
        return head + "only one is per time; the length of a step is needed, as .flux.convert_units has it."
    if source.time != target.time:
        return head + "months and years differ in length; use .flux.convert_units on data with a time axis."
    return head + "different quantities."


def is_flux(text: str, attrs: Mapping | None = None, substances: tuple[str, ...] = CARBON_SUBSTANCES) -> bool:
    """Whether the unit is an amount per time, with or without per area; carbon only unless ``substances`` says more.

    >>> is_flux("gC m-2 d-1"), is_flux("PgC"), is_flux("W m-2"), is_flux("W m-2", substances=("energy",))
    (True, False, False, True)
    """
    try:
        units = parse(text, attrs)
    except UnitsError:
        return False
    return units.substance in substances and units.time is not None


def flux_variables(ds: xr.Dataset, substances: tuple[str, ...] = CARBON_SUBSTANCES) -> list[Hashable]:
    """Names of a Dataset's fluxes by their units; cell areas, fractions, ``*_mad`` and ``*_std`` are none.

    >>> ds = xr.Dataset({"nee": ((), 1.0, {"units": "gC m-2 d-1"}), "nee_mad": ((), 1.0, {"units": "gC m-2 d-1"})})
    >>> flux_variables(ds)
    ['nee']
    """
    return [
        name
        for name, da in ds.data_vars.items()
        if not str(name).lower().endswith(("_mad", "_std"))
        and "units" in da.attrs
        and is_flux(da.attrs["units"], da.attrs, substances)
    ]
