"""Whether zeros at the end of a file stand in the place of lost pixels.

A copy that was interrupted can have its full length, with zeros where the rest should be. Decoders
take the zeros for a part of the picture in one colour, without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np

_OWN = 8  # bytes at their begin that may belong to the picture
_MISSING = 64  # bytes; a picture can end in some zeros of its own
_FILLER = 0x5A
_PIECE = 1 << 12  # bytes that are searched at once
SURPLUS = 32
"""Bytes of the zeros that are left over, at least."""


def check_zero_tail(
    data: bytes,
    parts: Sequence[tuple[int, int]],
    pixels: np.ndarray,
    decode: Callable[[bytes], np.ndarray],
    surplus: int = SURPLUS,
) -> None:
    """Raise `ValueError` if zeros at the end of the coded pixels replace a part of the picture.

    Lost pixels need few zeros: then the decoder uses the first ones, and the last ones are left
    over. A complete picture uses all of its bytes, or none behind its end. So the file is decoded
    twice more, with other bytes in the place of zeros; but only if it ends in zeros, which is rare.

    Args:
        data: the file.
        parts: first and last offset of the parts with coded pixels.
        pixels: the decoded samples.
        decode: decodes a changed file; it may raise any exception.
        surplus: bytes at the end of the zeros that the decoder must not use.
    """
    count = _zeros(data, parts)
    if count < max(_MISSING, surplus + _OWN):
        return

    def is_same(number: int) -> bool:
        try:
            return np.array_equal(decode(_filled(data, parts, number)), pixels)
        except Exception:  # decoders raise any type for damaged bytes
            return False

    if is_same(surplus) and not is_same(count - _OWN):
        raise ValueError("truncated, its pixels are not complete; copy it again")


def ends_in_zeros(file: BinaryIO, end: int) -> bool:
    """Whether the bytes of a file before an offset are zeros that `check_zero_tail` would look at.

    Args:
        file: opened for reading.
        end: the offset.
    """
    file.seek(max(0, end - _MISSING))
    return not any(file.read(min(_MISSING, end)))


def _zeros(data: bytes, parts: Sequence[tuple[int, int]]) -> int:
    """Number of zeros at the end of the parts together."""
    count = 0
    for begin, end in sorted(parts, reverse=True):
        for last in range(end, begin, -_PIECE):
            piece = data[max(begin, last - _PIECE) : last]
            zeros = len(piece) - len(piece.rstrip(b"\0"))
            count += zeros
            if zeros < len(piece):
                return count
    return count


def _filled(data: bytes, parts: Sequence[tuple[int, int]], number: int) -> bytes:
    """The file with other bytes in the place of the last bytes of the parts."""
    changed = bytearray(data)
    for begin, end in sorted(parts, reverse=True):
        first = max(begin, end - number)
        changed[first:end] = bytes((_FILLER,)) * (end - first)
        number -= max(0, end - first)
    return bytes(changed)
