"""Structural similarity (Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13(4), 2004)."""

from __future__ import annotations

import functools

import kornia.metrics
from torch import Tensor

from refusion.metrics.metric import cropped_pair, mean_of_map

WINDOW_PX = 11


def ssim(image: Tensor, target: Tensor, *, crop_border: int = 0, channel: str = "rgb") -> Tensor:
    """Structural similarity of each image, with the settings of the paper.

    These are a Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, population
    covariance, and only windows inside the image. The value is that of scikit-image's
    `structural_similarity` with `gaussian_weights=True, use_sample_covariance=False, data_range=1`.
    The paper does not define SSIM for images with a side below 11 pixels; they get the largest odd
    window that fits.

    Args:
        image: float RGB, shape (B, 3, H, W), in [0, 1].
        target: the same shape.
        crop_border: pixels removed on every side, >= 0.
        channel: "rgb" for the mean over the channels; "y" for the BT.601 luma in studio range.

    Returns:
        Similarity in [-1, 1], shape (B,), float64 on the CPU; 1 for equal images.

    Raises:
        ImageError: the images cannot be compared (see `cropped_pair`).
        ConfigError: unknown `channel`.

    Two flat images differ in the luminance term only, here C1 / (1 + C1) with C1 = 1e-4:

    >>> import torch
    >>> black = torch.zeros(1, 3, 16, 16)
    >>> float(ssim(black + 1, black))  # doctest: +ELLIPSIS
    9.999...e-05
    """
    image, target = cropped_pair(image, target, crop_border)
    shorter = min(image.shape[-2:])
    window = min(WINDOW_PX, shorter - 1 + shorter % 2)
    # eps=0, because the constants C1 and C2 keep the denominator above C1 * C2 = 9e-8.
    pixel_map = functools.partial(
        kornia.metrics.ssim, window_size=window, max_val=1.0, eps=0.0, padding="valid"
    )
    return mean_of_map(pixel_map, image, target, channel=channel, overlap=window - 1)
