"""Overlapping tiles whose outputs are blended, for networks on pixels: `tiling.blending`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from refusion.tile_grid import Span, overlap_of, tile_grid

Window = tuple[int, np.ndarray]
"""Start of a tile on one axis, and its weights (n,) float32."""


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
    overlap = overlap_of(tile)
    rows, columns = tile_grid(height, width, tile, align)
    return _windows(rows, overlap), _windows(columns, overlap)


def _windows(spans: Sequence[Span], ramp: int) -> list[Window]:
    """Trapezoids divided by their sum."""
    windows = [_trapezoid(end - start, ramp) for start, end in spans]
    total = np.zeros(spans[-1][1])
    for (start, end), window in zip(spans, windows, strict=True):
        total[start:end] += window
    return [
        (start, (window / total[start:end]).astype(np.float32))
        for (start, end), window in zip(spans, windows, strict=True)
    ]


def _trapezoid(length: int, ramp: int) -> np.ndarray:
    rise = np.arange(1.0, length + 1).clip(None, max(1, ramp))
    return np.minimum(rise, rise[::-1])
