"""Blur kernels of blind restoration: Gaussians, flatter and sharper ones, and the sinc.

Those of Real-ESRGAN (Wang et al., ICCVW 2021, sections 3.2 and 3.4): each is a square of odd side
and sums to 1. `q` is the squared distance from the middle in units of the standard deviation, along
both axes of an ellipse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ellipse:
    """What a kernel's level lines look like.

    Attributes:
        side: of the kernel in pixels, odd.
        sigmas: standard deviation along both axes, in pixels, above 0.
        angle: of the first axis, in radians from the x axis.
    """

    side: int
    sigmas: tuple[float, float]
    angle: float = 0.0

    @property
    def q(self) -> Tensor:
        """Squared distance in units of sigma, (side, side) float64."""
        offsets = torch.arange(self.side, dtype=torch.float64) - self.side // 2
        x, y = offsets, offsets[:, None]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across = (x * cos + y * sin), (y * cos - x * sin)
        return (along / self.sigmas[0]) ** 2 + (across / self.sigmas[1]) ** 2


def gaussian(ellipse: Ellipse, beta: float = 1.0) -> Tensor:
    """Generalised Gaussian exp(-q^beta / 2), (side, side) float32.

    beta 1 is the Gaussian; below, the peak is sharper, above, the top is flatter.

    >>> float(gaussian(Ellipse(3, (1.0, 1.0))).sum())
    1.0
    """
    return _normalised(torch.exp(-0.5 * ellipse.q**beta))


def plateau(ellipse: Ellipse, beta: float) -> Tensor:
    """Plateau 1 / (1 + q^beta), (side, side) float32; flat on top, with long tails."""
    return _normalised(1 / (1 + ellipse.q**beta))


def sinc(side: int, cutoff: float) -> Tensor:
    """Ideal low pass, which rings at edges as sharpening and compression do.

    Args:
        side: of the kernel in pixels, odd.
        cutoff: frequency in radians per pixel, above 0 and at most pi.

    Returns:
        cutoff J1(cutoff r) / (2 pi r), cut off at the side, (side, side) float32.
    """
    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    r = torch.hypot(offsets, offsets[:, None])
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)  # the limit at r = 0
    return _normalised(kernel)


def _normalised(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
