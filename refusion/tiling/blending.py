"""Blended tiles, for networks that work on pixels: the tiles are combined at every sampler step.

The network runs on overlapping tiles of the full-size state. Its outputs are averaged with smooth
weights before the sampler takes its step, so the results of the tiles stay consistent
("MultiDiffusion", Bar-Tal 2023). The noise field is generated for the whole photo, so overlapping
tiles have the same noise. The result is an approximation, because the channel attention averages
over a tile instead of the photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.tiling.regions import TileProgress


def tile_windows(length: int, tile: int, align: int) -> list[tuple[int, Tensor]]:
    """Overlapping tiles of one axis, with weights that add up to 1 at every pixel.

    The weights are a symmetric, strictly positive trapezoid, divided by the sum over all tiles.

    Args:
        length: pixels of the axis.
        tile: length of a tile, a multiple of `align`; neighbours overlap by a quarter or more.
        align: stride of the network. Tiles start at its multiples, so the strided layers use the
            same pixel positions as on the whole photo. The last tile ends at the border and is up
            to align - 1 pixels longer than the others.

    Returns:
        (start, weights (n,) float32) per tile, start >= 0; one tile if `length` <= `tile`.
    """
    last = (length - tile) // align * align
    if last <= 0:
        return [(0, torch.ones(length))]
    step = max(align, (tile - tile // 4) // align * align)
    starts = [*range(0, last, step), last]
    windows = [_trapezoid(length - last if start == last else tile, tile // 4) for start in starts]
    total = torch.zeros(length, dtype=torch.float64)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + len(window)] += window
    return [
        (start, (window / total[start : start + len(window)]).float())
        for start, window in zip(starts, windows, strict=True)
    ]


def blend_tiles(
    network: Callable[[Tensor, Tensor], Tensor],
    xt: Tensor,
    mu: Tensor,
    tile: int,
    align: int,
    progress: TileProgress | None = None,
) -> Tensor:
    """Run a network tile by tile on one state and blend its outputs.

    Args:
        network: `(xt, mu) -> output` on crops, all of the same shape.
        xt: state (B, C, H, W).
        mu: degraded image, the same shape.
        tile: side of the tiles in pixels, rounded down to a multiple of `align`, but at least
            `align`.
        align: stride of the network.
        progress: called as `(done, total)` after each tile; None for no report.

    Returns:
        Output (B, C, H, W), dtype and device of `xt`.

    Raises:
        ConfigError: tile < 1.
    """
    if tile < 1:
        raise ConfigError(f"tile: expected a side of at least 1 pixel, got {tile}")
    height, width = xt.shape[-2:]
    if max(height, width) <= tile:
        out = network(xt, mu).to(xt)
        if progress is not None:
            progress(1, 1)
        return out
    side = max(align, tile // align * align)
    return blend_scaled(network, (xt, mu), side, align, progress=progress)


def blend_scaled(
    network: Callable[..., Tensor],
    maps: Sequence[Tensor],
    tile: int,
    align: int,
    up: int = 1,
    down: int = 1,
    progress: TileProgress | None = None,
) -> Tensor:
    """Run a network that changes the size of its maps by up / down, tile by tile, and blend.

    Args:
        network: crops of `maps` -> output, each side up / down times as long.
        maps: (B, C, H, W) each, all of one size; H and W are multiples of `down`.
        tile: side of the tiles in pixels of the maps, a multiple of `align`.
        align: tiles start at multiples of this number, which is a multiple of `down`.
        up: output pixels per `down` pixels of the maps and axis.
        down: see `up`.
        progress: called as `(done, total)` after each tile; None for no report.

    Returns:
        Output (B, C', H * up / down, W * up / down), dtype and device of the maps.
    """
    like = maps[0]
    height, width = (side * up // down for side in like.shape[-2:])
    rows, columns = (
        tile_windows(side, tile * up // down, align * up // down) for side in (height, width)
    )
    out = None
    tiles = list(product(rows, columns))
    for done, ((top, row_weights), (left, column_weights)) in enumerate(tiles, 1):
        bottom, right = top + len(row_weights), left + len(column_weights)
        crop = (
            ...,
            *(
                slice(start * down // up, end * down // up)
                for start, end in ((top, bottom), (left, right))
            ),
        )
        part = network(*(each[crop] for each in maps)).to(like)
        if out is None:
            out = like.new_zeros(*part.shape[:2], height, width)
        weights = (row_weights[:, None] * column_weights).to(like)
        out[..., top:bottom, left:right] += part * weights
        if progress is not None:
            progress(done, len(tiles))
    return out


def _trapezoid(length: int, ramp: int) -> Tensor:
    """1, 2, ..., `ramp`, ..., `ramp`, ..., 2, 1 (float64)."""
    rise = torch.arange(1, length + 1, dtype=torch.float64).clamp(max=max(1, ramp))
    return torch.minimum(rise, rise.flip(0))
