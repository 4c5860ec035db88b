"""A lock, so that only one process at a time trains in a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from refusion.errors import ConfigError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock the folder of a run; the operating system releases the lock when the process ends.

    On systems without such locks (Windows, some network disks) the folder is not locked.

    Args:
        folder: the run folder; it must exist.

    Raises:
        ConfigError: another process has locked the folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder}: another process is training there; wait for it, or choose another name"
            ) from None
        except OSError:
            pass
        yield
