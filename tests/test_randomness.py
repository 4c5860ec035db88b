"""Random numbers as functions of keys and positions."""

import math

import pytest
import torch

from refusion.randomness import _mix, counter_normal, keyed_generator, random_keys
from refusion.training.stages import diffusion

GOLDEN = 0x9E3779B97F4A7C15 - 2**64


def keys_of(count, seed=0):
    return random_keys([keyed_generator(seed, 2, index) for index in range(count)])


def test_bits_are_those_of_splitmix64():
    """First outputs for seed 1234567, as published with the generator."""
    states = torch.tensor([1234567], dtype=torch.int64) + GOLDEN * torch.arange(1, 4)
    found = [int(bits) % 2**64 for bits in _mix(states)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_moments_are_those_of_the_normal_distribution():
    x = counter_normal(keys_of(16), (3, 128, 128)).double()
    n = x.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 4.5 * (variance / n) ** 0.5, power
    assert 4.2 < x.abs().max() < 6.7
    for limit, share in ((1, 0.682689), (2, 0.954500), (3, 0.997300)):
        assert float((x.abs() < limit).double().mean()) == pytest.approx(share, abs=2e-3)


def test_the_largest_number_is_that_of_bits_without_a_one():
    key = _mix(torch.tensor([GOLDEN]))  # the finalizer maps 0 to 0
    assert counter_normal(key, (1,)).item() == pytest.approx((66 * math.log(2)) ** 0.5, abs=1e-4)


def test_images_positions_and_halves_are_independent():
    x = counter_normal(keys_of(8), (2, 96, 96)).double()
    images = x.flatten(1)
    limit = 5 / images.shape[1] ** 0.5
    others = torch.corrcoef(images) - torch.eye(8)
    assert others.abs().max() < limit
    for shift in (1, 2, 96, images.shape[1] // 2):  # half of the numbers share their bits
        products = images * images.roll(shift, dims=1)
        squares = (images.square() - 1) * (images.roll(shift, dims=1).square() - 1)
        assert products.mean(dim=1).abs().max() < limit
        assert squares.mean(dim=1).abs().max() < 2 * limit


def test_neighbouring_keys_are_independent():
    x = counter_normal(torch.arange(-4, 4), (10000,)).double()
    assert (torch.corrcoef(x) - torch.eye(8)).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(3, 7, 5), (1,), (4, 8)])
def test_an_image_has_the_same_noise_alone_and_in_a_batch(shape):
    keys = keys_of(5)
    batch = counter_normal(keys, shape)
    assert batch.shape == (5, *shape) and batch.dtype == torch.float32
    alone = [counter_normal(keys[n : n + 1], shape)[0] for n in range(5)]
    assert torch.equal(batch, torch.stack(alone))


def test_keys_depend_on_the_seed_and_the_sample():
    assert len(set(keys_of(1000).tolist())) == 1000
    assert torch.equal(keys_of(3), keys_of(3))
    assert not torch.equal(keys_of(3), keys_of(3, seed=1))


def test_the_noise_of_a_step_on_a_gpu_comes_from_one_key_per_image(monkeypatch):
    """A stand-in for a CUDA tensor; the numbers are computed on the CPU."""

    class OnGpu:
        shape, dtype = (3, 2, 4, 4), torch.float32
        device = torch.device("cuda")

    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: self, raising=True)
    generators = [keyed_generator(0, 2, index) for index in range(3)]
    first = diffusion.sample_noise(OnGpu(), generators)
    second = diffusion.sample_noise(OnGpu(), generators)
    assert torch.equal(first, counter_normal(keys_of(3), (2, 4, 4)))
    assert not torch.equal(first, second)  # a later draw of the same step
