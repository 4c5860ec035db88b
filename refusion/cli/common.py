"""Error handling of all commands: errors for the user become one line and an exit code."""

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

EXIT_USER_ERROR = 2  # the same code as argparse uses for a wrong option
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def errors_to_exit_codes(run: Callable[Parameters, int]) -> Callable[Parameters, int]:
    """Wrap a command so that errors for the user end with one line on stderr and an exit code.

    A `RefusionError` gives the line `refusion: error: ...` and exit code 2. Ctrl-C gives
    `refusion: interrupted` and 130. If the reader of the output, for example `head`, has closed the
    pipe, the command ends without a message and with 141. Any other exception is an error of the
    program and keeps its traceback.

    Args:
        run: function that returns an exit code.

    Returns:
        The wrapped function.
    """

    @functools.wraps(run)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> int:
        try:
            code = run(*args, **kwargs)
            sys.stdout.flush()  # raises BrokenPipeError here if the pipe is closed
            return code
        except BrokenPipeError:
            # At its end, Python flushes stdout again; with the null device this does not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_BROKEN_PIPE
        except RefusionError as error:
            # Messages of parsers can have several lines, but scripts expect one line.
            sys.stderr.write(f"refusion: error: {' '.join(str(error).split())}\n")
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            sys.stderr.write("refusion: interrupted\n")
            return EXIT_INTERRUPTED

    return wrapper


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM (job schedulers, torchrun) and SIGHUP (closed terminal) like Ctrl-C.

    A signal that already has a handler or is ignored, as under nohup, is not changed.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():  # handlers need it
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
