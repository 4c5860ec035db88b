"""Image quality metrics: the word in the YAML is the key of `METRICS`.

A new metric is one file with a function `(image, target, *, crop_border=0, channel="rgb") -> (B,)`
and one line here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from refusion.metrics.metric import Metric
from refusion.metrics.psnr import psnr
from refusion.metrics.ssim import ssim

__all__ = ["METRICS", "Metric", "score_pair"]

METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", psnr, higher_is_better=True, value_range=(0, math.inf), identity=math.inf),
        Metric("ssim", ssim, higher_is_better=True, value_range=(-1, 1), identity=1),
    )
}


def score_pair(
    image: Tensor, target: Tensor, metrics: Mapping[str, Metric] = METRICS
) -> dict[str, float]:
    """Every metric of one image, as its 8-bit file would measure; of a stereo pair the mean.

    Rounding before measuring is what published numbers do, and lets anyone check ours on the files.

    Args:
        image: float RGB, shape (1, 3, H, W), or (1, 6, H, W) for two views; clamped to [0, 1] and
            rounded to 256 levels here.
        target: float RGB in [0, 1], the same shape and device; taken as it is.
        metrics: what to compute, by name.

    Returns:
        Values by the names of `metrics`.

    Raises:
        ImageError: the images cannot be compared.

    >>> import torch
    >>> gray = torch.full((1, 3, 8, 8), 0.2511)  # 64.03 of 255 levels
    >>> round(score_pair(gray, torch.zeros(1, 3, 8, 8))["psnr"], 4)  # 20 log10(255 / 64)
    12.0072
    """
    image = image.float().clamp(0, 1).mul_(255).round_().div_(255)
    image, target = _views(image), _views(target)
    return {name: float(metric.function(image, target).mean()) for name, metric in metrics.items()}


def _views(image: Tensor) -> Tensor:
    """The views of a stereo pair (1, 6, H, W) as a batch of two; other images as they are."""
    if image.ndim == 4 and image.shape[1] == 6:
        return image.unflatten(1, (2, 3)).flatten(0, 1)
    return image
