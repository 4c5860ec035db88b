"""Exponential moving average of the weights, used for validation and in saved models."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of a module's parameters over the training steps.

    Args:
        module: the trained module.
        decay: weight of the previous average per update, 0..1; with 0 the average equals the
            current weights. Update n uses min(decay, (1 + n) / (10 + n)), so that an early
            average covers only the updates so far.
        every: steps between updates.
    """

    def __init__(self, module: nn.Module, decay: float, every: int = 1) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.every = decay, every
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the average after optimizer step `step` >= 1, if it is a multiple of `every`."""
        if step % self.every:
            if self.updates == 0:  # no update yet: the current weights
                torch._foreach_copy_(list(self.module.parameters()), list(module.parameters()))
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average, current = list(self.module.parameters()), list(module.parameters())
        torch._foreach_lerp_(average, current, 1 - decay)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """The average and the number of updates."""
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the average and the number of updates from `state_dict`."""
        self.updates = state["updates"]
        self.module.load_state_dict(state["module"])
