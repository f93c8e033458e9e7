"""Maps of (lat, lon) fields: equal-area, without a seam, with offline coastlines."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux import temporal
from xflux.cells import edges, standardise
from xflux.plot.projection import outlines, project, rim, split_cells, split_line
from xflux.plot.styling import (
    CM,
    COLUMN,
    PAGE,
    as_products,
    axis_label,
    colour_bar,
    common_units,
    drawing,
    finite,
    new_axes,
    one_variable,
    quantity_of,
    style,
    subplots,
    wrapped,
)
from xflux.regions import region_weights
from xflux.temporal.calendar import AXES
from xflux.units import is_flux
from xflux.values import checked, decoded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#C4CBD0"
"""Colour of what has no value: far from the near-white of zero, and no colour of a scale."""
_SIGNED = ("nee", "nbe", "nbp", "difference", "anomaly", "bias", "flux")


@drawing
def map(  # the accessor's name; the built-in is not used in this package
    da: xr.DataArray,
    ax: "Axes | None" = None,
    *,
    projection: str = "equal-earth",
    title: str | None = None,
    label: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    centre: float | None = None,
    cmap: str | None = None,
    coast: bool | str = True,
    colourbar: bool = True,
) -> "Axes":
    """Draw a (lat, lon) field as an equal-area map.

    Other dims are averaged first (time, month and dayofyear by their lengths), and the title says so.

    Parameters
    ----------
    projection : "equal-earth" or "plate-carree", drawn on ordinary axes; a cartopy GeoAxes as ``ax`` keeps its own.
    vmin, vmax : limits; by default the 2nd and 98th percentile, with arrows on the colour bar where values exceed.
    centre : value in the middle of a diverging map. Default: 0 for signed fluxes (negative values, or a name such
        as nee, nbe, difference), none for the rest.
    label : text of the colour bar; default the long name and the units.
    coast : coastlines (True), or the outlines of a shipped region set ("reccap2", "countries"); no network.
    da : (lat, lon [, …]), any units.
    ax, title : where to draw; the title, by default the name.
    cmap, colourbar : matplotlib's colour map; whether a bar stands below.

    Raises
    ------
    ValueError
        No lat or lon, another projection.

    Examples
    --------
    >>> lat, lon = np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10)
    >>> nee = xr.DataArray(-np.ones((18, 36)), {"lat": lat, "lon": lon}, ("lat", "lon"), "nee", {"units": "gC m-2 d-1"})
    >>> ax = map(nee, title="A sink everywhere")
    >>> ax.get_title(), ax.figure.axes[-1].get_xlabel()
    ('A sink everywhere', 'NEE (gC m$^{-2}$ d$^{-1}$)')
    """
    da = one_variable(da)
    with style():
        field, reduced = field_of(da)
        ax = new_axes(ax, COLUMN, 6.2 * CM, "compressed")
        limits = colour_scale(field, vmin, vmax, centre, cmap)
        mesh = draw_field(field, ax, projection, limits, coast)
        name = str(da.attrs.get("long_name", da.name or "")) if title is None else title
        name = name if title is not None or len(name) <= 50 else str(da.name or "")
        words = " ".join(part for part in (name, reduced if title is None else "") if part)
        ax.set_title(wrapped(words))  # lines that fit a column
        if colourbar:
            text = label or axis_label(_quantity(da), da.attrs.get("units"))
            colour_bar(ax.figure, mesh, ax, text, extend=limits["extend"], shrink=0.75, aspect=30)
    return ax


@drawing
def maps(
    fields: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    columns: int | None = None,
    figure: "Figure | None" = None,
    label: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    centre: float | None = None,
    cmap: str | None = None,
    projection: str = "equal-earth",
    coast: bool | str = True,
) -> "Figure":
    """Several fields (a mapping title → field, or a ``product`` dim) with one colour scale and one colour bar.

    Parameters
    ----------
    fields : title → (lat, lon [, …]), in the same units.
    columns, figure : panels in a row; where to draw.
    label, vmin, vmax, centre, cmap, projection, coast : as in ``map``, for all.

    Raises
    ------
    ValueError
        Units that differ, no lat or lon.

    Examples
    --------
    >>> place = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    >>> nee = xr.DataArray([[-1.0, 0.5], [0.2, -0.4]], place, attrs={"units": "gC m-2 d-1"})
    >>> figure = maps({"EC": nee, "EC-ATM": 0.5 * nee})
    >>> [ax.get_title() or ax.get_xlabel() for ax in figure.axes]
    ['EC', 'EC-ATM', 'flux (gC m$^{-2}$ d$^{-1}$)']
    """
    products = as_products(fields)
    units = common_units(products)
    with style():
        reduced = {name: field_of(da)[0] for name, da in products.items()}
        columns = columns or (1 if len(reduced) == 1 else 2 if len(reduced) in (2, 4) else 3)
        rows = -(-len(reduced) // columns)
        width = COLUMN if columns == 1 else PAGE
        size = (width, rows * width / columns * 0.55 + 1.3 * CM)
        figure, axes = subplots(figure, len(reduced), columns, size)
        names = "_".join(str(a.name) for a in products.values())
        everything = xr.DataArray(np.concatenate([finite(f) for f in reduced.values()]), name=names)
        limits = colour_scale(everything, vmin, vmax, centre, cmap)
        limits["south"] = southern_edge(reduced.values())
        for ax, (name, field) in zip(axes, reduced.items(), strict=True):
            mesh = draw_field(field, ax, projection, limits, coast)
            ax.set_title(name)
        first = next(iter(products.values()))
        text = label or axis_label(_quantity(first), units)
        colour_bar(figure, mesh, axes, text, extend=limits["extend"], shrink=0.5, aspect=40)
    return figure


def _quantity(da: xr.DataArray) -> str:
    return quantity_of({"": da}, str(da.name or da.attrs.get("long_name", "flux")))


def field_of(da: xr.DataArray) -> tuple[xr.DataArray, str]:
    """The (lat, lon) field, other dims averaged, and the words for the title."""
    known = checked if is_flux(str(da.attrs.get("units", "")), da.attrs) else decoded
    da = known(standardise(temporal.standardise(da, lengths=False)))
    missing = [d for d in ("lat", "lon") if d not in da.dims]
    if missing:
        raise ValueError(f"a map needs the dims lat and lon; this array has {da.dims}")
    others = [str(d) for d in da.dims if d not in ("lat", "lon")]
    words = "" if not others else f"(mean over {', '.join(others)})"
    clock = [d for d in others if d in AXES and da.sizes[d] > 1]
    for d in clock:
        da = da.weighted(temporal.step_days(da)).mean(d, keep_attrs=True)
    rest = [d for d in others if d not in clock]
    field = da.mean(rest, keep_attrs=True) if rest else da
    return field.transpose("lat", "lon").load(), words


def colour_scale(
    field: xr.DataArray, vmin: float | None, vmax: float | None, centre: float | None, cmap: str | None
) -> dict:
    """Limits, colour map and arrows: robust, and symmetric about ``centre`` where the field is signed."""
    values = finite(field)
    low, high = np.percentile(values, [2, 98]) if values.size else (0.0, 1.0)
    if low == high and values.size:
        low, high = values.min(), values.max()
    named = any(word in str(field.name or "").lower() for word in _SIGNED)
    if centre is None and cmap is None and (named or low < 0):
        centre = 0.0
    if centre is not None:
        ends = (low if vmin is None else vmin, high if vmax is None else vmax)
        half = max(abs(end - centre) for end in ends) or 1.0
        vmin, vmax = (centre - half if vmin is None else vmin), (centre + half if vmax is None else vmax)
    vmin, vmax = (low if vmin is None else vmin), (high if vmax is None else vmax)
    vmax = vmax if vmax > vmin else vmin + 1.0
    under, over = (values < vmin).any(), (values > vmax).any()
    arrows = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    return {
        "vmin": float(vmin),
        "vmax": float(vmax),
        "cmap": cmap or ("RdBu_r" if centre is not None else "viridis"),
        "extend": arrows[bool(under), bool(over)],
    }


def draw_field(field: xr.DataArray, ax: "Axes", projection: str, limits: dict, coast: bool | str):
    """Cells, frame and coastlines of a (lat, lon) field; ``limits`` of ``colour_scale`` [and ``south``, ``ground``]."""
    lat, lon = edges(field["lat"]), edges(field["lon"])
    options = {k: limits[k] for k in ("vmin", "vmax", "cmap", "norm") if limits.get(k) is not None}
    is_geo = hasattr(ax, "projection") and hasattr(ax, "set_global")
    everywhere = abs(lon[-1] - lon[0]) > 300
    central = 0.0 if is_geo else central_longitude(lon)
    borders, index = split_cells(lon, central)
    values = np.asarray(field, dtype="float64")
    columns = np.where(index >= 0, values[:, index], np.nan)
    if is_geo:
        return _draw_geo(ax, borders, lat, columns, options, coast)
    x, y = project(*np.meshgrid(borders, lat), projection, central)
    mesh = ax.pcolormesh(x, y, np.ma.masked_invalid(columns), shading="flat", rasterized=True, **options)
    box = (-180.0 + central, 180.0 + central, limits.get("south", southern_edge([field])), 90.0)
    if not everywhere:
        box = (float(borders[0]), float(borders[-1]), float(lat.min()), float(lat.max()))
    frame = rim(projection, *box, central)
    decorate(ax, frame, limits.get("ground", GREY))
    if coast:
        small = ax.get_subplotspec() is not None and ax.get_gridspec().ncols > 2  # fewer islands, thinner lines
        lines = outlines("coast" if coast is True else coast, *((0.2, 1.0) if small else ()))
        draw_lines(ax, lines, projection, central, clip=frame, colour="#404040", width=0.2 if small else 0.3)
    return mesh


def central_longitude(lon: np.ndarray) -> float:
    """Of a map of these columns: 0 where they reach around the globe."""
    return 0.0 if abs(lon[-1] - lon[0]) > 300 else float((lon[0] + lon[-1]) / 2)


def southern_edge(fields: Iterable[xr.DataArray]) -> float:
    """−60° where no field knows anything south of it, so that the map may stop there, else −90°."""
    known = any(bool(f.sel(lat=f["lat"] < -60.0).notnull().any()) for f in fields)
    return -90.0 if known else -60.0


def decorate(ax: "Axes", frame: np.ndarray, ground: str = GREY) -> None:
    from matplotlib.patches import Polygon

    ax.add_patch(Polygon(frame, closed=True, facecolor=ground, edgecolor="none", zorder=-2))
    ax.add_patch(Polygon(frame, closed=True, facecolor="none", edgecolor="#606060", linewidth=0.5, zorder=5))
    pad = 0.01 * np.ptp(frame, axis=0)
    ax.set_xlim(frame[:, 0].min() - pad[0], frame[:, 0].max() + pad[0])
    ax.set_ylim(frame[:, 1].min() - pad[1], frame[:, 1].max() + pad[1])
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_lines(ax: "Axes", lines, projection: str, central: float, *, clip: np.ndarray, colour: str, width: float):
    """Polylines in degrees on a projected map, cut at the seam and at the map's frame."""
    from matplotlib.collections import LineCollection
    from matplotlib.path import Path as MplPath

    parts = [part for line in lines for part in split_line(np.asarray(line), central)]
    projected = [np.column_stack(project(p[:, 0], p[:, 1], projection, central)) for p in parts]
    drawn = LineCollection(projected, colors=colour, linewidths=width, zorder=3)
    ax.add_collection(drawn, autolim=False)
    drawn.set_clip_path(MplPath(clip), ax.transData)
    return drawn


def _draw_geo(ax, borders, lat, columns, options, coast: bool | str):
    """On a cartopy GeoAxes: its own projection, the shipped coastlines (no download)."""
    import cartopy.crs as ccrs
    from matplotlib.collections import LineCollection

    plate = ccrs.PlateCarree()
    mesh = ax.pcolormesh(borders, lat, np.ma.masked_invalid(columns), transform=plate, rasterized=True, **options)
    if coast:
        lines = outlines("coast" if coast is True else coast)
        parts = [part for line in lines for part in split_line(line, 0.0)]
        ax.add_collection(LineCollection(parts, colors="#404040", linewidths=0.3, transform=plate))
    return mesh


@drawing
def region_map(
    regions: str | xr.DataArray = "reccap2", ax: "Axes | None" = None, *, title: str | None = None
) -> "Axes":
    """Fig. A1: the regions in colours that differ from their neighbours', with their labels where there is room.

    Parameters
    ----------
    regions : a set of regions by name, or a (region, lat, lon) array of weights (m2) or fractions (1).
    ax : where to draw; by default a new figure of a column's width.
    title : none by default.

    Raises
    ------
    ValueError
        An unknown name.

    Examples
    --------
    >>> ax = region_map("reccap2")
    >>> [text.get_text() for text in ax.texts][:4]
    ['USA', 'CAN', 'CAM', 'NSA']
    """
    from matplotlib.colors import ListedColormap

    if isinstance(regions, str):
        lat, lon = np.arange(-89.5, 90), np.arange(-179.5, 180)
        grid = xr.DataArray(np.zeros((180, 360)), dims=("lat", "lon"), coords={"lat": lat, "lon": lon})
        weights = region_weights(grid, regions, area_basis="land")
    else:
        weights = regions
    share = np.asarray(weights.data.todense() if hasattr(weights.data, "todense") else weights.data, dtype="float64")
    label = np.where(share.max(axis=0) > 0, share.argmax(axis=0), -1)
    with style():
        ax = new_axes(ax, COLUMN, 5 * CM, "compressed")
        place = {d: weights[d].values for d in ("lat", "lon")}
        field = xr.DataArray(np.where(label >= 0, _colour_classes(label)[label], np.nan), place, ("lat", "lon"))
        paint = ListedColormap(["#7FB2D8", "#F2C27B", "#8FD3B6", "#E5A5C4", "#C9C9C9", "#D9D27A", "#B89FD6", "#E39A7B"])
        lines = regions if isinstance(regions, str) and regions.startswith(("reccap2", "countries")) else True
        draw_field(field, ax, "equal-earth", {"vmin": -0.5, "vmax": 7.5, "cmap": paint, "ground": "#F2F2F2"}, lines)
        names = [_name_region(ax, str(name), label == k, field) for k, name in enumerate(weights["region"].values)]
        ax.set_title(title or "")
        _thin_out(ax, [name for _, name in sorted(filter(None, names), key=lambda sized: -sized[0])])
    return ax


def _thin_out(ax: "Axes", names: list) -> None:
    """Without the names that would lie on one that comes before them."""
    ax.apply_aspect()
    taken = []
    for name in names:
        box = name.get_window_extent().expanded(0.8, 0.65)  # the layout, yet to come, makes the map larger
        if box.count_overlaps(taken):
            name.remove()
        else:
            taken.append(box)


def _colour_classes(label: np.ndarray) -> np.ndarray:
    """A small number for every region, so that no two that touch share one (greedy)."""
    count = int(label.max()) + 1
    touching = [set() for _ in range(count)]
    reach = 3  # cells: regions across a strait count as neighbours
    for axis in (0, 1):
        for step in range(1, reach + 1):
            a, b = label, np.roll(label, step, axis=axis)
            for i, j in np.unique(np.stack([a, b])[:, (a != b) & (a >= 0) & (b >= 0)], axis=1).T:
                touching[i].add(int(j))
                touching[j].add(int(i))
    classes = np.full(count, -1)
    for region in sorted(range(count), key=lambda r: -len(touching[r])):
        taken = {classes[n] for n in touching[region]}
        classes[region] = next(c for c in range(8) if c not in taken or c == 7)
    return classes


def _name_region(ax: "Axes", name: str, mask: np.ndarray, field: xr.DataArray):
    """Cells and label, in the one farthest from the region's border; beside a region that is too small for it."""
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return None
    depth = distance_transform_edt(mask)
    row, column = np.unravel_index(depth.argmax(), mask.shape)
    lon = field["lon"].values
    degree = abs(lon[-1] - lon[0]) / 360  # on the paper, of a map of the globe
    tight = depth.max() * abs(lon[1] - lon[0]) < 3 * degree
    place = np.array(lon[column] + 4 * degree * tight), np.array(field["lat"].values[row])
    x, y = project(*place, "equal-earth", central_longitude(lon))
    halo = [withStroke(linewidth=1.5, foreground="white")]
    side = "left" if tight else "center"
    text = ax.text(float(x), float(y), name, fontsize=6.5, ha=side, va="center", zorder=6, path_effects=halo)
    text.set_in_layout(False)
    return mask.sum(), text
