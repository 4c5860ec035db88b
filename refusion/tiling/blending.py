"""Blended tiles, for networks that work on pixels: the tiles are combined at every sampler step.

The network runs on overlapping tiles of the full-size state. Its outputs are averaged with smooth
weights before the sampler takes its step, so the results of the tiles stay consistent
("MultiDiffusion", Bar-Tal 2023). The noise field is generated for the whole photo, so overlapping
tiles have the same noise. The result is an approximation, because the channel attention averages
over a tile instead of the photo.

Two tilings exist. Networks that take any size get rectangles, as few and as large as the memory
allows, because large tiles have averages like those of the photo. Networks with a training size,
such as a Stable Diffusion, get squares of this size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.tile_grid import Span, overlap_of, tile_grid
from refusion.tiling.regions import TileProgress

Window = tuple[int, Tensor]
"""Start of a tile on one axis, and its weights (n,) float32."""


def tile_windows(length: int, tile: int, align: int) -> list[Window]:
    """Tiles of a fixed length on one axis, with weights that add up to 1 at every pixel.

    The weights are a symmetric, strictly positive trapezoid, divided by the sum over all tiles.

    Args:
        length: pixels of the axis.
        tile: length of a tile, a multiple of `align`; neighbours overlap by a quarter or more.
        align: stride of the network. Tiles start at its multiples, so the strided layers use the
            same pixel positions as on the whole photo. The last tile ends at the border and is up
            to align - 1 pixels longer than the others.

    Returns:
        The tiles, start >= 0; one tile if `length` <= `tile`.
    """
    last = (length - tile) // align * align
    if last <= 0:
        return [(0, torch.ones(length))]
    step = max(align, (tile - tile // 4) // align * align)
    starts = [*range(0, last, step), last]
    lengths = [length - last if start == last else tile for start in starts]
    return _windows(starts, lengths, tile // 4)


def grid_windows(
    height: int, width: int, tile: int, align: int
) -> tuple[list[Window], list[Window]]:
    """Rectangular tiles of a photo, of which the fewest pixels lie in more than one tile.

    All tiles have the same size and are spread evenly. Neighbours overlap by
    `refusion.tile_grid.OVERLAP` pixels, or by a quarter of `tile` if that is less, or by up to
    2 align - 1 pixels more.

    Args:
        height: rows of the photo.
        width: columns of the photo.
        tile: a tile has at most tile^2 pixels, and sides of at most 3/2 tile; a multiple of
            `align`.
        align: see `tile_windows`, but the last tile is up to align - 1 pixels shorter.

    Returns:
        Tiles of the rows and of the columns; the weights of each axis add up to 1 at every pixel.
    """
    overlap = overlap_of(tile)
    rows, columns = tile_grid(height, width, tile, align)
    return _span_windows(rows, overlap), _span_windows(columns, overlap)


def blend_tiles(
    network: Callable[[Tensor, Tensor], Tensor],
    xt: Tensor,
    mu: Tensor,
    tile: int,
    align: int,
    progress: TileProgress | None = None,
    *,
    is_square: bool = False,
) -> Tensor:
    """Run a network tile by tile on one state and blend its outputs.

    Args:
        network: `(xt, mu) -> output` on crops, all of the same shape.
        xt: state (B, C, H, W).
        mu: degraded image, the same shape.
        tile: side of the tiles in pixels, rounded down to a multiple of `align`, but at least
            `align`. Rectangles have at most as many pixels as a square of this side.
        align: stride of the network.
        progress: called as `(done, total)` after each tile; None for no report.
        is_square: cut squares (`tile_windows`), not rectangles (`grid_windows`).

    Returns:
        Output (B, C, H, W), dtype and device of `xt`.

    Raises:
        ConfigError: tile < 1.
    """
    if tile < 1:
        raise ConfigError(f"tile: expected a side of at least 1 pixel, got {tile}")
    height, width = xt.shape[-2:]
    if max(height, width) <= tile or (not is_square and height * width <= tile**2):
        out = network(xt, mu).to(xt)
        if progress is not None:
            progress(1, 1)
        return out
    side = max(align, tile // align * align)
    if is_square:
        rows, columns = (tile_windows(length, side, align) for length in (height, width))
    else:
        rows, columns = grid_windows(height, width, side, align)
    return _blend(network, (xt, mu), rows, columns, progress=progress)


def blend_scaled(
    network: Callable[..., Tensor],
    maps: Sequence[Tensor],
    tile: int,
    align: int,
    up: int = 1,
    down: int = 1,
) -> Tensor:
    """Run a network that changes the size of its maps by up / down, in square tiles, and blend.

    Args:
        network: crops of `maps` -> output, each side up / down times as long.
        maps: (B, C, H, W) each, all of one size; H and W are multiples of `down`.
        tile: side of the tiles in pixels of the maps, a multiple of `align`.
        align: tiles start at multiples of this number, which is a multiple of `down`.
        up: output pixels per `down` pixels of the maps and axis.
        down: see `up`.

    Returns:
        Output (B, C', H * up / down, W * up / down), dtype and device of the maps.
    """
    rows, columns = (
        tile_windows(side * up // down, tile * up // down, align * up // down)
        for side in maps[0].shape[-2:]
    )
    return _blend(network, maps, rows, columns, up, down)


def _blend(
    network: Callable[..., Tensor],
    maps: Sequence[Tensor],
    rows: Sequence[Window],
    columns: Sequence[Window],
    up: int = 1,
    down: int = 1,
    progress: TileProgress | None = None,
) -> Tensor:
    """Outputs of all tiles, whose windows are in pixels of the output, times their weights."""
    like, out = maps[0], None
    height, width = (side * up // down for side in like.shape[-2:])
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


def _span_windows(spans: Sequence[Span], ramp: int) -> list[Window]:
    return _windows([start for start, _ in spans], [end - start for start, end in spans], ramp)


def _windows(starts: Sequence[int], lengths: Sequence[int], ramp: int) -> list[Window]:
    """Trapezoids divided by their sum."""
    windows = [_trapezoid(length, ramp) for length in lengths]
    total = torch.zeros(starts[-1] + lengths[-1], dtype=torch.float64)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + len(window)] += window
    return [
        (start, (window / total[start : start + len(window)]).float())
        for start, window in zip(starts, windows, strict=True)
    ]


def _trapezoid(length: int, ramp: int) -> Tensor:
    """1, 2, ..., `ramp`, ..., `ramp`, ..., 2, 1 (float64)."""
    rise = torch.arange(1, length + 1, dtype=torch.float64).clamp(max=max(1, ramp))
    return torch.minimum(rise, rise.flip(0))
