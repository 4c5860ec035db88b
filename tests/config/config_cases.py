"""A valid config over made-up components, and every edit that must be refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import yaml

from refusion.config import RunConfig, config_from_dict


class Net:
    def __init__(
        self,
        *,
        img_channel: int,
        blocks: Sequence[int] = (1, 2),
        wiring: str = "pixel",
        scale: float | None = None,
    ) -> None: ...


class Unet:
    def __init__(self, *, embed_dim: int = 8) -> None: ...


@dataclasses.dataclass(frozen=True)
class Sde:
    max_sigma: float
    T: int
    schedule: str = "cosine"


class Photos:
    def __init__(
        self,
        *,
        folders: Sequence[str | Path],
        patch: int = 64,
        seed: int = 0,
        scale_range: tuple[float, float] = (0.5, 1.0),
        haze: dict[str, float] | None = None,
    ) -> None: ...


class Pairs:
    def __init__(self, *, lq: str | Path, gt: str | Path) -> None: ...


def objective(sde: object, estimate: object, *, loss: str = "l1") -> None: ...


TABLES = {
    "stages": {},
    "nets": {"Net": Net, "Unet": Unet},
    "sdes": {"Sde": Sde},
    "predictions": ("noise", "x0_residual"),
    "objectives": {"x0": objective, "noise": objective},
    "samplers": {"euler": None, "posterior": None},
    "datasets": {"Photos": Photos, "Pairs": Pairs},
}

DIFFUSION = """
name: dehaze
task: dehaze
stage: diffusion
latent_unet: {checkpoint: runs/u/model.safetensors}
network: {type: Net, img_channel: 8, blocks: [1, 1, 8], wiring: latent}
sde: {type: Sde, max_sigma: 50, T: 100}
prediction: x0_residual
objective: {type: x0, loss: l1}
sampling: {sampler: posterior, steps: 4}
data:
  train: {type: Photos, folders: [clean], patch: 256, scale_range: [0.25, 1]}
  validation:
    - {name: a, type: Pairs, lq: lq, gt: gt}
  batch_size: 8
train:
  steps: 20000
  optimizer: {type: Lion, lr: 4.0e-5}
"""
DELETE = "(this key is left out)"


def changed(**edits: object) -> dict:
    """The valid config with `section__key=value` edits."""
    raw = yaml.safe_load(DIFFUSION)
    for key, value in edits.items():
        *parents, last = key.split("__")
        node = raw
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        if value == DELETE:
            del node[last]
        else:
            node[last] = value
    return raw


def read(raw: object) -> RunConfig:
    return config_from_dict(raw, "options/x.yml", TABLES.__getitem__)


NO_END = (
    "steps: the run has no end; set steps, a number of optimizer steps, or minutes, the wall time "
    "of the run, or both"
)
ERRORS = [
    # unknown keys and words
    ({"train__optimzer": {}}, "train.optimzer: unknown key; did you mean 'optimizer'?"),
    ({"nam": "x"}, "nam: unknown key; did you mean 'name'?"),
    ({"network__widht": 3},
     "network.widht: unknown key; expected one of: blocks, img_channel, scale, wiring"),
    ({"network__block": [1]}, "network.block: unknown key; did you mean 'blocks'?"),
    ({"network__type": "Nett"}, "network.type: unknown type 'Nett'; did you mean 'Net'?"),
    ({"sde__lam": 0.2}, "sde.lam: unknown key; expected one of: T, max_sigma, schedule"),
    ({"prediction": "nois"}, "prediction: unknown value 'nois'; did you mean 'noise'?"),
    ({"objective__los": "l1"}, "objective.los: unknown key; did you mean 'loss'?"),
    ({"objective__sde": 1}, "objective.sde: unknown key; expected one of: loss"),
    ({"sampling__depth_scale": 1.3},
     "sampling.depth_scale: prediction x0_residual has no use for it, only scattering; remove it"),
    ({"sampling__sampler": "eulr"},
     "sampling.sampler: unknown value 'eulr'; did you mean 'euler'?"),
    ({"stage": "difusion"}, "stage: unknown value 'difusion'; did you mean 'diffusion'?"),
    ({"train__precision": "fp61"}, "train.precision: unknown value 'fp61'; did you mean 'fp16'?"),
    ({"data__validation__0__ltq": "x"},
     "data.validation.0.ltq: unknown key; did you mean 'lq'?"),
    ({"data__train__seed": 3},  # the run's seed decides
     "data.train.seed: unknown key; expected one of: folders, haze, patch, scale_range"),
    ({"latent_unet": {"checkpont": "x"}},
     "latent_unet.checkpont: unknown key; did you mean 'checkpoint'?"),
    ({"train__3": 1}, "train.3: unknown key; expected one of: accumulate, best_metric, "
     "checkpoint_blocks, checkpoint_every, compile, ema_de ... ry, "  # cut
     "lr_schedule, minutes, optimizer, pair_share, precision, rollout, seed, steps, time_bias, "
     "validate_every"),
    # missing keys
    ({"task": DELETE}, "task: required key is missing"),
    ({"train__optimizer__lr": DELETE}, "train.optimizer.lr: required key is missing"),
    ({"network__type": DELETE}, "network.type: required key is missing"),
    ({"network__img_channel": DELETE}, "network.img_channel: required key is missing"),
    ({"sde__max_sigma": DELETE}, "sde.max_sigma: required key is missing"),
    ({"data__validation__0__name": DELETE}, "data.validation.0.name: required key is missing"),
    # wrong types
    ({"train__steps": True}, "train.steps: expected a whole number, got true"),
    ({"train__steps": 1.5}, "train.steps: expected a whole number, got 1.5"),
    ({"train__steps": "20k"}, "train.steps: expected a whole number, got the text '20k'"),
    ({"train__minutes": "9 min"}, "train.minutes: expected a number, got the text '9 min'"),
    ({"train__optimizer__lr": "1e-4"},
     "train.optimizer.lr: expected a number, got the text '1e-4'; write 1.0e-4"),
    ({"train__optimizer__lr": "-2.5e3"},
     "train.optimizer.lr: expected a number, got the text '-2.5e3'; write -2.5e+3"),
    ({"train__grad_clip": True}, "train.grad_clip: expected a number, got true"),
    ({"train__ema_decay": float("nan")}, "train.ema_decay: expected a finite number, got nan"),
    ({"name": 3}, "name: expected a text, got 3"),
    ({"data": [1]}, "data: expected a section of 'key: value' lines, got a list"),
    ({"data__train": "Photos"},
     "data.train: expected a section of 'key: value' lines, got the text 'Photos'"),
    ({"data__validation": 3}, "data.validation: expected a list, got 3"),
    ({"data__train__folders": "clean"},
     "data.train.folders: expected a list, got the text 'clean'"),
    ({"data__train__folders": [7]}, "data.train.folders.0: expected a text, got 7"),
    ({"data__train__scale_range": [1]},
     "data.train.scale_range: expected a list of 2 values, got 1"),
    ({"data__train__haze": {"density": "thick"}},
     "data.train.haze.density: expected a number, got the text 'thick'"),
    ({"network__blocks": [1, False]}, "network.blocks.1: expected a whole number, got false"),
    ({"network__scale": "x" * 99},
     f"network.scale: expected a number, got the text '{'x' * 36}..."),
    # bounds
    ({"train__steps": 0}, "train.steps: must be at least 1, got 0"),
    ({"train__minutes": 0}, "train.minutes: must be above 0 and at most 1e+06, got 0.0"),
    ({"train__minutes": 2e6}, "train.minutes: must be above 0 and at most 1e+06, got 2000000.0"),
    ({"train__optimizer__lr": 0}, "train.optimizer.lr: must be above 0 and at most 10, got 0.0"),
    ({"train__ema_decay": 2}, "train.ema_decay: must be at least 0 and at most 1, got 2.0"),
    ({"train__optimizer__betas": [0.9, -1]},
     "train.optimizer.betas.1: must be at least 0 and at most 0.999999, got -1.0"),
    # across fields
    ({"train__steps": None}, f"train.{NO_END}"),
    ({"train__steps": DELETE}, f"train.{NO_END}"),
    ({"train__steps": None, "train__minutes": 9,
      "train__lr_schedule": {"type": "multistep", "milestones": [5]}},
     "train.lr_schedule.milestones: they count steps, so type multistep needs train.steps; set "
     "steps, too, or use type cosine with train.minutes"),
    ({"sde__max_sigma": 0.2},
     "sde.max_sigma: 0.2 is below 1; write it in 8-bit levels, 51 for 0.2 of full scale"),
    ({"sampling__steps": 101}, "sampling.steps: 101 exceeds sde.T = 100"),
    ({"network": None}, "network: required by stage diffusion"),
    ({"sde": DELETE}, "sde: required by stage diffusion"),
    ({"latent_unet": {"type": "Unet"}}, "latent_unet: stage diffusion needs a trained U-Net; write "
     "'latent_unet: {checkpoint: runs/<name>/model.safetensors}', or null for pixels"),
    ({"stage": "latent_unet"}, "latent_unet.type: stage latent_unet needs it, e.g. LatentUNet"),
    ({"stage": "latent_unet", "latent_unet": {"type": "Unet"}},
     "network: stage latent_unet has no use for it; remove it"),
    ({"data__cached_latents": 5, "latent_unet": None},
     "data.cached_latents: there are no latents without a latent_unet"),
    ({"data__refresh_latents": 5},
     "data.refresh_latents: there are none without data.cached_latents"),
    ({"stage": "joint"},
     "objective: stage joint computes its loss on the restored image; remove it"),
    ({"stage": "joint", "latent_unet": None}, "latent_unet: required by stage joint"),
    ({"stage": "joint", "objective": DELETE, "data__cached_latents": 5},
     "data.cached_latents: only stage diffusion can train on latents"),
    ({"train__lr_schedule": {"warmup_steps": 20000}}, "train.lr_schedule.warmup_steps: 20000 "
     "warm-up steps do not fit in 20000 training steps"),
    ({"train__lr_schedule": {"eta_min": 0.1}},
     "train.lr_schedule.eta_min: 0.1 is above optimizer.lr = 4e-05"),
    ({"train__accumulate": 3},
     "train.accumulate: 3 parts of equal size cannot be cut from data.batch_size = 8"),
    ({"train__lr_schedule": {"type": "multistep"}}, "train.lr_schedule.milestones: type multistep "
     "needs them and no other type uses them"),
    ({"upscale": {"factor": 1}}, "upscale.factor: must be at least 2 and at most 16, got 1"),
    ({"name": "../x"}, "name: '../x' must be letters, digits, '_', '-' or '.', no folder"),
]  # fmt: skip
