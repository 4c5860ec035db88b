"""Reading of JPEG XL files with imagecodecs; pylibjxl reads their ICC profiles."""

from __future__ import annotations

import logging
from typing import BinaryIO

import numpy as np

from refusion.images.colour import cicp_chunk, custom_profile
from refusion.images.decode import finish
from refusion.images.exif import exif_dpi
from refusion.images.float_range import in_unit_range
from refusion.images.heif_boxes import tiff_header
from refusion.images.jxl_bits import stream_of, with_float_samples
from refusion.images.jxl_colour import from_linear
from refusion.images.jxl_header import (
    ALPHA,
    BLACK,
    GRAY,
    JPEG_DATA,
    ColourSpace,
    JxlHeader,
    parse_header,
    read_boxes,
)
from refusion.images.packages import load
from refusion.images.photo import Photo
from refusion.images.source import MAX_BLOCK
from refusion.images.tiff_colour import unmultiplied

logger = logging.getLogger(__name__)

_SRGB_POINTS = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D65 = (0.3127, 0.3290)
_PRIMARIES = {1: _SRGB_POINTS, 9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)}
_PRIMARIES |= {11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)}
_WHITES = {1: _D65, 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_SRGB = 13
_BROTLI = b"brob"
_ENDS_EARLY = "NEED_MORE_INPUT"


def decode_jxl(file: BinaryIO, size: tuple[int, int]) -> Photo:
    """Decode the first frame of a JPEG XL file.

    Args:
        file: opened for reading.
        size: width and height of the header, which are already checked.

    Raises:
        ValueError: the file is damaged or not supported, or a package is missing.
        Exception: any exception that the decoder raises for damaged bytes.
    """
    stream, blocks, dropped = read_boxes(file)
    header = parse_header(stream)
    if BLACK in header.extras:
        raise ValueError("a CMYK JPEG XL is not supported, convert it to RGB")
    if any(kind != ALPHA for kind in header.extras) or header.extras.count(ALPHA) > 1:
        dropped.append("extra channels")
    if header.is_animated:
        logger.warning("%s: animated, only the first frame is used", file.name)
    file.seek(0)
    data = stream_of(file.read())[1]
    try:
        icc, chunks = _colours(data, header.colour)
        pixels = _pixels(data, header, file.name, icc)
    except Exception as error:
        if not _is_truncated(data):
            raise
        raise ValueError("truncated, its pixels are not complete; copy it again") from error
    if sorted(pixels.shape[1::-1]) != sorted(size):
        raise ValueError("its parts state different sizes")
    exif = tiff_header(_block(blocks, b"Exif", "EXIF block", dropped) or b"") or None
    photo = Photo(
        np.empty(0),
        format="JXL",
        icc=icc,
        exif=exif,
        xmp=_block(blocks, b"xml ", "XMP packet", dropped),
        dpi=exif_dpi(exif),
        png_colour=chunks,
        lossless=not header.is_xyb and JPEG_DATA not in blocks,
    )
    return finish(photo, pixels, file.name, 1, dropped)


def _is_truncated(data: bytes) -> bool:
    """Whether a decoder wants more bytes than a damaged file has; it names only its own state."""
    try:
        load("JXL").jpegxl_decode(data, index=0)
    except Exception as error:
        return _ENDS_EARLY in str(error)
    return False


def _pixels(data: bytes, header: JxlHeader, name: str, icc: bytes | None) -> np.ndarray:
    """Upright samples (H, W, C) uint8, uint16 or float32, with straight alpha."""
    decode, is_converted = load("JXL").jpegxl_decode, header.is_xyb and icc is not None
    pixels = decode(with_float_samples(data) if is_converted else data, index=0)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if is_converted:  # the decoder returns linear light
        dtype = np.float32 if header.is_float else np.uint8 if header.bits <= 8 else np.uint16
        pixels = from_linear(pixels, icc, np.dtype(dtype))
    if pixels.dtype.kind == "f":
        pixels = in_unit_range(pixels.astype(np.float32), name)
    if pixels.dtype not in (np.uint8, np.uint16, np.float32) or not 1 <= pixels.shape[2] <= 4:
        raise ValueError(f"samples {pixels.dtype} with {pixels.shape[2]} channels")
    if header.is_associated and pixels.shape[2] in (2, 4):
        colour = unmultiplied(pixels[..., :-1], pixels[..., -1:], pixels.dtype)
        return np.concatenate([colour, pixels[..., -1:]], axis=2)
    return pixels


def _block(blocks: dict[bytes, bytes], kind: bytes, name: str, dropped: list[str]) -> bytes | None:
    """Content of a box with metadata; None if there is none, or if it cannot be decompressed."""
    if kind in blocks:
        return blocks[kind] or None
    if _BROTLI + kind not in blocks:
        return None
    try:
        content = bytes(load("JXL").brotli_decode(blocks[_BROTLI + kind], out=MAX_BLOCK))
    except Exception:  # only the block is lost, whatever is wrong with it
        dropped.append(f"damaged {name}")
        return None
    return content or None


def _colours(data: bytes, colour: ColourSpace) -> tuple[bytes | None, bytes]:
    """ICC profile of the samples; without one, the code points of a colour space as a PNG chunk."""
    if colour.has_icc:
        _, found = load("JXL with an ICC profile").decode(data, metadata=True)
        return found.get("icc") or None, b""
    codes = {1: 1, 9: 9, 11: 12}  # those of ITU-T H.273 for the primaries
    if colour.gamma is None and colour.white == 1 and colour.primaries in codes:
        return None, cicp_chunk(codes[colour.primaries], colour.transfer)
    white = colour.white_point or _WHITES.get(colour.white)
    points = colour.points or _PRIMARIES.get(colour.primaries)
    is_known = colour.gamma is not None or colour.transfer == _SRGB
    if white is None or points is None or not is_known:
        raise ValueError("an unknown colour space, convert it to sRGB")
    gamma = None if colour.gamma is None else 1 / max(colour.gamma, 0.1)
    return custom_profile((*white, *points), gamma, is_gray=colour.space == GRAY), b""
