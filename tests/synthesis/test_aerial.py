"""Depth of landscapes from their own dark channel, and haze with that depth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from degradation_cases import generator

from refusion.synthesis.degradations.haze import Haze, sample_haze
from refusion.synthesis.scenes.aerial import aerial_depth, optical_depth, shows_distance

AIRLIGHT = torch.tensor([0.7, 0.8, 0.9])
BANDS = (3.0, 1.0, 0.5, 0.1)  # optical depth of sky, far and near hills, and ground


def landscape() -> torch.Tensor:
    """Four bands with black and white pixels in the haze of their distance, (3, 128, 192)."""
    scene = torch.rand(1, 128, 192, generator=generator()).round().expand(3, -1, -1)
    t = torch.exp(-torch.tensor(BANDS)).repeat_interleave(32)[:, None]
    return scene * t + AIRLIGHT[:, None, None] * (1 - t)


def test_the_dark_channel_shows_the_optical_depth_of_each_band() -> None:
    tau, airlight = optical_depth(landscape())
    torch.testing.assert_close(airlight, AIRLIGHT, atol=0.06, rtol=0)
    found = [float(tau[row + 12 : row + 20].median()) for row in range(0, 128, 32)]
    # 0.95 of the haze counts: -log(1 - 0.95 (1 - t)).
    expected = [-torch.log(1 - 0.95 * (1 - torch.exp(torch.tensor(-b)))).item() for b in BANDS]
    assert found[1:] == pytest.approx(expected[1:], abs=0.12)
    assert found[0] > 1.3


def test_a_landscape_is_farther_at_the_top() -> None:
    tau, _ = optical_depth(landscape())
    assert shows_distance(tau)
    for seed in range(6):
        depth = aerial_depth(landscape(), generator(seed))
        assert 0 < depth.min() <= depth.max() == 1
        bands = [float(depth[row + 8 : row + 24].mean()) for row in range(0, 128, 32)]
        assert bands == sorted(bands, reverse=True)


@pytest.mark.parametrize("photo", ["upside down", "one colour", "no depth"])
def test_other_photos_get_a_ground_plane(photo: str) -> None:
    image = {
        "upside down": landscape().flip(1),
        "one colour": torch.full((3, 60, 80), 0.6),
        "no depth": torch.rand(3, 60, 80, generator=generator()),
    }[photo]
    assert not shows_distance(optical_depth(image)[0])
    depth = aerial_depth(image, generator(1))
    assert torch.isfinite(depth).all()
    assert 0 < depth.min() <= depth.max() <= 1
    assert depth[-6:].mean() < depth[:6].mean()


def test_haze_takes_this_depth_in_its_share_of_the_samples() -> None:
    settings = replace(Haze(), clean_share=0, uneven_share=0, min_transmission=0.0)
    always = replace(settings, aerial_share=1.0)
    for seed in range(6):
        drawn = sample_haze(landscape(), generator(seed), always)
        bands = [float(drawn.transmission[0, row + 8 : row + 24].mean()) for row in (0, 32, 64, 96)]
        assert bands == sorted(bands)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 1), (1, 50), (20, 3)])
def test_tiny_photos_have_an_optical_depth(size: tuple[int, int]) -> None:
    tau, airlight = optical_depth(torch.rand(3, *size, generator=generator()))
    assert tau.shape == size
    assert 0 <= tau.min() <= tau.max() <= 3
    assert airlight.min() >= 0.05
    assert shows_distance(tau) in (False, True)
