"""Unknown pixels filled from the known ones around them, as a start for inpainting."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-6  # share of known pixels below which nothing is known


def fill_unknown(photo: Tensor, mask: Tensor) -> Tensor:
    """Fill each unknown pixel with the mean of the smallest area around it that has known pixels.

    The areas are those of a pyramid (pull-push: Gortler et al., SIGGRAPH 1996). An area whose
    pixels are known in part is filled up with the means of larger areas, interpolated between
    their centres.

    Args:
        photo: (B, C, H, W), 0 where unknown.
        mask: 1 where known and 0 elsewhere, broadcastable to `photo`.

    Returns:
        (B, C, H, W), equal to `photo` where it is known; 0 in a channel without known pixels.
    """
    return _filled(photo, mask.to(photo).expand_as(photo))


def _filled(total: Tensor, share: Tensor) -> Tensor:
    """Means of areas: `total` is the mean with 0 for unknown pixels, `share` that of the known."""
    sides = total.shape[-2:]
    if max(sides) == 1:
        return total / share.clamp(min=SMALLEST)
    if bool((share == 1).all()):
        return total
    halves = [min(2, side) for side in sides]
    coarse = (F.avg_pool2d(each, halves, ceil_mode=True) for each in (total, share))
    return total + (1 - share) * F.interpolate(_filled(*coarse), size=sides, mode="bilinear")
