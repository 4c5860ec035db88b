"""What DDRM can undo: a degradation by name, and the operator it is on photos of a size."""

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

SHARE = 0.25  # of the coefficients that compressive sensing measures
SEED = 0  # of the order of its pixels, which belongs to the operator and not to a draw

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Problem:
    """A known linear degradation of photos.

    Attributes:
        task: its name.
        operator: (3, H, W) of the restored photo -> H.
        scale: restored pixels per pixel of the photo and axis.
        colours: whether gray photos get colours.
    """

    task: str
    operator: Callable[[Shape], LinearOperator]
    scale: int = 1
    colours: bool = False


def denoise(task: str = "denoise") -> Problem:
    """Noise alone."""
    return Problem(task, Identity)


def super_resolution(factor: int, kind: str = "bicubic") -> Problem:
    """A photo that was reduced.

    Args:
        factor: 1..16.
        kind: "bicubic" (anti-aliased, as Pillow does it) or "mean" of each block.

    Raises:
        ConfigError: an unknown kind or factor.
    """
    kinds = {"bicubic": BicubicDownsample, "mean": BlockMean}
    if kind not in kinds or not 1 <= factor <= 16:
        raise ConfigError(
            f"super-resolution: expected 'bicubic' or 'mean' and a factor of 1 to 16, got {kind!r} "
            f"and {factor}"
        )
    return Problem(f"sr{factor}", lambda shape: kinds[kind](shape, factor), factor)


def inpaint(kept: Tensor) -> Problem:
    """A photo with holes; `kept` is bool (H, W), true where it is known."""

    def operator(shape: Shape) -> LinearOperator:
        if tuple(kept.shape) != shape[1:]:
            raise ConfigError(
                f"mask: expected the photo's size, {shape[2]}x{shape[1]}, got "
                f"{kept.shape[1]}x{kept.shape[0]} pixels"
            )
        return Inpainting(shape, kept)

    return Problem("inpaint", operator)


def colorize() -> Problem:
    """A gray photo: the mean of its channels."""
    return Problem("colorize", Colorization, colours=True)


def deblur(kernel: Tensor) -> Problem:
    """A blurred photo.

    Args:
        kernel: (k,) along rows and columns, borders mirrored; or (k, l) of any form, which takes
            the photo to go on at its opposite border unless it is a product of two vectors.

    Raises:
        ConfigError: it is 0 or not finite.
    """
    kernel = kernel.double()
    if not torch.isfinite(kernel).all() or not kernel.any():
        raise ConfigError("kernel: is 0 or not finite, so nothing is known")
    if kernel.ndim == 1:
        return Problem("deblur", lambda shape: SeparableBlur(shape, kernel))
    u, s, vt = torch.linalg.svd(kernel)
    if s[1:].sum() < 1e-6 * s[0]:
        down, across = s[0].sqrt() * u[:, 0], s[0].sqrt() * vt[0]
        return Problem("deblur", lambda shape: SeparableBlur(shape, down, across))
    return Problem("deblur", partial(CircularBlur, kernel=kernel))


def gaussian_deblur(sigma: float) -> Problem:
    """A photo blurred by a round Gaussian of `sigma` pixels."""
    return deblur(gaussian(sigma))


def compressed(share: float = SHARE) -> Problem:
    """Compressive sensing: a share of random Walsh-Hadamard sums, taken from the given photo."""
    return Problem(
        "cs", lambda shape: WalshHadamard(shape, share, torch.Generator().manual_seed(SEED))
    )
