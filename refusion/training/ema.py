"""Exponential moving average of the weights: what is validated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Average of a module's parameters over the steps.

    Args:
        module: the module that is trained.
        decay: weight of the past per update; 0 keeps the raw weights. Early on the average is over
            the updates there are: the decay used is min(decay, (1 + n) / (10 + n)) at update n.
        every: steps between updates.
    """

    def __init__(self, module: nn.Module, decay: float, every: int = 1) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.every = decay, every
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimizer step `step`, 1 the first, if it is one to take."""
        if step % self.every:
            if self.updates == 0:  # nothing to average yet: the raw weights as they are
                torch._foreach_copy_(list(self.module.parameters()), list(module.parameters()))
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average, current = list(self.module.parameters()), list(module.parameters())
        torch._foreach_lerp_(average, current, 1 - decay)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """Average and number of updates."""
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Inverse of ``state_dict``."""
        self.updates = state["updates"]
        self.module.load_state_dict(state["module"])
