"""One process at a time trains in a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from refusion.errors import ConfigError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; the system lets go of it when the process ends, however it ends.

    Where the system has no such locks (Windows, some network disks) nothing is held.

    Raises:
        ConfigError: another process holds it.
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
