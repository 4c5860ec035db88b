"""Grids: the times of a sampler's steps, from the start time down to 0.

Two grids use half the log signal-to-noise ratio l_t = ln(alpha_t / std_t). For every process this
is the ratio of `IRSDE` with the same theta, because the ratio of a bridge is not finite at T.
These grids are computed down to time 1. Then the last time, 1, is replaced by 0, where l is
infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.sde.irsde import IRSDE

Grid = Callable[[IRSDE, float, int], list[float]]
"""`(sde, start, steps) -> times`: steps + 1 times in decreasing order, from start to 0."""

KARRAS_RHO = 7  # Karras et al., NeurIPS 2022, table 1


def time_grid(start: int, steps: int) -> list[int]:
    """Evenly spaced whole times from `start` down to 0, both included, all different.

    Args:
        start: first time, a whole number >= 1.
        steps: number of steps, 1..start.

    Returns:
        steps + 1 times, decreasing.

    Raises:
        ConfigError: steps is not in 1..start.

    >>> time_grid(100, 4)
    [100, 75, 50, 25, 0]
    """
    check_arguments(time_grid, locals())
    if not 1 <= steps <= start:
        raise ConfigError(
            f"steps: expected 1..{start} steps from start time {start} to 0, got {steps}"
        )
    return [(2 * start * left + steps) // (2 * steps) for left in range(steps, -1, -1)]


def log_snr_grid(sde: IRSDE, start: float, steps: int) -> list[float]:
    """Times at which the log signal-to-noise ratio increases in equal steps.

    The solvers use the same ratio as their time variable.

    Args:
        sde: the process, for its theta and lam.
        start: first time, in (0, T]; above 1 for two or more steps.
        steps: number of steps, >= 1.

    Returns:
        steps + 1 times, decreasing; fractional except the ends.

    Raises:
        ConfigError: steps is below 1, or above 1 with a start of at most 1.

    >>> [round(t, 1) for t in log_snr_grid(IRSDE(50), 100, 3)]
    [100, 67.8, 19.2, 0]
    """
    low, high = _ends(sde, start, steps)
    inner = [low + (high - low) * number / steps for number in range(1, steps)]
    return [start, *(_time_of(sde, level) for level in inner), 0]


def karras_grid(sde: IRSDE, start: float, steps: int) -> list[float]:
    """Times at which the 7th root of the noise-to-signal ratio e^{-l} decreases in equal steps.

    Source: Karras et al. (NeurIPS 2022), eq. 5.

    Args:
        sde: see `log_snr_grid`.
        start: see `log_snr_grid`.
        steps: see `log_snr_grid`.

    Returns:
        steps + 1 times, decreasing; fractional except the ends.

    Raises:
        ConfigError: see `log_snr_grid`.
    """
    high, low = (math.exp(-end / KARRAS_RHO) for end in _ends(sde, start, steps))
    inner = [high + (low - high) * number / steps for number in range(1, steps)]
    return [start, *(_time_of(sde, -KARRAS_RHO * math.log(root)) for root in inner), 0]


def _ends(sde: IRSDE, start: float, steps: int) -> tuple[float, float]:
    """l at `start` and at time 1, the smallest time that networks are trained for."""
    if steps < 1 or (steps > 1 and start <= 1):
        raise ConfigError(
            f"steps: expected 1 or more from a start time above 1, got {steps} from {start}"
        )
    return _log_snr(sde, start), _log_snr(sde, 1)


def _log_snr(sde: IRSDE, t: float) -> float:
    theta_bar = -math.log(sde.alpha(t).item())
    return -math.log(sde.lam) - 0.5 * math.log(math.expm1(2 * theta_bar))


def _time_of(sde: IRSDE, log_snr: float) -> float:
    """Inverse of `_log_snr`."""
    return sde.time_at(0.5 * math.log1p(math.exp(-2 * log_snr) / sde.lam**2))


GRIDS: dict[str, Grid] = {
    "time": lambda sde, start, steps: time_grid(start, steps),
    "log_snr": log_snr_grid,
    "karras": karras_grid,
}
