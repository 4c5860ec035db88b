"""A denoising model without a noise level estimates that of each photo."""

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
