"""Predicted against observed fluxes at towers (Figs. 8, 9 and C2)."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux.cells import with_lat_lon
from xflux.cells.match import match_labels
from xflux.contents import check_sign
from xflux.plot.styling import (
    CM,
    COLUMN,
    PAGE,
    axis_label,
    colour_bar,
    colours,
    drawing,
    legend,
    new_axes,
    one_variable,
    quantity_of,
    style,
    subplots,
    unit_label,
)
from xflux.values import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@drawing
def scatter(
    observed: xr.DataArray,
    predicted: xr.DataArray,
    ax: "Axes | None" = None,
    *,
    title: str | None = None,
    quantity: str | None = None,
    limits: tuple[float, float] | None = None,
    gridsize: int = 70,
    fit: bool = True,
    colourbar: bool | None = None,
) -> "Axes":
    """Density of predicted against observed values, with the 1:1 line, the least-squares line, RMSE and R².

    Parameters
    ----------
    observed, predicted : arrays of the same dims (any), in the same units; NaN on either side is left out, and an
        ensemble's dim (member) of the prediction is averaged.
    limits : of both axes; default from the 0.1th and 99.9th percentile of the pairs. Values outside are counted in
        RMSE and R² (1 − SSE/SST) but not drawn.
    colourbar : by default only where ``ax`` is not given.
    ax, title, quantity : where to draw; title; word of the axes.
    gridsize, fit : hexagons in a row; whether the line of best fit is drawn.

    Raises
    ------
    ValueError
        Units that differ, no valid pair.

    Examples
    --------
    >>> nee = xr.DataArray(np.random.default_rng(0).normal(size=500), dims="sample", attrs={"units": "gC m-2 d-1"})
    >>> ax = scatter(nee, nee + 0.5)
    >>> ax.get_xlabel(), ax.texts[0].get_text().splitlines()[0]
    ('Observed NEE (gC m$^{-2}$ d$^{-1}$)', 'RMSE 0.50 gC m$^{-2}$ d$^{-1}$')
    """
    observed, predicted = checked(one_variable(observed)), checked(one_variable(predicted))
    check_sign(observed, predicted, ("observed", "predicted"))
    observed_units, units = observed.attrs.get("units"), predicted.attrs.get("units")
    if observed_units and units and observed_units != units:
        raise ValueError(f"observed is in {observed_units!r} and predicted in {units!r}: convert one of them first")
    x, y = _pairs(observed, predicted)
    quantity = quantity or quantity_of({"": observed}, "NEE")
    with style():
        colourbar = ax is None if colourbar is None else colourbar
        ax = new_axes(ax, 0.9 * COLUMN, 7 * CM)
        low, high = limits or _limits(x, y)
        look = {"bins": "log", "mincnt": 1, "cmap": "viridis", "linewidths": 0.1, "rasterized": True}
        mesh = ax.hexbin(x, y, gridsize=gridsize, extent=(low, high, low, high), **look)
        ax.plot([low, high], [low, high], color="#000000", linestyle=":", linewidth=0.9, label="1:1")
        if fit and np.ptp(x) > 0:
            slope, start = np.polyfit(x, y, 1)
            ends = [start + slope * low, start + slope * high]
            ax.plot([low, high], ends, color="#D55E00", linewidth=1.1, label="least squares")
        _corner(ax, x, y, observed_units or units)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=title or "")
        ax.set_yticks([t for t in ax.get_xticks() if low <= t <= high])
        ax.set_xlabel(axis_label(f"Observed {quantity}", observed_units or units))
        ax.set_ylabel(axis_label(f"Predicted {quantity}", units or observed_units))
        if colourbar:
            _density_bar(ax.figure, mesh, ax)
            ax.legend(loc="lower right", frameon=True, framealpha=0.75, edgecolor="none")
    return ax


def _density_bar(figure: "Figure", mesh, axes, rows: int = 1) -> None:
    look = {"orientation": "vertical", "shrink": 0.8, "pad": 0.02, "aspect": 25 * rows}
    colour_bar(figure, mesh, axes, "Samples in a hexagon", **look)


def _pairs(observed: xr.DataArray, predicted: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    observed, predicted = with_lat_lon(observed.astype("float64")), with_lat_lon(predicted.astype("float64"))
    predicted = predicted.mean([d for d in predicted.dims if d not in observed.dims])
    for dim in [d for d in ("lat", "lon") if d in observed.dims and d in predicted.dims]:
        predicted = match_labels(observed, predicted, dim, scored=False)
    observed, predicted = xr.align(observed, predicted, join="exact")
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
    """RMSE, R² and n."""
    sse, sst = float(((y - x) ** 2).sum()), float(((x - x.mean()) ** 2).sum())
    lines = [f"RMSE {np.sqrt(sse / x.size):.2f} {unit_label(units)}".rstrip()]
    if sst > 0:
        lines.append(f"R² {1 - sse / sst:.2f}".replace("-", "−"))
    lines.append(f"n {x.size:,}".replace(",", "\u2009"))
    box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5}
    ax.text(0.03, 0.97, "\n".join(lines), transform=ax.transAxes, va="top", fontsize=6.5, bbox=box)


@drawing
def tower_scatter(
    observed: xr.DataArray,
    predictions: Mapping[str, xr.DataArray],
    *,
    by: xr.DataArray | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """Figs. 8 and C2: one density plot a model, three in a row, and with ``by`` (plant types) one row a group, on the
    same axes and with the same colours of density.

    Parameters
    ----------
    observed : (sample) measured flux.
    predictions : model → (sample [, member]), in the same units.
    by : (sample) labels of the rows.
    figure : where to draw.

    Raises
    ------
    ValueError
        Units that differ, no valid pair.

    Examples
    --------
    >>> nee = xr.DataArray(np.random.default_rng(0).normal(size=100), dims="sample", attrs={"units": "gC m-2 d-1"})
    >>> igbp = xr.DataArray(np.repeat(["ENF", "GRA"], 50), dims="sample")
    >>> figure = tower_scatter(nee, {"EC": 0.8 * nee, "EC-ATM": 0.9 * nee}, by=igbp)
    >>> [ax.get_title() or ax.get_ylabel() for ax in figure.axes]
    ['EC, ENF', 'EC-ATM, ENF', 'EC, GRA', 'EC-ATM, GRA', 'Samples in a hexagon']
    """
    from matplotlib.colors import LogNorm

    groups = [None] if by is None else list(np.unique(np.asarray(by)))
    pairs = [(name, group) for group in groups for name in predictions]
    columns = min(3, len(predictions)) if by is None else len(predictions)
    every = [_pairs(observed, p) for p in predictions.values()]
    limits = _limits(*(np.concatenate(v) for v in zip(*every, strict=True)))
    with style():
        rows = -(-len(pairs) // columns)
        side = min((5.8 if rows < 3 else 4.6) * CM, (PAGE - 2.4 * CM) / columns)
        size = (side * columns + 2.4 * CM, (side + 0.3 * CM) * rows + (2.9 if len(pairs) % columns else 1.7) * CM)
        figure, axes = subplots(figure, len(pairs), columns, size, sharex=True, sharey=True)
        for place, (ax, (name, group)) in enumerate(zip(axes, pairs, strict=True)):
            chosen = slice(None) if group is None else np.flatnonzero(np.asarray(by) == group)
            pair = [a.isel({observed.dims[0]: chosen}) for a in (observed, predictions[name])]
            words = name if group is None else f"{name}, {group}"
            scatter(*pair, ax, title=words, limits=limits, gridsize=45)
            if columns > 3:
                ax.set_xlabel(ax.get_xlabel().replace(" (", "\n("))
            if place % columns:
                ax.set_ylabel("")
            if place < len(pairs) - columns:  # another is below it
                ax.set_xlabel("")
            else:
                ax.tick_params(labelbottom=True)
        meshes = [ax.collections[0] for ax in axes]
        norm = LogNorm(1, max(2.0, *(float(mesh.get_array().max()) for mesh in meshes)))
        for mesh in meshes:
            mesh.set_norm(norm)
        _density_bar(figure, meshes[0], axes, rows)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@drawing
def site_scatter(
    observed: xr.DataArray,
    predictions: Mapping[str, xr.DataArray],
    site: xr.DataArray,
    sites: Iterable[str],
    *,
    figure: "Figure | None" = None,
) -> "Figure":
    """Fig. 9: points and line of best fit of every model at single towers, one panel a tower.

    Parameters
    ----------
    observed, predictions, figure : as in ``tower_scatter``.
    site, sites : (sample) site of each sample; those that are drawn.

    Raises
    ------
    ValueError
        A site without samples.

    Examples
    --------
    >>> nee = xr.DataArray(np.random.default_rng(0).normal(size=100), dims="sample", attrs={"units": "gC m-2 d-1"})
    >>> site = xr.DataArray(np.repeat(["DE-Tha", "US-Ha1"], 50), dims="sample")
    >>> figure = site_scatter(nee, {"EC": 0.8 * nee, "EC-ATM": 0.9 * nee}, site, ["DE-Tha", "US-Ha1"])
    >>> [ax.get_title() for ax in figure.axes], figure.axes[0].get_ylabel()
    (['DE-Tha', 'US-Ha1'], 'Predicted NEE (gC m$^{-2}$ d$^{-1}$)')
    """
    sites, paint = list(sites), colours(predictions)
    missing = sorted(set(sites) - set(np.asarray(site).tolist()))
    if missing:
        raise ValueError(f"no samples of the sites {missing}")
    with style():
        size = (min(PAGE, 6.5 * CM * len(sites)), 8.2 * CM)
        figure, axes = subplots(figure, len(sites), len(sites), size)
        for ax, name in zip(axes, sites, strict=True):
            rows = np.flatnonzero(np.asarray(site) == name)
            for model, predicted in predictions.items():
                x, y = _pairs(observed.isel({site.dims[0]: rows}), predicted.isel({site.dims[0]: rows}))
                _points_and_fit(ax, x, y, model, paint[model])
            low, high = min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])
            ax.plot([low, high], [low, high], color="#000000", linestyle=":", linewidth=0.9)
            ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=name)
            ax.set_xlabel(axis_label("Observed NEE", observed.attrs.get("units")))
        axes[0].set_ylabel(axis_label("Predicted NEE", observed.attrs.get("units")))
        legend(figure, axes[0], own=True)
    return figure


def _points_and_fit(ax: "Axes", x: np.ndarray, y: np.ndarray, name: str, paint: str) -> None:
    ax.plot(x, y, ".", color=paint, markersize=2, alpha=0.35, rasterized=True)
    if np.ptp(x) > 0:
        slope, start = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        ax.plot(ends, start + slope * ends, color=paint, label=name)
