"""Copies of photos at another size: smaller to look at or to work on, larger before a process."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.config.sections import UpscaleConfig
from refusion.images.samples import to_float

_ROWS = 256  # of a photo that are floats at a time


def shrink(image: Tensor, side: int) -> Tensor:
    """Copy of a photo with its longer side reduced to ``side``; smaller ones keep their size.

    Args:
        image: (B, C, H, W), float in [0, 1], or uint8 or uint16 over their full range.
        side: pixels.

    Returns:
        (B, C, h, w) float32 in [0, 1].
    """
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    if scale >= 1:
        return to_float(image)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    # The filter is separable: rows are shortened band by band, what is left is small.
    bands = image.split(_ROWS, dim=-2)
    narrow = torch.cat([_resized(to_float(b), b.shape[-2], columns) for b in bands], dim=-2)
    return _resized(narrow, rows, columns).clamp_(0, 1)


def _resized(image: Tensor, rows: int, columns: int) -> Tensor:
    return F.interpolate(image, size=(rows, columns), mode="bicubic", antialias=True)


def enlarge(lq: Tensor, upscale: UpscaleConfig | None) -> Tensor:
    """What the process of a super-resolution model starts from.

    Args:
        lq: low-resolution images (B, C, h, w).
        upscale: factor and interpolation; None leaves ``lq`` as it is.

    Returns:
        (B, C, factor * h, factor * w); bicubic overshoots are kept, as in the published code.
    """
    if upscale is None:
        return lq
    return F.interpolate(lq, scale_factor=upscale.factor, mode=upscale.mode)


def resize_like(lq: Tensor, gt: Tensor) -> Tensor:
    """The degraded image (B, C, h, w) as one would see it beside ``gt``: of its size, in [0, 1]."""
    if lq.shape != gt.shape:
        lq = F.interpolate(lq, size=gt.shape[-2:], mode="bicubic", antialias=False)
    return lq.clamp(0, 1)
