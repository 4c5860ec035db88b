"""The exact law of a sampler's output for a Gaussian target, without Monte Carlo.

For x0 ~ N(M, S^2) the best estimate is linear in the state, so a whole walk is x_0 = a + c x_T +
sum of c_i z_i. One run on a batch whose rows are the zero start, the unit start and a unit field
per step reads off a, c and all c_i, hence mean and variance, whatever the sampler remembers.
"""

from __future__ import annotations

import math

import torch

from refusion.sde import SAMPLERS, DenoisingSDE, Estimate

M, S, MU = 0.7, 0.25, 0.4


class UnitNoise:
    """The field of step number i is 1 in row i + 1 and 0 elsewhere."""

    def __init__(self):
        self.drawn = 1

    def step(self, t, like):
        self.drawn += 1
        field = torch.zeros_like(like)
        field[self.drawn] = 1
        return field


def law(sde, t):
    """Mean and variance of x_t."""
    kept, spread = sde.signal(t).item(), sde.std(t).item()
    mean = M if isinstance(sde, DenoisingSDE) else MU + kept * (M - MU)
    return mean, (kept * S) ** 2 + spread**2


def best_estimate(sde):
    """The network that knows the law: E[x0 | x_t] by Bayes' rule."""

    def denoise(xt, mu, t):
        mean, variance = law(sde, t)
        gain = sde.signal(t).item() * S**2 / variance if variance else 0.0
        x0 = M + gain * (xt - mean)
        return Estimate(x0, sde.noise_from_x0(xt, x0, mu, t))

    return denoise


def errors(sde, word, steps, start=None, *, walked=None):
    """Errors of mean and (relative) standard deviation of x_0, started from the exact law.

    `walked` is the SDE that the sampler is given, where a test plants a mistake in it.
    """
    start = sde.T if start is None else start
    x = torch.zeros(steps + 2, 1, dtype=torch.float64)
    x[1] = 1
    sampler, mu = SAMPLERS[word], torch.full_like(x, MU)
    result = sampler(
        walked or sde, best_estimate(sde), x, mu, steps=steps, start=start, noise=UnitNoise()
    ).flatten()
    offset, slope, draws = result[0], result[1] - result[0], result[2:] - result[0]
    mean, variance = law(sde, start)
    spread = math.sqrt(slope.item() ** 2 * variance + (draws**2).sum().item())
    return (offset + slope * mean).item() - M, spread / S - 1
