"""Position of a crop in its photo, so that a scene effect is the same on the crop and the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.synthesis.scenes.fields import photo_coordinates

GRID = 192  # long side of thumbnails in pixels; fields over a photo need no finer resolution


@dataclass(frozen=True)
class PhotoFrame:
    """Position and orientation of a crop in its photo.

    Attributes:
        thumbnail: (3, h, w) in [0, 1], the whole photo, upright, long side about `GRID`.
        box: (left, top, right, bottom) of the crop relative to the size of the photo, in [0, 1].
            left > right if the crop is mirrored, top > bottom if it is flipped vertically.
        transposed: whether rows and columns were swapped after cropping and flipping.
    """

    thumbnail: Tensor
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    transposed: bool = False

    @classmethod
    def whole(cls, photo: Tensor) -> PhotoFrame:
        """Frame of a whole, upright photo.

        Args:
            photo: (3, H, W) in [0, 1].
        """
        scale = min(1.0, GRID / max(photo.shape[-2:]))
        size = [max(8, round(side * scale)) for side in photo.shape[-2:]]
        return cls(F.interpolate(photo[None], size, mode="bilinear", antialias=True)[0])

    def coordinates(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Compute the position of each pixel of the crop in the upright photo.

        Args:
            size: (H, W) of the crop, after transposition.

        Returns:
            Row and column, each (H, W) float32, measured from the top left corner of the photo in
            units of its long side, so that both axes have the same unit.
        """
        y, x = self._axes(size)
        height, width = self.thumbnail.shape[-2:]
        rows = (y * (height / max(height, width)))[:, None].expand(len(y), len(x))
        columns = (x * (width / max(height, width)))[None].expand(len(y), len(x))
        return (rows.T, columns.T) if self.transposed else (rows, columns)

    def crop(self, fields: Tensor, size: tuple[int, int]) -> Tensor:
        """Sample fields over the whole upright photo at the pixels of the crop, bilinear.

        Args:
            fields: (C, h, w), any resolution.
            size: (H, W) of the crop, after transposition.

        Returns:
            (C, H, W).
        """
        y, x = self._axes(size)
        top, bottom, down = _neighbours(y, fields.shape[1])
        first, last = int(min(top[0], top[-1])), int(max(bottom[0], bottom[-1]))
        left, right, across = _neighbours(x, fields.shape[2])
        needed = fields[:, first : last + 1].numpy()
        ends = (torch.from_numpy(needed.take(at, 2, mode="clip")) for at in (left, right))
        rows = torch.lerp(*ends, across)
        ends = (rows.index_select(1, torch.from_numpy(at - first)) for at in (top, bottom))
        sampled = torch.lerp(*ends, down[:, None])
        return sampled.transpose(1, 2).contiguous() if self.transposed else sampled

    def _axes(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Position of each row and column of the upright crop, relative to height and width."""
        left, top, right, bottom = self.box
        rows, columns = photo_coordinates(*(reversed(size) if self.transposed else size))
        return top + (bottom - top) * rows[:, 0], left + (right - left) * columns[0]


def _neighbours(places: Tensor, side: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Pixels before and after places in [0, 1] along a side, and weights of the latter.

    Before the centre of the first pixel, and behind that of the last, their values are repeated.
    """
    places = (places * side - 0.5).clamp_(0, side - 1)
    before = places.floor()
    low = before.numpy().astype(np.intp)
    return low, (low + 1).clip(max=side - 1), places - before
