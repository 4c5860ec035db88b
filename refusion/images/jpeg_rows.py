"""Whether the coded pixels of a JPEG file are complete.

The decoder paints parts gray that are missing before the marker at the end of the picture, without
an error.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np
from PIL import JpegImagePlugin

from refusion.images.jpeg_blocks import end_of_picture, read_blocks
from refusion.images.source import Source

_BLOCK = 8  # pixels
_INNER = 4  # pixels of a block that have nothing of the colours of the block before
_END = b"\xff\xd9"
_FILLER = b"\x5a" * 4096  # decodes to blocks that are not gray


def check_blocks(source: Source, pixels: np.ndarray) -> None:
    """Raise `ValueError` if blocks of a decoded JPEG are missing in the file.

    The decoder reads bytes behind the last block only if a block is missing. So the picture is
    decoded a second time, at an eighth of its size, with more bytes before its end. This takes as
    long as decoding, so it is done only if the last block of the picture has one colour.

    Args:
        source: the JPEG file.
        pixels: its samples (H, W, C), as they are stored.
    """
    rows, columns = (min((side - 1) % _BLOCK + 1, _INNER) for side in pixels.shape[:2])
    corner = pixels[-rows:, -columns:]
    if (corner != corner[-1:, -1:]).any():
        return
    end = end_of_picture(source.file, read_blocks(source.file).end)
    if end is None:
        return
    coded = _coded(source, end - len(_END))
    with contextlib.suppress(OSError):  # the decoder dislikes the added bytes, which says nothing
        if not np.array_equal(_small(coded + _END), _small(coded + _FILLER + _END)):
            raise ValueError("truncated, its pixels are not complete; copy it again")


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
