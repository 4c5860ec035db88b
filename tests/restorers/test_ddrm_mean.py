"""The mean of the posterior for a known degradation, against the exact mean of Gaussian images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ddrm_cases import ALPHA_BAR, normal, operators_of_tasks

from refusion.errors import ConfigError
from refusion.restorers import DDRM
from refusion.restorers.ddrm.mean import (
    FIRST,
    equivariant_noise,
    estimate_mean,
    noise_level_times,
)
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import denoise, super_resolution
from refusion.restorers.ddrm.sampling import DDRMSettings, sample_ddrm
from refusion.sde import SeededNoise

SIDE = 8
SHAPE = (3, SIDE, SIDE)
N = 3 * SIDE**2
SIGMA = 0.1
OPERATORS = operators_of_tasks(SHAPE, blur=1.0)


def power():
    """Variances of the Fourier coefficients of images whose neighbours are alike."""
    rows, columns = torch.fft.fftfreq(SIDE).double()[:, None], torch.fft.fftfreq(SIDE).double()
    values = (rows**2 + columns**2 + (0.7 / SIDE) ** 2) ** -1.1
    return 0.3 * values / values.mean()


def filtered(images, gain):
    return torch.fft.ifft2(torch.fft.fft2(images) * gain).real


def images(count):
    """Images of the prior, and their covariance (N, N)."""
    root = power().sqrt()
    rows = filtered(torch.eye(N, dtype=torch.float64).unflatten(1, SHAPE), root).flatten(1)
    return filtered(normal(count, *SHAPE, seed=1), root), rows @ rows.T


def predict_noise(xt, t):
    """The optimal estimate for these images."""
    a = float(ALPHA_BAR[t])
    x0 = filtered(xt / a**0.5, power() / (power() + (1 - a) / a))
    return (xt - a**0.5 * x0) / (1 - a) ** 0.5


def exact_mean(operator, y, sigma, covariance):
    eye = torch.eye(N, dtype=torch.float64).unflatten(1, SHAPE)
    H = operator.forward(eye).flatten(1).T
    noise = sigma**2 * torch.eye(len(H), dtype=torch.float64)
    gain = covariance @ H.T @ torch.linalg.pinv(H @ covariance @ H.T + noise, rtol=1e-10)
    return (y.flatten(1) @ gain.T).unflatten(1, SHAPE)


def rms(difference):
    return float(difference.square().mean().sqrt())


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_the_mean_of_the_posterior(name):
    operator = OPERATORS[name]
    truth, covariance = images(16)
    clean = operator.forward(truth)
    y = clean + SIGMA * normal(*clean.shape, seed=2)
    expected = exact_mean(operator, y, SIGMA, covariance)
    settings = DDRMSettings(steps=12)
    known = (operator, y, SIGMA, predict_noise, ALPHA_BAR)
    found = estimate_mean(*known, settings)
    sample = sample_ddrm(*known, SeededNoise(range(16)), settings)
    best = rms(expected - truth)
    assert rms(found - expected) < 0.2 * best
    assert rms(found - truth) < 1.02 * best  # 0.2 dB
    assert rms(sample - truth) > 1.15 * best  # 1.2 dB: a sample is further away


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "blur"])
def test_without_noise_the_mean_agrees_with_the_data(name):
    operator = OPERATORS[name]
    truth, covariance = images(4)
    y = operator.forward(truth)
    found = estimate_mean(operator, y, 0.0, predict_noise, ALPHA_BAR, DDRMSettings(steps=20))
    assert rms(operator.forward(found) - y) < 1e-9
    expected = exact_mean(operator, y, 0.0, covariance)
    assert rms(found - truth) < 1.1 * rms(expected - truth) + 1e-9


def test_small_singular_values_below_the_floor_are_not_used():
    operator, (truth, _) = OPERATORS["blur"], images(4)
    y = operator.forward(truth)
    found = estimate_mean(
        operator, y, 0.0, predict_noise, ALPHA_BAR, DDRMSettings(steps=10, floor=0.03)
    )
    assert rms(found - truth) < rms(y - truth)
    with pytest.raises(ConfigError, match="floor: 2 is above all singular values"):
        settings = DDRMSettings(steps=10, floor=2.0)
        estimate_mean(operator, y, 0.0, predict_noise, ALPHA_BAR, settings)


def test_times_have_noise_levels_with_equal_factors():
    levels = ((1 - ALPHA_BAR) / ALPHA_BAR).sqrt()
    times = noise_level_times(ALPHA_BAR, 10, 0.1)
    assert len(times) == 10 and times == sorted(times, reverse=True)
    found = levels[times]
    assert float(found[0]) == pytest.approx(FIRST, rel=0.02)
    assert float(found[-1]) == pytest.approx(0.1, rel=0.05)
    factors = found[:-1] / found[1:]
    assert float(factors.max() / factors.min()) < 1.1
    assert noise_level_times(ALPHA_BAR, 10, 0.0)[-1] == 1
    assert noise_level_times(ALPHA_BAR, 1, 0.1) == times[-1:]
    assert len(noise_level_times(ALPHA_BAR[:11], 10, 0.0)) <= 10
    with pytest.raises(ConfigError, match=r"steps: expected 1\.\.1000, .* got 1001"):
        noise_level_times(ALPHA_BAR, 1001, 0.1)


def test_the_restorer_uses_no_random_numbers_for_the_mean():
    prior = Prior(predict_noise, ALPHA_BAR, None, 8, torch.device("cpu"), "fp32")
    lq = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).double()
    sample = DDRM(prior, denoise(), 0.1)
    mean = DDRM(prior, denoise(), 0.1, DDRMSettings(steps=8, estimate="mean"))
    assert (sample.info.stochastic, mean.info.stochastic) == (True, False)
    progress = []
    results = [mean.restore(lq, seed=seed, callback=lambda *step: progress.append(step))
               for seed in (0, 1)]  # fmt: skip
    assert torch.equal(*results)
    assert progress[:8] == [("sample", number, 8) for number in range(1, 9)]
    assert not torch.equal(sample.restore(lq, seed=0), sample.restore(lq, seed=1))


def test_the_mean_of_a_small_photo_is_a_large_photo():
    prior = Prior(predict_noise, ALPHA_BAR, None, 8, torch.device("cpu"), "fp32")
    settings = DDRMSettings(steps=6, estimate="mean")
    small = torch.full((1, 3, SIDE // 2, SIDE // 2), 0.6).double()
    result = DDRM(prior, super_resolution(2), 0.0, settings).restore(small)
    assert result.shape == (1, *SHAPE)
    assert float((result - 0.6).abs().max()) < 0.02


def test_an_unknown_estimate_is_an_error():
    with pytest.raises(ConfigError, match="estimate: expected 'sample' or 'mean', got 'median'"):
        replace(DDRMSettings(), estimate="median")


@pytest.mark.parametrize("number", range(24))
def test_the_ways_to_see_a_state_are_undone(number):
    xt, seen = normal(2, 3, 5, 9, seed=4), []

    def predict(state, t):
        seen.append(state)
        return 2 * state * torch.arange(1, 4).view(3, 1, 1)

    noise = equivariant_noise(predict, xt, 7, number)
    order = torch.arange(3).roll(number)  # channel k of what was seen is channel order[k]
    factors = torch.empty(3).scatter(0, order, torch.arange(1.0, 4.0)).view(3, 1, 1)
    torch.testing.assert_close(noise, 2 * xt * factors.to(xt))
    assert sorted(seen[0].shape[-2:]) == [5, 9]
    torch.testing.assert_close(seen[0].sum(), -xt.sum() if number % 2 else xt.sum())


def test_there_are_24_different_ways_to_see_a_square_state():
    xt, seen = normal(1, 3, 4, 4, seed=4), []
    for number in range(24):
        equivariant_noise(lambda state, t: seen.append(state) or state, xt, 7, number)
    assert len({tuple(state.flatten().tolist()) for state in seen}) == 24
