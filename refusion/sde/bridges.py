"""Bridges: mean-reverting SDEs that end at the degraded image, exactly or nearly.

    dx = (theta_t + sigma_t^2 e^{-2 (Theta_T - Theta_t)} / A_t) (mu - x) dt + sigma_t dw,
    A_t = 1/gamma + lam^2 (1 - e^{-2 (Theta_T - Theta_t)})

This is the mean-reverting SDE with an optimal control that moves x towards mu. The cost is the
integral of the squared control plus gamma times the squared distance from mu at time T. With an
infinite gamma every path ends at mu, so the reverse process starts from the degraded image without
noise. The equation is linear, so mean and variance have closed forms for every gamma
(docs/math.md). The control is a Doob transform: the distribution of x_b given x_a and x0 is that of
`IRSDE`, and so is `posterior`.
Sources: GOUB (Yue et al., ICML 2024), infinite gamma; UniDB (Zhu et al., ICML 2025), finite gamma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from refusion.arguments import is_between
from refusion.errors import ConfigError, short
from refusion.hints import Bound
from refusion.sde.irsde import IRSDE, Time


@dataclass(frozen=True)
class GOUB(IRSDE):
    """Closed forms of the bridge that ends exactly at mu; attributes and conventions of `IRSDE`."""

    def signal(self, t: Time) -> Tensor:
        """Factor of x0 - mu in the mean of x_t: e^{-Theta_t} A_t / A_0; 0 at T; () or (B,)."""
        return self.alpha(t) * self._a(t) / self._a(0)

    def std(self, t: Time) -> Tensor:
        """Std of x_t given x0: lam sqrt((1 - e^{-2 Theta_t}) A_t / A_0); 0 at both ends."""
        return super().std(t) * torch.sqrt(self._a(t) / self._a(0))

    def is_bridge_end(self, t: Time) -> bool:
        """Whether t is T."""
        return t == self.T

    def initial_std(self, start: Time | None = None) -> float:
        """std(start), at T for None; 0 at T for `GOUB`, where the start state is mu."""
        return self.std(self.T if start is None else start).item()

    @property
    def _end_variance(self) -> float:
        """1/gamma, the upper bound of the variance of x_T about mu."""
        return 0.0

    def _a(self, t: Time) -> Tensor:
        """A_t of the module's docstring."""
        remaining = self.theta_bar[-1] - self._theta_bar_at(t)
        return self._end_variance - self.lam**2 * torch.expm1(-2 * remaining)

    def _reversion_integral(self, t: Time, to: Time | None) -> Tensor:
        # The factor of mu - x is minus the derivative of ln signal. Its integral from T is
        # infinite, but x_T - mu is 0 and the product is 0.
        signal = self.signal(t)
        integral = torch.log(self.signal(t - 1 if to is None else to) / signal)
        return torch.where(signal > 0, integral, 0.0)


@dataclass(frozen=True)
class UniDB(GOUB):
    """Closed forms of the bridge that ends near mu; attributes and conventions of `IRSDE`.

    Attributes:
        gamma: cost of the squared distance from mu at time T, [0, 1] units; > 0 and finite. The
            end points have a standard deviation of 1/sqrt(gamma) at most: 0.0003 for 1e7.
    """

    gamma: Annotated[float, Bound(0, 1e30, above=True)] = 1e7

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if not is_between(self.gamma, 0, math.inf) or self.gamma in (0, math.inf):
            raise ConfigError(
                f"gamma: expected a finite number above 0, got {short(self.gamma)}; for an "
                "infinite gamma use GOUB"
            )

    @property
    def _end_variance(self) -> float:
        return 1 / self.gamma
