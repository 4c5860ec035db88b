"""A photo file split into its coded pixels and its metadata, before anything is decoded."""

from __future__ import annotations

import io
import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from refusion.images.photo import Photo

MAX_BLOCK = 1 << 25
"""Length in bytes of the longest metadata block that is kept."""
MAX_BLOCKS = 4 * MAX_BLOCK
"""Length in bytes of all metadata blocks together that are kept."""
TOO_MUCH = f"metadata beyond {MAX_BLOCKS >> 20} MB"
"""Name of the other blocks for a warning."""

_PART = 1 << 16  # bytes of a file that are searched at once


@dataclass(frozen=True)
class Source:
    """A JPEG, PNG or WebP file.

    Attributes:
        photo: metadata as found in the file, still without samples.
        file: the whole file.
        pixels: first and last offset of the parts that a decoder of the pixels needs.
        head: bytes that stand before these parts.
        dropped: what the file contains and no result can keep, for one warning.
    """

    photo: Photo
    file: BinaryIO
    pixels: tuple[tuple[int, int], ...]
    dropped: tuple[str, ...] = ()
    head: bytes = b""

    def open(self) -> BinaryIO:
        """Open the parts with the pixels as one file, without the metadata."""
        parts = io.BufferedReader(_Parts(self.file, self.pixels))
        return io.BytesIO(self.head + parts.read()) if self.head else parts


class _Parts(io.RawIOBase):
    """Parts of a file, one behind the other, as a file."""

    def __init__(self, file: BinaryIO, parts: Sequence[tuple[int, int]]) -> None:
        self._file, self._at = file, 0
        self._parts = parts
        # Offset in this file of the end of each part.
        self._ends = list(accumulate(end - begin for begin, end in parts))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._ends[-1])[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        number = bisect(self._ends, self._at)
        if number == len(self._parts):
            return 0
        left = self._ends[number] - self._at
        self._file.seek(self._parts[number][1] - left)
        read = self._file.read(min(len(buffer), left))
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a warning, each once; names beyond `most` are counted.

    >>> listed(["film", "chunk tEXt", "film"])
    'film, chunk tEXt'
    """
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more


def joined(parts: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join parts that follow each other directly."""
    found: list[tuple[int, int]] = []
    for begin, end in parts:
        if found and found[-1][1] == begin:
            found[-1] = found[-1][0], end
        else:
            found.append((begin, end))
    return tuple(found)


def search(file: BinaryIO, at: int, pattern: re.Pattern[bytes]) -> tuple[int, bytes] | None:
    """Find the first match of a pattern in a file, which is read in parts.

    Args:
        file: opened for reading.
        at: offset where the search begins.
        pattern: its matches have 2 to 8 bytes.

    Returns:
        Offset and content of the match; None if there is none.
    """
    file.seek(at)
    last = b""
    while part := file.read(_PART):
        data = last + part
        if match := pattern.search(data):
            return at + match.start(), match[0]
        last = data[-7:]
        at += len(data) - len(last)
    return None


def trailing(file: BinaryIO, end: int) -> int:
    """Number of bytes behind the end of the image; 0 if all of them are zero."""
    file.seek(end)
    zeros = bytes(_PART)
    while part := file.read(_PART):
        if not zeros.startswith(part):
            return file.seek(0, 2) - end
    return 0
