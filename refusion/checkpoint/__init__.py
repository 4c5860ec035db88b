"""Weights files: reading, writing, building the networks, averages of several files.

Import the names listed below from here, and `averaging` as a module. Every package above this one
may do so. `file` defines the format of a file, `folder` writes the layout of the
Hugging Face Hub, and `model` builds the networks in a file. The package
`refusion.weights` finds the shipped files. If a new kind of model needs more data to be rebuilt,
add it to `refusion.config.ModelConfig`, which is stored in each file.
"""

from __future__ import annotations

from refusion.checkpoint.file import FORMAT, Checkpoint, read_checkpoint, save_checkpoint
from refusion.checkpoint.folder import save_folder
from refusion.checkpoint.model import Model, build_model, stored_tensors
from refusion.checkpoint.shapes import PARTS

__all__ = [
    "FORMAT",
    "PARTS",
    "Checkpoint",
    "Model",
    "build_model",
    "read_checkpoint",
    "save_checkpoint",
    "save_folder",
    "stored_tensors",
]
