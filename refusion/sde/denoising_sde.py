"""DenoisingSDE: the mean-reverting SDE whose mean is the clean image itself.

    dx = theta_t (x0 - x) dt + sigma_t dw,   so   x_t ~ N(x0, v_t)

A photo with Gaussian noise of standard deviation s is the state x_t at the time where
sqrt(v_t) = s. So denoising starts at this time, from the photo, and adds no noise.
All formulas are those of `IRSDE` with mu := x0. Where x0 is unknown it is computed from the score,
x0 = x_t + v_t score. The methods have an argument `mu` and ignore it, so that samplers and
objectives can call them like those of `IRSDE`.
Source: IR-SDE (Luo et al., ICML 2023), Gaussian denoising; the authors' public code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.errors import RefusionError
from refusion.hints import Share
from refusion.sde.irsde import IRSDE, Time, expand_like


@dataclass(frozen=True)
class DenoisingSDE(IRSDE):
    """Closed forms of the denoising SDE; attributes, arguments and conventions as in `IRSDE`.

    Attributes:
        eps: e^{-Theta_T}, between 0 and 1; here it only sets the difference of std(T) and lam.
    """

    eps: Share = 0.04

    def optimal_timestep(self, noise_std: float) -> int:
        """The time where std(t) is nearest to the noise of the photo: the start of denoising.

        Args:
            noise_std: standard deviation of the noise in the photo, [0, 1] units, 0..lam.

        Returns:
            t in 1..T minimising |Theta_t - Theta|, with lam^2 (1 - e^{-2 Theta}) = noise_std^2.

        Raises:
            RefusionError: noise_std is not in 0..lam.
        """
        if not 0 <= noise_std <= self.lam:
            raise RefusionError(
                f"noise_std: expected 0..{self.lam:.4g} (the lam of this SDE), got {noise_std:.4g}"
            )
        return int(self.nearest_times(torch.tensor(noise_std, dtype=torch.float64)))

    def nearest_times(self, noise_std: Tensor) -> Tensor:
        """`optimal_timestep` of many photos at once, on the device of their noise levels.

        Args:
            noise_std: standard deviations of the noise, [0, 1] units, (B,) or (); values outside
                0..lam are clamped.

        Returns:
            Times 1..T, LongTensor of the same shape.
        """
        share = (noise_std.double() / self.lam).clamp(0, 1)
        # The 1e-6 keeps the logarithm finite at noise_std = lam.
        target = -0.5 * torch.log(1 - share**2 + 1e-6)
        return (self._theta_bar_on(noise_std.device) - target[..., None]).abs().argmin(-1).clamp(1)

    def signal(self, t: Time) -> Tensor:
        """1 at every t, because the mean of x_t is x0; float64, () or (B,)."""
        return torch.ones_like(self.alpha(t))

    def initial_std(self, start: Time | None = None) -> float:
        """0: the start state is the noisy photo itself, without additional noise."""
        return 0.0

    def marginal_mean(self, x0: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Mean of x_t given x0, which is x0 at every t."""
        return x0

    def x0_from_noise(self, xt: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The x0 of the state xt with this noise: xt - sqrt(v_t) noise."""
        return xt - expand_like(self.std(t), xt) * noise

    def velocity_from_noise(self, x0: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Velocity of `IRSDE` with mu := x0: alpha_t lam noise."""
        return expand_like(self.lam * self.alpha(t), noise) * noise

    def noise_from_velocity(self, xt: Tensor, velocity: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Inverse of `velocity_from_noise`."""
        return velocity / expand_like(self.lam * self.alpha(t), xt)

    def x0_from_velocity(self, xt: Tensor, velocity: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The x0 of the state xt with this velocity."""
        return self.x0_from_noise(xt, self.noise_from_velocity(xt, velocity, mu, t), mu, t)

    def reverse_sde_mean(
        self, xt: Tensor, mu: Tensor, score: Tensor, t: Time, to: Time | None = None
    ) -> Tensor:
        """Euler step of the reverse SDE without its random term: `IRSDE` with mu := x0."""
        return super().reverse_sde_mean(xt, self._x0_from_score(xt, score, t), score, t, to)

    def reverse_ode_mean(
        self, xt: Tensor, mu: Tensor, score: Tensor, t: Time, to: Time | None = None
    ) -> Tensor:
        """Euler step of the probability-flow ODE: `IRSDE` with mu := x0."""
        return super().reverse_ode_mean(xt, self._x0_from_score(xt, score, t), score, t, to)

    def posterior(
        self, xt: Tensor, x0: Tensor, mu: Tensor, a: Time, b: Time
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_b given x_a and x0: `IRSDE.posterior` with mu := x0."""
        return super().posterior(xt, x0, x0, a, b)

    def _theta_bar_at(self, t: Time) -> Tensor:
        """As in `IRSDE`; whole times on a GPU stay there, because reading them would block."""
        if isinstance(t, Tensor) and t.device.type == "cuda":
            return self._theta_bar_on(t.device)[t]
        return super()._theta_bar_at(t)

    def _theta_bar_on(self, device: torch.device) -> Tensor:
        return self.theta_bar.to(device, non_blocking=True)

    def _x0_from_score(self, xt: Tensor, score: Tensor, t: Time) -> Tensor:
        return xt + expand_like(self.std(t) ** 2, xt) * score
