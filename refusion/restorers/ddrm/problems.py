"""Degradations that DDRM can undo: each has a name and a linear operator for a photo size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.operators import (
    BicubicDownsample,
    BlockMean,
    CircularBlur,
    Colorization,
    Identity,
    Inpainting,
    LinearOperator,
    SeparableBlur,
    WalshHadamard,
    gaussian,
)

logger = logging.getLogger(__name__)

CS_SHARE = 0.25  # share of the Walsh-Hadamard coefficients that compressive sensing measures
CS_SEED = 0  # seed of its pixel permutation; constant, because the permutation defines the operator
MARGIN_FLOOR = 0.03  # smaller singular values amplify the errors of guessed data
BORDERS = ("unknown", "mirrored", "periodic")

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


@dataclass(frozen=True)
class Problem:
    """A known linear degradation of photos.

    Attributes:
        task: name of the degradation.
        operator: function from the shape (3, H, W) of the restored photo to the operator H of
            y = H x + noise.
        scale: pixels of the restored photo per pixel of the degraded photo, per axis.
        colours: whether a gray photo becomes a colour photo.
        margin: rows and columns beyond each border of the restored photo that the data depend on.
            `operator` then gets the shape with both margins, see `continue_data`; only for scale 1.
    """

    task: str
    operator: Callable[[Shape], LinearOperator]
    scale: int = 1
    colours: bool = False
    margin: tuple[int, int] = (0, 0)

    @property
    def floor(self) -> float:
        """Default of `DDRMSettings.floor`: above 0 where data in a margin are guessed."""
        return MARGIN_FLOOR if any(self.margin) else 0.0


def denoise(task: str = "denoise") -> Problem:
    """Noise without another degradation.

    Args:
        task: name of the problem.
    """
    return Problem(task, Identity)


def super_resolution(factor: int, kind: str = "bicubic") -> Problem:
    """A photo that was reduced in size.

    Args:
        factor: how many times smaller each side became, 1..16.
        kind: method of the reduction: 'bicubic' (anti-aliased, as in Pillow), or 'mean' for the
            mean of each block of factor x factor pixels.

    Raises:
        ConfigError: an unknown kind, or a factor out of range.
    """
    kinds = {"bicubic": BicubicDownsample, "mean": BlockMean}
    if kind not in kinds or not 1 <= factor <= 16:
        raise ConfigError(
            f"super-resolution: expected 'bicubic' or 'mean' and a factor of 1 to 16, got {kind!r} "
            f"and {factor}"
        )
    return Problem(f"sr{factor}", lambda shape: kinds[kind](shape, factor), factor)


def inpaint(kept: Tensor) -> Problem:
    """A photo with missing pixels.

    Args:
        kept: mask, bool (H, W), True where the pixels are known.

    The operator raises `ConfigError` if the photo and the mask differ in size.
    """

    def operator(shape: Shape) -> LinearOperator:
        if tuple(kept.shape) != shape[1:]:
            raise ConfigError(
                f"mask: expected the photo's size, {shape[2]}x{shape[1]}, got "
                f"{kept.shape[1]}x{kept.shape[0]} pixels"
            )
        return Inpainting(shape, kept)

    return Problem("inpaint", operator)


def colorize() -> Problem:
    """A gray photo, which is the mean of the three channels of the colour photo."""
    return Problem("colorize", Colorization, colours=True)


def deblur(kernel: Tensor, border: str = "unknown") -> Problem:
    """A blurred photo.

    Args:
        kernel: (k,) for the same blur along rows and columns, or any kernel (k, l), odd sides.
        border: how the photo continues beyond its borders: 'unknown', as photos of cameras do, with
            a margin of half the kernel (see `continue_data`); 'mirrored', for kernels that are the
            outer product of two vectors, or 'periodic', for synthetic data.

    Raises:
        ConfigError: the kernel has a value that is not finite, or all its values are 0; an unknown
            border, or a mirrored one with another kernel.

    The operator raises `ConfigError` if the kernel has an even side, or is larger than the photo.
    Black borders of the kernel do not count. With an unknown border it warns of kernels that are
    larger than half of the photo: on average the result is then no better than the blurred photo.
    """
    kernel = kernel.double()
    if not torch.isfinite(kernel).all() or not kernel.any():
        raise ConfigError(
            "kernel: is 0 or not finite, so the blurred photo contains no information; "
            "use another kernel"
        )
    if border not in BORDERS:
        raise ConfigError(f"border: expected one of {', '.join(BORDERS)}, got {border!r}")
    if border == "mirrored":
        columns, rows = _factors(kernel)
        return Problem("deblur", lambda shape: SeparableBlur(shape, columns, rows))
    kernel = _trimmed(kernel.outer(kernel) if kernel.ndim == 1 else kernel)
    if border == "periodic":
        return Problem("deblur", partial(CircularBlur, kernel=kernel))
    margin = (kernel.shape[0] // 2, kernel.shape[1] // 2)

    def operator(shape: Shape) -> LinearOperator:
        sides = tuple(side - 2 * more for side, more in zip(shape[1:], margin, strict=True))
        given = f"{kernel.shape[1]}x{kernel.shape[0]}"
        if any(own > side for own, side in zip(kernel.shape, sides, strict=True)):
            raise ConfigError(
                f"kernel: expected sides up to those of the image, {sides[1]}x{sides[0]}, got "
                f"{given}; use a smaller kernel or more of the photo"
            )
        if any(2 * own > side > 1 for own, side in zip(kernel.shape, sides, strict=True)):
            logger.warning(
                "kernel: %s is more than half of the image, %dx%d, so much of the result is "
                "invented; use more of the photo",
                given,
                sides[1],
                sides[0],
            )
        return CircularBlur(shape, kernel)

    return Problem("deblur", operator, margin=margin)


def _trimmed(kernel: Tensor) -> Tensor:
    """A kernel (k, l) without black rows and columns at its borders, with the same centre."""
    for axis in (0, 1):
        used = kernel.any(dim=1 - axis)
        outer = int((used | used.flip(0)).int().argmax())
        kernel = kernel.narrow(axis, outer, kernel.shape[axis] - 2 * outer)
    return kernel


def _factors(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels along the columns and along the rows whose outer product is the kernel."""
    if kernel.ndim == 1:
        return kernel, kernel
    u, s, vt = torch.linalg.svd(kernel)
    if s[1:].sum() >= 1e-6 * s[0]:
        raise ConfigError(
            "border: 'mirrored' needs a kernel that is the product of two vectors; use 'unknown'"
        )
    return s[0].sqrt() * u[:, 0], s[0].sqrt() * vt[0]


def gaussian_deblur(sigma: float, border: str = "unknown") -> Problem:
    """A photo that was blurred by an isotropic Gaussian kernel.

    Args:
        sigma: standard deviation of the kernel in pixels, 0.01..100.
        border: see `deblur`.

    Raises:
        ConfigError: sigma is out of range, or an unknown border.
    """
    return deblur(gaussian(sigma), border)


def compressed(share: float = CS_SHARE) -> Problem:
    """Compressive sensing: Walsh-Hadamard coefficients of the photo with permuted pixels.

    The restorer first computes the coefficients of the given photo, then restores from them.

    Args:
        share: share of the coefficients that is measured, above 0 and up to 1.
    """

    def operator(shape: Shape) -> LinearOperator:
        return WalshHadamard(shape, share, torch.Generator().manual_seed(CS_SEED))

    return Problem("cs", operator)
