"""Solvers against the exact law of a Gaussian (`gaussian_law`), published formulas and mistakes.

The recorded moments come from an independent scalar recursion that integrates the interpolating
polynomials by quadrature instead of in closed form. The last test plants mistakes and shows that
these checks find them.
"""

from __future__ import annotations

import math

import pytest
import torch
from gaussian_law import errors

from refusion.errors import ConfigError
from refusion.sde import (
    GOUB,
    IRSDE,
    SAMPLERS,
    DenoisingSDE,
    Estimate,
    SeededNoise,
    SolverState,
    UniDB,
)
from refusion.sde.solvers import SolverStep

SDES_UNDER_TEST = {
    "IRSDE": IRSDE(50),
    "DenoisingSDE": DenoisingSDE(70),
    "GOUB": GOUB(30),
    "UniDB": UniDB(30),
}
# Relative error of the final standard deviation in 20 steps, T = 100; the mean is exact.
IN_20_STEPS = {
    ("IRSDE", "ode-data-1@time"): -0.0792411726536,
    ("IRSDE", "sde-data-1@time"): -0.142717570734,
    ("IRSDE", "ode-data-2@log_snr"): 0.0234219920566,
    ("IRSDE", "sde-data-2@log_snr"): 0.0792283419921,
    ("IRSDE", "ode-data-3@karras"): -0.0149850007209,
    ("IRSDE", "sde-data-3@karras"): 0.0430898495588,
    ("IRSDE", "ode-noise-1@time"): -0.0792411726536,
    ("IRSDE", "sde-noise-1@time"): -0.00023050769378,
    ("IRSDE", "ode-noise-2@log_snr"): -0.0202243938106,
    ("IRSDE", "sde-noise-2@log_snr"): -0.0136079197325,
    ("IRSDE", "ode-noise-3@karras"): 0.00216715799491,
    ("IRSDE", "sde-noise-3@karras"): 0.055167149597,
    ("IRSDE", "eta0.5-data-2@log_snr"): 0.0347623009613,
    ("IRSDE", "eta0.5-noise-2@karras"): -0.0192931462048,
    ("DenoisingSDE", "ode-data-2@time"): 0.0164777209729,
    ("DenoisingSDE", "sde-data-3@log_snr"): -0.00585128792223,
    ("DenoisingSDE", "ode-noise-2@time"): 0.00242190922108,
    ("DenoisingSDE", "sde-noise-3@log_snr"): 0.00402536095886,
    ("GOUB", "sde-data-1@time"): -0.137152645,
    ("GOUB", "sde-data-2@log_snr"): 0.0800575870557,
    ("GOUB", "sde-data-3@karras"): -0.0198155582789,
    ("GOUB", "sde-noise-2@log_snr"): -0.0131105285904,
    ("UniDB", "sde-data-1@time"): -0.137152644879,
    ("UniDB", "ode-data-2@log_snr"): 0.0235112959132,
    ("UniDB", "sde-data-3@karras"): -0.0198155559535,
    ("UniDB", "ode-noise-1@time"): -0.0786667543512,
}
# Order of the standard deviation's error. A polynomial through more values does not mend what the
# random term does within a step: with it, 2 is the most.
ORDERS = {
    "ode-data-1": 1,
    "ode-data-2": 2,
    "ode-data-3": 3,
    "ode-noise-1": 1,
    "ode-noise-2": 2,
    "ode-noise-3": 3,
    "sde-data-1": 1,
    "sde-data-2": 2,
    "sde-data-3": 2,
    "sde-noise-2": 2,
    "sde-noise-3": 2,
    "eta0.5-data-1": 1,
    "eta0.5-data-2": 2,
    "eta0.5-noise-2": 2,
}


def check_recorded(kind, word, sampled_sde=None):
    found = errors(SDES_UNDER_TEST[kind], word, 20, sampled_sde=sampled_sde)
    assert found == pytest.approx((0, IN_20_STEPS[kind, word]), rel=1e-8, abs=1e-9)


def check_order(sde, word, order, sampled_sde=None):
    """Halving the steps divides the error by 2^order; at least that, where symmetry helps."""
    coarse, fine = (
        abs(errors(sde, f"{word}@log_snr", n, sampled_sde=sampled_sde)[1]) for n in (80, 160)
    )
    assert order - 0.15 < math.log2(coarse / fine) < order + 1.6


@pytest.mark.parametrize(("kind", "word"), IN_20_STEPS)
def test_moments_equal_the_recorded_ones(kind, word):
    check_recorded(kind, word)


@pytest.mark.parametrize(("word", "order"), ORDERS.items())
def test_the_order_is_what_the_name_says(word, order):
    check_order(IRSDE(50, T=20000), word, order)


@pytest.mark.parametrize("kind", [DenoisingSDE, UniDB])
@pytest.mark.parametrize("word", ["ode-data-2", "sde-data-2", "ode-noise-2"])
def test_the_order_holds_for_every_process(kind, word):
    settings = {"gamma": 100.0} if kind is UniDB else {}
    check_order(kind(50, T=20000, **settings), word, ORDERS[word])


@pytest.mark.parametrize("grid", ["time", "log_snr", "karras"])
def test_bridge_and_irsde_have_the_same_reverse_process(grid):
    """With the random term what x_b is given x_a and x0 decides all, and it is one for all."""
    first, *others = (kind(30) for kind in (IRSDE, GOUB, UniDB))
    for word in ("posterior", "sde-data-1"):
        expected = errors(first, f"{word}@{grid}", 25)
        for other in others:
            assert errors(other, f"{word}@{grid}", 25) == pytest.approx(
                expected, rel=3e-4, abs=1e-9
            )


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_first_order_with_noise_is_the_strided_posterior(steps):
    for kind in ("IRSDE", "GOUB", "UniDB"):
        sde, mu = SDES_UNDER_TEST[kind], torch.rand(2, 3, 4, 4, dtype=torch.float64)

        def denoise(xt, mu, t, sde=sde):
            x0 = torch.tanh(xt) + 0.2 * mu
            return Estimate(x0, sde.noise_from_x0(xt, x0, mu, t))

        noise = SeededNoise(1)
        xT = sde.initial_state(mu, noise.initial(mu))
        one, other = (
            SAMPLERS[word](sde, denoise, xT, mu, steps=steps, noise=noise)
            for word in ("posterior", "sde-data-1")
        )
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def case(t=60, before=80, first=95):
    generator = torch.Generator().manual_seed(3)
    x, mu, z, *estimates = torch.rand(9, 1, 1, 2, 2, generator=generator, dtype=torch.float64)
    pairs = [Estimate(estimates[2 * i], estimates[2 * i + 1]) for i in range(3)]
    states = [SolverState(time, pair) for time, pair in zip((t, before, first), pairs, strict=True)]
    return SDES_UNDER_TEST["IRSDE"], states, x, mu, z


class Field:
    def __init__(self, z):
        self.z = z

    def step(self, t, like):
        return self.z


@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("order", [1, 2])
def test_published_updates(form, eta, order):
    """MaRS / MR-Sampler, PF-ODE and SDE, as printed, with h = l_b - l_a and r = h_prev / h."""
    sde, states, x, mu, z = case()
    b = 30
    found = SolverStep(form, order, eta)(sde, states, x, mu, b, Field(z))
    (aa, sa), (ab, sb) = ((sde.alpha(t).item(), sde.std(t).item()) for t in (60, b))
    la, lb, lp = (sde.log_snr(t).item() for t in (60, b, 80))
    h, r = lb - la, (la - lp) / (lb - la)
    q0, q1 = (v.estimate.x0 if form == "data" else v.estimate.noise for v in states[:2])
    d1 = (q0 - q1) / r if order == 2 else 0.0 * q0
    if form == "data" and eta == 0:
        expected = sb / sa * x + mu * (1 - sb / sa + sb / sa * aa - ab)
        expected += ab * (1 - math.exp(-h)) * q0 + ab * (1 - (1 - math.exp(-h)) / h) * d1
    elif form == "data":
        e2 = math.exp(-2 * h)
        expected = sb / sa * math.exp(-h) * x + mu * (1 - ab / aa * e2 - ab * (1 - e2))
        expected += ab * (1 - e2) * q0 + ab * (1 - (1 - e2) / (2 * h)) * d1
        expected += sb * math.sqrt(1 - e2) * z
    else:
        onto = (1 + eta) * sb
        expected = ab / aa * x + (1 - ab / aa) * mu - onto * math.expm1(h) * q0
        expected -= onto * (math.expm1(h) / h - 1) * d1
        expected += eta * sb * math.sqrt(math.expm1(2 * h)) * z
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_polynomials_are_integrated_exactly(form, eta, order):
    """An estimate that is a polynomial of degree order - 1 in l: against 4000 tiny steps."""
    sde, states, x, mu, _ = case()
    level = sde.log_snr(60).item()

    def at(log_snr):
        return sum((k + 1) * 0.3**k * (log_snr - level) ** k for k in range(order)) * (1 + mu)

    polynomial = [at(sde.log_snr(v.t).item()) for v in states]
    states = [
        SolverState(v.t, Estimate(q + mu, q)) for v, q in zip(states, polynomial, strict=True)
    ]
    found = SolverStep(form, order, eta)(sde, states, x, mu, 30, Field(0 * x))
    count, rate = 4000, 1 + eta**2
    end = sde.log_snr(30).item()
    h = (end - level) / count
    (aa, sa), (ab, sb) = ((sde.alpha(t).item(), sde.std(t).item()) for t in (60, 30))
    total = (x - mu) * (sb / sa * math.exp(-(eta**2) * h * count) if form == "data" else ab / aa)
    for i in range(count):  # midpoint rule
        here = level + (i + 0.5) * h
        factor = sb * math.exp(-(eta**2) * (end - here) + here)
        factor = factor if form == "data" else -ab * math.exp(-here)
        total = total + rate * factor * h * at(here)
    torch.testing.assert_close(found, mu + total, rtol=1e-6, atol=1e-6)


def test_order_three_of_the_released_code_is_of_order_two(monkeypatch):
    """It halves the second difference; see docs/math.md."""
    import refusion.sde.solvers as solvers

    exact = solvers._integrals
    released = (1.0, 1.0, 0.5)
    monkeypatch.setattr(
        solvers, "_integrals", lambda *a: [v * f for v, f in zip(exact(*a), released, strict=False)]
    )
    check_order(IRSDE(50, T=20000), "ode-data-3", 2)
    with pytest.raises(AssertionError):
        check_order(IRSDE(50, T=20000), "ode-data-3", 3)


class OffByOne(IRSDE):
    """Reads the tables one time too late."""

    def _theta_bar_at(self, t):
        return super()._theta_bar_at((torch.as_tensor(t) + 1).clamp(max=self.T))


class NoRoot(IRSDE):
    """Takes the variance for the standard deviation."""

    def std(self, t):
        return super().std(t) ** 2


class Halved(IRSDE):
    """sigma_t^2 = lam^2 theta_t, which halves every variance."""

    def std(self, t):
        return super().std(t) / math.sqrt(2)

    def posterior(self, xt, x0, mu, a, b):
        mean, std = super().posterior(xt, x0, mu, a, b)
        return mean, std / math.sqrt(2)


@pytest.mark.parametrize("mistake", [OffByOne, NoRoot, Halved])
def test_planted_mistakes_are_found(mistake):
    """The mistake is in the sampler; the network and the expected moments are right."""
    for kind, word in IN_20_STEPS:
        # This ODE knows ratios of spreads only: to it the halved variance is none the worse.
        if kind == "IRSDE" and not (mistake is Halved and word.startswith("ode-data")):
            with pytest.raises(AssertionError):
                check_recorded(kind, word, sampled_sde=mistake(50))
    if mistake is not OffByOne:  # a mistake of first order, which the recorded values find
        fine, wrong = IRSDE(50, T=20000), mistake(50, T=20000)
        for word in ("sde-data-2", "ode-noise-2"):
            with pytest.raises(AssertionError):
                check_order(fine, word, ORDERS[word], sampled_sde=wrong)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("posteriour", "unknown sampler 'posteriour'; did you mean 'posterior'"),
        ("sde-data-4", "unknown sampler 'sde-data-4'; did you mean 'sde-data-"),
        ("eta0.5-data-4", "eta0.5-data-4: order: expected 1, 2 or 3, got 4"),
        ("eta1.5-data-1", r"eta1.5-data-1: eta: expected 0 \(ODE\) to 1 \(SDE\), got 1.5"),
        ("posterior@karas", "posterior@karas: unknown grid 'karas'; did you mean 'karras'"),
        ("mean@", "mean@: unknown grid ''"),
    ],
)
def test_words_that_are_none_are_refused_with_the_reason(word, reason):
    from refusion.sde import find_sampler

    with pytest.raises(ConfigError, match=reason):
        find_sampler(word)
    assert word not in SAMPLERS


def test_words_say_what_is_done():
    step = SAMPLERS["eta0.25-noise-3@log_snr"].step
    assert (step.form, step.order, step.eta) == ("noise", 3, 0.25)
    assert SAMPLERS["sde-data-2"].is_random and not SAMPLERS["ode-data-2"].is_random
    assert all(name in SAMPLERS and f"{name}@karras" in SAMPLERS for name in SAMPLERS)
    assert len(list(SAMPLERS)) == len(SAMPLERS) == 16
