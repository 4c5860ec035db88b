"""Guided filter: smooths a field, except across the edges of a photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def guided_filter(guide: Tensor, field: Tensor, side: int, epsilon: float) -> Tensor:
    """Guided filter of He et al. (2013) with square windows; the border is reflected.

    Window sums are computed by doubling, so the time depends on the logarithm of `side` only.

    Args:
        guide: (h, w) in [0, 1], whose edges are kept.
        field: (h, w), the field to smooth.
        side: side of the windows in pixels, odd, at most 2 min(h, w) - 1.
        epsilon: variance of the guide below which a window counts as flat.

    Returns:
        (h, w) float32.
    """
    mean, own, product, square = _box_mean(
        torch.stack([guide, field, guide * field, guide * guide]), side
    )
    slope = (product - mean * own) / (square - mean * mean + epsilon)
    slope, offset = _box_mean(torch.stack([slope, own - slope * mean]), side)
    return torch.addcmul(offset, slope, guide)


def _box_mean(fields: Tensor, side: int) -> Tensor:
    """Mean over the window around each pixel of (n, h, w)."""
    reach = side // 2
    padded = F.pad(fields[None], (reach, reach, reach, reach), mode="reflect")[0]
    return _window_sums(_window_sums(padded, side, 1), side, 2) / side**2


def _window_sums(fields: Tensor, count: int, dim: int) -> Tensor:
    """Sums of `count` neighbours along `dim`, of windows of 1, 2, 4, ... values."""
    length = fields.shape[dim] - count + 1
    total, start, width = None, 0, 1
    while width <= count:
        if count & width:
            part = fields.narrow(dim, start, length)
            total = part if total is None else total + part
            start += width
        if 2 * width <= count:
            shorter = fields.shape[dim] - width
            fields = fields.narrow(dim, 0, shorter) + fields.narrow(dim, width, shorter)
        width *= 2
    return total
