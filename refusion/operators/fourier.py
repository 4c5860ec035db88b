"""Blur by any kernel with periodic borders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.operators.base import LinearOperator, check_shape


class CircularBlur(LinearOperator):
    """H x = x convolved with any kernel, for example a rotated one or camera shake, per channel.

    The image is periodic: beyond a border it continues at the opposite border. Let K be the
    transfer function of the kernel. Then H = P S, where S multiplies each frequency by |K| and P by
    the phase of K. |K| is the same for a frequency and its negative, so the Hartley transform V,
    which is real and orthogonal, diagonalises S, and U = P V.

    Args:
        image_shape: (C, H, W).
        kernel: (k, l), odd sides, not larger than the image; its centre is at zero shift.

    Raises:
        ConfigError: the kernel has an even side, is larger than the image, 0 or not finite.
    """

    def __init__(self, image_shape: Sequence[int], kernel: Tensor) -> None:
        check_arguments(CircularBlur.__init__, locals())
        self.image_shape = self.data_shape = check_shape("CircularBlur", image_shape)
        self.size = height, width = self.image_shape[1:]
        sides = tuple(kernel.shape)
        is_fit = len(sides) == 2 and all(
            k % 2 and k <= side for k, side in zip(sides, self.size, strict=True)
        )
        if not is_fit:
            raise ConfigError(
                f"kernel: expected odd sides no larger than the image, {width}x{height}, got "
                f"{'x'.join(map(str, reversed(sides)))}; use a smaller kernel"
            )
        if not torch.isfinite(kernel).all() or not kernel.any():
            raise ConfigError("kernel: is 0 or not finite; give finite values, not all 0")
        placed = torch.zeros(self.size, dtype=torch.float64)
        placed[: sides[0], : sides[1]] = kernel
        placed = placed.roll([-(k // 2) for k in sides], (0, 1))
        transfer = torch.fft.fft2(placed)
        magnitude = transfer.abs()
        tolerance = magnitude.max() * max(self.size) * torch.finfo(magnitude.dtype).eps
        is_zero = magnitude <= tolerance
        self.singulars = magnitude.where(~is_zero, torch.zeros(()).double())
        phase = (transfer / magnitude).where(~is_zero, torch.zeros((), dtype=transfer.dtype))
        self._phase = phase[:, : width // 2 + 1]  # the rest is conjugate, because images are real

    def to_spectrum(self, x: Tensor) -> Tensor:
        """See `LinearOperator`; spectra (B, C, H, W)."""
        transformed = torch.fft.fft2(x, norm="ortho")
        return transformed.real - transformed.imag

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`: the Hartley transform is its own inverse."""
        return self.to_spectrum(spectrum)

    def data_to_spectrum(self, y: Tensor) -> Tensor:
        """See `LinearOperator`."""
        spectrum = self.to_spectrum(self._with_phase(y, self._phase.conj()))
        # Without this, coordinates without data would hold rounding errors.
        return spectrum.masked_fill_((self.singulars == 0).to(y.device), 0)

    def data_from_spectrum(self, spectrum: Tensor) -> Tensor:
        """See `LinearOperator`."""
        return self._with_phase(self.from_spectrum(spectrum), self._phase)

    def _with_phase(self, x: Tensor, phase: Tensor) -> Tensor:
        """Multiply each frequency of x (B, C, H, W) by a phase factor."""
        transformed = torch.fft.rfft2(x)
        return torch.fft.irfft2(transformed * phase.to(transformed), s=self.size)
