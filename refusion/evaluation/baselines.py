"""Baselines: methods that `refusion test` measures in addition to the model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

from refusion.errors import ConfigError

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from refusion.checkpoint import Checkpoint
    from refusion.evaluation.scoring import Baseline
    from refusion.restorers.base import Restorer, RestorerInfo

BASELINES = ("latent_unet", "dark_channel", "colour_attenuation")
"""The latent U-Net's reconstruction of the input, and two priors that remove haze."""


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
    from refusion.restorers import ColourAttenuation, DarkChannel

    if names and (info.views, info.scale) != (1, 1):
        raise ConfigError(f"--baselines: there are none for the '{info.task}' model")
    build: dict[str, Callable[[], Restorer]] = {
        "latent_unet": lambda: _latent_unet(checkpoint, info),
        "dark_channel": lambda: DarkChannel(device=info.device),
        "colour_attenuation": lambda: ColourAttenuation(device=info.device),
    }
    return {name: _baseline(build[name](), tile) for name in BASELINES if name in names}


def _baseline(restorer: Restorer, tile: int | Literal["auto"] | None) -> Baseline:
    return lambda lq, conditions: restorer.restore(lq, tile=tile, conditions=conditions)


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
