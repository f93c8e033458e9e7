"""Days from half hours, as the daily product makes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

ENOUGH = 0.5
"""Least share of a day's steps that a daily value needs."""


def to_days(
    frame: pd.DataFrame, time: pd.Series, per_day: int, sums: Iterable[str] = (), targets: Iterable[str] = ()
) -> tuple[pd.DataFrame, pd.Series]:
    """Steps within the day to days: the frame by day, and the days.

    Values are the mean of the steps that have one; ``sums`` (amounts per step) the sum of all ``per_day`` steps, a
    missing one taken as the mean of the others; a day with less than half of its steps is missing. A flag (``*_qc``) is
    the share of *all* steps of the day that have a value and were measured (0) or gap-filled well (1); where a target
    has no flag, it is the share that has a value. Random errors are independent: their daily value is
    sqrt(sum of squares)/n. Percentiles and joint uncertainties are averaged, i.e. taken as fully correlated within the
    day (an upper bound).
    """
    day = time.dt.normalize().to_numpy()
    out = {}
    for name in frame:
        column = frame[name]
        if name.endswith("_qc"):
            base = frame.get(name.removesuffix("_qc"), column)
            out[name] = (column.le(1) & column.notna() & base.notna()).groupby(day).sum() / per_day
            continue
        count = column.groupby(day).count()
        if name.endswith("_randunc"):
            value = np.sqrt((column**2).groupby(day).sum(min_count=1)) / count
        else:
            value = column.groupby(day).mean() * (per_day if name in sums else 1)
        out[name] = value.where(count >= per_day * ENOUGH)
        if name in targets and f"{name}_qc" not in frame:
            out[f"{name}_qc"] = count / per_day
    days = pd.DataFrame(out, index=np.unique(day)).reset_index(names="time")
    return days.drop(columns="time"), days["time"]
