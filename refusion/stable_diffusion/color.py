"""Correction of colour shifts in restored photos with a reference photo.

Diffusion models shift the colours of the photos that they restore. The wavelet fix (DiffBIR)
combines the fine detail of the result with the low frequencies of the reference. The AdaIN fix
(Huang and Belongie, 2017; OSEDiff) gives each channel the mean and standard deviation of the
reference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5
_EPS = 1e-5


def wavelet_fix(image: Tensor, reference: Tensor, levels: int = LEVELS) -> Tensor:
    """Replace the low frequencies: image - low(image) + low(reference), see `low_frequencies`.

    Args:
        image: restored photos (B, C, H, W), float of any range.
        reference: photos of the same shape.
        levels: number of blurs, from 1; their joint kernel has a standard deviation of about
            2^levels / sqrt(2) pixels.

    Returns:
        (B, C, H, W), not clamped.
    """
    return image + low_frequencies(reference - image, levels)  # low is linear


def low_frequencies(image: Tensor, levels: int = LEVELS) -> Tensor:
    """Low frequencies of an image: the residual of `levels` a-trous wavelet transforms.

    The image is blurred `levels` times with the kernel (1 2 1) / 4 along both axes, with dilations
    1, 2, 4, ... Borders are replicated, so any size from 1x1 works and a constant image does not
    change.

    Args:
        image: (B, C, H, W), float of any range.
        levels: number of blurs.

    Returns:
        (B, C, H, W).
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
    """Give each channel of the image the mean and standard deviation of the reference's channel.

    Args:
        image: restored photos (B, C, H, W), float of any range.
        reference: (B, C, H', W').

    Returns:
        (B, C, H, W), not clamped.
    """
    (mean, std), (target_mean, target_std) = _moments(image), _moments(reference)
    return (image - mean) / std * target_std + target_mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(-2, -1), keepdim=True, correction=0)
    return mean, (variance + _EPS**2).sqrt()


COLOR_FIXES = {
    "wavelet": wavelet_fix,
    "adain": adain_fix,
    "none": lambda image, reference: image,
}
"""Colour corrections by the value of `--color-fix`: `(image, reference) -> image`."""
