"""The budget of files by region and period, with what there is to say about it."""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.catalogue.joining import land_fraction_in
from xflux.cells import standardise
from xflux.contents import check_contents, check_sign, sign
from xflux.regions.budget import Periods, budget_of_years, flux_of, units_per_year, yearly_integrals
from xflux.tabulate.files import named_files, open_named, regions_of
from xflux.temporal.calendar import AXES
from xflux.units import flux_variables, left_out

_MEMBERS = re.compile(
    r"member|inversion|reali[sz]ation|ensemble|model|number|site_fold|version|product|experiment", re.IGNORECASE
)


@dataclass(frozen=True)
class Budget:
    """A budget of files.

    Attributes
    ----------
    table
        As ``xflux.regional_budget`` returns it; ``attrs["flux"]`` is the name of the flux.
    yearly
        ``flux`` and ``valid`` by ([product], [member], [year], region).
    products
        Names of what was read.

    Examples
    --------
    >>> Budget(xr.Dataset(), xr.Dataset(), ["CTE"]).products
    ['CTE']
    """

    table: xr.Dataset
    yearly: xr.Dataset
    products: list[str]


def budget(
    files: str | Path | Iterable[str],
    regions="reccap2",
    *,
    units: str | None = None,
    periods: Periods | None = None,
    area_basis: str | None = None,
    land_fraction: str | Path | None = None,
    var: str | None = None,
    product: str | None = None,
    allow_contents: Iterable[str] = (),
) -> Budget:
    """The budget of a flux in files: mean and spread by region and period.

    Parameters
    ----------
    files
        netCDF files, Zarr stores, patterns, each as "NAME=FILE" where it is to have a name. Files that differ in a
        date only are one product; others are several, each of which is integrated on its own grid and basis.
    regions
        As :func:`xflux.regions.aggregate_regions`, or as text: "EU,USA", "-10,35,30,60", a file.
    units
        Per year; default "PgC yr-1", "PgH2O yr-1" or "ZJ yr-1", by what the flux is of.
    periods
        As :func:`xflux.regional_budget`.
    area_basis
        "land" or "cell": what the flux is per m2 of; default: as the files say.
    land_fraction
        netCDF file with the land share of the cells.
    var
        Name of the flux, where a file has several.
    product
        A published product of ``xflux.products()``; default: files as they are.
    allow_contents
        "fire", "rivers": what some products may contain and others not.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; one that cannot be read; no flux or several, or with strange dims; products of opposite signs or
        other contents; a bad ``regions`` or ``units``.

    Examples
    --------
    >>> import tempfile, xflux
    >>> earth = xflux.synthetic.earth(resolution=10.0, years=2, towers=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     earth.inversions.to_netcdf(f"{folder}/inversions.nc")
    ...     found = budget(f"{folder}/inversions.nc", "reccap2")
    >>> dict(found.table["mean"].sizes)
    {'period': 1, 'region': 19}
    """
    given = named_files([str(files)] if isinstance(files, str | Path) else list(map(str, files)))
    opened = open_named(given, product, land_fraction)
    land = None if land_fraction is None or product else land_fraction_in(land_fraction)
    regions = regions_of(regions) if isinstance(regions, str) else regions
    fluxes = {name: _flux_in(ds, var, name) for name, ds in opened.items()}
    first = next(iter(fluxes.values()))
    for other in fluxes.values():
        check_sign(first[0], other[0])
        check_contents(first[0], other[0], allow_contents, "allow_contents")
    units = units_per_year(units, first[0])
    yearly = {
        name: yearly_integrals(da, source, units, regions, land, area_basis) for name, (da, source) in fluxes.items()
    }
    joined = _joined(yearly)
    table = budget_of_years(joined, periods)
    quantity = sorted({str(da.name) for da, _ in fluxes.values()})
    table.attrs |= {"flux": ", ".join(quantity), "products": ", ".join(opened)}
    if sign(first[0]):
        table.attrs["positive"] = sign(first[0])
    return Budget(table, joined, list(opened))


def _flux_in(ds: xr.Dataset, var: str | None, product: str) -> tuple[xr.DataArray, xr.Dataset]:
    """The one flux of a product on (…, lat, lon), and its Dataset."""
    try:
        ds = standardise(ds)
    except ValueError as error:
        raise ValueError(f"{product}: {error}") from error
    found = [name for name in flux_variables(ds) if {"lat", "lon"} <= set(ds[name].dims)]
    if var is not None and var not in ds.variables:
        raise ValueError(f"{product} has no variable {var!r}; its fluxes are {_listed(ds, found)}. Give var=.")
    if var is None and len(found) != 1:
        listed = _listed(ds, found or list(ds.data_vars))
        what = ": name the one that is meant, var=." if found else "." + left_out(ds)
        raise ValueError(f"{product} has {len(found) or 'no'} fluxes, of {listed}{what}")
    da, source = flux_of(ds, var if var is not None else found[0])
    others = [d for d in da.dims if d not in (*AXES, "lat", "lon") and not _MEMBERS.search(str(d))]
    da = da.squeeze([d for d in others if da.sizes[d] == 1])
    strange = [d for d in others if d in da.dims]
    if strange:
        raise ValueError(
            f"{product}: {da.name!r} has the dims {strange} beside time, latitude, longitude and members, over which a "
            f"budget is no mean: select one of each, or add them up, first."
        )
    return (da if da.chunks is not None or da.nbytes < 2**28 else da.chunk("auto")), source


def _listed(ds: xr.Dataset, names: Iterable[Hashable]) -> str:
    return ", ".join(f"{name} ({ds[name].attrs.get('units', 'no units')})" for name in names) or "none"


def _joined(yearly: dict[str, xr.Dataset]) -> xr.Dataset:
    """By product, where there are several; the members of one are averaged first, so that each product counts once."""
    if len(yearly) == 1:
        return next(iter(yearly.values()))
    with_years = {name: "year" in one.dims for name, one in yearly.items()}
    if len(set(with_years.values())) > 1:
        timeless = ", ".join(name for name, dated in with_years.items() if not dated)
        raise ValueError(f"{timeless} have no time axis, the others have: their budgets cannot be joined.")
    parts = []
    for one in yearly.values():
        inner = [d for d in one["flux"].dims if d not in ("year", "region")]
        parts.append(one.mean(inner, keep_attrs=True, skipna=False))
    index = xr.Variable("product", np.array(list(yearly)))
    joined = xr.concat(parts, index, join="outer", data_vars="all", combine_attrs="drop_conflicts")
    partial = sorted({year for one in yearly.values() for year in one.attrs.get("partial", [])})
    return joined.assign_attrs(partial=partial)
