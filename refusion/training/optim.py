"""Optimizers, and the learning rate as a function of the step."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
from lion_pytorch import Lion
from torch import nn

from refusion.config.sections import LrScheduleConfig, OptimizerConfig

OPTIMIZERS = {
    "Lion": Lion,
    # Fused: one pass over the memory instead of twelve; on a CPU a step takes half the time.
    "AdamW": functools.partial(torch.optim.AdamW, fused=True),
    "Adam": functools.partial(torch.optim.Adam, fused=True),
}


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Make the optimizer that `config` describes for `parameters`."""
    return OPTIMIZERS[config.type](
        parameters, lr=config.lr, betas=tuple(config.betas), weight_decay=config.weight_decay
    )


def learning_rate(step: int, total: int, peak: float, schedule: LrScheduleConfig) -> float:
    """Learning rate of a step: linear warm-up, then the schedule.

    The schedule is constant, half a cosine that descends to `eta_min`, or a multiplication by
    `gamma` at each milestone.

    Args:
        step: step of the run, 0..total - 1.
        total: number of steps of the run.
        peak: learning rate after the warm-up.
        schedule: settings of the schedule.

    >>> config = LrScheduleConfig(type="cosine", warmup_steps=0, eta_min=0.0)
    >>> [round(learning_rate(step, 101, 1.0, config), 6) for step in (0, 50, 100)]
    [1.0, 0.5, 0.0]
    """
    if step < schedule.warmup_steps:
        return peak * (step + 1) / (schedule.warmup_steps + 1)
    if schedule.type == "constant":
        return peak
    if schedule.type == "multistep":
        return peak * schedule.gamma ** sum(step >= mark for mark in schedule.milestones)
    done = (step - schedule.warmup_steps) / max(1, total - 1 - schedule.warmup_steps)
    return schedule.eta_min + (peak - schedule.eta_min) * (1 + math.cos(math.pi * done)) / 2
