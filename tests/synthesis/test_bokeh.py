"""Laws of the bokeh pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from degradation_cases import assert_8_bit, generator

from refusion.errors import ConfigError
from refusion.optics.defocus import LARGEST, blur_radius
from refusion.synthesis.degradations.bokeh import LENSES, Bokeh, lens_shape
from refusion.synthesis.lens_disc import LensShape
from refusion.synthesis.scenes.fields import smooth_field
from refusion.synthesis.scenes.frame import PhotoFrame

STRONG = Bokeh(blur=(0.03, 0.03), sharp_share=1.0, identity_share=0.0, foreground_share=0.0)
STRONG = replace(STRONG, lens_weights=(0, 0, 0, 1, 0, 0, 0, 1))


def picture(height: int = 96, width: int = 128) -> torch.Tensor:
    """Patches of colour with fine grain, in 8-bit levels."""
    waves = [smooth_field((height, width), generator(c), modes=6) for c in range(3)]
    image = 0.5 + 0.2 * torch.stack(waves).sign()
    grain = 0.3 * (torch.rand(1, height, width, generator=generator(9)) - 0.5)
    return ((image + grain).clamp(0, 1) * 255).round() / 255


def sharpness(image: torch.Tensor) -> float:
    return float(image.diff(dim=-1).abs().mean())


def pair(seed: int, settings: Bokeh = STRONG) -> dict[str, torch.Tensor]:
    photo = picture()
    return settings(photo, generator(seed), PhotoFrame.whole(photo))


def test_pairs_are_photos_in_levels_with_their_lenses() -> None:
    for seed in range(12):
        sample = pair(seed, Bokeh())
        assert set(sample) == {"lq", "gt", "lens", "guide"}
        for name in ("lq", "gt"):
            image = sample[name]
            assert_8_bit(image, (3, 96, 128))
        assert sample["lens"].dtype == torch.float32
        source, target, disparity = sample["lens"].tolist()
        assert {source, target} <= set(LENSES)
        assert abs(source) >= abs(target)
        assert 0.004 * 128 <= disparity <= 0.022 * 128 + 1e-3


def test_sharp_source_blurred_target() -> None:
    """The background is blurred; the subject keeps its pixels; f/16 is the nearly sharp photo."""
    photo = picture()
    for seed in range(6):
        sample = pair(seed)
        assert sharpness(sample["gt"]) < 0.8 * sharpness(sample["lq"])
        assert sharpness(sample["lq"]) > 0.95 * sharpness(photo)
        kept = ((sample["gt"] - photo).abs() < 1.5 / 255).all(0).float().mean()
        assert 0.02 < kept < 0.9


def test_f_number_tells_the_radius() -> None:
    assert blur_radius(18.0, 10.0) == 10.0
    assert blur_radius(160.0, 16.0) == pytest.approx(1.8)
    assert blur_radius(-28.0, 14.0) == blur_radius(28.0, 14.0) == 9.0
    with pytest.raises(ConfigError, match="lens"):
        blur_radius(0.0, 1.0)


def test_makers_differ_in_their_discs() -> None:
    assert lens_shape(18.0) == LensShape()
    assert lens_shape(-14.0) == LensShape(blades=8, rim=0.5)
    sony, canon = (
        replace(STRONG, lens_weights=w) for w in ((0, 0, 1) + (0,) * 5, (0,) * 6 + (1, 0))
    )
    first, second = pair(3, sony), pair(3, canon)
    assert first["lens"][1] == -second["lens"][1] == 28
    change = (first["gt"] - second["gt"]).abs().mean()
    assert 0.2 / 255 < change < 0.2 * (first["gt"] - first["lq"]).abs().mean()


def test_equal_lenses_change_nothing() -> None:
    for seed in range(5):
        sample = pair(seed, replace(STRONG, identity_share=1.0, sharp_share=0.0))
        assert torch.equal(sample["lq"], sample["gt"])
        assert sample["lens"][0] == sample["lens"][1]
        assert sharpness(sample["lq"]) < 0.9 * sharpness(picture())  # equal does not mean sharp


def test_swap_exchanges_both_sides() -> None:
    for seed in range(4):
        there, back = pair(seed), pair(seed, replace(STRONG, swap_share=1.0))
        assert torch.equal(there["lq"], back["gt"])
        assert torch.equal(there["gt"], back["lq"])
        assert there["lens"].tolist() == [back["lens"][i].item() for i in (1, 0, 2)]


def test_guide_says_where_and_how_far_either_lens_blurs() -> None:
    """What it calls in focus stays as it is; source and target differ as their f-numbers do."""
    photo = picture()
    for seed in range(6):
        sample = pair(seed)
        source, target = radii = LARGEST * (2 * sample["guide"] - 1).square()
        changed = (sample["gt"] - photo).abs().amax(0)
        kept = changed[target < 0.2]
        assert len(kept) > 100
        assert changed[target > 1].mean() > 3 * kept.mean()
        numbers = sample["lens"][:2].abs()
        torch.testing.assert_close(source * numbers[0], target * numbers[1], rtol=1e-4, atol=1e-4)
        farthest = blur_radius(float(sample["lens"][1]), float(sample["lens"][2]))
        assert float(radii.amax()) <= farthest * (1 + 1e-5)


def test_same_generator_same_pair_and_others_differ() -> None:
    first, again, other = pair(5), pair(5), pair(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["gt"], other["gt"])


def test_disparity_is_in_pixels_of_the_crop() -> None:
    """The blur is a share of the photo: half the pixels, half the radius."""
    photo = picture(192, 256)
    small = torch.nn.functional.avg_pool2d(photo[None], 2)[0]
    frame = PhotoFrame.whole(photo)
    quarter = PhotoFrame(frame.thumbnail, (0.25, 0.5, 0.75, 1.0))
    whole = STRONG(photo, generator(1), frame)["lens"][2]
    assert float(whole) == pytest.approx(0.03 * 256, rel=1e-4)
    assert float(STRONG(small, generator(1), frame)["lens"][2]) == pytest.approx(float(whole) / 2)
    crop = photo[:, 96:, 64:192].contiguous()
    assert float(STRONG(crop, generator(1), quarter)["lens"][2]) == pytest.approx(float(whole))


@pytest.mark.parametrize("turn", ["straight", "mirrored", "transposed"])
def test_crop_sees_its_part_of_the_scene(turn: str) -> None:
    """Inside the crop, farther from its border than discs reach, nothing tells it from the whole.

    What lies beyond decides between layers: a few per cent of the change, at isolated places.
    """
    photo = picture(192, 256)
    frame = PhotoFrame.whole(photo)
    box = (32 / 256, 32 / 192, 224 / 256, 160 / 192)
    crop = photo[:, 32:160, 32:224]
    for seed in range(4):
        whole = STRONG(photo, generator(seed), frame)
        expected = whole["gt"][:, 32:160, 32:224]
        seen, place = crop, PhotoFrame(frame.thumbnail, box)
        if turn == "mirrored":
            seen, expected = seen.flip(-1), expected.flip(-1)
            place = PhotoFrame(frame.thumbnail, (box[2], box[1], box[0], box[3]))
        if turn == "transposed":
            seen, expected = seen.transpose(1, 2), expected.transpose(1, 2)
            place = PhotoFrame(frame.thumbnail, box, transposed=True)
        sample = STRONG(seen.contiguous(), generator(seed), place)
        inner = (slice(None), slice(20, -20), slice(20, -20))
        error = (sample["gt"] - expected)[inner].abs().mean()
        assert error < 0.05 * (expected - seen)[inner].abs().mean()


def test_blur_begins_at_the_edges_of_the_photo() -> None:
    """Where a disc of colour is the subject, its edge (radius 45) parts sharp and blurred."""
    rows, columns = torch.meshgrid(torch.arange(180), torch.arange(240), indexing="ij")
    radius = torch.hypot(rows - 100.0, columns - 120.0)
    photo = torch.stack([0.1 + 0.7 * (radius < 45), 0.3 + 0 * radius, 0.6 - 0.5 * (radius < 45)])
    photo = photo + 0.1 * torch.rand(180, 240, generator=generator())
    settings = replace(STRONG, scene_weights=(1, 0, 0, 0, 0), blur=(0.02, 0.02), highlights=(1, 1))
    found = 0
    for seed in range(10):
        gt = settings(photo, generator(seed), PhotoFrame.whole(photo))["gt"]
        changed = ((gt - photo).abs().amax(0) > 4 / 255).float()
        if changed[radius < 30].mean() < 0.05:
            found += 1
            assert changed[(radius > 33) & (radius < 37)].mean() < 0.05
            assert changed[(radius > 50) & (radius < 55)].mean() > 0.5
    assert found >= 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"blur": (0.02, 0.01)}, "Bokeh.blur"),
        ({"blur": (0.0, 0.5)}, "Bokeh.blur"),
        ({"highlights": (0.5, 2.0)}, "Bokeh.highlights"),
        ({"swap_share": 1.5}, "Bokeh.swap_share"),
        ({"scene_weights": (0.0,) * 5}, "Bokeh.scene_weights"),
        ({"lens_weights": (1.0, 1.0)}, "Bokeh.lens_weights"),
    ],
)
def test_settings_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Bokeh(**options)
