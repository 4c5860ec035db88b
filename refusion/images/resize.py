"""Resizing of image batches: shrinking, enlarging for super-resolution, matching another size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.config.sections import UpscaleConfig
from refusion.images.samples import to_float

_ROWS = 256  # rows per band that are converted to float at a time


def shrink(image: Tensor, side: int) -> Tensor:
    """Shrink a photo so that its longer side is ``side``; a smaller photo keeps its size.

    The filter is bicubic with antialiasing.

    Args:
        image: (B, C, H, W), float in [0, 1], or uint8 or uint16 over their full range.
        side: longer side of the result in pixels.

    Returns:
        (B, C, h, w) float32 in [0, 1].
    """
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    if scale >= 1:
        return to_float(image)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    # The filter is separable: each band is shrunk along its rows first, which saves memory.
    bands = image.split(_ROWS, dim=-2)
    narrow = torch.cat([antialiased(to_float(b), (b.shape[-2], columns)) for b in bands], dim=-2)
    return antialiased(narrow, (rows, columns)).clamp_(0, 1)


def antialiased(image: Tensor, size: Sequence[int], mode: str = "bicubic") -> Tensor:
    """Resize images with an antialiasing filter, as Pillow does; any size from 1x1.

    PyTorch 2.13 computes wrong values of a result with one column on the CPU. So such a result is
    computed as a row.

    Args:
        image: (B, C, H, W) float.
        size: height and width of the result.
        mode: 'bicubic' or 'bilinear'.

    Returns:
        (B, C, *size). Bicubic values may leave the range of the image.
    """
    rows, columns = size
    if columns == 1 and rows > 1:
        row = F.interpolate(image.mT, size=(1, rows), mode=mode, antialias=True)
        return row.mT.contiguous()
    return F.interpolate(image, size=(rows, columns), mode=mode, antialias=True)


def enlarge(lq: Tensor, upscale: UpscaleConfig | None) -> Tensor:
    """Enlarge low-resolution images to the input size of a super-resolution model.

    Args:
        lq: low-resolution images (B, C, h, w).
        upscale: factor and interpolation; None returns ``lq`` unchanged.

    Returns:
        (B, C, factor * h, factor * w). Bicubic values may leave [0, 1]; they are not clamped, as in
        the published code.
    """
    if upscale is None:
        return lq
    return F.interpolate(lq, scale_factor=upscale.factor, mode=upscale.mode)


def resize_like(lq: Tensor, gt: Tensor) -> Tensor:
    """Resize a degraded image to the size of its ground truth, for display.

    Args:
        lq: degraded images (B, C, h, w).
        gt: ground truth (B, C, H, W).

    Returns:
        (B, C, H, W) clamped to [0, 1]; bicubic without antialiasing if the sizes differ.
    """
    if lq.shape != gt.shape:
        lq = F.interpolate(lq, size=gt.shape[-2:], mode="bicubic", antialias=False)
    return lq.clamp(0, 1)
