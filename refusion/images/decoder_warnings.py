"""Hides warnings of decoders about damage that they tolerate."""

from __future__ import annotations

import contextlib
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
