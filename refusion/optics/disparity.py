"""Disparity maps, measured, estimated or painted: brighter is nearer, in any unit.

Blur is proportional to differences of disparity, so neither the unit nor the zero of a map matters:
a map of inverse depth up to scale and shift, as depth estimators give, does as well.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from refusion.errors import ImageError
from refusion.images.io import read_image
from refusion.images.samples import to_float

NEAR_SHARE = 0.9
"""Part of a map that is farther than what is in focus unless a point is named."""

IN_FOCUS = 0.1  # depth of the zone in focus, in parts of the largest defocus; the training's middle
_FEW = 256  # rows and columns that a map's statistics are taken of
_STRAY = 0.01  # part of a map that may be wrong at either end
_SPOT = 0.02  # size of what a focus point means, in parts of the map's sides


def read_disparity(path: Path, *, zero_is_unknown: bool = False) -> Tensor:
    """Map of a file, (h, w) float32 in [0, 1], the mean of its channels.

    Args:
        path: an image file in 8 or 16 bits, of any size.
        zero_is_unknown: 0 says that nothing was measured, as in stereo data sets; such pixels get
            the value of the farther one of the nearest known ones to either side, for what one
            camera of two does not see lies behind what hides it.

    Raises:
        ImageError: it cannot be read, or all of it is unknown.
    """
    disparity = to_float(read_image(path).samples).mean(0)
    if not zero_is_unknown:
        return disparity
    known = disparity > 0
    if not known.any():
        raise ImageError(f"{path}: all is 0, which is unknown here; give a map with values")
    filled = _fill_rows(disparity, known)
    empty = ~known.any(dim=1)  # whole rows
    return _fill_rows(filled.T, (~empty).expand(filled.shape[::-1])).T.contiguous()


def defocus_of(disparity: Tensor, focus: tuple[float, float] | None = None) -> Tensor:
    """Where a lens focused on a point of the photo is out of focus, and how much.

    Args:
        disparity: (h, w), larger is nearer.
        focus: the point, (x, y) in parts 0..1 of the width and the height; None focuses on what
            only a tenth of the map is nearer than, such as the front of a subject.

    Returns:
        (h, w) in [-1, 1]: radii of the discs in parts of the largest, 0 in focus, negative before
        the plane of focus.

    Raises:
        ImageError: all has one disparity, so nothing is out of focus.
    """
    rows, columns = (max(1, side // _FEW) for side in disparity.shape)
    few = disparity[::rows, ::columns].flatten()
    marks = torch.tensor([_STRAY, NEAR_SHARE, 1 - _STRAY], device=few.device)
    far, near, nearest = torch.quantile(few, marks)
    plane = near if focus is None else _at(disparity, focus)
    largest = torch.maximum(plane - far, nearest - plane)
    if largest <= 0:
        raise ImageError("disparity: the map has one value only, so nothing is out of focus")
    defocus = ((plane - disparity) / largest).clamp(-1, 1)
    return defocus.sign() * (defocus.abs() - IN_FOCUS).clamp_min(0) / (1 - IN_FOCUS)


def _at(disparity: Tensor, focus: tuple[float, float]) -> Tensor:
    """Median around a point."""
    parts = zip(disparity.shape, reversed(focus), strict=True)
    spot = [
        slice(max(0, int((part - _SPOT / 2) * side)), int((part + _SPOT / 2) * side) + 1)
        for side, part in parts
    ]
    return disparity[spot[0], spot[1]].median()


def _fill_rows(values: Tensor, known: Tensor) -> Tensor:
    """Unknown pixels get the lower one of the nearest known values to the left and right."""
    last = values.shape[1] - 1
    numbers = torch.arange(last + 1).expand(values.shape)
    left = numbers.where(known, -1).cummax(dim=1).values
    right = last - (last - numbers).where(known, -1).flip(1).cummax(dim=1).values.flip(1)
    near = [
        values.gather(1, place.clamp(0, last)).where((place >= 0) & (place <= last), torch.inf)
        for place in (left, right)
    ]
    filled = torch.minimum(*near)
    return torch.where(known | filled.isinf(), values, filled)
