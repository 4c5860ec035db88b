"""Whether the coded pixels of a PNG file are complete and unchanged.

Pillow leaves rows black that are missing behind the end of the coded data, and it does not look at
the checksums of the coded data. Both without an error.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from refusion.images.png_read import chunks

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
# First column and row, and steps, of the seven passes of an interlaced file.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PART = 1 << 20  # bytes that are read or decompressed at once


def check_rows(file: BinaryIO, pixels: np.ndarray) -> None:
    """Raise `ValueError` if rows of a decoded PNG are missing in the file.

    Counting them takes a part of the time of decoding, so it is done only where rows may be
    missing: if the last row is black, and for palettes and interlaced files.

    Args:
        file: the PNG file, opened for reading.
        pixels: its samples (H, W, C), without a colour key.
    """
    file.seek(16)
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", file.read(13))
    if colour != _PALETTE and not interlace and pixels[-1].any():
        return
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    bits = depth * _CHANNELS[colour]
    expected = sum(
        _coded(-(-(width - left) // across), -(-(height - top) // down), bits)
        for left, top, across, down in passes
    )
    if _inflated(file, expected) < expected:
        raise ValueError("truncated, its pixels are not complete; copy it again")


def check_sums(file: BinaryIO) -> None:
    """Raise `ValueError` if a chunk with coded pixels has another content than its checksum says.

    A chunk that ends behind the end of the file is left to the decoder.

    Args:
        file: the PNG file, opened for reading.
    """
    size = file.seek(0, 2)
    for kind, begin, _ in chunks(file):
        file.seek(begin)
        length = struct.unpack(">I", file.read(4).ljust(4, b"\0"))[0]
        if kind != b"IDAT" or begin + length + 12 > size:
            continue
        left, checksum = length + 4, 0
        while left:
            data = file.read(min(_PART, left))
            checksum, left = zlib.crc32(data, checksum), left - len(data)
        if file.read(4) != struct.pack(">I", checksum):
            raise ValueError("its pixels are damaged, a checksum is wrong; copy it again")


def _coded(width: int, height: int, bits: int) -> int:
    """Bytes of the rows of a pass, each with the number of its filter."""
    return height * (1 + -(-width * bits // 8)) if width > 0 and height > 0 else 0


def _inflated(file: BinaryIO, most: int) -> int:
    """Number of bytes that the coded pixels stand for, counted up to `most`."""
    decoder, count = zlib.decompressobj(), 0
    for kind, begin, end in list(chunks(file)):
        at = begin + 8
        while kind == b"IDAT" and at < end - 4 and count < most:
            file.seek(at)
            data = file.read(min(_PART, end - 4 - at))
            at += len(data)
            while data and count < most and not decoder.eof:
                try:
                    count += len(decoder.decompress(data, _PART))
                except zlib.error:
                    return count
                data = decoder.unconsumed_tail
    return count
