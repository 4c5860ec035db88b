"""Crops and turns of a training sample, alike for all its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from refusion.images.cache import to_tensor
from refusion.randomness import uniform
from refusion.synthesis.scenes.frame import PhotoFrame

_QUARTERS = ((False, False, False), (False, True, True), (True, True, False), (True, False, True))


@dataclass(frozen=True)
class FlipRotate:
    """One of the eight ways to lay a square on itself: flips first, then perhaps a transposition.

    Attributes:
        mirror: left and right are exchanged.
        flip: top and bottom are exchanged.
        transpose: then rows and columns are exchanged.
    """

    mirror: bool = False
    flip: bool = False
    transpose: bool = False

    @classmethod
    def draw(cls, generator: Generator, *, flip: bool, rotate: bool) -> FlipRotate:
        """Draw a turn.

        Args:
            generator: source of randomness.
            flip: left and right are exchanged in half of the draws.
            rotate: turned by 0, 1, 2 or 3 quarters, each equally often; with `flip`, all eight
                ways are equally likely.
        """
        is_mirrored = uniform(generator, 0, 1) < 0.5  # drawn always: `flip` changes nothing else
        quarters = int(torch.randint(4, (), generator=generator)) if rotate else 0
        mirror, upside_down, transpose = _QUARTERS[quarters]
        return cls(mirror != (flip and is_mirrored), upside_down, transpose)

    def image(self, image: Tensor) -> Tensor:
        """Turn an image (..., H, W); rows and columns may change places."""
        axes = [axis for axis, on in ((-1, self.mirror), (-2, self.flip)) if on]
        image = image.flip(axes) if axes else image
        return image.transpose(-1, -2).contiguous() if self.transpose else image

    def frame(self, frame: PhotoFrame) -> PhotoFrame:
        """Frame of the turned crop, from that of the upright one."""
        left, top, right, bottom = frame.box
        left, right = (right, left) if self.mirror else (left, right)
        top, bottom = (bottom, top) if self.flip else (top, bottom)
        return replace(frame, box=(left, top, right, bottom), transposed=self.transpose)


def aligned_crops(
    photos: Sequence[np.ndarray], sides: Sequence[int], generator: Generator
) -> list[Tensor]:
    """Squares of the same place in photos of the same scene; only they are read from a map.

    Args:
        photos: (H, W, 3) each, uint8 or uint16, in sizes that stand to each other as `sides`.
        sides: side of the square in each photo; the first divides all others.
        generator: source of the place, all places on the grid of the first equally likely.

    Returns:
        (3, side, side) float32 in [0, 1] each.
    """
    height, width = photos[0].shape[:2]
    top = int(torch.randint(height - sides[0] + 1, (), generator=generator))
    left = int(torch.randint(width - sides[0] + 1, (), generator=generator))
    crops = []
    for photo, side in zip(photos, sides, strict=True):
        row, column = top * side // sides[0], left * side // sides[0]
        crops.append(to_tensor(photo[row : row + side, column : column + side]))
    return crops
