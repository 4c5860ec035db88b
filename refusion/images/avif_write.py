"""Writing of AVIF files: imagecodecs encodes the pixels, and the metadata is added to the boxes.

ISO/IEC 14496-12 and 23008-12 define the boxes, the AV1 Image File Format their use.
"""

from __future__ import annotations

import struct

import numpy as np

from refusion.images.colour import code_points
from refusion.images.packages import load
from refusion.images.photo import Photo

QUALITY = 90
"""Quality of a result whose photo states none, 0..100 of libavif."""
_FULL_COLOUR = 90  # quality from which the colours keep the full resolution
_SPEED = (
    8  # 0.3 to 0.4 of the time of 6, the default of libavif; 0.1 dB less, files of the same size
)
# Matrices of ITU-T H.273. For 8 bits with BT.601, libyuv converts and rounds the colours down: a
# green tint of half a level. With the others libavif converts, and rounds to the nearest value.
_BT709, _BT2020 = 1, 9
_UNSPECIFIED = 2


def encode_avif(pixels: np.ndarray, like: Photo, exif: bytes | None) -> bytes:
    """Encode an image as AVIF with the metadata of a photo.

    Args:
        pixels: (H, W, C) uint8, or uint16 over the full range; C gray, gray+alpha, RGB or RGBA.
        like: photo whose ICC profile, XMP, quality and depth are used. Samples of 16 bits are
            stored with 10 or 12.
        exif: EXIF block from its TIFF header on, or None.

    Raises:
        ValueError: the package imagecodecs is not installed.
    """
    package = load("AVIF")
    bits = 8 if pixels.dtype == np.uint8 else like.coded_depth or 10
    quality = like.quality or QUALITY
    channels = pixels.shape[2]
    if channels == 2:  # imagecodecs has no gray with alpha
        pixels = pixels[..., [0, 0, 0, 1]]
    is_full = quality >= _FULL_COLOUR
    primaries, transfer = (_UNSPECIFIED,) * 2 if like.icc else code_points(like.png_colour)
    data = package.avif_encode(
        _narrow(pixels[..., 0] if channels == 1 else pixels, bits),
        level=quality,
        speed=_SPEED,
        bitspersample=bits,
        pixelformat="400" if channels < 3 else "444" if is_full else "420",
        primaries=primaries,
        transfer=transfer,
        matrix=_BT2020 if primaries == _BT2020 else _BT709,
    )
    return with_metadata(bytes(data), like.icc, exif, like.xmp)


def _narrow(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Samples of 16 bits, rounded to fewer bits; those of 8 bits as they are."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    full = (1 << bits) - 1
    return ((pixels.astype(np.uint32) * full + 32767) // 65535).astype(np.uint16)


def with_metadata(data: bytes, icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Add metadata to an AVIF file of libavif, which has none.

    The blocks follow the coded pixels. The boxes refer to them by their offsets, and to the coded
    pixels by offsets that grow with the boxes.

    Args:
        data: the file: the boxes ftyp, meta and mdat, with one image and perhaps its alpha.
        icc: ICC profile, or None.
        exif: EXIF block from its TIFF header on, or None.
        xmp: XMP packet, or None.
    """
    blocks = [(b"Exif\0", bytes(4) + exif)] if exif else []
    blocks += [(b"mime\0application/rdf+xml\0", xmp)] if xmp else []
    if not blocks and not icc:
        return data
    head, boxes, rest = _split(data)
    added = _with_items(boxes, blocks, icc, moved=0, end=0)
    moved = len(_box(b"meta", added)) - (len(data) - len(head) - len(rest))
    boxes = _with_items(boxes, blocks, icc, moved, len(data) + moved + 8)
    content = b"".join(block for _, block in blocks)
    more = _box(b"mdat", content) if blocks else b""
    return head + _box(b"meta", boxes) + rest + more


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """What precedes the box meta, its content, and what follows it."""
    at = 0
    while data[at + 4 : at + 8] != b"meta":
        at += struct.unpack_from(">I", data, at)[0]
    end = at + struct.unpack_from(">I", data, at)[0]
    return data[:at], data[at + 8 : end], data[end:]


def _with_items(
    meta: bytes, blocks: list[tuple[bytes, bytes]], icc: bytes | None, moved: int, end: int
) -> bytes:
    """Content of the box meta with further items.

    Args:
        meta: content of the box.
        blocks: kind and data of each item.
        icc: profile of the image.
        moved: number of bytes by which the coded pixels move.
        end: offset of the data of the first block.
    """
    found, at = {}, 4
    while at < len(meta):
        size, kind = struct.unpack_from(">I4s", meta, at)
        found[kind] = meta[at + 8 : at + size]
        at += size
    image = struct.unpack_from(">H", found[b"pitm"], 4)[0]
    count = struct.unpack_from(">H", found[b"iinf"], 4)[0]
    numbers = range(count + 1, count + 1 + len(blocks))  # libavif counts its items from 1
    entries, places, references = b"", b"", b""
    for number, (kind, content) in zip(numbers, blocks, strict=True):
        name, _, more = kind.partition(b"\0")
        entry = struct.pack(">IHH4s", 2 << 24, number, 0, name) + b"\0" + more
        entries += _box(b"infe", entry)
        places += struct.pack(">HHHII", number, 0, 1, end, len(content))
        references += _box(b"cdsc", struct.pack(">HHH", number, 1, image))
        end += len(content)
    total = count + len(blocks)
    found[b"iinf"] = bytes(4) + struct.pack(">H", total) + found[b"iinf"][6:] + entries
    found[b"iloc"] = _moved(found[b"iloc"], moved, total) + places
    found[b"iref"] = found.get(b"iref", bytes(4)) + references
    if icc:
        found[b"iprp"] = _with_profile(found[b"iprp"], icc, image)
    order = sorted(found, key=lambda kind: kind == b"iprp")  # after the references
    return meta[:4] + b"".join(_box(kind, found[kind]) for kind in order)


def _moved(places: bytes, moved: int, total: int) -> bytes:
    """Content of the box iloc for data that has moved, and for a number of items."""
    if places[:6] != b"\0\0\0\0\x44\0":
        raise ValueError("imagecodecs writes other boxes than expected; use another version of it")
    head, entries = places[:6] + struct.pack(">H", total), b""
    for at in range(8, len(places), 14):
        number, source, extents, offset, length = struct.unpack_from(">HHHII", places, at)
        entries += struct.pack(">HHHII", number, source, extents, offset + moved, length)
    return head + entries


def _with_profile(properties: bytes, icc: bytes, image: int) -> bytes:
    """Content of the box iprp with an ICC profile for an image."""
    size = struct.unpack_from(">I", properties)[0]
    known, rest = properties[8:size], properties[size + 8 :]
    at = number = 0
    while at < len(known):
        number += 1
        at += struct.unpack_from(">I", known, at)[0]
    known += _box(b"colr", b"prof" + icc)
    links, at = rest[:8], 8
    while at < len(rest):
        item, count = struct.unpack_from(">HB", rest, at)
        indices = rest[at + 3 : at + 3 + count]
        at += 3 + count
        indices += bytes((number + 1,)) if item == image else b""
        links += struct.pack(">HB", item, len(indices)) + indices
    return _box(b"ipco", known) + _box(b"ipma", links)
