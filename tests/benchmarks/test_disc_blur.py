"""The classical baseline of background blur: a disc per pixel."""

import pytest
import torch

from benchmarks.disc_blur import disc_blur
from refusion.optics.defocus import defocus_guide
from refusion.restorers import Conditions
from refusion.synthesis.camera import GAMMA


def conditions(defocus: torch.Tensor, radius: float) -> Conditions:
    """A target lens of f/1.8 with this radius of the farthest background."""
    return Conditions(guide=defocus_guide(defocus, (160.0, 18.0, radius)))


@pytest.mark.parametrize("radius", [2.0, 3.5])
def test_a_point_becomes_a_disc_of_its_light(radius):
    photo = torch.zeros(1, 3, 41, 41)
    photo[..., 20, 20] = 1.0
    light = disc_blur(photo, conditions(torch.ones(41, 41), radius))[0, 0] ** GAMMA
    assert float(light.sum()) == pytest.approx(1, abs=1e-4)
    rows = torch.arange(41.0) - 20
    distance = torch.hypot(rows[:, None], rows)
    assert float(light[distance > radius + 1.5].max()) == 0
    assert float(light[distance < radius - 1].min()) > 0.5 / (3.1416 * radius**2)


def test_what_is_in_focus_stays_and_one_colour_stays():
    photo = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    sharp = disc_blur(photo, conditions(torch.zeros(30, 40), 12.0))
    torch.testing.assert_close(sharp, photo, rtol=0, atol=1e-6)
    plain = torch.full((1, 3, 30, 40), 0.3)
    blurred = disc_blur(plain, conditions(torch.ones(30, 40), 6.0))
    torch.testing.assert_close(blurred, plain, rtol=0, atol=1e-5)


def test_each_pixel_has_its_own_radius():
    photo = torch.rand(1, 3, 30, 60, generator=torch.Generator().manual_seed(0))
    defocus = torch.zeros(30, 60)
    defocus[:, 30:] = 1
    result = disc_blur(photo, conditions(defocus, 4.0))
    torch.testing.assert_close(result[..., :30], photo[..., :30], rtol=0, atol=1e-6)
    assert float(result[..., 36:].std()) < 0.5 * float(photo[..., 36:].std())
