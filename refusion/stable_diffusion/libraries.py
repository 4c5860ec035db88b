"""The optional libraries of the extra `sd`, imported only when something needs them, offline."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from refusion.errors import CheckpointError

INSTALL = "pip install 'refusion[sd]'"


def import_library(name: str, needed_by: str | Path, install: str = INSTALL) -> ModuleType:
    """Import `diffusers`, `transformers` or `peft` with downloads and progress bars off.

    Args:
        name: of the library.
        needed_by: what the error names, such as the folder to read.
        install: the command that installs it.

    Raises:
        CheckpointError: it is missing.
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
    """Content of a JSON file, empty where there is none or it is no dictionary.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from None
    return found if isinstance(found, dict) else {}
