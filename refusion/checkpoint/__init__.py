"""Weights files: their format, the networks inside, those that ship, averages of several.

Import from here what is listed below; `averaging` by its own name. May be imported by everything
from `restorers` upwards. The format is in `file`; whatever a new kind of model needs to be rebuilt
goes into `refusion.config.ModelConfig`, which is stored in the file.
"""

from __future__ import annotations

from refusion.checkpoint.file import FORMAT, PARTS, Checkpoint, read_checkpoint, save_checkpoint
from refusion.checkpoint.model import Model, build_model
from refusion.checkpoint.shipped import ONE_STEP, find_weights, shipped_weights

__all__ = [
    "FORMAT",
    "ONE_STEP",
    "PARTS",
    "Checkpoint",
    "Model",
    "build_model",
    "find_weights",
    "read_checkpoint",
    "save_checkpoint",
    "shipped_weights",
]
