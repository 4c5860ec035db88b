"""What all commands share: errors become one line and an exit code, output is safe to show."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, ParamSpec

from refusion import __version__
from refusion.cli.option_hints import option_hint
from refusion.cli.uninterrupted import uninterrupted_imports
from refusion.errors import RefusionError, one_line, printable
from refusion.memory import MINIMUM, address_space

Parameters = ParamSpec("Parameters")

EXIT_USER_ERROR = 2  # the same code as argparse uses for a wrong option
EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
_NEGATIVE_NUMBER = re.compile(r"-(\d+|\d*\.\d+)%?$")  # values of options, also percent


def errors_to_exit_codes(run: Callable[Parameters, int]) -> Callable[Parameters, int]:
    """Wrap a command so that every exception ends with one line on stderr and an exit code.

    An error that the user can fix (a `RefusionError`, an error of the operating system, too little
    memory) gives the line `refusion: error: ...` and exit code 2. Ctrl-C gives
    `refusion: interrupted` and 130. If the reader of the output, for example `head`, has closed the
    pipe, the command ends without a message and with 141. Any other exception is an error of the
    program or of a plug-in: one line and 70; if the environment variable REFUSION_DEBUG is 1, the
    traceback is shown before the line.

    Args:
        run: function that returns an exit code.

    Returns:
        The wrapped function.
    """

    @functools.wraps(run)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> int:
        _open_closed_streams()
        try:
            with uninterrupted_imports():
                code = run(*args, **kwargs)
            sys.stdout.flush()  # raises an error here if the pipe is closed or the disk is full
            return code
        except BrokenPipeError:
            code = EXIT_BROKEN_PIPE
        except KeyboardInterrupt:
            complain("interrupted")
            code = EXIT_INTERRUPTED
        except Exception as error:
            code = _report(error)
        _drop_unwritable_output()
        return code

    return wrapper


def _open_closed_streams() -> None:
    """Open the null device in the place of closed standard streams (`2>&-`).

    Otherwise the next file that is opened takes the number of the stream, and libraries write their
    warnings into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


class Parser(argparse.ArgumentParser):
    """A parser whose messages are one printable line; arguments can contain anything.

    Every parser has the option `--version`. With many options, `--help` shows the most important
    ones and `--help-all` shows all. An error is one line, without the usage.

    Args:
        settings: arguments of `argparse.ArgumentParser`.
        brief: keys of the options that `--help` shows; empty for all.
    """

    def __init__(self, *, brief: Collection[str] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.brief = frozenset(brief)
        self._negative_number_matcher = _NEGATIVE_NUMBER
        self.add_argument("--version", action="version", version=f"refusion {__version__}")
        if brief:
            self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show all options")

    def format_usage(self) -> str:
        """The usage; without the options that only `--help-all` shows."""
        with self._short():
            return super().format_usage()

    def format_help(self) -> str:
        """The help; without the options that only `--help-all` shows."""
        with self._short():
            return super().format_help()

    @contextlib.contextmanager
    def _short(self) -> Iterator[None]:
        hidden = [action for action in self._actions if self._is_hidden(action)]
        texts = [action.help for action in hidden]
        for action in hidden:
            action.help = argparse.SUPPRESS
        try:
            yield
        finally:
            for action, text in zip(hidden, texts, strict=True):
                action.help = text

    def _is_hidden(self, action: argparse.Action) -> bool:
        return bool(self.brief) and action.dest not in self.brief | {"help", "help_all"}

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse.ArgumentParser.parse_args`; a wrong name is reported before what lacks."""
        return self._checked(self.parse_known_args, args, namespace)

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse.ArgumentParser.parse_intermixed_args`."""
        return self._checked(self.parse_known_intermixed_args, args, namespace)

    def _checked(self, parse: Callable[..., Any], args: Any, namespace: Any) -> argparse.Namespace:
        """The options, if nothing else was given.

        A mistyped option often is the one that lacks, so unknown options are reported first. The
        values of unknown options look like arguments, and these are reported last.
        """
        with self._nothing_required():
            unknown = parse(args)[1]
        self._refuse([name for name in unknown if name.startswith("-")])
        options, unknown = parse(args, namespace)
        self._refuse(unknown)
        return options

    @contextlib.contextmanager
    def _nothing_required(self) -> Iterator[None]:
        required = [part for part in (*self._actions, *self._mutually_exclusive_groups)
                    if part.required]  # fmt: skip
        for part in required:
            part.required = False
        try:
            yield
        finally:
            for part in required:
                part.required = True

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            name = unknown[0].partition("=")[0]
            kind = "option" if name.startswith("-") else "argument"
            hint = option_hint(name, self._actions)
            if kind == "option" and os.path.lexists(unknown[0]):
                hint = f"; if you mean the file, write './{printable(unknown[0], 100)}'"
            self.error(f"unknown {kind} '{printable(name, 100)}'{hint}")

    def error(self, message: str) -> NoReturn:
        """Show the message in one line and end the program with the code of a wrong option."""
        text = one_line(message)
        see = "" if "--help" in text else f"; see {self.prog} --help"
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {text}{see}\n")


class _HelpAll(argparse.Action):
    """Shows all options and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        parser.brief = frozenset()
        parser.print_help()
        parser.exit()


def show(*lines: str) -> None:
    """Write lines to stdout, without characters that a terminal obeys or cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    text = "".join(f"{printable(line)}\n" for line in lines)
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def complain(*lines: str) -> None:
    """Write lines to stderr, if possible; the first begins with the name of the program."""
    text = "".join(f"{printable(line)}\n" for line in lines)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"refusion: {text}")


def _report(error: Exception) -> int:
    """Write the message of an exception to stderr; returns the exit code."""
    try:
        import traceback  # these are too slow for --help

        from refusion.failures import describe_failure, is_debugging

        failure = describe_failure(error)
        if is_debugging() and not isinstance(error, RefusionError):
            complain(*"".join(traceback.format_exception(error)).splitlines())
        complain(f"error: {failure.text}")
    except Exception:  # no memory for the message, or an exception whose text cannot be made
        complain(f"error: {type(error).__name__}")
        return EXIT_INTERNAL
    return EXIT_INTERNAL if failure.is_internal else EXIT_USER_ERROR


def _drop_unwritable_output() -> None:
    """At its end, Python flushes stdout again; with the null device this does not fail."""
    with contextlib.suppress(ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            number = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


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


def check_memory() -> None:
    """Check, before PyTorch is imported, that the process may take enough memory for that.

    With too little, libraries end the process without an exception while they are imported.

    Raises:
        MemoryError: the limit of the process (`ulimit -v`) is too small for every command.
    """
    limit = address_space()
    if limit is not None and limit < MINIMUM:
        raise MemoryError
