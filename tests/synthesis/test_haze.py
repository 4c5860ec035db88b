"""Laws of the haze synthesiser."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.synthesis.degradations.haze import Haze, sample_haze, scatter
from refusion.synthesis.scenes.depth import DEPTHS
from refusion.synthesis.scenes.frame import PhotoFrame

SETTINGS = Haze()
STILL = replace(
    SETTINGS, clean_share=0, soften_share=0, exposure=0, colour=0, noise_share=0, jpeg_share=0
)


def picture(height: int = 96, width: int = 128) -> torch.Tensor:
    """Smooth colours with a hard edge down the middle."""
    image = colours(height, width, contrast=0.1)
    image[:, :, width // 2 :] += 0.3
    return image.clamp(0, 1)


def whole_photo(photo: torch.Tensor, seed: int, settings: Haze) -> torch.Tensor:
    return settings(photo, generator(seed), PhotoFrame.whole(photo))["lq"]


def test_scattering_model_at_its_ends() -> None:
    clean, air = picture(), torch.full((3, 1, 1), 0.9)
    one = torch.ones(1, 96, 128)
    for linear in (False, True):
        torch.testing.assert_close(scatter(clean, one, air, linear), clean)
        torch.testing.assert_close(scatter(clean, 0 * one, air, linear), air.expand_as(clean))


def test_scattering_model_by_hand() -> None:
    clean, t, air = torch.full((3, 1, 1), 0.2), torch.full((1, 1, 1), 0.25), torch.ones(3, 1, 1)
    assert scatter(clean, t, air).flatten().tolist() == pytest.approx([0.8] * 3)
    in_light = (0.25 * 0.2**2.2 + 0.75) ** (1 / 2.2)
    assert scatter(clean, t, air, linear=True).flatten().tolist() == pytest.approx([in_light] * 3)


@pytest.mark.parametrize("seed", range(6))
def test_synthesis_is_the_scattering_model_of_its_fields(seed: int) -> None:
    """With camera and softening off nothing but the formula and 8-bit rounding is left."""
    clean = picture()
    drawn = sample_haze(clean, generator(seed), STILL)
    expected = scatter(clean, drawn.transmission, drawn.airlight, drawn.linear)
    hazy = whole_photo(clean, seed, STILL)
    torch.testing.assert_close(hazy, expected, atol=0.5 / 255 + 1e-4, rtol=0)


@pytest.mark.parametrize("mean", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_mean_transmission_is_as_asked(mean: float, seed: int) -> None:
    settings = replace(STILL, mean_transmission=(mean, mean), min_transmission=0.0)
    drawn = sample_haze(picture(), generator(seed), settings)
    assert abs(drawn.transmission.mean() - mean) < 0.02
    assert 0 < drawn.depth.min() <= drawn.depth.max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_denser_haze_is_closer_to_the_airlight(seed: int) -> None:
    clean, distances = picture(), []
    for mean in (0.9, 0.6, 0.3):
        settings = replace(STILL, mean_transmission=(mean, mean), linear_share=0)
        drawn = sample_haze(clean, generator(seed), settings)
        hazy = scatter(clean, drawn.transmission, drawn.airlight)
        distances.append((hazy - drawn.airlight).abs())
    assert (distances[0] >= distances[1] - 1e-6).all()
    assert (distances[1] >= distances[2] - 1e-6).all()


def test_homogeneous_haze_is_thicker_farther_away() -> None:
    settings = replace(STILL, uneven_share=0, depth_weights=(0, 1, 1, 1, 1))
    settings = replace(settings, mean_transmission=(0.5, 0.5))
    for seed in range(5):
        drawn = sample_haze(picture(), generator(seed), settings)
        order = drawn.depth.flatten().argsort()
        assert (drawn.transmission.flatten()[order].diff() <= 1e-6).all()
        assert drawn.transmission.std() > 0.02


def test_same_generator_same_haze_and_others_differ() -> None:
    clean = picture()
    first, again = (whole_photo(clean, 5, SETTINGS) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, whole_photo(clean, 6, SETTINGS))


def test_range_shape_and_levels() -> None:
    clean = picture(70, 41)
    for seed in range(20):
        hazy = whole_photo(clean, seed, SETTINGS)
        assert_8_bit(hazy, clean.shape)


def test_clean_share_leaves_photos_alone() -> None:
    noisy = replace(SETTINGS, noise_share=1.0, noise=(0.5, 0.5), jpeg_share=1.0)
    settings, clean = replace(noisy, clean_share=1.0), picture()
    for seed in range(5):
        change = (whole_photo(clean, seed, settings) - clean).abs()
        assert change.mean() < 0.03


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mirrored", [False, True])
def test_crop_sees_its_part_of_the_photo_haze(seed: int, mirrored: bool) -> None:
    photo = picture()
    whole = whole_photo(photo, seed, STILL)
    crop = photo[:, 16:64, 32:96]
    expected = whole[:, 16:64, 32:96]
    box = (32 / 128, 16 / 96, 96 / 128, 64 / 96)
    if mirrored:
        crop, expected, box = crop.flip(-1), expected.flip(-1), (box[2], box[1], box[0], box[3])
    seen = STILL(crop.contiguous(), generator(seed), PhotoFrame(photo, box))["lq"]
    torch.testing.assert_close(seen, expected, atol=1.01 / 255, rtol=0)


@pytest.mark.parametrize("kind", DEPTHS)
def test_depths_are_positive_and_reach_one(kind: str) -> None:
    for seed in range(8):
        depth = DEPTHS[kind](picture(), generator(seed))
        assert depth.shape == (96, 128)
        assert torch.isfinite(depth).all()
        assert 0 < depth.min() <= depth.max() <= 1.0001


def test_layers_follow_the_edges_of_the_photo() -> None:
    """The picture's only edge is the column 64: depth changes most there, on the average."""
    change = sum(
        DEPTHS["layers"](picture(), generator(seed)).diff(dim=1).abs().mean(0) for seed in range(12)
    )
    assert abs(int(change.argmax()) - 63) <= 1
    assert change.max() > 3 * change.median()


def test_layers_ignore_texture() -> None:
    texture = 0.5 + 0.02 * torch.randn(3, 96, 128, generator=generator())
    for seed in range(8):
        assert DEPTHS["layers"](texture, generator(seed)).diff(dim=1).abs().max() < 0.15


def test_ground_is_nearest_at_the_bottom() -> None:
    for seed in range(8):
        depth = DEPTHS["ground"](torch.full((3, 60, 80), 0.5), generator(seed))
        assert depth[-6:].mean() < depth[:6].mean()


def test_maps_are_the_haze_of_the_crop() -> None:
    clean, settings = picture(), replace(STILL, maps=True, linear_share=0)
    made = settings(clean, generator(3), PhotoFrame.whole(clean))
    again = scatter(clean, made["transmission"], made["airlight"])
    torch.testing.assert_close(made["lq"], again, rtol=0, atol=0.51 / 255)
    assert set(STILL(clean, generator(3), PhotoFrame.whole(clean))) == {"lq"}


def test_smoke_has_ranges_of_its_own_and_is_lit_unevenly() -> None:
    photo = picture()
    thin = replace(STILL, mean_transmission=(0.9, 0.95), airlight_spread=(0, 0), glow=(0, 0))
    smoke = replace(thin, smoke_share=1, smoke_uneven=(0.4, 0.4), smoke_light=(0.5, 0.5))
    for seed in range(6):
        without, with_smoke = (sample_haze(photo, generator(seed), s) for s in (thin, smoke))
        assert without.transmission.mean() > 0.85
        assert 0.29 < with_smoke.transmission.mean() < 0.77
        assert without.airlight.std((1, 2)).max() < 0.01
        assert with_smoke.airlight.std((1, 2)).max() > 0.05
        assert with_smoke.airlight.max() <= 1


def test_airlight_takes_the_colour_of_the_scene() -> None:
    orange = picture() * torch.tensor([1.0, 0.6, 0.3])[:, None, None]
    settings = replace(STILL, scene_colour_share=1, glow=(0, 0), airlight=(0.5, 0.5))
    for seed in range(5):
        red, green, blue = sample_haze(orange, generator(seed), settings).airlight.mean((1, 2))
        assert red > 1.1 * green
        assert green > 1.1 * blue
        assert float((red + green + blue) / 3) == pytest.approx(0.5, abs=0.05)


def test_smoke_is_as_frequent_as_asked() -> None:
    photo = picture(24, 32)
    settings = replace(STILL, mean_transmission=(0.95, 1), smoke_share=0.3)
    drawn = [sample_haze(photo, generator(seed), settings).transmission for seed in range(200)]
    assert 0.2 < sum(float(t.mean()) < 0.9 for t in drawn) / 200 < 0.4


def test_a_blurred_scene_is_the_ground_truth_too() -> None:
    """The haze is mixed with the blurred scene, and other settings draw what they drew before."""
    clean = picture()
    plain = replace(STILL, maps=True, linear_share=0)
    made = replace(plain, blur_share=1, blur=(3.0, 3.0))(
        clean, generator(3), PhotoFrame.whole(clean)
    )
    assert made["gt"].diff(dim=-1).abs().max() < 0.5 * clean.diff(dim=-1).abs().max()
    torch.testing.assert_close(made["gt"].mean(), clean.mean(), atol=0.01, rtol=0)
    again = scatter(made["gt"], made["transmission"], made["airlight"])
    torch.testing.assert_close(made["lq"], again, rtol=0, atol=0.51 / 255)
    some = replace(plain, blur_share=0.5)
    shares = [
        torch.equal(some(clean, generator(seed), PhotoFrame.whole(clean))["gt"], clean)
        for seed in range(40)
    ]
    assert 10 < sum(shares) < 30


def test_a_power_of_the_depth_leaves_the_foreground_clear() -> None:
    even = replace(
        STILL, depth_weights=(0, 1, 0, 0, 0), uneven_share=0, mean_transmission=(0.8, 0.8)
    )
    far = replace(even, depth_power=(3.0, 3.0))
    for seed in range(5):
        one, other = (sample_haze(picture(), generator(seed), s) for s in (even, far))
        assert other.transmission.max() > one.transmission.max()
        assert other.transmission.min() < one.transmission.min()
        assert float(other.transmission.mean()) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth_power": (0.0, 2.0)}, "depth_power"),
        ({"blur": (0.5, 2.0)}, "blur"),
        ({"airlight": (1.0, 0.5)}, "airlight"),
        ({"mean_transmission": (0.0, 0.5)}, "mean_transmission"),
        ({"clean_share": 1.5}, "clean_share"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"depth_weights": (0, 0, 0, 0, 0)}, "depth_weights"),
        ({"noise": 0.1}, "noise"),
    ],
)
def test_settings_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Haze(**options)
