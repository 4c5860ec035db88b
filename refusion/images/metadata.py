"""Orientation in EXIF and XMP metadata: reading it, and resetting it to 1.

An EXIF block (EXIF 2.32) is a small TIFF file. Values are changed in place, because the private
notes of camera makers refer to other parts of the block by absolute offsets.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import ExifTags, Image

ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_WIDTH_TAGS = (0x0100, 0xA002)
_HEIGHT_TAGS = (0x0101, 0xA003)
_BIG_TIFF = 43
_FORMATS = {3: "H", 4: "I"}  # SHORT and LONG
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
    )
)


def exif_orientation(exif: bytes) -> int:
    """Return the EXIF orientation 1..8; 1 if it is missing or invalid.

    Raises:
        struct.error: ``exif`` is not an EXIF block.
    """
    order, start = _header(exif)
    for tag, kind, at in _entries(exif, order, start):
        if tag == ORIENTATION and kind in _FORMATS:
            value = struct.unpack_from(order + _FORMATS[kind], exif, at)[0]
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
    directories = [start]
    for directory in directories:
        for tag, kind, at in _entries(exif, order, directory):
            if tag == _EXIF_IFD and directory == start:
                directories.append(struct.unpack_from(order + "I", exif, at)[0])
            elif tag in values and kind in _FORMATS:
                largest = 0xFFFF if kind == 3 else 0xFFFFFFFF
                number = min(values[tag], largest)
                struct.pack_into(order + _FORMATS[kind], patched, at, number)
    # The thumbnail shows the photo before restoration: remove the offset of its directory.
    entries = struct.unpack_from(order + "H", exif, start)[0]
    struct.pack_into(order + "I", patched, start + 2 + 12 * entries, 0)
    return bytes(patched)


def upright_xmp(xmp: bytes) -> bytes:
    """Return the XMP packet with ``tiff:Orientation`` 1, as attribute or as element."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


def exif_of_tiff(file: BinaryIO) -> bytes | None:
    """Build an EXIF block from the tags of an open TIFF file; None if it has no such tags."""
    file.seek(0)
    head, exif = file.read(16), Image.Exif()
    order = "<" if head.startswith(b"II") else ">"
    if struct.unpack_from(order + "H", head, 2)[0] == _BIG_TIFF:
        # A BigTIFF is read with 64-bit offsets; the block is written with 32-bit offsets.
        exif.endian, exif.bigtiff = order, True
        exif.load_from_fp(file, struct.unpack_from(order + "Q", head, 8)[0])
        exif.bigtiff = False
    else:
        file.seek(0)
        exif.load_from_fp(file)
    for tag in set(exif) - _PHOTO_TAGS:
        del exif[tag]
    return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None


def _header(exif: bytes) -> tuple[str, int]:
    """Byte order as a `struct` prefix, and offset of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        raise struct.error("no TIFF header")
    return order, struct.unpack_from(order + "I", exif, 4)[0]


def _entries(exif: bytes, order: str, directory: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, type and byte offset of the value for each entry of a directory."""
    for index in range(struct.unpack_from(order + "H", exif, directory)[0]):
        at = directory + 2 + 12 * index
        yield *struct.unpack_from(order + "HH", exif, at), at + 8
