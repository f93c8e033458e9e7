"""The table of products: what each published product calls, measures and omits, as data.

A row of ``xflux/data/products.toml`` becomes a frozen :class:`Product`. Users add rows with a dict, a TOML file
or ``$XFLUX_PRODUCTS``; a row is checked when it is read, so that a misspelt key is not a silent default. The rows are
dataclasses, not models of pydantic, which ``import xflux`` would have to import.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path

from xflux.files import at_home
from xflux.reading import blamed_on

_STEPS = re.compile(r"^(month|year|day|8day|\d+h|none)$")
_KINDS = ("decode", "filename", "start_date", "group")


class ProductError(ValueError):
    """A product, a table row or a file that is not what it is said to be.

    >>> from xflux import open_product
    >>> open_product("CarbonTraker", "CT2022.nc")
    Traceback (most recent call last):
        ...
    xflux.catalogue.table.ProductError: no product 'CarbonTraker' in the table. Did you mean carbontracker, ...
    """


@dataclass(frozen=True)
class Variable:
    """One variable of a product: its names and units as published, and what it becomes.

    ``units`` maps each spelling in the files to the one that ``xflux.units`` reads; ``units_absent`` is what a missing
    one means; ``any_units`` accepts whatever flux per area xflux reads (no file was seen); ``substance`` is what a
    bare mass ("kg m-2 s-1") is of. ``sign`` is −1 where the published sign is opposite to ours. ``extensive`` names the
    published cell area that an amount per cell is divided by. ``match`` is a pattern that the file name or the
    attributes must contain (openghg's one ``flux``). ``kind`` is flux, area, fraction or other; ``static`` drops time.
    """

    name: str
    names: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)
    sign: int = 1
    extensive: str = ""
    match: str = ""
    long_name: str = ""
    kind: str = "flux"
    select: Mapping[str, int] = field(default_factory=dict)
    includes_fire: bool | None = None
    includes_rivers: bool | None = None
    adjusted_for: str = ""
    units_absent: str = ""
    any_units: bool = False
    substance: str = ""
    static: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Product:
    """One row of the table. ``name``, ``title`` and ``variables`` are required; the rest has plain defaults.

    ``requires`` names the variables without which the files are not this product, ``foreign`` published names that
    only files of other products have. ``dims`` for ``time`` are exclusive: files with another time dim are refused.
    """

    name: str
    title: str
    variables: tuple[Variable, ...]
    aliases: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    citation: str = ""
    traps: tuple[str, ...] = ()
    evidence: str = ""
    confidence: str = ""
    checked: str = "on its description"
    sign: str = "positive into the atmosphere"
    area_basis: str = ""
    requires: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    member_names: tuple[str, ...] = ()
    ensemble: str = "member"
    label: tuple[str, ...] = ()
    time: str = "decode"
    time_pattern: tuple[str, ...] = ()
    time_optional: bool = False
    first_month: str = ""
    valid_years: tuple[str, str] | tuple[()] = ()
    step: str = ""
    steps: Mapping[str, str] = field(default_factory=dict)
    stamp: str = "inside"
    missing: tuple[float, ...] = ()
    max_latitude: float = 90.0
    zero_cells: float = 0.0
    hdf5_groups: bool = False
    statistics: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    def unlike(self, path: str | Path, why: str) -> ProductError:
        """The error of a file that is no such product."""
        return ProductError(f"{Path(path).name} does not look like {self.name}: {why}")


_DIMS = {
    "lat": ("lat", "latitude", "lat_FULL", "nav_lat", "y"),
    "lon": ("lon", "longitude", "lon_FULL", "nav_lon", "x"),
    "time": ("time", "Time", "time_counter", "valid_time", "forecast_reference_time", "month"),
}


def dim_names(product: Product, dim: str) -> tuple[str, ...]:
    """The names under which ``dim`` may be published: the row's own first, then the usual ones."""
    own = product.dims.get(dim, ())
    return (*own, *(n for n in _DIMS.get(dim, (dim,)) if n not in own))


def load_table(extra: Mapping | str | Path | None = None) -> dict[str, Product]:
    """All products by name: the shipped table, then ``$XFLUX_PRODUCTS``, then ``extra`` (later rows win).

    >>> load_table()["gcp-inversions"].variables[0].name
    'nbe'
    """
    table = dict(_shipped())
    if os.environ.get("XFLUX_PRODUCTS"):
        table |= _parse(os.environ["XFLUX_PRODUCTS"])
    if extra is not None:
        table |= _parse(extra)
    return table


def find_product(name: str, table: Mapping[str, Product]) -> Product:
    """The product called ``name`` (or by one of its aliases; case and punctuation do not matter).

    >>> find_product("GFED 4.1s", load_table()).name
    'gfed4.1s'
    """
    keys = {}
    for product in table.values():
        keys |= {_plain(alias): product for alias in product.aliases}
    keys |= {_plain(product.name): product for product in table.values()}
    found = keys.get(_plain(name))
    if found is None:
        near = [keys[k].name for k in get_close_matches(_plain(name), keys, n=3)]
        hint = f" Did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
        raise ProductError(
            f"no product {name!r} in the table.{hint} Known: {', '.join(sorted(table))}. "
            "Add your own with table= or $XFLUX_PRODUCTS (docs/howto/add_a_product.md)."
        )
    return found


@cache
def _shipped() -> dict[str, Product]:
    return _parse(tomllib.loads(files("xflux").joinpath("data/products.toml").read_text(encoding="utf-8")))


def _parse(source: Mapping | str | Path) -> dict[str, Product]:
    """Rows from a mapping or from a TOML file."""
    if isinstance(source, str | Path):
        path = at_home(source)
        if not path.is_file():
            raise ProductError(f"product table {str(path)!r} is not a file: give a TOML file or a dict of rows")
        with blamed_on(path, "a TOML table of products", ProductError):
            rows = tomllib.loads(path.read_text(encoding="utf-8-sig"))
            if not rows:
                raise ProductError(f"product table {str(path)!r} is empty")
            return _rows(rows)
    return _rows(source)


def _rows(source: Mapping) -> dict[str, Product]:
    if "variables" in source:
        raise ProductError("a product table is {name: row}: got one bare row; wrap it as {'my-product': row}")
    return {name: _product(name, row) for name, row in source.items()}


def _product(name: str, row: Mapping) -> Product:
    """One checked row."""
    _check_keys(f"product {name!r}", row, Product)
    if not row.get("variables"):
        raise ProductError(f"product {name!r}: a row needs at least one [{name}.variables.<name>] with its 'names'")
    values = {k: _frozen(v) for k, v in row.items() if k != "variables"}
    values["dims"] = {k: _frozen([v] if isinstance(v, str) else v) for k, v in row.get("dims", {}).items()}
    values["variables"] = tuple(_variable(name, n, v) for n, v in row["variables"].items())
    product = Product(**{"name": name, "title": name, **values})
    _check_choices(product)
    return product


def _variable(product: str, name: str, row: Mapping) -> Variable:
    if not isinstance(row, Mapping):
        raise ProductError(f"product {product!r}: variables.{name} needs a table with 'names' and 'units', got {row!r}")
    where = f"product {product!r}, variable {name!r}"
    _check_keys(where, row, Variable)
    values = {k: _frozen(v) for k, v in row.items()}
    if isinstance(row.get("names"), str):
        values["names"] = (row["names"],)
    if isinstance(row.get("units"), str):
        values["units"] = {row["units"]: row["units"]}
    variable = Variable(**{"name": name, "names": (name,), **values})
    if variable.sign not in (1, -1):
        raise ProductError(f"{where}: sign is 1 or -1, got {variable.sign!r}")
    if variable.kind not in ("flux", "area", "fraction", "other"):
        raise ProductError(f"{where}: kind is 'flux', 'area', 'fraction' or 'other', got {variable.kind!r}")
    if variable.kind == "flux" and not variable.units:
        raise ProductError(f"{where}: a flux needs 'units' (the published spelling, or a table published = ours)")
    return variable


def _check_keys(where: str, row: Mapping, cls: type) -> None:
    allowed = {f.name for f in fields(cls)} - {"name"}
    unknown = sorted(set(row) - allowed)
    if unknown:
        near = {k: get_close_matches(k, allowed, n=1) for k in unknown}
        hints = ", ".join(f"{k!r}" + (f" (did you mean {v[0]!r}?)" if v else "") for k, v in near.items())
        raise ProductError(f"{where}: unknown key {hints}; allowed are {', '.join(sorted(allowed))}")
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    missing = sorted(required - {"name", "title", "variables", "names"} - set(row))
    if missing:
        raise ProductError(f"{where}: missing key {', '.join(missing)}")


def _check_choices(product: Product) -> None:
    where = f"product {product.name!r}"
    strangers = [n for n in product.requires if n not in {v.name for v in product.variables}]
    if strangers:
        raise ProductError(f"{where}: requires {strangers}, which are none of its variables")
    if product.time not in _KINDS:
        raise ProductError(f"{where}: time is one of {', '.join(_KINDS)}, got {product.time!r}")
    if product.area_basis not in ("", "land", "cell", "cell_methods"):
        given = product.area_basis
        raise ProductError(f"{where}: area_basis is 'land', 'cell', 'cell_methods' or absent, got {given!r}")
    if product.stamp not in ("inside", "end"):
        raise ProductError(f"{where}: stamp is 'inside' (start or middle of the step) or 'end', got {product.stamp!r}")
    if product.ensemble not in ("inversion", "member"):
        raise ProductError(f"{where}: ensemble is 'inversion' or 'member', got {product.ensemble!r}")
    for step in (product.step, *product.steps.values()):
        if step and not _STEPS.match(step):
            raise ProductError(f"{where}: a step is month, year, day, 8day, <n>h or none, got {step!r}")


def _frozen(value):
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
