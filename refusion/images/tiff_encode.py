"""Encoding of TIFF 6.0 and BigTIFF files with 8, 16 or 32 (float) bits and the tags of a photo.

Pillow cannot encode 16-bit colour nor add an EXIF directory to compressed 8-bit files; tifffile
cannot write EXIF.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate
from typing import BinaryIO

import numpy as np

from refusion.images.exif_copy import tags_of_exif
from refusion.images.photo import Photo
from refusion.images.tiff_directory import Directory, Value, stored

_STRIP_BYTES = 1 << 20
_BIG_TIFF_BYTES = 4_000_000_000
_LEVEL = 6
_HEADERS = {False: b"II*\0\x08\0\0\0", True: b"II+\0\x08\0\0\0" + (16).to_bytes(8, "little")}


def encode_tiff(file: BinaryIO, pixels: np.ndarray, like: Photo, exif: bytes | None) -> None:
    """Write a TIFF: first the directory, then the strips of rows.

    Args:
        file: opened for writing, at its start.
        pixels: samples (H, W, C) uint8, uint16 or float32; C gray, gray+alpha, RGB or RGBA.
        like: photo whose compression, ICC profile, XMP, IPTC and resolution are used.
        exif: EXIF block from its TIFF header on, or None.
    """
    height, width, channels = pixels.shape
    deflate, is_float = like.tiff_compression != "none", pixels.dtype.kind == "f"
    is_big = pixels.nbytes > _BIG_TIFF_BYTES
    rows = max(1, _STRIP_BYTES // pixels[0].nbytes)
    strips = [_strip(pixels[top : top + rows], deflate) for top in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    tags = _tags(like, exif) | {
        256: _long(width),
        257: _long(height),
        258: _short(*(pixels.dtype.itemsize * 8,) * channels),  # BitsPerSample
        259: _short(8 if deflate else 1),  # Compression
        262: _short(2 if channels > 2 else 1),  # PhotometricInterpretation: RGB, or black is zero
        277: _short(channels),
        278: _long(rows),  # RowsPerStrip
        284: _short(1),  # interleaved
        317: _short(2 if deflate and not is_float else 1),  # Predictor
        339: _short(*(3 if is_float else 1,) * channels),  # SampleFormat
        279: _offsets(sizes, is_big),  # StripByteCounts
    }
    if channels in (2, 4):
        tags[338] = _short(2)  # ExtraSamples: unassociated alpha
    header = _HEADERS[is_big]
    tags[273] = _offsets(sizes, is_big)  # StripOffsets, of the same length as these numbers
    first = len(header) + len(stored(tags, "<", len(header), is_big=is_big))
    tags[273] = _offsets(accumulate([first, *sizes[:-1]]), is_big)
    file.write(header + stored(tags, "<", len(header), is_big=is_big))
    file.writelines(strips)


def _tags(like: Photo, exif: bytes | None) -> Directory:
    """The directory entries that do not depend on the sample layout."""
    tags = tags_of_exif(exif) if exif else {}
    blocks = ((700, 1, like.xmp), (33723, 7, like.iptc), (34675, 7, like.icc))
    blocks += ((34377, 1, like.photoshop),)
    tags |= {tag: Value(kind, len(block), block) for tag, kind, block in blocks if block}
    if like.dpi:
        tags[282], tags[283] = (_ratio(value) for value in like.dpi)
        tags[296] = _short(2)
    return tags


def _short(*values: int) -> Value:
    return Value(3, len(values), struct.pack(f"<{len(values)}H", *values))


def _long(value: int) -> Value:
    return Value(4, 1, struct.pack("<I", value))


def _offsets(values: Iterable[int], is_big: bool) -> Value:
    values = tuple(values)
    kind, code = (16, "Q") if is_big else (4, "I")
    return Value(kind, len(values), struct.pack(f"<{len(values)}{code}", *values))


def _ratio(value: float) -> Value:
    part = Fraction(value).limit_denominator(10_000)
    return Value(5, 1, struct.pack("<II", part.numerator, part.denominator))


def _strip(rows: np.ndarray, deflate: bool) -> bytes:
    rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
    if not deflate:
        return rows.tobytes()
    if rows.dtype.kind == "u":
        rows = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    return zlib.compress(rows.tobytes(), _LEVEL)
