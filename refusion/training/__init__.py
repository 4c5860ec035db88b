"""Training: the stages, the loop, and what makes an interrupted run continue exactly."""

from __future__ import annotations

from refusion.training.trainer import Trainer
from refusion.world import World, joined_world

__all__ = ["Trainer", "World", "joined_world"]
