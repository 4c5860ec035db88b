"""IPTC records (IPTC-IIM 4.2) and the Photoshop image resources that contain them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from refusion.images.exif import ARTIST, COPYRIGHT, DESCRIPTION, decoded

PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC = 0x0404
_THUMBNAILS = (0x0409, 0x040C)  # they show the photo before the restoration
_SIGNATURES = (b"8BIM", b"AgHg", b"DCSR", b"PHUT", b"MeSa")
# Records of section 2 that EXIF can hold: by-line, copyright notice, caption.
_FIELDS = {80: ARTIST, 116: COPYRIGHT, 120: DESCRIPTION}


@dataclass(frozen=True)
class Resources:
    """Photoshop image resources.

    Attributes:
        iptc: the IPTC records; None if there are none.
        others: all other resources, unchanged and in order, without thumbnails.
    """

    iptc: bytes | None
    others: bytes


def read_resources(content: bytes) -> Resources:
    """Split Photoshop image resources; a resource that is cut off ends the list.

    Args:
        content: resources one behind the other, without the name "Photoshop 3.0".
    """
    iptc, others, at = None, [], 0
    while content[at : at + 4] in _SIGNATURES and at + 12 <= len(content):
        number, length_of_name = struct.unpack_from(">HB", content, at + 4)
        begin = at + 6 + (length_of_name // 2 + 1) * 2  # length and name have an even sum
        if begin + 4 > len(content):
            break
        size = struct.unpack_from(">I", content, begin)[0]
        end = begin + 4 + size
        if end > len(content):
            break
        if number == _IPTC:
            iptc = iptc or content[begin + 4 : end]
        elif number not in _THUMBNAILS:
            others.append(content[at:end] + bytes(size % 2))
        at = end + size % 2
    return Resources(iptc or None, b"".join(others))


def resource_of(iptc: bytes | None) -> bytes:
    """Photoshop image resource with IPTC records; nothing without records."""
    if not iptc:
        return b""
    return b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def iptc_texts(records: bytes | None) -> dict[int, str]:
    """Artist, copyright and description of IPTC records, by the EXIF tag that can hold them."""
    values: dict[tuple[int, int], list[bytes]] = {}
    at = 0
    while records and at + 5 <= len(records) and records[at] == 0x1C:
        section, number, size = struct.unpack_from(">BBH", records, at + 1)
        if size & 0x8000:  # an extended record, which is longer than any text
            break
        values.setdefault((section, number), []).append(records[at + 5 : at + 5 + size])
        at += 5 + size
    texts = {
        tag: "; ".join(decoded(value) for value in values.get((2, number), []))
        for number, tag in _FIELDS.items()
    }
    return {tag: text for tag, text in texts.items() if text.strip()}
