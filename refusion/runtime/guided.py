"""The guided filter, and the transfer of values of a small copy to a photo: `tiling.guided`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refusion.runtime.resizing import window_means
from refusion.runtime.samples import store, to_float

_BAND = 2**17  # pixels of the photo at a time


def guided_bands(
    value: np.ndarray,
    copy: np.ndarray,
    photo: np.ndarray,
    window: int,
    smoothness: float,
    smooth: np.ndarray | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Values of a small copy at the size of the photo, with the edges of the photo, band by band.

    Args:
        value: values per pixel of the copy, (V, h, w).
        copy: the small copy, (C, h, w) float.
        photo: the photo, (C, H, W), integers or float.
        window: side of the windows of the fit in pixels of the copy, odd.
        smoothness: ridge of the fit relative to the variance of the copy.
        smooth: more values per pixel of the copy, (S, h, w), which are interpolated only.

    Yields:
        Rows of the photo as a slice, and the values of these rows, (V + S, rows, W).
    """
    slope, offset = _affine_fit(copy, value, window, smoothness)
    channels, count = slope.shape[:2]
    parts = [slope.reshape(-1, *slope.shape[2:]), offset]
    maps = np.concatenate(parts if smooth is None else [*parts, smooth]).astype(np.float32)
    height, width = photo.shape[1:]
    rows, columns = (
        _positions(large, small)
        for large, small in zip(photo.shape[1:], copy.shape[1:], strict=True)
    )
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        band = slice(top, min(top + step, height))
        large = _enlarged(maps, rows[band], columns)
        slopes = large[: channels * count].reshape(channels, count, *large.shape[1:])
        values, colours = large[channels * count :], to_float(photo[:, band])
        for channel in range(channels):
            values[:count] += slopes[channel] * colours[channel]
        yield band, values


def with_change(
    change: np.ndarray, copy: np.ndarray, photo: np.ndarray, window: int, smoothness: float
) -> np.ndarray:
    """The photo plus the change of its copy, band by band.

    Args:
        change: the change, (C, h, w) float.
        copy: see `guided_bands`.
        photo: see `guided_bands`.
        window: see `guided_bands`.
        smoothness: see `guided_bands`.

    Returns:
        Samples like `photo`.
    """
    out = np.empty_like(photo)
    for rows, band in guided_bands(change, copy, photo, window, smoothness):
        store(band + to_float(photo[:, rows]), out[:, rows])
    return out


def guided_filter(
    value: np.ndarray, guide: np.ndarray, window: int, smoothness: float
) -> np.ndarray:
    """Values (V, h, w) smoothed between the edges of a guide (C, h, w) of the same size.

    It is `refusion.tiling.guided.guided_filter` without PyTorch; a test compares both.

    Args:
        value: values per pixel.
        guide: the image.
        window: side of the windows in pixels, odd.
        smoothness: ridge relative to the variance of the guide.
    """
    slope, offset = _affine_fit(guide, value, window, smoothness)
    return (slope * guide[:, None]).sum(0) + offset


def _affine_fit(
    guide: np.ndarray, value: np.ndarray, window: int, smoothness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Slope (C, V, h, w) and offset (V, h, w) of the ridge regression of value on guide."""

    def mean(x: np.ndarray) -> np.ndarray:
        return window_means(x, window, edge=True)

    mean_guide, mean_value = mean(guide), mean(value)
    variance = mean(guide[:, None] * guide) - mean_guide[:, None] * mean_guide
    covariance = mean(guide[:, None] * value) - mean_guide[:, None] * mean_value
    ridge = smoothness * guide.var() + 1e-8
    left = variance.transpose(2, 3, 0, 1) + ridge * np.eye(len(guide))
    slope = np.linalg.solve(left, covariance.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
    offset = mean_value - (slope * mean_guide[:, None]).sum(0)
    return mean(slope), mean(offset)


def _positions(large: int, small: int) -> np.ndarray:
    """Positions of the rows or columns of the photo between those of the copy, from 0."""
    return ((np.arange(large) + 0.5) * small / large - 0.5).clip(0, small - 1)


def _enlarged(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Linear values of (C, h, w) at ascending positions: first columns, on few rows, then rows."""
    first, last = int(rows[0]), min(int(rows[-1]) + 1, x.shape[1] - 1)
    return _at(_at(x[:, first : last + 1], columns, 2), rows - first, 1)


def _at(x: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Linear values along an axis of (C, h, w), contiguous in memory."""
    low = positions.astype(int)
    share = (positions - low).astype(np.float32)
    start, values = x.take(low, axis), x.take(np.minimum(low + 1, x.shape[axis] - 1), axis)
    values -= start
    values *= share if axis == 2 else share[:, None]
    values += start
    return values
