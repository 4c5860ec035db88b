"""Writing of JPEG XL files (ISO/IEC 18181-1 and 18181-2).

imagecodecs encodes the pixels. It writes neither a colour profile nor metadata, and takes samples
of 16 bits as linear light. So the header gets another statement of the colour space here, and the
file is a container with boxes.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import ImageCms

from refusion.images.jxl_bits import stream_of, with_colours
from refusion.images.jxl_colour import to_linear
from refusion.images.jxl_header import CONTAINER
from refusion.images.packages import load
from refusion.images.photo import Photo

QUALITY = 90
"""Quality of a lossy result whose photo states none, as in `distance`."""
# By lossless: 3 takes a fifth of the time of 5, files 2 % larger; 5 takes half of the time of 7.
_EFFORT = {True: 3, False: 5}


def is_lossless(like: Photo) -> bool:
    """Whether a result in JPEG XL keeps all samples."""
    return like.lossless and like.quality is None


def distance(quality: int) -> float:
    """Distance of libjxl for a quality 1..100, as cjxl defines it: 1.0 for 90, 0.1 for 100.

    >>> distance(90), distance(100)
    (1.0, 0.1)
    """
    if quality >= 30:
        return round(0.1 + (100 - quality) * 0.09, 4)
    return round(53 / 3000 * quality**2 - 23 / 20 * quality + 25, 4)


def encode_jxl(
    pixels: np.ndarray, like: Photo, exif: bytes | None
) -> tuple[bytes, tuple[str, ...]]:
    """Encode an image as JPEG XL with the metadata of a photo.

    Alpha beside a profile or beside 16 bits makes the file lossless: alpha and colours would have
    different depths.

    Args:
        pixels: (H, W, C) uint8 or uint16; C gray, gray+alpha, RGB or RGBA.
        like: photo whose ICC profile, XMP, quality and loss are used.
        exif: EXIF block from its TIFF header on, or None.

    Returns:
        The file, and the names of what it cannot hold.

    Raises:
        ValueError: a package is not installed.
    """
    icc, lost = like.icc, ()
    if icc is not None and not _is_readable(icc, pixels[:1, :1]):
        icc, lost = None, ("ICC profile that is damaged or for other colours",)
    is_plain = icc is None and pixels.dtype == np.uint8
    if is_lossless(like) or not (is_plain or pixels.shape[2] in (1, 3)):
        level, stream = _lossless(pixels, icc)
    else:
        level, stream = _lossy(pixels, like, icc)
    blocks = _box(b"Exif", bytes(4) + exif) if exif else b""
    blocks += _box(b"xml ", like.xmp) if like.xmp else b""
    kind = _box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return CONTAINER + kind + level + blocks + _box(b"jxlc", stream), lost


def _lossless(pixels: np.ndarray, icc: bytes | None) -> tuple[bytes, bytes]:
    """Box jxll, and stream."""
    packed = load("JXL").jpegxl_encode(_squeezed(pixels), lossless=True, effort=_EFFORT[True])
    level, stream = stream_of(packed)
    return level, with_colours(stream, icc, is_gray=pixels.shape[2] < 3)


def _lossy(pixels: np.ndarray, like: Photo, icc: bytes | None) -> tuple[bytes, bytes]:
    """Box jxll, and stream.

    Samples of 8 bits without a profile are sRGB, which the encoder knows. All others are converted
    to linear light, and the header states what they were.
    """
    options = {"distance": distance(like.quality or QUALITY), "effort": _EFFORT[False]}
    encode = load("JXL").jpegxl_encode
    if icc is None and pixels.dtype == np.uint8:
        return stream_of(encode(_squeezed(pixels), lossless=False, **options))
    linear = to_linear(pixels, icc)
    level, stream = stream_of(encode(_squeezed(linear), lossless=False, **options))
    depth = 8 * pixels.dtype.itemsize
    return level, with_colours(stream, icc, is_gray=pixels.shape[2] < 3, depth=depth)


def _is_readable(icc: bytes, pixel: np.ndarray) -> bool:
    """Whether a profile is sound, and for gray or RGB as the image; decoders refuse other files.

    Args:
        icc: the profile.
        pixel: of the image, (1, 1, C).
    """
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
        load("JXL").jpegxl_decode(_lossless(pixel, icc)[1])
        to_linear(pixel, icc)
    except (OSError, RuntimeError, ImageCms.PyCMSError):
        return False
    return space == ("GRAY" if pixel.shape[2] < 3 else "RGB")


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _box(kind: bytes, content: bytes) -> bytes:
    if len(content) + 8 >= 1 << 32:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content
