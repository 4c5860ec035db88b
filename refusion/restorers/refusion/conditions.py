"""Conditions of a model: which ones it needs, and their checks and shapes for a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from refusion.config import ModelConfig
from refusion.errors import ConfigError
from refusion.restorers.base import Conditions


def required_conditions(config: ModelConfig) -> frozenset[str]:
    """Fields of `Conditions` that a model needs.

    Args:
        config: config of the model.
    """
    network = config.network.settings if config.network else {}
    uses = {
        "lens": network.get("lens"),
        "guide": config.guide,
    }
    return frozenset(name for name, is_used in uses.items() if is_used)


def batch_lens(conditions: Conditions, batch: int, task: str) -> Tensor:
    """Source lens, target lens and disparity of every photo.

    Args:
        conditions: conditions of the photos.
        batch: number of photos B.
        task: task of the model, for error messages.

    Returns:
        (B, 3) float32.

    Raises:
        ConfigError: the lens is missing, or is not three numbers per photo.
    """
    if conditions.lens is None:
        raise ConfigError(
            f"lens: the '{task}' model needs source lens, target lens and disparity; "
            "give --from, --to and --disparity"
        )
    lens = torch.as_tensor(conditions.lens, dtype=torch.float32)
    if lens.shape not in ((3,), (batch, 3)):
        raise ConfigError(f"lens: expected 3 numbers per photo, got {tuple(lens.shape)}")
    return lens.expand(batch, 3)


def batch_guide(conditions: Conditions, channels: int, lq: Tensor, task: str) -> Tensor | None:
    """The guide map of every photo.

    Args:
        conditions: conditions of the photos.
        channels: number of channels of the guide; 0 for a model without a guide.
        lq: the photos (B, 3, H, W).
        task: task of the model, for error messages.

    Returns:
        (B, channels, H, W) with the dtype of the guide in `conditions`; None if `channels` is 0.

    Raises:
        ConfigError: the guide is missing, or has another size than the photos.
    """
    if not channels:
        return None
    if conditions.guide is None:
        raise ConfigError(
            f"guide: the '{task}' model does not estimate where the photo is out of focus; "
            "give --disparity FILE, a map in which brighter is nearer"
        )
    shape = (channels, *lq.shape[-2:])
    if conditions.guide.shape not in (shape, (len(lq), *shape)):
        raise ConfigError(f"guide: expected {shape} per photo, got {tuple(conditions.guide.shape)}")
    return conditions.guide.expand(len(lq), *shape)
