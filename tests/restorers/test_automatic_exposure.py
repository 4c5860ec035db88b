"""The automatic exposure of photos without their dense haze."""

import pytest
import torch

from refusion.haze_options import HazeOptions, automatic_gain
from refusion.restorers.refusion.decomposition import Decomposition
from refusion.sde.scattering import Scattering

KEEP = HazeOptions(exposure=0.0)


def scene(height, width):
    """A smooth photo (1, 3, H, W) in [0, 1]."""
    rough = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)


def haze_of(tau, airlight, photo):
    """Haze of a photo, from the optical depth of every pixel."""
    return Decomposition(photo, Scattering(tau[None, None], torch.full_like(photo, airlight)))


def test_automatic_exposure_brightens_what_is_dark_without_dense_haze():
    photo = scene(60, 80) * 0.2 + 0.6
    haze = haze_of(torch.full((60, 80), 1.3), airlight=0.8, photo=photo)  # 1 - t = 0.73
    dark = haze.clear(photo, 1.0, KEEP).clamp(0, 1)
    auto = haze.clear(photo).clamp(0, 1)
    assert dark.mean() < 0.48
    assert 0.49 < auto.mean() < 0.55
    misty = haze.clear(photo, -1.0, KEEP)
    assert torch.equal(haze.clear(photo, -1.0), misty)  # mist takes no brightness


def test_automatic_exposure_leaves_light_haze_and_bright_results():
    photo = scene(60, 80) * 0.2 + 0.6
    light = haze_of(torch.full((60, 80), 0.9), airlight=0.95, photo=photo)  # 1 - t = 0.59
    assert torch.equal(light.clear(photo), light.clear(photo, 1.0, KEEP))
    bright = haze_of(torch.full((60, 80), 1.3), airlight=0.7, photo=photo)
    assert bright.clear(photo, 1.0, KEEP).clamp(0, 1).mean() > 0.52
    assert torch.equal(bright.clear(photo), bright.clear(photo, 1.0, KEEP))


@pytest.mark.parametrize(
    ("mean", "amount", "expected"),
    [
        (0.52, 1.0, 1.0),
        (0.6, 1.0, 1.0),
        (0.42, 1.0, (0.52 / 0.48) * (0.58 / 0.42)),
        (0.42, 0.65, 1 + ((0.52 / 0.48) * (0.58 / 0.42) - 1) / 2),
        (0.42, 0.6, 1.0),
        (0.42, -2.0, 1.0),
        (0.0, 1.0, 2.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_the_automatic_gain_by_hand(mean, amount, expected):
    assert automatic_gain(mean, amount) == pytest.approx(expected, abs=1e-6)
