"""Deep shadows, whose dark parts are black, and dark objects, which the ground truth keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations.cast_shadow import Caster, DeepShadow, ShadowFields
from refusion.synthesis.degradations.dark_objects import DarkObject
from refusion.synthesis.degradations.shadow import Shadow
from refusion.synthesis.degradations.shadow_shapes import ShadowScene
from refusion.synthesis.scenes.frame import PhotoFrame

STILL = Shadow(clean_share=0.0, exposure=0.0, colour=0.0, noise_share=0.0, jpeg_share=0.0)
DEEP = replace(STILL, deep_share=1.0)
OBJECTS = replace(STILL, objects_share=1.0)
SIZE = (96, 128)
FRAME = PhotoFrame.whole(colours())


def test_a_deep_shadow_is_an_affine_map_that_ends_at_black() -> None:
    offset = torch.tensor([-0.2, -0.1, 0.0])[:, None, None]
    clean = torch.tensor([0.1, 0.6]).expand(3, 1, 2)
    full = ShadowFields(torch.ones(1, 1, 2), torch.ones(3, 1, 2), DeepShadow(0.5, offset))
    expected = torch.tensor([[[0.0, 0.1]], [[0.0, 0.2]], [[0.05, 0.3]]])
    torch.testing.assert_close(full.cast(clean), expected)
    half = replace(full, occlusion=torch.full((1, 1, 2), 0.5))
    torch.testing.assert_close(half.cast(clean), (expected + clean) / 2)
    none = replace(full, occlusion=torch.zeros(1, 1, 2))
    assert torch.equal(none.cast(clean), clean)


@pytest.mark.parametrize("seed", range(6))
def test_black_and_white_of_deep_shadows_are_as_set(seed: int) -> None:
    exact = replace(DEEP, deep_black=(0.2, 0.2), deep_white=(0.6, 0.6), deep_tint=(0.0, 0.0))
    deep = exact.draw(generator(seed), FRAME, SIZE).deep
    levels = torch.tensor([0.1, 0.2, 1.0]).expand(3, 1, 3)
    torch.testing.assert_close(deep(levels), torch.tensor([0.0, 0.0, 0.6]).expand(3, 1, 3))
    tinted = replace(exact, deep_tint=(0.05, 0.05)).draw(generator(seed), FRAME, SIZE).deep
    red, green, blue = tinted(torch.full((3, 1, 1), 0.8)).flatten().tolist()
    assert (red, green, blue) == pytest.approx((0.4125, 0.45, 0.4875))


def test_a_deep_shadow_never_makes_white_brighter() -> None:
    brightest = replace(DEEP, deep_black=(0.25, 0.25), deep_white=(0.9, 0.9))
    assert brightest.draw(generator(), FRAME, SIZE).deep.gain == 1


def test_the_share_of_deep_shadows_is_as_set() -> None:
    some = replace(STILL, deep_share=0.5)
    deep = [some.draw(generator(seed), FRAME, (8, 8)).deep is not None for seed in range(60)]
    assert 18 <= sum(deep) <= 42


@pytest.mark.parametrize(
    "settings", [{"deep_black": (0.1, 0.2)}, {"object_brightness": (0.1, 0.2)}]
)
def test_settings_of_shares_at_zero_change_nothing(settings: dict) -> None:
    for seed in range(4):
        plain = STILL(colours(), generator(seed), FRAME)
        other = replace(STILL, **settings)(colours(), generator(seed), FRAME)
        assert set(plain) == set(other) == {"lq"}
        assert torch.equal(plain["lq"], other["lq"])


@pytest.mark.parametrize("seed", range(4))
def test_objects_are_dark_and_stay_in_the_ground_truth(seed: int) -> None:
    clean = colours()
    made = replace(OBJECTS, clean_share=1.0)(clean, generator(seed), FRAME)
    assert torch.equal(made["lq"], quantise(made["gt"]))
    changed = (made["gt"] - clean).abs().amax(0) > 0.02
    assert 0 < changed.float().mean() < 0.95
    assert made["gt"][:, changed].mean() < clean.mean()


@pytest.mark.parametrize("seed", range(4))
def test_shadows_fall_on_the_objects_too(seed: int) -> None:
    made = OBJECTS(colours(), generator(seed), FRAME)
    assert_8_bit(made["lq"], colours().shape)
    assert (made["lq"] <= quantise(made["gt"])).all()
    assert (made["lq"] < quantise(made["gt"])).any()


def test_an_object_has_its_own_texture_and_colour() -> None:
    points = ShadowScene(0.75, 1.0, 0.0).grid(128)
    right_half = Caster(lambda p: (p.columns - 0.5, p.columns), 0.001, 0.0, 1.0)
    colour = torch.tensor([0.5, 0.25, 0.125])[:, None, None]
    photo = colours()
    textured = DarkObject(right_half, colour, contrast=1.0, lift=0.0, is_flipped=False)
    seen = textured.over(photo, photo, points)
    assert torch.equal(seen[:, :, :62], photo[:, :, :62])
    torch.testing.assert_close(seen[:, :, 66:], colour * photo.flip(-1)[:, :, 66:])
    plain = replace(textured, contrast=0.0, lift=0.1).over(photo, photo, points)[:, :, 66:]
    expected = (colour * photo.mean((1, 2), keepdim=True) + 0.1).expand_as(plain)
    torch.testing.assert_close(plain, expected)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_crop_shows_its_part_of_an_object(is_transposed: bool) -> None:
    scene = OBJECTS.draw_scene(FRAME.thumbnail, generator(2))
    flat = [replace(item, contrast=0.0) for item in scene.objects]
    photo = torch.full((3, *SIZE), 0.8)
    whole = replace(scene, objects=flat).truth(photo, FRAME)
    frame = PhotoFrame(FRAME.thumbnail, (0.25, 1 / 6, 0.75, 2 / 3), is_transposed)
    expected = whole[:, 16:64, 32:96]
    expected = expected.mT if is_transposed else expected
    crop = torch.full_like(expected, 0.8)
    seen = replace(scene, objects=flat).truth(crop, frame)
    torch.testing.assert_close(seen, expected, atol=2e-2, rtol=0)
    assert seen.min() < 0.7


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 1)])
def test_tiny_photos_get_objects_and_deep_shadows(size: tuple[int, int]) -> None:
    clean = torch.full((3, *size), 0.5)
    for seed in range(4):
        both = replace(OBJECTS, deep_share=1.0)
        made = both(clean, generator(seed), PhotoFrame.whole(clean))
        assert_8_bit(made["lq"], clean.shape)
        assert made["gt"].shape == clean.shape


@pytest.mark.parametrize(
    "settings",
    [
        {"deep_share": 1.1},
        {"deep_black": (0.0, 0.95)},
        {"deep_white": (0.5, 0.4)},
        {"objects": (0, 1)},
        {"object_brightness": (0.1, 1.5)},
    ],
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(ConfigError, match=f"Shadow.{next(iter(settings))}"):
        Shadow(**settings)
