"""Peak signal-to-noise ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from refusion.metrics.metric import cropped_pair, mean_of_map


def psnr(image: Tensor, target: Tensor, *, crop_border: int = 0, channel: str = "rgb") -> Tensor:
    """Peak signal-to-noise ratio of each image, -10 log10(MSE) for the peak value 1, in dB.

    The values are not rounded here. Published numbers are often computed on images of 8 bits; round
    before the call to reproduce them.

    Args:
        image: float RGB, shape (B, 3, H, W), in [0, 1].
        target: the same shape.
        crop_border: pixels removed on every side, >= 0.
        channel: "rgb" for the mean error over all channels; "y" for the error of the BT.601 luma in
            studio range.

    Returns:
        Decibels, shape (B,), float64 on the CPU; inf for equal images.

    Raises:
        ImageError: the images cannot be compared (see `cropped_pair`).
        ConfigError: unknown `channel`.

    >>> black = torch.zeros(1, 3, 8, 8)
    >>> psnr(black + 0.5, black)
    tensor([6.0206], dtype=torch.float64)
    >>> psnr(black, black)
    tensor([inf], dtype=torch.float64)
    """
    image, target = cropped_pair(image, target, crop_border)
    squared_error = mean_of_map(lambda a, b: (a - b).square(), image, target, channel=channel)
    return -10 * torch.log10(squared_error)
