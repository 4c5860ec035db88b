"""Bridges: mean-reverting SDEs that end at the degraded image, exactly or nearly.

    dx = (theta_t + sigma_t^2 e^{-2 (Theta_T - Theta_t)} / A_t) (mu - x) dt + sigma_t dw,
    A_t = 1/gamma + lam^2 (1 - e^{-2 (Theta_T - Theta_t)})

is the mean-reverting SDE with a control that pulls towards mu; the control costs its square and a
miss at time T costs gamma times the square of the distance. With gamma infinite every path ends at
mu: restoring starts from the degraded image itself, without noise. The equation is linear, so both
moments are closed forms for every gamma (docs/math.md). As a Doob transform it keeps what x_b is
given x_a and x0, so `posterior` is that of `IRSDE`.
Sources: GOUB (Yue et al., ICML 2024), gamma infinite; UniDB (Zhu et al., ICML 2025), finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.errors import ConfigError
from refusion.sde.irsde import IRSDE, Time


@dataclass(frozen=True)
class GOUB(IRSDE):
    """Closed forms of the bridge that ends at mu; attributes and conventions of `IRSDE`."""

    def signal(self, t: Time) -> Tensor:
        """e^{-Theta_t} A_t / A_0; 0 at T."""
        return self.alpha(t) * self._reach(t) / self._reach(0)

    def std(self, t: Time) -> Tensor:
        """lam sqrt((1 - e^{-2 Theta_t}) A_t / A_0); 0 at both ends."""
        return super().std(t) * torch.sqrt(self._reach(t) / self._reach(0))

    def initial_std(self, start: Time | None = None) -> float:
        """Spread of the marginal, which is that of x_T itself: 0 where the bridge ends at mu."""
        return self.std(self.T if start is None else start).item()

    @property
    def _slack(self) -> float:
        """1/gamma, the variance that is left about mu."""
        return 0.0

    def _reach(self, t: Time) -> Tensor:
        """A_t."""
        left = self.theta_bar[-1] - self._theta_bar_at(t)
        return self._slack - self.lam**2 * torch.expm1(-2 * left)

    def _pull(self, t: Time, to: Time | None) -> Tensor:
        # The factor is minus the derivative of ln signal. From T itself it is infinite, but there
        # the state is mu, from which nothing pulls.
        here = self.signal(t)
        pull = torch.log(self.signal(t - 1 if to is None else to) / here)
        return torch.where(here > 0, pull, 0.0)


@dataclass(frozen=True)
class UniDB(GOUB):
    """Closed forms of the bridge that may miss mu; attributes and conventions of `IRSDE`.

    Attributes:
        gamma: price of missing mu, per squared unit of [0, 1]; > 0. Paths end about mu with a
            standard deviation of 1/sqrt(gamma) at most: 0.0003 for 1e7.
    """

    gamma: float = 1e7

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if not 0 < self.gamma < math.inf:
            raise ConfigError(
                f"gamma: expected a number above 0, got {self.gamma!r}; without end it is GOUB"
            )

    @classmethod
    def from_levels(
        cls,
        max_sigma: float,
        T: int = 100,
        schedule: str = "cosine",
        eps: float | None = None,
        gamma: float = 1e7,
    ) -> UniDB:
        """Build from `max_sigma` in 8-bit levels; see `IRSDE.from_levels`.

        Args:
            max_sigma: 8-bit levels, >= 1.
            T: number of steps.
            schedule: key of `THETA_SCHEDULES`.
            eps: see `IRSDE`.
            gamma: see the class.

        Raises:
            ConfigError: a value is wrong.
        """
        base = IRSDE.from_levels(max_sigma, T, schedule, eps)
        return cls(base.lam, T, schedule, base.eps, gamma)

    @property
    def _slack(self) -> float:
        return 1 / self.gamma
