"""Stage 1: the latent U-Net, trained by latent replacement (Refusion, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import l1_loss

from refusion.checkpoint import Model
from refusion.config import RunConfig, find_table, model_config
from refusion.nets import LatentUNet
from refusion.nets.latent_unet import with_guide
from refusion.tiling.exact import decode_tiled, encode_tiled
from refusion.tiling.memory import auto_tile
from refusion.training.stages.base import CheckpointStage, Pictures, Viewer, guide_of

REGULARISER_WEIGHT = 0.001  # published value


@dataclass(frozen=True)
class Replacement:
    """Result of one pass over a pair.

    Attributes:
        reconstruction: LQ latent decoded with the LQ's skips, (B, 3, H, W).
        replacement: GT latent decoded with the LQ's skips, (B, 3, H, W).
        z_lq: latent of LQ.
    """

    reconstruction: Tensor
    replacement: Tensor
    z_lq: Tensor


def replace_latent(
    unet: LatentUNet, lq: Tensor, gt: Tensor, guide: Tensor | None = None
) -> Replacement:
    """Decode both latents of a pair with the skips of the degraded image.

    Args:
        unet: the network.
        lq: degraded images (B, 3, H, W) in [0, 1].
        gt: ground truth, the same.
        guide: what a network with guide channels is told of both, (B, G, H, W) in [0, 1].
    """
    latent = unet.encode(with_guide(torch.cat([lq, gt]), guide))
    skips = [torch.cat([skip[: len(lq)]] * 2) for skip in latent.skips]
    reconstruction, replacement = unet.decode(latent.z, skips, latent.size).chunk(2)
    return Replacement(reconstruction, replacement, latent.z[: len(lq)])


def replacement_losses(result: Replacement, lq: Tensor, gt: Tensor) -> dict[str, Tensor]:
    """Terms of the published loss: L1 of both images, and mean and spread of the latent.

    The latent is to have the mean of the image and half its standard deviation.
    """
    z = result.z_lq.float()
    spread = (z.std() - 0.5 * lq.std()).abs()
    return {
        "reconstruction": l1_loss(result.reconstruction.float(), lq),
        "replacement": l1_loss(result.replacement.float(), gt),
        "regulariser": (z.mean() - lq.mean()).abs() + spread,
    }


class LatentUNetStage(CheckpointStage):
    """Stage ``latent_unet`` as the trainer sees it."""

    prefix = "latent_unet."
    kept = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.model_config = model_config(config)
        component = config.latent_unet
        self.module = find_table("nets")[component.type](**component.settings).to(device)
        self.fixed: dict[str, Tensor] = {}
        self.replace = replace_latent

    def compile(self) -> None:
        """Have the forward pass compiled at its first call."""
        self.replace = torch.compile(replace_latent)

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch of pairs; ``total`` is minimised."""
        lq, gt = batch["lq"], batch["gt"]
        guide = guide_of(self.module, batch)
        terms = replacement_losses(self.replace(self.module, lq, gt, guide), lq, gt)
        weighted = REGULARISER_WEIGHT * terms["regulariser"]
        return {"total": terms["reconstruction"] + terms["replacement"] + weighted, **terms}

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make what gives the pictures of a validation pair.

        ``replacement`` bounds what stage 2 can reach. Computed in tiles, which changes nothing but
        the memory it takes.
        """
        unet = model.latent_unet.to(device)

        def view(item: Mapping[str, Tensor]) -> dict[str, Pictures]:
            lq, guide = item["lq"], guide_of(unet, item)
            tile = auto_tile(unet, torch.float32, lq, device)
            shown = {}
            for name, target in {"reconstruction": lq, "replacement": item["gt"]}.items():
                latent = encode_tiled(unet, target, tile, guide=guide)
                shown[name] = (decode_tiled(unet, lq, latent, tile, guide=guide), target)
            return shown

        return view
