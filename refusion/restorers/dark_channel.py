"""Haze removal with the dark channel prior, a classical baseline without training.

He, Sun & Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009. The guided filter
of the authors' ECCV 2010 paper replaces soft matting.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.nets.dark_channel import dark_channel

PATCH = 15  # side of the patches in pixels, as in the paper
OMEGA = 0.95  # share of the haze that is removed, as in the paper
MIN_TRANSMISSION = 0.1  # t0 in the paper
# Guided filter: radius in pixels and regularization, as in its paper for haze removal.
RADIUS, EPSILON = 60, 1e-3


def dark_channel_prior(lq: Tensor) -> Tensor:
    """Remove haze with the dark channel prior.

    Args:
        lq: hazy photos, shape (B, 3, H, W), float in [0, 1].

    Returns:
        Photos of the same shape, float32 in [0, 1].

    An image without haze has a dark pixel in every patch, in at least one channel. It does not
    change:

    >>> image = torch.rand(1, 3, 20, 20)
    >>> image[:, 0] = 0
    >>> torch.allclose(dark_channel_prior(image), image, atol=1e-5)
    True
    """
    lq = lq.float()
    light = _atmospheric_light(lq, dark_channel(lq, PATCH))
    coarse = 1 - OMEGA * dark_channel(lq / light, PATCH)
    transmission = _guided_filter(lq.mean(dim=1, keepdim=True), coarse)
    return ((lq - light) / transmission.clamp(min=MIN_TRANSMISSION) + light).clamp_(0, 1)


def _atmospheric_light(image: Tensor, dark: Tensor) -> Tensor:
    """Colour of the atmospheric light, (B, 3, 1, 1).

    It is the colour of the pixel with the highest intensity among the 0.1 % of the pixels with the
    brightest dark channel.
    """
    pixels = image.flatten(2)
    count = max(1, dark.shape[-2] * dark.shape[-1] // 1000)
    indices = dark.flatten(2).topk(count, dim=2).indices
    candidates = pixels.gather(2, indices.expand(-1, 3, -1))
    best = candidates.sum(dim=1, keepdim=True).argmax(dim=2, keepdim=True)
    light = candidates.gather(2, best.expand(-1, 3, -1))
    return light.unsqueeze(-1).clamp(min=1 / 255)


def _guided_filter(guide: Tensor, value: Tensor) -> Tensor:
    """Smooth `value` and keep the edges of `guide`; both (B, 1, H, W)."""
    mean_guide, mean_value = _box_mean(guide), _box_mean(value)
    covariance = _box_mean(guide * value) - mean_guide * mean_value
    variance = _box_mean(guide * guide) - mean_guide.square()
    slope = covariance / (variance + EPSILON)
    offset = mean_value - slope * mean_guide
    return _box_mean(slope) * guide + _box_mean(offset)


def _box_mean(image: Tensor) -> Tensor:
    """Mean of the pixels within RADIUS in each direction; pixels outside the image do not count."""
    for dim in (-2, -1):
        size = image.shape[dim]
        sums = F.pad(image.double().movedim(dim, -1).cumsum(-1), (1, 0))
        centers = torch.arange(size, device=image.device)
        low, high = (centers - RADIUS).clamp(min=0), (centers + RADIUS + 1).clamp(max=size)
        image = ((sums[..., high] - sums[..., low]) / (high - low)).movedim(-1, dim)
    return image.float()
