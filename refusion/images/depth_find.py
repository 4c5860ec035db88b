"""Depth maps inside JPEG and HEIC photos: where they are, and what their values mean.

Nothing is decoded here. A JPEG has its map in one of these forms: GDepth (Google), base64 in the
XMP packet; Dynamic Depth 1.0 and the container of Google, a file behind the photo that the XMP
packet lists; the form of Apple, a picture behind the photo with an XMP packet of its own. A HEIC
photo has an auxiliary image.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from refusion.images.exif import exif_orientation, repaired_exif
from refusion.images.heif_boxes import HeifFile, Item, orientation_of, read_boxes
from refusion.images.jpeg_blocks import JpegBlocks, end_of_picture, extended_packet, read_blocks
from refusion.images.jpeg_segments import read_frame
from refusion.images.multi_picture import FurtherPicture, further_pictures, listed_items
from refusion.images.source import MAX_BLOCK
from refusion.images.xmp import DEPTH_MAP, GDEPTH
from refusion.images.xmp_values import properties

DISPARITY, INVERSE, LINEAR = "disparity", "RangeInverse", "RangeLinear"
"""What larger values of a map mean: nearer; farther, linear in disparity; farther, in depth."""

_APPLE_PIXELS = "http://ns.apple.com/pixeldatainfo/1.0/"
_APPLE_DEPTH = "http://ns.apple.com/depthData/1.0/"
# Pixel formats of Apple, as numbers: depth in metres with 16 and 32 bits (hdep, fdep).
_IN_METRES = {str(int.from_bytes(name, "big")) for name in (b"hdep", b"fdep")}
_START = b"\xff\xd8\xff"
_AUXILIARY = (b"auxid:2", b"depth", b"disparity")  # parts of the types of auxiliary images


@dataclass(frozen=True)
class StoredDepth:
    """A depth map as it is stored in a photo.

    Attributes:
        meaning: `DISPARITY`, `INVERSE` or `LINEAR`.
        near: depth of the nearest value of a `LINEAR` map, in any unit; NaN if it is not stated.
        far: depth of the farthest value.
        orientation: EXIF orientation 1..8 that turns the map upright.
        size: stored width and height of the photo, before the orientation is applied.
        coded: the map as an image file; None for HEIC, where it is an item of the photo's file.
    """

    meaning: str
    near: float
    far: float
    orientation: int
    size: tuple[int, int]
    coded: bytes | None = None


def find_depth(file: BinaryIO, kind: str) -> StoredDepth | None:
    """Find the depth map of a photo.

    Args:
        file: the photo, opened for reading.
        kind: format of the file, for example "JPEG" or "HEIC".

    Returns:
        The map; None if the photo has none.

    Raises:
        ValueError: the photo states a map that is not there, or is damaged; one line.
    """
    try:
        if kind == "JPEG":
            return _in_jpeg(file)
        return _in_heif(file) if kind == "HEIC" else None
    except struct.error as error:
        raise ValueError("damaged") from error


def _in_jpeg(file: BinaryIO) -> StoredDepth | None:
    blocks, frame = read_blocks(file), read_frame(file)
    if frame is None:
        return None
    values = _values(blocks.xmp, extended_packet(blocks))
    text = values.get((GDEPTH, "Data"))
    if text and (GDEPTH, "Format") in values:
        found = _decoded(text), _google(values, GDEPTH)
    else:
        end = end_of_picture(file, blocks.end) or file.seek(0, 2)
        pictures = further_pictures(file, blocks, end)
        found = _in_container(file, blocks, values, pictures) or _of_apple(file, pictures)
    if found is None:
        return None
    coded, (meaning, near, far) = found
    orientation = _orientation(b"".join(blocks.exif))
    return StoredDepth(meaning, near, far, orientation, (frame.width, frame.height), coded)


def _values(*packets: bytes | None) -> dict[tuple[str, str], str]:
    """The first value of each property of depth maps in XMP packets."""
    spaces = (GDEPTH, DEPTH_MAP, _APPLE_PIXELS, _APPLE_DEPTH)
    found: dict[tuple[str, str], str] = {}
    for packet in packets:
        for name, value in properties(packet, spaces):
            found.setdefault(name, value)
    return found


def _decoded(text: str) -> bytes:
    """The bytes of a base64 text, whose padding may be missing."""
    text = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("its base64 text is damaged") from error


def _orientation(exif: bytes) -> int:
    with contextlib.suppress(struct.error):
        return exif_orientation(repaired_exif(exif)[0])
    return 1


def _google(values: Mapping[tuple[str, str], str], space: str) -> tuple[str, float, float]:
    """Meaning, near and far of a map in one of the forms of Google; the default is RangeInverse."""
    meaning = values.get((space, "Format"), INVERSE)
    if meaning not in (INVERSE, LINEAR):
        raise ValueError(f"its format is '{meaning[:40]}', expected {INVERSE} or {LINEAR}")
    return meaning, _number(values.get((space, "Near"))), _number(values.get((space, "Far")))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _in_container(
    file: BinaryIO,
    blocks: JpegBlocks,
    values: Mapping[tuple[str, str], str],
    pictures: Iterable[FurtherPicture],
) -> tuple[bytes, tuple[str, float, float]] | None:
    """The map that a container directory lists, by its URI or as the item "Depth"."""
    uri = values.get((DEPTH_MAP, "DepthURI"))
    keys = {("Semantic", "Depth"), ("DataURI", uri)} - {("DataURI", None)}
    if not any(pair in keys for item in listed_items(blocks) for pair in item.items()):
        return None
    for picture in pictures:
        if {("Semantic", picture.semantic), ("DataURI", picture.uri)} & keys:
            coded = picture.open(file, MAX_BLOCK)
            space = DEPTH_MAP if any(key[0] == DEPTH_MAP for key in values) else GDEPTH
            return coded.read(), _google(values, space)
    raise ValueError("the file lists it, but ends before it")


def _of_apple(
    file: BinaryIO, pictures: Iterable[FurtherPicture]
) -> tuple[bytes, tuple[str, float, float]] | None:
    """The picture behind the photo whose XMP packet says that it holds disparity or depth."""
    for picture in pictures:
        coded = picture.open(file, MAX_BLOCK)
        if coded.read(3) == _START:
            meaning = _apple(_values(read_blocks(coded).xmp))
            if meaning is not None:
                return coded.getvalue(), meaning
    return None


def _apple(values: Mapping[tuple[str, str], str]) -> tuple[str, float, float] | None:
    """Meaning, near and far of an auxiliary picture of Apple; None if it is no depth map."""
    kind = values.get((_APPLE_PIXELS, "AuxiliaryImageType"), "").encode()
    is_map = any(space == _APPLE_DEPTH for space, _ in values)
    if not (is_map or any(part in kind for part in _AUXILIARY)):
        return None
    if values.get((_APPLE_PIXELS, "NativeFormat")) not in _IN_METRES:
        return DISPARITY, math.nan, math.nan
    ends = (values.get((_APPLE_PIXELS, f"Float{end}Value")) for end in ("Min", "Max"))
    return LINEAR, *map(_number, ends)


def _in_heif(file: BinaryIO) -> StoredDepth | None:
    boxes = read_boxes(file)
    item = next(depth_items(boxes), None)
    if item is None:
        return None
    meaning = _apple(_values(*_packets(file, boxes, item))) or (DISPARITY, math.nan, math.nan)
    # A decoder applies the rotation of the map, if it states one, but not that of the photo.
    is_stated = item.of_kind(b"irot") or item.of_kind(b"imir")
    orientation = 1 if is_stated else orientation_of(boxes.primary)
    return StoredDepth(*meaning, orientation, boxes.primary.size)


def depth_items(boxes: HeifFile) -> Iterator[Item]:
    """Auxiliary images of the main image that are depth maps.

    Args:
        boxes: of a HEIC file.
    """
    for item in boxes.referring(b"auxl", boxes.primary):
        if any(part in item.auxiliary_type for part in _AUXILIARY):
            yield item


def _packets(file: BinaryIO, boxes: HeifFile, item: Item) -> Iterator[bytes]:
    """XMP packets that describe an item."""
    for packet in boxes.describing(item):
        if packet.kind == b"mime":
            with contextlib.suppress(ValueError):
                yield boxes.read(file, packet)
