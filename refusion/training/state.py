"""The state of a run between two steps, in one file: all that has a memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from refusion.errors import CheckpointError
from refusion.files import written_whole

KEYS = ("module", "ema", "optimizer", "scaler")  # what `state_dict` and `load_state_dict` know
PLAIN = ("step", "trained_s", "waited_s", "scores")


def save_state(path: Path, state: dict[str, Any], fingerprint: dict[str, Any]) -> None:
    """Write the state whole or not at all.

    Args:
        path: file to write.
        state: of `KEYS` what has a `state_dict`, of `PLAIN` the values.
        fingerprint: what must not change between a run and its continuation.
    """
    kept = {key: state[key].state_dict() for key in KEYS} | {key: state[key] for key in PLAIN}
    with written_whole(path) as aside:
        torch.save(kept | {"config": fingerprint}, aside)


def load_state(
    path: Path, parts: dict[str, Any], fingerprint: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """Fill the parts of a run with a saved state; returns the values of `PLAIN`.

    Raises:
        CheckpointError: the file is damaged, of another version, or of another model.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        missing = {*KEYS, *PLAIN, "config"} - state.keys()
        if missing:
            raise KeyError(f"without {', '.join(sorted(missing))}")
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be resumed from ({error}); remove it to start anew"
        ) from error
    changed = [key for key, value in fingerprint.items() if state["config"].get(key) != value]
    if changed:
        raise CheckpointError(
            f"{path}: belongs to another model than the config describes ({', '.join(changed)}); "
            "choose another name, or remove the run folder to start anew"
        )
    for key, part in parts.items():
        part.load_state_dict(state[key])
    return {key: state[key] for key in PLAIN}
