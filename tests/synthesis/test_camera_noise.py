"""Laws of the noise of a camera."""

from __future__ import annotations

import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.degradations.camera_noise import CameraNoise
from refusion.synthesis.scenes.frame import PhotoFrame

FRAME = PhotoFrame(torch.zeros(3, 8, 8))
SENSOR = {"white_share": 0.0, "correlated_share": 0.0, "jpeg_share": 0.0, "gain": (1.0, 1.0)}


def noise_of(clean, seed=0, **settings):
    return CameraNoise(**settings)(clean, generator(seed), FRAME)["lq"] - clean


def grey(value=0.5, side=128):
    return torch.full((3, side, side), value)


def neighbours(noise):
    """Correlation of neighbours along a row."""
    noise = noise - noise.mean(dim=(1, 2), keepdim=True)
    return float((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean())


@pytest.mark.parametrize("sigma", [4.0, 12.0, 30.0])
@pytest.mark.parametrize("settings", [SENSOR, {**SENSOR, "correlated_share": 1.0}])
def test_the_strength_is_the_root_mean_square(sigma, settings):
    noise = 255 * noise_of(colours(), sigma=(sigma, sigma), **settings)
    assert float(noise.square().mean().sqrt()) == pytest.approx(sigma, rel=0.15)
    assert abs(float(noise.mean())) < 0.2 * sigma


def test_strengths_are_log_uniform():
    levels = [255 * noise_of(grey(), s, **SENSOR).std().item() for s in range(60)]
    assert 2 <= min(levels) < 3
    assert 40 < max(levels) < 66  # the tone curve changes strong noise
    assert 7 < sorted(levels)[30] < 17  # the middle of 2..60 is 11


@pytest.mark.parametrize("read", [0.0, 0.5, 1.0])
def test_the_variance_of_the_light_is_that_of_a_sensor(read):
    """shot^2 light + read^2, with the share `read` of the read noise at medium grey."""
    variances = []
    for value in (0.4, 0.7):
        clean = grey(0.5, 256)
        clean[:, :128] = value
        noisy = CameraNoise(**{**SENSOR, "sigma": (6.0, 6.0), "read": (read, read)})
        light = noisy(clean, generator(), FRAME)["lq"] ** 2.2
        variances.append(float(light[:, :128].var() / light[:, 128:].var()))
    for value, found in zip((0.4, 0.7), variances, strict=True):
        expected = read + (1 - read) * (value / 0.5) ** 2.2
        assert found == pytest.approx(expected, rel=0.06)


def test_white_balance_makes_red_and_blue_noisier():
    noise = noise_of(grey(), sigma=(6.0, 6.0), **{**SENSOR, "gain": (2.0, 2.0)})
    red, green, blue = noise.var(dim=(1, 2)).tolist()
    assert 2 < red / green < 4.1
    assert red / blue == pytest.approx(1, rel=0.1)


def test_demosaiced_noise_has_grain_and_other_noise_has_none():
    white = neighbours(noise_of(grey(), **SENSOR))
    grain = [neighbours(noise_of(grey(), s, **{**SENSOR, "correlated_share": 1.0})) for s in (1, 2)]
    assert abs(white) < 0.03
    assert min(grain) > 0.1


def test_white_noise_is_equal_everywhere():
    clean = grey(0.3, 128)
    clean[:, 64:] = 0.7
    settings = {"sigma": (10.0, 10.0), "white_share": 1.0, "jpeg_share": 0.0}
    noise = 255 * noise_of(clean, **settings)
    assert float(noise[:, :64].std()) == pytest.approx(10, rel=0.02)
    assert float(noise[:, 64:].std()) == pytest.approx(10, rel=0.02)
    assert abs(neighbours(noise)) < 0.02


def test_result_is_a_photo_of_8_bit_and_depends_on_the_generator_only():
    first, again, other = (
        CameraNoise()(colours(), generator(seed), FRAME)["lq"] for seed in (3, 3, 4)
    )
    assert_8_bit(first, (3, 96, 128))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (5, 2), (64, 64)])
def test_black_white_and_tiny_photos(value, size):
    for seed in range(8):
        lq = CameraNoise()(torch.full((3, *size), value), generator(seed), FRAME)["lq"]
        assert_8_bit(lq, (3, *size))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma": [50.0, 5.0]}, "CameraNoise.sigma"),
        ({"gain": [0.0, 2.0]}, "CameraNoise.gain"),
        ({"white_share": 1.5}, "CameraNoise.white_share"),
        ({"quality": [0, 90]}, "CameraNoise.quality"),
        ({"colour_grain": [0.5, 2.0]}, "CameraNoise.colour_grain"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ConfigError, match=words):
        build_degradation({"type": "CameraNoise", **settings})
