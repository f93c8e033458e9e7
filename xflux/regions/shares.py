"""The exact share of every cell that polygons cover.

The share is an equal-area ratio, (λ, sin φ), of polygons whose edges are straight in longitude and latitude. By
Green's theorem the area of a polygon within one row of cells is ∮ λ d(sin φ) over the pieces of its edges in that
row; a piece in column k adds its own area to column k and the full width of every column west of it. Running sums
from the east then give all cells of a row at once: no polygon is clipped, nothing is sampled, and the result of a cell
does not depend on the extent of the grid.
"""

from dataclasses import dataclass

import numpy as np

from xflux.cells.bounds import bands

# A column of cells in the sum of a few thousand pieces is exact to about 1e-13 of the cell.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Rings:
    """Closed rings of polygons: exteriors counterclockwise, holes clockwise, in degrees."""

    lon: np.ndarray  # (points) of all rings, one after another, the first point of a ring repeated as its last
    lat: np.ndarray
    start: np.ndarray  # (rings + 1) first point of each ring
    group: np.ndarray  # (rings) the region to which the ring belongs

    def of(self, group: int) -> "Rings":
        """The rings of one region."""
        chosen = np.flatnonzero(self.group == group)
        pieces = [slice(self.start[i], self.start[i + 1]) for i in chosen]
        empty = [np.zeros(0)]
        return Rings(
            np.concatenate([self.lon[p] for p in pieces] or empty),
            np.concatenate([self.lat[p] for p in pieces] or empty),
            np.cumsum([0, *(p.stop - p.start for p in pieces)]),
            self.group[chosen],
        )


@dataclass(frozen=True)
class Axis:
    """Ascending edges that hold all cells of an axis, and which cell lies between two edges (−1: a gap)."""

    edges: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, bounds: np.ndarray, axis: str) -> "Axis":
        """From bounds (n, 2) in any order; longitudes are unwrapped from the westernmost on."""
        if axis == "lon":
            base = bounds[:, 0].min()
            shift = 360 * np.floor((bounds[:, 0] - base + 1e-9) / 360)
            bounds = bounds - shift[:, None]
        order = np.argsort(bounds[:, 0], kind="stable")
        edges, cell = [bounds[order[0], 0]], []
        for i in order:
            low, high = bounds[i]
            if low > edges[-1] + 1e-9:
                edges.append(low)
                cell.append(-1)
            edges.append(high)
            cell.append(i)
        return cls(np.array(edges), np.array(cell))


def polygon_shares(
    rings: Rings, lat: np.ndarray, lon: np.ndarray, groups: int, block_rows: int = 512
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cells and the share of them that each region covers.

    ``rings``: polygons in any longitude convention, also beyond ±180. ``lat`` and ``lon``: bounds of the cells (n, 2)
    in degrees, in any order, with or without gaps. ``groups``: number of regions.
    Returned: per region, the ascending flat indices of the cells that it touches, and its share of each.
    """
    rows, columns = Axis.of(lat, "lat"), Axis.of(lon, "lon")
    return [_region(rings.of(group), rows, columns, len(lon), block_rows) for group in range(groups)]


def _region(rings: Rings, rows: Axis, columns: Axis, nlon: int, block_rows: int) -> tuple[np.ndarray, np.ndarray]:
    cells, shares = [np.zeros(0, "int64")], [np.zeros(0)]
    if rings.lon.size:
        # Only the rows between the southernmost and the northernmost point.
        first = max(np.searchsorted(rows.edges, rings.lat.min(), side="right") - 1, 0)
        last = min(np.searchsorted(rows.edges, rings.lat.max(), side="left"), len(rows.cell))
        for a in range(first, last, block_rows):
            b = min(a + block_rows, last)
            row, column, share = _block(rings, rows.edges[a : b + 1], columns.edges)
            row, column = rows.cell[a:b][row], columns.cell[column]
            inside = (row >= 0) & (column >= 0)
            cells.append((row.astype("int64") * nlon + column)[inside])
            shares.append(share[inside])
    cell, share = np.concatenate(cells), np.concatenate(shares)
    order = np.argsort(cell, kind="stable")
    return cell[order], share[order]


def _block(rings: Rings, row_edges: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from xflux.regions.compiled import accumulate, scan

    # The rings as they are and turned by whole circles, wherever they then meet the grid.
    low = int(np.ceil((edges[0] - rings.lon.max()) / 360))
    high = int(np.floor((edges[-1] - rings.lon.min()) / 360))
    own = np.zeros((len(row_edges) - 1, len(edges) - 1))
    west = np.zeros((len(row_edges) - 1, len(edges)))
    lat_rows = np.radians(row_edges)
    heights = bands(np.stack([row_edges[:-1], row_edges[1:]], axis=1))
    lat = np.radians(rings.lat)
    for turn in range(low, high + 1):
        accumulate(rings.lon, lat, rings.start, 360.0 * turn, lat_rows, edges, heights, own, west)
    scan(own, west, _NOTHING)
    row, column = np.nonzero(own)
    return row, column, np.clip(own[row, column], 0, 1)
