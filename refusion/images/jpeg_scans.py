"""Whether a JPEG picture of several scans has all of them, up to the end of the last one.

Each scan refines the whole picture. Where scans are missing before the marker at the end of the
picture, the decoder gives a coarser picture, without an error.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, JpegImagePlugin

from refusion.images.jpeg_blocks import END, SCAN, markers, read_blocks
from refusion.images.jpeg_coded import LEAST_LONG, LONGEST, coded_part, next_restart
from refusion.images.jpeg_segments import ARITHMETIC, Frame, read_frame
from refusion.images.source import Source

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_COEFFICIENTS = 64  # of a block; the first one is its mean
_ONES = b"\xff\x00"  # eight bits of 1 in the coded pixels; behind the last scan they are skipped
_AHEAD = 8  # bytes that the decoder reads ahead in a scan, at most
_PROBES = 32


@dataclass(frozen=True)
class Scan:
    """The header of a scan (ITU-T T.81, B.2.3).

    Attributes:
        components: numbers of the colours.
        first: first coefficient, 0..63.
        last: last coefficient.
        missing_bits: number of low bits of the coefficients that later scans add.
    """

    components: tuple[int, ...]
    first: int
    last: int
    missing_bits: int


def check_scans(source: Source) -> None:
    """Raise `ValueError` if scans of a JPEG are missing in the file, or a part of the last one.

    A file of one scan is not looked at. For others the decoder reads all scans once more, without
    computing pixels, which takes about two thirds of the time of decoding.

    Args:
        source: the JPEG file.
    """
    file, frame = source.file, read_frame(source.file)
    if frame is None or frame.marker not in _SEQUENTIAL + _PROGRESSIVE:
        return
    found = list(markers(file, read_blocks(file).end))
    scans = [read_scan(file, at) for marker, at in found if marker == SCAN]
    if frame.marker in _SEQUENTIAL and scans and len(scans[0].components) == frame.components:
        return
    if not is_whole(frame, scans):
        raise ValueError(
            "truncated, the last scans of its pixels are missing; copy it again, or save it anew "
            "to use it as it is"
        )
    end = next((at - 2 for marker, at in found if marker == END), None)
    size = frame.width * frame.height * frame.components
    if frame.marker in ARITHMETIC or end is None or end > LONGEST * size + LEAST_LONG:
        return
    if _wants_more(coded_part(source, end)):
        raise ValueError("truncated, its pixels are not complete; copy it again")


def read_scan(file: BinaryIO, at: int) -> Scan:
    """Read the header of a scan.

    Args:
        file: the JPEG file, opened for reading.
        at: offset behind the marker.
    """
    file.seek(at)
    head = file.read(3)
    count = head[2] if len(head) == 3 else 0
    content = file.read(2 * count + 3)
    if len(content) < 2 * count + 3:
        raise ValueError("truncated, its pixels are not complete; copy it again")
    first, last, bits = content[-3:]
    return Scan(tuple(content[: 2 * count : 2]), first, last, bits & 15)


def is_whole(frame: Frame, scans: Sequence[Scan]) -> bool:
    """Whether scans give all coefficients of a picture, with all of their bits.

    The mean of a block must be there for all colours, and the rest for the first colour. For other
    colours a rest that no scan begins can be 0; nothing says so, and the standard allows it.

    Args:
        frame: the frame header.
        scans: all scans in the file, in their order.
    """
    left: dict[int, list[int | None]] = {}
    for scan in scans:
        for component in scan.components:
            bits = left.setdefault(component, [None] * _COEFFICIENTS)
            for place in range(scan.first, min(scan.last + 1, _COEFFICIENTS)):
                bits[place] = scan.missing_bits
    if len(left) < frame.components:
        return False
    if frame.marker in _SEQUENTIAL:
        return True
    begun = all(bits[0] is not None and not any(bits) for bits in left.values())
    return begun and None not in next(iter(left.values()))


def _wants_more(coded: bytes) -> bool:
    """Whether the decoder takes bytes behind the coded pixels for pixels.

    Behind the last block it skips all bytes up to the next marker at once. Before, it waits for
    the rest of a code, so it leaves bytes for its next call.

    Args:
        coded: a JPEG file with Huffman codes, without the marker at its end.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(coded))
    image.draft(None, (1, 1))
    decoder = Image._getdecoder(image.mode, "jpeg", image.tile[0].args, image.decoderconfig)
    decoder.setimage(Image.new(image.mode, image.size).im, (0, 0, *image.size))
    left = coded.rstrip(b"\xff")  # fill bytes before a marker
    try:
        for more in _continuations(coded):
            left += more
            used, _ = decoder.decode(left)
            if used < 0:  # an error, which the decoding of the pixels meets as well
                return False
            left = left[used:]
            if left and len(more) == len(_ONES):
                return True
    finally:
        decoder.cleanup()
    return False


def _continuations(coded: bytes) -> Iterator[bytes]:
    """Bytes behind coded pixels; the decoder takes the first ones for the end of a last block."""
    yield _ONES * _AHEAD
    yield from [_ONES] * _PROBES
    # Before a restart marker the decoder skips all bytes up to it, as behind the last block.
    yield next_restart(coded)
    yield from [_ONES] * _PROBES
