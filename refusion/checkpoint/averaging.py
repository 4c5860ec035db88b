"""Average of the weights of several training runs of one network.

One run must continue another, or all must start from the same weights. Between the weights of such
runs the loss has no barrier, so the averaged network works and its behaviour is between theirs. It
costs no more than one network (Wortsman et al., "Model soups", ICML 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refusion.checkpoint import Checkpoint, build_model
from refusion.config import find_table
from refusion.config.parser import Component
from refusion.config.settings import all_settings
from refusion.errors import CheckpointError, ConfigError

SAME = ("task", "network", "latent_unet", "sde", "prediction", "upscale")
"""Fields of `ModelConfig` that must be equal in all models."""
_ROUNDING = 1e-6  # tolerance of the sum of the shares


def average_weights(
    checkpoints: Sequence[Checkpoint], shares: Sequence[float]
) -> dict[str, Tensor]:
    """Weighted average of every tensor.

    Args:
        checkpoints: at least one model; all have the same task, networks, process and prediction.
        shares: one finite weight per model; their sum is 1.

    Returns:
        Tensors by name, float32. Tensors that are not floating point are those of the last model.

    Raises:
        CheckpointError: the models differ in more than their weights, or a file lacks tensors.
        ConfigError: the number of `shares` is wrong, or they are not finite or do not sum to 1.
    """
    if len(shares) != len(checkpoints) or not math.isclose(sum(shares), 1, abs_tol=_ROUNDING):
        raise ConfigError(
            f"shares: expected {len(checkpoints)} numbers that sum to 1, one per file, "
            f"got {list(shares)}"
        )
    for checkpoint in checkpoints:
        build_model(checkpoint)
        for name in SAME:
            value, expected = (_field(c, name) for c in (checkpoint, checkpoints[0]))
            if value != expected:
                raise CheckpointError(
                    f"{checkpoint.path}: its {name} differs from that of {checkpoints[0].path}; "
                    "only weights of one architecture can be averaged"
                )
    names = checkpoints[0].tensors
    return {name: _average([c.tensors[name] for c in checkpoints], shares) for name in names}


def _field(checkpoint: Checkpoint, name: str) -> Any:
    """A field of a model, to compare it: of a component with all settings, also those left out."""
    value = getattr(checkpoint.model, name)
    if not isinstance(value, Component):
        return value
    entry = find_table("sdes" if name == "sde" else "nets")[value.type]
    return value.type, all_settings(entry, value.settings)


def averaged_info(checkpoints: Sequence[Checkpoint], shares: Sequence[float]) -> dict[str, Any]:
    """Info of the averaged weights file.

    Args:
        checkpoints: the models.
        shares: their weights.

    Returns:
        `step`, that of the last model, and `average_of`, file, share and step of each model.
    """
    parts = [
        {
            "file": "/".join(checkpoint.path.parts[-2:]),
            "share": share,
            "step": checkpoint.info.get("step"),
        }
        for checkpoint, share in zip(checkpoints, shares, strict=True)
    ]
    return {"step": checkpoints[-1].info.get("step"), "average_of": parts}


def _average(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not tensors[-1].is_floating_point():
        return tensors[-1]
    parts = [share * tensor.double() for tensor, share in zip(tensors, shares, strict=True)]
    return torch.stack(parts).sum(0).float()
