"""Guided upsampling: transfer of a change from a small copy of a map to the map itself.

This is the fast guided filter (He and Sun 2015) with a guide of C channels. Around each pixel of
the small copy the change is fitted by an affine function of the channels of the copy. The
coefficients of these functions, not the change, are enlarged, and the functions are applied to the
large map. So edges come from the large map, and halos are not wider than these edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.images.samples import to_float

WINDOW = 9  # pixels of the small map: 81 samples for the 9 coefficients of a function of 8 channels
_BAND = 2**16  # pixels of the large map at a time on a CPU
_GPU_BAND = 2**20  # on a GPU: enough to use all its cores
SMOOTHNESS = 0.1  # ridge / variance of the guide: flatter windows get a nearly constant change


def guided_upsample(
    change: Tensor, guide: Tensor, target: Tensor, extent: tuple[float, float]
) -> Tensor:
    """The change of ``target`` that corresponds to ``change`` of ``guide``.

    Args:
        change: change of the small map, (B, C, h, w).
        guide: the small map before the change, (B, C, h, w).
        target: the large map, (B, C, H, W), float.
        extent: rows and columns of the small map that the whole target corresponds to. They differ
            slightly from (h, w) if the maps have different padding.

    Returns:
        (B, C, H, W).
    """
    out = torch.empty_like(target)
    for rows, band in guided_upsample_bands(change, guide, target, extent):
        out[..., rows, :] = band
    return out


def guided_upsample_bands(
    value: Tensor,
    guide: Tensor,
    target: Tensor,
    extent: tuple[float, float] | None = None,
    smooth: Tensor | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Guided upsampling of values of a small copy to the size of the large map, band by band.

    Args:
        value: values per pixel of the small copy, (B, V, h, w).
        guide: the small copy, (B, C, h, w).
        target: the large map, (B, C, H, W), float in [0, 1], or uint8 or uint16 over their full
            range.
        extent: see `guided_upsample`; None for (h, w).
        smooth: more values per pixel of the small copy, (B, S, h, w), which are interpolated
            without the guide.

    Yields:
        Rows of the large map as a slice, and the values for these rows, (B, V + S, rows, W)
        float32.
    """
    slope, offset = _affine_fit(guide, value)
    offset = offset if smooth is None else torch.cat([offset, smooth], dim=1)
    rows, columns = _positions(target, guide, extent or guide.shape[-2:])
    count = max(1, (_GPU_BAND if target.is_cuda else _BAND) // len(columns))
    # In bands, because the enlarged coefficients need more memory than the photo as floats.
    for top in range(0, len(rows), count):
        band = slice(top, min(top + count, len(rows)))
        grid = torch.meshgrid(rows[band], columns, indexing="ij")
        grid = torch.stack(grid[::-1], dim=-1).expand(len(target), -1, -1, -1)
        large = _enlarged(slope.flatten(1, 2), grid).unflatten(1, slope.shape[1:3])
        product = (large * to_float(target[..., band, :])[:, :, None]).sum(dim=1)
        values = _enlarged(offset, grid)
        values[:, : product.shape[1]] += product
        yield band, values


def _affine_fit(guide: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of value on guide in every window.

    Returns:
        Slope (B, C, V, h, w) and offset (B, V, h, w), averaged over the windows of each pixel.
    """
    mean_guide, mean_value = _box(guide), _box(value)
    variance = _products(guide, guide) - mean_guide[:, :, None] * mean_guide[:, None]
    covariance = _products(guide, value) - mean_guide[:, :, None] * mean_value[:, None]
    ridge = SMOOTHNESS * guide.var(dim=(1, 2, 3), unbiased=False) + 1e-8
    identity = torch.eye(guide.shape[1], device=guide.device)
    # (B, h, w, C, C): one small linear system per pixel.
    left = variance.permute(0, 3, 4, 1, 2) + ridge.view(-1, 1, 1, 1, 1) * identity
    slope = torch.linalg.solve(left, covariance.permute(0, 3, 4, 1, 2)).permute(0, 3, 4, 1, 2)
    offset = mean_value - (slope * mean_guide[:, :, None]).sum(dim=1)
    return _box(slope.flatten(1, 2)).unflatten(1, slope.shape[1:3]), _box(offset)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Window means of the products of each channel of a with each channel of b, (B, C, V, h, w)."""
    pairs = a[:, :, None] * b[:, None]
    return _box(pairs.flatten(1, 2)).unflatten(1, pairs.shape[1:3])


def _box(x: Tensor) -> Tensor:
    x = F.pad(x, [WINDOW // 2] * 4, mode="replicate")
    return F.avg_pool2d(x, WINDOW, stride=1)


def _positions(target: Tensor, guide: Tensor, extent: tuple[float, float]) -> list[Tensor]:
    """Positions of the target's rows and columns on the guide, as ``grid_sample`` needs them."""
    return [
        (torch.arange(large, device=target.device) + 0.5) * span / large / small * 2 - 1
        for large, small, span in zip(target.shape[-2:], guide.shape[-2:], extent, strict=True)
    ]


def _enlarged(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
