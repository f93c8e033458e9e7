"""Values of tower files: what is missing, and fluxes as rates per day."""

import os
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from xflux.contents import sign
from xflux.units import UnitsError, factor, parse
from xflux.values import found_fill

# -9999 everywhere, -6999 in older files of AmeriFlux and of La Thuile
LOWEST = -6990
CARBON = re.compile(r"(NEE|GPP|RECO|TER|FC|NBE|NEP)(_|$)", re.IGNORECASE)
_MONTHLY = re.compile(r"\s*(/\s*month|month\^?-1|mon\^?-1)\s*$")


def as_numbers(column: pd.Series, name: str, flux: bool = False) -> pd.Series:
    """The column as numbers, without infinities and what stands for a missing value in every column of the networks."""
    try:
        values = pd.to_numeric(column)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{os.path.basename(name)}: column {column.name!r} has what is no number: {problem}") from None
    values = values.where((values > LOWEST) & (values < np.inf))
    fill = found_fill(values.to_numpy(float)) if flux else None
    if fill is not None:
        raise ValueError(
            f"{os.path.basename(name)}: column {column.name!r} holds the value {fill:g}, which is no flux but a "
            f"missing one: leave it empty, write -9999, or read it yourself and pass table.replace({fill!r}, np.nan)"
        )
    return values


def check_direction(target: str, column: str, name: str, attrs: Mapping | None = None) -> None:
    """Raise where a column is positive the other way than what its target's name says: NEP is no nee."""
    theirs = sign(attrs or {}) or sign(xr.DataArray(name=column.partition("_")[0]))
    if {sign(xr.DataArray(name=target)), theirs} == {"up", "down"}:
        raise ValueError(
            f"{os.path.basename(name)}: {column} is positive {'down' if theirs == 'down' else 'up'}ward, {target} the "
            f"other way. Read it under another name, variable={{'x': {column!r}}}, and turn it: "
            f"towers.assign({target}=(-towers.x).assign_attrs(towers.x.attrs))"
        )


def daily_rate(
    unit: str | None,
    column: str,
    per_day: int = 1,
    months: pd.Series | None = None,
    attrs: Mapping | None = None,
) -> tuple[float | pd.Series, str | None]:
    """(factor, units) that turn a flux into a rate per day: carbon in gC m-2 d-1, others in their own units.

    Amounts per step, such as mm and gC m-2, count ``per_day`` times a day; those of whole months (``months``, their
    dates) are spread over their days. ``attrs`` may say what a bare mass is of. None is an unknown unit, left alone.
    """
    if unit is None:
        return 1.0, None
    try:
        parsed = parse(unit, attrs)
    except UnitsError:
        if CARBON.match(column):
            raise
        return 1.0, unit
    carbon = parsed.substance in ("C", "CO2", "mol") and parsed.per_area
    amount = parsed.time is None and parsed.per_area
    if not carbon and not (parsed.substance == "water" and (amount or parsed.time == "month")):
        return 1.0, unit
    scale = 1.0
    if amount or parsed.time == "month":
        scale = 1 / months.dt.days_in_month if months is not None else per_day
        unit = _MONTHLY.sub("", unit) + " d-1"
    return (scale * factor(parse(unit, attrs), "gC m-2 d-1"), "gC m-2 d-1") if carbon else (scale, unit)
