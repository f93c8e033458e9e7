"""The compiled water balance. Importing it imports numba, so only functions that need it do.

The functions stand at the top of the module because numba finds a cached one by its globals, not by its closure.
"""

import numpy as np

from xflux.compile import njit


@njit()
def balance(rain, pet, top, below, u, l, days, record, out):
    for k in range(days.size):
        wai = et = runoff = 0.0
        for _ in range(days[k]):
            u += rain[k]
            over = max(u - top, 0.0)
            u -= over
            l += over
            lost = max(l - below, 0.0)
            l -= lost
            fast = min(pet[k], u)
            # in proportion to how full it is, and never more than there is
            slow = min((pet[k] - fast) * (l / below), l) if below > 0.0 else 0.0
            u -= fast
            l -= slow
            wai += (u + l) / (top + below) if top + below > 0.0 else np.nan  # no soil, no share of it
            et += fast + slow
            runoff += lost
        if record:
            out[0, k], out[1, k], out[2, k], out[3, k] = wai / days[k], u + l, et / days[k], runoff / days[k]
    return u, l


# One cell after the other, so that each stops its spin-up when it is in balance.
@njit()
def cells(rain, pet, top, below, days, start, cyclic, spinup, year, out, before):
    for c in range(rain.shape[0]):
        sound = np.isfinite(rain[c]) & np.isfinite(pet[c])
        first = 0
        while first < sound.size and sound[first]:
            first += 1
        whole = first == sound.size
        u, l = start * top[c], start * below[c]
        if first == 0 or (cyclic and not whole) or not np.isfinite(top[c] + below[c]):
            out[:, c], before[c] = np.nan, np.nan
            continue
        years = 500 if cyclic else spinup
        part = year if not cyclic else days.size
        if part > first:
            years = 0  # a gap in the first year: no spin-up
        for _ in range(years):
            last_u, last_l = u, l
            u, l = balance(rain[c, :part], pet[c, :part], top[c], below[c], u, l, days[:part], False, out[:, c])
            if cyclic and abs(u - last_u) < 1e-9 and abs(l - last_l) < 1e-9:
                break
        before[c] = u + l
        balance(rain[c, :first], pet[c, :first], top[c], below[c], u, l, days[:first], True, out[:, c])
        out[:, c, first:] = np.nan
