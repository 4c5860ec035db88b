"""Methods of restoring photos, all behind one contract; `load_restorer` makes one from a file."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from refusion.checkpoint import build_model, find_weights, read_checkpoint
from refusion.restorers.base import Known, Progress, Restorer, RestorerInfo
from refusion.restorers.refusion import Refusion

__all__ = [
    "RESTORERS",
    "Known",
    "Progress",
    "Refusion",
    "Restorer",
    "RestorerInfo",
    "load_restorer",
]

logger = logging.getLogger(__name__)

RESTORERS = {"Refusion": Refusion}


def load_restorer(
    task_or_path: str | Path,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Restorer:
    """Make the restorer that a weights file describes.

    Args:
        task_or_path: 'dehaze' or another task with shipped weights, or a .safetensors file.
        device: 'auto' (CUDA if there is one), 'cpu' or 'cuda'.
        precision: 'auto' (bf16 where the hardware is fast at it), 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: there are no such weights or they cannot be used.
        ConfigError: device or precision unknown or not to be had.
    """
    path = find_weights(task_or_path)
    model = build_model(read_checkpoint(path))
    if model.network is None:
        logger.warning("%s: a latent U-Net alone, which reconstructs photos as they are", path)
    return RESTORERS["Refusion"](model, device=device, precision=precision)
