"""Compressive sensing: each measurement is a sum of all pixels with pseudo-random signs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape


class WalshHadamard(LinearOperator):
    """H x = a share of the Walsh-Hadamard coefficients of the shuffled pixels, per channel.

    The transform exists only for powers of two. Other numbers of pixels are written as a sum of
    powers of two (512 * 768 = 2^18 + 2^17). The shuffled pixels are divided into parts of these
    sizes, and each part is transformed separately. Padding to the next power of two is not used: it
    would add unknown pixels, and the rows of H would not be orthogonal on the real pixels.

    Args:
        image_shape: (C, H, W).
        share: share of the coefficients that is measured, in (0, 1].
        generator: source of the random order of the pixels, which is part of the operator.

    Raises:
        ConfigError: the share is out of range.
    """

    def __init__(self, image_shape: Sequence[int], share: float, generator: Generator) -> None:
        check_arguments(WalshHadamard.__init__, locals())
        self.image_shape = check_shape("WalshHadamard", image_shape)
        if not 0 < share <= 1:
            raise ConfigError(f"WalshHadamard.share: expected above 0 and up to 1, got {share:g}")
        channels, height, width = self.image_shape
        pixels = height * width
        self.order = torch.randperm(pixels, generator=generator, device=generator.device).cpu()
        self.parts = list(_powers(pixels))
        self.singulars = torch.cat(
            # The first coefficients, which include the mean; the others are equivalent after the
            # shuffle.
            [(torch.arange(part) < math.ceil(share * part)).double() for part in self.parts]
        )
        self.kept = self.singulars.nonzero().squeeze(1)
        self.data_shape = (channels, len(self.kept))

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`; spectra (B, C, H * W)."""
        return self._transform(x.flatten(-2)[..., self.order.to(x.device)])

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        pixels = torch.empty_like(spectrum)
        pixels[..., self.order.to(spectrum.device)] = self._transform(spectrum)
        return pixels.unflatten(-1, self.image_shape[1:])

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        spectrum = y.new_zeros(*y.shape[:-1], len(self.order))
        spectrum[..., self.kept.to(y.device)] = y
        return spectrum

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return spectrum[..., self.kept.to(spectrum.device)]

    def _transform(self, x: Tensor) -> Tensor:
        """Transform each part of (..., H * W); the transform is its own inverse."""
        return torch.cat([walsh_hadamard(part) for part in x.split(self.parts, dim=-1)], dim=-1)


def walsh_hadamard(x: Tensor) -> Tensor:
    """Orthonormal Walsh-Hadamard transform of the last axis, in natural order.

    Args:
        x: (..., n), n a power of two.

    Returns:
        (..., n).

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    length, half = x.shape[-1], 1
    while half < length:
        even, odd = x.unflatten(-1, (-1, 2, half)).unbind(-2)
        x = torch.stack([even + odd, even - odd], dim=-2).flatten(-3)
        half *= 2
    return x / math.sqrt(length)


def _powers(count: int) -> Iterator[int]:
    """The powers of two that add up to a number, largest first."""
    for bit in reversed(range(count.bit_length())):
        if count >> bit & 1:
            yield 1 << bit
