"""Copies of photos at another size: smaller to look at or to work on, larger before a process."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from refusion.sections import UpscaleConfig


def shrink(image: Tensor, side: int) -> Tensor:
    """Image (B, C, H, W) in [0, 1] with its longer side reduced to ``side``; smaller ones as is."""
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return F.interpolate(image, size=size, mode="bicubic", antialias=True).clamp_(0, 1)


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


def beside(lq: Tensor, gt: Tensor) -> Tensor:
    """The degraded image (B, C, h, w) as one would see it beside ``gt``: of its size, in [0, 1]."""
    if lq.shape != gt.shape:
        lq = F.interpolate(lq, size=gt.shape[-2:], mode="bicubic", antialias=False)
    return lq.clamp(0, 1)
