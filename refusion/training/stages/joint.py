"""Stage 3: the noise network and its latent U-Net together, judged by the picture they restore.

Latent replacement never shows the decoder a latent that the network only estimated, and a distance
between latents does not say how visible it is. Here the estimate of x0 at a random time is decoded
with the degraded image's skips, and the loss is that of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from refusion.config import RunConfig
from refusion.images.resize import enlarge
from refusion.nets.latent_unet import with_guide
from refusion.sde import estimate
from refusion.training.stages.base import guide_of
from refusion.training.stages.diffusion import DiffusionStage

SCALE = 10.0  # brings the squared error of a picture of 20 dB to that of the other stages' losses


class JointStage(DiffusionStage):
    """Stage ``joint`` as the trainer sees it."""

    prefix = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.latent_unet.requires_grad_(True)
        self.module = nn.ModuleDict({"network": self.network, "latent_unet": self.latent_unet})
        self.fixed: dict[str, Tensor] = {}
        if config.init is None and config.prediction == "x0_residual":
            # The estimate begins at mu: the decoder would learn to ignore a latent full of noise.
            for parameter in self.network.last.parameters():
                nn.init.zeros_(parameter)

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch of image pairs; ``total`` is minimised."""
        unet, guide = self.latent_unet, guide_of(self.latent_unet, batch)
        latent = unet.encode(with_guide(enlarge(batch["lq"], self.model_config.upscale), guide))
        mu = latent.z.float()
        with torch.no_grad():  # the truth's latent is a place in the space, not to be moved
            x0 = unet.encode(with_guide(batch["gt"], guide)).z.float()
        pair = {"mu": mu, "x0": x0} | self.conditions(batch)
        draw = self.draw(pair, generators)
        with torch.autocast(mu.device.type, enabled=False):
            guess = estimate(self.sde, self.prediction, draw.output, draw.xt, mu, draw.t)
        restored = unet.decode(guess.x0, latent.skips, latent.size)
        # Squared: of a wide, faint error the median is "none", and there training would stay.
        return {"total": SCALE * mse_loss(restored.float(), batch["gt"])}
