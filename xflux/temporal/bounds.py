"""Where every time step begins and ends: from CF bounds, else from the stamps."""

import numpy as np
import xarray as xr

from .calendar import DAY, Calendar

_HINTS = {"month": 1, "year": 12}
_MINUTE = 60_000_000


def dataset_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """The CF bounds variable (time, 2) that a Dataset carries, decoded; None where there is none."""
    if not isinstance(obj, xr.Dataset) or "time" not in obj.dims or "time" not in obj.coords:
        return None
    time = obj["time"]
    named = time.attrs.get("bounds") or time.encoding.get("bounds")
    for name in (named, "time_bnds", "time_bounds", "time_bnd", "bounds_time"):
        if name in obj.variables and set(obj[name].dims) > {"time"} and obj[name].size == 2 * time.size:
            return _decoded(obj[name].transpose("time", ...), time)
    return None


def dates_within(ds: xr.Dataset) -> xr.DataArray:
    """A date within every step (time): its stamp, or with CF bounds their middle, since a stamp may be a step's end."""
    bounds = dataset_bounds(ds)
    if bounds is None:
        return ds["time"]
    start, stop = bounds.values.T
    return xr.DataArray(start + (stop - start) / 2, {"time": ds["time"]}, ("time",), name="time")


def _decoded(bounds: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    """Bounds as dates; numbers take the units and calendar of the time axis, as CF says."""
    if bounds.dtype.kind not in "iuf":
        return bounds
    attrs = {key: {**time.encoding, **bounds.attrs}.get(key) for key in ("units", "calendar")}
    if attrs["units"] is None:
        raise ValueError(f"{bounds.name!r} holds numbers without units: open the file with decode_times=True.")
    raw = xr.Variable(bounds.dims, bounds.values, {k: v for k, v in attrs.items() if v is not None})
    coder = xr.coders.CFDatetimeCoder(use_cftime=time.dtype == object)
    return bounds.copy(data=xr.decode_cf(xr.Dataset({"bounds": raw}), decode_times=coder)["bounds"].values)


def given_steps(time: xr.DataArray, bounds: xr.DataArray | np.ndarray) -> tuple[np.ndarray, np.ndarray, Calendar]:
    """Start and stop in microseconds of the steps that bounds (time, 2) name.

    Ends such as 31 January 23:59:59 are taken for the start of the month that they precede.
    """
    values = np.asarray(bounds.values if isinstance(bounds, xr.DataArray) else bounds)
    if values.shape != (time.size, 2):
        raise ValueError(f"time bounds have the shape {values.shape}; expected (time, 2) = {(time.size, 2)}.")
    calendar, own = Calendar.of(values), Calendar.of(np.asarray(time.values))
    if own.family != calendar.family:
        raise ValueError(f"time is in the calendar {own.name!r}, its bounds in {calendar.name!r}: convert one of them.")
    ticks = calendar.ticks(values)
    edge = calendar.start(calendar.month(ticks + _MINUTE))
    ticks = np.where(np.abs(ticks - edge) < _MINUTE, edge, ticks)
    if (ticks[:, 1] <= ticks[:, 0]).any():
        i = int((ticks[:, 1] <= ticks[:, 0]).argmax())
        raise ValueError(f"time bounds must increase: step {i} runs from {values[i, 0]} to {values[i, 1]}.")
    return ticks[:, 0], ticks[:, 1], calendar


def inferred_steps(time: xr.DataArray) -> tuple[np.ndarray, np.ndarray, Calendar]:
    """Start and stop in microseconds of the steps that stamps stand for; see :func:`time_bounds`."""
    values = np.asarray(time.values)
    calendar = Calendar.of(values)
    ticks = calendar.ticks(values)
    if ticks.size == 1 and time.attrs.get("period") not in _HINTS:
        raise ValueError(
            f"a single time step ({values[0]}) has no length: put it in a Dataset with time_bnds (time, 2)."
        )
    if ticks.size > 1 and np.diff(ticks).min() <= 0:
        raise ValueError("time must increase without repeats: use sortby('time') and drop_duplicates('time') first.")
    whole = _whole_months(ticks, calendar) if ticks.size > 1 else _HINTS[time.attrs["period"]]
    if whole:
        first = calendar.month(ticks) // whole * whole
        return calendar.start(first), calendar.start(first + whole), calendar
    regular = _regular(ticks, calendar)
    if regular is None:
        raise ValueError(
            "the time steps are neither months, years nor regular, so their lengths are unknown: put the data in a "
            "Dataset with time_bnds (time, 2)."
        )
    return *regular, calendar


def _whole_months(ticks: np.ndarray, calendar: Calendar) -> int | None:
    """1 where stamps name whole months, 12 whole years, None otherwise. Gaps are allowed where stamps sit alike."""
    month, gap = calendar.month(ticks), np.diff(ticks).min()
    apart = np.diff(month)
    if (apart == 1).all() and gap >= 20 * DAY:
        return 1
    if (np.diff(month // 12) == 1).all() and gap >= 300 * DAY:
        return 12
    since, until = ticks - calendar.start(month), calendar.start(month + 1) - ticks
    # At the start, the end, or the middle of their months (whose lengths differ by three days at most).
    alike = np.ptp(since) < DAY or np.ptp(until) < DAY or np.ptp(since - until) <= 4 * DAY
    if alike and apart.min() == 1 and gap >= 20 * DAY:
        return 1
    return 12 if alike and apart.min() == 12 and not (apart % 12).any() else None


def _regular(ticks: np.ndarray, calendar: Calendar) -> tuple[np.ndarray, np.ndarray] | None:
    """Start and stop where stamps are regular, with gaps, or restart each 1 January; None where they are not."""
    gaps = np.diff(ticks)
    # 8-daily composites: 1 January cuts the last one of the year short. Its length is no measure of the others: a week
    # that is cut to a day does not make the series a daily one with gaps.
    new_year = calendar.start(calendar.month(ticks) // 12 * 12 + 12)
    stop = np.minimum(ticks + gaps.max(), new_year)
    if (stop[:-1] == ticks[1:]).all() and np.ptp(gaps):
        return ticks, stop
    step = gaps.min()
    if (gaps % step).any():
        return None
    if step == DAY:
        month = calendar.start(calendar.month(ticks))
        ticks = month + (ticks - month) // DAY * DAY
    return ticks, ticks + step


def time_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Start and end of every time step, dims (time, bnds), in the calendar and dtype of the time axis.

    A Dataset's CF bounds variable wins. Else stamps in consecutive months (or years) are whole months (years), wherever
    in them they sit, with gaps allowed where all stamps sit alike; daily stamps are calendar days, at whatever hour;
    other regular steps run from the stamp; 8-daily composites that restart each 1 January end there.

    Raises
    ------
    ValueError
        A single step, or irregular ones, without bounds; times that do not increase or are not dates.

    Examples
    --------
    >>> da = xr.DataArray([1.0, 1.0], {"time": np.array(["2004-01-16", "2004-02-29"], "M8[ns]")}, "time")
    >>> time_bounds(da).values.astype("M8[D]")
    array([['2004-01-01', '2004-02-01'],
           ['2004-02-01', '2004-03-01']], dtype='datetime64[D]')
    """
    if "time" not in obj.dims or "time" not in obj.coords:
        raise ValueError(f"there is no dimension 'time' with a coordinate; the dimensions are {tuple(obj.dims)}.")
    given = dataset_bounds(obj)
    if given is not None:
        return given.rename({given.dims[1]: "bnds"}).rename("time_bnds").drop_vars(given.dims[1], errors="ignore")
    start, stop, calendar = inferred_steps(obj["time"])
    values = np.stack([calendar.dates(start), calendar.dates(stop)], axis=1)
    return xr.DataArray(values, {"time": obj["time"]}, ("time", "bnds"), name="time_bnds")
