"""The state of a run between two steps, in one file: all that has a memory."""

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

PLAIN = ("step", "trained_s", "waited_s", "scores")  # values a run goes on counting from
# What makes a run another run; changing anything else between two starts is told, not refused.
_IDENTITY = ("task", "stage", "network", "sde", "prediction", "objective", "upscale")
_IDENTITY += ("distillation", "diffbir", "osediff")
_IDENTITY_INSIDE = ("data.batch_size", "train.seed", "train.optimizer.type")
_IDENTITY_INSIDE += ("sampling.distilled_at",)
_HARMLESS = ("name", "latent_unet", "sampling", "init", "data.workers", "data.validation")
_HARMLESS_ENDS = ("_every", "compile", "accumulate")

logger = logging.getLogger(__name__)


def save_state(
    path: Path, parts: Mapping[str, Any], plain: Mapping[str, Any], config: RunConfig, encoder: str
) -> None:
    """Write the state whole or not at all.

    Args:
        path: file to write.
        parts: by name, what has a `state_dict`.
        plain: the values of `PLAIN`.
        config: the run.
        encoder: fingerprint of the latent U-Net the run diffuses in.
    """
    kept = {name: part.state_dict() for name, part in parts.items()} | dict(plain)
    with atomic_write(path) as aside:
        torch.save(kept | {"config": config_to_dict(config), "encoder": encoder}, aside)


def load_state(
    path: Path, parts: Mapping[str, Any], config: RunConfig, encoder: str, device: torch.device
) -> dict[str, Any]:
    """Fill the parts of a run with a saved state; returns the values of `PLAIN`.

    Settings that differ from those the state was saved under are logged.

    Raises:
        CheckpointError: the file is damaged, of another version, or of another run.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        missing = {*parts, *PLAIN, "config", "encoder"} - state.keys()
        if missing:
            raise KeyError(f"without {', '.join(sorted(missing))}")
        saved = config_from_dict(state["config"], str(path), warns=False)
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be resumed from ({error}); remove it to start anew"
        ) from error
    before, now = (dict(_flat(config_to_dict(each))) for each in (saved, config))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    other = [key for key in changed if _is_identity(key)]
    other += ["latent_unet"] if state["encoder"] != encoder else []
    if other:
        raise CheckpointError(
            f"{path}: belongs to another run than the config describes ({', '.join(other)}); "
            "choose another name, or remove the run folder to start anew"
        )
    changes = [f"{key} {before.get(key)} -> {now.get(key)}" for key in changed if _matters(key)]
    if changes:
        logger.warning("%s: continued with other settings: %s", config.name, "; ".join(changes))
    for name, part in parts.items():
        if state[name] or name != "scaler":  # empty: not saved in fp16
            part.load_state_dict(state[name])
    return {key: state[key] for key in PLAIN}


def start_from(path: str, stage: Stage) -> None:
    """Fill a stage's module with the weights of a checkpoint, ours or the authors'.

    Raises:
        CheckpointError: the file cannot be read or holds other weights.
    """
    prefix = stage.prefix
    tensors = open_tensors(path)
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        stage.module.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CheckpointError(
            f"init: {path} does not hold the {prefix.rstrip('.') or 'networks'} that the config "
            f"describes ({first[:200]})"
        ) from None


def _flat(plain: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of nested sections, lists as single values."""
    if isinstance(plain, Mapping):
        for name, value in plain.items():
            yield from _flat(value, f"{key}.{name}" if key else name)
    else:
        yield key, plain


def _is_identity(key: str) -> bool:
    # The U-Net of stage latent_unet; in stage diffusion the key is a path, and its weights count.
    is_unet = key.startswith("latent_unet.") and key != "latent_unet.checkpoint"
    return is_unet or key.split(".")[0] in _IDENTITY or key in _IDENTITY_INSIDE


def _matters(key: str) -> bool:
    return not key.startswith(_HARMLESS) and not key.endswith(_HARMLESS_ENDS)
