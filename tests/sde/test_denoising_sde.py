from __future__ import annotations

import pytest
import torch

from refusion.errors import RefusionError
from refusion.sde import SAMPLERS, DenoisingSDE, Estimate, SeededNoise

SDE = DenoisingSDE(70)


def normal(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 3, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("case", ["schedule_denoising_0", "schedule_denoising_1"])
def test_optimal_timesteps_equal_the_recorded_ones(case, recorded, sde_of):
    settings, _ = recorded(case)
    sde = sde_of(settings)
    found = {
        level: sde.optimal_timestep(int(level) / 255) for level in settings["optimal_timestep"]
    }
    assert found == settings["optimal_timestep"]


def test_optimal_timestep_inverts_std():
    assert [SDE.optimal_timestep(SDE.std(t).item()) for t in range(1, 81)] == list(range(1, 81))


def test_optimal_timestep_is_bounded():
    assert SDE.optimal_timestep(0.0) == 1
    assert SDE.optimal_timestep(SDE.lam) == SDE.T
    with pytest.raises(RefusionError, match="noise_std"):
        SDE.optimal_timestep(SDE.lam * 1.01)


def test_mu_is_never_read():
    """The noisy photo may be passed as mu; the process has no other mean than x0."""
    x0, noise, mu = normal()
    xt = SDE.sample_marginal(x0, mu, 30, noise)
    torch.testing.assert_close(xt, x0 + SDE.std(30).item() * noise)
    nothing = torch.full_like(mu, torch.nan)
    score = SDE.score_from_noise(noise, 30)
    velocity = SDE.velocity_from_noise(x0, noise, nothing, 30)
    for value in (
        SDE.x0_from_noise(xt, noise, nothing, 30),
        SDE.noise_from_x0(xt, x0, nothing, 30),
        SDE.reverse_sde_mean(xt, nothing, score, 30),
        SDE.reverse_ode_mean(xt, nothing, score, 30, 10),
        SDE.posterior(xt, x0, nothing, 30, 10)[0],
        SDE.x0_from_velocity(xt, velocity, nothing, 30),
    ):
        assert value.isfinite().all()


def test_reverse_steps_have_the_closed_drift():
    """With mu := x_t + v score the drifts gather into sigma^2 (1 + e^{-2 Theta}) score / 2 and
    sigma^2 e^{-2 Theta} score / 2, the form the authors' code uses."""
    xt, score, mu = normal()
    for t in (1, 20, 100):
        kept, speed = SDE.alpha(t).item() ** 2, 0.5 * SDE.sigma[t].item() ** 2 * SDE.dt
        mean = SDE.reverse_sde_mean(xt, mu, score, t)
        torch.testing.assert_close(mean, xt + speed * (1 + kept) * score)
        mean = SDE.reverse_ode_mean(xt, mu, score, t)
        torch.testing.assert_close(mean, xt + speed * kept * score)


def test_optimum_pulls_towards_x0():
    xt, x0, mu = normal()
    t = 20
    A = torch.exp(-SDE.theta[t] * SDE.dt).item()
    B, C = SDE.alpha(t).item(), SDE.alpha(t - 1).item()
    expected = x0 + A * (1 - C**2) / (1 - B**2) * (xt - x0)
    torch.testing.assert_close(SDE.optimum_mean(xt, x0, mu, t), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_denoise_from_the_optimal_timestep(sampler):
    """With the truth as estimate each sampler ends at the clean image, the noisy one as start."""
    sde = DenoisingSDE(70, T=1000)
    start = sde.optimal_timestep(25 / 255)
    x0, noise, _ = normal()
    noisy = x0 + 25 / 255 * noise

    def truth(xt, mu, t):
        return Estimate(x0, sde.noise_from_x0(xt, x0, mu, t))

    xT = sde.initial_state(noisy, noise)
    assert torch.equal(xT, noisy)
    result = SAMPLERS[sampler](
        sde, truth, xT, noisy, steps=start, start=start, noise=SeededNoise([1, 2])
    )
    remaining = ((result - x0).std() * 255).item()
    # Euler's last step adds sigma_1 sqrt(dt) noise; the others end at the estimate.
    assert remaining < {"euler": 0.5, "ode": 2.0}.get(sampler, 1e-9)
