"""Weak changes stay only where they touch strong ones; the setting is part of the weights file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import DIFFUSION, PIXEL, build

from refusion.checkpoint import save_checkpoint
from refusion.config import model_config_from_dict
from refusion.errors import ConfigError
from refusion.restorers import load_restorer
from refusion.restorers.refusion.hysteresis import keep_strong_changes

LIMITS = (0.06, 0.4)


def lightened(*parts: tuple[slice, float], size: tuple[int, int] = (96, 128)) -> torch.Tensor:
    """Grey photos (1, 3, H, W) at 0.3, whose columns are multiplied by exp(ratio)."""
    image = torch.full((1, 3, *size), 0.3)
    for columns, ratio in parts:
        image[..., columns] *= float(torch.tensor(ratio).exp())
    return image


PHOTO = lightened()


def test_a_weak_change_is_undone() -> None:
    weak = lightened((slice(40, 80), 0.3))
    assert torch.equal(keep_strong_changes(PHOTO, weak, LIMITS), PHOTO)


@pytest.mark.parametrize("size", [(96, 128), (48, 64), (300, 400)])
def test_a_strong_change_stays(size: tuple[int, int]) -> None:
    width = size[1]
    photo = lightened(size=size)
    strong = lightened((slice(width // 4, width * 3 // 4), 0.5), size=size)
    kept = keep_strong_changes(photo, strong, LIMITS)
    inside = slice(width * 3 // 10, width * 7 // 10)
    torch.testing.assert_close(kept[..., inside], strong[..., inside])
    assert torch.equal(kept[..., : width // 8], photo[..., : width // 8])


def test_a_weak_change_stays_where_it_touches_a_strong_one() -> None:
    # Columns 80 to 100 change by less than the low threshold, so they separate two regions.
    parts = [(20, 60, 0.3), (60, 80, 0.6), (80, 100, 0.02), (100, 128, 0.3)]
    touching = lightened(*((slice(start, end), ratio) for start, end, ratio in parts))
    kept = keep_strong_changes(PHOTO, touching, LIMITS)
    torch.testing.assert_close(kept[..., 26:76], touching[..., 26:76])
    assert torch.equal(kept[..., 104:], PHOTO[..., 104:])


def test_a_change_below_the_low_threshold_is_undone_next_to_a_strong_one() -> None:
    touching = lightened((slice(20, 60), 0.02), (slice(60, 100), 0.6))
    kept = keep_strong_changes(PHOTO, touching, LIMITS)
    torch.testing.assert_close(kept[..., 20:48], PHOTO[..., 20:48])


def test_a_darker_result_counts_like_a_lighter_one() -> None:
    darker = lightened((slice(30, 90), -0.6))
    kept = keep_strong_changes(PHOTO, darker, LIMITS)
    torch.testing.assert_close(kept[..., 36:84], darker[..., 36:84])


def test_photos_of_a_batch_are_independent() -> None:
    strong, weak = lightened((slice(30, 90), 0.6)), lightened((slice(30, 90), 0.3))
    both = keep_strong_changes(PHOTO.expand(2, -1, -1, -1), torch.cat([strong, weak]), LIMITS)
    assert torch.equal(both[:1], keep_strong_changes(PHOTO, strong, LIMITS))
    assert torch.equal(both[1:], PHOTO)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 500)])
def test_any_size_black_or_not(size: tuple[int, int]) -> None:
    for level in (0.0, 0.5):
        photo = torch.full((1, 3, *size), level)
        kept = keep_strong_changes(photo, photo + 0.4, LIMITS)
        assert kept.shape == photo.shape
        assert torch.isfinite(kept).all()
        torch.testing.assert_close(kept, photo + 0.4)


def test_values_that_are_not_finite_stay_so() -> None:
    broken = PHOTO.clone()
    broken[..., 5, 5] = torch.nan
    assert not torch.isfinite(keep_strong_changes(PHOTO, broken, LIMITS)).all()


@pytest.mark.parametrize("process_side", [None, 32])
def test_a_weights_file_can_ask_for_it(process_side: int | None, tmp_path: Path) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in build(PIXEL).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, 40, 56, generator=generator)
    results = {}
    for limits in (None, (1e-6, 2e-6), (4.0, 5.0)):
        sampling = DIFFUSION["sampling"] | {"process_side": process_side, "change_limits": limits}
        config = {"task": "deshadow", "network": PIXEL} | DIFFUSION | {"sampling": sampling}
        save_checkpoint(tmp_path / "model.safetensors", config, tensors, {})
        restorer = load_restorer(tmp_path / "model.safetensors", device="cpu", precision="fp32")
        results[limits] = restorer.restore(photo)
    plain, all_kept, none_kept = results.values()
    assert (plain - photo).abs().max() > 0.01
    torch.testing.assert_close(none_kept, photo, atol=1e-6, rtol=0)
    torch.testing.assert_close(all_kept, plain, atol=1e-3, rtol=0)


@pytest.mark.parametrize("high", [0.02, 0.05, 0.1, 0.2, 0.4])
def test_the_limits_are_those_of_the_whole_change(high: float, tmp_path: Path) -> None:
    """A half of the strength gives a half of the change, also where it is below the limits."""
    tensors = {f"network.{name}": tensor for name, tensor in build(PIXEL).state_dict().items()}
    photo = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    sampling = DIFFUSION["sampling"] | {"change_limits": (high / 2, high)}
    config = {"task": "deshadow", "network": PIXEL} | DIFFUSION | {"sampling": sampling}
    save_checkpoint(tmp_path / "model.safetensors", config, tensors, {})
    restorer = load_restorer(tmp_path / "model.safetensors", device="cpu", precision="fp32")
    whole, half = restorer.restore(photo), restorer.restore(photo, strength=0.5)
    inside = (whole > 0) & (whole < 1)  # the others are clamped
    expected = torch.lerp(photo, whole, 0.5)
    torch.testing.assert_close(half[inside], expected[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("limits", [[0.4, 0.06], [0, 0.4], [0.4, 0.4]])
def test_limits_that_do_not_ascend_are_refused(limits: list[float]) -> None:
    sampling = DIFFUSION["sampling"] | {"change_limits": limits}
    config = {"task": "deshadow", "network": PIXEL} | DIFFUSION | {"sampling": sampling}
    with pytest.raises(ConfigError, match="change_limits: expected 0 < low < high"):
        model_config_from_dict(config, "test")
