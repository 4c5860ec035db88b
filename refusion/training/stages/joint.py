"""Stage 3: the noise network and the latent U-Net are trained together on the restored image.

In the stages 1 and 2 the decoder never sees an estimated latent, and a distance between latents
does not measure how visible an error is. Here the estimate of x0 at a random time is decoded with
the skips of the degraded image, and the loss is the squared error of the decoded image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from refusion.config import RunConfig
from refusion.errors import ConfigError
from refusion.images.resize import enlarge
from refusion.nets.latent_unet import with_guide
from refusion.sde import estimate
from refusion.training.stages.base import check_pair, guide_from_batch
from refusion.training.stages.diffusion import DiffusionStage

SCALE = 10.0  # scales the squared error at 20 dB, 0.01, to the size of the losses of other stages


class JointStage(DiffusionStage):
    """Stage `joint`, see `Stage`.

    Raises:
        ConfigError: see `DiffusionStage`; or training starts without weights, and the network does
            not name its last layer.
    """

    prefix = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.latent_unet.requires_grad_(True)
        self.module = nn.ModuleDict({"network": self.network, "latent_unet": self.latent_unet})
        self.fixed: dict[str, Tensor] = {}
        if config.init is None and config.prediction == "x0_residual":
            # With 0 the first estimate is mu. With a random estimate, the decoder would learn to
            # ignore the latent.
            for parameter in _last_layer(self.network).parameters():
                nn.init.zeros_(parameter)

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Squared error of the restored images of a batch of pairs `lq`, `gt`; see `Stage.loss`."""
        check_pair(batch, self.model_config)
        unet, guide = self.latent_unet, guide_from_batch(self.latent_unet, batch)
        latent = unet.encode(with_guide(enlarge(batch["lq"], self.model_config.upscale), guide))
        mu = latent.z.float()
        with torch.no_grad():  # the latent of the ground truth is a target without gradient
            x0 = unet.encode(with_guide(batch["gt"], guide)).z.float()
        pair = {"mu": mu, "x0": x0} | self.conditions(batch)
        sample = self.sample_and_predict(pair, generators)
        with torch.autocast(mu.device.type, enabled=False):
            predicted = estimate(self.sde, self.prediction, sample.output, sample.xt, mu, sample.t)
        restored = unet.decode(predicted.x0, latent.skips, latent.size)
        # The absolute error is minimal at the median, which for uncertain faint changes is no
        # change; training then makes no progress.
        return {"total": SCALE * mse_loss(restored.float(), batch["gt"])}


def _last_layer(network: nn.Module) -> nn.Module:
    """The layer that computes the output of a network."""
    last = getattr(network, "last", None)
    if last is None:
        raise ConfigError(
            f"network.type: stage joint sets the last layer of {type(network).__name__} to zero, "
            "so the class needs an attribute `last`; add it, or start from trained weights (init)"
        )
    return last
