"""`RunConfig`: the configuration of a training run, as in the YAML files of `options/`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from refusion.arguments import check_arguments
from refusion.config.model import (
    Net,
    Prediction,
    Sde,
    check_file_name,
    check_output,
    check_present,
    check_process,
)
from refusion.config.parser import Component, FromTable
from refusion.config.plugins import check_plugin_names
from refusion.config.regression import check_regression_stage
from refusion.config.sections import (
    DataConfig,
    DiffBIRConfig,
    DistillationConfig,
    LatentCheckpoint,
    OSEDiffConfig,
    SamplingConfig,
    TrainConfig,
    UpscaleConfig,
)
from refusion.errors import ConfigError
from refusion.hints import PathText

_DIFFUSION = ("network", "sde", "prediction", "objective", "sampling")
_Stage = Literal[
    "latent_unet", "diffusion", "joint", "one_step", "prior", "regression", "diffbir", "osediff"
]
_SECTIONS = {"one_step": "distillation", "diffbir": "diffbir", "osediff": "osediff"}
"""Stage -> the section that only this stage uses."""


@dataclass(frozen=True)
class RunConfig:
    """One training run."""

    name: str  # run folder runs/<name>
    task: str  # name of the task of the model: 'dehaze', ...
    stage: _Stage | Annotated[str, FromTable("stages")]
    data: DataConfig
    train: TrainConfig
    latent_unet: Net | LatentCheckpoint | None = None  # None in stage diffusion: pixels
    network: Net | None = None  # diffusion network; not in stage latent_unet
    sde: Sde | None = None  # max_sigma in 8-bit levels: 50 means 50/255
    prediction: Prediction | None = None
    objective: Annotated[Component, FromTable("objectives")] | None = None
    sampling: SamplingConfig | None = None  # used in validation and stored as the default
    upscale: UpscaleConfig | None = None  # super-resolution; not in stage latent_unet
    init: PathText | None = None  # checkpoint to start the weights from, such as a trained model
    distillation: DistillationConfig | None = None  # stage one_step only, and needed there
    diffbir: DiffBIRConfig | None = None  # stage diffbir only, and needed there
    osediff: OSEDiffConfig | None = None  # stage osediff only, and needed there
    plugins: tuple[str, ...] = ()  # modules with components of your own, my_package.my_nets

    def __post_init__(self) -> None:
        """Check the rules between sections."""
        check_arguments(RunConfig, vars(self))
        check_file_name("name", self.name)
        check_file_name("task", self.task)
        check_plugin_names(self.plugins)
        names = [dataset.name for dataset in self.data.validation]
        if len(set(names)) < len(names):
            raise ConfigError(f"data.validation: names must differ, got {', '.join(names)}")
        if self.data.batch_size % self.train.accumulate:
            raise ConfigError(
                f"train.accumulate: {self.train.accumulate} parts of equal size cannot be cut "
                f"from data.batch_size = {self.data.batch_size}"
            )
        _check_stage(self)


def _check_stage(run: RunConfig) -> None:
    """Check the rules between the stage and the sections.

    Raises:
        ConfigError: a section is missing, contradicts another one, or is not used by the stage.
    """
    for stage, section in _SECTIONS.items():
        if run.stage != stage and getattr(run, section) is not None:
            raise ConfigError(f"{section}: stage {run.stage} has no use for it; remove it")
    if run.stage not in get_args(_Stage):
        return  # a plug-in's stage checks the sections itself
    if run.train.rollout and run.stage not in ("diffusion", "joint"):
        raise ConfigError(f"train.rollout: stage {run.stage} has no use for it; remove it")
    if run.train.pair_share:
        _check_pairs(run)
    check_regression_stage(run.stage, run.network, vars(run))
    checks = {
        "latent_unet": _check_latent_unet,
        "regression": _check_no_cache,
        "one_step": _check_one_step,
        "diffbir": _check_stable_diffusion,
        "osediff": _check_stable_diffusion,
    }
    checks.get(run.stage, _check_diffusion)(run)


def _check_pairs(run: RunConfig) -> None:
    sde = run.sde and run.sde.type
    if run.stage != "diffusion" or sde != "DenoisingSDE" or run.latent_unet is not None:
        raise ConfigError(
            "train.pair_share: expected stage diffusion with sde.type DenoisingSDE on photos, got "
            f"stage {run.stage} with {sde}{' in a latent' if run.latent_unet else ''}; remove it"
        )


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
    """Check required sections, and that no section is set that the teacher determines."""
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
    """Check a stage whose section has the same name (`diffbir`, `osediff`)."""
    check_present(run.stage, getattr(run, run.stage), f"stage {run.stage}")
    others = (*_DIFFUSION, "upscale", "init", "latent_unet")
    _check_absent(run, others, "trains a Stable Diffusion")
    _check_no_cache(run)


def _check_diffusion(run: RunConfig) -> None:
    """Check stages `diffusion`, `joint` and `prior`."""
    if run.stage == "joint":
        check_present("latent_unet", run.latent_unet, "stage joint")
        _check_absent(run, ["objective"], "computes its loss on the restored image")
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
    check_output(run.prediction, run.network, run.latent_unet, run.upscale)
    if run.sampling.depth_scale != 1 and run.prediction != "scattering":
        raise ConfigError(
            f"sampling.depth_scale: prediction {run.prediction} has no use for it, only "
            "scattering; remove it"
        )


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
