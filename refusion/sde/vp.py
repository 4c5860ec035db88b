"""VPSDE: the variance-preserving process of DDPM (Ho et al., 2020), which starts from no photo.

    x_t = sqrt(abar_t) (2 x_0 - 1) + sqrt(1 - abar_t) noise

x_0 is an image in [0, 1]; states live in [-1, 1] units, as in all published weights. Time is an
index t = 0..T with abar_0 = 1; what DDPM calls step 0..T-1 is t = 1..T here. There is no degraded
photo: arguments `mu` are kept, unread, so that stages and objectives serve this process too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.sde.irsde import Time, expand_like


@dataclass(frozen=True)
class VPSDE:
    """Coefficients of the process; variances of the single steps rise linearly.

    Attributes:
        T: number of steps.
        beta_first: variance of the first step.
        beta_last: variance of the last step.

    Raises:
        ConfigError: a value is out of range.
    """

    T: int = 1000
    beta_first: float = 1e-4
    beta_last: float = 0.02

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.T < 1:
            raise ConfigError(f"T: expected at least 1 step, got {self.T!r}")
        if not 0 < self.beta_first <= self.beta_last < 1:
            raise ConfigError(
                "beta_first, beta_last: expected 0 < beta_first <= beta_last < 1, got "
                f"{self.beta_first!r} and {self.beta_last!r}"
            )

    @classmethod
    def from_levels(cls, T: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02) -> VPSDE:
        """Build from a config section, which knows no 8-bit levels here; see the class."""
        return cls(T, beta_first, beta_last)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Share of the variance that is still signal at t = 0..T, float64 (T + 1,)."""
        betas = torch.linspace(self.beta_first, self.beta_last, self.T, dtype=torch.float64)
        return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])

    def sample_marginal(self, x0: Tensor, mu: Tensor, t: Time, noise: Tensor) -> Tensor:
        """State x_t (B, C, H, W) of images x0 in [0, 1] with standard noise in it."""
        signal, spread = self._coefficients(t, noise)
        return signal * (2 * x0 - 1) + spread * noise

    def x0_from_noise(self, xt: Tensor, noise: Tensor, mu: Tensor, t: Time) -> Tensor:
        """Image in [0, 1] units that xt comes from if this is its noise; inverse of the above."""
        signal, spread = self._coefficients(t, xt)
        return ((xt - spread * noise) / signal + 1) / 2

    def _coefficients(self, t: Time, like: Tensor) -> tuple[float | Tensor, float | Tensor]:
        alpha_bar = self.alpha_bar[t]
        return expand_like(alpha_bar.sqrt(), like), expand_like((1 - alpha_bar).sqrt(), like)
