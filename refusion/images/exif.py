"""EXIF blocks (EXIF 2.32): orientation, texts, resolution, repair, and the block of a TIFF file.

An EXIF block is a small TIFF file. Values are changed in place, because the private notes of camera
makers refer to other parts of the block by absolute offsets. Each directory is visited once.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from refusion.images.tiff_tags import SIZES

ORIENTATION = 0x0112
DESCRIPTION, SOFTWARE, ARTIST, COPYRIGHT, TITLE, COMMENT = (
    0x010E,
    0x0131,
    0x013B,
    0x8298,
    0x9C9B,  # XPTitle and XPComment of Windows, UTF-16
    0x9C9C,
)
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
_TEXTS = (DESCRIPTION, SOFTWARE, ARTIST, COPYRIGHT, TITLE, COMMENT)
# Tags that hold the offset of a directory, by the directory that may hold them; 0 is the first.
POINTERS = {0: (EXIF_IFD, GPS_IFD), EXIF_IFD: (INTEROP_IFD,), GPS_IFD: (), INTEROP_IFD: ()}
_WIDTH_TAGS = (0x0100, 0xA002)
_HEIGHT_TAGS = (0x0101, 0xA003)
_TIFF = 42  # version in the header
_ASCII, _SHORT, _LONG, _RATIONAL, _IFD = 2, 3, 4, 5, 13
_INTEGERS = {_SHORT: "H", _LONG: "I"}
# Types of the tags that every program reads; some programs refuse a file with other types.
_EXPECTED = {ORIENTATION: (_SHORT, _LONG), _RESOLUTION_UNIT: (_SHORT, _LONG)}
_EXPECTED |= dict.fromkeys((_X_RESOLUTION, _Y_RESOLUTION), (_RATIONAL,))


@dataclass(frozen=True)
class _Entry:
    """An entry of a directory: tag, type, number of values, and its own offset in the block."""

    tag: int
    kind: int
    count: int
    at: int

    @property
    def is_expected(self) -> bool:
        """Whether the type is one that the tag may have."""
        kinds = _EXPECTED.get(self.tag)
        return kinds is None or (self.kind in kinds and self.count == 1)

    def place(self, exif: bytes, order: str) -> tuple[int, int]:
        """Offset and length in bytes of the value; length 0 for an unknown type."""
        size = SIZES.get(self.kind, 0) * self.count
        inline = self.at + 8
        return (inline if size <= 4 else struct.unpack_from(order + "I", exif, inline)[0]), size


def exif_orientation(exif: bytes) -> int:
    """Return the EXIF orientation 1..8; 1 if it is missing or invalid.

    Raises:
        struct.error: ``exif`` is not an EXIF block.
    """
    order, start = _header(exif)
    for entry in _entries(exif, order, start):
        if entry.tag == ORIENTATION and entry.kind in _INTEGERS:
            value = struct.unpack_from(order + _INTEGERS[entry.kind], exif, entry.at + 8)[0]
            return value if 1 <= value <= 8 else 1
    return 1


def upright_exif(exif: bytes, width: int, height: int) -> bytes:
    """Return the EXIF block with orientation 1, the given image size, and no thumbnail.

    Args:
        exif: EXIF block, from its TIFF header on.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.

    Raises:
        struct.error: ``exif`` is not an EXIF block.
    """
    values = {ORIENTATION: 1} | dict.fromkeys(_WIDTH_TAGS, width)
    values |= dict.fromkeys(_HEIGHT_TAGS, height)
    patched = bytearray(exif)
    order, start = _header(exif)
    directories = {0: start}
    for name in (0, EXIF_IFD):
        for entry in _entries(exif, order, directories.get(name, start)):
            if entry.tag == EXIF_IFD and entry.tag not in directories:
                directories[EXIF_IFD] = struct.unpack_from(order + "I", exif, entry.at + 8)[0]
            elif entry.tag in values and entry.kind in _INTEGERS and entry.count == 1:
                largest = 0xFFFF if entry.kind == _SHORT else 0xFFFFFFFF
                number = min(values[entry.tag], largest)
                struct.pack_into(order + _INTEGERS[entry.kind], patched, entry.at + 8, number)
    # The thumbnail shows the photo before restoration: remove the offset of its directory.
    end = _end(exif, order, start)
    patched[end : end + 4] = bytes(len(patched[end : end + 4]))
    return bytes(patched)


def repaired_exif(exif: bytes) -> tuple[bytes, int]:
    """Remove entries that cannot be read: values outside, wrong types, loops of directories.

    Args:
        exif: EXIF block, from its TIFF header on.

    Returns:
        The block, of the same length, and the number of removed entries.

    Raises:
        struct.error: the first directory cannot be read, or the directories overlap.
    """
    order, start = _header(exif)
    faults = _faults(exif, order, start)
    if not faults:
        return exif, 0
    block = bytearray(exif)
    for directory, bad in faults.items():
        end = _end(exif, order, directory)
        entries = [exif[at : at + 12] for at in range(directory + 2, end, 12) if at not in bad]
        kept = struct.pack(order + "H", len(entries)) + b"".join(entries) + exif[end : end + 4]
        block[directory : directory + len(kept)] = kept
    if _faults(bytes(block), order, start):
        raise struct.error("overlapping directories")
    return bytes(block), sum(map(len, faults.values()))


def _faults(exif: bytes, order: str, start: int) -> dict[int, set[int]]:
    """Offsets of the unreadable entries of each directory that has some."""
    faults, directories = {}, {0: start}
    for name, pointers in POINTERS.items():
        directory = directories.get(name)
        for entry in () if directory is None else _entries(exif, order, directory):
            begin, size = entry.place(exif, order)
            is_bad = begin + size > len(exif) or not entry.is_expected
            if not is_bad and entry.tag in POINTERS:
                inner = struct.unpack_from(order + "I", exif, entry.at + 8)[0]
                is_one = entry.kind in (_LONG, _IFD) and entry.count == 1
                is_one &= entry.tag in pointers and entry.tag not in directories
                is_one &= inner not in directories.values()
                is_bad = not is_one or not _is_whole(exif, order, inner)
                directories |= {} if is_bad else {entry.tag: inner}
            if is_bad:
                faults.setdefault(directory, set()).add(entry.at)
    return faults


def _is_whole(exif: bytes, order: str, directory: int) -> bool:
    return directory + 2 <= len(exif) and _end(exif, order, directory) <= len(exif)


def exif_texts(exif: bytes | None) -> dict[int, str]:
    """Description, software, artist, copyright, title and comment, by tag; without empty texts."""
    if exif is None:
        return {}
    texts = {}
    order, start = _header(exif)
    for entry in _entries(exif, order, start):
        if entry.tag not in _TEXTS or entry.tag in texts:  # of several entries, the first
            continue
        begin, size = entry.place(exif, order)
        content = exif[begin : begin + size]
        if entry.tag in (TITLE, COMMENT):
            texts[entry.tag] = content.decode("utf-16-le", "replace").rstrip("\0 ")
        else:
            is_text = entry.kind in (_ASCII, 129)
            texts[entry.tag] = decoded(content.rstrip(b"\0 ")) if is_text else ""
    return {tag: text for tag, text in texts.items() if text}


def decoded(text: bytes) -> str:
    """Text in UTF-8, or in Latin-1 if it is not valid UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Resolution in pixels per inch; None if no block states it, or if the block is damaged."""
    values = {}
    with contextlib.suppress(struct.error):
        order, start = _header(exif or b"")
        for entry in _entries(exif, order, start):
            begin, size = entry.place(exif, order)
            if entry.kind == _RATIONAL and size == 8:
                over, under = struct.unpack_from(order + "II", exif, begin)
                values[entry.tag] = over / under if under else 0.0
            elif entry.kind == _SHORT and entry.count == 1:
                values[entry.tag] = struct.unpack_from(order + "H", exif, begin)[0]
    unit = {2: 1.0, 3: 2.54}.get(values.get(_RESOLUTION_UNIT, 2))
    pair = [values.get(tag, 0.0) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    return (pair[0] * unit, pair[1] * unit) if unit and all(pair) else None


def with_entries(
    exif: bytes | None, texts: Mapping[int, str], dpi: tuple[float, float] | None = None
) -> bytes:
    """Add texts and a resolution to the first directory; nothing else in the block moves.

    The first directory is copied to the end of the block, with the new entries.

    Args:
        exif: EXIF block, from its TIFF header on; None for a new block.
        texts: texts to add or replace, by tag.
        dpi: horizontal and vertical pixels per inch to add or replace.

    Raises:
        struct.error: ``exif`` is not an EXIF block.
    """
    block = exif or b"II*\0\x08\0\0\0" + bytes(6)
    order, start = _header(block)
    values = {tag: _text_value(tag, text) for tag, text in texts.items()}
    if dpi is not None:
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), dpi, strict=True):
            number = min(max(round(value * 1000), 1), 0xFFFFFFFF)
            values[tag] = (_RATIONAL, 1, struct.pack(order + "II", number, 1000))
        values[_RESOLUTION_UNIT] = (_SHORT, 1, struct.pack(order + "H", 2))
    kept = {
        entry.tag: block[entry.at : entry.at + 12]
        for entry in _entries(block, order, start)
        if entry.tag not in values
    }
    block += bytes(len(block) % 2)
    directory = len(block)
    contents = b""
    free = directory + 2 + 12 * (len(kept) + len(values)) + 4
    for tag, (kind, count, content) in values.items():
        at = content.ljust(4, b"\0")
        if len(content) > 4:
            at = struct.pack(order + "I", free + len(contents))
            contents += content + bytes(len(content) % 2)
        kept[tag] = struct.pack(order + "HHI", tag, kind, count) + at
    entries = b"".join(kept[tag] for tag in sorted(kept))
    added = struct.pack(order + "H", len(kept)) + entries + bytes(4) + contents
    return block[:4] + struct.pack(order + "I", directory) + block[8:] + added


def _text_value(tag: int, text: str) -> tuple[int, int, bytes]:
    """Type, count and bytes of a text."""
    if tag in (TITLE, COMMENT):
        content = text.encode("utf-16-le", "replace") + b"\0\0"
        return 1, len(content), content
    content = text.encode("utf-8", "replace").replace(b"\0", b" ") + b"\0"
    return _ASCII, len(content), content


def _header(exif: bytes) -> tuple[str, int]:
    """Byte order as a `struct` prefix, and offset of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        raise struct.error("no TIFF header")
    version, start = struct.unpack_from(order + "HI", exif, 2)
    if version != _TIFF:
        raise struct.error(f"version {version}, expected {_TIFF}")
    return order, start


def _end(exif: bytes, order: str, directory: int) -> int:
    """Offset behind the last entry of a directory, where the offset of the next one is stored."""
    return directory + 2 + 12 * struct.unpack_from(order + "H", exif, directory)[0]


def _entries(exif: bytes, order: str, directory: int) -> Iterator[_Entry]:
    """Yield the entries of a directory."""
    for at in range(directory + 2, _end(exif, order, directory), 12):
        tag, kind, count, _ = struct.unpack_from(order + "HHII", exif, at)
        yield _Entry(tag, kind, count, at)
