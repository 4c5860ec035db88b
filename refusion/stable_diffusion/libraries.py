"""Imports the optional libraries of the extra `sd` when they are needed, with downloads off."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from refusion.errors import CheckpointError
from refusion.files import open_regular

_MAX_JSON = 2**20  # bytes; the largest file of a Stable Diffusion that is read here has 2 kB
INSTALL = "pip install 'diffusers>=0.40,<0.43' 'transformers>=5,<6' 'peft>=0.20'"


def import_library(name: str, needed_by: str | Path, install: str = INSTALL) -> ModuleType:
    """Import `diffusers`, `transformers` or `peft` with downloads and progress bars off.

    Args:
        name: name of the library.
        needed_by: folder or file that needs the library; the error message names it.
        install: command that installs the library; the error message shows it.

    Returns:
        The imported module.

    Raises:
        CheckpointError: the library is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        module = importlib.import_module(name)
        if name in ("diffusers", "transformers"):
            importlib.import_module(f"{name}.utils.logging").disable_progress_bar()
    except ImportError as error:
        raise CheckpointError(f"{needed_by}: needs {name} ({error}); {install}") from None
    return module


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON file.

    Args:
        path: the file.

    Returns:
        The top-level object; an empty dictionary if the file does not exist or its top level is
        not an object.

    Raises:
        CheckpointError: the file exists but is not readable JSON.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_JSON + 1)
        if len(content) > _MAX_JSON:
            raise ValueError(f"it has more than {_MAX_JSON} bytes")
        found = json.loads(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from None
    return found if isinstance(found, dict) else {}
