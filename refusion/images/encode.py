"""Encoding of an image in each format that is written, with the properties of its source photo."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from refusion.errors import ImageError
from refusion.images.avif_write import encode_avif
from refusion.images.carry import fitted
from refusion.images.exif import upright_exif
from refusion.images.gain_map_file import gain_map_segments, with_gain_map
from refusion.images.jpeg_write import extra_segments
from refusion.images.jxl_write import encode_jxl
from refusion.images.photo import LUMA, Photo
from refusion.images.png_write import encode_png
from refusion.images.source import listed
from refusion.images.tiff_encode import encode_tiff
from refusion.images.xmp import GAIN_MAP, sized_xmp

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 32768}
_JPEG_QUALITY = 95
_WEBP_QUALITY = 92
_FULL_COLOUR = 90  # quality from which a JPEG keeps the full resolution of the colours
_WEBP_LOSSLESS_EFFORT = 30  # three times faster than Pillow's default 80, files of the same size
_ROWS = 256  # rows per band; bands avoid a second float copy of a large photo


def encode(file: BinaryIO, kind: str, image: Tensor | np.ndarray, like: Photo, name: str) -> None:
    """Write an image (3, H, W) to an open file.

    Args:
        file: opened for writing, at its start.
        kind: "JPEG", "PNG", "TIFF", "WEBP", "AVIF" or "JXL".
        image: tensor or array; float, clamped to [0, 1] here, or uint8 or uint16 over their full
            range.
        like: photo whose bit depth, mode, alpha, metadata and compression are used.
        name: path of the output file, for messages.

    Raises:
        ImageError: the image is too large for the format, or a value is not finite.
    """
    height, width = image.shape[1:]
    check_side(name, kind, width, height)
    planes = _planes(_array(image), like, kind, name)
    pixels = quantize(planes, height, _depth(kind, like, name), name)
    like, wrong = _at_size(like, width, height)
    like, lost = fitted(like, kind)
    exif = like.exif and upright_exif(like.exif, width, height)
    if kind == "PNG":
        lost += encode_png(file, pixels, like, exif)
    elif kind == "TIFF":
        encode_tiff(file, pixels, like, exif)
    elif kind == "JPEG":
        _encode_jpeg(file, pixels, like, exif)
    elif kind in ("AVIF", "JXL"):
        lost += _encode_new(file, kind, pixels, like, exif)
    else:
        _encode_webp(file, pixels, like, exif)
    if wrong or lost:
        logger.warning("%s: dropped, no place in a %s: %s", name, kind, listed(wrong + lost))


def _at_size(like: Photo, width: int, height: int) -> tuple[Photo, list[str]]:
    """The photo whose metadata are true for a result of this size, and the names of what is lost.

    A gain map covers the whole photo, so it is wrong for a result of another shape.
    """
    like = replace(like, xmp=sized_xmp(like.xmp, width, height))
    if like.gain_map is None:
        return like, []
    rows, columns = like.samples.shape[1:]
    if abs(columns * height - rows * width) <= max(rows, columns):  # one shape but for rounding
        return like, []
    return replace(like, gain_map=None), [GAIN_MAP]


def check_side(name: str, kind: str, width: int, height: int) -> None:
    """Raise `ImageError` if a side is longer than the format allows.

    Args:
        name: path of the output file, for the message.
        kind: "JPEG", "PNG", "TIFF", "WEBP", "AVIF" or "JXL".
        width: in pixels.
        height: in pixels.
    """
    limit = _LONGEST_SIDE.get(kind)
    if limit is not None and max(height, width) > limit:
        raise ImageError(
            f"{name}: {width}x{height} is too large, a {kind} side has at most {limit} pixels; "
            "choose a .png or .tif file with --output"
        )


def quantize(planes: Iterator[np.ndarray], height: int, depth: int, name: str) -> np.ndarray:
    """Convert bands of float planes to samples round(x (2^depth - 1)), or float32 for depth 32.

    Args:
        planes: float bands (C, rows, W), clamped to [0, 1] here; top band first.
        height: sum of the rows of all bands.
        depth: bits per sample, 8, 16 or 32.
        name: path of the output file, for messages.

    Returns:
        (H, W, C) uint8, uint16 or float32.

    Raises:
        ImageError: a value is not finite.
    """
    dtype = {8: np.uint8, 16: np.uint16, 32: np.float32}[depth]
    pixels, top = None, 0
    for band in planes:
        if not np.isfinite(band).all():
            raise ImageError(f"{name}: not written, the image contains values that are not finite")
        band = band.transpose(1, 2, 0)
        if pixels is None:  # the first band gives the width and the number of channels
            pixels = np.empty((height, *band.shape[1:]), dtype)
        band = band.clip(0, 1)
        if depth < 32:  # float32 is precise enough to round by + 0.5 and truncation
            band *= np.float32(2**depth - 1)
            band += np.float32(0.5)
        pixels[top : top + len(band)] = band
        top += len(band)
    return pixels


def _array(image: Tensor | np.ndarray) -> np.ndarray:
    """The same image as an array: uint8, uint16 or float32."""
    if not isinstance(image, np.ndarray):
        image = image.detach()
        image = (image.float() if image.is_floating_point() else image).cpu().numpy()
    return image if image.dtype.kind == "u" else image.astype(np.float32, copy=False)


def _planes(image: np.ndarray, like: Photo, kind: str, name: str) -> Iterator[np.ndarray]:
    """Yield float32 bands (C, rows, W): gray or RGB, then alpha if the photo has it."""
    alpha = None if like.alpha is None else _array(like.alpha)
    if alpha is not None and kind == "JPEG":
        if (alpha < 1).any():
            logger.warning("%s: JPEG does not support alpha, it is dropped", name)
        alpha = None
    if alpha is not None and alpha.shape[1:] != image.shape[1:]:
        alpha = _resized(alpha, image.shape[1:])
    luma = np.array(LUMA, np.float32).reshape(3, 1, 1)
    full = np.float32(np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    for top in range(0, image.shape[1], _ROWS):
        band = image[:, top : top + _ROWS] / full
        if like.mode == "gray":
            band = (band * luma).sum(0, keepdims=True)
        yield band if alpha is None else np.concatenate([band, alpha[:, top : top + _ROWS]])


def _resized(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch  # only super-resolution changes the size

    from refusion.images.resize import antialiased

    return antialiased(torch.from_numpy(alpha)[None], size, "bilinear")[0].numpy()


def _depth(kind: str, like: Photo, name: str) -> int:
    deepest = {"PNG": 16, "TIFF": 32, "AVIF": 16, "JXL": 16}.get(kind, 8)
    if kind == "AVIF" and like.bit_depth > 8 and not like.coded_depth:
        logger.warning("%s: %d bits become 10 for AVIF", name, like.bit_depth)
    elif like.bit_depth > deepest:
        logger.warning(
            "%s: %d bits become %d, the most for %s", name, like.bit_depth, deepest, kind
        )
    return min(like.bit_depth, deepest)


def _encode_jpeg(file: BinaryIO, pixels: np.ndarray, like: Photo, exif: bytes | None) -> None:
    tables = {"qtables": [list(table) for table in like.jpeg_tables or ()]}
    quality = tables | {"subsampling": like.jpeg_subsampling}
    if like.quality is not None:
        quality = {"quality": like.quality, "subsampling": 0 if like.quality >= _FULL_COLOUR else 2}
    elif not like.jpeg_tables:
        quality = {"quality": _JPEG_QUALITY, "subsampling": 0}
    blocks = {
        "icc_profile": like.icc,
        "exif": b"Exif\0\0" + exif if exif else b"",
        "xmp": like.xmp or b"",
        "extra": extra_segments(like),
    }
    blocks["dpi"] = tuple(round(value) for value in like.dpi or (0, 0))
    if like.gain_map is None:
        _pillow(pixels).save(file, "JPEG", **quality, **blocks)
        return
    blocks["extra"] += gain_map_segments(like.gain_map)
    coded = io.BytesIO()
    _pillow(pixels).save(coded, "JPEG", **quality, **blocks)
    file.write(with_gain_map(coded.getvalue(), like.gain_map))


def _encode_new(
    file: BinaryIO, kind: str, pixels: np.ndarray, like: Photo, exif: bytes | None
) -> tuple[str, ...]:
    """Write AVIF or JPEG XL; names of what the file cannot hold."""
    lost: tuple[str, ...] = ()
    try:
        if kind == "AVIF":
            data = encode_avif(pixels, like, exif)
        else:
            data, lost = encode_jxl(pixels, like, exif)
    except RuntimeError as error:  # imagecodecs and pylibjxl raise it, also for too little memory
        raise ValueError(str(error)) from error
    file.write(data)
    return lost


def _encode_webp(file: BinaryIO, pixels: np.ndarray, like: Photo, exif: bytes | None) -> None:
    is_lossless = like.lossless and like.quality is None
    _pillow(pixels).save(
        file,
        "WEBP",
        lossless=is_lossless,
        exact=True,  # also keeps the colours of fully transparent pixels
        quality=_WEBP_LOSSLESS_EFFORT if is_lossless else like.quality or _WEBP_QUALITY,
        icc_profile=like.icc,
        exif=exif or b"",
        xmp=like.xmp or b"",
    )


def _pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
