"""Haze removal with the colour attenuation prior, a classical baseline without training.

Zhu, Mai & Shao, "A Fast Single Image Haze Removal Algorithm Using Color Attenuation Prior", IEEE
Transactions on Image Processing 24(11), 2015. Haze makes a colour brighter and less saturated, so
the depth is a linear function of value and saturation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusion.nets.dark_channel import dark_channel
from refusion.restorers.haze_prior import WINDOW, HazePrior

OFFSET, VALUE, SATURATION = 0.121779, 0.959710, -0.780245  # theta_0, theta_1, theta_2 in the paper
BETA = 1.0  # scattering coefficient, as in the paper
MIN_TRANSMISSION = 0.05  # as in the authors' code; the paper has 0.1


def depth(image: Tensor) -> Tensor:
    """Depth of the scene from value and saturation; equation 8 of the paper with its mean.

    The paper adds noise of standard deviation 0.041337, which its authors draw at random. Here the
    noise has its mean, 0, so the result is a function of the photo.

    Args:
        image: hazy photos (B, 3, H, W), float in [0, 1].

    Returns:
        (B, 1, H, W), the depth times the scattering coefficient for BETA = 1.

    >>> round(depth(torch.full((1, 3, 1, 1), 0.5)).item(), 4)  # 0.121779 + 0.5 * 0.959710
    0.6016
    """
    value, least = image.amax(dim=1, keepdim=True), image.amin(dim=1, keepdim=True)
    saturation = torch.where(value > 0, (value - least) / value.clamp(min=1e-6), 0)
    return OFFSET + VALUE * value + SATURATION * saturation


class ColourAttenuation(HazePrior):
    """Removes haze with the colour attenuation prior; see `HazePrior`.

    The guide of the guided filter is the mean of the channels, as for the dark channel.
    """

    def haze(self, image: Tensor) -> Tensor:
        """Smallest depth in windows, (B, 1, H, W), so that small white objects are not far."""
        return dark_channel(depth(image), WINDOW)

    def coarse(self, image: Tensor, airlight: Tensor) -> Tensor:
        """The map of `haze`, which does not depend on the airlight."""
        return self.haze(image)

    def transmission(self, aligned: Tensor) -> Tensor:
        """exp(-beta d) from the aligned depth d, (B, 1, H, W)."""
        return torch.exp(-BETA * aligned).clamp(MIN_TRANSMISSION, 1)
