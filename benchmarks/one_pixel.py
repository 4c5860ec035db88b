"""One pixel whose clean value has a known distribution, so that samplers can be judged exactly.

The best estimate of x0 follows from Bayes' rule and takes the place of the network. States have the
shape (..., 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.sde import IRSDE, SAMPLERS, Estimate, NoiseSource


@dataclass(frozen=True)
class Mixture:
    """One pixel: the distribution of its clean value, and its degraded value.

    Attributes:
        means: centres of the Gaussians that the clean value is a mixture of, [0, 1] units.
        shares: their weights, with the sum 1.
        spread: their standard deviation.
        mu: the degraded value.
    """

    means: tuple[float, ...] = (0.25, 0.75)
    shares: tuple[float, ...] = (0.4, 0.6)
    spread: float = 0.04
    mu: float = 0.5

    def log_parts(self, sde: IRSDE, x: Tensor, t: float) -> tuple[Tensor, Tensor, float]:
        """Of x_t (..., 1): logs of share times density (..., K), means (K,), their variance."""
        signal, std = sde.signal(t).item(), sde.std(t).item()
        means = self.mu + signal * (torch.tensor(self.means, dtype=x.dtype) - self.mu)
        variance = (signal * self.spread) ** 2 + std**2
        shares = torch.tensor(self.shares, dtype=x.dtype)
        logs = -((x - means) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)
        return logs + shares.log(), means, variance

    def density(self, sde: IRSDE, x: Tensor, t: float) -> Tensor:
        """Density of x_t at x (..., 1): (...)."""
        return self.log_parts(sde, x, t)[0].exp().sum(dim=-1)

    def estimator(self, sde: IRSDE) -> Callable[[Tensor, Tensor, float], Estimate]:
        """The best network: E[x0 | x_t] by Bayes' rule, for states (..., 1)."""

        def denoise(x: Tensor, mu: Tensor, t: float) -> Estimate:
            logs, means, variance = self.log_parts(sde, x, t)
            gain = sde.signal(t).item() * self.spread**2 / variance
            each = torch.tensor(self.means, dtype=x.dtype) + gain * (x - means)
            x0 = (logs.softmax(dim=-1) * each).sum(dim=-1, keepdim=True)
            return Estimate(x0, sde.noise_from_x0(x, x0, mu, t))

        return denoise

    def sample(
        self,
        sde: IRSDE,
        sampler: str,
        steps: int,
        xT: Tensor,
        noise: NoiseSource,
        **options: object,
    ) -> Tensor:
        """Run the reverse process from states xT (..., 1) with the best network."""
        mu = torch.full_like(xT, self.mu)
        run = SAMPLERS[sampler]
        return run(sde, self.estimator(sde), xT, mu, steps=steps, noise=noise, **options)


class UnitNoise:
    """Noise of step number i: 1 in row i + 1, 0 elsewhere. Reads the weight of each noise."""

    def __init__(self) -> None:
        self.row = 1

    def step(self, t: float, like: Tensor) -> Tensor:
        """The field of the next step, with the shape of `like`."""
        self.row += 1
        field = torch.zeros_like(like)
        field[self.row] = 1
        return field


def spread_error(pixel: Mixture, sde: IRSDE, sampler: str, calls: int) -> float:
    """Relative error of the final standard deviation; a Gaussian's is known without sampling.

    The result is linear in the start state and in each noise. One run on a batch of unit inputs
    gives all weights.
    """
    rows = torch.zeros(calls + 2, 1, dtype=torch.float64)
    rows[1] = 1
    found = pixel.sample(sde, sampler, calls, rows, UnitNoise()).flatten()
    weights = found[1:] - found[0]
    variances = torch.ones_like(weights)
    variances[0] = pixel.log_parts(sde, rows, sde.T)[2]
    return math.sqrt((weights**2 * variances).sum().item()) / pixel.spread - 1
