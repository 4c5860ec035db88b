"""The colour filter of a sensor: what is interpolated, and the noise that it leaves."""

from __future__ import annotations

import pytest
import torch
from degradation_cases import generator

from refusion.synthesis.degradations.camera_noise import CameraNoise
from refusion.synthesis.mosaic import demosaiced
from refusion.synthesis.scenes.frame import PhotoFrame

PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("red", PLACES)
@pytest.mark.parametrize("sharp", [False, True])
class TestDemosaiced:
    def test_plain_colours_and_grey_ramps_are_exact(self, red, sharp) -> None:
        plain = torch.tensor([0.2, 0.5, 0.7]).view(3, 1, 1).expand(3, 9, 12)
        torch.testing.assert_close(demosaiced(plain, red, sharp=sharp), plain)
        ramp = torch.linspace(0, 1, 14).expand(3, 12, 14)
        for image in (ramp, ramp.mT):
            inside = (..., slice(2, -2), slice(2, -2))
            result = demosaiced(image.contiguous(), red, sharp=sharp)
            torch.testing.assert_close(result[inside], image[inside])

    def test_measured_values_stay(self, red, sharp) -> None:
        image = torch.rand(3, 10, 12, generator=generator(1))
        result, (row, column) = demosaiced(image, red, sharp=sharp), red
        assert torch.equal(result[0, row::2, column::2], image[0, row::2, column::2])
        assert torch.equal(
            result[2, 1 - row :: 2, 1 - column :: 2], image[2, 1 - row :: 2, 1 - column :: 2]
        )
        assert torch.equal(result[1, row::2, 1 - column :: 2], image[1, row::2, 1 - column :: 2])
        assert torch.equal(result[1, 1 - row :: 2, column::2], image[1, 1 - row :: 2, column::2])

    def test_it_sees_one_colour_per_pixel(self, red, sharp) -> None:
        one, other = (torch.rand(3, 10, 12, generator=generator(seed)) for seed in (1, 2))
        rows, columns = torch.arange(10)[:, None] % 2, torch.arange(12) % 2
        is_red = (rows == red[0]) & (columns == red[1])
        is_blue = (rows != red[0]) & (columns != red[1])
        seen = torch.stack([is_red, ~is_red & ~is_blue, is_blue])
        mixed = torch.where(seen, one, other)
        assert torch.equal(demosaiced(mixed, red, sharp=sharp), demosaiced(one, red, sharp=sharp))


def test_variances_of_white_noise_are_those_of_the_kernels() -> None:
    noise = torch.randn(3, 400, 400, generator=generator(0))
    # Measured pixels, those with two neighbours, and those with four: red 1/4, 1/2, 1/4 of them.
    smooth = demosaiced(noise, (0, 1), sharp=False).square().mean((1, 2))
    torch.testing.assert_close(smooth, torch.tensor([0.5625, 0.625, 0.5625]), rtol=0.03, atol=0)


def residual(seed: int, **settings) -> torch.Tensor:
    clean = torch.full((3, 128, 128), 0.5)
    noise = CameraNoise(sigma=(6.0, 6.0), white_share=0.0, jpeg_share=0.0, **settings)
    return noise(clean, generator(seed), PhotoFrame.whole(clean))["lq"] - clean


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


@pytest.mark.parametrize("settings", [{"mosaic_share": 1.0}, {"film_share": 1.0}])
def test_the_strength_is_that_of_the_setting(settings) -> None:
    for seed in range(6):
        rms = residual(seed, **settings).square().mean().sqrt() * 255
        assert rms == pytest.approx(6, rel=0.08)


def test_noise_of_a_mosaic_is_correlated_between_neighbours() -> None:
    found = [residual(seed, mosaic_share=1.0) for seed in range(6)]
    beside = [correlation(x[1, :, 1:], x[1, :, :-1]) for x in found]
    plain = residual(0, correlated_share=0.0)
    assert max(beside) > 0.15 and abs(correlation(plain[1, :, 1:], plain[1, :, :-1])) < 0.05


def test_grain_of_a_film_is_the_same_in_all_channels_and_blurred() -> None:
    grain = residual(2, film_share=1.0, film_grain=(1.5, 1.5), gain=(1.0, 1.0))
    assert correlation(grain[0], grain[2]) > 0.98
    # White noise that is blurred by sigma has the correlation exp(-d^2 / (4 sigma^2)).
    for distance in (1, 2, 3):
        beside = correlation(grain[0, :, distance:], grain[0, :, :-distance])
        assert beside == pytest.approx(torch.tensor(-(distance**2) / 9.0).exp().item(), abs=0.06)


def test_shares_of_zero_leave_the_numbers_as_they_were() -> None:
    assert torch.equal(residual(5), residual(5, mosaic_share=0.0, film_share=0.0))
