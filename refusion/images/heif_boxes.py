"""Boxes of HEIC and AVIF files (ISO/IEC 14496-12 and 23008-12): items, properties and metadata.

Nothing is decoded here. All counts and lengths come from the file, so each is checked against the
bytes that are there. A few bytes of a file can name the same long block many times, so what an item
names counts once.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import BinaryIO

from refusion.images.source import MAX_BLOCK, MAX_BLOCKS

_MAX_BOXES = 1000  # of a file at its top level
_MAX_ITEMS = 20_000
_MAX_PROPERTIES = 1 << 16  # of all items together
_MAX_EXTENTS = 1 << 16  # of all items together
_MAX_TYPE = 256  # bytes of the type of an auxiliary image
# EXIF orientation by the angle of irot (times 90 degrees, anticlockwise) and the mode of imir.
_ORIENTATIONS = {
    (0, None): 1,
    (1, None): 8,
    (2, None): 3,
    (3, None): 6,
    (0, 0): 4,
    (0, 1): 2,
    (1, 0): 5,
    (1, 1): 7,
    (2, 0): 2,
    (2, 1): 4,
    (3, 0): 7,
    (3, 1): 5,
}
_IN_FILE, _IN_META = 0, 1  # where the data of an item is


@dataclass
class Item:
    """An item of a file: an image, a part of an image, or a block of metadata.

    Attributes:
        kind: four bytes, for example b"hvc1", b"av01", b"grid", b"Exif" or b"mime".
        content_type: of an item of kind b"mime".
        properties: type and content of the properties, in their order, each once.
        extents: offset and length of the parts of its data.
        method: 0 if the offsets count from the begin of the file, 1 for the box idat.
    """

    kind: bytes = b""
    content_type: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    method: int = _IN_FILE

    def of_kind(self, kind: bytes) -> list[bytes]:
        """Contents of the properties of a type."""
        return [content for name, content in self.properties if name == kind]

    @property
    def length(self) -> int:
        """Length of its data in bytes."""
        return sum(length for _, length in self.extents)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels before rotation (property ispe).

        Raises:
            ValueError: the item states no size.
        """
        content = next((content for content in self.of_kind(b"ispe") if len(content) >= 12), None)
        if content is None:
            raise ValueError("an image without a size")
        return struct.unpack_from(">II", content, 4)

    @property
    def depth(self) -> int:
        """Largest number of bits per channel (property pixi); 8 if it is not stated."""
        stated = (content[5 : 5 + content[4]] for content in self.of_kind(b"pixi") if content[4:])
        return max((max(bits, default=0) for bits in stated), default=8)

    @property
    def auxiliary_type(self) -> bytes:
        """What an auxiliary image is (property auxC), in lower case; empty if it is not stated."""
        return next(iter(self.of_kind(b"auxC")), b"")[:_MAX_TYPE].lower()


@dataclass(frozen=True)
class HeifFile:
    """The boxes of a file.

    Attributes:
        brands: major and compatible brands.
        primary: the main image.
        items: all items by number.
        references: type, number of the item that refers, and numbers of the items referred to.
        inline: content of the box idat.
    """

    brands: tuple[bytes, ...]
    primary: Item
    items: dict[int, Item]
    references: tuple[tuple[bytes, int, tuple[int, ...]], ...]
    inline: bytes = b""

    def referring(self, kind: bytes, image: Item) -> list[Item]:
        """Items that refer to an image, by the type of the reference, each once."""
        numbers = {number for number, item in self.items.items() if item is image}
        found = {
            source: self.items[source]
            for name, source, targets in self.references
            if name == kind and source in self.items and not numbers.isdisjoint(targets)
        }
        return list(found.values())

    def describing(self, image: Item) -> list[Item]:
        """Items with metadata about an image; those beyond 128 MB together are left out."""
        items = self.referring(b"cdsc", image)
        ends = accumulate(item.length * (item.length <= MAX_BLOCK) for item in items)
        return [item for item, end in zip(items, ends, strict=True) if end <= MAX_BLOCKS]

    def places(self, size: int) -> list[tuple[int, int]]:
        """First and last offset of the data of all items in a file of some size, each once."""
        extents = {extent for item in self.items.values() if item.method == _IN_FILE
                   for extent in item.extents}  # fmt: skip
        ends = ((offset, min(offset + length, size)) for offset, length in extents)
        return [(offset, end) for offset, end in ends if end > offset]

    def read(self, file: BinaryIO, item: Item) -> bytes:
        """Data of an item.

        Raises:
            ValueError: the data is not in the file, or too long to be metadata.
        """
        if item.length > MAX_BLOCK or item.method > _IN_META:
            raise ValueError("a block of metadata that cannot be read")
        parts = []
        for offset, length in item.extents:
            if item.method == _IN_META:
                part = self.inline[offset : offset + length]
            else:
                file.seek(offset)
                part = file.read(length)
            if len(part) < length:
                raise ValueError("a block of metadata behind the end of the file")
            parts.append(part)
        return b"".join(parts)


def read_boxes(file: BinaryIO) -> HeifFile:
    """Read the boxes of a HEIC or AVIF file.

    Args:
        file: opened for reading.

    Raises:
        ValueError: the boxes are damaged, or there is no main image.
    """
    brands, meta = _top_level(file)
    if meta is None:
        raise ValueError("a HEIC or AVIF without an image" if brands else "truncated header")
    try:
        return _parsed(brands, meta)
    except (struct.error, IndexError) as error:
        raise ValueError("damaged boxes") from error


def _top_level(file: BinaryIO) -> tuple[tuple[bytes, ...], bytes | None]:
    """Brands of the file, and the content of its box meta."""
    size, at, brands, meta = file.seek(0, 2), 0, (), None
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind, start = struct.unpack(">I", head[:4])[0], head[4:8], 8
        if length == 1 and len(head) == 16:
            length, start = struct.unpack(">Q", head[8:])[0], 16
        end = size if length == 0 else at + length
        if end < at + start:
            break
        if kind in (b"ftyp", b"meta"):
            if end > size:
                raise ValueError("truncated")
            if end - at > MAX_BLOCK:
                raise ValueError("too many boxes")
            file.seek(at + start)
            content = file.read(end - at - start)
            if kind == b"meta":
                meta = content
                break
            brands = tuple(content[at : at + 4] for at in (0, *range(8, len(content), 4)))
        at = end
    return brands, meta


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the boxes inside a box."""
    at = 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        start = 8
        if length == 1:
            length, start = struct.unpack_from(">Q", content, at + 8)[0], 16
        end = len(content) if length == 0 else at + length
        if end < at + start or end > len(content):
            raise ValueError("damaged boxes")
        yield kind, content[at + start : end]
        at = end


def _parsed(brands: tuple[bytes, ...], meta: bytes) -> HeifFile:
    found: dict[bytes, bytes] = {}
    for kind, content in _boxes(meta[4:]):
        found.setdefault(kind, content)
    items = _items(found.get(b"iinf", b""))
    for number, (method, extents) in _locations(found.get(b"iloc", b"")).items():
        if number in items:
            items[number].method, items[number].extents = method, extents
    _add_properties(items, found.get(b"iprp", b""))
    head = found.get(b"pitm", b"")
    primary = struct.unpack_from(">H" if head[:1] == b"\0" else ">I", head, 4)[0]
    if primary not in items:
        raise ValueError("no main image in it")
    references = tuple(_references(found.get(b"iref", b"")))
    return HeifFile(brands, items[primary], items, references, found.get(b"idat", b""))


def _items(content: bytes) -> dict[int, Item]:
    """Items by number (box iinf)."""
    items: dict[int, Item] = {}
    for kind, entry in _boxes(content[6 if content[:1] == b"\0" else 8 :]):
        if kind != b"infe" or entry[0] < 2:
            continue
        if len(items) >= _MAX_ITEMS:
            raise ValueError("too many boxes")
        form = ">HH4s" if entry[0] == 2 else ">IH4s"
        number, _, name = struct.unpack_from(form, entry, 4)
        rest = entry[4 + struct.calcsize(form) :].split(b"\0")
        items[number] = Item(name, rest[1] if name == b"mime" and len(rest) > 1 else b"")
    return items


def _locations(content: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Method and extents of the items (box iloc)."""
    found, version = {}, content[0] if content else 0
    if not content:
        return found
    sizes = content[4] >> 4, content[4] & 15, content[5] >> 4, content[5] & 15 if version else 0
    wide = ">I" if version == 2 else ">H"
    count, at = struct.unpack_from(wide, content, 6)[0], 6 + struct.calcsize(wide)
    left = _MAX_EXTENTS

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(content) or size not in (0, 4, 8):
            raise ValueError("damaged boxes")
        return int.from_bytes(content[at - size : at], "big")

    for _ in range(min(count, _MAX_ITEMS)):
        item = struct.unpack_from(wide, content, at)[0]
        at += struct.calcsize(wide)
        method = 0
        if version:
            method = struct.unpack_from(">H", content, at)[0] & 15
            at += 2
        at += 2  # index of the file with the data, which is this one
        base = number(sizes[2])
        extents = struct.unpack_from(">H", content, at)[0]
        at += 2
        left -= extents
        if left < 0:
            raise ValueError("too many boxes")
        parts = []
        for _ in range(extents):
            number(sizes[3])
            offset = base + number(sizes[0])
            parts.append((offset, number(sizes[1])))
        found[item] = method, parts
    return found


def _add_properties(items: dict[int, Item], content: bytes) -> None:
    """Give the items their properties (box iprp)."""
    known: list[tuple[bytes, bytes]] = []
    added: set[tuple[int, int]] = set()
    left = _MAX_PROPERTIES
    for kind, inner in _boxes(content):
        if kind == b"ipco":
            known = list(_boxes(inner))
        if kind != b"ipma":
            continue
        wide, at = bool(inner[3] & 1), 8
        for _ in range(struct.unpack_from(">I", inner, 4)[0]):
            form = ">HB" if inner[0] == 0 else ">IB"
            number, count = struct.unpack_from(form, inner, at)
            at += struct.calcsize(form)
            indices = struct.unpack_from(f">{count}{'H' if wide else 'B'}", inner, at)
            at += count * (2 if wide else 1)
            left -= count + 1
            if left < 0:
                raise ValueError("too many boxes")
            if number in items:
                places = (index & (0x7FFF if wide else 0x7F) for index in indices)
                for place in places:
                    if 0 < place <= len(known) and (number, place) not in added:
                        added.add((number, place))
                        items[number].properties.append(known[place - 1])


def _references(content: bytes) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Yield the references between items (box iref)."""
    code = "I" if content[:1] == b"\1" else "H"
    for kind, inner in _boxes(content[4:]):
        source, count = struct.unpack_from(f">{code}H", inner)
        targets = struct.unpack_from(f">{count}{code}", inner, struct.calcsize(f">{code}H"))
        yield kind, source, targets


def tiff_header(content: bytes) -> bytes:
    """EXIF block from its TIFF header on.

    Args:
        content: of an item or a box Exif, whose first four bytes are the offset of the header.
    """
    block = content[4 + int.from_bytes(content[:4], "big") :]
    if block[:2] in (b"II", b"MM"):
        return block
    match = re.search(rb"II\*\0|MM\0\*", content[:64])  # some writers give a wrong offset
    return content[match.start() :] if match else block


def orientation_of(item: Item) -> int:
    """EXIF orientation 1..8 that means the same as the properties irot and imir of an image."""
    angle = next((content[0] & 3 for content in item.of_kind(b"irot") if content), 0)
    mode = next((content[0] & 1 for content in item.of_kind(b"imir") if content), None)
    return _ORIENTATIONS[angle, mode]
