"""Decoding of TIFF files to a `Photo`.

imagecodecs decodes the strips and tiles. Pillow decodes two kinds that imagecodecs cannot, with 8
bits: YCbCr without JPEG compression, and old-style JPEG.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import TiffImagePlugin

from refusion.errors import ImageError
from refusion.images import tiff_layout
from refusion.images.cmyk import cmyk_profile
from refusion.images.decode import finish, samples
from refusion.images.exif_copy import exif_of_tiff, unknown_tags
from refusion.images.float_range import in_unit_range
from refusion.images.iptc import read_resources
from refusion.images.photo import Photo
from refusion.images.source import MAX_BLOCK
from refusion.images.tiff_colour import read_colours
from refusion.images.tiff_layout import TiffLayout, is_for_pillow, read_layout, unsupported
from refusion.images.tiff_segments import CODECS, for_each_band, is_plain, read_plain
from refusion.images.tiff_tags import TagError, TiffTags, count_pages, read_tags

logger = logging.getLogger(__name__)
T = TypeVar("T")

_DESCRIPTION, _ORIENTATION, _SUB_IFDS = 270, 274, 330
_XMP, _IPTC, _PHOTOSHOP, _ICC = 700, 33723, 34377, 34675
# Of YCbCr: weights of red, green and blue in Y (ITU-R BT.601), and levels of black and white.
_COEFFICIENTS = (0.299, 0.587, 0.114)
_LEVELS = (0, 255, 128, 255, 128, 255)
_LONG = 4  # type of the IPTC records of some writers, whose bytes are in order all the same
_MAX_DPI = 65535


def decode_tiff(file: BinaryIO) -> Photo:
    """Decode the first page of a TIFF or BigTIFF file, whose size is checked before.

    Args:
        file: opened for reading.

    Raises:
        ImageError: samples that are not handled.
        TagError: a tag is wrong.
        Exception: any exception that a codec or Pillow raises for damaged bytes.
    """
    tags = read_tags(file)
    layout = read_layout(tags)
    dropped: list[str] = []
    photo = _described(tags, layout, dropped)
    if layout.photometric == tiff_layout.YCBCR:
        _check_ycbcr(tags, layout)
    if is_for_pillow(layout):
        pixels, orientation = _pillow_samples(file, layout, photo.icc), 1
    else:
        fault = unsupported(tags, layout, CODECS)
        if fault is not None:
            raise ImageError(f"{file.name}: {fault}")
        pixels = _samples(tags, layout, file.name, photo.icc)
        orientation = _optional("orientation", lambda: tags.integer(_ORIENTATION, 1, 8, 1), dropped)
    if layout.photometric == tiff_layout.CMYK:
        photo = replace(photo, icc=None)  # the samples are RGB
    _warn_of_pages(tags, file.name)
    return finish(photo, pixels, file.name, orientation or 1, dropped)


def _check_ycbcr(tags: TiffTags, layout: TiffLayout) -> None:
    """Raise `TagError` for YCbCr whose colours would come out wrong.

    No decoder converts it beside alpha. Pillow converts uncompressed samples as those of a JPEG.
    """
    if layout.extras:
        raise TagError("YCbCr with alpha or other extra samples; save it as RGB")
    if layout.compression != tiff_layout.NONE:
        return
    coefficients = tags.ratios(529, 3) or _COEFFICIENTS
    levels = tags.ratios(532, 6) or _LEVELS
    faults = {
        "fewer samples of colour": (tags.integers(530, 1, 4, 2) or (2, 2)) != (1, 1),
        "separate planes": layout.is_planar,
        "coefficients of another standard": _differ(coefficients, _COEFFICIENTS, 1e-3),
        "a limited range": _differ(levels, _LEVELS, 1),
    }
    for fault, is_found in faults.items():
        if is_found:
            raise TagError(f"YCbCr with {fault}, uncompressed; save it as RGB or compressed")


def _differ(values: Sequence[float], expected: Sequence[float], tolerance: float) -> bool:
    return len(values) != len(expected) or not np.allclose(values, expected, 0, tolerance)


def _described(tags: TiffTags, layout: TiffLayout, dropped: list[str]) -> Photo:
    """The `Photo` of a page, still without samples; what cannot be read is added to `dropped`."""
    description = _optional("description", lambda: tags.block(_DESCRIPTION, MAX_BLOCK), dropped)
    without = {_DESCRIPTION} if _is_about_file(description or b"", dropped) else set()
    exif, unreadable = _optional(
        "EXIF block", lambda: exif_of_tiff(tags.file, without), dropped
    ) or (None, 0)
    if unreadable:
        dropped.append(f"{unreadable} unreadable EXIF tag{'s' * (unreadable > 1)}")
    dropped += unknown_tags(tags.entries)
    icc = _optional("ICC profile", lambda: tags.block(_ICC, MAX_BLOCK), dropped)
    iptc = _optional("IPTC records", lambda: tags.block(_IPTC, MAX_BLOCK, (_LONG,)), dropped)
    photoshop = _optional("Photoshop resources", lambda: tags.block(_PHOTOSHOP, MAX_BLOCK), dropped)
    resources = read_resources(photoshop or b"")
    return Photo(
        np.empty(0),
        format="TIFF",
        icc=icc or None,
        exif=exif,
        xmp=_optional("XMP packet", lambda: tags.block(_XMP, MAX_BLOCK), dropped) or None,
        iptc=iptc or resources.iptc,
        photoshop=resources.others,
        dpi=_optional("resolution", lambda: _dpi(tags), dropped),
        tiff_compression="none" if layout.compression == tiff_layout.NONE else "deflate",
    )


def _optional(name: str, read: Callable[[], T], dropped: list[str]) -> T | None:
    """Read a tag that the photo can do without; None if it is wrong, which is noted."""
    try:
        return read()
    except Exception as error:  # only the block is lost, whatever is wrong with it
        dropped.append(f"{name} ({error})")
        return None


def _dpi(tags: TiffTags) -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: 2.54}.get(tags.integer(296, 1, 3, 2))
    pair = [tags.ratio(tag) for tag in (282, 283)]
    if per_inch is None or not all(pair):
        return None
    horizontal, vertical = (per_inch * value for value in pair)
    is_plausible = 0 < horizontal <= _MAX_DPI and 0 < vertical <= _MAX_DPI
    return (horizontal, vertical) if is_plausible else None


def _is_about_file(description: bytes, dropped: list[str]) -> bool:
    """Whether a description lists the pages and shape of this file, which the result does not have.

    tifffile, ImageJ and microscopes (OME) write such texts, and read files by them.
    """
    text = description.strip(b"\0 \r\n")
    if text.startswith((b'{"shape":', b"shape=")):
        return True
    is_other = text.startswith(b"ImageJ=") or text.endswith(b"OME>")
    if is_other:
        dropped.append("description of the pages by ImageJ or OME")
    return is_other


def _warn_of_pages(tags: TiffTags, name: str) -> None:
    pages = count_pages(tags)
    images = len(_optional("", lambda: tags.integers(_SUB_IFDS, 1, tags.size, 10_000), []) or ())
    if pages > 1 or images:
        more = f" and {images} images inside the first" if images else ""
        logger.warning("%s: %d pages%s, only the first page is used", name, pages, more)


def _samples(tags: TiffTags, layout: TiffLayout, name: str, icc: bytes | None) -> np.ndarray:
    """Samples (H, W, C), uint8, uint16 or float32 in [0, 1]; C gray, gray+alpha, RGB or RGBA."""
    is_cmyk = layout.photometric == tiff_layout.CMYK
    colours = read_colours(tags, layout, cmyk_profile(icc, name) if is_cmyk else None)
    if layout.samples > layout.colours + (layout.alpha is not None):
        logger.warning("%s: extra channels that are not alpha are dropped", name)
    pixels = np.empty((layout.height, layout.width, colours.channels), colours.dtype)
    if colours.is_identity and is_plain(tags, layout):
        read_plain(tags, layout, pixels)
        return pixels

    def use(top: int, left: int, decoded: np.ndarray) -> None:
        decoded = colours.used(decoded)
        rows, columns = decoded.shape[:2]
        with np.errstate(all="ignore"):  # values outside the range are clipped below
            converted = colours.convert(decoded)
        pixels[top : top + rows, left : left + columns] = converted

    for_each_band(tags, layout, use)
    return in_unit_range(pixels, name) if layout.kind == "float" else pixels


def _pillow_samples(file: BinaryIO, layout: TiffLayout, icc: bytes | None) -> np.ndarray:
    """Samples (H, W, C) uint8, already upright: Pillow applies the orientation of a TIFF."""
    file.seek(0)
    try:
        image = TiffImagePlugin.TiffImageFile(file)
    except SyntaxError as error:
        message = f"{layout.named()}, is not supported; save it with 8 or 16 bits, uncompressed"
        raise ImageError(f"{file.name}: {message}") from error
    if sorted(image.size) != sorted((layout.width, layout.height)):
        raise TagError("several tags give the size of the image; the file is damaged")
    return samples(image, file.name, icc)
