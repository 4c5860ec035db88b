"""The dark channel: how bright a photo is where it is darkest nearby.

Nearly every small part of a clear photo holds something dark in some colour; haze lifts it. So the
dark channel tells how much haze there is (He, Sun & Tang, "Single Image Haze Removal Using Dark
Channel Prior", CVPR 2009), which convolutions, that average, learn slowly.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dark_channel(image: Tensor, window: int) -> Tensor:
    """Least value of any channel within the window around each pixel; equation 5.

    Args:
        image: (B, C, H, W), floating.
        window: side of the square in pixels, odd; at the borders what lies inside the image counts.

    Returns:
        (B, 1, H, W) of the same dtype.
    """
    least = -image.amin(dim=1, keepdim=True)
    for kernel in ((window, 1), (1, window)):
        padding = tuple(side // 2 for side in kernel)
        least = F.max_pool2d(least, kernel, stride=1, padding=padding)
    return -least
