"""Checks of a safetensors file before a library reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from refusion.errors import CheckpointError, printable
from refusion.files import open_regular
from refusion.tensor_files.pickles import MAX_FILE, is_pickle

_MAX_HEADER = 4 * 2**20  # bytes; that of a Stable Diffusion has 0.4 MiB


def is_safetensors(path: Path) -> bool:
    """Whether a file is a safetensors file, by its name or its first bytes.

    Raises:
        OSError: the name does not say it, and the file cannot be read or is a pipe or a device.
    """
    if path.suffix == ".safetensors":
        return True
    with open_regular(path) as file:
        return file.read(9)[8:] == b"{"


def check_safetensors(path: Path, of_pickle: str) -> None:
    """Refuse a file that is not safetensors, is cut, or is larger than any weights.

    Args:
        path: the file.
        of_pickle: what to do with a file of PyTorch, the end of an error message.

    Raises:
        CheckpointError: names the file and the reason.
    """
    try:
        with open_regular(path) as file:
            start, size = file.read(9), path.stat().st_size
    except FileNotFoundError:
        _fail(path, "no such weights file")
    except OSError as error:
        _fail(path, f"cannot be read: {error.strerror}")
    header = int.from_bytes(start[:8], "little")
    if start[8:] != b"{" or header > _MAX_HEADER:
        # Checked only here, because the length of a valid header can start with these bytes, too.
        if is_pickle(start):
            _fail(
                path,
                "is a PyTorch pickle (.pth, .pt, .ckpt), which can run code when loaded; "
                f"{of_pickle}",
            )
        _fail(path, f"is not a safetensors file (its header would be {header} bytes long)")
    if 8 + header > size:
        _fail(path, f"is truncated: {size} bytes, its header alone needs {8 + header}")
    if size > MAX_FILE:
        _fail(path, f"is {size} bytes long, expected a file of weights of at most {MAX_FILE}")


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{printable(path, 200)}: {message}") from None
