"""A changed region stays if its change looks like the removal of a shadow."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import DIFFUSION, PIXEL

from refusion.config import model_config_from_dict
from refusion.errors import ConfigError
from refusion.restorers.refusion.hysteresis import keep_strong_changes
from refusion.restorers.refusion.shadow_likeness import FLOOR, LEAST, shadow_likeness

LIMITS = (0.8, 1.2)
H, W = 40, 56


def ground() -> torch.Tensor:
    return 0.5 + 0.02 * torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))


def square(top=10, left=12, side=16) -> torch.Tensor:
    mask = torch.zeros(1, 1, H, W)
    mask[..., top : top + side, left : left + side] = 1
    return mask


def judged(photo, result, mask, weak=None, limits=LIMITS):
    return shadow_likeness(photo, result, mask, mask if weak is None else weak, limits)


def test_a_shadow_that_is_removed_stays_removed():
    mask = square()
    photo = ground() * (1 - 0.6 * mask)
    assert torch.equal(judged(photo, ground(), mask), mask)


def test_a_dark_thing_that_becomes_grey_is_left_alone():
    """It changes unevenly, and differs from its surroundings before and after."""
    mask, steps = square(), torch.arange(W) % 8 / 8
    photo = torch.lerp(ground(), torch.full((1, 3, H, W), 0.08), mask)
    result = torch.lerp(ground(), 0.085 + 0.11 * steps.expand(1, 3, H, W), mask)
    assert judged(photo, result, mask).abs().max() < 1e-6


@pytest.mark.parametrize("left", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_weight_falls_with_the_remaining_contrast(left):
    """A result of one colour has no unevenness, so that the sum is the contrast alone."""
    mask = square()
    photo, result = torch.full((1, 3, H, W), 0.5), torch.full((1, 3, H, W), 0.5)
    photo = torch.where(mask > 0, 0.5 * math.exp(-1.0), photo)
    result = torch.where(mask > 0, 0.5 * math.exp(-left), result)
    expected = min(1.0, max(0.0, (0.9 - left / (1 + FLOOR)) / 0.6))
    weights = judged(photo, result, mask, limits=(0.3, 0.9))
    if left < 1:  # else nothing changes, and the mean of the change is 0
        torch.testing.assert_close(weights, expected * mask, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0.5, 0.7])
def test_a_region_that_is_lighter_than_its_surroundings_afterwards_is_no_contrast(level):
    """A shadow on a light thing; for a region that became darker the signs are exchanged."""
    mask = square()
    plain, dark = torch.full((1, 3, H, W), 0.5), torch.full((1, 3, H, W), 0.3)
    photo, result = torch.where(mask > 0, dark, plain), torch.where(mask > 0, level, plain)
    assert torch.equal(judged(photo, result, mask, limits=(0.1, 0.2)), mask)
    assert torch.equal(judged(1 - photo, 1 - result, mask, limits=(0.1, 0.2)), mask)


def test_unevenness_is_the_deviation_relative_to_the_mean():
    mask = square()
    factor = torch.where(torch.arange(W) % 2 == 0, 0.2, 0.4).expand(1, 3, H, W)  # of the log
    result = torch.full((1, 3, H, W), 0.5)
    photo = torch.where(mask > 0, result * torch.exp(-factor), result)
    unevenness = 0.1 / 0.3
    weights = judged(photo, result, mask, limits=(0.2, 0.4))  # no contrast is left
    torch.testing.assert_close(weights, (0.4 - unevenness) / 0.2 * mask, rtol=0, atol=1e-3)


def test_regions_are_judged_one_by_one():
    shadow, thing = square(4, 4, 12), square(20, 34, 14)
    mask = shadow + thing
    noise = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(1))
    photo = ground() * (1 - 0.6 * shadow)
    photo = torch.where(thing > 0, 0.03 + 0.05 * noise, photo)
    result = torch.where(thing > 0, 0.04 + 0.1 * noise.flip(-1), ground())
    assert torch.equal(judged(photo, result, mask), shadow)
    alone = judged(
        photo.expand(2, -1, -1, -1), torch.cat([result, ground()]), mask.repeat(2, 1, 1, 1)
    )
    assert torch.equal(alone[:1], shadow)


def test_small_regions_and_regions_without_surroundings_are_not_judged_by_them():
    small = torch.zeros(1, 1, H, W)
    small[..., 5, 5 : 5 + LEAST - 1] = 1
    noise = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(1))
    assert torch.equal(judged(0.05 + 0.1 * noise, 0.1 + 0.4 * noise.flip(-1), small), small)
    everything = torch.ones(1, 1, H, W)
    assert torch.equal(judged(0.4 * ground(), ground(), everything), everything)


def test_a_restorer_with_the_limits_keeps_the_shadow_and_leaves_the_thing():
    """On photos: the reduced copies and the soft borders of the hysteresis come on top."""
    size = (120, 160)
    photo = torch.full((1, 3, *size), 0.6)
    photo[..., 20:60, 20:70] = 0.2
    thing = (..., slice(70, 110), slice(90, 150))
    photo[thing] = 0.04
    result = photo.clone()
    result[..., 20:60, 20:70] = 0.6
    result[thing] *= 1.15 + 1.2 * torch.linspace(0, 1, 60).square()
    both = keep_strong_changes(photo, result, (0.1, 0.45))
    kept = keep_strong_changes(photo, result, (0.1, 0.45), LIMITS)
    assert float(both[thing].mean()) > 1.2 * float(photo[thing].mean())
    inner = (..., slice(26, 54), slice(26, 64))
    torch.testing.assert_close(kept[inner], result[inner], rtol=0, atol=0.02)
    assert torch.equal(kept[thing], photo[thing])


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"shadow_limits": [0.8, 1.2]}, "shadow_limits: they need change_limits"),
        ({"change_limits": [0.1, 0.4], "shadow_limits": [1.2, 0.8]}, "shadow_limits: expected 0"),
        ({"change_limits": [0.1, 0.4], "shadow_limits": [0, 0.8]}, "shadow_limits: expected 0"),
    ],
)
def test_wrong_limits_are_refused(sampling, said):
    model = {"task": "deshadow", "network": PIXEL} | DIFFUSION
    model["sampling"] = model["sampling"] | sampling
    with pytest.raises(ConfigError, match=said):
        model_config_from_dict(model, "test")
