"""The dark channel: the smallest value of any channel in a window around each pixel.

Nearly every small region of a clear photo contains a value close to 0 in some channel. Haze raises
these values. So the dark channel measures the amount of haze (He, Sun & Tang, "Single Image Haze
Removal Using Dark Channel Prior", CVPR 2009). Networks receive it as an input, because convolutions
learn such a minimum slowly.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dark_channel(image: Tensor, window: int) -> Tensor:
    """Minimum over all channels and over a square window around each pixel; equation 5.

    Args:
        image: (B, C, H, W), floating point.
        window: side of the square in pixels, odd. At the borders only the part of the window inside
            the image is used.

    Returns:
        (B, 1, H, W) of the same dtype.
    """
    negative = -image.amin(dim=1, keepdim=True)  # -min(x) = max(-x)
    for kernel in ((window, 1), (1, window)):
        padding = tuple(side // 2 for side in kernel)
        negative = F.max_pool2d(negative, kernel, stride=1, padding=padding)
    return -negative
