"""The depth of landscapes from their own light: with the distance, dark things become pale.

The dark channel of a photo taken outside (He, Sun & Tang, CVPR 2009) is low for near ground and
trees, higher for distant hills, and highest in the sky. So it orders a clear landscape by depth,
even where the photo has hardly any haze.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from refusion.images.samples import to_float
from refusion.nets.dark_channel import dark_channel
from refusion.randomness import uniform
from refusion.sde.haze_choice import correlation_with_height
from refusion.synthesis.scenes.depth import ground_depth
from refusion.synthesis.scenes.fields import photo_coordinates, quantile
from refusion.synthesis.scenes.frame import PhotoFrame
from refusion.synthesis.scenes.windows import guided_filter

WINDOW, RADIUS = 0.016, 0.0535  # half sides of the windows, relative to the long side
SMOOTHNESS = 1e-3  # of the guided filter
OMEGA = 0.95  # share of the haze that is seen as haze, as in the paper
LARGEST = 3.0  # optical depth; more cannot be told apart
LEAST_CORRELATION = 0.5  # of depth and height in the photo: above the horizon is the farthest
LEAST_DEVIATION = 0.15  # of the optical depth


def optical_depth(photo: Tensor) -> tuple[Tensor, Tensor]:
    """Optical depth and airlight that the dark channel of a photo shows.

    Args:
        photo: (3, h, w) in [0, 1], a small copy of a photo.

    Returns:
        tau, (h, w) in [0, 3], and the airlight, (3,) in [0.05, 1].
    """
    half = max(1, round(WINDOW * max(photo.shape)))
    dark = dark_channel(photo[None], 2 * half + 1).flatten()
    airlight = photo.flatten(1)[:, dark.argmax()].clamp_min(0.05)
    dark = dark_channel((photo / airlight[:, None, None])[None], 2 * half + 1)[0, 0].clamp(0, 1)
    fitting = 2 * (min(photo.shape[1:]) // 2) - 1
    side = max(1, min(2 * round(RADIUS * max(photo.shape)) + 1, fitting))
    tau = guided_filter(photo.mean(0), -torch.log1p(-OMEGA * dark), side, SMOOTHNESS)
    return tau.clamp(0, LARGEST), airlight


def shows_distance(tau: Tensor) -> bool:
    """Whether an optical depth (h, w) looks like a landscape: it differs, and grows upwards."""
    if tau.numel() < 2:
        return False  # one pixel has no deviation
    correlation = correlation_with_height(tau[None, None])
    return tau.std().item() >= LEAST_DEVIATION and correlation.item() >= LEAST_CORRELATION


def is_landscape(photo: Tensor) -> bool:
    """Whether the dark channel of a photo shows a distance.

    Args:
        photo: (3, H, W), float in [0, 1], or uint8 or uint16.
    """
    thumbnail = PhotoFrame.whole(to_float(photo)).thumbnail
    return shows_distance(optical_depth(thumbnail)[0])


def aerial_depth(photo: Tensor, generator: Generator) -> Tensor:
    """Depth of a landscape as its dark channel shows it; a ground plane for other photos.

    Args:
        photo: (3, h, w) in [0, 1].
        generator: source of randomness.

    Returns:
        (h, w) in (0, 1], where 1 is the farthest point.
    """
    tau, _ = optical_depth(photo)
    if not shows_distance(tau):
        return ground_depth(photo, generator)
    rows, _ = photo_coordinates(*tau.shape)
    near, ramp = uniform(generator, 0.0, 0.25), uniform(generator, 0.0, 0.3)
    far = quantile(tau.flatten()[None], 0.95)[0].clamp_min(1e-3)
    depth = (near + tau / far + ramp * (1 - rows)).clamp(0.02, 1.5)
    return depth / depth.amax()
