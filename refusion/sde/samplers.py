"""Samplers: walk the reverse process from x_T to x_0, over any falling times.

A sampler is the step it repeats and the grid of times it visits. The coefficients of a step always
span the whole distance a -> b, so fewer steps mean larger steps and not a broken schedule.
Gradients flow; callers that only restore wrap the call in `inference_mode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from refusion.errors import ConfigError
from refusion.sde.grids import GRIDS, Grid
from refusion.sde.irsde import IRSDE, expand_like
from refusion.sde.noise import NoiseSource
from refusion.sde.prediction import Estimate

Denoise = Callable[[Tensor, Tensor, float], Estimate]
Callback = Callable[[int, int, Tensor], None]


@dataclass(frozen=True)
class SolverState:
    """A time of the walk and what the network thought there."""

    t: float
    estimate: Estimate


class Step(Protocol):
    """What a sampler repeats."""

    def __call__(
        self,
        sde: IRSDE,
        states: Sequence[SolverState],
        xt: Tensor,
        mu: Tensor,
        b: float,
        noise: NoiseSource,
    ) -> Tensor:
        """State at time b, from the state xt at the time of the first of `states`.

        Args:
            sde: the process.
            states: the newest first, as many as the sampler remembers.
            xt: state at `states[0].t`, (B, C, H, W).
            mu: degraded image.
            b: time to reach, 0 <= b < states[0].t.
            noise: source of the random term.
        """


@dataclass(frozen=True)
class Sampler:
    """A way to walk the reverse process.

    Attributes:
        step: what is repeated.
        is_random: whether steps draw noise.
        memory: states a step looks at.
        ends_at_x0: whether the last step is the network's estimate of x0, whatever came before.
        grid: times of the walk.
    """

    step: Step
    is_random: bool
    memory: int = 1
    ends_at_x0: bool = True
    grid: Grid = GRIDS["time"]

    def times(self, sde: IRSDE, steps: int, start: float | None = None) -> list[float]:
        """The times of the walk: steps + 1, from start down to 0.

        Raises:
            ConfigError: steps or start out of range.
        """
        start = sde.T if start is None else start
        if start > sde.T:
            raise ConfigError(f"start: expected 1..{sde.T}, got {start}")
        return self.grid(sde, start, steps)

    def __call__(
        self,
        sde: IRSDE,
        denoise: Denoise,
        xT: Tensor,
        mu: Tensor,
        *,
        steps: int,
        noise: NoiseSource,
        start: float | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Run the reverse process; `denoise` is called `steps` times.

        Args:
            sde: the process.
            denoise: `(xt, mu, t) -> Estimate`, the network behind its prediction type.
            xT: state at time `start`, (B, C, H, W); `sde.initial_state` makes one.
            mu: degraded image, (B, C, H, W).
            steps: number of steps; on the even grid 1..start, and with steps = start = T `euler`,
                `ode` and `posterior` are the official samplers.
            noise: source of the random terms.
            start: time of xT; None is T.
            callback: called after each step as `(step_number, steps, xt)`, from 1.

        Returns:
            x_0, shape, dtype and device of xT.

        Raises:
            ConfigError: steps or start out of range.
        """
        xt, states = xT, []
        for number, (a, b) in enumerate(pairwise(self.times(sde, steps, start)), start=1):
            states = [SolverState(a, denoise(xt, mu, a)), *states][: self.memory]
            xt = self.step(sde, states, xt, mu, b, noise)
            if callback is not None:
                callback(number, steps, xt)
        return xt


def euler_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """Euler-Maruyama on the reverse SDE; order 1, for many steps (the official `sde`)."""
    a = states[0].t
    score = sde.score_from_noise(states[0].estimate.noise, a)
    mean = sde.reverse_sde_mean(xt, mu, score, a, b)
    # Minus, as the reverse SDE runs -dw; it matters only when a recorded trajectory is replayed.
    return mean - expand_like(sde.reverse_sde_std(a, b), xt) * noise.step(a, xt)


def ode_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """Euler on the probability-flow ODE; deterministic, order 1, for many steps."""
    a = states[0].t
    return sde.reverse_ode_mean(xt, mu, sde.score_from_noise(states[0].estimate.noise, a), a, b)


def posterior_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """Draw x_b from its posterior given x_a and the estimated x0; good in few steps."""
    a = states[0].t
    mean, std = sde.posterior(xt, states[0].estimate.x0, mu, a, b)
    # At b = 0 the spread is 0 and the mean is the estimate.
    return mean if b == 0 else mean + expand_like(std, xt) * noise.step(a, xt)


def mean_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """The mean of that posterior, without a draw: the Mean-ODE of GOUB (ICML 2024), section 3.3."""
    return sde.posterior(xt, states[0].estimate.x0, mu, states[0].t, b)[0]
