"""Segments of a JPEG stream before its coded pixels (ITU-T T.81, annex B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

EXIF_HEADER = b"Exif\0\0"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
"""Start of the segments of ISO 21496-1."""
INDEX_HEADER = b"MPF\0"
"""Start of the segment with a multi-picture index (CIPA DC-007)."""
APP1, APP2 = 0xE1, 0xE2
_FILL = 0xFF
_PIXELS_OR_END = (b"\xff\xda", b"\xff\xd9")
_NO_LENGTH = (0x00, 0x01, *range(0xD0, 0xD9))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 20_000
ARITHMETIC = range(0xC9, 0xD0)
"""Markers of frames with arithmetic codes; all others have Huffman codes."""
MAX_SCANS = 500
"""Scans of a picture that are decoded; each one passes over all pixels. Photos have about ten."""


@dataclass(frozen=True)
class Frame:
    """A frame header.

    Attributes:
        marker: 0xC0 to 0xCF, the kind of coding.
        height: in pixels.
        width: in pixels.
        components: number of colours.
    """

    marker: int
    height: int
    width: int
    components: int


def segments(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield marker, begin and end of each segment; bytes between segments are skipped.

    Args:
        file: opened for reading. The end of the last segment may lie behind the end of the file.
    """
    at = 2
    for _ in range(_MAX_SEGMENTS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[:2] in _PIXELS_OR_END:
            return
        fill, marker, length = struct.unpack(">BBH", head)
        if fill != _FILL or marker == _FILL:
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        else:
            begin, at = at, at + 2 + max(2, length)
            yield marker, begin, at


def segment(marker: int, content: bytes) -> bytes:
    """A segment with its marker and its length.

    Args:
        marker: second byte of the marker.
        content: at most 65533 bytes.
    """
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def read_frame(file: BinaryIO) -> Frame | None:
    """Read the first frame header; None if there is none.

    Args:
        file: opened for reading.

    Raises:
        struct.error: the frame header is cut off.
    """
    for marker, begin, _ in segments(file):
        if marker in _FRAMES:
            file.seek(begin + 5)
            return Frame(marker, *struct.unpack(">HHB", file.read(5)))
    return None
