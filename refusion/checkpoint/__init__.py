"""Weights files: reading, writing, building the networks, shipped files, averages of several files.

Import the names listed below from here, and `averaging` as a module. Every package above this one
may do so. `file` defines the format of a file, `model` builds the networks in it, `shipped` finds
the files in the package. If a new kind of model needs more data to be rebuilt, add it to
`refusion.config.ModelConfig`, which is stored in each file.
"""

from __future__ import annotations

from refusion.checkpoint.file import FORMAT, Checkpoint, read_checkpoint, save_checkpoint
from refusion.checkpoint.model import Model, build_model
from refusion.checkpoint.shapes import PARTS
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
