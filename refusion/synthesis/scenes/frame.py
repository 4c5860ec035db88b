"""Position of a crop in its photo, so that a scene effect is the same on the crop and the photo."""

from __future__ import annotations

from dataclasses import dataclass

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
        x, y = self._parts(size)
        height, width = self.thumbnail.shape[-2:]
        return y * (height / max(height, width)), x * (width / max(height, width))

    def crop(self, fields: Tensor, size: tuple[int, int]) -> Tensor:
        """Sample fields over the whole upright photo at the pixels of the crop, bilinear.

        Args:
            fields: (C, h, w), any resolution.
            size: (H, W) of the crop, after transposition.

        Returns:
            (C, H, W).
        """
        x, y = self._parts(size)
        grid = torch.stack([x * 2 - 1, y * 2 - 1], dim=-1)[None]
        return F.grid_sample(fields[None], grid, padding_mode="border", align_corners=False)[0]

    def _parts(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Column and row (H, W) of each pixel, relative to width and height of the photo."""
        left, top, right, bottom = self.box
        upright = (size[1], size[0]) if self.transposed else size
        rows, columns = photo_coordinates(*upright)
        x = (left + (right - left) * columns).expand(upright)
        y = (top + (bottom - top) * rows).expand(upright)
        return (x.T, y.T) if self.transposed else (x, y)
