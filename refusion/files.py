"""Atomic writing of files: an interrupted program leaves the old file or the complete new one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

_STALE_S = 600  # seconds without a write after which a part file belongs to a killed process


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context that yields a temporary path, which is renamed to ``path`` if no error occurs.

    All bytes are on the disk before the file gets its name, so after a crash of the machine either
    the old or the complete new file exists. After an error or an interrupt the old file is
    unchanged. Temporary files that killed processes left for the same path are removed.

    Args:
        path: the file to write; its folder is created.

    Yields:
        Path of the temporary file, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # given by the umask; some writers set a stricter mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:  # also after an interrupt
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """Start of the names of the temporary files of a path.

    It contains a hash instead of the name, which may already have the maximum length of a name.
    """
    return f".refusion-{zlib.crc32(os.fsencode(path.name)):08x}-"


def _remove_stale(path: Path) -> None:
    for part in path.parent.glob(f"{_prefix(path)}*.part"):
        with contextlib.suppress(OSError):  # another process may have removed it
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 digest of a file, hexadecimal; reads a mebibyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
