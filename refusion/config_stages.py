"""What each stage of training demands of a run: sections it needs, and none that it does not read.

Every check raises ConfigError, which names the key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from refusion.config_regression import check_regression_stage
from refusion.errors import ConfigError
from refusion.schema import Component
from refusion.sections import SamplingConfig

if TYPE_CHECKING:
    from refusion.config import RunConfig

_DIFFUSION = ("network", "sde", "prediction", "objective", "sampling")
_SECTIONS = {"one_step": "distillation", "diffbir": "diffbir", "osediff": "osediff"}
"""By stage the section that no other stage reads."""


def check_stage(run: RunConfig) -> None:
    """Check what the stage of a run demands of its sections.

    Raises:
        ConfigError: something is missing, contradicts or has no use.
    """
    for stage, section in _SECTIONS.items():
        if run.stage != stage and getattr(run, section) is not None:
            raise ConfigError(f"{section}: stage {run.stage} has no use for it; remove it")
    check_regression_stage(run.stage, run.network, vars(run))
    checks = {
        "latent_unet": _check_latent_unet,
        "regression": _check_no_cache,
        "one_step": _check_one_step,
        "diffbir": _check_stable_diffusion,
        "osediff": _check_stable_diffusion,
    }
    checks.get(run.stage, _check_diffusion)(run)


def check_present(key: str, value: object, who: str) -> None:
    """Refuse None for what `who` needs.

    Raises:
        ConfigError: it is None.
    """
    if value is None:
        raise ConfigError(f"{key}: required by {who}")


def check_process(sde: Component, sampling: SamplingConfig) -> None:
    """Check the noise level's unit, and that the process has as many steps as are walked.

    Raises:
        ConfigError: it is no noise level in 8-bit levels, or there are too many steps.
    """
    max_sigma, limit = sde.settings.get("max_sigma", math.nan), sde.settings.get("T", math.inf)
    if max_sigma < 1:
        raise ConfigError(
            f"sde.max_sigma: {max_sigma:g} is below 1; write it in 8-bit levels, "
            f"{max_sigma * 255:g} for {max_sigma:g} of full scale"
        )
    if sampling.steps > limit:
        raise ConfigError(f"sampling.steps: {sampling.steps} exceeds sde.T = {limit}")


def _check_absent(run: RunConfig, keys: Iterable[str], reason: str) -> None:
    unused = [key for key in keys if getattr(run, key) is not None]
    if unused:
        raise ConfigError(f"{unused[0]}: stage {run.stage} {reason}; remove it")


def _check_no_cache(run: RunConfig) -> None:
    if run.data.cached_latents:
        raise ConfigError("data.cached_latents: only stage diffusion can train on latents")


def _check_latent_unet(run: RunConfig) -> None:
    if not isinstance(run.latent_unet, Component):
        raise ConfigError("latent_unet.type: stage latent_unet needs it, e.g. LatentUNet")
    _check_absent(run, (*_DIFFUSION, "upscale"), "has no use for it")
    _check_no_cache(run)


def _check_one_step(run: RunConfig) -> None:
    """Check what is needed, and that nothing is said that the teacher decides."""
    for key in ("distillation", "sampling"):
        check_present(key, getattr(run, key), "stage one_step")
    decided = [key for key in _DIFFUSION if key != "sampling"]
    _check_absent(run, (*decided, "upscale", "init", "latent_unet"), "takes its teacher's")
    if run.sampling.steps != 1:
        raise ConfigError(f"sampling.steps: stage one_step trains 1, got {run.sampling.steps}")
    if run.distillation.score > 0 and run.sampling.start_noise == 0:
        raise ConfigError(
            "distillation.score: a student that starts without noise has one answer and "
            "cannot draw; set sampling.start_noise: 1.0, or score: 0"
        )


def _check_stable_diffusion(run: RunConfig) -> None:
    """Check a stage that is called like its section."""
    check_present(run.stage, getattr(run, run.stage), f"stage {run.stage}")
    others = (*_DIFFUSION, "upscale", "init", "latent_unet")
    _check_absent(run, others, "trains a Stable Diffusion")
    _check_no_cache(run)


def _check_diffusion(run: RunConfig) -> None:
    """Check stages `diffusion`, `joint` and `prior`."""
    if run.stage == "joint":
        check_present("latent_unet", run.latent_unet, "stage joint")
        _check_absent(run, ["objective"], "judges the restored picture")
        _check_no_cache(run)
    for key in _DIFFUSION:
        if (run.stage, key) != ("joint", "objective"):
            check_present(key, getattr(run, key), f"stage {run.stage}")
    _check_prior(run)
    if isinstance(run.latent_unet, Component):
        raise ConfigError(
            f"latent_unet: stage {run.stage} needs a trained U-Net; write "
            "'latent_unet: {checkpoint: runs/<name>/model.safetensors}', or null for pixels"
        )
    if run.data.cached_latents and run.latent_unet is None:
        raise ConfigError("data.cached_latents: there are no latents without a latent_unet")
    if run.data.refresh_latents and not run.data.cached_latents:
        raise ConfigError("data.refresh_latents: there are none without data.cached_latents")
    check_process(run.sde, run.sampling)


def _check_prior(run: RunConfig) -> None:
    is_prior, is_vp = run.stage == "prior", run.sde.type == "VPSDE"
    if is_prior != is_vp:
        raise ConfigError("sde.type: stage prior takes VPSDE, and no other stage does")
    if is_prior and (run.latent_unet is not None or run.upscale is not None):
        raise ConfigError("latent_unet, upscale: stage prior has no use for them; remove them")
    if is_prior and run.prediction != "noise":
        raise ConfigError("prediction: stage prior needs 'noise'")
    if is_prior and run.objective.type == "maximum_likelihood":
        raise ConfigError("objective.type: stage prior takes 'noise' or 'x0'")
