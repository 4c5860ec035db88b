"""Shadow removal by a threshold in Lab, a classical method without training.

Murali and Govindan, "Shadow Detection and Removal from a Single Image Using LAB Color Space",
Cybernetics and Information Technologies 13(1), 2013. Dark pixels are shadow, and a shadow gets the
mean colour of the lit pixels beside it. The paper corrects each region by a factor of its own; here
all regions of a photo have the same factor per channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from torch import Tensor

BESIDE = 0.05  # of the long side: lit pixels within this distance of a shadow give its factor
DARK = 1 / 255  # smallest mean that a factor is computed with


def shadow_mask(photo: Tensor) -> Tensor:
    """1.0 in shadow and 0.0 elsewhere, (1, 1, H, W), without regions of single pixels.

    Args:
        photo: (1, 3, H, W), float in [0, 1].
    """
    lightness, a, b = rgb_to_lab(photo).split(1, dim=1)
    mask = lightness <= lightness.mean() - lightness.std() / 3
    if a.mean() + b.mean() > 0:  # 256 in the paper, whose a and b begin at 0
        mask &= b <= b.mean()
    filled = -F.max_pool2d(-F.max_pool2d(mask.float(), 3, 1, 1), 3, 1, 1)
    return F.max_pool2d(-F.max_pool2d(-filled, 3, 1, 1), 3, 1, 1)


def remove_shadows(photo: Tensor) -> Tensor:
    """The photo with lighter shadows, (1, 3, H, W); a photo without shadows stays as it is."""
    mask, reach = shadow_mask(photo), max(1, round(BESIDE * max(photo.shape[-2:])))
    beside = _grown(mask, reach) * (1 - mask)
    inside = _grown(1 - mask, reach) * mask
    if not beside.any() or not inside.any():
        return photo
    lit, dark = ((photo * part).sum((2, 3)) / part.sum() for part in (beside, inside))
    factor = (lit / dark.clamp_min(DARK)).clamp_min(1)[..., None, None]
    soft = F.avg_pool2d(F.pad(mask, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.lerp(photo, photo * factor, soft).clamp(0, 1)


def _grown(mask: Tensor, reach: int) -> Tensor:
    """The mask, enlarged by so many pixels in each direction."""
    rows = F.max_pool2d(mask, (2 * reach + 1, 1), 1, (reach, 0))
    return F.max_pool2d(rows, (1, 2 * reach + 1), 1, (0, reach))
