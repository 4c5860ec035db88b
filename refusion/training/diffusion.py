"""Stage 2: the noise network, in the latent of a trained U-Net or on pixels."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from refusion.checkpoint import Model, build_model, read_checkpoint
from refusion.config import RunConfig, config_to_dict, find_table, model_config
from refusion.errors import ConfigError
from refusion.restorers.refusion import Refusion
from refusion.sde import OBJECTIVES, build_sde, estimate


def draw_times(count: int, T: int, bias: float, generator: Generator) -> Tensor:
    """Times 1..T, one per image, LongTensor (count,), with density proportional to t^bias."""
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    return (T * (1 - uniform) ** (1 / (1 + bias))).ceil().long().clamp(1, T)


class DiffusionStage:
    """Stage ``diffusion`` as the trainer sees it."""

    part = "network"

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.latent_unet, self.fixed, component = None, {}, None
        if config.latent_unet is not None:
            trained = read_checkpoint(config.latent_unet.checkpoint)
            component = trained.model.latent_unet
            self.latent_unet = build_model(trained).latent_unet
            if self.latent_unet is None:
                raise ConfigError(f"latent_unet.checkpoint: {trained.path} holds no latent U-Net")
            self.latent_unet.to(device, memory_format=torch.channels_last)
            self.fixed = {k: v for k, v in trained.tensors.items() if k.startswith("latent_unet.")}
        self.model_config = model_config(config, component)
        self.sde = build_sde(config_to_dict(config)["sde"])
        self.prediction = config.prediction
        self.time_bias = config.train.time_bias
        self.objective = OBJECTIVES[config.objective.type]
        self.objective_settings = config.objective.settings
        network = config.network
        self.module = find_table("nets")[network.type](**network.settings).to(device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> the space of the process: latents, or the images themselves."""
        return images if self.latent_unet is None else self.latent_unet.encode(images).z

    def loss(self, batch: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """The objective at a random time per image.

        Args:
            batch: ``lq`` and ``gt`` images, or ``mu`` and ``x0`` in the space of the process.
            generator: CPU generator of times and noise.
        """
        if "mu" in batch:
            mu, x0 = batch["mu"], batch["x0"]
        else:
            mu, x0 = self.encode(torch.cat([batch["lq"], batch["gt"]])).float().chunk(2)
        t = draw_times(len(mu), self.sde.T, self.time_bias, generator)
        noise = torch.randn(mu.shape, generator=generator).to(mu)
        xt = self.sde.sample_marginal(x0, mu, t, noise)
        output = self.module(xt, mu, t.to(mu.device)).float()
        # In full precision: the conversions amplify rounding where alpha or sigma is small.
        with torch.autocast(mu.device.type, enabled=False):
            guess = estimate(self.sde, self.prediction, output, xt, mu, t)
            loss = self.objective(self.sde, guess, xt, x0, noise, mu, t, **self.objective_settings)
        return {"total": loss}

    def outputs(self, model: Model, lq: Tensor, gt: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The restored picture of a validation pair and what it is compared with."""
        return {"restored": (Refusion(model, device=str(lq.device)).restore(lq), gt)}
