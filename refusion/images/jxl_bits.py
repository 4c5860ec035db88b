"""Changes of the header of a JPEG XL stream (ISO/IEC 18181-1), whose pixels stay as they are.

imagecodecs neither writes nor reads colour profiles. So the statement of the colour space is
replaced in the streams that it writes, and the depth in lossy streams that it reads.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from refusion.images.jxl_header import (
    GRAY,
    RGB,
    SIZES,
    STREAM,
    Bits,
    JxlHeader,
    boxes,
    parse_header,
)

_HEADER = 128  # bytes of the header of an ICC profile
_SRGB = 13
_CONTEXTS_ARE_ONE = 1  # a simple context map with no bits per entry
_REST = 0b100  # no extensions (2 bits), and the default for everything about XYB (1 bit)
_FLOAT = ((0b0111_00_1, 7), (0b0111_011111_11_1, 13))  # the two codings of 32-bit floats


@dataclass
class _Writer:
    """Collects bits, the lowest bit of each byte first."""

    value: int = 0
    count: int = 0

    def write(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count

    def copy(self, stream: bytes, begin: int, end: int) -> None:
        """Copy the bits from `begin` to `end` of a stream."""
        part = int.from_bytes(stream[begin // 8 : -(-end // 8)], "little") >> begin % 8
        self.write(part & ((1 << (end - begin)) - 1), end - begin)

    def to_bytes(self) -> bytes:
        """All bits, filled up with zeros to whole bytes."""
        return self.value.to_bytes(-(-self.count // 8), "little")


def with_colours(
    stream: bytes, icc: bytes | None, *, is_gray: bool, depth: int | None = None
) -> bytes:
    """A stream of imagecodecs that states another colour space.

    Args:
        stream: the stream, from its signature on, without an ICC profile.
        icc: ICC profile; None states sRGB.
        is_gray: whether the image is gray.
        depth: bits per sample to state, 8 or 16; None for those of the stream. Only a lossy stream
            without alpha may state others.

    Raises:
        ValueError: the stream has another header than expected.
    """
    header = parse_header(stream)
    end = header.places[2][1] if header.places else 0
    reader = Bits(stream[: end // 8 + 2])
    reader.at = end
    if not end or header.colour.has_icc or reader.read(3) != _REST:
        raise ValueError("imagecodecs writes another header than expected; use another version")
    _, samples, colours = header.places
    writer = _Writer()
    writer.copy(stream, 0, samples[0])
    if depth is None:
        writer.copy(stream, samples[0], colours[0])
    else:
        writer.write(0, 1)  # not float
        writer.write(*((0, 2) if depth == 8 else (0b001111_11, 8)))
        writer.copy(stream, samples[1], colours[0])
    _write_colour_space(writer, is_gray=is_gray, has_icc=icc is not None)
    writer.write(_REST, 3)
    if icc is not None:
        _write_profile(writer, icc)
    return writer.to_bytes() + stream[-(-reader.at // 8) :]


def with_float_samples(stream: bytes) -> bytes:
    """A lossy stream that states 32-bit floats, so that a decoder returns them.

    The length of the profile behind the header is not known, so all that follows must stay at the
    same place in its bytes. The size is coded with more bits until it does.

    Raises:
        ValueError: the header cannot be changed in this way.
    """
    header = parse_header(stream)
    if not header.places:
        raise ValueError("a JPEG XL whose header states no profile")
    (begin, end), samples, _ = header.places
    for size, depth in itertools.product(_sizes(header), _FLOAT):
        writer = _Writer()
        writer.copy(stream, 0, begin)
        writer.write(*size)
        writer.copy(stream, end, samples[0])
        writer.write(*depth)
        if (writer.count - samples[1]) % 8 == 0:
            writer.copy(stream, samples[1], 8 * -(-samples[1] // 8))
            return writer.to_bytes() + stream[-(-samples[1] // 8) :]
    raise ValueError("a lossy JPEG XL with a profile, whose header cannot be changed")


def _sizes(header: JxlHeader) -> Iterator[tuple[int, int]]:
    """Codings of the size: value and number of bits."""
    for down, across in itertools.product(range(4), repeat=2):
        if (header.height - 1) >> SIZES[down] or (header.width - 1) >> SIZES[across]:
            continue
        writer = _Writer()
        writer.write(0, 1)  # not a small image
        writer.write(down, 2)
        writer.write(header.height - 1, SIZES[down])
        writer.write(0, 3)  # no ratio
        writer.write(across, 2)
        writer.write(header.width - 1, SIZES[across])
        yield writer.value, writer.count


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


def stream_of(data: bytes) -> tuple[bytes, bytes]:
    """The box jxll, which states the level of the stream, if there is one; and the stream.

    A decoder that gets the stream alone does not see the metadata, so a damaged block never makes
    a photo unreadable.

    Args:
        data: a complete file.
    """
    if data.startswith(STREAM):
        return b"", data
    level, parts = b"", []
    for kind, begin, end in boxes(io.BytesIO(data)):
        if kind == b"jxll":
            level = data[begin - 8 : end]
        elif kind in (b"jxlc", b"jxlp"):
            parts.append(data[begin + (4 if kind == b"jxlp" else 0) : end])
    return level, b"".join(parts)
