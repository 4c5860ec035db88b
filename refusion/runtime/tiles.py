"""Overlapping tiles whose outputs are blended, for networks on pixels: `tiling.blending`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np


def blend_tiles(
    network: Callable[..., np.ndarray], images: Sequence[np.ndarray], tile: int, align: int
) -> np.ndarray:
    """Run a network tile by tile and average its outputs with smooth weights.

    Args:
        network: crops of the images -> output of the size of a crop.
        images: (C, H, W) float32, all of one size.
        tile: side of the tiles in pixels, >= 1.
        align: tiles start at multiples of this number.

    Returns:
        Output (C', H, W).
    """
    height, width = images[0].shape[1:]
    if max(height, width) <= tile:
        return network(*images)
    side = max(align, tile // align * align)
    rows, columns = (tile_windows(length, side, align) for length in (height, width))
    out = None
    for (top, row_weights), (left, column_weights) in product(rows, columns):
        crop = ..., slice(top, top + len(row_weights)), slice(left, left + len(column_weights))
        part = network(*(image[crop] for image in images))
        if out is None:
            out = np.zeros((len(part), height, width), np.float32)
        out[crop] += part * (row_weights[:, None] * column_weights)
    return out


def tile_windows(length: int, tile: int, align: int) -> list[tuple[int, np.ndarray]]:
    """Start of each tile of an axis, and weights that add up to 1 at every pixel.

    Args:
        length: pixels of the axis.
        tile: length of a tile, a multiple of `align`; the last one can be longer.
        align: tiles start at multiples of this number.
    """
    last = (length - tile) // align * align
    if last <= 0:
        return [(0, np.ones(length, np.float32))]
    step = max(align, (tile - tile // 4) // align * align)
    starts = [*range(0, last, step), last]
    windows = [_trapezoid(length - last if start == last else tile, tile // 4) for start in starts]
    total = np.zeros(length)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + len(window)] += window
    return [
        (start, (window / total[start : start + len(window)]).astype(np.float32))
        for start, window in zip(starts, windows, strict=True)
    ]


def _trapezoid(length: int, ramp: int) -> np.ndarray:
    rise = np.arange(1.0, length + 1).clip(None, max(1, ramp))
    return np.minimum(rise, rise[::-1])
