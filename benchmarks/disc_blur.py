"""Blur of each pixel by a disc of its own radius, a classical method for background blur.

A sharp photo is blurred by discs of several sizes in linear light, and each pixel is taken from the
two sizes nearest to its own. Colours of the subject leak into its surroundings, and highlights stay
clipped: what renderers with layers and networks do better.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.optics.defocus import LARGEST
from refusion.restorers import Conditions
from refusion.synthesis.camera import GAMMA

STEP = 1.0  # pixels between two radii
SHARP = 0.5  # pixels: a smaller disc changes nothing


def disc_blur(photo: Tensor, conditions: Conditions) -> Tensor:
    """The photo with the blur of the target lens, as if the source lens had none.

    Args:
        photo: (1, 3, H, W), float in [0, 1].
        conditions: `guide` (2, H, W) or (1, 2, H, W), see `defocus_guide`.
    """
    guide = conditions.guide.reshape(1, 2, *photo.shape[-2:])
    radius = (2 * guide[:, 1:] - 1).square() * LARGEST
    light, result = photo.clamp(0, 1) ** GAMMA, torch.zeros_like(photo)
    for number in range(int(radius.max() / STEP) + 2):
        weight = (1 - (radius / STEP - number).abs()).clamp_min(0)
        if weight.any():
            result += weight * _blurred(light, number * STEP)
    return result.clamp(0, 1) ** (1 / GAMMA)


def _blurred(light: Tensor, radius: float) -> Tensor:
    """Light (1, 3, H, W), averaged over a disc with an edge of one pixel."""
    if radius < SHARP:
        return light
    reach = int(radius + 1)
    offsets = torch.arange(-reach, reach + 1.0)
    distance = torch.hypot(offsets[:, None], offsets)
    disc = (radius + 0.5 - distance).clamp(0, 1)
    kernel = (disc / disc.sum()).expand(light.shape[1], 1, -1, -1)
    padded = F.pad(light, (reach,) * 4, mode="replicate")
    return F.conv2d(padded, kernel, groups=light.shape[1])
