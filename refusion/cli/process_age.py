"""Seconds between the start of this process and the start of its command."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence

from refusion.files import open_regular

STATUS = "/proc/self/stat"
"""File of Linux with the start of this process; other systems have none."""
_START = 19  # field of the start in clock ticks since boot, after the name of the program
_BYTES = 4096  # the file has one short line


def process_age(argv: Sequence[str]) -> float:
    """Seconds since this process was started, if it was started for a command.

    Args:
        argv: arguments of the command. If the command line of the process does not end with them,
            the command was called by a longer program, such as a notebook, whose age does not
            count.

    Returns:
        Seconds; 0 if another program called the command, or if the system does not say.
    """
    own = list(argv)
    if not own or sys.argv[1:][-len(own) :] != own:
        return 0.0
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        return age_of(STATUS)
    return 0.0


def age_of(status: str, now: Callable[[], float] | None = None) -> float:
    """Seconds since the start of a process of Linux.

    Args:
        status: file in the format of /proc/PID/stat, see proc(5).
        now: function that returns the seconds since boot, with the time in standby; None for the
            clock of the system.

    Raises:
        AttributeError, IndexError, OSError, ValueError: the system has no such file or clock.
    """
    with open_regular(status) as file:
        fields = file.read(_BYTES).rpartition(b")")[2].split()  # a name can contain spaces
    started = int(fields[_START]) / os.sysconf("SC_CLK_TCK")
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME) if now is None else now()
    return max(0.0, seconds - started)
