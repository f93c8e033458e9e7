"""Predicted against observed fluxes at towers (Figs. 8, 9 and C2)."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux.plot.style import CM, COLUMN, axis_label, new_axes, one_variable, style, unit_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scatter(
    observed: xr.DataArray,
    predicted: xr.DataArray,
    ax: "Axes | None" = None,
    *,
    title: str | None = None,
    quantity: str = "NEE",
    limits: tuple[float, float] | None = None,
    gridsize: int = 70,
    fit: bool = True,
    colourbar: bool | None = None,
) -> "Axes":
    """Density of predicted against observed values, with the 1:1 line, the line of best fit, RMSE and R².

    Parameters
    ----------
    observed, predicted : arrays of the same dims (any), in the same units; NaN on either side is left out, and an
        ensemble's dim (member) of the prediction is averaged.
    limits : of both axes; default from the 0.1th and 99.9th percentile of the pairs. Values outside are counted in
        RMSE and R² (1 − SSE/SST) but not drawn.
    colourbar : by default only where ``ax`` is not given.
    """
    observed, predicted = one_variable(observed), one_variable(predicted)
    observed_units, units = observed.attrs.get("units"), predicted.attrs.get("units")
    if observed_units and units and observed_units != units:
        raise ValueError(f"observed is in {observed_units!r} and predicted in {units!r}: convert one of them first")
    x, y = _pairs(observed, predicted)
    with style():
        colourbar = ax is None if colourbar is None else colourbar
        ax = new_axes(ax, 0.9 * COLUMN, 7 * CM)
        low, high = limits or _limits(x, y)
        mesh = ax.hexbin(x, y, gridsize=gridsize, extent=(low, high, low, high), bins="log", mincnt=1,
                         cmap="viridis", linewidths=0.1, rasterized=True)
        ax.plot([low, high], [low, high], color="#000000", linestyle=":", linewidth=0.9)
        if fit and np.ptp(x) > 0:
            slope, start = np.polyfit(x, y, 1)
            ax.plot([low, high], [start + slope * low, start + slope * high], color="#D55E00", linewidth=1.1)
        _corner(ax, x, y, units or observed_units)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=title or "")
        ax.set_yticks([t for t in ax.get_xticks() if low <= t <= high])
        ax.set_xlabel(axis_label(f"Observed {quantity}", observed_units or units))
        ax.set_ylabel(axis_label(f"Predicted {quantity}", units or observed_units))
        if colourbar:
            bar = ax.figure.colorbar(mesh, ax=ax, shrink=0.8, pad=0.02)
            bar.set_label("Samples")
            bar.outline.set_linewidth(0.4)
    return ax


def _pairs(observed: xr.DataArray, predicted: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    extra = [d for d in predicted.dims if d not in observed.dims]
    predicted = predicted.astype("float64").mean(extra)
    observed, predicted = xr.align(observed.astype("float64"), predicted, join="exact")
    observed, predicted = xr.broadcast(observed, predicted)
    x, y = np.asarray(observed).ravel(), np.asarray(predicted).ravel()
    valid = np.isfinite(x) & np.isfinite(y)
    if not valid.any():
        raise ValueError("no pair of observed and predicted values is valid (all NaN)")
    return x[valid], y[valid]


def _limits(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    both = np.concatenate([x, y])
    low, high = np.percentile(both, [0.1, 99.9])
    margin = 0.03 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _corner(ax: "Axes", x: np.ndarray, y: np.ndarray, units: str | None) -> None:
    sse, sst = float(((y - x) ** 2).sum()), float(((x - x.mean()) ** 2).sum())
    lines = [f"RMSE {np.sqrt(sse / x.size):.2f} {unit_label(units)}"]
    if sst > 0:
        lines.append(f"R² {1 - sse / sst:.2f}")
    lines.append(f"n {x.size:,}".replace(",", "\u2009"))
    ax.text(0.03, 0.97, "\n".join(lines), transform=ax.transAxes, va="top", fontsize=7,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5})
