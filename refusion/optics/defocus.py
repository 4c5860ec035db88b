"""Blur radii of points out of focus, and the defocus guide: the network input that encodes them.

A point out of focus appears as a disc. Its radius is proportional to the difference between the
disparity (inverse depth) of the point and that of the plane of focus, and to the lens aperture: if
a lens with f-number N gives a radius of r pixels, a lens with f-number 2 N gives r / 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.images.samples import to_float

REFERENCE = 18.0  # lens number (f/1.8) for which the blur radius equals the disparity
LARGEST = 40.0
"""Largest blur radius in pixels that a defocus guide can encode; larger radii are clamped to it."""

_IN_FOCUS = 1e-8  # relative defocus above the rounding of 0.5 to 16 bits
_IN_FOCUS_8_BITS = 3e-5


def blur_radius(number: float, disparity: float) -> float:
    """Blur radius of the farthest background in pixels: disparity * 1.8 / f-number.

    Args:
        number: lens number, ten times the f-number, negative for Canon.
        disparity: blur radius in pixels at f/1.8, >= 0.

    Raises:
        ConfigError: the number is 0.

    >>> blur_radius(-14.0, 7.0)
    9.0
    """
    if number == 0:
        raise ConfigError("lens: expected ten times an f-number, negative for Canon, got 0")
    return disparity * REFERENCE / abs(number)


def defocus_guide(defocus: Tensor, lens: Sequence[float]) -> Tensor:
    """Compute the defocus guide: the blur radius of each pixel with the source and the target lens.

    The radii are encoded by their square root, because a difference of one pixel is more visible
    between small radii.

    Args:
        defocus: (H, W) in [-1, 1], radii relative to the largest radius; 0 in focus, negative in
            front of the plane of focus.
        lens: numbers of the source and target lens, and the largest radius at f/1.8 in pixels.

    Returns:
        (2, H, W) float32 in [0, 1], for source and target lens: 0.5 in focus, 1 for the radius
        `LARGEST` behind the plane of focus, 0 for the radius `LARGEST` in front of it.

    Raises:
        ConfigError: a lens number is 0.

    >>> defocus_guide(torch.tensor([[0.0, 1.0, -0.25]]), (160.0, 18.0, 40.0))[1]
    tensor([[0.5000, 1.0000, 0.2500]])
    """
    source, target, disparity = lens
    radii = torch.tensor([blur_radius(number, disparity) for number in (source, target)])
    return encode_defocus(radii[:, None, None] * defocus / LARGEST)


def encode_defocus(defocus: Tensor) -> Tensor:
    """Encode relative defocus, as the guide of a renderer and each channel of a defocus guide.

    Args:
        defocus: any shape, in [-1, 1], otherwise clamped to it; 0 in focus, negative in front of
            the plane of focus.

    Returns:
        The shape of `defocus`, float32 in [0, 1]: 0.5 in focus.
    """
    parts = defocus.clamp(-1, 1)
    return 0.5 + 0.5 * parts.sign() * parts.abs().sqrt()


def decode_defocus(guide: Tensor) -> Tensor:
    """The inverse of `encode_defocus`; the value next to 0.5 is in focus.

    Args:
        guide: any shape, float in [0, 1], or uint8 or uint16 over their full range.

    Returns:
        The shape of `guide`, float32 in [-1, 1].

    >>> decode_defocus(encode_defocus(torch.tensor([0.0, 1.0, -0.25])))
    tensor([ 0.0000,  1.0000, -0.2500])
    """
    offset = to_float(guide) * 2 - 1
    defocus = offset * offset.abs()
    limit = _IN_FOCUS_8_BITS if guide.dtype == torch.uint8 else _IN_FOCUS
    return defocus.masked_fill(defocus.abs() < limit, 0.0)
