"""Copies the directories of TIFF files and EXIF blocks into new, smaller EXIF blocks.

Only values move: the private notes of a camera maker are copied, but their absolute offsets are
not changed. So an EXIF block of a JPEG is copied only if it is too long for its new place.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags

from refusion.images.exif import COMMENT, POINTERS, SIZES, TITLE

_LONG, _LONG8 = 4, 16
_BIG_TIFF = 43
_MAX_BYTES = 1 << 24  # of all values together; a block of a camera has some hundred kilobytes
# Tags of the first TIFF directory that describe the photo; all others describe the file layout.
_PHOTO_TAGS = frozenset(
    (
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.Orientation,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.Copyright,
        ExifTags.Base.Rating,
        ExifTags.Base.RatingPercent,
        ExifTags.IFD.Exif,
        ExifTags.IFD.GPSInfo,
        TITLE,
        COMMENT,
        *range(COMMENT + 1, COMMENT + 4),  # XPAuthor, XPKeywords, XPSubject
    )
)


@dataclass(frozen=True)
class _Value:
    kind: int
    count: int
    content: bytes


_Directory = dict[int, "_Value | _Directory"]


class _Reader:
    """Reads directories of a TIFF or BigTIFF; each directory is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left, self.visited = file, _MAX_BYTES, set()
        self.removed = 0  # entries that could not be read
        head = self._read(0, 16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            raise struct.error("no TIFF header")
        self.order = order
        self.is_big = struct.unpack_from(order + "H", head, 2)[0] == _BIG_TIFF
        self.start = self._number(head, 8 if self.is_big else 4)

    def directory(
        self, start: int, name: int = 0, wanted: frozenset[int] | None = None
    ) -> _Directory:
        """Read a directory and the directories inside it.

        Args:
            start: its offset.
            name: tag that holds the offset; 0 for the first directory.
            wanted: the tags to read; None reads all.
        """
        self.visited.add(start)
        head, layout = (8, "HHQ8s") if self.is_big else (2, "HHI4s")
        step = struct.calcsize(self.order + layout)
        count = struct.unpack(self.order + ("Q" if self.is_big else "H"), self._read(start, head))[
            0
        ]
        found: _Directory = {}
        for index in range(min(count, 0xFFFF)):
            entry = self._read(start + head + step * index, step)
            tag, kind, values, place = struct.unpack(self.order + layout, entry)
            if tag in found or (wanted is not None and tag not in wanted):
                continue
            is_pointer = tag in POINTERS[name]
            value = self._inner(place, tag) if is_pointer else self._value(kind, values, place)
            if value is None:
                self.removed += 1
            else:
                found[tag] = value
        return found

    def _inner(self, place: bytes, name: int) -> _Directory | None:
        start = self._number(place, 0)
        if start in self.visited:
            return None
        try:
            return self.directory(start, name)
        except struct.error:
            return None

    def _value(self, kind: int, count: int, place: bytes) -> _Value | None:
        if kind == _LONG8 and count == 1 and self._number(place, 0) <= 0xFFFFFFFF:
            return _Value(_LONG, 1, struct.pack(self.order + "I", self._number(place, 0)))
        size = SIZES.get(kind, 0) * count
        if not size or size > self.left:
            return None
        self.left -= size
        try:
            content = self._read(self._number(place, 0), size) if size > len(place) else place
        except struct.error:
            return None
        return _Value(kind, count, content[:size])

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


def exif_of_tiff(file: BinaryIO, without: Collection[int] = ()) -> tuple[bytes | None, int]:
    """Build an EXIF block from the tags of an open TIFF or BigTIFF file.

    Args:
        file: opened for reading.
        without: tags that are left out.

    Returns:
        The block, None if the file has no such tags, and the number of tags that cannot be read.

    Raises:
        struct.error: the first directory cannot be read.
    """
    reader = _Reader(file)
    directory = reader.directory(reader.start, wanted=_PHOTO_TAGS.difference(without))
    return (_block(directory, reader.order) if directory else None), reader.removed


def shortened_exif(exif: bytes, limit: int) -> bytes | None:
    """Copy an EXIF block without its longest values.

    Args:
        exif: EXIF block, from its TIFF header on.
        limit: length in bytes that the result may have.

    Returns:
        The block, or None if no block is short enough.

    Raises:
        struct.error: ``exif`` is not an EXIF block.
    """
    reader = _Reader(io.BytesIO(exif + bytes(16)))
    directory = reader.directory(reader.start)
    while len(block := _block(directory, reader.order)) > limit:
        parts = [directory, *(part for part in directory.values() if isinstance(part, dict))]
        lengths = {
            (len(value.content), number, tag)
            for number, part in enumerate(parts)
            for tag, value in part.items()
            if isinstance(value, _Value)
        }
        if not lengths:
            return None
        _, number, tag = max(lengths)
        del parts[number][tag]
    return block


def _block(directory: _Directory, order: str) -> bytes:
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    return head + _stored(directory, order, len(head))


def _stored(directory: _Directory, order: str, start: int) -> bytes:
    """Bytes of a directory at the offset `start`, with its values and the directories inside it."""
    head, contents = struct.pack(order + "H", len(directory)), b""
    free = start + 2 + 12 * len(directory) + 4
    for tag in sorted(directory):
        value, kind, count = directory[tag], _LONG, 1
        if isinstance(value, dict):
            place = free + len(contents)
            content = _stored(value, order, place)
        else:
            kind, count, content = value.kind, value.count, value.content
            place = free + len(contents)
        head += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(value, _Value) and len(content) <= 4:
            head += content.ljust(4, b"\0")
            continue
        head += struct.pack(order + "I", place)
        contents += content + bytes(len(content) % 2)
    return head + bytes(4) + contents
