"""The forward runs in a form small enough to travel inside the page."""

import base64
import zlib
from pathlib import Path

import numpy as np
import xarray as xr

from xflux import temporal
from xflux.cells import edges, regrid
from xflux.plot.panels import MONTH_NAMES
from xflux.plot.projection import outlines
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
        grid = _coarse_grid(flux, resolution)
        values = _shown(_on_months(flux, store.get("land_fraction"), grid))
        units = str(flux.attrs.get("units", "unknown"))
        count = flux.sizes.get("member", 1)
    cells = np.flatnonzero(np.isfinite(values).any(axis=(0, 1)))
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
        **{f"{axis}_edges": np.unique(grid[f"{axis}_bnds"]).round(6).tolist() for axis in ("lat", "lon")},
        "cells": _pack(cells.astype("<i4")),
        **_regions(grid, cells),
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


def _coarse_grid(flux: xr.DataArray, resolution: float) -> xr.Dataset:
    """As many cells put together along each axis as divide it and stay within the resolution; its axes rise."""
    coords: dict = {}
    for axis in ("lat", "lon"):
        own = np.asarray(flux[axis], dtype="float64")
        own = np.sort(own if axis == "lat" else (own + 180.0) % 360.0 - 180.0)
        step = np.ptp(own) / max(own.size - 1, 1)
        most = max(int(resolution / step + 1e-6), 1) if step > 0 else 1
        together = next(n for n in range(min(most, own.size), 0, -1) if own.size % n == 0)
        borders = edges(xr.DataArray(own, dims=axis, name=axis))[::together]
        bounds = np.stack([borders[:-1], borders[1:]], axis=1)
        coords |= {axis: bounds.mean(axis=1), f"{axis}_bnds": ((axis, "bnds"), bounds)}
    return xr.Dataset(coords=coords)


def _on_months(flux: xr.DataArray, land: xr.DataArray | None, grid: xr.Dataset) -> xr.DataArray:
    """([member,] month, lat, lon) on a coarser grid: the year first, then the months; the year alone without any."""
    if "time" in flux.dims:
        flux = temporal.mean_seasonal_cycle(flux)
    extra = set(flux.dims) - {"member", "month", "lat", "lon"}
    if extra:
        raise ValueError(f"dims {sorted(map(str, extra))} beside member, month, lat and lon")
    land = land if land is not None and {"lat", "lon"} == set(land.dims) else None
    flux = regrid(flux.astype("float64"), grid, "land", land).reset_coords(drop=True).compute()
    if "month" not in flux.dims:
        return flux.expand_dims("month")
    days = temporal.step_days(flux)
    year = ((flux * days).sum("month", skipna=False) / days.sum()).expand_dims(month=[0])
    return xr.concat([year, flux], "month")


def _shown(flux: xr.DataArray) -> np.ndarray:
    """(2 | 1, 13 | 1, cell): mean and spread of the members."""
    shows = [flux.mean("member", skipna=False) if "member" in flux.dims else flux]
    shows += [flux.std("member", ddof=1, skipna=False)] if flux.sizes.get("member", 1) > 1 else []
    return np.stack([show.transpose("month", "lat", "lon").values.reshape(flux.sizes["month"], -1) for show in shows])


def _regions(grid: xr.Dataset, cells: np.ndarray) -> dict[str, list[str] | str]:
    """The RECCAP2 region with most land in every cell, by its number among the names, "" for none."""
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
