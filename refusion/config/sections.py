"""The sections of an option file; each checks its own values. `run.RunConfig` contains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from refusion.config.parser import Component, FromTable, NamedComponent
from refusion.errors import ConfigError
from refusion.hints import (
    Bound,
    Count,
    NumberOfSteps,
    PathText,
    Pixels,
    Positive,
    Seed,
    Share,
    Whole,
)

_DATASET = FromTable("datasets", supplied=("seed",))
_Weight = Annotated[float, Bound(0, 1e6)]  # of a term of a loss
_Beta = Annotated[float, Bound(0, 0.999999)]


@dataclass(frozen=True)
class LatentCheckpoint:
    """A trained latent U-Net to diffuse in, as a file written by stage `latent_unet`."""

    checkpoint: PathText  # path, relative to the current folder


@dataclass(frozen=True)
class UpscaleConfig:
    """Super-resolution: the degraded photo is enlarged before the process, which keeps its size."""

    factor: Annotated[int, Bound(2, 16)]  # output pixels per input pixel and axis
    mode: Literal["bicubic", "nearest"] = "bicubic"


@dataclass(frozen=True)
class SamplingConfig:
    """Default sampling: how the reverse process is solved, unless the command line sets it."""

    sampler: Annotated[str, FromTable("samplers")]  # key of SAMPLERS, as sde-data-2@log_snr
    steps: NumberOfSteps  # network evaluations, 1..sde.T
    # Long side in pixels. For a longer photo the process runs on a copy of this size, and its
    # change is transferred to the photo or its latent. null: full size, as published.
    process_side: Pixels | None = None
    # Start time of a distilled model (stage one_step), which uses one step. null: starts at T.
    distilled_at: Count | None = None
    start_noise: Share = 1.0  # standard deviation of the start noise, share of the process's
    # Low and high threshold of |log(brightness of the result / that of the photo)|: a region above
    # the low one is changed only if a part of it is above the high one. null: all is changed.
    change_limits: Annotated[tuple[float, float], Bound(0, 10)] | None = None
    # How unlike a removed shadow a changed region may be, see `shadow_likeness`: up to the low
    # threshold it stays, above the high one it is undone. null: not judged.
    shadow_limits: Annotated[tuple[float, float], Bound(0, 10)] | None = None
    # Factor of the optical depth that the network predicts, for prediction scattering.
    depth_scale: Annotated[float, Bound(0.1, 10)] = 1.0

    RENAMED_KEYS: ClassVar = {"side": "process_side"}

    def __post_init__(self) -> None:
        """Check that a distilled model has one step, and that the limits ascend."""
        if self.distilled_at is not None and self.steps != 1:
            raise ConfigError(
                f"steps: a model distilled at time {self.distilled_at} takes 1 step, got "
                f"{self.steps}"
            )
        for name in ("change_limits", "shadow_limits"):
            limits = getattr(self, name)
            if limits is not None and not 0 < limits[0] < limits[1]:
                raise ConfigError(f"{name}: expected 0 < low < high, got {list(limits)}")
        if self.shadow_limits is not None and self.change_limits is None:
            raise ConfigError("shadow_limits: they need change_limits; add them or leave both out")


@dataclass(frozen=True)
class DataConfig:
    """Training and validation data."""

    train: Annotated[Component, _DATASET]  # key of DATASETS and its settings
    batch_size: Annotated[int, Bound(1, 2**16)]  # patches (or cached latents) per step
    validation: tuple[Annotated[NamedComponent, _DATASET], ...] = ()  # each with a name of its own
    workers: Annotated[int, Bound(0, 256)] = 1  # loader processes; 0 loads in the training process
    # Above 0: encode this many pairs once and train on their latents.
    cached_latents: Annotated[int, Bound(0, 10**7)] = 0
    refresh_latents: Count | None = None  # steps after which new pairs are encoded; null: never


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and its constants."""

    type: Literal["Lion", "AdamW", "Adam"]
    lr: Annotated[float, Bound(0, 10, above=True)]  # learning rate after warm-up, per step
    betas: tuple[_Beta, _Beta] = (0.9, 0.99)  # decay per step of the two moment estimates
    weight_decay: Annotated[float, Bound(0, 100)] = 0.0  # decoupled for Lion and AdamW


@dataclass(frozen=True)
class LrScheduleConfig:
    """Learning rate over the run, in steps; with train.minutes over the share of the time, too."""

    type: Literal["cosine", "multistep", "constant"] = "cosine"
    warmup_steps: Whole = 0  # linear rise from 0
    eta_min: Annotated[float, Bound(0, 10)] = 1e-7  # learning rate at the last step (cosine)
    # Steps after which the rate is multiplied (multistep); they need train.steps.
    milestones: tuple[Count, ...] = ()
    gamma: Annotated[float, Bound(0, 1, above=True)] = 0.5  # factor at each milestone

    def __post_init__(self) -> None:
        """Check that milestones are set for type multistep only, and that they increase."""
        if (self.type == "multistep") != bool(self.milestones):
            raise ConfigError("milestones: type multistep needs them and no other type uses them")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"milestones: must rise, got {list(self.milestones)}")


@dataclass(frozen=True)
class TrainConfig:
    """The optimization loop; it ends at `steps` or after `minutes`, whichever comes first.

    Intervals count optimizer steps.
    """

    # Optimizer steps of the whole run; null: the run ends after `minutes`.
    steps: Count | None = field(default=None, kw_only=True)
    # Wall time of the whole run with validation, saving and export; null: no limit.
    minutes: Annotated[float, Bound(0, 1e6, above=True)] | None = field(default=None, kw_only=True)
    optimizer: OptimizerConfig
    lr_schedule: LrScheduleConfig = LrScheduleConfig()
    ema_decay: Share = 0.999  # per update of the average; 0 keeps the raw weights
    ema_every: Count = 1  # steps between updates of the average
    grad_clip: Positive | None = 1.0  # largest norm of the whole gradient; null = off
    # Parts of a batch, computed in turn to save memory; same result.
    accumulate: Annotated[int, Bound(1, 2**16)] = 1
    # Gradient checkpointing: blocks are computed again in the backward pass, to save memory.
    checkpoint_blocks: bool = False
    compile: bool = False  # torch.compile; needs a C++ compiler on a CPU, minutes at the start
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where it is fast
    seed: Seed = 0  # of weights, data and noise
    # Times have density t^bias; > 0 helps few steps, < 0 the smaller times of a long grid.
    time_bias: Annotated[float, Bound(-0.9, 100)] = 0.0
    # Share of the samples whose state contains the model's own estimate at time T in place of the
    # clean image, as states do while restoring. Only stages diffusion and joint take it.
    rollout: Share = 0.0
    # Share of the samples whose state is the degraded photo itself, at the time with its estimated
    # noise level, as while restoring. Only for DenoisingSDE on photos.
    pair_share: Share = 0.0
    log_every: Count = 50
    # null: 1000; with `minutes` at each fifth of the time. The end of the run is validated, too.
    validate_every: Count | None = None
    checkpoint_every: Count | None = None  # null: 500; with `minutes` at each tenth of the time
    # Number of best validated weights to keep. With 2 or more they are also files in the folder
    # snapshots of the run, for `refusion average`.
    keep_best: Annotated[int, Bound(1, 100)] = 1
    # Metric of the first validation set that decides which weights are the best.
    best_metric: Literal["psnr", "ssim"] = "psnr"

    def __post_init__(self) -> None:
        """Check that the run has an end and that the learning rate can rise and fall within it."""
        if self.steps is None and self.minutes is None:
            raise ConfigError(
                "steps: the run has no end; set steps, a number of optimizer steps, or minutes, "
                "the wall time of the run, or both"
            )
        if self.minutes is None:
            object.__setattr__(self, "validate_every", self.validate_every or 1000)
            object.__setattr__(self, "checkpoint_every", self.checkpoint_every or 500)
        if self.steps is None and self.lr_schedule.type == "multistep":
            raise ConfigError(
                "lr_schedule.milestones: they count steps, so type multistep needs train.steps; "
                "set steps, too, or use type cosine with train.minutes"
            )
        if self.steps is not None and self.lr_schedule.warmup_steps >= self.steps:
            raise ConfigError(
                f"lr_schedule.warmup_steps: {self.lr_schedule.warmup_steps} warm-up steps do not "
                f"fit in {self.steps} training steps"
            )
        if self.lr_schedule.type == "cosine" and self.lr_schedule.eta_min > self.optimizer.lr:
            raise ConfigError(
                f"lr_schedule.eta_min: {self.lr_schedule.eta_min:g} is above "
                f"optimizer.lr = {self.optimizer.lr:g}"
            )


@dataclass(frozen=True)
class DistillationConfig:
    """Training of a student in stage one_step: its teacher and the weights of its loss terms."""

    teacher: PathText  # trained diffusion model: a path, or a task with shipped weights
    truth: _Weight = 1.0  # L1 to the ground truth, in the space of the process
    pixels: _Weight = 0.0  # L1 of the decoded photos to the ground truth; latent models only
    imitation: _Weight = 0.0  # L1 to the teacher, sampled with teacher_steps
    teacher_steps: NumberOfSteps = 10
    score: _Weight = 0.0  # variational score distillation; needs sampling.start_noise > 0
    critic_loss: Literal["l1", "l2"] = "l2"  # of the critic; l1 if the teacher was trained so

    def __post_init__(self) -> None:
        """Check that at least one loss term is used."""
        if self.truth + self.pixels + self.imitation + self.score == 0:
            raise ConfigError("truth: one of truth, pixels, imitation and score must be above 0")


@dataclass(frozen=True)
class LpipsConfig:
    """Files of LPIPS with VGG16; see `refusion.metrics.lpips`."""

    vgg: PathText  # vgg16-397923af.pth
    lin: PathText  # weights of its channels, version 0.1: vgg.pth


@dataclass(frozen=True)
class OSEDiffConfig:
    """Stage osediff: its models and the weights of its loss terms."""

    sd: PathText  # folder of Stable Diffusion 2.1 base in the layout of diffusers
    lpips: LpipsConfig | None  # null leaves the term out, as train.py --no-lpips does
    rank: Annotated[int, Bound(1, 1024)] = 4  # rank of all LoRA adapters
    prompt: str = ""  # prompt of every photo
    negative_prompt: str = ""  # negative prompt in the guidance of the frozen model
    # Guidance scale of the frozen model; 1 is no guidance.
    guidance: Annotated[float, Bound(0, 1000)] = 7.5
    pixels_weight: _Weight = 1.0  # mean square of the photos in [-1, 1]
    lpips_weight: _Weight = 2.0
    score_weight: _Weight = 1.0  # variational score distillation
    critic_weight: _Weight = 1.0  # the critic's own diffusion loss

    def __post_init__(self) -> None:
        """Check that a loss term is used, and that score and critic are used together."""
        lpips = self.lpips_weight if self.lpips is not None else 0
        if self.pixels_weight + lpips + self.score_weight == 0:
            raise ConfigError("pixels_weight: one of the weights, but critic_weight, must be > 0")
        if (self.score_weight > 0) != (self.critic_weight > 0):
            raise ConfigError("critic_weight: above 0 where score_weight is, and 0 where it is 0")


@dataclass(frozen=True)
class DiffBIRConfig:
    """Stage diffbir: training of DiffBIR's control branch for Stable Diffusion."""

    sd: PathText  # folder of Stable Diffusion 2.1 base in the layout of diffusers
    stage1: PathText | None  # model that removes the degradation: path, shipped task, or null
    control: PathText | None = None  # control branch to start from; null: the encoder of the U-Net
    prompt: str = ""  # of every photo
    prompt_dropout: Share = 0.5  # share of photos that get the empty prompt instead
    # In validation, with the defaults of --method diffbir.
    sampling_steps: Annotated[int, Bound(1, 1000)] = 50
    sampler: Literal["ddpm", "ddim", "dpm++"] = "ddpm"  # in validation
