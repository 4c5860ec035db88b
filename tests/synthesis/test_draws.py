"""Noise from a table has the distribution of noise from PyTorch's generators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from refusion.synthesis import draws
from refusion.synthesis.degradations.mixed_noise import poisson_noise
from refusion.synthesis.draws import TableGenerator, normal, poisson

EVERY_NUMBER = torch.arange(2**draws.BITS, dtype=torch.int32)


def table_generator(seed: int = 0) -> TableGenerator:
    return TableGenerator().manual_seed(seed)


def test_noise_of_other_generators_is_that_of_pytorch() -> None:
    means = torch.linspace(0, 50, 300)
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    assert torch.equal(normal((5, 7), one), torch.randn(5, 7, generator=two))
    assert torch.equal(poisson(means, one), torch.poisson(means, two))


def test_noise_from_the_table_is_a_function_of_the_seed_and_earlier_calls() -> None:
    first, again, other = table_generator(4), table_generator(4), table_generator(5)
    one = normal((3, 8, 8), first)
    assert torch.equal(one, normal((3, 8, 8), again))
    assert not torch.equal(one, normal((3, 8, 8), other))
    assert not torch.equal(one, normal((3, 8, 8), first))
    assert normal((3, 5), first).shape == (3, 5)


def test_a_table_generator_has_the_seed_and_the_other_numbers_of_its_generator() -> None:
    plain = torch.Generator().manual_seed(8)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(8))
    torch.rand(4, generator=plain)
    assert torch.equal(torch.rand(4, generator=TableGenerator.of(plain)), expected)


def test_numbers_from_the_table_are_normal() -> None:
    numbers = normal((400_000,), table_generator()).double()
    error = 400_000**-0.5
    assert abs(numbers.mean()) < 4 * error
    assert abs(numbers.square().mean() - 1) < 4 * math.sqrt(2) * error
    assert abs(numbers.pow(4).mean() - 3) < 4 * math.sqrt(96) * error
    for quantile in (-3.0, -1.5, 0.0, 0.7, 2.5):
        share = 0.5 * (1 + math.erf(quantile / math.sqrt(2)))
        found = float((numbers < quantile).double().mean())
        assert abs(found - share) < 4.5 * math.sqrt(share * (1 - share)) * error + 1e-5
    neighbours = numbers[:-1] * numbers[1:]
    assert abs(neighbours.mean()) < 4 * error


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.5, 1.0, 3.7, 5.99, 6.0, 8.3, 20.0, 77.5, 256.0])
def test_poisson_numbers_have_the_probabilities_of_their_mean(mean: float, monkeypatch) -> None:
    """All 65536 random numbers once: the sum of the errors is below 0.008."""
    monkeypatch.setattr(TableGenerator, "bits", lambda self, count: EVERY_NUMBER)
    numbers = poisson(torch.full((len(EVERY_NUMBER),), mean), table_generator())
    found = np.bincount(numbers.int().numpy()) / len(EVERY_NUMBER)
    assert numbers.double().mean().item() == pytest.approx(mean, rel=2e-4, abs=2e-5)
    assert numbers.double().var().item() == pytest.approx(mean, rel=3e-3, abs=2e-5)
    count = np.arange(len(found))
    exponent = count * math.log(max(mean, 1e-30)) - mean - [math.lgamma(k + 1) for k in count]
    assert np.abs(found - np.exp(exponent)).sum() < 0.008


def test_poisson_numbers_of_mixed_means_follow_each_pixel() -> None:
    means = torch.tensor([0.0, 2.0, 40.0]).repeat_interleave(30_000).view(3, 150, 200)
    numbers = poisson(means, table_generator())
    assert (numbers[0] == 0).all()
    for plane, mean in zip(numbers[1:], (2.0, 40.0), strict=True):
        assert abs(plane.mean() - mean) < 4.5 * math.sqrt(mean / 30_000)
        assert torch.equal(plane, plane.round())


def test_photons_follow_the_number_of_levels() -> None:
    """5 levels give 8 photons, so the noise is a multiple of 1/8 from the level."""
    image = (torch.arange(64) % 5 * 50 / 255).repeat(3, 8, 1)
    noise = poisson_noise(image, torch.Generator().manual_seed(0), is_gray=False)
    photons = (noise + image) * 8
    assert (photons - photons.round()).abs().max() < 1e-4
    assert (photons.round() % 2 == 1).any()
