"""Reading of the segments of a JPEG file: metadata, and the places of the coded pixels.

The decoder of the pixels receives no metadata, so a damaged block never makes a photo unreadable.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import torch

from refusion.images.exif import exif_dpi
from refusion.images.iptc import PHOTOSHOP, read_resources
from refusion.images.photo import Photo
from refusion.images.png_read import EXIF_HEADER, XMP_HEADER
from refusion.images.source import MAX_BLOCK, Source, joined
from refusion.images.xmp import FILM, GAIN_MAP, extended_name

EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
_JFIF, _EXIF, _APP2, _APP11, _APP13, _ADOBE, _COM, _SOS = (
    0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xFE, 0xDA,
)  # fmt: skip
_ICC_HEADER = b"ICC_PROFILE\0"
_APP_NUMBERS = range(0xE0, 0xF0)
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
# Segments about the coded file, not about the photo: thumbnails, and settings of the encoder.
_ABOUT_FILE = ((_JFIF, b"JFXX\0"), (0xEC, b"Ducky"))
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # in coded pixels, 00 and D0 to D7 are data
_SHORTEST = 12  # bytes of a complete segment of JFIF or Adobe
_MAX_MARKERS = 100_000  # a photo has some hundred
_NO_LENGTH = (0x01, *range(0xD0, 0xD8))
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
    pictures: int = 1  # that the multi-picture index lists
    dropped: list[str] = field(default_factory=list)


def read_jpeg(file: BinaryIO) -> Source:
    """Read the metadata of a JPEG file; of several pictures, the first one is read.

    Args:
        file: opened for reading.
    """
    found, parts, at = _Found(), [(0, 2)], 2
    for marker, begin, at in _segments(file):
        is_plain = marker not in _APP_NUMBERS and marker != _COM
        content = b"" if is_plain else _content(file, begin, at)
        if is_plain or _is_coding(marker, content):
            parts.append((begin, at))
        if not is_plain:
            _take(found, marker, content)
    size = file.seek(0, 2)
    parts.append((at, size))
    names = [*_behind(file, at, found), *found.dropped]
    return Source(_photo(found, names), file, joined(parts), tuple(names))


def _segments(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield marker, begin and end of the segments before the first coded pixels."""
    size, at = file.seek(0, 2), 2
    while at + 4 <= size:
        file.seek(at)
        head = file.read(4)
        if head[0] != 0xFF:
            return
        if head[1] == 0xFF or head[1] in _NO_LENGTH:  # fill bytes
            at += 1 if head[1] == 0xFF else 2
            continue
        end = at + 2 + struct.unpack_from(">H", head, 2)[0]
        if head[1] == _SOS or end > size or end < at + 4:
            return
        yield head[1], at, end
        at = end


def _content(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin + 4)
    return file.read(end - begin - 4)


def _is_coding(marker: int, content: bytes) -> bool:
    """Whether the decoder needs a segment: JFIF and Adobe state the colour space."""
    name = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe"}.get(marker)
    return name is not None and content.startswith(name) and len(content) >= _SHORTEST


def _take(found: _Found, marker: int, content: bytes) -> None:
    """Sort a segment with metadata."""
    if marker == _COM:
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
        found.pictures = _count_pictures(content[4:])
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


def _count_pictures(block: bytes) -> int:
    """Number of pictures in a multi-picture index (CIPA DC-007), a TIFF directory; at least 1."""
    order = "<" if block[:2] == b"II" else ">"
    try:
        at = struct.unpack_from(order + "I", block, 4)[0]
        for entry in range(struct.unpack_from(order + "H", block, at)[0]):
            tag, _, _, value = struct.unpack_from(order + "HHII", block, at + 2 + 12 * entry)
            if tag == 0xB001:
                return min(max(value, 1), 1000)
    except struct.error:
        pass
    return 1


def _behind(file: BinaryIO, start: int, found: _Found) -> list[str]:
    """What follows the first picture: its names, as far as they are known."""
    file.seek(start)
    data = file.read()
    at, match = 0, None
    for _ in range(_MAX_MARKERS):
        match = _MARKER.search(data, at)
        if match is None or match[1] == b"\xd9":
            break
        at = match.end()
        if match[1] not in (b"\x01", b"\xd8"):  # these have no length
            at += struct.unpack(">H", data[at : at + 2].rjust(2, b"\0"))[0]
    rest = data[match.end() :] if match and match[1] == b"\xd9" else b""
    if not rest.strip(b"\0"):
        return [_pictures(found.pictures - 1)] * (found.pictures > 1)
    if b"ftyp" in rest and found.pictures == 1:
        return [FILM]
    is_picture = rest.startswith(b"\xff\xd8\xff")
    count = found.pictures - 1 or int(is_picture)
    return [_pictures(count)] if count else [f"{len(rest)} bytes behind the picture"]


def _pictures(count: int) -> str:
    return f"{count} more picture{'s' * (count > 1)}"


def _photo(found: _Found, names: list[str]) -> Photo:
    resources, exif = read_resources(b"".join(found.photoshop)), b"".join(found.exif)
    extended = _extended(found)
    is_named = bool(found.extended) or extended_name(found.xmp) is not None
    if is_named and (extended is None or len(found.extended) > 1):
        names.append("extended XMP packet (damaged)")
    return Photo(
        torch.empty(0),
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
    try:
        return exif_dpi(exif) or (_DEFAULT_DPI, _DEFAULT_DPI)
    except struct.error:
        return None
