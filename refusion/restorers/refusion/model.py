"""The model in memory: its networks on their device, its process, and how large tiles may be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from refusion.checkpoint import Model
from refusion.config import ModelConfig
from refusion.devices.precision import PRECISIONS, cast_network
from refusion.images.resize import shrink
from refusion.sde import IRSDE, build_sde
from refusion.tiling.memory import auto_tile


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        config: what the checkpoint says of the model.
        sde: the process; None of a latent U-Net alone.
        network: predicts noise, score or image; None of a latent U-Net alone.
        latent_unet: maps photos to latents and back; None where the process runs on pixels.
        device: of both networks.
        dtype: number format of both networks.
        memory: bytes that the whole process may take; None for no limit of that kind.
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
        """Copy the networks of a checkpoint to a device and a number format."""
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
        return next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)

    def network_setting(self, name: str) -> object:
        """A setting of the noise network; None if it has none of that name."""
        network = self.config.network
        return None if network is None else network.settings.get(name)

    def runs_on_reduced_copy(self, lq: Tensor) -> bool:
        """Whether photos (B, C, H, W) of this size are processed on a smaller copy."""
        sampling = self.config.sampling
        side = None if sampling is None else sampling.process_side
        return side is not None and side < max(lq.shape[-2:])

    def reduced_copy(self, lq: Tensor) -> Tensor | None:
        """The copy that the process runs on, float32; None if it runs on the photos themselves."""
        if not self.runs_on_reduced_copy(lq):
            return None
        return shrink(lq, self.config.sampling.process_side)

    def tile_side(
        self, tiled: nn.Module, lq: Tensor, tile: int | str | None, copy: Tensor | None = None
    ) -> int:
        """Side of the tiles in pixels.

        Args:
            tiled: the network that runs tile by tile.
            lq: the photos (B, C, H, W).
            tile: as `Restorer.restore` takes it.
            copy: the reduced copy, where the network runs on one. It ignores `tile`, because the
                network must see the copy as a whole if memory allows.
        """
        side = tile or max(lq.shape)
        if tile == "auto" or copy is not None:
            side = auto_tile(tiled, self.dtype, lq, self.device, self.memory, copy)
        seen = lq if copy is None else copy
        # A larger tile than the padded photo is the same tile; halving it would gain nothing.
        return min(side, max(seen.shape[-2:]) + getattr(tiled, "multiple", 1))


def _cast(network: nn.Module | None, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
    return None if network is None else cast_network(network, device, dtype)
