"""Size of a photo file, and the memory that its decoding needs, from the header of the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from refusion.errors import ImageError
from refusion.images import heif_boxes, jxl_header, tiff_layout
from refusion.images.jpeg_segments import read_frame
from refusion.images.listing import HEAD, format_by_bytes, format_by_suffix
from refusion.images.raw_read import is_raw, raw_size
from refusion.images.tiff_layout import TiffLayout, image_size, is_for_pillow, read_layout
from refusion.images.tiff_segments import IMAGE_CODECS, WORKERS
from refusion.images.tiff_tags import TagError, TiffTags, read_tags

# Bytes per pixel of decoding, measured as the peak of the process minus its size before. The values
# include a copy that is turned upright by the EXIF orientation.
_JPEG = {1: 4, 3: 11, 4: 15}  # by components; with the coefficients of a progressive JPEG
# By colour type of a PNG, with 8 bits or less and with 16: gray, RGB, palette, gray+alpha, RGBA.
_PNG = {0: (4.5, 8.5), 2: (11.5, 26.5), 3: (13.5, 13.5), 4: (12.5, 16.5), 6: (16.5, 32.5)}
_PNG_COLOUR_KEY = 12  # more with a transparent colour
_WEBP = {False: 20, True: 27}  # with alpha or not
_WEBP_COPIES = 3  # of the coded file, which is read as a whole
_SPARE_COPIES = 2  # of the bytes of a PNG that are more than its pixels: Pillow skips by reading
_PILLOW_TIFF = 16
# Of the other formats, besides the copies of the coded file; by more than 8 bits or not. A lossy
# JPEG XL with a profile is decoded to floats.
_HEIF, _JXL, _JXL_FLOATS, _RAW = {False: 18, True: 40}, {False: 18, True: 30}, 36, 28
_FILE_COPIES = 3
_MOST_RAW = 2 << 30  # bytes of a file; LibRaw handles no longer ones
# Bytes of any other file that is read as a whole: for each pixel, and for films behind the photo.
_MOST_BYTES, _MOST_OTHER = 16, 1 << 30
# Copies of a strip or tile in memory: coded and decoded, and five with a codec of images.
_SEGMENT_COPIES = {True: 5, False: 2}
_FIXED = 8 << 20  # bytes of buffers that do not depend on the size
_DEFLATE_RATIO = 1040  # bytes that one byte of Deflate can stand for; 1032 in long runs
_MAX_CHUNKS = 20_000
_MOST_PIXELS = 2**40


@dataclass(frozen=True)
class Header:
    """What the header of a photo file says.

    Attributes:
        width: stored width in pixels, before the EXIF orientation is applied.
        height: stored height in pixels.
        memory: estimate of the bytes that decoding needs at its peak, with the decoded photo.
        least: smallest number of bytes of a complete file of this size.
        most: largest number of bytes of a file of this size, for files that are read as a whole;
            None for no limit.
    """

    width: int
    height: int
    memory: int
    least: int = 0
    most: int | None = None


def detect_format(file: BinaryIO) -> str | None:
    """Format of an open file by its content, "RAW" for raw files that begin as a TIFF.

    Args:
        file: opened for reading; its name decides for a TIFF that may be raw or not.

    Returns:
        "JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC", "JXL" or "RAW"; None for any other file.
    """
    file.seek(0)
    kind = format_by_bytes(file.read(HEAD))
    if kind == "TIFF" and (is_raw(file) or format_by_suffix(Path(file.name).suffix) == "RAW"):
        kind = "RAW"
    file.seek(0)
    return kind


def read_header(file: BinaryIO, kind: str) -> Header:
    """Read the header of an open photo file; nothing is decoded.

    Args:
        file: opened for reading.
        kind: "JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC", "JXL" or "RAW".

    Raises:
        ValueError: the header is damaged; the message is one line.
    """
    try:
        header = _READ[kind](file)
    except struct.error as error:
        raise ValueError("truncated header") from error
    if header.width < 1 or header.height < 1:
        raise ValueError(f"its header says {header.width}x{header.height} pixels")
    return header


def check_length(name: str, kind: str, size: int, max_memory: int | None) -> None:
    """Raise `ImageError` for camera raw that is too long to read.

    LibRaw reads the whole file before it states the size of the photo.

    Args:
        name: path of the file, for messages.
        kind: format of the file.
        size: length of the file in bytes.
        max_memory: see `check_header`.
    """
    if kind != "RAW":
        return
    most = _MOST_RAW if max_memory is None else min(_MOST_RAW, max(0, max_memory) // _FILE_COPIES)
    if size > most:
        advice = "" if most == _MOST_RAW else "; increase the limit of the memory (--max-memory)"
        raise ImageError(
            f"{name}: camera raw of {size / 2**20:.1f} MB, expected at most {most / 2**20:.1f} MB"
            f"{advice}"
        )


def check_header(
    name: str, header: Header, size: int, max_pixels: int, max_memory: int | None
) -> None:
    """Raise `ImageError` for a photo that is too large to decode; called before decoding.

    Args:
        name: path of the file, for messages.
        header: its header.
        size: length of the file in bytes.
        max_pixels: largest allowed width times height.
        max_memory: largest number of bytes that decoding may need; None for no limit.
    """
    width, height = header.width, header.height
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:g} megapixels, more than the"
            f" limit of {max_pixels / 1e6:g} (--max-pixels)"
        )
    if size < header.least:
        raise ImageError(
            f"{name}: truncated, {width}x{height} pixels take {header.least} bytes or more, got"
            f" {size}"
        )
    if header.most is not None and size > header.most:
        raise ImageError(
            f"{name}: has {size / 2**30:.1f} GB, expected at most {header.most / 2**30:.1f} GB for"
            f" {width}x{height} pixels; save the photo again"
        )
    if max_memory is not None and header.memory > max_memory:
        needed, left = header.memory / 2**30, max(0, max_memory) / 2**30
        raise ImageError(
            f"{name}: max memory: decoding {width}x{height} pixels needs about {needed:.2f} GB, the"
            f" limit leaves {left:.2f} GB; increase the limit (--max-memory) or reduce the photo"
        )


def _needed(width: int, height: int, per_pixel: float) -> int:
    return int(width * height * per_pixel) + _FIXED


def _jpeg(file: BinaryIO) -> Header:
    frame = read_frame(file)
    if frame is None:
        raise ValueError("a JPEG without a frame header")
    blocks = -(-frame.width // 8) * -(-frame.height // 8)
    # Huffman codes have at least one bit for each block. With any subsampling there are at least
    # half as many blocks. Arithmetic codes may have less.
    least = blocks // 16 if frame.marker in (0xC0, 0xC1, 0xC2) else 0
    memory = _needed(frame.width, frame.height, _JPEG.get(frame.components, _JPEG[4]))
    return Header(frame.width, frame.height, memory, least)


def _png(file: BinaryIO) -> Header:
    file.seek(16)
    width, height, depth, colour = struct.unpack(">IIBB", file.read(10))
    if colour not in _PNG or depth not in (1, 2, 4, 8, 16):
        raise ValueError(f"a PNG of colour type {colour} with {depth} bits")
    has_key = _has_colour_key(file)
    per_pixel = _PNG[colour][depth == 16] + (_PNG_COLOUR_KEY if has_key else 0)
    channels = {2: 3, 4: 2, 6: 4}.get(colour, 1)
    lines = height * (1 + -(-width * depth * channels // 8))
    memory = _needed(width, height, per_pixel)
    memory += _SPARE_COPIES * max(0, file.seek(0, 2) - lines)
    return Header(width, height, memory, lines // _DEFLATE_RATIO)


def _has_colour_key(file: BinaryIO) -> bool:
    """Whether the chunk tRNS precedes the coded pixels of a PNG."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return False
        if head[4:] == b"tRNS":
            return True
        at += 12 + struct.unpack(">I", head[:4])[0]
    return False


def _webp(file: BinaryIO) -> Header:
    file.seek(12)
    kind, _, head = struct.unpack("<4sI10s", file.read(18))
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (4, 7))
        has_alpha = bool(head[0] & 0x10)
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        width, height, has_alpha = (
            1 + (bits & 0x3FFF),
            1 + (bits >> 14 & 0x3FFF),
            bool(bits >> 28 & 1),
        )
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", head[6:10]))
        has_alpha = False
    else:
        raise ValueError("a WebP without pixels")
    return _of_whole_file(file, width, height, _WEBP[has_alpha], _WEBP_COPIES)


def _tiff(file: BinaryIO) -> Header:
    tags = read_tags(file)
    width, height = image_size(tags)
    if width * height > _MOST_PIXELS:  # the other tags are read only for a plausible size
        return Header(width, height, _needed(width, height, 1))
    layout = read_layout(tags)
    colours = 3 if layout.colours > 1 or layout.photometric == tiff_layout.PALETTE else 1
    has_alpha = layout.alpha is not None
    itemsize = min(layout.bits + 7, 32) // 8 if layout.photometric != tiff_layout.PALETTE else 2
    copies = 1 if _is_upright(tags) else 2
    per_pixel = copies * (colours + has_alpha) * itemsize + 4 * has_alpha
    if is_for_pillow(layout):
        return Header(width, height, _needed(width, height, _PILLOW_TIFF))
    memory = _needed(width, height, per_pixel)
    if layout.compression != tiff_layout.NONE:
        memory += _segment_bytes(layout)
    return Header(width, height, memory)


def _is_upright(tags: TiffTags) -> bool:
    try:
        return tags.integer(274, 1, 8, 1) == 1
    except TagError:
        return True


def _segment_bytes(layout: TiffLayout) -> int:
    """Memory of the strips or tiles that are decoded at the same time."""
    down, across = layout.grid
    planes = layout.samples if layout.is_planar else 1
    rows, columns = layout.segment
    one = rows * columns * layout.contiguous * planes * -(-layout.bits // 8)  # unpacked
    return min(WORKERS, down * across) * one * _SEGMENT_COPIES[layout.compression in IMAGE_CODECS]


def _heif(file: BinaryIO) -> Header:
    image = heif_boxes.read_boxes(file).primary
    width, height = image.size
    return _of_whole_file(file, width, height, _HEIF[image.depth > 8])


def _jxl(file: BinaryIO) -> Header:
    header = jxl_header.parse_header(jxl_header.read_boxes(file)[0])
    per_pixel = _JXL_FLOATS if header.is_xyb and header.colour.has_icc else _JXL[header.bits > 8]
    return _of_whole_file(file, header.width, header.height, per_pixel)


def _raw(file: BinaryIO) -> Header:
    width, height, _ = raw_size(file)
    return _of_whole_file(file, width, height, _RAW)


def _of_whole_file(
    file: BinaryIO, width: int, height: int, per_pixel: float, copies: int = _FILE_COPIES
) -> Header:
    """Header of a file whose bytes are all read, also those that are not pixels."""
    size, pixels = file.seek(0, 2), width * height
    memory = _needed(width, height, per_pixel) + copies * size
    return Header(width, height, memory, most=_MOST_OTHER + _MOST_BYTES * pixels)


_READ = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "TIFF": _tiff}
_READ |= {"AVIF": _heif, "HEIC": _heif, "JXL": _jxl, "RAW": _raw}
