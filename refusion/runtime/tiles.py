"""Overlapping tiles whose outputs are blended, for networks on pixels: `tiling.blending`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

Window = tuple[int, np.ndarray]
"""Start of a tile on one axis, and its weights (n,) float32."""
OVERLAP = 64
"""Pixels that neighbouring tiles share, or a quarter of the side of a tile if that is less."""


def blend_tiles(
    network: Callable[..., np.ndarray], images: Sequence[np.ndarray], tile: int, align: int
) -> np.ndarray:
    """Run a network tile by tile and average its outputs with smooth weights.

    Args:
        network: crops of the images -> output of the size of a crop.
        images: (C, H, W) float32, all of one size.
        tile: tiles have at most as many pixels as a square of this side, >= 1.
        align: tiles start at multiples of this number.

    Returns:
        Output (C', H, W).
    """
    height, width = images[0].shape[1:]
    if height * width <= tile**2:
        return network(*images)
    out = None
    for window in product(*grid_windows(height, width, max(align, tile // align * align), align)):
        (top, row_weights), (left, column_weights) = window
        crop = ..., slice(top, top + len(row_weights)), slice(left, left + len(column_weights))
        part = network(*(image[crop] for image in images))
        if out is None:
            out = np.zeros((len(part), height, width), np.float32)
        out[crop] += part * (row_weights[:, None] * column_weights)
    return out


def grid_windows(
    height: int, width: int, tile: int, align: int
) -> tuple[list[Window], list[Window]]:
    """Tiles of the rows and of the columns; the weights of each axis add up to 1 at every pixel.

    Args:
        height: rows of the photo.
        width: columns of the photo.
        tile: a tile has at most tile^2 pixels; a multiple of `align`.
        align: tiles start at multiples of this number.
    """
    if height * width <= tile**2:
        return [(0, np.ones(height, np.float32))], [(0, np.ones(width, np.float32))]
    overlap, longest = min(tile // 4, OVERLAP), tile // align
    # From here on all lengths are multiples of `align`.
    shared = min(-(-overlap // align), longest - 1)
    high, wide = -(-height // align), -(-width // align)
    fewest, most = (
        _count(high, side, shared) for side in (longest * 3 // 2, max(longest * 2 // 3, shared + 1))
    )
    found = []
    for rows in range(fewest, most + 1):
        side = _side(high, rows, shared)
        if longest**2 // side > shared:
            columns = _count(wide, longest**2 // side, shared)
            pixels = rows * side * columns * _side(wide, columns, shared)
            found.append((pixels, rows * columns, rows, columns))
    _, _, rows, columns = min(found)
    return (
        _windows(height, rows, shared, align, overlap),
        _windows(width, columns, shared, align, overlap),
    )


def _count(length: int, longest: int, shared: int) -> int:
    """Fewest tiles of up to `longest` pixels that cover an axis and share `shared` pixels."""
    return 1 if length <= longest else 1 - (longest - length) // (longest - shared)


def _side(length: int, count: int, shared: int) -> int:
    """Shortest side of `count` tiles that cover an axis and share `shared` pixels."""
    return -(-(length + (count - 1) * shared) // count)


def _windows(length: int, count: int, shared: int, align: int, ramp: int) -> list[Window]:
    """`count` tiles of an axis, spread evenly; `length` and `ramp` in pixels."""
    cells = -(-length // align)
    side = _side(cells, count, shared)
    starts = [(cells - side) * number // max(1, count - 1) * align for number in range(count)]
    windows = [_trapezoid(min(side * align, length - start), ramp) for start in starts]
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
