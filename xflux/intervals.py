"""What intervals have in common: cells with cells along an axis, steps of time with months."""

import numpy as np


def pieces(
    start: np.ndarray, stop: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(interval, other, start, stop) of every piece that intervals share with others, ascending ones without overlap.

    >>> pieces(np.array([0, 5]), np.array([3, 9]), np.array([0, 2, 6]), np.array([2, 6, 8]))
    (array([0, 0, 1, 1]), array([0, 1, 1, 2]), array([0, 2, 5, 6]), array([2, 3, 6, 8]))
    """
    first, last = np.searchsorted(high, start, side="right"), np.searchsorted(low, stop, side="left")
    count = np.maximum(last - first, 0)
    own = np.repeat(np.arange(count.size), count)
    other = np.arange(own.size) + np.repeat(first - np.cumsum(count) + count, count)
    return own, other, np.maximum(start[own], low[other]), np.minimum(stop[own], high[other])
