"""Errors of one process that end the training in all processes, with one message."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch.distributed as dist

from refusion.devices.processes import World
from refusion.errors import RefusionError

# Messages of PyTorch: its data loader, and gloo and NCCL if another process has ended.
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(is killed by signal: [\w ]+|exited unexpectedly(?: with exit code \d+)?)"
)
_LOST = re.compile(r"closed by peer|connection reset|broken pipe|gloo", re.IGNORECASE)


class OtherProcessError(RefusionError):
    """Another process of the training failed; that process shows the message."""


@contextlib.contextmanager
def shared_failure(world: World) -> Iterator[None]:
    """Context that fails in all processes if it fails in one; all processes must enter it.

    Args:
        world: rank of this process and number of processes.

    Raises:
        OtherProcessError: another process failed, and shows the message.
        Exception: the error of this process, if it is the first one that failed.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    if world.size > 1 and world.any(failure is not None):
        first = world.gathered(failure is not None).index(True)
        if first != world.rank:
            raise OtherProcessError(f"process {first} failed; see its message")
    if failure is not None:
        raise failure


@contextlib.contextmanager
def lost_processes_explained(world: World) -> Iterator[None]:
    """Context that explains the errors of PyTorch about a process that was killed or has ended.

    Args:
        world: rank of this process and number of processes.

    Raises:
        RefusionError: a worker process of the data loader was killed, or there are too many open
            files for the workers.
        OtherProcessError: another process of the training has ended.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "Too many open files" in text:
            raise RefusionError(
                "data.workers: too many open files; allow more (ulimit -n), or lower data.workers"
            ) from None
        worker = _WORKER.search(text)
        if worker is not None:
            raise RefusionError(
                f"data.workers: worker process {worker[1]} {worker[2].strip()}; the last "
                "checkpoint is kept; if memory was not sufficient, lower data.workers, "
                "data.batch_size or patch; data.workers=0 shows where a plug-in fails"
            ) from None
        if world.size > 1 and (isinstance(error, dist.DistError) or _LOST.search(text)):
            raise OtherProcessError("another process of the training has ended") from None
        raise
