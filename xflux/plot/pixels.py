"""Where a bridge reads the flux: contributing pixels, and how often each is chosen."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux.plot.mapping import decorate, draw_field, draw_lines
from xflux.plot.projection import outlines, project, rim
from xflux.plot.styling import CM, COLUMN, colour_bar, drawing, new_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@drawing
def bridge(
    pixels: xr.Dataset,
    ax: "Axes | None" = None,
    *,
    projection: str = "equal-earth",
    title: str | None = None,
    largest: float = 45.0,
) -> "Axes":
    """A map of a bridge's contributing pixels, their area proportional to the weight, their colour its sign.

    Parameters
    ----------
    pixels : Dataset along ``pixel`` with ``lat``, ``lon``, ``weight`` and ``region``, as ``Bridge.pixels``.
    largest : area in points² of the marker of the largest weight.
    ax, projection, title : as in ``map``.

    Raises
    ------
    ValueError
        A variable is missing from ``pixels``.

    Examples
    --------
    >>> weight = ("pixel", [3.0, 1.0, -0.5])
    >>> pixels = xr.Dataset({"weight": weight}, {"lat": ("pixel", [50.0, 60, -10]), "lon": ("pixel", [10.0, 60, -60])})
    >>> ax = bridge(pixels)
    >>> ax.get_title(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('3 contributing pixels', ['positive weight (2)', 'negative weight (1)'])
    """
    pixels = getattr(pixels, "pixels", pixels)
    missing = [name for name in ("lat", "lon", "weight") if name not in pixels.variables]
    if missing:
        raise ValueError(f"a bridge's pixels need {missing}; this Dataset has {list(pixels.variables)}")
    lon = (np.asarray(pixels["lon"], dtype="float64") + 180.0) % 360.0 - 180.0
    weight = np.asarray(pixels["weight"], dtype="float64")
    biggest = np.abs(weight).max() if weight.size else 1.0
    with style():
        ax = new_axes(ax, COLUMN, 5.2 * CM, "compressed")
        frame = rim(projection, -180.0, 180.0, -60.0, 90.0, 0.0)
        decorate(ax, frame, "#F2F2F2")
        draw_lines(ax, outlines(), projection, 0.0, clip=frame, colour="#808080", width=0.3)
        x, y = project(lon, np.asarray(pixels["lat"]), projection)
        for positive, paint, name in ((True, "#0072B2", "positive weight"), (False, "#D55E00", "negative weight")):
            chosen = (weight > 0) == positive
            if chosen.any():
                size = np.maximum(np.abs(weight[chosen]) / biggest * largest, 0.6)
                look = {"s": size, "color": paint, "alpha": 0.75, "linewidths": 0, "zorder": 4}
                ax.scatter(x[chosen], y[chosen], label=f"{name} ({chosen.sum()})", **look)
        ax.set_title(title if title is not None else f"{weight.size} contributing pixels")
        drawn = ax.legend(loc="lower center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        for handle in drawn.legend_handles:
            handle.set_sizes([14.0])
    return ax


@drawing
def inclusion(
    counts: xr.DataArray, ax: "Axes | None" = None, *, trials: int | None = None, title: str | None = None
) -> "Axes":
    """Fig. B2: how often every pixel was chosen by the Lasso over random draws, on a logarithmic scale.

    Parameters
    ----------
    counts : (lat, lon) number of inclusions, e.g. ``bridge_stability(…).count``; zero and NaN are left blank.
    ax, title, trials : where to draw; title; number of draws, for the label.

    Raises
    ------
    ValueError
        No lat or lon.

    Examples
    --------
    >>> place = {"lat": [-45.0, 45.0], "lon": [-135.0, -45.0, 45.0, 135.0]}
    >>> ax = inclusion(xr.DataArray([[0, 3, 40, 1000], [0, 0, 5, 7]], place), trials=1000)
    >>> ax.figure.axes[-1].get_xlabel()
    'Inclusions in 1000 draws'
    """
    from matplotlib.colors import LogNorm

    field = counts.transpose("lat", "lon").astype("float64")
    field = field.where(field > 0)
    with style():
        ax = new_axes(ax, layout="compressed")
        most = max(float(field.max().fillna(0)), 2.0)
        scale = {"vmin": None, "vmax": None, "cmap": "viridis", "norm": LogNorm(1, most)}
        mesh = draw_field(field, ax, "equal-earth", scale, True)
        text = f"Inclusions in {trials} draws" if trials else "Inclusions"
        colour_bar(ax.figure, mesh, ax, text, shrink=0.75, aspect=30)
        ax.set_title(title or "")
    return ax
