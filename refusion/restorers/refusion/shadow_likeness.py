"""How much a changed region of a photo looks like a shadow that was removed.

A shadow takes a nearly constant part of the light, so the change of a region is even, and where
the shadow is gone the region looks like its surroundings. A dark thing that was taken for a shadow
changes unevenly, and it still differs from its surroundings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RING = (1, 3)  # pixels from the border of a region: which pixels beside it are compared
LEAST = 12  # pixels; smaller regions are not judged
FLOOR = 0.02  # contrast, as logarithm, that counts as none


def shadow_likeness(
    photo: Tensor, result: Tensor, kept: Tensor, weak: Tensor, limits: tuple[float, float]
) -> Tensor:
    """Weights of the changed regions of reduced copies.

    With d the logarithm of the ratio of both copies, a region has the unevenness
    u = std(d) / |mean(d)| (mean over the channels of the deviation over the pixels) and the
    remaining contrast k = max(0, -c(result) sign(mean(d))) / (|c(photo)| + FLOOR): a lighter region
    that is still darker than its surroundings. The contrast c is the mean logarithm in a ring
    inside of the border minus that in a ring outside, without other changed pixels.

    Args:
        photo: (B, C, h, w), float, above 0.
        result: the restored photo, the same shape.
        kept: (B, 1, h, w), 1.0 in the regions that are judged, 0.0 elsewhere.
        weak: the same with all changed pixels.
        limits: the weight of a region falls from 1 to 0 where u + k grows from the first limit to
            the second one.

    Returns:
        `kept` times the weight of each region.
    """
    logs = torch.stack([photo.log(), result.log()])
    judged = [
        _judged(logs[:, number], mask[0], changed[0], limits)
        for number, (mask, changed) in enumerate(zip(kept, weak, strict=True))
    ]
    return torch.stack(judged)[:, None]


def _judged(logs: Tensor, kept: Tensor, weak: Tensor, limits: tuple[float, float]) -> Tensor:
    """Weights (h, w) of the regions `kept` (h, w); `logs` (2, C, h, w)."""
    labels, weights, (low, high) = _labels(kept), kept.clone(), limits
    for label in labels.unique().tolist():
        region = (labels == label).to(kept.dtype)
        if label == 0 or region.sum() < LEAST:
            continue
        unlike = _unevenness(logs, region) + _remaining_contrast(logs, region, weak)
        weight = min(1.0, max(0.0, (high - unlike) / (high - low)))
        weights -= (1 - weight) * region
    return weights


def _labels(mask: Tensor) -> Tensor:
    """A number above 0 for each 8-connected region of the mask (h, w), the same for its pixels."""
    labels = torch.arange(1, mask.numel() + 1, device=mask.device, dtype=mask.dtype)
    labels = labels.view_as(mask) * mask
    while True:
        grown = _grown(labels, 1) * mask
        if torch.equal(grown, labels):
            return labels
        labels = grown


def _unevenness(logs: Tensor, region: Tensor) -> float:
    change, count = (logs[1] - logs[0]) * region, region.sum()
    mean = change.sum((1, 2)) / count
    deviation = ((change - mean[:, None, None] * region).square().sum((1, 2)) / count).sqrt()
    return float(deviation.mean() / mean.mean().abs())


def _remaining_contrast(logs: Tensor, region: Tensor, weak: Tensor) -> float:
    """Contrast of the result relative to that of the photo; 0 without surroundings."""
    near, far = RING
    outside = (_grown(region, far) - _grown(region, near)) * (1 - weak)
    rest = 1 - region
    inside = (_grown(rest, far) - _grown(rest, near)) * region
    inside = region if inside.sum() == 0 else inside
    if outside.sum() == 0:
        return 0.0
    grey = logs.mean(1)
    means = [(grey * ring).sum((1, 2)) / ring.sum() for ring in (inside, outside)]
    before, after = (means[0] - means[1]).tolist()
    is_lighter = float(((grey[1] - grey[0]) * region).sum()) > 0
    return max(0.0, -after if is_lighter else after) / (abs(before) + FLOOR)


def _grown(mask: Tensor, reach: int) -> Tensor:
    """Maxima (h, w) over squares that reach so many pixels in each direction."""
    return F.max_pool2d(mask[None, None], 2 * reach + 1, 1, reach)[0, 0]
