"""Disparity maps from files and from the photos themselves: brighter is nearer, in any unit.

Blur is proportional to differences of disparity, so a map may have any scale and offset. A map of
relative inverse depth from a depth estimator is therefore valid too, and so is the map of a phone,
whose near and far depth in metres are not needed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from refusion.errors import ImageError
from refusion.images.depth_map import read_depth_map
from refusion.images.io import read_image
from refusion.images.samples import to_float

NEAR_SHARE = 0.9
"""Default plane of focus: the quantile of the disparities in a map."""

IN_FOCUS = 0.1  # defocus up to this part of the largest is in focus; middle of the training range
_GRID_SIZE = 256  # rows and columns that are used to compute the quantiles of a map
_OUTLIERS = 0.01  # part of the values that is ignored as outliers at each end
_WINDOW = 0.02  # size of the window around a focus point, relative to the sides of the map


def read_disparity(path: Path, *, zero_is_unknown: bool = False) -> Tensor:
    """Read a disparity map, (h, w) float32 in [0, 1], the mean of the channels.

    Args:
        path: an image file in 8 or 16 bits, of any size.
        zero_is_unknown: 0 means not measured, as in stereo data sets. Such a pixel gets the smaller
            (farther) value of the nearest known pixels to its left and right, because a region
            that only one of two cameras sees lies behind the object that hides it.

    Raises:
        ImageError: the file cannot be read, or all pixels are unknown.
    """
    disparity = to_float(read_image(path).samples).mean(0)
    if not zero_is_unknown:
        return disparity
    known = disparity > 0
    if not known.any():
        raise ImageError(
            f"{path}: all values are 0, which means unknown; give a map with values above 0"
        )
    filled = _fill_rows(disparity, known)
    empty = ~known.any(dim=1)  # whole rows
    return _fill_rows(filled.T, (~empty).expand(filled.shape[::-1])).T.contiguous()


def read_own_disparity(photo: Path) -> Tensor:
    """Read the disparity map that a photo has itself, as phones write it for portraits.

    Args:
        photo: a JPEG or HEIC photo, see `refusion.images.depth_map.read_depth_map`.

    Returns:
        (h, w) float32 in [0, 1], upright; larger is nearer.

    Raises:
        ImageError: the photo has no map, or it cannot be read.
    """
    disparity = read_depth_map(photo)
    if disparity is None:
        raise ImageError(
            f"{photo}: has no depth map of its own; give a map of it by --disparity FILE, or a "
            "folder of maps with the names of the photos"
        )
    return torch.from_numpy(disparity)


def defocus_of(disparity: Tensor, focus: tuple[float, float] | None = None) -> Tensor:
    """Compute the defocus of each pixel for a lens that is focused on a point of the photo.

    Args:
        disparity: (h, w), larger is nearer.
        focus: the point (x, y), relative to width and height, 0..1; None focuses on the 0.9
            quantile of the disparities, for example the front of a subject.

    Returns:
        (h, w) in [-1, 1]: blur radii relative to the largest; 0 in focus, negative in front of the
        plane of focus.

    Raises:
        ImageError: all pixels have the same disparity, so nothing is out of focus.
    """
    rows, columns = (max(1, side // _GRID_SIZE) for side in disparity.shape)
    grid = disparity[::rows, ::columns].flatten()
    quantiles = torch.tensor([_OUTLIERS, NEAR_SHARE, 1 - _OUTLIERS], device=grid.device)
    far, near, nearest = torch.quantile(grid, quantiles)
    plane = near if focus is None else _disparity_at(disparity, focus)
    largest = torch.maximum(plane - far, nearest - plane)
    if largest <= 0:
        raise ImageError("disparity: the map has one value only, so nothing is out of focus")
    defocus = ((plane - disparity) / largest).clamp(-1, 1)
    return defocus.sign() * (defocus.abs() - IN_FOCUS).clamp_min(0) / (1 - IN_FOCUS)


def _disparity_at(disparity: Tensor, focus: tuple[float, float]) -> Tensor:
    """Median disparity in a window around a point (x, y)."""
    parts = zip(disparity.shape, reversed(focus), strict=True)
    window = [
        slice(max(0, int((part - _WINDOW / 2) * side)), int((part + _WINDOW / 2) * side) + 1)
        for side, part in parts
    ]
    return disparity[window[0], window[1]].median()


def _fill_rows(values: Tensor, known: Tensor) -> Tensor:
    """Give unknown pixels the smaller of the nearest known values to the left and right."""
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
