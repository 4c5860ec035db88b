"""Data beyond the borders of a photo, for a blur whose operator is periodic.

Blurred pixels near a border contain light from beyond it, up to half the kernel away. So the
restored photo gets a margin of that width, whose data are unknown. A periodic operator on photo and
margin is then exact for all known data: what it joins at opposite borders lies in the margin. The
unknown data are those of the linear estimate from the known ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.operators import LinearOperator

ROUNDS = 10  # the estimate and its data by turns; more change little
WEAK = 0.1  # the linear estimate hardly uses smaller singular values, which amplify noise


def continue_data(y: Tensor, operator: LinearOperator, margin: tuple[int, int]) -> Tensor:
    """Data of a photo and its margin, which agree with each other across all borders.

    The start is mirrored and cross-faded, so that it is periodic. By turns x is the linear estimate
    from all data, and the unknown data become H x. So x approaches the estimate from the known
    data.

    Args:
        y: data (B, C, H, W).
        operator: H for photos with their margin, (C, H + 2 rows, W + 2 columns); its data have the
            same shape. It keeps a constant photo as it is.
        margin: rows and columns of the margin at each border, less than H and W.

    Returns:
        (B, C, H + 2 rows, W + 2 columns), `y` in the middle.
    """
    rows, columns = margin
    height, width = y.shape[-2:]
    inner = (..., slice(rows, rows + height), slice(columns, columns + width))
    gray = y.mean(dim=(-2, -1), keepdim=True)  # the linear estimate is small where data are weak
    squares = operator.singulars.to(y).square()
    weight = squares / (squares + WEAK**2)
    data = _fade_ends(F.pad(y, (columns, columns, rows, rows), mode="reflect"), margin)
    for _ in range(ROUNDS):
        data = operator.data_from_spectrum(weight * operator.data_to_spectrum(data - gray)) + gray
        data[inner] = y
    return data


def _fade_ends(y: Tensor, margin: tuple[int, int]) -> Tensor:
    """`y` (B, C, H, W) whose margins fade into the mean of opposite borders, so it is periodic."""
    for axis, width in zip((-2, -1), margin, strict=True):
        share = torch.linspace(0.5, 1, width + 2)[1:-1].to(y)
        own = y.new_ones(y.shape[axis])
        own[:width], own[len(own) - width :] = share, share.flip(0)
        own = own[:, None] if axis == -2 else own
        y = own * y + (1 - own) * y.flip(axis)
    return y
