"""Settings of the reverse process: the arguments of `restore`, checked before any computation."""

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
    """A checked choice of sampler, number of steps, start and noise.

    Attributes:
        sde: the process.
        sampler: runs the reverse process.
        steps: number of network evaluations.
        start: time of the start state; None for the end of the process, T.
        start_noise: noise of the start state, as a share of the standard deviation of the process
            at that time.
        noise: source of all randomness.
    """

    sde: IRSDE
    sampler: Sampler
    steps: int
    start: int | None
    start_noise: float
    noise: NoiseSource

    def run(self, denoise: Denoise, mu: Tensor, callback: Callback | None = None) -> Tensor:
        """Sample the restored image x_0.

        Args:
            denoise: estimate of x_0 and noise from a state, see `refusion.sde.samplers.Denoise`.
            mu: degraded image, or its latent, (B, C, H, W).
            callback: see `Sampler`.

        Returns:
            x_0, like `mu`.
        """
        noise = self.start_noise * self.noise.initial(mu)
        xT = self.sde.initial_state(mu, noise, self.start)
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
    """Check the options of `restore` and fill in the defaults of the model.

    Args:
        model: config of the model; its defaults replace options that are None.
        sde: process of the model.
        conditions: conditions of the photos.
        noise: source of all randomness.
        steps: number of network evaluations; None for the default.
        sampler: key of `SAMPLERS`; None for the default.

    Raises:
        ConfigError: there is no such sampler, it cannot take so many steps, the model was distilled
            to one step and `steps` is not 1, or the noise level is missing or out of the model's
            range.
    """
    sampling = model.sampling
    chosen = find_sampler(sampling.sampler if sampler is None else sampler)
    start = _start(model.task, sde, conditions) or sampling.distilled_at
    limit = sde.T if start is None else start
    # A photo with less noise than the maximum starts at an earlier time, which limits the steps.
    steps = min(sampling.steps, limit) if steps is None else steps
    if sampling.distilled_at is not None and steps != 1:
        raise ConfigError(
            f"steps: the '{model.task}' model was distilled to 1 step at time "
            f"{sampling.distilled_at}, got {steps}; leave out --steps"
        )
    if sampling.distilled_at is not None:
        check_one_step_sampler(sampling.sampler if sampler is None else sampler)
    chosen.times(sde, steps, start)  # raises where a value is out of range
    return SamplingPlan(sde, chosen, steps, start, sampling.start_noise, noise)


def check_one_step_sampler(key: str) -> None:
    """Refuse a sampler whose single step does not return the network's estimate of x0.

    Args:
        key: key of `refusion.sde.SAMPLERS`.

    Raises:
        ConfigError: there is no such sampler, or its last step is not the estimate of x0.
    """
    if not find_sampler(key).ends_at_x0:
        raise ConfigError(
            f"sampler: '{key}' does not end at the network's estimate of x0, which a model "
            "distilled to 1 step needs; use posterior"
        )


def is_stochastic(sde: IRSDE, sampling: SamplingConfig) -> bool:
    """Whether a model's result depends on the seed, with its default sampler and steps.

    Args:
        sde: process of the model.
        sampling: sampling section of its config.
    """
    sampler = find_sampler(sampling.sampler)
    adds_noise = sampler.is_random and (sampling.steps > 1 or not sampler.ends_at_x0)
    return adds_noise or sampling.start_noise * sde.initial_std(sampling.distilled_at) > 0


def _start(task: str, sde: IRSDE, conditions: Conditions) -> int | None:
    """Time at which the degraded photo is a state of the process; None for its end, T."""
    if not isinstance(sde, DenoisingSDE):
        return None
    if conditions.noise_std is None:
        raise ConfigError(
            f"noise level: the '{task}' model needs the noise level of the photo; "
            "give --noise-level, the standard deviation in 8-bit levels"
        )
    # A float32 value of a dataset may exceed the limit by a rounding error.
    if not 0 <= conditions.noise_std <= sde.lam * (1 + 1e-6):
        raise ConfigError(
            f"noise level: expected 0..{255 * sde.lam:g} 8-bit levels, the range of the model, "
            f"got {255 * conditions.noise_std:g}"
        )
    return sde.optimal_timestep(min(conditions.noise_std, sde.lam))
