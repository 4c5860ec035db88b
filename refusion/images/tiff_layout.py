"""Layout of the samples of a TIFF page: checked numbers, from which everything else follows.

All limits are checked here, before memory is allocated for samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refusion.images.tiff_tags import TagError, TiffTags

# Codes of TIFF 6.0 and its supplements.
NONE, CCITT_RLE, CCITT_3, CCITT_4, LZW, OLD_JPEG, JPEG, DEFLATE = 1, 2, 3, 4, 5, 6, 7, 8
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR = range(7)
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha
HORIZONTAL, FLOATING_POINT = 2, 3  # predictors
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, MASK: 1, CMYK: 4, YCBCR: 3}
_NAMES = {8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32803: "colour filter array", 34892: "linear raw"}
_NAMES |= {32844: "LogL", 32845: "LogLuv"}
_UNSIGNED, _FLOAT, _UNDEFINED = 1, 3, 4  # sample formats
_FORMATS = {1: "uint", 2: "int", 3: "float", 4: "uint", 5: "complex int", 6: "complex"}
_MAX_SIDE = 2**32 - 1
_MAX_SAMPLES = 64
_MAX_SEGMENTS = 2**19
_SMALL_SEGMENT = 2**26  # bytes of a strip or tile that are always allowed


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of one page are stored.

    Attributes:
        width: in pixels.
        height: in pixels.
        samples: samples per pixel, with alpha and other extra samples.
        bits: bits per sample.
        kind: "uint" or "float"; other kinds are refused by `check_supported`.
        photometric: meaning of the samples, TIFF code.
        compression: TIFF code.
        predictor: TIFF code.
        is_planar: whether each sample of the pixel has its own strips or tiles.
        is_reversed: whether the lowest bit of a byte comes first (FillOrder 2).
        is_tiled: tiles, or else strips.
        segment: height and width of a strip or tile in pixels.
        extras: kinds of the extra samples.
    """

    width: int
    height: int
    samples: int
    bits: int
    kind: str
    photometric: int
    compression: int
    predictor: int
    is_planar: bool
    is_reversed: bool
    is_tiled: bool
    segment: tuple[int, int]
    extras: tuple[int, ...]

    @property
    def colours(self) -> int:
        """Samples per pixel that are colours; 0 for an unknown photometric interpretation."""
        return _COLOURS.get(self.photometric, 0)

    @property
    def is_uncompressed(self) -> bool:
        """Whether the strips and tiles are stored as they are."""
        return self.compression == NONE

    @property
    def alpha(self) -> int | None:
        """Index of the sample that is alpha; None without alpha."""
        found = (n for n, kind in enumerate(self.extras) if kind in (ASSOCIATED, UNASSOCIATED))
        index = next(found, None)
        return None if index is None else self.colours + index

    @cached_property  # used for each band of rows
    def dtype(self) -> np.dtype:
        """Type of an unpacked sample in the byte order of the machine."""
        itemsize = next(size for size in (1, 2, 4, 8) if self.bits <= 8 * size)
        return np.dtype(f"{self.kind[0]}{itemsize}")

    @property
    def contiguous(self) -> int:
        """Samples per pixel in one strip or tile."""
        return 1 if self.is_planar else self.samples

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a strip or tile; a row begins at a byte."""
        return -(-self.segment[1] * self.contiguous * self.bits // 8)

    @property
    def grid(self) -> tuple[int, int]:
        """Numbers of strips or tiles below and beside each other in one plane."""
        return -(-self.height // self.segment[0]), -(-self.width // self.segment[1])

    def segment_shape(self, row: int) -> tuple[int, int, int]:
        """Rows, columns and samples of a strip or tile; the last strip may have fewer rows."""
        rows, columns = self.segment
        rows = rows if self.is_tiled else min(rows, self.height - row * rows)
        return rows, columns, self.contiguous

    def named(self) -> str:
        """Short description for messages."""
        names = {WHITE_IS_ZERO: "gray", BLACK_IS_ZERO: "gray", RGB: "RGB", PALETTE: "palette"}
        names |= {MASK: "mask", CMYK: "CMYK", YCBCR: "YCbCr"} | _NAMES
        colour = names.get(self.photometric, f"photometric {self.photometric}")
        return f"{colour} TIFF with {self.bits} bits per sample, compression {self.compression}"


def image_size(tags: TiffTags) -> tuple[int, int]:
    """Read width and height in pixels.

    Raises:
        TagError: a tag is missing or wrong.
    """
    return tags.integer(256, 1, _MAX_SIDE), tags.integer(257, 1, _MAX_SIDE)


def read_layout(tags: TiffTags) -> TiffLayout:
    """Read and check the tags that describe how the samples are stored.

    Raises:
        TagError: a tag is missing or wrong, or the strips or tiles are far larger than the image.
    """
    width, height = image_size(tags)
    samples = tags.integer(277, 1, _MAX_SAMPLES, 1)
    photometric = tags.integer(262, 0, 65535, RGB if samples > 2 else BLACK_IS_ZERO)
    extras = tags.integers(338, 0, 65535, samples)
    declared = max(0, samples - _COLOURS.get(photometric, samples))
    is_tiled = 322 in tags
    if is_tiled:
        segment = tags.integer(323, 1, _MAX_SIDE), tags.integer(322, 1, _MAX_SIDE)
    else:
        segment = min(height, tags.integer(278, 1, 2**64 - 1, height)), width
    kind = _uniform(tags, 339, "SampleFormat", 1, 6, samples, _UNSIGNED)
    layout = TiffLayout(
        width,
        height,
        samples,
        _uniform(tags, 258, "BitsPerSample", 1, 128, samples, 1),
        _FORMATS[kind],
        photometric,
        tags.integer(259, 1, 65535, NONE),
        tags.integer(317, 1, 65535, 1),
        samples > 1 and tags.integer(284, 1, 2, 1) == 2,
        tags.integer(266, 1, 2, 1) == 2,
        is_tiled,
        segment,
        (extras + (0,) * samples)[:declared],
    )
    tags.integer(32997, 1, 1, 1)  # ImageDepth of a volume
    _check_segments(layout)
    return layout


def _uniform(
    tags: TiffTags, tag: int, name: str, low: int, high: int, samples: int, default: int
) -> int:
    """Read a tag with one value per sample, which must be equal; one value stands for all."""
    values = set(tags.integers(tag, low, high, samples)) or {default}
    if len(values) > 1:
        listed = ", ".join(map(str, sorted(values)))
        raise TagError(f"tag {name} is {listed}, expected equal values for all samples")
    return values.pop()


def _check_segments(layout: TiffLayout) -> None:
    """Raise `TagError` for strips or tiles whose number or size no sound file has."""
    image = layout.width * layout.height * layout.samples * layout.bits // 8
    rows, columns = layout.segment
    needed = rows * layout.row_bytes
    if needed > max(4 * image, _SMALL_SEGMENT):
        raise TagError(
            f"tiles of {columns}x{rows} pixels take {needed / 1e6:.0f} MB, far more than the image"
            f" of {layout.width}x{layout.height}; save the file again with smaller tiles"
        )
    down, across = layout.grid
    if down * across * (layout.samples if layout.is_planar else 1) > _MAX_SEGMENTS:
        raise TagError(f"tiles or strips of {columns}x{rows} pixels are too many; save it again")


def unsupported(tags: TiffTags, layout: TiffLayout, codecs: frozenset[int]) -> str | None:
    """Why the samples cannot be decoded; None if they can.

    Args:
        tags: all tags of the page.
        layout: the layout that they describe.
        codecs: the known compressions.
    """
    least = layout.colours
    if not least:
        return f"{layout.named()}, is not supported; save it as RGB or gray"
    if layout.compression not in codecs:
        return f"{layout.named()}, is not supported; save it with 8 or 16 bits, uncompressed"
    if layout.samples < least:
        return f"{layout.named()}, has {layout.samples} samples per pixel, expected {least} or more"
    if layout.kind not in ("uint", "float") or (layout.kind == "uint" and layout.bits > 16):
        return f"samples are {layout.kind}{layout.bits}, expected uint8, uint16 or float"
    if layout.kind == "float" and layout.bits not in (16, 32, 64):
        return f"float samples of {layout.bits} bits, expected 16, 32 or 64"
    if layout.photometric == CMYK and tags.integer(332, 1, 65535, 1) != 1:
        return "separated inks other than CMYK, expected gray, RGB, palette or CMYK"
    if layout.photometric == PALETTE and layout.kind == "float":
        return "a palette with float samples"
    if layout.photometric == YCBCR and (layout.compression != JPEG or layout.is_planar):
        return "YCbCr without JPEG compression is not supported; save it as RGB"
    whole = layout.bits in (8, 16, 32, 64)
    predictors = {1, HORIZONTAL} if layout.kind == "uint" else {1, HORIZONTAL, FLOATING_POINT}
    if layout.predictor not in (predictors if whole else {1}):
        return f"predictor {layout.predictor} with {layout.kind} samples of {layout.bits} bits"
    return None


def is_for_pillow(layout: TiffLayout) -> bool:
    """Whether Pillow decodes the page: 8-bit YCbCr that no codec of imagecodecs returns as RGB."""
    if layout.bits != 8 or layout.kind != "uint":
        return False
    is_plain = layout.photometric == YCBCR and layout.compression != JPEG
    return layout.compression == OLD_JPEG or is_plain


def read_segments(tags: TiffTags, layout: TiffLayout) -> tuple[np.ndarray, np.ndarray]:
    """Read where the strips or tiles are, plane by plane and row by row.

    Returns:
        Offsets and lengths in bytes, int64; all of them lie within the file.

    Raises:
        TagError: a tag is missing or wrong, or the file is truncated.
    """
    down, across = layout.grid
    number = down * across * (layout.samples if layout.is_planar else 1)
    offsets = tags.integers(324 if layout.is_tiled else 273, 0, 2**63 - 1, number)
    sizes = tags.integers(325 if layout.is_tiled else 279, 0, 2**63 - 1, number)
    if not sizes and number == 1 == len(offsets) and layout.compression != NONE:
        sizes = (max(0, tags.size - offsets[0]),)
    if layout.compression == NONE:  # some writers give wrong lengths for these
        plane = [layout.segment_shape(row)[0] * layout.row_bytes for row in range(down)]
        sizes = np.tile(np.repeat(plane, across), number // (down * across)).tolist()
    if len(offsets) != number or len(sizes) != number:
        found = min(len(offsets), len(sizes))
        raise TagError(f"{found} strips or tiles, expected {number}; the file is damaged")
    ends = np.array(offsets, np.int64) + np.array(sizes, np.int64)
    if 0 in offsets or 0 in sizes:
        raise TagError("strips or tiles without data; the file is damaged or was not completed")
    if ends.max() > tags.size:
        raise TagError(f"truncated, expected {ends.max()} bytes, got {tags.size}")
    return np.array(offsets, np.int64), np.array(sizes, np.int64)
