"""Selects the models for the page: those that need one photo, and a depth map for bokeh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from refusion.app.words import SHIPPED
from refusion.errors import CheckpointError
from refusion.restorers import ArrayRestorer, BokehRenderer, RestorerInfo, load_restorer
from refusion.weights import find_weights, shipped_weights


def load_models(
    weights: Sequence[Path],
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
    memory: int | None = None,
) -> dict[str, ArrayRestorer]:
    """Load the models by name, in the order of the page; models from files come first.

    Bokeh is rendered, as the command does it by default.

    Args:
        weights: weights files in addition to the shipped ones; the stem is the name of the model.
        device: 'auto', 'cpu' or 'cuda'.
        precision: number format of the networks, see `load_restorer`.
        memory: memory limit of the process in bytes; None for no limit.

    Raises:
        CheckpointError: a file cannot be used, a model needs more than one photo, or there is no
            model.
        ConfigError: device or precision is unknown or not available.
    """
    given = {path.stem: find_weights(path) for path in weights}
    shipped = shipped_weights()
    shipped = {name: shipped[name] for name in SHIPPED if name in shipped} | shipped

    def load(name: str, path: Path) -> ArrayRestorer:
        if name == "bokeh" and name not in given:
            return ArrayRestorer(lambda *_: BokehRenderer(memory=memory), device, precision)
        return load_restorer(path, device=device, precision=precision, memory=memory)

    models = {name: load(name, path) for name, path in (given | shipped | given).items()}
    for name, path in given.items():
        if requirement := _requirement(models[name].info):
            raise CheckpointError(
                f"--weights: {path} {requirement}, which the page cannot give; use tiled_infer.py"
            )
    offered = {name: model for name, model in models.items() if not _requirement(model.info)}
    if not offered:
        raise CheckpointError("no model for single photos is installed; name a file with --weights")
    return offered


def _requirement(info: RestorerInfo) -> str:
    """What a model needs that the page cannot give, for messages; empty for nothing."""
    if info.views > 1:
        return "needs the two views of a stereo pair"
    if info.needs == {"lens", "guide"}:  # a depth map gives both
        return ""
    return f"needs conditions for each photo: {', '.join(sorted(info.needs))}" if info.needs else ""
