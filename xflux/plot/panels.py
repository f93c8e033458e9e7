"""The paper's figures of several panels, for any set of products: Figs. 2, 5, 6, 7 and A1."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux.plot.mapping import colour_scale, draw_field, field_of, southern_edge
from xflux.plot.series import Products, annual, cycle_of, yearly
from xflux.plot.styling import (
    CM,
    PAGE,
    as_products,
    axis_label,
    colour_bar,
    colours,
    common_units,
    drawing,
    ensemble_dim,
    legend,
    quantity_of,
    style,
    unit_label,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MONTH_NAMES = "January February March April May June July August September October November December".split()


@drawing
def global_flux(
    data: Products,
    *,
    errors: Mapping[str, xr.DataArray | float] | None = None,
    members: Iterable[str] = (),
    colour: Mapping[str, str] | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """Fig. 2: annual flux, its mean, detrended anomalies and interannual variability of every product.

    Parameters are those of ``annual``. Anomalies and variability (standard deviation, n − 1) are of the linearly
    detrended annual values of each member; bars show the mean over members and its standard deviation.

    Parameters
    ----------
    data, errors, members, colour : as in ``annual``.
    figure : where to draw.

    Raises
    ------
    ValueError
        Units that differ, no year or time.

    Examples
    --------
    >>> year = {"year": [2018, 2019, 2020, 2021]}
    >>> nee = xr.DataArray([-3.1, -2.8, -3.4, -3.0], year, "year", "nee", {"units": "PgC yr-1"})
    >>> figure = global_flux({"EC": 6 * nee, "EC-ATM": nee, "Budget": nee - 0.2})
    >>> [ax.get_title() for ax in figure.axes]
    ['(a) annual flux', '(b) mean', '(c) detrended anomalies', '(d) interannual variability']
    """
    import matplotlib.pyplot as plt

    products = as_products(data)
    quantity = quantity_of(products)
    products = {name: yearly(da) for name, da in products.items()}
    units, paint = common_units(products), colours(products, colour)
    with style():
        figure = figure or plt.figure(figsize=(PAGE, 10.5 * CM), layout="constrained")
        axes = figure.subplots(2, 2, width_ratios=(2.2, 1))
        look = {"colour": paint, "legend": False, "quantity": quantity}
        annual(products, axes[0, 0], title="(a) annual flux", errors=errors, members=members, **look)
        rest = {name: detrended(da) for name, da in products.items()}
        annual(rest, axes[1, 0], title="(c) detrended anomalies", **look)
        axes[1, 0].axhline(0, color="#A0A0A0", linewidth=0.5, zorder=0)
        _bars(axes[0, 1], {n: da.mean("year") for n, da in products.items()}, paint, "(b) mean", units)
        variability = {n: da.std("year", ddof=1) for n, da in rest.items()}
        _bars(axes[1, 1], variability, paint, "(d) interannual variability", units)
        legend(figure, *axes[:, 0], own=True)
    return figure


def detrended(da: xr.DataArray) -> xr.DataArray:
    """Annual values (year, …) less their linear trend; a gap in the years is allowed."""
    fit = da.polyfit("year", 1).polyfit_coefficients
    return (da - xr.polyval(da["year"].astype("float64"), fit)).assign_attrs(da.attrs)


def _bars(ax, values: Mapping[str, xr.DataArray], paint: Mapping[str, str], title: str, units: str | None) -> None:
    for place, (name, da) in enumerate(values.items()):
        dim = ensemble_dim(da)
        spread = float(da.std(dim, ddof=1)) if dim and da.sizes[dim] > 1 else None
        ax.bar(place, float(da.mean()), color=paint[name], yerr=spread, error_kw={"elinewidth": 0.8, "capsize": 2})
    ax.set_xticks(range(len(values)), list(values), rotation=40, ha="right", rotation_mode="anchor")
    ax.axhline(0, color="#404040", linewidth=0.6)
    ax.set_ylabel(unit_label(units))
    ax.set_title(title)


@drawing
def mean_and_variability(data: Products, *, figure: "Figure | None" = None) -> "Figure":
    """Fig. 5: maps of every product's mean annual flux and of its standard deviation over years.

    Parameters
    ----------
    data : (year | time [, member | inversion], lat, lon); ensembles are averaged first (as in the paper, the second
        row is the variability of the ensemble's mean). Steps shorter than a year become annual means.
    figure : where to draw.

    Raises
    ------
    ValueError
        Units that differ, no year or time.

    Examples
    --------
    >>> place = {"year": [2019, 2020, 2021], "lat": [-45.0, 45.0], "lon": [-135.0, -45.0, 45.0, 135.0]}
    >>> nee = xr.DataArray(np.random.default_rng(0).normal(size=(3, 2, 4)), place, attrs={"units": "gC m-2 d-1"})
    >>> figure = mean_and_variability({"EC": nee, "EC-ATM": nee - 0.5})
    >>> [ax.get_title() or ax.get_xlabel() for ax in figure.axes if ax.get_title() or ax.get_xlabel()]
    ['EC', 'EC-ATM', 'Mean annual flux (gC m$^{-2}$ d$^{-1}$)', 'Standard deviation over years (gC m$^{-2}$ d$^{-1}$)']
    """
    products = {name: yearly(_mean(da), maps=True) for name, da in as_products(data).items()}
    units = common_units(products)
    rows = [
        {name: da.mean("year") for name, da in products.items()},
        {name: da.std("year", ddof=1) for name, da in products.items()},
    ]
    labels = [axis_label("Mean annual flux", units), axis_label("Standard deviation over years", units)]
    return map_rows(rows, labels, [0.0, None], figure=figure)


def _mean(da: xr.DataArray) -> xr.DataArray:
    return da.mean(ensemble_dim(da), keep_attrs=True) if ensemble_dim(da) else da


@drawing
def selected_months(
    first: xr.DataArray,
    second: xr.DataArray,
    *,
    months: Iterable[int] = (1, 4, 7, 10),
    names: tuple[str, str] = ("EC", "EC-ATM"),
    figure: "Figure | None" = None,
) -> "Figure":
    """Fig. 6: mean maps of two products in selected months, and their difference (second − first).

    Parameters
    ----------
    first, second : (month | time [, member], lat, lon), in the same units.
    months, names : the months, 1–12; titles of the two.
    figure : where to draw.

    Raises
    ------
    ValueError
        Units that differ, no month or time.

    Examples
    --------
    >>> place = {"month": np.arange(1, 13), "lat": [-45.0, 45.0], "lon": [-135.0, -45.0, 45.0, 135.0]}
    >>> ec = xr.DataArray(np.random.default_rng(0).normal(size=(12, 2, 4)), place, attrs={"units": "gC m-2 d-1"})
    >>> figure = selected_months(ec, ec + 0.3, months=[7])
    >>> [ax.get_title() or ax.get_ylabel() for ax in figure.axes]
    ['EC', 'EC-ATM', 'EC-ATM − EC', '']
    """
    cycles = [cycle_of(_mean(da), maps=True) for da in (first, second)]
    common_units(dict(zip(names, cycles, strict=True)))
    rows, labels = [], []
    for month in months:
        a, b = (c.sel(month=month) for c in cycles)
        rows.append({names[0]: a, names[1]: b, f"{names[1]} − {names[0]}": b - a})
        labels.append(MONTH_NAMES[month - 1])
    scale = axis_label(quantity_of({"": first}), first.attrs.get("units"))
    return map_rows(rows, labels, [0.0] * len(rows), one_scale=scale, figure=figure)


@drawing
def correlation_maps(
    correlations: Mapping[str, Mapping[str, xr.DataArray]], *, figure: "Figure | None" = None
) -> "Figure":
    """Fig. 7: maps of the correlation in time of two models with each reference, and the models' difference.

    Parameters
    ----------
    correlations : reference → model → (lat, lon) Pearson's R, e.g. ``score(model, reference).r``. With two models a
        third column is the difference first − second.
    figure : where to draw.

    Raises
    ------
    ValueError
        No lat or lon, or no map at all.

    Examples
    --------
    >>> r = xr.DataArray(np.full((2, 4), 0.7), {"lat": [-45.0, 45.0], "lon": [-135.0, -45.0, 45.0, 135.0]})
    >>> figure = correlation_maps({"CarboScope": {"EC-ATM": r, "EC": r - 0.2}})
    >>> [ax.get_title() or ax.get_xlabel() for ax in figure.axes]
    ['EC-ATM', 'EC', 'EC-ATM − EC', "Pearson's R"]
    """
    if not correlations or not all(correlations.values()):
        raise ValueError("correlation maps: nothing to draw; expected {reference: {model: map of R}}")
    rows = []
    for models in correlations.values():
        row = dict(models)
        if len(row) == 2:
            (a, first), (b, second) = row.items()
            row[f"{a} − {b}"] = first - second
        rows.append(row)
    labels = [f"against {name}" for name in correlations]
    return map_rows(rows, labels, [0.0] * len(rows), one_scale="Pearson's R", limit=1.0, figure=figure)


def map_rows(
    rows: list[dict[str, xr.DataArray]],
    labels: list[str],
    centres: list[float | None],
    *,
    one_scale: str | None = None,
    limit: float | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """A grid of maps: a row has one colour scale (or all have one, named ``one_scale``), a column one title."""
    import matplotlib.pyplot as plt

    fields = [{name: field_of(da)[0] for name, da in row.items()} for row in rows]
    columns = max(len(row) for row in fields)
    with style():
        height = len(rows) * (PAGE / columns * 0.5 + (0 if one_scale else 1.0 * CM)) + 1.4 * CM
        figure = figure or plt.figure(figsize=(PAGE, height), layout="compressed")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        everything = [f for row in fields for f in row.values()]
        south = southern_edge(everything)
        shared = _scale(everything, centres[0], limit) if one_scale else None
        for number, (row, label) in enumerate(zip(fields, labels, strict=True)):
            scale = dict(shared or _scale(list(row.values()), centres[number], limit), south=south)
            for ax, (name, field) in zip(axes[number], row.items(), strict=False):
                mesh = draw_field(field, ax, "equal-earth", scale, True)
                ax.set_title(name if number == 0 or set(row) != set(fields[0]) else "")
            if one_scale:
                axes[number, 0].set_ylabel(label)
            else:
                colour_bar(figure, mesh, list(axes[number]), label, extend=scale["extend"], shrink=0.45, aspect=40)
            for ax in axes[number, len(row) :]:
                ax.set_axis_off()
        if shared:
            every = list(axes.ravel())
            colour_bar(figure, mesh, every, one_scale, extend=shared["extend"], shrink=0.45, aspect=40)
    return figure


def _scale(fields: list[xr.DataArray], centre: float | None, limit: float | None) -> dict:
    values = xr.DataArray(np.concatenate([np.asarray(f, dtype="float64").ravel() for f in fields]))
    low = None if limit is None else -limit
    return colour_scale(values, low, limit, centre, None if centre is not None else "viridis")
