"""Convolution by the Fourier transform, plane by plane so that each fits the processor cache."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve an image with a kernel, with reflected borders (edge pixels are not repeated).

    Args:
        image: (C, H, W) float; the image may be smaller than the kernel.
        kernel: (k, l), both odd; its centre corresponds to no shift.

    Returns:
        (C, H, W), with an error of about 1e-6.
    """
    reach = [side // 2 for side in kernel.shape]
    height, width = image.shape[-2:]
    # Circular convolution makes `reach` pixels at each border invalid; they are cropped.
    size = [
        fourier_side(side + 2 * margin)
        for side, margin in zip(image.shape[-2:], reach, strict=True)
    ]
    result, spectrum = torch.empty_like(image), torch.fft.rfft2(kernel, size)
    for target, plane in zip(result, _reflected(image, reach, size), strict=True):
        full = torch.fft.irfft2(torch.fft.rfft2(plane).mul_(spectrum), size)
        top, left = 2 * reach[0], 2 * reach[1]
        target.copy_(full[top : top + height, left : left + width])
    return result


def plane_filter(kernel: Tensor, height: int, width: int) -> Callable[[Tensor], Tensor]:
    """A function that convolves planes of one size with a kernel, with zeros around each plane.

    Args:
        kernel: (k, k), k odd; its centre corresponds to no shift.
        height: height of the planes, at least 1.
        width: width of the planes, at least 1.

    Returns:
        Plane (height, width) float -> the convolved plane, with an error of about 1e-6.
    """
    reach = kernel.shape[-1] // 2
    if reach <= 1:  # a kernel of 3 x 3 takes less time than the transforms
        return functools.partial(_shifted_sum, weights=kernel.flip(0, 1).tolist())
    # What wraps around reaches only rows and columns that are cropped.
    size = [fourier_side(side + reach) for side in (height, width)]
    spectrum = torch.fft.rfft2(kernel, size)

    def convolved(plane: Tensor) -> Tensor:
        full = torch.fft.irfft2(torch.fft.rfft2(plane, size).mul_(spectrum), size)
        return full[reach : reach + height, reach : reach + width]

    return convolved


def _shifted_sum(plane: Tensor, weights: list[list[float]]) -> Tensor:
    """Convolution of a plane (h, w) as a sum of shifted copies, one for each weight."""
    (height, width), reach = plane.shape, len(weights) // 2
    padded, total = F.pad(plane, (reach, reach, reach, reach)), torch.zeros_like(plane)
    for row, line in enumerate(weights):
        for column, weight in enumerate(line):
            total.add_(padded[row : row + height, column : column + width], alpha=weight)
    return total


@functools.cache
def fourier_side(least: int) -> int:
    """Smallest multiple of 16, at least `least`, without prime factors above 7: fast transforms."""
    side = 16 * math.ceil(least / 16)
    rest = side
    for factor in (2, 3, 5, 7):
        while rest % factor == 0:
            rest //= factor
    return side if rest == 1 else fourier_side(side + 1)


def _reflected(image: Tensor, reach: Sequence[int], size: Sequence[int]) -> Tensor:
    """Extend (C, H, W) to (C, *size) by reflection, `reach` pixels of it at the top and left."""
    sides = image.shape[-2:]
    ends = [size[axis] - reach[axis] - sides[axis] for axis in (0, 1)]
    if all(max(reach[axis], ends[axis]) < sides[axis] for axis in (0, 1)):
        return F.pad(image[None], (reach[1], ends[1], reach[0], ends[0]), mode="reflect")[0]
    rows, columns = (_mirror(sides[axis], reach[axis], ends[axis]) for axis in (0, 1))
    return image[:, rows][:, :, columns]


def _mirror(count: int, before: int, after: int) -> Tensor:
    """Indices -before..count+after-1, reflected into 0..count-1."""
    period = max(2 * (count - 1), 1)
    index = torch.arange(-before, count + after) % period
    return torch.where(index < count, index, period - index)
