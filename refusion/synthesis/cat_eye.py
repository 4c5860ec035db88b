"""Cat-eye discs: towards the border of a photo the rim of the lens cuts the blur discs.

A point off the optical axis sees the aperture through the front rim of the lens, which appears
shifted against it (optical vignetting). So its disc is the intersection of two circles: the image
of the aperture, and that of the rim, shifted along the line to the axis. The shift grows linearly
with the distance from the axis. Behind the plane of focus the outer side of a disc is cut, in front
of it the inner side, because there the disc is upside down. All kernels have the same sum, as in
photos whose vignetting is corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.synthesis.fourier import plane_filter

Filter = Callable[[Tensor], Tensor]
_STEP = 2.0  # pixels by which the cut moves between two discs that are interpolated
_MAX_NODES = 33  # discs along a side


@dataclass(frozen=True)
class OpticalAxis:
    """Where the optical axis of a lens meets a picture, or lies outside it.

    Attributes:
        row: in pixels from the centre of the first row.
        column: in pixels from the centre of the first column.
        corner: distance in pixels from the axis to a corner of the whole photo, above 0.
    """

    row: float
    column: float
    corner: float

    @classmethod
    def centre(cls, height: int, width: int) -> OpticalAxis:
        """The axis of a whole photo.

        Args:
            height: in pixels.
            width: in pixels.
        """
        return cls((height - 1) / 2, (width - 1) / 2, math.hypot(height, width) / 2)

    def moved(self, rows: float, columns: float) -> OpticalAxis:
        """The axis in a picture that begins at other pixels.

        Args:
            rows: that are added before the first row; negative for rows that are cut off.
            columns: likewise.
        """
        return replace(self, row=self.row + rows, column=self.column + columns)

    def offset(self, row: float, column: float) -> tuple[float, float]:
        """Position (down, right) of a point from the axis, 1 at a corner and at most 1."""
        down, right = (row - self.row) / self.corner, (column - self.column) / self.corner
        length = max(1.0, math.hypot(down, right))
        return down / length, right / length


def varying_filter(
    disc_at: Callable[[float, float], Tensor],
    reach: int,
    shift: float,
    axis: OpticalAxis,
    size: tuple[int, int],
) -> Filter:
    """A function that spreads each point of a plane over a disc that depends on its place.

    The discs are exact for points at the nodes of a grid. Points between them have the bilinear
    interpolation of the four nearest discs. The result is divided by that for a plane of ones
    without end, so a constant plane stays constant.

    Args:
        disc_at: gives the kernel (2 reach + 1, 2 reach + 1) with sum 1 for a shift (down, right) in
            pixels.
        reach: number of pixels from the centre of a kernel to its border.
        shift: shift at a corner of the photo in pixels, away from the axis; negative for towards
            the axis.
        axis: the optical axis in the plane.
        size: height and width of the planes.

    Returns:
        Plane (height, width) float -> the blurred plane, with zeros outside the plane.
    """
    axis, step = axis.moved(reach, reach), _STEP * axis.corner / max(abs(shift), 1e-6)
    (rows, down), (columns, across) = (_nodes(side + 2 * reach, step) for side in size)
    parts = []
    for row, fade_rows in zip(rows, down, strict=True):
        for column, fade_columns in zip(columns, across, strict=True):
            kernel = disc_at(*(shift * part for part in axis.offset(row, column)))
            parts.append(_part(kernel, fade_rows[:, None] * fade_columns[None], reach))

    def spread(plane: Tensor) -> Tensor:
        total = torch.zeros_like(plane)
        for part in parts:
            part(plane, total)
        return total[reach : reach + size[0], reach : reach + size[1]]

    density = spread(torch.ones(len(down[0]), len(across[0])))
    return lambda plane: spread(F.pad(plane, (reach, reach, reach, reach))).div_(density)


def _nodes(side: int, step: float) -> tuple[list[float], Tensor]:
    """Positions of nodes along a side, at most `step` apart, and their weights (nodes, side)."""
    count = min(_MAX_NODES, 1 + math.ceil((side - 1) / step))
    places = torch.linspace(0, side - 1, count)
    if count == 1:
        return places.tolist(), torch.ones(1, side)
    gap = (side - 1) / (count - 1)
    distance = (torch.arange(side)[None] - places[:, None]).abs()
    return places.tolist(), (1 - distance / gap).clamp_min(0)


def _part(kernel: Tensor, window: Tensor, reach: int) -> Callable[[Tensor, Tensor], None]:
    """A function that adds the blurred points of a plane, weighted by a window, to a total."""
    sides = zip((_extent(window.amax(dim=1 - axis)) for axis in (0, 1)), window.shape, strict=True)
    rows, columns = (
        slice(max(0, part.start - reach), min(side, part.stop + reach)) for part, side in sides
    )
    weights = window[rows, columns]
    blurred = plane_filter(kernel, *weights.shape)

    def add(plane: Tensor, total: Tensor) -> None:
        total[rows, columns].add_(blurred(plane[rows, columns] * weights))

    return add


def _extent(weights: Tensor) -> slice:
    """Range of the weights above 0."""
    places = weights.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1)
