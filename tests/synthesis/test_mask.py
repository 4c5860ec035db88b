"""Laws of the inpainting masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from degradation_cases import generator
from PIL import Image

from refusion.errors import ConfigError
from refusion.synthesis.degradations.mask import MASKS, Mask
from refusion.synthesis.scenes.frame import PhotoFrame

FRAME = PhotoFrame(torch.zeros(3, 8, 8))
SIZE = (90, 120)


def photo() -> torch.Tensor:
    return (torch.rand(3, *SIZE, generator=generator()) * 254).round() / 255  # nowhere white


def hidden_share(mask: torch.Tensor) -> float:
    return 1 - float(mask.float().mean())


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("fill", [1.0, 0.0, 128 / 255])
def test_kept_as_it_is_or_filled(kind: str, fill: float) -> None:
    settings, image = Mask(kinds=(kind,), fill=fill), photo()
    for seed in range(3):
        mask = settings.draw(generator(seed), SIZE)
        lq = settings(image, generator(seed), FRAME)["lq"]
        assert mask.shape == (1, *SIZE)
        assert 0 < hidden_share(mask) < 1
        assert torch.equal(lq, torch.where(mask, image, torch.tensor(fill)))


@pytest.mark.parametrize("coverage", [0.1, 0.35, 0.7])
@pytest.mark.parametrize(("kind", "within"), [("strokes", 0.1), ("boxes", 0.011), ("expand", 0.02)])
def test_coverage_is_as_asked(kind: str, within: float, coverage: float) -> None:
    settings = Mask(kinds=(kind,), coverage=(coverage, coverage))
    for seed in range(5):
        share = hidden_share(settings.draw(generator(seed), SIZE))
        assert share == pytest.approx(coverage, abs=within)
        assert kind != "strokes" or share >= coverage - 1e-6


@pytest.mark.parametrize(
    ("kind", "share"), [("half", 0.5), ("every_second_line", 0.5), ("every_second_pixel", 0.75)]
)
def test_fixed_patterns_hide_a_fixed_share(kind: str, share: float) -> None:
    drawn = [Mask(kinds=(kind,)).draw(generator(seed), SIZE) for seed in range(30)]
    assert {round(hidden_share(mask), 6) for mask in drawn} == {share}
    different = {mask.numpy().tobytes() for mask in drawn}
    assert len(different) == {"half": 4, "every_second_line": 2, "every_second_pixel": 1}[kind]


def test_expand_keeps_the_middle() -> None:
    mask = Mask(kinds=("expand",), coverage=(0.75, 0.75)).draw(generator(), SIZE)[0]
    rows, columns = mask.nonzero().T
    assert (rows.amin(), rows.amax()) == (22, 66) or (rows.amin(), rows.amax()) == (23, 67)
    assert (columns.amin(), columns.amax()) == (30, 89)
    assert mask.sum() == 45 * 60


def test_kinds_come_as_often_as_they_are_named() -> None:
    settings = Mask(kinds=("half", "every_second_pixel", "half", "half"))
    shares = [hidden_share(settings.draw(generator(seed), (8, 8))) for seed in range(200)]
    assert set(shares) == {0.5, 0.75}
    assert 0.65 < sum(share == 0.5 for share in shares) / 200 < 0.85


def test_same_generator_same_mask_and_others_differ() -> None:
    first, again, other = (Mask()(photo(), generator(seed), FRAME)["lq"] for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("size", "most"), [((40, 40), 8), ((40, 60), 4)])
def test_crops_of_a_photo_get_mirrored_masks(size: tuple[int, int], most: int) -> None:
    settings = Mask(kinds=("strokes",), fill=0.0)
    scene, white = settings.draw_scene(FRAME.thumbnail, generator(3)), torch.ones(3, *size)
    mask = scene.mask(size)
    variants = [mask.flip(axes) for axes in ((), (-1,), (-2,), (-2, -1))]
    variants += [variant.mT for variant in variants] if most == 8 else []
    found = set()
    for seed in range(60):
        kept = settings.apply(white, scene, generator(seed), FRAME)["lq"][:1] > 0
        found |= {n for n, variant in enumerate(variants) if torch.equal(kept, variant)}
        assert any(torch.equal(kept, variant) for variant in variants)
    assert len(found) == most
    again = settings.draw_scene(FRAME.thumbnail, generator(3))
    assert torch.equal(again.mask(size), mask)


def test_masks_of_a_folder(tmp_path) -> None:
    """White is kept; a mask is stretched to the crop and mirrored, its values stay two."""
    pixels = np.zeros((6, 8), np.uint8)
    pixels[:3, :4] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    settings = Mask(folder=str(tmp_path))
    corner = torch.zeros(1, *SIZE, dtype=torch.bool)
    corner[:, :45, :60] = True
    corners = [corner, corner.flip(1), corner.flip(2), corner.flip(1, 2)]
    found = set()
    for seed in range(30):
        mask = settings.draw(generator(seed), SIZE)
        found.add([torch.equal(mask, known) for known in corners].index(True))
    assert found == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kinds": ("boxs",)}, "did you mean 'boxes'"),
        ({"kinds": ()}, "Mask.kinds"),
        ({"kinds": "boxes"}, "Mask.kinds"),
        ({"coverage": (0.5, 0.2)}, "Mask.coverage"),
        ({"coverage": (0.0, 0.2)}, "Mask.coverage"),
        ({"fill": 2.0}, "Mask.fill"),
        ({"folder": "/nowhere/at/all"}, "Mask.folder: folder '/nowhere/at/all' does not exist"),
    ],
)
def test_settings_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Mask(**options)
