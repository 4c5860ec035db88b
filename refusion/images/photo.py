"""What one photo file holds: its pixels, and what writing the same kind of file back needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from refusion.images.samples import to_float


@dataclass(frozen=True)
class Photo:
    """One photo, upright, with the properties of the file it came from.

    Attributes:
        samples: (3, H, W), uint8 or uint16 over their full range or float32 in [0, 1]: the file's
            own values (no colour management), EXIF orientation applied. A gray photo has three
            equal channels. In memory the channels may lie in any order; not to be written to.
        alpha: float32 (1, H, W) in [0, 1], or None.
        format: "JPEG", "PNG", "TIFF" or "WEBP".
        bit_depth: 8, 16, or 32 for a float TIFF.
        mode: "gray" or "rgb".
        icc: ICC profile of the pixel values.
        exif: EXIF block (from its TIFF header on), orientation 1, without thumbnail.
        xmp: XMP packet.
        iptc: IPTC records (captions, copyright), which JPEG and TIFF hold.
        dpi: horizontal and vertical pixels per inch.
        jpeg_tables: quantisation tables of a JPEG, 64 numbers each, for output of equal quality.
        jpeg_subsampling: chroma subsampling as Pillow numbers it (0 4:4:4, 1 4:2:2, 2 4:2:0, -1
            other).
        png_colour: the PNG chunks gAMA, cHRM, sRGB and cICP, as they stood.
        lossless: False for a lossy WebP (and for JPEG, where nothing asks).
        tiff_compression: "none", or "deflate" for all that was compressed.
    """

    samples: Tensor
    alpha: Tensor | None = None
    format: str = "PNG"
    bit_depth: int = 8
    mode: str = "rgb"
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    jpeg_tables: tuple[tuple[int, ...], ...] | None = None
    jpeg_subsampling: int = -1
    png_colour: bytes = b""
    lossless: bool = True
    tiff_compression: str = "deflate"

    def in_colour(self) -> Photo:
        """The photo as one to write colours like: of a gray one the ICC profile does not fit."""
        return self if self.mode == "rgb" else replace(self, mode="rgb", icc=None)

    @property
    def image(self) -> Tensor:
        """The samples as float32 (3, H, W) in [0, 1], contiguous; made anew at every call."""
        return to_float(self.samples).contiguous()
