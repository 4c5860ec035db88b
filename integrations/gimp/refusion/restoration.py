"""Runs the command `refusion` for the plug-in; needs the standard library only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TASKS = {
    "dehaze": "Remove haze",
    "deshadow": "Remove shadows",
    "denoise": "Remove noise",
    "blind": "Remove noise, blur and JPEG artifacts",
}
"""Tasks of `refusion` and their names in the dialogue."""

_POLL_S = 0.1
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows
_LONGEST_LOG = 1_000_000  # bytes of messages that are searched


class RestorationError(Exception):
    """One line for the user: what failed, and what to do."""


@dataclass(frozen=True)
class Settings:
    """Values of the dialogue.

    Attributes:
        task: key of `TASKS`.
        strength: percent, 0 to 100.
        program: path of `refusion`, or its name if it is in a folder of PATH.
    """

    task: str = "dehaze"
    strength: float = 100.0
    program: str = "refusion"

    @property
    def layer_name(self) -> str:
        """Name of the new layer.

        >>> Settings("dehaze", 60.0).layer_name
        'refusion dehaze 60 %'
        """
        return f"refusion {self.task} {self.strength:g} %"

    def command_line(self, source: Path, target: Path) -> list[str]:
        """Arguments of the process, the program first.

        Args:
            source: file of the photo.
            target: file of the result.

        Raises:
            RestorationError: there is no such program or task, or the strength is out of range.
        """
        found = shutil.which(os.path.expanduser(self.program.strip()))  # noqa: PTH111
        if found is None:
            raise RestorationError(
                f"refusion: no program '{self.program}'; enter the path of the program 'refusion'"
            )
        if self.task not in TASKS:
            raise RestorationError(
                f"refusion: expected a task of {', '.join(TASKS)}, got '{self.task}'"
            )
        if not 0 <= self.strength <= 100:
            raise RestorationError(
                f"refusion: expected a strength of 0 to 100 percent, got {self.strength:g}"
            )
        percent = f"--strength={self.strength:g}%"
        return [found, self.task, percent, "--output", str(target), str(source)]


def temporary_folder() -> tempfile.TemporaryDirectory:
    """A folder for the files of one call, which is removed at the end of the `with` block."""
    return tempfile.TemporaryDirectory(prefix="refusion-")


def restore_file(
    arguments: Sequence[str], folder: Path, show: Callable[[float | None], None]
) -> None:
    """Run the command and wait for its end.

    A second process watches it. If the editor kills the plug-in, as Cancel does, this process
    ends the command and removes the folder.

    Args:
        arguments: from `Settings.command_line`.
        folder: temporary folder of this call; the messages of the command are written there.
        show: is called ten times per second with the completed share 0..1, or None if unknown.

    Raises:
        RestorationError: the command failed; the text is its last message.
    """
    log = folder / "messages.txt"
    with log.open("wb") as messages:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=messages,
            stderr=messages,
            creationflags=_NO_WINDOW,
        )
    try:
        while process.poll() is None:
            show(_share(_text(log)))
            time.sleep(_POLL_S)
    finally:
        process.stdin.close()
        process.wait()
    if process.returncode != 0:
        raise RestorationError(_message(_text(log), process.returncode))


def watch(folder: Path, arguments: Sequence[str]) -> int:
    """Run a command; end it and remove the folder if the standard input is closed before.

    Args:
        folder: temporary folder of the call.
        arguments: from `Settings.command_line`.

    Returns:
        The exit code of the command.
    """
    # refusion has a Python of its own, so it gets no settings of the editor's Python.
    variables = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, env=variables, creationflags=_NO_WINDOW
        )
    except OSError as error:
        sys.stderr.write(f"refusion: cannot start {arguments[0]}: {error.strerror}\n")
        return 1
    is_cancelled = threading.Event()

    def wait_for_caller() -> None:
        sys.stdin.read()
        is_cancelled.set()
        process.terminate()

    threading.Thread(target=wait_for_caller, daemon=True).start()
    code = process.wait()
    if is_cancelled.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _text(log: Path) -> str:
    """The messages so far."""
    return log.read_bytes()[-_LONGEST_LOG:].decode("utf-8", errors="replace")


def _share(text: str) -> float | None:
    """The last share that the messages name, 0..1.

    >>> _share("refusion: 1/1 a.tif, decode: 40 % of all photos, 9 s left")
    0.4
    """
    found = re.findall(r"(\d{1,3}) % of all photos", text)
    return int(found[-1]) / 100 if found else None


def _message(text: str, code: int) -> str:
    r"""The last line of the messages, which says what is wrong.

    >>> _message("usage: ...\nrefusion: error: a.tif: no such file\n", 2)
    'refusion: error: a.tif: no such file'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"refusion: ended with code {code} and no message"


if __name__ == "__main__":
    sys.exit(watch(Path(sys.argv[1]), sys.argv[2:]))
