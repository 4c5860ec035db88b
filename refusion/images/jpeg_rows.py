"""Whether the coded pixels of a JPEG file are complete.

The decoder paints parts gray that are missing before the marker at the end of the picture, without
an error.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import JpegImagePlugin

from refusion.images.jpeg_blocks import end_of_picture, read_blocks
from refusion.images.source import Source
from refusion.images.zero_tail import check_zero_tail, ends_in_zeros

_BLOCK = 8  # pixels
_INNER = 4  # pixels of a block that have nothing of the colours of the block before
_LONGEST, _LEAST_LONG = 4, 1 << 16  # coded bytes per byte of the samples, and in addition, at most
_END = b"\xff\xd9"
_FILLER = b"\x5a" * 4096  # decodes to blocks that are not gray
_RESTARTS = b"\xff\xdd\x00\x04"  # segment with the number of blocks between restart markers
_SCAN = b"\xff\xda"
_MARKERS = range(0xD0, 0xD8)  # restart markers, which follow each other in a circle


def check_blocks(source: Source, pixels: np.ndarray) -> None:
    """Raise `ValueError` if blocks of a decoded JPEG are missing in the file.

    The decoder reads bytes behind the last block only if a block is missing. So the picture is
    decoded again, at an eighth of its size, with more bytes before its end. This takes as long as
    decoding, so it is done only if the last block of the picture has one colour, or if the file
    ends in zeros.

    Args:
        source: the JPEG file.
        pixels: its samples (H, W, C), as they are stored.
    """
    rows, columns = (min((side - 1) % _BLOCK + 1, _INNER) for side in pixels.shape[:2])
    corner = pixels[-rows:, -columns:]
    size = source.file.seek(0, 2)
    is_plain = (corner == corner[-1:, -1:]).all()
    if not is_plain and not ends_in_zeros(source.file, size):
        return
    end = end_of_picture(source.file, read_blocks(source.file).end)
    if end is None:
        # What follows the end of the picture can be much longer than any picture of this size.
        begin = min((begin for begin, _ in source.pixels), default=0)
        coded = _coded(source, min(size, begin + _LONGEST * pixels.nbytes + _LEAST_LONG))
        check_zero_tail(coded, [(0, len(coded))], _small(coded), _small)
        return
    coded = _coded(source, end - len(_END))
    if is_plain and any(_is_needed(coded, more) for more in _continuations(coded)):
        raise ValueError("truncated, its pixels are not complete; copy it again")


def _is_needed(coded: bytes, more: bytes) -> bool:
    """Whether bytes behind the coded pixels change the picture."""
    with contextlib.suppress(OSError):  # the decoder dislikes the added bytes, which says nothing
        return not np.array_equal(_small(coded + _END), _small(coded + more + _END))
    return False


def _continuations(coded: bytes) -> Iterator[bytes]:
    """Bytes that a decoder would read as the next blocks of an incomplete picture."""
    yield _FILLER
    if _RESTARTS in coded:
        # Of a picture that was cut before a restart marker, the decoder skips all up to the marker.
        found = [coded.rfind(b"\xff%c" % marker) for marker in _MARKERS]
        last = max(range(len(found)), key=found.__getitem__)
        following = 0 if found[last] < coded.rfind(_SCAN) else (last + 1) % len(found)
        yield b"\xff%c" % _MARKERS[following] + _FILLER


def _coded(source: Source, end: int) -> bytes:
    """The parts of a file that the decoder needs, up to an offset."""
    parts = [source.head]
    for begin, last in source.pixels:
        source.file.seek(begin)
        parts.append(source.file.read(max(0, min(last, end) - begin)))
    return b"".join(parts)


def _small(coded: bytes) -> np.ndarray:
    """The picture at an eighth of its size, for which the decoder needs one number per block."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(coded))
    image.draft(None, (1, 1))
    return np.asarray(image)
