"""Where to look at a result at 100 %: the largest change, the brightest and the darkest part."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from refusion.tiling.regions import Region


def telling_crops(given: Tensor, result: Tensor, side: int) -> dict[str, Region]:
    """Squares of a photo that do not overlap, by the reason why they were chosen.

    Args:
        given: the degraded photo, (C, H, W), float in [0, 1].
        result: the restored photo, same shape.
        side: side of the squares in pixels. In a photo with a shorter side, they are rectangles
            whose short side is that of the photo.

    Returns:
        Up to three parts: "largest change", "brightest", "darkest"; none for a photo that fits
        into one. A photo without room for three has fewer.
    """
    height, width = result.shape[-2:]
    if max(height, width) <= side:
        return {}
    maps = {
        "largest change": (result - given).abs().mean(dim=0),
        "brightest": given.mean(dim=0),
        "darkest": -given.mean(dim=0),
    }
    size, found = (min(side, height), min(side, width)), {}
    for reason, values in maps.items():
        region = _best(values, size, list(found.values()))
        if region is not None:
            found[reason] = region
    return found


def _best(values: Tensor, size: tuple[int, int], taken: list[Region]) -> Region | None:
    """The square with the largest mean, in steps of an eighth of its side; None without room."""
    rows, columns = size
    stride = max(1, min(size) // 8)
    means = F.avg_pool2d(values[None, None], size, stride)[0, 0]
    for region in taken:
        top, left = (
            max(0, -(-(edge - side + 1) // stride))
            for edge, side in ((region.top, rows), (region.left, columns))
        )
        bottom, right = -(-region.bottom // stride), -(-region.right // stride)
        means[top:bottom, left:right] = -float("inf")
    best = means.argmax().item()
    row, column = divmod(int(best), means.shape[1])
    if means[row, column] == -float("inf"):
        return None
    top, left = row * stride, column * stride
    return Region(top, top + rows, left, left + columns)
