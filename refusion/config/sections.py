"""The sections of an option file; each checks its own values. `run.RunConfig` contains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from refusion.config.parser import Bound, Component, FromTable, NamedComponent
from refusion.errors import ConfigError

_DATASET = FromTable("datasets", supplied=("seed",))
_Count = Annotated[int, Bound(1)]
_Whole = Annotated[int, Bound(0)]
_Positive = Annotated[float, Bound(0, above=True)]
_NotNegative = Annotated[float, Bound(0)]
_Fraction = Annotated[float, Bound(0, 1)]


@dataclass(frozen=True)
class LatentCheckpoint:
    """A trained latent U-Net to diffuse in, as a file written by stage `latent_unet`."""

    checkpoint: str  # path, relative to the current folder


@dataclass(frozen=True)
class UpscaleConfig:
    """Super-resolution: the degraded photo is enlarged before the process, which keeps its size."""

    factor: Annotated[int, Bound(2, 16)]  # output pixels per input pixel and axis
    mode: Literal["bicubic", "nearest"] = "bicubic"


@dataclass(frozen=True)
class SamplingConfig:
    """Default sampling: how the reverse process is solved, unless the command line sets it."""

    sampler: Annotated[str, FromTable("samplers")]  # key of SAMPLERS, as sde-data-2@log_snr
    steps: _Count  # network evaluations, 1..sde.T
    # Long side in pixels. For a longer photo the process runs on a copy of this size, and its
    # change is transferred to the photo or its latent. null: full size, as published.
    process_side: _Count | None = None
    # Start time of a distilled model (stage one_step), which uses one step. null: starts at T.
    distilled_at: _Count | None = None
    start_noise: _Fraction = 1.0  # standard deviation of the start noise, share of the process's

    RENAMED_KEYS: ClassVar = {"side": "process_side"}

    def __post_init__(self) -> None:
        """Check that a distilled model has one step."""
        if self.distilled_at is not None and self.steps != 1:
            raise ConfigError(
                f"steps: a model distilled at time {self.distilled_at} takes 1 step, got "
                f"{self.steps}"
            )


@dataclass(frozen=True)
class DataConfig:
    """Training and validation data."""

    train: Annotated[Component, _DATASET]  # key of DATASETS and its settings
    batch_size: _Count  # patches (or cached latents) per step
    validation: tuple[Annotated[NamedComponent, _DATASET], ...] = ()  # each with a name of its own
    workers: _Whole = 1  # loader processes; 0 loads in the training process
    cached_latents: _Whole = 0  # > 0: encode this many pairs once and train on their latents
    refresh_latents: _Count | None = None  # steps after which new pairs are encoded; null: never


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and its constants."""

    type: Literal["Lion", "AdamW", "Adam"]
    lr: _Positive  # learning rate after warm-up, per step
    betas: tuple[_Fraction, _Fraction] = (0.9, 0.99)  # decay per step of the two moment estimates
    weight_decay: _NotNegative = 0.0  # decoupled for Lion and AdamW


@dataclass(frozen=True)
class LrScheduleConfig:
    """Learning rate over the run, in steps."""

    type: Literal["cosine", "multistep", "constant"] = "cosine"
    warmup_steps: _Whole = 0  # linear rise from 0
    eta_min: _NotNegative = 1e-7  # learning rate at the last step (cosine)
    milestones: tuple[_Count, ...] = ()  # steps after which the rate is multiplied (multistep)
    gamma: Annotated[float, Bound(0, 1, above=True)] = 0.5  # factor at each milestone

    def __post_init__(self) -> None:
        """Check that milestones are set for type multistep only, and that they increase."""
        if (self.type == "multistep") != bool(self.milestones):
            raise ConfigError("milestones: type multistep needs them and no other type uses them")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"milestones: must rise, got {list(self.milestones)}")


@dataclass(frozen=True)
class TrainConfig:
    """The optimization loop; intervals count optimizer steps."""

    steps: _Count  # optimizer steps of the whole run
    optimizer: OptimizerConfig
    lr_schedule: LrScheduleConfig = LrScheduleConfig()
    ema_decay: _Fraction = 0.999  # per update of the average; 0 keeps the raw weights
    ema_every: _Count = 1  # steps between updates of the average
    grad_clip: _Positive | None = 1.0  # largest norm of the whole gradient; null = off
    accumulate: _Count = 1  # parts of a batch, computed in turn to save memory; same result
    compile: bool = False  # torch.compile; needs a C++ compiler on a CPU, minutes at the start
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where it is fast
    seed: _Whole = 0  # of weights, data and noise
    time_bias: _NotNegative = 0.0  # times have density t^bias; > 0 helps few steps
    log_every: _Count = 50
    validate_every: _Count = 1000
    checkpoint_every: _Count = 500

    def __post_init__(self) -> None:
        """Check that the learning rate can rise and fall within the run."""
        if self.lr_schedule.warmup_steps >= self.steps:
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

    teacher: str  # trained diffusion model: a path, or a task with shipped weights
    truth: _NotNegative = 1.0  # L1 to the ground truth, in the space of the process
    pixels: _NotNegative = 0.0  # L1 of the decoded photos to the ground truth; latent models only
    imitation: _NotNegative = 0.0  # L1 to the teacher, sampled with teacher_steps
    teacher_steps: _Count = 10
    score: _NotNegative = 0.0  # variational score distillation; needs sampling.start_noise > 0
    critic_loss: Literal["l1", "l2"] = "l2"  # of the critic; l1 if the teacher was trained so

    def __post_init__(self) -> None:
        """Check that at least one loss term is used."""
        if self.truth + self.pixels + self.imitation + self.score == 0:
            raise ConfigError("truth: one of truth, pixels, imitation and score must be above 0")


@dataclass(frozen=True)
class LpipsConfig:
    """Files of LPIPS with VGG16; see `refusion.metrics.lpips`."""

    vgg: str  # vgg16-397923af.pth
    lin: str  # weights of its channels, version 0.1: vgg.pth


@dataclass(frozen=True)
class OSEDiffConfig:
    """Stage osediff: its models and the weights of its loss terms."""

    sd: str  # folder of Stable Diffusion 2.1 base in the layout of diffusers
    lpips: LpipsConfig | None  # null leaves the term out, as train.py --no-lpips does
    rank: Annotated[int, Bound(1, 1024)] = 4  # rank of all LoRA adapters
    prompt: str = ""  # prompt of every photo
    negative_prompt: str = ""  # negative prompt in the guidance of the frozen model
    guidance: _NotNegative = 7.5  # guidance scale of the frozen model; 1 is no guidance
    pixels_weight: _NotNegative = 1.0  # mean square of the photos in [-1, 1]
    lpips_weight: _NotNegative = 2.0
    score_weight: _NotNegative = 1.0  # variational score distillation
    critic_weight: _NotNegative = 1.0  # the critic's own diffusion loss

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

    sd: str  # folder of Stable Diffusion 2.1 base in the layout of diffusers
    stage1: str | None  # model that removes the degradation: path, shipped task, or null
    control: str | None = None  # control branch to start from; null: the encoder of the U-Net
    prompt: str = ""  # of every photo
    prompt_dropout: _Fraction = 0.5  # share of photos that get the empty prompt instead
    sampling_steps: _Count = 50  # in validation, with the defaults of --method diffbir
    sampler: Literal["ddpm", "ddim", "dpm++"] = "ddpm"  # in validation
