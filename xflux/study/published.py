"""Published products in a study: inversions without fires as a regional target, bottom-up fluxes for the bridge."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from xflux import adjust, temporal
from xflux.catalogue import open_product
from xflux.cells import positions, regrid
from xflux.contents import contents, riding
from xflux.reading import netcdf
from xflux.study.config import Comparison, Inversions, Published, Series, StudyConfig, StudyError, Target

Data = TypeVar("Data", xr.DataArray, xr.Dataset)


def all_products(config: StudyConfig) -> dict[str, Published]:
    """Key of the study file → the product that it names."""
    found: dict[str, Published] = {f"target.products.{i}": p for i, p in enumerate(config.target.products)}
    found |= {"target.fire": config.target.fire} if config.target.fire else {}
    found |= {"bridge.product": config.bridge.product} if config.bridge.product else {}
    return found | {f"evaluation.products.{i}": p for i, p in enumerate(config.evaluation.products)}


def problems(config: StudyConfig, files: dict) -> list[str]:
    """What the products' files lack, found by opening them: one line each."""
    lines = []
    for key, product in all_products(config).items():
        try:
            _open(product, files, key)
        except (ValueError, KeyError, OSError) as error:
            lines.append(f"  {key}: {error}")
    return lines


def _open(product: Published, files: dict, key: str) -> xr.Dataset:
    """The product's one flux, lazily, with its cell area, land fraction and bounds."""
    land = files.get(f"{key}.land_fraction")
    opened = open_product(
        product.product, files[key], variables=[product.variable], land_fraction=land[0] if land else None
    )
    if product.variable not in opened:
        raise StudyError(f"no variable {product.variable!r} in its files")
    for dim, wanted in product.select.items():
        if dim not in opened.coords:
            raise StudyError(f"select.{dim}: the product has no {dim}; it has the dims {tuple(opened.dims)}")
        labels = [str(v) for v in np.atleast_1d(opened[dim].values)]
        chosen = [labels.index(_label(name, labels, dim)) for name in wanted]
        opened = opened.isel({dim: chosen}) if dim in opened.dims else opened
    return opened


def _label(name: str, labels: list[str], dim: str) -> str:
    """The label that is meant: exactly, else the only one that is alike but for case and punctuation, or begins so."""
    if name in labels:
        return name
    plain = {label: "".join(c for c in label.lower() if c.isalnum()) for label in labels}
    wanted = "".join(c for c in name.lower() if c.isalnum())
    for same in ((lambda p: p == wanted), (lambda p: p.startswith(wanted))):
        alike = [label for label, p in plain.items() if same(p)]
        if len(alike) == 1:
            return alike[0]
    raise StudyError(f"select.{dim}: {name!r} is not one of {labels}")


# ----------------------------------------------------------------------------------------------------- the target
def target(config: Target, files: dict) -> xr.DataArray:
    """Regional integrals of every inversion without its fires, (inversion, region, time) in PgC month-1.

    Months are stamped at their start, whatever the products' calendars.
    """
    parts, notes = [], {}
    for i, (source, flux) in enumerate(_inversions(config, files)):
        part = regional(flux, source.variable, config.regions)
        part = part if "inversion" in part.dims else part.expand_dims(inversion=[source.name or source.product])
        notes[f"target.products.{i}"] = riding(part)
        parts.append(part)
    _same_contents(notes, config)
    joined = xr.concat([p.drop_attrs() for p in parts], "inversion", join="outer", coords="minimal", compat="override")
    names = [str(n) for n in joined["inversion"].values]
    if len(set(names)) < len(names):
        raise StudyError(f"target.products: an inversion comes twice ({names}): give name = to one of them")
    attrs = notes["target.products.0"] | target_contents(config)
    joined = joined.dropna("inversion", how="all").transpose("inversion", "region", "time")
    attrs |= {"units": "PgC month-1", "long_name": "land-atmosphere carbon flux", "left_out": ""}
    return joined.astype("float64").rename("target").assign_attrs(attrs)


def _inversions(config: Target, files: dict) -> Iterator[tuple[Inversions, xr.Dataset]]:
    """Every product of the target, lazily; fires that it has in it are subtracted cell by cell (Sect. 2.3)."""
    fire = _open(config.fire, files, "target.fire") if config.fire else None
    for i, source in enumerate(config.products):
        flux = _in(_open(source, files, f"target.products.{i}")[[source.variable]], config.years)
        if fire is not None and adjust.contents(flux[source.variable])["fire"] is not False:
            flux = adjust.remove_fire(flux, _in(fire, config.years)[[config.fire.variable]])
        yield source, flux


def target_contents(config: Target) -> dict[str, int]:
    """What the study says that its target contains, as attributes."""
    said = {"includes_fire": config.includes_fire, "includes_rivers": config.includes_rivers}
    return {key: int(value) for key, value in said.items() if value is not None}


def _same_contents(notes: dict[str, dict], config: Target) -> None:
    for content in ("fire", "rivers"):
        key = f"includes_{content}"
        known = {name: has for name, attrs in notes.items() if (has := contents(attrs)[content]) is not None}
        if len(set(known.values())) > 1 and content not in config.allow:
            raise StudyError(
                f"the target's products differ in what they contain: {key} is {known}. Take variables of the same "
                f"contents, or allow it by name: target.allow = [{content!r}]"
            )


def regional(flux: xr.Dataset, variable: str, regions: str) -> xr.DataArray:
    """Regional integrals of a product's months, (…, time, region) in PgC month-1, stamped at the months' starts.

    The globe of a study is the sum of its regions, for models, products and target alike: what lies in none is dropped.
    """
    sums = flux.flux.aggregate_regions(regions, units="PgC month-1")[variable].compute()
    return _stamped(sums.reset_coords(drop=True).drop_attrs()).assign_attrs(riding(flux[variable]))


def _stamped(da: xr.DataArray) -> xr.DataArray:
    """Months by the first of the month in the standard calendar."""
    months = zip(da["time"].dt.year.values, da["time"].dt.month.values, strict=True)
    return da.assign_coords(time=pd.DatetimeIndex([pd.Timestamp(year, month, 1) for year, month in months]))


def _in(data: xr.Dataset, years: tuple[int, int] | None) -> xr.Dataset:
    """The steps of these years; all of them for None."""
    if years is None:
        return data
    product, (first, last) = data.attrs.get("product", "the product"), years
    return steps_of_years(data, years, f"{product} has no step in {first}-{last}: it covers")


def steps_of_years(data: Data, years: tuple[int, int], without: str) -> Data:
    """The steps of these years; where there are none, an error that says so and which years there are."""
    year = data["time"].dt.year
    chosen = data.isel(time=np.flatnonzero((year >= years[0]) & (year <= years[1])))
    if not chosen.sizes["time"]:
        raise StudyError(f"{without} {int(year.min())}-{int(year.max())}")
    return chosen


# -------------------------------------------------------------------------------------------- bottom-up products
def bottom_up_maps(
    product: Published, files: dict, key: str, grid: xr.Dataset, years: tuple[int, int] | None
) -> xr.DataArray:
    """A bottom-up product by month on the drivers' cells, mean over its members: (time, lat, lon)."""
    flux = _in(_open(product, files, key), years)[product.variable]
    return on_cells(_months(flux), grid, key).load()


def _months(flux: xr.DataArray) -> xr.DataArray:
    """Monthly maps (time, lat, lon), mean over members, stamped at the months' starts."""
    members = [d for d in flux.dims if d not in ("time", "lat", "lon")]
    flux = flux.mean(members, keep_attrs=True).reset_coords(drop=True)
    monthly = float(temporal.step_days(flux).min()) > 27
    return _stamped(flux if monthly else temporal.to_monthly(flux).reset_coords(drop=True))


def references(config: StudyConfig, files: dict, grid: xr.Dataset) -> Iterator[tuple[str, xr.DataArray]]:
    """Monthly maps (time, lat, lon) on the cells of ``grid``, which models are compared with cell by cell.

    The mean of the inversions without their fires, and the products beside the models; what a flux is per area of
    stays, so that its rate is not comparable, but its course in time.
    """
    maps = []
    for source, flux in _inversions(config.target, files):
        field = _stamped(regrid(flux[source.variable], grid).reset_coords(drop=True).drop_attrs())
        maps.append(field if "inversion" in field.dims else field.expand_dims("inversion"))
    if maps:
        joined = xr.concat(maps, "inversion", join="outer", coords="minimal", compat="override")
        yield "inversions", joined.mean("inversion").drop_attrs().load()
    for i, product in enumerate(config.evaluation.products):
        opened = _in(_open(product, files, f"evaluation.products.{i}"), config.target.years or config.drivers.years)
        yield product.name, _months(regrid(opened, grid)[product.variable]).drop_attrs().load()


def products_by_region(config: StudyConfig, files: dict, years: tuple[int, int] | None) -> dict[str, xr.DataArray]:
    """The products that stand beside the models in the tables: name → (time, region) PgC month-1, mean over members."""
    found = {}
    for i, product in enumerate(config.evaluation.products):
        opened = _in(_open(product, files, f"evaluation.products.{i}"), years)
        sums = regional(opened, product.variable, config.target.regions)
        members = [d for d in sums.dims if d not in ("time", "region")]
        found[product.name] = sums.mean(members).assign_attrs(sums.attrs, units="PgC month-1").rename(product.name)
    return found


def on_cells(da: Data, grid: xr.Dataset | xr.DataArray, key: str) -> Data:
    """``da`` with the coordinates of ``grid``, which has the same cells in any order and longitude convention."""
    try:
        places = dict(zip(("lat", "lon"), positions(da, grid, of=key), strict=True))
    except ValueError as problem:
        raise StudyError(f"{key} is not on the grid of drivers.base: {problem}") from None
    same = all(np.array_equal(p, np.arange(da.sizes[d])) for d, p in places.items())
    return (da if same else da.isel(places)).assign_coords(lat=grid["lat"], lon=grid["lon"])


# ------------------------------------------------------------------------------------------------ single years
def by_year(monthly: xr.DataArray) -> xr.DataArray:
    """Amounts (…, time) in PgC month-1 as sums of whole years (…, year) in PgC yr-1.

    >>> time = xr.date_range("2001-01-01", periods=30, freq="MS")
    >>> by_year(xr.DataArray(np.ones(30), {"time": time}, "time")).to_series().to_dict()
    {2001: 12.0, 2002: 12.0}
    """
    year = monthly["time"].dt.year.values
    known, months = np.unique(year, return_counts=True)
    kept = monthly.isel(time=np.isin(year, known[months == 12]))
    return kept.groupby(kept["time"].dt.year.rename("year")).sum(skipna=False).assign_attrs(units="PgC yr-1")


def read_map(comparison: Comparison, path: Path) -> xr.DataArray:
    """A compared map (lat, lon), per m2 of the whole cell, as such maps have it."""
    with netcdf(path, "netCDF (evaluation.maps)") as dataset:
        return dataset[comparison.variable].load().assign_attrs(area_basis="cell").drop_encoding()


def read_series(series: Series, path: Path) -> xr.DataArray:
    """A compared series as (region, year) in PgC yr-1, mean over its ensemble."""
    with netcdf(path, "netCDF (evaluation.series)") as dataset:
        field = dataset[series.variable].load()
    if series.ensemble_dim:
        field = field.sel({series.ensemble_dim: ~field[series.ensemble_dim].isin(series.leave_out)})
        field = field.mean(series.ensemble_dim, keep_attrs=True)
    field = field.rename({series.region_dim: "region"}).sel(region=list(series.regions.values()))
    annual = by_year(temporal.convert_units(field, "PgC month-1"))
    return annual.assign_coords(region=list(series.regions)).reset_coords(drop=True).transpose("region", "year")
