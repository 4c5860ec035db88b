"""Theta schedules: how fast the SDE pulls an image towards its degraded version.

Each schedule gives theta_0..theta_T. Only their ratios matter: `IRSDE` scales time so that the
integral over all T steps is -ln(eps). theta_0 belongs to no step and never enters the integral.
Source: IR-SDE (Luo et al., ICML 2023), section 3; shapes after the authors' public code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_theta(T: int) -> Tensor:
    """Slow start, then saturation: theta_i = 1 - abar_{i+1}, the cumulative product of iDDPM.

    Args:
        T: number of steps, >= 1.

    Returns:
        (T + 1,) float64 in (0, 1), increasing.

    >>> round(cosine_theta(100)[50].item(), 12)
    0.506156409559
    """
    s = 0.008
    # T + 3 points, because both ends (abar = 1 and abar = 0) are dropped.
    x = torch.linspace(0, 1, T + 3, dtype=torch.float64)
    alpha_bar = torch.cos((x + s) / (1 + s) * math.pi / 2) ** 2
    return 1 - (alpha_bar / alpha_bar[0])[1:-1]


def linear_theta(T: int) -> Tensor:
    """The linear betas of DDPM (1e-4 to 0.02 for 1000 steps), rescaled to T + 1 points.

    Args:
        T: number of steps, >= 1.

    Returns:
        (T + 1,) float64, positive, increasing.
    """
    scale = 1000 / (T + 1)
    return torch.linspace(scale * 1e-4, scale * 0.02, T + 1, dtype=torch.float64)


def constant_theta(T: int) -> Tensor:
    """The Ornstein-Uhlenbeck process with one speed, theta = 1.

    Args:
        T: number of steps, >= 1.

    Returns:
        (T + 1,) float64 ones.
    """
    return torch.ones(T + 1, dtype=torch.float64)


THETA_SCHEDULES = {"cosine": cosine_theta, "linear": linear_theta, "constant": constant_theta}
