"""Camera raw files and DNG, developed with LibRaw (package rawpy).

The white balance is that of the camera. Colours are converted to Rec. 2020 with the curve of sRGB,
16 bits, and the photo gets an ICC profile of this space: it is wide enough for what cameras see,
and a network meets the curve of the photos that it was trained on. Exposure stays as recorded, so
highlights are not clipped further.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from refusion.images.colour import rec2020_profile
from refusion.images.decode import finish
from refusion.images.decoder_warnings import quiet_library
from refusion.images.exif import exif_dpi
from refusion.images.exif_copy import exif_of_tiff
from refusion.images.jpeg_read import read_jpeg
from refusion.images.packages import load
from refusion.images.photo import Photo
from refusion.images.source import MAX_BLOCK
from refusion.images.tiff_tags import TagError, read_tags

_CURVE = (2.4, 12.92)  # exponent and slope of the curve of sRGB
_SUBFILE_TYPE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706
_XMP, _IPTC = 700, 33723
_LONG = 4
_MOSAICS = (32803, 34892)  # photometric interpretations: colour filter array, linear raw
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}  # by the rotation of LibRaw
_TEXTS = {  # of LibRaw
    "Input/output error": "truncated or damaged",
    "Unsupported file format or not RAW file": "not a raw photo that LibRaw knows; rename a plain "
    "TIFF to NAME.tif",
}
_PREVIEW = "_embedded.jpg"


def is_raw(file: BinaryIO) -> bool:
    """Whether a TIFF file contains a raw photo: DNG, a mosaic, or a preview as its first image.

    Args:
        file: opened for reading.
    """
    try:
        tags = read_tags(file)
        is_reduced = tags.integer(_SUBFILE_TYPE, 0, 2**32 - 1, 0) & 1
        photometric = tags.integer(_PHOTOMETRIC, 0, 65535, 0)
    except (TagError, ValueError):
        return False
    return bool(is_reduced) or _DNG_VERSION in tags or photometric in _MOSAICS


def raw_size(file: BinaryIO) -> tuple[int, int, int]:
    """Width and height in pixels before rotation, and the EXIF orientation that LibRaw applies.

    Args:
        file: opened for reading.

    Raises:
        ValueError: the file is damaged or not supported, or the package rawpy is missing.
    """
    with _opened(file) as (_, raw):
        sizes = raw.sizes
    width, height = max(sizes.width, sizes.raw_width), max(sizes.height, sizes.raw_height)
    return width, height, _ORIENTATIONS.get(sizes.flip, 1)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """The package rawpy and the file opened with it; its errors become a `ValueError`."""
    package = load("RAW")
    file.seek(0)
    try:
        with quiet_library(), package.imread(file) as raw:
            yield package, raw
    except package.LibRawError as error:
        raise ValueError(_said(error)) from error


def decode_raw(file: BinaryIO) -> Photo:
    """Develop a raw photo, whose size is checked before.

    Args:
        file: opened for reading.

    Raises:
        ValueError: the file is damaged or not supported, or the package rawpy is missing.
    """
    with _opened(file) as (package, raw):
        pixels = _developed(package, raw)
        photo = _described(file, raw)
    return finish(photo, pixels, file.name, 1)  # LibRaw has applied the orientation


def _developed(package: ModuleType, raw: Any) -> np.ndarray:
    """Upright samples (H, W, 3) uint16."""
    return raw.postprocess(
        use_camera_wb=True,
        output_bps=16,
        output_color=package.ColorSpace.Rec2020,
        gamma=_CURVE,
        no_auto_bright=True,
        adjust_maximum_thr=0.0,  # otherwise the brightest pixel of a photo changes its exposure
    )


def _described(file: BinaryIO, raw: Any) -> Photo:
    """The `Photo` of a raw file, still without samples."""
    exif, xmp, iptc = _blocks(file)
    exif = exif or _exif_of_preview(raw)
    return Photo(
        np.empty(0),
        format="TIFF",
        icc=rec2020_profile(),
        exif=exif,
        xmp=xmp,
        iptc=iptc,
        dpi=exif_dpi(exif),
    )


def _blocks(file: BinaryIO) -> tuple[bytes | None, bytes | None, bytes | None]:
    """EXIF block, XMP packet and IPTC records of a raw file that is a TIFF; None where missing."""
    exif = xmp = iptc = None
    try:
        exif, _ = exif_of_tiff(file)
        tags = read_tags(file)
        xmp = tags.block(_XMP, MAX_BLOCK)
        iptc = tags.block(_IPTC, MAX_BLOCK, (_LONG,))
    except Exception:  # not a TIFF, or damaged: the photo can do without these blocks
        return exif, xmp or None, iptc or None
    return exif, xmp or None, iptc or None


def _exif_of_preview(raw: Any) -> bytes | None:
    """EXIF block of the JPEG preview; None if there is none."""
    try:
        preview = raw.extract_thumb()
        file = io.BytesIO(preview.data)
        file.name = _PREVIEW
        return read_jpeg(file).photo.exif
    except Exception:  # no preview, or one that is not a JPEG
        return None


def _said(error: Exception) -> str:
    """Text of an error of LibRaw, which is a byte string."""
    text = error.args[0] if error.args else ""
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    text = _TEXTS.get(text, text)
    return f"camera raw: {' '.join(text.split()) or type(error).__name__}"
