"""Decoding of JPEG, PNG and WebP files to a `Photo`; `tiff_decode` decodes TIFF files."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from refusion.errors import ImageError
from refusion.images.cmyk import cmyk_profile
from refusion.images.exif import exif_orientation
from refusion.images.jpeg_read import read_jpeg
from refusion.images.jpeg_rows import check_blocks
from refusion.images.jpeg_scans import check_scans
from refusion.images.metadata import checked, upright_metadata
from refusion.images.photo import Photo
from refusion.images.png_read import read_png
from refusion.images.png_rows import check_rows, check_sums
from refusion.images.source import Source, listed
from refusion.images.webp_read import read_webp
from refusion.images.zero_tail import check_zero_tail, ends_in_zeros

logger = logging.getLogger(__name__)

# Pillow modes that are converted, and the mode that they are converted to.
_CONVERT = {
    "1": "L",
    "CMYK": "RGB",
    "La": "LA",
    "PA": "RGBA",
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
}
# Pillow scales 2-bit and 4-bit gray to 0..255, but not the value of the transparent gray.
_GRAY_STEP = {"L;2": 85, "L;4": 17}
_MODES = ("L", "LA", "RGB", "RGBA")
_ROWS = 256  # per band


def decode_pillow(file: BinaryIO, kind: str, size: tuple[int, int]) -> Photo:
    """Decode a "JPEG", "PNG" or "WEBP" file.

    The Pillow plugins are called directly, because `Image.open` applies a process-wide size limit.

    Args:
        file: opened for reading, at its start.
        kind: "JPEG", "PNG" or "WEBP".
        size: width and height of the header, which are already checked.

    Raises:
        ImageError: a colour space that is not handled.
        Exception: any exception that Pillow raises for a damaged file.
    """
    source, image = _read(file, kind)
    photo = _with_tables(source.photo, image) if kind == "JPEG" else source.photo
    if image.size != size:
        raise ValueError("its parts state different sizes")
    coding = image.tile[0].args if image.tile else None
    if kind == "PNG" and coding in ("RGB;16B", "RGBA;16B", "LA;16B"):
        pixels = _png_16(source, image)
    else:
        pixels = samples(image, file.name, photo.icc)
    if kind == "PNG":
        check_rows(file, pixels)
    elif kind == "JPEG":
        check_blocks(source, pixels)
    elif ends_in_zeros(file, source.pixels[-1][1]):
        _check_webp(source, pixels)
    if coding in _GRAY_STEP and "transparency" in image.info:
        image.info["transparency"] *= _GRAY_STEP[coding]
    if image.mode == "CMYK":
        photo = replace(photo, icc=None)
    return finish(photo, with_colour_key(pixels, image), file.name, dropped=source.dropped)


def samples(image: Image.Image, name: str, icc: bytes | None = None) -> np.ndarray:
    """Load the samples of an opened image: (H, W, C) uint8 or uint16.

    C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA). A palette is converted to RGB, or to RGBA
    if it has transparency; CMYK is converted to sRGB through its profile, or without one to RGB by
    Pillow's formula.

    Args:
        image: opened by a Pillow plugin, not yet decoded.
        name: path of the file, for messages.
        icc: ICC profile of the file, or None.

    Raises:
        ImageError: the pixel format is not supported, or the palette is missing.
    """
    if image.mode == "P" and image.palette is None:
        raise ImageError(f"{name}: damaged, its palette is missing; save the picture again")
    image.load()
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if mode == "P":
        return _unpacked(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if mode == "CMYK":
        profile = cmyk_profile(icc, name)
        if profile is not None:
            return profile.to_srgb(_unpacked(image))
    mode = _CONVERT.get(mode, mode)
    if mode not in _MODES:
        raise ImageError(f"{name}: pixel format {mode}, expected gray, RGB, palette or CMYK")
    return _unpacked(image if mode == image.mode else image.convert(mode))


def _unpacked(image: Image.Image) -> np.ndarray:
    """Copy the samples (H, W, C) uint8 of a decoded image.

    They are copied in bands of rows, because Pillow makes two more copies of each requested region.
    """
    width, height = image.size
    pixels = np.empty((height, width, len(image.mode)), np.uint8)
    for top in range(0, height, _ROWS):
        bottom = min(height, top + _ROWS)
        # Same result as `crop`, which would apply a process-wide size limit.
        rows = image.resize((width, bottom - top), Image.NEAREST, (0, top, width, bottom))
        band = np.asarray(rows)
        pixels[top : top + _ROWS] = band.reshape(len(band), width, -1)
    return pixels


def samples_16(high: ImageFile.ImageFile, low: ImageFile.ImageFile, order: str) -> np.ndarray:
    """Decode the samples (H, W, C) uint16 of a file that was opened twice.

    Pillow returns only the high byte of each 16-bit colour sample. A second decoding with the
    opposite byte order returns the low byte.

    Args:
        high: the opened file, decoded for the high bytes.
        low: the same file opened again, decoded for the low bytes.
        order: "B" or "L", the true byte order of the decoded samples.
    """
    planes = []
    for image, half in ((high, order), (low, "BL".replace(order, ""))):
        name = f"{image.mode};16{half}"
        image.tile = [
            tile._replace(args=(name, *tile.args[1:]) if isinstance(tile.args, tuple) else name)
            for tile in image.tile
        ]
        image.load()
        planes.append(np.asarray(image))
    return np.left_shift(planes[0], 8, dtype=np.uint16) | planes[1]


def with_colour_key(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Add an alpha plane if the PNG declares one colour as transparent (chunk tRNS).

    Args:
        pixels: samples (H, W, C) uint8 or uint16.
        image: the decoded Pillow image of these samples.

    Returns:
        (H, W, C) or (H, W, C + 1) of the same dtype.
    """
    key = image.info.get("transparency")
    if key is None or image.mode == "P" or pixels.shape[2] not in (1, 3):
        return pixels
    opaque = np.iinfo(pixels.dtype).max
    key = np.asarray(key) & opaque  # of the two bytes that are stored, 8 bits use the lower one
    alpha = np.where((pixels == key).all(axis=2, keepdims=True), 0, opaque)
    return np.concatenate([pixels, alpha.astype(pixels.dtype)], axis=2)


def finish(
    photo: Photo,
    pixels: np.ndarray,
    name: str,
    orientation: int | None = None,
    dropped: Sequence[str] = (),
) -> Photo:
    """Apply the EXIF orientation and fill in the fields of a photo that depend on its samples.

    EXIF and XMP of the result state orientation 1. Damaged blocks are repaired or dropped, and one
    warning names everything that the file has and no result keeps.

    Args:
        photo: format and metadata as found in the file; its samples are replaced.
        pixels: (H, W, C) samples, unsigned over their whole range or float in [0, 1].
        name: name of the file, for warnings.
        orientation: EXIF orientation of ``pixels``, 1..8; None reads it from ``photo.exif``.
        dropped: names of what the reader of the file has dropped.
    """
    photo, lost = checked(photo, dropped)
    if lost:
        logger.warning("%s: dropped: %s", name, listed(lost))
    if orientation is None:
        orientation = 1 if photo.exif is None else exif_orientation(photo.exif)
    # Orientation 1 gives a view, so the samples are not copied.
    upright = np.ascontiguousarray(apply_orientation(pixels, orientation)).transpose(2, 0, 1)
    channels = pixels.shape[2]
    image = upright[:3] if channels > 2 else _three_times(upright[:1])
    photo = upright_metadata(photo, orientation, image.shape[2], image.shape[1])
    return replace(
        photo,
        samples=image,
        alpha=_unit_range(upright[-1:]) if channels in (2, 4) else None,
        mode="rgb" if channels > 2 else "gray",
        bit_depth=pixels.dtype.itemsize * 8,
    )


def _three_times(plane: np.ndarray) -> np.ndarray:
    """A gray plane (1, H, W) as a view with three equal channels, (3, H, W)."""
    return as_strided(plane, (3, *plane.shape[1:]), (0, *plane.strides[1:]))


def _unit_range(plane: np.ndarray) -> np.ndarray:
    """Samples as contiguous float32 in [0, 1]."""
    values = plane.astype(np.float32, order="C")
    if plane.dtype.kind == "u":
        values /= np.float32(np.iinfo(plane.dtype).max)
    return values


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of (H, W, C) samples with EXIF orientation 1..8 applied."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # Flips that remain after the transposition of orientations 5..8.
    upside_down = orientation in (3, 4, 7, 8)
    mirrored = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _read(file: BinaryIO, kind: str) -> tuple[Source, ImageFile.ImageFile]:
    """Read the metadata of a file, and open the coded pixels."""
    if kind == "PNG":
        check_sums(file)
        source, is_animated = read_png(file)
        image = PngImagePlugin.PngImageFile(source.open())
    elif kind == "JPEG":
        source, is_animated = read_jpeg(file), False
        check_scans(source)
        image = JpegImagePlugin.JpegImageFile(source.open())
    else:
        source = read_webp(file)
        image = WebPImagePlugin.WebPImageFile(source.open())
        is_animated = getattr(image, "n_frames", 1) > 1
    if is_animated:
        logger.warning("%s: animated, only the first frame is used", file.name)
    return source, image


def _check_webp(source: Source, pixels: np.ndarray) -> None:
    """Raise `ValueError` if zeros at the end of a WebP replace a part of the picture."""

    def decode(data: bytes) -> np.ndarray:
        return samples(WebPImagePlugin.WebPImageFile(io.BytesIO(data)), source.file.name)

    data = source.open().read()
    check_zero_tail(data, [(len(source.head), len(data))], pixels, decode)


def _with_tables(photo: Photo, image: ImageFile.ImageFile) -> Photo:
    """Add the quantisation tables of a JPEG.

    The tables of a CMYK or RGB JPEG are not for luma and chroma, so they cannot be reused.
    """
    if image.mode == "L" or (image.mode == "RGB" and image.info.get("adobe_transform") != 0):
        tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
        sampling = JpegImagePlugin.get_sampling(image)
        return replace(photo, jpeg_tables=tables, jpeg_subsampling=sampling)
    return photo


def _png_16(source: Source, image: ImageFile.ImageFile) -> np.ndarray:
    """Samples (H, W, C) uint16 of an opened 16-bit PNG with two to four channels."""
    if image.tile[0].args == "LA;16B":
        # Gray and alpha have two bytes each: decode the four bytes as four 8-bit channels.
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        image.load()
        return np.asarray(image).view(">u2").astype(np.uint16)
    return samples_16(PngImagePlugin.PngImageFile(source.open()), image, "B")
