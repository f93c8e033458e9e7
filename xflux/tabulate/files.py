"""From what stands on a command line to products by name: patterns, files a year, several inversions, regions."""

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import xarray as xr

from xflux import temporal
from xflux.catalogue import open_product, products
from xflux.reading import blamed_on, matching, one_after_another, open_lazily
from xflux.regions.names import NAMES, land_regions
from xflux.values import warn

_DATE = re.compile(r"[-_.]?(?<!\d)(?:1[6-9]|20|21)\d\d(?:[-_.]?\d\d){0,2}(?!\d)")
_SHAPES = (".geojson", ".json", ".gpkg", ".shp")


def named_files(given: Iterable[str]) -> dict[str, list[str]]:
    """Name → files, of files, folders (Zarr) and quoted patterns, with or without a name before them; "" has none.

    >>> named_files(["CTE=" + __file__])["CTE"] == [__file__]
    True
    """
    found: dict[str, list[str]] = {}
    for one in given:
        name, _, pattern = one.rpartition("=")
        if Path(one).exists() or "/" in name:
            name, pattern = "", one
        found.setdefault(name, []).extend(expanded(pattern))
    return {name: list(dict.fromkeys(paths)) for name, paths in found.items()}


def expanded(pattern: str) -> list[str]:
    """The files that a pattern (``*``, ``**``, ``?``) names, sorted; a remote address as it is.

    Raises FileNotFoundError: there is none.

    >>> expanded(__file__) == [__file__]
    True
    """
    if "://" in pattern or Path(pattern).exists():
        return [pattern]
    found = [str(path) for path in matching(pattern)]
    if not found:
        kind = "matches" if any(c in pattern for c in "*?[") else "is called"
        raise FileNotFoundError(f"no file {kind} {pattern!r}")
    return found


def open_named(files: dict[str, list[str]], product: str | None = None, land_fraction=None) -> dict[str, xr.Dataset]:
    """Datasets by product, lazy: a published product by its name, else files as they are.

    Unnamed files that differ only in a date are one product, one after another, where their times do not overlap;
    other files are a product each, called like the file.
    """
    if product is not None:
        given = {name: paths for name, paths in files.items() if name} or files[""]
        return {product: open_product(product, given, land_fraction=land_fraction)}
    found: dict[str, xr.Dataset] = {}
    for name, paths in files.items():
        for label, group in ({name: paths} if name else _alike(paths)).items():
            parts = {path: _opened(path) for path in group}
            if name or not _overlapping(parts):
                found[label] = _one_after_another(parts)
            else:
                found |= {_stem(path): ds for path, ds in parts.items()}
    _hint(files)
    return found


def _stem(path: str) -> str:
    return re.sub(r"\.(nc\d?|zarr|cdf|netcdf|h5)$", "", Path(path).name, flags=re.IGNORECASE)


def _alike(paths: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(_DATE.sub("", _stem(path)).strip("-_.") or _stem(path), []).append(path)
    return {_stem(group[0]) if len(group) == 1 else name: group for name, group in groups.items()}


def _opened(path: str) -> xr.Dataset:
    ds = open_lazily(path)
    try:
        return temporal.standardise(ds)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _overlapping(parts: dict[str, xr.Dataset]) -> bool:
    if len(parts) > 1 and not all("time" in ds.dims for ds in parts.values()):
        return True
    ends = sorted((ds["time"].values[0], ds["time"].values[-1]) for ds in parts.values()) if len(parts) > 1 else []
    return any(stop >= start for (_, stop), (start, _) in pairwise(ends))


def _one_after_another(parts: dict[str, xr.Dataset]) -> xr.Dataset:
    paths = list(parts)
    if len(paths) == 1:
        return parts[paths[0]]
    if _overlapping(parts):
        raise ValueError(f"the times of {' and '.join(paths)} overlap, or they have none: give each time once")
    try:
        return one_after_another(list(parts.values()))
    except ValueError as error:
        raise ValueError(f"{' and '.join(paths)} are on different grids or calendars: {error}") from error


def _hint(files: dict[str, list[str]]) -> None:
    """Where a file is called like a published product, which has its own sign, units and basis."""
    names = [Path(path).name for paths in files.values() for path in paths]
    for product, patterns in products()["files"].items():
        globs = [re.sub(r"<\w+>|Y{4}(M{2})?(D{2})?|_v?\d[\w.]*(?=\.nc)", "*", text) for text in patterns.split(", ")]
        for name in names:
            if any(fnmatch(name, one) for one in globs):
                warn(
                    f"{name} is called like the product {product!r}: --product {product} reads it with that "
                    f"product's sign, units and area basis; it was read as an ordinary file."
                )
                return


def regions_of(text: str):
    """What ``--regions`` says: a set, regions or countries "EU,USA", a box "west,south,east,north", a file.

    A file is a netCDF mask, FILE:VARIABLE where it has several, or shapes (GeoJSON, GeoPackage, shapefile).

    >>> regions_of("-10,35,30,60"), regions_of("EU, USA"), regions_of("reccap2")
    ((-10.0, 35.0, 30.0, 60.0), ['EU', 'USA'], 'reccap2')
    """
    if Path(text).is_file():
        return _regions_in(text)
    path, _, name = text.rpartition(":")
    if Path(path).is_file():
        mask = _regions_in(path)
        if name not in mask:
            raise ValueError(f"--regions {text!r}: {path} has no variable {name!r}, but {', '.join(map(str, mask))}")
        return mask[name]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        box = tuple(map(float, parts))
    except ValueError:
        box = ()
    if box:
        if len(box) != 4:
            raise ValueError(f"--regions {text!r}: a box is west,south,east,north, four numbers")
        return box
    if len(parts) < 2 or _is_one_name(text):
        return text
    return parts


def _is_one_name(text: str) -> bool:
    """Some countries have a comma in their name."""
    try:
        return bool(text in NAMES or land_regions([text]))
    except ValueError:
        return False


def _regions_in(path: str):
    if path.lower().endswith(_SHAPES):
        try:
            import geopandas
        except ImportError as error:
            raise ImportError(f"--regions {path}: shapes need geopandas; pip install geopandas") from error
        with blamed_on(path, "a file of shapes"):
            return geopandas.read_file(path)
    if "transcom" in Path(path).name.lower():
        return f"transcom:{path}"
    with blamed_on(path, "a netCDF mask of regions"), xr.open_dataset(path) as ds:
        return ds.load()
