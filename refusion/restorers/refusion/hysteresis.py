"""Hysteresis threshold of a change: weak changes stay only where they touch strong ones.

A model that makes shadows lighter also makes some dark things a little lighter. The change of a
shadow is strong at least in a part of it. As in Canny's edge detector (1986), a low threshold gives
the regions, and a region stays only if it contains a point above the high threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.restorers.refusion.shadow_likeness import shadow_likeness

SIDE = 192  # long side in pixels of the copy on which the change is measured
RADIUS = 3  # pixels of that copy; brightness is averaged over 7 x 7 pixels
DARK = 0.02  # brightness below which a ratio would be noise


def keep_strong_changes(
    photo: Tensor,
    result: Tensor,
    limits: tuple[float, float],
    shadow_limits: tuple[float, float] | None = None,
) -> Tensor:
    """Undo the change of a photo in regions where it is weak, or unlike that of a shadow.

    Args:
        photo: photos (B, C, H, W), float in [0, 1].
        result: the same photos after restoration, the same shape.
        limits: low and high threshold of |log(brightness of the result / that of the photo)|. A
            region is where the value is above the low threshold.
        shadow_limits: see `shadow_likeness`; None judges no region.

    Returns:
        The result in regions that reach the high threshold, with a soft edge, and the photo
        elsewhere; the shape of `photo`.
    """
    low, high = limits
    ratio = _log_ratio(photo, result)
    half = F.avg_pool2d(ratio, 2, ceil_mode=True)
    kept = _connected(half, low, high)
    if shadow_limits is not None:
        copies = (_copy(image, ratio.shape[-2:]) for image in (photo, result))
        weak = (half > low).to(kept.dtype)
        kept = shadow_likeness(*copies, kept, weak, half, shadow_limits)
    near = F.interpolate(F.max_pool2d(kept, 3, 1, 1), ratio.shape[-2:], mode="bilinear")
    part = ((ratio - low / 2) / (low / 2)).clamp(0, 1)
    weight = _mean(near, 2) * part.square() * (3 - 2 * part)
    weight = F.interpolate(weight, photo.shape[-2:], mode="bilinear")
    return torch.lerp(photo, result, weight.to(photo.dtype))


def _log_ratio(photo: Tensor, result: Tensor) -> Tensor:
    """|log ratio| of the brightness (B, 1, h, w) on a copy of at most `SIDE` pixels."""
    scale = min(1.0, SIDE / max(photo.shape[-2:]))
    size = [max(1, round(side * scale)) for side in photo.shape[-2:]]

    def brightness(image: Tensor) -> Tensor:
        grey = image.float().clamp(0, 1).mean(1, keepdim=True)
        return _mean(F.adaptive_avg_pool2d(grey, size), RADIUS).clamp_min(DARK)

    return (brightness(result) / brightness(photo)).log().abs()


def _copy(image: Tensor, size: Sequence[int]) -> Tensor:
    """A copy of this size of the image (B, C, H, W), at least `DARK`."""
    return F.adaptive_avg_pool2d(image.float().clamp(0, 1), tuple(size)).clamp_min(DARK)


def _connected(ratio: Tensor, low: float, high: float) -> Tensor:
    """1.0 in the 8-connected regions above `low` that have a point above `high`, else 0."""
    weak = (ratio > low).to(ratio.dtype)
    kept = (ratio > high).to(ratio.dtype)
    for _ in range(ratio.shape[-2] * ratio.shape[-1]):
        grown = F.max_pool2d(kept, 3, 1, 1) * weak
        if torch.equal(grown, kept):
            break
        kept = grown
    return kept


def _mean(image: Tensor, radius: int) -> Tensor:
    """Mean over squares; those at the border are smaller."""
    side = 2 * radius + 1
    return F.avg_pool2d(image, side, 1, radius, count_include_pad=False)
