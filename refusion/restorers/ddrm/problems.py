"""Degradations that DDRM can undo: each has a name and a linear operator for a photo size."""

from __future__ import annotations

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

CS_SHARE = 0.25  # share of the Walsh-Hadamard coefficients that compressive sensing measures
CS_SEED = 0  # seed of its pixel permutation; constant, because the permutation defines the operator

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
    """

    task: str
    operator: Callable[[Shape], LinearOperator]
    scale: int = 1
    colours: bool = False


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


def deblur(kernel: Tensor) -> Problem:
    """A blurred photo.

    Args:
        kernel: (k,) for the same blur along rows and columns, or any kernel (k, l). With (k,), and
            with a (k, l) that is the outer product of two vectors, the photo is mirrored at its
            borders. With any other kernel it is continued periodically.

    Raises:
        ConfigError: the kernel has a value that is not finite, or all its values are 0.
    """
    kernel = kernel.double()
    if not torch.isfinite(kernel).all() or not kernel.any():
        raise ConfigError(
            "kernel: is 0 or not finite, so the blurred photo contains no information; "
            "use another kernel"
        )
    if kernel.ndim == 1:
        return Problem("deblur", lambda shape: SeparableBlur(shape, kernel))
    u, s, vt = torch.linalg.svd(kernel)
    if s[1:].sum() < 1e-6 * s[0]:
        columns, rows = s[0].sqrt() * u[:, 0], s[0].sqrt() * vt[0]
        return Problem("deblur", lambda shape: SeparableBlur(shape, columns, rows))
    return Problem("deblur", partial(CircularBlur, kernel=kernel))


def gaussian_deblur(sigma: float) -> Problem:
    """A photo that was blurred by an isotropic Gaussian kernel.

    Args:
        sigma: standard deviation of the kernel in pixels, 0.01..100.

    Raises:
        ConfigError: sigma is out of range.
    """
    return deblur(gaussian(sigma))


def compressed(share: float = CS_SHARE) -> Problem:
    """Compressive sensing: Walsh-Hadamard coefficients of the photo with permuted pixels.

    The restorer first computes the coefficients of the given photo, then restores from them.

    Args:
        share: share of the coefficients that is measured, above 0 and up to 1.
    """

    def operator(shape: Shape) -> LinearOperator:
        return WalshHadamard(shape, share, torch.Generator().manual_seed(CS_SEED))

    return Problem("cs", operator)
