"""Baselines: methods that `refusion test` measures in addition to the model."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from refusion.checkpoint import Checkpoint
    from refusion.evaluation.scoring import Baseline
    from refusion.restorers.base import Restorer, RestorerInfo

BASELINES = ("latent_unet", "dark_channel")
"""The latent U-Net's reconstruction of the input, and the dark channel prior."""


def find_baselines(
    names: Collection[str],
    checkpoint: Checkpoint,
    info: RestorerInfo,
    tile: int | Literal["auto"] | None = "auto",
) -> dict[str, Baseline]:
    """The named baselines, for `evaluate`.

    Args:
        names: of `BASELINES`.
        checkpoint: of the restorer; its latent U-Net is used.
        info: of the restorer; the baselines run on the same device.
        tile: see `Restorer.restore`.

    Raises:
        ConfigError: the model has no such baseline.
    """
    from refusion.restorers.dark_channel import dark_channel_prior

    if names and (info.views, info.scale) != (1, 1):
        raise ConfigError(f"--baselines: there are none for the '{info.task}' model")
    found: dict[str, Baseline] = {}
    if "latent_unet" in names:
        unet = _latent_unet(checkpoint, info)
        found["latent_unet"] = lambda lq, conditions: unet.restore(
            lq, tile=tile, conditions=conditions
        )
    if "dark_channel" in names:
        found["dark_channel"] = lambda lq, _: dark_channel_prior(lq)
    return found


def _latent_unet(checkpoint: Checkpoint, info: RestorerInfo) -> Restorer:
    """A restorer that encodes and decodes a photo without changing its latent."""
    from refusion.checkpoint import Checkpoint, build_model
    from refusion.config import ModelConfig
    from refusion.restorers import Refusion

    model = checkpoint.model
    if model.latent_unet is None:
        raise ConfigError(f"--baselines: the '{model.task}' model has no latent U-Net")
    tensors = {k: v for k, v in checkpoint.tensors.items() if k.startswith("latent_unet.")}
    alone = Checkpoint(ModelConfig(model.task, model.latent_unet), tensors, {}, checkpoint.path)
    return Refusion(build_model(alone), device=info.device, precision=info.precision)
