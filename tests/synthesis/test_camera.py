"""Laws of the camera: exposure, noise, 8 bits."""

from __future__ import annotations

import pytest
import torch
from degradation_cases import generator

from refusion.synthesis import camera
from refusion.synthesis.camera import add_noise, expose, quantise


def test_noise_variance_grows_with_light() -> None:
    for light in (0.2, 0.8):
        noisy = add_noise(torch.full((3, 128, 128), light), generator(), read=0.01, shot=0.03)
        expected = 0.01**2 + 0.03**2 * light
        assert abs(noisy.var() / expected - 1) < 0.05


def test_no_change_asked_no_change_made() -> None:
    image = torch.rand(3, 16, 16, generator=generator()).clamp_min(1e-3)
    torch.testing.assert_close(expose(image, generator(), exposure=0.0, colour=0.0), image)
    torch.testing.assert_close(add_noise(image, generator(), read=0.0, shot=0.0), image)


def test_exposure_stays_within_its_bounds() -> None:
    image = torch.full((3, 4, 4), 0.5)
    for seed in range(30):
        changed = expose(image, generator(seed), exposure=0.05, colour=0.02)
        low, high = 0.5**1.05 * 0.95 * 0.98, 0.5**0.95 * 1.05 * 1.02
        assert low - 1e-6 <= changed.min() <= changed.max() <= high + 1e-6


def test_quantise_rounds_to_the_nearest_level() -> None:
    image = torch.rand(3, 32, 32, generator=generator())
    rounded = quantise(image)
    assert (rounded - image).abs().max() <= 0.5 / 255 + 1e-7
    assert torch.equal(quantise(rounded), rounded)


def test_jpeg_harms_more_at_lower_quality() -> None:
    image = torch.rand(3, 64, 64, generator=generator())
    errors = [float((quantise(image, quality) - image).abs().mean()) for quality in (95, 70, 30)]
    assert errors == sorted(errors)
    assert errors[0] > 0.5 / 255


@pytest.mark.parametrize("quality", [1, 30, 75, 90, 95, 100])
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 48)])
def test_jpeg_is_that_of_pillow_with_and_without_imagecodecs(size, quality, monkeypatch) -> None:
    pytest.importorskip("imagecodecs")
    image = torch.rand(3, *size, generator=generator())
    fast = quantise(image, quality)
    monkeypatch.setattr(camera, "_imagecodecs", lambda: None)
    assert torch.equal(quantise(image, quality), fast)
