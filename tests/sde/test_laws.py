"""The distribution of the result of every sampler, for every process, with the exact estimate.

The image is Gaussian and the network is the best one (`gaussian_law`). The spread of the results
must be that of the images, up to the error of a finite number of steps. A sampler that cannot do
this for a process refuses it.
"""

from __future__ import annotations

import pytest
import torch
from gaussian_law import MU, best_estimate, errors, law

from refusion.errors import ConfigError
from refusion.sde import (
    GOUB,
    GRIDS,
    IRSDE,
    SAMPLERS,
    DenoisingSDE,
    Estimate,
    SeededNoise,
    SolverState,
    UniDB,
)

PROCESSES = {
    "IRSDE": IRSDE(50),
    "IRSDE with little noise": IRSDE(10),
    "DenoisingSDE": DenoisingSDE(70),
    "GOUB": GOUB(30),
    "UniDB, loose": UniDB(30, gamma=100.0),
    "UniDB, 1e4": UniDB(30, gamma=1e4),
    "UniDB": UniDB(30),
    "UniDB, long": UniDB(30, T=1000),
    "UniDB, tight": UniDB(30, gamma=1e12),
}
BETWEEN = [f"eta0.5-{form}-{order}" for form in ("data", "noise") for order in (1, 2, 3)]
SAMPLER_KEYS = [*SAMPLERS, *BETWEEN]
# Largest relative error of the standard deviation, and largest error of the mean, by steps.
SPREAD = {20: 0.35, 50: 0.15, 100: 0.08}
MEAN = {20: 0.11, 50: 0.05, 100: 0.03}

QUICK = ["IRSDE", "DenoisingSDE", "GOUB", "UniDB", "UniDB, tight"]
GRID_OF = {sampler: list(GRIDS)[number % 3] for number, sampler in enumerate(SAMPLER_KEYS)}


def check_law(name, sampler, grid, steps):
    sde, key = PROCESSES[name], f"{sampler}@{grid}"
    if sampler == "ode" and isinstance(sde, UniDB):
        with pytest.raises(ConfigError, match=r"sampler: .* do not converge for UniDB; use"):
            errors(sde, key, steps)
        return
    mean, spread = errors(sde, key, steps)
    assert abs(mean) < MEAN[steps]
    if sampler == "mean" or (type(sde) is GOUB and "ode" in sampler):
        # One result per photo: along the means, or without noise from a start without noise.
        assert -1 <= spread < -0.7
    else:
        assert abs(spread) < SPREAD[steps]


@pytest.mark.parametrize("sampler", SAMPLER_KEYS)
@pytest.mark.parametrize("name", QUICK)
def test_the_spread_is_that_of_the_images_or_the_sampler_refuses(name, sampler):
    """50 steps; the grids take turns. The next test has all combinations."""
    check_law(name, sampler, GRID_OF[sampler], 50)


@pytest.mark.slow
@pytest.mark.parametrize("steps", SPREAD)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sampler", SAMPLER_KEYS)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_law_for_all_grids(name, sampler, grid, steps):
    check_law(name, sampler, grid, steps)


def test_a_bridge_that_ends_ever_closer_to_mu_approaches_goub():
    for sampler in ("euler", "posterior", "sde-noise-1", "sde-noise-3", *BETWEEN):
        tight, limit = (errors(sde, sampler, 50) for sde in (UniDB(30, gamma=1e13), GOUB(30)))
        assert tight == pytest.approx(limit, abs=3e-2)


@pytest.mark.parametrize("sampler", ["euler", "eta0.5-noise-2", "sde-noise-1", "sde-noise-3"])
def test_halving_the_steps_of_a_bridge_reduces_the_error(sampler):
    coarse, fine = (max(map(abs, errors(UniDB(30), sampler, steps))) for steps in (25, 100))
    assert fine < 0.5 * coarse


@pytest.mark.parametrize("sampler", ["ode-data-2", "sde-data-2", "ode-noise-2", "ode-noise-3"])
@pytest.mark.parametrize("grid", ["time", "log_snr"])
def test_times_of_one_noise_level_give_finite_results(sampler, grid):
    """With this eps the noise of several times near T is the same number."""
    mean, spread = errors(DenoisingSDE(70, eps=1e-9), f"{sampler}@{grid}", 100)
    assert abs(mean) < 0.03 and abs(spread) < 0.08


def test_only_the_first_step_of_a_bridge_is_another_one():
    """Later steps are those of the sampler's own name."""
    sde, mu = UniDB(30), torch.rand(1, 3, 4, 4, dtype=torch.float64)
    state = torch.rand_like(mu)

    def denoise(xt, mu, t):
        x0 = torch.tanh(xt)
        return Estimate(x0, sde.noise_from_x0(xt, x0, mu, t))

    def run(sampler, start):
        return SAMPLERS[sampler](
            sde, denoise, state, mu, steps=2, start=start, noise=SeededNoise(0)
        )

    assert not torch.equal(run("sde-noise-1", 50), run("sde-data-1", 50))
    assert not torch.equal(run("euler", 50), run("posterior", 50))
    assert sde.is_bridge_end(100) and not sde.is_bridge_end(99)
    assert GOUB(30).is_bridge_end(100) and not IRSDE(30).is_bridge_end(100)


@pytest.mark.parametrize("name", ["IRSDE", "DenoisingSDE", "GOUB", "UniDB", "UniDB, loose"])
@pytest.mark.parametrize("t", [3, 40, 80, 99])
def test_euler_steps_follow_the_law_to_first_order(name, t):
    """The ODE keeps the quantiles of the Gaussian law; the SDE its mean and variance.

    Halving a small step divides the error by four.
    """
    sde = PROCESSES[name]

    def error(h):
        (mean, variance), (mean_b, variance_b) = law(sde, t), law(sde, t - h)
        x = torch.tensor([[mean - 0.3], [mean + 0.2]], dtype=torch.float64)
        mu = torch.full_like(x, MU)
        estimate = best_estimate(sde)(x, mu, t)
        score = sde.score_from_noise(estimate.noise, t)
        ode = sde.reverse_ode_mean(x, mu, score, t, t - h)
        ideal = mean_b + (x - mean) * (variance_b / variance) ** 0.5
        step = sde.reverse_sde_mean(x, mu, score, t, t - h)
        slope = ((step[1] - step[0]) / 0.5).item()
        centre = step[0].item() + 0.3 * slope
        spread = slope**2 * variance + sde.reverse_sde_std(t, t - h).item() ** 2
        return max((ode - ideal).abs().max().item(), abs(centre - mean_b), abs(spread - variance_b))

    coarse, fine = error(0.02), error(0.01)
    assert coarse < 1e-3
    assert 3.5 < coarse / fine < 4.5


def test_euler_of_goub_begins_with_an_euler_step():
    """There the score is 0, so the step adds noise to mu."""
    sde, mu = GOUB(30), torch.full((1, 1, 2, 2), 0.4)
    estimate = Estimate(torch.full_like(mu, 0.9), torch.zeros_like(mu))
    noise = SeededNoise(0)
    found = SAMPLERS["euler"].step(sde, [SolverState(100, estimate)], mu, mu, 90, noise)
    expected = mu - sde.reverse_sde_std(100, 90).item() * noise.step(100, mu)
    torch.testing.assert_close(found, expected)
