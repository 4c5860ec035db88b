"""Samplers against recorded trajectories and against the exact law of a Gaussian.

For x0 ~ N(m, s^2) the exact score is linear, so a sampler step is x' = a x + b + c z. Probing it
with x, z in {0, 1} reads off a, b, c, which push the mean and variance through all steps without
Monte Carlo. Convergence orders find wrong formulas; the recorded values at T = 100 find index
slips, which are first-order errors and leave the order at 1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refusion.errors import ConfigError
from refusion.sde import (
    IRSDE,
    SAMPLERS,
    DenoisingSDE,
    Estimate,
    RecordedNoise,
    SeededNoise,
    time_grid,
)
from refusion.sde.samplers import euler_step, ode_step, posterior_step

STEPS = {"euler": euler_step, "ode": ode_step, "posterior": posterior_step}
RECORDED_NAME = {"euler": "sde", "ode": "ode", "posterior": "posterior"}
M, S, MU = 0.7, 0.25, 0.4

# Errors of the final mean and (relative) standard deviation at T = 100, from an independent scalar
# recursion in the textbook form (theta_t dt, sigma_t^2 dt).
SDES_UNDER_TEST = {
    "IRSDE": (IRSDE, 10 / 255, 0.005),
    "DenoisingSDE": (DenoisingSDE, 70 / 255, 0.04),
}
AT_100 = {
    ("IRSDE", "cosine", "euler"): (-0.013973753528, -0.041263246531),
    ("IRSDE", "cosine", "ode"): (-0.021353414969, -0.061122155179),
    ("IRSDE", "cosine", "posterior"): (0.0, -0.033873363681),
    ("IRSDE", "constant", "euler"): (-0.01435205212, -0.047180712203),
    ("IRSDE", "constant", "ode"): (-0.019049680785, -0.058509378196),
    ("IRSDE", "constant", "posterior"): (0.0, -0.032099620497),
    ("IRSDE", "linear", "euler"): (-0.01228409588, -0.036358824791),
    ("IRSDE", "linear", "ode"): (-0.01881687956, -0.053570233119),
    ("IRSDE", "linear", "posterior"): (0.0, -0.029475983791),
    ("DenoisingSDE", "cosine", "euler"): (0.0, 0.011939398066),
    ("DenoisingSDE", "cosine", "ode"): (0.0, 0.0098570541645),
    ("DenoisingSDE", "cosine", "posterior"): (0.0, -0.025438180028),
    ("DenoisingSDE", "constant", "euler"): (0.0, 0.023324299463),
    ("DenoisingSDE", "constant", "ode"): (0.0, 0.01603566357),
    ("DenoisingSDE", "constant", "posterior"): (0.0, -0.078316017543),
    ("DenoisingSDE", "linear", "euler"): (0.0, 0.011315620686),
    ("DenoisingSDE", "linear", "ode"): (0.0, 0.0090991622416),
    ("DenoisingSDE", "linear", "posterior"): (0.0, -0.029065307881),
}


def gaussian_law(sde, t):
    """Mean and variance of x_t for x0 ~ N(M, S^2)."""
    m, mu = torch.tensor([[[M]], [[MU]]], dtype=torch.float64)
    kept = (sde.marginal_mean(m + 1, mu, t) - sde.marginal_mean(m, mu, t)).item()
    return sde.marginal_mean(m, mu, t).item(), (kept * S) ** 2 + sde.std(t).item() ** 2


def exact_estimate(sde, xt, mu, t):
    """The best possible network for that law."""
    mean, variance = gaussian_law(sde, t)
    noise = (xt - mean) / variance * sde.std(t).item()
    return Estimate(sde.x0_from_noise(xt, noise, mu, t), noise)


def final_moments(sde, sampler, steps, start=None):
    """Mean and standard deviation of the sampler's output, started from the exact law."""
    start = sde.T if start is None else start
    x, z = torch.tensor([[[0.0], [1.0], [0.0]], [[0.0], [0.0], [1.0]]]).double()
    mu, noise = torch.full_like(x, MU), RecordedNoise(z, z.expand(sde.T + 1, 3, 1))
    mean, variance = gaussian_law(sde, start)
    grid = time_grid(start, steps)
    for a, b in pairwise(grid):
        found = STEPS[sampler](sde, exact_estimate(sde, x, mu, a), x, mu, a, b, noise).flatten()
        offset, slope, spread = found[0], found[1] - found[0], found[2] - found[0]
        mean, variance = slope * mean + offset, slope**2 * variance + spread**2
    return float(mean), math.sqrt(variance)


def errors(sde, sampler, steps, start=None):
    mean, std = final_moments(sde, sampler, steps, start)
    return mean - M, std / S - 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("case", ["trajectory_a", "trajectory_b"])
def test_trajectory_equals_the_recorded_one(sampler, case, recorded, sde_of):
    settings, known = recorded(case)
    sde, mu = sde_of(settings), known["mu"]

    def denoise(xt, mu, t):
        noise = torch.tanh(3 * (xt - mu)) + 0.1 * math.cos(t / sde.T) * mu
        return Estimate(sde.x0_from_noise(xt, noise, mu, t), noise)

    noise = RecordedNoise(known["z_T"], known["z"])
    xT = sde.initial_state(mu, noise.initial(mu))
    torch.testing.assert_close(xT, known["start"], rtol=1e-6, atol=1e-6)
    result = SAMPLERS[sampler](sde, denoise, xT, mu, steps=sde.T, noise=noise)
    expected = known[RECORDED_NAME[sampler]]
    assert (result - expected).abs().max() < 1e-4 * expected.abs().max()


def build(kind, T, schedule):
    make, lam, eps = SDES_UNDER_TEST[kind]
    return make(lam, T, schedule, eps)


@pytest.mark.parametrize(("case", "expected"), AT_100.items(), ids=map("-".join, AT_100))
def test_gaussian_moments_equal_the_recorded_ones(case, expected):
    kind, schedule, sampler = case
    found = errors(build(kind, 100, schedule), sampler, 100)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("case", AT_100, ids="-".join)
def test_gaussian_moments_converge_with_order_one(case):
    kind, schedule, sampler = case
    # The posterior's spread on the steep start of a constant schedule is not yet asymptotic.
    low = 0.65 if case == ("DenoisingSDE", "constant", "posterior") else 0.9
    assert_first_order([errors(build(kind, T, schedule), sampler, T) for T in (200, 400)], low)


@pytest.mark.parametrize("kind", SDES_UNDER_TEST)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_larger_strides_are_larger_steps(kind, sampler):
    """n steps on a fine schedule are as good as T = n, and converge with the same order."""
    sde = build(kind, 800, "cosine")
    coarse, fine = errors(sde, sampler, 100), errors(sde, sampler, 200)
    assert coarse == pytest.approx(AT_100[kind, "cosine", sampler], rel=0.03, abs=1e-12)
    assert_first_order([coarse, fine], 0.9)


def assert_first_order(pair, low):
    for coarse, fine in zip(*pair, strict=True):
        if abs(coarse) > 1e-12:
            assert low < math.log2(coarse / fine) < 1.1
        else:
            assert abs(fine) < 1e-12


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 33, 100])
@pytest.mark.parametrize("kind", SDES_UNDER_TEST)
def test_posterior_is_exact_in_the_mean_at_any_stride(kind, steps):
    assert errors(build(kind, 100, "cosine"), "posterior", steps)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_order_holds_from_a_later_start(sampler):
    pair = [errors(build("DenoisingSDE", T, "cosine"), sampler, T // 4, T // 4) for T in (400, 800)]
    assert_first_order(pair, 0.9)


@given(start=st.integers(1, 2000), data=st.data())
def test_time_grid_falls_evenly_to_zero(start, data):
    steps = data.draw(st.integers(1, start))
    grid = time_grid(start, steps)
    strides = [a - b for a, b in pairwise(grid)]
    assert (grid[0], grid[-1], len(strides)) == (start, 0, steps)
    assert min(strides) >= 1 and max(strides) - min(strides) <= 1


@pytest.mark.parametrize(("start", "steps"), [(100, 0), (100, 101), (0, 1), (5, -1)])
def test_impossible_grids_are_refused(start, steps):
    with pytest.raises(ConfigError, match="steps: expected"):
        time_grid(start, steps)


def toy_denoise(sde):
    def denoise(xt, mu, t):
        return Estimate(0.5 * (xt + mu), sde.noise_from_x0(xt, 0.5 * (xt + mu), mu, t))

    return denoise


def photos(batch=3):
    return torch.rand(batch, 3, 6, 5, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", SDES_UNDER_TEST)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_restored_alike_alone_and_in_a_batch(kind, sampler):
    sde, mu = build(kind, 50, "cosine"), photos()

    def restore(mu, seeds):
        noise = SeededNoise(seeds)
        xT = sde.initial_state(mu, noise.initial(mu))
        return SAMPLERS[sampler](sde, toy_denoise(sde), xT, mu, steps=8, noise=noise)

    together, again = restore(mu, [1, 2, 3]), restore(mu, [1, 2, 3])
    assert torch.equal(together, again)
    torch.testing.assert_close(together[1:2], restore(mu[1:2], 2), rtol=0, atol=0)
    # The ODE, and the photo as start state, leave nothing to the seed.
    if (kind, sampler) != ("DenoisingSDE", "ode"):
        assert not torch.equal(together, restore(mu, [1, 2, 4]))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_network_call_and_one_callback_per_step(sampler):
    sde, mu, times, calls = IRSDE(0.2), photos(1), [], []

    def denoise(xt, mu, t):
        times.append(t)
        return toy_denoise(sde)(xt, mu, t)

    result = SAMPLERS[sampler](
        sde,
        denoise,
        mu,
        mu,
        steps=4,
        start=80,
        noise=SeededNoise(0),
        callback=lambda number, steps, xt: calls.append((number, steps, xt)),
    )
    assert times == [80, 60, 40, 20]
    assert [call[:2] for call in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert calls[-1][2] is result
    assert result.shape == mu.shape and result.dtype == mu.dtype


def test_start_after_the_end_is_refused():
    mu = photos(1)
    with pytest.raises(ConfigError, match="start"):
        SAMPLERS["ode"](
            IRSDE(0.2), toy_denoise(IRSDE(0.2)), mu, mu, steps=5, start=101, noise=SeededNoise(0)
        )


def test_posterior_returns_the_last_estimate():
    sde, mu = IRSDE(0.2), photos()
    clean = photos().flip(0)

    def oracle(xt, mu, t):
        return Estimate(clean, sde.noise_from_x0(xt, clean, mu, t))

    result = SAMPLERS["posterior"](sde, oracle, mu, mu, steps=3, noise=SeededNoise(0))
    assert torch.equal(result, clean)
