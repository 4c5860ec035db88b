"""Resizing of small images as two matrix products, one along rows and one along columns."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

LIMIT = 128  # longest side of an image up to which the matrix products are faster
_CUBIC = -0.75  # parameter of the bicubic filter of PyTorch


def resize(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize an image without antialiasing, as `torch.nn.functional.interpolate`.

    Args:
        image: (C, h, w) float.
        size: (height, width) of the result.
        mode: "area", "bilinear" or "bicubic".

    Returns:
        (C, *size), which differs from PyTorch's by rounding.
    """
    height, width = image.shape[-2:]
    if max(height, width) > LIMIT:
        return F.interpolate(image[None], size, mode=mode)[0]
    return _weights(height, size[0], mode) @ image @ _weights(width, size[1], mode).T


@functools.lru_cache(maxsize=64)
def _weights(before: int, after: int, mode: str) -> Tensor:
    """Weights of the pixels before for each pixel after, (after, before) float32."""
    weights = torch.zeros(after, before, dtype=torch.float64)
    if mode == "area":
        for row in range(after):
            start, end = row * before // after, math.ceil((row + 1) * before / after)
            weights[row, start:end] = 1 / (end - start)
        return weights.float()
    places = (torch.arange(after, dtype=torch.float64) + 0.5) * (before / after) - 0.5
    places = places.clamp_min(0) if mode == "bilinear" else places
    first = places.floor()
    part = places - first
    taps = [(0, 1 - part), (1, part)] if mode == "bilinear" else _cubic_taps(part)
    for offset, weight in taps:
        columns = (first.long() + offset).clamp(0, before - 1)
        weights.scatter_add_(1, columns[:, None], weight[:, None])
    return weights.float()


def _cubic_taps(part: Tensor) -> list[tuple[int, Tensor]]:
    """Offsets and weights of the bicubic filter at a fraction `part` behind a pixel."""
    near = [(_CUBIC + 2) * x**3 - (_CUBIC + 3) * x**2 + 1 for x in (part, 1 - part)]
    far = [_CUBIC * (x**3 - 5 * x**2 + 8 * x - 4) for x in (1 + part, 2 - part)]
    return [(-1, far[0]), (0, near[0]), (1, near[1]), (2, far[1])]
