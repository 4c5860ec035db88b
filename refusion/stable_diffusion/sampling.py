"""Walking a latent from noise to an image with the schedulers of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from refusion.errors import ConfigError, suggest
from refusion.randomness import keyed_generator
from refusion.stable_diffusion.folder import StableDiffusion
from refusion.stable_diffusion.libraries import import_library

Predict = Callable[[Tensor, int], Tensor]
"""`(zt, t) -> output` of the network, float32 (B, 4, h, w)."""

_SOLVER = {
    "algorithm_type": "dpmsolver++",
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
}
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # diffusers would clip latents to [-1, 1] by default.
    "ddpm": ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
    # DPM-Solver++ of order 1 is DDIM (Lu et al., 2022), here at any number of steps.
    "ddim": ("DPMSolverMultistepScheduler", _SOLVER | {"solver_order": 1}),
    "dpm++": ("DPMSolverMultistepScheduler", _SOLVER | {"solver_order": 2}),
}
SAMPLERS = tuple(_SCHEDULERS)
"""Spaced DDPM (Nichol and Dhariwal, 2021), DDIM, DPM-Solver++ of order 2."""
STEPS_KEY = 3  # keeps the noise of the steps apart from other random streams
_NOISE = (
    "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "prediction_type", "rescale_betas_zero_snr",
)  # fmt: skip


def check_sampling(sampler: str, steps: int, T: int) -> None:
    """Refuse what cannot be walked.

    Raises:
        ConfigError: an unknown sampler, or steps out of 1..T.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(f"sampler: unknown sampler '{sampler}'{suggest(sampler, SAMPLERS)}")
    if not 1 <= steps <= T:
        raise ConfigError(f"steps: expected 1 to {T}, got {steps}")


def spaced_times(steps: int, T: int) -> list[int]:
    """Times of spaced DDPM, falling: the first and the last of all, and others evenly between.

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
    """SamplingPlan from the state at the last time to a clean latent.

    Args:
        sd: whose noise it is.
        predict: called once per step.
        start: state at t = T - 1, (B, 4, h, w) float32.
        sampler: key of `SAMPLERS`.
        steps: calls of `predict`, 1..T.
        seeds: of the noise of each image's steps.
        callback: told `(done, steps)`.

    Returns:
        Latents (B, 4, h, w) float32.

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
