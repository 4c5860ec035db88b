"""Samplers: run the reverse process from x_T to x_0, over any decreasing times.

A sampler consists of a step function, which is repeated, and a grid of times. The coefficients of
a step are exact for its start and end time, so a sampler can run with few, large steps.
Gradients pass through a sampler; callers that only restore use `torch.inference_mode`.
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
"""`(xt, mu, t) -> Estimate`: the network together with the conversion of its output."""
Callback = Callable[[int, int, Tensor], None]
"""Called after each step as `(step_number, steps, xt)`; step_number counts from 1."""


@dataclass(frozen=True)
class SolverState:
    """A time of the reverse process and the network's estimate at this time.

    Attributes:
        t: time, 0 < t <= T.
        estimate: the network's estimate of x0 and noise at (x_t, t).
    """

    t: float
    estimate: Estimate


class Step(Protocol):
    """Interface of the step function of a sampler."""

    def __call__(
        self,
        sde: IRSDE,
        states: Sequence[SolverState],
        xt: Tensor,
        mu: Tensor,
        b: float,
        noise: NoiseSource,
    ) -> Tensor:
        """Compute the state at time b from the state xt at time `states[0].t`.

        Args:
            sde: the process.
            states: the last times and their estimates, the newest first; `Sampler.memory` at most.
            xt: state at time `states[0].t`, (B, C, H, W).
            mu: degraded image, the same shape.
            b: end time of the step, 0 <= b < states[0].t.
            noise: source of the random term.

        Returns:
            State at time b, (B, C, H, W).
        """


@dataclass(frozen=True)
class Sampler:
    """A numerical method for the reverse process: a step function and a grid of times.

    Attributes:
        step: the function that is repeated.
        is_random: whether the steps add noise.
        memory: number of past estimates that a step uses, >= 1.
        ends_at_x0: whether the last step returns the network's last estimate of x0 unchanged.
        grid: the rule that chooses the times.
        unsuited: processes for which the steps do not converge to the right distribution.
    """

    step: Step
    is_random: bool
    memory: int = 1
    ends_at_x0: bool = True
    grid: Grid = GRIDS["time"]
    unsuited: tuple[type[IRSDE], ...] = ()

    def check(self, sde: IRSDE) -> None:
        """Check that the steps suit a process.

        Args:
            sde: the process.

        Raises:
            ConfigError: the process is one of `unsuited`.
        """
        if isinstance(sde, self.unsuited):
            raise ConfigError(
                f"sampler: the steps of this sampler do not converge for {type(sde).__name__}; "
                "use posterior, euler, ode-data-2 or sde-data-2"
            )

    def times(self, sde: IRSDE, steps: int, start: float | None = None) -> list[float]:
        """The times of the steps.

        Args:
            sde: the process.
            steps: number of steps, >= 1; for the grid `time` at most `start`.
            start: first time, in (0, T]; None is T.

        Returns:
            steps + 1 times in decreasing order, from start to 0.

        Raises:
            ConfigError: steps or start out of range, or the sampler does not suit the process.
        """
        self.check(sde)
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
            denoise: `(xt, mu, t) -> Estimate`: the network together with the conversion of its
                output, see `refusion.sde.estimate`.
            xT: state at time `start`, (B, C, H, W); see `sde.initial_state`.
            mu: degraded image, (B, C, H, W).
            steps: number of steps, see `times`. With the grid `time` and steps = start = T,
                `euler`, `ode` and `posterior` are the official samplers.
            noise: source of the random terms.
            start: time of xT; None is T.
            callback: called after each step as `(step_number, steps, xt)`; step_number counts
                from 1.

        Returns:
            x_0 with the shape, dtype and device of xT.

        Raises:
            ConfigError: steps or start out of range, or the sampler does not suit the process.
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
    """Euler-Maruyama step of the reverse SDE, of order 1, for many steps; see `Step`.

    The official code calls this sampler `sde`. A first step from a bridge's end with noise is the
    step of `posterior`: there the score is so large that an Euler step is unstable.
    """
    a = states[0].t
    if sde.is_bridge_end(a) and sde.std(a) > 0:
        return posterior_step(sde, states, xt, mu, b, noise)
    score = sde.score_from_noise(states[0].estimate.noise, a)
    mean = sde.reverse_sde_mean(xt, mu, score, a, b)
    # Minus as in the official code. The sign matters only when a recorded trajectory is repeated.
    return mean - expand_like(sde.reverse_sde_std(a, b), xt) * noise.step(a, xt)


def ode_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """Euler step of the probability-flow ODE: deterministic, of order 1; see `Step`.

    Not for `UniDB`: near its end the drift grows like 1 / (T - t), so the relative error of an
    Euler step does not depend on the number of steps.
    """
    a = states[0].t
    return sde.reverse_ode_mean(xt, mu, sde.score_from_noise(states[0].estimate.noise, a), a, b)


def posterior_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """Sample x_b from its posterior given x_a and the estimate of x0; see `Step`.

    This sampler gives good results with few steps.
    """
    a = states[0].t
    mean, std = sde.posterior(xt, states[0].estimate.x0, mu, a, b)
    # At b = 0 the standard deviation is 0 and the mean is the estimate.
    return mean if b == 0 else mean + expand_like(std, xt) * noise.step(a, xt)


def mean_step(
    sde: IRSDE, states: Sequence[SolverState], xt: Tensor, mu: Tensor, b: float, noise: NoiseSource
) -> Tensor:
    """Mean of the posterior of `posterior_step`, deterministic; see `Step`.

    Source: the Mean-ODE of GOUB (ICML 2024), section 3.3.
    """
    return sde.posterior(xt, states[0].estimate.x0, mu, states[0].t, b)[0]
