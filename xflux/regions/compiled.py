"""The compiled loops of this package. Importing it imports numba, so only functions that need the loops do.

The functions stand at the top of the module because numba finds a cached one by its globals, not by its closure.
"""

import numpy as np

from xflux.compile import njit

_PIECE = 64  # entries that are summed without a correction
_RUN = 16  # neighbouring cells that are worth a loop without indices
_LONG = 128  # neighbouring cells that are summed without a correction
_STRETCH = 64  # pieces of the plan that stay in cache


# Every fast-math flag but "no NaN" and "no infinity": a short sum may be reordered, a NaN stays one.
@njit(fastmath={"reassoc", "contract", "nsz"})
def sum_piece(row, cell, weight, first, last):
    total = 0.0
    valid = 0.0
    for k in range(first, last):
        value = np.float64(row[cell[k]])
        ok = value == value
        total += value * weight[k] if ok else 0.0
        valid += weight[k] if ok else 0.0
    return total, valid


@njit(fastmath={"reassoc", "contract", "nsz"})
def sum_run(run, weight):
    total = 0.0
    valid = 0.0
    for k in range(run.size):
        value = np.float64(run[k])
        ok = value == value
        total += value * weight[k] if ok else 0.0
        valid += weight[k] if ok else 0.0
    return total, valid


@njit()
def run_length(cell, first, end, longest):
    length = 1
    while first + length < end and length < longest and cell[first + length] == cell[first] + length:
        length += 1
    return length


@njit()
def pieces_of(start, cell):
    """Entries in short pieces: where each begins, whether its cells are neighbours, and each group's first piece."""
    # a piece of less than _RUN entries is followed by one of more, or is its group's last
    begin = np.empty(cell.size // 4 + start.size, np.int64)
    together = np.empty(begin.size, np.bool_)
    of_group = np.zeros(start.size, np.int64)
    count = 0
    for group in range(start.size - 1):
        first, end = start[group], start[group + 1]
        while first < end:
            begin[count] = first
            length = run_length(cell, first, end, _LONG)
            together[count] = length >= _RUN
            while not together[count] and first + length < end and length <= _PIECE - _RUN:
                more = run_length(cell, first + length, end, _RUN)
                if more == _RUN:
                    break
                length += more
            first += length
            count += 1
        of_group[group + 1] = count
    begin[count] = start[-1]
    return begin, together, of_group


# The pieces are added with what rounding loses carried along (Neumaier), so that neither the number of cells nor
# chunks matter even where sources and sinks cancel. A stretch of the plan serves all steps while it is in cache: on
# fine grids the plan is three times larger than a step's values.
@njit()
def group_sums(values, begin, together, of_group, cell, weight, out):
    steps = values.shape[0]
    total, lost, valid = np.empty(steps), np.empty(steps), np.empty(steps)
    for group in range(of_group.size - 1):
        total[:], lost[:], valid[:] = 0.0, 0.0, 0.0
        for stretch in range(of_group[group], of_group[group + 1], _STRETCH):
            end = min(stretch + _STRETCH, of_group[group + 1])
            for step in range(steps):
                row = values[step]
                for piece in range(stretch, end):
                    first, last = begin[piece], begin[piece + 1]
                    if together[piece]:
                        run = row[cell[first] : cell[first] + last - first]
                        part, weights = sum_run(run, weight[first:last])
                    else:
                        part, weights = sum_piece(row, cell, weight, first, last)
                    old = total[step]
                    new = old + part
                    if np.isfinite(new):
                        lost[step] += (old - new) + part if abs(old) >= abs(part) else (part - new) + old
                    total[step] = new
                    valid[step] += weights
        for step in range(steps):
            out[step, 0, group] = total[step] + lost[step]
            out[step, 1, group] = valid[step]


@njit()
def edge_piece(lon0, lat0, lon1, lat1, row, height, edges, own, west):
    """One straight piece within one row, cut at the columns: adds to ``own`` and ``west``."""
    columns = edges.size - 1
    step = 1 if lon1 >= lon0 else -1
    k = np.searchsorted(edges, lon0, side="right") - 1
    if step < 0 and k >= 0 and edges[k] == lon0:
        k -= 1
    x0, y0 = lon0, lat0
    while True:
        if step > 0:
            last = k >= columns or lon1 <= edges[k + 1]
            x1 = lon1 if last else edges[k + 1]
        else:
            last = k < 0 or lon1 >= edges[k]
            x1 = lon1 if last else edges[k]
        y1 = lat1 if last else lat0 + (lat1 - lat0) * ((x1 - lon0) / (lon1 - lon0))
        half = (y1 - y0) / 2
        middle = (y1 + y0) / 2
        rise = 2 * np.cos(middle) * np.sin(half) / height  # of sin φ, as a share of the row
        if k >= columns:
            west[row, columns] += rise
        elif k >= 0:
            # ∫ (λ − λ_mid) d(sin φ) = −Δλ sin φ_mid (sin h − h cos h) / h, with h half the piece's height
            h2 = half * half
            if h2 < 0.01:
                bend = h2 / 3 * (1 - h2 / 10 * (1 - h2 / 28 * (1 - h2 / 54)))
            else:
                bend = np.sin(half) / half - np.cos(half)
            skew = -(x1 - x0) * np.sin(middle) * bend / height
            own[row, k] += (((x0 + x1) / 2 - edges[k]) * rise + skew) / (edges[k + 1] - edges[k])
            west[row, k] += rise
        if last:
            break
        x0, y0 = x1, y1
        k += step


@njit()
def accumulate(lon, lat, start, shift, rows, edges, heights, own, west):
    """All rings, shifted in longitude, on rows of edges ``rows`` (radians): fills ``own`` and ``west``."""
    for ring in range(start.size - 1):
        for i in range(start[ring], start[ring + 1] - 1):
            x0, y0, x1, y1 = lon[i] + shift, lat[i], lon[i + 1] + shift, lat[i + 1]
            if y0 == y1 or (x0 <= edges[0] and x1 <= edges[0]):
                continue
            low, high = min(y0, y1), max(y0, y1)
            if high <= rows[0] or low >= rows[-1]:
                continue
            first = max(np.searchsorted(rows, low, side="right") - 1, 0)
            row = first
            while row < rows.size - 1 and rows[row] < high:
                # Where the edge enters and leaves the row, from south to north.
                south, north = max(low, rows[row]), min(high, rows[row + 1])
                xs = x0 + (x1 - x0) * ((south - y0) / (y1 - y0))
                xn = x0 + (x1 - x0) * ((north - y0) / (y1 - y0))
                if south == y0:
                    xs = x0
                elif south == y1:
                    xs = x1
                if north == y0:
                    xn = x0
                elif north == y1:
                    xn = x1
                if y1 > y0:
                    edge_piece(xs, south, xn, north, row, heights[row], edges, own, west)
                else:
                    edge_piece(xn, north, xs, south, row, heights[row], edges, own, west)
                row += 1


@njit()
def scan(own, west, nothing):
    """From the pieces to the shares, in place in ``own``."""
    for row in range(own.shape[0]):
        east = west[row, own.shape[1]]
        for k in range(own.shape[1] - 1, -1, -1):
            share = own[row, k] + east
            east += west[row, k]
            share = 0.0 if abs(share) < nothing else share
            own[row, k] = 1.0 if abs(share - 1) < nothing else share
