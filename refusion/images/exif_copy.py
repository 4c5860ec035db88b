"""EXIF blocks made of the tags of a TIFF file and the reverse, and shorter EXIF blocks."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from typing import BinaryIO

from PIL import ExifTags

from refusion.images.exif import COMMENT, TITLE
from refusion.images.tiff_directory import Directory, DirectoryReader, Value, stored, swapped

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
        ExifTags.Base.ProcessingSoftware,
        ExifTags.Base.DocumentName,
        ExifTags.Base.PageName,
        TITLE,
        COMMENT,
        *range(COMMENT + 1, COMMENT + 4),  # XPAuthor, XPKeywords, XPSubject
        ExifTags.Base.PrintImageMatching,
    )
)
# Tags that state the layout of a file, and blocks that are written on their own.
_LAYOUT_TAGS = frozenset(
    (
        *(*range(254, 260), *range(262, 267), 273, *range(277, 285), *range(288, 298), 301),
        *(*range(317, 348), *range(512, 533), 700, 33723, 34377, 34675, 37724),
        *range(50706, 51200),
    )
)
_PADDING_TAGS = frozenset((59932, 59933))  # that Windows writes: zeros, and an offset
_CODING_TAGS = range(32768, 33432)  # of compression methods and of raw photos
_NAMES = {37724: "layers of Photoshop", 34735: "GeoTIFF keys", 42112: "GDAL metadata"}


def unknown_tags(tags: Collection[int]) -> list[str]:
    """Names of private tags of a TIFF file that no EXIF block holds and no result keeps."""
    known = _PHOTO_TAGS | _PADDING_TAGS | _LAYOUT_TAGS - {37724}
    return [
        _NAMES.get(tag, f"TIFF tag {tag}")
        for tag in sorted(tags)
        if tag >= 32768 and tag not in known and tag not in _CODING_TAGS
    ]


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
    reader = DirectoryReader(file)
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
    reader = DirectoryReader(io.BytesIO(exif + bytes(16)))
    directory = reader.directory(reader.start)
    excess = len(_block(directory, reader.order)) - limit
    parts = [directory, *(part for part in directory.values() if isinstance(part, dict))]
    values = [
        (len(value.content), number, tag)
        for number, part in enumerate(parts)
        for tag, value in part.items()
        if isinstance(value, Value)
    ]
    for length, number, tag in sorted(values, reverse=True):
        if excess <= 0:
            break
        del parts[number][tag]
        excess -= 12 + (length + length % 2) * (length > 4)
    block = _block(directory, reader.order)
    return block if len(block) <= limit else None


def tags_of_exif(exif: bytes) -> Directory:
    """Tags of an EXIF block for the first directory of a little-endian TIFF file.

    Raises:
        struct.error: ``exif`` is not an EXIF block.
    """
    reader = DirectoryReader(io.BytesIO(exif + bytes(16)))
    directory = reader.directory(reader.start)
    for tag in _LAYOUT_TAGS.intersection(directory):
        del directory[tag]
    return swapped(directory) if reader.order == ">" else directory


def _block(directory: Directory, order: str) -> bytes:
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    return head + stored(directory, order, len(head))
