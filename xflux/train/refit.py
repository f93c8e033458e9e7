"""The bridge fitted anew on the members' own field, and what a checkpoint keeps of it."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import torch
import xarray as xr

from xflux.bridge import FitOptions, fit_bridge
from xflux.train.calendar import Slots
from xflux.train.grid import GridRows
from xflux.train.integral import Integral
from xflux.train.network import Network
from xflux.train.target import MONTHS, RegionalTarget

FIELD_LIMIT = 2e8  # numbers of a field (member × month × cell) beyond which years are averaged


def fitted_anew(bridge, field: xr.DataArray, weights: xr.DataArray, seed: int):
    """A bridge from `field`, with the options of the first one (R², window, months …).

    R² is asked of what is left without the mean seasonal cycle where there are several members. The cycle alone makes
    up most of the variance: a few pixels follow it well and the level badly, and training moves the level.
    """
    given = getattr(bridge, "attrs", {})
    options = {f.name: given[f.name] for f in fields(FitOptions) if f.name in given} | {"seed": seed}
    if field.sizes["member"] > 1:
        options["target"] = "anomalies"
    return fit_bridge(field, weights, area_basis="land", **options)


def monthly_field(whole: Integral, network: Network, grid: xr.Dataset, rate: float, units: str) -> xr.DataArray:
    """Monthly mean flux of all members on the drivers' grid ``(member, month | time, lat, lon)``, times `rate`.

    Dated drivers give every month that they have, or their mean seasonal cycle where that would be too much. The
    months do not depend on the target's steps.
    """
    rows = whole.pixels.rows
    n_cells = grid.sizes["lat"] * grid.sizes["lon"]
    months, coordinate = _months(rows, whole.members * n_cells)
    steps = Slots.of(months, rows, False).every_step(torch.tensor(months.values[None]))
    values = np.full((whole.members, steps.slot.shape[-1], n_cells), np.nan, np.float32)
    at, _ = whole.everything()
    amount = whole.change(network, at, steps, None)
    present = rows.present(at, steps.steps)
    days = steps.slot.sum(1, keepdim=True) if present is None else present @ steps.slot
    values[..., rows.cells] = (amount * rate / days).transpose(1, 2).cpu().numpy()
    return xr.DataArray(
        values.reshape(whole.members, -1, grid.sizes["lat"], grid.sizes["lon"]),
        dims=("member", coordinate.name, "lat", "lon"),
        coords={coordinate.name: coordinate.values, "lat": grid["lat"], "lon": grid["lon"]},
        attrs={"units": units, "area_basis": "land"},
    )


def check_months(rows: GridRows) -> None:
    """Raise where the drivers do not fill the months of a year, as `monthly_field` needs them."""
    Slots.of(_months(rows, 1)[0], rows, False)


def path_field(
    whole: Integral, network: Network, path: list[dict[str, np.ndarray]], grid: xr.Dataset, rate: float, units: str
) -> xr.DataArray:
    """`monthly_field` of the weights of some epochs, end to end along ``member``; the network is left as it was.

    The epochs before say what training changes, so that the bridge follows that too.
    """
    now, fields_ = network.state(), []
    for state in path:
        network.load(state)
        fields_.append(monthly_field(whole, network, grid, rate, units))
    network.load(now)
    return xr.concat(fields_, "member")


def _months(rows: GridRows, numbers: int) -> tuple[RegionalTarget, xr.DataArray]:
    """A target without regions on the months of the drivers, and the coordinate of these months."""
    cycle = RegionalTarget(np.zeros((1, 0, MONTHS)), (), ("",), None, np.arange(1, MONTHS + 1), False)
    by_month = xr.DataArray(np.arange(1, MONTHS + 1), dims="month", name="month")
    if rows.axis != "time":
        return cycle, by_month
    year, month = rows.dates.dt.year.values, rows.dates.dt.month.values
    label, first = np.unique(year * MONTHS + month - 1, return_index=True)
    if len(label) * numbers > FIELD_LIMIT or len(label) < 2 or np.diff(label).max() > 1:
        return cycle, by_month
    dated = replace(cycle, values=np.zeros((1, 0, len(label))), year=label // MONTHS, month=label % MONTHS + 1)
    kept = Slots.of(dated, rows, False).column
    if len(kept) < len(label):  # a month of which little is there
        return cycle, by_month
    return dated, rows.dates.isel(time=first).rename("time")


def bridge_state(bridge, names: np.ndarray) -> dict[str, np.ndarray]:
    """Pixels and regions of a bridge as plain arrays, the regions in the order of `names`."""
    pixels, regions = bridge.pixels, bridge.regions.sel(region=names)
    labels = list(names)
    kept = {k: np.asarray(pixels[k].values, float) for k in ("lat", "lon", "weight")}
    kept["number"] = np.array([labels.index(name) for name in pixels["region"].values], np.int64)
    return kept | {k: np.asarray(regions[k].values, float) for k in ("intercept", "land_area")}


def bridge_of(state: dict[str, np.ndarray], names: np.ndarray):
    """What the trainer needs of a bridge, from its `bridge_state`."""
    pixels = xr.Dataset({k: ("pixel", state[k]) for k in ("lat", "lon", "weight")})
    pixels["region"] = ("pixel", names[state["number"]])
    regions = xr.Dataset({k: ("region", state[k]) for k in ("intercept", "land_area")}, {"region": names})
    return SimpleNamespace(pixels=pixels, regions=regions)
