"""Interface between the training loop and the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from refusion.checkpoint import Checkpoint, Model, build_model, save_checkpoint
from refusion.config import ModelConfig
from refusion.errors import ConfigError
from refusion.nets import LatentUNet

ResultAndTarget = tuple[Tensor, Tensor]
"""A result and its target image, both (1, 3, H, W) in [0, 1]."""

Viewer = Callable[[Mapping[str, Tensor]], dict[str, ResultAndTarget]]
"""Maps a batch of one validation pair to results with their targets, by name."""


class Stage(Protocol):
    """One stage of training: a module and its loss.

    Attributes:
        prefix: prefix of the names of the saved weights in a checkpoint.
        kept: name of the submodule whose weights are saved; empty for the whole module.
        module: the trained module.
        fixed: frozen weights that are also saved in the checkpoint, by name.
    """

    prefix: str
    kept: str
    module: nn.Module
    fixed: dict[str, Tensor]

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: tensors by name, with one row per image.
            generators: one generator per image for all random numbers.

        Returns:
            Terms of the loss by name, means over the images; `total` is minimised.
        """

    def build(self, tensors: dict[str, Tensor], path: Path) -> Any:
        """Build the model for inference from averaged weights; error messages name `path`."""

    def save(
        self,
        path: str | Path,
        tensors: dict[str, Tensor],
        info: Mapping[str, Any],
        dtype: torch.dtype | None,
    ) -> None:
        """Write averaged weights for inference; see `refusion.checkpoint.save_checkpoint`."""

    def viewer(self, model: Any, device: torch.device) -> Viewer:
        """Make the function that computes validation results with a model from `build`."""

    def compile(self) -> None:
        """Compile the forward pass with `torch.compile` at its first call."""


class CheckpointStage:
    """Common methods of stages whose result is a checkpoint of this project.

    Attributes:
        model_config: config of the model for inference.
    """

    model_config: ModelConfig

    def build(self, tensors: dict[str, Tensor], path: Path) -> Model:
        """See `Stage.build`."""
        return build_model(Checkpoint(self.model_config, tensors, {}, path))

    def save(
        self,
        path: str | Path,
        tensors: dict[str, Tensor],
        info: Mapping[str, Any],
        dtype: torch.dtype | None,
    ) -> None:
        """See `Stage.save`."""
        save_checkpoint(path, self.model_config, tensors, info, dtype)


def check_pair(batch: Mapping[str, Tensor], model: ModelConfig) -> None:
    """Check that the photos of a batch have the number of channels and the size a model needs.

    Args:
        batch: photos `lq` (B, C, h, w) and `gt` (B, C, H, W).
        model: the model that is trained; its network takes one photo or a stereo pair.

    Raises:
        ConfigError: the data set has other photos than the model needs.
    """
    views = 2 if model.network is not None and model.network.settings.get("stereo") else 1
    scale = 1 if model.upscale is None else model.upscale.factor
    lq, gt = batch["lq"], batch["gt"]
    if {lq.shape[1], gt.shape[1]} != {3 * views}:
        raise ConfigError(
            f"data: expected photos of {3 * views} channels for this network, got {lq.shape[1]}; "
            "a data set of stereo pairs (StereoFolder) needs a network with stereo: true, and "
            "every other data set one without"
        )
    size = tuple(scale * side for side in lq.shape[-2:])
    if tuple(gt.shape[-2:]) != size:
        raise ConfigError(
            "data: the ground truth must be {}x{}, {} times as large as the degraded photo, got "
            "{}x{}; set upscale.factor to the scale of the data".format(
                *size[::-1], scale, *gt.shape[:-3:-1]
            )
        )


def guide_from_batch(unet: LatentUNet, batch: Mapping[str, Tensor]) -> Tensor | None:
    """The guide (B, G, H, W) of a batch; None if the U-Net has no guide channels.

    Raises:
        ConfigError: the U-Net has guide channels, but the data have no guide.
    """
    if not unet.guide:
        return None
    if "guide" not in batch:
        raise ConfigError(
            "latent_unet.in_ch: the data have no guide for the channels after those of the "
            "image; use the degradation Bokeh, or set latent_unet.in_ch: 3"
        )
    return batch["guide"]


class LossModule(nn.Module):
    """Module whose forward pass is the loss of a stage, as DistributedDataParallel needs it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self.stage_loss = stage.loss

    def forward(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """See `Stage.loss`."""
        return self.stage_loss(batch, generators)
