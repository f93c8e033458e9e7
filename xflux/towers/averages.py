"""Days from half hours, as the daily product makes them, and months from days, the steps of a monthly grid."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from xflux.reading import require_variables
from xflux.values import as_text

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


def to_months(towers: xr.Dataset, target: str = "nee", min_days: int = 15, every_month: bool = False) -> xr.Dataset:
    """Monthly means of tower days, for months with enough days of a good flux.

    The target, its quality and its uncertainties are means over its good days; the tower's other numbers over all days
    that are there (``read_towers(..., every_day=True)`` keeps those without a good flux, so that a month's weather is
    that of the whole month). Random uncertainties of days are independent: sqrt(sum of squares)/n.

    Parameters
    ----------
    towers
        Dataset over ``sample`` in days, from ``read_towers``.
    target
        The flux whose finite days count.
    min_days
        Least number of these days in a month.
    every_month
        Keep months with fewer days too, without a flux: their weather counts where drivers are made of the series.

    Returns
    -------
    xr.Dataset
        Over ``sample``, one a site and month, ``time`` the month's first day, ``attrs["time_step"]`` "month", and the
        coordinate ``days``, the number of good days.

    Raises
    ------
    ValueError
        Towers by month already, ``min_days`` outside 1–31, no month with so many days, no ``target`` (a KeyError too).

    Examples
    --------
    >>> day = pd.date_range("2005-01-01", periods=40)
    >>> towers = xr.Dataset({"nee": ("sample", np.arange(40.0), {"units": "gC m-2 d-1"})},
    ...     {"site": ("sample", ["A"] * 40), "time": ("sample", day)}, {"time_step": "day"})
    >>> months = to_months(towers)
    >>> months.nee.values.tolist(), months.days.values.tolist()
    ([15.0], [31])
    """
    if towers.attrs.get("time_step") == "month":
        raise ValueError("the towers are by month already")
    if not 1 <= min_days <= 31:
        raise ValueError(f"min_days is a number of days, 1 to 31; got {min_days}")
    require_variables(towers, [target, "site", "time"], "the tower table")
    month = pd.DatetimeIndex(towers["time"].values).to_period("M").to_timestamp()
    keys = [as_text(towers["site"]), month]
    numeric = [str(n) for n, v in towers.data_vars.items() if v.dtype.kind in "fiub"]
    table = pd.DataFrame({n: towers[n].values for n in numeric}).astype(float)
    good = table[target].notna()
    of_target = [n for n in numeric if n == target or n.startswith(f"{target}_")]
    table[of_target] = table[of_target].where(good)
    random = [n for n in of_target if n.endswith("_randunc")]
    means = table.groupby(keys).mean()
    for name in random:
        squares = (table[name] ** 2).groupby(keys)
        means[name] = np.sqrt(squares.sum(min_count=1)) / squares.count()
    days = good.groupby(keys).sum()
    enough = days >= min_days
    if not enough.any():
        raise ValueError(
            f"no tower month has {min_days} days of {target}; the most is {int(days.max())}: lower min_days or qc"
        )
    means.loc[~enough, of_target] = np.nan
    enough |= every_month
    first = pd.Series(np.arange(len(month))).groupby(keys).first()[enough].to_numpy()
    data = {n: ("sample", means[n][enough].to_numpy(), towers[n].attrs) for n in numeric}
    same = [c for c in towers.coords if towers[c].dims == ("sample",) and c != "time"]
    coords = {c: ("sample", towers[c].values[first], towers[c].attrs) for c in same}
    coords |= {"time": ("sample", month.to_numpy()[first])}
    coords |= {"days": ("sample", days[enough].to_numpy(int), {"units": "1", "long_name": f"days of {target}"})}
    return xr.Dataset(data, coords, towers.attrs | {"time_step": "month", "min_days": min_days})
