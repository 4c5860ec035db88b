"""Haze removal by the dark channel prior, the classical baseline.

He, Sun & Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009; the guided filter
of their ECCV 2010 paper stands in for soft matting.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.nets.dark_channel import dark_channel

PATCH = 15  # pixels, the paper's
OMEGA = 0.95  # share of the haze that is taken away, the paper's
LEAST_TRANSMISSION = 0.1  # the paper's t0
RADIUS, SMOOTHNESS = 60, 1e-3  # of the guided filter, as its paper sets them for haze


def dark_channel_prior(lq: Tensor) -> Tensor:
    """Remove haze by the dark channel prior; it knows no training data.

    Args:
        lq: hazy photos, shape (B, 3, H, W), float in [0, 1].

    Returns:
        Photos of the same shape, float32 in [0, 1].

    An image without haze, which is dark somewhere in every patch, stays as it is:

    >>> image = torch.rand(1, 3, 20, 20)
    >>> image[:, 0] = 0
    >>> torch.allclose(dark_channel_prior(image), image, atol=1e-5)
    True
    """
    lq = lq.float()
    light = _atmospheric_light(lq, dark_channel(lq, PATCH))
    coarse = 1 - OMEGA * dark_channel(lq / light, PATCH)
    transmission = _guided_filter(lq.mean(dim=1, keepdim=True), coarse)
    return ((lq - light) / transmission.clamp(min=LEAST_TRANSMISSION) + light).clamp_(0, 1)


def _atmospheric_light(image: Tensor, dark: Tensor) -> Tensor:
    """Of the 0.1 % with the brightest dark channel the pixel of highest intensity, (B, 3, 1, 1)."""
    pixels = image.flatten(2)
    count = max(1, dark.shape[-2] * dark.shape[-1] // 1000)
    places = dark.flatten(2).topk(count, dim=2).indices
    brightest = pixels.gather(2, places.expand(-1, 3, -1))
    best = brightest.sum(dim=1, keepdim=True).argmax(dim=2, keepdim=True)
    light = brightest.gather(2, best.expand(-1, 3, -1))
    return light.unsqueeze(-1).clamp(min=1 / 255)


def _guided_filter(guide: Tensor, value: Tensor) -> Tensor:
    """`value` smoothed along the edges of `guide`, both (B, 1, H, W)."""
    mean_guide, mean_value = _mean(guide), _mean(value)
    covariance = _mean(guide * value) - mean_guide * mean_value
    variance = _mean(guide * guide) - mean_guide.square()
    slope = covariance / (variance + SMOOTHNESS)
    offset = mean_value - slope * mean_guide
    return _mean(slope) * guide + _mean(offset)


def _mean(image: Tensor) -> Tensor:
    """Mean within RADIUS, of the part of the window that lies inside the image."""
    for dim in (-2, -1):
        size = image.shape[dim]
        sums = F.pad(image.double().movedim(dim, -1).cumsum(-1), (1, 0))
        places = torch.arange(size, device=image.device)
        low, high = (places - RADIUS).clamp(min=0), (places + RADIUS + 1).clamp(max=size)
        image = ((sums[..., high] - sums[..., low]) / (high - low)).movedim(-1, dim)
    return image.float()
