"""One published file → one lazy Dataset in the schema. Whatever a product calls its things is in the table."""

import gzip
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from xflux import units
from xflux.catalogue import times
from xflux.catalogue.table import Product, ProductError, Variable, dim_names
from xflux.cells.bounds import coordinate_bounds
from xflux.contents import area_basis, sign
from xflux.reading import blamed_on, check_size
from xflux.temporal.dates import date as calendar_date

_CHUNK_BYTES = 32 * 2**20
_UNITS_ATTRS = ("units", "unit", "Units", "long_name")
_COORD_ATTRS = {
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
}


def open_file(path: Path, product: Product, variables: Collection[str] | None = None) -> xr.Dataset:
    """The file's variables under their schema names, dims (inversion|member, time, …, lat, lon), values lazy."""
    with blamed_on(path, f"a netCDF or Zarr file of {product.name}", ProductError):
        return _opened(path, product, variables)


def _opened(path: Path, product: Product, variables: Collection[str] | None) -> xr.Dataset:
    raw = _rename_dims(_raw(path, product), product, path)
    chosen = _choose(raw, product, path)
    if variables is not None:
        chosen = {name: v for name, v in chosen.items() if v.kind in ("area", "fraction") or v.name in variables}
    time = _time(raw, product, path)
    lazy = {name: _lazy(raw[name], f"{path}:{name}", path, product) for name in chosen}
    if "time" in time and "time" not in raw.sizes:
        moving = [n for n, v in chosen.items() if v.kind in ("flux", "other") and not v.static]
        lazy |= {n: lazy[n].set_dims({"time": 1, **lazy[n].sizes}) for n in moving}
    data = {v.name: _variable(name, lazy[name], v, raw, product, path) for name, v in chosen.items()}
    statics = {v.name for v in chosen.values() if v.kind in ("area", "fraction")}
    # a flux that is constant in time (rivers) has no months of its own: it rides as a coordinate, not among the fluxes
    statics |= {n for n, a in data.items() if "time" in time and a.dims == ("lat", "lon")}
    coords = {"lat": _horizontal(raw, "lat"), "lon": _horizontal(raw, "lon"), **time, **_cell_bounds(raw)}
    coords |= _member_names(raw, product) | {n: data.pop(n) for n in statics}
    # global attributes that netCDF and Zarr can hold again
    attrs = {k: v for k, v in raw.attrs.items() if isinstance(v, str | int | float | np.integer | np.floating)}
    out = _physical(xr.Dataset(data, coords=coords, attrs=attrs), product, path)
    return _valid_years(out, raw, product, path)


def _raw(path: Path, product: Product) -> xr.Dataset:
    """The file as it is, fills masked and packing undone, times left as numbers."""
    if product.hdf5_groups:
        from xflux.catalogue.groups import open_groups

        return open_groups(path, product)
    options = {"decode_times": False, "decode_coords": False, "concat_characters": False, "cache": False}
    if path.suffix == ".zarr" or path.is_dir():
        options["engine"] = "zarr"
    raw = xr.open_dataset(_unpacked(path) if path.suffix == ".gz" else path, **options)
    if path.suffix != ".gz" and path.is_file():
        check_size(path, sum(v.nbytes for v in raw.variables.values() if v.ndim == 1))  # axes, which are read at once
    return raw


class _Copy(xr.backends.NetCDF4DataStore):
    """A file that goes with the last array that reads from it; xarray's own class takes no weak references."""


def _unpacked(path: Path) -> _Copy:
    """A gzipped file, opened as a plain copy, which goes with the last array that reads from it, or at exit."""
    descriptor, copy = tempfile.mkstemp(prefix="xflux-", suffix=f"-{path.stem}")
    try:
        with gzip.open(path) as packed, open(descriptor, "wb") as plain:
            shutil.copyfileobj(packed, plain, 2**20)
        store = _Copy.open(copy)
    except BaseException:
        os.unlink(copy)
        raise
    weakref.finalize(store, _remove, copy)
    return store


def _remove(copy: str) -> None:
    with suppress(OSError):
        os.unlink(copy)


def _rename_dims(raw: xr.Dataset, product: Product, path: Path) -> xr.Dataset:
    """Published dim and coordinate names → lat, lon, time and the ensemble's; a missing one is an error by name."""
    names = {}
    for dim in ("lat", "lon", "time", product.ensemble):
        options = [
            n for n in dim_names(product, dim) if n in raw.dims or (dim in ("lat", "lon") and n in raw.variables)
        ]
        if options:
            names[options[0]] = dim
    _check_names(raw, product, path)
    clash = [new for old, new in names.items() if new != old and new in raw.variables and new not in names]
    raw = raw.drop_vars(clash).rename({o: n for o, n in names.items() if o != n})
    for dim in ("lat", "lon"):
        if dim not in raw.variables or raw[dim].ndim != 1:
            names = ", ".join(dim_names(product, dim))
            shape = f"a {raw[dim].ndim}-D {dim} (curvilinear)" if dim in raw.variables else f"dims {dict(raw.sizes)}"
            raise product.unlike(path, f"expected a 1-D {dim!r} coordinate (one of {names}), found {shape}")
        if raw[dim].dims != (dim,):
            raw = raw.swap_dims({raw[dim].dims[0]: dim})
    return raw


def _check_names(raw: xr.Dataset, product: Product, path: Path) -> None:
    """Names that only another product has: a variable that the row calls foreign, or its own time dim missing."""
    foreign = [name for name in product.foreign if name in raw.variables]
    if foreign:
        why = f"it has {', '.join(foreign)}, which {product.name} has not; is it another product"
        raise product.unlike(path, f"{why} (xflux.products() lists them)?")
    own, usual = product.dims.get("time", ()), dim_names(replace(product, dims={}), "time")
    found = [name for name in usual if name in raw.dims and name not in own]
    if own and found and not any(name in raw.dims for name in own):
        raise product.unlike(path, f"expected the time dim {' or '.join(own)}, found {found[0]}")


def _choose(raw: xr.Dataset, product: Product, path: Path) -> dict[str, Variable]:
    """The file's variables that the row knows, by published name; none at all is an error."""
    chosen: dict[str, Variable] = {}
    text = " ".join([path.name, *(str(raw.attrs.get(a, "")) for a in ("title", "source"))])
    for variable in product.variables:
        for name in variable.names:
            if name not in raw.variables or name in chosen:
                continue
            about = " ".join([text, *(str(raw[name].attrs.get(a, "")) for a in ("long_name", "source"))])
            if not variable.match or re.search(variable.match, about, re.I):
                _check_attributes(raw[name], product, path)
                chosen[name] = variable
                break
    if not any(v.kind == "flux" for v in chosen.values()):
        expected = sorted({n for v in product.variables if v.kind == "flux" for n in v.names})
        found = ", ".join(map(str, raw.data_vars)) or "none"
        raise product.unlike(path, f"expected one of the variables {', '.join(expected)}; found {found}")
    return chosen


def _check_attributes(da: xr.DataArray, product: Product, path: Path) -> None:
    """What the row says of the variable's attributes must be so, where they are there."""
    for key, expected in product.attributes.items():
        found = da.attrs.get(key, expected)
        if str(found).lower() != expected.lower():
            raise product.unlike(path, f"expected {da.name}.{key} = {expected!r}, found {found!r}")


def _time(raw: xr.Dataset, product: Product, path: Path) -> dict[str, xr.Variable]:
    """Decoded ``time`` (the start of each step) and ``time_bnds``; nothing for a file without time."""
    time = _stamps(raw, product, path)
    if time is None:
        return {}
    hints = " ".join([path.name, *(str(v.attrs.get("source", "")) for v in raw.data_vars.values())])
    step = times.find_step(time, product, hints)
    bounds = _published_bounds(raw, product, path)
    if bounds is None and step:
        bounds = times.step_bounds(time, step, product.stamp)
    attrs = {"standard_name": "time", "long_name": "start of the step", "axis": "T"}
    if bounds is None:
        return {"time": xr.Variable("time", time.values, {**attrs, "long_name": "time as published"})}
    starts, counts = np.unique(bounds[:, 0], return_counts=True)
    if (counts > 1).any():
        twice = ", ".join(str(s)[:10] for s in starts[counts > 1][:5])
        raise ProductError(f"{product.name}: {path.name} has the same step more than once: {twice}")
    ends = xr.Variable(("time", "bnds"), bounds, {"long_name": "start and end of the step"})
    return {"time": xr.Variable("time", bounds[:, 0], {**attrs, "bounds": "time_bnds"}), "time_bnds": ends}


def _stamps(raw: xr.Dataset, product: Product, path: Path) -> xr.DataArray | None:
    """Stamps as the row says they are published; None for a file without time where the row allows it."""
    count = raw.sizes.get("time")
    if product.time == "group":
        return times.as_index(raw["time"].values)
    if "start_date" in raw.variables and product.time == "start_date":
        rows = raw["start_date"].transpose("time", ...).values
        if rows.ndim == 2 and rows.shape[1] >= 3 and np.isfinite(rows).all():
            return times.as_index([calendar_date(*map(int, row[:3]), "standard") for row in rows])
    # Copernicus' stores stamp a mean over a forecast's hours with its end too, valid_time; it begins at the reference
    reference = "forecast_reference_time" in raw.variables and raw["forecast_reference_time"].dims == ("time",)
    stamps = raw["forecast_reference_time" if reference else "time"] if "time" in raw.variables else None
    if stamps is not None and "since" in str(stamps.attrs.get("units", "")):
        attrs = stamps.attrs
        where = f"{product.name}: {path.name}"
        return times.decoded_stamps(stamps.values, str(attrs["units"]), str(attrs.get("calendar", "")).lower(), where)
    if product.time == "filename" and count in (None, 1):
        return times.from_filename(path, product)
    if count == 12 and product.time_pattern and product.step == "month":
        return times.from_months(f"{times.from_filename_year(path, product)}-01", 12)
    if product.first_month and count:
        return times.from_months(product.first_month, count)
    if count is None and product.time_optional:
        return None
    found = raw["time"].attrs.get("units") if "time" in raw.variables else "no time variable"
    where = f"units '<unit> since <date>' on one of {', '.join(dim_names(product, 'time'))}"
    raise product.unlike(path, f"expected time as {product.time!r} ({where}), found {found!r}")


def _published_bounds(raw: xr.Dataset, product: Product, path: Path) -> np.ndarray | None:
    """The file's own time bounds, decoded; None where it has none (or they are degenerate)."""
    if "time" not in raw.variables:
        return None
    name = next((n for n in (raw["time"].attrs.get("bounds"), "time_bnds", "time_bounds") if n in raw.variables), None)
    if name is None or raw[name].ndim != 2 or "time" not in raw[name].dims:
        return None
    units = raw[name].attrs.get("units", raw["time"].attrs.get("units", ""))
    if "since" not in str(units) or str(units).lower().startswith("month"):
        return None
    values = raw[name].transpose("time", ...).values
    if values.shape[1] != 2 or not (values[:, 1] > values[:, 0]).all():
        return None
    calendar = str(raw["time"].attrs.get("calendar", "")).lower()
    flat = times.decoded_stamps(values.ravel(), str(units), calendar, f"{product.name}: {path.name}").values
    return flat.reshape(values.shape)


def _variable(name: str, array: xr.Variable, v: Variable, raw: xr.Dataset, product: Product, path: Path) -> xr.Variable:
    """One variable: selected, un-extensified, sign turned, with the schema's attributes."""
    published = _published_units(raw[name], v)
    attrs = _attributes(raw[name], v, product, published, _schema_units(published, v, product, path))
    array = array.isel({d: i for d, i in v.select.items() if d in array.dims})
    kept = ("time", "lat", "lon", product.ensemble)
    array = array.squeeze([d for d, n in array.sizes.items() if d not in kept and n == 1])
    array = array.isel(time=0) if v.static and "time" in array.dims else array
    if v.kind == "flux" and not {"lat", "lon"} <= set(array.dims):
        raise product.unlike(path, f"variable {name!r} expected dims (…, lat, lon), found {array.dims}")
    for value in product.missing:
        array = array.where(abs(array) < 1e19 if abs(value) >= 1e19 else array != value)
    if v.extensive:
        array = array / _cell_area_of(v, raw, product, path)
    percent = v.kind == "fraction" and published.lower() in ("%", "percent", "per cent")
    factor = v.sign * v.scale * (0.01 if percent else 1)
    array = array * factor if factor != 1 else array
    order = [d for d in (product.ensemble, "time") if d in array.dims]
    rest = [d for d in array.dims if d not in (*order, "lat", "lon")]
    array = array.transpose(*order, *rest, *(d for d in ("lat", "lon") if d in array.dims))
    if v.kind == "area" and array.dims == ("lat",):
        array = array.set_dims({"lon": raw.sizes["lon"], **array.sizes}).transpose("lat", "lon")
    if "time" in array.dims and v.kind == "flux":
        attrs["cell_methods"] = "time: mean"
    return xr.Variable(array.dims, array.data, attrs)


def _cell_area_of(v: Variable, raw: xr.Dataset, product: Product, path: Path) -> xr.Variable:
    if v.extensive not in raw.variables:
        found = ", ".join(map(str, raw.data_vars))
        why = f"{v.name!r} is an amount per grid cell and needs the cell area {v.extensive!r}, which is not in the file"
        raise product.unlike(path, f"{why}; found {found}")
    area = raw[v.extensive].variable
    return area.isel({d: 0 for d in area.dims if d not in ("lat", "lon")}).astype("float64")


def _published_units(da: xr.DataArray, v: Variable) -> str:
    """The published unit string: 'units', else 'unit' (DLEM), else a long_name that is one (CARDAMOM), else ''."""
    for attr in _UNITS_ATTRS:
        text = str(da.attrs.get(attr, "")).strip()
        if text and (attr != "long_name" or _known_unit(text, v)):
            return text
    return ""


def _schema_units(published: str, v: Variable, product: Product, path: Path) -> str:
    """The unit string that xflux reads; a unit that the row does not know is an error that names both."""
    if not v.units:
        return {"area": "m2", "fraction": "1"}.get(v.kind, published)
    known = _known_unit(published, v) if published else v.units_absent
    if known:
        return known
    wanted = " or ".join(map(repr, v.units))
    found = published or "no units attribute"
    raise product.unlike(path, f"variable {v.name!r} expected units {wanted}, found {found!r}")


def _known_unit(published: str, v: Variable) -> str | None:
    """The row's unit for the published text: its very words, or another spelling of them."""
    if published in v.units:
        return v.units[published]
    about = {"substance": v.substance} if v.substance else None
    for words, unit in v.units.items():
        try:
            if abs(units.factor(units.parse(published, about), units.parse(words, about)) - 1) < 1e-9:
                return unit
        except units.UnitsError:
            continue
    return published if v.any_units and units.is_flux(published) and units.parse(published).per_area else None


def _attributes(da: xr.DataArray, v: Variable, product: Product, published: str, unit: str) -> dict:
    """The schema's attributes of one variable; what is unknown is left out."""
    attrs = {
        "units": unit,
        "long_name": v.long_name or str(da.attrs.get("long_name", v.name)),
        "name_as_published": str(da.name),
        "units_as_published": published or "none",
    }
    if v.kind != "flux":
        return attrs
    attrs["positive"] = "down" if _is_production(v) else "up"
    told = {k: da.attrs[k] for k in ("standard_name", "version", "source") if isinstance(da.attrs.get(k), str)}
    if sign({"standard_name": told.get("standard_name", "")}) not in (None, attrs["positive"]):
        del told["standard_name"]  # of the flux before it was turned
    attrs |= told
    # ours is positive into the atmosphere, but for productions, which are positive as uptake
    uptake = (v.sign == 1) == _is_production(v)
    attrs["sign_as_published"] = "positive = uptake" if uptake else "positive into the atmosphere"
    by_methods = product.area_basis == "cell_methods"
    if basis := area_basis(xr.DataArray(attrs=da.attrs)) if by_methods else product.area_basis:
        attrs["area_basis"] = basis
    for content in ("includes_fire", "includes_rivers"):
        if getattr(v, content) is not None:
            attrs[content] = int(getattr(v, content))
    if v.adjusted_for:
        attrs["adjusted_for"] = v.adjusted_for
    return attrs


def _is_production(v: Variable) -> bool:
    return v.name.split("_")[0] in ("gpp", "npp")


def _horizontal(raw: xr.Dataset, dim: str) -> xr.Variable:
    """lat or lon with the attributes that published files may lack; float32 is rounded to what it stands for."""
    values = raw[dim].values
    values = np.round(values.astype("float64"), 5) if values.dtype == np.float32 else values.astype("float64")
    return xr.Variable(dim, values, _COORD_ATTRS[dim])


def _cell_bounds(raw: xr.Dataset) -> dict[str, xr.Variable]:
    """The file's own lat_bnds and lon_bnds, where it has them."""
    found = {dim: coordinate_bounds(raw, dim) for dim in ("lat", "lon")}
    return {f"{dim}_bnds": xr.Variable((dim, "bnds"), b.values) for dim, b in found.items() if b is not None}


def _member_names(raw: xr.Dataset, product: Product) -> dict[str, xr.Variable]:
    """Labels of an ensemble dim inside the file: published names (char arrays too), else numbers."""
    dim = product.ensemble
    if dim not in raw.dims:
        return {}
    for name in (*product.member_names, dim):
        if name in raw.variables and dim in raw[name].dims:
            return {dim: xr.Variable(dim, _labels(raw[name].transpose(dim, ...)))}
    return {dim: xr.Variable(dim, [f"{dim} {i + 1}" for i in range(raw.sizes[dim])])}


def _labels(names: xr.DataArray) -> np.ndarray:
    """Text labels: rows of single characters are joined, padding (blanks, NULs) is stripped."""
    rows = names.values.reshape(names.shape[0], -1)
    text = ["".join(c.decode("utf-8", "replace") if isinstance(c, bytes) else str(c) for c in row) for row in rows]
    return np.array([t.replace("\x00", "").strip() for t in text], dtype="U")


def _physical(out: xr.Dataset, product: Product, path: Path) -> xr.Dataset:
    """Latitudes beyond the poles are dropped where the row says that they occur, and are an error elsewhere."""
    if not (abs(out["lat"]) > 90.0001).any():
        return out
    if product.max_latitude > 90:
        return out.isel(lat=np.flatnonzero(abs(out["lat"].values) <= 90.0001))
    south, north = float(out["lat"].min()), float(out["lat"].max())
    raise product.unlike(path, f"expected latitudes within ±90, found {south:g} to {north:g}")


def _valid_years(out: xr.Dataset, raw: xr.Dataset, product: Product, path: Path) -> xr.Dataset:
    """Without the spin-up and spin-down years, where the file's attributes name the valid ones."""
    if not product.valid_years or "time" not in out.dims:
        return out
    first, last = (raw.attrs.get(a) for a in product.valid_years)
    if first is None or last is None:
        return out
    first, last = (int(float(np.ravel(np.asarray(v, dtype="float64"))[0])) for v in (first, last))
    years = out["time"].dt.year.values
    kept = out.isel(time=np.flatnonzero((years >= first) & (years <= last)))
    if not kept.sizes["time"]:
        raise ProductError(
            f"{product.name}: no year of {path.name} ({years.min()}-{years.max()}) is among its valid ones "
            f"({first}-{last})"
        )
    return kept.assign_attrs(valid_years=f"{first}-{last}")


def _lazy(da: xr.DataArray, name: str, path: Path, product: Product) -> xr.Variable:
    """The variable in chunks by time of about 32 MiB of whole maps, in whole numbers of the file's own small chunks."""
    import dask.array
    from dask.base import tokenize

    chunks: dict = {d: -1 for d in da.dims} | {d: 1 for d in da.dims if d == product.ensemble}
    if "time" in da.dims:
        row = da.dtype.itemsize * int(np.prod([n for d, n in da.sizes.items() if d not in ("time", product.ensemble)]))
        steps = max(1, _CHUNK_BYTES // row)
        stored = da.encoding.get("chunksizes") or da.encoding.get("chunks") or ()
        own = int(stored[da.dims.index("time")]) if len(stored) == da.ndim else 1
        if own * row <= 8 * _CHUNK_BYTES:
            steps = max(steps // own, 1) * own
        chunks["time"] = max(1, min(steps, da.sizes["time"]))
    token = tokenize(name, path.stat().st_mtime_ns, path.stat().st_size, chunks)
    if da.chunks:  # of groups, which are dask arrays already
        return da.variable.chunk(chunks, name=f"xflux-{token}")
    values = dask.array.from_array(_Blamed(da.variable, path), tuple(chunks[d] for d in da.dims), f"xflux-{token}")
    return xr.Variable(da.dims, values, da.attrs, da.encoding)


@dataclass(frozen=True, eq=False)
class _Blamed:
    """A variable on disk whose damage, found when a chunk is read, is told with the file's name."""

    variable: xr.Variable
    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        return self.variable.shape

    @property
    def dtype(self) -> np.dtype:
        return self.variable.dtype

    @property
    def ndim(self) -> int:
        return self.variable.ndim

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        with blamed_on(self.path, "a whole file", ProductError):
            return self.variable[key].values
