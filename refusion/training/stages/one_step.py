"""Stage `one_step`: a trained diffusion distilled into a network that is asked once.

The student starts as a copy of the teacher and is asked at one time `sampling.distilled_at`, in the
state mu + share * std * noise (`sampling.start_noise`). With share 0 its answer is certain, so all
it can learn is a mean: weights `truth` and `imitation`. With share 1 it can draw, and `score` makes
its draws those of the teacher: the mean-reverting SDE noises them again around the same mu, and
teacher and critic compare (`refusion.sde.distillation`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import l1_loss

from refusion.checkpoint import Checkpoint, Model, build_model, find_weights, read_checkpoint
from refusion.config import RunConfig
from refusion.config.parser import Component
from refusion.config.sections import LatentCheckpoint
from refusion.errors import ConfigError
from refusion.restorers.refusion.sampling_plan import check_answer
from refusion.sde import Estimate, estimate, find_sampler
from refusion.sde.distillation import score_distillation_loss
from refusion.sde.objectives import LOSSES
from refusion.training.stages.diffusion import DiffusionStage, sample_noise

TIMES = (0.02, 0.98)  # share of T between which outputs are noised again; OSEDiff's


class StudentAndCritic(nn.Module):
    """What stage `one_step` trains; a checkpoint keeps the student.

    Args:
        network: the teacher, of which both are copies.
        has_critic: False where no term of the loss asks it.
    """

    def __init__(self, network: nn.Module, *, has_critic: bool) -> None:
        super().__init__()
        self.student = copy.deepcopy(network).requires_grad_(True)
        self.critic = copy.deepcopy(network).requires_grad_(True) if has_critic else None


class OneStepStage(DiffusionStage):
    """Stage ``one_step`` as the trainer sees it.

    Student and critic take one step each per batch, from one loss: no term reaches both.

    Raises:
        CheckpointError: there is no such teacher.
        ConfigError: it is no diffusion, or a setting does not go with it.
    """

    kept = "student"

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        checkpoint = read_checkpoint(find_weights(config.distillation.teacher))
        taught = build_model(checkpoint)
        super().__init__(_as_diffusion(config, checkpoint), device)
        self.settings, self.sampling = config.distillation, config.sampling
        self.teacher = _Teacher.of(taught, device)
        self.module = StudentAndCritic(taught.network, has_critic=self.settings.score > 0)
        self.module.to(device)
        check_answer(self.sampling.sampler)
        find_sampler(self.sampling.sampler).times(self.sde, 1, self.sampling.distilled_at)
        cached = config.data.cached_latents > 0
        if cached and self.latent_unet is None:
            raise ConfigError("data.cached_latents: the teacher works on pixels, without latents")
        if self.settings.pixels > 0 and (cached or self.latent_unet is None):
            raise ConfigError(
                "distillation.pixels: compares decoded photos, which needs a teacher with a "
                "latent U-Net and data.cached_latents: 0"
            )

    def compile(self) -> None:
        """Have the networks compiled at their first call."""
        for network in self.module.children():
            network.compile()

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch; see `DistillationConfig` for their weights."""
        pair = self.encode(batch)
        mu, given, weights = pair["mu"], self._conditions(pair), self.settings
        drawn = self.sampling.start_noise * sample_noise(mu, generators)
        start = self.sampling.distilled_at
        xt = self.sde.initial_state(mu, drawn, start)
        at = torch.full((len(mu),), self.sde.T if start is None else start)
        guess = self._ask(self.module.student, xt, mu, at, given).x0
        terms = {"truth": l1_loss(guess, pair["x0"])}
        total = weights.truth * terms["truth"]
        if weights.imitation > 0:
            terms["imitation"] = l1_loss(guess, self._sampled(mu, given, generators))
            total = total + weights.imitation * terms["imitation"]
        if weights.pixels > 0:
            terms["pixels"] = self._decoded_distance(guess, batch)
            total = total + weights.pixels * terms["pixels"]
        if weights.score > 0:
            terms |= self._score_terms(guess, mu, given, generators)
            total = total + weights.score * terms["score"] + terms["critic"]
        return {"total": total, **terms}

    def _score_terms(
        self,
        guess: Tensor,
        mu: Tensor,
        given: Mapping[str, Tensor],
        generators: Sequence[Generator],
    ) -> dict[str, Tensor]:
        """The student's distillation loss, and the critic's own: to know the student's outputs."""
        known = guess.detach()
        t, xt = self._noised_again(known, mu, generators)
        with torch.no_grad():
            teacher, critic = (
                self._ask(network, xt, mu, t, given).x0
                for network in (self.teacher.network, self.module.critic)
            )
        t, xt = self._noised_again(known, mu, generators)
        learned = self._ask(self.module.critic, xt, mu, t, given).x0
        return {
            "score": score_distillation_loss(guess, teacher, critic),
            "critic": LOSSES[self.settings.critic_loss](learned, known),
        }

    def _noised_again(
        self, x0: Tensor, mu: Tensor, generators: Sequence[Generator]
    ) -> tuple[Tensor, Tensor]:
        """Whole times, one per image, and states drawn from the marginal of x0 there."""
        low, high = math.ceil(TIMES[0] * self.sde.T), max(1, math.floor(TIMES[1] * self.sde.T))
        drawn = [torch.randint(max(1, low), high + 1, (), generator=g) for g in generators]
        t = torch.stack(drawn)
        return t, self.sde.sample_marginal(x0, mu, t, sample_noise(x0, generators))

    def _ask(
        self, network: nn.Module, xt: Tensor, mu: Tensor, t: Tensor, given: Mapping[str, Tensor]
    ) -> Estimate:
        output = network(xt, mu, t.to(mu.device), **given).float()
        # In full precision, as in stage diffusion.
        with torch.autocast(mu.device.type, enabled=False):
            return estimate(self.sde, self.prediction, output, xt, mu, t)

    @torch.no_grad()
    def _sampled(
        self, mu: Tensor, given: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> Tensor:
        """What the teacher restores in as many steps as the settings say."""

        def denoise(xt: Tensor, mu: Tensor, t: float) -> Estimate:
            return self._ask(self.teacher.network, xt, mu, torch.full((len(mu),), t), given)

        noise = _DrawnNoise(generators)
        return find_sampler(self.teacher.sampler)(
            self.sde,
            denoise,
            self.sde.initial_state(mu, noise.initial(mu)),
            mu,
            steps=self.settings.teacher_steps,
            noise=noise,
        )

    def _decoded_distance(self, guess: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        latent = self.latent_unet.encode(batch["lq"])
        restored = self.latent_unet.decode(guess, latent.skips, latent.size)
        return l1_loss(restored.float(), batch["gt"])


@dataclass(frozen=True)
class _Teacher:
    """The trained diffusion; frozen."""

    network: nn.Module
    sampler: str

    @classmethod
    def of(cls, model: Model, device: torch.device) -> _Teacher:
        network = model.network.to(device, memory_format=torch.channels_last)
        return cls(network, model.config.sampling.sampler)


@dataclass(frozen=True)
class _DrawnNoise:
    """Noise of a walk, each image's from its own generator."""

    generators: Sequence[Generator]

    def initial(self, like: Tensor) -> Tensor:
        return sample_noise(like, self.generators)

    def step(self, t: float, like: Tensor) -> Tensor:
        return sample_noise(like, self.generators)


def _as_diffusion(config: RunConfig, teacher: Checkpoint) -> RunConfig:
    """The run as one of stage diffusion, with all that the teacher decides."""
    model = teacher.model
    if model.network is None:
        raise ConfigError(f"distillation.teacher: {teacher.path} holds a latent U-Net alone")
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
        data=replace(config.data, cached_latents=0),  # checked here, with the right words
    )
