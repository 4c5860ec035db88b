"""Base class of linear operators H with a singular value decomposition H = U S V^T.

A spectrum is V^T x, the coordinates of an image x in the basis V. It has as many numbers as the
image; each operator chooses its shape. `singulars` contains the singular value of each coordinate,
0 in the null space of H. V is square and orthogonal; U has one column for each singular value above
0. Each operator applies U and V by fast transforms instead of matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.errors import ConfigError, ImageError


class LinearOperator(ABC):
    """A linear map H from images to data; works with any float dtype and device of its argument.

    Attributes:
        image_shape: (C, H, W) of an image.
        data_shape: shape of the data of one image, H x.
        singulars: singular values, float64, >= 0; can be broadcast to a spectrum of one image.
    """

    image_shape: tuple[int, int, int]
    data_shape: tuple[int, ...]
    singulars: Tensor

    @abstractmethod
    def to_spectrum(self, x: Tensor) -> Tensor:
        """V^T x: images (B, C, H, W) -> spectra (B, ...) of C * H * W numbers."""

    @abstractmethod
    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """V s: spectra (B, ...) -> images (B, C, H, W); inverse of `to_spectrum`."""

    @abstractmethod
    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """U^T y: data (B, *data_shape) -> spectra (B, ...); 0 where the singular value is 0."""

    @abstractmethod
    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """U s: spectra (B, ...) -> data (B, *data_shape).

        Coordinates whose singular value is 0 are ignored.
        """

    def forward(self, x: Tensor) -> Tensor:
        """H x: images (B, C, H, W) -> data (B, *data_shape).

        Raises:
            ImageError: the shape of the images is not (B, *image_shape).
        """
        self._check("x", x, self.image_shape)
        return self.data_from_spectrum(self.singulars.to(x) * self.to_spectrum(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """H^T y: data (B, *data_shape) -> images (B, C, H, W).

        Raises:
            ImageError: the shape of the data is not (B, *data_shape).
        """
        self._check("y", y, self.data_shape)
        return self.from_spectrum(self.singulars.to(y) * self.data_to_spectrum(y))

    def pinv(self, y: Tensor, floor: float = 0.0) -> Tensor:
        """H^+ y, the pseudo-inverse: the least-squares solution of H x = y with the smallest norm.

        Args:
            y: data, (B, *data_shape).
            floor: singular values up to this value are treated as 0, because their inverse would
                amplify noise.

        Returns:
            Images (B, C, H, W).

        Raises:
            ImageError: the shape of the data is not (B, *data_shape).
        """
        self._check("y", y, self.data_shape)
        kept = self.singulars > floor
        inverse = torch.where(kept, 1 / self.singulars.where(kept, torch.ones(())), 0.0)
        return self.from_spectrum(inverse.to(y) * self.data_to_spectrum(y))

    def _check(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(tensor.shape[1:]) != shape:
            expected = ", ".join(map(str, ("B", *shape)))
            raise ImageError(
                f"{name}: expected shape ({expected}) for this {type(self).__name__}, got "
                f"{tuple(tensor.shape)}"
            )


def check_shape(name: str, image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Check that a shape is (C, H, W) with whole numbers >= 1.

    Args:
        name: name of the operator, for the message.
        image_shape: the shape.

    Returns:
        The shape as a tuple.

    Raises:
        ConfigError: it is not such a shape.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side >= 1 for side in shape):
        raise ConfigError(f"{name}.image_shape: expected (C, H, W), each from 1, got {shape}")
    return shape


def reflect(x: Tensor, row: Tensor) -> Tensor:
    """Householder reflection that swaps the direction of a row and the first axis.

    It is an orthogonal change of basis and its own inverse. Time and memory are linear in the size
    of `x`.

    Args:
        x: vectors, (..., k).
        row: (k,), not 0.

    Returns:
        (..., k); [..., 0] is `x @ row / |row|`.
    """
    normal = row.double() / row.double().norm()
    normal[0] -= 1
    length = normal.norm()
    if length < 1e-12:  # the row has the direction of the first axis
        return x
    normal = (normal / length).to(x)
    return x - 2 * (x @ normal)[..., None] * normal
