"""Lines about a search of folders for photos that takes longer than a moment."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from refusion.errors import printable

Searching = Callable[[Path, int, int], None]
"""Called during a search as `(folder, folders, photos)`: the folder that is searched, and the
numbers of sub-folders and of photos that were found so far."""

FIRST_S, EVERY_S = 2.0, 10.0  # seconds until the first line, and between two lines


class SearchLines:
    """A `Searching` that writes lines to stderr.

    Args:
        advice: end of each line, such as an option that makes the search shorter.
    """

    def __init__(self, advice: str = "") -> None:
        self._advice = advice
        self._due = time.monotonic() + FIRST_S

    def __call__(self, folder: Path, folders: int, photos: int) -> None:
        """Write a line if the last one is old enough."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_S
        text = f"searching {printable(folder, 200)}: {photos} photos in {folders} folders so far"
        with contextlib.suppress(OSError, ValueError):  # a full disk must not stop the search
            sys.stderr.write(f"refusion: {text}; Ctrl-C ends this{self._advice}\n")
            sys.stderr.flush()
