"""Training: the stages, the loop, and what makes an interrupted run continue exactly."""

from __future__ import annotations

from refusion.devices.processes import World, joined_world
from refusion.training.trainer import Trainer

__all__ = ["Trainer", "World", "joined_world"]
