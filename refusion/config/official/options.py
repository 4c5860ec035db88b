"""Translation of official option files for training to the option files of this package.

The translation follows the official code where it differs from the file: `MultiStepLR` always
halves the learning rate and ignores `lr_gamma`, and the weights of latent U-Nets and of the bokeh
network are not averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refusion.config.official.datasets import evaluation_set, training_set
from refusion.config.official.model import official_model
from refusion.config.official.section import Section
from refusion.errors import suggest

_OPTIMIZERS = ("Adam", "AdamW", "Lion")
_SCHEDULES = ("MultiStepLR", "TrueCosineAnnealingLR")
_EMA = {"ema_decay": 0.995, "ema_every": 10}
_RAW_WEIGHTS = {"ema_decay": 0.0, "ema_every": 1}


def is_official(raw: object) -> bool:
    """Whether the content of a YAML file is an option file of the official code."""
    return isinstance(raw, Mapping) and "network_G" in raw and "datasets" in raw


def official_run(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Translate an official option file for training.

    Args:
        raw: content of the file.
        source: path of the file, for messages; its folder determines the task.

    Returns:
        Keys of `RunConfig`, as in the YAML files of this package.

    Raises:
        ConfigError: the file is for testing, a key is missing, or a value is not supported.
    """
    file = Section(source, raw)
    if "train" not in raw or "train" not in file.section("datasets").values:
        file.fail("train", "missing: this file is for testing; use it with the test command")
    model = official_model(raw, source)
    run = {
        # Official files for different tasks have the same name; a run folder is for one task.
        "name": f"{model['task']}_{file.need('name')}".replace(" ", "_"),
        "stage": "diffusion" if "network" in model else "latent_unet",
        **model,
        "data": _data(file, model["task"]),
        "train": _train(file, model),
    }
    _paths(file, run)
    if "network" in model:
        loss = {"loss": file.section("train").get("loss_type", "l1")}
        run["objective"] = {"type": "maximum_likelihood", **loss}
    return run


def _data(file: Section, task: str) -> dict[str, Any]:
    datasets = file.section("datasets")
    train = datasets.section("train")
    validation = [name for name in datasets.values if name != "train"]
    return {
        "train": training_set(file, "train", task),
        "validation": [evaluation_set(file, name, task) for name in validation],
        "batch_size": train.whole("batch_size"),
        "workers": train.whole("n_workers", 0),
    }


def _train(file: Section, model: Mapping[str, Any]) -> dict[str, Any]:
    train, log = file.section("train"), file.section("logger")
    averaged = "network" in model and not model["network"].get("lens")
    _warn_of_ignored(train)
    return {
        "steps": train.whole("niter"),
        "optimizer": _optimizer(train),
        "lr_schedule": _schedule(train),
        **(_EMA if averaged else _RAW_WEIGHTS),
        "grad_clip": None,
        "precision": "fp32",
        "seed": train.whole("manual_seed", 0),
        "log_every": log.whole("print_freq", 100),
        "validate_every": train.whole("val_freq", 5000),
        "checkpoint_every": log.whole("save_checkpoint_freq", 5000),
    }


def _optimizer(train: Section) -> dict[str, Any]:
    kind = train.word("optimizer", "Adam")
    if kind not in _OPTIMIZERS:
        train.fail("optimizer", f"unknown optimizer {kind!r}{suggest(kind, _OPTIMIZERS)}")
    return {
        "type": kind,
        "lr": train.number("lr_G"),
        "betas": [train.number("beta1", 0.9), train.number("beta2", 0.99)],
        "weight_decay": train.number("weight_decay_G", 0.0),
    }


def _schedule(train: Section) -> dict[str, Any]:
    kind = train.word("lr_scheme")
    warmup = max(0, train.whole("warmup_iter", 0))  # -1 means no warm-up in official files
    if kind == "TrueCosineAnnealingLR":
        eta_min = train.number("eta_min", 0.0)
        return {"type": "cosine", "eta_min": eta_min, "warmup_steps": warmup}
    if kind == "MultiStepLR":
        milestones = train.whole_list("lr_steps")
        return {"type": "multistep", "milestones": milestones, "gamma": 0.5, "warmup_steps": warmup}
    train.fail("lr_scheme", f"unknown schedule {kind!r}{suggest(kind, _SCHEDULES)}")


def _paths(file: Section, run: dict[str, Any]) -> None:
    """Add the initial weights and the trained latent U-Net to the run."""
    path = file.section("path")
    if path.get("pretrain_model_G"):
        run["init"] = path.get("pretrain_model_G")
    if "latent_unet" in run and "network" in run:
        run["latent_unet"] = {"checkpoint": path.need("pretrain_model_L")}
    if path.get("resume_state"):
        path.warn("resume_state", "ignored; a run resumes automatically from its last checkpoint")


def _warn_of_ignored(train: Section) -> None:
    """Warn about keys that are ignored although the official code reads them."""
    if train.number("lr_gamma", 0.5) != 0.5:
        train.warn("lr_gamma", "ignored, as in the official code, which always uses 0.5")
    if train.get("is_weighted"):
        train.warn("is_weighted", "ignored; all times have equal weight")
    if train.number("weight", 1.0) != 1.0:
        train.warn("weight", "ignored; the loss is not scaled")
    if train.get("restarts"):
        train.warn("restarts", "ignored; the learning rate does not restart")
