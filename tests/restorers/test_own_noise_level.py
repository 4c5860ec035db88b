"""A denoising model without a noise level estimates that of each photo."""

import numpy as np
import pytest
import torch

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError
from refusion.images.noise_level import NEGLIGIBLE, estimate_noise_std
from refusion.restorers.base import Conditions
from refusion.restorers.refusion.restorer import Refusion


def noisy(*levels, side=32):
    """Flat photos with a step and noise of these 8-bit levels."""
    clean = torch.full((len(levels), 3, side, side), 0.5)
    clean[..., side // 2 :] = 0.7
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return clean + torch.tensor(levels)[:, None, None, None] / 255 * noise


@pytest.fixture
def restorer(tiny_checkpoint):
    return Refusion(build_model(read_checkpoint(tiny_checkpoint("denoise"))))


def test_the_level_is_optional(restorer):
    assert restorer.info.optional == {"noise_std"}
    assert not restorer.info.needs


def test_each_photo_gets_its_estimated_level(restorer):
    photos = noisy(40, 5, 20)
    found = restorer.restore(photos, seed=[1, 2, 3], steps=2)
    for index, level in enumerate(estimate_noise_std(photos).tolist()):
        alone = restorer.restore(
            photos[index : index + 1],
            seed=index + 1,
            steps=2,
            conditions=Conditions(noise_std=level),
        )
        assert torch.equal(found[index], alone[0])


@pytest.mark.parametrize(
    "kind", [torch.tensor, list, tuple, np.array, lambda values: torch.tensor(values).double()]
)
def test_each_photo_may_have_a_given_level(restorer, kind):
    photos, levels = noisy(40, 0, 20), [30 / 255, 0.5 / 255, 0.05]
    found = restorer.restore(photos, seed=[1, 2, 3], conditions=Conditions(noise_std=kind(levels)))
    for index, level in enumerate(levels):
        alone = restorer.restore(
            photos[index : index + 1], seed=index + 1, conditions=Conditions(noise_std=level)
        )
        torch.testing.assert_close(found[index], alone[0], atol=1e-6, rtol=0)
    assert not torch.equal(found[1], photos[1])  # a given level is not replaced by an estimate


@pytest.mark.parametrize("one", [torch.tensor(0.1), torch.tensor([0.1]), np.float32(0.1)])
def test_one_given_level_of_any_kind_is_that_of_all_photos(restorer, one):
    photos = noisy(40, 5)
    expected = restorer.restore(photos, conditions=Conditions(noise_std=float(one)))
    found = restorer.restore(photos, conditions=Conditions(noise_std=one))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([0.1, 0.1, 0.1]), "expected one number or 2, one per photo, got numbers of"),
        (torch.zeros(2, 1), r"got numbers of shape \(2, 1\)"),
        (torch.zeros(0), r"got numbers of shape \(0,\)"),
        ("x", "got 'x'"),
        ([None, 0.1], r"got \[None, 0.1\]"),
        (torch.tensor([0.1, torch.nan]), "expected 0..70 8-bit levels, .* got nan"),
        ([0.1, 0.5], "expected 0..70 8-bit levels, .* got 127.5"),
        ([-0.1, 0.1], "got -25.5"),
    ],
)
def test_levels_that_are_not_one_per_photo_give_one_line(restorer, wrong, message):
    with pytest.raises(ConfigError, match=rf"^noise level: .*{message}[^\n]*$"):
        restorer.restore(noisy(40, 20), conditions=Conditions(noise_std=wrong))


def test_given_levels_do_not_limit_the_steps(restorer):
    levels = torch.tensor([3 / 255, 3 / 255])
    with pytest.raises(ConfigError, match="steps"):
        restorer.restore(
            noisy(3, 3), steps=restorer._model.sde.T, conditions=Conditions(noise_std=levels)
        )


def test_an_estimate_of_the_caller_is_used(restorer, monkeypatch):
    photos = noisy(40, 0, 20)
    expected = restorer.restore(photos, steps=2)
    found = estimate_noise_std(photos)
    monkeypatch.setattr("refusion.restorers.refusion.noise_level.estimate_noise_std", None)
    again = restorer.restore(photos, steps=2, conditions=Conditions(estimated_noise=found))
    assert torch.equal(again, expected) and torch.equal(again[1], photos[1])


def test_the_levels_of_a_batch_of_a_dataset_are_kept(restorer):
    levels = torch.tensor([0.1, 0.05])
    assert torch.equal(Conditions.from_item({"noise_std": levels}).noise_std, levels)


def test_a_given_level_is_not_replaced(restorer):
    photo = noisy(40)
    given = restorer.restore(photo, conditions=Conditions(noise_std=5 / 255))
    assert not torch.equal(given, restorer.restore(photo))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_photo_without_visible_noise_stays_bit_for_bit(restorer, dtype):
    photo = noisy(0.5) if dtype == torch.float32 else (noisy(0) * 255).to(torch.uint8)
    assert estimate_noise_std(photo).item() < NEGLIGIBLE
    assert torch.equal(restorer.restore(photo), photo)
    both = torch.cat([photo, (noisy(40).clamp(0, 1) * 255 if dtype == torch.uint8 else noisy(40))])
    assert not torch.equal(restorer.restore(both.to(dtype))[1], both[1])


def test_levels_above_the_range_of_the_model_count_as_the_largest(restorer):
    photo, largest = noisy(90), restorer._model.sde.lam
    assert estimate_noise_std(photo).item() > largest
    expected = restorer.restore(photo, conditions=Conditions(noise_std=largest))
    assert torch.equal(restorer.restore(photo), expected)


def test_little_noise_takes_fewer_steps_but_wrong_options_are_refused(restorer):
    little, sde = noisy(3), restorer._model.sde
    level = estimate_noise_std(little).item()
    possible = sde.optimal_timestep(level)
    expected = restorer.restore(little, steps=possible, conditions=Conditions(noise_std=level))
    assert torch.equal(restorer.restore(little, steps=sde.T), expected)
    for photo in (little, noisy(0)):
        for wrong in ({"steps": sde.T + 1}, {"steps": 0}, {"sampler": "eulr"}, {"strength": 3}):
            with pytest.raises(ConfigError, match=next(iter(wrong))):
                restorer.restore(photo, **wrong)


def test_strength_holds_with_an_estimated_level(restorer):
    photo = noisy(20).clamp(0.1, 0.9)
    full, half = (restorer.restore(photo, strength=s) for s in (1.0, 0.5))
    torch.testing.assert_close(half, (full + photo) / 2, atol=2e-2, rtol=0)
    assert torch.equal(restorer.restore(photo, strength=0.0), photo)
