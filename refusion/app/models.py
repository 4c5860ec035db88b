"""Which models the page offers: all that need one photo and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from refusion.checkpoint import find_weights, shipped_weights
from refusion.errors import CheckpointError
from refusion.restorers import ArrayRestorer, RestorerInfo, load_restorer


def load_models(
    weights: Sequence[Path],
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
    memory: int | None = None,
) -> dict[str, ArrayRestorer]:
    """The models by the words to choose them with, those of files first.

    Args:
        weights: files to offer beside what ships, called by their stem.
        device: see `load_restorer`, as the next two.
        precision: number format of the networks.
        memory: bytes that the process may take.

    Raises:
        CheckpointError: a file cannot be used or needs more than a photo, or there is no model.
        ConfigError: device or precision unknown or not to be had.
    """
    given = {path.stem: find_weights(path) for path in weights}
    models = {
        name: load_restorer(path, device=device, precision=precision, memory=memory)
        for name, path in (given | shipped_weights() | given).items()
    }
    for name, path in given.items():
        if lacking := _lacking(models[name].info):
            raise CheckpointError(
                f"--weights: {path} {lacking}, which the page does not ask for; use tiled_infer.py"
            )
    offered = {name: model for name, model in models.items() if not _lacking(model.info)}
    if not offered:
        raise CheckpointError("no model for single photos ships here; name one with --weights")
    return offered


def _lacking(info: RestorerInfo) -> str:
    """What a model takes beside one photo; nothing of most."""
    if info.views > 1:
        return "restores the two views of a stereo pair together"
    return f"must be told of each photo: {', '.join(sorted(info.needs))}" if info.needs else ""
