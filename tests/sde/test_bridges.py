"""Bridges: their closed forms are the moments of their equation; the kernel is that of IRSDE."""

from __future__ import annotations

import math

import pytest
import torch

from refusion.errors import ConfigError
from refusion.sde import GOUB, IRSDE, UniDB

MAX_SIGMA = 30
LAM = MAX_SIGMA / 255
BRIDGES = [GOUB(MAX_SIGMA), UniDB(MAX_SIGMA), UniDB(MAX_SIGMA, gamma=50.0)]


def of(kind, T):
    return kind.__class__(**{**vars_of(kind), "T": T})


def vars_of(sde):
    return {name: getattr(sde, name) for name in sde.__dataclass_fields__}


@pytest.mark.parametrize("bridge", BRIDGES, ids=["GOUB", "UniDB", "loose"])
def test_moments_are_those_of_the_controlled_equation(bridge):
    """Euler on dx = (theta + sigma^2 e^{-2 (Theta_T - Theta)} / A) (mu - x) dt + sigma dw, with A
    written out, approaches the closed forms with order 1."""
    x0, mu, errors = 0.9, 0.2, []
    slack = 0.0 if type(bridge) is GOUB else 1 / bridge.gamma
    for T in (400, 800):
        sde, mean, variance = of(bridge, T), x0, 0.0
        for t in range(1, 3 * T // 4 + 1):
            # The coefficients of the step's left end.
            left = (sde.theta_bar[T] - sde.theta_bar[t - 1]).item()
            control = 2 * LAM**2 * math.exp(-2 * left) / (slack + LAM**2 * -math.expm1(-2 * left))
            pull = (1 + control) * (sde.theta[t] * sde.dt).item()
            mean += pull * (mu - mean)
            variance = (1 - pull) ** 2 * variance + (sde.sigma[t] ** 2 * sde.dt).item()
        end = 3 * T // 4
        closed = sde.marginal_mean(torch.tensor([[x0]]), torch.tensor([[mu]]), end).item()
        errors.append((abs(mean - closed), abs(variance - sde.std(end).item() ** 2)))
    for coarse, fine in zip(*errors, strict=True):
        assert coarse / fine == pytest.approx(2, rel=0.1)


def test_goub_has_the_published_marginal():
    """As printed, with sigma^2_{s:t} = lam^2 (1 - e^{-2 (Theta_t - Theta_s)})."""
    sde = GOUB(MAX_SIGMA)

    def between(s, t):
        return LAM**2 * -math.expm1(-2 * (sde.theta_bar[t] - sde.theta_bar[s]).item())

    for t in (1, 37, 90, 99):
        kept = sde.alpha(t).item() * between(t, 100) / between(0, 100)
        assert sde.signal(t).item() == pytest.approx(kept, rel=1e-12)
        variance = between(0, t) * between(t, 100) / between(0, 100)
        assert sde.std(t).item() ** 2 == pytest.approx(variance, rel=1e-12)


def test_posterior_has_the_golden_coefficients():
    """Independent float64 values of the step 37 -> 36 for lam = 30/255: one kernel serves all."""
    golden = [0.9245399264079328, 0.0686843212827818, 0.0067757523092854, 0.0288433022332015]
    zero, one = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    for sde in (*BRIDGES, IRSDE(MAX_SIGMA)):
        onto_xt, std = sde.posterior(one, zero, zero, 37, 36)
        onto_x0 = sde.posterior(zero, one, zero, 37, 36)[0]
        onto_mu = sde.posterior(zero, zero, one, 37, 36)[0]
        found = [onto_xt.item(), onto_x0.item(), onto_mu.item(), std.item()]
        assert found == pytest.approx(golden, rel=1e-12)


def test_its_signal_to_noise_ratio_is_that_of_irsde_less_a_constant():
    """What mu, known to be the end, no longer says of x0 (docs/math.md)."""
    for sde in BRIDGES:
        plain = IRSDE(MAX_SIGMA)
        lost = [
            math.exp(2 * plain.log_snr(t).item()) - math.exp(2 * sde.log_snr(t).item())
            for t in (20, 50, 80, 99)
        ]
        assert lost == pytest.approx([lost[0]] * 4, rel=1e-9)
        assert lost[0] <= math.exp(2 * plain.log_snr(100).item()) * (1 + 1e-9)


def test_the_price_leads_from_irsde_to_goub():
    times = torch.tensor([1.0, 37.5, 90.0, 99.0])
    loose, tight = UniDB(MAX_SIGMA, gamma=1e-9), UniDB(MAX_SIGMA, gamma=1e12)
    torch.testing.assert_close(loose.signal(times), IRSDE(MAX_SIGMA).signal(times))
    torch.testing.assert_close(loose.std(times), IRSDE(MAX_SIGMA).std(times))
    torch.testing.assert_close(
        tight.signal(times), GOUB(MAX_SIGMA).signal(times), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(tight.std(times), GOUB(MAX_SIGMA).std(times), rtol=1e-6, atol=0)


@pytest.mark.parametrize("gamma", [1e5, 1e7])
def test_a_finite_price_ends_about_mu(gamma):
    sde = UniDB(MAX_SIGMA, gamma=gamma)
    assert sde.std(100).item() == pytest.approx(gamma**-0.5, rel=0.01)
    assert sde.signal(100).item() < 1e-5
    assert sde.initial_std() == sde.std(100).item()


def test_at_the_ends_nothing_is_divided_by_zero():
    sde = GOUB(MAX_SIGMA)
    assert sde.std(0) == sde.std(100) == sde.signal(100) == 0
    assert sde.log_snr(100) == -math.inf and sde.log_snr(0) == math.inf
    x = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    assert sde.x0_from_noise(x, x, x, 100).item() == 0.3
    assert sde.score_from_noise(x, 100).item() == 0
    for method in (sde.reverse_sde_mean, sde.reverse_ode_mean):
        assert method(x, x, 0 * x, 100).item() == 0.3


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.inf, math.nan])
def test_a_price_that_is_none_is_refused(gamma):
    with pytest.raises(ConfigError, match="gamma"):
        UniDB(MAX_SIGMA, gamma=gamma)
