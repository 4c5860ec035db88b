"""DenoisingSDE: the mean-reverting SDE whose mean is the clean image itself.

    dx = theta_t (x0 - x) dt + sigma_t dw,   so   x_t ~ N(x0, v_t)

A photo with Gaussian noise of standard deviation s *is* the state x_t of the time where
sqrt(v_t) = s, so denoising starts there, from the photo, and needs no added noise.
All formulas are those of `IRSDE` with mu := x0; where x0 is unknown it follows from the score,
x0 = x_t + v_t score. The `mu` arguments are kept, unread, so that samplers and objectives serve
both. Source: IR-SDE (Luo et al., ICML 2023), Gaussian denoising; the authors' public code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.errors import RefusionError
from refusion.sde.irsde import IRSDE, Time, expand_like


@dataclass(frozen=True)
class DenoisingSDE(IRSDE):
    """Closed forms of the denoising SDE; attributes and conventions of `IRSDE`.

    Attributes:
        eps: e^{-Theta_T}; only sets how closely std(T) comes to lam.
    """

    eps: float = 0.04

    def optimal_timestep(self, noise_std: float) -> int:
        """Time at which the marginal has the given spread: where denoising starts.

        Args:
            noise_std: standard deviation of the noise in the photo, [0, 1] units, 0..lam.

        Returns:
            t in 1..T minimising |Theta_t - Theta|, with lam^2 (1 - e^{-2 Theta}) = noise_std^2.

        Raises:
            RefusionError: more noise than this SDE spans.
        """
        if not 0 <= noise_std <= self.lam:
            raise RefusionError(
                f"noise_std: expected 0..{self.lam:.4g} (the lam of this SDE), got {noise_std:.4g}"
            )
        # The 1e-6 keeps the logarithm finite at noise_std = lam.
        target = -0.5 * math.log(1 - (noise_std / self.lam) ** 2 + 1e-6)
        return max(1, int((self.theta_bar - target).abs().argmin()))

    def signal(self, t: Time) -> Tensor:
        """1: all of x0 is there at every t."""
        return torch.ones_like(self.alpha(t))

    def initial_std(self, start: Time | None = None) -> float:
        """0: restoring starts from the noisy photo itself, whose noise is the diffusion's."""
        return 0.0

    def marginal_mean(self, x0: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Mean of x_t given x0: x0 at every t."""
        return x0

    def x0_from_noise(self, xt: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """x_t - sqrt(v_t) noise."""
        return xt - expand_like(self.std(t), xt) * noise

    def velocity_from_noise(self, x0: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Velocity of `IRSDE` with mu := x0, which leaves alpha_t lam noise."""
        return expand_like(self.lam * self.alpha(t), noise) * noise

    def noise_from_velocity(self, xt: Tensor, velocity: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Inverse of `velocity_from_noise`."""
        return velocity / expand_like(self.lam * self.alpha(t), xt)

    def x0_from_velocity(self, xt: Tensor, velocity: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The x0 whose velocity at xt is `velocity`."""
        return self.x0_from_noise(xt, self.noise_from_velocity(xt, velocity, mu, t), mu, t)

    def reverse_sde_mean(
        self, xt: Tensor, mu: Tensor, score: Tensor, t: Time, to: Time | None = None
    ) -> Tensor:
        """Euler step of the reverse SDE without its random term; drift with mu := x0."""
        return super().reverse_sde_mean(xt, self._x0_from_score(xt, score, t), score, t, to)

    def reverse_ode_mean(
        self, xt: Tensor, mu: Tensor, score: Tensor, t: Time, to: Time | None = None
    ) -> Tensor:
        """Euler step of the probability-flow ODE; drift with mu := x0."""
        return super().reverse_ode_mean(xt, self._x0_from_score(xt, score, t), score, t, to)

    def posterior(
        self, xt: Tensor, x0: Tensor, mu: Tensor, a: Time, b: Time
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_b given x_a = xt and x0; `IRSDE.posterior`, mu := x0."""
        return super().posterior(xt, x0, x0, a, b)

    def _x0_from_score(self, xt: Tensor, score: Tensor, t: Time) -> Tensor:
        return xt + expand_like(self.std(t) ** 2, xt) * score
