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
from refusion.training.stages.base import (
    CheckpointStage,
    ResultAndTarget,
    Viewer,
    check_pair,
    guide_from_batch,
)

REGULARISER_WEIGHT = 0.001  # published value


@dataclass(frozen=True)
class Replacement:
    """Decoded images of a pair of a degraded image (lq) and its ground truth (gt).

    Attributes:
        reconstruction: latent of lq decoded with the skips of lq, (B, 3, H, W).
        replacement: latent of gt decoded with the skips of lq, (B, 3, H, W).
        z_lq: latent of lq, (B, C, h, w).
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
        gt: ground truth (B, 3, H, W) in [0, 1].
        guide: guide of both images for a network with guide channels, (B, G, H, W) in [0, 1].
    """
    latent = unet.encode(with_guide(torch.cat([lq, gt]), guide))
    skips = [torch.cat([skip[: len(lq)]] * 2) for skip in latent.skips]
    reconstruction, replacement = unet.decode(latent.z, skips, latent.size).chunk(2)
    return Replacement(reconstruction, replacement, latent.z[: len(lq)])


def replacement_losses(result: Replacement, lq: Tensor, gt: Tensor) -> dict[str, Tensor]:
    """Terms of the published loss: L1 errors of both images, and a regulariser of the latent.

    The regulariser is 0 if the latent has the mean of the image and half of its standard deviation.

    Args:
        result: result of `replace_latent`.
        lq: degraded images (B, 3, H, W) in [0, 1].
        gt: ground truth (B, 3, H, W) in [0, 1].

    Returns:
        Scalars `reconstruction`, `replacement` and `regulariser`, not weighted.
    """
    z = result.z_lq.float()
    std_error = (z.std() - 0.5 * lq.std()).abs()
    return {
        "reconstruction": l1_loss(result.reconstruction.float(), lq),
        "replacement": l1_loss(result.replacement.float(), gt),
        "regulariser": (z.mean() - lq.mean()).abs() + std_error,
    }


class LatentUNetStage(CheckpointStage):
    """Stage `latent_unet`, see `Stage`."""

    prefix = "latent_unet."
    kept = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.model_config = model_config(config)
        component = config.latent_unet
        self.module = find_table("nets")[component.type](**component.settings).to(device)
        self.fixed: dict[str, Tensor] = {}
        self.replace = replace_latent

    def compile(self) -> None:
        """See `Stage.compile`."""
        self.replace = torch.compile(replace_latent)

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch of pairs `lq`, `gt`; see `Stage.loss`."""
        check_pair(batch, self.model_config)
        lq, gt = batch["lq"], batch["gt"]
        guide = guide_from_batch(self.module, batch)
        terms = replacement_losses(self.replace(self.module, lq, gt, guide), lq, gt)
        weighted = REGULARISER_WEIGHT * terms["regulariser"]
        return {"total": terms["reconstruction"] + terms["replacement"] + weighted, **terms}

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make the function that computes `reconstruction` and `replacement` of a validation pair.

        The score of `replacement` is an upper bound for stage 2. The tiles reduce the memory and
        do not change the result.
        """
        unet = model.latent_unet.to(device)

        def view(item: Mapping[str, Tensor]) -> dict[str, ResultAndTarget]:
            lq, guide = item["lq"], guide_from_batch(unet, item)
            tile = auto_tile(unet, torch.float32, lq, device)
            shown = {}
            for name, target in {"reconstruction": lq, "replacement": item["gt"]}.items():
                latent = encode_tiled(unet, target, tile, guide=guide)
                shown[name] = (decode_tiled(unet, lq, latent, tile, guide=guide), target)
            return shown

        return view
