"""Whether the coded pixels of a JPEG file are complete.

The decoder paints parts gray that are missing before the marker at the end of the picture, without
an error.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import partial

import numpy as np
from PIL import JpegImagePlugin

from refusion.images.jpeg_blocks import end_of_picture, read_blocks
from refusion.images.jpeg_coded import LEAST_LONG, LONGEST, coded_part, next_restart
from refusion.images.jpeg_segments import ARITHMETIC, read_frame
from refusion.images.source import Source
from refusion.images.zero_tail import SURPLUS, check_zero_tail, ends_in_zeros

_BLOCK = 8  # pixels
_INNER = 4  # pixels of a block that have nothing of the colours of the block before
_END = b"\xff\xd9"
_FILLER = b"\x5a" * 4096  # decodes to blocks that are not gray
_SECTOR = 512  # bytes that a copy loses at once, if a program adds the end later
_FINE = 2  # reduction that shows all scans


def check_blocks(source: Source, pixels: np.ndarray) -> None:
    """Raise `ValueError` if blocks of a decoded JPEG are missing in the file.

    The decoder reads bytes behind the last block only if a block is missing. So the picture is
    decoded again, at a part of its size, with more bytes before its end. This takes as long as
    decoding, so it is done only if the last block of the picture has one colour, or if the coded
    pixels end in zeros. A decoder of arithmetic codes reads beyond the last block in any case, so
    it tells nothing.

    Args:
        source: the JPEG file.
        pixels: its samples (H, W, C), as they are stored.
    """
    rows, columns = (min((side - 1) % _BLOCK + 1, _INNER) for side in pixels.shape[:2])
    corner = pixels[-rows:, -columns:]
    is_plain = (corner == corner[-1:, -1:]).all()
    frame = read_frame(source.file)
    if frame is None or frame.marker in ARITHMETIC:
        return
    size = source.file.seek(0, 2)
    end = end_of_picture(source.file, read_blocks(source.file).end)
    marker, last, surplus = (b"", size, SURPLUS) if end is None else (_END, end - 2, _SECTOR)
    if ends_in_zeros(source.file, last):
        # What is behind the pixels can be much longer than any picture of this size.
        begin = min((begin for begin, _ in source.pixels), default=0)
        coded = coded_part(source, min(last, begin + LONGEST * pixels.nbytes + LEAST_LONG))
        decode = partial(_reduced, by=_FINE, end=marker)
        check_zero_tail(coded, [(0, len(coded))], decode(coded), decode, surplus)
    if not is_plain or end is None:
        return
    coded = coded_part(source, last)
    if any(_is_needed(coded, more) for more in _continuations(coded)):
        raise ValueError("truncated, its pixels are not complete; copy it again")


def _is_needed(coded: bytes, more: bytes) -> bool:
    """Whether bytes behind the coded pixels change the picture."""
    with contextlib.suppress(OSError):  # the decoder dislikes the added bytes, which says nothing
        return not np.array_equal(_reduced(coded), _reduced(coded + more))
    return False


def _continuations(coded: bytes) -> Iterator[bytes]:
    """Bytes that a decoder would read as the next blocks of an incomplete picture."""
    yield _FILLER
    # Of a picture that was cut before a restart marker, the decoder skips all up to the marker.
    if restart := next_restart(coded):
        yield restart + _FILLER


def _reduced(coded: bytes, by: int = _BLOCK, end: bytes = _END) -> np.ndarray:
    """The picture at a part of its size; at an eighth the decoder needs one number per block."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(coded + end))
    image.draft(None, (max(1, image.width // by), max(1, image.height // by)))
    return np.asarray(image)
