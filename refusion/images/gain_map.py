"""Gain maps of HDR photos, which are pictures behind the photo in a JPEG file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

from refusion.images.jpeg_segments import (
    APP1,
    APP2,
    EXIF_HEADER,
    INDEX_HEADER,
    XMP_HEADER,
    segment,
    segments,
)
from refusion.images.xmp import sized_xmp

_LONGEST = 65533  # bytes of the content of a segment
_OF_FILE = (EXIF_HEADER, INDEX_HEADER)  # blocks about the file before it is turned
# Pillow's names of the changes that apply an EXIF orientation.
_TURNED = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True)
class GainMap:
    """The gain map of a photo: the ratio of its HDR version to its SDR version.

    It covers the whole photo and may have another size. It stays valid where the photo becomes
    brighter, clearer or larger. It is wrong for a part of the photo.

    Attributes:
        jpeg: a complete JPEG file, with the metadata of the gain map.
        is_ultra_hdr: whether it has XMP properties of Adobe, so that the XMP packet of the photo
            must list it (Ultra HDR image format 1.1).
        is_iso: whether it has a segment of ISO 21496-1, so that the photo must have one, too.
        orientation: EXIF orientation 1..8 of the photo in its file, which `upright` applies.
    """

    jpeg: bytes
    is_ultra_hdr: bool = True
    is_iso: bool = False
    orientation: int = 1

    def upright(self) -> GainMap | None:
        """The gain map with its orientation applied; None if it cannot be decoded.

        The turned pixels are coded again with the same quantisation tables, so that most
        coefficients stay the same.
        """
        if self.orientation == 1:
            return self
        try:
            jpeg = _turned(self.jpeg, self.orientation)
        except Exception:  # decoders raise any type for damaged bytes
            return None
        return replace(self, jpeg=jpeg, orientation=1)


def _turned(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG file with turned pixels, and with its XMP, ICC and ISO segments."""
    from PIL import Image, JpegImagePlugin  # too slow for early checks

    image = JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg))
    tables = [image.quantization[key] for key in sorted(image.quantization)]
    sampling = JpegImagePlugin.get_sampling(image)
    if orientation >= 5:
        tables = [[table[i % 8 * 8 + i // 8] for i in range(64)] for table in tables]
        sampling = 0 if sampling == 1 else sampling
    turned = image.transpose(Image.Transpose[_TURNED[orientation]])
    extra = b"".join(_kept_segments(jpeg, *turned.size))
    options = {"qtables": tables, "subsampling": max(sampling, 0), "comment": b""}
    file = io.BytesIO()
    turned.save(file, "JPEG", extra=extra, **options)
    return file.getvalue()


def _kept_segments(jpeg: bytes, width: int, height: int) -> Iterator[bytes]:
    """Segments with metadata that stay true for the turned gain map of this size."""
    for marker, begin, end in segments(io.BytesIO(jpeg)):
        content = jpeg[begin + 4 : end]
        if marker not in (APP1, APP2) or content.startswith(_OF_FILE):
            continue
        if content.startswith(XMP_HEADER):
            packet = content.removeprefix(XMP_HEADER)
            content = XMP_HEADER + sized_xmp(packet, width, height)
        if len(content) <= _LONGEST:
            yield segment(marker, content)
