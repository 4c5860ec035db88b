"""Encoding of TIFF 6.0 and BigTIFF files with 8, 16 or 32 (float) bits and the tags of a photo.

This module writes the file layout and uses Pillow only for the directory. Pillow cannot encode
16-bit colour nor add an EXIF directory to compressed 8-bit files; tifffile cannot write EXIF.
"""

from __future__ import annotations

import zlib
from itertools import accumulate
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from refusion.images.photo import Photo

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
    tags = _tags(like, exif, is_big)
    tags[256], tags[257] = width, height
    tags[258] = (pixels.dtype.itemsize * 8,) * channels  # BitsPerSample
    tags[259] = 8 if deflate else 1  # Compression
    tags[262] = 2 if channels > 2 else 1  # PhotometricInterpretation: RGB, or black is zero
    tags[277], tags[278], tags[284] = channels, rows, 1  # per pixel, RowsPerStrip, interleaved
    tags[317] = 2 if deflate and not is_float else 1  # Predictor
    tags[339] = (3 if is_float else 1,) * channels  # SampleFormat
    if channels in (2, 4):
        tags[338] = 2  # ExtraSamples: unassociated alpha
    tags.tagtype[273] = tags.tagtype[279] = TiffTags.LONG8 if is_big else TiffTags.LONG
    tags[273] = tuple(accumulate([0, *sizes[:-1]]))  # StripOffsets; Pillow adds the first
    tags[279] = tuple(sizes)
    tags.save(file)
    file.writelines(strips)


def _tags(like: Photo, exif: bytes | None, is_big: bool) -> ImageFileDirectory_v2:
    """The directory entries that do not depend on the sample layout."""
    tags = ImageFileDirectory_v2(_HEADERS[is_big])
    if exif:
        source = Image.Exif()
        source.load(b"Exif\0\0" + exif)
        for tag in source:
            tags[tag] = _directory(source, tag) if tag in TiffTags.TAGS_V2_GROUPS else source[tag]
    if like.icc:
        tags[34675] = like.icc
    if like.xmp:
        tags.tagtype[700] = TiffTags.BYTE
        tags[700] = like.xmp
    if like.iptc:
        tags.tagtype[33723] = TiffTags.UNDEFINED
        tags[33723] = like.iptc
    if like.dpi:
        tags[282], tags[283], tags[296] = *like.dpi, 2
    return tags


def _directory(exif: Image.Exif, tag: int) -> dict[int, object]:
    """Entries of a directory that a tag refers to, with its Interop directory; offsets are new."""
    inner = ExifTags.IFD.Interop
    entries = dict(exif.get_ifd(tag))
    return entries | {inner: exif.get_ifd(inner)} if inner in entries else entries


def _strip(rows: np.ndarray, deflate: bool) -> bytes:
    rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
    if not deflate:
        return rows.tobytes()
    if rows.dtype.kind == "u":
        rows = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    return zlib.compress(rows.tobytes(), _LEVEL)
