"""What all figures share: widths, fonts, the colour of each product, unit labels, ensembles as mean and spread."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from importlib.resources import as_file, files
from pathlib import Path
from textwrap import wrap
from threading import RLock
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
import xarray as xr

from xflux import temporal
from xflux.cells import with_lat_lon
from xflux.display import ENSEMBLE_DIMS
from xflux.extras import require
from xflux.files import whole
from xflux.regions.globe import GLOBAL
from xflux.temporal.steps import carried, known_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CM = 1 / 2.54
COLUMN, PAGE = 8.3 * CM, 17.7 * CM  # inches: one and two columns of a Copernicus journal
MOST = 30
"""Regions in a figure: of countries, the largest."""

# Okabe & Ito (2008), safe for the common kinds of colour blindness; the paper's blue, green, red, black and yellow
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
# pattern in the product's lower-case name, the first that is found decides: colour and line; the variants of one model
# also differ by their dashes, so that close lines can be told apart
_LOOKS = (
    (r"^ec[-_ ]?atm.*(total|sum)", "#003D73", "-"),
    (r"^ec[-_ ]?atm.*sampled", BLUE, "-."),
    (r"^ec[-_ ]?atm.*bridge", SKY, "--"),
    (r"^ec[-_ ]?atm", BLUE, "-"),
    (r"^ec($|[^a-z])", GREEN, "-"),
    (r"truth", BLACK, ":"),  # inversions that are near it are seen below it
    (r"budget|gcb|gcp", BLACK, "-"),
    (r"cams", PURPLE, "-"),
    (r"invers|mip|top-?down", VERMILION, "-"),
    (r"x-?base|fluxcom", ORANGE, "-"),
    (r"observ|tower", BLACK, "-"),
)
_WIDE = r"invers|mip|budget|gcb|gcp|observ"
_OTHERS = ("#7F3C8D", "#80BA5A", "#8C564B", "#5F6B6D", "#CF1C90", "#B5A300", "#4B4B8F", "#A5AA99")


_ONE_AT_A_TIME = RLock()
P = ParamSpec("P")
R = TypeVar("R")


def drawing(function: Callable[P, R]) -> Callable[P, R]:
    """A function that draws says before anything else where matplotlib is not installed."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        require("plot", by=f"xflux.plot.{function.__name__}")
        return function(*args, **kwargs)

    return call


@cache
def settings() -> dict:
    """matplotlib's settings of ``figures.mplstyle``."""
    import matplotlib as mpl

    with as_file(files("xflux.data") / "figures.mplstyle") as path:
        return mpl.rc_params_from_file(path, use_default_template=False)


@contextmanager
def style():
    """matplotlib settings of xflux's figures, for a ``with`` block only, which one thread enters at a time.

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> with style():
    ...     size = plt.rcParams["font.size"]
    >>> size, size == plt.rcParams["font.size"]
    (7.5, False)
    """
    require("plot", by="xflux.plot.style")
    import matplotlib as mpl

    with _ONE_AT_A_TIME, mpl.rc_context(settings()):
        try:
            yield
        finally:
            interactive = mpl.is_interactive()
    # a notebook's backend turns this on when the first figure loads it, which may be in here
    mpl.interactive(interactive)


def colour(product: str, products: Iterable[str] = ()) -> str:
    """The colour of a product by its name, the same in every figure unless one of ``products`` before it has it.

    Parameters
    ----------
    product, products : its name; all that are in the figure.

    Examples
    --------
    >>> colour("EC"), colour("EC-ATM sampled+total")
    ('#009E73', '#003D73')
    """
    return colours([*products, product])[product]


def _by_name(product: str) -> str:
    if product.lower() in ("", "flux", *_QUANTITIES):
        return BLUE
    known = (colour for pattern, colour, _ in _LOOKS if re.search(pattern, product.lower()))
    return next(known, _OTHERS[sum(map(ord, product)) % len(_OTHERS)])


def dash(product: str) -> str:
    """The line style of a product."""
    return next((dashes for pattern, _, dashes in _LOOKS if re.search(pattern, product.lower())), "-")


def line_width(product: str) -> float:
    """References are drawn wider (and first), so that a model on top of one does not hide it."""
    return 2.4 if re.search(_WIDE, product.lower()) else 1.2


def colours(products: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """One colour for each product; ``chosen`` wins, and where two would have the same, the first keeps it.

    >>> colours(["EC-ATM months", "EC-ATM years"])
    {'EC-ATM months': '#0072B2', 'EC-ATM years': '#7F3C8D'}
    """
    products, found = list(products), dict(chosen or {})
    for product in products:
        own = _by_name(product)
        free = [paint for paint in _OTHERS if paint not in found.values()]
        found.setdefault(product, free[0] if own in found.values() and free else own)
    return {product: found[product] for product in products}


def unit_label(units: str | None) -> str:
    """Units with raised exponents, for an axis.

    >>> unit_label("gC m-2 d-1")
    'gC m$^{-2}$ d$^{-1}$'
    """
    return re.sub(r"(?<=[A-Za-z])\^?(-?\d+)\b", r"$^{\1}$", units) if units else ""


_QUANTITIES = ("nee", "nbe", "nbp", "gpp", "ter", "reco", "le", "et")


def quantity_of(products: Mapping[str, xr.DataArray], otherwise: str = "Flux") -> str:
    """The flux that all arrays are named after, in capitals, or ``otherwise``; anomalies say that they are some."""
    names = {str(da.name).lower() for da in products.values()}
    name = names.pop().upper() if len(names) == 1 and names <= set(_QUANTITIES) else otherwise
    said = {da.attrs.get("detrended") for da in products.values()}
    return name + {(1,): " anomaly, detrended", (0,): " anomaly"}.get(tuple(said), "")


def axis_label(quantity: str, units: str | None) -> str:
    """ "NEE (gC m-2 d-1)" or the quantity alone, where the units are unknown."""
    return f"{quantity} ({unit_label(units)})" if units and units != "1" else quantity


def wrapped(title: str, width: int = 52) -> str:
    """A title broken into lines that fit a column."""
    return "\n".join(wrap(title, width))


def legend(figure: "Figure", *axes: "Axes", own: bool) -> None:
    """Names of the lines, each once: below the panels of our own figure, inside an ``ax`` that was given."""
    found: dict = {}
    for ax in axes:
        found |= {name: handle for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(found) < 2:
        return
    if not own:
        axes[0].legend(ncols=2 if len(found) > 3 else 1)
        return
    wide = figure.get_figwidth() > COLUMN * 1.2
    fit = int((120 if wide else 62) / (max(map(len, found)) + 6))
    figure.legend(
        found.values(), found, loc="outside lower center", ncols=max(1, min(len(found), fit)), columnspacing=1.2
    )


def new_axes(ax: "Axes | None", width: float = COLUMN, height: float = 6 * CM, layout: str = "constrained") -> "Axes":
    """``ax``, or the axes of a new figure of this size in inches; maps fill theirs with ``layout="compressed"``."""
    if ax is not None:
        if not hasattr(ax, "get_figure"):
            raise TypeError(f"ax is {ax!r}; expected the Axes to draw on, as of plt.subplots()")
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout=layout)[1]


def subplots(
    figure: "Figure | None", count: int, columns: int, size: tuple[float, float], layout: str = "compressed", **shared
) -> tuple["Figure", list]:
    """The figure, or a new one of this size in inches, and ``count`` axes in rows of it, all that are seen."""
    import matplotlib.pyplot as plt

    figure = figure or plt.figure(figsize=size, layout=layout)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, **shared).ravel()
    for extra in axes[count:]:
        extra.set_visible(False)
    return figure, list(axes[:count])


def colour_bar(figure: "Figure", drawn: object, axes: object, label: str | None, **look: object) -> None:
    """A colour bar below the axes (or as ``look`` says), with a thin frame."""
    bar = figure.colorbar(drawn, ax=axes, **({"orientation": "horizontal", "pad": 0.03} | look))
    bar.set_label(label)
    bar.outline.set_linewidth(0.4)


def as_products(data: xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Name → array, from a mapping, a Dataset's variables, a ``product`` dim, or one array."""
    if isinstance(data, xr.DataArray):
        if "product" in data.dims:
            return {str(p): data.sel(product=p, drop=True) for p in data["product"].values}
        name = str(data.name or "")
        nameless = name.lower() in ("", "flux", *_QUANTITIES) and ensemble_dim(data) == "inversion"
        return {"inversions" if nameless else name: data}
    if isinstance(data, xr.Dataset):
        from xflux.units import flux_variables

        data = temporal.standardise(data)
        steps = known_steps(data)  # by its bounds, which a DataArray cannot carry
        return {str(name): carried(data[name], steps) for name in flux_variables(data) or data.data_vars}
    if not isinstance(data, Mapping) or not data:
        raise TypeError(f"expected a DataArray, or a mapping of product names to DataArrays, got {type(data).__name__}")
    products = {str(name): data[name] for name in data}
    wrong = [name for name, array in products.items() if not isinstance(array, xr.DataArray)]
    if wrong:
        raise TypeError(f"the products {wrong} are not DataArrays")
    return products


def as_drawn(
    data: xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray],
    convert: Callable[[xr.DataArray], xr.DataArray],
    quantity: str | None,
    colour: Mapping[str, str] | None,
) -> tuple[dict[str, xr.DataArray], str, dict[str, str]]:
    """Products in the form that a figure draws, the text of its axis, and a colour for each."""
    products = as_products(data)
    quantity = quantity or quantity_of(products)
    products = {n: convert(with_lat_lon(temporal.standardise(da, lengths=False))) for n, da in products.items()}
    return products, axis_label(quantity, common_units(products)), colours(products, colour)


def one_variable(data: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """A DataArray as it is, or the one flux variable of a Dataset; several raise."""
    products = as_products(data)
    if len(products) != 1:
        raise ValueError(f"this figure takes one variable, got {list(products)}: select one of them")
    return next(iter(products.values()))


def common_units(products: Mapping[str, xr.DataArray]) -> str | None:
    """The units that all products share; different known units raise."""
    known = {name: a.attrs["units"] for name, a in products.items() if a.attrs.get("units")}
    if len(set(known.values())) > 1:
        raise ValueError(f"the products have different units: {known}. Convert them first (.flux.convert_units)")
    return next(iter(known.values()), None)


def called(name: str, da: xr.DataArray, what: str = "mean") -> str:
    """What a legend calls a product, or the mean or range of inversions."""
    return f"{name}, {what}" if ensemble_dim(da) == "inversion" else name


def ensemble_dim(da: xr.DataArray) -> str | None:
    """The dim of an ensemble's members, None where there is none."""
    return next((str(d) for d in da.dims if d in ENSEMBLE_DIMS), None)


def mean_and_spread(da: xr.DataArray, spread: str | None = None) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Mean, lower and upper edge over the ensemble's dim: ± one standard deviation (n − 1), or the full range.

    Inversions have a range, members a standard deviation, unless ``spread`` says otherwise.
    """
    if spread not in (None, "std", "range"):
        raise ValueError(f"spread is 'std' or 'range', got {spread!r}")
    dim = ensemble_dim(da)
    spread = spread or ("range" if dim == "inversion" else "std")
    if dim is None or da.sizes[dim] < 2:
        mean = da if dim is None else da.mean(dim)
        return mean, mean, mean
    mean = da.mean(dim)
    if spread == "range":
        return mean, da.min(dim), da.max(dim)
    deviation = da.std(dim, ddof=1)
    return mean, mean - deviation, mean + deviation


FIGURE = "xflux figure"
MARKS = {
    "png": {"Software": FIGURE},
    "pdf": {"Creator": FIGURE, "CreationDate": None},
    "eps": {"Creator": FIGURE},
    "ps": {"Creator": FIGURE},
    "svg": {"Title": FIGURE, "Date": None},
}
"""What is written into a figure's file, by format: by whom, and not when."""


@drawing
def save(figure: "Figure | Axes", stem: str | Path, formats: Iterable[str] = ("png", "pdf"), close: bool = True):
    """Write a figure once per format beside ``stem`` and return the paths; no clock goes into the files.

    Only an older figure of this function is replaced: anything else there, or a link, is a FileExistsError.

    Parameters
    ----------
    figure : Figure or Axes.
    stem : path without suffix; missing folders are made.
    formats : suffixes that matplotlib writes.
    close : whether the figure is closed.

    Raises
    ------
    FileExistsError, PermissionError
        What stands there is no figure of this function; the folder may only be read.

    Examples
    --------
    >>> import tempfile, matplotlib.pyplot as plt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in save(plt.figure(), f"{folder}/figures/fig2")]
    ['fig2.png', 'fig2.pdf']
    """
    import matplotlib.pyplot as plt

    figure = getattr(figure, "figure", figure)
    paths = []
    stem = Path(stem)
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        with whole(path, FIGURE) as part, style():
            figure.savefig(part, metadata=MARKS.get(kind))
        paths.append(path)
    if close:
        plt.close(figure)
    return paths


def largest(products: Mapping[str, xr.DataArray]) -> tuple[list, str]:
    """Labels of the regions that a figure has room for, GLOBAL among them, and words where some are left out.

    The regions of the first product, then those that only others have; of more than 30 the largest, in falling order of
    their largest absolute value in the first product that knows them.
    """
    labels = list(dict.fromkeys(r for da in products.values() for r in da["region"].values.tolist()))
    if len(labels) <= MOST:
        return labels, ""
    size: dict = {}
    for da in products.values():
        mean = abs(da.mean(ensemble_dim(da)) if ensemble_dim(da) else da)
        one = mean.max([d for d in mean.dims if d != "region"]).dropna("region")
        size = dict(zip(one["region"].values.tolist(), one.values.tolist(), strict=True)) | size
    chosen = sorted((r for r in size if r != GLOBAL), key=lambda r: -size[r])[:MOST]
    return [*(r for r in labels if r == GLOBAL), *chosen], f"the largest {MOST} of {len(set(labels) - {GLOBAL})}"


def region_words(products: Mapping[str, xr.DataArray]) -> dict:
    """Label → name of a region, where an array has the coordinate ``region_name``; the globe has one."""
    named = [da for da in products.values() if "region_name" in da.coords]
    words = {r: str(da["region_name"].sel(region=r).item()) for da in named for r in da["region"].values.tolist()}
    return {GLOBAL: "Globe"} | words


def finite(values: object) -> np.ndarray:
    """The finite values of an array, flat."""
    flat = np.asarray(values, dtype="float64").ravel()
    return flat[np.isfinite(flat)]
