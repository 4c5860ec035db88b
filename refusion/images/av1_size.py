"""Size of the frames of an AV1 stream from its sequence header (AV1 bitstream specification, 5.5).

An AVIF file states its size twice: in a box, which is checked against the limits, and in the coded
stream, which the decoder obeys.
"""

from __future__ import annotations

HEAD = 128
"""Bytes of a stream that hold its sequence header."""
_SEQUENCE, _MAX_UNITS = 1, 8


class _Bits:
    """Reads bits, the highest bit of each byte first; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("truncated header")
        return self._value >> self._left & ((1 << count) - 1)


def frame_size(stream: bytes) -> tuple[int, int] | None:
    """Largest width and height in pixels of the frames; None without a header that is understood.

    Args:
        stream: begin of a stream, `HEAD` bytes or more if it has as many.

    Raises:
        ValueError: the header is cut off.
    """
    at = 0
    for _ in range(_MAX_UNITS):
        if at + 2 > len(stream):
            return None
        kind, has_extension = stream[at] >> 3 & 15, stream[at] >> 2 & 1
        at += 1 + has_extension
        length, at = _leb128(stream, at)
        if kind == _SEQUENCE:
            return _sequence_size(_Bits(stream[at : at + length]))
        at += length
    return None


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and the offset behind it."""
    value = 0
    for place in range(8):
        byte = stream[at : at + 1]
        if not byte:
            break
        value |= (byte[0] & 127) << 7 * place
        at += 1
        if byte[0] < 128:
            break
    return value, at


def _sequence_size(bits: _Bits) -> tuple[int, int] | None:
    bits.read(4)  # profile, still picture
    if bits.read(1):  # a short header
        bits.read(5)
    else:
        if bits.read(1):  # timing, which photos do not have
            return None
        has_delay = bits.read(1)
        for _ in range(bits.read(5) + 1):  # operating points
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if has_delay and bits.read(1):
                bits.read(4)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(across) + 1, bits.read(down) + 1
