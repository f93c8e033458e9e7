"""What a set of regions covers of every cell of a grid, and how much of each lies on it, before areas enter."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xflux.cells import Cells, axis_overlap
from xflux.cells.bounds import bands
from xflux.values import as_text

# What rounded coordinates and slivers leave of a region that the grid covers.
_ROUNDING = 1e-4
WHOLE = 0.99
"""Share of a region from which on it counts as covered."""
GLOBE = np.array([[-90.0, 90.0]]), np.array([[-180.0, 180.0]])
"""Bounds of the one cell that is the whole Earth."""


@dataclass(frozen=True)
class Cover:
    """Share of every cell that each region covers."""

    name: str  # of the set, for attrs
    labels: np.ndarray  # (region) names, or integers
    share: object  # ``scipy.sparse.csr_array`` (region, cell), 0–1
    # (cell) share of the cell that is land as the polygons know it, None where the regions carry no land
    land: np.ndarray | None = None
    # whether ``land`` is the land from which the regions are cut: then a land fraction only scales it
    complete: bool = False
    own: np.ndarray | None = None  # (cell) share covered by any region, where that is not the sum of the shares
    overlapping: bool = False  # whether some place belongs to two regions
    extent: np.ndarray | None = None  # (region) share of the region that lies on the grid, None where all of each does
    land_extent: float = 1.0  # share of the Earth's land, as ``land`` has it, that lies on the grid

    def __post_init__(self) -> None:
        names, counts = np.unique(as_text(self.labels), return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"several regions have the label {str(names[counts > 1][0])!r}: give each its own.")

    def union(self) -> np.ndarray:
        """(cell) share covered by any region."""
        if self.own is not None:
            return self.own
        total = by_cell(self.share)
        return np.minimum(total, 1.0) if self.overlapping else total


def rows_of(parts: list[tuple[np.ndarray, np.ndarray]], cells: int):
    """``csr_array`` (region, cell) of the ascending cell indices and values of each region."""
    from scipy.sparse import csr_array

    start = np.cumsum([0, *(index.size for index, _ in parts)])
    index = np.concatenate([index for index, _ in parts]).astype("int32") if parts else np.zeros(0, "int32")
    value = np.concatenate([value for _, value in parts]).astype("float64") if parts else np.zeros(0)
    return csr_array((value, index, start), shape=(len(parts), cells))


def by_cell(share) -> np.ndarray:
    """(cell) sum over the regions; NumPy counts nothing in integers."""
    return np.bincount(share.indices, share.data, minlength=share.shape[1]).astype("float64", copy=False)


def latitude_band_limits(width: float = 10.0) -> dict[str, tuple[float, float]]:
    """Southern and northern limit of every band, in degrees: "90S-80S" … "10S-EQ", "EQ-10N" … "80N-90N".

    Parameters
    ----------
    width
        Of a band, degrees; a divisor of 90.

    Raises
    ------
    ValueError
        A width that does not divide 90.

    Examples
    --------
    >>> latitude_band_limits()["EQ-10N"]
    (0.0, 10.0)
    """
    bands = 90 / width if width > 0 else 0
    if not bands or abs(bands - round(bands)) > 1e-6:
        raise ValueError(f"latitude bands of {width:g} degrees: expected a width that divides 90, as 5, 10 or 30")
    limits = np.linspace(-90, 90, 2 * round(bands) + 1).tolist()
    names = ["EQ" if x == 0 else f"{abs(x):g}{'N' if x > 0 else 'S'}" for x in limits]
    return {f"{a}-{b}": pair for (a, b), pair in zip(pairwise(names), pairwise(limits), strict=True)}


def latitude_bands(cells: Cells, names: Iterable[str] | None = None) -> Cover:
    """Ten-degree bands from the South Pole to the North Pole, or some of them."""
    limits = latitude_band_limits()
    names = list(limits if names is None else names)
    return box_cover([(-180, limits[name][0], 180, limits[name][1]) for name in names], cells, names, "latitude-bands")


def box_cover(
    boxes: list[tuple[float, float, float, float]], cells: Cells, labels: list[str] | None = None, name: str = "box"
) -> Cover:
    """Boxes (west, south, east, north) in degrees; west > east reaches over the dateline.

    Raises ValueError: boxes without area, or beyond the poles.
    """
    labels = [f"({', '.join(f'{x:g}' for x in box)})" for box in boxes] if labels is None else labels
    for label, (west, south, east, north) in zip(labels, boxes, strict=True):
        if not (-90 <= south < north <= 90 and west != east and -360 < east - west <= 360):
            raise ValueError(
                f"the box {label} is none: expected (west, south, east, north) in degrees, south < north between −90 "
                f"and 90, west and east at most 360 apart (west > east reaches over the dateline)."
            )
    lat = np.array([[south, north] for _, south, _, north in boxes], dtype="float64")
    lon = np.array([[west, east] if west < east else [west, east + 360] for west, _, east, _ in boxes], dtype="float64")
    rows, columns = _overlaps(lat, cells.lat, "lat"), _overlaps(lon, cells.lon, "lon")
    share = rows_of([_crossed(*pair, len(cells.lon)) for pair in zip(rows, columns, strict=True)], cells.count)
    overlapping = bool(share.nnz) and float(by_cell(share).max()) > 1 + 1e-5
    whole = np.prod(sphere_shares(lat, lon), axis=0)
    on_grid = None if globe_share(cells) == 1 else extent(share, cells, whole)
    return Cover(name, np.array(labels), share, overlapping=overlapping, extent=on_grid)


def _overlaps(bounds: np.ndarray, cells: np.ndarray, axis: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ascending rows (or columns) of cells in each interval, and the share of them that lies in it."""
    found: dict[tuple[float, float], tuple[np.ndarray, np.ndarray]] = {}
    for one in bounds:
        if tuple(one) not in found:
            share = axis_overlap(one[None], cells, axis).toarray()[:, 0]
            found[tuple(one)] = np.flatnonzero(share), share[share > 0]
    return [found[tuple(one)] for one in bounds]


def _crossed(rows: tuple, columns: tuple, nlon: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells where rows and columns cross."""
    (row, height), (column, width) = rows, columns
    index = row[:, None].astype("int32") * nlon + column.astype("int32")
    return index.ravel(), np.outer(height, width).ravel()


def sphere_shares(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the sphere that rows and columns of cells (bounds in degrees) take: a cell has the product."""
    return bands(lat) / 2, np.diff(lon, axis=1)[:, 0] / 360


def globe_share(cells: Cells) -> float:
    """Share of the Earth that lies on the grid; 1 where only rounding is missing."""
    rows, columns = sphere_shares(cells.lat, cells.lon)
    return made_whole(rows.sum() * columns.sum())


def extent(share, cells: Cells, whole: np.ndarray) -> np.ndarray:
    """(region) share of each region that lies on the grid.

    ``share``: ``csr_array`` (region, cell), 0–1. ``whole``: (region) share of the sphere that the region covers; what
    covers nothing lacks nothing.
    """
    rows, columns = sphere_shares(cells.lat, cells.lon)
    on_grid = share @ np.outer(rows, columns).ravel()
    return made_whole(np.divide(on_grid, whole, out=np.ones(len(whole)), where=np.asarray(whole) > 0))


def made_whole(share):
    """Whole where only rounding is missing."""
    return np.where(share > 1 - _ROUNDING, 1.0, share)[()]
