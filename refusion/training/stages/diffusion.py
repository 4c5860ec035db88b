"""Stage 2: the noise network, in the latent of a trained U-Net or on pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from refusion.checkpoint import Model, build_model
from refusion.config import RunConfig, config_to_dict, find_table, model_config
from refusion.errors import ConfigError
from refusion.images.resize import enlarge
from refusion.nets.latent_unet import with_guide
from refusion.official.importing import open_latent
from refusion.restorers.base import Conditions
from refusion.restorers.refusion.restorer import Refusion
from refusion.sde import OBJECTIVES, build_sde, estimate
from refusion.tiling.exact import latent_guide
from refusion.training.stages.base import CheckpointStage, Pictures, Viewer, guide_of

_CONDITIONS = {  # what a network may be told beside the time, and where it comes from
    "lens": "tells no lenses; use the dataset BokehFolder or the degradation Bokeh",
    "guide": "has no guide; use the degradation Bokeh",
}


def sample_times(T: int, bias: float, generators: Sequence[Generator]) -> Tensor:
    """Times 1..T, one per generator, LongTensor (B,), with density proportional to t^bias."""
    uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    return (T * (1 - uniform) ** (1 / (1 + bias))).ceil().long().clamp(1, T)


def sample_noise(like: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Standard normal noise of the shape and device of ``like``, each image its own generator's."""
    shape = like.shape[1:]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(like)


@dataclass(frozen=True)
class Draw:
    """One state of the process per image, and the network's output there.

    Attributes:
        xt: state (B, C, h, w).
        noise: standard noise in it.
        t: its times, LongTensor (B,).
        output: of the network, float32 (B, C, h, w).
    """

    xt: Tensor
    noise: Tensor
    t: Tensor
    output: Tensor


class DiffusionStage(CheckpointStage):
    """Stage ``diffusion`` as the trainer sees it."""

    prefix = "network."
    kept = ""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.latent_unet, self.fixed, component = None, {}, None
        if config.latent_unet is not None:
            trained = open_latent(config.latent_unet.checkpoint)
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
        self.objective = config.objective and OBJECTIVES[config.objective.type]
        self.objective_settings = config.objective and config.objective.settings
        network = config.network
        self.needs = [name for name in _CONDITIONS if network.settings.get(name)]
        self.network = find_table("nets")[network.type](**network.settings).to(device)
        self.module: nn.Module = self.network

    def compile(self) -> None:
        """Have the network compiled at its first call."""
        self.network.compile()

    @torch.no_grad()
    def encode(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images ``lq``, ``gt`` -> ``mu``, ``x0`` in the space of the process, float32.

        What else the network is told goes along.
        """
        if "mu" in batch:
            return dict(batch)
        mu, x0 = enlarge(batch["lq"], self.model_config.upscale), batch["gt"]
        if self.latent_unet is not None:
            images = with_guide(torch.cat([mu, x0]), guide_of(self.latent_unet, batch))
            mu, x0 = self.latent_unet.encode(images).z.float().chunk(2)
        return {"mu": mu, "x0": x0} | self.conditions(batch)

    def conditions(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a batch of images holds that the network is told, the guide at the latent's size."""
        conditions = {name: batch[name] for name in self.needs if name in batch}
        if "guide" in conditions and self.latent_unet is not None:
            conditions["guide"] = latent_guide(self.latent_unet, conditions["guide"])
        return conditions

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """The objective at a random time per image.

        Args:
            batch: ``lq`` and ``gt`` images, or ``mu`` and ``x0`` in the space of the process.
            generators: CPU generators of time and noise, one per image, so that an image's draw
                does not depend on the others in its batch.
        """
        pair = self.encode(batch)
        draw = self.draw(pair, generators)
        # In full precision: the conversions amplify rounding where alpha or sigma is small.
        with torch.autocast(draw.xt.device.type, enabled=False):
            guess = estimate(self.sde, self.prediction, draw.output, draw.xt, pair["mu"], draw.t)
            state = (draw.xt, pair["x0"], draw.noise, pair["mu"], draw.t)
            loss = self.objective(self.sde, guess, *state, **self.objective_settings)
        return {"total": loss}

    def draw(self, pair: Mapping[str, Tensor], generators: Sequence[Generator]) -> Draw:
        """A state at a random time per image, and what the network makes of it."""
        mu = pair["mu"]
        t = sample_times(self.sde.T, self.time_bias, generators)
        noise = sample_noise(mu, generators)
        xt = self.sde.sample_marginal(pair["x0"], mu, t, noise)
        output = self.network(xt, mu, t.to(mu.device), **self._conditions(pair)).float()
        return Draw(xt, noise, t, output)

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make what gives the restored picture of a validation pair."""
        restorer = Refusion(model, device=device)

        def view(item: Mapping[str, Tensor]) -> dict[str, Pictures]:
            return {
                "restored": (
                    restorer.restore(item["lq"], conditions=Conditions.from_item(item)),
                    item["gt"],
                )
            }

        return view

    def _conditions(self, pair: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name in self.needs:
            if name not in pair:
                raise ConfigError(
                    f"network.{name}: the training data {_CONDITIONS[name]}, or leave it out"
                )
        return {name: pair[name] for name in self.needs}
