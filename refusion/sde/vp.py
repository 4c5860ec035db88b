"""VPSDE: the variance-preserving process of DDPM (Ho et al., 2020), without a degraded photo.

    x_t = sqrt(abar_t) (2 x_0 - 1) + sqrt(1 - abar_t) noise

x_0 is an image in [0, 1]; states have [-1, 1] units, as in all published weights. Time is an
index t = 0..T with abar_0 = 1. Step 0..T-1 of DDPM is t = 1..T here. The methods have an argument
`mu` and ignore it, so that training stages and objectives can call them like those of `IRSDE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.hints import NumberOfSteps, Share
from refusion.sde.irsde import Time, expand_like


@dataclass(frozen=True)
class VPSDE:
    """Coefficients of the process; the variance of the steps (beta) increases linearly.

    Attributes:
        T: number of steps, >= 1.
        beta_first: variance of the first step, > 0.
        beta_last: variance of the last step, from `beta_first` to below 1.

    Raises:
        ConfigError: a value is out of range.
    """

    T: NumberOfSteps = 1000
    beta_first: Share = 1e-4
    beta_last: Share = 0.02

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_arguments(VPSDE, vars(self))
        if self.T < 1:
            raise ConfigError(f"T: expected at least 1 step, got {self.T!r}")
        if not 0 < self.beta_first <= self.beta_last < 1:
            raise ConfigError(
                "beta_first, beta_last: expected 0 < beta_first <= beta_last < 1, got "
                f"{self.beta_first!r} and {self.beta_last!r}"
            )

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Product of 1 - beta, the share of the signal in the variance; float64, (T + 1,)."""
        betas = torch.linspace(self.beta_first, self.beta_last, self.T, dtype=torch.float64)
        return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])

    def sample_marginal(self, x0: Tensor, mu: Tensor, t: Time, noise: Tensor) -> Tensor:
        """State x_t for clean images and standard normal noise.

        Args:
            x0: clean images, (B, C, H, W) in [0, 1].
            mu: ignored.
            t: whole time 0..T, or a tensor (B,).
            noise: standard normal, (B, C, H, W).

        Returns:
            (B, C, H, W), [-1, 1] units.
        """
        signal, std = self._signal_and_std(t, noise)
        return signal * (2 * x0 - 1) + std * noise

    def x0_from_noise(self, xt: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """The image x0 in [0, 1] units of the state xt with this noise: inverse of the above.

        Args:
            xt: state at time t, (B, C, H, W), [-1, 1] units.
            noise: standard normal noise in xt, the same shape.
            mu: ignored.
            t: whole time 0..T, or a tensor (B,).
        """
        signal, std = self._signal_and_std(t, xt)
        return ((xt - std * noise) / signal + 1) / 2

    def _signal_and_std(self, t: Time, like: Tensor) -> tuple[float | Tensor, float | Tensor]:
        alpha_bar = self.alpha_bar[t]
        return expand_like(alpha_bar.sqrt(), like), expand_like((1 - alpha_bar).sqrt(), like)
