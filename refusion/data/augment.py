"""Random crops, flips and rotations of training samples, equal for all images of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from refusion.images.cache import to_tensor
from refusion.randomness import uniform
from refusion.synthesis.scenes.frame import PhotoFrame

_ROTATIONS = ((False, False, False), (False, True, True), (True, True, False), (True, False, True))


@dataclass(frozen=True)
class FlipRotate:
    """One of the eight symmetries of a square: flips, then an optional transposition.

    Attributes:
        mirror: exchange left and right.
        flip: exchange top and bottom.
        transpose: afterwards exchange rows and columns.
    """

    mirror: bool = False
    flip: bool = False
    transpose: bool = False

    @classmethod
    def draw(cls, generator: Generator, *, flip: bool, rotate: bool) -> FlipRotate:
        """Draw a random symmetry.

        Args:
            generator: source of randomness.
            flip: exchange left and right in half of the draws.
            rotate: rotate by 0, 90, 180 or 270 degrees with equal probability; together with
                `flip`, all eight symmetries are equally likely.
        """
        # Always drawn, so that `flip` does not change later draws.
        is_mirrored = uniform(generator, 0, 1) < 0.5
        quarters = int(torch.randint(4, (), generator=generator)) if rotate else 0
        mirror, is_flipped, transpose = _ROTATIONS[quarters]
        return cls(mirror != (flip and is_mirrored), is_flipped, transpose)

    def image(self, image: Tensor) -> Tensor:
        """Apply the symmetry to an image (..., H, W); the result is (..., W, H) if transposed."""
        axes = [axis for axis, on in ((-1, self.mirror), (-2, self.flip)) if on]
        image = image.flip(axes) if axes else image
        return image.transpose(-1, -2).contiguous() if self.transpose else image

    def frame(self, frame: PhotoFrame) -> PhotoFrame:
        """Return the frame of the transformed crop, given the frame of the upright crop."""
        left, top, right, bottom = frame.box
        left, right = (right, left) if self.mirror else (left, right)
        top, bottom = (bottom, top) if self.flip else (top, bottom)
        return replace(frame, box=(left, top, right, bottom), transposed=self.transpose)


def aligned_crops(
    photos: Sequence[np.ndarray], sides: Sequence[int], generator: Generator
) -> list[Tensor]:
    """Cut square crops at the same random position from photos of the same scene.

    If the photos are memory maps, only the crops are read from disk.

    Args:
        photos: (H, W, 3) each, uint8 or uint16; their sizes have the ratios of `sides`.
        sides: side of the crop in each photo in pixels; the first divides all others.
        generator: source of randomness; all positions on the pixel grid of the first photo are
            equally likely.

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
