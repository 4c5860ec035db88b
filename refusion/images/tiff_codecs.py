"""The codecs of imagecodecs by TIFF code; the package is imported when a file needs it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from refusion.images import tiff_layout
from refusion.images.tiff_tags import TagError

_SPARE = 1 << 12  # bytes


@cache
def imagecodecs() -> ModuleType:
    """The package imagecodecs, imported at the first use: most photos need no codec of it.

    Raises:
        TagError: the package is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise TagError(
            "this TIFF file needs the package imagecodecs; run pip install imagecodecs, or save "
            "the photo as PNG, or as TIFF with 8 or 16 bits without compression"
        ) from error
    return imagecodecs


def _inflated(data: bytes, out: int) -> bytes:
    """Inflate at most `out` bytes; some writers fill up the last strip."""
    codecs = imagecodecs()
    try:
        return codecs.deflate_decode(data, out=out)  # twice as fast as zlib
    except codecs.DeflateError:
        stream = zlib.decompressobj()
        found = stream.decompress(data, out)
        stream.decompress(stream.unconsumed_tail, out + _SPARE)  # raises for a wrong checksum
        return found


def _codec(name: str) -> Callable[..., Any]:
    """A function of imagecodecs, which is imported when the function is called."""

    def call(*values: Any, **options: Any) -> Any:
        return getattr(imagecodecs(), name)(*values, **options)

    return call


JPEG2K, WEBP = _codec("jpeg2k_decode"), _codec("webp_decode")
# Codecs of bytes, called with the number of bytes to decode.
BYTES: dict[int, Callable[..., bytes]] = {
    tiff_layout.LZW: _codec("lzw_decode"),
    tiff_layout.DEFLATE: _inflated,
    32946: _inflated,
    32773: _codec("packbits_decode"),
    34925: _codec("lzma_decode"),
    50000: _codec("zstd_decode"),
}
ENDING = frozenset((tiff_layout.LZW, tiff_layout.DEFLATE, 32946, 34925, 50000))
"""Compressions of bytes whose data do not end in many zeros."""
# Codecs of images, called with an array for the result; they refuse a picture of another size.
IMAGES: dict[int, Callable[..., np.ndarray]] = {
    34712: JPEG2K,
    34887: _codec("lerc_decode"),
    34933: _codec("png_decode"),
    50001: WEBP,
    50002: _codec("jpegxl_decode"),
    52546: _codec("jpegxl_decode"),
}
