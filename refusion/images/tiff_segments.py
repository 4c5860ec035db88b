"""Decoding of the strips and tiles of a TIFF page by imagecodecs.

A strip or tile never decodes to more bytes than its place in the image can hold.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from refusion.images import tiff_layout
from refusion.images.jpeg_segments import MAX_SCANS, read_frame
from refusion.images.tiff_codecs import BYTES, ENDING, IMAGES, JPEG2K, WEBP, imagecodecs
from refusion.images.tiff_layout import TiffLayout, read_segments
from refusion.images.tiff_tags import TagError, TiffTags

T = TypeVar("T")

WORKERS = min(4, os.cpu_count() or 1)
BAND_BYTES = 1 << 18  # of the rows that are unpacked and converted at once
_MAX_TABLES = 1 << 20
_MAX_RATIO = 2  # of coded to decoded bytes; wrong lengths are larger
# Bytes that are read beyond this ratio: of all strips and tiles, and of each one at least.
_SPARE, _LEAST_SPARE = 1 << 28, 1 << 12


# Marker segment with the size of a JPEG 2000 picture: sides, tiles, number of components.
_JPEG2K_SIZE = re.compile(rb"\xff\x4f\xff\x51.{4}(.{24}).{8}(.{2})", re.DOTALL)
_MAX_TILES = 4096  # of a JPEG 2000 picture; each one takes memory
_INCOMPLETE = "truncated, a strip or tile is not complete; copy the file again"
_JPEG_END = b"\xff\xd9"
_FILLER = b"\x5a" * 4096 + _JPEG_END  # the decoder needs it only if blocks are missing
_ZEROS, _OWN_ZEROS = 64, 8  # bytes; complete data may end in some zeros of their own
_FAX = (tiff_layout.CCITT_RLE, tiff_layout.CCITT_3, tiff_layout.CCITT_4)
IMAGE_CODECS = frozenset((tiff_layout.JPEG, *IMAGES))
"""Compressions of pictures, TIFF codes."""
CODECS = frozenset((tiff_layout.NONE, tiff_layout.JPEG, *_FAX, *BYTES, *IMAGES))
"""Compressions that are decoded here, TIFF codes."""


@dataclass(frozen=True)
class Block:
    """A part of the image: one strip or tile, or those of all planes at the same place.

    Attributes:
        top: first row in the image.
        left: first column in the image.
        rows: number of rows.
        parts: for each strip or tile, its offset and length in the file.
    """

    top: int
    left: int
    rows: int
    parts: tuple[tuple[int, int], ...]


def for_each_band(
    tags: TiffTags, layout: TiffLayout, use: Callable[[int, int, np.ndarray], None]
) -> None:
    """Decode all strips and tiles, in several threads, and pass on their rows.

    Args:
        tags: the tags of the page.
        layout: the layout that they describe, without a fault that `unsupported` finds.
        use: called with the first row, the first column and samples (rows, columns, samples) in
            the byte order of the machine; each part of the image is passed once, in any order.

    Raises:
        TagError: the tags of the strips or tiles are wrong.
        Exception: any exception that a codec raises for damaged bytes.
    """
    blocks = _blocks(tags, layout)
    # Strips that overlap must not be read for hours.
    spare = max(_LEAST_SPARE, min(_MAX_TABLES, _SPARE // _number_of_blocks(layout)))
    decode = _decoder(tags, layout)
    lock = threading.Lock()

    def run(block: Block) -> None:
        pieces = []
        longest = _MAX_RATIO * block.rows * layout.row_bytes + spare
        for offset, size in block.parts:
            with lock:
                tags.file.seek(offset)
                data = tags.file.read(min(size, longest))
            pieces.append(decode(data, block.rows))
            del data
        band = max(1, BAND_BYTES // (layout.row_bytes * len(pieces)))
        for top in range(0, min(block.rows, layout.height - block.top), band):
            bottom = min(top + band, block.rows, layout.height - block.top)
            rows = [_rows(piece, top, bottom, layout, tags.order) for piece in pieces]
            samples = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=2)
            use(block.top + top, block.left, samples[:, : layout.width - block.left])

    _in_threads(blocks, run, _number_of_blocks(layout))


def is_plain(tags: TiffTags, layout: TiffLayout) -> bool:
    """Whether the file holds the samples of the image as an array of the machine has them."""
    is_native = layout.bits == 8 or tags.order == {"little": "<", "big": ">"}[sys.byteorder]
    is_whole = layout.bits == 8 * layout.dtype.itemsize and layout.predictor == 1
    is_in_order = not (layout.is_planar or layout.is_tiled or layout.is_reversed)
    return layout.is_uncompressed and is_native and is_whole and is_in_order


def read_plain(tags: TiffTags, layout: TiffLayout, pixels: np.ndarray) -> None:
    """Read the strips of a page, for which `is_plain` holds, without a copy.

    Args:
        tags: the tags of the page.
        layout: the layout that they describe.
        pixels: array (H, W, samples) that is filled.

    Raises:
        TagError: the tags of the strips are wrong, or the file is truncated.
    """
    for block in _blocks(tags, layout):
        rows = memoryview(pixels[block.top : block.top + block.rows]).cast("B")
        tags.file.seek(block.parts[0][0])
        if tags.file.readinto(rows) < len(rows):
            raise TagError("truncated or damaged, a strip is not complete")


def _in_threads(blocks: Iterator[Block], run: Callable[[Block], None], number: int) -> None:
    """Run a function on all blocks in as many threads as are useful; an error ends all threads."""
    lock, is_over = threading.Lock(), threading.Event()

    def work(_: int) -> None:
        try:
            while not is_over.is_set():
                with lock:
                    block = next(blocks, None)
                if block is None:
                    return
                run(block)
        except BaseException:
            is_over.set()
            raise

    if min(WORKERS, number) == 1:
        work(0)
        return
    with ThreadPoolExecutor(min(WORKERS, number)) as pool:
        try:
            for _ in pool.map(work, range(WORKERS)):
                pass
        finally:  # also after Ctrl-C
            is_over.set()


def _number_of_blocks(layout: TiffLayout) -> int:
    down, across = layout.grid
    if layout.is_uncompressed:
        return -(-down * layout.segment[0] * across * layout.row_bytes // BAND_BYTES)
    return down * across


def _blocks(tags: TiffTags, layout: TiffLayout) -> Iterator[Block]:
    offsets, sizes = read_segments(tags, layout)
    down, across = layout.grid
    places = np.stack([offsets, sizes], 1).reshape(-1, down, across, 2)
    rows, columns = layout.segment
    for row in range(down):
        for column in range(across):
            parts = tuple(map(tuple, places[:, row, column].tolist()))
            yield from _split(
                Block(row * rows, column * columns, layout.segment_shape(row)[0], parts), layout
            )


def _split(block: Block, layout: TiffLayout) -> Iterator[Block]:
    """Split a block that is not compressed into blocks of a few rows, which need less memory."""
    if not layout.is_uncompressed:
        yield block
        return
    step = max(1, BAND_BYTES // (layout.row_bytes * len(block.parts)))
    for top in range(0, block.rows, step):
        rows, skipped = min(step, block.rows - top), top * layout.row_bytes
        parts = tuple((offset + skipped, rows * layout.row_bytes) for offset, _ in block.parts)
        if block.top + top < layout.height:
            yield Block(block.top + top, block.left, rows, parts)


def _decoder(tags: TiffTags, layout: TiffLayout) -> Callable[[bytes, int], bytes | np.ndarray]:
    """Function of the bytes and the rows of a strip or tile: packed rows, or samples."""
    code, columns = layout.compression, layout.segment[1]
    if code == tiff_layout.JPEG:
        return partial(_jpeg, layout=layout, tables=tags.block(347, _MAX_TABLES))
    if code in IMAGES:
        return _with_end(partial(_image, layout=layout, decode=IMAGES[code]))
    options = tags.integer(292, 0, 7, 0) if code == tiff_layout.CCITT_3 else 0

    def decode(data: bytes, rows: int) -> bytes | np.ndarray:
        if layout.is_reversed:
            data = imagecodecs().bitorder_decode(data)
        if code == tiff_layout.NONE:
            return _complete(data, rows * layout.row_bytes)
        if code in BYTES:
            size = rows * layout.row_bytes
            return _complete(BYTES[code](data, out=size), size)
        if code == tiff_layout.CCITT_3:
            bits = imagecodecs().ccittfax3_decode(data, rows, columns, t4options=options)
        elif code == tiff_layout.CCITT_4:
            bits = imagecodecs().ccittfax4_decode(data, rows, columns)
        else:
            bits = imagecodecs().ccittrle_decode(data, rows, columns)
        return bits.reshape(rows, columns, 1)

    return _with_end(decode) if code in ENDING else decode


def _with_end(decode: Callable[[bytes, int], T]) -> Callable[[bytes, int], T]:
    """A decoder that refuses data whose end was replaced by zeros.

    Zeros may follow complete data, which a decoder does not need. It may need those in the place
    of lost data.
    """

    def run(data: bytes, rows: int) -> T:
        found = decode(data, rows)
        if data.endswith(bytes(_ZEROS)):
            try:
                decode(data.rstrip(b"\0") + bytes(_OWN_ZEROS), rows)
            except Exception as error:  # decoders raise any type for damaged bytes
                raise TagError(_INCOMPLETE) from error
        return found

    return run


def _complete(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise TagError(f"truncated or damaged, a strip or tile has {len(data)} of {size} bytes")
    return data


def _image(
    data: bytes, rows: int, layout: TiffLayout, decode: Callable[..., np.ndarray]
) -> np.ndarray:
    """Decode a picture of the size of the strip or tile, or of its part inside the image."""
    shape = (rows, layout.segment[1], layout.contiguous)
    options = {"hasalpha": shape[2] == 4} if decode is WEBP else {}
    out = np.empty(shape if shape[2] > 1 else shape[:2], layout.dtype)
    if decode is JPEG2K:  # it compares the sizes after it has decoded
        _check_jpeg2k(data, *shape)
    decode(data, out=out, **options)
    return out.reshape(shape)


def _check_jpeg2k(data: bytes, rows: int, columns: int, samples: int) -> None:
    """Raise `TagError` unless the codestream (ITU-T T.800, A.5.1) has at most this size."""
    found = list(_JPEG2K_SIZE.finditer(data))
    for match in found:  # the boxes around a codestream could hold the bytes of another header
        right, bottom, left, top, across, down = struct.unpack_from(">6I", match[1])
        width, height, count = right - left, bottom - top, int.from_bytes(match[2], "big")
        tiles = width * height / max(1, across * down)
        if not 0 < width * height <= rows * columns or count != samples or tiles > _MAX_TILES:
            raise TagError(
                f"a JPEG 2000 picture of {width}x{height} with {count} components, expected"
                f" {columns}x{rows} with {samples}; the file is damaged"
            )
    if not found:
        raise TagError("a JPEG 2000 picture without a header; the file is damaged")


def _jpeg(data: bytes, rows: int, layout: TiffLayout, tables: bytes | None) -> np.ndarray:
    """Decode a JPEG stream; YCbCr becomes RGB."""
    shape = (rows, layout.segment[1], layout.contiguous)
    if data.count(b"\xff\xda") > MAX_SCANS:
        raise TagError(f"a JPEG with more than {MAX_SCANS} scans; the file is damaged")
    frame = read_frame(io.BytesIO(data))
    if frame is None:
        raise TagError("a JPEG without a frame header; the file is damaged")
    height = frame.height
    is_fitting = rows <= height <= max(rows, layout.segment[0])
    if (frame.width, frame.components) != shape[1:] or not is_fitting:
        raise TagError(
            f"a JPEG of {frame.width}x{height} with {frame.components} components, expected"
            f" {shape[1]}x{rows} with {shape[2]}"
        )
    colours = _jpeg_colours(layout, b"JFIF\0" in data[:32])
    decode = partial(imagecodecs().jpeg_decode, bitspersample=layout.bits, tables=tables, **colours)
    out = decode(data)
    if _JPEG_END not in data and (
        data.endswith(bytes(_ZEROS)) or not np.array_equal(decode(data + _FILLER), out)
    ):
        raise TagError(_INCOMPLETE)
    return out.reshape(height, *shape[1:])[:rows]


def _jpeg_colours(layout: TiffLayout, is_jfif: bool) -> dict[str, int]:
    """Colour spaces for `imagecodecs.jpeg_decode`, as TIFF codes."""
    if layout.is_planar:
        return {"outcolorspace": tiff_layout.BLACK_IS_ZERO}
    if layout.extras:
        return {}
    if layout.photometric == tiff_layout.RGB:
        same = {} if is_jfif else {"colorspace": tiff_layout.RGB}
        return same | {"outcolorspace": tiff_layout.RGB}
    if layout.photometric == tiff_layout.YCBCR:
        return {"outcolorspace": tiff_layout.RGB}
    return {"outcolorspace": 4} if layout.photometric == tiff_layout.CMYK else {}


def _rows(
    piece: bytes | np.ndarray, top: int, bottom: int, layout: TiffLayout, order: str
) -> np.ndarray:
    """Unpack rows of a decoded strip or tile to samples (rows, columns, samples)."""
    if isinstance(piece, np.ndarray):
        return piece[top:bottom]
    shape = (bottom - top, layout.segment[1], layout.contiguous)
    packed = memoryview(piece)[top * layout.row_bytes : bottom * layout.row_bytes]
    if layout.bits not in (8, 16, 32, 64):
        runlength = shape[1] * shape[2]
        samples = imagecodecs().packints_decode(packed, layout.dtype, layout.bits, runlen=runlength)
        return samples.reshape(shape)
    if layout.predictor == tiff_layout.FLOATING_POINT:
        samples = np.frombuffer(packed, layout.dtype).reshape(shape)
        return imagecodecs().floatpred_decode(samples, axis=-2)
    stored = np.frombuffer(packed, layout.dtype.newbyteorder(order)).reshape(shape)
    samples = stored.astype(layout.dtype, copy=False)
    if layout.predictor == tiff_layout.HORIZONTAL:
        integers = samples.view(f"u{layout.dtype.itemsize}")
        return imagecodecs().delta_decode(integers, axis=-2).view(layout.dtype)
    return samples
