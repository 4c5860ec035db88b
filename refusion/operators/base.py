"""What all linear operators have in common: H = U S V^T, known by its fast transforms.

A spectrum is the image in the basis V. It has as many numbers as the image, in any shape that is
convenient, and `singulars` says for each how much of it H lets through: 0 where H is blind. So V is
square and orthogonal, and U has a column for every singular value above 0: the thin SVD, with the
null space of H at hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.errors import ConfigError, ImageError


class LinearOperator(ABC):
    """A linear map of images; works on any dtype and device, that of its argument.

    Attributes:
        image_shape: (C, H, W) of what it is applied to.
        data_shape: shape of one result.
        singulars: float64, >= 0, broadcasts against a spectrum without its batch dimension.
    """

    image_shape: tuple[int, int, int]
    data_shape: tuple[int, ...]
    singulars: Tensor

    @abstractmethod
    def to_spectrum(self, x: Tensor) -> Tensor:
        """V^T x: images (B, C, H, W) -> spectra (B, ...)."""

    @abstractmethod
    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """V times spectra (B, ...) -> images (B, C, H, W)."""

    @abstractmethod
    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """U^T y: data (B, *data_shape) -> spectra (B, ...), 0 where the singular value is 0."""

    @abstractmethod
    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """U times spectra (B, ...), read where the singular value is not 0 -> data."""

    def forward(self, x: Tensor) -> Tensor:
        """H x: images (B, C, H, W) -> data (B, *data_shape).

        Raises:
            ImageError: the images have another shape than the operator was made for.
        """
        self._check("x", x, self.image_shape)
        return self.data_from_spectrum(self.singulars.to(x) * self.to_spectrum(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """H^T y: data (B, *data_shape) -> images (B, C, H, W).

        Raises:
            ImageError: the data have another shape.
        """
        self._check("y", y, self.data_shape)
        return self.from_spectrum(self.singulars.to(y) * self.data_to_spectrum(y))

    def pinv(self, y: Tensor, floor: float = 0.0) -> Tensor:
        """H^+ y: the smallest image that explains data (B, *data_shape) best.

        Args:
            y: data.
            floor: singular values up to this are taken for 0; they would amplify noise.

        Raises:
            ImageError: the data have another shape.
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
    """Refuse what is no (C, H, W) of numbers from 1.

    Args:
        name: of the operator, for the message.
        image_shape: to check.

    Raises:
        ConfigError: it is not.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side >= 1 for side in shape):
        raise ConfigError(f"{name}.image_shape: expected (C, H, W), each from 1, got {shape}")
    return shape


def reflect(x: Tensor, row: Tensor) -> Tensor:
    """Orthogonal change of basis whose first coordinate lies along a row; its own inverse.

    The Householder reflection that swaps the row's direction and the first axis, applied in time
    and memory linear in `x`.

    Args:
        x: (..., k).
        row: (k,), not 0.

    Returns:
        (..., k); [..., 0] is `x @ row / |row|`.
    """
    normal = row.double() / row.double().norm()
    normal[0] -= 1
    length = normal.norm()
    if length < 1e-12:  # the row lies along the first axis
        return x
    normal = (normal / length).to(x)
    return x - 2 * (x @ normal)[..., None] * normal
