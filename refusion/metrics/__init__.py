"""Image quality metrics: the word in the YAML is the key of `METRICS`.

A new metric is one file with a function `(image, target, *, crop_border=0, channel="rgb") -> (B,)`
and one line here.
"""

from __future__ import annotations

import math

from refusion.metrics.metric import Metric
from refusion.metrics.psnr import psnr
from refusion.metrics.ssim import ssim

__all__ = ["METRICS", "Metric"]

METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", psnr, higher_is_better=True, value_range=(0, math.inf), identity=math.inf),
        Metric("ssim", ssim, higher_is_better=True, value_range=(-1, 1), identity=1),
    )
}
