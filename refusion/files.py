"""Files that are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

_STALE_S = 600  # a part file nobody has written to for so long is of a process that was killed


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``path`` when the block ends without an error.

    The bytes are on the disk before the name is theirs, so a crash of the machine leaves the old
    file or the new one. After an error or an interrupt the old file is as it was. What killed
    processes have left beside it is removed.

    Args:
        path: the file; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    aside = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}.part")
    try:
        aside.touch()
        mode = aside.stat().st_mode  # as the umask has it; some writers are stricter
        yield aside
        aside.chmod(mode)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:  # an interrupt too must not leave the part file
        aside.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """How the names of a file's parts begin: short, for a name may be as long as a name can be."""
    return f".refusion-{zlib.crc32(os.fsencode(path.name)):08x}-"


def _remove_stale(path: Path) -> None:
    for part in path.parent.glob(f"{_prefix(path)}*.part"):
        with contextlib.suppress(OSError):  # another process may be as tidy
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 digest of a file, hexadecimal; reads a mebibyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
