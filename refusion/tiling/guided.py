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
_BAND = 2**17  # pixels of the large map at a time on a CPU
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
    slope, offset = _affine_fit(guide, value, WINDOW, SMOOTHNESS)
    channels, count = slope.shape[1:3]
    parts = (
        [slope.flatten(1, 2), offset] if smooth is None else [slope.flatten(1, 2), offset, smooth]
    )
    coefficients = torch.cat(parts, dim=1)
    height, width = target.shape[-2:]
    span = extent or guide.shape[-2:]
    rows = _positions(height, span[0], guide.shape[-2])
    columns = _positions(width, span[1], guide.shape[-1]).to(target.device)
    step = max(1, (_GPU_BAND if target.is_cuda else _BAND) // width)
    # In bands, because the enlarged coefficients need more memory than the photo as floats.
    for top in range(0, height, step):
        band = slice(top, min(top + step, height))
        large = _enlarged(coefficients, rows[band], columns)
        slopes = large[:, : channels * count].unflatten(1, (channels, count))
        values, photo = large[:, channels * count :], to_float(target[..., band, :])
        for channel in range(channels):
            values[:, :count].addcmul_(slopes[:, channel], photo[:, channel, None])
        yield band, values


def guided_filter(value: Tensor, guide: Tensor, window: int, smoothness: float) -> Tensor:
    """The guided filter (He, Sun and Tang 2013): smooths values, but keeps the edges of the guide.

    It is for learned values, with a guide of any number of channels. The edge of the photo is
    repeated, and the ridge is relative to the variance of the guide. The priors against haze
    (`restorers.haze_prior`) and the synthetic scenes (`synthesis.scenes.windows`) have filters of
    their own for a gray guide: their borders and ridges are others, and their results are recorded.

    Args:
        value: values per pixel, (B, V, h, w).
        guide: image of the same size, (B, C, h, w).
        window: side of the windows in pixels, odd.
        smoothness: ridge relative to the variance of the guide; larger values smooth edges, too.

    Returns:
        (B, V, h, w).
    """
    slope, offset = _affine_fit(guide, value, window, smoothness)
    return (slope * guide[:, :, None]).sum(dim=1) + offset


def _affine_fit(
    guide: Tensor, value: Tensor, window: int, smoothness: float
) -> tuple[Tensor, Tensor]:
    """Ridge regression of value on guide in every window.

    Returns:
        Slope (B, C, V, h, w) and offset (B, V, h, w), averaged over the windows of each pixel.
    """
    mean_guide, mean_value = _box(guide, window), _box(value, window)
    variance = _products(guide, guide, window) - mean_guide[:, :, None] * mean_guide[:, None]
    covariance = _products(guide, value, window) - mean_guide[:, :, None] * mean_value[:, None]
    ridge = smoothness * guide.var(dim=(1, 2, 3), unbiased=False) + 1e-8
    identity = torch.eye(guide.shape[1], device=guide.device)
    # (B, h, w, C, C): one small linear system per pixel.
    left = variance.permute(0, 3, 4, 1, 2) + ridge.view(-1, 1, 1, 1, 1) * identity
    slope = torch.linalg.solve(left, covariance.permute(0, 3, 4, 1, 2)).permute(0, 3, 4, 1, 2)
    offset = mean_value - (slope * mean_guide[:, :, None]).sum(dim=1)
    slopes = _box(slope.flatten(1, 2), window).unflatten(1, slope.shape[1:3])
    return slopes, _box(offset, window)


def _products(a: Tensor, b: Tensor, window: int) -> Tensor:
    """Window means of the products of each channel of a with each channel of b, (B, C, V, h, w)."""
    pairs = a[:, :, None] * b[:, None]
    return _box(pairs.flatten(1, 2), window).unflatten(1, pairs.shape[1:3])


def _box(x: Tensor, window: int) -> Tensor:
    x = F.pad(x, [window // 2] * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(x, (window, 1), stride=1), (1, window), stride=1)


def _positions(large: int, span: float, small: int) -> Tensor:
    """Positions of the rows or columns of the large map between those of the small map, from 0."""
    position = (torch.arange(large) + 0.5) * span / large - 0.5
    return position.clamp_(0, small - 1)


def _enlarged(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values at positions: columns first, on the few rows of the small map, then rows.

    Args:
        x: small maps, (B, C, h, w).
        rows: ascending positions of the rows, on the CPU.
        columns: positions of the columns.

    Returns:
        (B, C, rows, columns).
    """
    first, last = int(rows[0]), min(int(rows[-1]) + 1, x.shape[-2] - 1)
    wide = _stretched(x[..., first : last + 1, :], columns)
    out = x.new_empty(*x.shape[:2], len(rows), len(columns))
    upper, shares = rows.long() - first, (rows % 1).to(x.device)
    start = 0
    # All rows between two rows of the small map at once.
    for row, count in zip(*upper.unique_consecutive(return_counts=True), strict=True):
        part = slice(start, start := start + int(count))
        above, below = (wide[..., min(int(row) + k, last - first), None, :] for k in (0, 1))
        torch.lerp(above, below, shares[part, None], out=out[..., part, :])
    return out


def _stretched(x: Tensor, columns: Tensor) -> Tensor:
    """Linear values at positions of columns, for every row of (B, C, h, w)."""
    rows = torch.arange(x.shape[-2], device=x.device)
    scaled = ((at + 0.5) * 2 / side - 1 for at, side in ((rows, len(rows)), (columns, x.shape[-1])))
    grid = torch.stack(torch.meshgrid(*scaled, indexing="ij")[::-1], dim=-1)
    grid = grid.expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
