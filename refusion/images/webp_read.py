"""Reading of the chunks of a WebP file (RFC 9649): metadata, and the kind of coding.

The decoder of the pixels receives no metadata, so a damaged block never makes a photo unreadable.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from refusion.images.exif import exif_dpi
from refusion.images.jpeg_segments import EXIF_HEADER
from refusion.images.photo import Photo
from refusion.images.source import MAX_BLOCK, Source, trailing

_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_BLOCKS = {b"ICCP": "icc", b"EXIF": "exif", b"XMP ": "xmp"}
_EXTENDED = 18  # bytes of the chunk VP8X with its header
_METADATA = 0x20 | 0x08 | 0x04  # its flags for ICC profile, EXIF and XMP


def read_webp(file: BinaryIO) -> Source:
    """Read the metadata of a WebP file.

    Args:
        file: opened for reading.

    Raises:
        ValueError: the file ends before its pixels do.
    """
    blocks, dropped, lossless, parts = {}, [], None, []
    size = file.seek(0, 2)
    file.seek(4)
    end = min(size, 8 + struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0])
    at = 12
    while at + 8 <= end:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == bytes(4):  # no chunk
            break
        if kind in (b"VP8L", b"VP8 ") and lossless is None:
            lossless = kind == b"VP8L"
        if kind == b"ANMF" and lossless is None:  # an image follows a header of 16 bytes
            lossless = _is_lossless_frame(file, at + 24)
        if kind in _BLOCKS and length <= MAX_BLOCK and at + 8 + length <= end:
            file.seek(at + 8)
            blocks.setdefault(_BLOCKS[kind], file.read(length))
        elif kind in _BLOCKS:
            dropped.append(f"damaged {_BLOCKS[kind].upper()} block")
        elif kind in _PIXELS:
            if at + 8 + length > size:  # the decoder only says that there is no decoder
                raise ValueError("truncated, its pixels are not complete; copy it again")
            parts.append((at, min(at + 8 + length + length % 2, size)))
        else:
            shown = "".join(chr(code) if 32 <= code < 127 else "?" for code in kind)
            dropped.append("content credentials (C2PA)" if kind == b"C2PA" else f"chunk {shown}")
        at += 8 + length + length % 2
    rest = trailing(file, min(at, end))
    if rest:
        dropped.append(f"{rest} bytes behind the image")
    exif = blocks.get("exif", b"").removeprefix(EXIF_HEADER) or None
    photo = Photo(
        np.empty(0),
        format="WEBP",
        icc=blocks.get("icc") or None,
        exif=exif,
        xmp=blocks.get("xmp") or None,
        dpi=exif_dpi(exif),
        lossless=bool(lossless),
    )
    head = _head(file, parts)
    return Source(photo, file, tuple(parts), tuple(dropped), head)


def _head(file: BinaryIO, parts: list[tuple[int, int]]) -> bytes:
    """Header for the chunks with the pixels; it declares no metadata.

    The first chunk is removed from `parts` if it is the extended header, which is changed.
    """
    extended = b""
    if parts and parts[0][1] - parts[0][0] == _EXTENDED:
        file.seek(parts[0][0])
        chunk = file.read(_EXTENDED)
        if chunk.startswith(b"VP8X"):
            extended = chunk[:8] + bytes((chunk[8] & ~_METADATA,)) + chunk[9:]
            del parts[0]
    length = 4 + len(extended) + sum(end - begin for begin, end in parts)
    return b"RIFF" + struct.pack("<I", length) + b"WEBP" + extended


def _is_lossless_frame(file: BinaryIO, at: int) -> bool | None:
    file.seek(at)
    return {b"VP8L": True, b"VP8 ": False}.get(file.read(4))
