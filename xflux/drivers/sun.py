"""Radiation at the top of the atmosphere, from astronomy alone."""

import numpy as np
import xarray as xr

from xflux.drivers.axis import STEP_LENGTH, are_months, month_numbers, whole_days
from xflux.temporal.calendar import COMMON_YEAR, MEAN_YEAR, mean_year

# Kopp and Lean (2011), doi:10.1029/2010GL045777
SOLAR_CONSTANT = 1361.0


def potential_radiation(
    lat: xr.DataArray | np.ndarray | float,
    time: xr.DataArray | None = None,
    *,
    month: xr.DataArray | np.ndarray | None = None,
    dayofyear: xr.DataArray | np.ndarray | None = None,
    solar_constant: float = SOLAR_CONSTANT,
) -> xr.DataArray:
    """Potential (top-of-atmosphere) radiation on a horizontal plane, daily mean (time | month | dayofyear, …), W m-2.

    R = S0/π · E · (h sin φ sin δ + cos φ cos δ sin h), with the sunset hour angle h = arccos(−tan φ tan δ) clipped to
    the polar day and night; declination δ and distance factor E after Spencer (1971). A month, or any step longer than
    a day, gets the mean over its days.

    Parameters
    ----------
    lat
        Latitude, degrees north.
    time, month, dayofyear
        One of them: dates (any calendar), months 1–12 of a climatology, days of year 1–366. A DataArray named
        ``month`` or ``dayofyear`` may also be given as ``time``.
    solar_constant
        S0, W m-2.

    Raises
    ------
    ValueError
        Latitudes beyond ±90, no dates or several.

    Examples
    --------
    >>> potential_radiation(np.array([0.0, 90.0]), dayofyear=np.array([80, 172])).round(0).values
    array([[437.,   3.],
           [384., 524.]])
    """
    axis, day, length = _days(time, month, dayofyear)
    lat = lat if isinstance(lat, xr.DataArray) else xr.DataArray(lat, dims=["lat"][: np.ndim(lat)])
    if float(abs(lat).max()) > 90:
        raise ValueError(f"latitudes are −90 to 90 degrees, got {float(lat.min()):g} to {float(lat.max()):g}")
    phi = np.deg2rad(lat)
    out = _at(day, phi, solar_constant)
    if length is not None:
        out = out.groupby("step").mean().rename(step=axis.dims[0])
    out = out.assign_coords({axis.dims[0]: axis}) if axis.name else out
    attrs = {"units": "W m-2", "long_name": "potential radiation at the top of the atmosphere, daily mean"}
    return out.rename("RPOT").assign_attrs(attrs)


def _at(angle: xr.DataArray, phi: xr.DataArray, solar_constant: float) -> xr.DataArray:
    """Daily mean radiation at the year angle (0 on 1 January 0 h, 2π a year later)."""
    sin, cos = np.sin, np.cos
    delta = (
        0.006918 - 0.399912 * cos(angle) + 0.070257 * sin(angle) - 0.006758 * cos(2 * angle)
        + 0.000907 * sin(2 * angle) - 0.002697 * cos(3 * angle) + 0.00148 * sin(3 * angle)
    )  # fmt: skip
    distance = (
        1.00011 + 0.034221 * cos(angle) + 0.00128 * sin(angle) + 0.000719 * cos(2 * angle) + 0.000077 * sin(2 * angle)
    )
    hour = np.arccos((-np.tan(phi) * np.tan(delta)).clip(-1, 1))
    daily = solar_constant / np.pi * distance * (hour * sin(phi) * sin(delta) + cos(phi) * cos(delta) * sin(hour))
    return daily.clip(0).transpose(*angle.dims, ...)


def _days(time, month, dayofyear):
    """The axis asked for, the year angle of noon of its days, and (for long steps) the number of days of each step."""
    given = [(n, v) for n, v in (("time", time), ("month", month), ("dayofyear", dayofyear)) if v is not None]
    if len(given) != 1:
        raise ValueError(f"give one of time, month and dayofyear, got {len(given)}")
    name, values = given[0]
    if name == "time" and getattr(values, "name", None) in ("month", "dayofyear"):
        name = values.name
    axis = values if isinstance(values, xr.DataArray) else xr.DataArray(values, dims=name, name=name)
    if axis.dims == (axis.name,) and axis.name not in axis.coords:
        axis = axis.assign_coords({axis.name: axis})
    axis = axis.drop_vars([c for c in axis.coords if c not in (axis.name, STEP_LENGTH)])
    if name == "dayofyear":
        if axis.size and not (1 <= int(axis.min()) and int(axis.max()) <= 366):
            raise ValueError(f"days of year are 1 to 366, got {int(axis.min())} to {int(axis.max())}")
        return axis, _angle(axis, MEAN_YEAR), None
    if name == "month":
        last = np.cumsum(COMMON_YEAR)
        number = month_numbers(axis.values) - 1
        days = [np.arange(last[m] - COMMON_YEAR[m] + 1, last[m] + 1) for m in number]
        return axis, _steps(days, 365.0), COMMON_YEAR[number]
    return _dates(axis)


def _dates(axis: xr.DataArray):
    try:
        length = whole_days(axis)
    except ValueError:  # a single stamp, or hours: the day they are in
        length = np.ones(axis.size, int)
    first = axis.dt.dayofyear.values
    months = (length > 1).any() and axis.dims[0] == axis.name and are_months(axis)
    axis = axis.drop_vars(STEP_LENGTH, errors="ignore")
    in_year = mean_year(axis.dt.calendar)
    if (length <= 1).all():
        return axis, _angle(xr.DataArray(first, dims=axis.dims), in_year), None
    if months:
        first = first - axis.dt.day.values + 1  # stamps at any day of the month are whole months
    return axis, _steps([np.arange(f, f + n) for f, n in zip(first, length, strict=True)], in_year), length


def _steps(days: list[np.ndarray], in_year: float) -> xr.DataArray:
    step = np.repeat(np.arange(len(days)), [len(d) for d in days])
    return _angle(xr.DataArray(np.concatenate(days), dims="day", coords={"step": ("day", step)}), in_year)


def _angle(day: xr.DataArray, in_year: float) -> xr.DataArray:
    return 2 * np.pi * (day - 0.5) / in_year
