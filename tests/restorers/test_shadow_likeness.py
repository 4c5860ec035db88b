"""A changed region stays if its change looks like the removal of a shadow."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import DIFFUSION, PIXEL

from refusion.config import model_config_from_dict
from refusion.errors import ConfigError
from refusion.restorers.refusion.hysteresis import keep_strong_changes
from refusion.restorers.refusion.shadow_likeness import DARKEST, LEAST, WEAKNESS, shadow_likeness

LIMITS = (1.0, 1.5)
H, W = 40, 56  # of the masks; the copies have twice the size


def doubled(mask):
    return mask.repeat_interleave(2, -1).repeat_interleave(2, -2)


def ground() -> torch.Tensor:
    return 0.5 + 0.02 * torch.rand(1, 3, 2 * H, 2 * W, generator=torch.Generator().manual_seed(0))


def square(top=10, left=12, side=16) -> torch.Tensor:
    mask = torch.zeros(1, 1, H, W)
    mask[..., top : top + side, left : left + side] = 1
    return mask


def judged(photo, result, mask, weak=None, limits=LIMITS, ratio=1.0):
    weak = mask if weak is None else weak
    return shadow_likeness(photo, result, mask, weak, ratio * mask, limits)


def lit(mask, inside, outside=0.5):
    """A grey copy (1, 3, 2 H, 2 W) of two values."""
    plain = torch.full((1, 3, 2 * H, 2 * W), float(outside))
    return torch.where(doubled(mask) > 0, float(inside), plain)


def test_a_shadow_that_is_removed_stays_removed():
    mask = square()
    photo = ground() * (1 - 0.6 * doubled(mask))
    assert torch.equal(judged(photo, ground(), mask), mask)


def test_a_dark_thing_that_becomes_grey_is_left_alone():
    """It changes unevenly, stays darker than its surroundings, and gets new edges."""
    mask, steps = square(), torch.arange(2 * W) % 16 / 16
    photo = torch.lerp(ground(), torch.full_like(ground(), 0.08), doubled(mask))
    grey = 0.085 + 0.11 * steps.expand_as(photo)
    result = torch.lerp(ground(), grey, doubled(mask))
    assert judged(photo, result, mask).abs().max() < 1e-6


def test_unevenness_is_the_deviation_relative_to_the_mean():
    """The result is even and as bright as its surroundings; nearly no edge is left."""
    mask = square()
    factor = torch.where(torch.arange(2 * W) // 2 % 2 == 0, 0.2, 0.4)  # of the logarithm
    result = torch.full((1, 3, 2 * H, 2 * W), 0.5)
    photo = torch.where(doubled(mask) > 0, result * torch.exp(-factor), result)
    weights = judged(photo, result, mask, limits=(0.2, 0.4))
    torch.testing.assert_close(weights, (0.4 - 0.1 / 0.3) / 0.2 * mask, rtol=0, atol=1e-3)


@pytest.mark.parametrize("missing", [-0.5, 0.0, 0.1, 0.3, 0.5, 0.9])
def test_missing_light_is_relative_to_the_change_and_limited(missing):
    """Edges: of the contrast 1 + missing of the photo, the result has |missing|."""
    mask, weights = square(), {}
    photo, result = lit(mask, 0.5 * math.exp(-1 - missing)), lit(mask, 0.5 * math.exp(-missing))
    weights = judged(photo, result, mask, limits=(0.1, 2.1))
    unlike = min(max(missing, 0.0), 0.5) + abs(missing) / (1 + missing)
    expected = min(1.0, (2.1 - unlike) / 2)
    torch.testing.assert_close(weights, expected * mask, rtol=0, atol=1e-4)


def test_the_bright_parts_count():
    """A shadow on a ground with dark stones: in mean, the region stays darker than around it."""
    mask = square()
    stones = doubled(mask) * (torch.arange(2 * W) // 8 % 2)
    clean = torch.where(stones > 0, 0.1, ground())
    photo = clean * (1 - 0.6 * doubled(mask))
    assert torch.equal(judged(photo, clean, mask, limits=(0.9, 1.0)), mask)


def test_changes_beside_a_region_are_no_surroundings():
    mask, bright = square(), square(8, 10, 20)
    photo = lit(mask, 0.1, 0.2)
    photo = torch.where(doubled(bright - mask) > 0, 0.9, photo)
    result = torch.where(doubled(mask) > 0, 0.2, photo)
    limits = (0.5, 4.5)
    alone = judged(photo, result, mask, limits=limits)
    shared = judged(photo, result, mask, weak=bright, limits=limits)
    assert float((shared - alone).max()) == pytest.approx(DARKEST / 4, abs=1e-4)


def test_a_change_that_makes_new_edges_is_left_alone():
    """The change has a border where the photo has none: a ramp, as in a soft background."""
    mask = square()
    photo = ground()
    result = photo * (1 + 0.8 * doubled(mask))
    assert judged(photo, result, mask).max() == 0
    assert torch.equal(judged(result, photo, mask), mask)  # the other way, an edge is removed


@pytest.mark.parametrize(
    ("peak", "weakness"), [(0.1, 1.0), (0.25, 1.0), (0.4, 0.5), (0.49, 0.2), (0.55, 0.0), (2, 0.0)]
)
def test_a_weak_change_needs_more_evidence(peak, weakness):
    """The other three numbers are nearly 0 for a shadow that is removed."""
    mask, ratio = square(), torch.full((1, 1, H, W), 0.05)
    ratio[..., 15, 20], ratio[..., 0, 0] = peak, 9.0  # the second is outside of the region
    photo = ground() * (1 - 0.3 * doubled(mask))
    strong = judged(photo, ground(), mask, limits=(0.01, 2.0))
    weights = judged(photo, ground(), mask, limits=(0.01, 2.0), ratio=ratio)
    expected = strong - WEAKNESS * weakness / 1.99 * mask
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-5)


def test_regions_are_judged_one_by_one():
    shadow, thing = square(4, 4, 12), square(20, 34, 14)
    mask = shadow + thing
    noise = torch.rand(1, 3, 2 * H, 2 * W, generator=torch.Generator().manual_seed(1))
    photo = ground() * (1 - 0.6 * doubled(shadow))
    photo = torch.where(doubled(thing) > 0, 0.03 + 0.05 * noise, photo)
    result = torch.where(doubled(thing) > 0, 0.04 + 0.1 * noise.flip(-1), ground())
    assert torch.equal(judged(photo, result, mask), shadow)
    alone = judged(
        photo.expand(2, -1, -1, -1), torch.cat([result, ground()]), mask.repeat(2, 1, 1, 1)
    )
    assert torch.equal(alone[:1], shadow)


def test_small_regions_and_regions_without_surroundings_are_not_judged_by_them():
    small = torch.zeros(1, 1, H, W)
    small[..., 5, 5 : 5 + LEAST - 1] = 1
    noise = torch.rand(1, 3, 2 * H, 2 * W, generator=torch.Generator().manual_seed(1))
    uneven = 0.05 + 0.1 * noise, 0.1 + 0.4 * noise.flip(-1)
    assert torch.equal(judged(*uneven, small), small)
    torch.testing.assert_close(judged(*uneven, small, ratio=0.4), small / 2)
    everything = torch.ones(1, 1, H, W)
    assert torch.equal(judged(0.4 * ground(), ground(), everything), everything)


def test_odd_sizes():
    """A copy of 79 x 111 pixels has masks of 40 x 56."""
    mask = square(24, 40, 16)  # at the corner
    photo = (ground() * (1 - 0.6 * doubled(mask)))[..., :-1, :-1]
    assert torch.equal(judged(photo, ground()[..., :-1, :-1], mask), mask)


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
