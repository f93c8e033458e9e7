"""The target of a regional constraint as training sees it: amounts per month on the steps that are compared."""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from xflux import temporal, units
from xflux.temporal.calendar import MEAN_YEAR, MONTH_DAYS, mean_year
from xflux.temporal.riding import ridden_months
from xflux.temporal.steps import stamped_at_starts
from xflux.values import checked

KINDS = ("carbon", "water", "energy")
MONTHS = 12


@dataclass(frozen=True)
class RegionalTarget:
    """A regional target on the steps that the model is compared at, in PgC (PgH2O, ZJ) per month.

    ``values (inversion, region, step)``; ``year (step,)`` is None for a climatology, which has no held-out years;
    ``month (step,)`` is 0 for annual values. ``kind`` is "time", "month" or "mean".
    """

    values: np.ndarray
    regions: tuple[str, ...]
    inversions: tuple[str, ...]
    year: np.ndarray | None
    month: np.ndarray
    annual: bool
    amount: str = "PgC"

    def of_regions(self, kept: np.ndarray) -> "RegionalTarget":
        """Some regions, by number."""
        return replace(self, values=self.values[:, kept], regions=tuple(self.regions[i] for i in kept))

    def of_inversions(self, drawn: np.ndarray) -> "RegionalTarget":
        """Some inversions, by number; one may come several times."""
        return replace(self, values=self.values[drawn], inversions=tuple(self.inversions[i] for i in drawn))

    def magnitude(self, years: np.ndarray | None) -> float:
        """The 1 of Eq. 10: 1 PgC per month; of water and energy the mean of their amounts in `years` (None: all)."""
        values = self.values if years is None or self.year is None else self.values[..., np.isin(self.year, years)]
        there = np.abs(values[np.isfinite(values)])
        return 1.0 if self.amount == "PgC" or not there.any() else float(there.mean())

    @property
    def years(self) -> np.ndarray:
        """Years in which some inversion has a value for every month (or the year)."""
        per_year = 1 if self.annual else MONTHS
        there = np.isfinite(self.values).any((0, 1))
        found, counts = np.unique(self.year[there], return_counts=True)
        return found[counts >= per_year]


def standard_target(target: xr.DataArray) -> RegionalTarget:
    """The target in PgC (PgH2O, ZJ) per month, with its steps' years and months.

    "X month-1" is the month's amount; "X yr-1" on months is a rate, and on annual steps the year's amount, which
    enters as the amount of its mean month (a twelfth).
    """
    target = temporal.standardise(target)
    if "region" not in target.dims:
        raise ValueError(f"the target has the dims {tuple(target.dims)}; expected (inversion, region, time | month)")
    if "inversion" not in target.dims:
        target = target.expand_dims(inversion=["target"])
    step = [d for d in target.dims if d not in ("inversion", "region")]
    if len(step) > 1 or (step and step[0] not in ("time", "month", "year")):
        raise ValueError(f"the target has the dims {tuple(target.dims)}; expected (inversion, region, time | month)")
    target = stamped_at_starts(checked(target)) if "time" in step else checked(target)
    values = target.transpose("inversion", "region", *step).values.astype(float)
    if not step:
        year, month, annual, of_year = None, np.zeros(1, int), True, 1 / MONTHS
        values = values[..., None]
    else:
        year, month, annual, of_year = _steps(target, str(step[0]))
    values = values * _per_month(target, of_year)
    if not np.isfinite(values).any():
        raise ValueError("the target has no finite value")
    names = tuple(map(str, target["inversion"].values))
    regions = tuple(map(str, target["region"].values))
    if len(set(regions)) < len(regions):
        raise ValueError(f"the target names a region twice: {regions}")
    return RegionalTarget(values, regions, names, year, month, annual, units.usual_amount(target.attrs))


def _steps(target: xr.DataArray, dim: str) -> tuple[np.ndarray | None, np.ndarray, bool, np.ndarray | float]:
    """Year and month of every step, whether it is a year, and what share of a year's rate it is (of its mean month)."""
    if dim == "month":
        months = target["month"].values.astype(int)
        if sorted(months) != list(range(1, 13)):
            raise ValueError(f"the target's months are {months.tolist()}; expected 1 … 12")
        return None, months, False, MONTH_DAYS[months - 1] / MEAN_YEAR
    if dim == "year":
        if not target.get_index("year").is_unique:
            raise ValueError(f"the target names a year twice: {target['year'].values.tolist()}")
        return target["year"].values.astype(int), np.zeros(target.sizes["year"], int), True, 1 / MONTHS
    time = target["time"]
    year, month = time.dt.year.values, time.dt.month.values
    if len(np.unique(year)) == time.size:
        if time.size == 1:
            raise ValueError("the target has one time step: give it months, years (dim year) or no time at all")
        return year, np.zeros(time.size, int), True, 1 / MONTHS
    if len(np.unique(year * MONTHS + month)) < time.size:
        raise ValueError("the target has several steps in a month: sum it to months first (freq='MS')")
    if (own := ridden_months(target)) is not None:
        return year, month, False, own.days / own.mean_year
    return year, month, False, time.dt.days_in_month.values / mean_year(time.dt.calendar)


def _per_month(target: xr.DataArray, of_year: np.ndarray | float) -> np.ndarray | float:
    """Factor (per step) from the target's units to PgC (PgH2O, ZJ) per month."""
    expected = "expected an amount of carbon, water or energy per month or year, e.g. 'PgC month-1'"
    text = target.attrs.get("units")
    if text is None:
        raise ValueError(f"the target has no units; {expected}")
    try:
        given = units.parse(str(text), target.attrs)
    except ValueError as error:
        raise ValueError(f"the target is in {text!r}; {expected} ({error})") from error
    if given.per_area or given.time not in ("month", "year") or given.kind not in KINDS:
        raise ValueError(f"the target is in {text!r}; {expected}")
    amount = units.factor(given, f"{units.usual_amount(target.attrs)} {given.time}-1")
    return amount if given.time == "month" else amount * of_year


def match_regions(target: tuple[str, ...], given: tuple[str, ...], what: str) -> np.ndarray:
    """Position in `given` of every region of the target; raises where the two sets differ."""
    if set(target) != set(given):
        only_target, only_given = sorted(set(target) - set(given)), sorted(set(given) - set(target))
        raise ValueError(
            f"the target's regions differ from those of {what}: only in the target {only_target}, only in {what} "
            f"{only_given}. The target has {list(target)}; {what} has {list(given)}"
            + (". The sum is no region: drop GLOBAL and set total=True" if "GLOBAL" in only_target else "")
        )
    return np.array([given.index(name) for name in target])


def training_target(target: RegionalTarget, years: np.ndarray) -> np.ndarray:
    """Mean seasonal cycle (or mean year) over `years`, of each inversion over the years that it has."""
    columns = []
    for month in np.unique(target.month):
        at = np.isin(target.year, years) & (target.month == month)
        values = target.values[..., at]
        count = np.isfinite(values).sum(-1)
        columns.append(np.where(count > 0, np.nansum(values, -1) / np.maximum(count, 1), np.nan))
    return np.stack(columns, -1)
