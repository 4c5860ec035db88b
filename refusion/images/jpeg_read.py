"""Reading of the segments of a JPEG file: metadata, and the places of the coded pixels.

The decoder of the pixels receives no metadata, so a damaged block never makes a photo unreadable.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from refusion.images.exif import exif_dpi
from refusion.images.iptc import PHOTOSHOP, read_resources
from refusion.images.jpeg_segments import MAX_SCANS, segments
from refusion.images.photo import Photo
from refusion.images.png_read import EXIF_HEADER, XMP_HEADER
from refusion.images.source import MAX_BLOCK, MAX_BLOCKS, TOO_MUCH, Source, joined, search, trailing
from refusion.images.tiff_tags import TagError, read_tags
from refusion.images.xmp import FILM, GAIN_MAP, extended_name

EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
_JFIF, _EXIF, _APP2, _APP11, _APP13, _ADOBE, _COM = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xFE
_ICC_HEADER = b"ICC_PROFILE\0"
_APP_NUMBERS = range(0xE0, 0xF0)
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
# Segments about the coded file, not about the photo: thumbnails, and settings of the encoder.
_ABOUT_FILE = ((_JFIF, b"JFXX\0"), (0xEC, b"Ducky"), (_APP13, b"Adobe_CM"))
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # in coded pixels, 00 and D0 to D7 are data
_SHORTEST = 12  # bytes of a complete segment of JFIF or Adobe
_MAX_MARKERS = 100_000  # a photo has some hundred
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FILM = re.compile(b"ftyp")
# Tags of a multi-picture index, and the types of its previews, which are small copies of the photo.
_NUMBER_OF_PICTURES, _PICTURE_LIST = 0xB001, 0xB002
_PREVIEWS = (0x010001, 0x010002)
_MAX_PICTURES = 1000
_DEFAULT_DPI = 72.0  # of EXIF 2.32


@dataclass
class _Found:
    """What the segments contain so far."""

    exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    extended: dict[str, dict[int, bytes]] = field(default_factory=dict)  # by name and offset
    icc: list[bytes] = field(default_factory=list)
    photoshop: list[bytes] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)
    jfif: bytes = b""
    pictures: int = 1  # that the multi-picture index lists, without previews
    has_previews: bool = False
    left: int = MAX_BLOCKS  # bytes of segments that are still read
    dropped: list[str] = field(default_factory=list)


def read_jpeg(file: BinaryIO) -> Source:
    """Read the metadata of a JPEG file; of several pictures, the first one is read.

    Args:
        file: opened for reading.

    Raises:
        ValueError: the picture has too many scans.
    """
    found, parts, at = _Found(), [(0, 2)], 2
    size = file.seek(0, 2)
    for marker, begin, end in segments(file):
        if end > size:
            break
        at = end
        is_plain = marker not in _APP_NUMBERS and marker != _COM
        content = b"" if is_plain else _content(file, begin, at)
        if is_plain or _is_coding(marker, content):
            parts.append((begin, at))
        if not is_plain:
            _take(found, marker, content)
    parts.append((at, size))
    names = [*_behind(file, at, found), *found.dropped]
    return Source(_photo(found, names), file, joined(parts), tuple(names))


def _content(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin + 4)
    return file.read(end - begin - 4)


def _is_coding(marker: int, content: bytes) -> bool:
    """Whether the decoder needs a segment: JFIF and Adobe state the colour space."""
    name = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe"}.get(marker)
    return name is not None and content.startswith(name) and len(content) >= _SHORTEST


def _take(found: _Found, marker: int, content: bytes) -> None:
    """Sort a segment with metadata."""
    found.left -= len(content)
    if found.left < 0:
        found.dropped.append(TOO_MUCH)
    elif marker == _COM:
        found.comments.append(content)
    elif marker == _EXIF and content.startswith(EXIF_HEADER):
        found.exif.append(content[6:])  # the parts of a long block follow each other
    elif marker == _EXIF and content.startswith(XMP_HEADER):
        found.xmp = found.xmp or content.removeprefix(XMP_HEADER)
    elif marker == _EXIF and content.startswith(EXTENDED_HEADER):
        _take_extended(found, content.removeprefix(EXTENDED_HEADER))
    elif marker == _APP2 and content.startswith(_ICC_HEADER) and len(content) > 14:
        found.icc.append(content)
    elif marker == _APP2 and content.startswith(b"MPF\0"):
        found.pictures, found.has_previews = _count_pictures(content[4:])
    elif marker == _APP13 and content.startswith(PHOTOSHOP):
        found.photoshop.append(content.removeprefix(PHOTOSHOP))
    else:
        _take_other(found, marker, content)


def _take_other(found: _Found, marker: int, content: bytes) -> None:
    if _is_coding(marker, content):
        found.jfif = content if marker == _JFIF and not found.jfif else found.jfif
    elif marker == _APP2 and content.startswith(_ISO_GAIN_MAP):
        found.dropped.append(GAIN_MAP)
    elif marker == _APP11 and content.startswith(b"JP") and b"jumb" in content[:32]:
        found.dropped.append("content credentials (C2PA)")
    elif not any(marker == other and content.startswith(name) for other, name in _ABOUT_FILE):
        name = re.match(rb"[ -~]{0,16}", content)[0].decode()
        found.dropped.append(f"segment APP{marker - 0xE0} {name}".rstrip())


def _take_extended(found: _Found, content: bytes) -> None:
    """Part of an extended XMP packet: name, length of the packet, offset, bytes."""
    if len(content) >= 40:
        name = content[:32].decode("latin-1")
        found.extended.setdefault(name, {})[struct.unpack_from(">I", content, 36)[0]] = content[40:]


def _extended(found: _Found) -> bytes | None:
    """The extended packet that the first packet names; None if it is not complete."""
    name = extended_name(found.xmp)
    parts = found.extended.get(name or "", {})
    packet = b"".join(parts[offset] for offset in sorted(parts))
    digest = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper()
    return packet if packet and digest == name and len(packet) <= MAX_BLOCK else None


def _count_pictures(block: bytes) -> tuple[int, bool]:
    """Number of pictures in a multi-picture index (CIPA DC-007), and whether it lists previews.

    The index is a TIFF directory. The previews do not count.
    """
    try:
        tags = read_tags(io.BytesIO(block))
        entries = tags.block(_PICTURE_LIST, 16 * _MAX_PICTURES) or b""
        count = tags.integer(_NUMBER_OF_PICTURES, 1, _MAX_PICTURES, 1)
        numbers = struct.unpack(f"{tags.order}{len(entries) // 16 * 4}I", entries)[::4]
    except (TagError, struct.error):
        return 1, False
    previews = sum(number & 0xFFFFFF in _PREVIEWS for number in numbers)
    return max(1, count - previews), previews > 0


def _behind(file: BinaryIO, start: int, found: _Found) -> list[str]:
    """What follows the first picture: its names, as far as they are known."""
    size, further = file.seek(0, 2), found.pictures - 1
    end = _end_of_picture(file, start) or size
    rest = trailing(file, end)
    if rest and not further and search(file, end, _FILM):
        return [FILM]
    if rest and not further and not found.has_previews:
        file.seek(end)
        further = int(file.read(3) == b"\xff\xd8\xff")
        return [_pictures(1) if further else f"{rest} bytes behind the picture"]
    return [_pictures(further)] if further > 0 else []


def _end_of_picture(file: BinaryIO, at: int) -> int | None:
    """Offset behind the coded pixels; None if their end is missing.

    Raises:
        ValueError: there are so many scans that decoding could take hours.
    """
    scans = 0
    for _ in range(_MAX_MARKERS):
        match = search(file, at, _MARKER)
        if match is None:
            return None
        at, marker = match[0] + 2, match[1][1]
        if marker == _END:
            return at
        scans += marker == _SCAN
        if scans > MAX_SCANS:
            raise ValueError(f"a JPEG with more than {MAX_SCANS} scans")
        if marker not in (0x01, _START):  # these have no length
            file.seek(at)
            at += int.from_bytes(file.read(2), "big")
    raise ValueError(f"a JPEG with more than {_MAX_MARKERS} markers")


def _pictures(count: int) -> str:
    return f"{count} more picture{'s' * (count > 1)}"


def _photo(found: _Found, names: list[str]) -> Photo:
    resources, exif = read_resources(b"".join(found.photoshop)), b"".join(found.exif)
    extended = _extended(found)
    is_named = bool(found.extended) or extended_name(found.xmp) is not None
    if is_named and (extended is None or len(found.extended) > 1):
        names.append("extended XMP packet (damaged)")
    return Photo(
        np.empty(0),
        format="JPEG",
        icc=_profile(found.icc, names),
        exif=exif or None,
        xmp=found.xmp or None,
        xmp_extended=extended,
        iptc=resources.iptc,
        photoshop=resources.others,
        comments=tuple(found.comments),
        dpi=_dpi(found.jfif, exif, names),
        lossless=False,
    )


def _profile(parts: list[bytes], names: list[str]) -> bytes | None:
    """Join the numbered parts of an ICC profile."""
    parts = sorted(parts, key=lambda part: part[12])
    if parts and [part[12] for part in parts] != list(range(1, parts[0][13] + 1)):
        names.append("damaged ICC profile")
        return None
    return b"".join(part[14:] for part in parts) or None


def _dpi(jfif: bytes, exif: bytes, names: list[str]) -> tuple[float, float] | None:
    """Resolution of the JFIF segment, else that of the EXIF block, else the default of EXIF."""
    if len(jfif) >= 12:
        unit, across, down = struct.unpack_from(">BHH", jfif, 7)
        if unit in (1, 2):
            scale = {1: 1, 2: 2.54}[unit]
            return across * scale, down * scale
        if across != down and across and down:
            names.append(f"pixel aspect ratio {across}:{down}")
    if not exif:
        return None
    return exif_dpi(exif) or (_DEFAULT_DPI, _DEFAULT_DPI)
