"""Header of a JPEG XL file (ISO/IEC 18181-1 and 18181-2): boxes, size, depth and colour space.

The header is a stream of bits, the lowest bit of each byte first. Nothing is decoded here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from refusion.images.source import MAX_BLOCK
from refusion.images.xmp import GAIN_MAP

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
STREAM = b"\xff\x0a"
JPEG_DATA = b"jbrd"
"""Type of the box of a file that is a JPEG without its coding."""
ALPHA, BLACK = 0, 4
"""Kinds of extra channels."""
RGB, GRAY, XYB = 0, 1, 2
"""Colour spaces; XYB is not one of a photo."""
SIZES = (9, 13, 18, 30)
"""Numbers of bits that can code a side, less one."""
_HEAD = 1 << 14  # bytes of the stream that hold its header, without the ICC profile
_MAX_BOXES = 10_000
_METADATA = (b"Exif", b"xml ", b"brob")
_NAMES = {b"jhgm": GAIN_MAP, b"jumb": "content credentials (C2PA)"}  # of boxes that are not kept
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_CUSTOM = 2


class Bits:
    """Reads bits.

    Args:
        data: bytes to read from.

    Attributes:
        at: number of bits that are read.
    """

    def __init__(self, data: bytes) -> None:
        self._value, self._end, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def read(self, count: int) -> int:
        """The next bits as a number.

        Raises:
            ValueError: there are no more bits.
        """
        if self.at + count > self._end:
            raise ValueError("truncated header")
        value = self._value >> self.at & ((1 << count) - 1)
        self.at += count
        return value

    def choice(self, *ways: tuple[int, int]) -> int:
        """A number in one of four codings: an offset, and the number of bits that are added."""
        offset, count = ways[self.read(2)]
        return offset + self.read(count)

    def code(self) -> int:
        """A value of an enumeration."""
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))

    def float_bits(self) -> tuple[int, bool]:
        """Bits per sample, and whether samples are floats."""
        if self.read(1):
            bits = self.choice((32, 0), (16, 0), (24, 0), (1, 6))
            self.read(4)
            return bits, True
        return self.choice((8, 0), (10, 0), (12, 0), (1, 6)), False


@dataclass(frozen=True)
class ColourSpace:
    """Colour space that the header states.

    Attributes:
        has_icc: whether an ICC profile follows the header, which then states nothing else.
        space: `RGB`, `GRAY` or another code.
        white: code of the white; 1 is D65.
        white_point: x and y of a custom white.
        primaries: code of the primaries; 1 is sRGB.
        points: x and y of custom red, green and blue.
        transfer: code of the curve; 13 is sRGB.
        gamma: exponent from light to code values, instead of a code; None for a code.
    """

    has_icc: bool = False
    space: int = RGB
    white: int = 1
    white_point: tuple[float, ...] = ()
    primaries: int = 1
    points: tuple[float, ...] = ()
    transfer: int = 13
    gamma: float | None = None


@dataclass(frozen=True)
class JxlHeader:
    """What the header of a stream states.

    Attributes:
        width: in pixels, before the orientation is applied.
        height: in pixels.
        orientation: as in EXIF, 1..8; decoders apply it.
        bits: per sample.
        is_float: whether samples are floats.
        extras: kinds of the extra channels.
        is_associated: whether colours are stored multiplied by alpha.
        is_animated: whether the file has several frames.
        is_xyb: whether colours are stored in the space XYB, as lossy files store them.
        colour: colour space.
        places: bits at which the size, the depth and the colour space begin and end; empty if the
            header states only a size.
    """

    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    is_float: bool = False
    extras: tuple[int, ...] = ()
    is_associated: bool = False
    is_animated: bool = False
    is_xyb: bool = True
    colour: ColourSpace = field(default_factory=ColourSpace)
    places: tuple[tuple[int, int], ...] = ()


def read_boxes(file: BinaryIO) -> tuple[bytes, dict[bytes, bytes], list[str]]:
    """Read the begin of the stream, and the boxes with metadata.

    Args:
        file: opened for reading; a container with boxes, or only a stream.

    Returns:
        The begin of the stream; the boxes by type, b"brob" stands before the type of a box with
        Brotli compression, and `JPEG_DATA` has no content; and names of boxes that are not kept.

    Raises:
        ValueError: there is no stream.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD)
    if head.startswith(STREAM):
        return head, {}, []
    stream, blocks, dropped, end = b"", {}, [], 0
    for kind, begin, end in boxes(file):
        file.seek(begin)
        if kind in (b"jxlc", b"jxlp") and len(stream) < _HEAD:
            part = file.read(min(_HEAD, end - begin))
            stream += part[4:] if kind == b"jxlp" else part
        elif kind == JPEG_DATA:
            blocks[kind] = b""
        elif kind in _METADATA and (end > size or end - begin > MAX_BLOCK):
            dropped.append(f"damaged box {kind.decode().strip()}")
        elif kind in _METADATA:
            content = file.read(end - begin)
            if kind == b"brob":
                kind, content = kind + content[:4], content[4:]
            blocks.setdefault(kind, content)
        elif kind in _NAMES:
            dropped.append(_NAMES[kind])
    if not stream.startswith(STREAM):
        raise ValueError("truncated header" if end > size else "a JPEG XL without pixels")
    return stream, blocks, dropped


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, and begin and end of the content, of the boxes of a container.

    Args:
        file: opened for reading. The end of the last box may lie behind the end of the file.
    """
    size, at = file.seek(0, 2), len(CONTAINER)
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, start = struct.unpack(">I", head[:4])[0], head[4:8], 8
        if length == 1 and len(head) == 16:
            length, start = struct.unpack(">Q", head[8:])[0], 16
        end = size if length == 0 else at + length
        if end < at + start:
            return
        yield kind, at + start, end
        at = end


def parse_header(stream: bytes) -> JxlHeader:
    """Parse the header of a stream up to the colour space.

    Args:
        stream: begin of the stream, from its signature on.

    Raises:
        ValueError: the header is damaged.
    """
    bits = Bits(stream[:_HEAD])
    bits.read(16)
    width, height = _size(bits)
    size = 16, bits.at
    if bits.read(1):  # all values are the defaults
        return JxlHeader(width, height)
    orientation, is_animated = _extra_fields(bits) if bits.read(1) else (1, False)
    begin = bits.at
    depth, is_float = bits.float_bits()
    samples = begin, bits.at
    bits.read(1)  # whether 16 bits are sufficient for a decoder
    extras = [_extra_channel(bits) for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12)))]
    is_xyb, begin = bool(bits.read(1)), bits.at
    colour = ColourSpace() if bits.read(1) else _colour_space(bits)
    return JxlHeader(
        width,
        height,
        orientation,
        depth,
        is_float,
        tuple(kind for kind, _ in extras),
        any(is_associated for _, is_associated in extras),
        is_animated,
        is_xyb,
        colour,
        (size, samples, (begin, bits.at)),
    )


def _size(bits: Bits) -> tuple[int, int]:
    """Width and height."""
    is_small = bits.read(1)

    def side() -> int:
        if is_small:
            return 8 * (bits.read(5) + 1)
        return 1 + bits.read(SIZES[bits.read(2)])

    height = side()
    ratio = bits.read(3)
    if not ratio:
        return side(), height
    over, under = _RATIOS[ratio - 1]
    return height * over // under, height


def _extra_fields(bits: Bits) -> tuple[int, bool]:
    """Orientation, and whether the file is animated."""
    orientation = 1 + bits.read(3)
    if bits.read(1):
        _size(bits)  # for a display
    if bits.read(1):
        raise ValueError("a JPEG XL with a preview inside is not supported")
    is_animated = bool(bits.read(1))
    if is_animated:
        bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
        bits.read(1)
    return orientation, is_animated


def _extra_channel(bits: Bits) -> tuple[int, bool]:
    """Kind of an extra channel, and whether it is alpha by which the colours are multiplied."""
    if bits.read(1):
        return ALPHA, False
    kind = bits.code()
    bits.float_bits()
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.choice((0, 0), (0, 4), (16, 5), (48, 10))):  # its name
        bits.read(8)
    if kind == ALPHA:
        return kind, bool(bits.read(1))
    if kind == 2:  # a spot colour
        bits.read(64)
    if kind == 5:  # a colour filter array
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, False


def _colour_space(bits: Bits) -> ColourSpace:
    has_icc, space = bool(bits.read(1)), bits.code()
    if has_icc:
        return ColourSpace(True, space)
    white, white_point, primaries, points = 1, (), 1, ()
    if space != XYB:
        white = bits.code()
        white_point = _points(bits, 1) if white == _CUSTOM else ()
        if space != GRAY:
            primaries = bits.code()
            points = _points(bits, 3) if primaries == _CUSTOM else ()
    gamma, transfer = None, 13
    if space != XYB:
        if bits.read(1):
            gamma = bits.read(24) / 1e7
        else:
            transfer = bits.code()
    bits.code()  # rendering intent
    return ColourSpace(False, space, white, white_point, primaries, points, transfer, gamma)


def _points(bits: Bits, count: int) -> tuple[float, ...]:
    """Chromaticities x and y."""
    ways = (0, 19), (524288, 19), (1048576, 20), (2097152, 21)
    packed = [bits.choice(*ways) for _ in range(2 * count)]
    return tuple((value >> 1 ^ -(value & 1)) / 1e6 for value in packed)
