"""Sums of pixels into regions and back, member by member, without arrays in between (CPU)."""

import numpy as np
import torch

from xflux.train.fused import compiled, run_tasks


def add(
    total: torch.Tensor, values: torch.Tensor, rows: torch.Tensor, at: torch.Tensor, area: torch.Tensor, region, share
):
    """``total (member, region, step)`` += area · share · ``values (member, row, step)`` of the pixels `at`.

    ``at (member | 1, pixel)`` says what is asked for, ``rows (member | 1, pixel)`` where it stands in `values`.
    """
    arrays = [a.numpy() for a in (total, values, rows, at, area)]
    region, share = region.numpy(), share.numpy()

    def work(member: int) -> None:
        compiled().add_pixels(*(own(a, member) for a in arrays), region, share)

    run_tasks(work, range(len(total)))


def spread(slope: torch.Tensor, at: torch.Tensor, area: torch.Tensor, region, share, dtype) -> torch.Tensor:
    """Area · share · ``slope (member, region, step)`` of every pixel's regions ``(member, pixel, step)``."""
    out = torch.empty(len(slope), at.shape[1], slope.shape[2], dtype=dtype)
    arrays = [a.numpy() for a in (out, slope, at, area)]
    region, share = region.numpy(), share.numpy()

    def work(member: int) -> None:
        compiled().spread_pixels(*(own(a, member) for a in arrays), region, share)

    run_tasks(work, range(len(slope)))
    return out


def own(array: np.ndarray, member: int) -> np.ndarray:
    """The member's part of an array that may be common to all."""
    return np.ascontiguousarray(array[member % len(array)])
