"""The forward runs in a form small enough to travel inside the page."""

import base64
import zlib
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.cells import cell_area, edges
from xflux.plot.coast import outlines
from xflux.plot.panels import MONTH_NAMES
from xflux.regions import region_weights
from xflux.report.run import Run
from xflux.units import flux_variables

NO_VALUE = -32768


def map_data(runs: list[Run], resolution: float) -> tuple[dict | None, list[str]]:
    """Everything that the page's map needs as JSON-able data, and what could not be read.

    Every run's every model becomes a layer: 16-bit whole numbers times ``scale`` along ``shows`` (mean of the members,
    their standard deviation), periods (the mean over the year, months by their lengths, first) and cells.
    """
    layers, problems = [], []
    for number, run in enumerate(runs):
        for stem, path in run.fluxes.items():
            try:
                layers.append({"run": number, "label": run.label(stem), **_layer(path, resolution)})
            except Exception as error:  # a half-written or foreign store must not cost the whole page
                problems.append(f"{run.path.name}/flux/{path.name} is not on the map: {type(error).__name__}: {error}")
    if not layers:
        return None, problems
    lines = [np.round(line[:, ::1] * 10).astype(int).ravel().tolist() for line in outlines("reccap2", 0.35, 1.0)]
    return _plain({"layers": layers, "outlines": lines, "runs": [run.title for run in runs]}), problems


def _layer(path: Path, resolution: float) -> dict:
    with xr.open_zarr(path) as store:
        flux = store["nee" if "nee" in store else _only_flux(store)]
        weight = store.get("land_fraction")
        values, lat, lon = _coarse_cycle(flux, weight, resolution)
        units = str(flux.attrs.get("units", "unknown"))
        count = flux.sizes.get("member", 1)
    known = np.isfinite(values).any(axis=(0, 1))
    cells = np.flatnonzero(known)
    if not cells.size:
        raise ValueError("no finite value in it (written half?)")
    chosen = values[:, :, cells]
    largest = np.nanmax(np.abs(chosen))
    scale = float(largest) / 1000 or 1.0  # finer than three digits would not be read, and is large
    whole = np.where(np.isfinite(chosen), np.round(chosen / scale), NO_VALUE).astype("<i2")
    return {
        "units": units,
        "shows": [f"mean of {count} members", "standard deviation of members"] if count > 1 else ["the one member"],
        "periods": ["year", *MONTH_NAMES][: values.shape[1]],
        "lat_edges": lat.round(6).tolist(),
        "lon_edges": lon.round(6).tolist(),
        "cells": _pack(cells.astype("<i4")),
        **_regions(lat, lon, cells),
        "scale": scale,
        "values": _pack(whole),
        "size": cells.size,
        "limit": float(np.nanpercentile(np.abs(chosen[0]), 98)),
    }


def _only_flux(store: xr.Dataset) -> str:
    names = flux_variables(store)
    if len(names) != 1:
        raise ValueError(f"the map shows one flux; this store has {names or 'none'} among {list(store.data_vars)}")
    return str(names[0])


def _pack(values: np.ndarray) -> str:
    """All first bytes, then all second ones: high bytes are much alike, which makes them a fifth smaller."""
    bytewise = values.reshape(-1, 1).view("u1").T
    return base64.b64encode(zlib.compress(bytewise.tobytes(), 9)).decode("ascii")


def _coarse_cycle(flux: xr.DataArray, weight: xr.DataArray | None, resolution: float):
    """(2 | 1, 13 | 1, cells) mean and spread of the members on a coarser grid, its edges; lat and lon rising."""
    from xflux import temporal

    if "time" in flux.dims:
        flux = temporal.mean_seasonal_cycle(flux)
    extra = set(flux.dims) - {"member", "month", "lat", "lon"}
    if extra:
        raise ValueError(f"dims {sorted(map(str, extra))} beside member, month, lat and lon")
    flux = flux.sortby("lat")
    lon = (flux["lon"] + 180.0) % 360.0 - 180.0
    flux = flux.assign_coords(lon=lon.astype("float64")).sortby("lon")
    area = cell_area(flux)
    if weight is not None and {"lat", "lon"} == set(weight.dims):
        weight = weight.sortby("lat").assign_coords(lon=((weight["lon"] + 180.0) % 360.0 - 180.0).astype("float64"))
        area = area * weight.sortby("lon").fillna(0.0).values
    steps = [_factor(flux, d, resolution) for d in ("lat", "lon")]
    days = np.asarray(temporal.step_days(flux)) if "month" in flux.dims else None
    members = range(flux.sizes["member"]) if "member" in flux.dims else [None]
    rows = [_member_rows(flux if m is None else flux.isel(member=m), np.asarray(area), steps, days) for m in members]
    values = np.stack([np.mean(rows, axis=0), *([np.std(rows, axis=0, ddof=1)] if len(rows) > 1 else [])])
    return values, edges(flux["lat"])[:: steps[0]], edges(flux["lon"])[:: steps[1]]


def _factor(flux: xr.DataArray, dim: str, resolution: float) -> int:
    """How many cells are averaged along a dim: the largest divisor of its size that stays within the resolution."""
    size = flux.sizes[dim]
    step = abs(float(flux[dim][-1] - flux[dim][0])) / max(size - 1, 1)
    most = max(int(resolution / step + 1e-6), 1) if step > 0 else 1
    return next(f for f in range(min(most, size), 0, -1) if size % f == 0)


def _member_rows(flux: xr.DataArray, area: np.ndarray, steps: list[int], days: np.ndarray | None) -> np.ndarray:
    """(13 | 1, cells): the year first, then the months."""
    data = np.asarray(flux.transpose(*(d for d in ("month",) if d in flux.dims), "lat", "lon"), dtype="float64")
    data = data.reshape(-1, *data.shape[-2:])
    valid = np.isfinite(data) * area
    shape = (data.shape[0], data.shape[1] // steps[0], steps[0], data.shape[2] // steps[1], steps[1])
    total = valid.reshape(shape).sum(axis=(2, 4))
    means = (np.where(np.isfinite(data), data, 0.0) * valid).reshape(shape).sum(axis=(2, 4))
    months = np.where(total > 0, means / np.where(total > 0, total, 1.0), np.nan).reshape(data.shape[0], -1)
    if days is None:
        return months
    year = (months * days[:, None]).sum(axis=0) / days.sum()
    return np.concatenate([year[None], months])


def _regions(lat: np.ndarray, lon: np.ndarray, cells: np.ndarray) -> dict[str, list[str] | str]:
    """The RECCAP2 region with most land in every cell, by its number among the names, "" for none."""
    grid = xr.DataArray(
        np.zeros((lat.size - 1, lon.size - 1)),
        dims=("lat", "lon"),
        coords={"lat": (lat[1:] + lat[:-1]) / 2, "lon": (lon[1:] + lon[:-1]) / 2},
    )
    weights = region_weights(grid, "reccap2", area_basis="land")
    dense = weights.data.todense().reshape(weights.sizes["region"], -1)[:, cells]
    names = [*map(str, weights["region"].values), ""]
    number = np.where(dense.max(axis=0) > 0, dense.argmax(axis=0), len(names) - 1)
    return {"region_names": names, "regions": _pack(number.astype("u1"))}


def _plain(value):
    """What JSON knows: NaN becomes null, keys are strings."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
