"""Size of the frames of an AV1 stream from its sequence header (AV1 bitstream specification, 5.5).

An AVIF file states its size twice: in a box, which is checked against the limits, and in the coded
stream, which the decoder obeys.
"""

from __future__ import annotations

_SEQUENCE, _MAX_UNITS = 1, 10_000


class _Bits:
    """Reads bits, the highest bit of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("truncated header")
        return self._value >> self._left & ((1 << count) - 1)


def frame_size(stream: bytes) -> tuple[int, int]:
    """Largest width and height in pixels of the frames, by all sequence headers; 0 without one.

    Args:
        stream: a complete stream.

    Raises:
        ValueError: the stream is damaged.
    """
    at, width, height = 0, 0, 0
    for _ in range(_MAX_UNITS):
        if at >= len(stream):
            return width, height
        kind, has_extension, has_length = (stream[at] >> shift for shift in (3, 2, 1))
        at += 1 + (has_extension & 1)
        length = len(stream) - at
        if has_length & 1:
            length, at = _leb128(stream, at)
        if kind & 15 == _SEQUENCE:
            across, down = _sequence_size(_Bits(stream[at : at + length]))
            width, height = max(width, across), max(height, down)
        at += length
    raise ValueError("a coded stream of too many parts")


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


def _sequence_size(bits: _Bits) -> tuple[int, int]:
    bits.read(4)  # profile, still picture
    if bits.read(1):  # a short header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(across) + 1, bits.read(down) + 1


def _skip_operating_points(bits: _Bits) -> None:
    """Timing, decoder model and operating points."""
    delay_bits = None
    if bits.read(1):
        bits.read(64)  # units of time
        if bits.read(1):
            _skip_exponential_golomb(bits)
        if bits.read(1):
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits is not None and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delay and bits.read(1):
            bits.read(4)


def _skip_exponential_golomb(bits: _Bits) -> None:
    zeros = 0
    while not bits.read(1):
        zeros += 1
    bits.read(zeros if zeros < 32 else 0)
