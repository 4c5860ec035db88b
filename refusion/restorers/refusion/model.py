"""A model that is ready to run: its networks on a device, its process and its tile sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from refusion.checkpoint import Model
from refusion.config import ModelConfig
from refusion.devices.precision import cast_network, precision_name
from refusion.images.resize import shrink
from refusion.sde import IRSDE, build_sde
from refusion.tiling.memory import auto_tile

# Of a reduced copy: the filter of larger scales needs more shared memory than a GPU has.
_GPU_SCALE = 32


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        config: config of the model from the checkpoint.
        sde: the process; None for a latent U-Net alone.
        network: predicts noise, score or image; None for a latent U-Net alone.
        latent_unet: maps photos to latents and back; None if the process runs on pixels.
        device: device of both networks.
        dtype: number format of both networks.
        memory: maximum number of bytes of the whole process; None for no limit.
    """

    config: ModelConfig
    sde: IRSDE | None
    network: nn.Module | None
    latent_unet: nn.Module | None
    device: torch.device
    dtype: torch.dtype
    memory: int | None

    @classmethod
    def load(
        cls, model: Model, device: torch.device, dtype: torch.dtype, memory: int | None
    ) -> LoadedModel:
        """Copy the networks of a checkpoint to a device and a number format.

        Args:
            model: networks and config.
            device: device of the copies.
            dtype: number format of the copies.
            memory: maximum number of bytes of the whole process; None for no limit.
        """
        sde = model.config.sde
        process = None if sde is None else build_sde({"type": sde.type, **sde.settings})
        empty = cls(model.config, process, None, None, device, dtype, memory)
        return replace(
            empty,
            network=_cast(model.network, device, dtype),
            latent_unet=_cast(model.latent_unet, device, dtype),
        )

    @property
    def precision(self) -> str:
        """Name of the number format: 'fp32', 'bf16' or 'fp16'."""
        return precision_name(self.dtype)

    def network_setting(self, name: str) -> object:
        """A setting of the noise network; None if the network has no setting with this name.

        Args:
            name: key in the section `network` of the config.
        """
        network = self.config.network
        return None if network is None else network.settings.get(name)

    @property
    def sees_state(self) -> bool:
        """Whether there is a noise network, and its output depends on the state."""
        return self.network is not None and getattr(self.network, "sees_state", True)

    @property
    def process_side(self) -> int | None:
        """Longest side in pixels of the images that the process runs on; None for no limit."""
        sampling = self.config.sampling
        return None if sampling is None else sampling.process_side

    def runs_on_reduced_copy(self, lq: Tensor) -> bool:
        """Whether the process runs on a smaller copy of photos with this size.

        Args:
            lq: the photos (B, C, H, W).
        """
        return self.process_side is not None and self.process_side < max(lq.shape[-2:])

    def reduced_copy(self, lq: Tensor) -> Tensor | None:
        """The smaller copy that the process runs on, or None if it runs on the photos themselves.

        Args:
            lq: the photos (B, C, H, W), float or integers.

        Returns:
            (B, C, h, w) float32; its longer side is `sampling.process_side`.
        """
        if not self.runs_on_reduced_copy(lq):
            return None
        if lq.is_cuda and max(lq.shape[-2:]) > _GPU_SCALE * self.process_side:
            return shrink(lq.cpu(), self.process_side).to(lq.device)
        return shrink(lq, self.process_side)

    def tile_side(
        self, tiled: nn.Module, lq: Tensor, tile: int | str | None, copy: Tensor | None = None
    ) -> int:
        """Side of the tiles in pixels.

        Args:
            tiled: the network that runs tile by tile.
            lq: the photos (B, C, H, W).
            tile: see `Restorer.restore`.
            copy: the image that the process runs on, if `process_side` limits its size: the reduced
                copy, or the photos if they are not larger. `tile` is then ignored, because the
                network needs the whole image as context if memory allows.
        """
        side = tile or max(lq.shape)
        if tile == "auto" or copy is not None:
            side = auto_tile(tiled, self.dtype, lq, self.device, self.memory, copy)
        image = lq if copy is None else copy
        # A tile larger than the padded photo has the same effect as one of the photo's size, and
        # halving it after an out-of-memory error would save no memory.
        return min(side, max(image.shape[-2:]) + getattr(tiled, "multiple", 1))


def _cast(network: nn.Module | None, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
    return None if network is None else cast_network(network, device, dtype)
