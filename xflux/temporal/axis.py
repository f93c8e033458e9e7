"""The time axis of an object, found, named ``time``, in dates, with bounds that can be believed: the door."""

import re
from collections.abc import Hashable

import numpy as np
import xarray as xr

from xflux.temporal.bounds import as_bounds, bounds_name, inferred_steps, may_be_middles, may_be_months, raw_bounds
from xflux.temporal.calendar import COMMON_YEAR, DAY, LEAP_YEAR, Calendar
from xflux.temporal.dates import decode, from_plain, is_date, written
from xflux.temporal.riding import RIDING, STAMP, ridden_edges, ridden_steps
from xflux.temporal.steps import Steps, carried, known_steps, steps_between
from xflux.values import warn

_NAMES = re.compile(r"(valid_|forecast_|obs_)?(time|date)s?(_?(counter|axis|centered|instant))?|t|datetime", re.I)
_UNITS = re.compile(r"^\s*\w+\s+since\s+\d|^\s*(day|month|year)s?\s+as\s+%", re.I)
_YEARLY = ("month", "dayofyear")
_OPTIONS = r"\bcdo\s+(?:-[fPbzkgt]\s*\S+\s+|-\w\s+|--\S+\s+)*-?"
_DAYS_OF_CDO = re.compile(_OPTIONS + r"yday(mean|avg)\b")
"""In a history: the first operator is one that writes the days of its last year, without bounds."""
_SUM_OF_CDO = re.compile(_OPTIONS + r"(?:(y(?!ear)|dhour)\w*|hour|day|mon|year|seas|tim|timsel|run)sum\b")
"""In the last line of a history, which is its first: a sum over time, of which ``cell_methods`` may not tell."""
_MONTHS_OF_CDO = re.compile(r"\bcdo\b.*\bsel(?:mon|month),([\d,]+)")


def standardise(obj: xr.DataArray | xr.Dataset, lengths: bool = True) -> xr.DataArray | xr.Dataset:
    """The same object with its time axis, if there is one, as xflux reads it; one that is so already as it is.

    The axis is found by its CF attributes, its dates or its name (``valid_time``, ``Time``, ``time_counter``, ``date``,
    ``t``) and called ``time``; numbers that were not decoded become dates; bounds are checked, and completed where they
    all stop short of the next step; a climatology (bounds that span years) gets ``month`` or ``dayofyear``. A warning
    says where bounds that ``time`` names are gone and its stamps alone leave open which step they mean.

    Parameters
    ----------
    lengths
        Whether the lengths of the steps matter; if not, bounds are not looked at.
    obj
        Any; what has no time axis comes back as it is.

    Raises
    ------
    ValueError
        Several axes that could be meant; bounds that overlap, that do not hold their stamps or are left from a finer
        axis.

    Examples
    --------
    >>> da = xr.DataArray([1.0, 2.0], {"valid_time": [200101, 200102]}, "valid_time")
    >>> standardise(da)["time"].values.astype("M8[D]")
    array(['2001-01-01', '2001-02-01'], dtype='datetime64[D]')
    """
    if not isinstance(obj, xr.DataArray | xr.Dataset):
        return obj
    obj, dates = _with_dates(obj)
    return _bounded(obj)[0] if dates and lengths else obj


def with_steps(obj: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray | xr.Dataset, Steps | None]:
    """As :func:`standardise`, with the steps along time that bounds or coordinates tell, to be handed on."""
    obj, dates = _with_dates(obj)
    if not dates:
        return obj, None
    obj, steps = _bounded(obj)
    if "time" in obj.dims:
        _say_what_may_be_meant(obj, steps)
    return obj, steps


def say_that_years_have_months(obj: xr.DataArray | xr.Dataset) -> None:
    """Warn where months lie beside years: without dates they have the mean year's lengths."""
    if {"year", "month"} <= set(obj.dims) and "year" in obj.coords and obj["year"].dtype.kind in "iu":
        size = obj.sizes["year"] * obj.sizes["month"]
        warn(
            "the months of every 'year' are taken with the lengths of the mean year (February 28.2425 d); dates have "
            "their own: obj.stack(time=('year', 'month')).drop_vars(['time', 'year', 'month']).assign_coords("
            f"time=xr.date_range('{int(obj['year'][0])}-01', periods={size}, freq='MS'))"
        )


def _say_what_may_be_meant(obj: xr.DataArray | xr.Dataset, steps: Steps | None) -> None:
    """Warn where stamps, or bounds that are the means of others, fit other steps as well."""
    first = written(obj["time"].values[0])
    if steps is None and may_be_months(obj["time"]):
        warn(
            f"time has one stamp a year, from {first}: each is taken for its whole year. Give single months "
            f"time_bnds in a Dataset; stamp years at their start, middle or end."
        )
    if steps is None and may_be_middles(obj["time"]):
        warn(
            f"time has steps of some days, from {first}, whose stamps could be their first days or, counted from 1 "
            f"January, their middles, as coarsen leaves them: each is taken to begin at its stamp. Give time_bnds in a "
            f"Dataset to say otherwise."
        )
    if steps is not None and ridden_steps(obj) is None and (found := _may_be_means(steps)) is not None:
        length, apart = found
        warn(
            f"the time bounds are {length} month{'s' * (length > 1)} long and {apart} apart, from {first}: each is "
            f"taken for these. If it is a mean over {apart} months, as coarsen leaves it, write the bounds meant."
        )


def _may_be_means(steps: Steps) -> tuple[int, int] | None:
    """Months that steps last and are apart where bounds could be the means of an odd number of others, all as long."""
    length, apart = steps.whole_months(), np.unique(np.diff(steps.calendar.month(steps.start)))
    if length is None or np.ptp(length) or apart.size != 1:
        return None
    alike = steps.calendar.family == "360_day" or (length[0] == 12 and steps.calendar.family in ("noleap", "all_leap"))
    several, rest = divmod(int(apart[0]), int(length[0]))
    return (int(length[0]), int(apart[0])) if alike and not rest and several > 1 and several % 2 else None


def _with_dates(obj: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray | xr.Dataset, bool]:
    """With a ``time``, and whether it is one of dates."""
    obj = _named(obj)
    if "time" not in obj.dims or "time" not in obj.coords or not obj.sizes["time"]:
        return obj, False
    obj = _summed(_dated(obj))
    return obj, is_date(obj["time"])


# --- its name ---
def _named(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    if "time" in obj.dims or (isinstance(obj, xr.DataArray) and set(_YEARLY) & set(obj.dims)):
        return obj
    parts = [obj.dims] if isinstance(obj, xr.DataArray) else [da.dims for da in obj.data_vars.values()]
    beside = {"lat", "lon"}.union(*(dims for dims in parts if set(_YEARLY) & set(dims)))
    found = [name for name in obj.coords if obj[name].ndim == 1 and obj[name].dims[0] not in beside]
    found = [name for name in found if name not in RIDING and _is_time(obj, name)]
    dims = sorted({obj[name].dims[0] for name in found}, key=str)
    if len(dims) > 1:
        raise ValueError(
            f"several dimensions could be the time: {dims}; rename the one that is meant, e.g. "
            f"ds.rename({{{dims[0]!r}: 'time'}})."
        )
    if not dims:
        return obj
    dim = dims[0]
    chosen = dim if dim in found else _preferred(found)
    if "time" in obj.coords and chosen != "time":  # e.g. the time at which a forecast was started
        obj = obj.drop_vars("time")
    if chosen != dim:
        obj = (obj.drop_vars(dim) if dim in obj.coords else obj).swap_dims({dim: chosen})
    return obj if chosen == "time" else obj.rename({chosen: "time"})


def _preferred(names: list[Hashable]) -> Hashable:
    return "time" if "time" in names else names[0]


def _is_time(obj: xr.DataArray | xr.Dataset, name: Hashable) -> bool:
    """Whether a coordinate is a time, by its dates, its units, what CF says of it, or its name."""
    coord = obj[name]
    if _UNITS.match(str(coord.attrs.get("units", ""))):
        return True
    if is_date(coord):
        dim = coord.dims[0]  # WRF's dates are in XTIME along Time, which has no coordinate
        return dim == name or any(_NAMES.fullmatch(str(n)) for n in (name, *([] if dim in obj.coords else [dim])))
    if name not in obj.dims or coord.dtype.kind == "b":
        return False
    by_cf = name in _cf_times(obj)
    return (by_cf or bool(_NAMES.fullmatch(str(name)))) and from_plain(np.asarray(coord.values)) is not None


def _cf_times(obj: xr.DataArray | xr.Dataset) -> set[Hashable]:
    import cf_xarray  # noqa: F401 - registers .cf

    return {*obj.cf.axes.get("T", []), *obj.cf.standard_names.get("time", []), *obj.cf.coordinates.get("time", [])}


# --- its dates ---
def _dated(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Numbers and text as dates; what cannot be read stays, and is refused where dates are needed."""
    time = obj["time"]
    if is_date(time):
        return obj
    units = time.attrs.get("units")
    dates = decode(time.values, units, time.attrs.get("calendar")) if units and _UNITS.match(str(units)) else None
    dates = from_plain(np.asarray(time.values)) if dates is None else dates
    if dates is None:
        return obj
    name = bounds_name(obj) if isinstance(obj, xr.Dataset) else None
    if name is not None and units and obj[name].dtype.kind in "iuf":
        own = {**time.attrs, **obj[name].attrs}
        bounds = decode(obj[name].values, own["units"], own.get("calendar"))
        obj = _replaced(obj, name, obj[name].copy(data=bounds).drop_attrs())
    attrs = {key: value for key, value in time.attrs.items() if key not in ("units", "calendar")}
    return obj.assign_coords(time=("time", dates, attrs))


def _replaced(ds: xr.Dataset, name: str, new: xr.DataArray) -> xr.Dataset:
    return ds.assign_coords({name: new.variable}) if name in ds.coords else ds.assign({name: new.variable})


def _summed(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """With ``cell_methods`` that say of a sum over time what only the history of a Dataset tells."""
    found = _SUM_OF_CDO.search(str(obj.attrs.get("history", "")).strip().partition("\n")[0])
    if found is None or isinstance(obj, xr.DataArray):
        return obj
    method = "time: sum over years" if found[1] else "time: sum"
    methods = {name: str(da.attrs.get("cell_methods", "")) for name, da in obj.data_vars.items() if "time" in da.dims}
    said = {name: f"{text} {method}".strip() for name, text in methods.items() if "time:" not in text}
    return obj.assign({name: obj[name].assign_attrs(cell_methods=text) for name, text in said.items()})


# --- its bounds ---
def _bounded(obj: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray | xr.Dataset, Steps | None]:
    """With bounds that were checked and completed, or as a climatology, or with a word on bounds that are gone."""
    if (dim := _climatology(obj)) is not None:
        return _as_climatology(obj, *dim), None
    found = known_steps(obj)
    if found is None:
        obj = _without_bounds(obj)
        return obj, known_steps(obj)
    if isinstance(obj, xr.DataArray) or ridden_edges(obj) is not None or ridden_steps(obj) is not None:
        return obj, found
    raw, own = raw_bounds(obj), as_bounds(obj["time"], found).values
    return obj if (own == raw.values).all() else _replaced(obj, bounds_name(obj), raw.copy(data=own)), found


def _without_bounds(obj: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Bounds without any length say nothing and go; a warning where ``time`` names some that are gone and needed."""
    if (picked := _picked_months(obj)) is not None:
        obj = carried(obj, picked)
    elif isinstance(obj, xr.Dataset) and (name := bounds_name(obj)) is not None:
        obj = obj.drop_vars(name)
    elif (name := obj["time"].attrs.get("bounds")) and obj["time"].attrs.get("stamp") != STAMP:
        _say_what_is_open(obj["time"], name)
    if "bounds" not in obj["time"].attrs:
        return obj
    attrs = {key: value for key, value in obj["time"].attrs.items() if key != "bounds"}
    return obj.assign_coords(time=obj["time"].drop_attrs().assign_attrs(attrs))


def _picked_months(obj: xr.DataArray | xr.Dataset) -> Steps | None:
    """The months that CDO picked out of every year, as the history says, where the stamps alone would be years."""
    picked = [set(map(int, re.findall(r"\d+", text))) for text in _MONTHS_OF_CDO.findall(str(obj.attrs.get("history")))]
    calendar = Calendar.of(np.asarray(obj["time"].values)) if picked else None
    number = calendar.month(calendar.ticks(obj["time"].values)) if picked else np.array([])
    if number.size < 2 or set((number % 12 + 1).tolist()) not in picked or np.diff(number).min() < 1:
        return None
    return steps_between(calendar.dates(calendar.start(number)), calendar.dates(calendar.start(number + 1)))


def _say_what_is_open(time: xr.DataArray, name: str) -> None:
    """Warn where a stamp on the edge of its step could be its start or its end; one a year could be a month's too."""
    try:
        steps = inferred_steps(time)
    except ValueError:
        return
    past = (steps.calendar.ticks(np.asarray(time.values)) - steps.start) / (steps.days * DAY)
    if (abs(past - 0.5) < (0.02 if steps.days.min() > 300 else 0.3)).all():
        return
    first, end = as_bounds(time, steps).values[0]
    warn(
        f"time says that its bounds are in {name!r}, which is not here (a DataArray cannot carry it): "
        f"{written(time.values[0])} is taken for the step from {written(first)} to {written(end)}. Use the Dataset "
        f"with its bounds (ds.flux, or ds[['x', {name!r}]]), or delete time.attrs['bounds'] if that is right."
    )


# --- climatologies ---
def _climatology(obj: xr.DataArray | xr.Dataset) -> tuple[str, np.ndarray] | None:
    """("month" | "dayofyear", labels) where every step stands for one month or day of the year in several years."""
    time = obj["time"]
    if time.size > LEAP_YEAR.sum() or ridden_steps(obj) is not None:
        return None
    said = bool(time.attrs.get("climatology") or time.encoding.get("climatology"))
    named = isinstance(obj, xr.Dataset) and bounds_name(obj) is not None
    raw = raw_bounds(obj) if named else None
    if raw is None and _DAYS_OF_CDO.search(str(obj.attrs.get("history", ""))):
        return _days_of_cdo(np.asarray(time.values))
    values = np.asarray(time.values) if raw is None else raw.values
    if (raw is None and not said) or (values.dtype.kind == "M" and np.isnat(values).any()):
        return None
    calendar = Calendar.of(values)
    start = calendar.ticks(values if raw is None else values[:, 0])
    month = calendar.month(start) % 12 + 1
    if raw is None:
        return ("month", month) if month.size == np.unique(month).size == 12 else None
    if not _return_to_their_month(calendar, start, raw, time, said):
        return None
    if np.unique(month).size == month.size:
        return "month", month
    day = _days_of_year(calendar, start, month)
    return ("dayofyear", day) if np.unique(day).size == day.size else None


def _days_of_cdo(stamps: np.ndarray) -> tuple[str, np.ndarray] | None:
    """Days of the year of what the history says is a climatology, if the stamps are each of them once."""
    calendar = Calendar.of(stamps)
    ticks = calendar.ticks(stamps)
    day = _days_of_year(calendar, ticks, calendar.month(ticks) % 12 + 1)
    whole = day.size == day.max() and np.unique(day).size == day.size and day.size in (365, 366)
    return ("dayofyear", day) if whole else None


def _return_to_their_month(calendar: Calendar, start: np.ndarray, raw: xr.DataArray, time: xr.DataArray, said: bool):
    """Whether steps begin and end in the same month, years apart; windows of twelve months end in another one."""
    stop, stamps = calendar.ticks(raw.values[:, 1]), Calendar.of(time.values).ticks(np.asarray(time.values))
    span, month = stop - start, calendar.month(start) % 12
    inside = calendar.month(stop - 1) % 12 == month
    on_last_stamp = (calendar.month(stop) % 12 == month) & ((span > 400 * DAY) | (stamps == stop))
    order = np.argsort(start)
    again = start.size > 1 and bool((span > 300 * DAY).all()) and bool((start[order][1:] < stop[order][:-1]).all())
    return bool((inside | on_last_stamp).all()) and (said or again)


def _days_of_year(calendar: Calendar, start: np.ndarray, month: np.ndarray) -> np.ndarray:
    """Number of each day by its month and day, in a year that has 29 February if the steps do."""
    number = calendar.month(start)
    day = (start - calendar.start(number)) // DAY
    lengths = LEAP_YEAR if ((month == 2) & (day == 28)).any() else COMMON_YEAR
    return np.r_[0, np.cumsum(lengths)][month - 1] + day + 1


def _as_climatology(obj: xr.DataArray | xr.Dataset, dim: str, labels: np.ndarray) -> xr.DataArray | xr.Dataset:
    drop = [bounds_name(obj)] if isinstance(obj, xr.Dataset) and bounds_name(obj) is not None else []
    along = [c for c in obj.coords if "time" in obj[c].dims]
    return obj.drop_vars({*drop, *along}).rename(time=dim).assign_coords({dim: (dim, labels)}).sortby(dim)
