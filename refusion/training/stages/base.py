"""What the loop knows of the stages of training."""

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

Pictures = tuple[Tensor, Tensor]
"""A picture and what it is compared with, both (1, 3, H, W) in [0, 1]."""

Viewer = Callable[[Mapping[str, Tensor]], dict[str, Pictures]]
"""Batch of one validation pair -> its pictures by name."""


class Stage(Protocol):
    """One stage: a module and its loss.

    Attributes:
        prefix: of the names that the kept weights have in a checkpoint.
        kept: name of the submodule whose weights these are; empty for the module itself.
        module: what is trained.
        fixed: weights that the checkpoint holds beside the module's, by name.
    """

    prefix: str
    kept: str
    module: nn.Module
    fixed: dict[str, Tensor]

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch, means over its images; `total` is minimised.

        Args:
            batch: tensors by name, one row per image.
            generators: one per image, for everything random.
        """

    def build(self, tensors: dict[str, Tensor], path: Path) -> Any:
        """What inference would make of the averaged weights in a file called `path`."""

    def save(
        self,
        path: str | Path,
        tensors: dict[str, Tensor],
        info: Mapping[str, Any],
        dtype: torch.dtype | None,
    ) -> None:
        """Write them as inference reads them; see `refusion.checkpoint.save_checkpoint`."""

    def viewer(self, model: Any, device: torch.device) -> Viewer:
        """Make what shows how good the averaged weights are, of what `build` made."""

    def compile(self) -> None:
        """Have the forward pass compiled at its first call."""


class CheckpointStage:
    """What stages share whose result is a checkpoint of this project.

    Attributes:
        model_config: what inference must know.
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


def guide_of(unet: LatentUNet, batch: Mapping[str, Tensor]) -> Tensor | None:
    """The batch's guide (B, G, H, W) if the U-Net is told one, else None.

    Raises:
        ConfigError: the U-Net needs one that the data do not have.
    """
    if not unet.guide:
        return None
    if "guide" not in batch:
        raise ConfigError(
            "latent_unet.in_ch: the data have no guide for the channels beyond the image's; use "
            "the degradation Bokeh, or set latent_unet.in_ch: 3"
        )
    return batch["guide"]


class LossModule(nn.Module):
    """A stage's loss as a module, so that a forward pass of it is one that DDP can follow."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self.stage_loss = stage.loss

    def forward(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """See `Stage.loss`."""
        return self.stage_loss(batch, generators)
