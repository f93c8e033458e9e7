"""Base variables under one name and in one unit; those that follow from others are made on demand."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from xflux import temporal, units
from xflux.align import axis_of
from xflux.drivers.axis import are_months, day_numbers, days_like, month_numbers, whole_days, with_step_days
from xflux.drivers.seasonal import to_daily
from xflux.drivers.sun import potential_radiation
from xflux.drivers.water import potential_evapotranspiration, water_availability
from xflux.temporal.calendar import AXES, MONTH_DAYS, month_of_day
from xflux.values import SAY_UNITS, warn


class Base:
    """Base variables of one Dataset, found by the names that ``table`` allows, in the units that it states.

    What is asked for is kept, so that the water balance runs once.
    """

    def __init__(self, data: xr.Dataset | Mapping[str, xr.DataArray] | Iterable[xr.Dataset], table: dict):
        self.data, self.table = base_variables(data), table
        self.cache: dict[str, xr.DataArray] = {}

    def find(self, name: str) -> str | None:
        """The Dataset's variable for a base variable."""
        names = self.table.get(name, {}).get("names", [name])
        return next((n for n in names if n in self.data), None)

    def missing(self, name: str) -> list[str]:
        """The base variables that keep ``name`` from being made; [] where it can be."""
        if self.find(name):
            return []
        needs = {"RPOT": [], "PET": ["TAIR"], "WAI": ["PREC", "TAIR"]}.get(name)
        return [name] if needs is None else [n for need in needs for n in self.missing(need)]

    def __getitem__(self, name: str) -> xr.DataArray:
        if name not in self.cache:
            found = self.find(name)
            if found is not None:
                self.cache[name] = in_recipe_units(
                    self.data[found].rename(found), self.table.get(name, {}).get("units")
                )
            else:
                self.cache[name] = {"RPOT": self._sun, "PET": self._pet, "WAI": self._wai}[name]()
        return self.cache[name]

    def _axis(self) -> xr.DataArray:
        """The finest time axis of the data: days, else months or days of year, else composites."""
        for axis in AXES:
            having = [v for v in self.data.values() if axis in v.dims]
            if having:
                finest = min(having, key=lambda v: whole_days(v).min())
                composites = axis == "time" and not are_months(finest) and whole_days(finest).max() <= 31
                return (to_daily(finest) if composites else finest)[axis]
        raise ValueError("the base data have no time, month or dayofyear axis: potential radiation has no date")

    def _sun(self) -> xr.DataArray:
        lat = next((v["lat"] for v in self.data.values() if "lat" in v.coords), None)
        if lat is None:
            raise ValueError("potential radiation needs the coordinate lat in the base data")
        lat = lat.drop_vars([c for c in lat.coords if c not in lat.dims])
        if not lat.dims:
            return potential_radiation(lat, self._axis())
        _, first, same = np.unique(lat, return_index=True, return_inverse=True)  # many cells or towers may share one
        return potential_radiation(lat[first], self._axis()).isel({lat.dims[0]: same}).assign_coords(lat.coords)

    def _pet(self) -> xr.DataArray:
        rg = self["RG"] if self.find("RG") else None
        parts = common_axis({"t": self["TAIR"], "r": self["RPOT"]} | ({"g": rg} if rg is not None else {}))
        return potential_evapotranspiration(parts["t"], parts.get("g"), rpot=parts["r"])

    def _wai(self) -> xr.DataArray:
        parts = common_axis({"rain": self["PREC"], "pet": self["PET"]})
        return water_availability(parts["rain"].clip(0), parts["pet"])["wai"]


def base_variables(data) -> dict[str, xr.DataArray]:
    """Variables by name; several Datasets may have time axes of their own (composites, days)."""
    if isinstance(data, xr.Dataset):
        data = with_step_days(temporal.standardise(_named(data)))
    if isinstance(data, xr.Dataset | Mapping):
        return {str(k): _named(data[k]) for k in getattr(data, "data_vars", data)}
    out: dict[str, xr.DataArray] = {}
    for part in data:
        twice = out.keys() & set(map(str, part.data_vars))
        if twice:
            raise ValueError(f"base variable {', '.join(map(repr, sorted(twice)))} is given twice: drop one of them")
        out |= base_variables(part)
    return out


def _named(obj):
    """With the names time, lat and lon, where ERA5's own are there instead."""
    own = {"valid_time": "time", "latitude": "lat", "longitude": "lon"}
    given = {*map(str, obj.coords), *map(str, obj.dims)}
    return obj.rename({k: v for k, v in own.items() if k in given and v not in given})


def common_axis(parts: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Variables on one time axis: composites to days where another has other steps; climatologies by date."""
    timed = {k: v for k, v in parts.items() if axis_of(v) == "time"}
    if timed:
        parts = parts | _same_steps(timed)
        time = next(v for k, v in parts.items() if k in timed)["time"]
        parts = {k: by_date(v, time) for k, v in parts.items()}
        aligned = xr.align(*parts.values(), join="inner", copy=False, exclude=("lat", "lon"))
        return dict(zip(parts, aligned, strict=True))
    axes = {axis_of(v) for v in parts.values()} - {None}
    if axes == {"month", "dayofyear"}:
        day = next(v["dayofyear"] for v in parts.values() if axis_of(v) == "dayofyear")
        month = xr.DataArray(month_of_day(day.values), dims="dayofyear", coords={"dayofyear": day})
        return {k: v.sel(month=month).drop_vars("month") if axis_of(v) == "month" else v for k, v in parts.items()}
    return parts


def _same_steps(timed: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Variables with stamps that meet: days by date, months by month, other steps as they are or made into days."""
    if len(timed) < 2:
        return timed
    temporal.same_calendar(*timed.values())
    if all(map(are_months, timed.values())):
        timed = {k: _stamped(v, day_numbers(v["time"]) - v["time"].dt.day.values + 1) for k, v in timed.items()}
    elif not _meet(timed):
        timed = {k: to_daily(v) for k, v in timed.items()}
    if any(not v["time"].equals(w["time"]) for v in timed.values() for w in timed.values()):
        timed = {k: _stamped(v, day_numbers(v["time"])) for k, v in timed.items()}
    first, last = (f([f2(day_numbers(v["time"])) for v in timed.values()]) for f, f2 in ((max, min), (min, max)))
    if first > last:
        ends = {k: [str(t)[:10] for t in v["time"].values[[0, -1]]] for k, v in timed.items()}
        spans = ", ".join(f"{k} {' to '.join(days)}" for k, days in ends.items())
        raise ValueError(f"the base variables have no time in common: {spans}")
    return timed


def _meet(timed: dict[str, xr.DataArray]) -> bool:
    """Whether, where the variables overlap in time, they have the same steps."""
    start = {k: day_numbers(v["time"]) for k, v in timed.items()}
    first, last = max(s[0] for s in start.values()), min(s[-1] for s in start.values())
    steps = [np.stack([s, whole_days(timed[k])])[:, (s >= first) & (s <= last)] for k, s in start.items()]
    return all(np.array_equal(steps[0], s) for s in steps[1:])


def _stamped(da: xr.DataArray, days: np.ndarray) -> xr.DataArray:
    return da.assign_coords(time=days_like(days, da["time"]))


def by_date(da: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    axis = axis_of(da)
    if axis == "month":
        return da.sel(month=time.dt.month).drop_vars("month")
    if axis == "dayofyear":
        return da.sel(dayofyear=time.dt.dayofyear.clip(max=int(da["dayofyear"].max()))).drop_vars("dayofyear")
    return da


def in_recipe_units(da: xr.DataArray, wanted: str | None) -> xr.DataArray:
    """In the units that the recipes work in; without units on the data they are taken to be these, with a warning."""
    given = da.attrs.get("units")
    if wanted is None:
        return da
    if given is None:
        if wanted not in ("1", "m2 m-2"):
            warn(f"base variable {da.name!r} has no units: taken to be in {wanted!r}. {SAY_UNITS}")
        return da.assign_attrs(units=wanted)
    scale, offset = _scale(da, str(given), wanted)
    if da.dtype.kind == "f" and isinstance(scale, float) and (scale, offset) == (1, 0):
        return da.assign_attrs(units=wanted)
    return (da * scale + offset).transpose(*da.dims).assign_attrs(da.attrs, units=wanted)


def _scale(da: xr.DataArray, given: str, wanted: str) -> tuple[float | xr.DataArray, float]:
    """Factor and offset; an amount without a time is that of a day, as ERA5-like daily files write it."""
    monthly = re.sub(r"\b(months?|mon)\b", "d", given)
    if monthly != given and units.same(monthly, wanted):
        months = MONTH_DAYS[month_numbers(da["month"].values) - 1] if axis_of(da) == "month" else whole_days(da)
        return 1 / xr.DataArray(months.astype(float), dims=axis_of(da)), 0.0
    for text in (given, f"{given} d-1"):
        try:
            found = units.conversion(text, wanted)
        except units.UnitsError:
            continue
        # ECMWF's m and J m**-2 are those of a day, whatever the steps
        if text != given and re.match(r"[mc]m|kg", given) and axis_of(da) and whole_days(da).max() > 1:
            warn(
                f"base variable {da.name!r} is in {given!r} without a time, on steps longer than a day: taken as the "
                f"amount of a day. Set its units to '{given} d-1' if so, to '{given} month-1' if it is that of months."
            )
        return found
    raise ValueError(
        f"base variable {da.name!r} has the units {given!r}, {wanted!r} is needed: convert it first, or correct its "
        "attrs['units']"
    )
