"""Potential evapotranspiration, and water availability as the balance of two buckets."""

from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr

from xflux.align import axis_of
from xflux.drivers.axis import whole_days

LATENT_HEAT = 2.45e6  # J kg-1, Allen et al. (1998)
PSYCHROMETRIC = 0.0665  # kPa K-1 at 101.3 kPa, Allen et al. (1998)
ALBEDO = 0.23  # reference crop, Allen et al. (1998)
FORMULA_BLOCK = 2**15
"""Values of a formula at once."""


def potential_evapotranspiration(
    tair: xr.DataArray, rg: xr.DataArray | None = None, *, rpot: xr.DataArray
) -> xr.DataArray:
    """Potential evapotranspiration, mm d-1, not below 0.

    With global radiation ``rg``: Priestley and Taylor (1972), α = 1.26, the net longwave loss from sunshine and air
    temperature as in SPLASH (Davis et al., 2017, Eq. 11–13: (0.2 + 0.8 S)(107 − T), with S = (rg/rpot − 0.25)/0.5),
    albedo 0.23. Without: Oudin et al. (2005), rpot/(λρ) · (T + 5)/100 above −5 °C.

    Parameters
    ----------
    tair
        Air temperature, degC.
    rg, rpot
        Global and potential radiation, W m-2, daily means.

    Raises
    ------
    ValueError
        More than one of time, month and dayofyear, or not the same steps and cells.

    Examples
    --------
    >>> t, r = xr.DataArray(20.0), xr.DataArray(400.0)
    >>> round(float(potential_evapotranspiration(t, rpot=r)), 2)
    3.53
    """
    try:
        tair, rpot, *_ = xr.align(tair, rpot, *([] if rg is None else [rg]), join="exact", copy=False)
    except ValueError as error:
        raise ValueError(
            f"tair, rg and rpot need the same steps and cells; select the common ones first: {error}"
        ) from None
    formula, method, given = _oudin, "Oudin et al. (2005)", [tair, rpot]
    if rg is not None:
        formula, given = _priestley_taylor, [tair, rpot, rg]
        method = "Priestley and Taylor (1972), net radiation after Davis et al. (2017)"
    dtype = np.result_type(np.float32, *(field.dtype for field in given))
    pet = xr.apply_ufunc(partial(_in_blocks, formula), *given, dask="parallelized", output_dtypes=[dtype])
    axis = axis_of(pet)
    attrs = {"units": "mm d-1", "long_name": "potential evapotranspiration", "method": method}
    return pet.transpose(*([axis] if axis else []), ...).rename("PET").assign_attrs(attrs)


def _oudin(tair: np.ndarray, rpot: np.ndarray) -> np.ndarray:
    return rpot * 86400 / LATENT_HEAT * (tair + 5).clip(0) / 100


def _priestley_taylor(tair: np.ndarray, rpot: np.ndarray, rg: np.ndarray) -> np.ndarray:
    sunshine = ((rg / np.where(rpot > 1, rpot, np.nan) - 0.25) / 0.5).clip(0, 1)
    sunshine = np.where(np.isnan(sunshine), 0, sunshine)
    net = ((1 - ALBEDO) * rg - (0.2 + 0.8 * sunshine) * (107 - tair)).clip(0)
    warm = tair + 237.3
    slope = 4098 * 0.6108 * np.exp(17.27 * tair / warm) / warm**2
    return 1.26 * slope / (slope + PSYCHROMETRIC) * net * 86400 / LATENT_HEAT


def _in_blocks(formula: Callable, *arrays: np.ndarray) -> np.ndarray:
    """A formula of single values, a block at a time: what is in between stays in cache."""
    whole = np.broadcast_arrays(*arrays)
    shape, count = whole[0].shape, whole[0].size // FORMULA_BLOCK + 1
    axis = int(np.argmax(shape)) if shape else 0
    blocks = zip(*(np.array_split(np.atleast_1d(a), count, axis) for a in whole), strict=True)
    with np.errstate(all="ignore"):
        return np.concatenate([formula(*block) for block in blocks], axis).reshape(shape)


def water_availability(
    rain: xr.DataArray,
    pet: xr.DataArray,
    *,
    upper: float | xr.DataArray = 20.0,
    lower: float | xr.DataArray = 130.0,
    initial: float | None = None,
    spinup_years: int = 3,
) -> xr.Dataset:
    """Water availability from a balance of two buckets.

    Each day: (1) rain fills the upper bucket, what overflows fills the lower one, what overflows that runs off;
    (2) evapotranspiration takes up to the demand ``pet`` from the upper bucket; (3) the rest of the demand is met from
    the lower bucket in proportion to how full it is. So rain − et − runoff = change of storage. No snow.

    A climatology (``month``, ``dayofyear``) is run year after year until its storage at the end of a year changes by
    less than 1e-9 mm (at most 500 years); a series in ``time`` first runs through its first year ``spinup_years``
    times. A step of several days (composites, months) is run day by day with a constant rate.

    Parameters
    ----------
    rain, pet
        mm d-1, (time | month | dayofyear, …), the same steps. A missing value is missing from then on: fill gaps first.
    upper, lower
        Capacities, mm (numbers, or DataArrays over the cells). Where both are 0 (rock), ``wai`` is NaN and all that
        rains runs off.
    initial
        Share of the capacities that is full at the start (default: half).
    spinup_years
        Runs through the first year of a series before it begins.

    Returns
    -------
    xr.Dataset
        With the dims of ``rain``: ``wai`` (storage / capacity at the end of the day, mean over the step, 0–1),
        ``storage`` (mm, at the end of the step), ``et`` and ``runoff`` (mm d-1, mean of the step); and
        ``storage_before`` (mm, without the time dim): what was there before the first step.

    Raises
    ------
    ValueError
        No time axis, or not the same one, and months that are not 1 to 12.

    Examples
    --------
    >>> rain = xr.DataArray([200.0, 0.0], dims="dayofyear", coords={"dayofyear": [1, 2]})
    >>> out = water_availability(rain, xr.full_like(rain, 5.0))
    >>> out.et.values, float((rain - out.et - out.runoff).sum().round(6))
    (array([5., 5.]), 0.0)
    """
    axis = _same_axis(rain, pet)
    days = whole_days(rain)
    start = 0.5 if initial is None else float(initial)
    first_year = int(np.searchsorted(np.cumsum(days), 365.0)) + 1
    wai, storage, et, runoff, before = xr.apply_ufunc(
        _run, rain, pet, xr.ones_like(rain.isel({axis: 0}, drop=True)) * upper, lower * xr.DataArray(1.0),
        input_core_dims=[[axis], [axis], [], []], output_core_dims=[[axis]] * 4 + [[]],
        kwargs={"days": days, "start": start, "cyclic": axis != "time", "spinup": spinup_years, "year": first_year},
        dask="parallelized", output_dtypes=[float] * 5, dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    about = {
        "wai": ("1", "water availability: storage of two buckets / capacity", wai),
        "storage": ("mm", "water stored at the end of the step", storage),
        "et": ("mm d-1", "evapotranspiration", et),
        "runoff": ("mm d-1", "runoff", runoff),
    }
    out = xr.Dataset(
        {n: v.transpose(axis, ...).assign_attrs(units=u, long_name=text) for n, (u, text, v) in about.items()}
    )
    return out.assign(storage_before=before.assign_attrs(units="mm", long_name="water stored before the first step"))


def _same_axis(rain: xr.DataArray, pet: xr.DataArray) -> str:
    axis = axis_of(rain)
    if axis is None or axis_of(pet) != axis:
        raise ValueError(
            f"rain {rain.dims} and pet {pet.dims} need the same time axis (time, month or dayofyear): "
            "bring one to the other's steps first (drivers.to_daily, drivers.seasonal_cycle)"
        )
    if rain.sizes[axis] != pet.sizes[axis] or not (rain[axis].values == pet[axis].values).all():
        raise ValueError(f"rain and pet have different steps along {axis}: select the common ones first")
    return axis


def _run(rain, pet, upper, lower, days, start, cyclic, spinup, year):
    """The balance along the last axis; see ``water_availability``."""
    from xflux.drivers.compiled import cells

    shape = np.broadcast_shapes(rain.shape[:-1], pet.shape[:-1], np.shape(upper), np.shape(lower))
    rain, pet = (
        np.ascontiguousarray(np.broadcast_to(a, (*shape, a.shape[-1])), float).reshape(-1, a.shape[-1])
        for a in (rain, pet)
    )
    top, below = (np.ascontiguousarray(np.broadcast_to(np.asarray(c, float), shape)).ravel() for c in (upper, lower))
    out = np.empty((4, *rain.shape))
    before = np.empty(len(rain))
    cells(rain, pet, top, below, np.asarray(days), start, cyclic, spinup, year, out, before)
    return *out.reshape(4, *shape, -1), before.reshape(shape)
