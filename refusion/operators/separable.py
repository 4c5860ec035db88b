"""Separable operators, which act on columns and rows independently: H = A (x) B, per channel.

The SVD of a Kronecker product is the Kronecker product of the SVDs of its factors. So two small
dense SVDs, one for each axis, are sufficient. They need memory for H^2 + W^2 numbers, about as much
as a few images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape
from refusion.operators.pixelwise import check_factor

CUBIC = -0.5
"""Parameter a of the cubic kernel, as in MATLAB and Pillow."""
BORDERS = ("reflect", "zero")


class Separable(LinearOperator):
    """H x = down @ x @ across^T, per channel.

    Args:
        image_shape: (C, H, W).
        down: matrix (h, H) that acts on each column.
        across: matrix (w, W) that acts on each row.

    Raises:
        ConfigError: a matrix has a wrong number of columns, is 0 or not finite.
    """

    def __init__(self, image_shape: Sequence[int], down: Tensor, across: Tensor) -> None:
        check_arguments(Separable.__init__, locals())
        name = type(self).__name__
        self.image_shape = check_shape(name, image_shape)
        channels, height, width = self.image_shape
        for key, matrix, side in (("down", down, height), ("across", across, width)):
            if matrix.ndim != 2 or matrix.shape[1] != side:
                raise ConfigError(
                    f"{name}.{key}: expected a matrix of {side} columns, got {tuple(matrix.shape)}"
                )
            if not torch.isfinite(matrix).all() or not matrix.any():
                raise ConfigError(
                    f"{name}.{key}: is 0 or not finite; give finite values, not all 0"
                )
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
    """H x = bicubic reduction of x, for super-resolution.

    The kernel is stretched by the factor (anti-aliasing). At the borders the image is mirrored with
    the edge pixels repeated, as in the official code of DDRM.

    Args:
        image_shape: (C, H, W) of the large image.
        factor: large pixels per small pixel and axis, a divisor of H and W.

    Raises:
        ConfigError: `factor` does not divide H and W.
    """

    def __init__(self, image_shape: Sequence[int], factor: int) -> None:
        check_arguments(BicubicDownsample.__init__, locals())
        _, height, width = check_shape("BicubicDownsample", image_shape)
        check_factor("BicubicDownsample", factor, height, width)
        self.factor = factor
        super().__init__(image_shape, bicubic_matrix(height, factor), bicubic_matrix(width, factor))


class SeparableBlur(Separable):
    """H x = x convolved with one kernel along the columns and one along the rows.

    This is a convolution in the mathematical sense, with the kernel flipped.

    Args:
        image_shape: (C, H, W).
        down: kernel along the columns, (k,), k odd; its centre is at zero shift.
        across: kernel along the rows; None for `down`.
        border: "reflect" mirrors the image at its borders without repeating the edge pixels; "zero"
            continues it with 0.

    Raises:
        ConfigError: a kernel has an even length, is 0 or not finite, or the border is unknown.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        down: Tensor,
        across: Tensor | None = None,
        *,
        border: str = "reflect",
    ) -> None:
        check_arguments(SeparableBlur.__init__, locals())
        _, height, width = check_shape("SeparableBlur", image_shape)
        across = down if across is None else across
        if border not in BORDERS:
            raise ConfigError(f"SeparableBlur.border: expected one of {BORDERS}, got {border!r}")
        super().__init__(
            image_shape, blur_matrix(height, down, border), blur_matrix(width, across, border)
        )


def gaussian(sigma: float) -> Tensor:
    """Gaussian blur kernel.

    Args:
        sigma: standard deviation in pixels, 0.01..100.

    Returns:
        (k,) float64 with k = 2 ceil(3.5 sigma) + 1; the sum is 1.

    Raises:
        ConfigError: sigma is not in 0.01..100.
    """
    check_arguments(gaussian, locals())
    if not 0.01 <= sigma <= 100:
        raise ConfigError(f"sigma: expected a blur of 0.01 to 100 pixels, got {sigma:g}")
    radius = math.ceil(3.5 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def blur_matrix(length: int, kernel: Tensor, border: str) -> Tensor:
    """Matrix that convolves a vector with a kernel.

    Args:
        length: length of the vector.
        kernel: (k,), k odd.
        border: one of `BORDERS`.

    Returns:
        (length, length) float64.

    Raises:
        ConfigError: the kernel has an even length or is not a vector.
    """
    if kernel.ndim != 1 or len(kernel) % 2 == 0:
        raise ConfigError(
            f"kernel: expected an odd number of values in one dimension, got shape "
            f"{tuple(kernel.shape)}"
        )
    radius = len(kernel) // 2
    # Output i is the sum over shifts d of kernel[radius + d] x[i - d].
    offsets = torch.arange(radius, -radius - 1, -1)
    source = torch.arange(length)[:, None] + offsets
    weights = kernel.double().expand(length, -1)
    if border == "zero":
        weights = weights.where((source >= 0) & (source < length), torch.zeros(()).double())
    return _sparse_matrix(length, _mirror(source, length, repeat=False), weights)


def bicubic_matrix(length: int, factor: int) -> Tensor:
    """Matrix of an anti-aliased bicubic reduction of a vector.

    Args:
        length: length of the vector, a multiple of `factor`.
        factor: >= 1.

    Returns:
        (length / factor, length) float64.
    """
    first = torch.arange(length // factor, dtype=torch.float64)[:, None] * factor
    centre = first + (factor - 1) / 2
    source = torch.arange(-2 * factor, 3 * factor) + first.long()
    weights = _cubic((source - centre) / factor)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return _sparse_matrix(length, _mirror(source, length, repeat=True), weights)


def _sparse_matrix(length: int, source: Tensor, weights: Tensor) -> Tensor:
    """Matrix whose entry (i, j) is the sum of weights[i, k] over all k with source[i, k] = j."""
    matrix = torch.zeros(len(source), length, dtype=torch.float64)
    return matrix.scatter_add_(1, source, weights)


def _mirror(index: Tensor, length: int, *, repeat: bool) -> Tensor:
    """Indices mirrored into 0..length - 1; `repeat` selects whether edge pixels are repeated."""
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
    """(U, s, V): V is square, U and s contain only singular values above the rounding error."""
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
