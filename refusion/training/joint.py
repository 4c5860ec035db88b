"""Stage 3: the noise network and its latent U-Net together, judged by the picture they restore.

Latent replacement never shows the decoder a latent that the network only estimated, and a distance
between latents does not say how visible it is. Here the estimate of x0 at a random time is decoded
with the degraded image's skips, and the loss is that of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss

from refusion.config import RunConfig
from refusion.inference.resize import enlarge
from refusion.sde import estimate
from refusion.training.diffusion import DiffusionStage

COARSE = 8  # pixels: of a one-step estimate's errors most are wide, in tone and colour


def picture_loss(restored: Tensor, gt: Tensor) -> dict[str, Tensor]:
    """L1 of pictures (B, 3, H, W), and of their means over squares of `COARSE` pixels."""
    return {
        "fine": l1_loss(restored, gt),
        "coarse": l1_loss(*(avg_pool2d(x, COARSE, ceil_mode=True) for x in (restored, gt))),
    }


class JointStage(DiffusionStage):
    """Stage ``joint`` as the trainer sees it."""

    prefix = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.latent_unet.requires_grad_(True)
        self.module = nn.ModuleDict({"network": self.network, "latent_unet": self.latent_unet})
        self.fixed: dict[str, Tensor] = {}

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch of image pairs; ``total`` is minimised."""
        latent = self.latent_unet.encode(enlarge(batch["lq"], self.model_config.upscale))
        mu = latent.z.float()
        pair = {**self.encode(batch), "mu": mu}
        draw = self.draw(pair, generators)
        with torch.autocast(mu.device.type, enabled=False):
            guess = estimate(self.sde, self.prediction, draw.output, draw.xt, mu, draw.t)
        restored = self.latent_unet.decode(guess.x0, latent.skips, latent.size)
        terms = picture_loss(restored.float(), batch["gt"])
        return {"total": sum(terms.values()), **terms}
