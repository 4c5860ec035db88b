"""Resizing of arrays (C, H, W) along each axis by small matrices; the formulas are PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refusion.runtime.samples import ROWS, to_float

_GROUP = 16  # output pixels that are computed from one range of input pixels
_CUBIC = -0.5  # parameter of Keys' kernel, of all filters with antialiasing


def shrink(samples: np.ndarray, side: int) -> np.ndarray:
    """A copy whose longer side is `side`, by a bicubic filter with antialiasing.

    Args:
        samples: photo (C, H, W), integers or float; its longer side is above `side`.
        side: pixels.

    Returns:
        (C, h, w) float32 in [0, 1].
    """
    height, width = samples.shape[1:]
    scale = side / max(height, width)
    rows, columns = (max(1, round(length * scale)) for length in (height, width))
    narrow = np.empty((len(samples), height, columns), np.float32)
    for top in range(0, height, ROWS):  # in bands, because the photo as floats is large
        band = slice(top, top + ROWS)
        narrow[:, band] = _filtered(to_float(samples[:, band]), columns)
    return _filtered(narrow.swapaxes(1, 2), rows).swapaxes(1, 2).clip(0, 1)


def _filtered(x: np.ndarray, length: int) -> np.ndarray:
    """The last axis of `x` (..., n) reduced to `length`."""
    out = np.empty((*x.shape[:-1], length), np.float32)
    for group, source, weights in _filter_groups(x.shape[-1], length):
        out[..., group] = x[..., source] @ weights
    return out


def _filter_groups(size: int, length: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Output pixels, the input pixels that they depend on, and the weights (inputs, outputs)."""
    scale = size / length
    support = 2 * max(scale, 1.0)
    centres = scale * (np.arange(length) + 0.5)
    firsts = np.maximum((centres - support + 0.5).astype(int), 0)
    ends = np.minimum((centres + support + 0.5).astype(int), size)
    for start in range(0, length, _GROUP):
        group = slice(start, min(start + _GROUP, length))
        source = slice(firsts[group][0], ends[group][-1])
        place = np.arange(source.start, source.stop)[:, None]
        weights = _cubic((place - centres[group] + 0.5) / max(scale, 1.0))
        weights *= (place >= firsts[group]) & (place < ends[group])
        yield group, source, (weights / weights.sum(0)).astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    x, a = np.abs(x), _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def mean_cells(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Means over cells, as adaptive average pooling.

    Args:
        x: (C, H, W).
        size: rows and columns of the result.
    """
    rows, columns = (_cells(length, n) for length, n in zip(x.shape[1:], size, strict=True))
    return rows @ x @ columns.T


def _cells(length: int, count: int) -> np.ndarray:
    number, place = np.arange(count)[:, None], np.arange(length)
    first, end = number * length // count, -(-(number + 1) * length // count)
    return (((place >= first) & (place < end)) / (end - first)).astype(np.float32)


def mean_pairs(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; at an odd end, of the pixels that are there."""
    for axis in (-1, -2):
        x = x.swapaxes(axis, -1)
        both = x[..., : x.shape[-1] // 2 * 2]
        x = np.concatenate([(both[..., ::2] + both[..., 1::2]) / 2, x[..., both.shape[-1] :]], -1)
        x = x.swapaxes(axis, -1)
    return x


def enlarge(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation.

    Args:
        x: (C, H, W).
        size: rows and columns of the result.
    """
    rows, columns = (_linear(length, n) for length, n in zip(x.shape[1:], size, strict=True))
    return rows @ x @ columns.T


def _linear(length: int, count: int) -> np.ndarray:
    position = ((np.arange(count) + 0.5) * length / count - 0.5).clip(0, None)
    low = position.astype(int).clip(0, length - 1)
    high, share = np.minimum(low + 1, length - 1), position - low
    matrix = np.zeros((count, length), np.float32)
    np.add.at(matrix, (np.arange(count), low), 1 - share)
    np.add.at(matrix, (np.arange(count), high), share)
    return matrix


def window_means(x: np.ndarray, window: int, *, edge: bool) -> np.ndarray:
    """Means over squares around each pixel.

    Args:
        x: (..., H, W).
        window: side of the squares in pixels, odd.
        edge: whether pixels beyond the border are those of the border; otherwise the squares end
            at the border.

    Returns:
        The shape of `x`, float32.
    """
    for axis in (-1, -2):
        x = _axis_means(x.swapaxes(axis, -1), window, edge=edge).swapaxes(axis, -1)
    return x.astype(np.float32)


def _axis_means(x: np.ndarray, window: int, *, edge: bool) -> np.ndarray:
    radius, length = window // 2, x.shape[-1]
    if edge:
        x = np.concatenate([x[..., :1].repeat(radius, -1), x, x[..., -1:].repeat(radius, -1)], -1)
    total = np.zeros((*x.shape[:-1], x.shape[-1] + 1))
    np.cumsum(x, axis=-1, dtype=np.float64, out=total[..., 1:])
    if edge:
        return (total[..., window:] - total[..., :-window]) / window
    first = np.maximum(np.arange(length) - radius, 0)
    end = np.minimum(np.arange(length) + radius + 1, length)
    return (total[..., end] - total[..., first]) / (end - first)


def window_maxima(x: np.ndarray) -> np.ndarray:
    """Largest value in the 3 x 3 pixels around each pixel of (..., H, W)."""
    for axis in (-1, -2):
        x = x.swapaxes(axis, -1)
        wide = np.concatenate([x[..., :1], x, x[..., -1:]], -1)
        x = np.maximum(np.maximum(wide[..., :-2], wide[..., 1:-1]), wide[..., 2:])
        x = x.swapaxes(axis, -1)
    return x
