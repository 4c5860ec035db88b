"""Discs of points out of focus: their radii, and the guide that tells a network where they are.

The radius is proportional to the difference of the disparities (inverse depths) of a point and of
the plane of focus, and to the opening of the lens: what a lens of f-number N blurs by r pixels,
one of 2 N blurs by r / 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.errors import ConfigError

REFERENCE = 18.0  # the lens for which the disparity is the radius
LARGEST = 40.0
"""Radius in pixels of the largest discs that a guide can tell of; larger ones look like it."""


def blur_radius(number: float, disparity: float) -> float:
    """Radius in pixels of the farthest background's discs: disparity * 1.8 / f-number.

    Args:
        number: of the lens, ten times the f-number with the maker's sign.
        disparity: radius in pixels at f/1.8, >= 0.

    Raises:
        ConfigError: the number is 0.

    >>> blur_radius(-14.0, 7.0)
    9.0
    """
    if number == 0:
        raise ConfigError("lens: expected ten times an f-number, negative for Canon, got 0")
    return disparity * REFERENCE / abs(number)


def defocus_guide(defocus: Tensor, lens: Sequence[float]) -> Tensor:
    """What a network is told of every pixel: how large its discs are, through either lens.

    The root spreads the small radii, of which a pixel more is easier seen.

    Args:
        defocus: (H, W), radii in parts of the largest, 0 in focus, negative before the plane of
            focus.
        lens: source lens, target lens, and the largest radius at f/1.8 in pixels.

    Returns:
        (2, H, W) float32 in [0, 1], for source and target lens: 0.5 in focus, 1 for discs of
        `LARGEST` behind the plane of focus, 0 before it.

    >>> defocus_guide(torch.tensor([[0.0, 1.0, -0.25]]), (160.0, 18.0, 40.0))[1]
    tensor([[0.5000, 1.0000, 0.2500]])
    """
    source, target, disparity = lens
    radii = torch.tensor([blur_radius(number, disparity) for number in (source, target)])
    parts = (radii[:, None, None] * defocus / LARGEST).clamp(-1, 1)
    return 0.5 + 0.5 * parts.sign() * parts.abs().sqrt()
