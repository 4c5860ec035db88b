"""Operators that act on rows and columns one after the other: H = A (x) B, per channel.

The SVD of a Kronecker product is that of its factors, so two small dense SVDs, of one axis each,
give that of the whole: memory H^2 + W^2, as much as a few images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape
from refusion.operators.pixelwise import check_factor

CUBIC = -0.5  # MATLAB's and Pillow's bicubic
BORDERS = ("reflect", "zero")


class Separable(LinearOperator):
    """H x = down @ x @ across^T, per channel.

    Args:
        image_shape: (C, H, W).
        down: matrix along a column, (h, H).
        across: matrix along a row, (w, W).

    Raises:
        ConfigError: the matrices do not fit the image, or one is 0.
    """

    def __init__(self, image_shape: Sequence[int], down: Tensor, across: Tensor) -> None:
        name = type(self).__name__
        self.image_shape = check_shape(name, image_shape)
        channels, height, width = self.image_shape
        for key, matrix, side in (("down", down, height), ("across", across, width)):
            if matrix.ndim != 2 or matrix.shape[1] != side:
                raise ConfigError(
                    f"{name}.{key}: expected a matrix of {side} columns, got {tuple(matrix.shape)}"
                )
            if not torch.isfinite(matrix).all() or not matrix.any():
                raise ConfigError(f"{name}.{key}: is 0 or not finite, so nothing is known")
        self.data_shape = (channels, len(down), len(across))
        self._down, self._across = _svd(down), _svd(across)
        values = [_padded(s, v.shape[-1]) for (_, s, v) in (self._down, self._across)]
        self.singulars = torch.outer(*values)

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`; spectra (B, C, H, W)."""
        return _both(self._down[2].T, x, self._across[2].T)

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return _both(self._down[2], spectrum, self._across[2])

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        inner = _both(self._down[0].T, y, self._across[0].T)
        height, width = self.image_shape[1:]
        return F.pad(inner, (0, width - inner.shape[-1], 0, height - inner.shape[-2]))

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        (down, _, _), (across, _, _) = self._down, self._across
        return _both(down, spectrum[..., : down.shape[1], : across.shape[1]], across)


class BicubicDownsample(Separable):
    """Super-resolution: bicubic reduction with the kernel stretched by the factor (anti-aliased).

    At the borders the image is mirrored, the edge pixels repeated, as in the official code of DDRM.

    Args:
        image_shape: (C, H, W) of the large image.
        factor: which must divide H and W.

    Raises:
        ConfigError: it does not.
    """

    def __init__(self, image_shape: Sequence[int], factor: int) -> None:
        _, height, width = check_shape("BicubicDownsample", image_shape)
        check_factor("BicubicDownsample", factor, height, width)
        self.factor = factor
        super().__init__(image_shape, bicubic_matrix(height, factor), bicubic_matrix(width, factor))


class SeparableBlur(Separable):
    """Blur along columns and rows by kernels of their own; a true convolution.

    Args:
        image_shape: (C, H, W).
        down: kernel along a column, (k,), k odd, its middle at zero shift.
        across: kernel along a row; None for that of the columns.
        border: beyond the image it is mirrored, the edge pixels not repeated ("reflect"), or black
            ("zero").

    Raises:
        ConfigError: a kernel is even, 0 or not finite, or the border is unknown.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        down: Tensor,
        across: Tensor | None = None,
        *,
        border: str = "reflect",
    ) -> None:
        _, height, width = check_shape("SeparableBlur", image_shape)
        across = down if across is None else across
        if border not in BORDERS:
            raise ConfigError(f"SeparableBlur.border: expected one of {BORDERS}, got {border!r}")
        super().__init__(
            image_shape, blur_matrix(height, down, border), blur_matrix(width, across, border)
        )


def gaussian(sigma: float) -> Tensor:
    """Kernel (k,) float64 of a Gaussian with standard deviation `sigma` pixels; sums to 1.

    Raises:
        ConfigError: sigma is not in 0.01..100.
    """
    if not 0.01 <= sigma <= 100:
        raise ConfigError(f"sigma: expected a blur of 0.01 to 100 pixels, got {sigma:g}")
    reach = math.ceil(3.5 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def blur_matrix(length: int, kernel: Tensor, border: str) -> Tensor:
    """Matrix (length, length) float64 that convolves with a kernel (k,), k odd.

    Raises:
        ConfigError: the kernel has an even length or is no vector.
    """
    if kernel.ndim != 1 or len(kernel) % 2 == 0:
        raise ConfigError(
            f"kernel: expected an odd number of values in a row, got {tuple(kernel.shape)}"
        )
    reach = len(kernel) // 2
    # Output i is the sum over shifts d of kernel[reach + d] x[i - d].
    offsets = torch.arange(reach, -reach - 1, -1)
    source = torch.arange(length)[:, None] + offsets
    weights = kernel.double().expand(length, -1)
    if border == "zero":
        weights = weights.where((source >= 0) & (source < length), torch.zeros(()).double())
    return _gathered(length, _mirror(source, length, repeat=False), weights)


def bicubic_matrix(length: int, factor: int) -> Tensor:
    """Matrix (length / factor, length) float64 of an anti-aliased bicubic reduction."""
    first = torch.arange(length // factor, dtype=torch.float64)[:, None] * factor
    middle = first + (factor - 1) / 2
    source = torch.arange(-2 * factor, 3 * factor) + first.long()
    weights = _cubic((source - middle) / factor)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return _gathered(length, _mirror(source, length, repeat=True), weights)


def _gathered(length: int, source: Tensor, weights: Tensor) -> Tensor:
    """Matrix whose row i has weights[i, k] added at column source[i, k]."""
    matrix = torch.zeros(len(source), length, dtype=torch.float64)
    return matrix.scatter_add_(1, source, weights)


def _mirror(index: Tensor, length: int, *, repeat: bool) -> Tensor:
    """Indices folded into 0..length-1, with the edge pixels repeated or not."""
    period = max(2 * length - (0 if repeat else 2), 1)
    index = index % period
    return torch.where(index < length, index, period - index - (1 if repeat else 0))


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981)."""
    x, a = x.abs(), CUBIC
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros(()).double()))


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, s, V) with U thin, V square; singular values that are rounding become 0."""
    matrix = matrix.detach().cpu().double()
    u, s, vt = torch.linalg.svd(matrix, full_matrices=True)
    s = s.where(s > s[0] * max(matrix.shape) * torch.finfo(s.dtype).eps, torch.zeros(()).double())
    rank = int((s > 0).sum())
    return u[:, :rank].contiguous(), s[:rank], vt.T.contiguous()


def _padded(s: Tensor, length: int) -> Tensor:
    return F.pad(s, (0, length - len(s)))


def _both(down: Tensor, x: Tensor, across: Tensor) -> Tensor:
    """down @ x @ across^T."""
    return down.to(x) @ x @ across.T.to(x)
