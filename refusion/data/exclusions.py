"""Lists of photos that a training leaves out, for example because they are hazy themselves."""

from __future__ import annotations

from pathlib import Path

from refusion.config.scalars import short
from refusion.errors import ConfigError
from refusion.files import open_regular

_MAX_BYTES = 2**24


def read_exclusions(path: str | Path) -> frozenset[str]:
    """File names in a text file: one per line; a line that starts with '#' is a comment.

    Args:
        path: UTF-8 text, at most 16 MiB.

    Raises:
        ConfigError: the file cannot be read, is too large or is not text, or a line is a path.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"exclude: {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"exclude: {path}: expected UTF-8 text, a file name per line") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"exclude: {path}: is larger than {_MAX_BYTES >> 20} MiB")
    lines = (line.strip() for line in text.splitlines())
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    if paths := [name for name in names if "/" in name]:  # would never match
        raise ConfigError(f"exclude: {path}: expected file names, got the path {short(min(paths))}")
    return names
