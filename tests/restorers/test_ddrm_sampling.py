"""The DDRM sampler: compared with the published code, the data and exact posteriors."""

import math
from itertools import pairwise
from pathlib import Path

import ddrm_cases
import pytest
import torch
from ddrm_cases import ALPHA_BAR, CASES, OPERATORS, SHAPE, STEPS, normal
from safetensors.torch import load_file

from refusion.errors import ConfigError
from refusion.operators import BlockMean, Dense, Identity, Inpainting, SeparableBlur, gaussian
from refusion.restorers.ddrm.sampling import (
    DDRMSettings,
    SpectralData,
    sample_ddrm,
    step_times,
)
from refusion.sde import RecordedNoise, SeededNoise

REFERENCE = load_file(Path(__file__).parent.parent / "reference" / "ddrm.safetensors")


def solve(operator, y, sigma, **settings):
    noises = ddrm_cases.noises()
    options = DDRMSettings(**{"steps": STEPS} | settings)
    return sample_ddrm(operator, y, sigma, ddrm_cases.predict_noise, ALPHA_BAR, noises, options)


@pytest.mark.parametrize("name", CASES)
def test_official_mode_agrees_with_the_published_code(name):
    key, sigma, floor, eta, eta_b = CASES[name]
    operator = OPERATORS[key]()
    y = ddrm_cases.measured(operator, sigma)
    settings = {"eta": eta, "eta_b": eta_b, "floor": floor}
    found = solve(operator, y, sigma, **settings, official=True)
    assert float((found - REFERENCE[name]).abs().max()) <= 1e-8


@pytest.mark.parametrize("key", [key for key in OPERATORS if key not in ("dense", "blur")])
def test_without_noise_the_result_agrees_with_the_data(key):
    operator = OPERATORS[key]()
    y = ddrm_cases.measured(operator, 0.0)
    misfits = [
        float((operator.forward(solve(operator, y, 0.0, official=official)) - y).norm() / y.norm())
        for official in (False, True)
    ]
    assert misfits[0] <= 1e-12 < 1e-3 < misfits[1]
    single = solve(operator, y.float(), 0.0)
    assert single.dtype == torch.float32
    misfit = (operator.forward(single) - y.float()).norm() / y.norm()
    assert float(misfit) <= 1e-6 * float(single.norm() / y.norm())


@pytest.mark.parametrize("key", ["block_mean", "blur", "colorization"])
def test_the_result_does_not_depend_on_the_choice_of_svd(key):
    operator = OPERATORS[key]()
    n = SHAPE[0] * SHAPE[1] * SHAPE[2]
    eye = torch.eye(n, dtype=torch.float64).unflatten(1, SHAPE)
    dense = Dense(SHAPE, operator.forward(eye).flatten(1).T)
    y = ddrm_cases.measured(operator, 0.1)
    found, expected = solve(operator, y, 0.1), solve(dense, y.flatten(1), 0.1)
    assert float((found - expected).abs().max()) <= 1e-8


class GaussianPrior:
    """The optimal noise estimate for images N(mean, diag(variance)), in closed form."""

    def __init__(self, mean, variance):
        self.mean, self.variance = mean, variance

    def __call__(self, xt, t):
        a = float(ALPHA_BAR[t])
        gain = a**0.5 * self.variance / (a * self.variance + 1 - a)
        x0 = self.mean + gain * (xt - a**0.5 * self.mean)
        return (xt - a**0.5 * x0) / (1 - a) ** 0.5


CHAINS = 4000
SMALL = (1, 4, 4)


class FreshNoise:
    """Noise for thousands of samples at once."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(11)

    def initial(self, like):
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)

    def step(self, t, like):
        return self.initial(like)


def chains(operator, prior, sigma, *, steps=20, **settings):
    """Many samples for one measurement, and the mean and covariance of the exact posterior."""
    truth = prior.mean + prior.variance**0.5 * normal(1, *SMALL, seed=1)
    y = operator.forward(truth)
    y = y + sigma * normal(*y.shape, seed=2)
    found = sample_ddrm(
        operator,
        y.expand(CHAINS, *y.shape[1:]),
        sigma,
        prior,
        ALPHA_BAR,
        FreshNoise(),
        DDRMSettings(steps=steps, **settings),
    )
    n = truth.numel()
    H = operator.forward(torch.eye(n, dtype=torch.float64).unflatten(1, SMALL)).flatten(1).T
    C = torch.diag(prior.variance.expand(SMALL).flatten())
    m = prior.mean.expand(SMALL).flatten()
    gain = C @ H.T @ torch.linalg.pinv(H @ C @ H.T + sigma**2 * torch.eye(len(H)), rtol=1e-10)
    mean = m + gain @ (y.flatten() - H @ m)
    return found.flatten(1), mean, C - gain @ H @ C


FLAT = GaussianPrior(torch.full((1, 1, 1), 0.2).double(), torch.tensor(0.25).double())
HALF = torch.arange(16).reshape(4, 4) % 3 > 0
POSTERIORS = {
    "denoise": Identity(SMALL),
    "inpaint": Inpainting(SMALL, HALF),
    "sr": BlockMean(SMALL, 2),
    "blur": SeparableBlur(SMALL, gaussian(0.6)),
}


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_samples_are_close_to_the_exact_posterior(name, sigma):
    """DDRM is a variational approximation, so it is close to the posterior, but not equal."""
    found, mean, covariance = chains(POSTERIORS[name], FLAT, sigma)
    assert float((found.mean(0) - mean).square().mean().sqrt()) < 0.045
    assert float((torch.cov(found.T) - covariance).square().mean().sqrt()) < 0.025
    # No coordinate has a larger variance than the prior, and exactly known coordinates have none.
    spread, exact = found.var(0), covariance.diagonal()
    assert float(spread.max()) < 1.1 * 0.25
    assert bool((spread[exact < 1e-9] < 1e-9).all())


def test_coordinates_without_data_are_sampled_from_the_prior():
    """With eta = 0 they follow the probability-flow ODE, which small steps solve exactly."""
    variance = torch.linspace(0.02, 0.4, 16).double().reshape(SMALL)
    prior = GaussianPrior(normal(*SMALL, seed=3) * 0.3, variance)
    found, mean, covariance = chains(Inpainting(SMALL, HALF), prior, 0.0, steps=100, eta=0.0)
    hidden = ~HALF.flatten()
    assert float(found[:, ~hidden].std(0).max()) < 1e-7
    assert float((found.mean(0) - mean)[hidden].abs().max()) < 0.05
    ratio = found.var(0)[hidden] / covariance.diagonal()[hidden]
    assert float(ratio.min()) > 0.8 and float(ratio.max()) < 1.1


def test_variance_grows_with_the_noise_of_the_data():
    spreads = [
        float(chains(Identity(SMALL), FLAT, sigma)[0].var(0).mean()) for sigma in (0.0, 0.2, 1.0)
    ]
    assert spreads[0] < 1e-9 < 0.01 < spreads[1] < spreads[2] < 0.25


def test_a_batch_gives_the_same_results_as_single_images():
    operator = OPERATORS["block_mean"]()
    y = ddrm_cases.measured(operator, 0.1).repeat(2, 1, 1, 1)
    y[1] *= -0.5

    def solved(part, seeds):
        return sample_ddrm(
            operator, part, 0.1, ddrm_cases.predict_noise, ALPHA_BAR, SeededNoise(seeds)
        )

    together = solved(y, [4, 5])
    for number, seed in enumerate((4, 5)):
        alone = solved(y[number : number + 1], [seed])
        assert torch.allclose(alone[0], together[number], rtol=0, atol=1e-10)


def test_times_agree_with_the_published_code_and_number_of_steps():
    for steps in (1, 2, 10, 20, 50, 100, 1000):
        published = list(range(0, 1000, 1000 // steps))
        assert [t - 1 for t in reversed(step_times(1000, steps))] == published
    for steps in (3, 7, 30, 999):
        times = step_times(1000, steps)
        assert len(set(times)) == steps and times == sorted(times, reverse=True)
        assert times[-1] == 1 and times[0] <= 1000


@pytest.mark.parametrize(("T", "steps"), [(1000, 30), (1000, 7), (100, 99), (10, 10), (7, 1)])
def test_times_are_spread_over_the_whole_process(T, steps):
    times = step_times(T, steps)
    gaps = [a - b for a, b in pairwise(times)]
    assert len(times) == steps and times[-1] == 1
    assert T - times[0] < T / steps
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("official", [False, True])
def test_data_as_noisy_as_the_next_state(official):
    """The paper then uses the data; the published code takes a step of the prior."""
    y = torch.full((1, 1, 1, 1), 0.7)
    settings = DDRMSettings(official=official, eta=0.5)
    data = SpectralData.from_measurement(Identity((1, 1, 1)), y, 0.5, settings)
    x0, noise, z = (torch.full_like(y, value) for value in (0.1, 0.2, 0.3))
    found = data.next_state(x0, noise, z, 0.5)
    prior = 0.1 + math.sqrt(1 - 0.5**2) * 0.5 * 0.2 + 0.5 * 0.5 * 0.3
    torch.testing.assert_close(found, torch.full_like(y, prior if official else 0.7))


def test_each_step_calls_the_network_and_the_callback_once():
    calls, progress = [], []
    operator = Identity(SHAPE)
    zeros = RecordedNoise(torch.zeros(1, *SHAPE), torch.zeros(1001, 1, *SHAPE))

    def predict(xt, t):
        calls.append(t)
        return xt

    sample_ddrm(
        operator,
        torch.zeros(1, *SHAPE),
        0.1,
        predict,
        ALPHA_BAR,
        zeros,
        DDRMSettings(steps=5),
        lambda done, total: progress.append((done, total)),
    )
    assert calls == [801, 601, 401, 201, 1]
    assert progress == [(n, 5) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1"),
        ({"eta": 1.5}, "eta: expected 0..1, got 1.5"),
        ({"eta_b": -1}, "eta_b: expected 0..1, got -1"),
        ({"floor": -1.0}, "floor: expected a number from 0"),
        ({"steps": 1001}, "steps: expected 1..1000, the steps of the prior, got 1001"),
        ({"floor": 2.0}, "floor: 2 is above all singular values"),
    ],
)
def test_invalid_settings_raise_an_error(settings, message):
    operator = Identity(SHAPE)
    with pytest.raises(ConfigError) as caught:
        solve(operator, ddrm_cases.truth(), 0.1, **settings)
    assert message in str(caught.value)


def test_a_negative_noise_level_raises_an_error():
    with pytest.raises(ConfigError, match="sigma: expected a noise level from 0"):
        solve(Identity(SHAPE), ddrm_cases.truth(), -0.1)
