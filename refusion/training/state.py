"""Saving and loading of the state of a run between two steps, in one file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from refusion.config import RunConfig, config_from_dict, config_to_dict
from refusion.errors import CheckpointError, one_line, printable
from refusion.files import atomic_write
from refusion.memory import is_out_of_memory
from refusion.official.importing import open_tensors
from refusion.tensor_files.pickles import load_pickle
from refusion.training.budget import COSTS
from refusion.training.stages.base import Stage

LARGEST = 200 * 10**9  # bytes of a state: four copies of the weights
LAST_STEP = 10**12
_NUMBER = "step"  # of the updates of a parameter, a tensor without dimensions
PLAIN = ("step", "trained_s", "waited_s", "scores")  # counters and scores
BUDGET_KEY, BEST_KEY = "budget", "best"  # see `Budget.state`, `BestWeights`; older files lack them
# Keys whose values a resumed run must keep. Changes of other keys are logged.
_IDENTITY = ("task", "stage", "network", "sde", "prediction", "objective", "upscale")
_IDENTITY += ("distillation", "diffbir", "osediff")
_IDENTITY_INSIDE = ("data.batch_size", "train.seed", "train.optimizer.type")
_IDENTITY_INSIDE += ("sampling.distilled_at",)
_HARMLESS = ("name", "plugins", "latent_unet", "sampling", "init")
_HARMLESS += ("data.workers", "data.validation")
_HARMLESS_ENDS = ("log_every", "validate_every", "checkpoint_every")
_HARMLESS_ENDS += ("compile", "accumulate", "checkpoint_blocks", "keep_best", "best_metric")

logger = logging.getLogger(__name__)


def save_state(
    path: Path, parts: Mapping[str, Any], plain: Mapping[str, Any], config: RunConfig, encoder: str
) -> None:
    """Write the state; an interrupted write keeps the old file.

    Args:
        path: file to write.
        parts: objects with a `state_dict`, by name.
        plain: values of the keys `PLAIN`, `BUDGET_KEY` and `BEST_KEY`.
        config: config of the run.
        encoder: fingerprint of the latent U-Net whose latents the run uses.

    Raises:
        CheckpointError: the file cannot be written.
    """
    stored = {name: part.state_dict() for name, part in parts.items()} | dict(plain)
    stored |= {"config": config_to_dict(config), "encoder": encoder}
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            torch.save(stored, file)
    except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError for a full disk
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or one_line(error, 200)
        raise CheckpointError(
            f"{path}: cannot be written ({reason}); the file of the last checkpoint is kept; free "
            "disk space or choose another --runs"
        ) from error


def load_state(
    path: Path, parts: Mapping[str, Any], config: RunConfig, encoder: str, device: torch.device
) -> dict[str, Any]:
    """Load a saved state into the parts of a run.

    Settings that differ from those of the saved run are logged.

    Args:
        path: file written by `save_state`.
        parts: objects with `load_state_dict`, by name; changed in place.
        config: config of the run.
        encoder: fingerprint of the latent U-Net whose latents the run uses.
        device: device of the loaded tensors; the file need not be trusted.

    Returns:
        Values of the keys `PLAIN`, and of `BUDGET_KEY` and `BEST_KEY` if the file has them.

    Raises:
        CheckpointError: the file is damaged, or belongs to another version or another run.
    """
    try:
        state = load_pickle(path, device, LARGEST)
        missing = {*parts, *PLAIN, "config", "encoder"} - state.keys()
        if missing:
            raise KeyError(f"without {', '.join(sorted(missing))}")
        _check_plain(state)
        saved = config_from_dict(state["config"], str(path), warns=False)
    except Exception as error:
        _refuse(path, error)
    before, now = (dict(_flat(config_to_dict(each))) for each in (saved, config))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    other = [key for key in changed if _is_identity(key)]
    other += ["latent_unet"] if state["encoder"] != encoder else []
    if other:
        raise CheckpointError(
            f"{path}: belongs to another run than the config describes ({', '.join(other)}); "
            "choose another name, or remove the run folder to start again"
        )
    changes = [f"{key} {before.get(key)} -> {now.get(key)}" for key in changed if _matters(key)]
    if changes:
        logger.warning("%s: continued with other settings: %s", config.name, "; ".join(changes))
    try:
        _check_moments(parts["optimizer"], state["optimizer"])
        for name, part in parts.items():
            if state[name] or name != "scaler":  # empty if the run was not in fp16
                part.load_state_dict(state[name])
    except Exception as error:
        _refuse(path, error)
    return {key: state[key] for key in (*PLAIN, BUDGET_KEY, BEST_KEY) if key in state}


def _refuse(path: Path, error: Exception) -> NoReturn:
    if is_out_of_memory(error):
        raise error
    reason = one_line(error, 300).removeprefix(f"{path}: ")
    raise CheckpointError(
        f"{path}: cannot be resumed from ({reason}); remove the file to start again"
    ) from error


def _check_plain(state: Mapping[str, Any]) -> None:
    """Check the counters and scores, which a damaged or forged file could hold in any type."""
    if type(state["step"]) is not int or not 0 <= state["step"] <= LAST_STEP:
        raise ValueError(f"step: expected a number of steps, got {printable(state['step'], 40)}")
    for key in ("trained_s", "waited_s"):
        if type(state[key]) not in (int, float) or not 0 <= state[key] < math.inf:
            raise ValueError(f"{key}: expected seconds, got {printable(state[key], 40)}")
    _check_numbers("scores", state["scores"])
    if BEST_KEY in state:
        _check_best(state[BEST_KEY])
    if BUDGET_KEY in state:
        _check_budget(state[BUDGET_KEY])


def _check_numbers(key: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and type(number) in (int, float) for name, number in value.items()
    ):
        raise ValueError(f"{key}: expected numbers by name")


def _check_best(value: Any) -> None:
    """Check the best validation so far, see `BestWeights`."""
    if not isinstance(value, Mapping) or value.keys() != {"score", "photos"}:
        raise ValueError(f"{BEST_KEY}: expected score and photos")
    if type(value["score"]) not in (int, float) or type(value["photos"]) is not str:
        raise ValueError(f"{BEST_KEY}: expected a number and a text")


def _check_budget(value: Any) -> None:
    """Check the time that a run has used and its measured durations, see `Budget.state`."""
    if not isinstance(value, Mapping) or value.keys() != {"seconds", "used_s", "costs", "photos"}:
        raise ValueError(f"{BUDGET_KEY}: expected seconds, used_s, costs and photos")
    for key in ("costs", "photos"):
        _check_numbers(f"{BUDGET_KEY}.{key}", value[key])
    if value["costs"].keys() != set(COSTS):
        raise ValueError(f"{BUDGET_KEY}.costs: expected {', '.join(COSTS)}")
    times = [value["used_s"], *value["costs"].values()]
    if not all(type(time) in (int, float) and 0 <= time < math.inf for time in times):
        raise ValueError(f"{BUDGET_KEY}: expected seconds")
    if not all(type(count) is int and count > 0 for count in value["photos"].values()):
        raise ValueError(f"{BUDGET_KEY}.photos: expected numbers of photos")


def _check_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Check that saved averages of gradients have the sizes of the parameters."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for number, values in saved["state"].items():
        size = parameters[number].shape
        for name, value in values.items():
            if not isinstance(value, Tensor):
                kind = type(value).__name__
                raise TypeError(f"optimizer: {printable(name, 40)} is a {kind}, expected a tensor")
            if value.shape != (() if name == _NUMBER else size):
                raise ValueError(
                    f"optimizer: {printable(name, 40)} has size {tuple(value.shape)}, expected "
                    f"{tuple(size)}"
                )


def start_from(path: str, stage: Stage) -> None:
    """Load the initial weights of a stage's module.

    Args:
        path: checkpoint of this project, or published weights (.pth).
        stage: stage whose module is changed in place.

    Raises:
        CheckpointError: the file cannot be read or contains other weights.
    """
    prefix = stage.prefix
    tensors = open_tensors(path)
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        stage.module.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CheckpointError(
            f"init: {path} does not contain the {prefix.rstrip('.') or 'networks'} that the config "
            f"describes ({first[:200]})"
        ) from None


def _flat(plain: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested sections; a list is one value."""
    if isinstance(plain, Mapping):
        for name, value in plain.items():
            yield from _flat(value, f"{key}.{name}" if key else name)
    else:
        yield key, plain


def _is_identity(key: str) -> bool:
    # In stage latent_unet this section describes the trained U-Net. In stage diffusion it is a
    # path, and the fingerprint of the weights is compared instead.
    is_unet = key.startswith("latent_unet.") and key != "latent_unet.checkpoint"
    return is_unet or key.split(".")[0] in _IDENTITY or key in _IDENTITY_INSIDE


def _matters(key: str) -> bool:
    return not key.startswith(_HARMLESS) and not key.endswith(_HARMLESS_ENDS)
