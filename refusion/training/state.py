"""Saving and loading of the state of a run between two steps, in one file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from refusion.config import RunConfig, config_from_dict, config_to_dict
from refusion.errors import CheckpointError
from refusion.files import atomic_write
from refusion.official.importing import open_tensors
from refusion.training.stages.base import Stage

PLAIN = ("step", "trained_s", "waited_s", "scores")  # counters and scores
# Keys whose values a resumed run must keep. Changes of other keys are logged.
_IDENTITY = ("task", "stage", "network", "sde", "prediction", "objective", "upscale")
_IDENTITY += ("distillation", "diffbir", "osediff")
_IDENTITY_INSIDE = ("data.batch_size", "train.seed", "train.optimizer.type")
_IDENTITY_INSIDE += ("sampling.distilled_at",)
_HARMLESS = ("name", "plugins", "latent_unet", "sampling", "init")
_HARMLESS += ("data.workers", "data.validation")
_HARMLESS_ENDS = ("_every", "compile", "accumulate")

logger = logging.getLogger(__name__)


def save_state(
    path: Path, parts: Mapping[str, Any], plain: Mapping[str, Any], config: RunConfig, encoder: str
) -> None:
    """Write the state; an interrupted write keeps the old file.

    Args:
        path: file to write.
        parts: objects with a `state_dict`, by name.
        plain: values of the keys `PLAIN`.
        config: config of the run.
        encoder: fingerprint of the latent U-Net whose latents the run uses.
    """
    stored = {name: part.state_dict() for name, part in parts.items()} | dict(plain)
    with atomic_write(path) as temporary:
        torch.save(stored | {"config": config_to_dict(config), "encoder": encoder}, temporary)


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
        device: device of the loaded tensors.

    Returns:
        Values of the keys `PLAIN`.

    Raises:
        CheckpointError: the file is damaged, or belongs to another version or another run.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        missing = {*parts, *PLAIN, "config", "encoder"} - state.keys()
        if missing:
            raise KeyError(f"without {', '.join(sorted(missing))}")
        saved = config_from_dict(state["config"], str(path), warns=False)
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be resumed from ({error}); remove the file to start again"
        ) from error
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
    for name, part in parts.items():
        if state[name] or name != "scaler":  # empty if the run was not in fp16
            part.load_state_dict(state[name])
    return {key: state[key] for key in PLAIN}


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
