"""Laws of noise and JPEG."""

from __future__ import annotations

import pytest
import torch
from degradation_cases import generator

from refusion.errors import ConfigError
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations.jpeg import Jpeg
from refusion.synthesis.degradations.noise import GaussianNoise, PoissonNoise
from refusion.synthesis.scenes.frame import PhotoFrame

FRAME = PhotoFrame(torch.zeros(3, 8, 8))
GRAY = torch.full((3, 128, 128), 0.4)


@pytest.mark.parametrize("sigma", [5.0, 25.0, 100.0])
def test_gaussian_noise_is_gaussian_and_says_how_strong(sigma: float) -> None:
    """Not clipped and not rounded: mean, deviation and the tails are those of the normal law."""
    sample = GaussianNoise(sigma=(sigma, sigma))(GRAY, generator(), FRAME)
    noise = (sample["lq"] - GRAY) / sample["noise_std"]
    assert sample["noise_std"].shape == ()
    assert float(sample["noise_std"]) == pytest.approx(sigma / 255)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.01
    assert float((noise.abs() > 2).float().mean()) == pytest.approx(0.0455, abs=0.004)
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.02


def test_gaussian_noise_leaves_the_range_unless_clipped() -> None:
    black = torch.zeros(3, 64, 64)
    free = GaussianNoise(sigma=(30.0, 30.0))(black, generator(), FRAME)
    clipped = GaussianNoise(sigma=(30.0, 30.0), clip=True)(black, generator(), FRAME)
    assert free["lq"].min() < -0.2
    assert torch.equal(clipped["lq"], quantise(free["lq"]))
    assert torch.equal(clipped["noise_std"], free["noise_std"])


def test_strengths_cover_their_range() -> None:
    draw = GaussianNoise(sigma=(10.0, 20.0))
    strengths = [255 * draw(GRAY, generator(s), FRAME)["noise_std"].item() for s in range(40)]
    assert 10 <= min(strengths) < 11.5
    assert 18.5 < max(strengths) <= 20


@pytest.mark.parametrize("light", [0.1, 0.4])
def test_shot_noise_has_the_variance_of_photons(light: float) -> None:
    clean = torch.full((3, 128, 128), light)
    lq = PoissonNoise(peak=(50.0, 50.0))(clean, generator(), FRAME)["lq"]
    assert float(lq.mean()) == pytest.approx(light, rel=0.02)
    assert float(lq.var()) == pytest.approx(light / 50, rel=0.05)
    assert ((lq * 255).round() - lq * 255).abs().max() < 1e-3


def test_black_stays_black_under_shot_noise() -> None:
    assert not PoissonNoise()(torch.zeros(3, 16, 16), generator(), FRAME)["lq"].any()


def test_jpeg_is_the_codec_at_the_drawn_quality() -> None:
    photo = torch.rand(3, 48, 64, generator=generator())
    lq = Jpeg(quality=(37, 37))(photo, generator(), FRAME)["lq"]
    assert torch.equal(lq, quantise(photo, 37))
    drawn = [Jpeg(quality=(30, 32))(photo, generator(s), FRAME)["lq"] for s in range(30)]
    for quality in (30, 31, 32):
        assert any(torch.equal(lq, quantise(photo, quality)) for lq in drawn)


@pytest.mark.parametrize(
    "draw", [GaussianNoise(), GaussianNoise(clip=True), PoissonNoise(), Jpeg()]
)
def test_same_generator_same_result_and_others_differ(draw) -> None:
    photo = torch.rand(3, 32, 40, generator=generator(1))
    first, again, other = (draw(photo, generator(seed), FRAME)["lq"] for seed in (3, 3, 4))
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GaussianNoise(sigma=(-1.0, 5.0)), "GaussianNoise.sigma"),
        (lambda: GaussianNoise(sigma=(50.0, 5.0)), "GaussianNoise.sigma"),
        (lambda: GaussianNoise(sigma=25.0), "GaussianNoise.sigma: expected two numbers"),
        (lambda: GaussianNoise(clip=1), "GaussianNoise.clip"),
        (lambda: PoissonNoise(peak=(0.0, 5.0)), "PoissonNoise.peak"),
        (lambda: Jpeg(quality=(0, 50)), "Jpeg.quality"),
        (lambda: Jpeg(quality=(90, 101)), "Jpeg.quality"),
    ],
)
def test_settings_out_of_range(build, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()
