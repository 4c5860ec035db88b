"""Laws of the random smooth fields."""

from __future__ import annotations

import pytest
import torch

from refusion.synthesis.scenes.fields import photo_coordinates, smooth_field


def energy_above(field: torch.Tensor, cycles: float) -> float:
    """Part of a field's energy above so many cycles per side, Hann windowed."""
    window = torch.hann_window(field.shape[0])[:, None] * torch.hann_window(field.shape[1])[None]
    power = torch.fft.fft2((field - field.mean()) * window).abs() ** 2
    rows = torch.fft.fftfreq(field.shape[0], 1 / field.shape[0])
    columns = torch.fft.fftfreq(field.shape[1], 1 / field.shape[1])
    radius = torch.sqrt(rows[:, None] ** 2 + columns[None] ** 2)
    return float(power[radius > cycles].sum() / power.sum())


@pytest.mark.parametrize("modes", [2, 6])
@pytest.mark.parametrize("seed", range(4))
def test_no_energy_at_small_scale(modes: int, seed: int) -> None:
    """`modes` half periods are modes / 2 cycles; the window smears a few bins."""
    field = smooth_field((192, 192), torch.Generator().manual_seed(seed), modes=modes, decay=0.0)
    assert energy_above(field, modes / 2 + 3) < 1e-3
    assert energy_above(torch.randn(192, 192), modes / 2 + 3) > 0.9


def test_zero_mean_and_unit_deviation() -> None:
    field = smooth_field((120, 192), torch.Generator().manual_seed(1), modes=5)
    assert abs(field.mean()) < 1e-5
    assert abs(field.std() - 1) < 1e-4


def test_faster_decay_is_smoother() -> None:
    def roughness(decay: float) -> float:
        generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
        fields = [smooth_field((64, 64), g, modes=6, decay=decay) for g in generators]
        return sum(float(field.diff(dim=0).square().mean()) for field in fields)

    assert roughness(3.0) < 0.6 * roughness(0.5)


def test_scale_is_that_of_the_long_side() -> None:
    """On a panorama a field varies no faster down than across."""
    field = smooth_field((24, 192), torch.Generator().manual_seed(3), modes=6, decay=0.0)
    across, down = field.diff(dim=1).square().mean(), field.diff(dim=0).square().mean()
    assert 0.1 < down / across < 10


def test_photo_coordinates_are_pixel_centres() -> None:
    rows, columns = photo_coordinates(2, 4)
    assert rows.flatten().tolist() == [0.25, 0.75]
    assert columns.flatten().tolist() == [0.125, 0.375, 0.625, 0.875]
