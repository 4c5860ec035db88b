"""Smooth random fields over a photo, band-limited to a given smallest scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor


def photo_coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixel centres relative to the sides of a photo: rows (h, 1), columns (1, w), in (0, 1)."""
    rows = (torch.arange(height, dtype=torch.float32) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float32) + 0.5) / width
    return rows[:, None], columns[None, :]


@dataclass(frozen=True)
class WaveField:
    """A random sum of plane cosines, as a function of the position in the photo.

    Its part on a crop is the field at the coordinates of the crop. `smooth_field` normalises it.

    Attributes:
        phases: (2, modes + 1) phases of the waves along rows and along columns.
        amplitudes: (modes + 1, modes + 1) amplitudes of the products of these waves.
    """

    phases: Tensor
    amplitudes: Tensor

    @classmethod
    def draw(cls, generator: Generator, *, modes: int, decay: float) -> WaveField:
        """Draw phases and amplitudes.

        Args:
            generator: source of phases and amplitudes.
            modes: largest number of half periods along the long side, at least 1.
            decay: exponent of the amplitude (1 + order)^-decay.
        """
        phases = [2 * math.pi * torch.rand(modes + 1, generator=generator) for _ in range(2)]
        order = torch.arange(modes + 1, dtype=torch.float32)
        radius = torch.sqrt(order[:, None] ** 2 + order[None, :] ** 2)
        amplitude = torch.randn(modes + 1, modes + 1, generator=generator) * (1 + radius) ** -decay
        amplitude[radius > modes] = 0  # isotropic limit: corner modes would be finer than `modes`
        return cls(torch.stack(phases), amplitude)

    def at(self, rows: Tensor, columns: Tensor, extent: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """Evaluate the field on a grid, without normalisation.

        Args:
            rows: (n,) or (n, 1), in units of `extent[0]` long sides.
            columns: (m,) or (1, m), in units of `extent[1]` long sides.
            extent: unit of rows and unit of columns, in long sides of the photo.

        Returns:
            (n, m) float32.
        """
        order = torch.arange(self.phases.shape[1], dtype=torch.float32)
        vertical, horizontal = (
            torch.cos(math.pi * unit * coordinate.reshape(-1, 1) * order + phase)
            for coordinate, unit, phase in zip((rows, columns), extent, self.phases, strict=True)
        )
        return vertical @ self.amplitudes @ horizontal.T


def smooth_field(
    size: tuple[int, int], generator: Generator, *, modes: int, decay: float = 1.5
) -> Tensor:
    """Smooth random field with zero mean and unit standard deviation.

    The field is a sum of plane cosines with at most `modes` half periods along the long side of the
    photo, so its smallest structure spans 1/modes of that side. Amplitudes are (1 + order)^-decay,
    a power law as in turbulence. Interpolated noise is not used, because it is not band-limited.

    Args:
        size: (height, width) of the field, which covers the whole photo.
        generator: source of phases and amplitudes.
        modes: largest number of half periods along the long side, at least 1.
        decay: exponent of the amplitude; larger is smoother.

    Returns:
        (height, width) float32.
    """
    height, width = size
    rows, columns = photo_coordinates(height, width)
    extent = (height / max(size), width / max(size))
    field = WaveField.draw(generator, modes=modes, decay=decay).at(rows, columns, extent)
    field = field - field.mean()
    return field / field.std().clamp_min(1e-6)


def quantile(field: Tensor, share: float) -> Tensor:
    """Quantile along the last dimension, with linear interpolation, as `torch.quantile`.

    It selects two values instead of sorting all of them, which takes a tenth of the time.

    Args:
        field: (..., n) float32.
        share: share of smaller values, in [0, 1].

    Returns:
        (...) float32.
    """
    place = share * (field.shape[-1] - 1)
    low, high = math.floor(place), math.ceil(place)
    part = np.partition(field.numpy(), sorted({low, high}), axis=-1)
    return torch.lerp(*(torch.from_numpy(part[..., at].copy()) for at in (low, high)), place - low)
