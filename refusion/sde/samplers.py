"""Samplers: walk the reverse process from x_T to x_0, over any subset of the times.

A sampler is its one step a -> b, turned by `sampler_of` into a function of one signature. The
coefficients always span the whole distance a -> b, so fewer steps mean larger steps and not a
broken schedule. Gradients flow; callers that only restore wrap the call in `inference_mode`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from refusion.errors import ConfigError
from refusion.sde.irsde import IRSDE, expand_like
from refusion.sde.noise import NoiseSource
from refusion.sde.prediction import Estimate

Denoise = Callable[[Tensor, Tensor, int], Estimate]
Callback = Callable[[int, int, Tensor], None]
Step = Callable[[IRSDE, Estimate, Tensor, Tensor, int, int, NoiseSource], Tensor]


class Sampler(Protocol):
    """What `SAMPLERS` holds."""

    def __call__(
        self,
        sde: IRSDE,
        denoise: Denoise,
        xT: Tensor,
        mu: Tensor,
        *,
        steps: int,
        noise: NoiseSource,
        start: int | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Run the reverse process; `denoise` is called `steps` times.

        Args:
            sde: the process.
            denoise: `(xt, mu, t) -> Estimate`, the network behind its prediction type.
            xT: state at time `start`, (B, C, H, W); `sde.initial_state` makes one.
            mu: degraded image, (B, C, H, W).
            steps: number of steps, 1..start; with steps = start = T this is the official sampler.
            noise: source of the random terms.
            start: time of xT; None is T.
            callback: called after each step as `(step_number, steps, xt)`, from 1.

        Returns:
            x_0, shape, dtype and device of xT.

        Raises:
            ConfigError: steps or start out of range.
        """


def time_grid(start: int, steps: int) -> list[int]:
    """Evenly spaced distinct times from `start` down to 0, both included.

    Args:
        start: first time, >= 1.
        steps: number of steps, 1..start.

    Raises:
        ConfigError: steps out of range.

    >>> time_grid(100, 4)
    [100, 75, 50, 25, 0]
    """
    if not 1 <= steps <= start:
        raise ConfigError(
            f"steps: expected 1..{start} steps from start time {start} to 0, got {steps}"
        )
    return [(2 * start * left + steps) // (2 * steps) for left in range(steps, -1, -1)]


def sampler_of(step: Step) -> Sampler:
    """Make a sampler out of the step it repeats."""

    def sample(
        sde: IRSDE,
        denoise: Denoise,
        xT: Tensor,
        mu: Tensor,
        *,
        steps: int,
        noise: NoiseSource,
        start: int | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        start = sde.T if start is None else start
        if start > sde.T:
            raise ConfigError(f"start: expected 1..{sde.T}, got {start}")
        grid = time_grid(start, steps)
        xt = xT
        for number, (a, b) in enumerate(pairwise(grid), start=1):
            xt = step(sde, denoise(xt, mu, a), xt, mu, a, b, noise)
            if callback is not None:
                callback(number, steps, xt)
        return xt

    return sample


def euler_step(
    sde: IRSDE, estimate: Estimate, xt: Tensor, mu: Tensor, a: int, b: int, noise: NoiseSource
) -> Tensor:
    """Euler-Maruyama on the reverse SDE; order 1, for many steps (the official `sde`)."""
    score = sde.score_from_noise(estimate.noise, a)
    mean = sde.reverse_sde_mean(xt, mu, score, a, b)
    # Minus, as the reverse SDE runs -dw; it matters only when a recorded trajectory is replayed.
    return mean - expand_like(sde.reverse_sde_std(a, b), xt) * noise.step(a, xt)


def ode_step(
    sde: IRSDE, estimate: Estimate, xt: Tensor, mu: Tensor, a: int, b: int, noise: NoiseSource
) -> Tensor:
    """Euler on the probability-flow ODE; deterministic, order 1, for many steps."""
    return sde.reverse_ode_mean(xt, mu, sde.score_from_noise(estimate.noise, a), a, b)


def posterior_step(
    sde: IRSDE, estimate: Estimate, xt: Tensor, mu: Tensor, a: int, b: int, noise: NoiseSource
) -> Tensor:
    """Draw x_b from its posterior given x_a and the estimated x0; the one for few steps."""
    mean, std = sde.posterior(xt, estimate.x0, mu, a, b)
    # At b = 0 the spread is 0 and the mean is the estimate.
    return mean if b == 0 else mean + expand_like(std, xt) * noise.step(a, xt)
