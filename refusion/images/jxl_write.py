"""Writing of JPEG XL files (ISO/IEC 18181-1 and 18181-2).

imagecodecs encodes the pixels without loss, with 8 or 16 bits. It writes neither a colour profile
nor metadata, and states that samples of 16 bits are linear light. So the statement of the colour
space in the header is replaced here, and the file is a container with boxes. pylibjxl encodes
photos with a profile with loss, with 8 bits.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import ImageCms

from refusion.images.jxl_header import CONTAINER, GRAY, RGB, STREAM, Bits, parse_header
from refusion.images.packages import load
from refusion.images.photo import Photo

QUALITY = 90
"""Quality of a lossy result whose photo states none, as in `distance`."""
_EFFORT = {True: 3, False: 7}  # by lossless: 3 is five times faster than 7, files 10 % larger
_HEADER = 128  # bytes of an ICC profile
_SRGB = 13
_CONTEXTS_ARE_ONE = 1  # a simple context map with no bits per entry


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

    A photo whose profile the lossy encoder refuses is encoded without loss.

    Args:
        pixels: (H, W, C) uint8 or uint16; with loss, uint8. C gray, gray+alpha, RGB or RGBA.
        like: photo whose ICC profile, XMP, quality and loss are used.
        exif: EXIF block from its TIFF header on, or None.

    Returns:
        The file, and the names of what it cannot hold.

    Raises:
        ValueError: a package is not installed.
    """
    icc, lost = like.icc, ()
    if icc is not None and not _fits(icc, pixels.shape[2]):
        icc, lost = None, ("ICC profile that is damaged or for other colours",)
    level, stream = (None if is_lossless(like) else _lossy(pixels, like, icc)) or _lossless(
        pixels, icc
    )
    blocks = _box(b"Exif", bytes(4) + exif) if exif else b""
    blocks += _box(b"xml ", like.xmp) if like.xmp else b""
    kind = _box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return CONTAINER + kind + level + blocks + _box(b"jxlc", stream), lost


def _lossless(pixels: np.ndarray, icc: bytes | None) -> tuple[bytes, bytes]:
    """Box jxll, and stream."""
    packed = load("JXL").jpegxl_encode(_squeezed(pixels), lossless=True, effort=_EFFORT[True])
    level, stream = _stream(packed)
    return level, with_colours(stream, icc, is_gray=pixels.shape[2] < 3)


def _lossy(pixels: np.ndarray, like: Photo, icc: bytes | None) -> tuple[bytes, bytes] | None:
    """Box jxll, and stream; None if the encoder cannot encode this profile or these channels."""
    step = distance(like.quality or QUALITY)
    if icc is None:
        packed = load("JXL").jpegxl_encode(
            _squeezed(pixels), lossless=False, distance=step, effort=_EFFORT[False]
        )
        return _stream(packed)
    if pixels.shape[2] == 2:  # pylibjxl has no gray with alpha
        return None
    encode = load("JXL with an ICC profile").encode
    try:
        packed = encode(np.ascontiguousarray(pixels), distance=step, effort=_EFFORT[False], icc=icc)
    except RuntimeError:  # "JxlEncoderSetICCProfile failed"
        return None
    return _stream(packed)


def _fits(icc: bytes, channels: int) -> bool:
    """Whether a profile is sound, and for gray or RGB as the image; decoders refuse other files."""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
    except (OSError, ValueError, ImageCms.PyCMSError):
        return False
    return len(icc) >= _HEADER and space == ("GRAY" if channels < 3 else "RGB")


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _box(kind: bytes, content: bytes) -> bytes:
    if len(content) + 8 >= 1 << 32:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _stream(data: bytes) -> tuple[bytes, bytes]:
    """The box jxll, which states the level of the stream, if there is one; and the stream."""
    if data.startswith(STREAM):
        return b"", data
    level, stream, at = b"", b"", len(CONTAINER)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = 8
        if length == 1:
            length, start = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = at + length if length else len(data)
        if kind == b"jxll":
            level = data[at:end]
        elif kind in (b"jxlc", b"jxlp"):
            stream += data[at + start + (4 if kind == b"jxlp" else 0) : end]
        at = end
    return level, stream


@dataclass
class _Writer:
    """Collects bits, the lowest bit of each byte first."""

    value: int = 0
    count: int = 0

    def write(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count

    def to_bytes(self) -> bytes:
        """All bits, filled up with zeros to whole bytes."""
        return self.value.to_bytes(-(-self.count // 8), "little")


def with_colours(stream: bytes, icc: bytes | None, *, is_gray: bool) -> bytes:
    """A lossless stream of imagecodecs that states another colour space for the same samples.

    Args:
        stream: the stream, from its signature on.
        icc: ICC profile; None states sRGB.
        is_gray: whether the image is gray.

    Raises:
        ValueError: the stream has another header than expected.
    """
    header = parse_header(stream)
    begin, end = header.place
    reader = Bits(stream[: end // 8 + 2])
    reader.at = end
    # No extensions (2 bits), and the default for everything about XYB (1 bit).
    if header.is_xyb or not begin or header.colour.has_icc or reader.read(3) != 0b100:
        raise ValueError("imagecodecs writes another header than expected; use another version")
    writer = _Writer()
    writer.write(int.from_bytes(stream[: end // 8 + 1], "little") & ((1 << begin) - 1), begin)
    _write_colour_space(writer, is_gray=is_gray, has_icc=icc is not None)
    writer.write(0b100, 3)
    if icc is not None:
        _write_profile(writer, icc)
    return writer.to_bytes() + stream[-(-reader.at // 8) :]


def _write_colour_space(writer: _Writer, *, is_gray: bool, has_icc: bool) -> None:
    writer.write(0, 1)  # not the default
    writer.write(int(has_icc), 1)
    writer.write(GRAY if is_gray else RGB, 2)
    if has_icc:
        return
    writer.write(1, 2)  # white: D65
    if not is_gray:
        writer.write(1, 2)  # primaries: sRGB
    writer.write(0, 1)  # no exponent
    writer.write(2, 2)
    writer.write(_SRGB - 2, 4)  # curve
    writer.write(1, 2)  # rendering intent: relative


def _write_profile(writer: _Writer, icc: bytes) -> None:
    """Write an ICC profile (annex E): a prefix code gives each byte 8 bits, without compression."""
    content = _predicted(icc)
    _write_u64(writer, len(content))
    writer.write(0, 1)  # no LZ77
    writer.write(_CONTEXTS_ARE_ONE, 3)
    writer.write(1, 1)  # prefix codes
    writer.write(8, 4)  # symbols below 2^8 are the values themselves
    writer.write(0, 8)
    writer.write(1, 1)  # 256 symbols: 1 + 2^7 + 127
    writer.write(7, 4)
    writer.write(127, 7)
    writer.write(
        0, 2
    )  # lengths of the codes for the lengths 1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, ...
    writer.write(1 << 20, 36)  # a code for 8 only, so it takes no bits: all symbols have 8 bits
    reverse = [int(f"{byte:08b}"[::-1], 2) for byte in range(256)]
    coded = bytes(reverse[byte] for byte in content)
    writer.write(int.from_bytes(coded, "little"), 8 * len(coded))


def _write_u64(writer: _Writer, value: int) -> None:
    writer.write(3, 2)
    writer.write(value & 0xFFF, 12)
    value >>= 12
    while value:
        writer.write(1, 1)
        writer.write(value & 0xFF, 8)
        value >>= 8
    writer.write(0, 1)


def _predicted(icc: bytes) -> bytes:
    """An ICC profile as lengths, commands and bytes; the header as differences to a guess."""
    size = len(icc)
    rest = icc[_HEADER:]
    commands = b"\0" + (b"\1" + _varint(len(rest)) if rest else b"")  # no table of tags; insert
    guess = bytearray(_HEADER)
    guess[0:4] = struct.pack(">I", size)
    guess[8] = 4
    guess[12:24], guess[36:40] = b"mntrRGB XYZ ", b"acsp"
    guess[68:80] = bytes((0, 0, 246, 214, 0, 1, 0, 0, 0, 0, 211, 45))
    guess[80:84] = icc[4:8]
    endings = {b"A": b"PPL", b"M": b"SFT"}
    guess[41:44] = endings.get(icc[40:41], bytes(guess[41:44]))
    guess[42:44] = {b"SG": b"I ", b"SU": b"NW"}.get(icc[40:42], bytes(guess[42:44]))
    head = bytes((byte - other) & 255 for byte, other in zip(icc[:_HEADER], guess, strict=False))
    return _varint(size) + _varint(len(commands)) + commands + head + rest


def _varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes((*parts, value))
