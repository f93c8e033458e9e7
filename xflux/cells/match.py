"""Which cells of two grids are the same."""

import numpy as np

from .area import Cells

# Coordinates that differ by less than this share of a cell are the same.
_JITTER = 1e-3


def matching(source: np.ndarray, target: np.ndarray, axis: str, edges: bool = True) -> np.ndarray | None:
    """Index of the source cell equal to each target cell, None where the axes differ.

    Parameters
    ----------
    edges
        Compare the edges of the cells; else only their centres.
    """
    if len(source) < len(target):
        return None
    centres, wanted = source.mean(axis=1), target.mean(axis=1)
    if axis == "lon":
        # The seam of the circle is put where no cell centre lies.
        base = np.mod(wanted[0], 360) - (target[0, 1] - target[0, 0]) / 4
        centres, wanted = np.mod(centres - base, 360), np.mod(wanted - base, 360)
    order = np.argsort(centres)
    place = np.clip(np.searchsorted(centres[order], wanted), 1, max(1, len(centres) - 1))
    low, high = order[place - 1], order[np.minimum(place, len(centres) - 1)]
    index = np.where(np.abs(centres[low] - wanted) <= np.abs(centres[high] - wanted), low, high)
    shift = 0.0 if axis == "lat" else 360 * np.round((target - source[index]).mean(axis=1) / 360)[:, None]
    apart = source[index] + shift - target
    apart = apart if edges else apart.mean(axis=1, keepdims=True)
    return index if (np.abs(apart) <= _JITTER * np.diff(target, axis=1)).all() else None


def place(points: np.ndarray, target: Cells, axis: str) -> np.ndarray | None:
    """Index of the point equal to the coordinate of each cell, None where some cell has none."""
    half = np.diff(getattr(target, axis), axis=1)[:, 0] / 2
    wanted = target.points[axis]
    return matching(np.stack([points, points], 1), np.stack([wanted - half, wanted + half], 1), axis, edges=False)
