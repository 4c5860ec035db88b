"""Filters with square windows: guided filter, which keeps the edges of a photo, and maximum.

Sums and maxima are computed by doubling, so the time depends on the logarithm of the side only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def guided_filter(guide: Tensor, field: Tensor, side: int, epsilon: float) -> Tensor:
    """Guided filter of He et al. (2013) with square windows; the border is reflected.

    A reflected border continues the surfaces of a scene, which those of the other guided filters
    (`tiling.guided`, `restorers.haze_prior`) do not; and another border would change the photos
    that a seed gives, on which weights were trained.

    Args:
        guide: (h, w) in [0, 1], whose edges are kept.
        field: (h, w), the field to smooth.
        side: side of the windows in pixels, odd, at most 2 min(h, w) - 1.
        epsilon: variance of the guide below which a window counts as flat.

    Returns:
        (h, w) float32.
    """
    parts = guide, field, guide * field, guide * guide
    mean, own, product, square = (_box_mean(part, side) for part in parts)
    slope = product.sub_(mean * own).div_(square.sub_(mean * mean).add_(epsilon))
    offset = own.sub_(slope * mean)
    slope, offset = (_box_mean(part, side) for part in (slope, offset))
    return torch.addcmul(offset, slope, guide)


def window_max(fields: Tensor, side: int) -> Tensor:
    """Maximum over a square window around each pixel; windows end at the border.

    Args:
        fields: (n, h, w).
        side: side of the windows in pixels, odd.

    Returns:
        (n, h, w).
    """
    reach = side // 2
    padded = F.pad(fields, (reach, reach, reach, reach), value=-math.inf)
    return _window_maxima(_window_maxima(padded, side, 1), side, 2)


def _box_mean(field: Tensor, side: int) -> Tensor:
    """Mean over the window around each pixel of (h, w)."""
    reach = side // 2
    padded = F.pad(field[None], (reach, reach, reach, reach), mode="reflect")[0]
    return _window_sums(_window_sums(padded, side, 0), side, 1).div_(side**2)


def _window_sums(fields: Tensor, count: int, dim: int) -> Tensor:
    """Sums of `count` neighbours along `dim`, of windows of 1, 2, 4, ... values."""
    length = fields.shape[dim] - count + 1
    total, start, width = None, 0, 1
    while width <= count:
        if count & width:
            part = fields.narrow(dim, start, length)
            total = part.clone() if total is None else total.add_(part)
            start += width
        if 2 * width <= count:
            shorter = fields.shape[dim] - width
            fields = fields.narrow(dim, 0, shorter) + fields.narrow(dim, width, shorter)
        width *= 2
    return total


def _window_maxima(fields: Tensor, count: int, dim: int) -> Tensor:
    """Maxima of `count` neighbours along `dim`, of two windows of a power of two values."""
    length, width = fields.shape[dim] - count + 1, 1
    while 2 * width <= count:
        shorter = fields.shape[dim] - width
        fields = torch.maximum(fields.narrow(dim, 0, shorter), fields.narrow(dim, width, shorter))
        width *= 2
    first, last = fields.narrow(dim, 0, length), fields.narrow(dim, count - width, length)
    return torch.maximum(first, last)
