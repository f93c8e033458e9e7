"""The compiled loop of this package. Importing it imports numba, so only the function that needs the loop does."""

import numpy as np

from xflux.compile import njit

_TILE = 4096  # series side by side whose sums stay in cache


@njit()
def add_up(values, group, days, total, covered):
    """Σ value × days and Σ days over the valid steps of each group, in float64, in the steps' order; NaN is missing.

    ``values`` (lead, step, rest), ``total`` and ``covered`` (lead, group, rest).
    """
    for i in range(values.shape[0]):
        for first in range(0, values.shape[2], _TILE):
            last = min(first + _TILE, values.shape[2])
            for step in range(values.shape[1]):
                row, weight = values[i, step, first:last], days[step]
                sums, lengths = total[i, group[step], first:last], covered[i, group[step], first:last]
                for j in range(row.size):
                    value = np.float64(row[j])
                    ok = value == value
                    sums[j] += value * weight if ok else 0.0
                    lengths[j] += weight if ok else 0.0
