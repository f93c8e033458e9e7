"""Sums of pixels into regions and the way back; on a CPU member by member, without arrays in between.

Shapes: ``at (member | 1, pixel)`` numbers of pixels, ``area (member | 1, pixel)`` what each stands for, ``region`` and
``share (all pixels, k)`` the regions of every pixel and its share in them.
"""

import numpy as np
import torch

from xflux.train.fused import compiled, run_tasks


def add(total, values, at, area, region, share, rows=None) -> None:
    """``total (member, region, step)`` += area · share · ``values (member, row, step)`` of the pixels `at`.

    ``rows (member | 1, pixel)``: where the pixels stand in `values`; None: in order.
    """
    rows = torch.arange(at.shape[1], device=at.device)[None] if rows is None else rows
    if total.device.type != "cpu":
        add_anywhere(total, values, at, area, region, share, rows)
        return
    arrays = [a.numpy() for a in (total, values, rows, at, area)]
    region, share = region.numpy(), share.numpy()

    def work(member: int) -> None:
        compiled().add_pixels(*(_own(a, member) for a in arrays), region, share)

    run_tasks(work, range(len(total)))


def spread(slope, at, area, region, share, dtype: torch.dtype) -> torch.Tensor:
    """The transpose of `add`: area · share · ``slope (member, region, step)`` → ``(member, pixel, step)``."""
    if slope.device.type != "cpu":
        return spread_anywhere(slope, at, area, region, share, dtype)
    out = torch.empty(len(slope), at.shape[1], slope.shape[2], dtype=dtype)
    arrays = [a.numpy() for a in (out, slope, at, area)]
    region, share = region.numpy(), share.numpy()

    def work(member: int) -> None:
        compiled().spread_pixels(*(_own(a, member) for a in arrays), region, share)

    run_tasks(work, range(len(slope)))
    return out


def add_anywhere(total, values, at, area, region, share, rows) -> None:
    """`add` in torch's operations, for any device."""
    members = len(total)
    values = values[torch.arange(members, device=at.device)[:, None], rows]
    flat = total.view(-1, total.shape[-1])
    for k in range(share.shape[1]):
        part = (values.double() * (area * share[at, k])[..., None]).flatten(0, 1)
        flat.index_add_(0, _flat_region(at, region[:, k], total), part)


def spread_anywhere(slope, at, area, region, share, dtype: torch.dtype) -> torch.Tensor:
    """`spread` in torch's operations, for any device."""
    flat, result = slope.reshape(-1, slope.shape[-1]), 0
    for k in range(share.shape[1]):
        of_region = flat[_flat_region(at, region[:, k], slope)].view(len(slope), at.shape[1], -1)
        result = result + of_region * (area * share[at, k])[..., None]
    return result.to(dtype)


def _flat_region(at: torch.Tensor, region: torch.Tensor, by_region: torch.Tensor) -> torch.Tensor:
    """Place of every member's pixels' regions in ``(member · region)``."""
    offset = torch.arange(len(by_region), device=at.device)[:, None] * by_region.shape[1]
    return (region[at] + offset).flatten()


def _own(array: np.ndarray, member: int) -> np.ndarray:
    """The member's part of an array that may be common to all."""
    return np.ascontiguousarray(array[member % len(array)])
