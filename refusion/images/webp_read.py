"""Reading of the chunks of a WebP file (RFC 9649): metadata, and the kind of coding."""

from __future__ import annotations

import struct
from typing import BinaryIO

import torch

from refusion.images.exif import exif_dpi
from refusion.images.photo import Photo
from refusion.images.png_read import EXIF_HEADER
from refusion.images.source import MAX_BLOCK, Source, trailing

_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_BLOCKS = {b"ICCP": "icc", b"EXIF": "exif", b"XMP ": "xmp"}


def read_webp(file: BinaryIO) -> Source:
    """Read the metadata of a WebP file.

    Args:
        file: opened for reading.
    """
    blocks, dropped, lossless = {}, [], None
    size = file.seek(0, 2)
    file.seek(4)
    end = min(size, 8 + struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0])
    at = 12
    while at + 8 <= end:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind in (b"VP8L", b"VP8 ") and lossless is None:
            lossless = kind == b"VP8L"
        if kind == b"ANMF" and lossless is None:  # an image follows a header of 16 bytes
            lossless = _is_lossless_frame(file, at + 24)
        if kind in _BLOCKS and length <= MAX_BLOCK and at + 8 + length <= end:
            file.seek(at + 8)
            blocks.setdefault(_BLOCKS[kind], file.read(length))
        elif kind in _BLOCKS:
            dropped.append(f"damaged {_BLOCKS[kind].upper()} block")
        elif kind not in _PIXELS:
            shown = "".join(chr(code) if 32 <= code < 127 else "?" for code in kind)
            dropped.append("content credentials (C2PA)" if kind == b"C2PA" else f"chunk {shown}")
        at += 8 + length + length % 2
    rest = trailing(file, end)
    if rest:
        dropped.append(f"{len(rest)} bytes behind the image")
    exif = blocks.get("exif", b"").removeprefix(EXIF_HEADER) or None
    photo = Photo(
        torch.empty(0),
        format="WEBP",
        icc=blocks.get("icc") or None,
        exif=exif,
        xmp=blocks.get("xmp") or None,
        dpi=_dpi(exif),
        lossless=bool(lossless),
    )
    return Source(photo, file, ((0, size),), tuple(dropped))


def _is_lossless_frame(file: BinaryIO, at: int) -> bool | None:
    file.seek(at)
    return {b"VP8L": True, b"VP8 ": False}.get(file.read(4))


def _dpi(exif: bytes | None) -> tuple[float, float] | None:
    try:
        return exif_dpi(exif)
    except struct.error:
        return None
