from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sde_families import MEAN_REVERTING

from refusion.errors import ConfigError
from refusion.sde import GOUB, IRSDE, PREDICTIONS, SDES, THETA_SCHEDULES, estimate

INVERTIBLE = [name for name, prediction in PREDICTIONS.items() if prediction.target]


def draws(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x0, mu = torch.rand(2, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x0.to(dtype), noise.to(dtype), mu.to(dtype)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize("prediction", INVERTIBLE)
@settings(max_examples=25, deadline=None)
@given(
    lam=st.floats(0.02, 0.5),
    schedule=st.sampled_from(sorted(THETA_SCHEDULES)),
    times=st.tuples(st.floats(0.5, 49), st.floats(0.5, 49)),
    seed=st.integers(0, 2**31),
)
def test_a_perfect_output_is_read_as_the_truth(kind, prediction, lam, schedule, times, seed):
    sde, t = SDES[kind](255 * lam, 50, schedule), torch.tensor(times, dtype=torch.float64)
    x0, noise, mu = draws(seed)
    xt = sde.sample_marginal(x0, mu, t, noise)
    output = PREDICTIONS[prediction].target(sde, x0, noise, mu, t)
    found = estimate(sde, prediction, output, xt, mu, t)
    torch.testing.assert_close(found.x0, x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.noise, noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize("prediction", INVERTIBLE)
def test_any_output_is_read_consistently(kind, prediction):
    """Right or wrong, x0 and noise explain xt together, and the reading can be undone."""
    sde = SDES[kind](51)
    output, xt, mu = draws(3)
    for t in (1, 40, 62.5, 99):
        found = estimate(sde, prediction, output, xt, mu, t)
        torch.testing.assert_close(sde.sample_marginal(found.x0, mu, t, found.noise), xt)
        again = PREDICTIONS[prediction].target(sde, found.x0, found.noise, mu, t)
        torch.testing.assert_close(again, output)


@pytest.mark.parametrize("prediction", ["x0_residual", "velocity"])
@pytest.mark.parametrize("t", [1, 50, 100])
def test_float32_is_enough(prediction, t):
    sde = IRSDE(50)
    x0, noise, mu = draws(5)
    xt = sde.sample_marginal(x0, mu, t, noise).float().double()
    noise = sde.noise_from_x0(xt, x0, mu, t)
    output = PREDICTIONS[prediction].target(sde, x0, noise, mu, t)
    exact = estimate(sde, prediction, output, xt, mu, t)
    single = estimate(sde, prediction, output.float(), xt.float(), mu.float(), t)
    torch.testing.assert_close(single.x0.double(), exact.x0, rtol=0, atol=1e-6)
    torch.testing.assert_close(single.noise.double(), exact.noise, rtol=0, atol=3e-5)


@pytest.mark.parametrize("prediction", INVERTIBLE)
def test_at_the_end_of_a_bridge_x0_is_what_is_said_or_mu(prediction):
    """The state is mu and says nothing: x0 comes from the output, or, of a noise, is mu."""
    sde = GOUB(51)
    x0, noise, mu = draws(6)
    xt = sde.sample_marginal(x0, mu, sde.T, noise)
    torch.testing.assert_close(xt, mu, rtol=0, atol=1e-15)
    output = PREDICTIONS[prediction].target(sde, x0, noise, mu, sde.T)
    found = estimate(sde, prediction, output, mu, mu, sde.T)
    expected = x0 if prediction in ("x0_residual", "velocity") else mu
    torch.testing.assert_close(found.x0, expected)
    assert found.noise.isfinite().all()


def test_residual_noise_keeps_the_digits_of_the_residual():
    """A residual far below the rounding of mu + residual still counts at small times."""
    sde = IRSDE(10)
    mu = torch.full((1, 1, 1, 1), 0.7)
    residual = torch.full_like(mu, 1e-9)
    noise = estimate(sde, "x0_residual", residual, mu, mu, 1).noise
    expected = -1e-9 * (sde.alpha(1) / sde.std(1)).item()
    assert noise.item() == pytest.approx(expected, rel=1e-5)


def test_half_precision_output_joins_the_state():
    x0, noise, mu = draws(7, torch.float32)
    found = estimate(IRSDE(51), "noise", noise.bfloat16(), x0, mu, 3)
    assert found.x0.dtype == found.noise.dtype == torch.float32


def test_unknown_prediction_is_refused():
    x0, noise, mu = draws(0)
    with pytest.raises(ConfigError, match="did you mean 'noise'"):
        estimate(IRSDE(51), "nois", noise, x0, mu, 1)
