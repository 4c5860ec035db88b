"""The folder of a run: its files are the run's own, never links to other files."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml
from torch.utils.tensorboard import SummaryWriter

from refusion.config import RunConfig, config_to_dict
from refusion.errors import ConfigError
from refusion.files import atomic_write, check_no_link, check_regular, open_for_append

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
LOCK, CONFIG, BOARD = ".lock", "config.yml", "tensorboard"
MODEL, BEST, STATE = "model.safetensors", "best.safetensors", "state.pt"
LATENTS, SNAPSHOTS = "latents.safetensors", "snapshots"
_REPLACED = (CONFIG, MODEL, BEST)
_MARKS = (LOCK, STATE, BOARD)  # a folder with one of them is that of a run
_NAMES = (LOCK, CONFIG, BOARD, MODEL, BEST, STATE, LATENTS, SNAPSHOTS)


def make_run_folder(folder: Path) -> None:
    """Create the folder of a run if it does not exist, and check the files in it.

    The folder itself may be a link, for example to another disk.

    Raises:
        ConfigError: the folder cannot be created; a name that a run uses belongs to a link or to
            another kind of file; or the folder is not that of a run and has files of these names.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--runs: cannot create the folder '{folder}': {error.strerror}"
        ) from error
    try:
        for path in (folder / name for name in _NAMES):
            check_no_link(path)
            if path.name not in (BOARD, SNAPSHOTS) and os.path.lexists(path):
                check_regular(path)
            elif path.exists() and not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "is a file, expected a folder", str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    there = [name for name in _REPLACED if (folder / name).exists()]
    if there and not any((folder / name).exists() for name in _MARKS):
        raise ConfigError(
            f"{folder}: has {' and '.join(there)} of something else, which would be replaced; "
            "choose another name or --runs, or move them away"
        )


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock the folder of a run; the operating system releases the lock when the process ends.

    On systems without such locks (Windows, some network disks) the folder is not locked.

    Args:
        folder: the run folder; it must exist.

    Raises:
        ConfigError: another process has locked the folder, or the lock file cannot be opened.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = open_for_append(folder / LOCK)
    except OSError as error:
        raise ConfigError(f"{folder / LOCK}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder}: another process is training there; wait for it, or choose another name"
            ) from None
        except OSError:
            pass
        yield


def config_text(config: RunConfig) -> str:
    """The config of a run as YAML, with all defaults."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False)


def write_config(folder: Path, config: RunConfig) -> None:
    """Write `config_text` to the folder of a run."""
    with atomic_write(folder / CONFIG) as temporary:
        temporary.write_text(config_text(config), encoding="utf-8")


@contextlib.contextmanager
def open_board(folder: Path, step: int) -> Iterator[SummaryWriter]:
    """Open the TensorBoard files of a run, without what was written after a step.

    TensorBoard writes in a thread. An error there, such as a full disk, is raised by the next call.
    """
    before = threading.excepthook

    def hook(error: threading.ExceptHookArgs) -> None:
        if not isinstance(error.exc_value, OSError):
            before(error)

    threading.excepthook = hook
    try:
        with SummaryWriter(folder / BOARD, purge_step=step + 1) as board:
            yield board
    except OSError as error:
        if error.filename is None and error.errno in _DISK:  # those of the thread name no file
            raise OSError(error.errno, error.strerror, str(folder / BOARD)) from error
        raise
    finally:
        threading.excepthook = before
