"""Theta schedules: the speed of mean reversion, theta_t, as a function of the time index.

Each schedule returns theta_0..theta_T. Only the ratios of the values matter: `IRSDE` scales time
so that the integral over all T steps is -ln(eps). theta_0 is not part of any step or integral.
Source: IR-SDE (Luo et al., ICML 2023), section 3; the curves follow the authors' public code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_theta(T: int) -> Tensor:
    """Cosine schedule: theta_i = 1 - abar_{i+1}, with the cumulative product abar of iDDPM.

    Theta is small at first, then rises and saturates.

    Args:
        T: number of steps, >= 1.

    Returns:
        (T + 1,) float64 in (0, 1), increasing.

    >>> round(cosine_theta(100)[50].item(), 12)
    0.506156409559
    """
    s = 0.008
    # T + 3 points, because both ends (abar = 1 and abar = 0) are removed.
    x = torch.linspace(0, 1, T + 3, dtype=torch.float64)
    alpha_bar = torch.cos((x + s) / (1 + s) * math.pi / 2) ** 2
    return 1 - (alpha_bar / alpha_bar[0])[1:-1]


def linear_theta(T: int) -> Tensor:
    """Linear schedule: the betas of DDPM (1e-4 to 0.02 for 1000 steps), rescaled to T + 1 points.

    Args:
        T: number of steps, >= 1.

    Returns:
        (T + 1,) float64, positive, increasing.
    """
    scale = 1000 / (T + 1)
    return torch.linspace(scale * 1e-4, scale * 0.02, T + 1, dtype=torch.float64)


def constant_theta(T: int) -> Tensor:
    """Constant schedule: theta = 1, the Ornstein-Uhlenbeck process with constant speed.

    Args:
        T: number of steps, >= 1.

    Returns:
        (T + 1,) float64 ones.
    """
    return torch.ones(T + 1, dtype=torch.float64)


THETA_SCHEDULES = {"cosine": cosine_theta, "linear": linear_theta, "constant": constant_theta}
