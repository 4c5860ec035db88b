from __future__ import annotations

import math

import pytest
import torch
from sde_families import MEAN_REVERTING

from refusion.errors import ConfigError
from refusion.sde import GOUB, IRSDE, SDES, THETA_SCHEDULES, DenoisingSDE, UniDB, build_sde

SDE = IRSDE(50)


def images(*, seed=0, count=3, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, batch, 3, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("case", ["one_step_a", "one_step_b"])
def test_one_step_equals_the_recorded_one(case, recorded, sde_of):
    settings, known = recorded(case)
    sde, t = sde_of(settings), torch.tensor(settings["t"])
    x0, mu, noise, xt, score = (known[key] for key in ("x0", "mu", "noise", "x_t", "score"))
    found = {
        "mean": sde.marginal_mean(x0, mu, t),
        "x_t": sde.sample_marginal(x0, mu, t, noise),
        "score": sde.score_from_noise(noise, t),
        "x0_from_noise": sde.x0_from_noise(xt, noise, mu, t),
        "reverse_sde_mean": sde.reverse_sde_mean(xt, mu, score, t),
        "reverse_ode_mean": sde.reverse_ode_mean(xt, mu, score, t),
        "optimum_mean": sde.optimum_mean(xt, x0, mu, t),
        "posterior_std": sde.posterior(xt, x0, mu, t, t - 1)[1].float(),
        "std": sde.std(t).float().reshape(-1, 1, 1, 1),
    }
    for name, value in found.items():
        # The recorded std at t = 1 carries a relative float32 error of 1.6e-5, and so the score.
        torch.testing.assert_close(value, known[name], rtol=2e-5, atol=1e-6, msg=name)


def test_posterior_has_the_golden_coefficients():
    # Independent float64 values of the step 37 -> 36.
    zero, one = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    onto_xt, std = SDE.posterior(one, zero, zero, 37, 36)
    onto_x0 = SDE.posterior(zero, one, zero, 37, 36)[0]
    onto_mu = SDE.posterior(zero, zero, one, 37, 36)[0]
    found = [onto_xt.item(), onto_x0.item(), onto_mu.item(), std.item()]
    golden = [0.9245399264079327, 0.0686843212827818, 0.0067757523092855, 0.0480721703886691]
    assert found == pytest.approx(golden, rel=1e-12)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
def test_score_is_the_gradient_of_the_log_density(kind):
    """-noise / sqrt(v_t), not -noise / v_t: autograd of log N(x_t; m_t, v_t) decides."""
    sde = SDES[kind](50)
    x0, mu, noise = images()
    for t in (1, 37, 62.25, 99):
        mean, std = sde.marginal_mean(x0, mu, t), sde.std(t).item()
        xt = sde.sample_marginal(x0, mu, t, noise).requires_grad_()
        log_density = torch.distributions.Normal(mean, std).log_prob(xt).sum()
        (gradient,) = torch.autograd.grad(log_density, xt)
        torch.testing.assert_close(sde.score_from_noise(noise, t), gradient)


def test_marginal_is_the_limit_of_the_forward_recursion():
    """Euler on dx = theta (mu - x) dt + sigma dw approaches the closed form, with order 1."""
    x0, mu, errors = 0.9, 0.2, []
    for T in (400, 800):
        sde, mean, variance = IRSDE(51, T), x0, 0.0
        for t in range(1, T // 2 + 1):
            pull = (sde.theta[t] * sde.dt).item()
            mean += pull * (mu - mean)
            variance = (1 - pull) ** 2 * variance + (sde.sigma[t] ** 2 * sde.dt).item()
        closed = sde.marginal_mean(torch.tensor([[x0]]), torch.tensor([[mu]]), T // 2).item()
        errors.append((abs(mean - closed), abs(variance - sde.std(T // 2).item() ** 2)))
    assert max(errors[1]) < 1e-3
    for coarse, fine in zip(*errors, strict=True):
        assert coarse / fine == pytest.approx(2, rel=0.05)


def test_marginal_ends():
    x0, mu, noise = images()
    assert SDE.std(0) == 0
    assert torch.equal(SDE.sample_marginal(x0, torch.zeros_like(mu), 0, noise), x0)
    torch.testing.assert_close(SDE.marginal_mean(x0, mu, 100) - mu, 0.005 * (x0 - mu))
    assert SDE.std(100).item() == pytest.approx(50 / 255, rel=2e-5)
    torch.testing.assert_close(SDE.initial_state(mu, noise), mu + 50 / 255 * noise)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize("a", [1, 25, 100])
def test_posterior_at_time_zero_is_x0_exactly(kind, a):
    x0, mu, xt = images().float()
    mean, std = SDES[kind](51).posterior(xt, x0, mu, a, 0)
    assert torch.equal(mean, x0) and std == 0


@pytest.mark.parametrize("kind", MEAN_REVERTING)
@pytest.mark.parametrize(
    ("a", "b"), [(100, 99), (100, 50), (80, 7), (37, 36), (2, 1), (90.5, 12.25)]
)
def test_posterior_carries_the_marginal_from_a_to_b(kind, a, b):
    """Bayes: averaging the posterior over x_a ~ N(m_a, v_a) gives N(m_b, v_b), at any stride."""
    sde = SDES[kind](51)
    x0, mu, _ = images()
    mean, std = sde.posterior(sde.marginal_mean(x0, mu, a), x0, mu, a, b)
    torch.testing.assert_close(mean, sde.marginal_mean(x0, mu, b), rtol=1e-12, atol=1e-12)
    slope = sde.posterior(x0 + 1, x0, mu, a, b)[0] - sde.posterior(x0, x0, mu, a, b)[0]
    variance = slope.mean() ** 2 * sde.std(a) ** 2 + std**2
    assert variance.item() == pytest.approx(sde.std(b).item() ** 2, rel=1e-11)
    # The covariance too: x_a given x_b is the forward transition, which shrinks x_b - mu (of the
    # denoising SDE: x_b - x0) by alpha_a / alpha_b, of a bridge by the ratio of its signals.
    kept = sde.alpha if kind == "DenoisingSDE" else sde.signal
    covariance = slope.mean() * sde.std(a) ** 2
    expected = sde.std(b) ** 2 * kept(a) / kept(b)
    assert covariance.item() == pytest.approx(expected.item(), rel=1e-11, abs=1e-18)


@pytest.mark.parametrize("method", ["reverse_sde_mean", "reverse_ode_mean"])
def test_euler_steps_follow_their_drift(method):
    """Textbook form with theta_t dt and sigma_t^2 dt, for one step."""
    xt, mu, score = images()
    share = {"reverse_sde_mean": 1, "reverse_ode_mean": 0.5}[method]
    for t in (1, 40, 100):
        theta, sigma = SDE.theta[t].item(), SDE.sigma[t].item()
        drift = theta * (mu - xt) - share * sigma**2 * score
        torch.testing.assert_close(getattr(SDE, method)(xt, mu, score, t), xt - drift * SDE.dt)
    assert SDE.reverse_sde_std(40).item() == pytest.approx(SDE.sigma[40].item() * SDE.dt**0.5)


@pytest.mark.parametrize("kind", MEAN_REVERTING)
def test_a_time_per_image_equals_image_by_image(kind):
    sde, t = SDES[kind](51), torch.tensor([3, 77])
    x0, mu, noise = images()

    def everything(x0, mu, noise, t):
        xt = sde.sample_marginal(x0, mu, t, noise)
        score = sde.score_from_noise(noise, t)
        yield from (xt, score, sde.noise_from_x0(xt, x0, mu, t), sde.optimum_mean(xt, x0, mu, t))
        yield sde.x0_from_noise(xt, noise, mu, t)
        yield sde.reverse_sde_mean(xt, mu, score, t)
        yield sde.reverse_ode_mean(xt, mu, score, t, t // 2)
        yield sde.velocity_from_noise(x0, noise, mu, t)

    singles = [
        everything(x0[i : i + 1], mu[i : i + 1], noise[i : i + 1], int(t[i])) for i in (0, 1)
    ]
    for batched, first, second in zip(everything(x0, mu, noise, t), *singles, strict=True):
        torch.testing.assert_close(batched, torch.cat([first, second]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t", [5, torch.tensor([5, 50])])
def test_images_keep_their_dtype(dtype, t):
    x0, mu, noise = images().to(dtype)
    assert SDE.sample_marginal(x0, mu, t, noise).dtype == dtype
    assert SDE.posterior(x0, x0, mu, t, t - 1)[0].dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"max_sigma": 0.2}, "max_sigma: expected 8-bit levels >= 1, got 0.2; .* write 51"),
        ({"max_sigma": math.inf}, "max_sigma"),
        ({"max_sigma": 51, "T": 0}, "T"),
        ({"max_sigma": 51, "T": 10.0}, "T"),
        ({"max_sigma": 51, "eps": 1.0}, "eps"),
        ({"max_sigma": 51, "schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_wrong_settings_are_refused(arguments, word):
    with pytest.raises(ConfigError, match=word):
        IRSDE(**arguments)


@pytest.mark.parametrize("t", [-1, 101, 100.01, -0.1, torch.tensor([5, 101])])
def test_times_outside_the_process_are_refused(t):
    with pytest.raises(ValueError, match=r"0\.\.100"):
        SDE.alpha(t)


@pytest.mark.parametrize("schedule", THETA_SCHEDULES)
def test_between_two_times_theta_is_constant(schedule):
    """Theta is linear there, hits the table to the last bit, and `time_at` undoes it."""
    sde = IRSDE(51, 20, schedule)
    assert torch.equal(-sde.alpha(torch.arange(21)).log(), -torch.exp(-sde.theta_bar).log())
    for t in (0.0, 0.25, 1.0, 7.5, 19.999, 20.0):
        low, high = (sde.theta_bar[index].item() for index in (int(t), math.ceil(t)))
        theta_bar = low + (t - int(t)) * (high - low)
        assert -math.log(sde.alpha(t).item()) == pytest.approx(theta_bar, rel=1e-12, abs=1e-15)
        assert sde.time_at(theta_bar) == pytest.approx(t, abs=1e-9)
    batch = torch.tensor([0.25, 7.5])
    assert sde.std(batch).tolist() == [sde.std(0.25).item(), sde.std(7.5).item()]
    assert sde.time_at(sde.theta_bar[-1].item() * 2) == 20  # never beyond T


@pytest.mark.parametrize("kind", MEAN_REVERTING)
def test_restoring_starts_with_the_spread_that_the_process_has(kind):
    """At T the published lam, which is std(T) but for 1e-5; elsewhere std itself."""
    sde, (_, mu, noise) = SDES[kind](51), images()
    ends = {"IRSDE": 0.2, "DenoisingSDE": 0.0, "GOUB": 0.0, "UniDB": sde.std(100).item()}
    assert sde.initial_std() == ends[kind]
    torch.testing.assert_close(sde.initial_state(mu, noise), mu + ends[kind] * noise)
    spread = 0.0 if kind == "DenoisingSDE" else sde.std(60.5).item()
    torch.testing.assert_close(sde.initial_state(mu, noise, 60.5), mu + spread * noise)


def test_build_sde_reads_levels():
    assert build_sde({"type": "IRSDE", "max_sigma": 50, "T": 20}) == IRSDE(50, 20)
    built = build_sde({"type": "DenoisingSDE", "max_sigma": 70, "schedule": "linear"})
    assert built == DenoisingSDE(70, schedule="linear", eps=0.04)
    built = build_sde({"type": "UniDB", "max_sigma": 30, "gamma": 1e6})
    assert built == UniDB(30, gamma=1e6)
    assert build_sde({"type": "GOUB", "max_sigma": 30}) == GOUB(30)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "IRSDE", "max_sigma": 0.2}, "write 51"),
        ({"type": "IRSDE"}, "max_sigma: missing"),
        ({"type": "IRSD", "max_sigma": 50}, "did you mean 'IRSDE'"),
        ({"max_sigma": 50}, "sde.type"),
        ({"type": "IRSDE", "max_sigma": 50, "shedule": "cosine"}, "did you mean 'schedule'"),
    ],
)
def test_build_sde_names_what_is_wrong(section, message):
    with pytest.raises(ConfigError, match=message):
        build_sde(section)
