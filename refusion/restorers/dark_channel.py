"""Haze removal with the dark channel prior, a classical baseline without training.

He, Sun & Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009. The guided filter
of the authors' ECCV 2010 paper replaces soft matting.
"""

from __future__ import annotations

from torch import Tensor

from refusion.nets.dark_channel import dark_channel
from refusion.restorers.haze_prior import WINDOW, HazePrior

OMEGA = 0.95  # share of the haze that is removed, as in the paper
MIN_TRANSMISSION = 0.1  # t0 in the paper


class DarkChannel(HazePrior):
    """Removes haze with the dark channel prior; see `HazePrior`."""

    def haze(self, image: Tensor) -> Tensor:
        """Dark channel (B, 1, H, W)."""
        return dark_channel(image, WINDOW)

    def coarse(self, image: Tensor, airlight: Tensor) -> Tensor:
        """Transmission (B, 1, H, W) from the dark channel of I / A; equation 12 of the paper."""
        return 1 - OMEGA * dark_channel(image / airlight, WINDOW)

    def transmission(self, aligned: Tensor) -> Tensor:
        """The aligned transmission (B, 1, H, W), limited from below."""
        return aligned.clamp(min=MIN_TRANSMISSION)


def dark_channel_prior(lq: Tensor) -> Tensor:
    """Remove haze with the dark channel prior.

    Args:
        lq: hazy photos, shape (B, 3, H, W), float in [0, 1].

    Returns:
        Photos of the same shape, float32 in [0, 1].

    An image without haze has a dark pixel in every patch, in at least one channel. It does not
    change:

    >>> import torch
    >>> image = torch.rand(1, 3, 20, 20)
    >>> image[:, 0] = 0
    >>> torch.allclose(dark_channel_prior(image), image, atol=1e-5)
    True
    """
    return DarkChannel(device=lq.device).restore(lq.float())
