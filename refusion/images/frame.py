"""Frames of one colour around a photo, as scans, films and galleries have them.

A model that judges a whole photo takes the black of a frame for a black of the scene: it then finds
no haze. So it gets the photo inside of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# A line of a frame: the mean and the largest difference to its colour, with those of JPEG.
_MEAN, _LARGEST = 2 / 255, 20 / 255
_OTHER = 20 / 255  # difference of a pixel of the photo to the colour of the frame
_SHARE = 0.85  # of the pixels of the first line of the photo, at least, that differ so much
_LOOSE = 0.5  # the same before the frame at the ends of this line is known
_STEP = 3  # lines in which the colour changes so much; a sky changes slowly
_EDGE = 16  # lines between both, which JPEG has changed: a block of its colours
_NESTED = 3  # frames in frames, as a black line inside of a white border
_LEAST = 32  # pixels of each side inside


@dataclass(frozen=True)
class Area:
    """A rectangle of a photo of any size.

    Attributes:
        rows: begin and end as shares of the height.
        columns: begin and end as shares of the width.
    """

    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)

    def of(self, photos: Any) -> Any:
        """A view of the part inside, of arrays or tensors (..., H, W)."""
        height, width = photos.shape[-2:]
        return photos[..., _pixels(self.rows, height), _pixels(self.columns, width)]


def _pixels(shares: tuple[float, float], side: int) -> slice:
    begin = min(round(shares[0] * side), side - 1)
    return slice(begin, max(round(shares[1] * side), begin + 1))


WHOLE = Area()


def inside_frame(photo: np.ndarray) -> Area:
    """The part of a photo inside of its frame; `WHOLE` if it has none.

    Each side counts alone, so the bars of a film are a frame. A side has a frame if its outer lines
    have one colour, and most pixels of the photo beside them have another one. So a white sky or a
    black background that goes over into the photo is no frame.

    Args:
        photo: (C, H, W), uint8, uint16, or float in [0, 1].
    """
    top, left, (bottom, right) = 0, 0, photo.shape[1:]
    for _ in range(_NESTED):
        part = photo[:, top:bottom, left:right]
        rows, columns = _inside(part)
        # A wall half in shade looks like a frame without a photo: frames around it still count.
        if min(rows[1] - rows[0], columns[1] - columns[0]) < _LEAST:
            break
        top, bottom = top + rows[0], top + rows[1]
        left, right = left + columns[0], left + columns[1]
        if photo[:, top:bottom, left:right].shape == part.shape:
            break
    height, width = photo.shape[1:]
    if (top, bottom, left, right) == (0, height, 0, width):
        return WHOLE
    return Area((top / height, bottom / height), (left / width, right / width))


def _inside(photo: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Begin and end of the rows and of the columns inside of the outer frame of a photo."""
    rows, columns = _rows(photo, _LOOSE), _rows(photo.swapaxes(1, 2), _LOOSE)
    if min(rows[1] - rows[0], columns[1] - columns[0]) < _LEAST:
        return rows, columns
    inner_rows = _rows(photo[:, :, columns[0] : columns[1]], _SHARE)
    return inner_rows, _rows(photo[:, rows[0] : rows[1]].swapaxes(1, 2), _SHARE)


def _rows(photo: np.ndarray, share: float) -> tuple[int, int]:
    """Begin and end of the rows inside of the frame above and below a photo (C, H, W)."""
    return _thickness(photo, share), photo.shape[1] - _thickness(photo[:, ::-1], share)


def _thickness(photo: np.ndarray, share: float) -> int:
    """Number of lines of the frame above a photo (C, H, W); 0 if it has none there."""
    height = photo.shape[1]
    colour = np.median(_line(photo, 0), axis=1, keepdims=True)

    def distance(row: int) -> np.ndarray:
        return np.abs(_line(photo, row) - colour)

    def is_frame(row: int) -> bool:
        found = distance(row)
        return found.mean() <= _MEAN and found.max() <= _LARGEST

    count = 0
    while count < height and is_frame(count):
        count += 1
    if count in (0, height):
        return 0
    for row in range(count, min(count + _EDGE, height)):
        step = np.abs(_line(photo, row) - _line(photo, max(0, row - _STEP)))
        if (np.minimum(distance(row), step).max(0) > _OTHER).mean() >= share:
            return row
    return 0


def _line(photo: np.ndarray, row: int) -> np.ndarray:
    """Values of a row, (C, W) float in [0, 1]."""
    line = photo[:, row]
    largest = np.iinfo(line.dtype).max if np.issubdtype(line.dtype, np.integer) else 1
    return line.astype(np.float32) / np.float32(largest)
