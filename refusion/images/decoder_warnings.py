"""Hides what decoders say about damage: warnings, and lines that a C library writes itself."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator

_SOURCES = r"(PIL|tifffile|imagecodecs|numpy|refusion\.images)(\.|$)"


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Context without the warnings that Pillow, tifffile and NumPy give while they read a file.

    The filters of Python's warnings belong to the whole process, and contexts of two threads could
    leave a wrong filter behind. So only the main thread changes them; in another thread the context
    does nothing. A program that reads photos in other threads enters it in the main thread, too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=_SOURCES)
        yield


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Context in which a C library cannot write to the error output of the process.

    LibRaw writes a line there about each damaged file, which then raises an error as well. The
    error output belongs to the whole process, so in another thread than the main one the context
    does nothing.
    """
    try:
        saved = os.dup(2) if threading.current_thread() is threading.main_thread() else None
    except OSError:  # the process has no error output
        saved = None
    if saved is None:
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
