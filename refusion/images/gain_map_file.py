"""Gain maps in JPEG files: found behind a photo, and written behind another one.

There are three forms: Ultra HDR (Android) with XMP properties of Adobe, ISO 21496-1, and the form
of Apple. In the first form the XMP packet of the photo lists the gain map. In all forms the
multi-picture index lists it.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from refusion.images.gain_map import GainMap
from refusion.images.jpeg_blocks import end_of_picture, read_blocks
from refusion.images.jpeg_segments import (
    APP2,
    INDEX_HEADER,
    ISO_GAIN_MAP,
    Frame,
    read_frame,
    segment,
    segments,
)
from refusion.images.multi_picture import FurtherPicture, index_segment
from refusion.images.source import MAX_BLOCK
from refusion.images.xmp import APPLE_GAIN_MAP, CONTAINER, HDR_GAIN_MAP, ITEM, RDF
from refusion.images.xmp_extended import with_description
from refusion.images.xmp_values import properties

_VERSION = bytes(4)  # of ISO 21496-1: minimum version and version of the writer
_START = b"\xff\xd8\xff"
_ASPECT = 0.1  # tolerance of the logarithm of the ratio of two aspect ratios


def find_gain_map(
    file: BinaryIO, pictures: Sequence[FurtherPicture]
) -> tuple[GainMap, FurtherPicture] | None:
    """Find the gain map among the pictures behind a photo.

    Args:
        file: the JPEG file, opened for reading.
        pictures: the pictures behind its first picture.

    Returns:
        The gain map and its place; None if there is none, or if it is damaged, longer than 32 MB or
        has more pixels or another aspect ratio than the photo.
    """
    frame = read_frame(file) if pictures else None
    for picture in pictures if frame is not None else ():
        with contextlib.suppress(ValueError, struct.error):
            found = _gain_map(picture.open(file, MAX_BLOCK), frame)
            if found is not None:
                gain_map, length = found
                return gain_map, replace(picture, end=picture.begin + length)
    return None


def _gain_map(file: BinaryIO, photo: Frame) -> tuple[GainMap, int] | None:
    """The gain map of a photo at the start of a file, and its length in the file."""
    if file.read(3) != _START:
        return None
    blocks = read_blocks(file)
    spaces = {space for (space, _), _ in properties(blocks.xmp, (HDR_GAIN_MAP, APPLE_GAIN_MAP))}
    if not {HDR_GAIN_MAP, APPLE_GAIN_MAP} & spaces and not blocks.is_iso_gain_map:
        return None
    frame, end = read_frame(file), end_of_picture(file, blocks.end)
    if frame is None or end is None or not _suits(frame, photo):
        return None
    jpeg = _without_index(file, end)
    return GainMap(jpeg, HDR_GAIN_MAP in spaces, blocks.is_iso_gain_map), end


def _suits(frame: Frame, photo: Frame) -> bool:
    """Whether a gain map has at most the pixels of its photo, and nearly its aspect ratio."""
    pixels = frame.width * frame.height
    if not 0 < pixels <= photo.width * photo.height:
        return False
    ratio = frame.width * photo.height / (frame.height * photo.width)
    return abs(math.log(ratio)) <= _ASPECT + 1 / min(frame.width, frame.height)


def _without_index(file: BinaryIO, end: int) -> bytes:
    """A JPEG file up to its end, without a multi-picture index."""
    at, parts = 0, []
    indices = [
        (begin, last)
        for marker, begin, last in segments(file)
        if marker == APP2 and file.seek(begin + 4) and file.read(4) == INDEX_HEADER
    ]
    for begin, last in (*indices, (end, end)):
        file.seek(at)
        parts.append(file.read(begin - at))
        at = last
    return b"".join(parts)


def listing_gain_map(xmp: bytes | None, gain_map: GainMap) -> bytes | None:
    """The XMP packet of a photo with the properties that an Ultra HDR file needs.

    Args:
        xmp: packet without such properties; None for no packet.
        gain_map: upright.

    Returns:
        The packet; None if the packet cannot be extended.
    """
    items = (
        'Item:Semantic="Primary" Item:Mime="image/jpeg"',
        f'Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="{len(gain_map.jpeg)}"',
    )
    listed = (
        f'<rdf:li rdf:parseType="Resource"><Container:Item {item}/></rdf:li>' for item in items
    )
    description = (
        f'<rdf:Description xmlns:rdf="{RDF}" rdf:about="" xmlns:hdrgm="{HDR_GAIN_MAP}"'
        f' xmlns:Container="{CONTAINER}" xmlns:Item="{ITEM}" hdrgm:Version="1.0">'
        f"<Container:Directory><rdf:Seq>{''.join(listed)}</rdf:Seq></Container:Directory>"
        "</rdf:Description>"
    )
    return with_description(xmp, description.encode())


def gain_map_segments(gain_map: GainMap) -> bytes:
    """Segments of a photo with a gain map; `with_gain_map` fills in the multi-picture index.

    Args:
        gain_map: upright.
    """
    version = segment(APP2, ISO_GAIN_MAP + _VERSION) if gain_map.is_iso else b""
    return version + segment(APP2, index_segment(0, 0, 0))


def with_gain_map(photo: bytes, gain_map: GainMap) -> bytes:
    """Append a gain map to a coded photo, and state both places in its multi-picture index.

    Args:
        photo: a complete JPEG file with the segments of `gain_map_segments`.
        gain_map: upright.
    """
    places = ((begin + 4, end) for _, begin, end in segments(io.BytesIO(photo)))
    begin, end = next(place for place in places if photo.startswith(INDEX_HEADER, place[0]))
    base = begin + len(INDEX_HEADER)
    index = index_segment(len(photo), len(gain_map.jpeg), base)
    return photo[:begin] + index + photo[end:] + gain_map.jpeg
