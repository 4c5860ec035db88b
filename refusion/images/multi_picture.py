"""Pictures behind the first one of a JPEG file: where they are, and the index that lists them.

A multi-picture index (CIPA DC-007) is a segment with offsets and lengths. A container directory
(motion photos, Ultra HDR, Dynamic Depth) is a list in the XMP packet; its items follow the first
picture in the order of the list.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from refusion.images.jpeg_blocks import JpegBlocks, extended_packet
from refusion.images.jpeg_segments import INDEX_HEADER
from refusion.images.xmp import DYNAMIC_DEPTH, ITEM
from refusion.images.xmp_values import items_of

_SPACES = (ITEM, f"{DYNAMIC_DEPTH}item/")  # of the items of a container directory
_MAX_PICTURES = 32
_MAX_DIGITS = 10  # of a length in bytes
_PRIMARY = 0x030000  # kind of the first picture of an index
_HEAD = b"MM\0*\0\0\0\x08"


@dataclass(frozen=True)
class FurtherPicture:
    """Place of a picture, or of another item, behind the first picture.

    Attributes:
        begin: offset in the file.
        end: offset behind it; not behind the end of the file.
        semantic: what a container directory says it is, such as "GainMap" or "Depth".
        uri: name by which other properties refer to it.
    """

    begin: int
    end: int
    semantic: str = ""
    uri: str = ""

    def open(self, file: BinaryIO, limit: int) -> BinaryIO:
        """Read the picture, up to a number of bytes, and open it as a file.

        Args:
            file: the whole file, opened for reading.
            limit: largest number of bytes.
        """
        file.seek(self.begin)
        return io.BytesIO(file.read(min(self.end - self.begin, limit)))


def further_pictures(file: BinaryIO, blocks: JpegBlocks, end: int) -> list[FurtherPicture]:
    """Find the pictures behind the first one, sorted by their place.

    Args:
        file: the JPEG file, opened for reading.
        blocks: its segments.
        end: offset behind the first picture.

    Returns:
        At most 32 pictures, each place once.
    """
    size = file.seek(0, 2)
    found: dict[int, FurtherPicture] = {}
    for picture in (*_in_container(blocks, end), *_in_index(blocks)):
        begin, last = picture.begin, min(picture.end, size)
        if end <= begin < last and len(found) < _MAX_PICTURES:
            found.setdefault(begin, FurtherPicture(begin, last, picture.semantic, picture.uri))
    file.seek(end)
    if not found and file.read(3) == b"\xff\xd8\xff":
        found[end] = FurtherPicture(end, size)
    return [found[begin] for begin in sorted(found)]


def listed_items(blocks: JpegBlocks) -> list[Mapping[str, str]]:
    """Items of the container directory of a JPEG file: Semantic, Mime, Length, DataURI and others.

    Args:
        blocks: segments of the file.
    """
    return items_of(blocks.xmp, _SPACES) or items_of(extended_packet(blocks), _SPACES)


def _in_container(blocks: JpegBlocks, end: int) -> Iterator[FurtherPicture]:
    """Items of the container directory; the first item is the first picture."""
    items = listed_items(blocks)
    at = end + _number(items[0].get("Padding")) if items else end
    for item in items[1:]:
        length = _number(item.get("Length"))
        semantic, uri = item.get("Semantic", ""), item.get("DataURI", "")
        yield FurtherPicture(at, at + length, semantic, uri)
        at += length + _number(item.get("Padding"))


def _number(text: str | None) -> int:
    """A length in bytes; 0 if it is missing or no number."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else 0


def _in_index(blocks: JpegBlocks) -> Iterator[FurtherPicture]:
    for begin, length in blocks.index.places:
        yield FurtherPicture(begin, begin + length)


def index_segment(first: int, second: int, base: int) -> bytes:
    """Content of the segment with the index of two pictures, the second behind the first.

    The length of the content does not depend on the values.

    Args:
        first: length of the first picture in bytes.
        second: length of the second picture in bytes.
        base: offset in the file of the directory, 4 bytes behind the begin of this content.
    """
    entries = struct.pack(">IIIHH", _PRIMARY, first, 0, 0, 0)
    entries += struct.pack(">IIIHH", 0, second, first - base, 0, 0)
    tags = struct.pack(">HHHI4s", 3, 0xB000, 7, 4, b"0100")
    tags += struct.pack(">HHII", 0xB001, 4, 1, 2)
    place = len(_HEAD) + len(tags) + 12 + 4  # behind this tag and the offset of a next directory
    tags += struct.pack(">HHIII", 0xB002, 7, len(entries), place, 0)
    return INDEX_HEADER + _HEAD + tags + entries
