"""What all sub-commands share: errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ParamSpec

from refusion.errors import RefusionError

Parameters = ParamSpec("Parameters")

EXIT_USER_ERROR = 2  # the code argparse uses for a wrong option: both are for the user to mend
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_UNREAD = 141  # 128 + SIGPIPE


def errors_to_exit_codes(run: Callable[Parameters, int]) -> Callable[Parameters, int]:
    """Wrap a command so that errors meant for the user end in one line on stderr, not a traceback.

    Args:
        run: function that returns an exit code.

    Returns:
        The same function, which answers a `RefusionError` with the line `refusion: error: ...` and
        exit code 2, and Ctrl-C with `refusion: interrupted` and 130. A reader of its output that
        has gone, as `head` does, ends it silently with 141. Any other exception is a fault of the
        program and keeps its traceback.
    """

    @functools.wraps(run)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> int:
        try:
            code = run(*args, **kwargs)
            sys.stdout.flush()  # what nobody reads is to be found out here
            return code
        except BrokenPipeError:
            # Python writes out what is left when it ends; that must not fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_UNREAD
        except RefusionError as error:
            # A message may quote a parser that answers in several lines; scripts read one.
            sys.stderr.write(f"refusion: error: {' '.join(str(error).split())}\n")
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            sys.stderr.write("refusion: interrupted\n")
            return EXIT_INTERRUPTED

    return wrapper


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Have SIGTERM (a job scheduler, torchrun) and SIGHUP (a closed terminal) do what Ctrl-C does.

    Where somebody has seen to them before, as nohup does, they are left alone.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():  # only there may handlers be set
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
