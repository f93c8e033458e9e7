"""Which steps of one axis make up those of another: days in months, months of a climatology in every year."""

from dataclasses import dataclass

import numpy as np

from xflux.temporal.calendar import DAY
from xflux.temporal.steps import Steps, days_in_months


@dataclass(frozen=True)
class Overlap:
    """Pieces that steps of a source and of a target have in common, sorted by target."""

    target: np.ndarray  # positions of the steps
    source: np.ndarray
    share: np.ndarray  # share of the target step that the piece is
    # share of the source step that the piece is; 1 for climatologies, whose steps come again every year
    within: np.ndarray

    def covered(self, count: int) -> np.ndarray:
        """Share of each of the ``count`` target steps that the source covers."""
        return np.bincount(self.target, self.share, minlength=count)

    @property
    def one_to_one(self) -> bool:
        """Whether every target step lies in one source step."""
        return np.unique(self.target).size == self.target.size


def overlap(target: Steps, source: Steps) -> Overlap:
    """The pieces of ``target``'s steps by ``source``'s.

    Months and days of a climatology stand for themselves in every year (the 366th day takes the 365th where the
    climatology has 365). Raises ValueError for a series of dates on a climatology.
    """
    if source.calendar is not None and target.calendar is not None:
        return _dates(target, source)
    if source.calendar is not None:
        raise ValueError(f"dates cannot be had on the climatology {target.dim!r}: take mean_seasonal_cycle() first.")
    if source.dim == "month":
        step, label, days = target.split("month")
        label = label % 12 + 1 if target.calendar is not None else label
    elif target.dim == "month":
        position, label, days = days_in_months(source.labels)
        lookup = dict(zip(target.labels, range(target.labels.size), strict=True))
        known = np.isin(label, target.labels)
        at = np.array([lookup[m] for m in label[known]], int)
        total = np.bincount(at, days[known], minlength=target.labels.size)
        return _sorted(at, position[known], days[known] / total[at])
    else:
        step, label, days = _days_of_year(target)
        label = np.where((label == 366) & (366 not in source.labels), 365, label)
    order = np.argsort(source.labels)
    at = np.searchsorted(source.labels[order], label).clip(max=source.labels.size - 1)
    known = source.labels[order][at] == label
    total = np.bincount(step, days, minlength=target.days.size)
    return _sorted(step[known], order[at[known]], days[known] / total[step[known]])


def _sorted(target: np.ndarray, source: np.ndarray, share: np.ndarray) -> Overlap:
    order = np.lexsort((source, target))
    return Overlap(target[order], source[order], share[order], np.ones(order.size))


def _dates(target: Steps, source: Steps) -> Overlap:
    """Pieces of two axes of dates; neither needs to be in order."""
    order = np.argsort(source.start, kind="stable")
    start, stop = source.start[order], source.stop[order]
    first, last = np.searchsorted(stop, target.start, "right"), np.searchsorted(start, target.stop, "left")
    count = np.maximum(last - first, 0)
    step = np.repeat(np.arange(count.size), count)
    at = np.repeat(first, count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    length = np.minimum(target.stop[step], stop[at]) - np.maximum(target.start[step], start[at])
    whole = (target.stop - target.start)[step], (stop - start)[at]
    return Overlap(step, order[at], length / whole[0], length / whole[1])


def _days_of_year(steps: Steps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(step, day of the year, days) of every piece of a step in a day."""
    if steps.calendar is None:
        return np.arange(steps.days.size), steps.labels, steps.days
    first, last = steps.start // DAY, (steps.stop - 1) // DAY
    step = np.repeat(np.arange(first.size), last - first + 1)
    day = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])
    length = np.minimum(steps.stop[step], (day + 1) * DAY) - np.maximum(steps.start[step], day * DAY)
    year = steps.calendar.month(day * DAY) // 12
    return step, (day * DAY - steps.calendar.start(year * 12)) // DAY + 1, length / DAY
