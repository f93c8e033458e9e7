"""Regions by name: which set, region or country a name means."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from xflux.regions.cover import latitude_band_limits
from xflux.regions.globe import GLOBAL
from xflux.regions.shapes import CHAPTER_NAMES, RECCAP2, SETS, countries, members

REGIONMASK = ("srex", "giorgi", "prudence", "ar6.land", "ar6.ocean", "ar6.all")
"""Sets of regionmask that need no file, and those of AR6, which regionmask downloads once."""
NAMES = (*SETS, "transcom", "latitude-bands", *REGIONMASK)


def bare(name: str) -> str:
    """For comparison: without accents, capitals and outer blanks."""
    text = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in text if not unicodedata.combining(letter)).casefold().strip()


_SHORT = {"rep": "republic", "dem": "democratic", "st": "saint", "is": "islands", "n": "north", "s": "south"}
_SHORT |= {"w": "western", "eq": "equatorial", "herz": "herzegovina"}


def _words(name: str) -> str:
    """The words of a name in any order: "Congo, Dem. Rep." is the Democratic Republic of the Congo."""
    words = re.findall(r"\w+", re.sub(r"[.'’`]", "", bare(name)))
    return " ".join(sorted({_SHORT.get(word, word) for word in words} - {"the", "of", "and"}))


def land_regions(names: Iterable[str]) -> dict[str, set[str]]:
    """Label → ISO_A3 codes of the countries of each region or country named.

    All names are looked up in one set where one has them all: RECCAP2's labels and names, its chapters, countries by
    name, common names too, or ISO_A3 code; a name before which a set stands, "countries:CHN", is of that set.

    Raises ValueError: a name that is none; near ones are listed.

    >>> sorted(land_regions(["KAJ", "Germany"])["KAJ"])
    ['JPN', 'KOR', 'PRK']
    """
    names = list(dict.fromkeys(names))
    tables = {name: _table(name) for name in SETS}
    whole = [table for table in tables.values() if all(_words(name) in table for name in names)]
    found = {}
    for name in names:
        set_name, _, own = name.rpartition(":")
        within = [tables[set_name]] if set_name in tables else whole[:1] or list(tables.values())
        match = next((table[_words(own)] for table in within if _words(own) in table), None)
        if match is None:
            raise ValueError(unknown(name))
        label, codes = match
        found[label] = codes
    return found


@cache
def _table(name: str) -> dict[str, tuple[str, set[str]]]:
    """The words of a name → label and countries of a set's regions."""
    regions = members(name)
    table = {_words(label): (label, codes) for label, codes in regions.items()}
    long_names = {"reccap2": RECCAP2, "countries": {}}.get(name, CHAPTER_NAMES)
    table |= {_words(long): (long, regions[label]) for label, long in long_names.items() if label in regions}
    if name == "countries":
        named = {text: iso for iso, row in countries().items() for text in (*row["also"].split(";"), row["name"])}
        table |= {_words(text): (text, regions[iso]) for text, iso in named.items() if text and iso in regions}
    return table


def unknown(name: str) -> str:
    """What to say of a name that is neither a set, a region nor a country."""
    if name.lower().endswith((".geojson", ".json", ".gpkg", ".shp")):
        return f"region {name!r} is unknown: give the shapes themselves, geopandas.read_file({name!r})."
    if re.search(r"\.(tiff?|zarr|nc4|hdf|h5|asc)$|\.nc:", name.lower()):
        return f"region {name!r} is unknown: open the file and give its map, as in xarray.open_dataset(file)[variable]."
    known = {bare(text): text for text in (*NAMES, *latitude_band_limits())}
    for set_name in SETS:
        known |= {bare(label): label for label, _ in _table(set_name).values()}
    inside = [text for key, text in known.items() if bare(name) and bare(name) in key]
    near = [known[key] for key in get_close_matches(bare(name), known, n=5, cutoff=0.6)]
    meant = list(dict.fromkeys([*near, *inside]))[:5]
    hint = f": did you mean {' or '.join(map(repr, meant))}?" if meant else "."
    return (
        f"region {name!r} is unknown{hint} Expected one of the sets "
        f"{', '.join(NAMES)}, a region of one, or a country by its name or ISO code (DEU)."
    )


def long_names(regions: str, labels: list[str]) -> list[str] | None:
    """The names of the regions of a set, or of regions and countries by name, that xflux ships; None for others.

    >>> long_names("EU, DEU", ["EU", "DEU", "GLOBAL"])
    ['Europe', 'Germany', 'Globe']
    """
    tables = {"reccap2": RECCAP2, "countries": {iso: row["name"] for iso, row in countries().items()}}
    tables |= dict.fromkeys(("reccap2-chapters", "reccap2-chapters-11"), CHAPTER_NAMES)
    known = tables.get(regions)
    if known is None:
        try:
            if set(land_regions(regions.split(", "))) != set(labels) - {GLOBAL}:
                return None
        except ValueError:
            return None
        known = tables["countries"] | CHAPTER_NAMES | RECCAP2
    return [{GLOBAL: "Globe", **known}.get(label, label) for label in map(str, labels)]
