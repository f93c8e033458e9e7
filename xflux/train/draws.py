"""Pixels drawn anew at every step, stratified by region: an unbiased estimate of the regional integrals.

Within a region the pixels lie along a space-filling curve, each as long as its land is large. The curve is cut into
as many equal intervals as the region gets draws, and one point falls at random into each: a pixel is drawn with a
probability in proportion to its land, neighbours are rarely drawn together, and ``Σ interval · value`` has the full
integral as its expectation (Horvitz–Thompson).
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Design:
    """Where the draws of one member fall: interval starts and widths along the curve, and what a draw stands for."""

    start: np.ndarray
    jitter: np.ndarray
    area: np.ndarray
    stratum: np.ndarray

    def draw(self, rng: np.random.Generator, curve: "Curve") -> np.ndarray:
        """Pixel numbers ``(draw,)``."""
        return curve.pixel(self.start + self.jitter * rng.random(len(self.start)), self.stratum)


@dataclass(frozen=True)
class Curve:
    """The pixels of all strata end to end, each as long as its area."""

    order: np.ndarray
    ends: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def along(cls, stratum: np.ndarray, area: np.ndarray, lat: np.ndarray, lon: np.ndarray, strata: int) -> "Curve":
        """Pixels by stratum and, within it, along a Morton curve in space."""
        order = np.lexsort((_morton(lat, lon), stratum))
        counts = np.bincount(stratum, minlength=strata)
        last = np.cumsum(counts)
        return cls(order, np.cumsum(area[order]), last - counts, last)

    def bounds(self, stratum: int) -> tuple[float, float]:
        """Where a stratum starts and ends along the curve."""
        first, last = self.first[stratum], self.last[stratum]
        return (self.ends[first - 1] if first else 0.0), self.ends[last - 1]

    def pixel(self, point: np.ndarray, stratum: np.ndarray) -> np.ndarray:
        """The pixel in which a point of the curve lies."""
        position = np.searchsorted(self.ends, point, side="right")
        return self.order[np.clip(position, self.first[stratum], self.last[stratum] - 1)]

    def design(self, counts: np.ndarray) -> Design:
        """Cut each stratum into ``counts[stratum]`` intervals; where that is all its pixels or more, take each."""
        start, jitter, area, stratum = [], [], [], []
        for number, n in enumerate(counts):
            size = self.last[number] - self.first[number]
            if size == 0:
                continue
            low, high = self.bounds(number)
            if n >= size:
                ends = self.ends[self.first[number] : self.last[number]]
                width = np.diff(ends, prepend=low)
                start.append(ends - width / 2)
                jitter.append(np.zeros(size))
            else:
                width = np.full(n, (high - low) / n)
                start.append(low + width * np.arange(n))
                jitter.append(width)
            area.append(width)
            stratum.append(np.full(len(width), number))
        return Design(*(np.concatenate(parts) for parts in (start, jitter, area, stratum)))


def variance_of_sums(z: torch.Tensor, design: Design, strata: int) -> torch.Tensor:
    """Variance of sums of drawn pixels ``z (member, pixel, step)`` → ``(member, stratum and total, step)``.

    From one draw: neighbours along the curve are alike, so that half their squared differences bound the variance
    within an interval.
    """
    stratum = torch.as_tensor(design.stratum, device=z.device)
    drawn = torch.as_tensor(design.jitter > 0, device=z.device)
    pair = (stratum[1:] == stratum[:-1]) & drawn[1:]
    half = 0.5 * (z[:, 1:] - z[:, :-1]) ** 2 * pair[:, None]
    count = torch.zeros(strata, dtype=torch.float64, device=z.device).index_add_(0, stratum, drawn.double())
    pairs = torch.zeros_like(count).index_add_(0, stratum[1:], pair.double())
    variance = torch.zeros(len(z), strata, z.shape[-1], dtype=torch.float64, device=z.device)
    variance.index_add_(1, stratum[1:], half)
    variance *= (count / pairs.clamp(min=1))[:, None]
    return torch.cat([variance, variance.sum(1, keepdim=True)], 1)


def allocate(total: int, share: np.ndarray, available: np.ndarray, floor: int | None = None) -> np.ndarray:
    """Draws of each stratum: in proportion to `share`, at least `floor`, at most all its pixels; `total` in sum.

    The floor is a third of an equal share if it is not given: small regions have small ranges.

    >>> allocate(100, np.array([1.0, 3.0]), np.array([10, 1000]), floor=5)
    array([10, 90])
    """
    floor = max(2, total // (3 * len(share))) if floor is None else floor
    low = np.minimum(available, floor)
    total = int(np.clip(total, low.sum(), available.sum()))
    counts, open_ = np.zeros(len(share)), np.ones(len(share), bool)
    while open_.any():
        # what a full stratum cannot take goes to the others, what the floor takes comes from them
        wanted = share * (total - counts.sum()) / max(share[open_].sum(), 1e-300)
        bound = open_ & (wanted >= available)
        bound = bound if bound.any() else open_ & (wanted <= low)
        if not bound.any():
            counts[open_] = wanted[open_]
            break
        counts[bound] = np.clip(wanted, low, available)[bound]
        open_ &= ~bound
    return _whole_numbers(counts, total, available)


def _whole_numbers(counts: np.ndarray, total: int, available: np.ndarray) -> np.ndarray:
    """Round so that the sum stays: the largest fractions go up."""
    whole = np.floor(counts + 1e-9).astype(int)
    order = np.argsort(-(counts - whole), kind="stable")
    for number in order[whole[order] < available[order]][: total - whole.sum()]:
        whole[number] += 1
    return whole


def _morton(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Place along a space-filling curve: the bits of latitude and longitude interleaved."""
    bits = 16
    y = ((np.asarray(lat) + 90) / 180 * (2**bits - 1)).astype(np.uint64)
    x = (np.mod(np.asarray(lon) + 180, 360) / 360 * (2**bits - 1)).astype(np.uint64)
    code = np.zeros(len(y), np.uint64)
    for bit in range(bits):
        code |= ((x >> np.uint64(bit)) & np.uint64(1)) << np.uint64(2 * bit)
        code |= ((y >> np.uint64(bit)) & np.uint64(1)) << np.uint64(2 * bit + 1)
    return code
