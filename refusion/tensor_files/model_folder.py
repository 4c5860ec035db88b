"""A folder that holds a model in the layout of the Hugging Face Hub.

`model.safetensors` holds the tensors, `config.json` the model section of an option file as JSON,
and `README.md`, which may be missing, the model card. Libraries of the hub write and read the same
files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refusion.errors import CheckpointError, one_line, printable
from refusion.files import open_regular

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_MAX_CONFIG = 2**20  # bytes; that of the largest shipped model has 1100


def is_model_folder(path: Path) -> bool:
    """Whether a path is a folder with a file of the name `WEIGHTS`."""
    return (path / WEIGHTS).is_file()


def check_model_folder(path: Path) -> None:
    """Refuse a folder without the two files of a model.

    Args:
        path: an existing folder.

    Raises:
        CheckpointError: names the missing files.
    """
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).exists()]
    if missing:
        raise CheckpointError(
            f"{printable(path, 200)}: is a folder without {' and '.join(missing)}; expected a "
            f".safetensors file, or a folder with {CONFIG} and {WEIGHTS}"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """Content of `config.json` of a folder from an unknown source, not checked further.

    Args:
        folder: an existing folder.

    Raises:
        CheckpointError: a file is missing, or `config.json` cannot be read, is larger than any
            config or is not a JSON object.
    """
    check_model_folder(folder)
    path = folder / CONFIG
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_CONFIG + 1)
        if len(content) > _MAX_CONFIG:
            raise ValueError(f"more than {_MAX_CONFIG} bytes")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except OSError as error:
        reason = error.strerror or one_line(error, 100)
        raise CheckpointError(f"{printable(path, 200)}: cannot be read: {reason}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{printable(path, 200)}: expected a JSON object with the config of a model "
            f"({one_line(error, 100)}); copy the folder again"
        ) from None
    return found
