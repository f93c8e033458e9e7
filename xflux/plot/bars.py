"""Bars, ranges and points by region or latitude band."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux.plot.series import Products
from xflux.plot.styling import (
    CM,
    COLUMN,
    as_drawn,
    as_products,
    colours,
    drawing,
    ensemble_dim,
    largest,
    mean_and_spread,
    new_axes,
    region_words,
    style,
)
from xflux.plot.styling import legend as draw_legend
from xflux.regions import aggregate_regions
from xflux.regions.globe import GLOBAL
from xflux.temporal import step_days
from xflux.temporal.calendar import AXES
from xflux.units import usual_amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_KINDS = ("bar", "range", "point")
_MARKERS = "DosvP^X"
# Paul Tol's "muted" qualitative scheme, safe for colour-blind readers; hatched when it starts again
_MUTED = "#332288 #88CCEE #44AA99 #117733 #999933 #DDCC77 #CC6677 #882255 #AA4499 #BBBBBB".split()


@drawing
def regions(
    data: Products,
    ax: "Axes | None" = None,
    *,
    kinds: Mapping[str, str] | None = None,
    spread: str | None = None,
    colour: Mapping[str, str] | None = None,
    title: str | None = None,
    quantity: str | None = None,
    label: str | None = None,
    legend: bool = True,
) -> "Axes":
    """Several products side by side for every region or band, one row a region, the globe above on its own axis.

    Rows are called by the coordinate ``region_name`` where there is one; of more than 30 regions the largest are drawn.

    Parameters
    ----------
    data : (region [, member | inversion]) in one array, a ``product`` dim, or a mapping. Gridded input becomes the
        annual integrals of the RECCAP2 regions.
    kinds : how each product is drawn: "bar" (mean with an error bar over members), "range" (grey band from the
        lowest to the highest member, the mean as a line) or "point". Default: "range" for arrays with the dim
        ``inversion``, else "bar"; single values beside other bars with members are "point".
    ax, title, colour, legend : where to draw; title; colours by product; whether there is a legend.
    spread : "std" or "range", of a bar's error.
    quantity, label : word of the axis, or all of its text.

    Raises
    ------
    ValueError
        Units that differ, no dim region, amounts along a time axis, an unknown kind.

    Examples
    --------
    >>> nee = xr.DataArray([-0.4, 0.1, -0.6], {"region": ["EU", "BRA", "RUS"]}, "region", "nee", {"units": "PgC yr-1"})
    >>> spread = xr.DataArray([-0.1, 0.0, 0.1], dims="inversion")
    >>> ax = regions({"Inversions": nee + spread, "EC-ATM": nee + spread.rename(inversion="member")})
    >>> ax.get_xlabel(), [tick.get_text() for tick in ax.get_yticklabels()]
    ('Flux (PgC yr$^{-1}$)', ['EU', 'BRA', 'RUS'])
    """
    products, text, paint = as_drawn(data, _by_region, quantity, colour)
    kinds = {name: (kinds or {}).get(name) or _default_kind(da, products) for name, da in products.items()}
    wrong = {name: kind for name, kind in kinds.items() if kind not in BAR_KINDS}
    if wrong:
        raise ValueError(f"a product is drawn as one of {BAR_KINDS}, got {wrong}")
    names, note = largest(products)
    globe = [GLOBAL] if GLOBAL in names and len(names) > 1 else []
    names = [n for n in names if n not in globe]
    words = region_words(products)
    title = "\n".join(part for part in (title, note) if part)
    with style():
        own, ax = ax is None, _axes(ax, len(names) + 2 * len(globe), sum(k == "bar" for k in kinds.values()))
        _rows(ax, names, products, kinds, paint, spread)
        _finish(ax, [words.get(n, n) for n in names], label or text, "" if globe else title)
        if globe:  # beside the globe's sum, regions on the same axis would be squashed
            above = _above(ax, len(names))
            _rows(above, globe, products, kinds, paint, spread)
            _finish(above, [words[GLOBAL]], "", title)
        if legend:
            draw_legend(ax.figure, ax, own=own)
    return ax


def _rows(ax: "Axes", names: list, products: Mapping[str, xr.DataArray], kinds, paint, spread: str | None) -> None:
    bars, points = ([n for n, k in kinds.items() if k == kind] for kind in ("bar", "point"))
    height = 0.8 / max(len(bars), 1)
    for name, da in products.items():
        kind, look = kinds[name], {"color": paint[name]}
        spreads = mean_and_spread(da.reindex(region=names), "range" if kind == "range" else spread)
        mean, low, high = (np.asarray(values) for values in spreads)
        rows = np.arange(len(names), dtype="float64")
        if kind == "range":
            ax.barh(rows, high - low, 0.9, low, label=f"{name}, range", alpha=0.22, linewidth=0, zorder=1, **look)
            ax.vlines(mean, rows - 0.45, rows + 0.45, linewidth=1.2, zorder=4, label=f"{name}, mean", **look)
        elif kind == "bar":
            rows += (bars.index(name) - (len(bars) - 1) / 2) * height
            ax.barh(rows, mean, height, label=name, zorder=2, **look)
            if ensemble_dim(da):
                ax.hlines(rows, low, high, color="#202020", linewidth=0.7, zorder=3)
        else:
            if ensemble_dim(da):
                ax.hlines(rows, low, high, linewidth=0.9, zorder=5, **look)
            look |= {"markersize": 3.6, "markeredgecolor": "white", "markeredgewidth": 0.4}
            ax.plot(mean, rows, _MARKERS[points.index(name) % len(_MARKERS)], label=name, zorder=6, **look)


def _by_region(da: xr.DataArray) -> xr.DataArray:
    if {"lat", "lon"} <= set(da.dims):
        da = aggregate_regions(da, "reccap2", units=f"{usual_amount(da.attrs)} yr-1")
    if "region" not in da.dims:
        raise ValueError(f"bars by region need the dim region; this array has {da.dims}")
    for d in [d for d in AXES if d in da.dims]:
        if "month" in str(da.attrs.get("units", "")):
            raise ValueError(f"amounts per month along {d!r}: reduce them to one value first (sum or .flux.annual())")
        da = da.weighted(step_days(da)).mean(d, keep_attrs=True)
    return da


def _default_kind(da: xr.DataArray, products: Mapping[str, xr.DataArray]) -> str:
    if "inversion" in da.dims:
        return "range"
    others_have_members = any("member" in other.dims for other in products.values())
    return "bar" if ensemble_dim(da) or not others_have_members else "point"


def _axes(ax: "Axes | None", rows: int, bars: int) -> "Axes":
    return new_axes(ax, COLUMN, max(4.0, 2.4 + rows * max(0.42, 0.18 * bars)) * CM)


def _above(ax: "Axes", rows: int) -> "Axes":
    """Axes of one row over ``ax``, in the place that both share from now on."""
    edges = dict(zip(("left", "bottom", "right", "top"), ax.get_position().extents, strict=True))
    spec = ax.get_subplotspec() or ax.figure.add_gridspec(1, 1, **edges)[0]
    first, second = spec.subgridspec(2, 1, height_ratios=(1.2, rows), hspace=0.3)
    ax.set_subplotspec(second)
    return ax.figure.add_subplot(first)


def _finish(ax: "Axes", names: list, label: str, title: str | None, ordered: bool = False) -> None:
    ax.set_yticks(range(len(names)), [str(n).replace("_", " ") for n in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.4, -0.6)
    bands = [re.fullmatch(r"(?:(\d+)([NS])|EQ)-(?:\d+[NS]|EQ)", str(n)) for n in names]
    if all(bands) and not ordered:
        south = [int(b[1] or 0) * (-1 if b[2] == "S" else 1) for b in bands]
        if south[0] < south[-1]:
            ax.invert_yaxis()  # latitude bands: north on top
    ax.axvline(0, color="#404040", linewidth=0.6, zorder=2.5)
    ax.grid(axis="x", color="#E0E0E0", linewidth=0.4)
    ax.set_xlabel(label)
    ax.set_title(title or "")


@drawing
def efficiency(
    data: Products, ax: "Axes | None" = None, *, order_by: str | None = None, colour: Mapping[str, str] | None = None
) -> "Axes":
    """Fig. 3: normalised Nash–Sutcliffe efficiency by region, regions in falling order of one product.

    Parameters
    ----------
    data : (region) ``score(…).nnse`` of every product.
    order_by : the product that orders; default the first.
    ax, colour : where to draw; colours by product.

    Raises
    ------
    ValueError
        ``order_by`` is no product.

    Examples
    --------
    >>> nnse = xr.DataArray([0.4, 0.9, 0.7], {"region": ["BRA", "RUS", "EU"]}, "region")
    >>> ax = efficiency({"EC-ATM": nnse, "EC": nnse - 0.2})
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['RUS', 'EU', 'BRA']
    """
    products = as_products(data)
    paint, first = colours(products, colour), order_by or next(iter(products))
    if first not in products:
        raise ValueError(f"order_by={first!r} is none of the products {list(products)}")
    order = products[first].sortby(products[first], ascending=False)["region"].values
    with style():
        own, ax = ax is None, _axes(ax, len(order), len(products))
        height = 0.8 / len(products)
        for place, (name, da) in enumerate(products.items()):
            rows = np.arange(len(order)) + (place - (len(products) - 1) / 2) * height
            ax.barh(rows, np.asarray(da.sel(region=order)), height=height, color=paint[name], label=name)
        words = region_words(products)
        _finish(
            ax, [words.get(n, n) for n in order.tolist()], "Normalised Nash–Sutcliffe efficiency", None, ordered=True
        )
        ax.axvline(0.5, color="#404040", linewidth=0.7, linestyle=":")
        ax.set_xlim(0, 1)
        draw_legend(ax.figure, ax, own=own)
    return ax


@drawing
def plant_types(
    selected: xr.DataArray, available: xr.DataArray, ax: "Axes | None" = None, *, title: str | None = None
) -> "Axes":
    """Fig. B3: share of every plant type among contributing pixels, and (black outline) among all pixels.

    Parameters
    ----------
    selected, available : (pft) counts or shares; both are scaled to sum to 1.
    ax, title : where to draw; title.

    Raises
    ------
    ValueError
        No dim pft.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> pixels = xr.DataArray([60, 30, 10], {"pft": ["ENF", "GRA", "CRO"]}, "pft")
    >>> ax = plant_types(pixels.sel(pft=["ENF", "GRA"]), pixels)
    >>> [float(round(bar.get_width(), 2)) for bar in ax.patches]
    [0.67, 0.33, 0.0, 0.6, 0.3, 0.1]
    """
    if "pft" not in available.dims or "pft" not in selected.dims:
        raise ValueError(
            f"plant types: expected the dim pft, got {selected.dims} and {available.dims}; rename yours to it"
        )
    names = list(available["pft"].values)
    with style():
        own, ax = ax is None, _axes(ax, len(names), 1)
        rows = np.arange(len(names))
        shares = [np.asarray(da.reindex(pft=names, fill_value=0), dtype="float64") for da in (selected, available)]
        chosen, everywhere = (s / s.sum() for s in shares)
        ax.barh(rows, chosen, height=0.75, color="#0072B2", label="contributing pixels")
        ax.barh(rows, everywhere, height=0.75, facecolor="none", edgecolor="#000000", linewidth=0.9, label="all pixels")
        _finish(ax, names, "Share of pixels", title)
        draw_legend(ax.figure, ax, own=own)
    return ax


@drawing
def composition(shares: xr.DataArray, ax: "Axes | None" = None, *, title: str | None = None) -> "Axes":
    """Fig. B4: plant types of the contributing pixels of every region, as stacked bars.

    Parameters
    ----------
    shares : (region, pft) counts or shares; every region is scaled to sum to 1.
    ax, title : where to draw; title.

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> pixels = xr.DataArray([[3, 1], [1, 1]], {"region": ["EU", "BRA"], "pft": ["ENF", "GRA"]}, ("region", "pft"))
    >>> ax = composition(pixels)
    >>> [float(bar.get_width()) for bar in ax.patches]
    [0.75, 0.5, 0.25, 0.5]
    """
    shares = shares.transpose("region", "pft").astype("float64")
    shares = shares / shares.sum("pft")
    names = [str(r) for r in shares["region"].values]
    with style():
        own, ax = ax is None, _axes(ax, len(names), 1)
        start = np.zeros(len(names))
        for place, pft in enumerate(shares["pft"].values):
            width = np.nan_to_num(np.asarray(shares.sel(pft=pft)))
            look = {"facecolor": _MUTED[place % len(_MUTED)], "edgecolor": "white", "linewidth": 0}
            hatch = "////" if place >= len(_MUTED) else None
            ax.barh(
                range(len(names)), width, left=start, height=0.8, label=str(pft).replace("_", " "), hatch=hatch, **look
            )
            start += width
        _finish(ax, names, "Share of contributing pixels", title)
        ax.set_xlim(0, 1)
        draw_legend(ax.figure, ax, own=own)
    return ax
