"""Training: the stages, the loop, and what makes an interrupted run continue exactly."""

from __future__ import annotations

from refusion.devices.processes import World, join_processes
from refusion.training.trainer import Trainer

__all__ = ["Trainer", "World", "join_processes"]
