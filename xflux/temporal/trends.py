"""The linear trend of annual values, with its interval and its p-value."""

import numpy as np
import xarray as xr

from xflux.temporal.averages import whole_years
from xflux.temporal.axis import with_steps
from xflux.temporal.convert import own_riding, variable_of
from xflux.temporal.riding import CALENDAR, of_each_series
from xflux.temporal.steps import Steps
from xflux.units import flux_variables, left_out
from xflux.values import checked

METHODS = ("theil-sen", "least-squares", "ar1")
FEWEST = 3
_SAID = {
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
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; expected one of {', '.join(METHODS)}.")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: expected a share such as 0.95.")
    da, given = _one_series(*with_steps(obj))
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
    return result.assign_attrs(kept | {"method": _SAID[method], "level": level, "flux": str(yearly.name or "")})


def _one_series(obj: xr.DataArray | xr.Dataset, steps: Steps | None) -> tuple[xr.DataArray, Steps | None]:
    if isinstance(obj, xr.DataArray):
        return obj.rename({name: c for name, c in own_riding(obj).items() if c not in obj.coords}), steps
    names = flux_variables(obj)
    if len(names) != 1:
        raise ValueError(
            f"a trend is of one flux, but the Dataset has {names or 'none'}: give one of them, as ds[name]."
            + left_out(obj)
        )
    da = variable_of(obj, names[0])
    return da, steps if "time" in da.dims else None


def _fit(years: np.ndarray, values: np.ndarray, method: str, level: float) -> tuple[float, ...]:
    """Slope, interval, p and number of years of one series."""
    from scipy import stats

    valid = np.isfinite(values)
    x, y, n = years[valid], values[valid].astype("float64"), int(valid.sum())
    if n < FEWEST:
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
