"""Laws of the synthetic shadows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations.cast_shadow import Caster, ShadowFields
from refusion.synthesis.degradations.shadow import Shadow
from refusion.synthesis.degradations.shadow_shapes import SHAPES, Points, ShadowScene
from refusion.synthesis.scenes.frame import PhotoFrame

STILL = Shadow(clean_share=0.0, exposure=0.0, colour=0.0, noise_share=0.0, jpeg_share=0.0)
GREY = replace(STILL, tint=0.0, sky_share=0.0, ambient_spread=(0.0, 0.0))
SIZE = (96, 128)


FRAME = PhotoFrame.whole(colours())


def only(kind: str, **settings: object) -> Shadow:
    weights = tuple(float(name == kind) for name in SHAPES)
    return replace(STILL, shape_weights=weights, **settings)


def test_linear_light_in_full_shadow_is_the_ambient_share() -> None:
    clean, ambient = torch.full((3, 1, 1), 0.6), torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    dark = ShadowFields(torch.ones(1, 1, 1), ambient).cast(clean)
    torch.testing.assert_close(dark**2.2 / clean**2.2, ambient)
    half = ShadowFields(torch.full((1, 1, 1), 0.5), ambient).cast(clean)
    torch.testing.assert_close(half**2.2 / clean**2.2, (1 + ambient) / 2)
    assert torch.equal(ShadowFields(torch.zeros(1, 1, 1), ambient).cast(clean), clean)


@pytest.mark.parametrize("seed", range(4))
def test_photo_is_darkened_by_its_fields_alone(seed: int) -> None:
    clean = colours()
    fields = STILL.draw(generator(seed), FRAME, SIZE)
    dark = STILL(clean, generator(seed), FRAME)["lq"]
    assert torch.equal(dark, quantise(fields.cast(clean)))
    untouched = (fields.occlusion == 0).expand_as(clean)
    assert torch.equal(dark[untouched], quantise(clean)[untouched])
    assert (dark <= quantise(clean)).all()


def test_ambient_light_is_as_drawn_and_the_sky_is_blue() -> None:
    fields = replace(GREY, ambient=(0.3, 0.3)).draw(generator(), FRAME, SIZE)
    torch.testing.assert_close(fields.ambient, torch.full((3, *SIZE), 0.3))
    outdoors = replace(GREY, ambient=(0.3, 0.3), sky_share=1.0, sky_tint=(0.2, 0.2))
    red, green, blue = outdoors.draw(generator(), FRAME, SIZE).ambient.mean((1, 2)).tolist()
    assert (red, green, blue) == pytest.approx((0.24, 0.3, 0.36))


def test_coverage_stays_in_its_range_and_fills_it() -> None:
    shadows = [STILL.draw(generator(seed), FRAME, (48, 64)).occlusion for seed in range(60)]
    covered = [float(hidden.mean() / hidden.max()) for hidden in shadows]
    assert 0.04 < min(covered) < 0.15
    assert 0.5 < max(covered) < 0.71


@pytest.mark.parametrize("turn", ["none", "mirrored", "flipped", "transposed", "all"])
@pytest.mark.parametrize("seed", range(8))
def test_crop_sees_its_part_of_the_photo_shadow(seed: int, turn: str) -> None:
    whole = STILL.draw(generator(seed), FRAME, SIZE)
    left, top, right, bottom = 0.25, 1 / 6, 0.75, 2 / 3
    expected = torch.cat([whole.occlusion, whole.ambient])[:, 16:64, 32:96]
    if turn in ("mirrored", "all"):
        left, right, expected = right, left, expected.flip(-1)
    if turn in ("flipped", "all"):
        top, bottom, expected = bottom, top, expected.flip(-2)
    is_transposed = turn in ("transposed", "all")
    expected = expected.mT if is_transposed else expected
    frame = replace(FRAME, box=(left, top, right, bottom), transposed=is_transposed)
    seen = STILL.draw(generator(seed), frame, (expected.shape[1], expected.shape[2]))
    found = torch.cat([seen.occlusion, seen.ambient])
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_shadow_is_the_same_at_every_resolution(seed: int) -> None:
    coarse = STILL.draw(generator(seed), FRAME, SIZE).occlusion
    fine = STILL.draw(generator(seed), FRAME, (4 * SIZE[0], 4 * SIZE[1])).occlusion
    assert (torch.nn.functional.avg_pool2d(fine, 4) - coarse).abs().mean() < 0.01


def test_half_shadow_widens_as_far_as_said() -> None:
    """An edge along the columns, cast by something at column 0."""
    points, pixel = ShadowScene(1.0, 1.0, 0.0).grid(400), 1 / 400
    caster = Caster(lambda p: (p.rows - 0.5, p.columns), 0.02, 0.3, 1.0)
    hidden = caster.occlusion(points, pixel)
    widths = ((hidden > 0) & (hidden < 1)).sum(0) * pixel
    assert (widths.diff() >= 0).all()
    torch.testing.assert_close(widths, 0.02 + 0.3 * points.columns[0], atol=2 * pixel, rtol=0)
    assert (hidden.diff(dim=0) >= 0).all()
    torch.testing.assert_close(hidden + hidden.flip(0), torch.ones_like(hidden))


def test_hard_shadows_are_sharp_at_the_resolution_of_the_crop() -> None:
    hard = only("polygon", penumbra=(0.0, 0.0), growth=(0.0, 0.0), lights_share=0.0, spare_share=0)
    for size in ((96, 128), (768, 1024)):
        hidden = hard.draw(generator(1), FRAME, size).occlusion[0]
        assert hidden.diff(dim=1).abs().max() > 0.5
        between = ((hidden > 0.01) & (hidden < 0.99)).float().mean()
        assert 0 < between < 12 / max(size)


@pytest.mark.parametrize("kind", SHAPES)
def test_outlines_are_sound(kind: str) -> None:
    shadowed = []
    for seed in range(12):
        scene = ShadowScene(0.75, 1.0, azimuth=seed / 2)
        distance, reach = SHAPES[kind](generator(seed), scene)(scene.grid(64))
        assert distance.shape == reach.shape == (48, 64)
        assert torch.isfinite(distance).all()
        assert (reach >= 0).all()
        steepest = torch.stack(
            [distance.diff(dim=0).abs().amax(), distance.diff(dim=1).abs().amax()]
        )
        # True distances have slope 1, tapered limbs a little more; fields have it on the average.
        limit = 8.0 if kind in ("blob", "foliage") else 1.1
        assert (64 * steepest < limit).all()
        shadowed.append(float((distance > 0).float().mean()))
    assert max(shadowed) > 0.05
    assert min(shadowed) < 0.9


def test_limbs_have_their_true_distance() -> None:
    """Outside a figure, walking the distance back along its gradient ends on the outline."""
    scene = ShadowScene(1.0, 1.0, 1.2)
    outline = SHAPES["figure"](generator(3), scene)
    points = scene.grid(40)
    rows, columns = points.rows.clone().requires_grad_(), points.columns.clone().requires_grad_()
    distance, _ = outline(Points(rows, columns))
    down, right = torch.autograd.grad(distance.sum(), (rows, columns))
    away = distance.detach()
    moved = Points(points.rows - away * down, points.columns - away * right)
    outside = away < -0.01
    assert outside.any()
    assert outline(moved)[0][outside].abs().max() < 2e-2
    assert outline(moved)[0][outside].abs().median() < 1e-5


def test_relief_displaces_and_far_layers_are_spared() -> None:
    still = only("wall", relief_share=0.0, spare_share=0.0, coverage=(0.0, 1.0))
    broken, spared = replace(still, relief_share=1.0), replace(still, spare_share=1.0)
    moved, lit = [], []
    for seed in range(8):
        plain, other, less = (
            s.draw(generator(seed), FRAME, SIZE).occlusion for s in (still, broken, spared)
        )
        assert (less <= plain).all()
        moved.append(float((plain - other).abs().mean()))
        lit.append(float((less < plain).float().mean()))
    assert max(moved) > 0.02
    assert 0.1 < max(lit) < 0.6


def test_shadowless_share_leaves_photos_alone() -> None:
    noisy = replace(Shadow(), clean_share=1.0, noise_share=1.0, jpeg_share=1.0)
    for seed in range(3):
        assert torch.equal(noisy(colours(), generator(seed), FRAME)["lq"], quantise(colours()))


def test_noise_is_strongest_in_the_dark() -> None:
    """Full ambient light: no shadow, all that is left is the camera."""
    bare = replace(GREY, ambient=(1.0, 1.0), noise_share=1.0, noise=(0.01, 0.01))
    clean = torch.full((3, *SIZE), 0.05)
    clean[:, :, 64:] = 0.8
    error = bare(clean, generator(), FRAME)["lq"] - clean
    assert error[:, :, :64].std() > 1.2 * error[:, :, 64:].std()
    assert error.abs().mean() < 0.02


def test_same_generator_same_shadow_and_others_differ() -> None:
    first, again = (Shadow()(colours(), generator(5), FRAME)["lq"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, Shadow()(colours(), generator(6), FRAME)["lq"])


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 1), (67, 41)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_any_size_and_level_gives_an_8_bit_photo(size: tuple[int, int], level: float) -> None:
    clean = torch.full((3, *size), level)
    for seed in range(4):
        dark = Shadow()(clean, generator(seed), PhotoFrame.whole(clean))["lq"]
        assert_8_bit(dark, clean.shape)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"ambient": (0.6, 0.5)}, "ambient"),
        ({"coverage": (-0.1, 0.5)}, "coverage"),
        ({"clean_share": 1.5}, "clean_share"),
        ({"casters": (0, 2)}, "casters"),
        ({"casters": (1.0, 2.0)}, "casters"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"shape_weights": (0.0,) * 7}, "shape_weights"),
        ({"noise": 0.1}, "noise"),
        ({"tint": float("nan")}, "tint"),
    ],
)
def test_settings_out_of_range(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=f"Shadow.{word}"):
        Shadow(**options)
