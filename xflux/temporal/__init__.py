"""Rates, amounts and averages over true calendar time.

A value belongs to its time bounds. Everything here works on *steps*: their bounds in the data's own calendar, cut at
the edges of months or years where a step straddles one, so that lengths are exact in every CF calendar. ``month`` and
``dayofyear`` climatologies stand in the mean Gregorian year of 365.2425 days.
"""

from xflux.temporal.averages import (
    annual,
    annual_anomalies,
    interannual_variability,
    mean_by,
    mean_seasonal_cycle,
    to_monthly,
    trend,
)
from xflux.temporal.axis import standardise
from xflux.temporal.bounds import time_bounds
from xflux.temporal.calendar import MEAN_YEAR
from xflux.temporal.convert import convert_units, to_amounts
from xflux.temporal.steps import same_calendar, step_days

__all__ = [
    "MEAN_YEAR",
    "annual",
    "annual_anomalies",
    "convert_units",
    "interannual_variability",
    "mean_by",
    "mean_seasonal_cycle",
    "same_calendar",
    "standardise",
    "step_days",
    "time_bounds",
    "to_amounts",
    "to_monthly",
    "trend",
]
