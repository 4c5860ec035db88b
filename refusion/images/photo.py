"""`Photo`: the pixels of a photo file, and the file properties that its output must keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from refusion.images.gain_map import GainMap

if TYPE_CHECKING:  # photos as arrays do not need torch
    import numpy as np
    from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601), as in JPEG."""


@dataclass(frozen=True)
class Photo:
    """One upright photo with the properties of its file.

    Attributes:
        samples: (3, H, W), uint8 or uint16 over their full range or float32 in [0, 1]: the values
            of the file (no colour management), with the EXIF orientation applied. A gray photo has
            three equal channels. The memory layout is not defined. Read-only. An array in photos of
            `refusion.images.io.read_arrays`, otherwise a tensor.
        alpha: float32 (1, H, W) in [0, 1], as `samples`; or None.
        format: "JPEG", "PNG", "TIFF", "WEBP", "AVIF" or "JXL"; of a file that is not written in its
            own format, the format of its result: "JPEG" for HEIC, "TIFF" for camera raw.
        bit_depth: 8, 16, or 32 for a float TIFF or JPEG XL.
        coded_depth: bits per sample of a HEIC or AVIF file with more than 8, which is read with 16
            bits; a result in AVIF has the same. 0 for all others.
        mode: "gray" or "rgb".
        icc: ICC profile of the pixel values.
        exif: EXIF block (from its TIFF header on), orientation 1, without thumbnail.
        xmp: XMP packet.
        xmp_extended: extended XMP packet of a JPEG, which `xmp` names.
        iptc: IPTC records (captions, copyright).
        photoshop: Photoshop image resources without the IPTC records and thumbnails, unchanged.
        comments: comments of a JPEG, in unknown encodings.
        dpi: horizontal and vertical pixels per inch.
        jpeg_tables: quantisation tables of a JPEG, 64 numbers each, reused for the output.
        jpeg_subsampling: chroma subsampling in Pillow's numbers (0: 4:4:4, 1: 4:2:2, 2: 4:2:0, -1:
            other).
        png_colour: the PNG chunks gAMA, cHRM, sRGB, cICP, mDCV and cLLI, unchanged.
        png_chunks: PNG chunks with texts, and others that a PNG keeps, unchanged.
        lossless: False for a lossy WebP or JPEG XL; also False for JPEG, HEIC and AVIF, for their
            results in these formats.
        tiff_compression: "none", or "deflate" for a TIFF with any compression.
        quality: quality of an output in JPEG, WebP, AVIF or JPEG XL, 1..100; None for that of the
            photo.
        gain_map: gain map of an HDR photo, which an output in JPEG keeps.
    """

    samples: Tensor | np.ndarray
    alpha: Tensor | np.ndarray | None = None
    format: str = "PNG"
    bit_depth: int = 8
    coded_depth: int = 0
    mode: str = "rgb"
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    xmp_extended: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes = b""
    comments: tuple[bytes, ...] = ()
    dpi: tuple[float, float] | None = None
    jpeg_tables: tuple[tuple[int, ...], ...] | None = None
    jpeg_subsampling: int = -1
    png_colour: bytes = b""
    png_chunks: bytes = b""
    lossless: bool = True
    tiff_compression: str = "deflate"
    quality: int | None = None
    gain_map: GainMap | None = None

    def in_colour(self) -> Photo:
        """Return the photo with mode "rgb"; the ICC profile of a gray photo is dropped."""
        return self if self.mode == "rgb" else replace(self, mode="rgb", icc=None)

    @property
    def image(self) -> Tensor:
        """The samples as contiguous float32 (3, H, W) in [0, 1]; each access makes a new copy."""
        from refusion.images.samples import to_float

        return to_float(self.samples).contiguous()
