"""How a photo's reverse process is walked: the arguments of `restore`, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from refusion.config import ModelConfig
from refusion.config.sections import SamplingConfig
from refusion.errors import ConfigError
from refusion.restorers.base import Conditions
from refusion.sde import IRSDE, DenoisingSDE, NoiseSource, Sampler, find_sampler
from refusion.sde.samplers import Callback, Denoise


@dataclass(frozen=True)
class SamplingPlan:
    """One way from the degraded photo to the restored one.

    Attributes:
        sde: the process.
        sampler: what walks.
        steps: number of network evaluations.
        start: time of the start state; None for the end of the process.
        start_noise: share of the process' spread that the start state gets.
        noise: source of all that is random.
    """

    sde: IRSDE
    sampler: Sampler
    steps: int
    start: int | None
    start_noise: float
    noise: NoiseSource

    def run(self, denoise: Denoise, mu: Tensor, callback: Callback | None = None) -> Tensor:
        """The restored image x_0, from the degraded one mu; see `Sampler`."""
        drawn = self.start_noise * self.noise.initial(mu)
        xT = self.sde.initial_state(mu, drawn, self.start)
        return self.sampler(
            self.sde,
            denoise,
            xT,
            mu,
            steps=self.steps,
            start=self.start,
            noise=self.noise,
            callback=callback,
        )


def plan_sampling(
    model: ModelConfig,
    sde: IRSDE,
    conditions: Conditions,
    noise: NoiseSource,
    *,
    steps: int | None,
    sampler: str | None,
) -> SamplingPlan:
    """The walk that `restore` was asked for.

    Args:
        model: the model, whose defaults fill in what is None.
        sde: its process.
        conditions: of the photos.
        noise: source of all that is random.
        steps: number of network evaluations.
        sampler: key of `SAMPLERS`.

    Raises:
        ConfigError: there is no such sampler, it cannot take so many steps, the model answers in
            one step only, or the noise level is missing or out of the model's range.
    """
    sampling = model.sampling
    chosen = find_sampler(sampling.sampler if sampler is None else sampler)
    start = _start(model.task, sde, conditions) or sampling.distilled_at
    limit = sde.T if start is None else start
    # Less noise than the SDE spans is walked back from a smaller time, which has fewer steps.
    steps = min(sampling.steps, limit) if steps is None else steps
    if sampling.distilled_at is not None and steps != 1:
        raise ConfigError(
            f"steps: the '{model.task}' model was distilled to answer in 1 step at time "
            f"{sampling.distilled_at} and knows no other, got {steps}; leave out --steps"
        )
    if sampling.distilled_at is not None:
        check_answer(sampling.sampler if sampler is None else sampler)
    chosen.times(sde, steps, start)  # refuses what is out of range
    return SamplingPlan(sde, chosen, steps, start, sampling.start_noise, noise)


def check_answer(word: str) -> None:
    """Refuse a sampler whose only step is not the answer of a distilled model.

    Raises:
        ConfigError: there is no such sampler, or it takes one step of many.
    """
    if not find_sampler(word).ends_at_x0:
        raise ConfigError(
            f"sampler: '{word}' moves a small step along the network's answer, and a model "
            "distilled for 1 step must be taken at its word; use posterior"
        )


def is_stochastic(sde: IRSDE, sampling: SamplingConfig) -> bool:
    """Whether a model's result depends on the seed, with its default sampler and steps."""
    sampler = find_sampler(sampling.sampler)
    draws = sampler.is_random and (sampling.steps > 1 or not sampler.ends_at_x0)
    return draws or sampling.start_noise * sde.initial_std(sampling.distilled_at) > 0


def _start(task: str, sde: IRSDE, conditions: Conditions) -> int | None:
    """Time whose marginal the degraded photo is drawn from; None for the end of the process."""
    if not isinstance(sde, DenoisingSDE):
        return None
    if conditions.noise_std is None:
        raise ConfigError(
            f"noise level: the '{task}' model must know how noisy the photo is; "
            "give --noise-level, the standard deviation in 8-bit levels"
        )
    # A dataset's float32 may lie a rounding above the limit.
    if not 0 <= conditions.noise_std <= sde.lam * (1 + 1e-6):
        raise ConfigError(
            f"noise level: expected 0..{255 * sde.lam:g} 8-bit levels, the range of the model, "
            f"got {255 * conditions.noise_std:g}"
        )
    return sde.optimal_timestep(min(conditions.noise_std, sde.lam))
