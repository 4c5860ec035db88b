"""Decoding of TIFF files to a `Photo`.

tifffile decodes 8-bit, 16-bit and float samples; Pillow decodes all other files.
"""

from __future__ import annotations

import logging
import sys
from typing import BinaryIO

import numpy as np
import tifffile
import torch
from PIL import TiffImagePlugin

from refusion.errors import ImageError
from refusion.images.decode import check_size, finish, samples, samples_16
from refusion.images.exif_copy import exif_of_tiff
from refusion.images.photo import Photo
from refusion.images.unsupported import hint

logger = logging.getLogger(__name__)
# Without a handler, Python would print the warnings of tifffile on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# TIFF 6.0 codes. tifffile decodes these without the additional package imagecodecs.
_UNCOMPRESSED, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 8, 32946, 32773
_COMPRESSIONS = (_UNCOMPRESSED, _DEFLATE, _OLD_DEFLATE, _PACKBITS)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of alpha
_XMP, _ORIENTATION, _IPTC, _ICC, _DNG_VERSION = 700, 274, 33723, 34675, 50706
_DEPTHS = (1, 2, 4, 8, 16, 32)  # bits per sample that Pillow supports


def decode_tiff(file: BinaryIO, max_pixels: int) -> Photo:
    """Decode the first page of a TIFF or BigTIFF file.

    Args:
        file: opened for reading, at its start.
        max_pixels: largest allowed width times height.

    Raises:
        ImageError: more than ``max_pixels`` pixels, camera raw, or samples that are not handled.
        Exception: any exception that tifffile or Pillow raises for a damaged file.
    """
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        check_size(file.name, page.imagewidth, page.imagelength, max_pixels)
        if page.is_reduced or _DNG_VERSION in page.tags:
            raise ImageError(f"{file.name}: {hint('camera raw')}")
        if len(tiff.pages) > 1:
            logger.warning("%s: %d pages, only the first is used", file.name, len(tiff.pages))
        is_plain = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        is_plain &= page.dtype is not None and page.bitspersample == page.dtype.itemsize * 8
        if is_plain and page.compression in _COMPRESSIONS:
            _check_complete(page, file)
            pixels, is_upright = _samples(page, file.name), False
        else:
            pixels, is_upright = _samples_pillow(page, file), True
        orientation = 1 if is_upright else page.tags.valueof(_ORIENTATION, default=1)
        photo = _describe(page, file)
    is_known = orientation in range(1, 9)
    return finish(photo, pixels, file.name, orientation if is_known else 1)


def _describe(page: tifffile.TiffPage, file: BinaryIO) -> Photo:
    """The `Photo` of a page, still without samples."""
    try:
        exif, _ = exif_of_tiff(file)
    except Exception as error:  # Pillow raises many types for damaged tags; only the EXIF is lost
        logger.warning("%s: EXIF dropped (%s)", file.name, error)
        exif = None
    is_cmyk = page.photometric == tifffile.PHOTOMETRIC.SEPARATED
    return Photo(
        torch.empty(0),
        format="TIFF",
        icc=None if is_cmyk else page.tags.valueof(_ICC),
        exif=exif,
        xmp=page.tags.valueof(_XMP),
        iptc=page.tags.valueof(_IPTC),
        dpi=_dpi(page),
        tiff_compression="none" if page.compression == _UNCOMPRESSED else "deflate",
    )


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: 2.54}.get(page.tags.valueof("ResolutionUnit", default=2))
    ratios = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if per_inch is None or not all(ratio and ratio[0] and ratio[1] for ratio in ratios):
        return None
    horizontal, vertical = (per_inch * ratio[0] / ratio[1] for ratio in ratios)
    return horizontal, vertical


def _check_complete(page: tifffile.TiffPage, file: BinaryIO) -> None:
    """Raise `ImageError` for a truncated file, which tifffile would decode with black rows."""
    size = file.seek(0, 2)
    ends = [sum(pair) for pair in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size:
        wanted = max(ends, default=0)
        raise ImageError(f"{file.name}: truncated, expected {wanted} bytes, got {size}")


def _samples(page: tifffile.TiffPage, name: str) -> np.ndarray:
    """Samples (H, W, C), uint8, uint16 or float32 in [0, 1]; C gray, gray+alpha, RGB or RGBA."""
    if page.dtype.kind not in "uf" or page.dtype.name in ("uint32", "uint64"):
        raise ImageError(f"{name}: samples are {page.dtype}, expected uint8, uint16 or float")
    pixels = page.asarray()
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, 2)
    elif page.axes == "YX":
        pixels = pixels[..., None]
    elif page.axes != "YXS":
        raise ImageError(f"{name}: axes {page.axes}, expected one two-dimensional image")
    if pixels.dtype.kind == "f":
        pixels = _checked_float(pixels, name)
    if page.photometric == _WHITE_IS_ZERO:
        pixels = (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) - pixels
    return _keep_alpha(pixels, page, name)


def _checked_float(pixels: np.ndarray, name: str) -> np.ndarray:
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise ImageError(
            f"{name}: float samples from {low:g} to {high:g}, expected [0, 1]; tone-map it first"
        )
    return pixels.astype(np.float32)


def _keep_alpha(pixels: np.ndarray, page: tifffile.TiffPage, name: str) -> np.ndarray:
    """Keep the colour channels and a declared alpha channel; drop all other extra channels."""
    colours = 3 if page.photometric == _RGB else 1
    if pixels.shape[2] < colours:
        raise ImageError(f"{name}: RGB with {pixels.shape[2]} samples per pixel, expected 3 or 4")
    colour, extras = pixels[..., :colours], list(page.extrasamples)
    alphas = [index for index, kind in enumerate(extras) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    if pixels.shape[2] > colours + bool(alphas):
        logger.warning("%s: extra channels that are not alpha are dropped", name)
    if not alphas:
        return colour
    alpha = pixels[..., colours + alphas[0], None]
    if extras[alphas[0]] == _ASSOCIATED:
        colour = _unmultiplied(colour, alpha)
    return np.concatenate([colour, alpha], axis=2)


def _unmultiplied(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Divide colour that is stored multiplied by alpha; black where alpha is 0."""
    full = 1.0 if colour.dtype.kind == "f" else float(np.iinfo(colour.dtype).max)
    straight = colour / np.maximum(alpha, 1e-6).astype(np.float32) * full
    straight = np.minimum(straight, full)
    return (straight if full == 1.0 else np.rint(straight)).astype(colour.dtype)


def _samples_pillow(page: tifffile.TiffPage, file: BinaryIO) -> np.ndarray:
    """Samples (H, W, C), already upright: Pillow applies the orientation when it loads a TIFF."""
    try:
        if page.bitspersample not in _DEPTHS:  # Pillow decodes 12 bits as 16 without scaling
            raise SyntaxError
        image = _open(file)
    except SyntaxError as error:
        # Unknown codes are plain numbers without a name.
        colours, coding = (getattr(c, "name", c) for c in (page.photometric, page.compression))
        raise ImageError(
            f"{file.name}: {colours} TIFF with {page.bitspersample} bits per sample and {coding} "
            "compression is not supported; save it with 8 or 16 bits, uncompressed"
        ) from error
    if page.bitspersample != 16 or image.mode not in ("RGB", "RGBA"):
        return samples(image, file.name)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        coding = page.compression.name
        raise ImageError(
            f"{file.name}: 16-bit planes with {coding} compression are not supported; "
            "save it uncompressed"
        )
    return samples_16(_open(file), image, "L" if sys.byteorder == "little" else "B")


def _open(file: BinaryIO) -> TiffImagePlugin.TiffImageFile:
    file.seek(0)
    return TiffImagePlugin.TiffImageFile(file)
