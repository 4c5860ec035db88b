"""Keep freed memory for the next tile instead of returning it to the operating system.

Each layer allocates and frees maps of tens of megabytes. By default the C library returns such
blocks to the system at once, and the system fills new blocks with zeros for the next layer. This
takes a fifth of the processor time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Constants of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULT_MMAP_MAX = 65536
_LARGE = 2**25  # bytes; maximum to which the C library increases its thresholds by itself


@contextmanager
def reuse_freed_memory() -> Iterator[None]:
    """Context in which the process keeps the memory that it frees; at the end it returns all of it.

    This has an effect only with the GNU C library, and there for all threads of the process.
    """
    library = _library()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)  # no separate mappings for large blocks
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
        library.malloc_trim(0)


def keep_freed_memory() -> None:
    """Let this process keep the blocks below 32 MiB that it frees, up to 256 MiB in all.

    For processes that make training data, with many arrays of the size of a patch. As above, this
    has an effect only with the GNU C library, for all threads of the process.
    """
    if (library := _library()) is not None:
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, 8 * _LARGE)


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows does not support CDLL(None)
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
