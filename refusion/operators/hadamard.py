"""Compressive sensing: each measurement is a sum of all pixels with random signs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape


class WalshHadamard(LinearOperator):
    """H x = a share of the Walsh-Hadamard coefficients of the shuffled pixels, per channel.

    The transform exists for powers of two. Other pixel counts are a sum of such powers (512 * 768
    = 2^18 + 2^17), and each part of the shuffled pixels gets a transform of its own: padding would
    make unknowns of pixels that are none, and the rows would no longer be orthogonal on those that
    are. An image whose pixels are a power of two gets the one plain transform.

    Args:
        image_shape: (C, H, W).
        share: part of the coefficients that is measured, in (0, 1].
        generator: of the order of the pixels, which belongs to the operator.

    Raises:
        ConfigError: the share is out of range.
    """

    def __init__(self, image_shape: Sequence[int], share: float, generator: Generator) -> None:
        self.image_shape = check_shape("WalshHadamard", image_shape)
        if not 0 < share <= 1:
            raise ConfigError(f"WalshHadamard.share: expected above 0 and up to 1, got {share:g}")
        channels, height, width = self.image_shape
        pixels = height * width
        self.order = torch.randperm(pixels, generator=generator, device=generator.device).cpu()
        self.parts = list(_powers(pixels))
        self.singulars = torch.cat(
            # The first ones: after the shuffle all but the mean are alike, and that is wanted.
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
        """Its own inverse."""
        return torch.cat([walsh_hadamard(part) for part in x.split(self.parts, dim=-1)], dim=-1)


def walsh_hadamard(x: Tensor) -> Tensor:
    """Orthonormal Walsh-Hadamard transform (natural order) of the last axis, a power of two long.

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
