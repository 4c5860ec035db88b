"""The colour filter of a sensor: each pixel measures one colour, the others are interpolated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Kernels of the four kinds of missing values: green at red and blue; red and blue at a green pixel
# with this colour in its row, and in its column; red at blue, and blue at red.
_BILINEAR = torch.tensor(
    [
        [[0, 1, 0], [1, 0, 1], [0, 1, 0]],
        [[0, 0, 0], [2, 0, 2], [0, 0, 0]],
        [[0, 2, 0], [0, 0, 0], [0, 2, 0]],
        [[1, 0, 1], [0, 0, 0], [1, 0, 1]],
    ]
).div(4)
_ROW = [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]]
_SHARP = torch.tensor(
    [
        [[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]],
        _ROW,
        torch.tensor(_ROW).T.tolist(),
        [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]],
    ]
).div(16)


def demosaiced(image: Tensor, red: tuple[int, int], *, sharp: bool) -> Tensor:
    """An image as a sensor with the Bayer filter gives it: one value per pixel, interpolated.

    Args:
        image: (3, H, W), any values.
        red: row and column of a red pixel, each 0 or 1.
        sharp: the linear filters of Malvar, He and Cutler (2004), which use the other colours, too;
            otherwise bilinear interpolation.

    Returns:
        (3, H, W); a linear function of the image.
    """
    rows = (torch.arange(image.shape[1]) % 2 == red[0])[:, None]
    columns = (torch.arange(image.shape[2]) % 2 == red[1])[None]
    is_red, is_blue = rows & columns, ~rows & ~columns
    measured = torch.where(is_red, image[0], torch.where(is_blue, image[2], image[1]))
    kernels = (_SHARP if sharp else _BILINEAR).to(image.dtype)[:, None]
    reach = kernels.shape[-1] // 2
    mode = "reflect" if min(measured.shape) > reach else "replicate"  # which shifts the colours
    padded = F.pad(measured[None, None], (reach,) * 4, mode=mode)
    cross, row, column, diagonal = F.conv2d(padded, kernels)[0]
    green = torch.where(is_red | is_blue, cross, measured)
    beside_red, beside_blue = torch.where(rows, row, column), torch.where(rows, column, row)
    of_red = torch.where(is_red, measured, torch.where(is_blue, diagonal, beside_red))
    of_blue = torch.where(is_blue, measured, torch.where(is_red, diagonal, beside_blue))
    return torch.stack([of_red, green, of_blue])
