"""How much memory a process may take, and the errors that mean it was not sufficient.

Imports no other library, because the import of a library can be what fails.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from refusion.errors import ConfigError, RefusionError, one_line

MINIMUM = 800 * 2**20
"""Bytes of address space that the import of PyTorch takes at least; with less it can abort."""

_PROCESS = 400 * 2**20  # bytes of a process with a model and no photo, if it cannot be measured
_CGROUP = Path("/sys/fs/cgroup")
_FILES = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2 and 1 of control groups
# Texts of PyTorch, oneDNN, the C++ library, Python, codecs and the loader of libraries.
_TEXTS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "can't start new thread",
    "failed to map segment",
    "status_alloc_failed",  # of cuBLAS and cuDNN
)
_ADVICE = (
    "allow more, or use less: a smaller --tile, --max-memory or photo to restore, a smaller "
    "batch_size or patch to train"
)
_GPU = re.compile(r"GPU \d+ has a total capacity of .*? is free")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, means that memory was not sufficient."""
    seen: set[int] = set()  # a cause can have the error as its cause
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if _means_out_of_memory(each):
            return True
        seen.add(id(each))
        each = each.__cause__
    return False


def _means_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    # The messages of these name files, whose names can be anything.
    if isinstance(error, RefusionError) or getattr(error, "errno", None) is not None:
        return False
    text = str(error).lower()
    return any(part in text for part in _TEXTS)


def out_of_memory_text(error: BaseException) -> str:
    """One line for the user: what failed, how much memory there is, and what helps.

    Args:
        error: an error for which `is_out_of_memory` is true.
    """
    text = one_line(error, 400) if isinstance(error, RefusionError) else "not enough memory"
    if _ADVICE in text:
        return text
    gpu = _GPU.search(str(error))
    found = [gpu[0]] if gpu else [f"{size / 2**30:.1f} GB {what}" for what, size in _limits()]
    there = f" ({', '.join(found)})" if found else ""
    return f"{text}{there}; {_ADVICE}"


def process_bytes() -> int:
    """Memory of the process at this moment, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:  # this file exists only on Linux
        return _PROCESS


def parse_memory(text: str, name: str = "memory") -> int:
    """Convert a size as users write it to bytes.

    Args:
        text: a number, optionally followed by K, M, G or T (powers of 1024), then optionally B or
            iB; for example 800M or 1.5GiB.
        name: what the error names, such as the option.

    Returns:
        Bytes, >= 1.

    Raises:
        ConfigError: `text` is not a size, or the size is 0.

    >>> parse_memory("1.5G") == 3 * 2**29
    True
    """
    match = re.fullmatch(
        r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE
    )
    size = 0 if match is None else int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper()))
    if size < 1:
        raise ConfigError(f"{name}: expected a size such as 800M or 4G, got {text!r}")
    return size


def address_space() -> int | None:
    """Largest number of bytes that the process may map (`ulimit -v`); None for no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def largest_available() -> float:
    """Bytes that the process can have at most; infinite if the system does not say."""
    return min((size for _, size in _limits()), default=math.inf)


def _limits() -> Iterator[tuple[str, int]]:
    """Limits that exist: their description, and bytes."""
    limit = address_space()
    if limit is not None:
        yield "is the limit of the process, see ulimit -v", limit
    for name in _FILES:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            group = int((_CGROUP / name).read_text())
            if group < 2**60:  # version 1 writes a huge number for no limit
                yield "is the limit of the container", group
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        text = Path("/proc/meminfo").read_text()
        available = re.search(r"MemAvailable:\s*(\d+) kB", text)
        yield "are free on the machine", int(available[1]) * 1024
