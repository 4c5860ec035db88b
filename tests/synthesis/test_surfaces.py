"""Procedural photos of surfaces: what they are made of, and how much they vary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dataset_cases import assert_same, save_photo

from refusion.data.synthetic_pairs import SyntheticPairs
from refusion.errors import ConfigError
from refusion.synthesis.scenes.marks import MARKS, SurfacePoints
from refusion.synthesis.scenes.materials import MATERIALS
from refusion.synthesis.scenes.surfaces import draw_surface


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def place(side: int) -> SurfacePoints:
    axis = (torch.arange(side) + 0.5) / side - 0.5
    return SurfacePoints(axis[:, None].expand(side, side), axis[None].expand(side, side), 1 / side)


@pytest.fixture(scope="module")
def draws() -> torch.Tensor:
    return torch.stack([draw_surface(generator(seed), (96, 96)) for seed in range(200)])


@pytest.mark.parametrize("size", [(64, 64), (16, 40), (97, 33)])
def test_a_draw_is_a_function_of_the_generator(size: tuple[int, int]) -> None:
    one, same, other = (draw_surface(generator(seed), size) for seed in (5, 5, 6))
    assert one.shape == (3, *size)
    assert one.dtype == torch.float32
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_values_are_finite_and_displayable(draws: torch.Tensor) -> None:
    assert draws.isfinite().all()
    assert draws.min() >= 0
    assert draws.max() <= 1


def test_surfaces_vary_in_brightness_contrast_and_colour(draws: torch.Tensor) -> None:
    grey = draws.mean(1)
    mean, contrast = grey.mean((1, 2)), grey.std((1, 2))
    saturation = ((draws.amax(1) - draws.amin(1)) / draws.amax(1).clamp_min(0.02)).mean((1, 2))
    for value, low, high in (
        (mean, 0.38, 0.58),
        (contrast, 0.08, 0.18),
        (saturation, 0.2, 0.45),
    ):
        tenth, ninth = value.quantile(0.1), value.quantile(0.9)
        assert tenth < low < high < ninth, (float(tenth), float(ninth))
    assert 0.4 < mean.mean() < 0.55


def test_dark_is_not_always_a_shadow_and_light_is_seldom_burnt_out(draws: torch.Tensor) -> None:
    has_black = (draws.amax(1) < 0.12).float().mean((1, 2)) > 0.01
    assert 0.15 < has_black.float().mean() < 0.7
    assert (draws.amin(1) > 0.995).float().mean() < 0.02


@pytest.mark.parametrize("kind", MATERIALS)
def test_every_material_is_a_torus_of_any_colour(kind: str) -> None:
    draw, means = MATERIALS[kind][0], []
    for seed in range(8):
        texture = draw(96, generator(seed))
        lit = texture.lit(0.7, 1.0)
        assert lit.shape == (4, 96, 96)
        assert lit.isfinite().all()
        assert lit[:3].min() >= 0
        assert lit[:3].max() <= 1.5
        means.append(lit[:3].mean((1, 2)))
        seam = (lit[:3, :, 0] - lit[:3, :, -1]).abs().mean()
        steps = lit[:3].diff(dim=2).abs().mean((0, 1))
        assert seam < 3 * steps.max() + 1e-3
    assert torch.stack(means).std(0).max() > 0.02


def test_light_from_the_other_side_turns_the_shading_round() -> None:
    """Sums to twice the albedo where nothing is clamped."""
    texture = MATERIALS["concrete"][0](64, generator())
    left, right = texture.lit(0.0, 2.0), texture.lit(torch.pi, 2.0)
    assert (left - right)[:3].abs().mean() > 1e-3
    assert torch.allclose((left + right)[:3] / 2, texture.albedo, atol=1e-3)


@pytest.mark.parametrize("kind", range(len(MARKS)))
def test_every_mark_changes_its_part_of_the_surface(kind: int) -> None:
    shares = []
    for seed in range(6):
        image = torch.full((3, 96, 96), 0.5)
        marked = MARKS[kind][0](image, place(96), generator(seed))
        assert marked.isfinite().all()
        assert marked.min() >= 0
        assert marked.max() < 1.5
        assert (image == 0.5).all(), "the surface below is left alone"
        shares.append(float((marked != image).any(0).float().mean()))
    assert max(shares) > 0.002
    assert sum(shares) / len(shares) < 0.7


def pairs(folder: Path, share: float, **options: object) -> SyntheticPairs:
    for name in ("a.png", "b.png"):
        save_photo(folder / name)
    arguments = {"folders": [folder], "degradation": {"type": "Shadow"}, "patch": 32, **options}
    return SyntheticPairs(cache=folder.parent / "cache", surface_share=share, **arguments)


def test_a_share_of_the_patches_are_surfaces(tmp_path: Path) -> None:
    """All others stay what they are, bit for bit, whatever the share."""
    none, half, all_ = (pairs(tmp_path / "photos", share) for share in (0.0, 0.5, 1.0))
    is_surface = []
    for index in range(40):
        mixed, photo = half[index], none[index]
        is_surface.append(not torch.equal(mixed["gt"], photo["gt"]))
        assert_same(mixed, all_[index] if is_surface[-1] else photo)
    assert 10 < sum(is_surface) < 30


def test_surfaces_are_degraded_as_photos_are(tmp_path: Path) -> None:
    stream = pairs(tmp_path / "photos", 1.0, degradation={"type": "Shadow", "clean_share": 0.0})
    for index in range(4):
        item = stream[index]
        assert item["gt"].shape == item["lq"].shape == (3, 32, 32)
        assert item["lq"].mean() < item["gt"].mean() - 0.005


def test_whole_photos_are_photos(tmp_path: Path) -> None:
    one, other = (pairs(tmp_path / "photos", share, whole=True) for share in (0.0, 1.0))
    assert_same(one[0], other[0])


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_from_0_to_1(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="surface_share: expected a share from 0 to 1, got"):
        pairs(tmp_path / "photos", share)
