"""The dark channel prior: its box means, its atmospheric light, and haze of known transmission."""

import pytest
import torch

from refusion.restorers import dark_channel
from refusion.restorers.dark_channel import dark_channel_prior
from refusion.restorers.haze_prior import RADIUS, atmospheric_light, box_mean


@pytest.mark.parametrize("size", [(1, 1), (7, 150), (130, 20)])
def test_box_mean_counts_the_pixels_within_the_radius(size):
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    found = box_mean(image)
    for row in {0, size[0] // 2, size[0] - 1}:
        for column in {0, size[1] // 2, size[1] - 1}:
            rows = slice(max(0, row - RADIUS), row + RADIUS + 1)
            columns = slice(max(0, column - RADIUS), column + RADIUS + 1)
            expected = image[0, 0, rows, columns].mean()
            torch.testing.assert_close(found[0, 0, row, column], expected)


def test_atmospheric_light_is_the_brightest_of_a_thousandth_of_the_pixels():
    """Of 5000 pixels the 5 with the brightest dark channel count; the brightest of them is it."""
    image = torch.full((1, 3, 50, 100), 0.2)
    dark = torch.zeros(1, 1, 50, 100)
    dark[0, 0, 0, :6] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    image[0, :, 0, 4] = torch.tensor([0.5, 0.6, 0.7])  # the fifth
    image[0, :, 0, 5] = 0.99  # the sixth does not count
    light = atmospheric_light(image, dark)
    assert light.flatten().tolist() == pytest.approx([0.5, 0.6, 0.7])


def test_haze_of_known_transmission_is_removed(monkeypatch):
    """Stripes with a black channel under haze of one transmission; 100 % of it is removed."""
    monkeypatch.setattr(dark_channel, "OMEGA", 1.0)
    clean = torch.zeros(1, 3, 60, 80)
    clean[:, 0, :, ::2], clean[:, 1, :, 1::2] = 0.6, 0.3
    hazy = clean * 0.5 + 0.9 * 0.5
    hazy[..., :16, :] = 0.9  # sky: no object behind the haze
    result = dark_channel_prior(hazy)
    inner = (slice(None), slice(None), slice(50, None))
    assert (result[inner] - clean[inner]).abs().mean() < 0.5 * (hazy - clean)[inner].abs().mean()
    assert (result[..., :2, :] - 0.9).abs().max() < 1e-3
