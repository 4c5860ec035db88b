"""Blocks of metadata in a JPEG file, and the places of its coded pixels."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from refusion.images.iptc import PHOTOSHOP
from refusion.images.jpeg_segments import (
    APP1,
    APP2,
    EXIF_HEADER,
    EXTENDED_HEADER,
    INDEX_HEADER,
    ISO_GAIN_MAP,
    MAX_SCANS,
    XMP_HEADER,
    segments,
)
from refusion.images.source import MAX_BLOCK, MAX_BLOCKS, TOO_MUCH, search
from refusion.images.tiff_tags import TagError, read_tags
from refusion.images.xmp import extended_name

_JFIF, _APP11, _APP13, _ADOBE, _COM = 0xE0, 0xEB, 0xED, 0xEE, 0xFE
_ICC_HEADER = b"ICC_PROFILE\0"
_APP_NUMBERS = range(0xE0, 0xF0)
# Segments about the coded file, not about the photo: thumbnails, and settings of the encoder.
_ABOUT_FILE = ((_JFIF, b"JFXX\0"), (0xEC, b"Ducky"), (_APP13, b"Adobe_CM"))
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # in coded pixels, 00 and D0 to D7 are data
_SHORTEST = 12  # bytes of a complete segment of JFIF or Adobe
_MAX_MARKERS = 100_000  # a photo has some hundred
_START = 0xD8
END, SCAN = 0xD9, 0xDA
"""Markers of the end of a picture, and of a scan."""
# Tags of a multi-picture index, and the types of its previews, which are small copies of the photo.
_NUMBER_OF_PICTURES, _PICTURE_LIST = 0xB001, 0xB002
_PREVIEWS = (0x010001, 0x010002)
_MAX_PICTURES = 1000


@dataclass(frozen=True)
class PictureIndex:
    """A multi-picture index.

    Attributes:
        count: number of pictures without previews, at least 1.
        has_previews: whether it lists previews.
        places: offset and length in bytes of each listed picture but the first; offsets count from
            the start of the file.
    """

    count: int = 1
    has_previews: bool = False
    places: tuple[tuple[int, int], ...] = ()


@dataclass
class JpegBlocks:
    """What the segments of a JPEG file contain.

    Attributes:
        exif: parts of the EXIF block.
        xmp: XMP packet.
        extended: parts of extended XMP packets, by name and offset.
        icc: parts of the ICC profile.
        photoshop: parts of the Photoshop resources.
        comments: comments.
        jfif: content of the JFIF segment.
        index: multi-picture index.
        is_iso_gain_map: whether a segment of ISO 21496-1 exists, in a photo or in its gain map.
        pixels: first and last offset of the parts that a decoder of the pixels needs.
        end: offset behind the last segment before the coded pixels.
        left: bytes of segments that are still read.
        dropped: names of what no result keeps.
    """

    exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    extended: dict[str, dict[int, bytes]] = field(default_factory=dict)
    icc: list[bytes] = field(default_factory=list)
    photoshop: list[bytes] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)
    jfif: bytes = b""
    index: PictureIndex = PictureIndex()
    is_iso_gain_map: bool = False
    pixels: list[tuple[int, int]] = field(default_factory=list)
    end: int = 2
    left: int = MAX_BLOCKS
    dropped: list[str] = field(default_factory=list)


def read_blocks(file: BinaryIO) -> JpegBlocks:
    """Read the segments before the coded pixels.

    Args:
        file: a JPEG file, opened for reading.
    """
    found, size = JpegBlocks(pixels=[(0, 2)]), file.seek(0, 2)
    for marker, begin, end in segments(file):
        if end > size:
            break
        found.end = end
        is_plain = marker not in _APP_NUMBERS and marker != _COM
        content = b"" if is_plain else _content(file, begin, end)
        if is_plain or _is_coding(marker, content):
            found.pixels.append((begin, end))
        if not is_plain:
            _take(found, marker, content, begin + 4)
    found.pixels.append((found.end, size))
    return found


def _content(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin + 4)
    return file.read(end - begin - 4)


def _is_coding(marker: int, content: bytes) -> bool:
    """Whether the decoder needs a segment: JFIF and Adobe state the colour space."""
    name = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe"}.get(marker)
    return name is not None and content.startswith(name) and len(content) >= _SHORTEST


def _take(found: JpegBlocks, marker: int, content: bytes, begin: int) -> None:
    """Sort a segment with metadata, whose content begins at an offset of the file."""
    found.left -= len(content)
    if found.left < 0:
        found.dropped.append(TOO_MUCH)
    elif marker == _COM:
        found.comments.append(content)
    elif marker == APP1 and content.startswith(EXIF_HEADER):
        found.exif.append(content[6:])  # the parts of a long block follow each other
    elif marker == APP1 and content.startswith(XMP_HEADER):
        found.xmp = found.xmp or content.removeprefix(XMP_HEADER)
    elif marker == APP1 and content.startswith(EXTENDED_HEADER):
        _take_extended(found, content.removeprefix(EXTENDED_HEADER))
    elif marker == APP2 and content.startswith(_ICC_HEADER) and len(content) > 14:
        found.icc.append(content)
    elif marker == APP2 and content.startswith(INDEX_HEADER):
        found.index = _read_index(content[4:], begin + 4)
    elif marker == _APP13 and content.startswith(PHOTOSHOP):
        found.photoshop.append(content.removeprefix(PHOTOSHOP))
    else:
        _take_other(found, marker, content)


def _take_other(found: JpegBlocks, marker: int, content: bytes) -> None:
    if _is_coding(marker, content):
        found.jfif = content if marker == _JFIF and not found.jfif else found.jfif
    elif marker == APP2 and content.startswith(ISO_GAIN_MAP):
        found.is_iso_gain_map = True
    elif marker == _APP11 and content.startswith(b"JP") and b"jumb" in content[:32]:
        found.dropped.append("content credentials (C2PA)")
    elif not any(marker == other and content.startswith(name) for other, name in _ABOUT_FILE):
        name = re.match(rb"[ -~]{0,16}", content)[0].decode()
        found.dropped.append(f"segment APP{marker - 0xE0} {name}".rstrip())


def _take_extended(found: JpegBlocks, content: bytes) -> None:
    """Part of an extended XMP packet: name, length of the packet, offset, bytes."""
    if len(content) >= 40:
        name = content[:32].decode("latin-1")
        found.extended.setdefault(name, {})[struct.unpack_from(">I", content, 36)[0]] = content[40:]


def extended_packet(found: JpegBlocks) -> bytes | None:
    """The extended XMP packet that the first packet names; None if it is not complete."""
    name = extended_name(found.xmp)
    parts = found.extended.get(name or "", {})
    packet = b"".join(parts[offset] for offset in sorted(parts))
    digest = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper()
    return packet if packet and digest == name and len(packet) <= MAX_BLOCK else None


def _read_index(block: bytes, base: int) -> PictureIndex:
    """Read a multi-picture index, a TIFF directory at the offset `base` of the file.

    An entry has four numbers: kind of the picture, length, offset from `base`, dependent pictures.
    """
    try:
        tags = read_tags(io.BytesIO(block))
        entries = tags.block(_PICTURE_LIST, 16 * _MAX_PICTURES) or b""
        count = tags.integer(_NUMBER_OF_PICTURES, 1, _MAX_PICTURES, 1)
        numbers = struct.unpack(f"{tags.order}{len(entries) // 16 * 4}I", entries)
    except (TagError, struct.error):
        return PictureIndex()
    previews = sum(number & 0xFFFFFF in _PREVIEWS for number in numbers[::4])
    places = zip((base + offset for offset in numbers[6::4]), numbers[5::4], strict=True)
    return PictureIndex(max(1, count - previews), previews > 0, tuple(places))


def markers(file: BinaryIO, at: int) -> Iterator[tuple[int, int]]:
    """Yield each marker in the coded pixels, and the offset behind it, up to that of their end.

    Args:
        file: opened for reading.
        at: offset where the coded pixels begin, `JpegBlocks.end`.

    Raises:
        ValueError: there are so many scans that decoding could take hours.
    """
    scans = 0
    for _ in range(_MAX_MARKERS):
        match = search(file, at, _MARKER)
        if match is None:
            return
        at, marker = match[0] + 2, match[1][1]
        scans += marker == SCAN
        if scans > MAX_SCANS:
            raise ValueError(f"a JPEG with more than {MAX_SCANS} scans")
        yield marker, at
        if marker == END:
            return
        if marker not in (0x01, _START):  # these have no length
            file.seek(at)
            at += int.from_bytes(file.read(2), "big")
    raise ValueError(f"a JPEG with more than {_MAX_MARKERS} markers")


def end_of_picture(file: BinaryIO, at: int) -> int | None:
    """Offset behind the coded pixels; None if their end is missing.

    Args:
        file: opened for reading.
        at: offset where the coded pixels begin, `JpegBlocks.end`.

    Raises:
        ValueError: there are so many scans that decoding could take hours.
    """
    return next((behind for marker, behind in markers(file, at) if marker == END), None)
