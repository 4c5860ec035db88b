"""What a model must be told of a photo beside its pixels: checked, and as its networks take it."""

from __future__ import annotations

import torch
from torch import Tensor

from refusion.config import ModelConfig
from refusion.errors import ConfigError
from refusion.restorers.base import Conditions
from refusion.sde import DenoisingSDE


def required_conditions(config: ModelConfig) -> frozenset[str]:
    """Fields of `Conditions` that a model uses."""
    network = config.network.settings if config.network else {}
    uses = {
        "lens": network.get("lens"),
        "noise_std": config.sde is not None and config.sde.type == DenoisingSDE.__name__,
        "guide": config.guide,
    }
    return frozenset(name for name, is_used in uses.items() if is_used)


def batch_lens(conditions: Conditions, batch: int, task: str) -> Tensor:
    """Source lens, target lens and disparity of every photo, (B, 3) float32.

    Raises:
        ConfigError: they are not told, or not three numbers per photo.
    """
    if conditions.lens is None:
        raise ConfigError(
            f"lens: the '{task}' model must know source lens, target lens and "
            "disparity; give --from, --to and --disparity"
        )
    lens = torch.as_tensor(conditions.lens, dtype=torch.float32)
    if lens.shape not in ((3,), (batch, 3)):
        raise ConfigError(f"lens: expected 3 numbers per photo, got {tuple(lens.shape)}")
    return lens.expand(batch, 3)


def batch_guide(conditions: Conditions, channels: int, lq: Tensor, task: str) -> Tensor | None:
    """The guide of every photo, (B, channels, H, W); None for a model that is told none.

    Raises:
        ConfigError: it is not told, or has not the size of the photos `lq` (B, 3, H, W).
    """
    if not channels:
        return None
    if conditions.guide is None:
        raise ConfigError(
            f"guide: the '{task}' model must know where the photo is out of focus and estimates "
            "nothing itself; give --disparity FILE, a map in which brighter is nearer"
        )
    shape = (channels, *lq.shape[-2:])
    if conditions.guide.shape not in (shape, (len(lq), *shape)):
        raise ConfigError(f"guide: expected {shape} per photo, got {tuple(conditions.guide.shape)}")
    return conditions.guide.expand(len(lq), *shape)
