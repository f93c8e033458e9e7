"""What a set of regions covers of every cell of a grid, before areas and land enter."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xflux.cells import Cells, axis_overlap


@dataclass(frozen=True)
class Cover:
    """Share of every cell that each region covers.

    Attributes
    ----------
    name
        Of the set, for attrs.
    labels
        (region) names, or integers.
    share
        ``scipy.sparse.csr_array`` (region, cell), 0–1.
    land
        (cell) share of the cell that is land as the polygons know it, None where the regions carry no land.
    complete
        Whether ``land`` is the land from which the regions are cut: then a land fraction only scales it.
    own
        (cell) share covered by any region, where that is not the sum of the shares.
    overlapping
        Whether some place belongs to two regions.
    """

    name: str
    labels: np.ndarray
    share: object
    land: np.ndarray | None = None
    complete: bool = False
    own: np.ndarray | None = None
    overlapping: bool = False

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
    """(cell) sum over the regions."""
    return np.bincount(share.indices, share.data, minlength=share.shape[1])


def latitude_band_limits(width: float = 10.0) -> dict[str, tuple[float, float]]:
    """Southern and northern limit of every band, in degrees: "90S-80S" … "10S-EQ", "EQ-10N" … "80N-90N".

    >>> latitude_band_limits()["EQ-10N"]
    (0.0, 10.0)
    """
    limits = np.arange(-90, 90 + width / 2, width).tolist()
    names = ["EQ" if x == 0 else f"{abs(x):g}{'N' if x > 0 else 'S'}" for x in limits]
    return {f"{a}-{b}": pair for (a, b), pair in zip(pairwise(names), pairwise(limits), strict=True)}


def latitude_bands(cells: Cells) -> Cover:
    """Ten-degree bands from the South Pole to the North Pole."""
    limits = latitude_band_limits()
    bounds = np.array(list(limits.values()))
    shares = axis_overlap(bounds, cells.lat, "lat").T.tocsr()
    nlat, nlon = cells.shape
    parts = []
    for band in range(len(bounds)):
        rows = shares.indices[shares.indptr[band] : shares.indptr[band + 1]]
        values = shares.data[shares.indptr[band] : shares.indptr[band + 1]]
        order = np.argsort(rows)
        index = (rows[order, None].astype("int32") * nlon + np.arange(nlon, dtype="int32")).ravel()
        parts.append((index, np.repeat(values[order], nlon)))
    return Cover("latitude-bands", np.array(list(limits)), rows_of(parts, nlat * nlon))
