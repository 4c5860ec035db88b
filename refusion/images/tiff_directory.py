"""Directories of TIFF, BigTIFF and EXIF: copied as they are, whatever the types of their tags.

Only values move: the private notes of a camera maker are copied, but their absolute offsets are
not changed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from refusion.images.exif import POINTERS
from refusion.images.tiff_tags import NUMBER_SIZES, SIZES

_LONG, _LONG8 = 4, 16
_BIG_TIFF = 43
_MAX_BYTES = 1 << 24  # of all values together; a block of a camera has some hundred kilobytes


@dataclass(frozen=True)
class Value:
    """Value of a tag: its type, the number of values, and their bytes in the order of the file."""

    kind: int
    count: int
    content: bytes


Directory = dict[int, "Value | Directory"]
"""Values of a directory by tag; the value of a tag that refers to a directory is that directory."""


class DirectoryReader:
    """Reads directories of a TIFF or BigTIFF; each directory is read once.

    Args:
        file: opened for reading.

    Attributes:
        order: byte order, "<" or ">".
        start: offset of the first directory.
        removed: number of tags that could not be read.

    Raises:
        struct.error: the file is no TIFF.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left, self.visited = file, _MAX_BYTES, set()
        self.removed = 0
        head = self._read(0, 16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            raise struct.error("no TIFF header")
        self.order = order
        self.is_big = struct.unpack_from(order + "H", head, 2)[0] == _BIG_TIFF
        self.start = self._number(head, 8 if self.is_big else 4)

    def directory(
        self, start: int, name: int = 0, wanted: frozenset[int] | None = None
    ) -> Directory:
        """Read a directory and the directories inside it.

        Args:
            start: its offset.
            name: tag that holds the offset; 0 for the first directory.
            wanted: the tags to read; None reads all.
        """
        self.visited.add(start)
        number, layout = ("Q", "HHQ8s") if self.is_big else ("H", "HHI4s")
        head, step = (struct.calcsize(self.order + form) for form in (number, layout))
        count = struct.unpack(self.order + number, self._read(start, head))[0]
        found: Directory = {}
        for index in range(min(count, 0xFFFF)):
            entry = self._read(start + head + step * index, step)
            tag, kind, values, place = struct.unpack(self.order + layout, entry)
            if tag in found or (wanted is not None and tag not in wanted):
                continue
            is_pointer = tag in POINTERS[name]
            value = self._inner(place, tag) if is_pointer else self._content(kind, values, place)
            if value is None:
                self.removed += 1
            else:
                found[tag] = value
        return found

    def _inner(self, place: bytes, name: int) -> Directory | None:
        start = self._number(place, 0)
        if start in self.visited:
            return None
        try:
            return self.directory(start, name)
        except struct.error:
            return None

    def _content(self, kind: int, count: int, place: bytes) -> Value | None:
        if self.is_big and kind == _LONG8 and count == 1 and self._number(place, 0) <= 0xFFFFFFFF:
            return Value(_LONG, 1, struct.pack(self.order + "I", self._number(place, 0)))
        size = SIZES.get(kind, 0) * count
        if not size or size > self.left:
            return None
        self.left -= size
        try:
            content = self._read(self._number(place, 0), size) if size > len(place) else place
        except struct.error:
            return None
        return Value(kind, count, content[:size])

    def _number(self, data: bytes, at: int) -> int:
        return struct.unpack_from(self.order + ("Q" if self.is_big else "I"), data, at)[0]

    def _read(self, at: int, size: int) -> bytes:
        try:
            self.file.seek(at)
        except (OSError, ValueError, OverflowError) as error:
            raise struct.error("offset outside the file") from error
        data = self.file.read(size)
        if len(data) < size:
            raise struct.error("truncated")
        return data


def stored(directory: Directory, order: str, start: int, *, is_big: bool = False) -> bytes:
    """Bytes of a directory, with its values and the directories inside it.

    Args:
        directory: values in the byte order `order`.
        order: byte order, "<" or ">".
        start: offset of the result in the file.
        is_big: whether the file is a BigTIFF.
    """
    number, layout, inline = ("Q", "HHQ", 8) if is_big else ("H", "HHI", 4)
    offset, kind_of_offset = ("Q", _LONG8) if is_big else ("I", _LONG)
    head, contents = bytearray(struct.pack(order + number, len(directory))), bytearray()
    free = start + len(head) + len(directory) * (struct.calcsize("=" + layout) + inline) + inline
    for tag in sorted(directory):
        value, place = directory[tag], free + len(contents)
        if isinstance(value, Value):
            kind, count, content = value.kind, value.count, value.content
        else:
            kind, count = kind_of_offset, 1
            content = stored(value, order, place, is_big=is_big)
        head += struct.pack(order + layout, tag, kind, count)
        if isinstance(value, Value) and len(content) <= inline:
            head += content.ljust(inline, b"\0")
            continue
        head += struct.pack(order + offset, place)
        contents += content + bytes(len(content) % 2)
    return bytes(head + bytes(inline) + contents)


def swapped(directory: Directory) -> Directory:
    """The same directory in the other byte order."""
    result: Directory = {}
    for tag, value in directory.items():
        if isinstance(value, dict):
            result[tag] = swapped(value)
            continue
        size, content = NUMBER_SIZES.get(value.kind, 1), value.content
        parts = (content[at : at + size][::-1] for at in range(0, len(content), size))
        result[tag] = Value(value.kind, value.count, b"".join(parts) if size > 1 else content)
    return result
