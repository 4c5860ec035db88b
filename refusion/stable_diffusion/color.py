"""Colour of a restored photo after that of a reference: generated detail, but no colour cast.

Diffusion models shift the colour of what they restore. Wavelet fix (DiffBIR): the fine detail of
the result on the coarse content of the reference. AdaIN fix (Huang and Belongie, 2017; OSEDiff):
each channel's mean and standard deviation over the photo become the reference's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5
_EPS = 1e-5


def wavelet_fix(image: Tensor, reference: Tensor, levels: int = LEVELS) -> Tensor:
    """image - low(image) + low(reference), low being what `levels` a-trous wavelets leave.

    Args:
        image: restored photos (B, C, H, W), float of any range.
        reference: of the same shape.
        levels: from 1; the low part has a spread of about 2^levels / sqrt(2) pixels.

    Returns:
        (B, C, H, W), not clamped.
    """
    return image + low_frequencies(reference - image, levels)  # low is linear


def low_frequencies(image: Tensor, levels: int = LEVELS) -> Tensor:
    """The image after `levels` blurs by (1 2 1) / 4 in both axes, dilated 1, 2, 4, ...

    Borders are replicated, so any size from 1x1 works and a constant stays as it is.
    """
    channels = image.shape[1]
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=image.dtype, device=image.device)
    across = taps.expand(channels, 1, 1, 3)
    for level in range(levels):
        reach = 2**level
        wide = F.pad(image, (reach, reach, 0, 0), mode="replicate")
        image = F.conv2d(wide, across, groups=channels, dilation=reach)
        high = F.pad(image, (0, 0, reach, reach), mode="replicate")
        image = F.conv2d(high, across.mT, groups=channels, dilation=reach)
    return image


def adain_fix(image: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of the image the mean and standard deviation of the reference's.

    Args:
        image: restored photos (B, C, H, W), float of any range.
        reference: (B, C, H', W').

    Returns:
        (B, C, H, W), not clamped.
    """
    (mean, std), (wanted_mean, wanted_std) = _moments(image), _moments(reference)
    return (image - mean) / std * wanted_std + wanted_mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(-2, -1), keepdim=True, correction=0)
    return mean, (variance + _EPS**2).sqrt()


COLOR_FIXES = {
    "wavelet": wavelet_fix,
    "adain": adain_fix,
    "none": lambda image, reference: image,
}
"""What to do about the colour, by its word: `(image, reference) -> image`."""
