"""Programs with time limits: each one runs in its own group of processes, which ends as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.rows import STARTED
from refusion.errors import printable
from refusion.files import open_regular

TAIL = 12  # lines of a log in the report
_TAIL_BYTES = 2**16
_POLL = 0.05  # seconds


@dataclass(frozen=True)
class Part:
    """A program to run.

    Attributes:
        name: name of the part and of its log; letters, digits and underscores.
        command: program and arguments.
        seconds: time after which the program is killed.
        environment: variables in addition to those of this process.
        grace: seconds before the end of `seconds` at which the program gets SIGTERM; a training
            then saves its weights.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: float = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        name: name of the part.
        state: 'passed', or what went wrong in a few words.
        seconds: how long it ran.
        log: file of its output; None if it did not run.
    """

    name: str
    state: str
    seconds: float = 0.0
    log: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether the program ended in time with exit code 0."""
        return self.state == "passed"

    def tail(self) -> list[str]:
        """The last lines of the log."""
        return [] if self.log is None else last_lines(self.log)


def last_lines(path: Path, count: int = TAIL) -> list[str]:
    """The last lines of a text file, without control characters; progress bars count as lines."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read().decode(errors="replace").replace("\r", "\n")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return [printable(line, 400) for line in lines[-count:]]
    return []


def run_parts(
    parts: Sequence[Part],
    folder: Path,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Run parts side by side until each has ended; none of them can take longer than its time.

    Args:
        parts: the programs, all of which start now.
        folder: folder of the logs; it must exist.
        clock: function that returns seconds.

    Returns:
        One outcome per part, in their order. A program that cannot be started is one of them.
    """
    running = [_Running(part, folder, clock) for part in parts]
    try:
        while sum(not each.is_over() for each in running):  # asks all of them
            time.sleep(_POLL)
    finally:  # also after Ctrl-C
        for each in running:
            if each.ended is None:
                each.kill(signal.SIGKILL)
    return [each.outcome() for each in running]


class _Running:
    """A part that was started."""

    def __init__(self, part: Part, folder: Path, clock: Callable[[], float]) -> None:
        self.part, self.clock, self.log = part, clock, folder / f"{part.name}.log"
        self.begun, self.ended = clock(), None
        self.is_warned, self.is_late, self.error = False, False, None
        self.process: subprocess.Popen | None = None
        try:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    part.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | part.environment | {STARTED: str(time.monotonic())},
                    start_new_session=True,  # a group of its own, for `kill`
                )
        except OSError as error:
            self.error = f"did not start ({error.strerror})"

    def is_over(self) -> bool:
        """Whether the program has ended; ends a program whose time is up."""
        if self.process is None or self.ended is not None:
            return True
        used = self.clock() - self.begun
        if self.process.poll() is not None:
            self.ended = used
            self.kill(signal.SIGKILL)  # processes that it left behind
            return True
        if used >= self.part.seconds:
            self.kill(signal.SIGKILL)
            self.is_late = True
        elif used >= self.part.seconds - self.part.grace and not self.is_warned:
            self.kill(signal.SIGTERM)
            self.is_warned = self.is_late = True
        return False

    def kill(self, number: int) -> None:
        """Send a signal to the program and to all processes that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def outcome(self) -> Outcome:
        if self.process is None:
            return Outcome(self.part.name, self.error or "did not start")
        seconds = self.clock() - self.begun if self.ended is None else self.ended
        return Outcome(self.part.name, self._state(seconds), seconds, self.log)

    def _state(self, seconds: float) -> str:
        code = self.process.wait()
        if self.is_late:
            return f"stopped after {seconds:.0f} s, its time was up"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return "passed" if code == 0 else f"failed with exit code {code}"
