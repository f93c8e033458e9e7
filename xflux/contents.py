"""What a flux says of itself beside its numbers: what it contains, which way is positive, per m2 of what it is.

Contents ride in ``includes_fire`` and ``includes_rivers`` (1 or 0, absent = unknown) and ``adjusted_for``
(comma-separated); the sign in CF's ``standard_name`` or in ``positive`` ("up": into the atmosphere, or "down").
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from xflux import units
from xflux.units.quantity import known_units
from xflux.values import RANGES, warn

CONTENTS = ("fire", "rivers")
BASES = ("land", "cell")
Flux = xr.DataArray | xr.Dataset | Mapping
_METHOD = re.compile(r"((?:\w+:\s*)+)(\w+)(?:\s+where\s+(\w+)(?:\s+over\s+(\w+))?)?")
_HORIZONTAL = ({"area"}, {"lat", "lon"}, {"latitude", "longitude"})


# --- contents ---


class ContentsError(ValueError):
    """Two fluxes that do not contain the same or run in opposite directions, or an adjustment that was made already.

    >>> check_contents({"includes_fire": 0}, {"includes_fire": 1})
    Traceback (most recent call last):
        ...
    xflux.contents.ContentsError: contents differ (includes_fire): the second includes fire, the first does not. ...
    """


def contents(obj: Flux) -> dict[str, bool | None]:
    """What a flux contains by its attributes: {"fire": True | False | None, "rivers": …}; None is unknown.

    Parameters
    ----------
    obj
        A flux (a Dataset needs exactly one), or its attributes.

    Examples
    --------
    >>> contents({"includes_fire": 1})
    {'fire': True, 'rivers': None}
    """
    attrs = _attrs(obj)
    return {name: _truth(attrs.get(f"includes_{name}")) for name in CONTENTS}


def check_contents(a: Flux, b: Flux, allow: Iterable[str] | str = (), option: str = "allow") -> dict[str, str]:
    """Check that two fluxes contain the same before they are compared or one constrains the other.

    Parameters
    ----------
    a, b
        Fluxes (a Dataset needs exactly one), or their attributes.
    allow
        Contents that may differ: "fire", "rivers" (or "includes_fire", …).
    option
        What the caller calls ``allow``, for the error.

    Returns
    -------
    dict
        For each content "same", "unknown" (one side does not say: never an error) or "different (allowed)". Record it.

    Raises
    ------
    ContentsError
        A difference that is not allowed: which side has what, and the adjustment that repairs it. An unknown ``allow``.

    Examples
    --------
    >>> check_contents({"includes_fire": 0}, {"includes_fire": 0.0, "includes_rivers": 1})
    {'fire': 'same', 'rivers': 'unknown'}
    """
    allowed, found = _allowed(allow, option), {}
    ours, theirs = contents(a), contents(b)
    for name in CONTENTS:
        if ours[name] is None or theirs[name] is None:
            found[name] = "unknown"
        elif ours[name] == theirs[name]:
            found[name] = "same"
        elif name in allowed:
            found[name] = "different (allowed)"
        else:
            has, lacks = titled(a, "the first"), titled(b, "the second")
            has, lacks = (has, lacks) if ours[name] else (lacks, has)
            raise ContentsError(
                f"contents differ (includes_{name}): {has} includes {name}, {lacks} does not. Take it out with "
                f"xflux.adjust.remove_{name}, or allow it by name: {option}=({name!r},)"
            )
    return found


def check_alike(a: Flux, b: Flux, allow: Iterable[str] | str = (), option: str = "allow") -> dict[str, str]:
    """Check that two fluxes may be compared or combined: contents, sign and what they are per m2 of.

    What one side does not say is unknown, never an error.

    Parameters
    ----------
    a, b, allow, option
        As in :func:`check_contents`, and so is what is returned.

    Raises
    ------
    ValueError
        Contents, signs or area bases differ, or one flux contradicts itself (ContentsError); an unknown area basis.

    Examples
    --------
    >>> check_alike({"positive": "up"}, {"positive": "down"})
    Traceback (most recent call last):
        ...
    xflux.contents.ContentsError: opposite signs: the first is positive into the atmosphere (positive='up'), ...
    """
    check_sign(a, b)
    _check_basis_of(a, b)
    return check_contents(a, b, allow, option)


def adjusted_for(obj: Flux) -> list[str]:
    """What was taken out of a flux or put into it already: ["fire"]."""
    return [w.strip() for w in str(_attrs(obj).get("adjusted_for", "")).split(",") if w.strip()]


def riding(obj: Flux) -> dict:
    """The attributes that hold for whatever is made of a flux: contents, adjustments and sign.

    >>> riding({"units": "gC m-2 d-1", "includes_fire": 0, "standard_name": "surface_upward_mass_flux_of_carbon"})
    {'includes_fire': 0, 'positive': 'up'}
    """
    attrs = _attrs(obj)
    kept = {key: attrs[key] for key in (*(f"includes_{c}" for c in CONTENTS), "adjusted_for") if key in attrs}
    return kept | _positive(obj)


def after_adjustment(flux: xr.DataArray, kind: str, added: bool | None) -> dict:
    """The attributes of a flux that ``kind`` was added to, or taken out of, or (None) exchanged in.

    An adjustment that is undone is struck off. The standard name is that of another flux now and goes; its sign stays.
    """
    undone = kind in adjusted_for(flux) and added is not None
    done = [k for k in adjusted_for(flux) if k != kind] + ([] if undone else [kind])
    attrs = {k: v for k, v in flux.attrs.items() if k not in ("adjusted_for", "standard_name")} | _positive(flux.attrs)
    if added is not None:
        attrs[f"includes_{kind}"] = int(added)
    if "long_name" in attrs:
        before = re.sub(f", with(out)? {kind}$", "", str(attrs["long_name"]))
        says = {True: f", with {kind}", False: f", without {kind}", None: f", adjusted for {kind}"}[added]
        attrs["long_name"] = before if undone else before + says
    return attrs | ({"adjusted_for": ", ".join(done)} if done else {})


def _allowed(allow: Iterable[str] | str, option: str) -> set[str]:
    given = [allow] if isinstance(allow, str) else list(allow)
    names = {str(n).removeprefix("includes_") for n in given}
    unknown = names - set(CONTENTS)
    if unknown:
        raise ContentsError(f"{option}={sorted(unknown)}: no such content; expected some of {', '.join(CONTENTS)}")
    return names


def _attrs(obj: Flux) -> Mapping:
    """The attributes of a flux; what a Dataset says of its contents holds for its flux, unless that says otherwise."""
    if isinstance(obj, xr.Dataset):
        fluxes = units.flux_variables(obj)
        own = obj.attrs if any(f"includes_{c}" in obj.attrs for c in CONTENTS) else {}
        return {**own, **obj[fluxes[0]].attrs} if len(fluxes) == 1 else own
    return obj.attrs if isinstance(obj, xr.DataArray) else obj


def titled(obj: Flux, role: str) -> str:
    """What an error calls a flux: its role, with its name where it has one."""
    name = getattr(obj, "name", None)
    return f"{role} ({name})" if isinstance(name, str) else role


def _truth(value: object) -> bool | None:
    """An attribute as True, False or None (unknown), whatever file format it has been through."""
    value = value.ravel()[0] if isinstance(value, np.ndarray) and value.size == 1 else value
    text = "" if value is None else _text(value).lower()
    if re.fullmatch(r"1(\.0)?|t(rue)?|y|yes\b.*|included\b.*|with\b.*", text):
        return True
    if re.fullmatch(r"0(\.0)?|f(alse)?|n|no( fires?)?|none|(ex|not in)cluded\b.*|without\b.*", text):
        return False
    return None


# --- sign ---


def sign(obj: Flux) -> str | None:
    """Which way a flux is positive: "up" (into the atmosphere), "down" (into the land), None where nothing says so.

    CF's ``standard_name`` ("…downward…", "…productivity…") and ``positive`` say it, else what is written about it in
    ``long_name``, ``comment`` and the like ("positive = uptake"), else its name: the field writes nee, nbe, ter and
    reco into the atmosphere, nbp and nep into the land.

    Parameters
    ----------
    obj
        A flux, or its attributes.

    Raises
    ------
    ContentsError
        ``standard_name`` and ``positive`` contradict each other.

    Examples
    --------
    >>> sign({"standard_name": "gross_primary_productivity_of_biomass_expressed_as_carbon"}), sign({})
    ('down', None)
    """
    return _said_sign(obj)[0]


def check_sign(a: Flux, b: Flux, roles: tuple[str, str] = ("the first", "the second")) -> None:
    """Raise where two fluxes say that they are positive in opposite directions."""
    (ours, why), (theirs, reason) = _said_sign(a), _said_sign(b)
    if None not in (ours, theirs) and ours != theirs:
        raise ContentsError(
            f"opposite signs: {titled(a, roles[0])} is positive {_WAYS[ours]} ({why}), {titled(b, roles[1])} "
            f"{_WAYS[theirs]} ({reason}). {_REMEDY}"
        )


def check_upward(obj: Flux, role: str) -> None:
    """Raise where a flux says that it is not positive into the atmosphere, as everything that is added up here is."""
    direction, why = _said_sign(obj)
    if direction == "down":
        raise ContentsError(
            f"the sign of {titled(obj, role)}: it is positive {_WAYS['down']} ({why}), expected into the atmosphere. "
            f"{_REMEDY}"
        )


def turned(flux: xr.DataArray) -> xr.DataArray:
    """``−flux``, with the sign that is then true in ``positive`` and without the names that were true before.

    Parameters
    ----------
    flux
        Any dims and units, which it keeps.

    Raises
    ------
    ContentsError
        Its ``standard_name`` and ``positive`` contradict each other.

    Examples
    --------
    >>> down = "surface_net_downward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_all_land_processes"
    >>> nbp = xr.DataArray([1.0], dims="x", name="nbp", attrs={"units": "gC m-2 d-1", "standard_name": down})
    >>> turned(nbp).values, turned(nbp).attrs, turned(nbp).name
    (array([-1.]), {'units': 'gC m-2 d-1', 'positive': 'up'}, 'nbe')
    """
    result = (-flux).assign_attrs(flux.attrs)
    direction = {"up": "down", "down": "up"}.get(sign(flux))
    for key in ("standard_name", "long_name", *RANGES):
        result.attrs.pop(key, None)
    if direction:
        result.attrs["positive"] = direction
    return result.rename(_TURNED_NAMES.get(str(flux.name), flux.name))


def after_sum(flux: xr.DataArray) -> dict:
    """The attributes of a flux's integral over an area: without the names of a flux per area; its sign stays."""
    gone = ("standard_name", "cell_measures", "cell_methods", *RANGES)
    attrs = {k: v for k, v in flux.attrs.items() if k not in gone} | _positive(flux)
    if "long_name" in attrs:
        attrs["long_name"] = _PER_AREA.sub("", without_units(str(attrs["long_name"]))).strip()
    return attrs


def as_statistic(flux: xr.DataArray, what: str) -> dict:
    """The attributes of what was made of a flux's values: without the standard name, which is the flux's own.

    >>> nee = xr.DataArray(0.0, name="nee", attrs={"long_name": "net exchange", "standard_name": "upward_flux"})
    >>> as_statistic(nee, "anomalies")
    {'long_name': 'net exchange, anomalies', 'positive': 'up'}
    """
    attrs = {k: v for k, v in flux.attrs.items() if k != "standard_name"}
    attrs |= _positive(flux) if "standard_name" in flux.attrs else {}  # what else says the sign stays
    return attrs | ({"long_name": f"{without_units(str(attrs['long_name']))}, {what}"} if "long_name" in attrs else {})


def without_units(text: str) -> str:
    """A long name without units in brackets, which are others once the values were converted.

    >>> without_units("net CO2 flux (kgC m-2 s-1), posterior [mean]")
    'net CO2 flux, posterior [mean]'
    """

    def kept(bracket: re.Match) -> str:
        try:
            return bracket[0] if units.parse(bracket[1]).substance == "1" else ""
        except units.UnitsError as error:
            return "" if "ambiguous" in str(error) else bracket[0]

    return re.sub(r"\s*[\[(]([^\])]*)[\])]", kept, text)


# The words of CF's standard names, and of CMIP's and our own long names.
_NAMED = (
    ("downward|into_(land|soil|vegetation|ocean)|uptake|productivity|primary_production", "down"),
    ("upward|emission|respiration|into_atmosphere|tendency_of_atmosphere", "up"),
)
_INTO_AIR = r"((source|release|emission)s?|up(ward)?s?\b|((in)?to|towards?) (the )?atmosphere)"
_INTO_LAND = r"(sinks?|uptakes?|down(ward)?s?\b|((in)?to|towards?) (the )?(land|surface|biosphere|ecosystem))"
_MEANS = r"[\s:=(-]*((values?|flux|sign|is|are|means?|for|denotes?|indicates?|a|an|the|net|land|carbon)s?\b[\s:=(-]*)*"
_CONVENTION = (
    (f"positive{_MEANS}{_INTO_LAND}|negative{_MEANS}{_INTO_AIR}", "down"),
    (f"negative{_MEANS}{_INTO_LAND}|positive{_MEANS}{_INTO_AIR}", "up"),
    (f"{_INTO_LAND}{_MEANS}positive|{_INTO_AIR}{_MEANS}negative", "down"),
    (f"{_INTO_LAND}{_MEANS}negative|{_INTO_AIR}{_MEANS}positive", "up"),
)
_DESCRIBED = (
    *_CONVENTION,
    (r"\b(out of|from) (the )?atmosphere|\batmosphere[- ]to[- ](the )?land\b", "down"),
    (r"flux (of \w+ )?(in)?to (the )?atmosphere|\bland[- ](in)?to[- ](the )?atmosphere", "up"),
    (
        r"^(?!.*(ocean|exchange|release|source)).*(\bsink\b|\buptake\b|net (biome|biospher\w+|ecosystem) producti)",
        "down",
    ),
)
_TEXTS = ("long_name", "comment", "description", "sign_convention", "note")
_BY_NAME = {**dict.fromkeys(("nee", "nbe", "ter", "reco"), "up"), **dict.fromkeys(("nbp", "nep"), "down")}
_TURNED_NAMES = {"nbp": "nbe", "nbe": "nbp", "nep": "nee", "nee": "nep"}
_WAYS = {"up": "into the atmosphere", "down": "downward, into the land"}
_REMEDY = (
    "Turn one with xflux.contents.turned(da), or, where the values are turned already, drop the attribute that is "
    "wrong and set attrs['positive'] to 'up' or 'down'."
)
_PER_AREA = re.compile(r"\s*\bper (unit area|m2|square met\w+)", re.IGNORECASE)


def _said_sign(obj: Flux) -> tuple[str | None, str]:
    """The direction, and what says so."""
    attrs = _attrs(obj)
    given, named = (_text(attrs.get(key, "")) for key in ("positive", "standard_name"))
    positive = next((way for way in _WAYS if given.lower().startswith(way)), None)
    standard = next((way for words, way in _NAMED if re.search(words, named, re.I)), None)
    if positive and standard and positive != standard:
        raise ContentsError(
            f"{titled(obj, 'a flux')} contradicts itself: positive={given!r}, standard_name={named!r}. Drop the one "
            "that is wrong."
        )
    by_name = _BY_NAME.get(str(getattr(obj, "name", "")).lower())
    if standard == "up" and by_name == "down" and not positive:  # −nbe, renamed: xarray keeps the attributes
        raise ContentsError(
            f"{titled(obj, 'a flux')} contradicts its standard_name={named!r}. Drop that where the values were turned, "
            "as in −nbe, or set attrs['positive']."
        )
    if positive or standard:
        return positive or standard, f"standard_name={named!r}" if standard else f"positive={given!r}"
    for key in _TEXTS:
        text = re.sub(r"[\s_]+", " ", _text(attrs.get(key, "")))
        rules = _DESCRIBED if key == "long_name" else _CONVENTION
        described = next((way for words, way in rules if re.search(words, text, re.I)), None)
        if described:
            return described, f"{key}={text!r}"
    return by_name, "by its name" if by_name else ""


def _text(value: object) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip().strip("\0")


def _positive(obj: Flux) -> dict:
    """The sign as an attribute, where something says it."""
    direction = sign(obj)
    return {"positive": direction} if direction else {}


# --- area basis ---


def check_basis(basis: str) -> str:
    basis = str(basis).strip().lower()
    if basis not in BASES:
        raise ValueError(f"area_basis={basis!r} is unknown; expected 'land' or 'cell': what the flux is per m2 of.")
    return basis


def area_basis(obj: xr.DataArray | xr.Dataset, given: str | None = None) -> str | None:
    """Whether a flux is per m2 of "land" or of the whole "cell"; None where nothing says so.

    Parameters
    ----------
    obj
        Its ``attrs["area_basis"]``, else its CF ``cell_methods`` are read.
    given
        Said by the caller, and then true.

    Raises
    ------
    ValueError
        Another basis: an unknown word, or a mean over something else than land or the cell ("area: mean where crops").

    Examples
    --------
    >>> area_basis(xr.DataArray(attrs={"cell_methods": "area: mean where land time: mean"}))
    'land'
    >>> area_basis(xr.DataArray(attrs={"cell_methods": "area: mean where land over all_area_types"}))
    'cell'
    """
    own = given or obj.attrs.get("area_basis")
    return check_basis(own) if own else _from_cell_methods(str(obj.attrs.get("cell_methods", "")))


def assumed_area_basis(obj: xr.DataArray, given: str | None = None) -> tuple[str, bool]:
    """The basis, and whether it had to be assumed: then it is "cell", with a warning."""
    basis = area_basis(obj, given)
    if basis is None:
        warn(
            "the flux does not say whether it is per m2 of land or of the whole cell; area_basis 'cell' is assumed. "
            "Set attrs['area_basis'] to 'land' or 'cell', or give area_basis=."
        )
    return basis or "cell", basis is None


def _from_cell_methods(methods: str) -> str | None:
    """CF 7.3.3: a mean "where X" is per area of X, "where X over Y" per area of Y."""
    for names, method, where, over in _METHOD.findall(re.sub(r"\(.*?\)", " ", methods)):
        axes = set(re.findall(r"\w+", names))
        if method != "mean" or not any(horizontal <= axes for horizontal in _HORIZONTAL):
            continue
        kind = (over or where or "all_area_types").lower()
        if kind not in ("land", "all_area_types"):
            raise ValueError(
                f"cell_methods {methods!r}: the flux is per m2 of {kind}, neither of land nor of the cell. Multiply it "
                f"by the share of {kind} in the cell and give area_basis='cell', or drop cell_methods if it is wrong."
            )
        return "land" if kind == "land" else "cell"
    return None


def _check_basis_of(a: Flux, b: Flux) -> None:
    """Per m2 of land against per m2 of the cell; amounts by region have no such basis any more."""
    if not all(isinstance(x, xr.DataArray) and _per_area(x) for x in (a, b)):
        return
    if all(a.attrs.get(key) == b.attrs.get(key) for key in ("area_basis", "cell_methods")):
        return
    ours, theirs = area_basis(a), area_basis(b)
    if None not in (ours, theirs) and ours != theirs:
        raise ContentsError(
            f"area_basis differs: {titled(a, 'the first')} is per m2 of {ours}, {titled(b, 'the second')} per m2 of "
            f"{theirs}. Multiply the one per m2 of land by the land fraction and set its attrs['area_basis'] = 'cell'."
        )


def _per_area(flux: xr.DataArray) -> bool:
    if "region" in flux.dims or "regions" in flux.attrs:
        return False
    known = known_units(flux.attrs) if "units" in flux.attrs else None
    return known is None or known.per_area
