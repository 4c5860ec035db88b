"""Operators that act on each pixel, or on each block of pixels, separately."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape, reflect

GRAY = (1 / 3, 1 / 3, 1 / 3)
"""Weights of the channels in a gray image."""


class Identity(LinearOperator):
    """H x = x, for denoising.

    Args:
        image_shape: (C, H, W).

    Raises:
        ConfigError: `image_shape` is not such a shape.
    """

    def __init__(self, image_shape: Sequence[int]) -> None:
        check_arguments(Identity.__init__, locals())
        self.image_shape = self.data_shape = check_shape(type(self).__name__, image_shape)
        self.singulars = torch.ones((), dtype=torch.float64)

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return x

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return spectrum

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return y

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return spectrum


class Inpainting(Identity):
    """H x = x at the kept pixels, 0 at all others.

    Args:
        image_shape: (C, H, W).
        kept: mask, bool, (H, W) or (C, H, W); true where the photo is known.

    Raises:
        ConfigError: the mask has another size, is not bool or keeps no pixel.
    """

    def __init__(self, image_shape: Sequence[int], kept: Tensor) -> None:
        check_arguments(Inpainting.__init__, locals())
        super().__init__(image_shape)
        if kept.dtype != torch.bool or tuple(kept.shape) not in (
            self.image_shape,
            self.image_shape[1:],
        ):
            raise ConfigError(
                f"Inpainting.kept: expected a bool mask of {self.image_shape[1:]} (H, W), got "
                f"{kept.dtype} of {tuple(kept.shape)}"
            )
        if not kept.any():
            raise ConfigError(
                "Inpainting.kept: the mask keeps no pixel; expected at least one true value"
            )
        self.singulars = kept.cpu().double()

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return self.singulars.to(y) * y

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return self.singulars.to(spectrum) * spectrum


class Colorization(LinearOperator):
    """H x = the weighted sum of the channels, a gray photo; DDRM adds the colours.

    Args:
        image_shape: (C, H, W).
        weights: one weight per channel, not all 0.

    Raises:
        ConfigError: the number of weights is not C, or all are 0.
    """

    def __init__(self, image_shape: Sequence[int], weights: Sequence[float] = GRAY) -> None:
        check_arguments(Colorization.__init__, locals())
        self.image_shape = check_shape("Colorization", image_shape)
        channels, height, width = self.image_shape
        self.data_shape = (1, height, width)
        self.weights = torch.tensor(list(weights), dtype=torch.float64)
        if len(self.weights) != channels or not self.weights.any():
            raise ConfigError(
                f"Colorization.weights: expected {channels} numbers, not all 0, got {weights}"
            )
        self.singulars = torch.zeros(channels, 1, 1, dtype=torch.float64)
        self.singulars[0] = self.weights.norm()

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return reflect(x.movedim(1, -1), self.weights).movedim(-1, 1)

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return self.to_spectrum(spectrum)

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        spectrum = y.new_zeros(len(y), *self.image_shape)
        spectrum[:, :1] = y
        return spectrum

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return spectrum[:, :1]


class BlockMean(LinearOperator):
    """H x = mean of each block of factor x factor pixels, for super-resolution.

    Args:
        image_shape: (C, H, W) of the large image.
        factor: side of the blocks in pixels, a divisor of H and W.

    Raises:
        ConfigError: `factor` does not divide H and W.
    """

    def __init__(self, image_shape: Sequence[int], factor: int) -> None:
        check_arguments(BlockMean.__init__, locals())
        self.image_shape = check_shape("BlockMean", image_shape)
        channels, height, width = self.image_shape
        check_factor("BlockMean", factor, height, width)
        self.factor = factor
        self.data_shape = (channels, height // factor, width // factor)
        self.row = torch.full((factor**2,), 1 / factor**2, dtype=torch.float64)
        self.singulars = torch.zeros(factor**2, dtype=torch.float64)
        self.singulars[0] = 1 / factor

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`; spectra (B, C, H / factor, W / factor, factor^2)."""
        blocks = x.unflatten(-1, (-1, self.factor)).unflatten(-3, (-1, self.factor))
        return reflect(blocks.transpose(-2, -3).flatten(-2), self.row)

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        blocks = reflect(spectrum, self.row).unflatten(-1, (self.factor, self.factor))
        return blocks.transpose(-2, -3).flatten(-2).flatten(-3, -2)

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        spectrum = y.new_zeros(*y.shape, self.factor**2)
        spectrum[..., 0] = y
        return spectrum

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return spectrum[..., 0]


def check_factor(name: str, factor: int, height: int, width: int) -> None:
    """Check that a factor is a whole number >= 1 that divides both sides of an image.

    Args:
        name: name of the operator, for the message.
        factor: the factor.
        height: rows of the image.
        width: columns of the image.

    Raises:
        ConfigError: it is not such a factor.
    """
    if not isinstance(factor, int) or factor < 1 or height % factor or width % factor:
        raise ConfigError(
            f"{name}.factor: expected a whole number that divides both sides, {height} x {width}, "
            f"got {factor}"
        )
