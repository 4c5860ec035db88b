"""Smooth random fields over a photo, band-limited to a given smallest scale."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def photo_coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixel centres relative to the sides of a photo: rows (h, 1), columns (1, w), in (0, 1)."""
    rows = (torch.arange(height, dtype=torch.float32) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float32) + 0.5) / width
    return rows[:, None], columns[None, :]


def _waves(coordinate: Tensor, extent: float, modes: int, generator: Generator) -> Tensor:
    """Cosines with 0..modes half periods per long side and random phases, (n, modes + 1)."""
    phase = 2 * math.pi * torch.rand(modes + 1, generator=generator)
    order = torch.arange(modes + 1, dtype=torch.float32)
    return torch.cos(math.pi * extent * coordinate.reshape(-1, 1) * order + phase)


def wave_field(
    rows: Tensor,
    columns: Tensor,
    generator: Generator,
    *,
    modes: int,
    decay: float,
    extent: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Evaluate a random sum of plane cosines at given coordinates, without normalisation.

    The field depends on the generator state only, so evaluating it at the coordinates of a crop
    gives that part of the field over the whole photo. `smooth_field` normalises this sum.

    Args:
        rows: (n,) or (n, 1), in units of `extent[0]` long sides.
        columns: (m,) or (1, m), in units of `extent[1]` long sides.
        generator: source of phases and amplitudes.
        modes: largest number of half periods along the long side, at least 1.
        decay: exponent of the amplitude (1 + order)^-decay.
        extent: unit of rows and unit of columns, in long sides of the photo.

    Returns:
        (n, m) float32.
    """
    vertical = _waves(rows, extent[0], modes, generator)
    horizontal = _waves(columns, extent[1], modes, generator)
    order = torch.arange(modes + 1, dtype=torch.float32)
    radius = torch.sqrt(order[:, None] ** 2 + order[None, :] ** 2)
    amplitude = torch.randn(modes + 1, modes + 1, generator=generator) * (1 + radius) ** -decay
    amplitude[radius > modes] = 0  # isotropic limit: the corner modes would be finer than `modes`
    return vertical @ amplitude @ horizontal.T


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
    field = wave_field(rows, columns, generator, modes=modes, decay=decay, extent=extent)
    field = field - field.mean()
    return field / field.std().clamp_min(1e-6)
