"""Carry a change made to a small copy of a map over to the map itself (fast guided filter).

Around each pixel of the small copy the change is written as an affine function of the copy's
channels; the functions, not the change, are enlarged and applied to the large map. So edges come
from the large map and no halo is wider than they are (He and Sun 2015, with a guide of C channels).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.images.samples import to_float

WINDOW = 9  # pixels of the small map; 81 samples for the 9 numbers of each function of 8 channels
_BAND = 2**16  # pixels of the large map at a time
SMOOTHNESS = 0.1  # of the guide's variance: what is flatter gets a constant change


def guided_upsample(
    change: Tensor, guide: Tensor, target: Tensor, extent: tuple[float, float]
) -> Tensor:
    """Change of ``target`` that does to it what ``change`` does to ``guide``.

    Args:
        change: (B, C, h, w), change made to the small map.
        guide: (B, C, h, w), the small map before the change.
        target: (B, C, H, W), the large map.
        extent: rows and columns of the small map that all rows and columns of the target span;
            not quite (h, w) where the maps are padded differently.

    Returns:
        (B, C, H, W).
    """
    out = torch.empty_like(target)
    for rows, band in guided_upsample_bands(change, guide, target, extent):
        out[..., rows, :] = band
    return out


def guided_upsample_bands(
    value: Tensor, guide: Tensor, target: Tensor, extent: tuple[float, float] | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """What belongs to the pixels of a small copy, for the pixels of the large map, band by band.

    Args:
        value: (B, V, h, w).
        guide: (B, C, h, w), the small copy.
        target: (B, C, H, W), the large map, float or uint8 or uint16 over their full range.
        extent: as in `guided_upsample`; None for all rows and columns of the small copy.

    Yields:
        Rows of the large map, and what belongs to them, (B, V, rows, W) float32.
    """
    slope, offset = _affine_fit(guide, value)
    rows, columns = _places(target, guide, extent or guide.shape[-2:])
    count = max(1, _BAND // len(columns))
    # Enlarged the functions take as much room as the photo's floats, so they are band by band.
    for top in range(0, len(rows), count):
        band = slice(top, min(top + count, len(rows)))
        grid = torch.meshgrid(rows[band], columns, indexing="ij")
        grid = torch.stack(grid[::-1], dim=-1).expand(len(target), -1, -1, -1)
        large = _enlarged(slope.flatten(1, 2), grid).unflatten(1, slope.shape[1:3])
        product = (large * to_float(target[..., band, :])[:, :, None]).sum(dim=1)
        yield band, product.add_(_enlarged(offset, grid))


def _affine_fit(guide: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of value on guide in every window: slope (B, C, C', h, w) and offset."""
    mean_guide, mean_value = _box(guide), _box(value)
    variance = _products(guide, guide) - mean_guide[:, :, None] * mean_guide[:, None]
    covariance = _products(guide, value) - mean_guide[:, :, None] * mean_value[:, None]
    ridge = SMOOTHNESS * guide.var(dim=(1, 2, 3), unbiased=False) + 1e-8
    identity = torch.eye(guide.shape[1], device=guide.device)
    # As (B, h, w, C, C): one small linear system per pixel.
    left = variance.permute(0, 3, 4, 1, 2) + ridge.view(-1, 1, 1, 1, 1) * identity
    slope = torch.linalg.solve(left, covariance.permute(0, 3, 4, 1, 2)).permute(0, 3, 4, 1, 2)
    offset = mean_value - (slope * mean_guide[:, :, None]).sum(dim=1)
    return _box(slope.flatten(1, 2)).unflatten(1, slope.shape[1:3]), _box(offset)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Window means of all products of a channel of a and one of b, (B, C, C', h, w)."""
    pairs = a[:, :, None] * b[:, None]
    return _box(pairs.flatten(1, 2)).unflatten(1, pairs.shape[1:3])


def _box(x: Tensor) -> Tensor:
    x = F.pad(x, [WINDOW // 2] * 4, mode="replicate")
    return F.avg_pool2d(x, WINDOW, stride=1)


def _places(target: Tensor, guide: Tensor, extent: tuple[float, float]) -> list[Tensor]:
    """Where the target's rows and columns lie on the guide, for ``grid_sample``."""
    return [
        (torch.arange(large, device=target.device) + 0.5) * span / large / small * 2 - 1
        for large, small, span in zip(target.shape[-2:], guide.shape[-2:], extent, strict=True)
    ]


def _enlarged(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
