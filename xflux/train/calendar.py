"""How the steps of a constraint's drivers meet those of its target, and which years each member holds out."""

from dataclasses import dataclass

import numpy as np
import torch

from xflux.align import months
from xflux.temporal.calendar import MEAN_MONTH, MONTH_DAYS
from xflux.temporal.dates import written
from xflux.temporal.steps import steps_of
from xflux.train.data import Setting
from xflux.train.grid import GridRows
from xflux.train.network import generator
from xflux.train.target import MONTHS, RegionalTarget, training_target

LONGEST_MONTH = 31.5  # d; longer steps are no parts of months


@dataclass(frozen=True)
class SlotSteps:
    """Steps of the drivers used at once ``(member | 1, step)`` (None: all), and what they add to which target step.

    ``slot (member | 1, step, target step)`` holds days (or their share of a mean month); ``target`` is the target on
    these steps, ``numbers (member | 1, target step)`` which of all they are (None: all, in order).
    """

    steps: torch.Tensor | None
    slot: torch.Tensor
    target: torch.Tensor
    numbers: torch.Tensor | None = None


def held_out_years(calendar: "Slots", target: RegionalTarget, members: list[int], config: Setting) -> list[tuple]:
    """Training and held-out years of every member (empty for a climatology)."""
    years, held = calendar.years(target), config.validation_years
    if years is None or held is None:
        return [(None, ())] * len(members)
    if len(years) <= held:
        raise ValueError(
            f"the target has {len(years)} whole years ({', '.join(map(str, years))}) that the drivers cover, and "
            f"validation_years={held} of them are held out: nothing is left to train on. Use fewer validation_years"
        )
    split = []
    for member in members:
        out = generator(config.seed, 2, member).permutation(years)[:held]
        split.append((np.setdiff1d(years, out), np.sort(out)))
    return split


@dataclass(frozen=True)
class Slots:
    """How the drivers' steps meet the target's.

    ``whole``: all driver steps make one set of target slots (a climatology of drivers, or of the target).
    Otherwise every slot is a step of the target with its own driver steps.
    """

    whole: bool
    matrix: torch.Tensor | None
    own: tuple[np.ndarray, ...]
    weight: np.ndarray
    year: np.ndarray | None
    column: np.ndarray
    n_slots: int
    annual: bool
    device: object
    dtype: object

    @classmethod
    def of(cls, target: RegionalTarget, rows: GridRows, mean_months: bool) -> "Slots":
        device, dtype = rows.like.device, rows.like.dtype
        month = months(rows.axis, rows.dates)
        days, counts = _days_of_months(rows, month, mean_months)
        weight = days / (MONTHS if target.annual else 1)
        common = {"annual": target.annual, "device": device, "dtype": dtype, "weight": weight}
        if rows.axis != "time" or target.year is None:
            table = _table_of_months(rows, month, weight / _times_there(rows, month, counts))
            _check_whole_year(rows, table, target.annual)
            if rows.axis == "dayofyear":  # days of the mean year lie in two months
                table *= (MEAN_MONTH / table.sum(0) if mean_months else 1) / (MONTHS if target.annual else 1)
            matrix = table.sum(1, keepdims=True) if target.annual else table
            n_slots = matrix.shape[1]
            order = np.argsort(target.month) if target.year is None else np.arange(n_slots)
            return cls(True, torch.tensor(matrix, dtype=dtype, device=device)[None], (), year=None, column=order,
                       n_slots=n_slots, **common)  # fmt: skip
        if rows.days.max() > LONGEST_MONTH and not target.annual:
            raise ValueError(
                f"the drivers' steps are up to {rows.days.max():g} days long and the target is monthly: give it by year"
            )
        step_year = rows.dates.dt.year.values
        whole_years = _whole_years(rows, month, counts)
        own, column = [], []
        for i, (y, m) in enumerate(zip(target.year, target.month, strict=True)):
            at = np.flatnonzero((step_year == y) & counts & ((month == m) | target.annual))
            if len(at) and (y in whole_years or not target.annual):
                own.append(at)
                column.append(i)
        if not own:
            raise ValueError(
                f"no step of the target ({min(target.year)} … {max(target.year)}) is covered by the drivers, whose "
                f"time is {written(rows.steps.values[0])} … {written(rows.steps.values[-1])}"
            )
        column = np.array(column, int)
        return cls(False, None, tuple(own), year=target.year[column], column=column, n_slots=len(own), **common)

    def years(self, target: RegionalTarget) -> np.ndarray | None:
        """Whole years that can train the model; None for a target without years."""
        if target.year is None:
            return None
        if self.whole:
            return target.years
        found, counts = np.unique(self.year, return_counts=True)
        covered = found[counts == (1 if self.annual else MONTHS)]
        return np.intersect1d(target.years, covered)

    def target(self, target: RegionalTarget, years: np.ndarray | None) -> np.ndarray:
        """The target on the slots ``(inversion, region, slot)``; NaN where it has years and none is asked for."""
        if not self.whole or target.year is None:
            return target.values[..., self.column]
        if years is None:
            return np.full((*target.values.shape[:2], self.n_slots), np.nan)
        return training_target(target, years)

    def all_steps(self, target: torch.Tensor) -> SlotSteps:
        return SlotSteps(None, self.matrix, target)

    def every_step(self, target: torch.Tensor) -> SlotSteps:
        """All slots at once, the same for every member."""
        if self.whole:
            return self.all_steps(target)
        return self._gather([np.arange(self.n_slots)], target[:1])

    @property
    def per_year(self) -> int:
        """Slots of a whole year."""
        return 1 if self.annual else MONTHS

    def draw(self, rngs, years, target: torch.Tensor, months: int, at_once: int | str = 1) -> SlotSteps:
        """The steps of one training step: all of them, or consecutive months of training years, drawn by member."""
        if self.whole:
            return self.all_steps(target)
        chosen = []
        for rng, (training, _) in zip(rngs, years, strict=True):
            parts = []
            if at_once == 1:
                picked = [rng.choice(training)]
            else:
                picked = training if at_once == "all" else np.sort(rng.permutation(training)[:at_once])
            for year in picked:
                slots = np.flatnonzero(self.year == year)
                start = rng.integers(0, max(len(slots) - months, 0) + 1)
                parts.append(slots[start : start + months])
            chosen.append(np.concatenate(parts))
        return self._gather(chosen, target)

    def slots_of(self, years: np.ndarray) -> np.ndarray:
        """The slots of some whole years, year by year."""
        return np.concatenate([np.flatnonzero(self.year == year) for year in years])

    def validation_steps(self, years, validation: torch.Tensor):
        """Steps for validation: everything at once, or year by held-out year."""
        if self.whole:
            yield self.all_steps(validation)
            return
        own = _validation_years(years)
        for k in range(max(map(len, own))):
            pick = [some[k % len(some)] for some in own]
            yield self._gather([np.flatnonzero(self.year == year) for year in pick], validation)

    def mean_of_years(self, found: list[torch.Tensor], years) -> torch.Tensor:
        """Mean over `validation_steps` of ``(member, …)``; a member with fewer years than others has each once."""
        stack = torch.stack(found)
        counts = torch.tensor([1] * len(years) if self.whole else [len(some) for some in _validation_years(years)])
        if (counts == len(found)).all():
            return stack.mean(0)
        share = (torch.arange(len(found))[:, None] < counts) / counts.double()
        return torch.einsum("km,km...->m...", share.to(stack), stack)

    def labels(self, target: RegionalTarget) -> dict[str, np.ndarray]:
        """Year and month of every slot, as far as the target has them."""
        if self.whole:
            return {} if self.annual else {"month": np.arange(1, MONTHS + 1)}
        found = {"year": self.year}
        return found if self.annual else found | {"month": target.month[self.column]}

    def _gather(self, chosen: list[np.ndarray], target: torch.Tensor) -> SlotSteps:
        """Slots ``chosen[member]``; a member with fewer than others has none in the last places: a target of NaN."""
        longest = max(sum(len(self.own[s]) for s in slots) for slots in chosen)
        most = max(map(len, chosen))
        steps = np.zeros((len(chosen), longest), np.int64)
        slot = np.zeros((len(chosen), longest, most))
        for m, slots in enumerate(chosen):
            at = 0
            for k, s in enumerate(slots):
                own = self.own[s]
                steps[m, at : at + len(own)] = own
                slot[m, np.arange(at, at + len(own)), k] = self.weight[own]
                at += len(own)
        numbers = np.stack([np.pad(slots, (0, most - len(slots)), mode="edge") for slots in chosen])
        numbers = torch.as_tensor(numbers, device=self.device)
        picked = torch.stack([target[m][..., own] for m, own in enumerate(numbers)])
        for m, slots in enumerate(chosen):
            picked[m, ..., len(slots) :] = torch.nan
        matrix = torch.tensor(slot, dtype=self.dtype, device=self.device)
        return SlotSteps(torch.as_tensor(steps, device=self.device), matrix, picked, numbers)


def _validation_years(years) -> list[np.ndarray]:
    """The years that judge each member: those held out, or where there are none those that train it."""
    return [held_out if len(held_out) else training for training, held_out in years]


def _days_of_months(rows: GridRows, month: np.ndarray, mean_months: bool) -> tuple[np.ndarray, np.ndarray]:
    """Days that every step stands for in its month, and whether they count ``(step,)``.

    Steps in time that do not fill a month (composites, gaps) stand for all of it; a month of which less than half is
    there does not count. With `mean_months` each calendar month has the length of the mean month.
    """
    label = month if rows.axis != "time" else rows.dates.dt.year.values * MONTHS + month
    _, number = np.unique(label, return_inverse=True)
    there = np.bincount(number, rows.days)[number]
    days, counts = rows.days, np.ones(len(month), bool)
    if rows.axis == "time" and rows.days.max() <= LONGEST_MONTH:
        length = rows.dates.dt.days_in_month.values
        days, counts = rows.days * (length / there), there >= 0.5 * length
    return (rows.days / there * MEAN_MONTH if mean_months else days), counts


def _table_of_months(rows: GridRows, month: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What every step adds to each calendar month ``(step, month)``; days of the mean year lie in one or two."""
    table = np.zeros((len(month), MONTHS))
    if rows.axis != "dayofyear":
        table[np.arange(len(month)), month - 1] = weight
        return table
    position, month, days = steps_of(rows.steps).split("month")
    np.add.at(table, (position, month - 1), days)
    return table


def _check_whole_year(rows: GridRows, table: np.ndarray, annual: bool) -> None:
    """Raise where the drivers lack a part of the year: its flux would count as zero."""
    if annual and rows.axis == "time" and rows.days.max() > LONGEST_MONTH:
        return
    there = table.sum(0)
    lacking = np.flatnonzero(there < MONTH_DAYS - 1e-6 if rows.axis == "dayofyear" else there == 0) + 1
    if len(lacking):
        raise ValueError(
            f"the drivers have {len(rows.days)} steps by {rows.axis} and do not fill month "
            f"{', '.join(map(str, lacking))}: a regional constraint needs them for the whole year"
        )


def _times_there(rows: GridRows, month: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """In how many years the calendar month of every step is there ``(step,)``; infinite where it does not count."""
    if rows.axis != "time":
        return np.ones(len(month))
    years = np.unique(np.stack([month[counts], rows.dates.dt.year.values[counts]]), axis=1)
    found = np.bincount(years[0], minlength=MONTHS + 1)[month].astype(float)
    return np.where(counts, found, np.inf)


def _whole_years(rows: GridRows, month: np.ndarray, counts: np.ndarray) -> set[int]:
    """Years of which the drivers have every month (steps longer than a month: any year)."""
    year = rows.dates.dt.year.values
    if rows.days.max() > LONGEST_MONTH:
        return set(year.tolist())
    return {int(y) for y in np.unique(year) if len(np.unique(month[(year == y) & counts])) == MONTHS}
