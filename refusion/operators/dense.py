"""Operator given by a matrix, for images so small that the matrix fits into memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape


class Dense(LinearOperator):
    """H x = matrix @ x, where x is the image as a vector of C * H * W numbers.

    Args:
        image_shape: (C, H, W).
        matrix: (m, C * H * W), finite, not 0.

    Raises:
        ConfigError: the matrix has a wrong number of columns, is 0 or not finite.
    """

    def __init__(self, image_shape: Sequence[int], matrix: Tensor) -> None:
        check_arguments(Dense.__init__, locals())
        self.image_shape = check_shape("Dense", image_shape)
        channels, height, width = self.image_shape
        size = channels * height * width
        if matrix.ndim != 2 or matrix.shape[1] != size:
            raise ConfigError(
                f"Dense.matrix: expected {size} columns for an image of {self.image_shape}, got "
                f"{tuple(matrix.shape)}"
            )
        if not torch.isfinite(matrix).all() or not matrix.any():
            raise ConfigError("Dense.matrix: is 0 or not finite; give finite values, not all 0")
        self.data_shape = (len(matrix),)
        u, s, self._vt = torch.linalg.svd(matrix.detach().cpu().double())
        rank = int((s > s[0] * max(matrix.shape) * torch.finfo(s.dtype).eps).sum())
        self._u = u[:, :rank]
        self.singulars = torch.zeros(size, dtype=torch.float64)
        self.singulars[:rank] = s[:rank]

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`; spectra (B, C * H * W)."""
        return x.flatten(1) @ self._vt.T.to(x)

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return (spectrum @ self._vt.to(spectrum)).unflatten(1, self.image_shape)

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        spectrum = y.new_zeros(len(y), len(self._vt))
        spectrum[:, : self._u.shape[1]] = y @ self._u.to(y)
        return spectrum

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return spectrum[:, : self._u.shape[1]] @ self._u.T.to(spectrum)
