"""What a bridge is, and whether it holds: text, diagnosis (paper, Sect. 3.5), its pixels' plant types (Fig. B3, B4)."""

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from xflux.bridge import lasso
from xflux.bridge.samples import CONSTANT, EMPTY, nearest_cells
from xflux.cells import nearest, standardise
from xflux.temporal.calendar import AXES
from xflux.values import warn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ("n_pixels", "r2", "r2_cv", "r2_anomaly", "intercept", "alpha", "status")


def _headline(regions: xr.Dataset, opts: dict[str, Any]) -> str:
    band = "no band" if opts.get("window") is None else f"DTW band {opts['window']} months"
    form = "mean rates" if opts.get("month_lengths", True) else "months as they are (the paper's literal form)"
    return (
        f"{int(regions['n_pixels'].sum())} contributing pixels for {regions.sizes['region']} regions; "
        f"fitted to R² {opts.get('r2')} on {opts.get('n_samples')} samples, {form}, {band}, seed {opts.get('seed')}"
    )


def _shown(regions: xr.Dataset) -> pd.DataFrame:
    """The table by region as text."""
    frame = regions[list(_COLUMNS)].to_dataframe()[list(_COLUMNS)]
    for name in ("r2", "r2_cv", "r2_anomaly", "intercept", "alpha"):
        digits = ".3f" if name.startswith("r2") else ".3g"
        frame[name] = ["–" if np.isnan(value) else format(value, digits) for value in frame[name]]
    return frame.reset_index()


def readable(regions: xr.Dataset, options: dict[str, Any]) -> str:
    """The readable form: a headline and one line a region."""
    return f"<xflux.Bridge> {_headline(regions, options)}\n{_shown(regions).to_string(index=False)}"


def html(regions: xr.Dataset, options: dict[str, Any]) -> str:
    """The same as an HTML table, for notebooks."""
    table = _shown(regions).to_html(index=False, border=0)
    return f"<div><b>xflux.Bridge</b><br>{escape(_headline(regions, options))}{table}</div>"


def diagnose(
    regions: xr.Dataset,
    options: dict[str, Any],
    bridged: xr.DataArray,
    full: xr.DataArray,
    threshold: float | None,
    warn: bool,
) -> xr.Dataset:
    """What :meth:`Bridge.diagnose` returns, from both integrals (…, region)."""
    import dask

    labels = regions["region"].values
    b, f = (np.reshape(v, (-1, labels.size)) for v in dask.compute(bridged.data, full.data))
    rows = [_compare(b[:, k], f[:, k]) for k in range(labels.size)]
    out = xr.Dataset({name: ("region", np.array([row[name] for row in rows])) for name in rows[0]}, {"region": labels})
    fitted = np.minimum(regions["r2"].values, options.get("r2", 0.95))
    limit = fitted - 0.1 if threshold is None else np.full(labels.size, threshold)
    constant = regions["status"].values == CONSTANT
    still = out["rmse"].values <= 0.01 * np.abs(out["full"].values)
    out["holds"] = ("region", np.where(constant, still, out["r2"].values >= limit).astype(bool))
    for name in ("bias", "rmse", "full", "bridged"):
        out[name].attrs["units"] = full.attrs["units"]
    if warn:
        _warn_broken(out.isel(region=regions["status"].values != EMPTY))
    return out


def _warn_broken(diagnosis: xr.Dataset) -> None:
    broken = diagnosis.isel(region=~diagnosis["holds"].values)
    judged = np.isfinite(broken["r2"].values) | (broken["rmse"].values > 0)
    said = []
    if judged.any():
        said.append(
            f"the bridge no longer holds for {', '.join(_named(broken.isel(region=judged)))}: the pattern of the flux "
            "has changed there; fit it anew."
        )
    if not judged.all():
        labels = ", ".join(map(str, broken["region"].values[~judged]))
        said.append(
            f"the bridge cannot be judged for {labels}: a contributing pixel, or every pixel, of the region is missing "
            "in this field."
        )
    if said:
        warn(" ".join(said))


def _named(broken: xr.Dataset) -> list[str]:
    units = broken["bias"].attrs["units"]
    return [
        f"{name} (R² {r2:.2f}, bias {bias:+.3g} {units})"
        for name, r2, bias in zip(*(broken[v].values for v in ("region", "r2", "bias")), strict=True)
    ]


def _compare(bridged: np.ndarray, full: np.ndarray) -> dict[str, float]:
    """n, R² (1 − SSE/SST), slope, bias, RMSE and the means, over pairs where both are known."""
    both = np.isfinite(bridged) & np.isfinite(full)
    b, f = bridged[both], full[both]
    if not b.size:
        return {"n": 0} | dict.fromkeys(("r2", "slope", "bias", "rmse", "full", "bridged"), np.nan)
    r2 = lasso.r_squared(f, b)
    centred = f - f.mean()
    slope = float(centred @ b / (centred @ centred)) if np.isfinite(r2) else np.nan
    error = b - f
    return {
        "n": b.size, "r2": r2, "slope": slope, "bias": float(error.mean()), "rmse": float(np.sqrt(np.mean(error**2))),
        "full": float(f.mean()), "bridged": float(b.mean()),
    }  # fmt: skip


def plot_diagnosis(
    diagnosis: xr.Dataset, bridged: xr.DataArray, full: xr.DataArray, ax: "Axes | None" = None
) -> "Axes":
    """Bridged against full integrals (PgC month-1), a colour per region and the line of equality; broken ones named."""
    import matplotlib.pyplot as plt

    from xflux.plot.styling import CM, PAGE, axis_label, new_axes, style

    colours = plt.get_cmap("tab20")
    with style():
        ax = new_axes(ax, 0.75 * PAGE, 8.5 * CM)
        for k, label in enumerate(diagnosis["region"].values):
            row = diagnosis.sel(region=label)
            if not int(row["n"]):
                continue
            said = f"{label} R² {float(row['r2']):.2f}{'' if bool(row['holds']) else ', broken'}".replace("-", "−")
            values = [obj.sel(region=label).values.ravel() for obj in (full, bridged)]
            ax.plot(*values, ".", color=colours(k % 20), markersize=3, label=said)
        ends = ax.get_xlim()
        ax.plot(ends, ends, ":", color="#000000", linewidth=0.9, zorder=0, label="1:1")
        ax.set_xlabel(axis_label("Full integral", full.attrs["units"]))
        ax.set_ylabel(axis_label("Through the bridge", full.attrs["units"]))
        ax.legend(markerscale=2, loc="upper left", bbox_to_anchor=(1.02, 1.02))
    return ax


def composition(pixels: xr.Dataset, weights: xr.DataArray, pft: xr.DataArray) -> xr.Dataset:
    """PFTs of the contributing pixels against those of the land.

    ``pixels`` and ``weights``: of a fitted bridge. ``pft``: on the bridge's grid (or one whose cells hold the pixels):
    a class per cell (lat, lon), named by ``flag_values`` and ``flag_meanings`` where it has them, or fractions (pft,
    lat, lon), of which a cell's majority counts. NaN is no class.
    Returned: by ``region`` and ``pft``: ``pixels`` (count of contributing pixels), ``pixel_share``, ``weight_share``
    (of the sum of absolute weights), ``land_share`` (of the region's area, by majority class: the outline in Fig. B3);
    and the same over all regions, ``all_pixels``, ``all_pixel_share``, ``all_land_share`` (pft).
    """
    classes, names = _majority(standardise(pft))
    row, column = nearest_cells(pixels, classes)
    labels = weights["region"].values
    region = np.array([list(labels).index(name) for name in pixels["region"].values], int)
    kind = classes.values[row, column]
    count, weight = (np.zeros((labels.size, names.size)) for _ in range(2))
    known = kind >= 0
    np.add.at(count, (region[known], kind[known]), 1)
    np.add.at(weight, (region[known], kind[known]), np.abs(pixels["weight"].values[known]))
    land = _land(weights, classes, names.size)
    dims = ("region", "pft")
    return xr.Dataset(
        {
            "pixels": (dims, count.astype(int)),
            "pixel_share": (dims, _shares(count)),
            "weight_share": (dims, _shares(weight)),
            "land_share": (dims, _shares(land)),
            "all_pixels": ("pft", count.sum(axis=0).astype(int)),
            "all_pixel_share": ("pft", _shares(count.sum(axis=0)[None])[0]),
            "all_land_share": ("pft", _shares(land.sum(axis=0)[None])[0]),
        },
        {"region": labels, "pft": names},
    )


def _majority(pft: xr.DataArray) -> tuple[xr.DataArray, np.ndarray]:
    """Index of every cell's class (lat, lon), −1 for none, and the classes' names."""
    front = [dim for dim in pft.dims if dim not in ("lat", "lon")]
    if len(front) > 1 or set(front) & set(AXES):
        raise ValueError(f"a PFT map has the dims (lat, lon) or (pft, lat, lon); got {pft.dims}: take one, as in isel.")
    if front:
        shares = pft.transpose(front[0], "lat", "lon").fillna(0.0)
        index = shares.argmax(front[0]).where(shares.max(front[0]) > 0, -1).astype(int)
        names = pft[front[0]].values if front[0] in pft.coords else np.arange(pft.sizes[front[0]])
        return index, np.asarray(names)
    values = pft.transpose("lat", "lon")
    found = np.unique(values.values[np.isfinite(values.values)])
    index = xr.full_like(values, -1, dtype=int)
    index.values[:] = np.where(np.isfinite(values), np.searchsorted(found, values.fillna(0)), -1)
    return index, _names(found, pft.attrs)


def _names(found: np.ndarray, attrs: dict) -> np.ndarray:
    flags = np.atleast_1d(attrs.get("flag_values", [])).tolist()
    meanings = attrs.get("flag_meanings", "")
    meanings = meanings.split() if isinstance(meanings, str) else list(meanings)
    known = dict(zip(flags, meanings, strict=False))
    return np.array([str(known.get(value, f"{value:g}")) for value in found.tolist()])


def _land(weights: xr.DataArray, classes: xr.DataArray, size: int) -> np.ndarray:
    """Area (region, class) in m2, each cell under its majority class; cells of no class count for none."""
    coo = weights.transpose("region", "lat", "lon").data
    row, column = (nearest(classes[axis].values, weights[axis].values, axis)[0] for axis in ("lat", "lon"))
    kind = classes.values[row[coo.coords[1]], column[coo.coords[2]]]
    area = np.zeros((coo.shape[0], size))
    known = kind >= 0
    np.add.at(area, (coo.coords[0][known], kind[known]), coo.data[known])
    return area


def _shares(values: np.ndarray) -> np.ndarray:
    total = values.sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)
