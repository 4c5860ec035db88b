"""Stage 2: the noise network, on the latent of a trained U-Net or on pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from refusion.checkpoint import Model, build_model
from refusion.config import RunConfig, config_to_dict, find_table, model_config
from refusion.errors import ConfigError
from refusion.images.noise_level import NEGLIGIBLE, estimate_noise_std
from refusion.images.resize import enlarge
from refusion.nets import LatentUNet, UnconditionalUNet
from refusion.nets.latent_unet import with_guide
from refusion.official.importing import open_latent
from refusion.randomness import counter_normal, random_keys
from refusion.restorers.base import Conditions
from refusion.restorers.refusion.restorer import Refusion
from refusion.sde import IRSDE, OBJECTIVES, build_sde, estimate, find_sampler
from refusion.sde.scattering import scattering_loss
from refusion.tiling.exact import latent_guide
from refusion.training.stages.base import (
    CheckpointStage,
    ResultAndTarget,
    Viewer,
    check_pair,
    guide_from_batch,
)

_CONDITIONS = {  # conditions besides the time: end of the message if the data do not have them
    "lens": "has no lenses; use the dataset BokehFolder or the degradation Bokeh",
    "guide": "has no guide; use the degradation Bokeh",
}


def sample_times(T: int, bias: float, generators: Sequence[Generator]) -> Tensor:
    """Sample random times with a density proportional to t^bias.

    Args:
        T: number of times.
        bias: exponent above -1; 0 gives uniform times.
        generators: one CPU generator per image.

    Returns:
        Times 1..T, LongTensor (B,).
    """
    uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    return (T * (1 - uniform) ** (1 / (1 + bias))).ceil().long().clamp(1, T)


def sample_noise(like: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Standard normal noise, each image from its own generator.

    On a GPU the generators give only one key per image, and the GPU computes the noise from the
    keys; on a CPU they give the noise itself.

    Args:
        like: tensor (B, ...) whose shape, dtype and device the noise gets.
        generators: one CPU generator per image.
    """
    shape = like.shape[1:]
    if like.device.type == "cuda":
        keys = random_keys(generators).to(like.device, non_blocking=True)
        return counter_normal(keys, shape).to(like)
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(like)


def _chosen(share: float, generators: Sequence[Generator]) -> Tensor:
    """True with probability `share`, for each image from its own generator: (B,) on the CPU."""
    return torch.stack([torch.rand((), generator=g) < share for g in generators])


@dataclass(frozen=True)
class NoisySample:
    """One random state of the process per image, and the output of the network for it.

    Attributes:
        xt: state (B, C, h, w).
        noise: standard normal noise in the state, (B, C, h, w).
        t: times of the states, LongTensor (B,).
        output: output of the network, float32 (B, C, h, w).
    """

    xt: Tensor
    noise: Tensor
    t: Tensor
    output: Tensor


class DiffusionStage(CheckpointStage):
    """Stage `diffusion`, see `Stage`.

    Raises:
        CheckpointError: the checkpoint of the latent U-Net cannot be read.
        ConfigError: the checkpoint contains no latent U-Net, or the sampler or the network does
            not suit the process.
    """

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
        if isinstance(self.sde, IRSDE):  # other processes have a sampler of their own
            find_sampler(config.sampling.sampler).check(self.sde)
        self.prediction = config.prediction
        self.time_bias, self.rollout = config.train.time_bias, config.train.rollout
        self.pair_share = config.train.pair_share
        self.objective = config.objective and OBJECTIVES[config.objective.type]
        self.objective_settings = config.objective and config.objective.settings
        network = config.network
        _check_network(network.type, config.stage, self.latent_unet is not None)
        self.needs = [name for name in _CONDITIONS if network.settings.get(name)]
        self.network = find_table("nets")[network.type](**network.settings).to(device)
        self.module: nn.Module = self.network
        if self.prediction == "scattering":  # an output of zeros is a photo without haze
            for network in getattr(self.network, "networks", [self.network]):
                nn.init.zeros_(network.last.weight)
                nn.init.zeros_(network.last.bias)

    def compile(self) -> None:
        """See `Stage.compile`."""
        self.network.compile()

    @torch.no_grad()
    def encode(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode images `lq`, `gt` to `mu`, `x0` in the space of the process, float32.

        The conditions of the network are included. A batch that contains `mu` is returned as is.
        """
        if "mu" in batch:
            return dict(batch)
        check_pair(batch, self.model_config)
        mu, x0 = enlarge(batch["lq"], self.model_config.upscale), batch["gt"]
        if self.latent_unet is not None:
            images = with_guide(torch.cat([mu, x0]), guide_from_batch(self.latent_unet, batch))
            mu, x0 = self.latent_unet.encode(images).z.float().chunk(2)
        haze = {name: batch[name] for name in ("transmission", "airlight") if name in batch}
        return {"mu": mu, "x0": x0} | haze | self.conditions(batch)

    def conditions(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Conditions of the network in a batch of images; a guide gets the size of the latent."""
        conditions = {name: batch[name] for name in self.needs if name in batch}
        if "guide" in conditions and self.latent_unet is not None:
            conditions["guide"] = latent_guide(self.latent_unet, conditions["guide"])
        return conditions

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """The objective at a random time per image; see `Stage.loss`.

        Args:
            batch: images `lq` and `gt`, or `mu` and `x0` in the space of the process.
            generators: one CPU generator per image for time and noise, so that the sample of an
                image does not depend on the other images of the batch.
        """
        pair = self.encode(batch)
        sample = self.sample_and_predict(pair, generators)
        xt, t, mu = sample.xt, sample.t, pair["mu"]
        # In float32: the conversions amplify rounding errors where alpha or sigma is small.
        with torch.autocast(xt.device.type, enabled=False):
            predicted = estimate(self.sde, self.prediction, sample.output, xt, mu, t)
            state = (xt, pair["x0"], sample.noise, mu, t)
            loss = self.objective(self.sde, predicted, *state, **self.objective_settings)
            if predicted.scattering is None or "transmission" not in pair:
                return {"total": loss}
            truth = pair["transmission"], pair["airlight"]
            terms = {"x0": loss, **scattering_loss(predicted.scattering, *truth)}
        return {"total": sum(terms.values()), **terms}

    def sample_and_predict(
        self, pair: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> NoisySample:
        """Sample a state at a random time per image and run the network on it.

        Args:
            pair: `mu` and `x0` (B, C, h, w) and the conditions of the network.
            generators: one CPU generator per image.
        """
        mu = pair["mu"]
        t = sample_times(self.sde.T, self.time_bias, generators)
        noise = sample_noise(mu, generators)
        if self.rollout:
            clean = self._own_estimates(pair, generators)
            xt = self.sde.sample_marginal(clean, mu, t, noise)
            noise = self.sde.noise_from_x0(xt, pair["x0"], mu, t)
        else:
            xt = self.sde.sample_marginal(pair["x0"], mu, t, noise)
        if self.pair_share:
            xt, noise, t = self._with_photos(pair, xt, noise, t, generators)
        output = self._predict(xt, t.to(mu.device, non_blocking=True), pair)
        return NoisySample(xt, noise, t, output)

    def _with_photos(
        self,
        pair: Mapping[str, Tensor],
        xt: Tensor,
        noise: Tensor,
        t: Tensor,
        generators: Sequence[Generator],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States, their noise and times; the state of a share of the images is the degraded photo.

        Its time is the one where restoring starts: where std(t) is the estimated noise level.
        """
        mu = pair["mu"]
        level = estimate_noise_std(mu).clamp_min(NEGLIGIBLE)
        start = self.sde.nearest_times(level)
        found = self.sde.noise_from_x0(mu, pair["x0"], mu, start)
        is_photo = _chosen(self.pair_share, generators).to(mu.device, non_blocking=True)
        t = torch.where(is_photo, start, t.to(mu.device, non_blocking=True))
        is_photo = is_photo.view(-1, 1, 1, 1)
        return torch.where(is_photo, mu, xt), torch.where(is_photo, found, noise), t

    @torch.no_grad()
    def _own_estimates(self, pair: Mapping[str, Tensor], generators: Sequence[Generator]) -> Tensor:
        """x0 of the pair, or, for a share of the images, the model's estimate of x0 at time T.

        While restoring, the model gets states that contain its own estimates, not the truth. A
        training on such states is meant to teach it to correct them.
        """
        mu, T = pair["mu"], self.sde.T
        is_own = _chosen(self.rollout, generators)
        xT = self.sde.sample_marginal(pair["x0"], mu, T, sample_noise(mu, generators))
        output = self._predict(xT, torch.full((len(mu),), T, device=mu.device), pair)
        with torch.autocast(mu.device.type, enabled=False):
            own = estimate(self.sde, self.prediction, output, xT, mu, T).x0
        is_own = is_own.to(mu.device, non_blocking=True).view(-1, 1, 1, 1)
        return torch.where(is_own, own, pair["x0"])

    def _predict(self, xt: Tensor, t: Tensor, pair: Mapping[str, Tensor]) -> Tensor:
        """Output of the network at times t on the device, (B,), float32."""
        return self.network(xt, pair["mu"], t, **self._conditions(pair)).float()

    def viewer(self, model: Model, device: torch.device) -> Viewer:
        """Make the function that restores a validation image."""
        restorer = Refusion(model, device=device)

        def view(item: Mapping[str, Tensor]) -> dict[str, ResultAndTarget]:
            return {
                "restored": (
                    restorer.restore(item["lq"], conditions=Conditions.from_item(item)),
                    item["gt"],
                )
            }

        return view

    def _conditions(self, pair: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keyword arguments of the network; raises a ConfigError if the data lack one."""
        for name in self.needs:
            if name not in pair:
                raise ConfigError(
                    f"network.{name}: the training data {_CONDITIONS[name]}, or leave the key out"
                )
        return {name: pair[name] for name in self.needs}


def _check_network(name: str, stage: str, is_latent: bool) -> None:
    """Raise a ConfigError if a network of `NETS` cannot estimate the noise in photos or latents."""
    kind = find_table("nets")[name]
    if kind is LatentUNet or (is_latent and kind is UnconditionalUNet):
        where = "the latent" if is_latent else "photos"
        raise ConfigError(
            f"network.type: stage {stage} on {where} takes no {name}; use ConditionalNAFNet"
        )
