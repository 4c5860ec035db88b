"""The average of the weights of several runs of one network, one trained on from another.

Wortsman et al., "Model soups", ICML 2022: between such runs the loss has no ridge, so the average
works and lies between them in what it does, without costing anything when it restores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refusion.checkpoint import Checkpoint, build_model
from refusion.errors import CheckpointError, ConfigError

SAME = ("task", "network", "latent_unet", "sde", "prediction", "upscale")  # of a `ModelConfig`
_ROUNDING = 1e-6  # of the shares' sum


def average_weights(
    checkpoints: Sequence[Checkpoint], shares: Sequence[float]
) -> dict[str, Tensor]:
    """Weighted average of every tensor.

    Args:
        checkpoints: models of the same task, networks, process and prediction.
        shares: one per model; they sum to 1.

    Returns:
        Tensors by the names of the checkpoints', float32; what is not floating is the last's.

    Raises:
        CheckpointError: the models differ in more than their weights, or a file is not whole.
        ConfigError: `shares` are not as many, not finite or do not sum to 1.
    """
    if len(shares) != len(checkpoints) or not math.isclose(sum(shares), 1, abs_tol=_ROUNDING):
        raise ConfigError(
            f"shares: expected {len(checkpoints)} numbers that sum to 1, one per file, "
            f"got {list(shares)}"
        )
    for checkpoint in checkpoints:
        build_model(checkpoint)
        for name in SAME:
            mine, first = (getattr(c.model, name) for c in (checkpoint, checkpoints[0]))
            if mine != first:
                raise CheckpointError(
                    f"{checkpoint.path}: its {name} is another than that of "
                    f"{checkpoints[0].path}; only weights of one architecture can be averaged"
                )
    names = checkpoints[0].tensors
    return {name: _average([c.tensors[name] for c in checkpoints], shares) for name in names}


def averaged_info(checkpoints: Sequence[Checkpoint], shares: Sequence[float]) -> dict[str, Any]:
    """What the file says of itself: the last run's steps, and what it was averaged of."""
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
