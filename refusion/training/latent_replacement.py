"""Stage 1: the latent U-Net, trained by latent replacement (Refusion, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import l1_loss

from refusion.checkpoint import Model
from refusion.config import RunConfig, find_table, model_config
from refusion.nets import LatentUNet

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


def replace_latent(unet: LatentUNet, lq: Tensor, gt: Tensor) -> Replacement:
    """Decode both latents of a pair (B, 3, H, W) in [0, 1] with the skips of the degraded image."""
    latent = unet.encode(torch.cat([lq, gt]))
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


class LatentUNetStage:
    """Stage ``latent_unet`` as the trainer sees it."""

    part = "latent_unet"

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.model_config = model_config(config)
        component = config.latent_unet
        self.module = find_table("nets")[component.type](**component.settings).to(device)
        self.fixed: dict[str, Tensor] = {}

    def loss(self, batch: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """Terms of the loss of a batch of pairs; ``total`` is minimised."""
        lq, gt = batch["lq"], batch["gt"]
        terms = replacement_losses(replace_latent(self.module, lq, gt), lq, gt)
        weighted = REGULARISER_WEIGHT * terms["regulariser"]
        return {"total": terms["reconstruction"] + terms["replacement"] + weighted, **terms}

    def outputs(self, model: Model, lq: Tensor, gt: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Pictures of a validation pair, each with what it is compared with.

        ``replacement`` bounds what stage 2 can reach.
        """
        result = replace_latent(model.latent_unet, lq, gt)
        return {
            "reconstruction": (result.reconstruction, lq),
            "replacement": (result.replacement, gt),
        }
