"""Sampling of latents with the schedulers of diffusers: from noise to a clean latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from refusion.errors import ConfigError, suggest
from refusion.randomness import keyed_generator
from refusion.stable_diffusion.folder import StableDiffusion
from refusion.stable_diffusion.libraries import import_library

Predict = Callable[[Tensor, int], Tensor]
"""`(zt, t) -> output`: state (B, 4, h, w) and time to the network's output, float32, same shape."""

_SOLVER = {
    "algorithm_type": "dpmsolver++",
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
}
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # By default diffusers clips the samples to [-1, 1]; latents exceed that range.
    "ddpm": ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
    # DPM-Solver++ of order 1 equals DDIM (Lu et al., 2022) and takes any number of steps.
    "ddim": ("DPMSolverMultistepScheduler", _SOLVER | {"solver_order": 1}),
    "dpm++": ("DPMSolverMultistepScheduler", _SOLVER | {"solver_order": 2}),
}
SAMPLERS = tuple(_SCHEDULERS)
"""Names: spaced DDPM (Nichol and Dhariwal, 2021), DDIM, DPM-Solver++ of order 2."""
STEPS_KEY = 3  # key of the random stream for the noise of the steps
_NOISE = (
    "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "prediction_type", "rescale_betas_zero_snr",
)  # fmt: skip


def check_sampling(sampler: str, steps: int, T: int) -> None:
    """Check the name of the sampler and the number of steps.

    Args:
        sampler: key of `SAMPLERS`.
        steps: network evaluations.
        T: number of times of the noise schedule.

    Raises:
        ConfigError: the sampler is unknown, or `steps` is not in 1..T.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(f"sampler: unknown sampler '{sampler}'{suggest(sampler, SAMPLERS)}")
    if not 1 <= steps <= T:
        raise ConfigError(f"steps: expected 1 to {T}, got {steps}")


def spaced_times(steps: int, T: int) -> list[int]:
    """Times of spaced DDPM in descending order, evenly spaced from T - 1 to 0.

    Args:
        steps: number of times, 1..T; for 1 the only time is T - 1.
        T: number of times of the noise schedule.

    >>> spaced_times(50, 1000)[:3], spaced_times(50, 1000)[-3:], spaced_times(1, 1000)
    ([999, 979, 958], [41, 20, 0], [999])
    """
    if steps == 1:
        return [T - 1]
    return [round(number * (T - 1) / (steps - 1)) for number in reversed(range(steps))]


def sample(
    sd: StableDiffusion,
    predict: Predict,
    start: Tensor,
    *,
    sampler: str,
    steps: int,
    seeds: Sequence[int],
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run the reverse process from the state at the last time to a clean latent.

    Args:
        sd: model whose noise schedule is used.
        predict: the network; called once per step.
        start: state at t = T - 1, (B, 4, h, w) float32.
        sampler: key of `SAMPLERS`.
        steps: calls of `predict`, 1..T.
        seeds: one seed per image, for the noise that the steps add.
        callback: called after each step with `(done, steps)`.

    Returns:
        Clean latents (B, 4, h, w) float32.

    Raises:
        ConfigError: see `check_sampling`.
    """
    check_sampling(sampler, steps, sd.schedule.T)
    name, settings = _SCHEDULERS[sampler]
    noise = {key: sd.scheduler[key] for key in _NOISE if key in sd.scheduler}
    noise["num_train_timesteps"] = sd.schedule.T
    scheduler = getattr(import_library("diffusers", sd.folder), name)(**noise, **settings)
    if sampler == "ddpm":
        scheduler.set_timesteps(timesteps=spaced_times(steps, sd.schedule.T))
    else:
        scheduler.set_timesteps(steps)
    generators = [keyed_generator(seed % 2**63, STEPS_KEY) for seed in seeds]
    zt = start
    for done, t in enumerate(scheduler.timesteps.tolist(), start=1):
        output = predict(zt, t)
        zt = scheduler.step(output, t, zt, generator=generators).prev_sample
        if callback is not None:
            callback(done, steps)
    return zt
