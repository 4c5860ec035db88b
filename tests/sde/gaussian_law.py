"""The exact distribution of a sampler's output for a Gaussian x0, without Monte Carlo.

For x0 ~ N(M, S^2) the best estimate is linear in the state. So the output of a sampler is linear,
x_0 = a + c x_T + sum of c_i z_i. One run on a batch gives a, c and all c_i: the rows of the batch
are the start state 0, the start state 1, and one unit noise field per step. Mean and variance
follow from these numbers. This also holds for samplers that use earlier estimates.
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


def errors(sde, word, steps, start=None, *, sampled_sde=None):
    """Errors of the mean and (relative) of the standard deviation of x_0, for an exact start state.

    `sampled_sde` is the SDE of the sampler, if a test plants a mistake in it; None is `sde`.
    """
    start = sde.T if start is None else start
    x = torch.zeros(steps + 2, 1, dtype=torch.float64)
    x[1] = 1
    sampler, mu = SAMPLERS[word], torch.full_like(x, MU)
    result = sampler(
        sampled_sde or sde, best_estimate(sde), x, mu, steps=steps, start=start, noise=UnitNoise()
    ).flatten()
    offset, slope, draws = result[0], result[1] - result[0], result[2:] - result[0]
    mean, variance = law(sde, start)
    spread = math.sqrt(slope.item() ** 2 * variance + (draws**2).sum().item())
    return (offset + slope * mean).item() - M, spread / S - 1
