"""Rates, amounts and averages over true calendar time.

A value belongs to its time bounds. Everything here works on *steps*: their bounds in the data's own calendar, cut at
the edges of months or years where a step straddles one, so that lengths are exact in every CF calendar. ``month`` and
``dayofyear`` climatologies stand in the mean Gregorian year of 365.2425 days.
"""

from .averages import annual, annual_anomalies, interannual_variability, mean_seasonal_cycle, to_monthly
from .axis import standardise
from .bounds import time_bounds
from .calendar import MEAN_YEAR
from .convert import convert_units, to_amounts
from .groups import mean_by
from .steps import same_calendar, step_days
from .trends import trend

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
