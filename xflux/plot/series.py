"""Lines: mean seasonal cycles, annual series and loss curves, one colour a product, shaded spread."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux import temporal
from xflux.plot.styling import (
    CM,
    COLUMN,
    PAGE,
    as_drawn,
    axis_label,
    called,
    dash,
    drawing,
    ensemble_dim,
    largest,
    line_width,
    mean_and_spread,
    new_axes,
    region_words,
    style,
    subplots,
    wrapped,
)
from xflux.plot.styling import legend as draw_legend
from xflux.regions import aggregate_regions
from xflux.units import usual_amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Products = xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray]
INITIALS = "JFMAMJJASOND"
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F3C8D", "#8C564B", "#80BA5A")


@drawing
def seasonal_cycle(
    data: Products,
    ax: "Axes | None" = None,
    *,
    regions: Iterable[str] | None = None,
    columns: int | None = None,
    spread: str | None = None,
    colour: Mapping[str, str] | None = None,
    dashed: Iterable[str] = (),
    title: str | None = None,
    quantity: str | None = None,
    legend: bool = True,
) -> "Axes | Figure":
    """Mean seasonal cycles, one line a product, with the spread over its members or inversions shaded;
    the Figure of several panels, else the Axes.

    Parameters
    ----------
    data : (month | time [, member | inversion] [, region]) in one array (optionally with a ``product`` dim) or a
        mapping of product names to arrays; arrays with ``time`` are averaged by month first, and gridded ones
        (lat, lon) become the global integral.
    regions : the regions to draw, one panel each; by default all, of more than 30 the largest. With ``ax`` there must
        be exactly one. Titles are the regions' names where an array has the coordinate ``region_name``.
    spread : "std" (mean ± one standard deviation) or "range"; by default the range of inversions, "std" of members.
    dashed : products drawn with dotted lines (references).
    quantity : word of the axis; default the name that all arrays share (NEE, GPP, …), else "Flux".
    ax, columns, colour, title, legend : where to draw one panel; panels in a row; colours by product; title; whether
        there is a legend.

    Raises
    ------
    ValueError
        Units that differ, no month or time, a region that is not there, several on one ``ax``.

    Examples
    --------
    >>> month = np.arange(1, 13)
    >>> nee = xr.DataArray(np.cos(2 * np.pi * month / 12), {"month": month}, "month", "nee", {"units": "PgC month-1"})
    >>> ax = seasonal_cycle({"EC": nee, "Inversions": nee + xr.DataArray([-0.2, 0.2], dims="inversion")})
    >>> ax.get_ylabel(), ax.get_legend_handles_labels()[1]
    ('Flux (PgC month$^{-1}$)', ['EC', 'Inversions, range', 'Inversions, mean'])
    """
    products, label, paint = as_drawn(data, cycle_of, quantity, colour)
    names, note = _region_names(products, regions)
    words = region_words(products)
    if ax is not None and len(names) > 1:
        raise ValueError(f"one ax takes one region, got {len(names)}: choose one with regions=['…'], or leave ax out")
    with style():
        figure, axes = _panels(ax, len(names), columns)
        for panel, region in zip(axes, names, strict=False):
            for name, da in products.items():
                line = da.sel(region=region) if "region" in da.dims else da
                _line(panel, line, "month", paint[name], name, spread, ":" if name in dashed else dash(name))
            panel.set_xticks(range(1, 13), list(INITIALS))
            panel.set_xlim(0.7, 12.3)
            panel.axhline(0, color="#A0A0A0", linewidth=0.5, zorder=0)
            said = title if title is not None and len(names) == 1 else words.get(region, str(region or ""))
            panel.set_title(wrapped(said, 18 if len(names) > 1 else 52))
        if len(names) == 1:
            axes[0].set_ylabel(label)
        else:
            figure.supylabel(label, fontsize=7.5)
            figure.suptitle(title or note.capitalize())
        if legend:
            draw_legend(figure, axes[0], own=ax is None)
    return axes[0] if len(names) == 1 else figure


def cycle_of(da: xr.DataArray, maps: bool = False) -> xr.DataArray:
    """The array as (month, …), averaged where it has time; what is gridded as the global integral, if not as maps."""
    if {"lat", "lon"} <= set(da.dims) and not maps:
        da = global_integral(da, "month")
    if "month" in da.dims:
        return da.sortby("month")
    if "time" not in da.dims:
        raise ValueError(f"a seasonal cycle needs the dim month or time; this array has {da.dims}")
    return temporal.mean_seasonal_cycle(da)


def global_integral(da: xr.DataArray, per: str) -> xr.DataArray:
    """A gridded flux summed over the globe, per month or "yr", in what is usual: PgC, PgH2O, ZJ."""
    units = f"{usual_amount(da.attrs)} {per}-1"
    everywhere = xr.zeros_like(da.isel({dim: 0 for dim in da.dims if dim not in ("lat", "lon")}, drop=True), dtype=int)
    return aggregate_regions(da, everywhere.drop_attrs(deep=False), units=units).isel(region=0, drop=True)


def _region_names(products: Mapping[str, xr.DataArray], chosen: Iterable[str] | None) -> tuple[list, str]:
    """The regions to draw, and words where there are more."""
    with_regions = {name: list(da["region"].values) for name, da in products.items() if "region" in da.dims}
    if not with_regions:
        return [None], ""
    note = ""
    if chosen is None:
        first = next(da for da in products.values() if "region" in da.dims)
        chosen, note = largest({"": first})
    names = [chosen] if isinstance(chosen, str) else list(chosen)
    for product, have in with_regions.items():
        missing = [n for n in names if n not in have]
        if missing:
            raise ValueError(f"{product!r} has no region {missing}; it has {have}")
    return names, note


def _panels(ax: "Axes | None", count: int, columns: int | None) -> tuple["Figure", list]:
    if ax is not None or count == 1:
        ax = new_axes(ax)
        return ax.figure, [ax]
    columns = columns or min(count, 2 if count <= 4 else 3 if count <= 9 else 4)
    size = COLUMN if columns <= 2 else PAGE, -(-count // columns) * 2.9 * CM + 1.6 * CM
    figure, axes = subplots(None, count, columns, size, "constrained", sharex=True)
    for ax in axes[-columns:]:  # with none below it
        ax.tick_params(labelbottom=True)
    return figure, axes


def _line(ax: "Axes", da: xr.DataArray, x: str, paint: str, name: str, spread: str | None, dashes: str) -> None:
    extra = [d for d in da.dims if d != x and d != ensemble_dim(da)]
    if extra:
        raise ValueError(f"{name!r} has the dims {extra} beside {x!r}: select or reduce them first")
    mean, low, high = mean_and_spread(da, spread)
    position = np.asarray(da[x], dtype="float64")
    if ensemble_dim(da):
        what = "range" if spread != "std" and ensemble_dim(da) == "inversion" else "± 1 sd"
        label = called(name, da, what) if ensemble_dim(da) == "inversion" else None
        ax.fill_between(position, np.asarray(low), np.asarray(high), color=paint, alpha=0.2, linewidth=0, label=label)
    marker = "o" if position.size == 1 else None
    width = line_width(name)
    shape = {"linestyle": dashes, "marker": marker, "markersize": 3, "linewidth": width, "zorder": 3 - width / 4}
    ax.plot(position, np.asarray(mean), color=paint, label=called(name, da), **shape)


@drawing
def annual(
    data: Products,
    ax: "Axes | None" = None,
    *,
    errors: Mapping[str, xr.DataArray | float] | None = None,
    members: Iterable[str] = (),
    spread: str | None = None,
    colour: Mapping[str, str] | None = None,
    title: str | None = None,
    quantity: str | None = None,
    legend: bool = True,
) -> "Axes":
    """Annual values by year, one line a product, with the spread over members or inversions shaded (Fig. 2a).

    Parameters
    ----------
    data : (time | year [, member | inversion]) in one array, a ``product`` dim, or a mapping. Steps shorter than a
        year become annual values first; gridded input becomes the global integral in PgC yr-1. Any calendar.
    errors : published ± of a product without members (the budget), a number or an array by year.
    members : products whose single members are drawn as thin dotted lines instead of a shade.
    ax, title, colour, legend, quantity, spread : as in ``seasonal_cycle``.

    Raises
    ------
    ValueError
        Units that differ, no year or time, no whole year, further dims.

    Examples
    --------
    >>> nee = xr.DataArray([-3.1, -2.8, -3.4], {"year": [2019, 2020, 2021]}, "year", "nee", {"units": "PgC yr-1"})
    >>> ax = annual({"EC-ATM": nee + xr.DataArray([-0.1, 0.1], dims="member"), "Budget": nee}, errors={"Budget": 0.6})
    >>> ax.get_ylabel(), ax.get_legend_handles_labels()[1]
    ('Flux (PgC yr$^{-1}$)', ['EC-ATM', 'Budget'])
    """
    products, label, paint = as_drawn(data, yearly, quantity, colour)
    with style():
        own, ax = ax is None, new_axes(ax)
        for name, da in products.items():
            said, years = name, np.asarray(da["year"], dtype="float64")
            if name in members and ensemble_dim(da):
                lines = np.asarray(da.transpose("year", ...))
                thin = ax.plot(years, lines, color=paint[name], linewidth=0.5, linestyle=":", alpha=0.8)
                thin[0].set_label(called(name, da, "single"))
                said, da = called(name, da), da.mean(ensemble_dim(da), keep_attrs=True)
            _line(ax, da, "year", paint[name], said, spread, dash(name))
            if errors and name in errors:
                mean, wide = np.asarray(mean_and_spread(da)[0]), np.asarray(errors[name], dtype="float64")
                ax.fill_between(years, mean - wide, mean + wide, color=paint[name], alpha=0.15, linewidth=0)
        _year_axis(ax)
        ax.set_ylabel(label)
        ax.set_title(title or "")
        if legend:
            draw_legend(ax.figure, ax, own=own)
    return ax


def _year_axis(ax: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set_xlabel("Year")


@drawing
def one_against_many(
    models: Mapping[str, xr.DataArray], targets: Mapping[str, xr.DataArray], **options: object
) -> "Axes | Figure":
    """Figs. C3 to C5: seasonal cycles of models trained on parts of an ensemble (solid) and of those parts (dotted).

    Parameters
    ----------
    models, targets : the same names (an inversion, a pair, a triple) → (month | time [, member] [, region]); each
        name has one colour.
    **options : those of ``seasonal_cycle``.

    Raises
    ------
    ValueError
        Other names on either side; what ``seasonal_cycle`` refuses.

    Examples
    --------
    >>> month = np.arange(1, 13)
    >>> nee = xr.DataArray(np.cos(2 * np.pi * month / 12), {"month": month}, "month", "nee", {"units": "PgC month-1"})
    >>> ax = one_against_many({"CAMS": 0.8 * nee, "CAMS+UoE": nee}, {"CAMS": nee, "CAMS+UoE": 1.1 * nee})
    >>> ax.get_legend_handles_labels()[1]
    ['CAMS', 'CAMS+UoE', 'CAMS (target)', 'CAMS+UoE (target)']
    """
    unknown = sorted(set(models) ^ set(targets))
    if unknown:
        raise ValueError(f"models and targets need the same names; only one side has {unknown}")
    names = list(models)
    paint = {name: _CYCLE[i % len(_CYCLE)] for i, name in enumerate(names)}
    lines = {name: models[name] for name in names} | {f"{name} (target)": targets[name] for name in names}
    options = {"colour": paint | {f"{n} (target)": paint[n] for n in names}, **options}
    return seasonal_cycle(lines, dashed=[f"{n} (target)" for n in names], **options)


def yearly(da: xr.DataArray, maps: bool = False) -> xr.DataArray:
    """The array as (year, …); what is gridded as the global integral, if not as maps."""
    if {"lat", "lon"} <= set(da.dims) and not maps:
        da = global_integral(da, "yr")
    if "year" in da.dims:
        return da.sortby("year")
    if "time" not in da.dims:
        raise ValueError(f"an annual series needs the dim year or time; this array has {da.dims}")
    years = da["time"].dt.year
    if len(np.unique(years)) < da.sizes["time"]:
        da = temporal.annual(da, complete=True)
        if not da.sizes["time"]:
            raise ValueError("the time axis covers no year from end to end: there are no annual values to draw")
        years = da["time"].dt.year
    return da.assign_coords(year=("time", np.asarray(years))).swap_dims(time="year").drop_vars("time").sortby("year")


@drawing
def history(history: xr.Dataset, figure: "Figure | None" = None, *, title: str | None = None) -> "Figure":
    """Loss curves: one panel a loss, training solid and validation dashed, thin lines for members.

    Parameters
    ----------
    history : as ``FluxModel.history``: ``loss`` and ``validation_loss`` (epoch, member, term), one panel a term, and
        ``validation`` (epoch, member), which picks the best epoch (marked where ``best_epoch`` is there). Other
        variables along ``epoch`` or ``step`` [, member] do too: names that hold "val" are validation, the rest
        training, and the name without these words is the panel.
    figure, title : where to draw; title.

    Raises
    ------
    ValueError
        No variable along epoch or step.

    Examples
    --------
    >>> loss = xr.DataArray([[2.0], [1.0], [0.6]], {"epoch": [1, 2, 3], "term": ["EC"]}, ("epoch", "term"))
    >>> figure = history(xr.Dataset({"loss": loss, "validation_loss": 1.2 * loss}))
    >>> [(ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]
    [('EC', 'Epoch', 'Loss')]
    """
    from matplotlib.ticker import MaxNLocator

    curves_of = _history_panels(history)
    if not curves_of:
        raise ValueError(f"no variable with the dim epoch or step in this history: {list(history.data_vars)}")
    with style():
        columns = min(len(curves_of), 3)
        size = COLUMN if columns == 1 else PAGE, -(-len(curves_of) // columns) * 4.5 * CM + 1.2 * CM
        figure, axes = subplots(figure, len(curves_of), columns, size, "constrained")
        for ax, (name, curves) in zip(axes, curves_of.items(), strict=True):
            _curves(ax, curves)
            ax.set_title(name)
            first = next(iter(curves.values()))
            is_loss = "term" in first.coords or name == PICKS or "loss" in name.lower()
            ax.set_ylabel("Loss" if is_loss else axis_label("Value", first.attrs.get("units")))
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            ax.set_xlabel("Epoch" if "epoch" in first.dims else "Step")
        if PICKS in curves_of and "best_epoch" in history:
            where = axes[list(curves_of).index(PICKS)]
            for epoch in np.atleast_1d(history["best_epoch"].values):
                where.axvline(float(epoch), ymax=0.06, color="#000000", linewidth=0.7)
        draw_legend(figure, *axes, own=True)
        figure.suptitle(title or "")
    return figure


PICKS = "Validation (ticks: best epochs)"


def _history_panels(history: xr.Dataset) -> dict[str, dict[str, xr.DataArray]]:
    """Panel → training or validation → (epoch | step [, member])."""
    panels: dict[str, dict[str, xr.DataArray]] = {}
    terms = {str(t).lower(): str(t) for t in history["term"].values} if "term" in history.coords else {}
    for name, da in history.data_vars.items():
        axis = next((d for d in ("epoch", "step") if d in da.dims), None)
        known = axis is not None and np.issubdtype(da.dtype, np.number) and not set(da.dims) - {axis, "member", "term"}
        if not known or name in ("learning_rate", "sigma2"):
            continue
        parts = str(name).lower().replace("-", "_").split("_")
        kind = "validation" if any(p.startswith("val") for p in parts) else "training"
        rest = " ".join(terms.get(p, p) for p in parts if p and not p.startswith(("val", "train")))
        rest = rest[:1].upper() + rest[1:]
        if "term" in da.dims:
            for term in da["term"].values:
                panels.setdefault(str(term).replace("_", " "), {})[kind] = da.sel(term=term)
        else:
            panels.setdefault(rest or PICKS, {})[kind] = da
    return panels


def _curves(ax: "Axes", curves: Mapping[str, xr.DataArray]) -> None:
    lowest, highest = min(float(da.min()) for da in curves.values()), max(float(da.max()) for da in curves.values())
    for kind, da in curves.items():
        axis = "epoch" if "epoch" in da.dims else "step"
        x = np.asarray(da[axis]) if axis in da.coords else np.arange(da.sizes[axis])
        paint, dash = ("#0072B2", "-") if kind == "training" else ("#D55E00", "--")
        values = np.asarray(da.transpose(axis, ...), dtype="float64").reshape(x.size, -1)
        seen = np.isfinite(values).any(axis=1)  # validation may be known at some epochs only
        if values.shape[1] > 1:
            ax.plot(x[seen], values[seen], color=paint, linewidth=0.4, alpha=0.5)
        mean = np.nanmean(values[seen], axis=1) if seen.any() else values[seen][:, 0]
        ax.plot(x[seen], mean, color=paint, linestyle=dash, label=kind)
    if lowest > 0 and highest > 20 * lowest:
        ax.set_yscale("log")
