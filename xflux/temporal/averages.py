"""Months, years and what follows from them: seasonal cycle, anomalies, interannual variability, trend."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

from xflux.contents import as_statistic
from xflux.temporal.axis import with_steps
from xflux.temporal.convert import (
    each_flux,
    finish,
    integrals,
    restamped,
    sole_flux,
    to_amounts,
    valid_share,
)
from xflux.temporal.groups import grouped, sums_by
from xflux.temporal.riding import CALENDAR, of_each_series
from xflux.temporal.steps import Given, Steps, needed_steps, of_years
from xflux.units.quantity import known_units
from xflux.values import checked, warn

GAP = 1e-3
"""Share of a year that may be missing without making it another year: a third of a day."""

_FREQ = {"month": "MS", "year": "YS"}


def _summed_units(da: xr.DataArray, steps: Steps, period: str) -> str | None:
    """Units of a sum where values are amounts of their step, None where they are rates (or states): these average."""
    units = known_units(da.attrs)
    if units is None or units.substance in ("1", "area"):
        return None
    if units.time == "month" and steps.kind != "year":
        return da.attrs["units"] if period == "month" else f"{units.amount} yr-1"
    return da.attrs["units"] if units.time is None else None


def _by_period(da: xr.DataArray, given: Given, period: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean of rates or sum of amounts by period, and the share of the period's time that is valid."""
    steps = needed_steps(da, given)
    if period == "month" and steps.days.max() > 31.5:
        raise ValueError(f"steps of {steps.days.max():g} days are longer than a month and cannot be brought to months.")
    units = _summed_units(da, steps, period)
    if units is not None:
        return to_amounts(da, units, _FREQ[period], given)
    if steps.are(period):
        return finish(restamped(da, steps, period), da), restamped(da.notnull().astype("float64"), steps, period)
    total, covered, full = integrals(da, steps, period)
    return finish(total / covered.where(covered > 0), da), covered / full


def _averaged(da: xr.DataArray, given: Given, period: str) -> xr.DataArray:
    result, share = _by_period(da, given, period)
    return result.assign_coords(valid_fraction=valid_share(da, share, given, period))


_SHORTEST = 359.5  # days: the year of a calendar of 360


def to_monthly(obj: xr.DataArray | xr.Dataset, bounds: Given = None) -> xr.DataArray | xr.Dataset:
    """Calendar months: time-weighted means of rates, sums of amounts; ``dayofyear`` becomes ``month``.

    A step that straddles two months is shared between them by its days. Stamps are the starts of months. The share of
    the month with valid values comes back as the coordinate ``valid_fraction``.

    Parameters
    ----------
    obj
        Flux on (…, time | month | dayofyear), per time or an amount of each step; of a Dataset, all its fluxes.
    bounds
        (time, 2), where neither the stamps nor a Dataset's own bounds tell.

    Raises
    ------
    ValueError
        Steps longer than a month.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=59, freq="D")
    >>> da = xr.DataArray(np.r_[np.zeros(31), np.ones(28)], {"time": time}, "time", attrs={"units": "gC m-2 d-1"})
    >>> to_monthly(da).values
    array([0., 1.])
    """
    return each_flux(obj, lambda da, own: _averaged(da, own if bounds is None else bounds, "month"))


def annual(obj: xr.DataArray | xr.Dataset, *, complete: bool = True) -> xr.DataArray | xr.Dataset:
    """Calendar years: means of rates weighted by the steps' lengths, sums of amounts ("X month-1" → "X yr-1").

    ``time`` stays, stamped 1 January, with a coordinate ``year`` (int). Years that the time axis does not cover from
    end to end are left out, and a warning names them. Missing values add nothing to a sum and do not count in a mean;
    the share of the year with valid values is the coordinate ``valid_fraction``, so that they show. The year of a
    climatology (``month`` or ``dayofyear``) is the mean Gregorian one, and the dimension goes; where a part of its
    year is not there, a warning says so.

    Parameters
    ----------
    complete
        False keeps the years of which the time axis covers a part.
    obj
        Flux on (…, time | month | dayofyear), per time or an amount of each step; of a Dataset, all its fluxes.

    Raises
    ------
    ValueError
        Steps whose lengths nobody knows.

    Examples
    --------
    >>> time = xr.date_range("2003-01-01", periods=12, freq="MS")
    >>> da = xr.DataArray(np.ones(12), {"time": time}, "time", attrs={"units": "PgC month-1"})
    >>> annual(da).item(), annual(da).attrs["units"]
    (12.0, 'PgC yr-1')
    """
    partial: set[int] = set()
    result = each_flux(obj, lambda da, given: _annual(da, given, complete, partial))
    if partial:
        warn(
            f"the time axis covers {_listed(partial)} only in part: left out of the annual values "
            f"(annual(complete=False) keeps them)."
        )
    return result


def _annual(da: xr.DataArray, given: Given, complete: bool, partial: set[int]) -> xr.DataArray:
    result = _averaged(da, given, "year")
    if "time" not in result.dims:
        if complete and (days := float(needed_steps(da, given).days.sum())) < _SHORTEST:
            warn(f"the climatology has {days:.0f} days of its year only: its annual value is of these.")
        return result
    result = result.assign_coords(year=("time", _years(result)))
    if not complete:
        return result
    covered = needed_steps(da, given).covered("year")
    partial.update(result["year"].values[~covered].tolist())
    return result.isel(time=covered)


def _years(da: xr.DataArray) -> np.ndarray:
    return da["time"].dt.year.values.astype(int)


def _listed(years: set[int]) -> str:
    names = [str(year) for year in sorted(years)]
    return ", ".join(names[:6]) + (f" … {names[-1]}" if len(names) > 6 else "")


def mean_seasonal_cycle(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Mean of every calendar month over the years, dim ``month`` (1–12) in place of ``time``.

    Shorter steps are brought to months first, so that every year counts alike. Months of a sum ("X month-1") that the
    time axis covers only in part are left out; a month without data is NaN. A climatology stays one (``dayofyear`` as
    months). ``valid_fraction`` is the mean over the years.

    Parameters
    ----------
    obj
        Flux on (…, time | month | dayofyear), per time or an amount of each step; of a Dataset, all its fluxes.

    Raises
    ------
    ValueError
        Steps longer than a month, or whose lengths nobody knows.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
    >>> da = xr.DataArray(np.arange(24.0), {"time": time}, "time", attrs={"units": "gC m-2 d-1"})
    >>> mean_seasonal_cycle(da).sel(month=1).item()
    6.0
    """
    return each_flux(obj, _seasonal)


def _seasonal(da: xr.DataArray, given: Given) -> xr.DataArray:
    monthly = _averaged(da, given, "month")
    if "time" not in da.dims:
        return monthly
    steps = needed_steps(da, given)
    month = monthly["time"].dt.month.reset_coords(drop=True).drop_vars("time").rename("month")

    def mean(x: xr.DataArray, function: str) -> xr.DataArray:
        by_month = grouped(x.reset_coords(drop=True).drop_vars("time"), month, function)
        return by_month.transpose(*["month" if d == "time" else d for d in x.dims]).reindex(month=np.arange(1, 13))

    values = monthly
    if _summed_units(da, steps, "month") is not None:
        values = monthly.where(xr.DataArray(steps.covered("month"), dims="time"))
    share = monthly["valid_fraction"]
    result = finish(
        mean(values, "nanmean").assign_coords({c: v for c, v in monthly.coords.items() if "time" not in v.dims}), da
    )
    return result.assign_coords(valid_fraction=mean(share, "mean").fillna(0.0).assign_attrs(share.attrs))


def annual_anomalies(obj: xr.DataArray | xr.Dataset, detrend: bool = True) -> xr.DataArray | xr.Dataset:
    """Annual values less their linear trend over the years (detrended) or, with ``detrend=False``, less their mean.

    As in Fig. 2c of the paper; ``attrs["detrended"]`` says which of the two (1 or 0). Years that the time axis does not
    cover from end to end are left out. A year is NaN where time is missing from its sum, or where the coordinate
    ``valid_fraction`` says that more is missing than in other years. Dims and units as in :func:`annual`.

    Parameters
    ----------
    obj
        Flux on (…, time), per time or an amount of each step; of a Dataset, all its fluxes.
    detrend
        Whether the trend of each series is taken out, not only its mean.

    Raises
    ------
    ValueError
        No ``time``, no year that the axis covers from end to end.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=3, freq="YS")
    >>> da = xr.DataArray([1.0, 2.0, 3.0], {"time": time}, "time", attrs={"units": "PgC yr-1"})
    >>> abs(annual_anomalies(da)).max().item() < 1e-12
    True
    """
    return each_flux(obj, lambda da, given: _anomalies(da, given, detrend))


def whole_years(da: xr.DataArray, given: Given, what: str) -> xr.DataArray:
    """Annual values of the years that the time axis covers, with ``year``; NaN where time or area is missing."""
    if "time" not in da.dims:
        raise ValueError(
            f"{what} the dimension 'time' (a climatology has no years), not {tuple(da.dims)}{of_years(da)}."
        )
    steps = needed_steps(da, given)
    values, share = _by_period(da, given, "year")
    if _summed_units(da, steps, "year") is not None:
        values = values.where(share > 1 - 1e-6)
    whole = without_gaps(values, da, share, given)
    _name_gaps(values, whole)
    values = whole.assign_coords(year=("time", _years(values)))
    values = values.isel(time=steps.covered("year"))
    if values.sizes["time"] == 0:
        raise ValueError("the time axis covers no year from end to end: there are no annual values.")
    return values


def _anomalies(da: xr.DataArray, given: Given, detrend: bool) -> xr.DataArray:
    values = whole_years(da, given, "anomalies need")
    anomaly = values - values.mean("time")
    if detrend:
        year = values["year"].reset_coords(drop=True).where(values.notnull())
        year = year - year.mean("time")
        square = (year**2).sum("time")
        slope = (year * anomaly).sum("time") / square.where(square > 0)
        anomaly = anomaly - slope.fillna(0.0) * year
    said = as_statistic(values, f"annual anomalies{', detrended' if detrend else ''}")
    like = values.drop_attrs(deep=False).assign_attrs(said | {"detrended": int(detrend)})
    return finish(anomaly.transpose(*values.dims), like)


def _name_gaps(values: xr.DataArray, whole: xr.DataArray) -> None:
    """Warn of years that were left out; those of a lazy result are not known yet."""
    if whole is values or whole.chunks is not None:
        return
    lost = (values.notnull() & whole.isnull()).any([d for d in whole.dims if d != "time"]).values
    if lost.any():
        warn(
            f"in {_listed(set(_years(whole)[lost].tolist()))} more is missing than in other years (valid_fraction): "
            f"NaN in what is made of annual values here. Drop the coordinate valid_fraction to have them none the less."
        )


def without_gaps(yearly: xr.DataArray, da: xr.DataArray, share: xr.DataArray, given: Given) -> xr.DataArray:
    """Annual values, NaN where the ``valid_fraction`` of ``da`` is smaller than in other years."""
    if "valid_fraction" not in da.coords or "time" not in da["valid_fraction"].dims:
        return yearly
    valid = valid_share(da, share, given, "year")
    return yearly.where((valid >= (1 - GAP) * valid.max("time")).reset_coords(drop=True))


def interannual_variability(
    obj: xr.DataArray | xr.Dataset, detrend: bool = True, ddof: int = 0
) -> xr.DataArray | xr.Dataset:
    """Standard deviation of the (detrended) annual anomalies over the years (paper, Fig. 2d); without ``time``.

    NaN where fewer than three years (two without ``detrend``) are valid: a line through two points leaves nothing.

    Parameters
    ----------
    ddof
        Subtracted from the number of years in the divisor.
    obj, detrend
        As in :func:`annual_anomalies`.

    Raises
    ------
    ValueError
        No ``time``, no year that the axis covers from end to end.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=4, freq="YS")
    >>> da = xr.DataArray([1.0, -1.0, -1.0, 1.0], {"time": time}, "time", attrs={"units": "PgC yr-1"})
    >>> interannual_variability(da).item()
    1.0
    """

    def variability(da: xr.DataArray, given: Given) -> xr.DataArray:
        anomaly = _anomalies(da, given, detrend)
        years = anomaly.notnull().sum("time")
        spread = np.sqrt((anomaly**2).sum("time") / (years - ddof).where(years > max(1 + detrend, ddof)))
        attrs = {k: v for k, v in anomaly.attrs.items() if k != "positive"}
        if "long_name" in attrs:
            attrs["long_name"] = f"{attrs['long_name']}, standard deviation"
        return finish(spread, anomaly.drop_attrs(deep=False).assign_attrs(attrs))

    return each_flux(obj, variability)


def mean_by(da: xr.DataArray, groups: xr.DataArray | Hashable) -> xr.DataArray:
    """Mean over steps of equal labels, NaN left out, in the precision of the data.

    xarray adds up single precision in an order that depends on chunks, on whether flox or bottleneck are there, and on
    its options, so that the seventh digit differs from run to run. In double precision these sums are exact.

    Parameters
    ----------
    da
        Values in any units.
    groups
        Labels along a dim, or their name, such as "time.year".

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=4, freq="MS")
    >>> da = xr.DataArray(np.float32([1, 2, 3, np.nan]), {"time": time}, "time")
    >>> mean_by(da, "time.year").values
    array([2.], dtype=float32)
    """
    by = getattr(da[groups.partition(".")[0]].dt, groups.partition(".")[2]) if isinstance(groups, str) else groups
    labels, group = np.unique(by.values, return_inverse=True)
    total, count = sums_by(da, by.dims[0], group, np.ones(group.size))
    mean = (total / count.where(count > 0)).astype(da.dtype if da.dtype.kind == "f" else np.float64)
    return mean.rename(_period=by.name).assign_coords({by.name: labels}).assign_attrs(da.attrs).rename(da.name)


_FEWEST = 3
_METHODS = {
    "theil-sen": "Theil-Sen slope; interval and p of Kendall's tau (Mann-Kendall), years taken as independent",
    "least-squares": "least squares; interval and p of Student's t, years taken as independent",
    "ar1": "least squares; interval and p of Student's t with the years that residuals of lag-1 correlation are worth",
}


def trend(obj: xr.DataArray | xr.Dataset, method: str = "theil-sen", level: float = 0.95) -> xr.Dataset:
    """The trend of the annual values over the years, lazily where the flux is lazy.

    Parameters
    ----------
    obj
        A flux with the dim ``time``, of any steps; a Dataset needs exactly one flux. Years are as in
        :func:`annual_anomalies`: those that the time axis covers in part are left out, those with gaps are NaN.
    method
        "theil-sen": the median of all slopes, not moved by single years (Sen 1968), with the Mann–Kendall test.
        "least-squares": the ordinary fit. "ar1": the same, with as many independent years as the residuals'
        autocorrelation at lag 1 leaves, n (1 − r) / (1 + r) (Santer et al. 2000, doi:10.1029/1999JD901105).
    level
        Of the interval.

    Returns
    -------
    xr.Dataset
        Without ``time``: ``slope``, ``low``, ``high`` in the annual values' units per year ("PgC yr-1 yr-1"),
        ``p_value`` (two-sided, against no trend), ``n_years``. NaN where fewer than three years are valid.

    Raises
    ------
    ValueError
        An unknown method, no ``time``, no whole year, a Dataset of several fluxes.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=10, freq="YS")
    >>> da = xr.DataArray(np.arange(10.0), {"time": time}, "time", attrs={"units": "PgC yr-1"})
    >>> found = trend(da)
    >>> found["slope"].item(), found["slope"].attrs["units"], found["p_value"].item() < 1e-3
    (1.0, 'PgC yr-1 yr-1', True)
    """
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is unknown; expected one of {', '.join(_METHODS)}.")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: expected a share such as 0.95.")
    obj, given = with_steps(obj)
    da = sole_flux(obj, "a trend", ": give one of them, as ds[name]")
    given = given if "time" in da.dims else None
    yearly = of_each_series(checked(da), given, lambda one, steps: whole_years(one, steps, "a trend needs"))
    beside = [c for c in yearly.coords if "time" in yearly[c].dims or c == CALENDAR]
    years = yearly["year"].values.astype("float64")
    plain = yearly.drop_vars(beside).chunk(time=-1) if yearly.chunks is not None else yearly.drop_vars(beside)
    names = ("slope", "low", "high", "p_value", "n_years")
    fitted = xr.apply_ufunc(
        lambda y: _fit(years, y, method, level), plain, input_core_dims=[["time"]],
        output_core_dims=[[]] * len(names), vectorize=True, dask="parallelized", output_dtypes=["float64"] * len(names),
    )  # fmt: skip
    result = xr.Dataset(dict(zip(names, fitted, strict=True)))
    for name in ("slope", "low", "high"):
        result[name].attrs = {"units": f"{yearly.attrs.get('units', '')} yr-1".strip()}
    result["p_value"].attrs, result["n_years"].attrs = {"units": "1"}, {"units": "1"}
    kept = {key: yearly.attrs[key] for key in ("positive", "area_basis", "regions") if key in yearly.attrs}
    return result.assign_attrs(kept | {"method": _METHODS[method], "level": level, "flux": str(yearly.name or "")})


def _fit(years: np.ndarray, values: np.ndarray, method: str, level: float) -> tuple[float, ...]:
    """Slope, interval, p and number of years of one series."""
    from scipy import stats

    valid = np.isfinite(values)
    x, y, n = years[valid], values[valid].astype("float64"), int(valid.sum())
    if n < _FEWEST:
        return (np.nan, np.nan, np.nan, np.nan, float(n))
    if method == "theil-sen":
        slope, _, low, high = stats.theilslopes(y, x, level)
        return slope, low, high, stats.kendalltau(x, y).pvalue, float(n)
    line = stats.linregress(x, y)
    worth, error = float(n), line.stderr
    if method == "ar1":
        worth = _independent(y - line.intercept - line.slope * x)
        error = line.stderr * np.sqrt((n - 2) / (worth - 2)) if worth > 2 else np.inf
    free = max(worth - 2, 1e-9)
    half = stats.t.ppf((1 + level) / 2, free) * error
    ratio = abs(line.slope) / error if error > 0 else np.inf
    return line.slope, line.slope - half, line.slope + half, 2 * stats.t.sf(ratio, free), float(n)


def _independent(residuals: np.ndarray) -> float:
    """The number of independent values that residuals are worth; never more than there are."""
    square = (residuals**2).sum()
    r = (residuals[1:] * residuals[:-1]).sum() / square if square > 0 else 0.0
    return residuals.size * (1 - max(r, 0)) / (1 + max(r, 0))
