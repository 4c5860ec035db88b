"""Stage `one_step`: distillation of a trained diffusion into a student that needs one step.

The student starts as a copy of the teacher. It runs once, at the time `sampling.distilled_at`, in
the state mu + s * std * noise with s = `sampling.start_noise`. With s = 0 the student is
deterministic and learns a mean; the weights `truth` and `imitation` are for this case. With s = 1
the output of the student is a random sample. The loss `score` matches the distribution of these
samples to that of the teacher: the mean-reverting SDE adds noise to a sample with the same mu, and
the estimates of teacher and critic are compared (`refusion.sde.distillation`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import l1_loss

from refusion.checkpoint import Checkpoint, Model, build_model, read_checkpoint
from refusion.config import RunConfig
from refusion.config.parser import Component
from refusion.config.sections import LatentCheckpoint
from refusion.errors import ConfigError
from refusion.restorers.refusion.sampling_plan import check_one_step_sampler
from refusion.sde import Estimate, estimate, find_sampler
from refusion.sde.distillation import score_distillation_loss
from refusion.sde.objectives import LOSSES
from refusion.training.stages.diffusion import DiffusionStage, sample_noise
from refusion.weights import find_weights

TIMES = (0.02, 0.98)  # range of the times of the noisy outputs, in units of T; as in OSEDiff


class StudentAndCritic(nn.Module):
    """The trained networks of stage `one_step`; a checkpoint contains the student only.

    Args:
        network: network of the teacher; student and critic start as copies of it.
        has_critic: False if the loss does not use the critic.
    """

    def __init__(self, network: nn.Module, *, has_critic: bool) -> None:
        super().__init__()
        self.student = copy.deepcopy(network).requires_grad_(True)
        self.critic = copy.deepcopy(network).requires_grad_(True) if has_critic else None


class OneStepStage(DiffusionStage):
    """Stage `one_step`, see `Stage`.

    Student and critic are updated in the same step with one loss; each term of the loss has
    gradients for one of them only.

    Raises:
        CheckpointError: the weights of the teacher cannot be read.
        ConfigError: the teacher is not a diffusion, or a setting does not fit the teacher.
    """

    kept = "student"

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        checkpoint = read_checkpoint(find_weights(config.distillation.teacher))
        teacher = build_model(checkpoint)
        super().__init__(_as_diffusion(config, checkpoint), device)
        self.settings, self.sampling = config.distillation, config.sampling
        self.teacher = _Teacher.of(teacher, device)
        self.module = StudentAndCritic(teacher.network, has_critic=self.settings.score > 0)
        self.module.to(device)
        check_one_step_sampler(self.sampling.sampler)
        find_sampler(self.sampling.sampler).times(self.sde, 1, self.sampling.distilled_at)
        cached = config.data.cached_latents > 0
        if cached and self.latent_unet is None:
            raise ConfigError("data.cached_latents: the teacher works on pixels; leave the key out")
        if self.settings.pixels > 0 and (cached or self.latent_unet is None):
            raise ConfigError(
                "distillation.pixels: compares decoded photos; this needs a teacher with a "
                "latent U-Net and data.cached_latents: 0"
            )

    def compile(self) -> None:
        """See `Stage.compile`."""
        for network in self.module.children():
            network.compile()

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch; see `DistillationConfig` for their weights."""
        pair = self.encode(batch)
        mu, conditions, weights = pair["mu"], self._conditions(pair), self.settings
        noise = self.sampling.start_noise * sample_noise(mu, generators)
        start = self.sampling.distilled_at
        xt = self.sde.initial_state(mu, noise, start)
        t = torch.full((len(mu),), self.sde.T if start is None else start)
        x0 = self._estimate(self.module.student, xt, mu, t, conditions).x0
        terms = {"truth": l1_loss(x0, pair["x0"])}
        total = weights.truth * terms["truth"]
        if weights.imitation > 0:
            terms["imitation"] = l1_loss(x0, self._teacher_sample(mu, conditions, generators))
            total = total + weights.imitation * terms["imitation"]
        if weights.pixels > 0:
            terms["pixels"] = self._decoded_distance(x0, batch)
            total = total + weights.pixels * terms["pixels"]
        if weights.score > 0:
            terms |= self._score_terms(x0, mu, conditions, generators)
            total = total + weights.score * terms["score"] + terms["critic"]
        return {"total": total, **terms}

    def _score_terms(
        self,
        x0: Tensor,
        mu: Tensor,
        conditions: Mapping[str, Tensor],
        generators: Sequence[Generator],
    ) -> dict[str, Tensor]:
        """Distillation loss of the student, and denoising loss of the critic on its outputs."""
        target = x0.detach()
        t, xt = self._sample_marginal(target, mu, generators)
        with torch.no_grad():
            teacher, critic = (
                self._estimate(network, xt, mu, t, conditions).x0
                for network in (self.teacher.network, self.module.critic)
            )
        t, xt = self._sample_marginal(target, mu, generators)
        denoised = self._estimate(self.module.critic, xt, mu, t, conditions).x0
        return {
            "score": score_distillation_loss(x0, teacher, critic),
            "critic": LOSSES[self.settings.critic_loss](denoised, target),
        }

    def _sample_marginal(
        self, x0: Tensor, mu: Tensor, generators: Sequence[Generator]
    ) -> tuple[Tensor, Tensor]:
        """Random integer times (B,) in the range `TIMES`, and states from the marginals of x0."""
        low, high = math.ceil(TIMES[0] * self.sde.T), max(1, math.floor(TIMES[1] * self.sde.T))
        times = [torch.randint(max(1, low), high + 1, (), generator=g) for g in generators]
        t = torch.stack(times)
        return t, self.sde.sample_marginal(x0, mu, t, sample_noise(x0, generators))

    def _estimate(
        self,
        network: nn.Module,
        xt: Tensor,
        mu: Tensor,
        t: Tensor,
        conditions: Mapping[str, Tensor],
    ) -> Estimate:
        """Estimate of x0 and noise by a network at times t (B,)."""
        output = network(xt, mu, t.to(mu.device, non_blocking=True), **conditions).float()
        # In float32, as in stage diffusion.
        with torch.autocast(mu.device.type, enabled=False):
            return estimate(self.sde, self.prediction, output, xt, mu, t)

    @torch.no_grad()
    def _teacher_sample(
        self, mu: Tensor, conditions: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> Tensor:
        """Result of the teacher in `teacher_steps` steps."""

        def denoise(xt: Tensor, mu: Tensor, t: float) -> Estimate:
            times = torch.full((len(mu),), t)
            return self._estimate(self.teacher.network, xt, mu, times, conditions)

        noise = _NoisePerImage(generators)
        return find_sampler(self.teacher.sampler)(
            self.sde,
            denoise,
            self.sde.initial_state(mu, noise.initial(mu)),
            mu,
            steps=self.settings.teacher_steps,
            noise=noise,
        )

    def _decoded_distance(self, x0: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """L1 distance between the decoded latent x0 and the ground truth."""
        latent = self.latent_unet.encode(batch["lq"])
        restored = self.latent_unet.decode(x0, latent.skips, latent.size)
        return l1_loss(restored.float(), batch["gt"])


@dataclass(frozen=True)
class _Teacher:
    """The frozen network of the trained diffusion, and its default sampler."""

    network: nn.Module
    sampler: str

    @classmethod
    def of(cls, model: Model, device: torch.device) -> _Teacher:
        network = model.network.to(device, memory_format=torch.channels_last)
        return cls(network, model.config.sampling.sampler)


@dataclass(frozen=True)
class _NoisePerImage:
    """Noise for a sampler, each image from its own generator."""

    generators: Sequence[Generator]

    def initial(self, like: Tensor) -> Tensor:
        return sample_noise(like, self.generators)

    def step(self, t: float, like: Tensor) -> Tensor:
        return sample_noise(like, self.generators)


def _as_diffusion(config: RunConfig, teacher: Checkpoint) -> RunConfig:
    """Config of the run as stage `diffusion`, with the networks and process of the teacher."""
    model = teacher.model
    if model.network is None:
        raise ConfigError(f"distillation.teacher: {teacher.path} contains only a latent U-Net")
    latent = None if model.latent_unet is None else LatentCheckpoint(str(teacher.path))
    return replace(
        config,
        stage="diffusion",
        distillation=None,
        latent_unet=latent,
        network=model.network,
        sde=model.sde,
        prediction=model.prediction,
        upscale=model.upscale,
        objective=Component("x0"),
        data=replace(config.data, cached_latents=0),  # `OneStepStage` checks the value
    )
