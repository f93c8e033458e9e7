"""The compiled loop of this package. Importing it imports numba, so only the function that needs the loop does.

dtaidistance goes pair by pair, in 6 to 16 × the time of one thread here, to the same bits.
"""

import numpy as np

from xflux.compile import njit

_TILE = 64  # series side by side: their costs stay in the first-level cache, and vector units take several at once


@njit()
def add_up_warped(series, others, radius, out):
    """Squared DTW distances ``out`` (m, n) of ``series`` (m, steps) and ``others`` (steps, n) within ``radius`` steps.

    The costs of a row are kept by step + 1 and replace those of the row before; outside of the band they are infinite.
    """
    steps, count = others.shape
    cost = np.empty((steps + 1, _TILE))
    corner = np.empty((2, _TILE))
    for first in range(0, count, _TILE):
        size = min(_TILE, count - first)
        for m in range(series.shape[0]):
            cost[:] = np.inf
            cost[0] = 0.0
            for i in range(steps):
                low, high = max(0, i - radius), min(steps, i + radius + 1)
                value = series[m, i]
                before, left = corner[0], cost[low]
                before[:] = left
                left[:] = np.inf
                for j in range(low, high):
                    here, other = cost[j + 1], others[j, first : first + size]
                    for k in range(size):
                        above = here[k]
                        best = min(min(before[k], above), left[k])
                        apart = value - other[k]
                        before[k] = above
                        here[k] = apart * apart + best
                    left = here
            for k in range(size):
                out[m, first + k] = cost[steps, k]
