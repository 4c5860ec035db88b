"""Exponential moving average of the weights: what is validated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Average of a module's parameters over the steps.

    Args:
        module: the module that is trained.
        decay: weight of the past per step; 0 keeps the raw weights. Early on the average is over
            the steps there are: the decay used is min(decay, (1 + n) / (10 + n)) at update n.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after one optimizer step."""
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
