"""ONNX Runtime: starting a session with a file, and reading its description."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import CheckpointError, RefusionError, one_line
from refusion.files import check_regular

if TYPE_CHECKING:
    import onnxruntime

INSTALL = "the package onnxruntime is missing; install it with: pip install 'refusion[onnx]'"
FORMAT = 1
"""Version of the description in a file, its value `format`."""
_LARGEST = 2 * 2**30  # bytes: the format has no larger files
_FATAL = 4  # level of the log: errors become exceptions, which name the cause


def has_onnxruntime() -> bool:
    """Whether the package onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def start_session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Load an ONNX file.

    Args:
        path: the file; linked weights lie in its folder.
        threads: number of threads; None for one per core.

    Raises:
        RefusionError: the package onnxruntime is not installed.
        CheckpointError: the file is no ONNX file, is damaged, or its linked weights are missing.
        OSError: the path is not a regular file.
    """
    if not has_onnxruntime():
        raise RefusionError(INSTALL)
    import onnxruntime

    check_regular(path)
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path}: is larger than 2 GB, the largest size of an ONNX file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the package has an exception for each code of the library
        reason = one_line(error, 200)
        raise CheckpointError(f"{path}: cannot be loaded as an ONNX file ({reason})") from error


def read_description(path: Path, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """The description that `refusion export` wrote into a file.

    Args:
        path: the file, for messages.
        session: its session.

    Raises:
        CheckpointError: the file has no description, or one of another version.
    """
    texts = session.get_modelmeta().custom_metadata_map
    if "refusion" not in texts:
        raise CheckpointError(
            f"{path}: was not written by 'refusion export', so nothing says how to restore photos "
            "with it"
        )
    try:
        description = json.loads(texts["refusion"])
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: its description has another format; use the version of refusion that wrote "
            "it, or export the model again"
        )
    return description
