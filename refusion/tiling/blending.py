"""Blended tiles for networks that see pixels: every step of the sampler joins its tiles.

The network runs on overlapping tiles of the full-size state and their outputs are averaged under a
smooth window before the sampler steps, so tiles cannot drift apart ("MultiDiffusion", Bar-Tal
2023). Noise is drawn for the whole photo, so overlapping tiles see the same field. The channel
attention averages over a tile instead of the photo: an approximation, not an identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from refusion.errors import ConfigError


def tile_windows(length: int, tile: int, align: int) -> list[tuple[int, Tensor]]:
    """Overlapping tiles of one axis with weights that add up to 1 at every pixel.

    Before that normalisation the window is a symmetric, strictly positive trapezoid.

    Args:
        length: pixels of the axis.
        tile: length of a tile, a multiple of `align`; neighbours overlap by a quarter or more.
        align: tiles start at multiples of this, the network's stride, so that each sees its pixels
            in the phase in which the whole photo is seen. The last tile ends at the border and is
            up to align - 1 longer for it.

    Returns:
        (start, weights float32) per tile, start >= 0; one tile if `length` fits.
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
    count: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run a network tile by tile on one state and blend its outputs.

    Args:
        network: `(xt, mu) -> output` on crops, same shape.
        xt: state (B, C, H, W).
        mu: degraded image, same shape.
        tile: side of the tiles in pixels, rounded down to `align` but not below it.
        align: the network's stride.
        count: told `(done, total)` after each tile.

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
        if count is not None:
            count(1, 1)
        return out
    return blend_scaled(network, (xt, mu), max(align, tile // align * align), align, count=count)


def blend_scaled(
    network: Callable[..., Tensor],
    maps: Sequence[Tensor],
    tile: int,
    align: int,
    up: int = 1,
    down: int = 1,
    count: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run a network that changes the size of its maps by up / down, tile by tile, and blend.

    Args:
        network: crops of `maps` -> output, up / down times as long.
        maps: (B, C, H, W) each, sides multiples of `down`.
        tile: side of the tiles, in pixels of the maps, a multiple of `align`.
        align: tiles start at multiples of this, which `down` divides.
        up: output pixels per `down` pixels of the maps and axis.
        down: see `up`.
        count: told `(done, total)` after each tile.

    Returns:
        Output (B, C', H * up / down, W * up / down), dtype and device of the maps.
    """
    like = maps[0]
    height, width = (side * up // down for side in like.shape[-2:])
    rows, columns = (
        tile_windows(side, tile * up // down, align * up // down) for side in (height, width)
    )
    out = None
    places = list(product(rows, columns))
    for number, ((top, along), (left, across)) in enumerate(places, 1):
        seen = (
            ...,
            *(
                slice(start * down // up, (start + len(window)) * down // up)
                for start, window in ((top, along), (left, across))
            ),
        )
        made = network(*(each[seen] for each in maps)).to(like)
        if out is None:
            out = like.new_zeros(*made.shape[:2], height, width)
        weights = (along[:, None] * across).to(like)
        out[..., top : top + len(along), left : left + len(across)] += made * weights
        if count is not None:
            count(number, len(places))
    return out


def _trapezoid(length: int, ramp: int) -> Tensor:
    """1, 2, ..., `ramp`, ..., `ramp`, ..., 2, 1 (float64)."""
    rise = torch.arange(1, length + 1, dtype=torch.float64).clamp(max=max(1, ramp))
    return torch.minimum(rise, rise.flip(0))
