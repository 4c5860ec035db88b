"""Blur kernels for blind restoration: generalised Gaussian, plateau and sinc.

The kernels are those of Real-ESRGAN (Wang et al., ICCVW 2021, sections 3.2 and 3.4). Each kernel is
square with an odd side and sums to 1. `q` is the squared distance from the centre, measured in
standard deviations along the two axes of an ellipse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ellipse:
    """Elliptical shape of a kernel.

    Attributes:
        side: side of the kernel in pixels, odd.
        sigmas: standard deviations along the two axes in pixels, above 0.
        angle: angle of the first axis from the x axis, in radians.
    """

    side: int
    sigmas: tuple[float, float]
    angle: float = 0.0

    @property
    def q(self) -> Tensor:
        """Squared distance from the centre in standard deviations, (side, side) float64."""
        offsets = torch.arange(self.side, dtype=torch.float64) - self.side // 2
        x, y = offsets, offsets[:, None]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across = (x * cos + y * sin), (y * cos - x * sin)
        return (along / self.sigmas[0]) ** 2 + (across / self.sigmas[1]) ** 2


def gaussian(ellipse: Ellipse, beta: float = 1.0) -> Tensor:
    """Generalised Gaussian exp(-q^beta / 2), normalised to sum 1.

    Args:
        ellipse: size and shape of the kernel.
        beta: exponent, > 0; 1 is the Gaussian, smaller values have a sharper peak, larger values a
            flatter top.

    Returns:
        (side, side) float32.

    >>> float(gaussian(Ellipse(3, (1.0, 1.0))).sum())
    1.0
    """
    return _normalised(torch.exp(-0.5 * ellipse.q**beta))


def plateau(ellipse: Ellipse, beta: float) -> Tensor:
    """Plateau kernel 1 / (1 + q^beta), with a flat top and long tails, normalised to sum 1.

    Args:
        ellipse: size and shape of the kernel.
        beta: exponent, > 0; larger values have a flatter top.

    Returns:
        (side, side) float32.
    """
    return _normalised(1 / (1 + ellipse.q**beta))


def sinc(side: int, cutoff: float) -> Tensor:
    """Ideal low-pass filter; its ringing at edges resembles that of sharpening and compression.

    Args:
        side: side of the kernel in pixels, odd.
        cutoff: cutoff frequency in radians per pixel, in (0, pi].

    Returns:
        cutoff J1(cutoff r) / (2 pi r), truncated to the square and normalised to sum 1,
        (side, side) float32.
    """
    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    r = torch.hypot(offsets, offsets[:, None])
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)  # the limit at r = 0
    return _normalised(kernel)


def _normalised(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
