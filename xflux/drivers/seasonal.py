"""Seasonal operators on drivers: mean seasonal cycle, amplitude, gaps, composites to days, PFT mixing."""

import numpy as np
import xarray as xr

from xflux.align import axis_of
from xflux.drivers.axis import STEP_LENGTH, are_months, day_numbers, days_like, whole_days
from xflux.temporal import mean_by


def seasonal_cycle(da: xr.DataArray, period: tuple[str | int, str | int] | None = None) -> xr.DataArray:
    """Mean seasonal cycle (MSC) of a driver, (dayofyear | month, …).

    Daily input gives 365 days of year. A day is known by its number in its own year, as the forward run knows it: in
    leap years 29 February is day 60 and 31 December, day 366, is averaged into day 365. Composites of several days
    (MODIS, 8 or 16 days; dekads; 30 days) are interpolated to days first (``to_daily``). Monthly input gives 12
    months. What is a climatology or static already is returned as it is. Gaps are left out of the means.

    Parameters
    ----------
    da
        (time | month | dayofyear, …), any calendar.
    period
        First and last year, inclusive, such as ``("2001", "2012")``; where the data have nothing in it, all years
        are used. ``attrs["msc_period"]`` says which.

    Raises
    ------
    ValueError
        Steps shorter than a day, or whose lengths nobody knows.

    Examples
    --------
    >>> time = xr.date_range("2003-01-01", "2004-12-31", freq="D")
    >>> da = xr.DataArray(time.dayofyear.to_numpy(float), dims="time", coords={"time": time})
    >>> msc = seasonal_cycle(da)
    >>> msc.sizes["dayofyear"], float(msc[59]), float(msc[364])
    (365, 60.0, 365.33...)
    """
    if axis_of(da) != "time":
        return da
    attrs = dict(da.attrs)
    if period is not None:
        inside = da.sel(time=slice(*map(str, period)))
        da = inside if inside.sizes["time"] else da
    attrs["msc_period"] = f"{str(da['time'].values[0])[:10]} to {str(da['time'].values[-1])[:10]}"
    if are_months(da) or whole_days(da).min() > 31:
        return mean_by(da, "time.month").transpose("month", ...).assign_attrs(attrs)
    da = to_daily(da)
    number = da["time"].dt.dayofyear.clip(max=365).rename("dayofyear")
    return mean_by(da, number).transpose("dayofyear", ...).assign_attrs(attrs)


def amplitude(da: xr.DataArray) -> xr.DataArray:
    """Largest minus smallest value along time, month or dayofyear; NaN are left out. In the units of ``da``.

    Parameters
    ----------
    da
        (time | month | dayofyear, …), any units.

    Raises
    ------
    ValueError
        No such axis.

    Examples
    --------
    >>> amplitude(xr.DataArray([[2.0, 7.0, np.nan], [1.0, 1.0, 1.0]], dims=("site", "month"))).values.tolist()
    [5.0, 0.0]
    """
    axis = _needs_axis(da, "amplitude")
    return (da.max(axis) - da.min(axis)).assign_attrs(da.attrs)


def minimum(da: xr.DataArray) -> xr.DataArray:
    """Smallest value along time, month or dayofyear; NaN are left out."""
    return da.min(_needs_axis(da, "min")).assign_attrs(da.attrs)


def mean(da: xr.DataArray) -> xr.DataArray:
    """Mean along time, month (weighted by its days) or dayofyear; NaN are left out."""
    axis = _needs_axis(da, "mean")
    return da.weighted(xr.DataArray(whole_days(da), dims=axis)).mean(axis).assign_attrs(da.attrs)


def _needs_axis(da: xr.DataArray, what: str) -> str:
    axis = axis_of(da)
    if axis is None:
        raise ValueError(f"{what}() needs a time, month or dayofyear axis; {da.name!r} has only {da.dims}")
    return axis


def to_daily(da: xr.DataArray) -> xr.DataArray:
    """Composites of several days → days, linearly between the middles of the composites (constant beyond the ends).

    Daily input is returned as it is. Composites last as ``temporal.time_bounds`` says: one that the end of the year
    cuts short (MODIS' 46th) ends there; one that is missing is bridged.

    Parameters
    ----------
    da
        (time, …), any units, steps of a day or more; lazy input stays lazy.

    Raises
    ------
    ValueError
        Steps shorter than a day.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=4, freq="8D")
    >>> ndvi = xr.DataArray(np.arange(4.0), {"time": time}, "time")
    >>> daily = to_daily(ndvi)
    >>> daily.sizes["time"], daily.sel(time=["2001-01-09", "2001-01-13"]).values.tolist()
    (32, [0.5625, 1.0625])
    """
    days = whole_days(da)
    if axis_of(da) != "time" or (days == 1).all():
        return da
    start = day_numbers(da["time"])
    middle = start + days / 2
    day = np.arange(start[0], start[-1] + days[-1])
    noon = day + 0.5
    after = np.searchsorted(middle, noon).clip(1, max(len(middle) - 1, 1)) % len(middle)
    weight = ((noon - middle[after - 1]) / np.maximum(middle[after] - middle[after - 1], 1)).clip(0, 1)
    out_time = xr.DataArray(days_like(day, da["time"]), dims="time", name="time")
    w = xr.DataArray(weight.astype(da.dtype), dims="time")
    da = da.drop_vars(STEP_LENGTH, errors="ignore")
    left, right = (da.isel(time=i).drop_vars("time") for i in (after - 1, after))
    left *= 1 - w  # in place: these are copies, as large as what is returned
    right *= w
    left += right
    return left.assign_coords(time=out_time).transpose(*da.dims).assign_attrs(da.attrs)


def fill_gaps(da: xr.DataArray, max_gap: int = 32, seasonal: bool = True) -> xr.DataArray:
    """Fill missing steps: short gaps linearly in time (from middle to middle of steps), long ones from other years.

    Parameters
    ----------
    da
        (time | month | dayofyear, …); climatologies are filled cyclically.
    max_gap
        Longest gap, in days, that is bridged by a straight line between its neighbours.
    seasonal
        Whether longer gaps take the mean of the other years on that day (or month, or composite; the mean seasonal
        cycle on its middle day where composites start on other days every year); what no year has stays missing.

    Returns
    -------
    DataArray like ``da`` (lazy where it is); cells without any value stay missing.

    Raises
    ------
    ValueError
        Steps shorter than a day.

    Examples
    --------
    >>> da = xr.DataArray([1.0, np.nan, 3.0, 4.0], dims="dayofyear", coords={"dayofyear": [1, 2, 3, 4]})
    >>> fill_gaps(da).values
    array([1., 2., 3., 4.])
    """
    axis = _needs_axis(da, "fill_gaps")
    days = whole_days(da)
    filled = xr.apply_ufunc(
        _bridge_gaps, da, input_core_dims=[[axis]], output_core_dims=[[axis]], dask="parallelized",
        output_dtypes=[da.dtype], kwargs={"days": days, "longest": max_gap, "cyclic": axis != "time"},
        dask_gufunc_kwargs={"allow_rechunk": True},
    ).transpose(*da.dims)  # fmt: skip
    if seasonal and axis == "time":
        filled = _from_other_years(filled, days)
    return filled.transpose(*da.dims).assign_attrs(da.attrs)


def _from_other_years(da: xr.DataArray, days: np.ndarray) -> xr.DataArray:
    """Missing steps from those of other years that start on the same day, else from the cycle on their middle day."""
    start = da["time"].dt.month if are_months(da) else da["time"].dt.dayofyear.clip(max=365)
    filled = _fill_by_number(da, start, mean_by(da, start.rename("number")))
    if are_months(da) or days.max() == 1 or days.min() > 31:
        return filled
    time = da["time"]
    middle = xr.DataArray(days_like(day_numbers(time) + (days - 1) // 2, time), dims="time", coords={"time": time})
    cycle = seasonal_cycle(da).rename(dayofyear="number")
    return _fill_by_number(filled, middle.dt.dayofyear.clip(max=365), cycle)


def _fill_by_number(da: xr.DataArray, number: xr.DataArray, cycle: xr.DataArray) -> xr.DataArray:
    present = number.isin(cycle["number"].values)
    wanted = number.where(present, cycle["number"].values[0])
    return da.fillna(cycle.sel(number=wanted).drop_vars("number").where(present))


def _bridge_gaps(values: np.ndarray, days: np.ndarray, longest: float, cyclic: bool) -> np.ndarray:
    """Straight lines along the last axis, from middle to middle of steps, over gaps of at most ``longest`` days."""
    if cyclic:
        n = len(days)
        return _bridge_gaps(np.concatenate([values] * 3, -1), np.tile(days, 3), longest, False)[..., n : 2 * n]
    good = np.isfinite(values)
    index = np.arange(values.shape[-1])
    before = np.maximum.accumulate(np.where(good, index, -1), -1)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(good, index, len(index)), -1), -1), -1)
    inside = ~good & (before >= 0) & (after < len(index))
    left, right = before.clip(0), after.clip(max=len(index) - 1)
    end = np.cumsum(days)
    at = end - days / 2
    # a gap's length is the time without value: from the end of the step before to the start of the step after
    inside &= end[right] - days[right] - end[left] <= longest
    span = np.where(inside, at[right] - at[left], 1)
    a, b = np.take_along_axis(values, left, -1), np.take_along_axis(values, right, -1)
    return np.where(inside, a + (b - a) * (at - at[left]) / span, values).astype(values.dtype)


def mix_pfts(values: xr.DataArray, shares: xr.DataArray, dim: str = "pft") -> xr.DataArray:
    """Pixel value from values by plant functional type: Σ share × value (Sect. 3.1; Jung et al., 2019).

    Types without a value leave their share to the others in proportion; a pixel where no type with a share has a value
    is missing. Labels are matched by name.

    Parameters
    ----------
    values
        (pft, …), any units.
    shares
        (pft, …), from 0 to 1.
    dim
        Name of the dim of types.

    Raises
    ------
    ValueError
        No ``dim``, labels that differ.

    Examples
    --------
    >>> pft = {"pft": ["tree", "grass"]}
    >>> float(mix_pfts(xr.DataArray([10.0, 2.0], pft), xr.DataArray([0.25, 0.75], pft)))
    4.0
    """
    for name, da in (("values", values), ("shares", shares)):
        if dim not in da.dims:
            raise ValueError(f"mix_pfts: {name} has no dim {dim!r}, only {da.dims}")
    if dim in values.coords and dim in shares.coords:
        have, want = set(values[dim].values.tolist()), set(shares[dim].values.tolist())
        if have != want:
            raise ValueError(
                f"mix_pfts: values and shares have different types: only values {sorted(have - want)}, "
                f"only shares {sorted(want - have)}"
            )
        shares = shares.sel({dim: values[dim]})
    shares = shares.fillna(0)
    weight = shares.where(values.notnull(), 0)
    present = weight.sum(dim)
    total = (values.fillna(0) * weight).sum(dim)
    mixed = (total / present.where(present > 0)) * shares.sum(dim)
    return mixed.transpose(*[d for d in values.dims if d != dim], ...).rename(values.name).assign_attrs(values.attrs)
