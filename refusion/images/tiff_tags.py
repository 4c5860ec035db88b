"""Reading of the tags of a TIFF or BigTIFF file; every value is checked against what is expected.

A tag has one of 18 types and any number of values. A damaged file can hold any type in any tag, so
the callers state what they expect, and `TagError` says in one line what came instead.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_BIG_TIFF = 43
# Types of TIFF 6.0, BigTIFF and EXIF 3.0: a name for messages, and the format of one value.
_TYPES = {
    1: ("bytes", "B"),
    2: ("text", "s"),
    3: ("an integer", "H"),
    4: ("an integer", "I"),
    5: ("a fraction", "II"),
    6: ("signed bytes", "b"),
    7: ("bytes", "s"),
    8: ("a signed integer", "h"),
    9: ("a signed integer", "i"),
    10: ("a signed fraction", "ii"),
    11: ("a float", "f"),
    12: ("a double", "d"),
    13: ("an offset", "I"),
    16: ("an integer", "Q"),
    17: ("a signed integer", "q"),
    18: ("an offset", "Q"),
    129: ("text", "s"),
}
SIZES = {kind: struct.calcsize("=" + layout) for kind, (_, layout) in _TYPES.items()}
"""Bytes of one value, by type."""
NUMBER_SIZES = {kind: struct.calcsize("=" + layout[0]) for kind, (_, layout) in _TYPES.items()}
"""Bytes of one number, by type; a fraction has two numbers."""

_INTEGERS = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)
_FRACTIONS = (5, 10)
_BYTES = (1, 2, 6, 7, 129)
_MAX_ENTRIES = 4096
_MAX_PAGES = 10_000
_NAMES = {
    254: "NewSubfileType", 256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample",
    259: "Compression", 262: "PhotometricInterpretation", 266: "FillOrder", 270: "ImageDescription",
    273: "StripOffsets", 274: "Orientation", 277: "SamplesPerPixel", 278: "RowsPerStrip",
    279: "StripByteCounts", 282: "XResolution", 283: "YResolution", 284: "PlanarConfiguration",
    292: "T4Options", 296: "ResolutionUnit", 317: "Predictor", 320: "ColorMap", 322: "TileWidth",
    323: "TileLength", 324: "TileOffsets", 325: "TileByteCounts", 332: "InkSet",
    338: "ExtraSamples", 339: "SampleFormat", 347: "JPEGTables", 700: "XMP", 33723: "IPTC",
    34675: "ICC profile",
}  # fmt: skip


class TagError(ValueError):
    """A tag is missing or does not hold what is expected; the message is one line."""


@dataclass(frozen=True)
class _Entry:
    """One entry of a directory: type, number of values, and the offset of the values."""

    kind: int
    count: int
    at: int


@dataclass(frozen=True)
class TiffTags:
    """The tags of one directory of a TIFF file.

    Attributes:
        file: the file, opened for reading.
        size: length of the file in bytes.
        order: byte order, "<" or ">".
        entries: the entries by tag; of several entries with one tag, the first.
        following: offset of the next directory; 0 at the end.
        is_big: whether the file is a BigTIFF.
    """

    file: BinaryIO
    size: int
    order: str
    entries: dict[int, _Entry]
    following: int
    is_big: bool

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def integers(self, tag: int, low: int, high: int, count: int) -> tuple[int, ...]:
        """Read up to `count` integers.

        Args:
            tag: number of the tag.
            low: the smallest expected value.
            high: the largest expected value.
            count: the largest number of values that are read; further values are not used.

        Returns:
            One or more integers; no integers if the tag is missing.

        Raises:
            TagError: the tag holds anything else.
        """
        expected = f"expected an integer from {low} to {high}"
        values = self._values(tag, _INTEGERS, count, expected)
        wrong = [value for value in values if not low <= value <= high]
        if wrong:
            raise TagError(f"{_name(tag)} is {wrong[0]}, {expected}")
        return values

    def integer(self, tag: int, low: int, high: int, default: int | None = None) -> int:
        """Read one integer; of several values, the first.

        Args:
            tag: number of the tag.
            low: the smallest expected value.
            high: the largest expected value.
            default: value of a missing tag; None if the tag is required.

        Raises:
            TagError: the tag holds anything else, or a required tag is missing.
        """
        values = self.integers(tag, low, high, 1)
        if not values and default is None:
            raise TagError(f"{_name(tag)} is missing")
        return values[0] if values else default

    def ratio(self, tag: int) -> float | None:
        """Read one fraction; None if the tag is missing or its denominator is 0.

        Raises:
            TagError: the tag holds anything else.
        """
        values = self._values(tag, _FRACTIONS, 1, "expected a fraction")
        return values[0] / values[1] if values and values[1] else None

    def ratios(self, tag: int, count: int) -> tuple[float, ...]:
        """Read up to `count` fractions; no fractions if the tag is missing.

        Raises:
            TagError: the tag holds anything else, or a denominator is 0.
        """
        values = self._values(tag, _FRACTIONS, count, "expected fractions")
        if 0 in values[1::2]:
            raise TagError(f"{_name(tag)} has a denominator of 0, expected fractions")
        return tuple(over / under for over, under in zip(values[::2], values[1::2], strict=True))

    def block(self, tag: int, longest: int, also: tuple[int, ...] = ()) -> bytes | None:
        """Read a block of bytes; None if the tag is missing.

        Args:
            tag: number of the tag.
            longest: largest length in bytes.
            also: types that are accepted besides bytes and text; their bytes are not swapped.

        Raises:
            TagError: the tag holds anything else, or more bytes.
        """
        entry = self._entry(tag, (*_BYTES, *also), "expected bytes")
        if entry is None:
            return None
        length = entry.count * SIZES[entry.kind]
        if length > longest:
            raise TagError(f"{_name(tag)} has {length} bytes, expected at most {longest}")
        return self._read(tag, entry.at, length)

    def _values(self, tag: int, kinds: tuple[int, ...], count: int, expected: str) -> tuple:
        """The one function that reads numbers: those of up to `count` values; none if missing."""
        entry = self._entry(tag, kinds, expected)
        if entry is None:
            return ()
        if not entry.count:
            raise TagError(f"{_name(tag)} has no value, {expected}")
        one = _TYPES[entry.kind][1]
        layout = f"{self.order}{min(entry.count, count) * len(one)}{one[0]}"
        return struct.unpack(layout, self._read(tag, entry.at, struct.calcsize(layout)))

    def _entry(self, tag: int, kinds: tuple[int, ...], expected: str) -> _Entry | None:
        entry = self.entries.get(tag)
        if entry is not None and entry.kind not in kinds:
            found = _TYPES.get(entry.kind, (f"of the unknown type {entry.kind}",))[0]
            raise TagError(f"{_name(tag)} is {found}, {expected}")
        return entry

    def _read(self, tag: int, at: int, length: int) -> bytes:
        if at + length > self.size:  # before the read, which would allocate the length
            raise TagError(f"{_name(tag)} is outside the file")
        self.file.seek(at)
        data = self.file.read(length)
        if len(data) < length:
            raise TagError(f"{_name(tag)} is outside the file")
        return data


def read_tags(file: BinaryIO) -> TiffTags:
    """Read the first directory of a TIFF or BigTIFF file; the values are read later.

    Raises:
        TagError: the file has no directory that can be read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise TagError("no TIFF header")
    is_big = struct.unpack_from(order + "H", head, 2)[0] == _BIG_TIFF
    if is_big and len(head) < 16:
        raise TagError("no TIFF header")
    start = struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4)[0]
    return _directory(file, size, order, is_big, start)


def count_pages(tags: TiffTags) -> int:
    """Count the directories of a file from its first one; a loop or damage ends the chain."""
    count, following, visited = 1, tags.following, set()
    while following and following not in visited and count < _MAX_PAGES:
        visited.add(following)
        try:  # the entries are not read: directories that overlap can have millions of them
            _, end = _extent(tags.file, tags.size, tags.order, tags.is_big, following)
        except TagError:
            break
        count, following = count + 1, _following(tags.file, tags.order, tags.is_big, end)
    return count


def _extent(file: BinaryIO, size: int, order: str, is_big: bool, start: int) -> tuple[int, int]:
    """Offsets of the first entry of a directory and behind the last."""
    head, step, counter = (8, 20, "Q") if is_big else (2, 12, "H")
    if start + head > size:
        raise TagError("the first directory is outside the file")
    file.seek(start)
    count = struct.unpack(order + counter, file.read(head))[0]
    begin = start + head
    if count > _MAX_ENTRIES or begin + count * step > size:
        raise TagError(f"a directory with {count} tags is damaged or truncated")
    return begin, begin + count * step


def _following(file: BinaryIO, order: str, is_big: bool, end: int) -> int:
    """Offset of the next directory; 0 if there is none, which some writers do not state."""
    length, offset = (8, "Q") if is_big else (4, "I")
    file.seek(end)
    place = file.read(length)
    return struct.unpack(order + offset, place)[0] if len(place) == length else 0


def _directory(file: BinaryIO, size: int, order: str, is_big: bool, start: int) -> TiffTags:
    layout, offset = ("HHQ8s", "Q") if is_big else ("HHI4s", "I")
    begin, end = _extent(file, size, order, is_big, start)
    file.seek(begin)
    data = file.read(end - begin)
    entries: dict[int, _Entry] = {}
    step = struct.calcsize(order + layout)
    for index, entry in enumerate(struct.iter_unpack(order + layout, data)):
        tag, kind, number, place = entry
        at = begin + index * step + step - len(place)
        if number * SIZES.get(kind, 0) > len(place):
            at = struct.unpack(order + offset, place)[0]
        entries.setdefault(tag, _Entry(kind, number, at))
    following = _following(file, order, is_big, end)
    return TiffTags(file, size, order, entries, following, is_big)


def _name(tag: int) -> str:
    return f"tag {_NAMES[tag]}" if tag in _NAMES else f"tag {tag}"
