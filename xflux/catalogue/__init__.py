"""Published flux products → one schema.

:func:`open_product` reads a product's files as they are published, lazily, into a Dataset with dims
(inversion | member, time, lat, lon), fluxes positive into the atmosphere (GPP positive), and attributes that say
what each flux contains, on which area it is based and where it comes from. What each product calls its things is data
(``xflux/data/products.toml``); a user adds a product with a row of his own.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from xflux.catalogue.joining import combine, labels_of, with_land_fraction
from xflux.catalogue.table import Product, ProductError, find_product, load_table
from xflux.provenance import stamp
from xflux.reading import matching
from xflux.temporal.riding import STAMP
from xflux.values import warn

__all__ = ["Product", "ProductError", "describe", "open_product", "products"]

_COLUMNS = "name title variables units sign area_basis files traps citation checked confidence evidence aliases".split()
Paths = str | Path | Iterable[str | Path] | Mapping[str, "Paths"]


def open_product(
    name: str,
    paths: Paths,
    *,
    variables: Iterable[str] | None = None,
    land_fraction: str | Path | xr.DataArray | None = None,
    drop_zero_cells: bool = False,
    table: Mapping | str | Path | None = None,
) -> xr.Dataset:
    """Published files as one lazy Dataset in the schema of xflux.

    Parameters
    ----------
    name
        A product of :func:`products`, or one of ``table`` or ``$XFLUX_PRODUCTS``. Case and punctuation don't matter.
    paths
        A file, a glob pattern, a list of them in any order, or a mapping {label: files} of inversions or models.
    variables
        Names of the schema to keep (all that the files have).
    land_fraction
        A file or array (lat, lon) with the land share of each cell, in percent or 0–1, for products that publish it
        in a file of its own (FLUXCOM). It becomes the coordinate ``land_fraction``.
    drop_zero_cells
        Mask cells that are zero at every step where the product is known to have such cells (FLUXCOM). Off: values
        are as published.
    table
        More rows: a dict {name: row} or a TOML file.

    Returns
    -------
    Dataset
        Fluxes with dims ([experiment], [inversion | member], time, …, lat, lon), chunked by time. Values are as
        published except that the sign is turned where it is opposite, amounts per cell are divided by the published
        cell area, and fills become NaN. One inversion alone has no dim, but a scalar coordinate. ``time`` is the start
        of each step and ``time_bnds`` its bounds. ``cell_area`` (m2) and ``land_fraction`` (1) are coordinates, where
        published.

    Raises
    ------
    ProductError
        No such product; a file that does not look like it (says what was expected and found); the same step twice.

    Examples
    --------
    >>> import tempfile, numpy as np, xflux
    >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0], "time": xr.date_range("2004", periods=2, freq="MS")}
    >>> uptake = xr.Dataset({"up": xr.DataArray(np.ones((2, 2, 2)), axes, attrs={"units": "g/m2/month"})})
    >>> nbe = {"names": ["up"], "units": {"g/m2/month": "gC m-2 month-1"}, "sign": -1}
    >>> row = {"title": "My model", "area_basis": "land", "step": "month", "variables": {"nbe": nbe}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     uptake.to_netcdf(f"{folder}/mine_2004.nc")
    ...     ds = xflux.open_product("mine", f"{folder}/mine_*.nc", table={"mine": row}).load()
    >>> ds.nbe.dims, ds.nbe.attrs["units"], float(ds.nbe.mean())
    (('time', 'lat', 'lon'), 'gC m-2 month-1', -1.0)

    Published files:

    >>> xflux.open_product("gcp-inversions", "GCP2022_inversions_1x1_*.nc")  # doctest: +SKIP
    """
    from xflux.catalogue.files import open_file

    product = find_product(name, load_table(table))
    files = _files(paths, product)
    wanted = {variables} if isinstance(variables, str) else None if variables is None else set(variables)
    known = [v.name for v in product.variables]
    if strangers := sorted((wanted or set()) - set(known)):
        raise ProductError(f"{product.name}: variables={strangers} are not in its row, which has {', '.join(known)}")
    opened = []
    for path, label in files:
        ds = open_file(path, product, wanted)
        opened.append((path, {**labels_of(path, product), **label}, ds))
    _check_required([(path, ds) for path, _, ds in opened], wanted, product)
    opened = [o for o in opened if o[2].data_vars]
    if not opened:
        known = ", ".join(known)
        raise ProductError(f"{product.name}: none of variables={variables!r} is in the files; the row has {known}")
    ds, notes = combine(opened, product)
    for note in notes:
        warn(note)
    if drop_zero_cells and product.zero_cells:
        fluxes = [v.name for v in product.variables if v.kind == "flux" and v.name in ds and "time" in ds[v.name].dims]
        ds = ds.assign({n: ds[n].where((abs(ds[n]) >= product.zero_cells).any("time")) for n in fluxes})
    if land_fraction is not None:
        ds = with_land_fraction(ds, land_fraction)
    if "time_bnds" in ds.coords:  # what has lost the bounds, a DataArray say, still tells where its steps begin
        ds["time"].attrs |= {"bounds": "time_bnds", "stamp": STAMP}
    for name in ("time", "time_bnds"):
        if name in ds.coords:  # one unit for both, so that what is written is CF
            calendar = ds["time"].dt.calendar
            ds[name].encoding = {"units": "hours since 1850-01-01", "calendar": calendar, "dtype": "float64"}
    about = {key: getattr(product, key) for key in ("title", "citation", "checked", "confidence")}
    provenance = stamp(f"open_product({product.name!r}, …)", {"files": [str(p) for p, _ in files]})
    return ds.assign_attrs(product=product.name, **about, provenance=provenance)


def products(table: Mapping | str | Path | None = None) -> pd.DataFrame:
    """The table of products, one row each: what they hold, their traps, and how their reading was checked.

    Parameters
    ----------
    table
        More rows, as for :func:`open_product`.

    Raises
    ------
    ProductError
        No file, or none of products; a row with an unknown key.

    Examples
    --------
    >>> products().loc["gfas", "sign"]
    'positive into the atmosphere'
    """
    rows = load_table(table)
    return pd.DataFrame(map(_summary, rows.values()), index=list(rows))


def describe(table: Mapping | str | Path | None = None) -> str:
    """The table of products as text for a terminal, a few lines each.

    >>> print(describe().splitlines()[0])
    gcp-inversions: Global Carbon Budget inversions, 1° (GCB2022 to GCB2024)
    """
    from textwrap import fill

    blocks = []
    for row in products(table).to_dict("records"):
        lines = [f"{key:>10}: {row[key]}" for key in ("variables", "units", "sign", "traps", "checked", "confidence")]
        lines = [fill(line, 110, subsequent_indent=" " * 12) for line in lines if not line.endswith(": ")]
        blocks.append("\n".join([f"{row['name']}: {row['title']}", *lines]))
    return "\n\n".join(blocks)


def _summary(p: Product) -> dict:
    fluxes = [v for v in p.variables if v.kind == "flux"]
    told = {
        "variables": ", ".join(v.name for v in fluxes),
        "units": ", ".join(dict.fromkeys(u for v in fluxes for u in v.units)),
        "area_basis": p.area_basis or "unknown",
        "files": ", ".join(p.files),
        "traps": "; ".join(p.traps),
        "aliases": ", ".join(p.aliases),
    }
    return {key: told[key] if key in told else getattr(p, key) for key in _COLUMNS}


def _files(paths: Paths, product: Product) -> list[tuple[Path, dict[str, str]]]:
    """Every file, with the label that the caller gave it; a pattern that matches nothing is an error by name."""
    if isinstance(paths, Mapping):
        return [(path, {"member": str(k)}) for k, v in paths.items() for path, _ in _files(v, product)]
    found = []
    for item in [paths] if isinstance(paths, str | Path) else list(paths):
        matches = matching(item)
        if not matches:
            names = ", ".join(product.files) or "anything"
            raise FileNotFoundError(f"no file {str(item)!r} for {product.name}; its files are called {names}")
        found += matches
    if not found:
        raise FileNotFoundError(f"no files given for {product.name}: paths is empty")
    return [(path, {}) for path in dict.fromkeys(found)]


def _check_required(opened: list[tuple[Path, xr.Dataset]], wanted: set[str] | None, product: Product) -> None:
    """What makes the product is in one of the files, unless other variables are asked for."""
    for variable in product.variables:
        if variable.name not in product.requires or (wanted is not None and variable.name not in wanted):
            continue
        if not any(variable.name in ds.variables for _, ds in opened):
            found = dict.fromkeys(ds[n].attrs.get("name_as_published", n) for _, ds in opened for n in ds.data_vars)
            names = f"{' or '.join(variable.names)} ({variable.name}), found {', '.join(map(str, found))}"
            why = f"expected the variable {names}; name with variables= what is to be read without it"
            raise product.unlike(", ".join(path.name for path, _ in opened[:3]), why)
