"""Decoding of JPEG, PNG and WebP files to a `Photo`; `tiff_decode` decodes TIFF files."""

from __future__ import annotations

import logging
import struct
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from refusion.errors import ImageError
from refusion.images.metadata import exif_orientation, upright_exif, upright_xmp
from refusion.images.photo import Photo
from refusion.images.samples import to_float

logger = logging.getLogger(__name__)

_PNG_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
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
_IPTC_RESOURCE = 0x0404  # number of the IPTC block among the Photoshop blocks of a JPEG


def decode_pillow(file: BinaryIO, kind: str, max_pixels: int) -> Photo:
    """Decode a "JPEG", "PNG" or "WEBP" file.

    The Pillow plugins are called directly, because `Image.open` applies a process-wide size limit.

    Args:
        file: opened for reading, at its start.
        kind: "JPEG", "PNG" or "WEBP".
        max_pixels: largest allowed width times height.

    Raises:
        ImageError: more than ``max_pixels`` pixels, or a colour space that is not handled.
        Exception: any exception that Pillow raises for a damaged file.
    """
    photo, image = _OPEN[kind](file)
    check_size(file.name, *image.size, max_pixels)
    if getattr(image, "n_frames", 1) > 1:
        logger.warning("%s: animated, only the first frame is used", file.name)
    coding = image.tile[0].args if image.tile else None
    if kind == "PNG" and coding in ("RGB;16B", "RGBA;16B", "LA;16B"):
        pixels = _png_16(file, image)
    else:
        pixels = samples(image, file.name)
    if coding in _GRAY_STEP and "transparency" in image.info:
        image.info["transparency"] *= _GRAY_STEP[coding]
    info = image.info  # complete only after decoding: PNG metadata may follow the pixels
    photo = replace(
        photo,
        icc=None if image.mode == "CMYK" else info.get("icc_profile"),
        xmp=info.get("xmp"),
        iptc=info.get("photoshop", {}).get(_IPTC_RESOURCE),
        dpi=info.get("dpi"),
        exif=info.get("exif", b"").removeprefix(b"Exif\0\0") or None,
    )
    return finish(photo, with_colour_key(pixels, image), file.name)


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise `ImageError` if an image is too large; called before decoding.

    Args:
        name: path of the file, for the message.
        width: in pixels.
        height: in pixels.
        max_pixels: largest allowed width times height.
    """
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:g} megapixels, more than the"
            f" limit of {max_pixels / 1e6:g} (--max-pixels)"
        )


def samples(image: Image.Image, name: str) -> np.ndarray:
    """Load the samples of an opened image: (H, W, C) uint8 or uint16.

    C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA). A palette is converted to RGB, or to RGBA
    if it has transparency; CMYK is converted to RGB by Pillow's formula.

    Args:
        image: opened by a Pillow plugin, not yet decoded.
        name: path of the file, for messages.

    Raises:
        ImageError: the pixel format is not supported.
    """
    image.load()
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if mode == "P":
        return _unpacked(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if mode == "CMYK":
        logger.warning("%s: CMYK is converted to RGB, its colour profile is dropped", name)
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
    alpha = np.where((pixels == np.asarray(key)).all(axis=2, keepdims=True), 0, opaque)
    return np.concatenate([pixels, alpha.astype(pixels.dtype)], axis=2)


def finish(photo: Photo, pixels: np.ndarray, name: str, orientation: int | None = None) -> Photo:
    """Apply the EXIF orientation and fill in the fields of a photo that depend on its samples.

    EXIF and XMP of the result state orientation 1.

    Args:
        photo: format and metadata as found in the file; its samples are replaced.
        pixels: (H, W, C) samples, unsigned over their whole range or float in [0, 1].
        name: name of the file, for warnings.
        orientation: EXIF orientation of ``pixels``, 1..8; None reads it from ``photo.exif``.
    """
    exif, xmp = photo.exif, photo.xmp
    if orientation is None:
        orientation = _orientation(exif, name)
    # Orientation 1 gives a view, so the samples are not copied.
    upright = torch.from_numpy(
        np.ascontiguousarray(apply_orientation(pixels, orientation))
    ).permute(2, 0, 1)
    channels = pixels.shape[2]
    image = upright[: 3 if channels > 2 else 1].expand(3, -1, -1)
    if exif is not None:
        exif = _upright(exif, image.shape[2], image.shape[1], name)
    if xmp is not None and orientation != 1:
        xmp = upright_xmp(xmp)
    return replace(
        photo,
        samples=image,
        alpha=to_float(upright[-1:]).contiguous() if channels in (2, 4) else None,
        mode="rgb" if channels > 2 else "gray",
        bit_depth=pixels.dtype.itemsize * 8,
        exif=exif,
        xmp=xmp,
    )


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of (H, W, C) samples with EXIF orientation 1..8 applied."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # Flips that remain after the transposition of orientations 5..8.
    upside_down = orientation in (3, 4, 7, 8)
    mirrored = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _orientation(exif: bytes | None, name: str) -> int:
    try:
        return 1 if exif is None else exif_orientation(exif)
    except struct.error:
        return 1  # damaged EXIF: `_upright` drops the block and logs a warning


def _upright(exif: bytes, width: int, height: int, name: str) -> bytes | None:
    try:
        return upright_exif(exif, width, height)
    except struct.error:
        logger.warning("%s: damaged EXIF block, dropped", name)
        return None


def _open_jpeg(file: BinaryIO) -> tuple[Photo, ImageFile.ImageFile]:
    image = JpegImagePlugin.JpegImageFile(file)
    photo = Photo(torch.empty(0), format="JPEG", lossless=False)
    # The tables of a CMYK or RGB JPEG are not for luma and chroma, so they cannot be reused.
    if image.mode == "L" or (image.mode == "RGB" and image.info.get("adobe_transform") != 0):
        tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
        sampling = JpegImagePlugin.get_sampling(image)
        photo = replace(photo, jpeg_tables=tables, jpeg_subsampling=sampling)
    return photo, image


def _open_png(file: BinaryIO) -> tuple[Photo, ImageFile.ImageFile]:
    colour = _png_colour(file)
    file.seek(0)
    image = PngImagePlugin.PngImageFile(file)
    return Photo(torch.empty(0), format="PNG", png_colour=colour), image


def _open_webp(file: BinaryIO) -> tuple[Photo, ImageFile.ImageFile]:
    photo = Photo(torch.empty(0), format="WEBP", lossless=_is_lossless_webp(file))
    file.seek(0)
    return photo, WebPImagePlugin.WebPImageFile(file)


def _png_16(file: BinaryIO, image: ImageFile.ImageFile) -> np.ndarray:
    """Samples (H, W, C) uint16 of an opened 16-bit PNG with two to four channels."""
    if image.tile[0].args == "LA;16B":
        # Gray and alpha have two bytes each: decode the four bytes as four 8-bit channels.
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        image.load()
        return np.asarray(image).view(">u2").astype(np.uint16)
    file.seek(0)
    return samples_16(PngImagePlugin.PngImageFile(file), image, "B")


def _png_colour(file: BinaryIO) -> bytes:
    """The chunks before the pixels that define the colour space."""
    chunks = []
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        if kind in _PNG_COLOUR:
            chunks.append(head + file.read(length + 4))
        else:
            file.seek(length + 4, 1)
    return b"".join(chunks)


def _is_lossless_webp(file: BinaryIO) -> bool:
    """Whether the first image of a WebP file is lossless (chunk VP8L)."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        # The image of an animation frame follows a header of 16 bytes.
        file.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return False


_OPEN = {"JPEG": _open_jpeg, "PNG": _open_png, "WEBP": _open_webp}
