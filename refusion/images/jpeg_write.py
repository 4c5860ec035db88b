"""Segments with metadata of a JPEG file that Pillow does not write itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from refusion.images.carry import JPEG_SEGMENT
from refusion.images.iptc import PHOTOSHOP, resource_of
from refusion.images.jpeg_segments import APP1, EXTENDED_HEADER, segment
from refusion.images.photo import Photo
from refusion.images.xmp import extended_name

_APP13, _COMMENT = 0xED, 0xFE


def extra_segments(like: Photo) -> bytes:
    """IPTC records, Photoshop resources, extended XMP packet and comments of a photo.

    A long block is divided among segments that follow each other.
    """
    resources = resource_of(like.iptc) + like.photoshop
    segments = [segment(_APP13, PHOTOSHOP + part) for part in _parts(resources)]
    if like.xmp_extended is not None and like.xmp is not None:
        name = (extended_name(like.xmp) or "").encode("latin-1", "replace")
        head, length = EXTENDED_HEADER + name, len(like.xmp_extended)
        for number, part in enumerate(_parts(like.xmp_extended)):
            place = struct.pack(">II", length, number * JPEG_SEGMENT)
            segments.append(segment(APP1, head + place + part))
    return b"".join([*segments, *(segment(_COMMENT, comment) for comment in like.comments)])


def _parts(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), JPEG_SEGMENT):
        yield content[at : at + JPEG_SEGMENT]
