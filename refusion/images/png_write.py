"""Writing of PNG files (PNG specification, third edition); Pillow cannot write 16-bit colour."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from refusion.images import png_text
from refusion.images.iptc import resource_of
from refusion.images.photo import Photo
from refusion.images.png_read import chunk

_LEVEL = 3  # twice as fast as level 6, files 2 % larger
_ROWS = 256  # rows per band


def encode_png(
    file: BinaryIO, pixels: np.ndarray, like: Photo, exif: bytes | None
) -> tuple[str, ...]:
    """Write an 8-bit or 16-bit PNG.

    Args:
        file: opened for writing, at its start.
        pixels: samples (H, W, C) uint8 or uint16; C gray, gray+alpha, RGB or RGBA.
        like: photo whose metadata is written.
        exif: EXIF block from its TIFF header on, or None.

    Returns:
        Names of chunks that do not fit the samples and are left out.
    """
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    depth = pixels.dtype.itemsize * 8
    file.write(b"\x89PNG\r\n\x1a\n")
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    file.write(chunk(b"IHDR", head) + like.png_colour)
    if like.icc:
        file.write(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(like.icc)))
    if like.dpi:
        per_metre = (round(value / 0.0254) for value in like.dpi)
        file.write(chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if exif:
        file.write(chunk(b"eXIf", exif))
    if like.xmp:
        file.write(chunk(b"iTXt", png_text.XMP_KEYWORD.encode() + bytes(5) + like.xmp))
    if like.iptc or like.photoshop:
        name = "8bim" if like.photoshop else "iptc"
        resources = resource_of(like.iptc) + like.photoshop
        file.write(chunk(*png_text.as_raw_profile(name, resources)))
    left_out = []
    for kind, content in png_text.split_chunks(like.png_chunks):
        fitting = _fitting(kind, content, channels, depth)
        if fitting is None:
            left_out.append(f"chunk {kind.decode('latin-1')}")
        else:
            file.write(chunk(kind, fitting))
    _write_pixels(file, pixels)
    file.write(chunk(b"IEND", b""))
    return tuple(left_out)


def _fitting(kind: bytes, content: bytes, channels: int, depth: int) -> bytes | None:
    """Content of a chunk for this kind of pixels; None if it does not fit."""
    if kind == b"sBIT":
        if len(content) == channels - 1 and channels in (2, 4):  # the alpha is new
            content += bytes((depth,))
        is_sound = len(content) == channels and all(1 <= bits <= depth for bits in content)
        return content if is_sound else None
    if kind == b"bKGD":
        values = struct.unpack(f">{len(content) // 2}H", content[: len(content) // 2 * 2])
        is_sound = len(content) == (2 if channels < 3 else 6) and max(values) < 1 << depth
        return content if is_sound else None
    return content


def _write_pixels(file: BinaryIO, pixels: np.ndarray) -> None:
    deflate = zlib.compressobj(_LEVEL)
    for rows in _filtered(pixels):
        if content := deflate.compress(rows):
            file.write(chunk(b"IDAT", content))
    if content := deflate.flush():
        file.write(chunk(b"IDAT", content))


def _filtered(pixels: np.ndarray) -> Iterator[bytes]:
    """Yield bands of scan lines, filtered as differences to the line above (PNG filter 2, "Up")."""
    lines = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False).reshape(len(pixels), -1)
    lines = lines.view(np.uint8)
    for top in range(0, len(lines), _ROWS):
        band = lines[top : top + _ROWS].copy()
        band[1:] -= lines[top : top + _ROWS - 1][: len(band) - 1]
        if top:
            band[0] -= lines[top - 1]
        yield np.pad(band, ((0, 0), (1, 0)), constant_values=2).tobytes()
